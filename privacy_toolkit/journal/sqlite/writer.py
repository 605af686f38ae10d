"""The single writer of a journal: it drains its queue into one durable commit at a time.

SQLite takes one writer; grouping what all workers hand in at the same moment into one commit (WAL,
``synchronous=FULL``) is what makes a durable intent before every send affordable (docs/adr/0003).
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from privacy_toolkit.core.errors import JournalError


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
                    self._error = _explain(error)
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


def _explain(error: sqlite3.Error | OSError) -> JournalError:
    return JournalError(
        f"The journal could not be written: {error}.",
        "Make room on the disk or correct the state folder's permissions, then resume the run.",
    )
