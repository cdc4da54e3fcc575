"""The local way to a running daemon: a unix socket in its state folder, one JSON object a line each way.

Who may open the socket is whom the file system lets: the folder and the socket are the owner's alone. A request is
``{"verb": "pause"}``, an answer ``{"ok": true, ...}`` or ``{"ok": false, "error": "..."}``.
"""

import asyncio
import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tidegate.domain.errors import NotRunning

Verb = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
_LONGEST_PATH = 100
"""What a unix socket's path may have on every system."""
_MOST_BYTES = 64 * 1024


def socket_path(state: Path) -> Path:
    """Where the daemon of a state folder listens: in the folder, or in the temporary one when its path is too long."""
    path = state / "control.sock"
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path
    name = hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"tidegate-{name}.sock"


class ControlServer:
    """Answers requests by a table of verbs, until closed."""

    def __init__(self, path: Path, verbs: Mapping[str, Verb]) -> None:
        self._path, self._verbs = path, verbs

    async def run(self) -> None:
        """Serve until cancelled; a socket that a killed daemon left is replaced (the lock says that we are alone)."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._serve, self._path, limit=_MOST_BYTES)
        finally:
            os.umask(before)
        try:
            async with server:
                await server.serve_forever()
        finally:
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, ValueError, asyncio.IncompleteReadError):
                while line := await reader.readline():
                    writer.write(json.dumps(await self._answer(line), default=str).encode() + b"\n")
                    await writer.drain()
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            verb = self._verbs[request["verb"]]
        except (ValueError, TypeError, KeyError):
            known = ", ".join(self._verbs)
            return {"ok": False, "error": f"not understood; a request is one of {known}"}
        return {"ok": True} | await verb(request)


def ask(state: Path, verb: str, more: Mapping[str, object] | None = None, timeout_s: float = 15.0) -> dict[str, Any]:
    """Ask the daemon of a state folder. Raises ``NotRunning``, or ``TimeoutError`` when it does not answer."""
    path = socket_path(state)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(timeout_s)
            line.connect(os.fspath(path))
            line.sendall(json.dumps({**(more or {}), "verb": verb}).encode() + b"\n")
            with line.makefile("rb") as answers:
                answer = answers.readline()
    except TimeoutError:
        raise TimeoutError(f"the daemon did not answer within {timeout_s:g} s") from None
    except OSError:
        raise NotRunning(f"no daemon is running in {state}") from None
    if not answer:
        raise NotRunning(f"the daemon in {state} left before it answered")
    found: dict[str, Any] = json.loads(answer)
    return found
