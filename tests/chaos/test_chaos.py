"""Three minutes of chaos; ``python -m tests.chaos --minutes 30`` is the long proof.

The seed is fixed: the same acts in the same order, each under whatever the clock makes of it.
"""

import json
from dataclasses import asdict

import pytest

from tests.chaos.acts import ACTS
from tests.chaos.run import chaos, table

MINUTES, SEED = 3.0, 20_261
LEAST_ACTS = 6
NOT_SURVIVED_YET = {
    "disk full": "a journal that cannot be written ends the daemon, with an order under way too",
    "disk read-only": "a journal that cannot be written ends the daemon",
    "line: cuts": "every reconnect reads the account: after a storm the request weight is used up",
    "kill switch": "a sweep cancels the stops first, and waits for a reading",
    "SIGUSR1": "a sweep cancels the stops first, and waits for a reading",
    "flatten": "a sweep cancels the stops first, and waits for a reading",
}
"""Known faults, left out of what every change must pass until they are mended; the long run does not leave them out."""


def test_only_acts_that_there_are_can_be_left_out() -> None:
    assert set(NOT_SURVIVED_YET) < {act.name for act in ACTS}


@pytest.mark.timeout(600)
def test_three_minutes() -> None:
    report = chaos(MINUTES, SEED, left_out=NOT_SURVIVED_YET)
    print(table(report))
    assert report.findings == [], json.dumps(asdict(report), indent=2)
    assert len(report.done) >= LEAST_ACTS
