"""Funding: who is bought and sold, what it must pay, and what ends it. Driven by views made by hand."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import DAY_NS, HOUR_NS, Bar
from tidegate.domain.signals import Signal
from tidegate.strategies.base import View
from tidegate.strategies.funding_arbitrage import FundingArbitrage, expiry_ns, named_pairs
from tidegate.strategies.funding_legs import YEAR_NS

START_NS = 20_000 * DAY_NS
NAMES = tuple(InstrumentId(f"{each}USDT") for each in ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF"))
RATES = dict(zip(NAMES, (6e-4, 4e-4, 2e-4, 0.0, -2e-4, -4e-4), strict=True))
QUICK: dict[str, Any] = {
    "half_life_days": 3.0, "beta_days": 5, "volatility_days": 5, "least_days": 5, "least_volume_usdt": 1e6,
}  # fmt: skip


class World:
    """Hourly bars of a factor market with funding; positions are filled as wished unless a test says otherwise."""

    def __init__(self, names: tuple[InstrumentId, ...] = NAMES, **params: Any) -> None:
        self.leader = FundingArbitrage(**(QUICK | params))
        self.names = list(names)
        self.rates = {name: RATES.get(name, 0.0) for name in names}
        self.interval_hours = dict.fromkeys(names, 8)
        self.betas = dict(zip(names, (0.8, 1.3, 0.7, 1.2, 0.9, 1.1), strict=False))
        self.noise = {name: 0.002 + 0.0005 * index for index, name in enumerate(names)}
        self.prices = dict.fromkeys(names, 100.0)
        self.volume = dict.fromkeys(names, 1e5)
        self.wishes: dict[InstrumentId, float] = dict.fromkeys(names, 0.0)
        self.filled: Callable[[InstrumentId, float], float] = lambda name, wish: wish
        self.stale: set[InstrumentId] = set()
        self.settled: dict[InstrumentId, tuple[float, Nanos]] = {}
        self.bars: dict[InstrumentId, Bar] = {}
        self.now_ns = START_NS
        self.said: list[tuple[Nanos, dict[InstrumentId, Signal]]] = []
        self._rng = np.random.default_rng(7)

    def hour(self) -> dict[InstrumentId, Signal]:
        self.now_ns += HOUR_NS
        factor = self._rng.normal(0.0, 0.004)
        views: dict[InstrumentId, View] = {}
        for name in self.names:
            before = self.prices[name]
            move = self.betas[name] * factor + self.noise[name] * self._rng.normal()
            price = self.prices[name] = before * (1.0 + move)
            if self.now_ns // HOUR_NS % self.interval_hours[name] == 0:
                self.settled[name] = (self.rates[name], self.now_ns + 37_000_000)  # stamps come some ms late
            rate, stamp_ns = self.settled.get(name, (None, 0))
            if name not in self.stale:
                self.bars[name] = Bar(
                    name, HOUR_NS, self.now_ns, 0, before, max(before, price), min(before, price), price,
                    self.volume[name],
                )  # fmt: skip
            position = self.filled(name, self.wishes[name])
            views[name] = View(self.bars[name], position, None, rate, stamp_ns, (), name in self.stale)
        said = dict(self.leader.decide(views))
        self.wishes.update({name: signal.strength for name, signal in said.items()})
        if said:
            self.said.append((self.now_ns, said))
        return said

    def days(self, count: float) -> "World":
        for _ in range(round(count * 24)):
            self.hour()
        return self

    def until_said(self) -> dict[InstrumentId, Signal]:
        for _ in range(24 * 30):
            if said := self.hour():
                return said
        raise AssertionError("nothing was said for 30 days")

    @property
    def live(self) -> dict[InstrumentId, float]:
        return {name: wish for name, wish in self.wishes.items() if wish}

    def out_within(self, hours: int) -> int:
        """Hours until no wish is left; fails when there is one after ``hours``."""
        for hour in range(1, hours + 1):
            self.hour()
            if not self.live:
                return hour
        raise AssertionError(f"still wished for: {self.live}")


# ---- the cross-section -----------------------------------------------------------------------------------------------


def test_low_funding_is_bought_and_high_funding_sold_neutral_to_the_market() -> None:
    world = World()
    wishes = {name: signal.strength for name, signal in world.until_said().items()}
    assert wishes[NAMES[0]] < 0.0 < wishes[NAMES[-1]]
    assert abs(math.fsum(wishes.values())) < 1e-12
    betas = {name: leg.beta for name, leg in world.leader.memory.legs.items()}
    assert abs(math.fsum(wishes[name] * betas[name] for name in NAMES)) < 1e-12
    assert max(map(abs, wishes.values())) == 1.0
    received = -math.fsum(wishes[name] * RATES[name] for name in NAMES)
    assert received > 0.0


def test_betas_are_measured_against_the_equal_weighted_market() -> None:
    world = World().days(30)
    mean = sum(world.betas.values()) / len(NAMES)
    for name, leg in world.leader.memory.legs.items():
        assert leg.beta == pytest.approx(world.betas[name] / mean, abs=0.15)
    legs = world.leader.memory.legs.values()
    assert math.fsum(leg.beta for leg in legs) / len(NAMES) == pytest.approx(1.0, abs=1e-9)


def test_funding_is_annualised_by_the_interval_between_its_stamps() -> None:
    world = World()
    world.interval_hours[NAMES[0]] = 4
    world.interval_hours[NAMES[1]] = 1
    world.days(3)
    legs = world.leader.memory.legs
    assert [legs[name].interval_ns // HOUR_NS for name in NAMES[:3]] == [4, 1, 8]
    for name, a_day in ((NAMES[0], 6), (NAMES[1], 24), (NAMES[2], 3)):
        assert legs[name].funding == pytest.approx(RATES[name] * a_day * 365)
    assert legs[NAMES[0]].stamp_ns % (60 * 10**9) == 0


def test_funding_is_averaged_with_its_half_life() -> None:
    world = World().days(30)
    leg = world.leader.memory.legs[NAMES[0]]
    before = leg.funding
    world.rates[NAMES[0]] = -6e-4
    world.days(3)
    assert before == pytest.approx(6e-4 * 3 * 365)
    assert leg.funding == pytest.approx(0.0, abs=0.005)  # half of the way from +0.657 to -0.657


def test_wishes_are_said_when_they_change_and_once_a_week() -> None:
    world = World(band_frac=0.0).days(30)
    times = [at_ns for at_ns, _ in world.said]
    assert len(times) >= 3
    assert {b - a for a, b in pairwise(times)} == {7 * DAY_NS}
    assert len(World(band_frac=2.0).days(30).said) == 1


def test_nothing_is_wished_for_when_the_carry_does_not_pay() -> None:
    """Carry of the pair over the holding against two legs, two sides, fee and half spread: 24 bp by default."""
    leader = FundingArbitrage()
    assert leader.cost == pytest.approx(4 * (5.0 + 1.0) * 1e-4)
    rich = World(holding_days=5).days(8)
    carry = rich.leader._carry(rich.leader.memory.weights)
    weights = rich.leader.memory.weights
    funding = {name: np.clip(RATES[name], *np.quantile(list(RATES.values()), [0.05, 0.95])) for name in weights}
    per_pair = -sum(w * funding[n] for n, w in weights.items()) * 2.0 / sum(map(abs, weights.values()))
    assert carry == pytest.approx(per_pair * 3 * 5, rel=1e-9)
    just, over = carry * 1e4 / 4 - 1.0 - 1e-6, carry * 1e4 / 4 - 1.0 + 1e-6
    assert World(holding_days=5, fee_bps=just).days(8).live
    assert not World(holding_days=5, fee_bps=over).days(8).live


def test_carry_that_dries_up_ends_it_before_the_week_is_over() -> None:
    world = World().days(8)
    assert world.live
    for name in NAMES:
        world.rates[name] = -RATES[name]
    world.hour()
    assert world.live
    world.out_within(24 * 6)
    assert world.leader._carry(dict.fromkeys(NAMES, 0.0)) == 0.0


@pytest.mark.parametrize("what", ["young", "thin", "capped", "stale", "unsettled"])
def test_who_is_left_out(what: str) -> None:
    world, name = World(), NAMES[0]
    match what:
        case "young":
            world.names.remove(name)
            world.days(5)
            world.names.append(name)
            world.days(3)
        case "thin":
            world.volume[name] = 100.0
            world.days(8)
        case "capped":
            world.rates[name] = 0.003
            world.days(8)
        case "stale":
            world.days(4)
            world.stale.add(name)
            world.days(4)
        case "unsettled":
            world.interval_hours[name] = 10**9
            world.days(8)
    assert name not in world.live
    assert len(world.live) == 5


def test_a_leg_without_a_bar_for_the_close_of_a_rebalance_is_left_out_of_it() -> None:
    world, name = World(band_frac=0.0), NAMES[0]
    assert name in world.until_said()
    for _ in range(7 * 24 - 1):
        assert not world.hour()
    world.stale.add(name)
    assert world.hour()[name] == Signal(0.0)
    assert len(world.live) == 5


def test_too_few_legs_are_none() -> None:
    assert not World(NAMES[:3]).days(8).live
    assert World(NAMES[:3], least_legs=3).days(8).live
    assert not World(NAMES[:2], least_legs=3).days(8).live


def test_an_interval_that_changes_takes_the_leg_out_and_the_rest_is_made_neutral_at_once() -> None:
    world, name = World().days(8), NAMES[0]
    assert name in world.live
    world.interval_hours[name], changed_ns = 4, world.now_ns
    world.until_said()
    assert world.now_ns - changed_ns < 12 * HOUR_NS
    assert name not in world.live
    assert len(world.live) == 5
    betas = {each: leg.beta for each, leg in world.leader.memory.legs.items()}
    assert abs(math.fsum(world.wishes.values())) < 1e-12
    assert abs(math.fsum(world.wishes[each] * betas[each] for each in NAMES)) < 1e-12
    world.days(10)
    assert name in world.live  # settled at the new interval for a half-life


def test_what_was_known_at_another_interval_is_forgotten() -> None:
    world, name = World().days(8), NAMES[0]
    world.interval_hours[name], world.rates[name] = 4, 1e-4
    world.days(0.5)
    assert world.leader.memory.legs[name].funding == pytest.approx(1e-4 * 6 * 365)


def test_a_bar_after_a_hole_gives_no_return() -> None:
    world, name = World().days(2), NAMES[0]
    leg = world.leader.memory.legs[name]
    world.stale.add(name)
    world.days(1)
    variance, returns, bars = leg.variance, leg.returns, leg.bars
    world.stale.clear()
    world.prices[name] *= 3.0
    world.hour()
    assert (leg.variance, leg.returns, leg.bars) == (variance, returns, bars + 1)
    world.hour()
    assert leg.returns == returns + 1


def test_a_missed_settlement_is_no_new_interval() -> None:
    world, name = World(), NAMES[0]
    world.interval_hours[name] = 4
    world.days(8)
    leg = world.leader.memory.legs[name]
    since_ns, funding = leg.since_ns, leg.funding
    while world.now_ns // HOUR_NS % 8:
        world.hour()
    world.interval_hours[name] = 8  # the stamp of 4 hours on is missing, the next one comes after 8
    for _ in range(8):
        world.hour()
    world.interval_hours[name] = 4
    world.days(1)
    assert (leg.interval_ns, leg.since_ns) == (4 * HOUR_NS, since_ns)
    assert leg.funding == pytest.approx(funding)
    world.interval_hours[name] = 8
    world.days(1)
    assert leg.interval_ns == 8 * HOUR_NS


def test_a_rate_at_the_cap_takes_a_held_leg_out() -> None:
    world, name = World().days(8), NAMES[1]
    world.rates[name] = 0.003
    world.days(0.5)
    assert name not in world.live
    assert len(world.live) == 5


@pytest.mark.parametrize(("patience", "decisions"), [(0, 1), (1, 2), (3, 4)])
def test_a_leg_that_is_not_held_unwinds_all_of_them(patience: int, decisions: int) -> None:
    world = World(patience_decisions=patience).days(8)
    world.filled = lambda name, wish: 0.0 if name == NAMES[0] else wish
    assert world.out_within(10) == decisions
    said = len(world.said)
    world.days(5)
    assert len(world.said) == said  # silent until the next rebalance
    assert World(patience_decisions=patience, watch_legs=False).days(8).live


def test_legs_that_are_cut_alike_are_no_failure() -> None:
    for share in (0.0, 0.1, 3.0):
        world = World().days(8)
        world.filled = lambda name, wish, share=share: share * wish  # type: ignore[misc]
        world.days(2)
        assert world.live


def test_a_leg_that_is_gone_is_not_wished_for_and_the_rest_goes_on() -> None:
    world, name = World().days(8), NAMES[0]
    world.names.remove(name)
    said = world.hour()
    assert name not in said
    assert len([each for each in said.values() if each.strength]) == 5
    assert abs(math.fsum(signal.strength for signal in said.values())) < 1e-12


def test_risk_units_are_weights_times_volatility() -> None:
    plain, risky = World(), World(risk_units=True)
    weights, said = plain.until_said(), risky.until_said()
    assert plain.now_ns == risky.now_ns
    legs = risky.leader.memory.legs
    ratio = [said[name].strength / (weights[name].strength * math.sqrt(legs[name].variance)) for name in NAMES]
    assert ratio == pytest.approx([ratio[0]] * len(NAMES))
    assert max(abs(signal.strength) for signal in said.values()) == 1.0


def test_a_memory_that_was_stored_goes_on() -> None:
    whole, halves = World().days(12), World().days(6)
    leader = halves.leader.fresh()
    leader.load_memory(halves.leader.dump_memory())
    halves.leader = leader
    halves.days(6)
    assert whole.said
    assert whole.said == halves.said


# ---- pairs -----------------------------------------------------------------------------------------------------------

PERP = InstrumentId("BTCUSDT")
QUARTER = InstrumentId("BTCUSDT_241227")
SPOT = InstrumentId("BTCUSDT-SPOT")
EXPIRY_NS = 20_084 * DAY_NS + 8 * HOUR_NS


def pair(variant: str, hedge: InstrumentId, rate: float, basis: float = 0.0, **params: Any) -> World:
    """A perpetual and its hedge, of one price up to the basis."""
    world = World((PERP, hedge), variant=variant, pairs=f"{PERP}:{hedge}", **params)
    world.rates = {PERP: rate, hedge: 0.0}
    world.interval_hours = {PERP: 8, hedge: 10**9}
    world.betas = dict.fromkeys((PERP, hedge), 1.0)
    world.noise = dict.fromkeys((PERP, hedge), 0.0)
    world.prices = {PERP: 100.0, hedge: 100.0 * (1.0 + basis)}
    return world


def test_a_quarterly_pair_earns_funding_net_of_the_basis_or_the_other_way_round() -> None:
    rich = pair("quarterly", QUARTER, rate=4e-4).days(8)
    assert rich.wishes == {PERP: -1.0, QUARTER: 1.0}
    dear = pair("quarterly", QUARTER, rate=0.0, basis=0.05).days(8)
    assert dear.wishes == {PERP: 1.0, QUARTER: -1.0}
    # 76 days of 1.2 permille a day are a basis of about 9 %: nothing is left
    assert not pair("quarterly", QUARTER, rate=4e-4, basis=0.0012 * 77.0).days(8).live
    ((at_ns, said),) = rich.said
    assert set(said) == {PERP, QUARTER}  # both at once
    assert at_ns < rich.now_ns


def test_a_pair_must_pay_for_both_legs_in_and_out() -> None:
    # 21 days of 0.1 permille, three times a day: 63 bp against 4 (fee + 1)
    assert pair("quarterly", QUARTER, 1e-4, fee_bps=14.7).days(8).live
    assert not pair("quarterly", QUARTER, 1e-4, fee_bps=14.8).days(8).live


@pytest.mark.parametrize(("variant", "hedge"), [("quarterly", QUARTER), ("spot_perpetual", SPOT)])
def test_without_the_hedge_leg_there_is_nothing(variant: str, hedge: InstrumentId) -> None:
    alone = pair(variant, hedge, 4e-4)
    alone.names.remove(hedge)
    assert not alone.days(10).said
    lost = pair(variant, hedge, 4e-4).days(8)
    lost.names.remove(hedge)
    assert lost.hour() == {PERP: Signal(0.0)}


@pytest.mark.parametrize("missing", [PERP, QUARTER])
def test_one_leg_held_and_the_other_not_is_left_after_one_decision(missing: InstrumentId) -> None:
    world = pair("quarterly", QUARTER, 4e-4, patience_decisions=5).days(8)
    world.filled = lambda name, wish: 0.0 if name == missing else wish
    assert world.hour() == {PERP: Signal(0.0), QUARTER: Signal(0.0)}
    said = len(world.said)
    world.days(6)
    assert len(world.said) == said  # silent for a week
    blind = pair("quarterly", QUARTER, 4e-4, watch_legs=False).days(8)
    blind.filled = world.filled
    assert blind.days(1).live


def test_legs_that_stay_uneven_are_left_when_patience_is_over() -> None:
    world = pair("quarterly", QUARTER, 4e-4, patience_decisions=3).days(8)
    world.filled = lambda name, wish: 0.2 * wish if name == PERP else wish
    assert world.out_within(10) == 4


def test_spot_cannot_be_sold_short_and_a_rich_spot_costs() -> None:
    assert pair("spot_perpetual", SPOT, 4e-4).days(8).wishes == {PERP: -1.0, SPOT: 1.0}
    assert not pair("spot_perpetual", SPOT, -4e-4).days(8).live
    assert not pair("spot_perpetual", SPOT, 4e-4, basis=0.03).days(8).live
    assert pair("spot_perpetual", SPOT, 4e-4, basis=-0.03).days(8).live  # nothing is counted on that helps


def test_a_pair_ends_with_its_interval_its_carry_or_its_basis() -> None:
    changed = pair("quarterly", QUARTER, 4e-4).days(8)
    changed.interval_hours[PERP] = 4
    changed.out_within(8)
    dried = pair("quarterly", QUARTER, 4e-4).days(8)
    dried.rates[PERP] = -4e-4
    dried.out_within(24 * 5)
    blown = pair("quarterly", QUARTER, 4e-4).days(8)
    blown.prices[QUARTER] *= 0.99
    assert blown.out_within(1) == 1


def test_a_delivery_contract_is_left_a_day_before_it_expires() -> None:
    world = pair("quarterly", QUARTER, 2e-3, fee_bps=0.0, half_spread_bps=0.0)
    world.now_ns = EXPIRY_NS - 10 * DAY_NS
    world.days(8)
    assert world.live
    world.out_within(25)
    assert EXPIRY_NS - world.now_ns == DAY_NS


def test_expiries_are_read_from_names() -> None:
    assert expiry_ns(QUARTER) == EXPIRY_NS
    for name in ("BTCUSDT", "BTCUSDT_241", "BTCUSDT_241332", "_241227", "BTCUSDT_24122x"):
        with pytest.raises(ValueError, match="a delivery contract is named like BTCUSDT_261225, not"):
            expiry_ns(InstrumentId(name))


def test_pairs_are_named_in_a_parameter() -> None:
    assert named_pairs("A:B, C:D") == (("A", "B"), ("C", "D"))
    assert named_pairs("") == ()
    for text in ("A", "A:", "A:B:C"):
        with pytest.raises(ValueError, match="pairs is perpetual:hedge"):
            named_pairs(text)
    with pytest.raises(ValueError, match="in two places"):
        named_pairs("A:B,C:A")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"variant": "spot"}, "variant must be one of cross_section quarterly spot_perpetual, not 'spot'"),
        ({"variant": "quarterly"}, "must name perpetual:hedge for quarterly; it is empty"),
        ({"variant": "quarterly", "pairs": "BTCUSDT:ETHUSDT"}, "named like BTCUSDT_261225, not 'ETHUSDT'"),
    ],
)
def test_a_wrong_variant_is_refused_at_setup(params: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FundingArbitrage(**params).prepare()


def test_the_history_that_it_wants_covers_its_averages() -> None:
    assert FundingArbitrage().memory_bars(HOUR_NS) == 120 * 24
    assert FundingArbitrage(least_days=200).memory_bars(DAY_NS) == 200
    assert YEAR_NS == 365 * DAY_NS
