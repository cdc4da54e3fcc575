"""REST of the account: balances, positions, settings, income, listen keys, rights of the key."""

from collections.abc import Mapping
from math import isinf
from typing import Any, Final

from tidegate.adapters.localnet.accounts import Account, Accounts, leg_of, split_leg
from tidegate.adapters.localnet.errors import ApiError
from tidegate.adapters.localnet.events import Json, multi_assets_update
from tidegate.adapters.localnet.positions import View, adl_rank
from tidegate.adapters.localnet.ratelimits import RateLimits
from tidegate.adapters.localnet.rest_orders import Answer, OrderRest, signed
from tidegate.adapters.localnet.routes import Route, Routes, Security
from tidegate.adapters.localnet.wire import Params, money, plain
from tidegate.domain.ledger import ZERO
from tidegate.domain.orders import PositionSide
from tidegate.simulator.margins import max_notional

SUCCESS: Final = {"code": 200, "msg": "success"}
_WEEK_MS: Final = 7 * 86_400_000


def account_routes(accounts: Accounts, limits: RateLimits, *, old_answers: bool = False) -> Routes:
    """Every endpoint that needs a key. ``old_answers``: see ``OrderRest``."""
    return {**OrderRest(accounts, old_answers=old_answers).routes(), **AccountRest(accounts, limits).routes()}


class AccountRest:
    """The endpoints of account and settings."""

    def __init__(self, accounts: Accounts, limits: RateLimits) -> None:
        self._accounts = accounts
        self._limits = limits

    def routes(self) -> Routes:
        """All of them."""
        table: dict[tuple[str, str], tuple[Answer, int]] = {
            ("GET", "/fapi/v2/account"): (self.account_v2, 5),
            ("GET", "/fapi/v3/account"): (self.account_v3, 5),
            ("GET", "/fapi/v2/balance"): (self.balance, 5),
            ("GET", "/fapi/v3/balance"): (self.balance, 5),
            ("GET", "/fapi/v2/positionRisk"): (self.position_risk_v2, 5),
            ("GET", "/fapi/v3/positionRisk"): (self.position_risk_v3, 5),
            ("GET", "/fapi/v1/accountConfig"): (self.account_config, 5),
            ("GET", "/fapi/v1/symbolConfig"): (self.symbol_config, 5),
            ("POST", "/fapi/v1/leverage"): (self.set_leverage, 1),
            ("POST", "/fapi/v1/marginType"): (self.set_margin_type, 1),
            ("GET", "/fapi/v1/positionSide/dual"): (self.dual_side, 30),
            ("POST", "/fapi/v1/positionSide/dual"): (self.set_dual_side, 1),
            ("GET", "/fapi/v1/multiAssetsMargin"): (self.multi_assets, 30),
            ("POST", "/fapi/v1/multiAssetsMargin"): (self.set_multi_assets, 1),
            ("POST", "/fapi/v1/positionMargin"): (self.move_margin, 1),
            ("GET", "/fapi/v1/positionMargin/history"): (self.margin_history, 1),
            ("GET", "/fapi/v1/leverageBracket"): (self.brackets, 1),
            ("GET", "/fapi/v1/commissionRate"): (self.commission, 20),
            ("GET", "/fapi/v1/feeBurn"): (self.fee_burn, 30),
            ("POST", "/fapi/v1/feeBurn"): (self.set_fee_burn, 1),
            ("GET", "/fapi/v1/income"): (self.income, 30),
            ("GET", "/fapi/v1/adlQuantile"): (self.adl, 5),
            ("GET", "/fapi/v1/rateLimit/order"): (self.order_limits, 1),
            ("GET", "/fapi/v1/apiTradingStatus"): (self.trading_status, 1),
            ("GET", "/sapi/v1/account/apiRestrictions"): (self.restrictions, 1),
        }
        routes = {
            name: Route(signed(self._accounts, answer), weight, Security.SIGNED)
            for name, (answer, weight) in table.items()
        }
        keys: dict[str, Answer] = {"POST": self.open_stream, "PUT": self.keep_stream, "DELETE": self.close_stream}
        for method, answer in keys.items():
            routes[method, "/fapi/v1/listenKey"] = Route(signed(self._accounts, answer), 1, Security.KEY)
        return routes

    # ---- balances and positions ---------------------------------------------------------------------------------

    def account_v3(self, account: Account, _: Mapping[str, str]) -> Json:
        """GET v3 account."""
        view = View(account)
        return {**view.totals(), "assets": view.asset_rows(3), "positions": view.account_rows_v3()}

    def account_v2(self, account: Account, _: Mapping[str, str]) -> Json:
        """GET v2 account."""
        view = View(account)
        flags = {
            "feeTier": 0,
            "feeBurn": account.fee_burn,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "updateTime": 0,
            "multiAssetsMargin": account.multi_assets,
            "tradeGroupId": -1,
        }
        return {**flags, **view.totals(), "assets": view.asset_rows(2), "positions": view.account_rows_v2()}

    def balance(self, account: Account, _: Mapping[str, str]) -> list[Json]:
        """GET balance."""
        return View(account).balance_rows()

    def position_risk_v3(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET v3 positionRisk."""
        return View(account).risk_rows_v3(_symbol(account, values))

    def position_risk_v2(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET v2 positionRisk."""
        return View(account).risk_rows_v2(_symbol(account, values))

    def adl(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET adlQuantile."""
        rows: dict[str, dict[str, int]] = {}
        for leg, margin in View(account).live(_symbol(account, values)):
            name, side = split_leg(leg)
            if margin.qty:
                rows.setdefault(name, {})[side.value] = adl_rank(margin)
        return [{"symbol": name, "adlQuantile": ranks} for name, ranks in rows.items()]

    def income(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET income: by default of the last seven days."""
        params = Params(values)
        symbol, kind, (start, end) = _symbol(account, values), params.get("incomeType"), params.window()
        limit, page = params.limit(100, 1000), max(1, params.integer("page") or 1)
        if "startTime" not in values and "endTime" not in values:
            start = account.now_ms - _WEEK_MS
        found = [
            line
            for line in account.income
            if symbol in ("", line.symbol) and kind in ("", line.kind) and start <= line.time_ms <= end
        ]
        return [
            {
                "symbol": line.symbol,
                "incomeType": line.kind,
                "income": money(line.amount),
                "asset": line.asset,
                "info": line.info,
                "time": line.time_ms,
                "tranId": line.transaction,
                "tradeId": line.trade_id,
            }
            for line in found[(page - 1) * limit : page * limit]
        ]

    # ---- settings -----------------------------------------------------------------------------------------------

    def account_config(self, account: Account, _: Mapping[str, str]) -> Json:
        """GET accountConfig."""
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "dualSidePosition": account.dual_side,
            "updateTime": 0,
            "multiAssetsMargin": account.multi_assets,
            "tradeGroupId": -1,
        }

    def symbol_config(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET symbolConfig."""
        wanted = _symbol(account, values)
        rows = []
        for name, listed in account.prices.symbols.items():
            if wanted in ("", name):
                terms = account.exchange.terms(leg_of(name, PositionSide.BOTH))
                rows.append(
                    {
                        "symbol": name,
                        "marginType": "ISOLATED" if terms.isolated else "CROSSED",
                        "isAutoAddMargin": False,
                        "leverage": terms.leverage,
                        "maxNotionalValue": plain(max_notional(listed.instrument.brackets, terms.leverage)),
                    }
                )
        return rows

    def set_leverage(self, account: Account, values: Mapping[str, str]) -> Json:
        """POST leverage."""
        params = Params(values)
        symbol, leverage = params.text("symbol"), params.integer("leverage")
        brackets = account.symbol(symbol).instrument.brackets
        if leverage is None:
            raise ApiError(-1102, "leverage")
        if not 1 <= leverage <= max(bracket.max_leverage for bracket in brackets):
            raise ApiError(-4028, leverage)
        largest = max_notional(brackets, leverage)
        for leg in account.legs(symbol):
            margin = account.exchange.leg_margin(leg)
            if margin.exposure * margin.mark > largest:
                raise ApiError(-2027)
            if margin.isolated and margin.qty and leverage < margin.leverage:
                raise ApiError(-4161)
            more = margin.exposure * margin.mark / leverage - margin.exposure * margin.mark / margin.leverage
            if more > account.exchange.margins().available:
                raise ApiError(-2028)
        account.set_leverage(symbol, leverage)
        return {"symbol": symbol, "leverage": leverage, "maxNotionalValue": plain(largest)}

    def set_margin_type(self, account: Account, values: Mapping[str, str]) -> Json:
        """POST marginType; the same type again is an error."""
        params = Params(values)
        symbol, kind = params.text("symbol"), params.text("marginType").upper()
        account.symbol(symbol)
        if kind not in ("ISOLATED", "CROSSED"):
            raise ApiError(-1130, "marginType")
        isolated = kind == "ISOLATED"
        if account.exchange.terms(leg_of(symbol, PositionSide.BOTH)).isolated is isolated:
            raise ApiError(-4046)
        if account.orders.open_orders(symbol) or account.algo.open_orders(symbol):
            raise ApiError(-4047)
        if _has_position(account, symbol):
            raise ApiError(-4048)
        if isolated and account.multi_assets:
            raise ApiError(-4168)
        account.set_isolated(symbol, isolated)
        return SUCCESS

    def dual_side(self, account: Account, _: Mapping[str, str]) -> Json:
        """GET positionSide/dual."""
        return {"dualSidePosition": account.dual_side}

    def set_dual_side(self, account: Account, values: Mapping[str, str]) -> Json:
        """POST positionSide/dual; the same mode again is an error."""
        params = Params(values)
        params.text("dualSidePosition")
        wanted = params.flag("dualSidePosition")
        if wanted is account.dual_side:
            raise ApiError(-4059)
        if account.orders.open_orders() or account.algo.open_orders():
            raise ApiError(-4067)
        if any(_has_position(account, symbol) for symbol in account.prices.symbols):
            raise ApiError(-4068)
        account.set_dual_side(wanted)
        return SUCCESS

    def multi_assets(self, account: Account, _: Mapping[str, str]) -> Json:
        """GET multiAssetsMargin."""
        return {"multiAssetsMargin": account.multi_assets}

    def set_multi_assets(self, account: Account, values: Mapping[str, str]) -> Json:
        """POST multiAssetsMargin: the flag is kept, the margins stay those of USDT."""
        params = Params(values)
        params.text("multiAssetsMargin")
        wanted = params.flag("multiAssetsMargin")
        if wanted is account.multi_assets:
            raise ApiError(-4171)
        legs = (leg_of(symbol, PositionSide.BOTH) for symbol in account.prices.symbols)
        if wanted and any(account.exchange.terms(leg).isolated for leg in legs):
            raise ApiError(-4167)
        account.multi_assets = wanted
        account.events(multi_assets_update(wanted, account.now_ms))
        return SUCCESS

    def move_margin(self, account: Account, values: Mapping[str, str]) -> Json:
        """POST positionMargin: into an isolated position (1) or out of it (2)."""
        params = Params(values)
        symbol, amount, kind = params.text("symbol"), params.needed("amount"), params.integer("type")
        account.symbol(symbol)
        side = params.get("positionSide", "BOTH")
        if side not in ("BOTH", "LONG", "SHORT") or (side == "BOTH") is account.dual_side:
            raise ApiError(-4061)
        leg = leg_of(symbol, PositionSide(side))
        margin = account.exchange.leg_margin(leg)
        if kind not in (1, 2):
            raise ApiError(-1130, "type")
        if amount <= 0:
            raise ApiError(-4055)
        if not margin.isolated or not margin.qty:
            raise ApiError(-4049)
        spare = margin.isolated_margin - margin.position_initial
        if amount > (account.exchange.margins().available if kind == 1 else max(ZERO, spare)):
            raise ApiError(-4051)
        account.move_margin(leg, amount if kind == 1 else -amount)
        return {"amount": float(amount), "code": 200, "msg": "Successfully modify position margin.", "type": kind}

    def margin_history(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET positionMargin/history."""
        symbol = Params(values).text("symbol")
        account.symbol(symbol)
        return [line for line in account.margin_changes if line["symbol"] == symbol]

    def fee_burn(self, account: Account, _: Mapping[str, str]) -> Json:
        """GET feeBurn."""
        return {"feeBurn": account.fee_burn}

    def set_fee_burn(self, account: Account, values: Mapping[str, str]) -> Json:
        """POST feeBurn."""
        params = Params(values)
        params.text("feeBurn")
        account.fee_burn = params.flag("feeBurn")
        return SUCCESS

    # ---- tables and limits --------------------------------------------------------------------------------------

    def brackets(self, account: Account, values: Mapping[str, str]) -> Json | list[Json]:
        """GET leverageBracket: a list, of one symbol too."""
        wanted = _symbol(account, values)
        return [
            {
                "symbol": name,
                "notionalCoef": 1.0,
                "brackets": [
                    {
                        "bracket": number,
                        "initialLeverage": each.max_leverage,
                        "notionalCap": _whole(each.cap_usdt),
                        "notionalFloor": _whole(each.floor_usdt),
                        "maintMarginRatio": each.maintenance_frac,
                        "cum": each.cum_usdt,
                    }
                    for number, each in enumerate(listed.instrument.brackets, 1)
                ],
            }
            for name, listed in account.prices.symbols.items()
            if wanted in ("", name)
        ]

    def commission(self, account: Account, values: Mapping[str, str]) -> Json:
        """GET commissionRate."""
        symbol = Params(values).text("symbol")
        instrument = account.symbol(symbol).instrument
        return {
            "symbol": symbol,
            "makerCommissionRate": f"{instrument.maker_fee:f}",
            "takerCommissionRate": f"{instrument.taker_fee:f}",
            "rpiCommissionRate": f"{instrument.maker_fee:f}",
        }

    def order_limits(self, _account: Account, _: Mapping[str, str]) -> list[Json]:
        """GET rateLimit/order."""
        limits = self._limits.limits
        return [
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": limits.orders_10s},
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": limits.orders_1m},
        ]

    def trading_status(self, account: Account, values: Mapping[str, str]) -> Json:
        """GET apiTradingStatus: nothing is held against anybody."""
        _symbol(account, values)
        return {"indicators": {}, "updateTime": account.now_ms}

    def restrictions(self, account: Account, _: Mapping[str, str]) -> Json:
        """GET apiRestrictions, on the venue's spot host: the rights of the key."""
        rights: dict[str, Any] = dict.fromkeys(_RIGHTS, False)
        return {"ipRestrict": False, "createTime": account.created_ms, **rights, **account.permissions}

    # ---- listen keys --------------------------------------------------------------------------------------------

    def open_stream(self, account: Account, _: Mapping[str, str]) -> Json:
        """POST listenKey: the same key again while it lives."""
        return {"listenKey": self._accounts.open_stream(account)}

    def keep_stream(self, account: Account, _: Mapping[str, str]) -> Json:
        """PUT listenKey."""
        key = self._accounts.keep_stream(account)
        if key is None:
            raise ApiError(-1125)
        return {"listenKey": key}

    def close_stream(self, account: Account, _: Mapping[str, str]) -> Json:
        """DELETE listenKey."""
        self._accounts.close_stream(account)
        return {}


_RIGHTS: Final = (
    "enableReading",
    "enableFutures",
    "enableWithdrawals",
    "enableInternalTransfer",
    "permitsUniversalTransfer",
    "enableMargin",
    "enableSpotAndMarginTrading",
    "enableVanillaOptions",
    "enablePortfolioMarginTrading",
    "enableFixApiTrade",
    "enableFixReadOnly",
)


def _symbol(account: Account, values: Mapping[str, str]) -> str:
    symbol = values.get("symbol", "")
    if symbol:
        account.symbol(symbol)
    return symbol


def _has_position(account: Account, symbol: str) -> bool:
    return any(account.exchange.ledger.position(leg).qty for leg in account.legs(symbol))


def _whole(value: float) -> int | float:
    if isinf(value):
        return 10**15
    return int(value) if value == int(value) else value
