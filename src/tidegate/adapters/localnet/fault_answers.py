"""The error answers that faults give, with the venue's statuses and texts."""

from collections.abc import Mapping

from tidegate.adapters.localnet.errors import TEXTS
from tidegate.adapters.localnet.routes import ApiResponse

UNKNOWN_TEXT = "Unknown error, please check your request or try again later."

_STATUS: Mapping[int, int] = {
    **dict.fromkeys((-1000, -1001, -1006, -1008, -1016), 503),
    **dict.fromkeys((-1002, -2014, -2015), 401),
    **dict.fromkeys((-1003, -1015), 429),
    -1007: 408,
}

_TEXTS: Mapping[int, str] = {
    -1000: "An unknown error occurred while processing the request.",
    -1001: "Internal error; unable to process your request. Please try again.",
    -1002: "You are not authorized to execute this request.",
    -1003: "Too many requests; current limit is 2400 requests per minute.",
    -1006: "An unexpected response was received from the message bus. Execution status unknown.",
    -1007: "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
    -1008: "Request throttled by system-level protection.",
    -1013: "Invalid message.",
    -1015: "Too many new orders.",
    -1016: "This service is no longer available.",
    -2010: "Order would be rejected.",
    -4118: "ReduceOnly Order Failed. Please check your existing position and open orders.",
    -4131: "The counterparty's best price does not meet the PERCENT_PRICE filter limit.",
    -4140: "Invalid symbol status for opening position.",
    -4141: "Symbol is closed.",
    -5028: "The requested timestamp is outside the recvWindow of the matching engine.",
}
"""What only faults say; the exchange's own refusals have their texts in ``errors``."""


def error(code: int, text: str | None = None, status: int | None = None) -> ApiResponse:
    """An error answer with the venue's status and text for a code; a positive code is a bare HTTP status."""
    if code > 0:
        page = f"<html><head><title>{code}</title></head><body><h1>{code}</h1></body></html>"
        return ApiResponse(code, page.encode(), {"Content-Type": "text/html"})
    known = _TEXTS.get(code) or TEXTS.get(code, "Rejected.").replace("{}", "?")
    return ApiResponse.of({"code": code, "msg": text or known}, status or _STATUS.get(code, 400))


UNKNOWN = error(-1000, UNKNOWN_TEXT)
UNAVAILABLE = error(-1000, "Service Unavailable.")
MAINTENANCE = error(-1016)
