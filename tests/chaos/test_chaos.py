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
LEFT_OUT = {
    "disk full": "known fault, seen to hold once: a journal that cannot be written ends the daemon",
    "disk read-only": "known fault, never drawn: a journal that cannot be written ends the daemon",
    "line: cuts": "known fault, no sound run of it: after a storm of reconnects the request weight is used up",
    "kill switch": "not tried since the run waits with its resume until the sweep is done",
    "SIGUSR1": "not tried since the run waits with its resume until the sweep is done; before, it stayed HALTED",
    "flatten": "not tried since the run waits with its resume until the sweep is done; before, it held once",
}
"""What the short run leaves out, and what is known of each. The long run leaves nothing out."""


def test_only_acts_that_there_are_can_be_left_out() -> None:
    assert set(LEFT_OUT) < {act.name for act in ACTS}


@pytest.mark.timeout(600)
def test_three_minutes() -> None:
    report = chaos(MINUTES, SEED, left_out=LEFT_OUT)
    print(table(report))
    assert report.findings == [], json.dumps(asdict(report), indent=2)
    assert len(report.done) >= LEAST_ACTS
