"""Writing to the journal of one run.

A subject's standing is always written in the same commit as the exchange that led to it. Together with an intent, the
standing is ``unknown``: so whatever instant a crash comes at, what is on disk is true as it stands, and there is no
recovery step that could be forgotten or get it wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from privacy_toolkit.errors import JournalError
from privacy_toolkit.journal.reading import RunReader, connect
from privacy_toolkit.journal.records import ExchangeRecord, Standing
from privacy_toolkit.journal.rows import exchange_row, standing_row
from privacy_toolkit.journal.writer import Batch, Writer
from privacy_toolkit.model import StopReason

Numbered = Sequence[tuple[int, ExchangeRecord]]


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

    async def intend(self, seq: int, exchanges: Numbered, standing: Standing) -> None:
        """Make an intent durable, with what was read before it; return only then.

        ``standing`` is what a crash would leave behind: ``unknown``.

        Raises:
            JournalError: it is not durable, so nothing may be sent.
        """
        await self._open_writer().commit(_batch(seq, exchanges, standing))

    def record(self, seq: int, exchanges: Numbered, standing: Standing | None = None) -> None:
        """Note what exchanges came to, and the standing that follows, with the next commit."""
        self._open_writer().put(_batch(seq, exchanges, standing))

    def purge(self, now: int) -> None:
        """Destroy the ids and the secret; what was observed stays, and nothing links it to a person any more.

        Raises:
            JournalError: the file can't be written.
        """
        try:
            self._connection.execute("PRAGMA secure_delete=ON")
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("UPDATE pages SET data = X''")
            self._connection.execute("DELETE FROM facts WHERE name = 'secret'")
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES ('purged_at', ?)", (str(now).encode(),))
            self._connection.execute("COMMIT")
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise JournalError(f"The run could not be purged: {error}.", "Try again when the disk has room.") from None

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


def _batch(seq: int, exchanges: Numbered, standing: Standing | None) -> Batch:
    return Batch(
        [exchange_row(seq, n, exchange) for n, exchange in exchanges],
        [standing_row(seq, standing)] if standing else [],
    )
