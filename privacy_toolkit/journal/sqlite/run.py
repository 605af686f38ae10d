"""Writing to the journal of one run.

A subject's state is always written in the same commit as the exchange that led to it. Together with an intent, the
state is ``unknown``: so whatever instant a crash comes at, what is on disk is true as it stands, and there is no
recovery step that could be forgotten or get it wrong.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import OPEN_OUTCOMES, JournalError, Outcome, Reason, StopReason
from privacy_toolkit.journal.records import Acceptance, ControlRecord, Note, SubjectState, exchange_row, state_row
from privacy_toolkit.journal.sqlite.checksums import FRAMES_AT_ONCE
from privacy_toolkit.journal.sqlite.create import protect
from privacy_toolkit.journal.sqlite.facts import MAC, connect, damage_named, facts_mac
from privacy_toolkit.journal.sqlite.figures import windows_of
from privacy_toolkit.journal.sqlite.reader import JournalReader, control_row
from privacy_toolkit.journal.store import moved

# The single writer of a journal: it drains its queue into one durable commit at a time.
#
# SQLite takes one writer; grouping what all workers hand in at the same moment into one commit (WAL,
# ``synchronous=FULL``) is what makes a durable intent before every send affordable (docs/adr/0003).


def _columns(count: int) -> str:
    return ", ".join(f"json_extract(value, '$[{index}]')" for index in range(count))


# All rows of a commit (numbers, and words of closed lists) go in as one JSON text, by one statement: each statement
# hands the interpreter's lock to the workers and has to get it back, and row by row that costs more than the writing.
PUT_EXCHANGES = f"""
    INSERT INTO exchanges SELECT {_columns(10)} FROM json_each(?) WHERE true
    ON CONFLICT (seq, n) DO UPDATE SET
        ended_at = excluded.ended_at, elapsed = excluded.elapsed, status = excluded.status, reason = excluded.reason
    WHERE ended_at IS NULL
"""
PUT_CONTROL = (
    "INSERT INTO controls (kind, operation, ended_at, elapsed, status, reason, held) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
PUT_RESULT = "INSERT OR REPLACE INTO results VALUES (?, ?)"
PUT_STATES = f"INSERT OR REPLACE INTO standings SELECT {_columns(11)} FROM json_each(?)"

#: The longest time, in seconds, that something nobody waits for is kept from the thread.
LINGER = 0.01

Row = tuple[object, ...]


@dataclass(slots=True)
class CommitBatch:
    """What is written together or not at all, and whom to tell when it is durable."""

    exchanges: list[Row] = field(default_factory=list)
    states: list[Row] = field(default_factory=list)
    results: list[Row] = field(default_factory=list)
    controls: list[Row] = field(default_factory=list)
    done: asyncio.Future[None] | None = None


class Writer:
    """Owns the writing connection in a thread of its own, from ``__init__`` to ``close``.

    What the workers hand in during one turn of the event loop goes to the thread together; what nobody waits for goes
    along with it, or after ``LINGER``. Waking the thread for each of them would cost more than the writing.
    ``committed`` is called in that thread after each commit, before anybody is told of it.
    """

    def __init__(
        self,
        path: Path,
        open_connection: Callable[[Path], sqlite3.Connection],
        committed: Callable[[sqlite3.Connection], None] = lambda _: None,
    ) -> None:
        self._path = path
        self._committed = committed
        self._open = open_connection
        self._queue: queue.SimpleQueue[list[CommitBatch] | None] = queue.SimpleQueue()
        self._gathered: list[CommitBatch] = []
        self._handing_over: asyncio.Handle | None = None
        self._is_urgent = False
        self._error: JournalError | None = None  # it stays: what follows a failure is not written
        self._thread = threading.Thread(target=self._work, name="journal-writer", daemon=True)
        self._thread.start()

    def put(self, batch: CommitBatch) -> None:
        """Write ``batch`` with the next commit, without waiting for it."""
        self._gathered.append(batch)
        if self._handing_over is None:
            try:
                self._handing_over = asyncio.get_running_loop().call_later(LINGER, self._hand_over)
            except RuntimeError:  # no event loop: nobody else will come along
                self._hand_over()

    async def commit(self, batch: CommitBatch) -> None:
        """Write ``batch`` and return when it is durable.

        Raises:
            JournalError: it could not be written; nothing of it is in the journal.
        """
        loop = asyncio.get_running_loop()
        batch.done = loop.create_future()
        self._gathered.append(batch)
        if not self._is_urgent:
            self._is_urgent = True
            if self._handing_over is not None:
                self._handing_over.cancel()
            self._handing_over = loop.call_soon(self._hand_over)
        await batch.done

    def close(self) -> None:
        """Write what is queued and let go of the file.

        Raises:
            JournalError: something could not be written.
        """
        if self._thread.is_alive():
            self._hand_over()
            self._queue.put(None)
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _hand_over(self) -> None:
        if self._handing_over is not None:
            self._handing_over.cancel()
        self._handing_over, self._is_urgent = None, False
        gathered, self._gathered = self._gathered, []
        if gathered:
            self._queue.put(gathered)

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        open_for_more = True
        while open_for_more:
            batches, open_for_more = self._drain()
            if self._error is None:
                try:
                    connection = connection or self._open(self._path)
                    if batches:
                        self._write(connection, batches)
                        self._committed(connection)
                except (sqlite3.Error, OSError) as error:
                    self._error = _write_failure(error)
                except JournalError as error:
                    self._error = error
            _tell(batches, self._error)
        if connection is not None:
            connection.close()

    def _drain(self) -> tuple[list[CommitBatch], bool]:
        """Everything that waits, at least one; False if the writer is asked to end."""
        batches: list[CommitBatch] = []
        item = self._queue.get()
        while item is not None:
            batches += item
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batches, True
        return batches, False

    @staticmethod
    def _write(connection: sqlite3.Connection, batches: list[CommitBatch]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            put_rows(connection, PUT_EXCHANGES, [row for batch in batches for row in batch.exchanges])
            put_rows(connection, PUT_STATES, [row for batch in batches for row in batch.states])
            results = [row for batch in batches for row in batch.results]
            if results:
                connection.executemany(PUT_RESULT, results)
            controls = [row for batch in batches for row in batch.controls]
            if controls:
                connection.executemany(PUT_CONTROL, controls)
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def put_rows(connection: sqlite3.Connection, statement: str, rows: Sequence[Row]) -> None:
    """Write rows, in their order, by ``PUT_EXCHANGES`` or ``PUT_STATES``."""
    if rows:
        connection.execute(statement, (msgspec.json.encode(rows).decode(),))


def _tell(batches: list[CommitBatch], error: JournalError | None) -> None:
    """Wake everyone who waits for these batches: one call into the loop for all of them."""
    waiting = [batch.done for batch in batches if batch.done is not None]
    if not waiting:
        return

    def wake() -> None:
        for future in waiting:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    try:
        waiting[0].get_loop().call_soon_threadsafe(wake)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return


def _write_failure(error: sqlite3.Error | OSError) -> JournalError:
    return JournalError(
        f"The journal could not be written: {error}.",
        "Make room on the disk or correct the state folder's permissions, then resume the run.",
    )


# The journal of a run.

#: So many milliseconds a purge waits for whoever reads the journal.
READER_PATIENCE = 2_000
_NUMBERED = ("standings", "exchanges", "requests")
#: What a purge does to the tables; twice over the numbers, since one that is taken can't be given yet.
_UNLINK = (
    "UPDATE pages SET data = X''",
    "UPDATE page_digests SET digest = X''",
    "DELETE FROM parties",
    "DELETE FROM results",
    "DELETE FROM rejected",
    "UPDATE requests SET ticket = NULL",
    "DELETE FROM facts WHERE name IN ('secret', 'plan', 'plan_key')",
    "CREATE TEMP TABLE numbers (seq INTEGER PRIMARY KEY, new INTEGER NOT NULL)",
    """INSERT INTO numbers SELECT seq, ROW_NUMBER() OVER (ORDER BY RANDOM()) FROM
        (SELECT seq FROM standings UNION SELECT seq FROM exchanges UNION SELECT seq FROM requests)""",
    "UPDATE exchanges SET carrier = (SELECT new FROM numbers WHERE numbers.seq = carrier) WHERE carrier IS NOT NULL",
    *(f"UPDATE {t} SET seq = (SELECT -new FROM numbers WHERE numbers.seq = {t}.seq)" for t in _NUMBERED),
    *(f"UPDATE {t} SET seq = -seq" for t in _NUMBERED),
    "DROP TABLE numbers",
)
#: Before that: times as they were noted give way to those that a pack shows.
_COARSEN = (
    "UPDATE exchanges SET elapsed = NULL",
    *(
        f"UPDATE {table} SET {column} = (SELECT start FROM windows WHERE windows.seq = {table}.seq)"
        f" WHERE {column} IS NOT NULL"
        for table, column in (("exchanges", "intent_at"), ("exchanges", "ended_at"), ("standings", "settled_at"))
    ),
    "DROP TABLE windows",
)


class RunJournal(JournalReader):
    """The journal of one run, opened. Writing starts with ``begin_execution``.

    Raises:
        JournalError: as ``RunFacts``.
    """

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(folder, monotonic)
        self._writer: Writer | None = None

    def close(self) -> None:
        """Write what is queued and let go of the file.

        Raises:
            JournalError: something handed in could not be written.
        """
        try:
            if self._writer is not None:
                self._close_writer(self._writer)
        finally:
            try:
                self._give_lock_back()
            finally:
                super().close()

    def begin_execution(self, started_at: int, settings: str) -> int:
        """Start to work on the run, once its whole file was compared with its checksums; the number of the execution.

        Raises:
            DamagedError: the journal does not hold what was written to it.
            RefusedError: another process works on the run.
            JournalError: the state folder can't be written.
        """
        self._begin_to_write()
        number = self._alone(
            "INSERT INTO sittings (started_at, settings) VALUES (?, ?) RETURNING number", (started_at, settings)
        )
        self._writer = Writer(self._path, connect, self._committed)
        return int(number)

    def end_execution(self, number: int, ended_at: int, stopped_by: StopReason | None) -> None:
        """Wait until all is written, then note the end of the execution.

        Raises:
            JournalError: something handed in could not be written.
        """
        if self._writer is not None:
            self._close_writer(self._writer)
        self._alone(
            "UPDATE sittings SET ended_at = ?, stopped_by = ? WHERE number = ? RETURNING number",
            (ended_at, stopped_by and stopped_by.value, number),
        )
        self._give_lock_back()

    async def intend(self, notes: Iterable[Note]) -> None:
        """Make an intent durable, with what was read before it; return only then.

        The states are what a crash would leave behind: ``unknown``.

        Raises:
            JournalError: it is not durable, so nothing may be sent.
        """
        await self._open_writer().commit(_batch(notes))

    def record(self, notes: Iterable[Note]) -> None:
        """Note what exchanges came to, and the states that follow, all with the next commit."""
        self._open_writer().put(_batch(notes))

    def record_control(self, control: ControlRecord) -> None:
        """Note a control with the next commit."""
        self._open_writer().put(CommitBatch(controls=[control_row(control)]))

    def accept_rejected(self, given: Acceptance) -> None:
        """Note that the operator accepts that rows were refused and nobody acts on them.

        Raises:
            JournalError: the file can't be written.
        """
        with self._writing():
            self._alone(
                "INSERT INTO acceptances (at, rows, signer, signing_key) VALUES (?, ?, ?, ?) RETURNING number",
                (given.at, given.rows, given.signer, given.signing_key),
            )

    def forget_results(self) -> None:
        """Destroy what was kept of answers, once it has been handed over.

        Raises:
            RefusedError: another process works on the run.
            JournalError: the file can't be written.
        """
        with self._writing():
            try:
                self._connection.execute("PRAGMA secure_delete=ON")
                self._connection.execute("DELETE FROM results")
            except sqlite3.Error as error:
                raise JournalError(
                    f"The answers could not be destroyed: {error}.", "Is there room on the disk?"
                ) from None

    def mark_restored(self, now: int) -> int:
        """Set aside what may have been sent since the copy was made that this state folder was restored from.

        Every open subject becomes ``unknown`` for good: nobody can tell any more whether its request went out. For
        runs whose requests can't be looked up.

        Returns:
            How many subjects that are.

        Raises:
            JournalError: the file can't be written.
        """
        marked = 0
        with self._writing():
            try:
                for page in self.pages(OPEN_OUTCOMES):
                    doubtful = [
                        state_row(entry.subject.seq, _doubtful(entry.state, now))
                        for entry in page
                        if entry.state.reason not in {Reason.NO_LOOK_POSSIBLE, Reason.STATE_RESTORED}
                    ]
                    put_rows(self._connection, PUT_STATES, doubtful)
                    marked += len(doubtful)
            except sqlite3.Error as error:
                raise JournalError(f"The journal could not be written: {error}.", "Make room on the disk.") from None
        return marked

    def purge(self, now: int, plan: bytes) -> None:
        """Destroy the ids and the secret; what was observed stays, and nothing links it to a person any more.

        ``plan`` takes the place of the plan: it says no more than the pack does. The subjects get numbers in random
        order, since whoever still has the input could tell from the old ones which is whose, and the times of the
        pack. Nothing is changed while another program reads the file: what it reads would stay there. Once more, a
        purged run is only written again, which takes away what an earlier purge had to leave behind.

        Raises:
            JournalError: another program reads the file (code ``remains`` if it began to while this was done), or it
                can't be written.
        """
        self._begin_to_write()
        try:
            self._connection.execute(f"PRAGMA busy_timeout = {READER_PATIENCE}")
            with self._explained():
                # Something has to be in the log, or its being emptied would say nothing of those who read.
                (number,) = self._connection.execute("PRAGMA user_version").fetchone()
                self._connection.execute(f"PRAGMA user_version = {1 - number}")
            if not self._emptied_log():
                raise JournalError(
                    f"Run {self.run_id} was not purged: another program reads its journal, and what it reads would"
                    " stay in the file.",
                    "End what reads it (a command of this toolkit, a notebook, a backup), then give the command again.",
                )
            with self._explained():
                self._unlink(now, plan)
            self._read_facts()
            if not self._emptied_log():
                raise JournalError(
                    f"Run {self.run_id} was purged, but another program began to read its journal meanwhile: ids are"
                    " still in its files.",
                    "End what reads it, then purge the run once more.",
                    code="remains",
                )
        finally:
            self._connection.execute("PRAGMA busy_timeout = 30000")
            self._give_lock_back()

    def _unlink(self, now: int, plan: bytes) -> None:
        self._connection.execute("PRAGMA secure_delete=ON")
        if self.purged_at is None:
            kept = {name: fact for name, fact in self._facts.items() if name not in {"secret", "plan", "plan_key", MAC}}
            facts = {**kept, "plan": plan, "purged_at": str(now).encode()}
            facts[MAC] = facts_mac(facts, [(first, last, b"") for first, last in self.bounds()])
            windows = ((seq, window.start) for seq, window in windows_of(self._connection, self.size).items())
            self._connection.execute("CREATE TEMP TABLE windows (seq INTEGER PRIMARY KEY, start INTEGER NOT NULL)")
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO windows VALUES (?, ?)", windows)
            for statement in (*_COARSEN, *_UNLINK):
                self._connection.execute(statement)
            self._connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())
            self._connection.execute("COMMIT")
        self._connection.execute("VACUUM")

    def _emptied_log(self) -> bool:
        """Have all that was committed copied into the database and the log emptied; False while somebody reads."""
        with damage_named(self.folder.name):
            self._note_commit()
            (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                self._note_commit()  # the checksums take note that there is no log any more
        return not busy

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._has_failed = True
            raise JournalError(f"The run could not be purged: {error}.", "Try again when the disk has room.") from None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Write something aside from an execution; within one, its lock is enough."""
        is_ours = self._lock is None
        if is_ours:
            self._begin_to_write()
        try:
            yield
        finally:
            if is_ours:
                self._give_lock_back()

    def _begin_to_write(self) -> None:
        """Take the run's lock; of a journal of an earlier toolkit, make the checksums.

        Raises:
            RefusedError: another process works on the run.
            DamagedError: the journal does not hold what was written to it.
        """
        with damage_named(self.folder.name):
            self._take_lock()
            if self._sums is None:
                self._sums = protect(self._facts_connection, self._path, self._sums_path, self._descriptor)
                self._read_facts()
            else:
                self._sums.reload()
                self._is_verified = False
                self.verify()

    def _give_lock_back(self) -> None:
        """Have all that was written copied into the database, then let others work on the run."""
        if self._lock is None:
            return
        with damage_named(self.folder.name):
            try:
                if self._is_there():  # else it stays in the log, which counts as much wherever it is now
                    self._note_commit()
            finally:
                self._lock.release()
                self._lock = None

    def _committed(self, connection: sqlite3.Connection) -> None:
        """What follows a commit of the writer, in its thread.

        Raises:
            JournalError: the file is no longer where it was opened: nobody will find in it what was committed.
        """
        if self._sums is not None and self._sums.committed() >= FRAMES_AT_ONCE:
            self._sums.checkpoint(connection)
        if not self._is_there():
            raise moved(self.folder.name)

    def _close_writer(self, writer: Writer) -> None:
        self._writer = None
        try:
            writer.close()
        except JournalError:
            self._has_failed = True
            raise

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise JournalError("The journal is not open for writing.")
        return self._writer

    def _alone(self, statement: str, values: tuple[object, ...]) -> int:
        try:
            (value,) = self._connection.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            self._has_failed = True
            raise JournalError(
                f"The journal could not be written: {error}.", "Make room on the disk, then resume the run."
            ) from None
        return int(value)


def _doubtful(state: SubjectState, now: int) -> SubjectState:
    return replace(state, outcome=Outcome.UNKNOWN, reason=Reason.STATE_RESTORED, settled_at=now)


def _batch(notes: Iterable[Note]) -> CommitBatch:
    batch = CommitBatch()
    for note in notes:
        batch.exchanges += [exchange_row(note.seq, n, exchange) for n, exchange in note.exchanges]
        if note.state is not None:
            batch.states.append(state_row(note.seq, note.state))
        if note.result is not None:
            batch.results.append((note.seq, note.result))
    return batch
