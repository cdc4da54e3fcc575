"""Secrets, held so that they cannot slip out: every way of showing one shows stars."""

from typing import Any, Final, NoReturn

_HIDDEN: Final = "**********"


class Secret:
    """A text that is only given out by ``reveal``. Equal only to itself; it can be neither pickled nor encoded."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text. Hand it to the one place that needs it, and keep no copy."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return f"Secret({_HIDDEN})"

    def __str__(self) -> str:
        return _HIDDEN

    def __format__(self, spec: str) -> str:
        return format(_HIDDEN, spec)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a secret is not pickled")
