"""Brinson-Fachler: Bacon's published table, a segment that one side lacks, and two ways of linking four periods."""

import math
from typing import Any

import numpy as np

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant.attribution import Attribution, LinkedAttribution, brinson_fachler, link


def attributed(book: dict[str, Any]) -> Attribution:
    sides = (book[name] for name in ("w_portfolio", "r_portfolio", "w_benchmark", "r_benchmark"))
    return brinson_fachler(*(np.array([math.nan if each is None else each for each in side]) for side in sides))


def compare(oracle: Oracle, found: Attribution) -> None:
    oracle.check("portfolio_return", found.portfolio_return)
    oracle.check("benchmark_return", found.benchmark_return)
    oracle.check("active", found.active)
    if not isinstance(found, LinkedAttribution):
        for name in ("allocation", "selection", "interaction"):
            oracle.check(name, getattr(found, name))
            oracle.check(f"{name}_total", math.fsum(getattr(found, name)))


@case("brinson_fachler.json", "bacon-three-markets")
def bacon(oracle: Oracle) -> None:
    found = attributed(oracle.inputs)
    compare(oracle, found)
    # Brinson, Hood & Beebower allocate by rb alone: ours, with the benchmark's return given back
    apart = np.subtract(oracle.inputs["w_portfolio"], oracle.inputs["w_benchmark"])
    oracle.check("allocation_bhb_1986_for_contrast", found.allocation + apart * found.benchmark_return)


@case("brinson_fachler.json", "segment-held-by-one-side")
def one_side(oracle: Oracle) -> None:
    compare(oracle, attributed(oracle.inputs))


@case("brinson_fachler.json", "linking-4-periods")
def linking(oracle: Oracle) -> None:
    periods = [attributed(each) for each in oracle.inputs["periods"]]
    for found, method in ((link(periods, "carino"), "carino"), (link(periods, "menchero"), "menchero")):
        compare(oracle, found)
        for name in ("coefficients", "allocation", "selection", "interaction"):
            oracle.check(f"{method}.{name}", getattr(found, name))
