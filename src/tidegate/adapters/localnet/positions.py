"""Balances and positions as the account endpoints show them, in their versions."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tidegate.adapters.localnet.accounts import Account, leg_of, split_leg
from tidegate.adapters.localnet.wire import fixed, money, plain
from tidegate.domain.ids import InstrumentId
from tidegate.domain.ledger import ROUNDED, ZERO
from tidegate.domain.margin import liquidation_price
from tidegate.domain.orders import PositionSide
from tidegate.simulator.margins import LegMargin, Margins, max_notional

Json = dict[str, Any]


class View:
    """One look at an account: its margins, worked out once."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.margins: Margins = account.exchange.margins()

    # ---- assets -------------------------------------------------------------------------------------------------

    def totals(self) -> Json:
        """The sums at the head of the account answers: USDT only, as in single-asset mode."""
        margins, wallet = self.margins, self.account.exchange.wallet
        return {
            "totalInitialMargin": money(margins.position_initial + margins.orders_initial),
            "totalMaintMargin": money(margins.maintenance),
            "totalWalletBalance": money(wallet),
            "totalUnrealizedProfit": money(margins.unrealised),
            "totalMarginBalance": money(wallet + margins.unrealised),
            "totalPositionInitialMargin": money(margins.position_initial),
            "totalOpenOrderInitialMargin": money(margins.orders_initial),
            "totalCrossWalletBalance": money(margins.cross_wallet),
            "totalCrossUnPnl": money(margins.cross_unrealised),
            "availableBalance": money(margins.available),
            "maxWithdrawAmount": money(self._withdrawable),
        }

    @property
    def _withdrawable(self) -> Decimal:
        return min(self.margins.available, max(ZERO, self.margins.cross_wallet))

    def asset_rows(self, version: int) -> list[Json]:
        """``assets`` of the account answers."""
        rows = []
        for asset, wallet in self._wallets():
            main = asset == "USDT"
            margins, none = self.margins, ZERO
            unrealised = margins.unrealised if main else none
            position, orders = (margins.position_initial, margins.orders_initial) if main else (none, none)
            row: Json = {
                "asset": asset,
                "walletBalance": money(wallet),
                "unrealizedProfit": money(unrealised),
                "marginBalance": money(wallet + unrealised),
                "maintMargin": money(margins.maintenance if main else none),
                "initialMargin": money(position + orders),
                "positionInitialMargin": money(position),
                "openOrderInitialMargin": money(orders),
                "crossWalletBalance": money(margins.cross_wallet if main else wallet),
                "crossUnPnl": money(margins.cross_unrealised if main else none),
                "availableBalance": money(margins.available if main else wallet),
                "maxWithdrawAmount": money(self._withdrawable if main else wallet),
            }
            if version == 2:
                row["marginAvailable"] = True
            row["updateTime"] = self._updated_ms()
            rows.append(row)
        return rows

    def balance_rows(self) -> list[Json]:
        """The balance answers."""
        rows = []
        for asset, wallet in self._wallets():
            main = asset == "USDT"
            rows.append(
                {
                    "accountAlias": "SgsR",
                    "asset": asset,
                    "balance": money(wallet),
                    "crossWalletBalance": money(self.margins.cross_wallet if main else wallet),
                    "crossUnPnl": money(self.margins.cross_unrealised if main else ZERO),
                    "availableBalance": money(self.margins.available if main else wallet),
                    "maxWithdrawAmount": money(self._withdrawable if main else wallet),
                    "marginAvailable": True,
                    "updateTime": self._updated_ms(),
                }
            )
        return rows

    def _wallets(self) -> Iterator[tuple[str, Decimal]]:
        yield "USDT", self.account.exchange.wallet
        yield from self.account.assets.items()

    def _updated_ms(self) -> int:
        """When a wallet last changed; every change has a line, even where the list shows it late."""
        lines = self.account.income
        return max(self.account.created_ms, *self.account.updated_ms.values(), lines[-1].time_ms if lines else 0)

    # ---- positions ----------------------------------------------------------------------------------------------

    def live(self, symbol: str = "") -> Iterator[tuple[InstrumentId, LegMargin]]:
        """The legs with a position or open orders (of a symbol)."""
        for leg, margin in self.margins.legs.items():
            if symbol in ("", split_leg(leg)[0]):
                yield leg, margin

    def every(self, symbol: str = "") -> Iterator[tuple[InstrumentId, LegMargin]]:
        """All legs (of a symbol): in hedge mode the three of each."""
        for name in self.account.prices.symbols if not symbol else (symbol,):
            sides = tuple(PositionSide) if self.account.dual_side else (PositionSide.BOTH,)
            for side in sides:
                leg = leg_of(name, side)
                yield leg, self.margins.legs.get(leg) or self.account.exchange.leg_margin(leg)

    def account_rows_v3(self) -> list[Json]:
        """``positions`` of the account answer, version 3."""
        return [
            {
                **self._name(leg),
                "positionAmt": self._qty(leg, margin),
                "unrealizedProfit": money(margin.unrealised),
                "isolatedMargin": money(margin.isolated_margin),
                "notional": plain(margin.notional),
                "isolatedWallet": plain(margin.isolated_wallet),
                "initialMargin": plain(margin.initial),
                "maintMargin": plain(margin.maintenance),
                "updateTime": self.account.updated_ms.get(leg, 0),
            }
            for leg, margin in self.live()
        ]

    def account_rows_v2(self) -> list[Json]:
        """``positions`` of the account answer, version 2: every symbol."""
        return [
            {
                **self._name(leg),
                "initialMargin": plain(margin.initial),
                "maintMargin": plain(margin.maintenance),
                "unrealizedProfit": money(margin.unrealised),
                "positionInitialMargin": plain(margin.position_initial),
                "openOrderInitialMargin": plain(margin.orders_initial),
                "leverage": str(margin.leverage),
                "isolated": margin.isolated,
                "entryPrice": plain(self._entry(leg)),
                "breakEvenPrice": plain(self._break_even(leg)),
                "maxNotional": plain(max_notional(margin.brackets, margin.leverage)),
                "bidNotional": plain(margin.buy_notional),
                "askNotional": plain(margin.sell_notional),
                "positionAmt": self._qty(leg, margin),
                "notional": plain(margin.notional),
                "isolatedWallet": plain(margin.isolated_wallet),
                "updateTime": self.account.updated_ms.get(leg, 0),
            }
            for leg, margin in self.every()
        ]

    def risk_rows_v3(self, symbol: str = "") -> list[Json]:
        """positionRisk, version 3: live legs only, without leverage and margin type."""
        return [
            {
                **self._name(leg),
                **self._risk(leg, margin),
                "marginAsset": "USDT",
                "initialMargin": plain(margin.initial),
                "maintMargin": plain(margin.maintenance),
                "positionInitialMargin": plain(margin.position_initial),
                "openOrderInitialMargin": plain(margin.orders_initial),
                "adl": adl_rank(margin),
                "bidNotional": plain(margin.buy_notional),
                "askNotional": plain(margin.sell_notional),
                "updateTime": self.account.updated_ms.get(leg, 0),
            }
            for leg, margin in self.live(symbol)
        ]

    def risk_rows_v2(self, symbol: str = "") -> list[Json]:
        """positionRisk, version 2: every symbol."""
        return [
            {
                **self._name(leg),
                **self._risk(leg, margin),
                "marginType": "isolated" if margin.isolated else "cross",
                "isAutoAddMargin": "false",
                "leverage": str(margin.leverage),
                "maxNotionalValue": plain(max_notional(margin.brackets, margin.leverage)),
                "updateTime": self.account.updated_ms.get(leg, 0),
            }
            for leg, margin in self.every(symbol)
        ]

    def _risk(self, leg: InstrumentId, margin: LegMargin) -> Json:
        return {
            "positionAmt": self._qty(leg, margin),
            "entryPrice": plain(self._entry(leg)),
            "breakEvenPrice": plain(self._break_even(leg)),
            "markPrice": fixed(margin.mark, 8),
            "unRealizedProfit": money(margin.unrealised),
            "liquidationPrice": self._liquidation(leg, margin),
            "isolatedMargin": plain(margin.isolated_margin),
            "notional": plain(margin.notional),
            "isolatedWallet": plain(margin.isolated_wallet),
        }

    def _name(self, leg: InstrumentId) -> Json:
        symbol, side = split_leg(leg)
        return {"symbol": symbol, "positionSide": side.value}

    def _qty(self, leg: InstrumentId, margin: LegMargin) -> str:
        info = self.account.prices.symbols[split_leg(leg)[0]].info
        return fixed(margin.qty, info["quantityPrecision"])

    def _entry(self, leg: InstrumentId) -> Decimal:
        entry = self.account.exchange.ledger.position(leg).entry_price
        return ZERO if entry is None else ROUNDED.quantize(entry, Decimal("1E-8"))

    def _break_even(self, leg: InstrumentId) -> Decimal:
        return ROUNDED.quantize(self.account.break_even(leg), Decimal("1E-8"))

    def _liquidation(self, leg: InstrumentId, margin: LegMargin) -> str:
        if not margin.qty:
            return "0"
        others = [] if margin.isolated else [each for name, each in self.live() if name != leg and not each.isolated]
        price = liquidation_price(
            margin.brackets,
            wallet=float(margin.isolated_wallet if margin.isolated else self.margins.cross_wallet),
            side=1 if margin.qty > 0 else -1,
            qty=float(abs(margin.qty)),
            entry=float(abs(margin.cost / margin.qty)),
            other_maintenance=float(sum((each.maintenance for each in others), ZERO)),
            other_unrealised=float(sum((each.unrealised for each in others), ZERO)),
        )
        return "0" if price is None else plain(ROUNDED.quantize(Decimal(price), Decimal("1E-8")))


def adl_rank(margin: LegMargin) -> int:
    """0 to 4: how near a position is to deleveraging, by its open result over its initial margin."""
    if not margin.qty or margin.unrealised <= 0:
        return 0
    share = margin.unrealised / max(margin.position_initial, Decimal("1E-8"))
    return 1 + sum(share > bound for bound in (Decimal("0.25"), Decimal("0.5"), Decimal(1)))
