"""Writing to the journal of one run."""

from __future__ import annotations

import secrets
import sqlite3
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from privacy_toolkit.core.durable import put_file
from privacy_toolkit.core.model import JournalError, StopReason
from privacy_toolkit.journal.lease import LeaseTerms, SoleLease
from privacy_toolkit.journal.ledgers import MAC, facts_mac
from privacy_toolkit.journal.packed import (
    Row,
)
from privacy_toolkit.journal.records import Acceptance, AtWork, StopAsked, TuneAsked
from privacy_toolkit.journal.sqlite import pages
from privacy_toolkit.journal.sqlite.checksums import FRAMES_AT_ONCE, connect
from privacy_toolkit.journal.sqlite.pages import page_rows, put_page, transaction
from privacy_toolkit.journal.sqlite.reader import STOP_NAME, TUNE_NAME, JournalReader, damage_named, protect
from privacy_toolkit.journal.store import moved, not_running
from privacy_toolkit.journal.writing import Renumbering, Writer, WrittenRun, marked_restored

# SQLite takes one writer: a connection of its own, in the writer's thread (WAL, ``synchronous=FULL``).


class FileSink:
    """Writes to the journal at ``path``. ``committed`` is called after each commit, before anybody is told of it."""

    beats = False  # the kernel holds the run's lock for this process

    def __init__(self, path: Path, committed: Callable[[sqlite3.Connection], None]) -> None:
        self._path = path
        self._committed = committed
        self._opened: sqlite3.Connection | None = None
        self._number = 0

    def open(self) -> Iterable[int]:
        """Open the file; the pages of which the log says something already."""
        with self._explained():
            self._opened = connect(self._path)
            self._number = pages.last_number(self._opened)
            return pages.unfolded(self._opened)

    def write(self, log: Sequence[tuple[int, bytes]], results: Sequence[Row], controls: Sequence[Row]) -> None:
        """Write in one commit, durable on return."""
        with self._explained():
            connection = self._connection
            self._number = pages.commit(connection, self._number, log, results, controls)
            self._committed(connection)

    def fold(self, first: int) -> None:
        """Put all that the log says of a page into one row."""
        with self._explained():
            connection = self._connection
            with damage_named(self._path.parent.name):
                pages.fold(connection, first)
            self._committed(connection)

    def pause(self) -> None:
        """Say nothing: see ``beats``."""

    def beat(self) -> None:
        """Say nothing: see ``beats``."""

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            raise JournalError("The journal is not open for writing.")
        return self._opened

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalError(
                f"The journal could not be written: {error}.",
                "Make room on the disk or correct the state folder's permissions, then resume the run.",
            ) from None


# The journal of a run.

#: So many milliseconds a purge waits for anyone who reads the journal.
READER_PATIENCE = 2_000
#: What a purge does to the tables but for the pages, which are written again.
_UNLINK = (
    "UPDATE pages SET data = X''",
    "UPDATE page_digests SET digest = X''",
    "DELETE FROM parties",
    "DELETE FROM results",
    "DELETE FROM rejected",
    "DELETE FROM facts WHERE name IN ('secret', 'plan', 'plan_key')",
)


class RunJournal(JournalReader, WrittenRun):
    """The journal of one run, opened. Writing starts with ``begin_execution``.

    Raises:
        JournalError: as ``RunFacts``.
    """

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(folder, monotonic)

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
        self._writer = Writer(FileSink(self._path, self._committed), self.bounds())
        return int(number)

    def lease(self, started_at: int, settings: str, _: LeaseTerms) -> SoleLease:
        """Begin an execution, and give the lease of the only one there is; raises as ``begin_execution``."""
        return SoleLease(self, self.begin_execution(started_at, settings), (self.folder / STOP_NAME).exists)

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

    def at_work(self) -> list[AtWork]:
        """The execution that is under way, if there is one."""
        executions = self.executions() if self.is_running else []
        return [AtWork(executions[-1].number)] if executions and executions[-1].ended_at is None else []

    @property
    def is_resumed(self) -> bool:
        """Never: a folder has no workers."""
        return False

    @property
    def stop_asked(self) -> StopAsked | None:
        """The stop that somebody asked for last; None too if what says so can't be read."""
        try:
            return msgspec.json.decode((self.folder / STOP_NAME).read_bytes(), type=StopAsked)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def ask_to_stop(self, asked: StopAsked) -> None:
        """Ask the process that works on the run to stop: a file next to the journal, at which it looks.

        Raises:
            RefusedError: nobody works on the run.
            JournalError: the file can't be written.
        """
        self._ask(STOP_NAME, asked)

    def _ask(self, name: str, asked: StopAsked | TuneAsked) -> None:
        try:
            with self._asking():
                if not self.is_running:
                    raise not_running(self.folder.name)
                with put_file(self.folder / name, over=True) as file:
                    file.write(msgspec.json.encode(asked))
        except OSError as error:
            raise JournalError(
                f"What is asked of run {self.folder.name} can't be written down: {error.strerror}.",
                "End its process on the machine where it works: it finishes what is in flight on SIGTERM.",
            ) from None

    @property
    def tune_asked(self) -> TuneAsked | None:
        """The pace that somebody asked for last; None too if what says so can't be read."""
        try:
            return msgspec.json.decode((self.folder / TUNE_NAME).read_bytes(), type=TuneAsked)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def ask_to_tune(self, asked: TuneAsked) -> None:
        """Ask the process that works on the run for another pace; raises as ``ask_to_stop``."""
        self._ask(TUNE_NAME, asked)

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
        marked, rows = marked_restored(page_rows(self._connection, first), first, last, now)
        if marked:
            put_page(self._connection, first, rows)
        return marked

    def purge(self, now: int, plan: bytes) -> None:
        """Destroy the ids and the secret; what was observed stays, and nothing links it to a person any more.

        ``plan`` takes the place of the plan: it says no more than the pack does. The subjects get numbers in random
        order, since anyone who still has the input could tell from the old ones which is whose, and the times of the
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
            made = Renumbering(self.windows(), known, self.size, secrets.SystemRandom().shuffle)
            self._connection.execute("BEGIN IMMEDIATE")
            pages.renumber(self._connection, self.bounds(), made)
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

    def _alone(self, statement: str, values: tuple[object, ...]) -> int:
        try:
            (value,) = self._connection.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            self._has_failed = True
            raise JournalError(
                f"The journal could not be written: {error}.", "Make room on the disk, then resume the run."
            ) from None
        return int(value)
