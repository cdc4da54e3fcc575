"""tidegate: an automated trading daemon for Binance USD-M futures.

The names that a strategy's author needs can be imported from here. They are loaded on first use (PEP 562), so that
``tidegate --help`` does not wait for a compiler.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.domain.signals import Signal
    from tidegate.quant.indicators import ADX, ATR, EMA, MACD, RSI, SMA, Bollinger, Donchian, RealizedVol, ZScore
    from tidegate.strategies.base import BaseStrategy, CrossSectionalStrategy, Feature, View, param

__all__ = [
    "ADX",
    "ATR",
    "BaseStrategy",
    "Bollinger",
    "CrossSectionalStrategy",
    "Donchian",
    "EMA",
    "Feature",
    "MACD",
    "RSI",
    "RealizedVol",
    "SMA",
    "Signal",
    "View",
    "ZScore",
    "param",
]

_HOMES = {"Signal": "tidegate.domain.signals"} | dict.fromkeys(
    ("BaseStrategy", "CrossSectionalStrategy", "Feature", "View", "param"), "tidegate.strategies.base"
)


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'tidegate' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "tidegate.quant.indicators")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
