"""Value at risk and expected shortfall of the whole book as a limit before the trade.

The day is Gaussian with a volatility that somebody else forecast: the loss in the worst 5 % of days starts at
``z sigma`` (VaR) and is ``phi(z)/alpha sigma`` on average (CVaR). Both limits are limits on sigma, and the nearer one
counts. With the other positions' VaR ``b`` and their correlation ``rho`` with the instrument, a position whose own VaR
is ``x`` makes a book of ``sqrt(b^2 + 2 rho b x + x^2)``: the largest ``x`` within the limit ``L`` is
``-rho b + sqrt(L^2 - b^2 (1 - rho^2))``. Without a book that is ``L``.
Source: Jorion, Value at Risk, 3rd ed., on incremental VaR.
"""

from math import inf, nan, sqrt

from tidegate.domain.orders import OrderIntent
from tidegate.domain.signals import Reason, TargetPosition
from tidegate.risk.view import PASS, Refuse, Resize, RiskView, Verdict, qty_after, within_held

VAR_SIGMAS = 1.6448536269514729
"""Standard deviations to the 5 % quantile of a Gaussian."""

CVAR_SIGMAS = 2.0627128075074253
"""Standard deviations to the mean of what lies beyond it."""

_ROOM = 1.0 + 1e-9


def most_weight(
    var_limit_frac: float,
    daily_volatility: float,
    side: int = 1,
    book_var_frac: float = 0.0,
    book_correlation: float | None = None,
) -> float:
    """The largest notional over equity with which the book's one-day 95 % VaR stays within ``var_limit_frac``.

    ``side`` is +1 or -1; ``book_correlation`` is that of the instrument's return with the P&L of the other positions,
    and one that is not known counts as 1 with either side. 0 where even the best is above the limit; infinite without
    volatility; NaN where an input is NaN or negative, or a correlation outside [-1, 1].
    """
    rho = 1.0 if book_correlation is None else side * book_correlation
    if not (daily_volatility >= 0.0 and book_var_frac >= 0.0 and -1.0 <= rho <= 1.0):
        return nan
    if daily_volatility == 0.0:
        return inf
    left = var_limit_frac * var_limit_frac - book_var_frac * book_var_frac * (1.0 - rho * rho)
    if left < 0.0:
        return 0.0
    return max(0.0, sqrt(left) - rho * book_var_frac) / (VAR_SIGMAS * daily_volatility)


def var_limit(var_daily_pct: float, cvar_daily_pct: float) -> float:
    """Both limits as one limit on the VaR: that of the CVaR in the same Gaussian tail is a little further out."""
    return min(var_daily_pct, cvar_daily_pct * VAR_SIGMAS / CVAR_SIGMAS)


class ValueAtRiskRule:
    """A position does not grow beyond what the book's VaR and CVaR allow. Neutral while no volatility is known."""

    name = "value_at_risk"
    growth_only = True

    def __init__(self, var_daily_pct: float, cvar_daily_pct: float) -> None:
        self.var_daily_pct = var_daily_pct
        self.cvar_daily_pct = cvar_daily_pct
        self._limit = var_limit(var_daily_pct, cvar_daily_pct)

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:
        most = self._most(view, 1 if target.qty > 0 else -1)
        if abs(float(target.qty)) <= most * _ROOM or within_held(target, view):
            return PASS
        allowed = view.instrument.qty(most if target.qty > 0 else -most)
        if target.qty * view.held_qty > 0 and abs(view.held_qty) > abs(allowed):
            allowed = view.held_qty
        return Resize(allowed, Reason.VALUE_AT_RISK, self._text)

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:
        after = qty_after(intent, view)
        if abs(after) <= self._most(view, 1 if after > 0.0 else -1) * _ROOM:
            return PASS
        return Refuse(Reason.VALUE_AT_RISK, self._text)

    @property
    def _text(self) -> str:
        return f"daily VaR above {self.var_daily_pct:.1%} or CVaR above {self.cvar_daily_pct:.1%} of equity"

    def _most(self, view: RiskView, side: int) -> float:
        if view.daily_volatility == 0.0:
            return inf
        weight = most_weight(self._limit, view.daily_volatility, side, view.book_var_frac, view.book_correlation)
        if not weight >= 0.0:
            return 0.0  # an input that makes no sense is no permission
        return weight * max(0.0, view.equity) / view.price
