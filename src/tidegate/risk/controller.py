"""RiskController: twelve limits, how much to bet, how much can be lost, and the brake of the whole book.

How much to bet is Kelly's fraction, shrunk (``quant/kelly.py``). How much can be lost is estimated in four ways
(``quant/value_at_risk.py``, ``quant/tails.py``). The brake has its rules in ``risk/brake.py``.
Sources: Kelly 1956; Baker & McHale 2013; Jorion, Value at Risk; McNeil & Frey 2000; Grossman & Zhou 1993.
"""

import math
from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.domain.ids import Nanos
from tidegate.domain.orders import OrderIntent
from tidegate.domain.signals import Refusal
from tidegate.quant import kelly, measures, tails
from tidegate.quant.columns import column_of, spread_or_zero
from tidegate.risk.brake import BrakeCurve, DrawdownBrake, DrawdownSeverity, RiskMemory, RiskState
from tidegate.risk.gate import RiskGate, standard_rules
from tidegate.risk.view import PASS, Pass, RiskLimits, RiskView

MIN_RETURNS = 30
"""With fewer daily returns nothing is bet."""

MIN_REGIME_RETURNS = 60
"""With fewer daily returns of its own, a regime has its fixed multiplier."""

VarMethod = Literal["historical", "parametric", "evt", "filtered"]

_EVT_THRESHOLD = 0.90  # so that a 5 % tail lies well within the fitted one
_DEFAULT = RiskLimits()


class RiskController:
    """The twelve limits in force, and what follows from them. Raises ``ValueError`` for one outside its range.

    The names ending in ``_pct`` hold fractions (0.02 is 2 %). Ranges: capital, leverage and volatility above 0; the
    fractions above 0 and below 1; ``cvar_daily_pct`` at least ``var_daily_pct``; ``kelly_fraction`` from 0 to 1;
    ``min_liquidation_distance`` from 0 to below 1; at least one day of losses.
    """

    def __init__(
        self,
        initial_capital_usdt: float = _DEFAULT.initial_capital_usdt,
        var_daily_pct: float = _DEFAULT.var_daily_pct,
        cvar_daily_pct: float = _DEFAULT.cvar_daily_pct,
        max_drawdown_pct: float = _DEFAULT.max_drawdown_pct,
        max_consecutive_loss_days: int = _DEFAULT.max_consecutive_loss_days,
        allow_short: bool = _DEFAULT.allow_short,
        kelly_fraction: float = _DEFAULT.kelly_fraction,
        max_position_pct: float = _DEFAULT.max_position_pct,
        max_leverage: float = _DEFAULT.max_leverage,
        target_volatility: float = _DEFAULT.target_volatility,
        min_liquidation_distance: float = _DEFAULT.min_liquidation_distance,
        max_daily_loss_pct: float = _DEFAULT.max_daily_loss_pct,
    ) -> None:
        limits = RiskLimits(
            initial_capital_usdt=initial_capital_usdt,
            var_daily_pct=var_daily_pct,
            cvar_daily_pct=cvar_daily_pct,
            max_drawdown_pct=max_drawdown_pct,
            max_consecutive_loss_days=max_consecutive_loss_days,
            allow_short=allow_short,
            kelly_fraction=kelly_fraction,
            max_position_pct=max_position_pct,
            max_leverage=max_leverage,
            target_volatility=target_volatility,
            min_liquidation_distance=min_liquidation_distance,
            max_daily_loss_pct=max_daily_loss_pct,
        )
        check_limits(limits)
        self._take(limits, "grossman_zhou")

    @classmethod
    def of(cls, limits: RiskLimits, curve: BrakeCurve = "grossman_zhou") -> "RiskController":
        """The controller of limits that are in force already, with another curve of the brake if wanted."""
        check_limits(limits)
        each = cls.__new__(cls)
        each._take(limits, curve)
        return each

    def _take(self, limits: RiskLimits, curve: BrakeCurve) -> None:
        self.limits = limits
        self._brake = DrawdownBrake(limits, curve)
        self._gate: RiskGate | None = None

    # ---- how much to bet --------------------------------------------------------------------------------------------

    def calculate_optimal_position_fraction(
        self,
        returns: ArrayLike,
        regime: str | Mapping[str, float] = "UNKNOWN",
        fractional: float | None = None,
        *,
        regime_returns: Mapping[str, ArrayLike] | None = None,
    ) -> float:
        """The signed fraction of equity to hold, from ``(T,)`` simple **daily** returns of the strategy or instrument.

        1. Full Kelly: the smaller of the ratio and the exact sample answer.
        2. Times the share of the annual Sharpe ratio that survives its shrinkage toward 0.
        3. By regime: a name, or the filtered probabilities of several. One with at least ``MIN_REGIME_RETURNS`` returns
           in ``regime_returns`` has its own pooled mean and EWMA volatility, any other the fixed multiplier.
        4. Times ``fractional`` (``kelly_fraction`` when not given).
        5. Capped by ``max_position_pct``, ``max_leverage`` and ``target_volatility``; not below 0 without
           ``allow_short``.

        0 with fewer than ``MIN_RETURNS`` returns, or without variance: nothing is known then. Raises ``ValueError``
        when a return is not finite, or ``fractional`` lies outside [0, 1].
        """
        multiple = self.limits.kelly_fraction if fractional is None else fractional
        if not 0.0 <= multiple <= 1.0:
            raise ValueError(f"fractional is a multiple of Kelly from 0 to 1 (0.25 is a quarter), not {multiple}")
        column = _finite(returns)
        if column.size < MIN_RETURNS:
            return 0.0
        mean = float(column.mean())
        spread = spread_or_zero(float(column.std(ddof=1)), mean)
        if not spread:
            return 0.0
        probabilities = {regime: 1.0} if isinstance(regime, str) else regime
        own = regime_returns or {}
        fractions = {name: self._regime_kelly(column, mean, spread, name, own.get(name)) for name in probabilities}
        fraction = multiple * kelly.mixture_fraction(probabilities, fractions)
        limits = self.limits
        annual = spread * math.sqrt(measures.PERIODS_PER_YEAR)
        most = min(limits.max_position_pct, limits.max_leverage, limits.target_volatility / annual)
        return min(most, max(-most if limits.allow_short else 0.0, fraction))

    def _regime_kelly(
        self, column: NDArray[np.float64], mean: float, spread: float, regime: str, own: ArrayLike | None
    ) -> float:
        """Full Kelly of one regime, shrunk: from its own days where there are enough of them."""
        days = None if own is None else _finite(own)
        if days is None or days.size < MIN_REGIME_RETURNS:
            multiplier = kelly.fallback_multiplier(regime, allow_short=self.limits.allow_short)
            return multiplier * _shrunk_kelly(column, mean, spread)
        pooled = kelly.pooled_mean(float(days.mean()), days.size, mean)
        lately = float(measures.ewma_volatility(np.append(days, 0.0))[-1])  # as known after the last day
        if not spread_or_zero(lately, pooled):
            return 0.0
        # The days of the regime are too few for a tail of their own: the shape of all days, moved and scaled.
        return _shrunk_kelly(pooled + (column - mean) * (lately / spread), pooled, lately)

    # ---- how much can be lost ---------------------------------------------------------------------------------------

    def calculate_var(
        self,
        returns: ArrayLike,
        alpha: float = 0.05,
        method: VarMethod = "historical",
        *,
        dist: Literal["normal", "t", "cornish_fisher"] = "normal",
        sigma: ArrayLike | None = None,
        sigma_forecast: float | None = None,
        mu: float = 0.0,
        horizon_days: float = 1.0,
    ) -> float:
        """Value at risk of ``(T,)`` daily returns, a positive fraction of equity, ``alpha`` the tail's probability.

        - ``historical``: the sample quantile; NaN with fewer than ``5 / alpha`` returns.
        - ``parametric``: of ``dist``; Cornish-Fisher falls back to historical where it is not monotone.
        - ``evt``: peaks over the 90 % quantile of the losses; NaN with fewer than 50 of them, no ``alpha`` above 10 %.
        - ``filtered``: needs ``sigma``, ``(T,)``, the volatility that was forecast for each return before it, and
          ``sigma_forecast``, that of the next day.

        ``horizon_days`` scales by its root, which holds for independent returns only. For a book pass
        ``tails.revalued_returns``: today's positions on past returns. Raises ``ValueError`` when a return is not
        finite, for an ``alpha`` outside (0, 0.5), another method, or a filter without volatilities.
        """
        return self._loss(returns, alpha, method, dist, sigma, sigma_forecast, mu, horizon_days, mean_beyond=False)

    def calculate_cvar(
        self,
        returns: ArrayLike,
        alpha: float = 0.05,
        method: VarMethod = "historical",
        *,
        dist: Literal["normal", "t", "cornish_fisher"] = "normal",
        sigma: ArrayLike | None = None,
        sigma_forecast: float | None = None,
        mu: float = 0.0,
        horizon_days: float = 1.0,
    ) -> float:
        """Mean loss beyond ``calculate_var`` with the same arguments (expected shortfall)."""
        return self._loss(returns, alpha, method, dist, sigma, sigma_forecast, mu, horizon_days, mean_beyond=True)

    def _loss(
        self,
        returns: ArrayLike,
        alpha: float,
        method: VarMethod,
        dist: Literal["normal", "t", "cornish_fisher"],
        sigma: ArrayLike | None,
        sigma_forecast: float | None,
        mu: float,
        horizon_days: float,
        *,
        mean_beyond: bool,
    ) -> float:
        if not 0.0 < alpha < 0.5:
            raise ValueError(
                f"alpha is the probability of the tail, above 0 and below 0.5 (0.05, not 0.95), not {alpha}"
            )
        if not (horizon_days > 0.0 and math.isfinite(horizon_days)):
            raise ValueError(f"horizon_days must be a positive number, not {horizon_days}")
        column = _finite(returns)
        if method == "historical":
            loss = measures.conditional_var(column, alpha) if mean_beyond else measures.historical_var(column, alpha)
        elif method == "parametric":
            loss = (measures.conditional_var if mean_beyond else measures.parametric_var)(column, alpha, dist)
        elif method == "evt":
            fit = tails.fit_tail(column, _EVT_THRESHOLD)
            loss = math.nan if fit is None else fit.cvar(alpha) if mean_beyond else fit.var(alpha)
        elif method == "filtered":
            if sigma is None or sigma_forecast is None:
                raise ValueError(
                    "filtered value at risk needs sigma (one per return) and sigma_forecast (the next one)"
                )
            residuals = tails.standardised_residuals(column, sigma, mu)
            figure = tails.filtered_cvar if mean_beyond else tails.filtered_var
            loss = figure(residuals, sigma_forecast, alpha, mu)
        else:
            raise ValueError(f"unknown method {method!r}; use historical, parametric, evt or filtered")
        return loss * math.sqrt(horizon_days)

    # ---- the brake --------------------------------------------------------------------------------------------------

    def observe(self, ts_ns: Nanos, unit_equity: float) -> RiskState:
        """The equity per unit at a close; 1.0 is the start. Raises ``ValueError`` when it is not finite, or time turned
        back."""
        return self._brake.observe(ts_ns, unit_equity)

    def state(self) -> RiskState:
        """What was said last."""
        return self._brake.state

    def update_drawdown(self, equity: float) -> float:
        """The drawdown at an equity in USDT, for a book without deposits that does not ``observe``: the peak begins at
        the initial capital. Raises ``ValueError`` when the equity is not finite."""
        if not math.isfinite(equity):
            raise ValueError(f"equity must be a number of USDT, not {equity}")
        return self._brake.mark(equity / self.limits.initial_capital_usdt).drawdown_frac

    def get_drawdown_severity_level(self) -> DrawdownSeverity:
        """NORMAL, MILD, MODERATE, SEVERE or BREACH, at the equity seen last."""
        return self._brake.state.severity

    def record_day(self, pnl: float) -> int:
        """A UTC day has ended with a net result, after all costs, in any unit; ``observe`` does this by itself. Returns
        the losing days in a row. Raises ``ValueError`` when the result is not finite."""
        return self._brake.record_day(pnl)

    def reset(self) -> RiskState:
        """An operator's act: the latch is lifted, the run of losses forgotten, and the equity seen last is the peak.
        Raises ``ValueError`` when there is none left."""
        return self._brake.reset()

    def dump(self) -> RiskMemory:
        """What a restart has to know, as a value of its own."""
        return self._brake.dump()

    def load(self, memory: RiskMemory) -> None:
        """Go on where ``dump`` was."""
        self._brake.load(memory)

    def check(self, order: OrderIntent, state: RiskView) -> Pass | Refusal:
        """May this order be sent, by every rule of the house and by the brake? ``state`` is the account as its
        instrument sees it. Nothing is counted and nothing made; only the gate makes an order sendable."""
        if self._gate is None:
            self._gate = RiskGate(standard_rules(self.limits), "", 0)
        said = self._brake.state
        if said.no_new_risk:
            state = msgspec.structs.replace(state, no_new_risk=True, risk_reason=said.reason)
        return self._gate.objection(order, state) or PASS


def check_limits(limits: RiskLimits) -> None:
    """Raises ``ValueError`` with one sentence that names the first limit outside its range."""
    for name in ("initial_capital_usdt", "max_leverage", "target_volatility"):
        value = getattr(limits, name)
        if not (_is_number(value) and value > 0.0):
            raise ValueError(f"{name} must be a positive number, not {value!r}")
    for name in ("var_daily_pct", "cvar_daily_pct", "max_drawdown_pct", "max_position_pct", "max_daily_loss_pct"):
        value = getattr(limits, name)
        if not (_is_number(value) and 0.0 < value < 1.0):
            raise ValueError(f"{name} is a fraction above 0 and below 1 (0.02 is 2 %), not {value!r}")
    if limits.cvar_daily_pct < limits.var_daily_pct:
        raise ValueError(
            f"cvar_daily_pct is a mean beyond var_daily_pct and cannot be below it: "
            f"{limits.cvar_daily_pct!r} < {limits.var_daily_pct!r}"
        )
    for name, top, closed in (("kelly_fraction", "to 1", True), ("min_liquidation_distance", "to below 1", False)):
        value = getattr(limits, name)
        if not (_is_number(value) and 0.0 <= value <= 1.0 and (closed or value < 1.0)):
            raise ValueError(f"{name} lies from 0 {top}, not at {value!r}")
    days = limits.max_consecutive_loss_days
    if not isinstance(days, int) or isinstance(days, bool) or days < 1:
        raise ValueError(f"max_consecutive_loss_days must be a whole number of days, 1 or more, not {days!r}")
    if not isinstance(limits.allow_short, bool):
        raise ValueError(f"allow_short must be True or False, not {limits.allow_short!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _finite(returns: ArrayLike) -> NDArray[np.float64]:
    column = column_of(returns)
    bad = np.flatnonzero(~np.isfinite(column))
    if bad.size:
        raise ValueError(f"returns must be finite; the one at index {bad[0]} is {column[bad[0]]}")
    return column


def _shrunk_kelly(column: NDArray[np.float64], mean: float, spread: float) -> float:
    """The smaller of the ratio and the exact answer, times what survives of the annual Sharpe ratio."""
    full = measures.kelly_fraction(mean, spread * spread, allow_short=True)
    exact = kelly.exact_kelly(column)
    if abs(exact) < abs(full):
        full = exact
    days = measures.PERIODS_PER_YEAR
    sharpe = kelly.annual_sharpe(mean, spread, days)
    return full * kelly.shrunk_sharpe(sharpe, column.size / days) / sharpe if sharpe else 0.0
