"""Performance measures against empyrical, published tables and definitions."""

import numpy as np

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant import measures


def equity_of(returns: list[float]) -> np.ndarray:
    return np.cumprod(np.append(1.0, 1.0 + np.asarray(returns)))


@case("performance.json", "perf-500")
@case("performance.json", "perf-1000")
def performance(oracle: Oracle) -> None:
    returns, benchmark, ppy = (oracle.inputs[name] for name in ("returns", "benchmark", "periods_per_year"))
    equity = equity_of(returns)
    oracle.check("total_return", float(measures.cumulative_returns(returns)[-1]))
    oracle.check("cagr", measures.cagr(returns, ppy))
    oracle.check("annual_volatility", measures.annualized_volatility(returns, ppy))
    oracle.check("sharpe", measures.sharpe_ratio(returns, 0.0, ppy))
    oracle.check("sortino", measures.sortino_ratio(returns, 0.0, ppy))
    oracle.check("downside_risk", measures.downside_deviation(returns, 0.0, ppy))
    oracle.check("max_drawdown", -measures.max_drawdown(returns))  # the library's is negative
    oracle.check("calmar", measures.calmar_ratio(returns, ppy))
    oracle.check("omega", measures.omega_ratio(returns))
    oracle.check("tail_ratio", measures.tail_ratio(returns))
    oracle.check("beta", measures.beta(returns, benchmark))
    oracle.check("information_ratio", measures.information_ratio(returns, benchmark, 1.0))
    oracle.check("max_drawdown_duration", measures.max_drawdown_duration(equity))
    oracle.check("ulcer_index", measures.ulcer_index(equity))
    oracle.check("profit_factor", measures.profit_factor(returns))
    oracle.check("hit_rate", measures.hit_rate(returns))
    oracle.check("skew", measures.skewness(returns))
    oracle.check("kurtosis_nonexcess", measures.kurtosis(returns))


@case("performance.json", "edges")
def edges(oracle: Oracle) -> None:
    for name, returns in oracle.inputs.items():
        for figure in oracle.keys(name):
            if figure == "sharpe":
                oracle.check(f"{name}.sharpe", measures.sharpe_ratio(returns))
            elif figure == "max_drawdown":
                oracle.check(f"{name}.max_drawdown", -measures.max_drawdown(returns))
            elif figure == "total_return":
                oracle.check(f"{name}.total_return", float(measures.cumulative_returns(returns)[-1]))


@case("performance_published.json", "bacon-24-months")
def bacon(oracle: Oracle) -> None:
    returns, mar, ppy = (oracle.inputs[name] for name in ("portfolio", "mar", "periods_per_year"))
    column = np.asarray(returns)
    equity = equity_of(returns)
    oracle.check("downside_deviation_mar", measures.downside_deviation(returns, mar, 1.0))
    oracle.check("downside_potential_mar", float(np.maximum(mar - column, 0.0).mean()))
    oracle.check("bernardo_ledoit", measures.omega_ratio(returns))
    oracle.check("martin_ratio", measures.cagr(returns, ppy) / measures.ulcer_index(equity))
    oracle.check("pain_index", float(measures.drawdown_series(equity)[1:].mean()))
    oracle.check("mean_absolute_deviation", float(np.abs(column - column.mean()).mean()))
    oracle.check("downside_frequency_mar", measures.hit_rate(mar - column))
    oracle.check("upside_potential_mar", float(np.maximum(column - mar, 0.0).mean()))


@case("performance_published.json", "red-rock-sortino")
def red_rock(oracle: Oracle) -> None:
    returns, target, ppy = (oracle.inputs[name] for name in ("returns", "target", "periods_per_year"))
    oracle.check("mean", float(np.mean(returns)))
    oracle.check("target_downside_deviation", measures.downside_deviation(returns, target, ppy))
    oracle.check("sortino", measures.sortino_ratio(returns, target, ppy))
