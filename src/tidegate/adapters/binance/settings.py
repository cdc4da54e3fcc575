"""The rights of the key and the settings of the account: read, compared with what is wished, changed only when asked.

What is read back decides, never the text of an answer: the venue calls "no change needed" an error, and some of its
refusals name the wrong reason.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

import msgspec

from tidegate.adapters.binance.errors import Context, Refused, Unknown
from tidegate.adapters.binance.limits import Lane
from tidegate.adapters.binance.rest import BinanceRest, Params, Security
from tidegate.domain.errors import VenueError

MarginType = Literal["CROSSED", "ISOLATED"]

_READ_WEIGHT: Final = 5
_MODE_WEIGHT: Final = 30


class KeyRights(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the key may do, by ``GET /sapi/v1/account/apiRestrictions`` on the spot host.

    None is "not readable", never "no". ``unreadable`` says why nothing could be read at all.
    """

    ip_restrict: bool | None = None
    enable_reading: bool | None = None
    enable_futures: bool | None = None
    enable_withdrawals: bool | None = None
    enable_internal_transfer: bool | None = None
    permits_universal_transfer: bool | None = None
    enable_margin: bool | None = None
    enable_spot_and_margin_trading: bool | None = None
    enable_vanilla_options: bool | None = None
    enable_portfolio_margin_trading: bool | None = None
    enable_fix_api_trade: bool | None = None
    enable_fix_read_only: bool | None = None
    create_time: int | None = None
    trading_authority_expiration_time: int | None = None
    unreadable: str | None = None


class AccountConfig(msgspec.Struct, frozen=True, rename="camel"):
    """``GET /fapi/v1/accountConfig``: the modes of the account. The ``can_`` flags say nothing about the key."""

    dual_side_position: bool
    multi_assets_margin: bool
    can_trade: bool | None = None
    fee_tier: int | None = None


class SymbolConfig(msgspec.Struct, frozen=True, rename="camel"):
    """One line of ``GET /fapi/v1/symbolConfig``. ``margin_type`` is CROSSED or ISOLATED."""

    symbol: str
    margin_type: str
    leverage: int
    max_notional_value: Decimal | None = None


class _Dual(msgspec.Struct, rename="camel"):
    dual_side_position: bool


class _Multi(msgspec.Struct, rename="camel"):
    multi_assets_margin: bool


@dataclass(frozen=True, slots=True)
class SymbolSetup:
    """How one symbol is wished to be set."""

    symbol: str
    leverage: int
    margin_type: MarginType


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that is not as wished. ``symbol`` is None for the position mode, which is the whole account's."""

    symbol: str | None
    setting: Literal["position_mode", "margin_type", "leverage"]
    wished: str
    actual: str
    refusal: str | None = None

    def __str__(self) -> str:
        where = f"{self.symbol} " if self.symbol else ""
        why = f" ({self.refusal})" if self.refusal else ""
        return f"{where}{self.setting}: is {self.actual}, wished {self.wished}{why}"


@dataclass(frozen=True, slots=True)
class AccountState:
    """The settings as the venue has them now."""

    account: AccountConfig
    symbols: dict[str, SymbolConfig]

    def differences(self, wished: Iterable[SymbolSetup], *, hedge_mode: bool) -> list[Difference]:
        """What differs from the wish, in the order in which it would be changed."""
        found: list[Difference] = []
        if self.account.dual_side_position is not hedge_mode:
            found.append(Difference(None, "position_mode", _mode(hedge_mode), _mode(not hedge_mode)))
        for each in wished:
            actual = self.symbols.get(each.symbol)
            margin_type = actual.margin_type if actual else "not listed"
            leverage = str(actual.leverage) if actual else "not listed"
            if margin_type != each.margin_type:
                found.append(Difference(each.symbol, "margin_type", each.margin_type, margin_type))
            if leverage != str(each.leverage):
                found.append(Difference(each.symbol, "leverage", str(each.leverage), leverage))
        return found


async def read_key_rights(spot: BinanceRest) -> KeyRights:
    """The rights of the key, from the spot host. Never raises for what the venue says: rights that cannot be read
    come back as None, with the reason."""
    try:
        return await spot.get(
            "/sapi/v1/account/apiRestrictions", answer=KeyRights, weight=1, security=Security.SIGNED, attempts=2
        )
    except VenueError as error:
        return KeyRights(unreadable=str(error))


async def read_account_config(rest: BinanceRest) -> AccountConfig:
    """Position mode and asset mode in one request."""
    return await rest.get("/fapi/v1/accountConfig", answer=AccountConfig, weight=_READ_WEIGHT, security=Security.SIGNED)


async def read_symbol_configs(rest: BinanceRest, symbols: Sequence[str]) -> dict[str, SymbolConfig]:
    """Leverage and margin type of ``symbols``; one that the venue does not list is not in the answer."""
    params: Params = (("symbol", symbols[0]),) if len(symbols) == 1 else ()
    lines = await rest.get(
        "/fapi/v1/symbolConfig", params, answer=list[SymbolConfig], weight=_READ_WEIGHT, security=Security.SIGNED
    )
    wanted = set(symbols)
    return {line.symbol: line for line in lines if line.symbol in wanted}


async def read_hedge_mode(rest: BinanceRest) -> bool:
    """Whether positions are held per side, from the setting's own endpoint (weight 30; accountConfig says it for 5)."""
    found = await rest.get("/fapi/v1/positionSide/dual", answer=_Dual, weight=_MODE_WEIGHT, security=Security.SIGNED)
    return found.dual_side_position


async def read_multi_assets(rest: BinanceRest) -> bool:
    """Whether several assets are margin together, from the setting's own endpoint (weight 30)."""
    found = await rest.get("/fapi/v1/multiAssetsMargin", answer=_Multi, weight=_MODE_WEIGHT, security=Security.SIGNED)
    return found.multi_assets_margin


class AccountSetup:
    """Brings an account to the settings that are wished. The daemon only ever reads; a command applies."""

    def __init__(self, rest: BinanceRest) -> None:
        self._rest = rest

    async def read(self, symbols: Sequence[str]) -> AccountState:
        """The settings now. Raises ``VenueError``."""
        return AccountState(await read_account_config(self._rest), await read_symbol_configs(self._rest, symbols))

    async def apply(self, wished: Sequence[SymbolSetup], *, hedge_mode: bool) -> list[Difference]:
        """Change what differs, then read again: the differences that are left, each with the venue's refusal.

        A change is sent once; refused or unknown, what is read back decides. A symbol that the venue does not list
        is left alone. Raises ``VenueError`` when reading fails, or when the venue does not take the request at all.
        """
        symbols = [each.symbol for each in wished]
        refusals: dict[tuple[str | None, str], str] = {}
        for each in (await self.read(symbols)).differences(wished, hedge_mode=hedge_mode):
            if each.actual == "not listed":
                continue
            try:
                await self._change(each)
            except (Refused, Unknown) as error:
                refusals[each.symbol, each.setting] = str(error)
        left = (await self.read(symbols)).differences(wished, hedge_mode=hedge_mode)
        return [
            Difference(each.symbol, each.setting, each.wished, each.actual, refusals.get((each.symbol, each.setting)))
            for each in left
        ]

    async def _change(self, difference: Difference) -> None:
        symbol = difference.symbol or ""
        match difference.setting:
            case "position_mode":
                dual = "true" if difference.wished == _mode(True) else "false"
                path, params = "/fapi/v1/positionSide/dual", [("dualSidePosition", dual)]
            case "margin_type":
                path, params = "/fapi/v1/marginType", [("symbol", symbol), ("marginType", difference.wished)]
            case "leverage":
                path, params = "/fapi/v1/leverage", [("symbol", symbol), ("leverage", difference.wished)]
        await self._rest.call(
            "POST", path, params, answer=msgspec.Raw, weight=1, lane=Lane.HISTORY, context=Context.SETTING
        )


def _mode(hedge: bool) -> str:
    return "hedge" if hedge else "one-way"
