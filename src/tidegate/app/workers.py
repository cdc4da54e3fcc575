"""Model fits: in a process of their own where a loop must not wait, inline where nothing else runs.

A fit is a pure function of its request, so the same bytes come out of both. The libraries that fit are heavy: they are
imported by the first fit, and in the daemon only by the process that fits.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing import get_context
from typing import Final, cast

from tidegate.domain.errors import ModelError
from tidegate.domain.messages import FitModel

FITS: Final = {"regime": "tidegate.quant.regime_fit:fit_regime"}
"""What fits each model: bytes of the request to bytes of the parameters."""


def fitted(request: FitModel) -> bytes:
    """Fit a model here and now. Raises ``ModelError``."""
    return _fit(request.model, request.request)


def _fit(model: str, request: bytes) -> bytes:
    if model not in FITS:
        raise ModelError(f"no fit is known for the model {model!r}; there is {', '.join(FITS)}")
    module, _, name = FITS[model].partition(":")
    fit = cast(Callable[[bytes], bytes], getattr(import_module(module), name))
    try:
        return fit(request)
    except (ArithmeticError, ValueError) as error:
        raise ModelError(f"the fit of {model} failed: {error}") from error


class PoolWorker:
    """The ``ModelWorker`` port over one process, started by the first fit and made anew when it has died."""

    def __init__(self) -> None:
        self._pool: Executor | None = None

    async def fit(self, request: FitModel) -> bytes:
        """Fit in the other process. Raises ``ModelError``."""
        if self._pool is None:  # spawned, not forked: the loop's threads and sockets stay with us
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _fit, request.model, request.request)
        except BrokenProcessPool as error:
            self._pool = None
            raise ModelError(f"the process that fits {request.model} died") from error

    async def end(self) -> None:
        """``close``, for whoever awaits its connections' end."""
        self.close()

    def close(self) -> None:
        """End the process; a fit that is under way is given up."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


class InlineWorker:
    """The port where the loop may wait: simulated time."""

    def close(self) -> None:
        """There is nothing to end."""

    async def fit(self, request: FitModel) -> bytes:
        """Fit here. Raises ``ModelError``."""
        return fitted(request)
