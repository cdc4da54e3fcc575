"""The local exchange on disk, in processes of its own: ``kill -9`` is an outage, what was acknowledged is there."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.reader import VenueReader
from tests.fakes.command_line import assert_refused, process
from tests.fakes.processes import Localnet, until

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def test_an_exchange_that_was_killed_goes_on(tmp_path: Path) -> None:
    arguments = ("--symbols", ",".join(SYMBOLS), "--state", tmp_path / "exchange.json")
    with ExitStack() as stack:
        venue = Localnet(tmp_path, *arguments)
        stack.callback(venue.kill)
        reader = VenueReader(int(venue.address.rpartition(":")[2]), SYMBOLS)
        reader.act("by_hand", symbol="BTCUSDT", mode="open", quantity="0.1")
        before, price = reader.account(), _last(reader)
        assert before.positions
        venue.kill()
        again = Localnet(tmp_path, *arguments, port=reader.port)
        stack.callback(again.kill)
        until("it answers", reader.up, 30.0, again.said)
        after = reader.account()
        assert (after.positions, after.wallet_usdt) == (before.positions, before.wallet_usdt)
        assert _last(reader) == pytest.approx(price, rel=0.01)
        reader.act("by_hand", symbol="BTCUSDT", mode="close")
        assert reader.account().positions == {}
        assert len(reader.repeated_ids()) == 0


def _last(reader: VenueReader) -> float:
    return float(reader.ask_public("/fapi/v1/ticker/price", symbol="BTCUSDT")["price"])


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "cannot be read"), (json.dumps({"format": 1}), "cannot be read"), (None, "is of format 7")],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "exchange.json"
    whole = {"format": 7, "prices": {}, "ids": {"orders": 1, "algo": 1, "transactions": 1, "trades": {}}}
    file.write_text(content or json.dumps(whole | {"accounts": {}, "listen_keys": {}}))
    assert_refused(process("localnet", "--port", 0, "--state", file), str(file), said, "remove it")
