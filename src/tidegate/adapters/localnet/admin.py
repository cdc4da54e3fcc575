"""The admin side of localnet, for this machine only: put faults in force, make the venue act, read its own books."""

from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from ipaddress import ip_address
from typing import Any

import msgspec
from aiohttp import web

from tidegate.adapters.localnet.accounts import Account, Accounts
from tidegate.adapters.localnet.errors import ApiError
from tidegate.adapters.localnet.fault_catalogue import CATALOGUE
from tidegate.adapters.localnet.fault_rules import fault_of, nearest
from tidegate.adapters.localnet.faults import Faults
from tidegate.adapters.localnet.market import LocalMarket
from tidegate.adapters.localnet.venue_acts import ACTS, VenueActs
from tidegate.domain.errors import ConfigError
from tidegate.domain.ledger import ZERO

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Admin:
    """The admin endpoints of one exchange; making it binds its acts to ``faults``.

    ``POST /admin/faults`` one fault or a list; ``GET /admin/faults`` the rules, the counts and the catalogue;
    ``DELETE /admin/faults[?fault=ID]``; ``POST /admin/act`` ``{"act": name, "params": {...}}``; ``GET /admin/books``.
    """

    def __init__(self, faults: Faults, accounts: Accounts, market: LocalMarket) -> None:
        self._faults = faults
        self._accounts = accounts
        self._acts = VenueActs(accounts, market)
        faults.bind(self._acts.act)

    def routes(self) -> list[web.RouteDef]:
        """To be added to the application before its catch-all."""
        return [
            web.post("/admin/faults", _guarded(self._add)),
            web.get("/admin/faults", _guarded(self._list)),
            web.delete("/admin/faults", _guarded(self._clear)),
            web.post("/admin/act", _guarded(self._act)),
            web.get("/admin/books", _guarded(self._books)),
        ]

    async def _add(self, request: web.Request) -> web.StreamResponse:
        raw = await _json(request)
        wanted = raw if isinstance(raw, list) else [raw]
        faults = [fault_of(each, f"fault {number}") for number, each in enumerate(wanted, 1)]
        return _answer([self._faults.add(fault).number for fault in faults])

    async def _list(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        shown = ("title", "how", "on", "params")
        catalogue = {
            name: {"layer": kind.layer.value, **{key: getattr(kind, key) for key in shown}}
            for name, kind in CATALOGUE.items()
        }
        injected = dict(sorted(self._faults.injected.items()))
        told = {"rules": self._faults.report(), "injected": injected, "errors": self._faults.errors}
        return _answer({**told, "catalogue": catalogue})

    async def _clear(self, request: web.Request) -> web.StreamResponse:
        name = request.query.get("fault")
        if name is not None and name not in CATALOGUE:
            raise ConfigError(f"{name} is not a fault; {nearest(name, CATALOGUE)}")
        return _answer({"cleared": self._faults.clear(name)})

    async def _act(self, request: web.Request) -> web.StreamResponse:
        raw = await _json(request)
        if not isinstance(raw, dict) or not isinstance(raw.get("act"), str) or set(raw) - {"act", "params"}:
            raise ConfigError(f'an act is {{"act": name, "params": {{...}}}}; there are {", ".join(ACTS)}')
        params = raw.get("params", {})
        if not isinstance(params, dict):
            raise ConfigError("params is a mapping of names to values")
        done = await self._faults.act(raw["act"], params)
        return _answer({"act": raw["act"], "done": done})

    async def _books(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        return _answer({account.key: books_of(account) for account in self._accounts})


def books_of(account: Account) -> dict[str, Any]:
    """The venue's own view of an account, to judge clients by: every fill by client id, what is held, and where money
    came from. Amounts are decimal texts."""
    fills: dict[str, list[dict[str, Any]]] = {}
    for trade in account.trades:
        row = {name: _plain(getattr(trade, name)) for name in trade.__slots__ if name != "client_id"}
        fills.setdefault(trade.client_id, []).append(row)
    income: dict[str, dict[str, Decimal]] = {}
    for line in account.income:
        sums = income.setdefault(line.kind, {})
        sums[line.asset] = sums.get(line.asset, ZERO) + line.amount
    legs = [leg for symbol in account.prices.symbols for leg in account.legs(symbol)]
    held = {leg: account.exchange.leg_margin(leg).qty for leg in legs}
    return {
        "wallet": {"USDT": str(account.exchange.wallet), **{name: str(held) for name, held in account.assets.items()}},
        "positions": {leg: str(qty) for leg, qty in held.items() if qty},
        "fills": fills,
        "placed": Counter(order.client_id for order in account.orders.all()),
        "open_orders": [order.row() for order in account.orders.open_orders()],
        "open_algo_orders": [
            {"algoId": order.algo_id, "clientAlgoId": order.client_id, "symbol": order.symbol, "side": order.side.value,
             "type": order.kind, "triggerPrice": str(order.trigger), "quantity": str(order.qty),
             "reduceOnly": order.reduce_only, "closePosition": order.close_position}
            for order in account.algo.open_orders()
        ],
        "income": {kind: {asset: str(amount) for asset, amount in sums.items()} for kind, sums in income.items()},
    }  # fmt: skip


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else getattr(value, "value", value)


def _answer(content: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")


async def _json(request: web.Request) -> Any:
    try:
        return msgspec.json.decode(await request.read())
    except msgspec.DecodeError as error:
        raise ConfigError(f"the body is not JSON: {error}") from None


def _guarded(handler: _Handler) -> _Handler:
    """Only for this machine, and not for a page in its browser; mistakes are answered in one line."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if not _is_local(request.remote) or "Origin" in request.headers:
            return _answer({"error": "the admin endpoint answers this machine only"}, 403)
        try:
            return await handler(request)
        except (ConfigError, LookupError, ValueError) as error:
            return _answer({"error": str(error)}, 400)
        except ApiError as error:
            return _answer({"error": error.msg, "code": error.code}, 400)

    return handle


def _is_local(remote: str | None) -> bool:
    try:
        return remote is not None and ip_address(remote).is_loopback
    except ValueError:
        return False
