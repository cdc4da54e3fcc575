"""No secret in any sink: a canary signs a whole run through bad days and a crash, and then everything is searched.

The daemon and the local exchange run in this process over loopback, every log at DEBUG, with the key in the
environment. Searched is what they wrote, said and would show; and in every sink a planted leak is found.
"""

import asyncio
import base64
import io
import json
import logging
import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import structlog
from rich.console import Console
from rich.traceback import Traceback

from tidegate.adapters.binance.rest import Call
from tidegate.adapters.binance.signing import HmacSigner
from tidegate.adapters.localnet.admin import books_of
from tidegate.adapters.localnet.fault_rules import fault_of
from tidegate.adapters.localnet.market import MarketConfig
from tidegate.adapters.localnet.server import LocalExchange, LocalnetConfig
from tidegate.adapters.system.clock import SystemClock
from tidegate.adapters.system.credentials import Environment
from tidegate.app.bootstrap_live import World, live_parts, open_access
from tidegate.app.config import Settings
from tidegate.app.control import ask
from tidegate.app.live import LiveParts, run_live
from tidegate.app.observability import RecordLog, alert_log, configure_logging, get_logger
from tidegate.domain.messages import Alert, Severity
from tidegate.domain.secret import Secret
from tidegate.kernel.lifecycle import State

KEY, SECRET = "Canary/Key+4f1d9c==yellow", "canary secret/&=+%7b3e-sings"
SINKS = (
    "stderr", "stdout", "logging", "journal", "alerts", "settings", "objects", "status", "traceback", "rich traceback",
)  # fmt: skip

STRATEGY = '''
from tidegate import BaseStrategy, Signal, View


class Falling(BaseStrategy):
    """Falls over with something in its hands."""

    def decide(self, view: View) -> Signal:
        held = {"bar": view.bar}
        raise RuntimeError(f"cannot decide about {held}")
'''


def forms(text: str) -> set[str]:
    """A text as it could stand somewhere: raw, percent-encoded, in JSON, base64, hex."""
    raw = text.encode()
    inner = base64.b64encode(raw).decode().rstrip("=")
    encoded = {quote(text), quote(text, safe=""), quote_plus(text), json.dumps(text)[1:-1], repr(text)[1:-1]}
    return {text, *encoded, inner, base64.urlsafe_b64encode(raw).decode().rstrip("="), raw.hex(), raw.hex().upper()}


def leaks(content: str, secrets: set[str]) -> list[str]:
    """What of the secrets stands in a text, in whatever form, across the line breaks of a renderer too."""
    lines = content.splitlines()
    seen = content, "".join(lines), "".join(line.strip(" │") for line in lines)
    return sorted({form for secret in secrets for form in forms(secret) if any(form in each for each in seen)})


@dataclass
class Evidence:
    """Everything that could be seen, by sink, and everything that must not be."""

    sinks: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=lambda: {KEY, SECRET})
    injected: dict[str, int] = field(default_factory=dict)


@contextmanager
def heard(evidence: Evidence) -> Iterator[None]:
    """All output of the process, every logger at DEBUG, and every signature that is made."""
    out, err, logged = io.StringIO(), io.StringIO(), io.StringIO()
    root, handler = logging.getLogger(), logging.StreamHandler(logged)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    level, signs, plain = root.level, HmacSigner.sign, HmacSigner.sign_plain

    def sign(self: HmacSigner, payload: bytes) -> str:
        evidence.secrets.add(signature := signs(self, payload))
        return signature

    def sign_plain(self: HmacSigner, payload: bytes) -> str:
        evidence.secrets.add(signature := plain(self, payload))
        return signature

    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(HmacSigner, "sign", sign)
        patch.setattr(HmacSigner, "sign_plain", sign_plain)
        configure_logging("debug", "json")
        try:
            yield
        finally:
            structlog.reset_defaults()
            root.removeHandler(handler)
            root.setLevel(level)
    evidence.sinks |= {"stdout": out.getvalue(), "stderr": err.getvalue(), "logging": logged.getvalue()}


class Crash:
    """Raises beside an exchange with the venue, once armed; ``held`` is what it has in its hands then."""

    def __init__(self, held: str) -> None:
        self.armed, self._held = False, held

    def __call__(self, call: Call) -> None:
        """As ``World.on_call``."""
        if self.armed:
            in_hand = self._held
            raise RuntimeError(f"a defect beside {call.method} {call.path}, {len(in_hand)} characters in hand")


class Story:
    """One run: a position is adopted, its stop and its end go through faults, and then something breaks.

    With ``leaky`` a secret is put into every sink on the way, each in another form.
    """

    def __init__(self, folder: Path, order_entry: str, *, leaky: bool) -> None:
        self.evidence = Evidence()
        self._folder, self._order_entry, self._leaky = folder, order_entry, leaky
        self._alerts: list[Alert] = []
        self._crash = Crash(SECRET if leaky else "")

    async def run(self) -> None:
        """All of it."""
        async with AsyncExitStack() as stack:
            self._exchange = LocalExchange(
                LocalnetConfig(MarketConfig(7, history_bars=50)), SystemClock(), random.Random(7)
            )
            stack.push_async_callback(self._exchange.close)
            self._exchange.market.prepare()
            self._account = self._exchange.accounts.add(KEY, Secret(SECRET))
            port = await self._exchange.start()
            await self._exchange.faults.act("by_hand", {"key": KEY, "symbol": "SOLUSDT", "quantity": "5"})
            for each in self._faults():
                self._exchange.faults.add(fault_of(each, "canary"))
            await self._trade(self._settings(port))
            self.evidence.injected = dict(self._exchange.faults.injected)

    def _faults(self) -> list[dict[str, Any]]:
        always = [
            {"fault": "N05", "on": "listen_key", "count": 1, "params": {"where": "response"}},
            {"fault": "N06", "on": "account", "count": 1, "params": {"mode": "html"}},
            {"fault": "V08", "on": "order", "count": 1, "params": {"code": -1000}},
        ]
        over_rest = [
            {"fault": "N05", "on": "cancel", "count": 1, "params": {"where": "after"}},
            {"fault": "N06", "on": "algo", "count": 1, "params": {"mode": "gzip"}},
        ]
        return [*always, *(over_rest if self._order_entry == "rest" else [])]

    def _settings(self, port: int) -> Settings:
        strategy = self._folder / "falling.py"
        strategy.write_text(STRATEGY)
        return Settings.model_validate(
            {
                "mode": "testnet",
                "account": "canary",
                "symbols": ["BTCUSDT", "SOLUSDT"],
                "timeframe": "1m",
                "strategies": [{"class": f"{strategy}:Falling", "symbols": ["BTCUSDT"]}],
                "venue": {"rest": f"http://127.0.0.1:{port}", "order_entry": self._order_entry},
                "positions": {"adopt": ["SOLUSDT"]},
                "state": {"dir": str(self._folder / (SECRET.encode().hex() if self._leaky else "state"))},
                "logging": {"level": "debug"},
            }
        )

    async def _trade(self, settings: Settings) -> None:
        names = {"TIDEGATE_BINANCE_TESTNET_KEY": KEY, "TIDEGATE_BINANCE_TESTNET_SECRET": SECRET}
        world = World(environment=Environment(names), on_call=self._crash)
        tell = alert_log(get_logger())

        def alerted(alert: Alert) -> None:
            self._alerts.append(alert)
            tell(alert)

        async with AsyncExitStack() as stack:
            access = await stack.enter_async_context(open_access(settings, "testnet", world))
            parts = await stack.enter_async_context(live_parts(settings, "testnet", world, alerted))
            log = RecordLog(get_logger(), alerts=False)
            running = asyncio.ensure_future(run_live(parts, observers=[log], on_alert=alerted))
            await self._until(lambda: parts.kernel.state is State.READY and self._stops(), running)
            if self._leaky:
                await self._leak(parts, alerted)
            await asyncio.to_thread(ask, parts.state, "flatten")
            await self._until(lambda: not self._held() and not self._stops(), running)
            self._sink("status", json.dumps(await asyncio.to_thread(ask, parts.state, "status")))
            self._crash.armed = True
            await asyncio.to_thread(ask, parts.state, "kill")  # it reads the account at once
            self._show_crash(await _broken(running))
            shown = [world, access, access.rest, access.signer, access.spot, parts, parts.connections, running]
            shown += [parts.connections.venue, parts.connections.feed, parts.kernel, parts.journal]
            shown += [vars(each) for each in (access.rest, access.signer, parts.connections.venue)]
            self._sink("objects", "\n".join(map(repr, shown)))
        self._sink("settings", f"{settings!r}\n{settings}\n{json.dumps(settings.as_dict())}")
        self._sink("alerts", "\n".join(f"{each!r}\n{each.text}" for each in self._alerts))
        files = b"".join(path.read_bytes() for path in sorted(parts.state.rglob("*")) if path.is_file())
        self._sink("journal", files.decode("utf-8", "backslashreplace"))

    async def _leak(self, parts: LiveParts, alerted: Callable[[Alert], None]) -> None:
        """What the state folder's name, a crash's locals, and these do not put into a sink, nothing does."""
        print(quote(SECRET))
        logging.getLogger("aiohttp.client").debug("> X-MBX-APIKEY: %s", KEY)
        alerted(Alert(Severity.WARNING, "leak", f"signed {min(self.evidence.secrets - {KEY, SECRET})}", 1))
        inner = base64.b64encode(KEY.encode()).decode()
        await asyncio.to_thread(ask, parts.state, "pause", {"detail": f"Basic {inner}"})

    def _show_crash(self, error: BaseException) -> None:
        """As a debugger, a crash reporter or a shell with pretty tracebacks would: with every frame's locals."""
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        self._sink("traceback", "".join(told.format()))
        page = io.StringIO()
        shown = Traceback.from_exception(
            type(error), error, error.__traceback__, show_locals=True, locals_max_length=None, locals_max_string=None
        )
        Console(file=page, width=2000).print(shown)
        self._sink("rich traceback", page.getvalue())

    def _sink(self, name: str, content: str) -> None:
        self.evidence.sinks[name] = content

    def _stops(self) -> bool:
        return bool(self._account.algo.open_orders())

    def _held(self) -> bool:
        return bool(books_of(self._account)["positions"])

    async def _until(self, reached: Callable[[], bool], running: "asyncio.Future[Any]") -> None:
        ends_s = asyncio.get_running_loop().time() + 90.0
        while not reached():
            assert not running.done(), running
            assert asyncio.get_running_loop().time() < ends_s, [each.text for each in self._alerts]
            await asyncio.sleep(0.05)


async def _broken(running: "asyncio.Future[Any]") -> BaseException:
    async with asyncio.timeout(60):
        try:
            await running
        except RuntimeError as error:
            return error
    raise AssertionError("it did not break")


def told(folder: Path, order_entry: str, *, leaky: bool = False) -> Evidence:
    """The whole story, and what could be seen of it."""
    story = Story(folder, order_entry, leaky=leaky)
    with heard(story.evidence):
        asyncio.run(story.run())
    return story.evidence


@pytest.fixture(scope="module", params=["rest", "websocket"])
def evidence(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))
        return told(tmp_path_factory.mktemp("canary"), request.param)


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))
        return told(tmp_path_factory.mktemp("leaky"), "rest", leaky=True)


@pytest.mark.parametrize("sink", SINKS)
def test_no_secret_is_in_any_sink(evidence: Evidence, sink: str) -> None:
    assert leaks(evidence.sinks[sink], evidence.secrets) == []


def test_the_canary_has_sung_and_the_sinks_were_used(evidence: Evidence) -> None:
    assert {"N05", "N06", "V08"} <= set(evidence.injected)
    assert len(evidence.secrets) > 12, "every signature is a secret"
    assert evidence.sinks["stdout"] == "", "there was nothing to say"
    assert {sink for sink in SINKS if not evidence.sinks[sink]} == {"stdout"}
    assert "order.filled" in evidence.sinks["stderr"]
    assert "tidegate.adapters.localnet" in evidence.sinks["logging"]
    assert "/fapi/v1/openOrders" in evidence.sinks["logging"]
    assert "switched off" in evidence.sinks["alerts"]
    for name in ("traceback", "rich traceback"):
        assert "a defect beside GET" in evidence.sinks[name]
        assert "wire" in evidence.sinks[name], "the frame that holds the request is shown"


@pytest.mark.parametrize("sink", SINKS)
def test_a_leak_that_was_planted_in_a_sink_is_found(leaky: Evidence, sink: str) -> None:
    assert leaks(leaky.sinks[sink], leaky.secrets) != []


@pytest.mark.parametrize("secret", [KEY, SECRET, "5f4dcc3b5aa765d61d8327deb882cf99"])
def test_every_form_of_a_secret_is_found(secret: str) -> None:
    for form in forms(secret):
        assert leaks(f"GET /fapi/v1/order?a={form}&b=1", {secret}) != []
        assert leaks(f"{form[:7]}\n{form[7:]}", {secret}) != [], "broken by a renderer"
    assert leaks("nothing to see here", {secret}) == []
