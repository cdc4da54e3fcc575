"""All accounts of the local exchange, and the listen keys to their streams.

Accounts do not match each other: all trade against the market's best prices.
"""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from tidegate.adapters.localnet import events
from tidegate.adapters.localnet.account import Account
from tidegate.adapters.localnet.auth import Credentials
from tidegate.adapters.localnet.books import Ids, Prices, leg_of, split_leg, touch_of
from tidegate.adapters.localnet.wire import millis
from tidegate.domain.ids import Nanos
from tidegate.domain.secret import Secret
from tidegate.ports import Clock

__all__ = [
    "DEMO_DEPOSIT",
    "DEMO_KEY",
    "DEMO_SECRET",
    "LISTEN_KEY_S",
    "Account",
    "Accounts",
    "ListenKey",
    "Prices",
    "leg_of",
    "split_leg",
    "touch_of",
]

DEMO_KEY: Final = "demo-key"
DEMO_SECRET: Final = "demo-secret"
DEMO_DEPOSIT: Final = Decimal(10_000)
LISTEN_KEY_S: Final = 3600.0


@dataclass(slots=True)
class ListenKey:
    """A key to an account's stream, and the timer of its end."""

    key: str
    account: Account
    timer: asyncio.TimerHandle


class Accounts:
    """All accounts, and the keys to their streams. Follows the market's prices by itself."""

    def __init__(self, prices: Prices, clock: Clock, rng: random.Random) -> None:
        self.prices = prices
        self.clock = clock
        self.ids = Ids(rng)
        self.listen_keys: dict[str, ListenKey] = {}
        self._accounts: dict[str, Account] = {}
        prices.subscribe(self._on_price)

    def add(
        self,
        key: str = DEMO_KEY,
        secret: Secret | None = None,
        deposit: Decimal = DEMO_DEPOSIT,
        public_pem: bytes | None = None,
    ) -> Account:
        """Open an account: by default the ready-made one. With ``public_pem`` (RSA or Ed25519) there is no secret."""
        if secret is None and public_pem is None:
            secret = Secret(DEMO_SECRET)
        account = Account(Credentials(key, secret, public_pem), self.prices, self.ids, self.clock, deposit)
        self._accounts[key] = account
        return account

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def by_key(self, key: str) -> Account | None:
        """The account of an API key."""
        return self._accounts.get(key)

    def deposit(self, key: str, asset: str, amount: Decimal) -> None:
        """Put money into an account, or take it out. Raises ``LookupError`` for an unknown key."""
        self._accounts[key].deposit(asset, amount)

    def fund(self, symbol: str, rate: Decimal, mark: Decimal, now_ns: Nanos) -> None:
        """A funding settlement, for all accounts."""
        for account in self._accounts.values():
            account.fund(symbol, rate, mark, now_ns)

    def relist(self, symbol: str) -> None:
        """The entry of a symbol has changed: take it over."""
        listed = self.prices.symbols[symbol]
        for account in self._accounts.values():
            account.relist(symbol, listed.instrument, trading=listed.info["status"] == "TRADING")

    def close(self) -> None:
        """Stop all timers."""
        for entry in self.listen_keys.values():
            entry.timer.cancel()
        for account in self._accounts.values():
            account.close()

    # ---- listen keys --------------------------------------------------------------------------------------------

    def open_stream(self, account: Account) -> str:
        """The listen key of an account, made or extended."""
        entry = next((each for each in self.listen_keys.values() if each.account is account), None)
        return self.give_stream(self.ids.text(64) if entry is None else entry.key, account)

    def give_stream(self, key: str, account: Account) -> str:
        """Make this the listen key of an account, for as long as one lasts."""
        entry = self.listen_keys.get(key)
        if entry is not None:
            entry.timer.cancel()
        timer = asyncio.get_running_loop().call_later(LISTEN_KEY_S, self.expire_listen_key, key)
        self.listen_keys[key] = ListenKey(key, account, timer)
        return key

    def keep_stream(self, account: Account) -> str | None:
        """Extend the listen key of an account; None when it has none."""
        if not any(each.account is account for each in self.listen_keys.values()):
            return None
        return self.open_stream(account)

    def close_stream(self, account: Account) -> None:
        """End the listen key of an account, without an event."""
        for entry in [each for each in self.listen_keys.values() if each.account is account]:
            self.expire_listen_key(entry.key, silent=True)

    def by_listen_key(self, key: str) -> Account | None:
        """The account whose stream a valid key opens."""
        entry = self.listen_keys.get(key)
        return None if entry is None else entry.account

    def expire_listen_key(self, key: str, silent: bool = False) -> None:
        """End a key; its streams are told unless ``silent``, and stay silent after."""
        entry = self.listen_keys.pop(key, None)
        if entry is None:
            return
        entry.timer.cancel()
        if not silent:
            entry.account.events(events.listen_key_expired(key, millis(self.clock.now_ns())))

    def _on_price(self, symbol: str, now_ns: Nanos) -> None:
        touch = touch_of(self.prices, symbol)
        for account in self._accounts.values():
            account.on_price(symbol, touch, now_ns)
