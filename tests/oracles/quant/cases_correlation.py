"""``correlation.json``: estimators of correlation."""

import numpy as np

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant.correlation import CorrelationAnalyzer
from tidegate.quant.covariance import ewma_covariance


@case("correlation.json", "corr-200x5")
def estimators(oracle: Oracle) -> None:
    """Denoised at the theoretical edge, as in our reference; skfolio fits the edge and keeps the same one here."""
    returns = np.array(oracle.inputs["returns"])
    analyzer = CorrelationAnalyzer(returns)
    oracle.check("pearson", analyzer.pearson())
    oracle.check("spearman", analyzer.spearman())
    oracle.check("kendall_tau_b", analyzer.kendall())
    oracle.check("ewma_cov_094_zero_mean", ewma_covariance(returns, 0.94))
    oracle.check("skfolio_denoised_cov", analyzer.denoised_covariance())
    population = returns.std(axis=0)
    oracle.check("skfolio_gerber_cov", analyzer.gerber() * np.outer(population, population))
