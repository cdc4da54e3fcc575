"""The log: one line per event on stderr, for people on a terminal, JSON elsewhere.

``2026-11-22T16:05:12.301Z info     order.filled             instrument=BTCUSDT side=BUY qty=0.012 price=91234.5``

Secrets do not reach it: whatever is called like one is masked before it is written.
"""

import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from tidegate.domain.account import FundingPaid
from tidegate.domain.ids import Nanos
from tidegate.domain.market import Bar
from tidegate.domain.messages import Alert, Command, Event, Halt, OperatorCommand, Record, Severity
from tidegate.domain.orders import (
    ApprovedOrder,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderUncertain,
)
from tidegate.domain.signals import Decision

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]

_SECRET = re.compile(r"secret|password|token|signature|api_?key|private", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ALERT_LEVELS = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "error"}


def configure_logging(level: Level = "info", format: Format = "auto") -> None:
    """Set the log up, for the whole process. ``auto`` is console lines on a terminal and JSON lines elsewhere."""
    as_console = format == "console" or (format == "auto" and sys.stderr.isatty())
    render: Processor = (
        structlog.dev.ConsoleRenderer(colors=_colours(), pad_event_to=24, timestamp_key="time")
        if as_console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%fZ", utc=True, key="time"),
            _milliseconds,
            _masked,
            structlog.processors.format_exc_info,
            _one_line,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: structlog.WriteLogger(cast(TextIO, _SINK)),
        cache_logger_on_first_use=False,
    )


class LogSink:
    """Standard error as it is at this moment. A line that it does not take is counted and never raises.

    The next line that it takes is preceded by the number of those that were lost.
    """

    def __init__(self) -> None:
        self.lost = 0

    def write(self, text: str) -> int:
        """Write the lines of ``text``; the number of characters, whether they arrived or not."""
        stream = sys.stderr
        try:
            if self.lost:
                stream.write(f"{self.lost} log lines could not be written\n")
                stream.flush()
                self.lost = 0
            stream.write(text)
            stream.flush()
        except (OSError, ValueError, AttributeError):  # full, broken pipe, closed, encoding, none: a fill's stop waits
            self.lost += 1
        return len(text)

    def flush(self) -> None:
        """Nothing: ``write`` has flushed."""


_SINK = LogSink()


def get_logger() -> FilteringBoundLogger:
    """The process's log."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


class RecordLog:
    """Writes what matters of each record. Until ``quiet_until_ns`` of market time only at debug level.

    Without ``alerts`` those are left to whoever hears all of them: the shell has some of its own.
    """

    def __init__(self, logger: FilteringBoundLogger, quiet_until_ns: Nanos = 0, *, alerts: bool = True) -> None:
        self._log = logger
        self._quiet_until_ns = quiet_until_ns
        self._alerts = alerts

    def __call__(self, record: Record) -> None:
        """Log a record, as an observer of the inbox."""
        event = record.event
        if type(event) is Bar and not record.commands:
            return
        level = "debug" if event.recv_ns < self._quiet_until_ns else "info"
        self._event(event, level)
        for command in record.commands:
            self._command(command, level, event.recv_ns)

    def _event(self, event: Event, level: str) -> None:
        say = getattr(self._log, level)
        match event:
            case OrderFilled():
                say("order.filled", **_of(event, "id", "instrument", "side", "qty", "price", "fee", "cause"))
            case OrderCanceled() | OrderExpired():
                say(f"order.{type(event).__name__[5:].lower()}", **_of(event, "id", "instrument"))
            case OrderRejected():
                self._log.warning("order.rejected", **_of(event, "id", "instrument", "code", "reason"))
            case OrderUncertain():
                self._log.warning("order.unknown", **_of(event, "id", "instrument", "detail"))
            case FundingPaid():
                say("funding.paid", **_of(event, "instrument", "amount", "rate"))
            case OperatorCommand():
                self._log.info("operator", **_of(event, "operation", "detail"))

    def _command(self, command: Command, level: str, now_ns: Nanos) -> None:
        say = getattr(self._log, level)
        match command:
            case ApprovedOrder():
                names = ("id", "instrument", "side", "qty", "order_type", "purpose", "trigger")
                say("order.approved", **_of(command, *names))
            case Decision() if command.strategy is None:
                refused = None if command.refusal is None else command.refusal.detail
                fields = _of(command, "instrument", "target", "binding_limit")
                say("decision", **fields, **({} if refused is None else {"refused": refused}))
            case Alert() if self._alerts:
                getattr(self._log, _ALERT_LEVELS[command.severity])("alert", **_of(command, "subject", "text"))
            case Halt():
                self._log.error("halt", **_of(command, "reason"), at=_iso(now_ns))


def alert_log(logger: FilteringBoundLogger) -> Callable[[Alert], None]:
    """Alerts that come from around the kernel, into the log."""

    def write(alert: Alert) -> None:
        getattr(logger, _ALERT_LEVELS[alert.severity])("alert", **_of(alert, "subject", "text"))

    return write


def _of(message: object, *names: str) -> dict[str, str]:
    """Fields of a message as text; what is not there is left out."""
    found: dict[str, str] = {}
    for name in names:
        value = getattr(message, name)
        if value is not None and value != "":
            found[name] = str(getattr(value, "value", value))
    return found


def _iso(ns: Nanos) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="seconds")


def _colours() -> bool:
    import os

    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _milliseconds(_: object, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    entry["time"] = entry["time"][:-4] + "Z"
    return entry


def _masked(_: object, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in entry:
        if _SECRET.search(name):
            entry[name] = "***"
    return entry


def _one_line(_: object, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """One entry stays one line, whatever a venue or a strategy put into its text."""
    for name, value in entry.items():
        if isinstance(value, str):
            entry[name] = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], value)
    return entry
