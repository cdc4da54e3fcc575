"""Rows of the database against the journals, by the second reader: nothing lost, nothing double."""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import asyncpg

from tests.fakes.journal_books import JournalBooks
from tidegate.adapters.database.connecting import connect


async def rows_of(url: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    """Rows, by the driver alone."""
    connection = await connect(url)
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


async def compare(url: str, folders: Iterable[Path], account: str) -> JournalBooks:
    """Every row that follows from the journals is there, once, with the same numbers; and no other one."""
    books = JournalBooks()
    for folder in folders:
        books.read(folder)
    await _fills(url, account, books)
    await _orders(url, account, books)
    await _money(url, account, books)
    bars = await rows_of(url, "select symbol, ts_ns, close from market_data where account_id = $1", account)
    assert Counter(map(tuple, bars)) == Counter(set(books.bars))
    return books


async def _fills(url: str, account: str, books: JournalBooks) -> None:
    found = await rows_of(url, "select * from fills where account_id = $1", account)
    ours = {(row["symbol"], row["trade_id"]): row for row in found}
    assert len(ours) == len(found), "double fills"
    assert ours.keys() == books.fills.keys(), ("lost or invented", ours.keys() ^ books.fills.keys())
    for key, row in ours.items():
        fill = books.fills[key]
        same = ("qty", "price", "fee")
        assert [Fraction(row[name]) for name in same] == [Fraction(fill[name]) for name in same], (row, fill)
        assert (row["side"], row["fee_asset"], row["ts_ns"]) == (fill["side"], fill["fee_asset"], fill["ts_ns"])
        assert Fraction(row["realised_pnl"]) == fill["realised"], (row, fill)
    for row in await rows_of(url, "select * from positions where account_id = $1", account):
        held = books.held[row["symbol"]]
        exact = (Fraction(row["qty"]), Fraction(row["cost"]), Fraction(row["realised_pnl"]))
        assert exact == (held.qty, held.cost, held.realised), row
    trades = await rows_of(url, "select * from trades where account_id = $1", account)
    open_trips = {name for name, held in books.held.items() if held.qty}
    for name in {name for name, _ in books.fills} - open_trips:  # flat: the trades are all there was
        net = sum((Fraction(row["net_pnl"] - row["funding"]) for row in trades if row["symbol"] == name), Fraction(0))
        fees = sum((Fraction(fill["fee"]) for key, fill in books.fills.items() if key[0] == name), Fraction(0))
        assert net == books.held[name].realised - fees, name


async def _orders(url: str, account: str, books: JournalBooks) -> None:
    found = await rows_of(url, "select * from orders where account_id = $1", account)
    ours = {row["client_order_id"]: row for row in found}
    assert len(ours) == len(found)
    assert ours.keys() == books.orders.keys(), ours.keys() ^ books.orders.keys()
    for name, row in ours.items():
        order = books.orders[name]
        assert (row["state"], Fraction(row["filled_qty"])) == (order["state"], order["filled"]), (row, order)


async def _money(url: str, account: str, books: JournalBooks) -> None:
    funding = await rows_of(url, "select symbol, ts_ns, amount from funding_payments where account_id = $1", account)
    told = Counter((each["instrument"], each["ts_ns"], Decimal(each["amount"])) for each in books.funding)
    assert Counter(map(tuple, funding)) == told
    query = "select asset, amount from income_lines where account_id = $1 and kind not in ('OPENING', 'ADJUSTMENT')"
    lines: Any = await rows_of(url, query, account)
    wanted = Counter((each["asset"], Decimal(each["amount"])) for each in books.income.values())
    assert Counter(map(tuple, lines)) == wanted
    wallets = await rows_of(url, "select seq, asset, wallet from wallets where account_id = $1", account)
    assert Counter(map(tuple, wallets)) == Counter(books.wallets)
    total = await rows_of(url, _WALLET, account)
    assert Fraction(total[0][0]) == books.wallet


_WALLET = """
select coalesce((select sum(realised_pnl) - sum(case when fee_asset = 'USDT' then fee else 0 end)
                 from fills where account_id = $1), 0)
     + coalesce((select sum(amount) from funding_payments where account_id = $1), 0)
     + coalesce((select sum(amount) from income_lines where account_id = $1 and asset = 'USDT'), 0)
"""
