"""Times that many share: to the microsecond, they would tell whose row it is to whoever has the API's access log.

The subjects that look alike in such a log, which shows how often the API was asked about somebody and what it answered,
are put in the order of their last time and divided into groups of at least 50. All times of a subject become the window
of its group. Where fewer than 50 look alike, the window is the whole time of the executions that worked on them.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

#: At least so many rows share the times that they show.
LEAST: Final = 50
_SECOND: Final = 1_000_000
_TIMES: Final = """
    WITH walks AS (
        SELECT seq, GROUP_CONCAT(purpose || IFNULL(status, '') || (ended_at IS NULL)) AS walk,
            MIN(IFNULL(intent_at, ended_at)) AS first, MAX(IFNULL(ended_at, intent_at)) AS last
        FROM exchanges GROUP BY seq
    ), times AS (
        SELECT seq, walk || ' ' || IFNULL(outcome, '') AS kind,
            MIN(IFNULL(first, settled_at), IFNULL(settled_at, first)) AS first,
            MAX(IFNULL(last, settled_at), IFNULL(settled_at, last)) AS last
        FROM walks LEFT JOIN standings USING (seq)
        UNION ALL
        SELECT seq, outcome, settled_at, settled_at FROM standings
        WHERE settled_at IS NOT NULL AND seq NOT IN (SELECT seq FROM exchanges)
    )
    SELECT kind, seq, first, last FROM times WHERE first IS NOT NULL ORDER BY kind, last, seq
"""


class Window(NamedTuple):
    """From when on (microseconds since the epoch, a whole second), and for how many seconds."""

    start: int
    span: int


class Windows:
    """The window of each subject of a run; a subject of whom no time is known has none."""

    def __init__(self, size: int) -> None:
        self._windows: list[Window] = []
        self._of = array("I", bytes(4 * (size + 1)))

    def __getitem__(self, seq: int) -> Window | None:
        """The window of the subject with the number ``seq``."""
        place = self._of[seq] if seq < len(self._of) else 0
        return self._windows[place - 1] if place else None

    def items(self) -> Iterator[tuple[int, Window]]:
        """The numbers of all subjects that have a window, each with it."""
        return ((seq, self._windows[place - 1]) for seq, place in enumerate(self._of) if place)

    def put(self, window: Window, seqs: list[int]) -> None:
        """Give some subjects a window; one that they have is replaced."""
        self._windows.append(window)
        for seq in seqs:
            self._of[seq] = len(self._windows)

    def write(self, path: Path) -> None:
        """Write all windows to a new file, for another process.

        Raises:
            OSError: it can't be written.
        """
        numbers = array("q", [number for window in self._windows for number in window])
        with path.open("xb") as file:
            array("q", [len(numbers), len(self._of)]).tofile(file)
            numbers.tofile(file)
            self._of.tofile(file)

    @classmethod
    def read(cls, path: Path) -> Windows:
        """Read what ``write`` wrote.

        Raises:
            OSError: it can't be read.
        """
        windows, head, numbers = cls(0), array("q"), array("q")
        with path.open("rb") as file:
            head.fromfile(file, 2)
            numbers.fromfile(file, head[0])
            windows._of = array("I")
            windows._of.fromfile(file, head[1])
        windows._windows = [Window(*numbers[k : k + 2]) for k in range(0, len(numbers), 2)]
        return windows


def windows_of(connection: sqlite3.Connection, size: int) -> Windows:
    """The windows of a run of ``size`` subjects. The same journal gives the same windows."""
    found = Windows(size)
    executions = _executions(connection)
    for _, rows in groupby(connection.execute(_TIMES), key=lambda row: row[0]):
        seqs: list[int] = []
        first = last = 0
        before: tuple[int, list[int]] | None = None  # the group before, by its beginning: it takes in a rest
        for _, seq, begun, ended in rows:
            first = min(first, begun) if seqs else begun
            seqs.append(seq)
            last = ended
            if len(seqs) == LEAST:
                found.put(_window(first, last), seqs)
                before, seqs = (first, seqs), []
        if not seqs:
            continue
        if before is None:
            found.put(_around(first, last, executions), seqs)
        else:
            found.put(_window(min(first, before[0]), last), before[1] + seqs)
    return found


def _executions(connection: sqlite3.Connection) -> list[tuple[int, int | None]]:
    """When each execution began and ended; one without an end is open."""
    return connection.execute("SELECT started_at, ended_at FROM sittings ORDER BY number").fetchall()


def _around(first: int, last: int, executions: list[tuple[int, int | None]]) -> Window:
    """The whole of the executions in which these times lie."""
    begun = max((started for started, _ in executions if started <= first), default=first)
    ended = min((end for _, end in executions if end is not None and end >= last), default=last)
    return _window(begun, ended)


def _window(first: int, last: int) -> Window:
    start = first // _SECOND
    return Window(start * _SECOND, max(1, -(-(last + 1) // _SECOND) - start))
