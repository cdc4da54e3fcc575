"""The interlocks: what trades where, with which key."""

from dataclasses import dataclass

import pytest

from tidegate.app.access import check_fingerprint, check_hosts, check_rights
from tidegate.app.config import Settings
from tidegate.domain.errors import ConfigError, NotAuthorised


def settings(**more: object) -> Settings:
    return Settings.model_validate(
        {"symbols": ["BTCUSDT"], "strategies": ["TrendFollowing"], "account": "main", **more}
    )


@dataclass
class Rights:
    enable_withdrawals: bool | None = False
    enable_futures: bool | None = True
    enable_portfolio_margin_trading: bool | None = None
    ip_restrict: bool | None = True
    unreadable: str | None = None


def check(mode: str, **more: object) -> None:
    chosen = settings(**more)
    check_hosts(chosen, mode, chosen.venue.endpoints(mode))


def test_live_with_all_interlocks_passes() -> None:
    check("live", live={"confirm": "main"})


@pytest.mark.parametrize(
    ("mode", "more", "word"),
    [
        ("live", {}, "live.confirm"),
        ("live", {"live": {"confirm": "other"}}, "live.confirm"),
        ("live", {"live": {"confirm": "main", "hosts": ["fapi.example.com"]}}, "live.hosts"),
        ("live", {"live": {"confirm": "main"}, "venue": {"rest": "https://demo-fapi.binance.com"}}, "live.hosts"),
        ("live", {"live": {"confirm": "main"}, "venue": {"rest": "http://127.0.0.1:8800"}}, "not encrypted"),
        ("live", {"live": {"confirm": "main"}, "venue": {"streams": "ws://127.0.0.1:1"}}, "not encrypted"),
        ("testnet", {"venue": {"rest": "https://fapi.binance.com"}}, "live exchange"),
        ("testnet", {"venue": {"ws_api": "wss://ws-fapi.binance.com/ws-fapi/v1"}}, "live exchange"),
    ],
)
def test_hosts_that_do_not_belong_to_the_mode_are_refused(mode: str, more: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        check(mode, **more)


def test_plain_addresses_reach_this_machine_only() -> None:
    with pytest.raises(ValueError, match="only for this machine"):
        settings(venue={"rest": "http://192.168.0.7:8800"})


def test_a_local_exchange_needs_one_address() -> None:
    found = settings(venue={"rest": "http://localhost:8800"}).venue.endpoints("testnet")
    assert (found.streams, found.ws_api, found.rights) == (
        "ws://localhost:8800",
        "ws://localhost:8800/ws-fapi/v1",
        "http://localhost:8800",
    )


def test_the_fingerprint_binds_a_key_to_live_trading() -> None:
    bound = settings(live={"fingerprint": "abc"})
    check_fingerprint(bound, "live", "abc")
    check_fingerprint(bound, "testnet", "other")
    for mode, fingerprint in (("live", "other"), ("testnet", "abc")):
        with pytest.raises(ConfigError, match="fingerprint"):
            check_fingerprint(bound, mode, fingerprint)
    with pytest.raises(ConfigError, match="has the fingerprint xyz"):
        check_fingerprint(settings(), "live", "xyz")


def test_what_a_key_may_do() -> None:
    assert check_rights("live", Rights()) == []
    assert check_rights("testnet", Rights(ip_restrict=False)) == ["the key is not bound to an address"]
    for mode in ("testnet", "live"):
        with pytest.raises(NotAuthorised, match="withdraw"):
            check_rights(mode, Rights(enable_withdrawals=True))
        with pytest.raises(NotAuthorised, match="futures"):
            check_rights(mode, Rights(enable_futures=False))
    with pytest.raises(NotAuthorised, match="portfolio margin"):
        check_rights("testnet", Rights(enable_portfolio_margin_trading=True))
    unreadable = Rights(None, None, None, None, "-2015")
    assert "not checkable" in check_rights("testnet", unreadable)[0]
    with pytest.raises(NotAuthorised, match="cannot be read"):
        check_rights("live", unreadable)
