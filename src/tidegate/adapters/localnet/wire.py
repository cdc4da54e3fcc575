"""Numbers and parameters on the wire: plain decimals out, strictly read parameters in."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final
from urllib.parse import parse_qsl

from tidegate.adapters.localnet.errors import ApiError
from tidegate.domain.ids import Nanos
from tidegate.domain.ledger import ROUNDED

_NUMBER: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_LISTS: Final = {"orderidlist": "orderIdList", "origclientorderidlist": "origClientOrderIdList"}
CLIENT_ID: Final = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")


def millis(ts_ns: Nanos) -> int:
    """Nanoseconds as the venue's milliseconds."""
    return ts_ns // 1_000_000


def fixed(value: Decimal, places: int) -> str:
    """``value`` with so many decimals, never an exponent, never a negative zero."""
    rounded = ROUNDED.quantize(value, Decimal(1).scaleb(-places))
    return f"{rounded if rounded else abs(rounded):f}"


def money(value: Decimal) -> str:
    """An amount with the venue's eight decimals."""
    return fixed(value, 8)


def plain(value: Decimal) -> str:
    """``value`` as it is, without trailing zeros or exponent."""
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def merged(raw_query: bytes, raw_body: bytes) -> dict[str, str]:
    """The parameters of a request; one that stands in both places has the query's value, an empty one is left out."""
    pairs: dict[str, str] = {}
    for raw in (raw_body, raw_query):
        text = raw.decode("utf-8", "replace")
        if not text or text.lstrip().startswith(("{", "[")):
            continue  # a JSON body carries no parameters here
        for name, value in parse_qsl(text, keep_blank_values=True):
            pairs[_LISTS.get(name.lower(), name)] = value
    return {name: value for name, value in pairs.items() if value != ""}


class Params:
    """Parameters read by name and type; what is missing or malformed raises ``ApiError``."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str:
        """A mandatory text."""
        value = self._values.get(name)
        if value is None:
            raise ApiError(-1102, name)
        return value

    def get(self, name: str, default: str = "") -> str:
        """An optional text."""
        return self._values.get(name, default)

    def number(self, name: str) -> Decimal | None:
        """An optional decimal number, not negative, without sign or exponent."""
        value = self._values.get(name)
        if value is None:
            return None
        if not _NUMBER.fullmatch(value):
            if value.startswith("-") and _NUMBER.fullmatch(value[1:]):
                return Decimal(value)
            raise ApiError(
                -1100,
                msg=f"Illegal characters found in parameter '{name}'; "
                "legal range is '^([0-9]{1,20})(\\.[0-9]{1,20})?$'.",
            )
        return Decimal(value)

    def needed(self, name: str) -> Decimal:
        """A mandatory decimal number."""
        value = self.number(name)
        if value is None:
            raise ApiError(-1102, name)
        return value

    def integer(self, name: str) -> int | None:
        """An optional whole number."""
        value = self._values.get(name)
        if value is None:
            return None
        if not value.isascii() or not value.removeprefix("-").isdigit() or len(value) > 19:
            raise ApiError(-1102, name)
        return int(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """An optional truth value, in any case."""
        value = self._values.get(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise ApiError(-1130, name)
        return value.lower() == "true"

    def limit(self, default: int, most: int) -> int:
        """The number of rows asked for."""
        value = self.integer("limit")
        if value is None:
            return default
        if value <= 0:
            raise ApiError(-1130, "limit")
        return min(value, most)

    def window(self) -> tuple[int, int]:
        """``startTime`` and ``endTime`` in milliseconds, as wide as they are left open."""
        start, end = self.integer("startTime"), self.integer("endTime")
        return (0 if start is None else start), (1 << 62 if end is None else end)
