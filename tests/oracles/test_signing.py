"""Signatures against published vectors: the venue's own (HMAC, RSA) and those of RFC 8032, section 7.1."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)

from tidegate.adapters.binance.signing import Ed25519Signer, HmacSigner, RsaSigner, make_signer
from tidegate.domain.errors import ConfigError
from tidegate.domain.secret import Secret

RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe246"
        "55141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb0"
        "0d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc0"
        "27beceea1ec40a",
    ),
]


@pytest.fixture(scope="session")
def vectors(shared: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads((shared / "oracles/binance/signing_vectors.json").read_text())
    assert set(found) == {"hmac", "rsa"}
    return found


def pem(key: Ed25519PrivateKey | RSAPrivateKey, password: str | None = None) -> Secret:
    closing = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, closing).decode())


def test_hmac_equals_every_vector_byte_for_byte(vectors: dict[str, list[dict[str, Any]]]) -> None:
    assert len(vectors["hmac"]) >= 3
    for case in vectors["hmac"]:
        signer = HmacSigner(case.get("api_key", "key"), Secret(case["secret"]))
        assert signer.sign(case["payload"].encode()) == case["signature"], case["name"]
        assert signer.sign(case["payload"].encode()) == case["signature"], "a signer signs more than once"


def test_the_published_rsa_signature_verifies_and_a_changed_payload_does_not(
    vectors: dict[str, list[dict[str, Any]]],
) -> None:
    assert vectors["rsa"]
    for case in vectors["rsa"]:
        key = load_pem_public_key(case["public_key_pem"].encode())
        assert isinstance(key, RSAPublicKey)
        signature = base64.b64decode(case["signature_base64"])
        key.verify(signature, case["payload"].encode(), PKCS1v15(), hashes.SHA256())
        with pytest.raises(InvalidSignature):
            key.verify(signature, case["payload"].encode() + b"0", PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("password", [None, "open sesame"])
def test_rsa_by_round_trip_verifies_as_the_published_one_does(password: str | None) -> None:
    key = generate_private_key(public_exponent=65537, key_size=2048)
    signer = RsaSigner("key", pem(key, password), Secret(password) if password else None)
    payload = b"symbol=BTCUSDT&timestamp=1578963600000"
    plain = signer.sign_plain(payload)
    key.public_key().verify(base64.b64decode(plain), payload, PKCS1v15(), hashes.SHA256())
    assert unquote(signer.sign(payload)) == plain
    assert not set("+/=") & set(signer.sign(payload))


@pytest.mark.parametrize(("seed", "message", "signature"), RFC_8032)
def test_ed25519_equals_the_vectors_of_the_rfc(seed: str, message: str, signature: str) -> None:
    signer = Ed25519Signer("key", pem(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))))
    plain = signer.sign_plain(bytes.fromhex(message))
    assert base64.b64decode(plain).hex() == signature
    assert unquote(signer.sign(bytes.fromhex(message))) == plain


def test_the_kind_is_told_by_the_secret() -> None:
    rsa, ed = generate_private_key(public_exponent=65537, key_size=2048), Ed25519PrivateKey.generate()
    assert isinstance(make_signer("key", pem(rsa)), RsaSigner)
    assert isinstance(make_signer("key", pem(ed)), Ed25519Signer)
    assert isinstance(make_signer("key", Secret("demo-secret")), HmacSigner)
    plain = make_signer("key", Secret("s"), "hmac").sign_plain(b"a=1")
    assert plain == hmac.new(b"s", b"a=1", hashlib.sha256).hexdigest()


@pytest.mark.parametrize("kind", ["auto", "rsa", "ed25519"])
def test_a_bad_key_is_told_in_one_line_that_does_not_show_it(kind: Any) -> None:
    secret = Secret("-----BEGIN PRIVATE KEY-----\ncanaryCANARY\n-----END PRIVATE KEY-----")
    with pytest.raises(ConfigError) as caught:
        make_signer("key", secret, kind)
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_key_of_the_wrong_kind_and_a_missing_password_are_refused() -> None:
    ed = Ed25519PrivateKey.generate()
    with pytest.raises(ConfigError, match="not RSA"):
        make_signer("key", pem(ed), "rsa")
    with pytest.raises(ConfigError, match="password"):
        make_signer("key", pem(ed, "x"))
