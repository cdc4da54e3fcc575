"""What every model worker must do, run against each: the same bytes from the same request, and one clear error."""

from collections.abc import AsyncIterator

import msgspec
import numpy as np
import pytest

from tidegate.app.workers import InlineWorker, PoolWorker, fitted
from tidegate.domain.errors import ModelError
from tidegate.domain.ids import ModelId
from tidegate.domain.messages import FitModel
from tidegate.ports import ModelWorker
from tidegate.quant.regime import NoLookAheadRegimeDetector, RegimeSettings


def request(model: str = "regime") -> FitModel:
    """The first fit that a detector asks for, over an invented market that is quiet and wild by turns."""
    settings = RegimeSettings(first_fit_bars=600, trend_bars=60, first_restarts=2)
    detector, rng = NoLookAheadRegimeDetector(settings), np.random.Generator(np.random.PCG64(5))
    for bar in range(1, 10_000):
        quiet = 0.005 if bar // 60 % 2 else 0.02
        asked = detector.push(bar * settings.bar_ns, float(rng.standard_normal()) * quiet).request
        if asked is not None:
            bytes_of = asked.to_bytes()
            return FitModel(ModelId(model), asked.start_ns, asked.end_ns, asked.activation_ns, asked.seed, bytes_of)
    raise AssertionError("no fit was asked for")


@pytest.fixture(params=[InlineWorker, PoolWorker])
async def worker(request: pytest.FixtureRequest) -> AsyncIterator[ModelWorker]:
    made = request.param()
    yield made
    if isinstance(made, PoolWorker):
        made.close()


async def test_a_fit_is_the_same_wherever_it_runs(worker: ModelWorker) -> None:
    asked = request()
    assert await worker.fit(asked) == fitted(asked)


async def test_what_is_no_request_is_one_clear_error(worker: ModelWorker) -> None:
    with pytest.raises(ModelError, match="the fit of regime failed: these bytes are no request"):
        await worker.fit(msgspec.structs.replace(request(), request=b"nonsense"))


async def test_an_unknown_model_is_one_clear_error(worker: ModelWorker) -> None:
    with pytest.raises(ModelError, match="no fit is known for the model 'weather'; there is regime"):
        await worker.fit(request("weather"))
