"""What the exchange refuses, in its own codes and words, with the HTTP status of each."""

from typing import Final

from tidegate.adapters.localnet.routes import ApiResponse

_STATUS: Final = {-1002: 401, -2014: 401, -2015: 401, -1003: 429, -1015: 429, -1007: 408, -1008: 503, -1000: 503}

TEXTS: Final[dict[int, str]] = {
    -1021: "Timestamp for this request is outside of the recvWindow.",
    -1022: "Signature for this request is not valid.",
    -1102: "Mandatory parameter '{}' was not sent, was empty/null, or malformed.",
    -1106: "Parameter '{}' sent when not required.",
    -1111: "Precision is over the maximum defined for this asset.",
    -1115: "Invalid timeInForce.",
    -1116: "Invalid orderType.",
    -1117: "Invalid side.",
    -1121: "Invalid symbol.",
    -1122: "Invalid symbol status.",
    -1125: "This listenKey does not exist.",
    -1128: "Combination of optional parameters invalid.",
    -1130: "Data sent for parameter '{}' is not valid.",
    -2011: "Unknown order sent.",
    -2013: "Order does not exist.",
    -2014: "API-key format invalid.",
    -2015: "Invalid API-key, IP, or permissions for action, request ip: {}",
    -2018: "Balance is insufficient.",
    -2019: "Margin is insufficient.",
    -2021: "Order would immediately trigger.",
    -2022: "ReduceOnly Order is rejected.",
    -2025: "Reach max open order limit.",
    -2027: "Exceeded the maximum allowable position at current leverage.",
    -2028: "Leverage is smaller than permitted: insufficient margin balance.",
    -4001: "Price less than or equal to zero.",
    -4002: "Price greater than max price.",
    -4003: "Quantity less than or equal to zero.",
    -4004: "Quantity less than min quantity.",
    -4005: "Quantity greater than max quantity.",
    -4013: "Price less than min price.",
    -4014: "Price not increased by tick size.",
    -4015: "Client order id is not valid.",
    -4016: "Limit price can't be higher than {}.",
    -4023: "Quantity not increased by step size.",
    -4024: "Limit price can't be lower than {}.",
    -4028: "Leverage {} is not valid",
    -4032: "Exceed maximum cancel order size.",
    -4045: "Reach max stop order limit.",
    -4046: "No need to change margin type.",
    -4047: "Margin type cannot be changed if there exists open orders.",
    -4048: "Margin type cannot be changed if there exists position.",
    -4049: "Add margin only support for isolated position.",
    -4051: "Isolated balance insufficient.",
    -4055: "Amount must be positive.",
    -4059: "No need to change position side.",
    -4061: "Order's position side does not match user's setting.",
    -4062: "Invalid or improper reduceOnly value.",
    -4067: "Position side cannot be changed if there exists open orders.",
    -4068: "Position side cannot be changed if there exists position.",
    -4082: "Invalid number of batch place orders.",
    -4116: "ClientOrderId is duplicated.",
    -4120: "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
    -4130: "An open stop or take profit order with GTE and closePosition in the direction is existing.",
    -4137: "Quantity must be zero with closePosition equals true.",
    -4138: "Reduce only must be true with closePosition equals true.",
    -4161: "Leverage reduction is not supported in Isolated Margin Mode with open positions.",
    -4164: "Order's notional must be no smaller than {} (unless you choose reduce only).",
    -4168: "Unable to adjust to isolated-margin mode under the Multi-Assets mode.",
    -4171: "No need to change multi-assets mode.",
    -4167: "Unable to adjust to Multi-Assets mode with symbols of USD-M Futures under isolated-margin mode.",
    -5021: "Due to the order could not be filled immediately, the FOK order has been rejected. "
    "The order will not be recorded in the order history.",
    -5022: "Due to the order could not be executed as maker, the Post Only order will be rejected. "
    "The order will not be recorded in the order history.",
    -5024: "Symbol is not in trading status. Order amendment is not permitted.",
    -5025: "Only limit order is supported.",
    -5026: "Exceed maximum modify order limit.",
    -5027: "No need to modify the order.",
    -5029: "Order's notional must be no smaller than {}.",
    -5038: "Invalid priceMatch only can be used for limit order.",
    -5039: "Invalid priceMatch, price can not be sent with it.",
    -5040: "The goodTillDate timestamp must be greater than the current time plus 600 seconds "
    "and smaller than 253402300799000.",
    -5041: "Price match is not available: the book has no such level.",
    -5047: "Modify with reduceOnly is refused: the original order is not reduce-only.",
}


class ApiError(Exception):
    """A refusal that goes to the client as ``{"code", "msg"}``. Its text holds nothing secret."""

    def __init__(self, code: int, *details: object, msg: str | None = None, status: int | None = None) -> None:
        self.code = code
        self.msg = TEXTS[code].format(*details) if msg is None else msg
        self.status = _STATUS.get(code, 400) if status is None else status
        super().__init__(f"{code} {self.msg}")

    @property
    def body(self) -> dict[str, object]:
        """The JSON of the answer, or of one item of a batch."""
        return {"code": self.code, "msg": self.msg}

    @property
    def response(self) -> ApiResponse:
        """The answer."""
        return ApiResponse.of(self.body, self.status)


CORE_CODES: Final = {
    "SYMBOL": -1121,
    "STATUS": -1122,
    "DUPLICATE_ID": -4116,
    "LOT_SIZE": -4005,
    "PRICE_FILTER": -4014,
    "PRICE": -1102,
    "WOULD_TRIGGER": -2021,
    "PERCENT_PRICE": -4016,
    "REDUCE_ONLY": -2022,
    "MIN_NOTIONAL": -4164,
    "MARGIN": -2019,
    "MAX_POSITION": -2027,
    "GTX": -5022,
    "FOK": -5021,
}
"""The matching core's refusals as the venue's codes."""


def from_core(code: str, reason: str) -> ApiError:
    """A refusal of the matching core, in the venue's words where these need no details."""
    number = CORE_CODES[code]
    return ApiError(number, msg=reason if "{}" in TEXTS[number] else None)
