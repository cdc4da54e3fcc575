"""Every file of ``shared/oracles/binance`` is used by a test.

Two sides read these files: our adapter, which has to understand them (reading), and the local exchange, which has to
look like them (answering). The tests of both keep lists; here the lists are held against the folder. A file that is
new, or in no list of a side that it concerns, fails, and so does a name that is no file.
"""

import json
from pathlib import Path

import pytest

from tests.oracles import localnet_differences_account as account_differences
from tests.oracles import localnet_differences_market as market_differences
from tests.oracles import test_account_messages as account_messages
from tests.oracles import test_client_recordings as client_recordings
from tests.oracles import test_localnet_shapes_account as account_shapes
from tests.oracles import test_localnet_shapes_clients as client_shapes
from tests.oracles import test_localnet_shapes_market as market_shapes
from tests.oracles import test_market_messages as market_messages

REST, WS_API = "official_examples/rest_api/", "official_examples/websocket_api/"
PAGES, OTHERS = "documented_events/", "nautilus_trader/"
TESTS = Path(__file__).resolve().parents[1]

SINGLE = {
    "ccxt_parsed_examples.json": "oracles/test_account_messages.py",
    "ccxt_static/request_binance_usdm_excerpt.json": "oracles/test_account_messages.py",
    "hummingbot_test_payloads.json": "oracles/test_account_messages.py",
    "leverage_brackets_2024-10.json": "oracles/test_market_messages.py",
    "liquidation_examples.json": "oracles/test_margin.py",
    "order_cost_example.json": "unit/test_exchange_ticks.py",
    "signing_vectors.json": "oracles/test_signing.py",
}
"""Files that stand alone, and the test that names each."""

TEXT = {"README.md": "says where the files come from"}

NOT_SENT = {
    f"{PAGES}Event-Conditional-Order-Trigger-Reject.json": "a trigger that is refused is told by ALGO_UPDATE",
    f"{PAGES}Event-GRID-UPDATE.json": "the venue's own grid strategies are not offered",
    f"{PAGES}Event-STRATEGY-UPDATE.json": "the venue's own grid strategies are not offered",
}
"""Documented events that the local exchange never sends, and why."""


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "oracles/binance"


@pytest.fixture(scope="module")
def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def under(prefix: str, names: object, suffix: str = "") -> set[str]:
    assert isinstance(names, dict | list | tuple | set | frozenset)
    return {f"{prefix}{name}{suffix}" for name in names}


def read() -> set[str]:
    """What our adapter decodes and translates."""
    mine, market = account_messages, market_messages
    return (
        under(REST, mine.REST)
        | under(WS_API, mine.WS_API)
        | under(PAGES, mine.EVENTS)
        | under(OTHERS, mine.NAUTILUS_EVENTS)
        | under(OTHERS, mine.NAUTILUS_ROWS)
        | under("", market.STREAMS, ".json")
        | under("", market.REST_FILES, ".json")
    )


def not_read() -> set[str]:
    """What nothing of our adapter asks for, each with its reason."""
    mine, market = account_messages, market_messages
    assert all([*mine.NOT_READ.values(), *mine.WS_API_NOT_READ.values(), *mine.NAUTILUS_NOT_READ.values()])
    assert all(market.NOT_READ.values())
    return (
        under(REST, mine.NOT_READ)
        | under(WS_API, mine.WS_API_NOT_READ)
        | under(OTHERS, mine.NAUTILUS_NOT_READ)
        | under("", market.NOT_READ, ".json")
    )


async def answered() -> set[str]:
    """What the local exchange answers in the same shape."""
    account = set(await account_shapes.answers()) - {"cancel_all_open.json"}
    return (
        under(REST, account)
        | under(WS_API, account_shapes.WS_METHODS)
        | under(WS_API, client_shapes.PUBLIC_WS_METHODS)
        | under(PAGES, account_shapes.EVENT_FILES)
        | under(OTHERS, client_shapes.REST)
        | under(OTHERS, client_shapes.EVENTS)
        | set(market_shapes.ENDPOINTS)
        | set(market_shapes.MESSAGES)
    )


def not_answered() -> set[str]:
    """What is outside of the local exchange's scope, each with its reason."""
    listed = (account_differences.OUT_OF_SCOPE, client_shapes.OUT_OF_SCOPE, market_differences.OUT_OF_SCOPE, NOT_SENT)
    assert all(reason for each in listed for reason in each.values())
    return (
        under(REST, account_differences.OUT_OF_SCOPE)
        | under(OTHERS, client_shapes.OUT_OF_SCOPE)
        | set(market_differences.OUT_OF_SCOPE)
        | set(NOT_SENT)
    )


def messages(files: set[str]) -> set[str]:
    """The published messages: all but the recordings and the files that stand alone."""
    return {name for name in files if not name.startswith("client_recordings/")} - set(SINGLE) - set(TEXT)


def test_our_adapter_reads_every_message_or_says_why_not(files: set[str]) -> None:
    assert read() | not_read() == messages(files)
    assert not read() & not_read()


async def test_the_local_exchange_answers_every_message_or_says_why_not(files: set[str]) -> None:
    ours = await answered()
    assert ours | not_answered() == messages(files)
    assert not ours & not_answered()


def test_every_recording_is_replayed(files: set[str]) -> None:
    recordings = {name for name in files if name.startswith("client_recordings/")}
    assert recordings == under("client_recordings/", client_recordings.CLIENTS, ".json")


@pytest.mark.parametrize("name", SINGLE)
def test_files_that_stand_alone_are_named_by_their_test(name: str) -> None:
    text = (TESTS / SINGLE[name]).read_text()
    assert f'{name}"' in text.replace('" / "', "/")


def test_every_file_holds_something(folder: Path, files: set[str]) -> None:
    for name in files - set(TEXT):
        assert json.loads((folder / name).read_bytes()), name


def test_a_new_file_would_be_seen(files: set[str]) -> None:
    new = messages({*files, f"{REST}new_endpoint.json", "new_folder/new.json"})
    assert new - read() - not_read() == {f"{REST}new_endpoint.json", "new_folder/new.json"}


def test_every_difference_has_a_reason_and_stands_once() -> None:
    listed = [
        *account_differences.ACCOUNT_DIFFERENCES,
        *market_differences.MARKET_DIFFERENCES,
        *client_shapes.DIFFERENCES,
    ]
    assert all(each.why and each.endpoint for each in listed)
    assert len(listed) == len(set(listed))
