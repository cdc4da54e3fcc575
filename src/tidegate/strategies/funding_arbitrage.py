"""Funding: be paid it on one leg, and hold another against the price. Not an arbitrage in the strict sense.

``cross_section`` (futures only), at each rebalance:

1. eligible are legs with enough bars and volume, a settlement interval that is known and unchanged for one half-life,
   a last rate below the cap, and a bar for this close;
2. funding is winsorised and ranked; low funding is bought, high funding sold, by rank over volatility;
3. the weights are moved, as little as possible in risk, to ``sum w = 0`` and ``sum w beta = 0``;
4. they are wished for when the carry expected over the holding pays for both legs in and out;
5. between rebalances: out when the carry no longer pays for the way out, or the legs are not held in the wished
   proportions; anew, without it, when a leg's interval changes, its rate reaches the cap, or it is gone.

``quarterly`` and ``spot_perpetual`` hold a perpetual against the hedge leg named in ``pairs``, equal notional:

1. short the perpetual when funding less the basis paid is positive, long when it is negative (quarterly only: nobody
   lends us spot);
2. both legs are wished for together, or neither: without the hedge leg there is nothing;
3. out when one leg is held and the other is not, when the basis is further than ``basis_sds`` from its own mean, and
   for the reasons of 5 above. A delivery contract is left a day before it expires.

Assumptions: the funding of the last days goes on over the holding; a basis of a delivery contract closes evenly until
it expires, a spot basis by the end of the holding, and only where that costs us; fees and spread are the parameters.
Residual price risk dominates: carry of ten per cent a year stands against several times that in what betas do not
explain. A leg may be liquidated while the other gains. Impact is not in the costs.

Sources: the venue's description of funding rates and intervals; Koijen, Moskowitz, Pedersen & Vrugt 2018, Carry, for
the cross-section; Gatev, Goetzmann & Rouwenhorst 2006 for pairs as two orders that must both be filled.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import ClassVar, Final

import msgspec

from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import DAY_NS, SECOND_NS
from tidegate.domain.signals import Signal
from tidegate.quant.cross_section import centred_ranks, neutral_weights, winsorised
from tidegate.strategies.base import CrossSectionalStrategy, View, param
from tidegate.strategies.funding_legs import YEAR_NS, Leg, Pace, observe

VARIANTS: Final = ("cross_section", "quarterly", "spot_perpetual")

Weights = dict[InstrumentId, float]

_EXPIRY_HOUR: Final = 8
_TRADES: Final = 4.0
"""Two legs, two sides."""


class PairMemory(msgspec.Struct):
    """A perpetual and its hedge: ``side`` is 1 when the perpetual is short, -1 when it is long, 0 when out."""

    side: int = 0
    left_ns: Nanos = 0
    uneven: int = 0
    basis: float = 0.0
    basis_variance: float = 0.0
    basis_weight: float = 0.0


class FundingMemory(msgspec.Struct):
    """The legs, the weights that stand (shares of notional), the wishes said, and when they were last made."""

    legs: dict[InstrumentId, Leg] = {}
    weights: dict[InstrumentId, float] = {}
    said: dict[InstrumentId, float] = {}
    pairs: dict[str, PairMemory] = {}
    rebalanced_ns: Nanos = 0
    uneven: int = 0


class FundingArbitrage(CrossSectionalStrategy):
    """Carry on funding with the market hedged out; see the module for the rules and what they assume.

    ``watch_legs`` compares the positions that it sees with its weights. Where those are the book's and not its own (no
    virtual ledgers), it wants instruments of its own, for another strategy's position looks like a leg that failed.
    ``risk_units`` multiplies strengths by volatility, for a portfolio step that divides by it; then it is the notional
    that is neutral again. Bars of at most an hour see every settlement.
    """

    style: ClassVar[str] = "funding"

    variant: str = param(default="cross_section")
    pairs: str = param(default="")
    half_life_days: float = param(default=5.0, low=3.0, high=7.0)
    beta_days: int = param(default=60, low=2, high=365)
    volatility_days: int = param(default=30, low=2, high=365)
    least_days: int = param(default=60, low=1, high=1000)
    least_legs: int = param(default=4, low=3, high=100)
    least_volume_usdt: float = param(default=10e6, low=0.0)
    cap_frac: float = param(default=0.003, low=0.0001, high=0.05)
    winsor_frac: float = param(default=0.05, low=0.0, high=0.25)
    rebalance_days: int = param(default=7, low=1, high=90)
    band_frac: float = param(default=0.2, low=0.0, high=2.0)
    holding_days: int = param(default=21, low=1, high=180)
    fee_bps: float = param(default=5.0, low=0.0, high=50.0)
    half_spread_bps: float = param(default=1.0, low=0.0, high=100.0)
    exit_costs: float = param(default=0.5, low=0.0, high=1.0)
    watch_legs: bool = param(default=True)
    imbalance_frac: float = param(default=0.5, low=0.05, high=1.0)
    patience_decisions: int = param(default=1, low=0, high=100)
    basis_sds: float = param(default=4.0, low=1.0, high=20.0)
    risk_units: bool = param(default=False)

    memory: FundingMemory = FundingMemory()

    def setup(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"FundingArbitrage.variant must be one of {' '.join(VARIANTS)}, not {self.variant!r}")
        if self.variant == "cross_section":
            return
        named = named_pairs(self.pairs)
        if not named:
            raise ValueError(f"FundingArbitrage.pairs must name perpetual:hedge for {self.variant}; it is empty")
        if self.variant == "quarterly":
            for _, hedge in named:
                expiry_ns(hedge)

    def memory_bars(self, interval_ns: int) -> int:
        """The bars behind the longest average, or behind the age that a leg must have."""
        days = max(self.least_days, 2 * self.beta_days, 2 * self.volatility_days)
        return max(super().memory_bars(interval_ns), days * DAY_NS // interval_ns)

    @property
    def cost(self) -> float:
        """Of a pair of unit legs, in and out, as a fraction of one leg."""
        return _TRADES * (self.fee_bps + self.half_spread_bps) * 1e-4

    def decide(self, views: Mapping[InstrumentId, View]) -> Mapping[InstrumentId, Signal]:
        now_ns = max(view.ts_ns for view in views.values())
        observe(self.memory.legs, views, Pace(self.volatility_days, self.beta_days, self.half_life_days))
        wanted = self._section(views, now_ns) if self.variant == "cross_section" else self._paired(views, now_ns)
        return self._say(wanted, views)

    # ---- the cross-section --------------------------------------------------------------------------------------

    def _section(self, views: Mapping[InstrumentId, View], now_ns: Nanos) -> Weights:
        memory, held = self.memory, self.memory.weights
        if held and self._failed(held, views):
            memory.rebalanced_ns = now_ns
            return {}
        anew = any(self._spoilt(name, views, now_ns) for name in held)
        if anew or now_ns - memory.rebalanced_ns >= self.rebalance_days * DAY_NS:
            return self._rebalanced(views, now_ns, anew=anew)
        if held and self._carry(held) < self.exit_costs * self.cost:
            memory.rebalanced_ns = now_ns
            return {}
        return held

    def _rebalanced(self, views: Mapping[InstrumentId, View], now_ns: Nanos, *, anew: bool) -> Weights:
        held, legs = self.memory.weights, self.memory.legs
        names = [name for name, view in views.items() if not view.stale and self._eligible(legs[name], now_ns)]
        if len(names) < self.least_legs:
            return {}
        self.memory.rebalanced_ns = now_ns
        ranks = centred_ranks(winsorised([legs[name].funding for name in names], self.winsor_frac))
        sigmas = [math.sqrt(legs[name].variance) for name in names]
        raw = [-rank / sigma for rank, sigma in zip(ranks, sigmas, strict=True)]
        found = neutral_weights(raw, sigmas, [legs[name].beta for name in names])
        target = {name: weight for name, weight in zip(names, found, strict=True) if weight}
        if self._carry(target) <= (self.exit_costs * self.cost if held else self.cost):
            return {}
        moved = sum(abs(target.get(name, 0.0) - held.get(name, 0.0)) for name in {**held, **target})
        gross = sum(abs(weight) for weight in target.values())
        return held if held and not anew and moved <= self.band_frac * gross else target

    def _carry(self, weights: Weights) -> float:
        """What a pair of unit legs in these proportions is paid over the holding, as a fraction of one leg."""
        gross = sum(abs(weight) for weight in weights.values())
        if not gross:
            return 0.0
        funding = winsorised([self.memory.legs[name].funding for name in weights], self.winsor_frac)
        paid = -sum(weight * each for weight, each in zip(weights.values(), funding, strict=True))
        return paid / (gross / 2.0) * self.holding_days * DAY_NS / YEAR_NS

    def _eligible(self, leg: Leg, now_ns: Nanos) -> bool:
        return self._tradable(leg) and leg.beta == leg.beta and self._settles(leg, now_ns)

    def _tradable(self, leg: Leg) -> bool:
        """Old enough, with the volume, and with a risk that is known."""
        return (
            leg.ts_ns - leg.first_ns >= self.least_days * DAY_NS
            and leg.volume_usdt >= self.least_volume_usdt
            and leg.variance > 0.0
        )

    def _settles(self, leg: Leg, now_ns: Nanos) -> bool:
        """Its funding is known for a half-life at one interval, is of today, and is below the cap."""
        return (
            bool(leg.since_ns)
            and now_ns - leg.since_ns >= self.half_life_days * DAY_NS
            and now_ns - leg.stamp_ns <= DAY_NS
            and not math.isnan(leg.funding)
            and abs(leg.rate) < self.cap_frac
        )

    def _spoilt(self, name: InstrumentId, views: Mapping[InstrumentId, View], now_ns: Nanos) -> bool:
        """A held leg without which the rest must be made neutral anew."""
        view = views.get(name)
        return view is None or now_ns - view.ts_ns > DAY_NS or not self._settles(self.memory.legs[name], now_ns)

    # ---- pairs --------------------------------------------------------------------------------------------------

    def _paired(self, views: Mapping[InstrumentId, View], now_ns: Nanos) -> Weights:
        weights: Weights = {}
        for perpetual, hedge in named_pairs(self.pairs):
            pair = self.memory.pairs.setdefault(f"{perpetual}:{hedge}", PairMemory())
            side = self._side(pair, perpetual, hedge, views, now_ns)
            if side != pair.side:
                pair.side, pair.uneven = side, 0
                pair.left_ns = pair.left_ns if side else now_ns
            if side:
                weights[perpetual], weights[hedge] = float(-side), float(side)
        return weights

    def _side(
        self,
        pair: PairMemory,
        perpetual: InstrumentId,
        hedge: InstrumentId,
        views: Mapping[InstrumentId, View],
        now_ns: Nanos,
    ) -> int:
        """Which way the pair should be held from now on."""
        if perpetual not in views or hedge not in views:
            return 0
        legs = self.memory.legs
        if views[perpetual].stale or views[hedge].stale:
            return 0 if pair.side and self._broken(pair, views[perpetual], views[hedge]) else pair.side
        usual = self._usual_basis(pair, legs[hedge].close / legs[perpetual].close - 1.0, views[hedge].bar.interval_ns)
        side, carry = self._best_side(legs[perpetual], legs[hedge], hedge, now_ns)
        known = self._settles(legs[perpetual], now_ns)
        if pair.side:
            out = self._broken(pair, views[perpetual], views[hedge]) or not known or not usual
            pays = carry if side == pair.side else -math.inf
            return 0 if out or pays < self.exit_costs * self.cost else pair.side
        rested = not pair.left_ns or now_ns - pair.left_ns >= self.rebalance_days * DAY_NS
        ready = rested and known and usual and self._tradable(legs[perpetual]) and self._tradable(legs[hedge])
        return side if ready and carry > self.cost else 0

    def _best_side(self, perpetual: Leg, hedge: Leg, name: InstrumentId, now_ns: Nanos) -> tuple[int, float]:
        """The side that earns, and what it earns over the holding net of the basis, as a fraction of one leg."""
        basis, holding_ns = hedge.close / perpetual.close - 1.0, self.holding_days * DAY_NS
        if self.variant == "spot_perpetual":
            return 1, perpetual.funding * holding_ns / YEAR_NS - max(0.0, basis)
        left_ns = expiry_ns(name) - now_ns
        holding_ns = min(holding_ns, left_ns - DAY_NS)
        if holding_ns <= 0:
            return 0, 0.0
        net = perpetual.funding * holding_ns / YEAR_NS - basis * holding_ns / left_ns
        return (1 if net > 0.0 else -1), abs(net)

    def _usual_basis(self, pair: PairMemory, basis: float, interval_ns: Nanos) -> bool:
        """Take a basis in; False when it lies further than ``basis_sds`` (and 1 bp) from the mean of those before."""
        decay = 0.5 ** (interval_ns / (self.half_life_days * DAY_NS))
        off = basis - pair.basis
        known = pair.basis_weight * interval_ns >= DAY_NS
        usual = not known or off * off <= self.basis_sds**2 * pair.basis_variance or abs(off) * 1e4 < 1.0
        pair.basis_weight = pair.basis_weight * decay + 1.0
        pair.basis += off / pair.basis_weight
        pair.basis_variance += (off * (basis - pair.basis) - pair.basis_variance) / pair.basis_weight
        return usual

    def _broken(self, pair: PairMemory, perpetual: View, hedge: View) -> bool:
        """One leg is held and the other is not, or the two have been unlike for longer than patience lasts."""
        if not self.watch_legs:
            return False
        positions = (-pair.side * perpetual.position, pair.side * hedge.position)
        if max(positions) > 0.0 >= min(positions):
            return True
        pair.uneven = pair.uneven + 1 if _uneven((1.0, 1.0), positions, self.imbalance_frac) else 0
        return pair.uneven > self.patience_decisions

    # ---- wishes -------------------------------------------------------------------------------------------------

    def _failed(self, held: Weights, views: Mapping[InstrumentId, View]) -> bool:
        """The legs have been held in other proportions than wished for longer than patience lasts."""
        if not self.watch_legs:
            return False
        positions = [views[name].position if name in views else 0.0 for name in held]
        uneven = _uneven(list(held.values()), positions, self.imbalance_frac)
        self.memory.uneven = self.memory.uneven + 1 if uneven else 0
        return self.memory.uneven > self.patience_decisions

    def _say(self, wanted: Weights, views: Mapping[InstrumentId, View]) -> dict[InstrumentId, Signal]:
        """The wishes that differ from what was said. What has no view cannot be wished for: it is forgotten."""
        memory = self.memory
        if wanted != memory.weights:
            memory.uneven = 0
            strengths = self._strengths(wanted)
            memory.weights = dict(wanted)
        else:
            strengths = memory.said
        new = {
            name: strengths.get(name, 0.0) for name in views if strengths.get(name, 0.0) != memory.said.get(name, 0.0)
        }
        memory.said = {name: strengths[name] for name in views if strengths.get(name)}
        return {name: Signal(strength) for name, strength in new.items()}

    def _strengths(self, weights: Weights) -> dict[InstrumentId, float]:
        """Strengths in [-1, 1] in proportion to the weights, or to the risk of the weights."""
        if not weights or not self.risk_units:
            return dict(weights)
        risks = {name: weight * math.sqrt(self.memory.legs[name].variance) for name, weight in weights.items()}
        largest = max(abs(each) for each in risks.values())
        return {name: each / largest for name, each in risks.items()}


def _uneven(weights: Sequence[float], positions: Sequence[float], tolerance_frac: float) -> bool:
    """True when positions are not a common multiple of the weights, up to ``tolerance_frac`` of the mean one.

    The multiple is the least-squares one, so that a limit that cuts all legs alike is no failure; nothing held is even.
    """
    if not any(positions):
        return False
    multiple = sum(w * p for w, p in zip(weights, positions, strict=True)) / sum(w * w for w in weights)
    mean = sum(abs(w) for w in weights) / len(weights)
    off = max(abs(p - multiple * w) for w, p in zip(weights, positions, strict=True))
    return off > tolerance_frac * multiple * mean


@cache
def named_pairs(text: str) -> tuple[tuple[InstrumentId, InstrumentId], ...]:
    """``"BTCUSDT:BTCUSDT_261225,ETHUSDT:ETHUSDT_261225"`` as pairs of a perpetual and its hedge.

    Raises ``ValueError`` on a pair without a colon, an empty name, or a name that comes twice.
    """
    pairs = [each.split(":") for each in text.replace(",", " ").split()]
    if any(len(each) != 2 or not all(each) for each in pairs):
        raise ValueError(f"FundingArbitrage.pairs is perpetual:hedge, several with commas between, not {text!r}")
    names = [name for each in pairs for name in each]
    if len(set(names)) != len(names):
        raise ValueError(f"FundingArbitrage.pairs has an instrument in two places: {text!r}")
    return tuple((InstrumentId(perpetual), InstrumentId(hedge)) for perpetual, hedge in pairs)


@cache
def expiry_ns(name: InstrumentId) -> Nanos:
    """When a delivery contract expires: 08:00 UTC on the day in its name (``BTCUSDT_261225``).

    Raises ``ValueError`` when there is no such day in it.
    """
    base, _, day = name.rpartition("_")
    try:
        if not base or len(day) != 6 or not day.isdecimal():
            raise ValueError
        at = datetime(2000 + int(day[:2]), int(day[2:4]), int(day[4:]), _EXPIRY_HOUR, tzinfo=UTC)
    except ValueError:
        raise ValueError(f"a delivery contract is named like BTCUSDT_261225, not {name!r}") from None
    return int(at.timestamp()) * SECOND_NS
