"""The fault table, as far as a test has time for it: every fault once, some guards removed, and how it is measured."""

import math
from pathlib import Path

import pytest

from tidegate.adapters.localnet.fault_catalogue import CATALOGUE
from tidegate.adapters.localnet.fault_rules import fault_of
from tidegate.app.simulation.fault_cases import CASES
from tidegate.app.simulation.fault_report import known_faults, run_faults
from tidegate.app.simulation.fault_table import Row, Trial, bounds_of, jobs_of, run_table, try_fault
from tidegate.app.simulation.guards import GUARDS, Guard, removed
from tidegate.app.simulation.recovery import (
    Kind,
    Recovery,
    Timeline,
    data_recoveries,
    order_recoveries,
    quantile,
    stale_entries,
    stop_recoveries,
    stream_recoveries,
    unnoticed,
)
from tidegate.app.simulation.world import simulate
from tidegate.domain.errors import ConfigError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import Family, FeedState
from tidegate.domain.messages import VenueState, VenueStatus

_S = 1_000_000_000
_BTC = InstrumentId("BTCUSDT")
_UNGUARDED = {"N05": 2, "V01": 1, "V02": 1, "V05": 1, "V14": 1, "U06": 1, "U07": 1, "B04": 1, "B06": 1}
"""Faults whose guard is taken away here, and a seed in which that is noticed."""


@pytest.mark.parametrize("fault", CASES)
def test_every_fault_strikes_and_is_survived(fault: str) -> None:
    trial = try_fault(fault, 1)
    assert trial.injected > 0
    assert trial.findings == ()
    assert trial.seconds < math.inf


@pytest.mark.parametrize(("fault", "seed"), _UNGUARDED.items())
def test_without_its_guard_a_fault_is_noticed(fault: str, seed: int) -> None:
    trial = try_fault(fault, seed, guarded=False)
    assert trial.injected > 0
    assert trial.findings


def test_a_trial_says_the_same_twice() -> None:
    assert try_fault("V03", 4) == try_fault("V03", 4)


def test_the_table_has_every_fault_of_the_catalogue_and_a_guard_for_each() -> None:
    assert list(CASES) == list(CATALOGUE) == list(GUARDS)
    assert [case.fault for case in CASES.values() if case.long] == ["V06", "V07", "V09", "V10", "V11"]


@pytest.mark.parametrize("fault", CASES)
def test_the_faults_of_every_drill_are_as_in_a_scenario_file(fault: str) -> None:
    for seed in range(48):
        drill = CASES[fault].drill(seed)
        rules = [fault_of(rule, fault) for rule in drill.faults]
        assert fault in [rule.fault for rule in rules]
        assert all(rule.at_s <= drill.truth_s for rule in rules)
        assert drill.end_s >= drill.truth_s + 60.0


@pytest.mark.parametrize("fault", GUARDS)
def test_a_guard_is_where_it_is_said_to_be_and_comes_back(fault: str) -> None:
    from tidegate.app.simulation.guards import _found

    before = [_found(where)[2] for where, _ in GUARDS[fault].swaps]
    with removed(GUARDS[fault]):
        assert all(_found(where)[2] is not own for (where, _), own in zip(GUARDS[fault].swaps, before, strict=True))
    assert [_found(where)[2] for where, _ in GUARDS[fault].swaps] == before


def test_a_guard_that_is_not_there_is_said_by_name() -> None:
    guard = Guard("nothing", (("tidegate.domain.orders:Order.never_there", lambda own: own),))
    with pytest.raises(LookupError, match=r"Order\.never_there is not there"), removed(guard):
        pass


def test_data_recover_when_every_family_is_fresh_again() -> None:
    line = Timeline(0)
    line.feed = [
        (at_s, FeedState(_BTC, family, fresh, 0, 0))
        for at_s, family, fresh in (
            (10.0, Family.MARKS, False),
            (11.0, Family.BOOK, False),
            (14.0, Family.MARKS, True),
        )
    ]
    found = list(data_recoveries(line, 12.0))
    assert [(each.kind, each.seconds) for each in found] == [(Kind.DATA, 2.0), (Kind.DATA, math.inf)]
    assert list(unnoticed(line, Family.MARKS, 9.5, 1.0)) == []
    assert len(list(unnoticed(line, Family.QUOTES, 9.5, 1.0))) == 1


def test_the_stream_recovers_from_its_first_loss_to_its_return() -> None:
    line = Timeline(0)
    states = ((5.0, VenueState.DOWN), (6.0, VenueState.DOWN), (9.0, VenueState.UP), (20.0, VenueState.DOWN))
    line.venue = [(at_s, VenueStatus(state, "", 0, 0)) for at_s, state in states]
    assert [each.seconds for each in stream_recoveries(line, 0.0)] == [4.0, math.inf]
    assert list(unnoticed(line, None, 4.0, 2.0)) == []
    assert next(unnoticed(line, None, 10.0, 9.0)).startswith("D4")


def test_bare_times_count_from_the_truth_on() -> None:
    found = stop_recoveries([("BTCUSDT", 10.0, 30.0), ("ETHUSDT", 3.0, 5.0)], 20.0)
    assert [each.seconds for each in found] == [10.0, 0.0]


def test_a_doubt_is_measured_from_the_doubt_to_the_proof(tmp_path: Path) -> None:
    from tidegate.app.simulation.fault_table import plan_of

    drill = CASES["V02"].drill(0)

    async def script(world):  # type: ignore[no-untyped-def]
        world.start_daemon()
        await world.run_for(40.0)
        world.parts.write_out()
        return Timeline.of(world.folder, drill.start_ns)

    line = simulate(plan_of(drill, 0), script, folder=tmp_path).result
    (doubt,) = order_recoveries(line, 0.0)
    assert doubt.kind is Kind.ENTRY
    assert 4.0 <= doubt.seconds <= 5.0
    assert list(order_recoveries(line, 30.0)) == [Recovery(Kind.ENTRY, 0.0, doubt.what)]
    assert not list(stale_entries(line))


def _trial(seed: int, *, injected: int = 1, findings: tuple[str, ...] = (), seconds: float = 1.0) -> Trial:
    recoveries = (Recovery(Kind.ENTRY, seconds, "an order"),)
    return Trial("V01", seed, True, "entry", injected, findings, recoveries, 0.0, "")


def test_a_row_passes_only_when_every_run_was_struck_and_survived() -> None:
    row = Row("V01")
    assert not row.passed
    row.take(_trial(1))
    passed_once = row.passed
    row.take(_trial(2, injected=0))
    assert (passed_once, row.passed) == (True, False)
    row.take(_trial(3, findings=("O1 twice", "O5 lost")))
    assert (row.survived, row.count("O1"), row.count("O5")) == (1, 1, 1)
    failures = row.as_dict()["failures"]
    assert isinstance(failures, list)
    assert [each["seed"] for each in failures] == [2, 3]


def test_the_bounds_are_those_of_ordinary_faults() -> None:
    row, long = Row("V01"), Row("V06")
    for seconds in (1.0, 2.0, 3.0):
        row.take(_trial(1, seconds=seconds))
    long.take(_trial(1, seconds=100.0))
    assert bounds_of([row, long]) == {"entry": 3.0, "reducing": 0.0}
    assert quantile([5.0, 1.0, 3.0], 0.5) == 3.0


def test_a_fault_that_was_noticed_is_not_run_unguarded_again() -> None:
    trials = list(run_table(jobs_of(["V14"], 1, 3)))
    assert [(trial.seed, trial.guarded) for trial in trials] == [(1, True), (1, False)]


def test_the_command_prints_both_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_faults(["V01", "V06"], 1, 0, 1, as_json=False) == 0
    out = capsys.readouterr().out
    assert "Long outages" in out
    assert "NOT RUN" in out
    assert "survived: 2 of 2" in out


def test_an_unknown_fault_names_the_nearest() -> None:
    assert known_faults(["v01"]) == ["V01"]
    with pytest.raises(ConfigError, match="V99 is not a fault of the catalogue; did you mean V09"):
        known_faults(["V99"])
