"""Ranges of time as they are written on the command line."""

from datetime import UTC, datetime, timedelta

from tidegate.domain.errors import ConfigError

_FIRST_YEAR, _LAST_YEAR = 1970, 2100


def span_of(from_: str | None, to: str | None, timerange: str | None) -> tuple[int | None, int | None]:
    """Start and end in ns from the three options; a ``to`` that is a day includes that day."""
    names = ("--from", "--to") if timerange is None else ("--timerange", "--timerange")
    if timerange is not None:
        if from_ or to:
            raise ConfigError("--timerange stands instead of --from and --to: give one or the other")
        first, dash, last = timerange.partition("-")
        if not dash:
            raise ConfigError(f"--timerange {timerange!r}: write it like 20200101-20240831")
        from_, to = first or None, last or None
    start_ns = _instant(names[0], from_, whole_day=False) if from_ else None
    end_ns = _instant(names[1], to, whole_day=True) if to else None
    if start_ns is not None and end_ns is not None and start_ns >= end_ns:
        raise ConfigError(f"--from {from_} is not before --to {to}: the range is empty")
    return start_ns, end_ns


def _instant(option: str, text: str, *, whole_day: bool) -> int:
    """Nanoseconds of a date or time in UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option} {text!r} is no date; write it like 2020-01-01 or 2020-01-01T06:00") from None
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise ConfigError(f"{option} {text!r} is out of range; there are markets from {_FIRST_YEAR} to {_LAST_YEAR}")
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if whole_day and len(text) <= len("2020-01-01"):
        moment += timedelta(days=1)
    return int(moment.timestamp()) * 1_000_000_000
