"""``ledoit_wolf.json``: the shrunk covariances."""

import numpy as np

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant import covariance


def _shrunk(found: covariance.ShrunkCovariance) -> dict[str, object]:
    return {"shrinkage": found.shrinkage, "cov": found.matrix}


@case("ledoit_wolf.json", "cov-250x8")
@case("ledoit_wolf.json", "cov-60x20")
def shrinkage(oracle: Oracle) -> None:
    """Identity and OAS divide by T, constant correlation is PyPortfolioOpt's and the authors', QIS, GIS, LIS theirs."""
    returns = oracle.inputs["returns"]
    oracle.check("sample_cov_ddof1", covariance.sample_covariance(returns))
    oracle.check("ledoit_wolf_identity", _shrunk(covariance.ledoit_wolf(returns)))
    oracle.check("oas", _shrunk(covariance.oracle_approximating(returns)))
    oracle.check("ledoit_wolf_constant_correlation", _shrunk(covariance.constant_correlation(returns)))
    authors = covariance.constant_correlation(returns, moments_ddof=1)
    oracle.check("ledoit_wolf_authors_constant_correlation.cov", authors.matrix)
    oracle.check("qis_2022.cov", covariance.nonlinear_shrinkage(returns))
    oracle.check("gis_2022.cov", covariance.nonlinear_shrinkage(returns, kind="geometric"))
    oracle.check("lis_2022.cov", covariance.nonlinear_shrinkage(returns, kind="linear"))


@case("ledoit_wolf.json", "cov-15x30-singular")
def singular(oracle: Oracle) -> None:
    """More symbols than periods: the sample matrix is singular, the shrunk one is not."""
    found = covariance.ledoit_wolf(oracle.inputs["returns"])
    oracle.check("shrinkage", found.shrinkage)
    oracle.check("cov_diag", np.diag(found.matrix))
    oracle.check("min_eigenvalue_positive", bool(np.linalg.eigvalsh(found.matrix)[0] > 0.0))
