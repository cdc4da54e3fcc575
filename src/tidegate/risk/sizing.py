"""PositionSizer: the smallest of all limits decides, and says its name.

Each limit is a quantity in base units, ``E`` the equity and ``P`` the price:

- ``weight`` or ``fixed_qty``: what is wished for; ``volatility_target`` scales that wish down;
- ``stop_risk``: ``E r / |P - stop|``, the stop being the wish's own, or else the disaster stop or ``stop_atrs`` ATR,
  the wider: a stop that is not placed nearer loses as much;
- ``kelly``: ``f E / P``;
- ``var`` or ``cvar``, whichever is nearer: what the other positions leave (``risk/rules/value_at_risk.py``);
- ``max_position``, ``max_leverage``;
- ``liquidation_distance``: at least the limit, ``liquidation_sigmas`` daily volatilities over the days that it takes to
  react, and ``stop_clearance`` stop distances away; ``joint_shock``: all positions lose that much at once, and the
  margin still covers the maintenance;
- ``volume``, ``depth``: a share of the quote volume of 24 hours, and of the book within 10 basis points.

The brake of the drawdown multiplies what is left. Only then comes the lot, downward (``on_grid``).

Sources: Van Tharp, "Trade Your Way to Financial Freedom", for the risk per trade; Jorion, Value at Risk; Binance's
margin tables for the liquidation limit.
"""

from decimal import Decimal
from math import inf, sqrt
from typing import Literal

import msgspec

from tidegate.domain.errors import ConfigError
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import max_qty_at_distance
from tidegate.domain.signals import TargetPosition, TargetWeight
from tidegate.risk.rules.value_at_risk import most_weight, var_limit
from tidegate.risk.view import RiskLimits, RiskView


class SizingSettings(msgspec.Struct, frozen=True):
    """``risk`` sizes by the loss at the stop (``risk_per_trade_frac`` of equity at full conviction) and by the weight;
    ``fixed_qty`` wants the same quantity at full conviction, whatever the price, under the same limits.

    The others shape the limits that need ``SizingInputs``, and mean nothing without them; ``None`` switches one off.
    """

    method: Literal["risk", "fixed_qty"] = "risk"
    risk_per_trade_frac: float = 0.005
    fixed_qty: Decimal | None = None
    stop_atrs: float = 2.5
    liquidation_sigmas: float = 1.5
    reaction_days: float = 1.0
    stop_clearance: float | None = None
    joint_shock_frac: float | None = None
    volume_share: float = 0.01
    depth_share: float = 0.10


class SizingInputs(msgspec.Struct, frozen=True, gc=False):
    """What is known of one instrument and the book besides the price. ``None`` is not known and does not bind; a NaN
    or a negative number should have been known, and binds at zero.

    ``kelly_frac`` is the fraction of equity for the side that is wished for; ``daily_volatility`` a fraction per day;
    ``book_var_frac`` the one-day 95 % VaR of the other positions over equity, ``book_correlation`` that of the
    instrument's return with their P&L (not known: 1). ``volatility_scale`` is ``sigma*/sigma`` of the whole book,
    ``exposure_multiplier`` the drawdown brake (both act up to 1). ``atr`` is in price units, ``depth_usdt`` the quote
    value of the book within 10 basis points on the side that an order would take.
    """

    kelly_frac: float | None = None
    daily_volatility: float | None = None
    book_var_frac: float | None = None
    book_correlation: float | None = None
    volatility_scale: float | None = None
    exposure_multiplier: float | None = None
    atr: float | None = None
    daily_quote_volume_usdt: float | None = None
    depth_usdt: float | None = None


class PositionSizer:
    """Sizes targets. ``disaster_stop_frac`` is the stop distance of a wish without a stop of its own."""

    def __init__(self, settings: SizingSettings, limits: RiskLimits, disaster_stop_frac: float) -> None:
        self._settings = settings
        self._limits = limits
        self._disaster_stop_frac = disaster_stop_frac
        self._fixed_qty: float | None = None
        if settings.method == "fixed_qty":
            if settings.fixed_qty is None:
                raise ConfigError("sizing.method: fixed_qty needs sizing.fixed_qty, a quantity in base units")
            self._fixed_qty = float(settings.fixed_qty)
        self._var_limit = var_limit(limits.var_daily_pct, limits.cvar_daily_pct)
        self._var_name = "var" if self._var_limit == limits.var_daily_pct else "cvar"

    def size(
        self,
        target: TargetWeight,
        instrument: Instrument,
        price: float,
        equity: float,
        other_notional: float,
        other_maintenance: float,
        inputs: SizingInputs | None = None,
    ) -> tuple[float, str]:
        """The signed quantity in base units before rounding, and the name of the limit that bound it.

        ``other_notional`` and ``other_maintenance`` belong to the other instruments, in USDT. Zero when nothing is
        wished for, or when there is no equity or price to size with.
        """
        conviction = target.conviction
        if not 0.0 < equity < inf or not 0.0 < price < inf:
            return 0.0, "flat"
        limits = self._limits
        if conviction > 0.0:
            side = 1
        elif not conviction < 0.0:
            return 0.0, "flat"  # nothing is wished for, or something that is no number
        elif limits.allow_short:
            side = -1
        else:
            return 0.0, "allow_short"
        if inputs is not None:
            bounds = self.candidates(target, instrument, price, equity, other_notional, other_maintenance, inputs)
            binding = min(bounds, key=bounds.__getitem__)
            qty = bounds[binding]
            brake = inputs.exposure_multiplier
            if brake is not None and not brake >= 1.0:
                qty, binding = qty * (brake if brake > 0.0 else 0.0), "drawdown"
            return side * qty, binding
        # The same limits as in candidates(), as far as they need no inputs, written for every bar.
        if self._fixed_qty is not None:
            qty, binding = abs(conviction) * self._fixed_qty, "fixed_qty"
        else:
            qty, binding = abs(target.weight) * equity / price, "weight"
            at_risk = equity * self._settings.risk_per_trade_frac * abs(conviction)
            at_stop = at_risk / self._stop_distance(target, price, side)
            if at_stop < qty:
                qty, binding = at_stop, "stop_risk"
        # The bounds are those of domain.margin.is_distant.
        distance = limits.min_liquidation_distance
        highest = distance + (1.0 + distance) * instrument.brackets[-1].maintenance_frac
        notional = qty * price
        if (
            notional <= limits.max_position_pct * equity
            and notional + other_notional <= limits.max_leverage * equity
            and notional * highest + other_maintenance <= equity
        ):
            return side * qty, binding
        if qty != qty:
            return 0.0, "flat"  # a weight that is no number
        most = limits.max_position_pct * equity / price
        if most < qty:
            qty, binding = most, "max_position"
        most = (limits.max_leverage * equity - other_notional) / price
        if most < qty:
            qty, binding = max(0.0, most), "max_leverage"
        if qty * price * highest + other_maintenance > equity:
            most = max_qty_at_distance(
                instrument.brackets,
                equity=equity,
                other_maintenance=other_maintenance,
                price=price,
                side=side,
                distance_frac=distance,
            )
            if most < qty:
                qty, binding = most, "liquidation_distance"
        return side * qty, binding

    def candidates(
        self,
        target: TargetWeight,
        instrument: Instrument,
        price: float,
        equity: float,
        other_notional: float,
        other_maintenance: float,
        inputs: SizingInputs,
    ) -> dict[str, float]:
        """Every limit that is known by name: the largest quantity that it allows, in base units, 0 or more.

        The side is that of the conviction; equity and price must be positive.
        """
        limits, settings = self._limits, self._settings
        side = 1 if target.conviction > 0.0 else -1
        share, unit = abs(target.conviction), equity / price
        stop = self._stop_distance(target, price, side, inputs.atr)
        if self._fixed_qty is not None:
            wanted = share * self._fixed_qty
            bounds = {"fixed_qty": wanted}
        else:
            wanted = abs(target.weight) * unit
            bounds = {"weight": wanted, "stop_risk": equity * settings.risk_per_trade_frac * share / stop}
        if inputs.volatility_scale is not None:
            bounds["volatility_target"] = wanted * inputs.volatility_scale
        if inputs.kelly_frac is not None:
            bounds["kelly"] = inputs.kelly_frac * unit
        if inputs.daily_volatility is not None:
            book = 0.0 if inputs.book_var_frac is None else inputs.book_var_frac
            weight = most_weight(self._var_limit, inputs.daily_volatility, side, book, inputs.book_correlation)
            bounds[self._var_name] = weight * unit
        bounds["max_position"] = limits.max_position_pct * unit
        bounds["max_leverage"] = limits.max_leverage * unit - other_notional / price
        bounds["liquidation_distance"] = max_qty_at_distance(
            instrument.brackets,
            equity=equity,
            other_maintenance=other_maintenance,
            price=price,
            side=side,
            distance_frac=self._liquidation_distance(stop / price, side, inputs.daily_volatility),
        )
        if (shock := settings.joint_shock_frac) is not None:
            bounds["joint_shock"] = max_qty_at_distance(
                instrument.brackets,
                equity=equity - shock * other_notional,
                other_maintenance=other_maintenance * (1.0 + shock),
                price=price,
                side=side,
                distance_frac=shock,
            )
        if inputs.daily_quote_volume_usdt is not None:
            bounds["volume"] = settings.volume_share * inputs.daily_quote_volume_usdt / price
        if inputs.depth_usdt is not None:
            bounds["depth"] = settings.depth_share * inputs.depth_usdt / price
        return {name: most if most > 0.0 else 0.0 for name, most in bounds.items()}

    def on_grid(self, target: TargetWeight, qty: float, view: RiskView) -> TargetPosition:
        """A sized quantity as an obligation: down to the lot, and zero when it is below what the venue takes."""
        size = view.instrument.qty(qty)
        too_small = abs(size) < view.instrument.min_qty
        too_cheap = abs(float(size)) * view.price < float(view.instrument.min_notional)
        return TargetPosition(target.instrument, Decimal(0) if too_small or too_cheap else size)

    def _stop_distance(self, target: TargetWeight, price: float, side: int, atr: float | None = None) -> float:
        """Loss per unit if the stop is hit; a stop on the wrong side of the price counts as no stop."""
        if target.stop is not None:
            distance = (price - target.stop) * side
            if distance > 0.0:
                return distance
        distance = price * self._disaster_stop_frac
        if atr is None or 0.0 <= self._settings.stop_atrs * atr <= distance:
            return distance
        return self._settings.stop_atrs * atr

    def _liquidation_distance(self, stop_frac: float, side: int, daily_volatility: float | None) -> float:
        """How far away the liquidation must be, a fraction of the price; a long that pays in full has none."""
        settings = self._settings
        distance = self._limits.min_liquidation_distance
        if daily_volatility is not None:
            distance = max(distance, settings.liquidation_sigmas * daily_volatility * sqrt(settings.reaction_days))
        if settings.stop_clearance is not None:
            distance = max(distance, settings.stop_clearance * stop_frac)
        return min(distance, 1.0) if side > 0 else distance
