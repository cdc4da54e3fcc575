"""Funding: flat around the interest, and a rate for each length of interval."""

import numpy as np
import pytest

from tidegate.quant.funding import INTEREST_8H, annualised_funding, funding_rate


def test_within_the_clamp_the_rate_is_the_interest_and_beyond_it_moves_with_the_premium() -> None:
    inside = np.linspace(-0.0004, 0.0006, 11)
    assert funding_rate(inside) == pytest.approx(np.full(11, INTEREST_8H))
    assert funding_rate(0.002) == pytest.approx(0.0015)
    assert funding_rate(-0.002) == pytest.approx(-0.0015)


def test_a_shorter_interval_pays_its_share() -> None:
    assert funding_rate(0.002, 4) == pytest.approx(0.5 * funding_rate(0.002))
    assert annualised_funding(funding_rate(0.002, 1), 1) == pytest.approx(annualised_funding(funding_rate(0.002)))
    assert annualised_funding(0.0001) == pytest.approx(0.1095)
    for hours in (0.0, -8.0, float("nan")):
        with pytest.raises(ValueError, match="positive number of hours"):
            funding_rate(0.0, hours)
        with pytest.raises(ValueError, match="positive number of hours"):
            annualised_funding(0.0, hours)
