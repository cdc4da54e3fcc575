"""A year of one-minute bars into PostgreSQL and out again: ``python -m benchmarks.market_data --json``.

Our save and load (``adapters/database/bars.py``) beside plain asyncpg on the same migrated table, with the same indexes
and months, in the same run and in turns: ``copy_records_to_table`` of tuples, and the quicker of ``fetch`` and a text
``COPY`` with its lines parsed. Ours starts and ends with columns (``BarTable``); plain asyncpg starts with tuples that
are ready, and ends with columns too. The upsert is our save of the same bars, changed, over those that are there.
Figures are medians over ``--repeats``. Exit code 1 when ours takes more than ``--target`` times plain asyncpg's time.
The server is the embedded one in a folder of its own, or the empty database of ``--url``.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import asyncpg
import numpy as np

from tidegate.adapters.database.bar_wire import COLUMNS, READ_COLUMNS
from tidegate.adapters.database.bars import PostgresBars
from tidegate.adapters.database.connecting import connect, open_engine
from tidegate.adapters.database.embedded import EmbeddedServer
from tidegate.adapters.database.rows import stamp
from tidegate.adapters.database.schema import migrate
from tidegate.domain.errors import TidegateError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import MINUTE_NS, BarSpec
from tidegate.ports import BarSeries
from tidegate.quant.bars import BarTable

START_NS = 1_704_067_200 * 10**9  # 2024-01-01
SERIES = BarSeries("benchmark", InstrumentId("BTCUSDT"), BarSpec.of("1m"))
_WHERE = "source = 'benchmark' and account_id = '' and session_id = '' and symbol = 'BTCUSDT' and interval = '1m'"
_SELECT = f"select {', '.join(READ_COLUMNS)} from market_data where {_WHERE} order by ts"


def invented(count: int, seed: int) -> BarTable:
    """A random walk."""
    rng = np.random.default_rng(seed)
    open_ = 60_000 * np.exp(rng.normal(0, 1e-4, count).cumsum())
    close = open_ * np.exp(rng.normal(0, 1e-4, count))
    high, low = np.maximum(open_, close) * 1.0001, np.minimum(open_, close) * 0.9999
    ends = START_NS + MINUTE_NS * np.arange(1, count + 1, dtype=np.int64)
    return BarTable(MINUTE_NS, ends, open_, high, low, close, rng.random(count))


def records(bars: BarTable) -> list[tuple[Any, ...]]:
    """The rows as plain asyncpg wants them."""
    key = (SERIES.source, "", "", str(SERIES.instrument), SERIES.bar.name)
    columns = [getattr(bars, name).tolist() for name in READ_COLUMNS]
    return [(*key, stamp(row[0]), *row) for row in zip(*columns, strict=True)]


@asynccontextmanager
async def server(url: str | None) -> AsyncIterator[str]:
    """The address of a migrated database."""
    if url is not None:
        await migrate(url)
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-", dir="/tmp") as folder:
        os.chmod(folder, 0o711)  # as root the server runs as another account and must pass through
        embedded = await EmbeddedServer.start(Path(folder) / "pg")
        try:
            await migrate(embedded.url)
            yield embedded.url
        finally:
            await embedded.stop()


async def plain_fetch(raw: "asyncpg.Connection[Any]") -> int:
    """Records, and columns out of them."""
    found = await raw.fetch(_SELECT)
    ends = np.array([row[0] for row in found], dtype=np.int64)
    prices = [np.array([row[place] for row in found]) for place in range(1, len(READ_COLUMNS))]
    return min(len(ends), *map(len, prices))


async def plain_copy(raw: "asyncpg.Connection[Any]") -> int:
    """Text, parsed by numpy. Times as floats would lose digits, so they are read as whole numbers."""
    sink = BytesIO()
    await raw.copy_from_query(_SELECT, output=sink, format="csv")
    kinds = np.dtype([(name, "i8" if name == "ts_ns" else "f8") for name in READ_COLUMNS])
    return len(np.loadtxt(BytesIO(sink.getvalue()), delimiter=",", dtype=kinds))


async def measure(url: str, count: int, repeats: int, seed: int) -> dict[str, Any]:
    """Seconds of every way, medians."""
    engine, raw = open_engine(url), await connect(url)
    bars, plain = PostgresBars(engine), records(invented(count, seed))
    table = invented(count, seed)
    changed = replace(table, volume=table.volume + 1.0)
    taken: dict[str, list[float]] = {}

    async def timed(name: str, work: Any) -> None:
        await raw.execute("checkpoint")
        started = perf_counter()
        found = await work
        taken.setdefault(name, []).append(perf_counter() - started)
        size = found if isinstance(found, int) else len(found) if isinstance(found, BarTable) else count
        if size != count:
            raise TidegateError(f"{name}: {size} bars of {count}")

    try:
        await bars.save(SERIES, [table])  # makes the months, warms both ways
        for turn in range(repeats):
            await raw.execute("truncate market_data")
            await timed("save_plain_s", raw.copy_records_to_table("market_data", records=plain, columns=COLUMNS))
            await raw.execute("analyze market_data")
            await timed("load_fetch_s", plain_fetch(raw))
            await timed("load_copy_text_s", plain_copy(raw))
            await raw.execute("truncate market_data")
            await timed("save_s", bars.save(SERIES, [table]))
            await raw.execute("analyze market_data")
            await timed("load_s", bars.load(SERIES, START_NS, int(table.ts_ns[-1])))
            await timed("upsert_s", bars.save(SERIES, [changed if turn % 2 == 0 else replace(table, close=table.open)]))
    finally:
        await raw.close()
        await engine.dispose()
    return {name: round(median(values), 3) for name, values in taken.items()}


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure on a server and compare."""
    async with server(options.url) as url:
        found = await measure(url, options.bars, options.repeats, options.seed)
    quicker = min(found["load_fetch_s"], found["load_copy_text_s"])
    return {
        "bars": options.bars,
        "repeats": options.repeats,
        **found,
        "save_ratio": round(found["save_s"] / found["save_plain_s"], 3),
        "load_ratio": round(found["load_s"] / quicker, 3),
        "upsert_to_save": round(found["upsert_s"] / found["save_s"], 3),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bars", type=int, default=525_600)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--target", type=float, default=1.3, help="times plain asyncpg that ours may take")
    parser.add_argument("--url", default=None, help="an empty database instead of the embedded one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        figures = asyncio.run(run(options))
    except TidegateError as error:
        print(f"market_data: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:20} {value:,}")
    return 0 if max(figures["save_ratio"], figures["load_ratio"]) <= options.target else 1


if __name__ == "__main__":
    sys.exit(main())
