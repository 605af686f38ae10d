"""Writing to the journal of one run.

A subject's standing is always written in the same commit as the exchange that led to it. Together with an intent, the
standing is ``unknown``: so whatever instant a crash comes at, what is on disk is true as it stands, and there is no
recovery step that could be forgotten or get it wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from privacy_toolkit.errors import JournalError
from privacy_toolkit.journal.coarsening import windows_of
from privacy_toolkit.journal.facts import connect
from privacy_toolkit.journal.reading import RunReader
from privacy_toolkit.journal.records import Note
from privacy_toolkit.journal.rows import exchange_row, standing_row
from privacy_toolkit.journal.writer import Batch, Writer
from privacy_toolkit.model import StopReason

_NUMBERED = ("standings", "exchanges", "requests")
#: What a purge does to the tables; twice over the numbers, since one that is taken can't be given yet.
_UNLINK = (
    "UPDATE pages SET data = X''",
    "DELETE FROM parties",
    "DELETE FROM results",
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


class RunJournal(RunReader):
    """The journal of one run, opened. Writing starts with ``begin_sitting``.

    Raises:
        JournalError: the file is missing, damaged or of a newer toolkit.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._writer: Writer | None = None

    def close(self) -> None:
        """Write what is queued and let go of the file.

        Raises:
            JournalError: something handed in could not be written.
        """
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._writer = None
            super().close()

    def begin_sitting(self, started_at: int, settings: str) -> int:
        """Start to work on the run; returns the number of the sitting.

        Raises:
            JournalError: the state folder can't be written.
        """
        number = self._alone(
            "INSERT INTO sittings (started_at, settings) VALUES (?, ?) RETURNING number", (started_at, settings)
        )
        self._writer = Writer(self._path, connect)
        return int(number)

    def end_sitting(self, number: int, ended_at: int, stopped_by: StopReason | None) -> None:
        """Wait until all is written, then note the end of the sitting.

        Raises:
            JournalError: something handed in could not be written.
        """
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()
        self._alone(
            "UPDATE sittings SET ended_at = ?, stopped_by = ? WHERE number = ? RETURNING number",
            (ended_at, stopped_by and stopped_by.value, number),
        )

    async def intend(self, notes: Iterable[Note]) -> None:
        """Make an intent durable, with what was read before it; return only then.

        The standings are what a crash would leave behind: ``unknown``.

        Raises:
            JournalError: it is not durable, so nothing may be sent.
        """
        await self._open_writer().commit(_batch(notes))

    def record(self, notes: Iterable[Note]) -> None:
        """Note what exchanges came to, and the standings that follow, all with the next commit."""
        self._open_writer().put(_batch(notes))

    def forget_results(self) -> None:
        """Destroy what was kept of answers, once it has been handed over.

        Raises:
            JournalError: the file can't be written.
        """
        try:
            self._connection.execute("PRAGMA secure_delete=ON")
            self._connection.execute("DELETE FROM results")
        except sqlite3.Error as error:
            raise JournalError(f"The answers could not be destroyed: {error}.", "Is there room on the disk?") from None

    def purge(self, now: int, plan: bytes) -> None:
        """Destroy the ids and the secret; what was observed stays, and nothing links it to a person any more.

        ``plan`` takes the place of the plan: it says no more than the pack does. The subjects get numbers in random
        order, since whoever still has the input could tell from the old ones which is whose, and the times of the
        pack. Nothing is changed while another program has the file open: what it still reads would stay there. Once
        more, a purged run is only written again, which takes away what an earlier purge had to leave behind.

        Raises:
            JournalError: another program has the file open, or it can't be written.
        """
        self._be_alone()
        try:
            self._connection.execute("PRAGMA secure_delete=ON")
            self._connection.execute("BEGIN IMMEDIATE")
            if self.purged_at is None:
                self._unlink(now, plan)
            self._connection.execute("COMMIT")
            self._connection.execute("VACUUM")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise JournalError(f"The run could not be purged: {error}.", "Try again when the disk has room.") from None
        finally:
            self._connection.execute("PRAGMA locking_mode=NORMAL")
            self._connection.execute("SELECT 1 FROM facts").fetchone()  # the lock is let go with the next access

    def _be_alone(self) -> None:
        """Take the file out of the mode in which others may read what was there before; that they don't is the test.

        Raises:
            JournalError: somebody else has it open.
        """
        try:
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            (mode,) = self._connection.execute("PRAGMA journal_mode=DELETE").fetchone()
        except sqlite3.Error:
            mode = ""
        if mode != "delete":
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA locking_mode=NORMAL")
            raise JournalError(
                f"Run {self.run_id} was not purged: another program has its journal open, and the ids would stay in"
                " the file for as long as it does.",
                "End what reads it (a command of this toolkit, a notebook, a backup), then give the command again.",
            )

    def _unlink(self, now: int, plan: bytes) -> None:
        windows = ((seq, window.start) for seq, window in windows_of(self._connection, self.size).items())
        self._connection.execute("CREATE TEMP TABLE windows (seq INTEGER PRIMARY KEY, start INTEGER NOT NULL)")
        self._connection.executemany("INSERT INTO windows VALUES (?, ?)", windows)
        for statement in (*_COARSEN, *_UNLINK):
            self._connection.execute(statement)
        facts = {"plan": plan, "purged_at": str(now).encode()}
        self._connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise JournalError("The journal is not open for writing.")
        return self._writer

    def _alone(self, statement: str, values: tuple[object, ...]) -> int:
        try:
            (value,) = self._connection.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise JournalError(
                f"The journal could not be written: {error}.", "Make room on the disk, then resume the run."
            ) from None
        return int(value)


def _batch(notes: Iterable[Note]) -> Batch:
    batch = Batch()
    for note in notes:
        batch.exchanges += [exchange_row(note.seq, n, exchange) for n, exchange in note.exchanges]
        if note.standing is not None:
            batch.standings.append(standing_row(note.seq, note.standing))
        if note.result is not None:
            batch.results.append((note.seq, note.result))
    return batch
