"""Who may trade where: the interlocks of real money, decided before the first byte is sent.

1. ``live`` needs an allow-listed host, the fingerprint of its key and a confirmation in the file, all three.
2. ``testnet`` and ``paper`` never send an order to a live host: testnet refuses one, paper has no key at all.
3. Plain ``http`` and ``ws`` reach this machine only, and never in mode live.
4. A key with the right to withdraw is refused; live refuses rights that cannot be read, testnet says so.
"""

from typing import Protocol
from urllib.parse import urlsplit

from tidegate.app.config import Settings
from tidegate.app.config_live import Endpoints
from tidegate.domain.errors import ConfigError, NotAuthorised

LIVE_HOSTS = ("fapi.binance.com", "fstream.binance.com", "ws-fapi.binance.com", "fapi1.binance.com")


class Rights(Protocol):
    """What a key may do; None is "cannot be read"."""

    @property
    def enable_withdrawals(self) -> bool | None: ...

    @property
    def enable_futures(self) -> bool | None: ...

    @property
    def enable_portfolio_margin_trading(self) -> bool | None: ...

    @property
    def ip_restrict(self) -> bool | None: ...

    @property
    def unreadable(self) -> str | None: ...


def check_hosts(settings: Settings, mode: str, endpoints: Endpoints) -> None:
    """Refuse hosts that do not belong to the mode. Raises ``ConfigError``."""
    addresses = {"venue.rest": endpoints.rest, "venue.streams": endpoints.streams, "venue.ws_api": endpoints.ws_api}
    for name, address in addresses.items():
        parts = urlsplit(address)
        host = parts.hostname or ""
        if mode == "live" and parts.scheme in ("http", "ws"):
            raise ConfigError(f"{name}: {address} is not encrypted; mode live takes https and wss only")
        if mode == "testnet" and host in LIVE_HOSTS:
            raise ConfigError(f"{name}: {host} is the live exchange; mode testnet does not trade there")
    if mode != "live":
        return
    host = urlsplit(endpoints.rest).hostname or ""
    if host not in settings.live.hosts:
        raise ConfigError(f"live.hosts does not list {host}: live orders go to {', '.join(settings.live.hosts)} only")
    if settings.live.confirm != settings.account:
        raise ConfigError(
            f"live.confirm is {settings.live.confirm!r}; to trade real money it must be the account's label, "
            f"{settings.account!r}"
        )


def check_fingerprint(settings: Settings, mode: str, fingerprint: str) -> None:
    """Refuse a key that is not the one that the configuration binds to live trading. Raises ``ConfigError``."""
    bound = settings.live.fingerprint
    if mode == "live" and bound != fingerprint:
        said = f"is of another key than {bound}" if bound else "is not bound yet"
        raise ConfigError(f"live.fingerprint: the key {said}; the key in use has the fingerprint {fingerprint}")
    if mode == "testnet" and bound == fingerprint:
        raise ConfigError("live.fingerprint: this is the live key; mode testnet does not use it")


def check_rights(mode: str, rights: Rights) -> list[str]:
    """Refuse a key that may do too much, or too little. What should be known about it comes back as notes.

    Raises ``NotAuthorised``.
    """
    if rights.enable_withdrawals:
        raise NotAuthorised("the key may withdraw: make one that may not, and use that")
    if rights.enable_futures is False:
        raise NotAuthorised("the key may not trade futures: allow it, or make another")
    if rights.enable_portfolio_margin_trading:
        raise NotAuthorised("the key is for portfolio margin, which is not supported: use one of an ordinary account")
    if rights.enable_withdrawals is None:
        why = rights.unreadable or "the answer does not say"
        if mode == "live":
            raise NotAuthorised(f"the rights of the key cannot be read ({why}): live does not start without")
        return [f"the rights of the key are not checkable here ({why})"]
    return [] if rights.ip_restrict else ["the key is not bound to an address"]
