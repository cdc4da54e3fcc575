"""An independent reader of the local exchange: standard library alone, its own signatures, its own address.

It shares no code with the daemon or with localnet, and asks past the relay, from addresses of its own: so it
neither uses up the daemon's request weight nor suffers from its faults.
"""

import hashlib
import hmac
import http.client
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Any
from urllib.parse import urlencode

_KEY, _SECRET = "demo-key", b"demo-secret"
_OWN_ADDRESSES = 200
"""127.0.0.2 and on, in turn: no single one may ask as often as the judge does."""
_PATIENCE_S = 8.0
_MOST_ORDERS = 1_000


@dataclass(frozen=True)
class Stop:
    """A conditional order that rests at the venue; ``qty`` is signed, as it would trade."""

    symbol: str
    qty: Decimal
    client_id: str


@dataclass(frozen=True)
class Account:
    """What the venue says of the account: signed quantities by symbol, stops, ordinary open orders, the wallet."""

    positions: dict[str, Decimal]
    stops: tuple[Stop, ...]
    open_orders: tuple[str, ...]
    wallet_usdt: Decimal

    def unprotected(self) -> set[str]:
        """Symbols whose position is not covered in full by stops on the right side."""
        return {name for name, qty in self.positions.items() if self._covered(name, qty) < abs(qty)}

    def _covered(self, name: str, qty: Decimal) -> Decimal:
        return sum((abs(each.qty) for each in self.stops if each.symbol == name and each.qty * qty < 0), Decimal(0))


@dataclass
class VenueReader:
    """Asks one exchange on this machine."""

    port: int
    symbols: tuple[str, ...]
    _asked: count = field(default_factory=count)

    def up(self) -> bool:
        """Whether it answers."""
        try:
            self._get("/fapi/v1/ping", {}, signed=False)
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return True

    def account(self) -> Account:
        """One reading over signed REST. Raises ``OSError`` or ``ValueError`` when there is no answer."""
        held = self._get("/fapi/v3/positionRisk")
        algo = self._get("/fapi/v1/openAlgoOrders")
        ordinary = self._get("/fapi/v1/openOrders")
        balances = self._get("/fapi/v3/balance")
        return Account(
            {each["symbol"]: qty for each in held if (qty := Decimal(each["positionAmt"]))},
            tuple(
                Stop(
                    each["symbol"],
                    Decimal(each["quantity"]) * (1 if each["side"] == "BUY" else -1),
                    each["clientAlgoId"],
                )
                for each in algo
            ),
            tuple(each["clientOrderId"] for each in ordinary),
            next(Decimal(each["balance"]) for each in balances if each["asset"] == "USDT"),
        )

    def glance(self) -> Account:
        """Positions and stops from the admin page: quick, without weight, for a look several times a second."""
        books = self._get("/admin/books", {}, signed=False)[_KEY]
        return Account(
            {name: Decimal(qty) for name, qty in books["positions"].items()},
            tuple(
                Stop(
                    each["symbol"],
                    Decimal(each["quantity"]) * (1 if each["side"] == "BUY" else -1),
                    each["clientAlgoId"],
                )
                for each in books["open_algo_orders"]
            ),
            tuple(each["clientOrderId"] for each in books["open_orders"]),
            Decimal(books["wallet"]["USDT"]),
        )

    def repeated_ids(self) -> dict[str, int]:
        """Client order ids of ours that more than one order of the venue bears, ordinary and conditional."""
        seen: Counter[str] = Counter()
        for symbol in self.symbols:
            for path, name in (("/fapi/v1/allOrders", "clientOrderId"), ("/fapi/v1/allAlgoOrders", "clientAlgoId")):
                rows = self._get(path, {"symbol": symbol, "limit": _MOST_ORDERS})
                seen.update(f"{path} {each[name]}" for each in rows if each[name].startswith("p1-"))
        return {name: count for name, count in seen.items() if count > 1}

    def ask_public(self, path: str, **params: object) -> Any:
        """Market data."""
        return self._get(path, params, signed=False)

    def act(self, name: str, **params: object) -> Any:
        """Let the venue, or the market, do something by itself."""
        return self._send("/admin/act", {"act": name, "params": params})

    def fault(self, **rule: object) -> Any:
        """Put a fault of localnet's catalogue in force."""
        return self._send("/admin/faults", rule)

    def _get(self, path: str, params: dict[str, object] | None = None, *, signed: bool = True) -> Any:
        query = urlencode(params or {})
        if signed:
            query = urlencode({**(params or {}), "recvWindow": 30_000, "timestamp": time.time_ns() // 1_000_000})
            query += "&signature=" + hmac.new(_SECRET, query.encode(), hashlib.sha256).hexdigest()
        return self._ask("GET", f"{path}?{query}", None)

    def _send(self, path: str, body: object) -> Any:
        return self._ask("POST", path, json.dumps(body).encode())

    def _ask(self, method: str, target: str, body: bytes | None) -> Any:
        own = (f"127.0.0.{2 + next(self._asked) % _OWN_ADDRESSES}", 0)
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S, source_address=own)
        try:
            line.request(method, target, body, {"X-MBX-APIKEY": _KEY})
            answer = line.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise ValueError(f"{method} {target.partition('?')[0]}: {answer.status} {content[:200]!r}")
            return json.loads(content)
        finally:
            line.close()
