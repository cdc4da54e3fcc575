"""A second reader of journals: files to books, with nothing but the standard library and no code of the projection.

It takes every execution, payment and line that any record names, each once, and adds them up in fractions. It knows no
foreign positions and no history before the first look: it is for accounts that are ours alone from their beginning.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

REPORTS = {
    "OrderAccepted": "WORKING",
    "OrderTriggered": "TRIGGERED",
    "OrderRejected": "REJECTED",
    "OrderCanceled": "CANCELED",
    "OrderExpired": "EXPIRED",
    "OrderUncertain": "UNCERTAIN",
}
RANKS = {"IN_FLIGHT": 0, "UNCERTAIN": 1, "WORKING": 2, "TRIGGERED": 3, "PARTIALLY_FILLED": 4, "FILLED": 6}


def lines(folder: Path, stream: str) -> Iterator[dict[str, Any]]:
    """The sound lines of a stream, in order; a torn one ends it."""
    for path in sorted(folder.glob(f"{stream}-*.log*")):
        if path.suffix == ".draft":
            continue
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for line in raw.split(b"\n"):
            length, _, rest = line.partition(b" ")
            crc, _, body = rest.partition(b" ")
            if not length or int(length) != len(body) or int(crc, 16) != zlib.crc32(body):
                break
            yield json.loads(body)


def records(folder: Path) -> Iterator[tuple[int, dict[str, Any], list[dict[str, Any]]]]:
    """``(seq, event, commands)`` of every whole record."""
    entries = {line["seq"]: line for line in lines(folder, "ledger") if line["type"] == "RECORD"}
    taped = {line["seq"]: line for line in lines(folder, "tape")}
    for seq in sorted(entries.keys() | taped.keys()):
        event = taped[seq]["event"] if seq in taped else entries[seq]["event"]
        if event is None or (seq in taped and taped[seq].get("answered") and seq not in entries):
            return  # a half of it was lost with the tail
        yield seq, event, entries[seq]["commands"] if seq in entries else []


@dataclass
class Held:
    """One contract, in fractions."""

    qty: Fraction = Fraction(0)
    cost: Fraction = Fraction(0)
    realised: Fraction = Fraction(0)

    def fill(self, dq: Fraction, price: Fraction) -> Fraction:
        before, held = self.realised, self.qty
        if held * dq >= 0:
            self.qty, self.cost = held + dq, self.cost + dq * price
            return Fraction(0)
        part = -held if abs(dq) > abs(held) else dq
        released = self.cost if part == -held else _rounded(-self.cost * part / held)
        self.realised += -part * price - released
        self.qty, self.cost = held + part, self.cost - released
        if part != dq:
            self.qty, self.cost = dq - part, (dq - part) * price
        return self.realised - before


@dataclass
class JournalBooks:
    """What the journals of one account say, in the order of their starts."""

    fills: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    funding: list[dict[str, Any]] = field(default_factory=list)
    income: dict[str, dict[str, Any]] = field(default_factory=dict)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    wallets: list[tuple[int, str, Decimal]] = field(default_factory=list)
    bars: list[tuple[str, int, float]] = field(default_factory=list)
    opening: Decimal | None = None
    opening_ns: int = 0
    last_seq: int = 0
    payments: set[str] = field(default_factory=set)

    @property
    def wallet(self) -> Fraction:
        """Everything that ever moved it, added up; in USDT."""
        total = Fraction(self.opening or 0) + sum((each.realised for each in self.held.values()), Fraction(0))
        total -= sum(
            (Fraction(each["fee"]) for each in self.fills.values() if each["fee_asset"] == "USDT"), Fraction(0)
        )
        total += sum((Fraction(each["amount"]) for each in self.funding), Fraction(0))
        lines = [each for each in self.income.values() if each["asset"] == "USDT"]
        return total + sum((Fraction(each["amount"]) for each in lines), Fraction(0))

    def read(self, folder: Path) -> "JournalBooks":
        for seq, event, commands in records(folder):
            self.last_seq = seq
            self._event(seq, event)
            for command in commands:
                if command["type"] == "ApprovedOrder":
                    order = {"qty": command["qty"], "filled": Fraction(0), "state": "IN_FLIGHT"}
                    self.orders[command["id"]] = order
                elif command["type"] == "NotPlaced":
                    self._state(command["id"], "NOT_PLACED")
        return self

    def _event(self, seq: int, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "Bar":
            self.bars.append((event["instrument"], event["ts_ns"], event["close"]))
        elif kind == "OrderFilled":
            self._fill(event)
        elif kind in ("FundingPaid", "Transfer", "Income"):
            self._line(event)
        elif kind == "AccountSnapshot":
            for each in event["balances"]:
                self.wallets.append((seq, each["asset"], Decimal(each["wallet"])))
                if self.opening is None and each["asset"] == "USDT":
                    self.opening = Decimal(each["wallet"])
                    told = [balance.get("updated_ns", 0) for balance in event["balances"]]
                    self.opening_ns = max(event["ts_ns"], *told)
            for fill in event.get("fills", []):
                self._fill(fill)
            for line in event.get("income", []):
                self._line(line)
        elif kind == "OrderRejected" and event.get("cause") == "NOT_SENT":
            self._state(event["id"], "NOT_PLACED")
        elif kind in REPORTS:
            self._state(event["id"], REPORTS[kind])

    def _fill(self, fill: dict[str, Any]) -> None:
        key = (fill["instrument"], fill["trade_id"])
        if key in self.fills:
            return
        sign = 1 if fill["side"] == "BUY" else -1
        held = self.held.setdefault(fill["instrument"], Held())
        realised = held.fill(sign * Fraction(fill["qty"]), Fraction(fill["price"]))
        self.fills[key] = fill | {"realised": realised}
        order = self.orders.get(fill["id"])
        if order is not None:
            order["filled"] += Fraction(fill["qty"])
            self._state(fill["id"], "FILLED" if order["filled"] >= Fraction(order["qty"]) else "PARTIALLY_FILLED")

    def _line(self, line: dict[str, Any]) -> None:
        name = line.get("line", "")
        if name and line["ts_ns"] <= self.opening_ns:
            return  # listed again with a later look: the wallet of the first one has it
        if name and name in self.payments | self.income.keys():
            return
        if line["type"] == "FundingPaid":
            self.funding.append(line)
            self.payments.add(name)
        else:
            self.income[name or f"{line['type']}-{len(self.income)}"] = line

    def _state(self, name: str, state: str) -> None:
        order = self.orders.get(name)
        if order is not None and RANKS.get(state, 5) > RANKS.get(order["state"], 5):
            order["state"] = state


def _rounded(value: Fraction) -> Fraction:
    """To 1e-8, halves to even."""
    scaled = value * 10**8
    return Fraction(round(scaled), 10**8)


__all__ = ["JournalBooks", "records"]
