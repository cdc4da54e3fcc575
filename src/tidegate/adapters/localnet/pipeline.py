"""The way of a request: parameters, weight, key and signature, order count, faults, handler, and back."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Protocol

from tidegate.adapters.localnet.accounts import Accounts
from tidegate.adapters.localnet.auth import check_signature, check_time, key_of
from tidegate.adapters.localnet.errors import ApiError
from tidegate.adapters.localnet.ratelimits import RateLimits
from tidegate.adapters.localnet.routes import ApiRequest, ApiResponse, Route, Routes, Security
from tidegate.adapters.localnet.wire import merged
from tidegate.ports import Clock


class FaultHook(Protocol):
    """Stands around the execution of a request; see ``faults``."""

    async def run(self, request: ApiRequest, execute: Callable[[ApiRequest], Awaitable[ApiResponse]]) -> ApiResponse:
        """Execute, or not, and say something, or nothing."""
        ...


class Pipeline:
    """Every request of the REST side goes through ``handle``. ``lenient_signatures`` takes decoded ones too."""

    def __init__(
        self,
        accounts: Accounts,
        routes: Routes,
        limits: RateLimits,
        clock: Clock,
        faults: FaultHook | None = None,
        *,
        lenient_signatures: bool = False,
    ) -> None:
        self.accounts = accounts
        self.routes = routes
        self.limits = limits
        self._clock = clock
        self._faults = faults
        self._lenient = lenient_signatures

    async def handle(self, request: ApiRequest) -> ApiResponse:
        """Answer a request. What the fault hook raises to drop the connection passes through."""
        headers: dict[str, str] = {}
        try:
            route = self._route(request)
            params = merged(request.raw_query, request.raw_body)
            request = replace(request, params=params)
            headers.update(self.limits.take(request.remote, request.path, _weight(route, params)))
            headers.update(self._admit(request, route))
            execute = _answering(route)
            response = await (execute(request) if self._faults is None else self._faults.run(request, execute))
        except ApiError as error:
            response = error.response
        return replace(response, headers={**headers, **response.headers}) if headers else response

    def _route(self, request: ApiRequest) -> Route:
        route = self.routes.get((request.method, request.path))
        if route is None:
            msg = f"Path {request.path}, Method {request.method} is invalid"
            raise ApiError(-5000, msg=msg, status=404)
        return route

    def _admit(self, request: ApiRequest, route: Route) -> Mapping[str, str]:
        if route.security is Security.NONE:
            return {}
        account = self.accounts.by_key(key_of(request))
        if account is None:
            raise ApiError(-2015, request.remote)
        if route.security is Security.SIGNED:
            check_signature(request, account.credentials, lenient=self._lenient)
            check_time(request.params, self._clock.now_ns())
        return self.limits.take_orders(account.key, route.orders)


def _weight(route: Route, params: Mapping[str, str]) -> int:
    return route.weight(params) if callable(route.weight) else route.weight


def _answering(route: Route) -> Callable[[ApiRequest], Awaitable[ApiResponse]]:
    async def execute(request: ApiRequest) -> ApiResponse:
        try:
            return await route.handler(request)
        except ApiError as error:
            return error.response

    return execute
