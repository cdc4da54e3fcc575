"""Finding a strategy class by the name that a configuration gives it."""

import difflib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from zlib import crc32

from tidegate.domain.errors import ConfigError
from tidegate.strategies.base import BaseStrategy, CrossSectionalStrategy, Strategy

BUILT_IN = {
    "TrendFollowing": "tidegate.strategies.trend_following",
    "MeanReversion": "tidegate.strategies.mean_reversion",
    "RangeTrading": "tidegate.strategies.range_trading",
    "FundingArbitrage": "tidegate.strategies.funding_arbitrage",
}
"""Strategies that need no module in front of their name."""

_BASES = (Strategy, BaseStrategy, CrossSectionalStrategy)


def load_strategy(class_path: str) -> type[Strategy]:
    """The class named ``TrendFollowing``, ``package.module:Class`` or ``folder/file.py:Class``.

    Modules are looked for on the import path and in the current folder. Raises ``ConfigError`` in one line: the module
    or file is not there or raises, the class is not in it, or is no ``BaseStrategy``.
    """
    where, _, name = class_path.rpartition(":")
    if not where:
        if name not in BUILT_IN:
            near = difflib.get_close_matches(name, BUILT_IN, n=1, cutoff=0.4) or list(BUILT_IN)[:1]
            raise ConfigError(f"strategy {name!r} is not built in; did you mean {near[0]!r}, or module:{name}?")
        where = BUILT_IN[name]
    module = _from_file(Path(where)) if where.endswith(".py") else _import(where)
    found = getattr(module, name, None)
    if found is None:
        near = difflib.get_close_matches(name, _strategies(module), n=1, cutoff=0.0)
        raise ConfigError(f"{where} has no class {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    if not (inspect.isclass(found) and issubclass(found, Strategy)):
        raise ConfigError(f"{class_path} is no subclass of tidegate.BaseStrategy")
    if inspect.isabstract(found):
        raise ConfigError(f"{class_path} has no decide method")
    return found


def _strategies(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Strategy) and value not in _BASES
    ]


def _import(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise ConfigError(f"strategy module {name!r} is not found, on the import path or in {here}") from None
        raise ConfigError(f"strategy module {name!r} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        raise ConfigError(f"strategy module {name!r} cannot be imported: {type(error).__name__}: {error}") from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"strategy file {path} is not there")
    place = path.resolve()
    name = f"tidegate_user_{path.stem}_{crc32(bytes(place)):08x}"  # two files may have one name
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise ConfigError(f"strategy file {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # as above
        del sys.modules[spec.name]
        raise ConfigError(f"strategy file {path} cannot be imported: {type(error).__name__}: {error}") from error
    return module
