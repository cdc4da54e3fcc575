"""From wishes to weights, and the band inside which nothing is traded."""

import pytest

from tests.unit.kernel.worlds import BTC
from tidegate.domain.signals import TargetWeight
from tidegate.portfolio.construction import PortfolioSettings, Wish, blend, worth_trading

SETTINGS = PortfolioSettings(gross_leverage=2.0, no_trade_band_frac=0.1)


@pytest.mark.parametrize(
    ("wishes", "weight", "conviction", "stop"),
    [
        ([], 0.0, 0.0, None),
        ([Wish(1.0, 90.0, 0.5)], 1.0, 1.0, 90.0),
        ([Wish(1.0, 90.0, 0.25), Wish(0.5, 95.0, 0.25)], 0.75, 0.75, 95.0),
        ([Wish(-1.0, 110.0, 0.25), Wish(-0.5, 105.0, 0.25)], -0.75, -0.75, 105.0),
        ([Wish(1.0, 90.0, 0.25), Wish(-0.5, 105.0, 0.25)], 0.25, 0.25, 90.0),
        ([Wish(1.0, None, 0.25), Wish(0.5, 80.0, 0.25)], 0.75, 0.75, 80.0),
        ([Wish(1.0, 90.0, 0.25), Wish(-1.0, 105.0, 0.25)], 0.0, 0.0, None),
        ([Wish(0.0, 99.0, 0.25), Wish(1.0, 90.0, 0.75)], 1.5, 0.75, 90.0),
    ],
)
def test_blend(wishes: list[Wish], weight: float, conviction: float, stop: float | None) -> None:
    assert blend(BTC, wishes, SETTINGS) == TargetWeight(BTC, weight, conviction, stop)


@pytest.mark.parametrize(
    ("held", "target", "trades"),
    [
        (1.0, 1.0999, False),
        (1.0, 1.1001, True),
        (1.0, 0.9, False),
        (1.0, 0.8999, True),
        (-2.0, -2.199, False),
        (-2.0, -1.79, True),
        (0.0, 1e-9, True),
        (1.0, 0.0, True),
        (1.0, -0.001, True),
        (-1e-9, 1e-9, True),
        (0.0, 0.0, False),
    ],
)
def test_the_band(held: float, target: float, trades: bool) -> None:
    assert worth_trading(held, target, SETTINGS) is trades
