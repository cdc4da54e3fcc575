"""What is wrong with a configuration, in one line: the path, the value, and the nearest right thing."""

import re
from difflib import get_close_matches
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

_RISK_KEYS = "risk.max_leverage, risk.max_position_pct and portfolio.gross_leverage bound the exposure"
_SIZE_KEYS = "use sizing.risk_per_trade_frac, or sizing.method: fixed_qty with sizing.fixed_qty"
_COMMANDS = "the command chooses the mode: tidegate demo or tidegate backtest"
_COUSINS = {
    "dry_run": _COMMANDS,
    "trading_mode": "only USD-M perpetual futures are traded; leave it out",
    "margin_mode": "the margin is cross; leave it out",
    "exchange": "the venue is Binance USD-M futures; a pair_whitelist is called symbols",
    "pair_whitelist": "use symbols",
    "pairs": "use symbols",
    "trading_pair": "use symbols",
    "trading_pairs": "use symbols",
    "approved_coins": "use symbols",
    "stake_currency": "every amount is in USDT; leave it out",
    "stake_amount": _SIZE_KEYS,
    "order_amount": _SIZE_KEYS,
    "max_open_trades": _RISK_KEYS,
    "tradable_balance_ratio": _RISK_KEYS,
    "leverage": _RISK_KEYS,
    "dry_run_wallet": "use risk.initial_capital_usdt",
    "starting_balance": "use risk.initial_capital_usdt",
    "stoploss": "use protection.disaster_stop_frac, a positive fraction; strategies name their own stops",
    "strategy": "use strategies, a list like [{class: TrendFollowing}]",
    "interval": "use timeframe",
    "fee": "use simulation.taker_fee and simulation.maker_fee",
    "datadir": "use data.dir",
}
"""Keys of freqtrade, jesse, hummingbot and passivbot, and what stands here in their place."""

_NEEDS = {
    "finite_number": "a finite number",
    "float": "a number",
    "decimal_max_digits": "a number of at most 28 digits",
    "decimal": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "model": "a section with keys of its own",
    "dict": "a section with keys of its own",
    "tuple": "a list",
}
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def sentence(text: str, at: str) -> PydanticCustomError:
    """An error whose text names its own path, for rules between several keys; ``at`` is the section to blame."""
    return PydanticCustomError("sentence", "{text}", {"text": text, "at": at})


def location(problem: ErrorDetails) -> tuple[int | str, ...]:
    """The path of the key to blame for a problem."""
    return problem["loc"] or (problem["ctx"]["at"],)


def by_cause(error: ValidationError) -> list[ErrorDetails]:
    """The problems, unknown keys first: a misspelt key also leaves its right spelling missing."""
    return sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")


def short(value: object) -> str:
    """A value on one line, cut where it gets long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def explain(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """One line: the path, what is wrong with it, and what stands there instead. ``model`` has the valid keys."""
    path, kind, context = _dotted(problem["loc"]), problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{path} is not a key; {_nearest(problem['loc'], model)}"
    if kind == "missing":
        return f"{path} is missing"
    if kind == "sentence":
        return problem["msg"]
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind]
        need = f"it must be {word} {_bound(context[bound])}"
        if kind.startswith("less") and path.endswith(("_pct", "_frac", "_fee", "_distance")):
            need += "; it is a fraction: 0.25 means 25 %"
    elif kind == "value_error":
        need = str(context["error"])
    elif kind == "literal_error":
        need = f"it must be {context['expected']}"
    else:
        known = _NEEDS.get(kind) or _NEEDS.get(kind.split("_")[0])
        need = f"it must be {known}" if known else problem["msg"].lower()
    return f"{path} is {short(problem['input'])}; {need}"


def _bound(limit: object) -> str:
    # A Decimal limit is handed over as its repr.
    return f"{limit:g}" if isinstance(limit, int | float) else str(limit).removeprefix("Decimal('").removesuffix("')")


def _nearest(loc: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """What an unknown key may have meant: another program's word, a near sibling, a key of another section."""
    key, parent = str(loc[-1]).lower(), loc[:-1]
    if key in _COUSINS:
        return _COUSINS[key]
    paths = _key_paths(model)
    home = re.sub(r"\[\d+\]", "[]", _dotted(parent)) + "." if parent else ""
    siblings = [path[len(home) :] for path in paths if path.startswith(home) and "." not in path[len(home) :]]
    elsewhere = {path.rpartition(".")[2]: path for path in paths}
    if key in elsewhere:
        return f"did you mean {elsewhere[key]}?"
    if near := get_close_matches(key, siblings, n=1, cutoff=0.6):
        return f"did you mean {_dotted((*parent, near[0]))}?"
    if near := get_close_matches(key, elsewhere, n=1, cutoff=0.75):
        return f"did you mean {elsewhere[near[0]]}?"
    return f"the keys there are {', '.join(siblings)}"


def _key_paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of a model as a dotted path; the items of a list are ``[]``."""
    paths: list[str] = []
    for name, field in model.model_fields.items():
        path = prefix + (field.alias or name)
        paths.append(path)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                paths += _key_paths(kind, f"{path}{'' if kind is field.annotation else '[]'}.")
    return paths


def _dotted(loc: tuple[int | str, ...]) -> str:
    path = ""
    for key in loc:
        if isinstance(key, int):
            path += f"[{key}]"
        else:
            path += ("." if path else "") + (key if key.isprintable() else repr(key))
    return path
