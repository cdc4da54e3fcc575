"""Virtual ledgers: what each strategy would own of a book in which their wishes were netted before anything was sent.

1. ``aim`` divides the book's target among the strategies by their contributions: each gets its own multiple of one
   quantity per unit of contribution; what limits, lots and costs made of the sum is shared by size of contribution.
2. Where one wants more and another less, they trade with each other at the arrival price, at once, each side pro rata.
   Each pays the fee that it would have paid alone; as nobody took it, it is the gain of the account ``netting``.
3. A fill of the book is divided among those that still want it, pro rata; its fee and its slippage go with it.
4. A fill that no target asked for (a stop, a liquidation, a hand) scales every holding to what is left, through
   crosses first. What belongs to nobody belongs to the account ``unassigned``.
5. Funding is divided by what each holds.
6. Shares are rounded to 1e-8 and the largest takes the rest, so they add up exactly: together they are the book.

An account is a cash flow, not an average price: cash (what selling brought less what buying took), quantity, fees,
funding and slippage. Its result at a mark is ``cash + qty mark - fees + funding``; no division, no rounding.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from tidegate.domain.ids import InstrumentId, Nanos, StrategyId
from tidegate.domain.ledger import CENT, EXACT, ROUNDED, ZERO
from tidegate.domain.signals import Scenario, StrategyResult

NETTING: Final = StrategyId("netting")
UNASSIGNED: Final = StrategyId("unassigned")

_LOPSIDED: Final = 0.25
"""Below this share of the gross contribution the net one does not tell the quantity per unit: the last one does."""


class Account(msgspec.Struct):
    """One strategy in one instrument. Amounts in USDT; ``slippage`` and ``fees`` are costs, positive."""

    target: Decimal = ZERO
    qty: Decimal = ZERO
    cash: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    slippage: Decimal = ZERO
    turnover: Decimal = ZERO
    fills: int = 0

    def trade(self, dq: Decimal, price: Decimal, reference: Decimal, fee: Decimal) -> None:
        """Take ``dq`` (signed) at ``price``; the difference to ``reference`` is slippage."""
        self.qty = EXACT.add(self.qty, dq)
        self.cash = EXACT.subtract(self.cash, EXACT.multiply(dq, price))
        self.slippage = EXACT.add(self.slippage, EXACT.multiply(dq, EXACT.subtract(price, reference)))
        self.turnover = EXACT.add(self.turnover, EXACT.multiply(abs(dq), price))
        self.fees = EXACT.add(self.fees, fee)
        self.fills += 1

    def result(self, mark: Decimal) -> Decimal:
        """What the account has earned so far, valued at ``mark``."""
        value = EXACT.fma(self.qty, mark, self.cash)
        return EXACT.add(EXACT.subtract(value, self.fees), self.funding)


class Told(msgspec.Struct):
    """The totals of an account when its last line was written."""

    ts_ns: Nanos
    price_pnl: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    slippage: Decimal = ZERO
    turnover: Decimal = ZERO
    fills: int = 0


class VirtualState(msgspec.Struct):
    """Everything that the ledgers remember."""

    accounts: dict[InstrumentId, dict[StrategyId, Account]] = {}
    per_unit: dict[InstrumentId, float] = {}
    told: dict[InstrumentId, dict[StrategyId, Told]] = {}
    began_ns: Nanos = 0


class VirtualLedgers:
    """The accounts of all strategies, by instrument."""

    def __init__(self) -> None:
        self.state = VirtualState()

    # ---- targets and fills --------------------------------------------------------------------------------------

    def aim(
        self,
        instrument: InstrumentId,
        target: Decimal,
        contributions: Mapping[StrategyId, float],
        arrival: Decimal,
        fee_frac: Decimal,
    ) -> None:
        """Divide the book's target (signed) by the strategies' contributions (signed), and cross what can be crossed.

        ``arrival`` is the last price, ``fee_frac`` the fee that each side of a cross would have paid at the venue.
        """
        accounts = self.state.accounts.setdefault(instrument, {})
        for name in contributions:
            accounts.setdefault(name, Account())
        targets = self._targets(instrument, target, contributions)
        for name, account in accounts.items():
            account.target = targets.get(name, ZERO)
        self._cross(accounts, arrival, fee_frac)

    def fill(
        self, instrument: InstrumentId, dq: Decimal, price: Decimal, reference: Decimal, fee: Decimal, *, asked: bool
    ) -> None:
        """Divide an execution of ``dq`` (signed). ``asked`` when it works toward the target, else it came by itself."""
        accounts = self.state.accounts.setdefault(instrument, {})
        if not asked:
            self._scale(accounts, dq, price)
        sign = 1 if dq > 0 else -1
        wanting = {
            name: EXACT.subtract(each.target, each.qty)
            for name, each in accounts.items()
            if EXACT.subtract(each.target, each.qty) * sign > 0
        }
        wanted = _total(wanting.values())
        own = dq if abs(wanted) >= abs(dq) else wanted
        parts = _shares(own, list(wanting.items()))
        rest = EXACT.subtract(dq, own)
        if rest:
            parts.append((UNASSIGNED, rest))
        fees = _shares(fee, parts)
        for (name, part), (_, cost) in zip(parts, fees, strict=True):
            if part or cost:
                accounts.setdefault(name, Account()).trade(part, price, reference, cost)
        if rest and UNASSIGNED in accounts:
            accounts[UNASSIGNED].target = accounts[UNASSIGNED].qty

    def fund(self, instrument: InstrumentId, amount: Decimal) -> None:
        """Divide a settlement by what each account holds."""
        accounts = self.state.accounts.setdefault(instrument, {})
        held = [(name, each.qty) for name, each in accounts.items() if each.qty]
        if not _total(qty for _, qty in held):
            held = [(UNASSIGNED, CENT)]
        for name, part in _shares(amount, held):
            account = accounts.setdefault(name, Account())
            account.funding = EXACT.add(account.funding, part)

    # ---- results ------------------------------------------------------------------------------------------------

    def results(self, marks: Mapping[InstrumentId, Decimal]) -> dict[StrategyId, Decimal]:
        """What each account has earned over all instruments since the beginning; together, what the book has."""
        totals: dict[StrategyId, Decimal] = {}
        for instrument, accounts in self.state.accounts.items():
            for name, account in accounts.items():
                mark = marks[instrument] if account.qty else ZERO
                totals[name] = EXACT.add(totals.get(name, ZERO), account.result(mark))
        return totals

    def lines(self, marks: Mapping[InstrumentId, Decimal], scenario: Scenario, ts_ns: Nanos) -> list[StrategyResult]:
        """A line for each account in which something has happened since its last one."""
        lines: list[StrategyResult] = []
        for instrument, accounts in self.state.accounts.items():
            told = self.state.told.setdefault(instrument, {})
            for name, account in accounts.items():
                before = told.get(name) or Told(self.state.began_ns)
                mark = marks[instrument] if account.qty else ZERO
                value = EXACT.add(EXACT.fma(account.qty, mark, account.cash), account.slippage)
                now = Told(
                    ts_ns, value, account.fees, account.funding, account.slippage, account.turnover, account.fills
                )
                told[name] = now
                line = StrategyResult(
                    name,
                    instrument,
                    scenario,
                    before.ts_ns,
                    ts_ns,
                    EXACT.subtract(now.price_pnl, before.price_pnl),
                    EXACT.subtract(now.fees, before.fees),
                    EXACT.subtract(now.funding, before.funding),
                    EXACT.subtract(now.slippage, before.slippage),
                    EXACT.subtract(now.turnover, before.turnover),
                    now.fills - before.fills,
                )
                if line.price_pnl or line.fees or line.funding or line.slippage or line.fills:
                    lines.append(line)
        return lines

    # ---- dividing -----------------------------------------------------------------------------------------------

    def _targets(
        self, instrument: InstrumentId, target: Decimal, contributions: Mapping[StrategyId, float]
    ) -> dict[StrategyId, Decimal]:
        net, gross = sum(contributions.values()), sum(map(abs, contributions.values()))
        if gross == 0.0:
            return {UNASSIGNED: target} if target else {}
        if abs(net) > _LOPSIDED * gross:
            self.state.per_unit[instrument] = abs(float(target) / net)
        per_unit = self.state.per_unit.get(instrument, 0.0) if target else 0.0
        wished = {name: _rounded(per_unit * share) for name, share in contributions.items()}
        missing = EXACT.subtract(target, _total(wished.values()))
        sizes = [(name, _rounded(abs(share))) for name, share in contributions.items() if share]
        if not any(size for _, size in sizes):
            return {UNASSIGNED: target} if target else {}
        for name, part in _shares(missing, sizes):
            wished[name] = EXACT.add(wished[name], part)
        return wished

    @staticmethod
    def _scale(accounts: dict[StrategyId, Account], dq: Decimal, price: Decimal) -> None:
        """Aim every account at its part of what is left of the book after an execution that nobody asked for."""
        before = _total(each.qty for each in accounts.values())
        after = EXACT.add(before, dq)
        if before == 0 or after * before < 0:
            after = ZERO if before else before
        shares = dict(_shares(after, [(name, each.qty) for name, each in accounts.items() if each.qty]))
        for name, account in accounts.items():
            account.target = shares.get(name, ZERO)
        VirtualLedgers._cross(accounts, price, ZERO)

    @staticmethod
    def _cross(accounts: dict[StrategyId, Account], price: Decimal, fee_frac: Decimal) -> None:
        """Let those that want more buy from those that want less."""
        wants = {name: EXACT.subtract(each.target, each.qty) for name, each in accounts.items()}
        buyers = [(name, want) for name, want in wants.items() if want > 0]
        sellers = [(name, want) for name, want in wants.items() if want < 0]
        bought, sold = _total(want for _, want in buyers), EXACT.minus(_total(want for _, want in sellers))
        crossed = min(bought, sold)
        if not crossed:
            return
        saved = ZERO
        for name, part in [*_shares(crossed, buyers), *_shares(EXACT.minus(crossed), sellers)]:
            fee = EXACT.multiply(EXACT.multiply(abs(part), price), fee_frac)
            accounts[name].trade(part, price, price, fee)
            saved = EXACT.add(saved, fee)
        if saved:
            netting = accounts.setdefault(NETTING, Account())
            netting.fees = EXACT.subtract(netting.fees, saved)


def _rounded(value: float) -> Decimal:
    return ROUNDED.quantize(Decimal(repr(value)), CENT)


def _total(amounts: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def _shares(amount: Decimal, sizes: Sequence[tuple[StrategyId, Decimal]]) -> list[tuple[StrategyId, Decimal]]:
    """``amount`` divided in proportion to signed sizes, to 1e-8; the largest takes the rest. Empty for no sizes."""
    total = _total(size for _, size in sizes)
    if not sizes:
        return []
    if total == 0:
        sizes = [(name, abs(size)) for name, size in sizes]
        total = _total(size for _, size in sizes)
    parts = [
        (name, ROUNDED.quantize(ROUNDED.divide(ROUNDED.multiply(amount, size), total), CENT)) for name, size in sizes
    ]
    rest = EXACT.subtract(amount, _total(part for _, part in parts))
    largest = max(range(len(sizes)), key=lambda index: abs(sizes[index][1]))
    name, part = parts[largest]
    parts[largest] = (name, EXACT.add(part, rest))
    return parts
