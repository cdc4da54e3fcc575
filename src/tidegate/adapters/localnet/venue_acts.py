"""What the venue, or another hand, does to accounts and market by itself: for faults and for the admin endpoint."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec

from tidegate.adapters.localnet.accounts import Account, Accounts, touch_of
from tidegate.adapters.localnet.algo_orders import AlgoOrder
from tidegate.adapters.localnet.fault_catalogue import Param
from tidegate.adapters.localnet.fault_rules import check_params, nearest
from tidegate.adapters.localnet.market import LocalMarket
from tidegate.adapters.localnet.orders import Order, Places
from tidegate.domain.errors import ConfigError
from tidegate.domain.instrument import Instrument
from tidegate.domain.ledger import ZERO
from tidegate.domain.orders import FillCause, PositionSide, Side

_ACCOUNT: Mapping[str, Param] = {"key": "demo-key", "symbol": ""}
_ORDER: Mapping[str, Param] = {**_ACCOUNT, "client_id": "", "id": ""}
_PARTS: Mapping[str, Param] = {
    **_ORDER,
    "quantity": "1",
    "fills": 50,
    "dust": True,
    "every_s": 0.05,
    "fee_asset": "BNB",
    "answer": "",
}
_FILTERS = ("tick", "step", "min_qty", "max_qty", "market_max_qty", "min_notional")
_BNB_GIFT = Decimal(10)

ACTS: Mapping[str, Mapping[str, Param]] = MappingProxyType(
    {
        "deposit": {"key": "demo-key", "asset": "USDT", "amount": "1000"},
        "liquidate": _ACCOUNT,
        "partial_liquidation": _ACCOUNT,
        "adl": _ACCOUNT,
        "insurance": {**_ACCOUNT, "amount": "1"},
        "settle": _ACCOUNT,
        "fill": {**_ORDER, "frac": 1.0},
        "thin": _PARTS,
        "partial_fills": _PARTS,
        "trigger": _ORDER,
        "by_hand": {**_ACCOUNT, "mode": ("open", "close", "flip", "leverage"), "quantity": "", "leverage": 3},
        "expire_listen_key": {"key": "demo-key", "silent": False},
        "cancel_all": {"key": ""},
        "move_price": {"symbol": "", "by_frac": 0.0, "to": ""},
        "crash": {"symbol": "", "by_frac": -0.2},
        "set_filters": {"symbol": "", **dict.fromkeys(_FILTERS, "")},
        "set_status": {"symbol": "", "status": ("TRADING", "PENDING_TRADING", "SETTLING", "CLOSE")},
        "funding": {"symbol": "", "rate": 0.0, "interval_h": 8, "forced": True},
    }
)
"""Every act and its parameters with their defaults, as in the catalogue of faults. An empty ``symbol`` means the first
one in which the account holds something, or else the first that is listed; for ``crash`` and ``funding`` it means all.
An order is looked for by its ids in all symbols then.
"""


@dataclass(frozen=True, slots=True)
class _Given:
    """The parameters of one act: as given, or the defaults."""

    name: str
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        default = ACTS[self.name][name]
        return self.values.get(name, default[0] if isinstance(default, tuple) else default)

    def decimal(self, name: str) -> Decimal:
        """A parameter that is a decimal number. Raises ``ConfigError``."""
        try:
            return Decimal(str(self[name]))
        except ArithmeticError:
            raise ConfigError(f"{self.name}: {name} {self[name]} is not a number") from None


class VenueActs:
    """Carries out acts on the accounts and the market of one exchange."""

    def __init__(self, accounts: Accounts, market: LocalMarket) -> None:
        self._accounts = accounts
        self._market = market
        self._handlers: Mapping[str, Callable[[_Given], Awaitable[object]]] = {
            name: getattr(self, f"_{name}") for name in ACTS
        }

    async def act(self, name: str, params: Mapping[str, Any]) -> object:
        """Do it; the result says what was done, False when there was nothing to do it to.

        Raises ``ConfigError`` (one line) for an unknown act, parameter, account or symbol, ``ApiError`` when the
        exchange refuses.
        """
        if name not in ACTS:
            raise ConfigError(f"{name} is not an act; {nearest(name, (*ACTS, 'cut_streams'))}")
        check_params(params, ACTS[name], name, name)
        return await self._handlers[name](_Given(name, params))

    # ---- finding things -----------------------------------------------------------------------------------------

    def _account(self, given: _Given) -> Account:
        account = self._accounts.by_key(str(given["key"]))
        if account is None:
            raise ConfigError(f"{given.name}: no account has this key")
        return account

    def _symbol(self, given: _Given, account: Account | None = None) -> str:
        listed = list(self._market.symbols)
        if given["symbol"]:
            if given["symbol"] not in listed:
                raise ConfigError(f"{given.name}: {given['symbol']} is not listed; {nearest(given['symbol'], listed)}")
            return str(given["symbol"])
        held = [] if account is None else [name for name in listed if _held(account, name)]
        return (held or listed)[0]

    def _symbols(self, given: _Given) -> list[str]:
        return [self._symbol(given)] if given["symbol"] else list(self._market.symbols)

    def _instrument(self, symbol: str) -> Instrument:
        return self._market.symbols[symbol].instrument

    def _order(self, given: _Given, account: Account) -> Order | None:
        order_id = int(given["id"]) if given["id"] else None
        found = (account.orders.find(symbol, order_id, str(given["client_id"])) for symbol in self._symbols(given))
        return next((order for order in found if order is not None and order.open), None)

    def _stop(self, given: _Given, account: Account) -> AlgoOrder | None:
        if given["id"] or given["client_id"]:
            found = account.algo.find(int(given["id"]) if given["id"] else None, str(given["client_id"]))
            return found if found is not None and found.open else None
        waiting = account.algo.open_orders(self._symbol(given, account))
        return waiting[0] if waiting else None

    # ---- the account --------------------------------------------------------------------------------------------

    async def _deposit(self, given: _Given) -> object:
        self._account(given).deposit(str(given["asset"]), given.decimal("amount"))
        return True

    async def _liquidate(self, given: _Given) -> object:
        account = self._account(given)
        return account.take_over(self._symbol(given, account), FillCause.LIQUIDATION)

    async def _partial_liquidation(self, given: _Given) -> object:
        account = self._account(given)
        symbol = self._symbol(given, account)
        step = self._instrument(symbol).step
        half = max(step, abs(_held(account, symbol)) / 2 // step * step)
        return account.take_over(symbol, FillCause.LIQUIDATION, qty=half)

    async def _adl(self, given: _Given) -> object:
        account = self._account(given)
        return account.take_over(self._symbol(given, account), FillCause.DELEVERAGING)

    async def _insurance(self, given: _Given) -> object:
        account = self._account(given)
        account.exchange.deposit(given.decimal("amount"), account.clock.now_ns())
        return True

    async def _settle(self, given: _Given) -> object:
        account = self._account(given)
        symbol = self._symbol(given, account)
        self._market.set_status(symbol, "SETTLING")
        for each in self._accounts:
            each.settle(symbol)
        return symbol

    async def _expire_listen_key(self, given: _Given) -> object:
        account = self._account(given)
        keys = [name for name, entry in self._accounts.listen_keys.items() if entry.account is account]
        for name in keys:
            self._accounts.expire_listen_key(name, silent=bool(given["silent"]))
        return len(keys)

    async def _cancel_all(self, given: _Given) -> object:
        accounts = [self._account(given)] if given["key"] else list(self._accounts)
        return sum(account.cancel_all() + account.algo.cancel_all(None) for account in accounts)

    async def _by_hand(self, given: _Given) -> object:
        account = self._account(given)
        symbol = self._symbol(given, account)
        if given["mode"] == "leverage":
            account.set_leverage(symbol, int(given["leverage"]))
            return symbol
        held = _held(account, symbol)
        if given["mode"] == "close" and not held:
            return False
        qty = given.decimal("quantity") if given["quantity"] else self._hand_qty(symbol, held, str(given["mode"]))
        buys = held < 0 if given["mode"] in ("close", "flip") else held >= 0
        order = self._hand_order(account, symbol, Side.BUY if buys else Side.SELL, qty)
        return account.submit(order).answer()

    def _hand_qty(self, symbol: str, held: Decimal, mode: str) -> Decimal:
        if held and mode != "open":
            return abs(held) * (2 if mode == "flip" else 1)
        instrument, price = self._instrument(symbol), self._market.last(symbol)
        return max(instrument.min_qty, (2 * instrument.min_notional / price // instrument.step + 1) * instrument.step)

    def _hand_order(self, account: Account, symbol: str, side: Side, qty: Decimal) -> Order:
        leg = account.legs(symbol)[0]
        name = f"web_{account.ids.text(20)}"
        places = Places.of(self._market.symbols[symbol].info)
        at_ms = account.now_ms
        position_side = PositionSide.LONG if account.dual_side else PositionSide.BOTH
        number = account.ids.order()
        return Order(number, name, symbol, leg, side, position_side, "MARKET", "GTC", qty, ZERO, places, at_ms, at_ms)

    # ---- orders -------------------------------------------------------------------------------------------------

    async def _fill(self, given: _Given) -> object:
        """Fill a resting order, or ``frac`` of what is left of it, at its own price."""
        account = self._account(given)
        order = self._order(given, account)
        if order is None:
            return False
        step = self._instrument(order.symbol).step
        left = order.qty - order.executed
        self._meet(account, order, max(step, left * Decimal(str(given["frac"])) // step * step))
        return str(order.executed)

    def _meet(self, account: Account, order: Order, most: Decimal) -> None:
        """Let the market reach an order for a moment, for at most so much of each order that rests there."""
        touch = real = touch_of(self._market, order.symbol)
        if order.kind == "LIMIT":
            side = "ask" if order.side is Side.BUY else "bid"
            touch = dataclasses.replace(real, **{side: order.price})
        exchange = account.exchange
        before, exchange.most_per_touch = exchange.most_per_touch, most
        try:
            exchange.touch(order.instrument, touch, account.clock.now_ns())
        finally:
            exchange.most_per_touch = before
            exchange.see(order.instrument, real)

    async def _thin(self, given: _Given) -> object:
        """Let every order of the account fill in parts from now on, until ``partial_fills``; fees in BNB if wanted."""
        account = self._account(given)
        if given["fee_asset"] == "BNB" and "BNBUSDT" in self._market.symbols:
            account.fee_burn = True
            if not account.assets["BNB"]:
                account.deposit("BNB", _BNB_GIFT)
        part = self._part(given, self._symbol(given, account))
        account.exchange.most_per_touch = part
        return str(part)

    def _part(self, given: _Given, symbol: str) -> Decimal:
        step = self._instrument(symbol).step
        return max(step, given.decimal("quantity") / int(given["fills"]) // step * step)

    async def _partial_fills(self, given: _Given) -> object:
        """Fill an order part by part, then end what is left; with ``dust`` the last step of it is never filled."""
        account = self._account(given)
        answer = msgspec.json.decode(given["answer"]) if given["answer"] else {}
        order = account.orders.number(int(answer.get("orderId") or given["id"] or 0))
        try:
            if order is None:
                return False
            instrument = self._instrument(order.symbol)
            part, kept = self._part(given, order.symbol), instrument.step if given["dust"] else ZERO
            for _ in range(int(given["fills"])):
                if not order.open or order.qty - order.executed - kept <= 0:
                    break
                self._meet(account, order, min(part, order.qty - order.executed - kept))
                await asyncio.sleep(float(given["every_s"]))
            self._end(account, order)
            return str(order.executed)
        finally:
            account.exchange.most_per_touch = None

    def _end(self, account: Account, order: Order) -> None:
        if not order.open:
            return
        if order.kind == "MARKET":
            account.exchange.expire_order(order.instrument, order.core_id, "MARKET", account.clock.now_ns())
        else:
            account.cancel(order)

    async def _trigger(self, given: _Given) -> object:
        account = self._account(given)
        stop = self._stop(given, account)
        if stop is None:
            return False
        account.algo.trigger(stop)
        return stop.client_id

    # ---- the market ---------------------------------------------------------------------------------------------

    async def _move_price(self, given: _Given) -> object:
        symbol = self._symbol(given)
        by_frac = float(given["by_frac"])
        if given["to"]:
            by_frac = float(given.decimal("to") / self._market.last(symbol)) - 1.0
        return self._shift(given, symbol, by_frac)

    async def _crash(self, given: _Given) -> object:
        return [self._shift(given, symbol, float(given["by_frac"])) for symbol in self._symbols(given)]

    def _shift(self, given: _Given, symbol: str, by_frac: float) -> str:
        if by_frac <= -1.0:
            raise ConfigError(f"{given.name}: by_frac {by_frac} leaves no price")
        self._market.shift(symbol, by_frac)
        return str(self._market.last(symbol))

    async def _set_filters(self, given: _Given) -> object:
        changes = {name: given.decimal(name) for name in _FILTERS if given[name]}
        symbol = self._symbol(given)
        self._market.set_contract(symbol, changes)
        return symbol

    async def _set_status(self, given: _Given) -> object:
        symbol = self._symbol(given)
        self._market.set_status(symbol, str(given["status"]))
        return symbol

    async def _funding(self, given: _Given) -> object:
        if given["interval_h"] not in (1, 4, 8):
            raise ConfigError(f"funding: interval_h {given['interval_h']} is not 1, 4 or 8")
        for symbol in self._symbols(given):
            rate = float(given["rate"]) if given["forced"] else None
            self._market.set_funding(symbol, rate, int(given["interval_h"]))
        return self._symbols(given)


def _held(account: Account, symbol: str) -> Decimal:
    """What an account holds of a symbol: of the legs of a hedge the first that is held."""
    legs = (account.exchange.leg_margin(leg).qty for leg in account.legs(symbol))
    return next((qty for qty in legs if qty), ZERO)
