"""Three minutes of chaos; ``python -m tests.chaos --minutes 30`` is the long proof.

The seed is fixed: the same acts in the same order, each under whatever the clock makes of it.
"""

import json
from dataclasses import asdict

import pytest

from tests.chaos.run import chaos, table

MINUTES, SEED = 3.0, 20_261
LEAST_ACTS = 8


@pytest.mark.timeout(600)
def test_three_minutes() -> None:
    report = chaos(MINUTES, SEED)
    print(table(report))
    assert report.findings == [], json.dumps(asdict(report), indent=2)
    assert len(report.done) >= LEAST_ACTS
