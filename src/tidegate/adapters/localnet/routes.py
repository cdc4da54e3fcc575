"""What a request is, what an answer is, and what the exchange's table of endpoints holds."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import msgspec


class Security(Enum):
    """What a caller must show: nothing, a key, or a key and a signature."""

    NONE = "NONE"
    KEY = "KEY"
    SIGNED = "SIGNED"


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request as it was received. ``raw_query`` and ``raw_body`` are the bytes on the wire: signatures cover them.

    ``headers`` has lower-case names; ``params`` is filled by the pipeline from query and body.
    """

    method: str
    path: str
    raw_query: bytes
    raw_body: bytes
    headers: Mapping[str, str]
    remote: str
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """An answer: always JSON."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: object, status: int = 200) -> "ApiResponse":
        """An answer that holds ``content`` as JSON."""
        return cls(status, msgspec.json.encode(content))


Handler = Callable[[ApiRequest], Awaitable[ApiResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint. ``weight`` may depend on the parameters; ``orders`` counts on the 10 s and 1 min order limits."""

    handler: Handler
    weight: int | Callable[[Mapping[str, str]], int] = 1
    security: Security = Security.NONE
    orders: tuple[int, int] = (0, 0)


Routes = dict[tuple[str, str], Route]
"""Endpoints by method and path: ``("GET", "/fapi/v1/time")``."""
