"""WebSocket connections, reduced to what streams need: open, receive, send, close.

Two libraries stand behind one small protocol: ``websockets`` (the default) and ``picows`` (the extra ``fast``). Both
answer the server's pings by themselves; neither pings, for liveness is judged by payload. No exception that leaves
this module carries a URL: the address of a user stream holds its key.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, Literal, Protocol

import websockets.asyncio.client
import websockets.exceptions

from tidegate.domain.errors import ConfigError, VenueUnavailable

MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
OPEN_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 0.5
_QUEUE_FRAMES: Final = 1024
"""So many messages wait before reading stops, and the pressure goes back to the sender."""

_MUTE: Final = logging.Logger("tidegate.wire", logging.CRITICAL + 1)
"""The libraries log handshakes, and so addresses with keys in them: to nowhere."""


class LinkLost(VenueUnavailable):
    """A connection could not be opened, or is over. The text names the cause, never the address."""


class WsConnection(Protocol):
    """One open connection."""

    async def recv(self) -> bytes:
        """The next whole message. Raises ``LinkLost`` at the end."""
        ...

    async def recv_batch(self) -> Sequence[bytes]:
        """Every message that has arrived, at least one. Raises ``LinkLost`` at the end."""
        ...

    async def send(self, text: str) -> None:
        """Send one text message. Raises ``LinkLost``."""
        ...

    async def close(self) -> None:
        """Say goodbye, wait half a second at most. Never raises."""
        ...


class WsTransport(Protocol):
    """Opens connections."""

    async def connect(self, url: str) -> WsConnection:
        """Raises ``LinkLost`` when the handshake does not come about."""
        ...


def make_transport(kind: Literal["websockets", "picows"] = "websockets") -> WsTransport:
    """The transport of this name. Raises ``ConfigError`` when its library is not installed."""
    return PicowsTransport() if kind == "picows" else WebsocketsTransport()


class WebsocketsTransport:
    """Over the library ``websockets``."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes

    async def connect(self, url: str) -> WsConnection:
        """Open ``url``; no proxy, no compression, no pings of ours."""
        try:
            connection = await websockets.asyncio.client.connect(
                url,
                compression=None,
                proxy=None,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                ping_interval=None,
                max_size=self._max_bytes,
                max_queue=_QUEUE_FRAMES,
                logger=_MUTE,
            )
        except (OSError, TimeoutError, websockets.exceptions.WebSocketException) as error:
            raise LinkLost(f"no connection: {_cause(error)}") from None
        return _WebsocketsConnection(connection)


class _WebsocketsConnection:
    def __init__(self, connection: websockets.asyncio.client.ClientConnection) -> None:
        self._connection = connection

    async def recv(self) -> bytes:
        try:
            message = await self._connection.recv(decode=False)
        except (OSError, websockets.exceptions.WebSocketException) as error:
            raise LinkLost(_cause(error)) from None
        return _checked(message)

    async def recv_batch(self) -> Sequence[bytes]:
        return (await self.recv(),)

    async def send(self, text: str) -> None:
        try:
            await self._connection.send(text)
        except (OSError, websockets.exceptions.WebSocketException) as error:
            raise LinkLost(_cause(error)) from None

    async def close(self) -> None:
        await self._connection.close()


class PicowsTransport:
    """Over the library ``picows``, which comes with the extra ``fast``."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        try:
            self._picows: Any = import_module("picows")
        except ImportError:
            raise ConfigError("transport picows is not installed: pip install 'tidegate[fast]'") from None
        self._max_bytes = max_bytes

    async def connect(self, url: str) -> WsConnection:
        """Open ``url``; no proxy, no pings of ours."""
        inbox = _PicowsInbox(self._max_bytes, self._picows.WSMsgType)
        try:
            transport, _ = await self._picows.ws_connect(
                lambda: _listener(self._picows, inbox),
                url,
                websocket_handshake_timeout=OPEN_TIMEOUT_S,
                enable_auto_pong=True,
                max_frame_size=self._max_bytes,
                max_redirects=0,
                logger_name=_MUTE,
                use_aiofastnet=False,
            )
        except (OSError, TimeoutError, self._picows.WSError) as error:
            raise LinkLost(f"no connection: {_cause(error)}") from None
        return _PicowsConnection(transport, inbox, self._picows)


class _PicowsInbox:
    """What has arrived: whole messages, the fragments of the next one, and the end."""

    def __init__(self, max_bytes: int, kinds: Any) -> None:
        self.messages: list[bytes] = []
        self.arrived = asyncio.Event()
        self.end: str | None = None
        self.paused: Any = None
        self._fragments: list[bytes] = []
        self._max_bytes = max_bytes
        self._text, self._binary, self._more, self._close = (
            kinds.TEXT,
            kinds.BINARY,
            kinds.CONTINUATION,
            kinds.CLOSE,
        )

    def frame(self, transport: Any, frame: Any) -> None:
        """Called by the library for every frame, in order."""
        if self.end is not None:
            return
        kind = frame.msg_type
        if kind is self._text and frame.fin:
            self._whole(transport, frame.get_payload_as_bytes())
        elif kind is self._text or kind is self._binary or kind is self._more:
            self._fragments.append(frame.get_payload_as_bytes())
            if frame.fin or sum(map(len, self._fragments)) > self._max_bytes:
                self._whole(transport, b"".join(self._fragments))
                self._fragments.clear()
        elif kind is self._close:
            self.over(transport, f"closed by the other side with code {frame.get_close_code()}")

    def _whole(self, transport: Any, message: bytes) -> None:
        if len(message) > self._max_bytes:  # the library hands an oversized frame over before it ends the connection
            self.over(transport, "a message is too long")
            return
        self.messages.append(message)
        if len(self.messages) == _QUEUE_FRAMES:
            self.paused = transport.underlying_transport
            self.paused.pause_reading()
        self.arrived.set()

    def over(self, transport: Any, why: str) -> None:
        """No more messages; the first reason stands."""
        self.end = self.end or why
        self.arrived.set()
        transport.disconnect()

    def take(self) -> list[bytes]:
        """All messages that wait."""
        found, self.messages = self.messages, []
        if self.end is None:
            self.arrived.clear()
        if self.paused is not None:
            if not self.paused.is_closing():
                self.paused.resume_reading()
            self.paused = None
        return found


def _listener(picows: Any, inbox: _PicowsInbox) -> Any:
    class Listener(picows.WSListener):  # type: ignore[misc]
        on_ws_frame = staticmethod(inbox.frame)

        def on_ws_disconnected(self, transport: Any) -> None:
            inbox.over(transport, "connection lost")

    return Listener()


class _PicowsConnection:
    def __init__(self, transport: Any, inbox: _PicowsInbox, picows: Any) -> None:
        self._transport = transport
        self._inbox = inbox
        self._text = picows.WSMsgType.TEXT
        self._error: type[Exception] = picows.WSError
        self._waiting: deque[bytes] = deque()

    async def recv(self) -> bytes:
        if not self._waiting:
            self._waiting.extend(await self.recv_batch())
        return self._waiting.popleft()

    async def recv_batch(self) -> Sequence[bytes]:
        inbox = self._inbox
        if self._waiting:  # what ``recv`` left
            left = list(self._waiting)
            self._waiting.clear()
            return left
        while not inbox.messages:
            if inbox.end is not None:
                raise LinkLost(inbox.end)
            await inbox.arrived.wait()
        return [_checked(message) for message in inbox.take()]

    async def send(self, text: str) -> None:
        if self._transport.is_disconnected:
            raise LinkLost(self._inbox.end or "connection lost")
        self._transport.send(self._text, text.encode())

    async def close(self) -> None:
        if not self._transport.is_disconnected:
            self._transport.send_close()
            self._transport.disconnect()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._transport.wait_disconnected()
        except (OSError, self._error):  # a timeout too; how it ended was told by ``recv``
            self._transport.disconnect(graceful=False)


def _checked(message: bytes) -> bytes:
    """The message, when it is text. A message that is none ends the connection."""
    if not message.isascii():
        try:
            message.decode()
        except UnicodeDecodeError:
            raise LinkLost("a message is not UTF-8") from None
    return message


def _cause(error: BaseException) -> str:
    """What happened, without the address."""
    if isinstance(error, websockets.exceptions.InvalidStatus):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, websockets.exceptions.ConnectionClosed) and error.rcvd is not None:
        return f"closed by the other side with code {error.rcvd.code}"
    response = getattr(error, "response", None)
    status = getattr(response, "status", None)
    if status is not None:
        return f"HTTP {int(status)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
