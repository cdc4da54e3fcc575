"""What every model worker must do, run against each: the same bytes from the same request, and one clear error."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from tidegate.app.workers import InlineWorker, PoolWorker, fitted
from tidegate.domain.errors import ModelError
from tidegate.domain.ids import ModelId
from tidegate.domain.messages import FitModel
from tidegate.ports import ModelWorker
from tidegate.quant.regime import FitRequest


def request(model: str = "regime", rows: int = 600) -> FitModel:
    """A fit over invented observations."""
    rng = np.random.Generator(np.random.PCG64(5))
    quiet = np.where(np.arange(rows) // 60 % 2, 0.02, 0.005)
    returns = rng.standard_normal(rows) * quiet
    observations = np.column_stack([returns, np.log(quiet), rng.standard_normal(rows)])
    asked = FitRequest(1, 2, observations, returns, seed=3, restarts=2, warm=None)
    return FitModel(ModelId(model), 0, 1, 2, 3, asked.to_bytes())


@pytest.fixture(params=[InlineWorker, PoolWorker])
async def worker(request: pytest.FixtureRequest) -> AsyncIterator[ModelWorker]:
    made = request.param()
    yield made
    if isinstance(made, PoolWorker):
        made.close()


async def test_a_fit_is_the_same_wherever_it_runs(worker: ModelWorker) -> None:
    asked = request()
    assert await worker.fit(asked) == fitted(asked)


async def test_an_unknown_model_is_one_clear_error(worker: ModelWorker) -> None:
    with pytest.raises(ModelError, match="no fit is known for the model 'weather'; there is regime"):
        await worker.fit(request("weather"))
