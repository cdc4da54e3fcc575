"""The judge of a chaos run sees what it is there to see."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.chaos import judge
from tests.chaos.judge import ProtectionWatch, differences
from tests.chaos.reader import Account, Stop
from tests.chaos.relay import frame_bytes
from tests.chaos.stage import Stage

D = Decimal
BTC, ETH = "BTCUSDT", "ETHUSDT"
HELD = {BTC: D("0.5"), ETH: D("-2")}
STOPS = (Stop(BTC, D("-0.5"), "p1-a"), Stop(ETH, D("2"), "p1-b"))


def account(**changes: Any) -> Account:
    fields: dict[str, Any] = {"positions": HELD, "stops": STOPS, "open_orders": (), "wallet_usdt": D(100)}
    return Account(**fields | changes)


def status(**changes: Any) -> dict[str, Any]:
    positions = [{"instrument": name, "qty": str(qty)} for name, qty in HELD.items()]
    told = {"state": "READY", "positions": positions, "wallet_usdt": "100", "unresolved": [], "foreign": []}
    return told | {"blocked": {}} | changes


def test_agreement_is_silent() -> None:
    assert list(differences(status(), account())) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (status(), account(positions={BTC: D("0.5"), ETH: D("-1")}), "positions"),
        (status(positions=[]), account(), "positions"),
        (status(), account(stops=STOPS[:1]), f"stops of {ETH}"),
        (status(), account(stops=(*STOPS, Stop(BTC, D("-0.5"), "p1-c"))), f"stops of {BTC}"),
        (status(), account(stops=(STOPS[0], Stop(ETH, D("1"), "p1-b"))), f"stops of {ETH}"),
        (status(), account(stops=(STOPS[0], Stop(ETH, D("-2"), "p1-b"))), f"stops of {ETH}"),
        (status(), account(stops=(*STOPS, Stop("SOLUSDT", D("1"), "p1-d"))), "stops of SOLUSDT"),
        (status(wallet_usdt="100.00000001"), account(), "ledger difference 1E-8"),
        (status(unresolved=["p1-x"]), account(), "unresolved"),
        (status(foreign=[ETH]), account(), "foreign"),
        (status(blocked={ETH: "fence"}), account(), "blocked"),
    ],
)
def test_what_is_wrong_is_said(ours: dict[str, Any], theirs: Account, said: str) -> None:
    found = list(differences(ours, theirs))
    assert found
    assert any(each.startswith(said) for each in found)


def watch(trouble_s: float, started_s: float) -> ProtectionWatch:
    stage = SimpleNamespace(in_act=False, trouble_s=trouble_s, started_since=lambda since: started_s >= since - 1.0)
    return ProtectionWatch(cast(Stage, stage))


def test_a_stretch_counts_from_its_beginning_or_from_the_end_of_the_trouble() -> None:
    quiet = watch(trouble_s=0.0, started_s=-100.0)
    for now_s in (100.0, 110.0, 118.0):
        quiet.note({BTC}, now_s)
    assert quiet.findings == []
    quiet.note({BTC}, 118.5)
    assert [each[:10] for each in quiet.findings] == [f"E2 {BTC}"[:10]]
    troubled = watch(trouble_s=110.0, started_s=-100.0)
    for now_s in (100.0, 127.0):
        troubled.note({BTC}, now_s)
    assert troubled.findings == []
    assert troubled.longest_s == 17.0


def test_a_start_has_its_time_and_a_stop_ends_the_stretch() -> None:
    started = watch(trouble_s=100.0, started_s=100.0)
    for now_s in (100.0, 128.0):
        started.note({BTC}, now_s)
    assert started.findings == []
    started.note(set(), 128.1)
    started.note({BTC}, 128.2)
    started.note({BTC}, 145.0)
    assert started.findings == []
    started.note({BTC}, 128.2 + judge.UNPROTECTED_S + judge.EXIT_S + judge.READY_S + 0.1)
    assert len(started.findings) == 1


@pytest.mark.parametrize(
    ("size", "head"), [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)], ids=lambda value: str(value)
)
def test_the_relay_finds_the_end_of_a_frame(size: int, head: int) -> None:
    length = (
        bytes([size])
        if head == 2
        else bytes([126]) + size.to_bytes(2)
        if head == 4
        else bytes([127]) + size.to_bytes(8)
    )
    frame = bytearray(b"\x81" + length + b"x" * size)
    assert frame_bytes(frame + b"more") == head + size
    assert frame_bytes(frame[:-1]) is None
