"""The catalogue holds every code that the references name, and an answer is read with the right amount of distrust."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.binance.errors import (
    _ROWS,
    CATALOGUE,
    Context,
    Fate,
    Kind,
    Reaction,
    Refused,
    Unauthorised,
    classify,
    classify_item,
    clean,
)
from tidegate.domain.orders import RejectCause

ORDERS = (Context.INCREASING, Context.REDUCING)


def body(code: int, message: str = "text") -> bytes:
    return b'{"code": %d, "msg": "%s"}' % (code, message.encode())


def codes_of(text: str, heading: str) -> set[int]:
    """Every code in the first column of the table below ``heading``, ranges written out."""
    section = text.split(f"\n{heading}", 1)[1].split("\n## ", 1)[0]
    rows = [row.split("|")[1:3] for row in section.splitlines() if row.startswith("|")]
    found: set[int] = set()
    for first, last in re.findall(r"-(\d{4})(?:(?:\.\.|…)-(\d{4}))?", "\n".join("|".join(row) for row in rows)):
        found.update(range(-int(first), -int(last or first) - 1, -1))
    return found


@pytest.mark.parametrize(
    ("page", "heading", "least"), [("binance-futures.md", "## 19. ", 110), ("reliability.md", "## 4. ", 40)]
)
def test_every_code_that_the_references_name_is_in_the_catalogue(
    shared: Path, page: str, heading: str, least: int
) -> None:
    named = codes_of((shared / "reference" / page).read_text(), heading)
    assert len(named) >= least
    assert not named - set(CATALOGUE)


@pytest.mark.parametrize("context", Context)
@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_no_code_is_ever_a_success_and_its_text_is_kept(code: int, context: Context) -> None:
    outcome = classify(400, body(code, "the text"), context)
    assert outcome.fate is not Fate.DONE
    assert (outcome.code, outcome.message, outcome.entry) == (code, "the text", CATALOGUE[code])
    assert outcome.error().args


@pytest.mark.parametrize("context", ORDERS)
@pytest.mark.parametrize("code", [-1000, -1006, -1007, -1016, -4116])
def test_these_say_nothing_certain_of_an_order(code: int, context: Context) -> None:
    assert classify(400, body(code), context).fate is Fate.UNKNOWN


@pytest.mark.parametrize("code", [-1001, -1008])
@pytest.mark.parametrize("status", [200, 400, 503])
def test_documented_as_failed_is_believed_for_anything_but_an_order_that_adds_risk(code: int, status: int) -> None:
    assert classify(status, body(code), Context.INCREASING).fate is Fate.UNKNOWN
    for context in set(Context) - {Context.INCREASING}:
        outcome = classify(status, body(code), context)
        assert outcome.fate is Fate.REFUSED
        assert outcome.entry is not None
        assert (outcome.entry.reaction, outcome.entry.cause) == (Reaction.RETRY, RejectCause.OVERLOADED)


@pytest.mark.parametrize(
    ("text", "reducing"),
    [
        (b"Unknown error, please check your request or try again later.", Fate.UNKNOWN),
        (body(-1000, "Unknown error, please check your request or try again later."), Fate.UNKNOWN),
        (body(-1001, "Unknown error, please check your request or try again later."), Fate.UNKNOWN),
        (b"Service Unavailable.", Fate.REFUSED),
        (body(-1001, "Internal error; unable to process your request. Please try again."), Fate.REFUSED),
        (b"Internal error; unable to process your request. Please try again.", Fate.REFUSED),
        (body(-1008, "Request throttled by system-level protection."), Fate.REFUSED),
        (b"<html><h1>503</h1></html>", Fate.UNKNOWN),
        (body(-2019), Fate.UNKNOWN),
        (body(-1016), Fate.UNKNOWN),
        (b"", Fate.UNKNOWN),
    ],
)
def test_the_variants_of_503(text: bytes, reducing: Fate) -> None:
    assert classify(503, text, Context.INCREASING).fate is Fate.UNKNOWN
    assert classify(503, text, Context.REDUCING).fate is reducing
    assert classify(503, text, Context.CANCEL).fate is reducing


@pytest.mark.parametrize("context", Context)
@pytest.mark.parametrize("status", [408, 500, 502, 504, 520])
@pytest.mark.parametrize("text", [b"", b"<html>", body(-2019), body(-1008), b"{}", b"Service Unavailable."])
def test_any_other_failure_of_the_server_is_unknown_whatever_it_says(
    status: int, text: bytes, context: Context
) -> None:
    assert classify(status, text, context).fate is Fate.UNKNOWN


@pytest.mark.parametrize("status", [200, 201, 302, 400, 401, 404])
@pytest.mark.parametrize("text", [b"", b"<html>ok</html>", b"OK", b'{"orderId": 1', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_is_never_an_answer(status: int, text: bytes) -> None:
    assert classify(status, text, Context.INCREASING).fate is Fate.UNKNOWN


@pytest.mark.parametrize("text", [b'{"orderId": 1}', b'{"code": 200, "msg": "success"}', b'{"code": "200"}', b" [1]"])
def test_success_is_json_without_a_negative_code(text: bytes) -> None:
    assert classify(200, text, Context.INCREASING).fate is Fate.DONE
    assert classify(400, text, Context.INCREASING).fate is Fate.UNKNOWN


def test_an_error_under_status_200_is_an_error() -> None:
    outcome = classify(200, body(-2019), Context.INCREASING)
    assert (outcome.fate, outcome.entry and outcome.entry.cause) == (Fate.REFUSED, RejectCause.MARGIN)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (-1111, RejectCause.RULES),
        (-4164, RejectCause.RULES),
        (-2018, RejectCause.MARGIN),
        (-2021, RejectCause.WOULD_TRIGGER),
        (-2022, RejectCause.REDUCE_ONLY),
        (-4118, RejectCause.REDUCE_ONLY),
        (-1021, RejectCause.CLOCK),
        (-5028, RejectCause.CLOCK),
        (-4140, RejectCause.NOT_TRADING),
        (-4120, RejectCause.UNSUPPORTED),
        (-4061, RejectCause.POSITION_MODE),
    ],
)
def test_refusals_of_an_order_say_why_in_our_words(code: int, cause: RejectCause) -> None:
    for context in ORDERS:
        error = classify(400, body(code), context).error()
        assert isinstance(error, Refused)
        assert error.cause is cause


def test_rate_limits_and_bans() -> None:
    for text in (b"", body(-1003), body(-1015), b"<html>"):
        outcome = classify(429, text, Context.INCREASING)
        assert outcome.fate is Fate.LIMITED
        assert outcome.code in (-1003, -1015)
    banned = "Way too much request weight used; IP banned until 1700000123456. Please use WebSocket."
    for status in (418, 429, 400):
        outcome = classify(status, body(-1003, banned), Context.QUERY)
        assert (outcome.fate, outcome.banned_until_ms) == (Fate.BANNED, 1_700_000_123_456)
    assert classify(418, b"", Context.QUERY).fate is Fate.BANNED
    assert classify(403, b"<html>", Context.INCREASING).fate is Fate.BANNED


@pytest.mark.parametrize("code", [-1002, -1022, -2014, -2015, -2017])
def test_key_address_and_signature(code: int) -> None:
    for status in (400, 401, 403):
        assert isinstance(classify(status, body(code), Context.INCREASING).error(), Unauthorised)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
@pytest.mark.parametrize("context", [Context.INCREASING, Context.REDUCING])
def test_an_unknown_code_in_a_whole_answer_refuses_a_placement_and_keeps_its_text(
    status: int, context: Context
) -> None:
    error = classify(status, body(-9999, "brand new"), context).error()
    assert isinstance(error, Refused)
    assert (error.code, error.cause) == (-9999, RejectCause.OTHER)
    assert "brand new" in str(error)


@pytest.mark.parametrize("status", [0, 408, 500, 502, 503, 504])
def test_an_unknown_code_under_any_other_status_says_nothing(status: int) -> None:
    assert classify(status, body(-9999), Context.INCREASING).fate is Fate.UNKNOWN


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 418, 422, 429, 500, 503])
@pytest.mark.parametrize("code", [-1000, -1001, -1006, -1007, -1008, -1016])
def test_codes_that_leave_an_entry_open_do_so_under_whatever_status(code: int, status: int) -> None:
    assert classify(status, body(code), Context.INCREASING).fate is Fate.UNKNOWN


@pytest.mark.parametrize("row", _ROWS)
def test_every_range_of_the_catalogue_is_as_long_as_it_looks(row: Any) -> None:
    for group in row[0]:
        assert isinstance(group, int) or len(group) > 1
    assert all(CATALOGUE[code].reaction is Reaction.SKIP for code in range(-4055, -4048))


LACKING = (
    "-1010 -1014 -1108 -1109 -1110 -1112 -1126 -2024 -4000 -4020 -4031 -4044 -4060 -4083 -4084 -4104 -4108 -4117 "
    "-4139 -4144 -4411"
)


@pytest.mark.parametrize("code", [int(each) for each in LACKING.split()])
def test_codes_that_have_come_since_are_refusals(code: int) -> None:
    assert CATALOGUE[code].kind is Kind.REFUSED
    assert classify(400, body(code), Context.REDUCING).fate is Fate.REFUSED


def test_an_unknown_code_elsewhere() -> None:
    assert classify(400, body(-9999), Context.SETTING).fate is Fate.UNKNOWN
    assert isinstance(classify(400, body(-9999), Context.QUERY).error(), Refused)


def test_no_such_order_and_a_duplicate_are_told_apart_from_a_refusal() -> None:
    for code in (-2011, -2013):
        entry = classify(400, body(code), Context.CANCEL).entry
        assert entry is not None
        assert entry.kind is Kind.NOT_FOUND
    assert CATALOGUE[-4116].reaction is Reaction.ADOPT
    assert classify_item(-4116, "dup", Context.INCREASING).fate is Fate.UNKNOWN
    assert classify_item(-2019, "margin", Context.INCREASING).fate is Fate.REFUSED


def test_foreign_text_is_cut_to_one_line_without_signatures() -> None:
    text = clean("a\nb\x1b[31m signature=deadbeef&x=1 listenKey=abc signature%3D " + "y" * 999)
    assert "deadbeef" not in text
    assert "abc" not in text
    assert text.isprintable()
    assert len(text) <= 200


@given(st.integers(100, 599), st.binary(max_size=80), st.sampled_from(Context))
def test_no_answer_breaks_the_reading(status: int, raw: bytes, context: Context) -> None:
    outcome = classify(status, raw, context)
    assert outcome.message.isprintable()
    if not 200 <= status < 300:
        assert outcome.fate is not Fate.DONE
