"""The control socket: real requests over a real unix socket."""

import asyncio
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tidegate.app.control import ControlServer, ask, socket_path
from tidegate.domain.errors import NotRunning


async def _echo(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"said": request.get("word")}


async def _listening(state: Path) -> None:
    while not socket_path(state).is_socket():  # noqa: ASYNC110  a socket that appears rings no bell
        await asyncio.sleep(0.01)


async def _served(state: Path, requests: list[tuple[str, dict[str, object]]]) -> list[dict[str, Any]]:
    server = asyncio.create_task(ControlServer(socket_path(state), {"echo": _echo}).run())
    await _listening(state)
    answers = [await asyncio.to_thread(ask, state, verb, more) for verb, more in requests]
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)
    return answers


async def test_a_verb_is_answered_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    answers = await _served(tmp_path, [("echo", {"word": "ho"}), ("sing", {})])
    assert answers[0] == {"ok": True, "said": "ho"}
    assert answers[1]["ok"] is False
    assert "echo" in answers[1]["error"]
    assert not socket_path(tmp_path).exists()


async def test_rubbish_does_not_end_the_server(tmp_path: Path) -> None:
    server = asyncio.create_task(ControlServer(socket_path(tmp_path), {"echo": _echo}).run())
    await _listening(tmp_path)
    assert stat.S_IMODE(socket_path(tmp_path).stat().st_mode) == 0o600
    reader, writer = await asyncio.open_unix_connection(socket_path(tmp_path))
    for line in (b"\xff\xfe\n", b"[]\n", b'{"verb": 7}\n', b"null\n"):
        writer.write(line)
        assert json.loads(await reader.readline())["ok"] is False
    writer.write(b"x" * 200_000 + b"\n")
    with suppress(ConnectionError):
        await writer.drain()
        assert await reader.read() == b""
    writer.close()
    assert await asyncio.to_thread(ask, tmp_path, "echo", {"word": 1}) == {"ok": True, "said": 1}
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)


async def test_a_socket_that_a_killed_daemon_left_is_replaced(tmp_path: Path) -> None:
    socket_path(tmp_path).touch()
    assert (await _served(tmp_path, [("echo", {})]))[0]["ok"]


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="no daemon is running"):
        ask(tmp_path, "status")


def test_a_long_state_folder_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    assert len(os.fsencode(socket_path(deep))) <= 100
    assert socket_path(deep) != socket_path(tmp_path / ("y" * 120))
