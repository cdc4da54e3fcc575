"""Encoding, names of keys, and what a signer shows of itself."""

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tidegate.adapters.binance.signing import HmacSigner, encode, fingerprint, make_signer, wsapi_payload
from tidegate.domain.errors import ConfigError
from tidegate.domain.secret import Secret

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_everything_outside_of_the_unreserved_set_is_encoded_once() -> None:
    assert encode([("symbol", "币安USDT"), ("list", '["a b+c/=&%",1]')]) == (
        "symbol=%E5%B8%81%E5%AE%89USDT&list=%5B%22a%20b%2Bc%2F%3D%26%25%22%2C1%5D"
    )
    assert encode([]) == ""


@given(st.lists(st.tuples(TEXTS.filter(bool), TEXTS)))
def test_what_is_encoded_reads_back_and_the_url_keeps_its_very_bytes(params: list[tuple[str, str]]) -> None:
    query = encode(params)
    assert parse_qsl(query, keep_blank_values=True) == params
    assert URL(f"https://host/path?{query}", encoded=True).raw_query_string == query


def test_the_websocket_payload_is_sorted_plain_and_without_the_signature() -> None:
    params: dict[str, str | int | bool] = {
        "timestamp": 5,
        "apiKey": "k",
        "reduceOnly": True,
        "signature": "x",
        "b": "ä b",
    }
    assert wsapi_payload(params) == "apiKey=k&b=ä b&reduceOnly=true&timestamp=5".encode()


def test_a_fingerprint_names_a_key_without_showing_it() -> None:
    assert fingerprint("abc") == "ba7816bf8f01cfea"  # FIPS 180-2: SHA-256("abc") begins so
    assert fingerprint("abd") != fingerprint("abc")


def test_a_signer_shows_neither_key_nor_secret() -> None:
    signer = HmacSigner("canary-key", Secret("canary-secret"))
    assert signer.api_key == "canary-key"
    assert "canary" not in f"{signer!r} {signer} {vars(signer)}"
    assert fingerprint("canary-key") in repr(signer)


@pytest.mark.parametrize(("key", "secret"), [("", "s"), ("a b", "s"), ("k\n", "s"), ("ключ", "s"), ("k", "")])
def test_a_key_that_cannot_be_one_is_refused(key: str, secret: str) -> None:
    with pytest.raises(ConfigError):
        make_signer(key, Secret(secret))
