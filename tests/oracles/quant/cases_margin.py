"""Liquidation prices and brackets of the venue, and funding: its rate, and what it pays."""

from tests.oracles.quant.vectors import Oracle, case
from tests.unit.simulator.bench import COIN, Bench, only
from tidegate.domain.account import FundingPaid
from tidegate.domain.margin import (
    Bracket,
    bracket_of,
    liquidation_price,
    liquidation_price_in,
    maintenance,
    with_amounts,
)
from tidegate.domain.orders import Side
from tidegate.quant.funding import annualised_funding, funding_rate

FILE = "binance_margin_funding.json"

BRACKETS = with_amounts(
    [(0, 50_000, 0.004), (50_000, 250_000, 0.005), (250_000, 1e6, 0.01), (1e6, 1e7, 0.025), (1e7, 2e7, 0.05)]
)
"""The table of ``bracket-amounts``, which the iterated liquidation prices are about."""


def _published(oracle: Oracle) -> None:
    given = oracle.inputs
    price = liquidation_price_in(
        Bracket(0.0, 1e18, given["mmr"], given["maintenance_amount"]),
        wallet=given["wallet_balance"],
        side=given["side"],
        qty=given["quantity"],
        entry=given["entry_price"],
        other_maintenance=given["maintenance_margin_other"],
        other_unrealised=given["unrealized_pnl_other"],
    )
    oracle.check("liquidation_price", price)
    oracle.check("liquidation_price_published", price)


for _name in ("liquidation-isolated-eth", "liquidation-isolated-btc", "liquidation-cross-eth"):
    case(FILE, _name)(_published)


@case(FILE, "bracket-amounts")
def bracket_amounts(oracle: Oracle) -> None:
    brackets = with_amounts([(row["floor"], row["cap"], row["mmr"]) for row in oracle.inputs["brackets"]])
    assert brackets == BRACKETS
    amounts = [bracket.cum_usdt for bracket in brackets]
    oracle.check("maintenance_amounts", amounts)
    oracle.check("published", {"level_3": amounts[2], "level_2": amounts[1]})
    notionals = oracle.keys("maintenance_margin_at")
    oracle.check("maintenance_margin_at", {name: maintenance(brackets, float(name)) for name in notionals})


def _iterated(oracle: Oracle) -> None:
    given = oracle.inputs
    entry, qty = given["entry_price"], given["quantity"]
    price = liquidation_price(BRACKETS, wallet=given["isolated_wallet"], side=given["side"], qty=qty, entry=entry)
    assert price is not None
    oracle.check("liquidation_price", price)
    oracle.check("bracket_index", BRACKETS.index(bracket_of(BRACKETS, qty * price)))
    oracle.check("distance_fraction", abs(price / entry - 1.0))


for _name in ("liquidation-iter-long", "liquidation-iter-short", "liquidation-iter-bracket-crossing"):
    case(FILE, _name)(_iterated)


@case(FILE, "funding-rate")
def rates(oracle: Oracle) -> None:
    for hours in oracle.inputs["interval_hours"]:
        oracle.check(f"rate_{hours}h", funding_rate(oracle.inputs["premium"], hours, oracle.inputs["interest"]))


@case(FILE, "funding-payment")
def payments(oracle: Oracle) -> None:
    given = oracle.inputs
    paid = []
    for side, qty, mark, rate in zip(given["side"], given["quantity"], given["mark"], given["rate"], strict=True):
        bench = Bench(deposit=1_000_000)
        bench.hold(Side.BUY if side > 0 else Side.SELL, str(qty), mark + 10.0)
        bench.exchange.set_mark(COIN, mark)
        (event,) = only(bench.fund(rate), FundingPaid)
        assert not event.mark_is_last
        paid.append(float(event.amount))
    oracle.check("cash_flow", paid)
    oracle.check("annualised_simple_8h", annualised_funding(given["rate"]))
