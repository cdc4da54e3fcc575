"""``python -m tests.chaos --minutes 30 --seed 1``: act after act on real processes, and what held."""

import argparse
import json
import sys
from dataclasses import asdict

from tests.chaos.run import chaos, table


def main() -> int:
    """0: everything held, and every act was run. 1: a finding, or an act that could not be done here."""
    parser = argparse.ArgumentParser("tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long acts are begun")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only acts whose names contain this")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--keep", action="store_true", help="leave the folder of the run")
    parser.add_argument("--allow-missing", action="store_true", help="NOT RUN is no failure")
    given = parser.parse_args()
    report = chaos(
        given.minutes, given.seed, only=given.only, keep=given.keep, say=lambda line: print(line, file=sys.stderr)
    )
    print(json.dumps(asdict(report), indent=2) if given.json else table(report))
    return 1 if report.findings or (report.not_run and not given.allow_missing) else 0


if __name__ == "__main__":
    sys.exit(main())
