"""How figures read on a page: labels, units, signs, dates; a dash where there is none."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from tidegate.domain.ids import Nanos

UNDEFINED = "–"

_FRACTIONS = frozenset({"total_return", "cagr", "annual_volatility", "max_drawdown", "win_rate", "hit_rate"})
_RATIOS = frozenset({"sharpe", "sortino", "turnover"})
_WORDS = {"usdt": "USDT", "cagr": "CAGR", "sha256": "SHA-256", "pnl": "P&L", "qty": "quantity", "ci95": "95 % interval"}
_TO_THE_LAST_DIGIT = frozenset({"ledger_difference_usdt", "attribution_difference_usdt"})


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure as the page shows it: label, text, and the value that sorting and colouring go by."""

    key: str
    label: str
    text: str
    value: float | None


def shown(key: str, value: object) -> Shown:
    """A figure of a summary, by the units that its key names."""
    try:
        size = None if value is None or isinstance(value, bool) else float(str(value))
    except ValueError:
        size = None
    return Shown(key, label(key), _text(key, value, size), size)


def _text(key: str, value: object, size: float | None) -> str:
    if value is None:
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("_ci95") and isinstance(value, list | tuple):
        return " to ".join(f"{each:,.2f}" for each in value)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value) or "none"
    if size is None or not math.isfinite(size):
        return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    if key in _TO_THE_LAST_DIGIT:  # a promise of equality: to the last digit
        return str(value)
    if key.endswith("_usdt"):
        return money(Decimal(str(value)))
    if key in _FRACTIONS or key.endswith(("_frac", "_pct", "_return")):
        return percent(size)
    if key in _RATIOS or key.startswith(("sharpe", "sortino")):
        return f"{size:,.2f}"
    if isinstance(value, float):
        return f"{size:,.0f}" if abs(size) >= 1000 else f"{size:.4g}"
    return number(Decimal(str(value)))


def label(key: str) -> str:
    """A key as words."""
    words = [_WORDS.get(word, word) for word in key.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def money(value: Decimal | float) -> str:
    """An amount with two decimals; never a negative zero."""
    text = f"{value:,.2f}"
    return text if text.strip("-0.,") else text.lstrip("-")


def percent(value: float) -> str:
    """A fraction in percent; never a negative zero."""
    text = f"{value:,.2%}"
    return text if text.strip("-0.,%") else text.lstrip("-")


def number(value: Decimal | int) -> str:
    """A count or a quantity, without trailing zeros."""
    text = f"{Decimal(value):,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def price(value: Decimal) -> str:
    """About seven digits, at least two decimals: an average of fills may have many more."""
    return f"{value:,.{min(max(6 - value.adjusted(), 2), 10)}f}"


def when(ts_ns: Nanos) -> datetime:
    """The instant, in UTC."""
    return datetime.fromtimestamp(ts_ns // 1_000_000_000, UTC)


def moment(ts_ns: Nanos) -> str:
    """The instant as charts read it."""
    return f"{when(ts_ns):%Y-%m-%dT%H:%M:%S}"


def day(ts_ns: Nanos) -> str:
    """The UTC day."""
    return f"{when(ts_ns):%Y-%m-%d}"


def minute(ts_ns: Nanos) -> str:
    """The UTC minute."""
    return f"{when(ts_ns):%Y-%m-%d %H:%M}"


def held(span_ns: Nanos) -> str:
    """A span of time in its two largest units."""
    minutes = span_ns // 60_000_000_000
    days, rest = divmod(minutes, 1440)
    return f"{days}d {rest // 60}h" if days else f"{rest // 60}h {rest % 60:02d}m"
