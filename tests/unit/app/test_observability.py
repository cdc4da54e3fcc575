"""The log: one line per entry, in the form that was asked for, and nothing secret in it."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal

import pytest
import structlog

from tidegate.app.observability import RecordLog, configure_logging, get_logger
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.messages import Alert, Record, Severity
from tidegate.domain.orders import OrderFilled, Side

BTC = InstrumentId("BTCUSDT")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def fill(ts_ns: int) -> Record:
    qty, price, fee = Decimal("0.012"), Decimal("91234.5"), Decimal("0.5")
    event = OrderFilled(ClientOrderId("p1"), BTC, Side.BUY, qty, price, fee, "USDT", 1, False, ts_ns, ts_ns)
    alert = Alert(Severity.CRITICAL, "strategy x", "switched off:\n\x1b[31mred\u2028", ts_ns)
    return Record(1, event, (alert,))


def test_json_lines_are_whole_and_say_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    RecordLog(get_logger())(fill(10))
    captured = capsys.readouterr()
    assert captured.out == ""
    filled, alert = map(json.loads, captured.err.splitlines())
    assert (filled["event"], filled["level"]) == ("order.filled", "info")
    assert (filled["instrument"], filled["side"], filled["qty"], filled["price"]) == (
        "BTCUSDT",
        "BUY",
        "0.012",
        "91234.5",
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", filled["time"])
    assert (alert["event"], alert["level"]) == ("alert", "error")


def test_a_console_entry_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "console")
    RecordLog(get_logger())(fill(10))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert re.match(r"\S+Z \[?info\s*\]? +order\.filled +", lines[0])
    assert "qty=0.012" in lines[0]
    assert not re.search(r"[\x00-\x1f\u2028]", "".join(lines))


def test_history_is_quiet_but_its_alerts_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    RecordLog(get_logger(), quiet_until_ns=100)(fill(10))
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["alert"]


def test_the_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("error", "json")
    RecordLog(get_logger())(fill(10))
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["alert"]


@pytest.mark.parametrize("name", ["api_key", "apikey", "secret", "db_password", "token", "signature"])
def test_a_secret_is_masked(capsys: pytest.CaptureFixture[str], name: str) -> None:
    configure_logging("info", "json")
    get_logger().info("connected", **{name: "canary"})
    text = capsys.readouterr().err
    assert "canary" not in text
    assert "***" in text
