"""Who listens to what: topics of the market and user events of accounts, fanned out to connections."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from tidegate.adapters.localnet import payloads
from tidegate.adapters.localnet.feeds import Catalogue, Payload, Route, Topic
from tidegate.adapters.localnet.market import LocalMarket

Json = dict[str, Any]
_encode: Final = msgspec.json.Encoder().encode


class Account(Protocol):
    """What the streams need of an account."""

    @property
    def key(self) -> str:
        """Its API key."""
        ...

    def subscribe(self, callback: Callable[[Json], None]) -> object:
        """Call ``callback`` with every event of the account."""
        ...


class Accounts(Protocol):
    """What the streams need of the accounts."""

    def by_listen_key(self, key: str) -> Account | None:
        """The account whose listen key this is; ``None`` when it has lapsed or never was."""
        ...


class StreamFaults(Protocol):
    """What may be done to a message before its listeners get it: pairs of a delay in seconds and what is sent."""

    def market_message(self, stream: str, payload: Any) -> Sequence[tuple[float, Any]]:
        """For a market message; raw bytes are sent as they are."""
        ...

    def user_event(self, account_key: str, event: Json) -> Sequence[tuple[float, Json]]:
        """For an event of an account."""
        ...


class NoFaults:
    """Everything is delivered at once."""

    def market_message(self, stream: str, payload: Any) -> Sequence[tuple[float, Any]]:  # noqa: ARG002
        """The message as it is."""
        return ((0.0, payload),)

    def user_event(self, account_key: str, event: Json) -> Sequence[tuple[float, Json]]:  # noqa: ARG002
        """The event as it is."""
        return ((0.0, event),)


class Listener(Protocol):
    """A connection."""

    def serves(self, routes: Iterable[Route]) -> bool:
        """Whether streams of one of these routes are served on its path."""
        ...

    def deliver(self, stream: str, raw: bytes) -> None:
        """Take a message of a stream it subscribed to."""
        ...


class Hub:
    """Subscriptions of all connections. Called after every tick of the market through ``publish``."""

    def __init__(
        self, market: LocalMarket, accounts: Accounts, faults: StreamFaults | None = None, kline_ms: int = 250
    ) -> None:
        self._market = market
        self._accounts = accounts
        self._faults: StreamFaults = faults or NoFaults()
        self._catalogue = Catalogue(market, kline_ms)
        self._topics: dict[str, Topic] = {}
        self._listeners: dict[str, dict[Listener, None]] = {}
        self._users: dict[str, dict[Listener, tuple[str, frozenset[str]]]] = {}
        self._followed: dict[str, Account] = {}
        self._status = {name: str(listed.info["status"]) for name, listed in market.symbols.items()}
        market.on_tick(self.publish)

    def subscribe(self, listener: Listener, stream: str, events: frozenset[str] = frozenset()) -> None:
        """Let ``listener`` have ``stream``, a name of a market stream or a listen key. Unknown names do nothing.

        ``events`` are the user events wanted, all when empty.
        """
        account = self._accounts.by_listen_key(stream)
        if account is not None:
            self._follow(account)
            self._users[account.key].setdefault(listener, (stream, events))
            return
        if stream not in self._topics:
            topic = self._catalogue.topic(stream)
            if topic is None:
                return
            self._topics[stream] = topic
            self._listeners[stream] = {}
        self._listeners[stream][listener] = None

    def unsubscribe(self, listener: Listener, stream: str) -> None:
        """Undo ``subscribe``; what was not subscribed does no harm."""
        for listeners in self._users.values():
            if listener in listeners and listeners[listener][0] == stream:
                del listeners[listener]
        if stream in self._listeners:
            self._listeners[stream].pop(listener, None)
            if not self._listeners[stream]:
                del self._listeners[stream]
                self._topics.pop(stream).close()

    def drop(self, listener: Listener, streams: Iterable[str]) -> None:
        """Forget a connection."""
        for stream in streams:
            self.unsubscribe(listener, stream)
        for listeners in self._users.values():
            listeners.pop(listener, None)

    # -- market --------------------------------------------------------------------------------------------------------

    def publish(self, now_ms: int) -> None:
        """Tell everything that is due at this tick."""
        for stream, topic in list(self._topics.items()):
            for payload in topic.messages(now_ms):
                self._send(stream, payload)
        for name, listed in self._market.symbols.items():
            if (status := str(listed.info["status"])) != self._status[name]:
                self._status[name] = status
                self._send("!contractInfo", payloads.contract_info(self._market.lines[name], now_ms, status))

    def _send(self, stream: str, payload: Payload) -> None:
        for delay_s, told in self._faults.market_message(stream, payload):
            raw = told if isinstance(told, bytes) else _encode(told)
            self._later(delay_s, self._fan_out, stream, raw)

    def _fan_out(self, stream: str, raw: bytes) -> None:
        topic = self._topics.get(stream)
        if topic is None:
            return
        for listener in list(self._listeners[stream]):
            if listener.serves(topic.routes):
                listener.deliver(stream, raw)

    @staticmethod
    def _later(delay_s: float, act: Callable[..., None], *args: Any) -> None:
        if delay_s > 0:
            asyncio.get_running_loop().call_later(delay_s, act, *args)
        else:
            act(*args)

    # -- users ---------------------------------------------------------------------------------------------------------

    def _follow(self, account: Account) -> None:
        if account.key not in self._followed:
            self._followed[account.key] = account
            self._users[account.key] = {}
            account.subscribe(lambda event: self._user_event(account, event))

    def _user_event(self, account: Account, event: Json) -> None:
        order = event.get("o")
        if event.get("e") == "ORDER_TRADE_UPDATE" and isinstance(order, dict) and order.get("x") == "CALCULATED":
            told = payloads.force_order(int(event["E"]), order)
            self._send(f"{str(order['s']).lower()}@forceOrder", told)
            self._send("!forceOrder@arr", told)
        for delay_s, told in self._faults.user_event(account.key, event):
            self._later(delay_s, self._tell_user, account, told)

    def _tell_user(self, account: Account, event: Json) -> None:
        """Give an event to the account's connections whose listen key still holds."""
        kind, raw = str(event.get("e")), _encode(event)
        for listener, (key, wanted) in list(self._users[account.key].items()):
            farewell = kind == "listenKeyExpired" and event.get("listenKey", key) == key
            if not farewell and (self._accounts.by_listen_key(key) is None or (wanted and kind not in wanted)):
                continue
            if listener.serves((Route.PRIVATE,)):
                listener.deliver(key, raw)
