"""Writing to the journal of one run.

A subject's state is always written in the same commit as the exchange that led to it. Together with an intent, the
state is ``unknown``: so whatever instant a crash comes at, what is on disk is true as it stands, and there is no
recovery step that could be forgotten or get it wrong.
"""

from __future__ import annotations

import asyncio
import queue
import secrets
import sqlite3
import threading
import time
from array import array
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from privacy_toolkit.core.model import OPEN_OUTCOMES, JournalError, Outcome, Reason, StopReason
from privacy_toolkit.journal.lease import LeaseTerms, SoleLease
from privacy_toolkit.journal.records import (
    PENDING,
    Acceptance,
    ControlRecord,
    Note,
    SubjectRow,
    state_row,
)
from privacy_toolkit.journal.sqlite.checksums import FRAMES_AT_ONCE
from privacy_toolkit.journal.sqlite.create import protect
from privacy_toolkit.journal.sqlite.facts import MAC, connect, damage_named, facts_mac
from privacy_toolkit.journal.sqlite.pages import (
    PageLog,
    Renumbering,
    as_one,
    pack_note,
    page_rows,
    put_page,
    transaction,
)
from privacy_toolkit.journal.sqlite.reader import JournalReader, control_row
from privacy_toolkit.journal.store import moved

# The single writer of a journal: it drains its queue into one durable commit at a time, and folds pages in between.
#
# SQLite takes one writer; grouping what all workers hand in at the same moment into one commit (WAL,
# ``synchronous=FULL``) is what makes a durable intent before every send affordable (docs/adr/0003).

PUT_CONTROL = (
    "INSERT INTO controls (kind, operation, ended_at, elapsed, status, reason, held) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
PUT_RESULT = "INSERT OR REPLACE INTO results VALUES (?, ?)"

#: The longest time, in seconds, that something nobody waits for is kept from the thread.
LINGER = 0.01

Row = tuple[object, ...]


class CommitBatch:
    """What is written together or not at all, and whom to tell when it is durable.

    ``notes`` are packed, each with the number of its subject and whether it settles that.
    """

    __slots__ = ("controls", "notes", "results", "waiting")

    def __init__(self) -> None:
        self.notes: list[tuple[int, bool, bytes]] = []
        self.results: list[Row] = []
        self.controls: list[Row] = []
        self.waiting: list[asyncio.Future[None]] = []

    def add(self, notes: Sequence[Note]) -> None:
        """Pack some notes."""
        packed, results = [], []
        for note in notes if len(notes) == 1 else as_one(notes):
            state = note.state
            packed.append((note.seq, state is not None and state.outcome not in OPEN_OUTCOMES, pack_note(note)))
            if note.result is not None:
                results.append((note.seq, note.result))
        self.notes += packed
        self.results += results


class Writer:
    """Owns the writing connection in a thread of its own, from ``__init__`` to ``close``.

    What the workers hand in during one turn of the event loop goes to the thread together; what nobody waits for goes
    along with it, or after ``LINGER``. Waking the thread for each of them would cost more than the writing.
    ``bounds`` are the pages of the run. ``committed`` is called in that thread after each commit, before anybody is
    told of it.
    """

    def __init__(
        self,
        path: Path,
        open_connection: Callable[[Path], sqlite3.Connection],
        bounds: Sequence[tuple[int, int]],
        committed: Callable[[sqlite3.Connection], None] = lambda _: None,
    ) -> None:
        self._path = path
        self._bounds = bounds
        self._committed = committed
        self._open = open_connection
        self._queue: queue.SimpleQueue[CommitBatch | None] = queue.SimpleQueue()
        self._gathered = CommitBatch()
        self._handing_over: asyncio.Handle | None = None
        self._is_urgent = False
        self._error: JournalError | None = None  # it stays: what follows a failure is not written
        self._connection: sqlite3.Connection | None = None  # of the thread, as the log is
        self._log: PageLog | None = None
        self._thread = threading.Thread(target=self._work, name="journal-writer", daemon=True)
        self._thread.start()

    def put(self, notes: Sequence[Note] = (), controls: Sequence[ControlRecord] = ()) -> None:
        """Write notes and controls with the next commit, without waiting for it."""
        self._gathered.add(notes)
        if controls:
            self._gathered.controls += map(control_row, controls)
        if self._handing_over is None:
            try:
                self._handing_over = asyncio.get_running_loop().call_later(LINGER, self._hand_over)
            except RuntimeError:  # no event loop: nobody else will come along
                self._hand_over()

    async def commit(self, notes: Sequence[Note]) -> None:
        """Write notes and return when they are durable.

        Raises:
            JournalError: they could not be written; nothing of them is in the journal.
        """
        loop = asyncio.get_running_loop()
        self._gathered.add(notes)
        durable = loop.create_future()
        self._gathered.waiting.append(durable)
        if not self._is_urgent:
            self._is_urgent = True
            if self._handing_over is not None:
                self._handing_over.cancel()
            self._handing_over = loop.call_soon(self._hand_over)
        await durable

    def close(self) -> None:
        """Write what is queued, fold the pages that were written to, and let go of the file.

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
        gathered = self._gathered
        if gathered.notes or gathered.controls or gathered.waiting:
            self._gathered = CommitBatch()
            self._queue.put(gathered)

    def _work(self) -> None:
        open_for_more = True
        while open_for_more:
            batches, open_for_more = self._drain()
            self._attempt(lambda: self._write(batches))  # noqa: B023 - called at once
            _tell(batches, self._error)
            self._attempt(lambda: self._fold(everything=not open_for_more))  # noqa: B023 - called at once
        if self._connection is not None:
            self._connection.close()

    def _attempt(self, step: Callable[[], None]) -> None:
        """Do nothing once something failed; what fails now is kept for whoever waits, and for ``close``."""
        if self._error is not None:
            return
        try:
            step()
        except (sqlite3.Error, OSError) as error:
            self._error = _write_failure(error)
        except JournalError as error:
            self._error = error

    def _drain(self) -> tuple[list[CommitBatch], bool]:
        """Everything that waits, at least one; False if the writer is asked to end."""
        batches: list[CommitBatch] = []
        item = self._queue.get()
        while item is not None:
            batches.append(item)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batches, True
        return batches, False

    def _write(self, batches: list[CommitBatch]) -> None:
        if self._connection is None or self._log is None:
            self._connection = self._open(self._path)
            self._log = PageLog(self._connection, self._bounds)
        if not batches:
            return
        with transaction(self._connection):
            self._log.append(chain.from_iterable(batch.notes for batch in batches))
            results = [row for batch in batches for row in batch.results]
            if results:
                self._connection.executemany(PUT_RESULT, results)
            controls = [row for batch in batches for row in batch.controls]
            if controls:
                self._connection.executemany(PUT_CONTROL, controls)
        self._committed(self._connection)

    def _fold(self, *, everything: bool) -> None:
        """Fold what was walked, or all: the pages are read again for it, so this is where damage may show."""
        if self._connection is None or self._log is None:
            return
        for first in self._log.unfolded() if everything else self._log.walked():
            with damage_named(self._path.parent.name):
                self._log.fold(first)
            self._committed(self._connection)


def _tell(batches: list[CommitBatch], error: JournalError | None) -> None:
    """Wake everyone who waits for these batches: one call into the loop for all of them."""
    waiting = [durable for batch in batches for durable in batch.waiting]
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
_UNKNOWN, _RESTORED = Outcome.UNKNOWN.value, Reason.STATE_RESTORED.value
#: Who is in doubt for good already stays as they are.
_NOT_MARKED = frozenset({Reason.NO_LOOK_POSSIBLE.value, _RESTORED})
#: What a purge does to the tables but for the pages, which are written again.
_UNLINK = (
    "UPDATE pages SET data = X''",
    "UPDATE page_digests SET digest = X''",
    "DELETE FROM parties",
    "DELETE FROM results",
    "DELETE FROM rejected",
    "DELETE FROM facts WHERE name IN ('secret', 'plan', 'plan_key')",
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
        self._writer = Writer(self._path, connect, self.bounds(), self._committed)
        return int(number)

    def lease(self, started_at: int, settings: str, _: LeaseTerms) -> SoleLease:
        """Begin an execution, and give the lease of the only one there is; raises as ``begin_execution``."""
        return SoleLease(self, self.begin_execution(started_at, settings))

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

    def intend(self, notes: Iterable[Note]) -> Coroutine[Any, Any, None]:
        """Make an intent durable, with what was read before it; return only then.

        The states are what a crash would leave behind: ``unknown``.

        Raises:
            JournalError: it is not durable, so nothing may be sent.
        """
        return self._open_writer().commit(self._told(notes))

    def record(self, notes: Iterable[Note]) -> None:
        """Note what exchanges came to, and the states that follow, all with the next commit."""
        self._open_writer().put(self._told(notes))

    def record_control(self, control: ControlRecord) -> None:
        """Note a control with the next commit."""
        self._open_writer().put(controls=(control,))

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
                with transaction(self._connection):
                    for first, last in self.bounds():
                        marked += self._mark_page(first, last, now)
            except sqlite3.Error as error:
                raise JournalError(f"The journal could not be written: {error}.", "Make room on the disk.") from None
        return marked

    def _mark_page(self, first: int, last: int, now: int) -> int:
        rows = {row.seq: row for row in page_rows(self._connection, first)}
        marked = 0
        for seq in range(first, last + 1):
            row = rows.get(seq) or SubjectRow(seq, None, [], None)
            state = row.state or state_row(seq, PENDING)
            if state.outcome in OPEN_OUTCOMES and state.reason not in _NOT_MARKED:
                doubtful = state._replace(outcome=_UNKNOWN, reason=_RESTORED, settled_at=now)
                rows[seq] = row._replace(state=doubtful)
                marked += 1
        if marked:
            put_page(self._connection, first, [rows[seq] for seq in sorted(rows)])
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
            known = array("I", (row.seq for first, _ in self.bounds() for row in page_rows(self._connection, first)))
            drawn = array("I", range(1, len(known) + 1))
            secrets.SystemRandom().shuffle(drawn)
            numbers = array("I", bytes(4 * (self.size + 1)))
            for seq, number in zip(known, drawn, strict=True):
                numbers[seq] = number
            renumber = Renumbering(self.windows(), numbers)
            self._connection.execute("BEGIN IMMEDIATE")
            renumber.write(self._connection, self.bounds())
            for statement in _UNLINK:
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

    def _told(self, notes: Iterable[Note]) -> Sequence[Note]:
        """Tell whoever walks the run party by party what is written of it."""
        told = notes if isinstance(notes, list) else list(notes)
        if self._walks:
            for walk in self._walks:
                for note in told:
                    walk.note(note)
        return told

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
