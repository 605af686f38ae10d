"""The windows of time that a pack shows instead of moments, each shared by at least fifty subjects that look alike."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

from privacy_toolkit.journal.records import ExchangeRow, StateRow, SubjectRow

# Times that many share: to the microsecond, they would tell whose row it is to anyone who has the API's access log.
#
# The subjects that look alike in such a log, which shows how often the API was asked about somebody and what it
# answered, are put in the order of their last time and divided into groups of at least 50. All times of a subject
# become the window of its group. Where fewer than 50 look alike, the window is the whole time of the executions that
# worked on them.

#: At least so many rows share the times that they show.
LEAST: Final = 50
_SECOND: Final = 1_000_000


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


def windows_from(
    times: Iterable[tuple[object, int, int, int]], executions: Sequence[tuple[int, int | None]], size: int
) -> Windows:
    """Divide the times of a run of ``size`` subjects into windows.

    ``times`` are kind, number, first and last moment of each subject of whom a time is known, by kind, last moment and
    number. ``executions`` are beginning and end of each execution, in order.
    """
    found = Windows(size)
    for _, rows in groupby(times, key=itemgetter(0)):
        before: tuple[int, list[int]] | None = None  # the group before, by its beginning: it takes in a rest
        while some := list(islice(rows, LEAST)):
            seqs, first, last = [row[1] for row in some], min([row[2] for row in some]), some[-1][3]
            if len(seqs) == LEAST:
                found.put(_window(first, last), seqs)
                before = first, seqs
            elif before is None:
                found.put(_around(first, last, executions), seqs)
            else:
                found.put(_window(min(first, before[0]), last), before[1] + seqs)
    return found


def _around(first: int, last: int, executions: Sequence[tuple[int, int | None]]) -> Window:
    """The whole of the executions in which these times lie."""
    begun = max((started for started, _ in executions if started <= first), default=first)
    ended = min((end for _, end in executions if end is not None and end >= last), default=last)
    return _window(begun, ended)


def _window(first: int, last: int) -> Window:
    start = first // _SECOND
    return Window(start * _SECOND, max(1, -(-(last + 1) // _SECOND) - start))


def times_of(rows: Iterable[SubjectRow]) -> Iterator[tuple[str, int, int, int]]:
    """Give what ``windows_from`` needs of some subjects: kind, number, first and last moment, where one is known."""
    kinds: dict[tuple[object, ...], str] = {}  # nearly all look like some other one
    for seq, state, walk, _ in rows:
        moments: list[int] = []
        look: list[object] = [None if state is None else state.outcome]
        for _, _, purpose, _, intent_at, ended_at, _, status, _, _ in walk:
            if intent_at is not None:
                moments.append(intent_at)
            if ended_at is not None:
                moments.append(ended_at)
            look += purpose, status, ended_at is None
        if state is not None and state.settled_at is not None:
            moments.append(state.settled_at)
        if moments:
            kind = kinds.get(key := tuple(look))
            if kind is None:
                kind = kinds[key] = _kind(state, walk)
            yield kind, seq, min(moments), max(moments)


def _kind(state: StateRow | None, walk: Sequence[ExchangeRow]) -> str:
    """What subjects have in common that look alike: what was asked, what was answered, the outcome."""
    outcome = "" if state is None else state.outcome
    shape = ",".join([f"{e[2]}{'' if e[7] is None else e[7]}{int(e[5] is None)}" for e in walk])
    return f"{shape} {outcome}" if walk else outcome
