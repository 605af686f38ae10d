"""The single writer of a journal: it drains its queue into one durable commit at a time.

SQLite takes one writer; grouping what all workers hand in at the same moment into one commit (WAL,
``synchronous=FULL``) is what makes a durable intent before every send affordable (docs/adr/0003).
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from privacy_toolkit.errors import JournalError

PUT_EXCHANGE = """
    INSERT INTO exchanges VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (seq, n) DO UPDATE SET
        ended_at = excluded.ended_at, elapsed = excluded.elapsed, status = excluded.status, reason = excluded.reason
    WHERE ended_at IS NULL
"""
PUT_STANDING = "INSERT OR REPLACE INTO standings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

Row = tuple[object, ...]


@dataclass(slots=True)
class Batch:
    """What is written together or not at all, and whom to tell when it is durable."""

    exchanges: list[Row] = field(default_factory=list)
    standings: list[Row] = field(default_factory=list)
    done: asyncio.Future[None] | None = None


class Writer:
    """Owns the writing connection in a thread of its own, from ``__init__`` to ``close``."""

    def __init__(self, path: Path, open_connection: Callable[[Path], sqlite3.Connection]) -> None:
        self._path = path
        self._open = open_connection
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._error: JournalError | None = None
        self._thread = threading.Thread(target=self._work, name="journal-writer", daemon=True)
        self._thread.start()

    @property
    def error(self) -> JournalError | None:
        """Why nothing can be written any more, if so. It stays: what followed the failure is not written."""
        return self._error

    def put(self, batch: Batch) -> None:
        """Write ``batch`` with the next commit, without waiting for it."""
        self._queue.put(batch)

    async def commit(self, batch: Batch) -> None:
        """Write ``batch`` and return when it is durable.

        Raises:
            JournalError: it could not be written; nothing of it is in the journal.
        """
        batch.done = asyncio.get_running_loop().create_future()
        self._queue.put(batch)
        await batch.done

    def close(self) -> None:
        """Write what is queued and let go of the file.

        Raises:
            JournalError: something could not be written.
        """
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        open_for_more = True
        while open_for_more:
            batches, open_for_more = self._drain()
            if self._error is None:
                try:
                    connection = connection or self._open(self._path)
                    self._write(connection, batches)
                except sqlite3.Error as error:
                    self._error = _explain(error)
            _tell(batches, self._error)
        if connection is not None:
            connection.close()

    def _drain(self) -> tuple[list[Batch], bool]:
        """Everything that waits, at least one; False if the writer is asked to end."""
        batches: list[Batch] = []
        item = self._queue.get()
        while item is not None:
            batches.append(item)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batches, True
        return batches, False

    @staticmethod
    def _write(connection: sqlite3.Connection, batches: list[Batch]) -> None:
        if not batches:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(PUT_EXCHANGE, [row for batch in batches for row in batch.exchanges])
            connection.executemany(PUT_STANDING, [row for batch in batches for row in batch.standings])
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _tell(batches: list[Batch], error: JournalError | None) -> None:
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


def _explain(error: sqlite3.Error) -> JournalError:
    return JournalError(
        f"The journal could not be written: {error}.",
        "Make room on the disk or mend the state folder's permissions, then resume the run.",
    )
