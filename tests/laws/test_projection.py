"""The laws of the projection: what it books is what the kernel booked, to the last digit, whatever the days were like;
and the same records make the same rows, however they are cut, dumped and loaded."""

from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from tests.fakes.live import LiveWorld, world
from tests.laws.test_live_path import PRICES, STEPS, WAITS_S, WISHES, Trouble
from tests.unit.kernel.worlds import BTC, START_NS
from tidegate.adapters.database.projection import Projection, SessionInfo
from tidegate.domain.account import FundingPaid, Income, Transfer
from tidegate.domain.ids import InstrumentId
from tidegate.domain.ledger import Ledger
from tidegate.domain.market import HOUR_NS, Bar
from tidegate.domain.messages import Command, Event, KernelSnapshot, Operation, OperatorCommand, Record
from tidegate.domain.orders import Side
from tidegate.domain.signals import BookRisk
from tidegate.kernel.kernel import Kernel

OTHER_STEPS = ["hand", "hand", "silent", "funding", "transfer", "income", "listed", "fee", "adopt"]
Log = list[tuple[Event, tuple[Command, ...]]]


def info(session_id: str = "live-100", gen: int = 100, instruments: tuple[InstrumentId, ...] = (BTC,)) -> SessionInfo:
    return SessionInfo("ab", session_id, "live", "live", gen, 0, {}, "", None, HOUR_NS, instruments, "binance", True)


class Recorder:
    """Keeps what a journal would: the records of each process, without those that died with it."""

    def __init__(self, it: LiveWorld) -> None:
        self.it, self.starts = it, [0]
        self._restart = it.restart
        it.restart = self.restart  # type: ignore[method-assign]

    def restart(self, kept: KernelSnapshot | None = None, *, start: bool = True) -> LiveWorld:
        if kept is not None:
            del self.it.log[kept.seq :]
        self.starts.append(len(self.it.log))
        return self._restart(kept, start=start)

    def sessions(self) -> Iterator[Log]:
        ends = [*self.starts[1:], len(self.it.log)]
        return (self.it.log[start:end] for start, end in zip(self.starts, ends, strict=True))


def eventful_days(seed: int) -> tuple[LiveWorld, Recorder]:
    """Troubled days on an account that somebody else uses too, and that has income of all kinds."""
    dice = Random(seed)
    trouble = Trouble(dice)
    adopts = dice.choice([(), (), (BTC,)])
    it = world(*dice.choices(WISHES, k=dice.randint(4, 12)), faults=trouble.fault, adopt=adopts)
    recorder = Recorder(it)
    it.events_lost, it.dies = trouble.lost, trouble.dies
    if dice.random() < 0.5:
        it.by_hand(dice.choice([Side.BUY, Side.SELL]), dice.choice(["0.5", "1"]), tell=False)
    it.start(dice.choice([0.0, 0.01, 1.0]))
    for n in range(dice.randint(4, 24)):
        now, amount = it.now_ns, Decimal(dice.randint(-(10**9), 10**9)).scaleb(-8)
        match dice.choice(STEPS + OTHER_STEPS):
            case "bar":
                it.bar()
            case "move":
                it.move(dice.choice(PRICES))
            case "wait":
                it.run(dice.choice(WAITS_S))
            case "restart":
                it.restart()
                it.run(dice.choice([0.0, 0.03, 1.0, 12.0]))
            case "lose":
                trouble.losing = not trouble.losing
            case "liquidation" if it.positions[BTC]:
                it.liquidate(tell=dice.choice([True, False]))
            case "hand":
                it.by_hand(dice.choice([Side.BUY, Side.SELL]), "0.3", tell=dice.choice([True, False]))
            case "silent":  # no trade explains it: in the end an adjustment
                it.positions[BTC] += Decimal("0.1")
                it.run(80)
            case "fee":  # by hand, with a fee, in our asset or in another
                it.by_hand(dice.choice([Side.BUY, Side.SELL]), "0.2", tell=False)
                asset = dice.choice(["USDT", "BNB"])
                price = None if asset == "USDT" else Decimal("612.5")
                fee = Decimal(dice.randint(1, 10**8)).scaleb(-8)
                it.trades[-1] = replace(it.trades[-1], fee=fee, fee_asset=asset, fee_price=price)
                it.give(it.trades[-1])
            case "funding":
                it.give(FundingPaid(BTC, amount, 0.0001, 100.0, now, now, line=dice.choice(["", f"f{n}", "f1"])))
            case "transfer":
                it.give(Transfer(dice.choice(["USDT", "BNB"]), amount, now, now, dice.choice(["", f"t{n}", "t1"])))
            case "income":
                it.give(Income("REBATE", dice.choice(["USDT", "BNB"]), amount, None, f"i{n % 3}", now, now))
            case "listed":
                it.income.append(Income("INSURANCE", "USDT", amount, BTC, f"l{n}", now, now))
            case "adopt":
                it.operate(Operation.ADOPT)
    trouble.on = trouble.losing = False
    it.run(100)
    return it, recorder


def equal(kernel: Kernel, projection: Projection) -> None:
    ours: Ledger = projection.books.positions.ledger
    theirs = kernel.ledger
    assert ours == theirs
    assert projection.books.positions.wallet == theirs.wallet
    foreign = {each.instrument: each.qty for each in kernel.foreign if not each.order}
    assert projection.books.foreign == foreign
    known = {order.approved.id: (order.filled, order.qty, order.venue_id) for order in kernel.open_orders}
    assert {order.approved.id: (order.filled, order.qty, order.venue_id) for order in projection.books.blotter} == known


def project(recorder: Recorder, dice: Random | None = None) -> tuple[Projection, dict[str, list[dict[str, Any]]]]:
    """All sessions, one after the other; with dice the projector dies now and then, and goes on from its dump."""
    rows: dict[str, list[dict[str, Any]]] = {}
    state: bytes | None = None
    seq = 0

    def kept(projection: Projection) -> None:
        for table, each in projection.take().items():
            rows.setdefault(table, []).extend(each)

    for number, log in enumerate(recorder.sessions()):
        session = info(f"live-{100 + number}", 100 + number)
        projection = Projection(session, state, begins=True)
        for event, commands in log:
            seq += 1
            projection.fold(Record(seq, event, commands))
            if dice is not None and dice.random() < 0.1:
                kept(projection)
                projection = Projection(session, projection.dump())
        kept(projection)
        state = projection.dump()
    return projection, rows


@pytest.mark.parametrize("part", range(4))
def test_what_is_projected_is_what_the_kernel_booked(part: int) -> None:
    for seed in range(part * 20, part * 20 + 20):
        it, recorder = eventful_days(seed)
        projection, rows = project(recorder)
        equal(it.kernel, projection)
        sums_up(rows, projection)


def sums_up(rows: dict[str, list[dict[str, Any]]], projection: Projection) -> None:
    """The facts add up to the books, and no fact is there twice."""
    fills, lines = rows.get("fills", []), rows.get("income_lines", [])
    payments = rows.get("funding_payments", [])
    assert len({(row["symbol"], row["trade_id"]) for row in fills}) == len(fills)
    assert len({row["line"] for row in lines}) == len(lines)
    assert len({row["line"] for row in payments}) == len(payments)
    total = sum((row["realised_pnl"] - row["fee"] * (row["fee_asset"] == "USDT") for row in fills), Decimal(0))
    total += sum((row["amount"] for row in payments), Decimal(0))
    total += sum((row["amount"] for row in lines if row["asset"] == "USDT"), Decimal(0))
    assert total == projection.books.positions.wallet
    last = {row["symbol"]: row for row in rows.get("positions", [])}
    for name, held in projection.books.positions.ledger.positions.items():
        if name in last:
            row = last[name]
            assert (row["qty"], row["cost"], row["realised_pnl"]) == (held.qty, held.cost, held.realised)
            assert (row["fees"], row["funding"]) == (held.fees_usdt, held.funding)


def test_the_days_are_eventful_enough() -> None:
    seen: dict[str, int] = {}
    for seed in range(30):
        it, recorder = eventful_days(seed)
        _, rows = project(recorder)
        for table, each in rows.items():
            seen[table] = seen.get(table, 0) + len(each)
        for row in rows.get("income_lines", []):
            seen[row["kind"]] = seen.get(row["kind"], 0) + 1
        seen["sessions"] = seen.get("sessions", 0) + len(recorder.starts)
        seen["foreign"] = seen.get("foreign", 0) + bool(it.kernel.foreign)
    wanted = {"fills": 60, "trades": 10, "orders": 200, "ADJUSTMENT": 5, "TRANSFER": 10, "REBATE": 10}
    wanted |= {"INSURANCE": 3, "funding_payments": 10, "wallets": 100, "sessions": 50, "foreign": 3, "audit_trail": 100}
    assert {name: seen.get(name, 0) >= least for name, least in wanted.items()} == dict.fromkeys(wanted, True), seen


@pytest.mark.parametrize("seed", range(8))
def test_a_dump_anywhere_goes_on_with_the_same_rows(seed: int) -> None:
    _, recorder = eventful_days(seed)
    whole, rows = project(recorder)
    cut, same = project(recorder, Random(seed))
    assert same == rows
    assert cut.books.positions.ledger == whole.books.positions.ledger


def test_the_risk_that_the_kernel_told_of_a_close_stands_in_its_row() -> None:
    projection, bars = Projection(info()), [START_NS + n * HOUR_NS for n in (1, 2)]
    projection.fold(Record(1, OperatorCommand(Operation.START, START_NS, START_NS), ()))
    risk = BookRisk(((BTC, 0.2),), ((BTC, 1.0),), 0.11, 0.009, None, 0.0, 1.0, bars[1])
    for seq, (ts_ns, said) in enumerate(zip(bars, [(), (risk,)], strict=True), 2):
        projection.fold(Record(seq, Bar(BTC, HOUR_NS, ts_ns, ts_ns, 1.0, 1.0, 1.0, 1.0, 1.0), said))
    before, told = projection.take()["risk_metrics"]
    assert "volatility" not in before
    assert (told["ts_ns"], told["volatility"], told["var_frac"], told["cvar_frac"]) == (bars[1], 0.11, 0.009, None)
