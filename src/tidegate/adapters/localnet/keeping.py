"""The exchange on disk: what it holds is kept after every change, so that ``kill -9`` is an outage and not its end.

A change is kept before anybody hears of it: before the answer to the request that made it leaves, and before the
events of a price change do. The file is replaced whole, so it is never half written. Nothing is asked of the disk that
would survive a power cut. Prices go on from where they were; candles, faults, contract changes and the timers of
good-till-date orders begin anew.
"""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from tidegate.adapters.localnet.account import AccountState
from tidegate.adapters.localnet.accounts import Accounts
from tidegate.adapters.localnet.books import IdsState
from tidegate.adapters.localnet.market import LocalMarket
from tidegate.adapters.localnet.routes import ApiRequest, ApiResponse, Route, Routes
from tidegate.domain.errors import ConfigError

FORMAT: Final = 1


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange: prices by symbol, accounts by API key, listen keys with the account that each belongs to."""

    format: int
    prices: dict[str, float]
    ids: IdsState
    accounts: dict[str, AccountState]
    listen_keys: dict[str, str]


def read_kept(file: Path) -> Kept | None:
    """What was kept, None where nothing was. Raises ``ConfigError``, one line, when it cannot be read."""
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"localnet: {file} cannot be read ({error}); remove it to begin anew") from None
    if kept.format != FORMAT:
        raise ConfigError(f"localnet: {file} is of format {kept.format}, not {FORMAT}; remove it to begin anew")
    return kept


class Keeper:
    """Keeps an exchange in a file: ``restore`` first, then ``follow``."""

    def __init__(self, file: Path, market: LocalMarket, accounts: Accounts) -> None:
        self._file, self._market, self._accounts = file, market, accounts
        self._due = False

    def restore(self, kept: Kept) -> None:
        """Make the accounts what they were. Raises ``ConfigError`` where one, or a contract, is not there any more."""
        self._accounts.ids.load(kept.ids)
        for key, state in kept.accounts.items():
            account = self._accounts.by_key(key)
            if account is None:
                raise ConfigError(f"localnet: {self._file} holds the account {key}, which there is not")
            try:
                account.load(state)
            except KeyError as error:
                raise ConfigError(f"localnet: {self._file} holds {error.args[0]}, which is not listed") from None
        for listen_key, key in kept.listen_keys.items():
            account = self._accounts.by_key(key)
            if account is not None:
                self._accounts.give_stream(listen_key, account)

    def follow(self) -> None:
        """Keep every change from now on, beginning with what is."""
        for account in self._accounts:
            account.subscribe(lambda _event: self._soon())
        self.keep()

    def keep(self) -> None:
        """Write the file."""
        self._due = False
        kept = Kept(
            format=FORMAT,
            prices={name: float(self._market.last(name)) for name in self._market.symbols},
            ids=self._accounts.ids.dump(),
            accounts={account.key: account.dump() for account in self._accounts},
            listen_keys={key: entry.account.key for key, entry in self._accounts.listen_keys.items()},
        )
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(kept))
        os.replace(new, self._file)

    def keeping(self, routes: Routes) -> Routes:
        """The same endpoints; those that change something answer when the change is kept."""
        return {name: route if name[0] == "GET" else self._kept(route) for name, route in routes.items()}

    def _kept(self, route: Route) -> Route:
        async def handler(request: ApiRequest) -> ApiResponse:
            try:
                return await asked(request)
            finally:
                self.keep()

        asked = route.handler
        return replace(route, handler=handler)

    def _soon(self) -> None:
        """After this callback of the loop, and before what it tells anybody leaves."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._if_due)

    def _if_due(self) -> None:
        if self._due:
            self.keep()
