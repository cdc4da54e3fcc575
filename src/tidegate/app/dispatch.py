"""Commands to ports: one task for each venue request, begun in order; timers and talk at once.

What a request could not do comes back as an event: ``OrderRejected`` when the order was certainly not placed,
``OrderUncertain`` when nobody knows, ``VenueStatus`` when the venue refuses our key. That it cannot be reached, and
that it can again, is for the venue to say: one request that failed does not know.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tidegate.domain.errors import (
    ModelError,
    NotAuthorised,
    OrderNotSent,
    OrderOutcomeUnknown,
    OrderRefused,
    VenueError,
    VenueUnavailable,
)
from tidegate.domain.ids import Nanos
from tidegate.domain.messages import (
    Adjustment,
    Alert,
    Command,
    Event,
    FitModel,
    Halt,
    LeaveAccount,
    ModelFitted,
    NotPlaced,
    SetTimer,
    Severity,
    TakeSnapshot,
    VenueState,
    VenueStatus,
)
from tidegate.domain.orders import (
    AmendOrder,
    ApprovedOrder,
    CancelOrder,
    OrderRejected,
    OrderUncertain,
    QueryOrder,
    RejectCause,
)
from tidegate.domain.signals import BookRisk, Decision, RegimeChanged, StrategyResult
from tidegate.ports import Clock, ExecutionVenue, ModelWorker, Timers

Request = ApprovedOrder | AmendOrder | CancelOrder | QueryOrder | TakeSnapshot
Post = Callable[[Event], None]
OnAlert = Callable[[Alert], None]


def _ignore(_: Alert) -> None:
    """Nobody listens."""


class Dispatcher:
    """The one door out. ``post`` must be set before the first command: it brings failures back to the inbox.

    ``halted`` is the latch: the first ``Halt`` that came by. ``on_alert`` hears every alert, and every halt as one.
    ``on_leave`` hears why this process leaves the account to another daemon; then ``left_to_another`` is set.
    """

    def __init__(
        self,
        venue: ExecutionVenue,
        timers: Timers,
        clock: Clock,
        post: Post,
        on_alert: OnAlert = _ignore,
        worker: ModelWorker | None = None,
        on_leave: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._venue, self._timers, self._clock, self._worker = venue, timers, clock, worker
        self._post, self._on_alert, self._on_leave = post, on_alert, on_leave
        self.left_to_another = False
        self._requests: set[asyncio.Task[None]] = set()
        self._fatal: BaseException | None = None
        self._failed = asyncio.Event()
        self.halted: Halt | None = None

    def dispatch(self, commands: Sequence[Command]) -> None:
        """Begin to carry out commands, in order."""
        for command in commands:
            match command:
                case Decision() | RegimeChanged() | BookRisk() | StrategyResult() | NotPlaced() | Adjustment():
                    pass  # already in the record: observers of the inbox show it
                case LeaveAccount():
                    self.left_to_another = True
                    self._on_leave(command.reason)
                case SetTimer():
                    self._timers.set(command)
                case ApprovedOrder() | AmendOrder() | CancelOrder() | QueryOrder() | TakeSnapshot():
                    self._begin(command)
                case Alert():
                    self._on_alert(command)
                case Halt():
                    self.halted = self.halted or command
                    self._on_alert(Alert(Severity.CRITICAL, "halt", command.reason, command.ts_ns))
                case FitModel() if self._worker is not None:
                    self._start(self._fit(command, self._worker))
                case FitModel():
                    text = f"no worker fits models here: {command.model} keeps its parameters"
                    self._on_alert(Alert(Severity.WARNING, "model", text, self._clock.now_ns()))

    async def drained(self) -> None:
        """Return when every request that was begun has returned. Raises what was fatal."""
        while self._requests:
            await asyncio.wait(self._requests)
        if self._fatal is not None:
            raise self._fatal

    async def watch(self) -> None:
        """Wait for a fatal failure, and raise it."""
        await self._failed.wait()
        await self.drained()

    def _begin(self, request: Request) -> None:
        self._start(self._carry_out(request))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._requests.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fatal = self._fatal or error
            self._failed.set()

    async def _carry_out(self, request: Request) -> None:
        try:
            await self._sent(request)
        except NotAuthorised as error:
            now_ns = self._clock.now_ns()
            self._post(VenueStatus(VenueState.REFUSED, str(error), now_ns, now_ns))
            self._failure(request, error)
        except VenueError as error:
            self._failure(request, error)

    async def _fit(self, request: FitModel, worker: ModelWorker) -> None:
        """Have a model fitted. Without an answer the kernel keeps the parameters it has, and says so itself."""
        try:
            parameters = await worker.fit(request)
        except ModelError as error:
            self._on_alert(Alert(Severity.WARNING, "model", f"{request.model}: {error}", self._clock.now_ns()))
            return
        now_ns = self._clock.now_ns()
        self._post(ModelFitted(request.model, request.activation_ns, parameters, now_ns, now_ns))

    async def _sent(self, request: Request) -> None:
        match request:
            case ApprovedOrder():
                await self._venue.submit(request)
            case AmendOrder():
                await self._venue.amend(request)
            case CancelOrder():
                await self._venue.cancel(request)
            case QueryOrder():
                await self._venue.query(request)
            case TakeSnapshot():
                self._post(await self._venue.snapshot(request))

    def _failure(self, request: Request, error: VenueError) -> None:
        """Tell the kernel what became of a request that failed.

        A snapshot or a query that failed changes nothing: the kernel asks again by its own timers.
        """
        now_ns = self._clock.now_ns()
        name = type(request).__name__
        if isinstance(request, TakeSnapshot | QueryOrder):
            subject = request.name if isinstance(request, TakeSnapshot) else request.id
            self._on_alert(Alert(Severity.WARNING, "venue", f"{name} {subject}: {error}", now_ns))
            return
        if isinstance(error, OrderOutcomeUnknown) or not isinstance(request, ApprovedOrder):
            fence_ns = error.fence_ns if isinstance(error, OrderOutcomeUnknown) else 0
            text = f"{name}: {error}"
            self._post(OrderUncertain(request.id, request.instrument, text, now_ns, now_ns, fence_ns))
        else:
            self._post(_rejected(request, error, now_ns))


def _rejected(order: ApprovedOrder, error: VenueError, now_ns: Nanos) -> OrderRejected:
    if isinstance(error, OrderRefused):
        cause = RejectCause(error.cause)
        return OrderRejected(order.id, order.instrument, error.code, error.reason, now_ns, now_ns, cause)
    cause = RejectCause.NOT_SENT if isinstance(error, OrderNotSent | VenueUnavailable) else RejectCause.OTHER
    return OrderRejected(order.id, order.instrument, "NOT_SENT", str(error), now_ns, now_ns, cause)
