"""The settings of the live path: where the venue is, whose key trades there, and what may be taken over.

No secret is a setting: files and environment variables hold them, and only their places are named here.
"""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from tidegate.app.config_fields import Real, Section, Whole, normalise_symbol
from tidegate.domain.ids import InstrumentId

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Endpoints(Section):
    """The addresses of one venue."""

    rest: str
    streams: str
    ws_api: str
    rights: str | None


DEFAULT_ENDPOINTS = {
    "live": Endpoints(
        rest="https://fapi.binance.com",
        streams="wss://fstream.binance.com",
        ws_api="wss://ws-fapi.binance.com/ws-fapi/v1",
        rights="https://api.binance.com",
    ),
    "testnet": Endpoints(
        rest="https://demo-fapi.binance.com",
        streams="wss://demo-fstream.binance.com",
        ws_api="wss://testnet.binancefuture.com/ws-fapi/v1",
        rights=None,
    ),
}
"""Where each mode trades unless the configuration says otherwise; paper reads the public data of the live venue."""


class ContractSettings(Section):
    """How one contract is set at the venue, where that differs from all the others."""

    leverage: Whole | None = Field(default=None, ge=1, le=125)
    margin_type: Literal["cross", "isolated"] | None = None


class VenueSettings(Section):
    """The venue. An address of null is the mode's own; of a local exchange only ``rest`` need be given.

    ``leverage``, ``margin_type`` and ``position_mode`` say how the account is meant to be set: ``tidegate account
    setup`` sets it, the daemon only compares. ``dead_man_s`` is the venue's countdown that cancels all ordinary
    orders when we stop renewing it. ``audit_busy_s`` and ``audit_idle_s``: how often ours and the venue's are compared
    with something open, and with nothing.
    """

    rest: str | None = None
    streams: str | None = None
    ws_api: str | None = None
    rights: str | None = None
    routed: bool = True
    order_entry: Literal["rest", "websocket"] = "rest"
    transport: Literal["websockets", "picows"] = "websockets"
    leverage: Whole = Field(default=5, ge=1, le=125)
    margin_type: Literal["cross", "isolated"] = "cross"
    position_mode: Literal["one_way", "hedge"] = "one_way"
    contracts: dict[InstrumentId, ContractSettings] = Field(default_factory=dict)
    dead_man_s: Real | None = Field(default=None, ge=10, le=3600)
    audit_busy_s: Real = Field(default=10.0, ge=1, le=3600)
    audit_idle_s: Real = Field(default=60.0, ge=1, le=3600)

    @field_validator("contracts", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return {normalise_symbol(str(key)): each for key, each in value.items()} if isinstance(value, dict) else value

    @field_validator("rest", "streams", "ws_api", "rights")
    @classmethod
    def _address(cls, text: str | None) -> str | None:
        if text is None:
            return None
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
            raise ValueError("it must be an address, like https://fapi.binance.com or http://127.0.0.1:8800")
        if parts.scheme in ("http", "ws") and parts.hostname not in _LOOPBACK:
            raise ValueError(f"plain {parts.scheme} is only for this machine; use {parts.scheme}s for {parts.hostname}")
        if parts.username or parts.query or parts.fragment:
            raise ValueError("it must be a bare address, without user, query or fragment")
        return text.rstrip("/")

    def setup_of(self, name: InstrumentId) -> tuple[int, str]:
        """Leverage and margin type that one contract is meant to have."""
        own = self.contracts.get(name, ContractSettings())
        return own.leverage or self.leverage, own.margin_type or self.margin_type

    def endpoints(self, mode: str) -> Endpoints:
        """The addresses in force for a mode."""
        own = DEFAULT_ENDPOINTS["testnet" if mode == "testnet" else "live"]
        given = {name: value for name in Endpoints.model_fields if (value := getattr(self, name)) is not None}
        if self.rest is not None and urlsplit(self.rest).hostname in _LOOPBACK:
            sockets = re.sub("^http", "ws", self.rest)
            local = {"streams": sockets, "ws_api": f"{sockets}/ws-fapi/v1", "rights": self.rest}
            return Endpoints(**({"rest": self.rest} | local | given))
        return Endpoints(**(own.model_dump() | given))


class KeySettings(Section):
    """Where the key lies. Without files the environment is asked: ``TIDEGATE_BINANCE_KEY`` and ``_SECRET`` (live),
    ``TIDEGATE_BINANCE_TESTNET_KEY`` and ``_SECRET`` (testnet), or ``..._PRIVATE_KEY_FILE`` for an RSA or Ed25519 key.

    A file that holds a secret must be readable by its owner only (mode 0600).
    """

    key_file: str | None = None
    secret_file: str | None = None
    kind: Literal["auto", "hmac", "rsa", "ed25519"] = "auto"


class LiveSettings(Section):
    """The interlocks of real money: all three must fit, or live does not start."""

    confirm: str = ""
    fingerprint: str = ""
    hosts: tuple[str, ...] = ("fapi.binance.com",)


class PositionSettings(Section):
    """What happens to positions that are there at the first start: those in ``adopt`` are taken over at the venue's
    entry price, all others stay foreign: shown, counted against the limits, never touched."""

    adopt: tuple[InstrumentId, ...] = ()

    @field_validator("adopt", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        names = value.split(",") if isinstance(value, str) else value
        return tuple(normalise_symbol(str(each)) for each in names) if isinstance(names, list | tuple) else names


class StateSettings(Section):
    """Where the daemon keeps its journal, its latch and its socket; null is the user's state folder."""

    dir: str | None = None
