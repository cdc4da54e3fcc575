"""What trading does to the price: shared by the simulator and, later, by execution."""

from math import sqrt


def square_root_impact_frac(qty: float, volume: float, volatility_frac: float, coefficient: float) -> float:
    """Average adverse move of an order, as a fraction of price: ``2/3 Y sigma sqrt(Q / V)``.

    ``volume`` and ``volatility_frac`` belong to the same span of time, ``qty`` to the order. No volume, no estimate:
    0. The peak of the move is 3/2 of the average. Source: the square-root law, e.g. Almgren, Thum, Hauptmann and Li
    2005; ``Y`` of 0.5 to 1 is what later measurements find.
    """
    if volume <= 0.0 or qty <= 0.0:
        return 0.0
    return coefficient * volatility_frac * sqrt(qty / volume) * 2.0 / 3.0
