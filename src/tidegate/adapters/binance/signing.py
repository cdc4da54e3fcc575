"""Signatures over exactly the bytes that are sent: percent-encode, then sign, then send.

Protocol: futures general information, "SIGNED endpoint security"; RFC 2104 (HMAC), RFC 8017 (RSASSA-PKCS1-v1_5),
RFC 8032 (Ed25519).
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol
from urllib.parse import quote

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tidegate.domain.errors import ConfigError
from tidegate.domain.secret import Secret

SignerKind = Literal["auto", "hmac", "rsa", "ed25519"]

_FINGERPRINT_CHARS: Final = 16
_PEM_START: Final = "-----BEGIN "
_SAFE: Final = re.compile(r"[A-Za-z0-9_.~=&-]+").fullmatch


class Signer(Protocol):
    """One key of one account. Its repr shows the fingerprint, never the key."""

    @property
    def api_key(self) -> str:
        """What goes into the header ``X-MBX-APIKEY``."""
        ...

    def sign(self, payload: bytes) -> str:
        """The signature as it is appended after ``&signature=``: percent-encoded where it must be."""
        ...

    def sign_plain(self, payload: bytes) -> str:
        """The signature as the WebSocket API takes it, inside JSON: not percent-encoded."""
        ...


def encode(params: Sequence[tuple[str, str]]) -> str:
    """``params`` as a query string, percent-encoded once (UTF-8; a space is ``%20``). Sign and send this very text."""
    text = "&".join([f"{name}={value}" for name, value in params])
    if _SAFE(text) and text.count("=") == len(params) and text.count("&") == len(params) - 1:
        return text  # nothing in it is to be encoded: so it is with orders
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in params)


def wsapi_payload(params: Mapping[str, str | int | bool]) -> bytes:
    """What the WebSocket API signs: every parameter but the signature, by name, booleans in lower case, not encoded."""
    pairs = sorted((name, value) for name, value in params.items() if name != "signature")
    texts = (f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in pairs)
    return "&".join(texts).encode()


def fingerprint(api_key: str) -> str:
    """The name of a key that may be shown: the first 16 hex digits of its SHA-256. Configuration binds a mode to it."""
    return hashlib.sha256(api_key.encode()).hexdigest()[:_FINGERPRINT_CHARS]


class _Keyed:
    """The public half: holds the api key and keeps it out of the repr."""

    def __init__(self, api_key: str) -> None:
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise ConfigError("the api key is empty or holds characters that no api key has")
        self._api_key = Secret(api_key)

    @property
    def api_key(self) -> str:
        """What goes into the header ``X-MBX-APIKEY``."""
        return self._api_key.reveal()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key {fingerprint(self.api_key)})"


class HmacSigner(_Keyed):
    """HMAC-SHA256 in hex, with a shared secret."""

    def __init__(self, api_key: str, secret: Secret) -> None:
        super().__init__(api_key)
        if not secret:
            raise ConfigError("the api secret is empty")
        self._mac = hmac.new(secret.reveal().encode(), digestmod=hashlib.sha256)

    def sign_plain(self, payload: bytes) -> str:
        """64 hex digits."""
        mac = self._mac.copy()
        mac.update(payload)
        return mac.hexdigest()

    sign = sign_plain


class RsaSigner(_Keyed):
    """RSASSA-PKCS1-v1_5 over SHA-256 in base64, with a private key in PEM (PKCS#8)."""

    def __init__(self, api_key: str, pem: Secret, password: Secret | None = None) -> None:
        super().__init__(api_key)
        self._key = _rsa(_load(pem, password))

    def sign_plain(self, payload: bytes) -> str:
        """Base64."""
        return base64.b64encode(self._key.sign(payload, PKCS1v15(), hashes.SHA256())).decode()

    def sign(self, payload: bytes) -> str:
        """Base64, percent-encoded."""
        return quote(self.sign_plain(payload), safe="")


class Ed25519Signer(_Keyed):
    """Ed25519 in base64, with a private key in PEM (PKCS#8). The only kind that ``session.logon`` takes."""

    def __init__(self, api_key: str, pem: Secret, password: Secret | None = None) -> None:
        super().__init__(api_key)
        self._key = _ed25519(_load(pem, password))

    def sign_plain(self, payload: bytes) -> str:
        """Base64."""
        return base64.b64encode(self._key.sign(payload)).decode()

    def sign(self, payload: bytes) -> str:
        """Base64, percent-encoded."""
        return quote(self.sign_plain(payload), safe="")


def make_signer(api_key: str, secret: Secret, kind: SignerKind = "auto", password: Secret | None = None) -> Signer:
    """The signer for a key pair. ``auto`` tells by the secret: a PEM text is RSA or Ed25519, anything else HMAC.

    Raises ``ConfigError`` in one line when the secret is not a key of that kind; the line never shows it.
    """
    if kind == "hmac" or (kind == "auto" and not secret.reveal().lstrip().startswith(_PEM_START)):
        return HmacSigner(api_key, secret)
    if kind == "rsa":
        return RsaSigner(api_key, secret, password)
    if kind == "ed25519":
        return Ed25519Signer(api_key, secret, password)
    if isinstance(_load(secret, password), RSAPrivateKey):
        return RsaSigner(api_key, secret, password)
    return Ed25519Signer(api_key, secret, password)


def _load(pem: Secret, password: Secret | None) -> object:
    """The private key in ``pem``. What the library says of a bad key could quote it, so none of that goes on."""
    key: object = None
    try:
        key = load_pem_private_key(
            pem.reveal().strip().encode(), password=password.reveal().encode() if password else None
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if key is None:
        raise ConfigError("the api secret is not a readable private key in PEM, or its password is missing or wrong")
    return key


def _rsa(key: object) -> RSAPrivateKey:
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError(f"the api secret is a private key, but not RSA: {type(key).__name__}")
    return key


def _ed25519(key: object) -> Ed25519PrivateKey:
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"the api secret is a private key, but not Ed25519: {type(key).__name__}")
    return key
