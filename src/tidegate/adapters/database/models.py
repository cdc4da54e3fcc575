"""The fits of models in PostgreSQL."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from tidegate.adapters.database import statements
from tidegate.adapters.database.failures import one_error
from tidegate.adapters.database.tables import metadata
from tidegate.adapters.database.trading import insert_rows
from tidegate.domain.ids import ModelId, Nanos
from tidegate.domain.messages import ModelFitted


class PostgresModels:
    """Implements ``ports.ModelRepository``."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def save(self, account_id: str, session_id: str, fit: ModelFitted, seq: int) -> None:
        with one_error(f"saving a fit of {fit.model}"):
            async with self._engine.begin() as connection:
                row = row_of(account_id, session_id, fit, seq)
                await insert_rows(connection, metadata.tables["model_fits"], [row], overwrite=False)

    async def latest(self, account_id: str, model: ModelId, at_ns: Nanos) -> ModelFitted | None:
        with one_error(f"loading the last fit of {model}"):
            async with self._engine.connect() as connection:
                found = (await connection.execute(statements.latest_model(account_id, model, at_ns))).mappings().first()
        return None if found is None else fit_of(dict(found))


def row_of(account_id: str, session_id: str, fit: ModelFitted, seq: int) -> dict[str, Any]:
    """A fit as a row of ``model_fits``."""
    return {
        "account_id": account_id,
        "session_id": session_id,
        "model": fit.model,
        "activation_ns": fit.activation_ns,
        "parameters": fit.parameters,
        "seq": seq,
        "ts_ns": fit.ts_ns,
    }


def fit_of(row: dict[str, Any]) -> ModelFitted:
    """The fit in a row; when it was received is not stored, so that is when it was made."""
    return ModelFitted(ModelId(row["model"]), row["activation_ns"], row["parameters"], row["ts_ns"], row["ts_ns"])
