"""Support and resistance: known when they are confirmed, not before, and only where they were touched often enough."""

import numpy as np
import pytest

from tidegate.quant.fold import scan
from tidegate.quant.pivots import SupportResistance


def levels(closes: list[float], **choices) -> tuple[list[float], list[float]]:
    close = np.array(closes)
    xs = np.ascontiguousarray(np.column_stack([close + 0.1, close - 0.1, close]))
    fold = SupportResistance(2, 60, atr_bars=2, within_atrs=1.0, **choices)
    ys = scan(fold, fold.initial(), xs)
    return ys[:, 0].tolist(), ys[:, 1].tolist()


WAVE = [5.0, 4, 3, 2, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1.05, 2, 3, 4, 5, 6.1, 5, 4, 3.5, 3.4]
"""Lows at 4 (1.0) and 14 (1.05), highs at 9 (6) and 19 (6.1)."""


def test_a_level_exists_when_its_second_pivot_is_confirmed() -> None:
    support, resistance = levels(WAVE)
    assert np.isnan(support[:16]).all()
    assert support[16] == pytest.approx((0.9 + 0.95) / 2)
    assert np.isnan(resistance[:21]).all()
    assert resistance[21] == pytest.approx((6.1 + 6.2) / 2)


def test_what_comes_later_moves_no_level() -> None:
    support, resistance = levels(WAVE)
    for cut in range(5, len(WAVE)):
        assert np.array_equal(levels(WAVE[:cut])[0], support[:cut], equal_nan=True)
        assert np.array_equal(levels([*WAVE[:cut], 50.0, 60.0, 40.0])[1][:cut], resistance[:cut], equal_nan=True)


def test_one_touch_is_a_level_only_when_one_is_enough() -> None:
    support, _ = levels(WAVE, touches=1)
    assert np.isnan(support[:6]).all()
    assert support[6] == pytest.approx(0.9)


def test_a_level_is_forgotten() -> None:
    close = [*WAVE, *([3.4] * 80)]
    support, resistance = levels(close)
    assert support[40] == pytest.approx(0.925)
    assert np.isnan(support[-1])
    assert np.isnan(resistance[-1])


@pytest.mark.parametrize(
    ("choices", "complaint"),
    [({"confirm_bars": 0}, "confirm_bars"), ({"memory_bars": 0}, "memory_bars"), ({"within_atrs": 0.0}, "within_atrs")],
)
def test_a_wrong_choice_is_named(choices: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        SupportResistance(**choices)
