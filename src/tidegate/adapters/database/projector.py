"""The projector: follows the journal on disk and writes it into the database, off the path of any order.

1. The journals of an account are projected in order: older ones to their ends, the newest as it is written.
2. A slice of records is read and folded, then the loop belongs to everybody else for a multiple of the time it took.
3. Rows go to the database in batches. The cursor and the state of the fold move in the same transaction, so a crash at
   any instant leaves whole batches, and what comes next is known exactly. One batch waits at a time: while the database
   is away nothing is read, and nothing grows.
4. The batch stays until the cursor says that it is in: after a failure the cursor is read first, because a commit may
   have happened without its answer. Pauses between attempts grow to half a minute.
5. A row that the database refuses for what is in it is looked for by halves and put into the audit trail instead
   (QUARANTINE). When it refuses many, it is not about rows: that is an outage.
6. A journal that ends before its cursor lost its tail with the power: its session is made anew.

Nothing here raises into the daemon: an outage is a notice, when it begins and when it ends.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from tidegate.adapters.database.projection import Projection, SessionInfo
from tidegate.domain.errors import DatabaseError, DataError, JournalError
from tidegate.domain.messages import Record
from tidegate.ports import TradingRepository

_SLICE_RECORDS = 64
_QUARANTINE_PLACE = 1_000_000
_TEXT_KEPT = 500


class Follower(Protocol):
    """A journal as it is read: whole records in order, each once, from one that is known already or the next one on.
    Raises ``JournalError``."""

    first_seq: int
    last_seq: int

    def read(self, most: int) -> list[Record]:
        """The next records; none when there are no more yet."""
        ...

    def close(self) -> None:
        """Nothing more is wanted."""
        ...


class Connected(Protocol):
    """An open database. ``ensure`` returns when its server answers, and starts an embedded one that died."""

    @property
    def trading(self) -> TradingRepository: ...

    async def ensure(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SessionJournal:
    """One journal: whose it is, and how its records after a number are read.

    Where a ``new`` one has the name of an old one, the rows of the old one go.
    """

    session: SessionInfo
    follow: Callable[[int], Follower]
    new: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """How much the projector takes: share of the loop's time, length of a slice, size and age of a batch, pauses."""

    share: float = 0.25
    slice_s: float = 0.002
    batch_rows: int = 400
    batch_age_s: float = 0.5
    idle_s: float = 0.05
    cursor_age_s: float = 10.0
    first_pause_s: float = 0.25
    longest_pause_s: float = 30.0
    most_refused: int = 50  # rows of one batch; more of them, and it is not about rows


@dataclass(slots=True)
class _Batch:
    rows: dict[str, list[dict[str, Any]]]
    seq: int
    state: bytes


@dataclass(slots=True)
class _At:
    """Where a session is: projected to ``seq`` with ``state`` there."""

    journal: SessionJournal
    follower: Follower
    projection: Projection
    seq: int
    state: bytes
    written_s: float = field(default_factory=perf_counter)
    batch: _Batch | None = None


class Projector:
    """Projects ``journals``, the oldest first; the last one is followed. ``on_notice`` hears of outages and damage.

    An error of ``gives_up_on`` at the first connection says that there is no database, and none will come.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Connected]],
        journals: Sequence[SessionJournal],
        on_notice: Callable[[str], None] = lambda _: None,
        pace: Pace = Pace(),
        gives_up_on: tuple[type[Exception], ...] = (),
    ) -> None:
        self._connect, self._journals, self._on_notice, self._pace = connect, tuple(journals), on_notice, pace
        self._gives_up_on = gives_up_on
        self._at: _At | None = None
        self._closing = self._given_up = False
        self._renewed: set[str] = set()
        self._hurry, self._begun = asyncio.Event(), asyncio.Event()
        self._trouble: str | None = None
        self.complete = False  # ``finish`` has found everything written
        self._ended: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self.quarantined = 0

    @property
    def projected_seq(self) -> int:
        """The last record of the newest journal that is in the database; 0 while it has none there."""
        at = self._at
        return at.seq if at is not None and at.journal is self._journals[-1] else 0

    @property
    def given_up(self) -> bool:
        """Whether nothing is written any more: there is no database, or the journal is damaged."""
        return self._given_up

    @property
    def trouble(self) -> str | None:
        """What keeps it from writing now."""
        return self._trouble

    def start(self) -> None:
        """Begin, as a task of the running loop."""
        self._task = asyncio.get_running_loop().create_task(self.run(), name="projector")

    async def begun(self, within_s: float) -> None:
        """Return when the database was reached, or failed, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._begun.wait()

    async def finish(self, patience_s: float) -> bool:
        """The journal is closed: write the rest, at full speed, for as long as ``patience_s``. True when all is in."""
        self._closing = True
        self._hurry.set()
        if self._task is None:
            return False
        done, _ = await asyncio.wait([self._task], timeout=patience_s)
        if not done:
            self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self.complete = bool(done) and not self._given_up
        return self.complete

    async def run(self) -> None:
        """Project until ``finish`` was called and all is in, or the journal is damaged."""
        pause_s = self._pace.first_pause_s
        while True:
            try:
                async with self._connect() as database:
                    while True:
                        try:
                            await self._all(database.trading)
                            return
                        except JournalError:
                            raise
                        except Exception as error:  # whatever it is, it is the database's: trading goes on
                            pause_s = self._failed(error, pause_s)
                            await self._wait(pause_s)
                            await database.ensure()
            except JournalError as error:
                self._given_up = True
                self._on_notice(f"the journal is not projected any more: {error}")
                return
            except Exception as error:
                if isinstance(error, self._gives_up_on):
                    self._given_up = True
                    self._begun.set()
                    self._on_notice(f"no database, going on without: {_first_line(error)}")
                    return
                pause_s = self._failed(error, pause_s)
                await self._wait(pause_s)
            finally:
                if self._at is not None and self._closing:
                    self._at.follower.close()

    def _failed(self, error: Exception, pause_s: float) -> float:
        self._begun.set()
        text = _first_line(error)
        if self._trouble is None:
            self._on_notice(f"the database is behind, trading goes on: {text}")
            pause_s = self._pace.first_pause_s / 2
        self._trouble = text
        return min(2 * pause_s, self._pace.longest_pause_s)

    def _well(self) -> None:
        self._begun.set()
        if self._trouble is not None:
            self._trouble = None
            self._on_notice("the database answers again, and is catching up")

    async def _wait(self, seconds: float) -> None:
        """A pause that ``finish`` shortens once."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        self._hurry.clear()

    @classmethod
    async def project(cls, repository: TradingRepository, journal: SessionJournal) -> int:
        """Project one journal as far as it is written, and return its last record. Raises what goes wrong."""
        worker = cls(_never, [journal])
        worker._closing = True
        try:
            await worker._all(repository)
        finally:
            if worker._at is not None:
                worker._at.follower.close()
        return worker.projected_seq

    # ---- the journals, in order ---------------------------------------------------------------------------------

    async def _all(self, repository: TradingRepository) -> None:
        for journal in await self._unfinished(repository):
            newest = journal is self._journals[-1]
            while not await self._one(repository, journal, newest=newest):
                pass
            if not newest:
                self._ended.add(journal.session.session_id)

    async def _unfinished(self, repository: TradingRepository) -> list[SessionJournal]:
        """From the last one that the database has begun: it is the only one that can lack its end."""
        found: list[SessionJournal] = []
        for journal in reversed(self._journals):
            if journal.session.session_id in self._ended:
                break
            found.append(journal)
            seq = await _cursor(repository, journal.session)
            if seq is not None and journal is not self._journals[-1]:
                break
        return found[::-1]

    async def _one(self, repository: TradingRepository, journal: SessionJournal, *, newest: bool) -> bool:
        """Project one journal to its end; the newest one for as long as it is written. False to begin it again."""
        at = await self._attach(repository, journal)
        while True:
            if at.batch is not None:
                await self._write(repository, at)
            began_s = perf_counter()
            read = self._slice(at, began_s)
            took_s = perf_counter() - began_s
            if not read:
                if at.projection.seq > at.seq and (self._closing or not newest or self._ripe(at)):
                    self._pack(at)
                elif not newest or self._closing:
                    if max(at.follower.last_seq, 0) >= at.seq:
                        return True
                    await self._begin_anew(repository, at)
                    return False
                else:
                    await self._wait(self._pace.idle_s)
            elif at.projection.waiting >= self._pace.batch_rows or self._ripe(at):
                self._pack(at)
            await asyncio.sleep(0.0 if self._closing else took_s * (1.0 / self._pace.share - 1.0))

    def _slice(self, at: _At, began_s: float) -> bool:
        """Read and fold for as long as a slice lasts; False when nothing was there."""
        any_read = False
        while perf_counter() - began_s < self._pace.slice_s and at.projection.waiting < self._pace.batch_rows:
            records = at.follower.read(_SLICE_RECORDS)
            for record in records:
                if record.seq > at.projection.seq:
                    at.projection.fold(record)
            any_read = any_read or bool(records)
            if len(records) < _SLICE_RECORDS:
                break
        return any_read

    def _ripe(self, at: _At) -> bool:
        age_s = perf_counter() - at.written_s
        return age_s >= (self._pace.batch_age_s if at.projection.waiting else self._pace.cursor_age_s)

    @staticmethod
    def _pack(at: _At) -> None:
        at.batch = _Batch(at.projection.take(), at.projection.seq, at.projection.dump())

    # ---- one session --------------------------------------------------------------------------------------------

    async def _attach(self, repository: TradingRepository, journal: SessionJournal) -> _At:
        """Where the database says that the session is. What is in hand is kept when it fits."""
        session, at = journal.session, self._at
        if journal.new and session.session_id not in self._renewed:
            await repository.delete_session(session.account_id, session.session_id)
            self._renewed.add(session.session_id)
        seq = await _cursor(repository, session)
        if seq is None:
            await repository.begin_session(session.row())
        if at is not None and at.journal is journal and seq is not None:
            if at.batch is not None and seq == at.batch.seq:
                self._moved(at, at.batch)  # it was committed, and the answer was lost
            if seq == at.seq:
                self._well()
                return at
        if at is not None:
            at.follower.close()
        self._at = at = await self._opened(repository, journal)
        self._well()
        return at

    async def _opened(self, repository: TradingRepository, journal: SessionJournal) -> _At:
        session = journal.session
        seq, state = await repository.cursor(session.account_id, session.session_id)
        follower = journal.follow(seq)
        if state:
            return _At(journal, follower, Projection(session, state), seq, state)
        before = await repository.latest_state(session.account_id, session.realm) if session.live else None
        if before is not None and before[1] != follower.first_seq - 1:
            if follower.first_seq > 1:
                self._on_notice(
                    f"session {session.session_id} begins after record {follower.first_seq - 1}, the database ends "
                    f"with record {before[1]} of session {before[0]}: a journal between them is missing"
                )
            else:
                before = None  # the kernel began anew, and so do its books
        projection = Projection(session, None if before is None else before[2], begins=True)
        return _At(journal, follower, projection, seq, projection.dump())

    async def _begin_anew(self, repository: TradingRepository, at: _At) -> None:
        session = at.journal.session
        self._on_notice(
            f"the journal of session {session.session_id} ends with record {at.follower.last_seq}, the database knew "
            f"{at.seq}: its rows are made anew"
        )
        await repository.delete_session(session.account_id, session.session_id)
        at.follower.close()
        self._at = None

    # ---- writing ------------------------------------------------------------------------------------------------

    async def _write(self, repository: TradingRepository, at: _At) -> None:
        session, batch = at.journal.session, at.batch
        assert batch is not None
        scope = (session.account_id, session.session_id)
        try:
            await repository.write(*scope, batch.rows, batch.seq, batch.state, after_seq=at.seq)
        except (DatabaseError, ValueError) as error:
            if not about_a_row(error):
                raise
            rows = await self._sift(repository, at, batch)
            await repository.write(*scope, rows, batch.seq, batch.state, after_seq=at.seq)
        self._moved(at, batch)
        self._well()

    @staticmethod
    def _moved(at: _At, batch: _Batch) -> None:
        at.seq, at.state, at.batch, at.written_s = batch.seq, batch.state, None, perf_counter()

    async def _sift(self, repository: TradingRepository, at: _At, batch: _Batch) -> dict[str, list[dict[str, Any]]]:
        """The rows that the database takes (they are in then, and going in again changes nothing), and in the audit
        trail those that it does not take."""
        kept: dict[str, list[dict[str, Any]]] = {}
        refused: list[tuple[str, dict[str, Any], str]] = []

        async def halve(table: str, rows: Sequence[dict[str, Any]]) -> None:
            session = at.journal.session
            try:
                await repository.write(
                    session.account_id, session.session_id, {table: rows}, at.seq, at.state, after_seq=at.seq
                )
                kept.setdefault(table, []).extend(rows)
            except (DatabaseError, ValueError) as error:
                if not about_a_row(error):
                    raise
                if len(rows) > 1:
                    await halve(table, rows[: len(rows) // 2])
                    await halve(table, rows[len(rows) // 2 :])
                    return
                refused.append((table, rows[0], str(error)))
                if len(refused) > self._pace.most_refused:
                    raise DatabaseError(f"the database refuses everything: {error}") from error

        for table, rows in batch.rows.items():
            await halve(table, rows)
        for place, (table, row, why) in enumerate(refused, _QUARANTINE_PLACE):
            self._on_notice(f"a row of {table} was refused and is in quarantine: {_printable(why)}")
            kept.setdefault("audit_trail", []).append(
                _quarantined(at.journal.session, batch.seq, place, table, row, why)
            )
        self.quarantined += len(refused)
        return kept


def _never() -> AbstractAsyncContextManager[Connected]:
    raise AssertionError("it was given a repository")


async def _cursor(repository: TradingRepository, session: SessionInfo) -> int | None:
    """How far a session is; None when it was not begun."""
    try:
        return (await repository.cursor(session.account_id, session.session_id))[0]
    except DataError:
        return None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def about_a_row(error: BaseException) -> bool:
    """Whether the database refused what is in a row: SQLSTATE class 22 (data) or 23 (integrity), or no such column."""
    cause: BaseException | None = error
    while cause is not None:
        state = getattr(cause, "sqlstate", None)
        if isinstance(state, str):
            return state[:2] in ("22", "23")
        cause = getattr(cause, "orig", None) or cause.__cause__
    return isinstance(error, ValueError)


def _quarantined(
    session: SessionInfo, seq: int, place: int, table: str, row: Mapping[str, Any], why: str
) -> dict[str, Any]:
    """A line of the audit trail in the place of a row; whatever the row holds, this one can be written."""
    number = row.get("seq", seq)
    ts_ns = row.get("ts_ns", 0)
    ts_ns = ts_ns if isinstance(ts_ns, int) and 0 <= ts_ns < 2**62 else 0
    return {
        "account_id": session.account_id,
        "session_id": session.session_id,
        "seq": number if isinstance(number, int) and 0 <= number < 2**62 else seq,
        "place": place,
        "kind": "QUARANTINE",
        "subject": table,
        "detail": {"row": {name: _printable(value) for name, value in row.items()}, "error": _printable(why)},
        "ts_ns": ts_ns,
    }


def _printable(value: object) -> str:
    """A text that any database takes: no zero bytes, no halves of characters, not endless."""
    text = str(value)[:_TEXT_KEPT].replace("\0", "\\0")
    return text.encode("utf-8", "backslashreplace").decode()


__all__ = ["Connected", "Follower", "Pace", "Projector", "SessionJournal", "about_a_row"]
