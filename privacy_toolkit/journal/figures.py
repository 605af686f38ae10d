"""What is counted of a whole run, as typed values: nothing here grows with the number of subjects but the windows."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

from privacy_toolkit.core.model import Attribution, Control, HeldBefore, Outcome, Reason
from privacy_toolkit.journal.records import Traffic

#: How many different grounds of the exclusion list are told apart; it is free text, so there could be any number.
HOLD_REASONS = 100
#: In at most about so many stretches of one length the begun requests are counted, however long the run worked.
PACE_STRETCHES = 2_400


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many subjects stand alike.

    ``repeated`` of them had more than one request sent that changes something, ``repeats`` such requests too many.
    ``keeping`` of them have coupons or referrals left at the API: ``kept_coupons`` and ``kept_referrals`` in all.
    """

    outcome: Outcome
    reason: Reason | None
    attribution: Attribution | None
    held_before: HeldBefore | None
    subjects: int
    repeated: int
    repeats: int
    keeping: int
    kept_coupons: int
    kept_referrals: int


@dataclass(frozen=True, slots=True)
class HoldCount:
    """How many subjects are on hold on one ground, and the earliest date on which that is looked at again."""

    reason: str
    subjects: int
    review_on: str | None


@dataclass(frozen=True, slots=True)
class AnswerTime:
    """How many exchanges of an operation took so long, in whole milliseconds, from sending to the answer."""

    operation: str
    milliseconds: int
    exchanges: int


@dataclass(frozen=True, slots=True)
class PaceCount:
    """How many requests were begun in one stretch of time, and when the first and the last of them (microseconds)."""

    requests: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class SettledRequests:
    """Subjects with a due date that are settled and were not on hold: on or before that day (UTC), and after it."""

    in_time: int
    late: int


@dataclass(frozen=True, slots=True)
class ControlCount:
    """The controls of one kind: how many held, how many failed, and how many had no reliable answer."""

    control: Control
    held: int
    failed: int
    unanswered: int

    @property
    def requests(self) -> int:
        """How many were made."""
        return self.held + self.failed + self.unanswered


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in figures. Subjects without any record (pending) are in none of them.

    ``pace`` is in order of time, without stretches in which nothing was begun; each is ``pace_unit`` seconds long.
    ``repeats`` says how many of a line of traffic came after another request for the same subject and purpose.
    ``first_request_at`` and ``last_answer_at`` are microseconds since the epoch, None if there was none. What was
    withdrawn before a byte of it left is in ``traffic`` alone.

    ``control_gap`` is the longest time, in seconds, between two route or positive controls that held, one after the
    other; ``control_gap_absences`` the most answers "no such profile" between two of them. None: none were recorded.
    """

    states: tuple[StateCount, ...]
    holds: tuple[HoldCount, ...]
    traffic: tuple[Traffic, ...]
    repeats: Mapping[Traffic, int]
    answer_times: tuple[AnswerTime, ...]
    pace: tuple[PaceCount, ...]
    pace_unit: int
    settled: SettledRequests
    first_request_at: int | None
    last_answer_at: int | None
    controls: tuple[ControlCount, ...] = ()
    control_gap: float | None = None
    control_gap_absences: int | None = None


# Times that many share: to the microsecond, they would tell whose row it is to whoever has the API's access log.
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
    times: Iterable[tuple[str, int, int, int]], executions: Sequence[tuple[int, int | None]], size: int
) -> Windows:
    """Divide the times of a run of ``size`` subjects into windows.

    ``times`` are kind, number, first and last moment of each subject of whom a time is known, by kind, last moment and
    number. ``executions`` are beginning and end of each execution, in order.
    """
    found = Windows(size)
    for _, rows in groupby(times, key=itemgetter(0)):
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


def _around(first: int, last: int, executions: Sequence[tuple[int, int | None]]) -> Window:
    """The whole of the executions in which these times lie."""
    begun = max((started for started, _ in executions if started <= first), default=first)
    ended = min((end for _, end in executions if end is not None and end >= last), default=last)
    return _window(begun, ended)


def _window(first: int, last: int) -> Window:
    start = first // _SECOND
    return Window(start * _SECOND, max(1, -(-(last + 1) // _SECOND) - start))
