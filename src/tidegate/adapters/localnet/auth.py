"""Who asks: the key, the signature over the bytes as received, and the time window.

The string to sign is the raw query directly followed by the raw body, without the signature pair. What was parsed is
never signed again: clients encode in their own ways, and only the bytes tell.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import unquote, unquote_plus

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from tidegate.adapters.localnet.errors import ApiError
from tidegate.adapters.localnet.routes import ApiRequest
from tidegate.adapters.localnet.wire import millis
from tidegate.domain.ids import Nanos
from tidegate.domain.secret import Secret

DEFAULT_WINDOW_MS = 5000
_AHEAD_MS = 1000
_PAIR = b"signature="


class Credentials:
    """A key and what verifies its signatures: a shared secret (HMAC), or a public key (RSA, Ed25519) in PEM."""

    def __init__(self, key: str, secret: Secret | None = None, public_pem: bytes | None = None) -> None:
        self.key = key
        self._secret = secret
        self._public = None if public_pem is None else _loaded(public_pem)

    @property
    def is_ed25519(self) -> bool:
        """True when sessions may log on with this key."""
        return isinstance(self._public, ed25519.Ed25519PublicKey)

    def verifies(self, message: bytes, signature: str) -> bool:
        """True when ``signature`` (decoded from the URL) is that of ``message``."""
        if self._secret is not None:
            expected = hmac.new(self._secret.reveal().encode(), message, sha256).hexdigest()
            return hmac.compare_digest(expected.encode(), signature.lower().encode("utf-8", "replace"))
        try:
            raw = base64.b64decode(signature, validate=True)
            if isinstance(self._public, ed25519.Ed25519PublicKey):
                self._public.verify(raw, message)
            elif isinstance(self._public, rsa.RSAPublicKey):
                self._public.verify(raw, message, padding.PKCS1v15(), hashes.SHA256())
            else:
                return False
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True

    def __repr__(self) -> str:
        return f"Credentials({self.key[:4]}...)"


def _loaded(pem: bytes) -> "ed25519.Ed25519PublicKey | rsa.RSAPublicKey":
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise ValueError("a public key of an account is RSA or Ed25519")
    return key


def key_of(request: ApiRequest) -> str:
    """The key a request shows. Raises ``ApiError`` -2014 when it shows none or an impossible one."""
    key = request.headers.get("x-mbx-apikey", "")
    if not key or not key.isascii() or len(key) > 128:
        raise ApiError(-2014)
    return key


def check_signature(request: ApiRequest, credentials: Credentials, *, lenient: bool = False) -> None:
    """Verify the signature of a request over its raw bytes. Raises ``ApiError`` -1102 or -1022.

    ``lenient`` also takes a signature over the decoded query, as one client makes it for a batch cancel.
    """
    query, in_query = _without_signature(request.raw_query)
    body, in_body = _without_signature(request.raw_body)
    raw = in_query if in_query is not None else in_body
    if not raw:
        raise ApiError(-1102, "signature")
    signature = unquote(raw.decode("ascii", "replace"))
    if credentials.verifies(query + body, signature):
        return
    if lenient and credentials.verifies(unquote_plus((query + body).decode("utf-8", "replace")).encode(), signature):
        return
    raise ApiError(-1022)


def _without_signature(raw: bytes) -> tuple[bytes, bytes | None]:
    """The pairs of a query or body without the signature's, byte for byte, and the signature's value."""
    if _PAIR not in raw:
        return raw, None
    pairs = raw.split(b"&")
    found = next((pair for pair in pairs if pair.startswith(_PAIR)), None)
    if found is None:
        return raw, None
    pairs.remove(found)
    return b"&".join(pairs), found.removeprefix(_PAIR)


def check_time(params: Mapping[str, str], now_ns: Nanos) -> None:
    """Accept only what was sent less than ``recvWindow`` ago and not a second ahead. Raises ``ApiError``."""
    now_ms = millis(now_ns)
    sent_ms, window_ms = _whole(params, "timestamp"), DEFAULT_WINDOW_MS
    if "recvWindow" in params:
        window_ms = int(float(params["recvWindow"])) if _is_number(params["recvWindow"]) else -1
        if window_ms < 0:
            raise ApiError(-1130, "recvWindow")
    if sent_ms >= now_ms + _AHEAD_MS:
        raise ApiError(-1021, msg="Timestamp for this request was 1000ms ahead of the server's time.")
    if now_ms - sent_ms > window_ms:
        raise ApiError(-1021)


def _whole(params: Mapping[str, str], name: str) -> int:
    value = params.get(name, "")
    if not value.isascii() or not value.isdigit() or len(value) > 16:
        raise ApiError(-1102, name)
    return int(value)


def _is_number(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdigit() and len(text) < 12


def session_message(params: Mapping[str, Any]) -> bytes:
    """What a WebSocket request signs: all parameters but the signature, by name, booleans in lower case."""
    pairs = sorted((name, value) for name, value in params.items() if name != "signature")
    return "&".join(f"{name}={as_text(value)}" for name, value in pairs).encode()


def as_text(value: Any) -> str:
    """A JSON value as it stands in the string to sign and in a form."""
    return str(value).lower() if isinstance(value, bool) else str(value)
