"""The whole daemon and the local exchange on virtual time: it trades, dies and comes back, and the oracles see it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from tests.fakes.command_line import ROOT, assert_refused, tidegate
from tidegate.app.live import Rhythm
from tidegate.app.simulation.clock import EPOCH_NS
from tidegate.app.simulation.oracles import ORACLES, Evidence, Finding, judge, past_protection
from tidegate.app.simulation.scenarios import scripted
from tidegate.app.simulation.witness import Gap
from tidegate.app.simulation.world import SimPlan, SimWorld, simulate
from tidegate.domain.ids import InstrumentId
from tidegate.kernel.lifecycle import State

BARS = 4
SHORT_S = 60.0 * (BARS + 1)
PLAN = SimPlan(
    7,
    scripted(EPOCH_NS, BARS),
    tick_ms=2_000,
    history_bars=60,
    rhythm=Rhythm(beat_s=5.0, look_every_s=5.0, quotes=False, marks=False),
)
HELD = replace(PLAN, settings=scripted(EPOCH_NS, 1_000))
"""It still holds something when it is judged."""


def ready(world: SimWorld) -> bool:
    return world.parts is not None and world.kernel.state is State.READY


def test_the_daemon_trades_and_every_book_agrees() -> None:
    async def script(world: SimWorld) -> list[Finding]:
        world.start_daemon()
        assert await world.until(lambda: ready(world), 5.0)
        await world.run_for(SHORT_S)
        assert len(world.venue.trades()) >= 2 * BARS
        assert len(world.witness.sent) > len(world.venue.trades())  # every entry had a stop of its own
        return judge(world)[0]

    outcome = simulate(PLAN, script)
    assert (outcome.result, outcome.errors) == ([], ())


def test_production_pace_with_quotes_and_marks_agrees_too() -> None:
    async def script(world: SimWorld) -> list[Finding]:
        world.start_daemon()
        await world.run_for(130.0)
        assert world.records > 200
        return judge(world)[0]

    assert simulate(replace(PLAN, rhythm=Rhythm(), tick_ms=250), script).result == []


def test_killed_and_restarted_it_goes_on_from_the_venues_truth() -> None:
    async def script(world: SimWorld) -> list[Finding]:
        world.start_daemon()
        for _ in range(3):
            await world.run_for(73.0)
            before = len(world.venue.trades())
            world.kill()
            assert not world.alive
            await world.run_for(1.0)
            assert len(world.venue.trades()) == before
            world.start_daemon()
            assert await world.until(lambda: ready(world), 10.0)
        await world.run_for(90.0)
        assert world.node.life == 4
        return judge(world)[0]

    assert simulate(HELD, script).result == []


def test_sigterm_ends_it_in_good_order_with_its_stops_in_place() -> None:
    async def script(world: SimWorld) -> None:
        world.start_daemon()
        await world.run_for(100.0)
        await world.stop()
        assert (world.alive, world.crashes) == (False, [])
        assert world.results[0].exit_code == 0
        held = world.venue.coverage()
        assert held
        assert all(each.covered >= abs(each.qty) for each in held.values())

    simulate(HELD, script)


def test_a_second_daemon_on_the_key_is_refused_until_the_first_is_dead() -> None:
    async def script(world: SimWorld) -> None:
        world.start_daemon()
        await world.until(lambda: ready(world), 5.0)
        await world.start_daemon()
        assert "AlreadyRunning" in world.crashes.pop()
        world.restart()
        assert await world.until(lambda: ready(world), 10.0)

    simulate(PLAN, script)


# ---- the oracles bite -----------------------------------------------------------------------------------------------


def _first(seen: Evidence) -> str:
    return next(name for name in seen.executed if name.startswith("p1-"))


def _executed_more(seen: Evidence) -> None:
    seen.executed[_first(seen)] += 1


def _not_placed(seen: Evidence) -> None:
    seen.journaled.not_placed[_first(seen)] = None


def _placed_twice(seen: Evidence) -> None:
    seen.books["placed"][_first(seen)] = 2


def _forgotten(seen: Evidence) -> None:
    del seen.journaled.ordered[_first(seen)]


def _not_on_disk(seen: Evidence) -> None:
    seen.world.witness.undurable.append("p1-x left before its record was on disk")


def _unbooked(seen: Evidence) -> None:
    account = seen.world.venue.account
    account.trades.append(replace(account.trades[-1], trade_id=1 + account.trades[-1].trade_id))


def _never_executed(seen: Evidence) -> None:
    seen.world.venue.account.trades.pop()


def _other_position(seen: Evidence) -> None:
    seen.books["positions"] = {"BTCUSDT": "0.001"}


def _bare(seen: Evidence) -> None:
    seen.world.witness.gaps.append(Gap("BTCUSDT", 60.0, 90.0, down=False))


def _orphan(seen: Evidence) -> None:
    seen.books["open_algo_orders"].append({"symbol": "SOLUSDT", "clientAlgoId": "p1-x"})


def _wallet(seen: Evidence) -> None:
    seen.books["wallet"]["USDT"] = str(Decimal(seen.books["wallet"]["USDT"]) + Decimal("1E-8"))


def _stop_gone(seen: Evidence) -> None:
    """The stop is no longer at the venue, and the daemon has not heard of it."""
    seen.books["open_algo_orders"].clear()
    for order in seen.world.kernel.open_orders:
        order.entered_ns = 0


def _failed(seen: Evidence) -> None:
    seen.world.crashes.append("1.0 s: ValueError: no")


def _booked_by_hand(seen: Evidence) -> None:
    seen.world.kernel.ledger.position(InstrumentId("BTCUSDT")).pay_funding(Decimal("1E-8"))


@pytest.mark.parametrize(
    ("plant", "promise"),
    [
        (_executed_more, "O1"),
        (_not_placed, "O1"),
        (_placed_twice, "O1"),
        (_stop_gone, "O2"),
        (_forgotten, "O3"),
        (_not_on_disk, "O3"),
        (_unbooked, "O5"),
        (_never_executed, "O5"),
        (_other_position, "E1"),
        (_bare, "E2"),
        (_orphan, "E3"),
        (_wallet, "M1"),
        (_booked_by_hand, "M1"),
        (_failed, "crash"),
    ],
)
def test_each_oracle_finds_what_is_planted_for_it(plant: Callable[[Evidence], None], promise: str) -> None:
    async def script(world: SimWorld) -> list[Finding]:
        world.start_daemon()
        await world.run_for(SHORT_S)
        findings, seen = judge(world)
        assert findings == []
        plant(seen)
        return [finding for oracle in (*ORACLES, past_protection) for finding in oracle(seen)]

    assert {finding.split()[0] for finding in simulate(HELD, script).result} >= {promise}


def test_an_order_that_leaves_before_its_record_is_on_disk_is_seen_on_the_wire() -> None:
    async def script(world: SimWorld) -> list[Finding]:
        world.start_daemon()
        await world.run_for(90.0)
        return judge(world)[0]

    settings = {**PLAN.settings, "journal": {"fsync": False}}
    assert any(
        "before its record was on disk" in text for text in simulate(replace(PLAN, settings=settings), script).result
    )


# ---- runs have names ------------------------------------------------------------------------------------------------

DIGEST = "from tidegate.app.simulation.explorer import crash_at; print(crash_at({seed}, 400).digest)"


def digests(*runs: tuple[int, str]) -> list[str]:
    """Of faulty runs with a crash, by seed and hash seed, each in a process of its own."""
    begun = []
    for seed, hash_seed in runs:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", DIGEST.format(seed=seed)]
        begun.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    return [process.communicate()[0].strip() for process in begun]


def test_one_seed_is_one_run_in_every_process_and_another_seed_another() -> None:
    first, again, other = digests((5, "1"), (5, "2"), (6, "1"))
    assert len(first) == 64
    assert first == again
    assert first != other


def test_a_run_is_run_again_by_its_name(tmp_path: Path) -> None:
    scenario = tmp_path / "faults.json"
    scenario.write_text(json.dumps([{"fault": "V01", "count": 2}, {"fault": "U04", "at_s": 60.0}]))
    options = ("--runs-dir", tmp_path, "--json")
    ran = tidegate("sim", "run", "--seed", 9, "--days", 0.01, "--scenario", scenario, *options)
    report = json.loads(ran.out)
    assert (ran.code, report["findings"]) == (0, [])
    assert report["messages"] > 100
    again = tidegate("sim", "replay", report["name"], *options)
    assert (again.code, json.loads(again.out)["digest"]) == (0, report["digest"])

    named = tmp_path / f"{report['name']}.json"
    named.write_text(named.read_text().replace(report["digest"], "0" * 64))
    changed = tidegate("sim", "replay", named, *options)
    assert changed.code == 1
    assert "the program has changed" in json.loads(changed.out)["findings"][0]


def test_a_name_that_nobody_has_given_is_refused(tmp_path: Path) -> None:
    assert_refused(tidegate("sim", "replay", "1-2-3", "--runs-dir", tmp_path), "no run 1-2-3")
    assert_refused(tidegate("sim", "run", "--pace", "slow", "--runs-dir", tmp_path), "--pace", "fast or full")
    assert_refused(tidegate("sim", "run", "--days", "0", "--runs-dir", tmp_path), "--days 0")
