"""One settings model: command line over environment over YAML file over defaults, and errors of one clear line.

Every key is in effect: a key that does nothing is refused, not ignored. ``_pct`` and ``_frac`` are fractions.
Money, fees and quantities are ``Decimal``, read from the text of the number so that no float artefact gets in.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidegate.app.config_database import DatabaseSettings, screen_password
from tidegate.app.config_errors import by_cause, explain, location, sentence
from tidegate.app.config_fields import Money, Parameter, Real, Section, Symbols, Whole
from tidegate.app.config_live import KeySettings, LiveSettings, PositionSettings, StateSettings, VenueSettings
from tidegate.app.config_portfolio import PortfolioSettings, RegimeSettings
from tidegate.app.config_sources import Layer, environment, merge, nested, read_yaml
from tidegate.domain.errors import ConfigError
from tidegate.domain.ids import StrategyId
from tidegate.domain.market import INTERVALS_NS, BarSpec

ENV_PREFIX = "TIDEGATE__"
"""``TIDEGATE__RISK__MAX_LEVERAGE=2`` is ``risk.max_leverage: 2``; lists and sections are written as YAML or JSON."""

_CLASS = re.compile(r"(([A-Za-z_][\w.]*|[^:]+\.py):)?[A-Za-z_]\w*")


class StrategySettings(Section):
    """One strategy: a built-in name, ``module:Class`` or ``folder/file.py:Class``, alone or with more.

    No symbols means all of them; no name means the name of the class.
    """

    class_path: str = Field(alias="class")
    name: StrategyId = StrategyId("")
    symbols: Symbols | None = None
    params: dict[str, Parameter] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: object) -> object:
        if isinstance(data, str):
            data = {"class": data}
        if isinstance(data, Mapping) and data.get("name") is None and isinstance(data.get("class"), str):
            data = {**data, "name": data["class"].rpartition(":")[2]}
        return data

    @field_validator("class_path")
    @classmethod
    def _importable(cls, text: str) -> str:
        if not _CLASS.fullmatch(text):
            raise ValueError("it must be written like TrendFollowing, package.module:Class or folder/file.py:Class")
        return text

    @field_validator("name")
    @classmethod
    def _short(cls, text: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", text):
            raise ValueError("it must be 1 to 40 letters, digits, '_' or '-'")
        return text


class RiskSettings(Section):
    """Limits of the account. The capital is the opening balance of demo and backtest.

    ``brake`` is the curve by which a drawdown cuts the exposure on its way to ``max_drawdown_pct``, where everything is
    closed and a person must look; with ``none`` neither that nor the limits of daily loss and losing days hold.
    """

    initial_capital_usdt: Real = Field(default=10_000.0, gt=0, le=1e12)
    var_daily_pct: Real = Field(default=0.02, gt=0, lt=1)
    cvar_daily_pct: Real = Field(default=0.03, gt=0, lt=1)
    max_drawdown_pct: Real = Field(default=0.12, gt=0, lt=1)
    max_consecutive_loss_days: Whole = Field(default=7, ge=1, le=365)
    allow_short: bool = True
    kelly_fraction: Real = Field(default=0.25, ge=0, le=1)
    max_position_pct: Real = Field(default=0.25, gt=0, lt=1)
    max_leverage: Real = Field(default=3.0, gt=0, le=125)
    target_volatility: Real = Field(default=0.10, gt=0, le=5)
    min_liquidation_distance: Real = Field(default=0.30, ge=0, lt=1)
    max_daily_loss_pct: Real = Field(default=0.03, gt=0, lt=1)
    brake: Literal["grossman_zhou", "linear", "none"] = "grossman_zhou"
    max_orders_per_minute: Whole = Field(default=300, ge=1, le=100_000)
    price_collar_frac: Real = Field(default=0.05, gt=0, lt=1)

    @model_validator(mode="after")
    def _ordered(self) -> "RiskSettings":
        if self.cvar_daily_pct < self.var_daily_pct:
            raise sentence(
                f"risk.cvar_daily_pct {self.cvar_daily_pct} is below risk.var_daily_pct {self.var_daily_pct}: "
                "the mean of the worst losses cannot be smaller than the least of them",
                "risk",
            )
        return self


class SizingSettings(Section):
    """How large a full wish is: by the risk to its stop, or a fixed quantity in base units."""

    method: Literal["risk", "fixed_qty"] = "risk"
    risk_per_trade_frac: Real = Field(default=0.005, gt=0, lt=1)
    fixed_qty: Money | None = Field(default=None, gt=0, le=10**12)

    @model_validator(mode="after")
    def _complete(self) -> "SizingSettings":
        if self.method == "fixed_qty" and self.fixed_qty is None:
            raise sentence(
                "sizing.fixed_qty is missing; sizing.method: fixed_qty needs a quantity, like 0.01", "sizing"
            )
        return self


class ProtectionSettings(Section):
    """The stop of every position; ``disaster_stop_frac`` of the entry where the strategy names none."""

    mode: Literal["stop", "none"] = "stop"
    disaster_stop_frac: Real = Field(default=0.15, gt=0, lt=1)


class ExecutionSettings(Section):
    """How targets become orders."""

    algo: Literal["immediate"] = "immediate"


class SlippageSettings(Section):
    """What a market order pays beyond the printed price."""

    model: Literal["none", "bps", "spread_impact"] = "spread_impact"
    bps: Real = Field(default=1.0, ge=0, lt=10_000)
    impact: Real = Field(default=0.8, ge=0, le=100)


class SimulationSettings(Section):
    """The simulated exchange. A fee of null is the instrument's own; a volume share of null is no limit.

    ``reset_after_days`` is the person of a backtest, who lifts the latch of a drawdown that long after it fell; null is
    nobody. A daemon waits for a real one.
    """

    taker_fee: Money | None = Field(default=Decimal("0.0005"), ge=0, lt=Decimal("0.1"))
    maker_fee: Money | None = Field(default=Decimal("0.0002"), gt=Decimal("-0.1"), lt=Decimal("0.1"))
    slippage: SlippageSettings = SlippageSettings()
    latency_ms: Real = Field(default=0.0, ge=0, le=60_000)
    reset_after_days: Whole | None = Field(default=30, ge=1, le=3650)
    volume_share: Real | None = Field(default=0.1, gt=0, le=1)
    delisting: bool = True
    funding: bool = True


class DataSettings(Section):
    """Where stored market data lies: bars, the exchangeInfo file, the leverage bracket file."""

    dir: str | None = None
    exchange_info: str | None = None
    brackets: str | None = None


class DemoSettings(Section):
    """The demo: market seconds per second, days run before the start, and what is left when it stops."""

    speed: Real = Field(default=600.0, gt=0, le=1e7)
    history_days: Whole = Field(default=30, ge=0, le=3650)
    flatten_on_stop: bool = False


class JournalSettings(Section):
    """Where and how a demo keeps the record of every event and command; no folder means the user's state folder."""

    dir: str | None = None
    fsync: bool = True
    segment_mib: Whole = Field(default=16, ge=1, le=1024)
    snapshot_every: Whole = Field(default=50_000, ge=1, le=10**9)


class LoggingSettings(Section):
    """What is said, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Settings(Section):
    """The whole configuration. ``load_settings`` makes one; built directly it reads neither file nor environment."""

    mode: Literal["paper", "testnet", "live"] | None = None
    symbols: Symbols
    timeframe: str = "1h"
    seed: Whole = Field(default=7, ge=0, lt=2**63)
    account: str = "demo"
    strategies: tuple[StrategySettings, ...]
    risk: RiskSettings = RiskSettings()
    sizing: SizingSettings = SizingSettings()
    regime: RegimeSettings = RegimeSettings()
    portfolio: PortfolioSettings = PortfolioSettings()
    protection: ProtectionSettings = ProtectionSettings()
    execution: ExecutionSettings = ExecutionSettings()
    simulation: SimulationSettings = SimulationSettings()
    data: DataSettings = DataSettings()
    demo: DemoSettings = DemoSettings()
    journal: JournalSettings = JournalSettings()
    venue: VenueSettings = VenueSettings()
    keys: KeySettings = KeySettings()
    live: LiveSettings = LiveSettings()
    positions: PositionSettings = PositionSettings()
    state: StateSettings = StateSettings()
    database: DatabaseSettings = DatabaseSettings()
    logging: LoggingSettings = LoggingSettings()

    @field_validator("timeframe")
    @classmethod
    def _interval(cls, text: str) -> str:
        try:
            return BarSpec.of(text).name
        except ValueError:
            raise ValueError(f"it must be one of {' '.join(INTERVALS_NS)}") from None

    @field_validator("account")
    @classmethod
    def _label(cls, text: str) -> str:
        if not re.fullmatch(r"[a-z0-9]{1,12}", text):
            raise ValueError("it must be 1 to 12 characters of a-z and 0-9")
        return text

    @field_validator("protection", mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        return {"mode": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.regime.model != "none" and self.portfolio.optimizer == "none":
            raise sentence(
                "regime.model needs a portfolio that it can move: set portfolio.optimizer to mean_variance", "regime"
            )
        if not self.strategies:
            raise sentence("strategies is empty; name at least one, like {class: TrendFollowing}", "strategies")
        seen: set[str] = set()
        for index, strategy in enumerate(self.strategies):
            where = f"strategies[{index}]"
            if strategy.name in seen:
                raise sentence(
                    f"{where}.name {strategy.name!r} is taken; give each strategy a name of its own", "strategies"
                )
            seen.add(strategy.name)
            for symbol in strategy.symbols or ():
                if symbol not in self.symbols:
                    known = ", ".join(self.symbols)
                    raise sentence(f"{where}.symbols has {symbol}, which is not in symbols ({known})", "strategies")
        for path, named in (("venue.contracts", self.venue.contracts), ("positions.adopt", self.positions.adopt)):
            for symbol in named:
                if symbol not in self.symbols:
                    known = ", ".join(self.symbols)
                    raise sentence(f"{path} has {symbol}, which is not in symbols ({known})", path.partition(".")[0])
        return self

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON takes them, every default filled in; ``Settings.model_validate`` reads them back."""
        return self.model_dump(mode="json", by_alias=True)

    def digest(self) -> str:
        """SHA-256, in hex, of all that can change a result: not journal, log, database, places of data, keys, state."""
        content = self.as_dict()
        del content["journal"], content["logging"], content["data"]["dir"], content["keys"], content["state"]
        del content["database"]
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load_settings(
    path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    defaults: Mapping[str, object] | None = None,
) -> Settings:
    """Read and check the settings: ``overrides`` over environment over the YAML file at ``path`` over ``defaults``.

    ``overrides`` is shaped like the file; a dotted key (``"risk.max_leverage"``) is short for the nested one. ``None``
    is the file's ``null``: at the top it means "not given". Raises ``ConfigError`` with one line that names the source
    and the path of the first problem, and how many more there are.
    """
    layers = [
        Layer("command line", nested(overrides or {})),
        Layer("environment", environment(_Variables)),
        Layer(str(path) if path else "configuration", read_yaml(path) if path else {}),
        Layer("defaults", nested(defaults or {})),
    ]
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        screen_password(layer.tree, layer.name, allowed=layer.name == "environment")
        merged = merge(merged, layer.tree)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_complaint(error, layers)) from None


class _Variables(BaseSettings, Settings):
    """The settings as the environment reader wants them described."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_ignore_empty=True, env_parse_none_str="null"
    )


def _complaint(error: ValidationError, layers: list[Layer]) -> str:
    problems = by_cause(error)
    loc = location(problems[0])
    ends = range(len(loc), 0, -1)  # a key that is missing belongs to whoever wrote the section around it
    source = next((layer.name for end in ends for layer in layers if layer.has(loc[:end])), layers[2].name)
    if source == "environment":
        source = f"environment {ENV_PREFIX}{'__'.join(str(key).upper() for key in loc)}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{source}: {explain(problems[0], Settings)}{more}"
