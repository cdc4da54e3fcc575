"""What every client script needs: it runs the checks one by one and prints a JSON line for each. Standard library only.

A script is started as ``python client.py http://127.0.0.1:PORT`` in the client's own environment; whatever else it
prints is not read. A check that raises has failed, with the text of what it raised; those after it still run.
"""

import asyncio
import inspect
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_DOWN, Decimal
from importlib.metadata import version
from typing import Any

KEY, SECRET = "demo-key", "demo-secret"
SYMBOL = "BTCUSDT"
QTY = 0.01
EVENT_S = 10.0
BUSY_S = 2.0


class Disagreement(Exception):
    """What the client saw is not what a user of it is entitled to see."""


def expect(holds: object, what: object) -> None:
    """Raises ``Disagreement`` unless ``holds``. ``what`` says what was seen."""
    if not holds:
        raise Disagreement(str(what)[:400])


async def run_checks(package: str, checks: Mapping[str, Callable[[], Any]]) -> None:
    """Run the checks by the names of their capabilities, in order. A check may be a coroutine function; what it
    returns is told as its detail."""
    _say(version=version(package))
    for capability, check in checks.items():
        try:
            done = check()
            detail = await asyncio.wait_for(done, 40.0) if inspect.isawaitable(done) else done
            _say(capability=capability, passed=True, detail=str(detail or ""))
        except Exception as error:  # of any client's making: the next check has its own chance
            _say(capability=capability, passed=False, detail=_told(error))


def _told(error: BaseException) -> str:
    code, said = getattr(error, "error_code", ""), getattr(error, "error_message", "")
    return " ".join(f"{type(error).__name__} {code} {said or error}".split())[:400]


def _say(**record: object) -> None:
    print(json.dumps(record), flush=True)


def address() -> str:
    """Where the exchange is: ``127.0.0.1:PORT``."""
    return sys.argv[1].removeprefix("http://")


def admin(method: str, path: str, body: object = None) -> Any:
    """A call of localnet's admin endpoint, which belongs to the test and not to the client."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address()}/admin/{path}", data, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


async def until(seen: Callable[[], Any], what: str, within_s: float = EVENT_S) -> Any:
    """Wait until ``seen`` gives something true, and return it. Raises ``Disagreement`` that names what is missing."""
    end = time.monotonic() + within_s
    while not (found := seen()):
        expect(time.monotonic() < end, f"{what}: not seen within {within_s:g} s")
        await asyncio.sleep(0.02)
    return found


def below(price: object, frac: float) -> float:
    """A price that much below another one, on BTCUSDT's grid of 0.1: a bid that rests, or a stop that waits."""
    return float((Decimal(str(price)) * Decimal(str(1 - frac))).quantize(Decimal("0.1"), ROUND_DOWN))


def missing(wanted: Iterable[str], there: Iterable[str]) -> str:
    """A text that names what is wanted and not there; empty when nothing is."""
    absent = sorted(set(wanted) - set(there))
    return f"missing {', '.join(absent)}" if absent else ""


async def rate_limited(call: Callable[[], Any], is_limit: Callable[[Exception], bool]) -> str:
    """The exchange answers 429 for a while: the client must say so as its own error of that kind, and work again
    afterwards. ``call`` is any request of the client; it may be a coroutine function."""

    async def ask() -> None:
        answer = call()
        if inspect.isawaitable(answer):
            await answer

    admin("POST", "faults", {"fault": "V09", "params": {"retry_after_s": BUSY_S, "patience": -1, "header": True}})
    try:
        raised: Exception | None = None
        try:
            await ask()
        except Exception as error:
            raised = error
        expect(raised is not None, "no error while the exchange answered 429")
        assert raised is not None
        expect(is_limit(raised), f"429 was raised as {_told(raised)}")
        await asyncio.sleep(BUSY_S + 0.3)
        await ask()
    finally:
        admin("DELETE", "faults")
    return f"{type(raised).__name__}, then served again"
