"""``python3 scripts/run.py conformance``: run the clients and print what each can do against localnet."""

import argparse
import json
import sys
from dataclasses import asdict

from tests.conformance.runner import CLIENTS, FAIL, NOT_RUN, run, table


def main() -> int:
    """0: all passed. 1: something failed, or was not run and that is not allowed."""
    parser = argparse.ArgumentParser("scripts/run.py conformance", description=__doc__)
    names = [client.name for client in CLIENTS]
    parser.add_argument("--client", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of the table")
    parser.add_argument("--allow-missing", action="store_true", help="NOT RUN, for want of packages, is no failure")
    given = parser.parse_args()
    reports = run([client for client in CLIENTS if not given.client or client.name in given.client])
    print(json.dumps([asdict(report) for report in reports], indent=2) if given.json else table(reports))
    failed = any(report.having(FAIL) for report in reports)
    missing = any(report.having(NOT_RUN) for report in reports)
    return 1 if failed or (missing and not given.allow_missing) else 0


if __name__ == "__main__":
    sys.exit(main())
