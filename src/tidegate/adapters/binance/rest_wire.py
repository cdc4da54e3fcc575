"""The transport below ``rest``: one request on its way, what came back, and the line between sent and not sent."""

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
from yarl import URL

from tidegate.domain.errors import ConfigError

_KEEPALIVE_S: Final = 55.0
_DNS_CACHE_S: Final = 600
_CONNECTIONS: Final = 32


@dataclass(slots=True, eq=False)
class Wire:
    """One request on its way. Its repr shows no query and no header: a traceback with locals may print it.

    ``sent_ns`` and ``received_ns`` are monotonic; ``sent_ns`` is None while not a byte has been handed over.
    """

    method: str
    path: str
    url: URL = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    monotonic_ns: Callable[[], int] = field(repr=False)
    sent_ns: int | None = None
    received_ns: int = 0


@dataclass(slots=True)
class Answer:
    """What came back, whole; ``failure`` instead when nothing whole did."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    failure: str | None = None


class _SentTwice(Exception):
    """The transport was about to repeat a request by itself; not a byte of the repeat has left."""


class SendTrace(aiohttp.TraceConfig):
    """Notes the moment before the first byte of a request is handed over, and stops a repeat by the transport.

    aiohttp sends GET, PUT and DELETE again by itself when a kept connection turns out dead: a second amendment, and
    weight that nobody counted. The signal comes while the headers are still in its own buffer, so raising here keeps
    every byte of the repeat back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_request_headers_sent.append(self._note)
        self.freeze()

    @staticmethod
    async def _note(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
        wire = context.trace_request_ctx
        if not isinstance(wire, Wire):
            return
        if wire.sent_ns is not None:
            raise _SentTwice
        wire.sent_ns = wire.monotonic_ns()


def open_session(connector: aiohttp.BaseConnector | None = None) -> aiohttp.ClientSession:
    """A session fit for trading: kept connections, no cookies, no proxy and no netrc from the environment."""
    if connector is None:
        connector = aiohttp.TCPConnector(keepalive_timeout=_KEEPALIVE_S, limit=_CONNECTIONS, ttl_dns_cache=_DNS_CACHE_S)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        headers={"User-Agent": "tidegate"},
    )


def watch(session: aiohttp.ClientSession) -> None:
    """Have ``session`` note what it sends. Without this no outcome could be told from another."""
    if not any(isinstance(each, SendTrace) for each in session.trace_configs):
        session.trace_configs.append(SendTrace())


async def transfer(session: aiohttp.ClientSession, wire: Wire, timeout_s: float) -> Answer:
    """Move the bytes of one request and of its answer; ``session`` is a watched one.

    Whatever fails is told by its type only, and nothing of it is chained: the library's texts hold the url with the
    signature, and its frames hold the headers with the key. When cancelled, the request may or may not have gone.
    """
    status = 0
    try:
        async with session.request(
            wire.method,
            wire.url,
            headers=wire.headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            trace_request_ctx=wire,
        ) as response:
            status = response.status
            return Answer(status, response.headers, await response.read())
    except TimeoutError:
        return Answer(status, failure=f"no answer in {timeout_s:g} s")
    except _SentTwice:
        return Answer(status, failure="the connection was closed after the request had been handed over")
    except Exception as error:  # a closed session, a defect of the library: none of it may pass with its locals
        return Answer(status, failure=_in_short(error))
    finally:
        wire.received_ns = wire.monotonic_ns()


def check_base_url(url: str, live: bool) -> str:
    """``url`` without a closing slash. Raises ``ConfigError`` unless it is https, or plain http to this machine
    (never when ``live``), with nothing in it but scheme, host and port."""
    shown = repr(url) if "@" not in url else "with a user or password in it"
    found: URL | None = None
    try:
        found = URL(url)
        complete = bool(found.host) and found.port is not None and found.scheme in ("http", "https")
    except ValueError:
        complete = False
    if found is None or not complete:
        raise ConfigError(f"base url {shown}: not an http or https address; the nearest right thing is https://HOST")
    if found.user or found.password or found.raw_path not in ("", "/") or found.raw_query_string or found.raw_fragment:
        raise ConfigError(f"base url {shown}: only scheme, host and port may stand in it")
    if found.scheme == "http" and live:
        raise ConfigError(f"base url {shown}: plain http is never used for live trading; use https://{found.authority}")
    if found.scheme == "http" and not _loopback(found.host or ""):
        raise ConfigError(f"base url {shown}: plain http goes to this machine only; use https://{found.authority}")
    return str(found.origin())


def _in_short(error: BaseException) -> str:
    """A transport failure without its text."""
    name = type(error).__name__
    number = error.errno if isinstance(error, OSError) else None
    return f"{name} ({os.strerror(number)})" if number else name


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
