"""Rights and settings against a small venue over HTTP that is as contrary as the real one."""

import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tidegate.adapters.binance.clock import VenueClock
from tidegate.adapters.binance.limits import Governor
from tidegate.adapters.binance.rest import BinanceRest, open_session
from tidegate.adapters.binance.settings import (
    AccountSetup,
    Difference,
    KeyRights,
    SymbolSetup,
    read_hedge_mode,
    read_key_rights,
    read_multi_assets,
)
from tidegate.adapters.binance.signing import HmacSigner
from tidegate.domain.secret import Secret


class Account:
    """Settings behind REST; ``stubborn`` names what refuses to change, ``answers`` overrides a path."""

    def __init__(self) -> None:
        self.dual = False
        self.symbols = {name: {"marginType": "CROSSED", "leverage": 20} for name in ("BTCUSDT", "ETHUSDT")}
        self.stubborn: dict[str, int] = {}
        self.answers: dict[str, tuple[int, Any]] = {}
        self.posts: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        if request.path in self.answers:
            status, body = self.answers[request.path]
            return web.json_response(body, status=status)
        setting = request.path.rsplit("/", 1)[1]
        if request.method == "POST":
            return self.change(setting, dict(request.query))
        body = {
            "time": {"serverTime": 1_700_000_000_000},
            "accountConfig": {"dualSidePosition": self.dual, "multiAssetsMargin": False, "canTrade": True, "new": 1},
            "dual": {"dualSidePosition": self.dual},
            "multiAssetsMargin": {"multiAssetsMargin": False},
            "symbolConfig": [
                {"symbol": name, "isAutoAddMargin": False, "maxNotionalValue": "1000000", **config}
                for name, config in self.symbols.items()
                if request.query.get("symbol", name) == name
            ],
        }
        return web.json_response(body[setting])

    def change(self, setting: str, query: dict[str, str]) -> web.Response:
        self.posts.append(f"{setting} {query.get('symbol', '')}".strip())
        if setting in self.stubborn:
            return web.json_response({"code": self.stubborn[setting], "msg": "No need to change."}, status=400)
        if setting == "dual":
            self.dual = query["dualSidePosition"] == "true"
        elif setting == "marginType":
            self.symbols[query["symbol"]]["marginType"] = query["marginType"]
        else:
            self.symbols[query["symbol"]]["leverage"] = int(query["leverage"])
        return web.json_response({"code": 200, "msg": "success"})


@pytest.fixture
async def venue() -> AsyncIterator[tuple[Account, BinanceRest]]:
    account = Account()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", account.handle)
    async with TestServer(app) as server, open_session() as session:
        clock = VenueClock(time.monotonic_ns)
        clock.sample(time.monotonic_ns(), time.monotonic_ns(), 1_700_000_000_000)
        url = str(server.make_url("")).rstrip("/")
        signer = HmacSigner("key", Secret("secret"))
        yield account, BinanceRest(url, session, clock, Governor(clock), signer, random.Random(1))


WISH = [SymbolSetup("BTCUSDT", 5, "ISOLATED"), SymbolSetup("ETHUSDT", 20, "CROSSED")]


async def test_differences_are_shown_and_nothing_is_changed(venue: tuple[Account, BinanceRest]) -> None:
    account, rest = venue
    state = await AccountSetup(rest).read(["BTCUSDT", "ETHUSDT", "NEWUSDT"])
    wish = [*WISH, SymbolSetup("NEWUSDT", 1, "CROSSED")]
    assert [str(each) for each in state.differences(wish, hedge_mode=True)] == [
        "position_mode: is one-way, wished hedge",
        "BTCUSDT margin_type: is CROSSED, wished ISOLATED",
        "BTCUSDT leverage: is 20, wished 5",
        "NEWUSDT margin_type: is not listed, wished CROSSED",
        "NEWUSDT leverage: is not listed, wished 1",
    ]
    assert not account.posts
    assert await read_hedge_mode(rest) is False
    assert await read_multi_assets(rest) is False


async def test_apply_changes_what_differs_and_only_that(venue: tuple[Account, BinanceRest]) -> None:
    account, rest = venue
    assert await AccountSetup(rest).apply(WISH, hedge_mode=True) == []
    assert account.posts == ["dual", "marginType BTCUSDT", "leverage BTCUSDT"]
    assert await AccountSetup(rest).apply(WISH, hedge_mode=True) == []
    assert len(account.posts) == 3, "a second time there is nothing to do"


@pytest.mark.parametrize("code", [-4046, -4067, -4048, -9999])
async def test_what_is_read_back_decides_not_the_text(venue: tuple[Account, BinanceRest], code: int) -> None:
    account, rest = venue
    account.stubborn = {"marginType": code}
    (left,) = await AccountSetup(rest).apply(WISH, hedge_mode=False)
    assert (left.symbol, left.setting, left.actual) == ("BTCUSDT", "margin_type", "CROSSED")
    assert str(code) in (left.refusal or "")
    assert account.symbols["BTCUSDT"]["leverage"] == 5, "the other settings are still made"


async def test_one_symbol_is_asked_for_alone(venue: tuple[Account, BinanceRest]) -> None:
    state = await AccountSetup(venue[1]).read(["ETHUSDT"])
    assert set(state.symbols) == {"ETHUSDT"}
    assert state.differences([SymbolSetup("ETHUSDT", 3, "CROSSED")], hedge_mode=False) == [
        Difference("ETHUSDT", "leverage", "3", "20")
    ]


async def test_a_right_that_is_missing_is_not_readable_rather_than_false(venue: tuple[Account, BinanceRest]) -> None:
    account, rest = venue
    path = "/sapi/v1/account/apiRestrictions"
    account.answers[path] = 200, {"ipRestrict": True, "enableFutures": True, "enableReading": False, "later": 1}
    rights = await read_key_rights(rest)
    assert (rights.ip_restrict, rights.enable_futures, rights.enable_reading) == (True, True, False)
    assert rights.enable_withdrawals is None
    assert rights.unreadable is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"code": -2008, "msg": "Invalid Api-Key ID."}),
        (401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}),
        (404, "nothing here"),
        (200, {"enableWithdrawals": "false"}),
        (200, []),
    ],
)
async def test_rights_that_cannot_be_read_say_so(venue: tuple[Account, BinanceRest], status: int, body: Any) -> None:
    account, rest = venue
    account.answers["/sapi/v1/account/apiRestrictions"] = status, body
    rights = await read_key_rights(rest)
    assert rights.unreadable
    assert rights == KeyRights(unreadable=rights.unreadable)
