"""A log line that cannot be written never raises into the one who wrote it, and is told when it can be."""

import io
import sys

import pytest

from tidegate.app.observability import LogSink, configure_logging, get_logger


class Refusing(io.StringIO):
    """A standard error that takes nothing while ``error`` is set."""

    error: Exception | None = None

    def write(self, text: str) -> int:
        if self.error is not None:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "no space left"),
        BrokenPipeError(32, "broken pipe"),
        ValueError("I/O operation on closed file"),
        UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_line_that_is_refused_is_counted_and_told_later(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    stream = Refusing()
    monkeypatch.setattr(sys, "stderr", stream)
    sink = LogSink()
    stream.error = error
    sink.write("first\n")
    sink.write("second\n")
    assert sink.lost == 2
    stream.error = None
    sink.write("third\n")
    assert stream.getvalue() == "2 log lines could not be written\nthird\n"
    assert sink.lost == 0


def test_without_standard_error_a_line_is_lost_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    sink = LogSink()
    sink.write("first\n")
    assert sink.lost == 1


def test_the_process_s_log_goes_through_the_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Refusing()
    stream.error = OSError(28, "no space left")
    configure_logging()
    monkeypatch.setattr(sys, "stderr", stream)
    get_logger().error("anything")
    stream.error = None
    get_logger().error("again")
    assert "1 log lines could not be written" in stream.getvalue()
