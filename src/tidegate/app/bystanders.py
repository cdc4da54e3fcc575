"""Those who only look on: what one of them raises never reaches the door that it stands at."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Tell = Callable[[str], None]


class Bystander(Generic[T]):
    """``look``, called with each thing that happens. When it raises, that is told once and it is not called again."""

    def __init__(self, look: Callable[[T], None], tell: Tell) -> None:
        self._look, self._tell = look, tell
        self._off = False

    def __call__(self, thing: T) -> None:
        if self._off:
            return
        try:
            self._look(thing)
        except Exception as error:  # a looker's failure is told; the fill that it looked at still needs its stop
            self._off = True
            name = type(self._look).__name__
            self._tell(f"{name} raised and is switched off: {type(error).__name__}: {error}")
