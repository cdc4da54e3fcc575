"""Whatever is traded in whatever market: equity is the deposit and all that was reported, to the last digit."""

import dataclasses
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.simulator.bench import COIN, OTHER, Orders, only, table
from tests.unit.simulator.markets import Market, drive
from tidegate.domain.account import FundingPaid, Transfer
from tidegate.domain.ids import InstrumentId
from tidegate.domain.ledger import Ledger
from tidegate.domain.market import Bar
from tidegate.domain.messages import Command, Event
from tidegate.domain.orders import ApprovedOrder, CancelOrder, FillCause, Order, OrderFilled, Side, TimeInForce
from tidegate.quant.bars import BarTable
from tidegate.simulator.exchange import exact
from tidegate.simulator.frictions import FixedSlippage, Frictions, Latency

HOURS = 12
STEPS = st.integers(-400, 400).map(lambda step: step / 10)


@st.composite
def tables(draw: st.DrawFn) -> BarTable:
    """Bars of a market that jumps, gaps, and sometimes does not trade."""
    rows, at = [], 100.0
    for _ in range(HOURS):
        opened = max(0.1, round(at + draw(STEPS) / 10, 1))
        close = max(0.1, round(opened + draw(STEPS), 1))
        high = round(max(opened, close) + abs(draw(STEPS)) / 4, 1)
        low = max(0.1, round(min(opened, close) - abs(draw(STEPS)) / 4, 1))
        rows.append((opened, high, low, close, draw(st.sampled_from([0.0, 30.0, 1000.0]))))
        at = close
    return table(rows)


ORDERS = st.tuples(
    st.sampled_from(Side),
    st.integers(1, 60_000).map(lambda lots: lots * Decimal("0.001")),
    st.sampled_from([COIN, OTHER]),
    st.sampled_from(["market", "limit", "stop", "profit"]),
    st.integers(-300, 300).map(lambda ticks: ticks * Decimal("0.1")),
    st.sampled_from(TimeInForce),
    st.booleans(),
)
PLANS = st.dictionaries(st.integers(0, 2 * HOURS), st.lists(ORDERS, max_size=3), max_size=HOURS)
RATES = st.lists(st.tuples(st.integers(1, HOURS), st.integers(-300, 300).map(lambda bps: bps / 1e4)), max_size=6)
FRICTIONS = st.builds(
    Frictions,
    slippage=st.floats(0.0, 50.0).map(FixedSlippage),
    latency=st.integers(0, 10**12).map(Latency),
    volume_share=st.sampled_from([None, 0.1, 0.9]),
    trade_empty_bars=st.booleans(),
)


class Trader:
    """Sends what the plan says at each close, cancels now and then, and keeps the books that a kernel would keep."""

    def __init__(self, plan: dict[int, list[tuple[object, ...]]]) -> None:
        self.plan, self.make, self.closes = plan, Orders().make, 0
        self.sent: dict[str, Order] = {}
        self.last: dict[InstrumentId, float] = {}

    def __call__(self, event: Event) -> list[Command]:
        if not isinstance(event, Bar):
            known = self.sent.get(getattr(event, "id", ""))
            if known is not None:
                known.apply(event)  # type: ignore[arg-type]
            return []
        self.last[event.instrument] = event.close
        self.closes += 1
        commands: list[Command] = [self.order(*words) for words in self.plan.get(self.closes, [])]  # type: ignore[arg-type]
        if self.closes % 7 == 0:
            commands += [CancelOrder(each.approved.id, each.approved.instrument) for each in self.sent.values()]
        return commands

    def order(
        self, side: Side, qty: Decimal, name: InstrumentId, kind: str, beyond: Decimal, tif: TimeInForce, reduce: bool
    ) -> ApprovedOrder:
        price = max(Decimal("0.1"), exact(self.last.get(name, 100.0)) + beyond)
        prices = {} if kind == "market" else {kind: price}
        order = self.make(side, qty, instrument=name, tif=tif, reduce=reduce, **prices)
        self.sent[order.id] = Order(order)
        return order


@given(st.tuples(tables(), tables()), PLANS, st.tuples(RATES, RATES), FRICTIONS, st.sampled_from([500, 5_000, 500_000]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_the_equity_of_the_venue_is_the_sum_of_its_reports(
    bars: tuple[BarTable, BarTable],
    plan: dict[int, list[tuple[object, ...]]],
    rates: tuple[list[tuple[int, float]], list[tuple[int, float]]],
    frictions: Frictions,
    deposit: int,
) -> None:
    names = (COIN, OTHER)
    market = Market(
        dict(zip(names, bars, strict=True)),
        {name: sorted(each) for name, each in zip(names, rates, strict=True)},
        {OTHER: bars[1]},
    )
    session = market.session(deposit=deposit, frictions=frictions)
    trader = Trader(plan)
    events = drive(session, trader)

    ours, cash = Ledger(), Decimal(deposit)
    ours.transfer(Decimal(deposit))
    for event in events:
        if isinstance(event, OrderFilled):
            ours.position(event.instrument).fill(event.side, event.qty, event.price, event.fee)
            cash -= event.side.sign * event.qty * event.price + event.fee
        elif isinstance(event, FundingPaid):
            ours.position(event.instrument).pay_funding(event.amount)
            cash += event.amount
        elif isinstance(event, Transfer):
            ours.transfer(event.amount)
            cash += event.amount

    exchange = session.exchange
    marks = {name: exact(price) for name, price in trader.last.items()}
    assert exchange.equity(trader.last) == ours.equity(marks)
    held = {name: ours.position(name).qty for name in names}
    assert exchange.equity(trader.last) == cash + sum(held[name] * marks[name] for name in names)
    assert exchange.snapshot(0).balances[0].wallet == exchange.ledger.wallet == ours.wallet
    if not any(held.values()):
        assert ours.wallet >= 0

    trade_ids = [fill.trade_id for fill in only(events, OrderFilled)]
    assert len(set(trade_ids)) == len(trade_ids)
    times = [event.recv_ns for event in events]
    assert times == sorted(times)
    resting = {order.id: order for order in exchange.snapshot(0).open_orders}
    for name, order in trader.sent.items():
        assert order.filled <= order.approved.qty
        assert order.open is (name in resting), (name, order.state)
        if name in resting:
            assert resting[order.approved.id].filled == order.filled


@given(tables(), st.sampled_from([-1, 1]), st.integers(1, 90))
@settings(max_examples=50, deadline=None)
def test_fills_stay_inside_their_bar_when_nothing_is_charged(bars: BarTable, sign: int, lots: int) -> None:
    # A limit that is reached while nothing trades fills at its price with the next volume, wherever the market is then
    bars = dataclasses.replace(bars, volume=bars.volume + 1e6)
    plan: dict[int, list[tuple[object, ...]]] = {
        hour: [
            (
                Side.BUY if (hour % 2 == 0) is (sign > 0) else Side.SELL,
                Decimal(lots),
                COIN,
                kind,
                Decimal(way),
                TimeInForce.GTC,
                False,
            )
        ]
        for hour, (kind, way) in enumerate([("market", 0), ("limit", -3), ("stop", 4), ("limit", 3), ("stop", -4)], 1)
    }
    events = drive(Market({COIN: bars}).session(deposit=10**9), Trader(plan))
    lows, highs, closes = bars.low.tolist(), bars.high.tolist(), bars.close.tolist()
    ends = bars.ts_ns.tolist()
    for fill in only(events, OrderFilled):
        if fill.cause is FillCause.ORDER:
            n, price = ends.index(fill.ts_ns), float(fill.price)
            spans = [(lows[k], highs[k]) for k in (n, n + 1) if k < HOURS]
            if fill.maker:  # a resting limit may be hit between two bars
                spans = [(min(lows[n], closes[n - 1]), max(highs[n], closes[n - 1]))]
            assert any(low <= price <= high for low, high in spans)
