"""What a report says of a whole run, counted where it lies: nothing here grows with the number of subjects."""

from __future__ import annotations

import sqlite3
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from privacy_toolkit.core.model import NEVER_SENT, Attribution, Control, HeldBefore, Outcome, Purpose, Reason
from privacy_toolkit.journal.records import Traffic

# Times that many share: to the microsecond, they would tell whose row it is to whoever has the API's access log.
#
# The subjects that look alike in such a log, which shows how often the API was asked about somebody and what it
# answered,
# are put in the order of their last time and divided into groups of at least 50. All times of a subject become the
# window
# of its group. Where fewer than 50 look alike, the window is the whole time of the executions that worked on them.

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


#: How many different grounds of the exclusion list are told apart; it is free text, so there could be any number.
HOLD_REASONS = 100
#: In at most about so many stretches of one length the begun requests are counted, however long the run worked.
PACE_STRETCHES = 2_400

#: The reasons of requests of which nothing left, as a list for SQL.
_UNSENT: Final = ", ".join(f"'{reason.value}'" for reason in sorted(NEVER_SENT))
_DAY: Final = 86_400


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


def summarise(connection: sqlite3.Connection) -> RunSummary:
    """The figures of the journal behind ``connection``."""
    first, last = connection.execute(
        "SELECT MIN(COALESCE(intent_at, ended_at - elapsed)), MAX(ended_at) FROM exchanges"
        f" WHERE IFNULL(reason, '') NOT IN ({_UNSENT})"
    ).fetchone()
    traffic, repeats, answer_times = _exchanges(connection)
    unit = _pace_unit(connection)
    controls, gap, absences = _controls(connection)
    return RunSummary(
        states=state_counts(connection),
        holds=_holds(connection),
        traffic=traffic,
        repeats=repeats,
        answer_times=answer_times,
        pace=_pace(connection, unit),
        pace_unit=unit,
        settled=_settled(connection),
        first_request_at=first,
        last_answer_at=last,
        controls=controls,
        control_gap=gap,
        control_gap_absences=absences,
    )


def state_counts(connection: sqlite3.Connection) -> tuple[StateCount, ...]:
    """How many subjects stand alike, for every way to stand that occurs."""
    rows = connection.execute(
        "SELECT outcome, reason, attribution, held_before, COUNT(*), SUM(attempts > 1), SUM(MAX(attempts - 1, 0)),"
        " SUM(IFNULL(kept_coupons, 0) + IFNULL(kept_referrals, 0) > 0), SUM(IFNULL(kept_coupons, 0)),"
        " SUM(IFNULL(kept_referrals, 0)) FROM standings GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    )
    return tuple(
        StateCount(
            Outcome(outcome),
            Reason(reason) if reason else None,
            Attribution(attribution) if attribution else None,
            HeldBefore(held_before) if held_before else None,
            *counts,
        )
        for outcome, reason, attribution, held_before, *counts in rows
    )


def _controls(connection: sqlite3.Connection) -> tuple[tuple[ControlCount, ...], float | None, int | None]:
    """The controls by kind, the longest time between two that held (seconds), and the most absences between two."""
    rows = connection.execute(
        "SELECT kind, SUM(held IS 1), SUM(held IS 0), SUM(held IS NULL) FROM controls WHERE kind IS NOT NULL GROUP BY 1"
    )
    counts = {kind: ControlCount(Control(kind), *numbers) for kind, *numbers in rows}
    gap, absences = connection.execute("SELECT MAX(elapsed), MAX(status) FROM controls WHERE kind IS NULL").fetchone()
    ordered = tuple(counts[control] for control in Control if control in counts)
    return ordered, None if gap is None else gap / _SECOND, absences


def _holds(connection: sqlite3.Connection) -> tuple[HoldCount, ...]:
    rows = connection.execute(
        "SELECT IFNULL(hold_reason, ''), COUNT(*), MIN(review_on) FROM standings WHERE outcome = ?"
        " GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?",
        (Outcome.ON_HOLD.value, HOLD_REASONS),
    )
    return tuple(HoldCount(*row) for row in rows)


def _pace_unit(connection: sqlite3.Connection) -> int:
    """Seconds of one stretch: the time the executions took (one without an end counts up to its last answer)."""
    (worked,) = connection.execute(
        "SELECT SUM(MAX(0, COALESCE(ended_at, (SELECT MAX(ended_at) FROM exchanges), started_at) - started_at))"
        " FROM sittings"
    ).fetchone()
    return max(1, -(-(worked or 0) // (PACE_STRETCHES * _SECOND)))


def _pace(connection: sqlite3.Connection, unit: int) -> tuple[PaceCount, ...]:
    """A request was begun when its answer came, less what it took; without an answer, when its intent was durable.

    A control counts when its answer came: what is recorded of it includes the wait for its turn.
    """
    rows = connection.execute(
        "SELECT COUNT(*), MIN(begun), MAX(begun) FROM (SELECT COALESCE(ended_at - elapsed, intent_at) AS begun"
        f" FROM exchanges WHERE carrier IS NULL AND IFNULL(reason, '') NOT IN ({_UNSENT})"
        f" UNION ALL SELECT ended_at FROM controls WHERE kind IS NOT NULL AND IFNULL(reason, '') NOT IN ({_UNSENT}))"
        " WHERE begun IS NOT NULL"
        f" GROUP BY begun / {unit * _SECOND} ORDER BY 2"
    )
    return tuple(PaceCount(*row) for row in rows)


def _settled(connection: sqlite3.Connection) -> SettledRequests:
    """The day a subject was settled on is the journal's, in UTC."""
    in_time, late = connection.execute(
        f"SELECT IFNULL(SUM(settled_at / {_DAY * _SECOND} <= due), 0), IFNULL(SUM(settled_at / {_DAY * _SECOND} > due),"
        f" 0) FROM (SELECT settled_at, CAST(strftime('%s', due_on) AS INTEGER) / {_DAY} AS due"
        " FROM requests JOIN standings USING (seq) WHERE due_on IS NOT NULL AND settled_at IS NOT NULL"
        " AND outcome IN (?, ?, ?))",
        (Outcome.ERASED.value, Outcome.NOTHING_HELD.value, Outcome.DONE.value),
    ).fetchone()
    return SettledRequests(in_time, late)


def _exchanges(
    connection: sqlite3.Connection,
) -> tuple[tuple[Traffic, ...], dict[Traffic, int], tuple[AnswerTime, ...]]:
    """What was sent and what came back, how much was repeated, and how long answers took; of millions in one pass.

    Counted here and not in SQL, which would sort the rows by six columns first and take twice as long.
    """
    counted = Counter(
        connection.execute(
            f"SELECT operation, purpose, status, reason, ended_at IS NULL, elapsed / 1000, n > 1"
            f" AND IFNULL(reason, '') NOT IN ({_UNSENT}) AND EXISTS (SELECT 1"
            " FROM exchanges AS e WHERE e.seq = x.seq AND e.n < x.n AND e.purpose = x.purpose"
            f" AND e.operation = x.operation AND IFNULL(e.reason, '') NOT IN ({_UNSENT}))"
            " FROM exchanges AS x WHERE carrier IS NULL"
        )
    )
    ends: Counter[tuple[str, str, int | None, str | None, int]] = Counter()
    again: Counter[tuple[str, str, int | None, str | None, int]] = Counter()
    times: Counter[tuple[str, int]] = Counter()
    for (*end, milliseconds, repeated), count in counted.items():
        operation, purpose, status, reason, unrecorded = end
        ends[operation, purpose, status, reason, unrecorded] += count
        again[operation, purpose, status, reason, unrecorded] += count if repeated else 0
        if milliseconds is not None and status is not None:
            times[operation, milliseconds] += count
    ordered = sorted(ends, key=lambda end: [(part is not None, part) for part in end])
    repeats = {_traffic(end, ends[end]): again[end] for end in ordered}
    return tuple(repeats), repeats, tuple(AnswerTime(*key, count) for key, count in sorted(times.items()))


def _traffic(end: tuple[str, str, int | None, str | None, int], count: int) -> Traffic:
    operation, purpose, status, reason, unrecorded = end
    return Traffic(operation, Purpose(purpose), status, Reason(reason) if reason else None, bool(unrecorded), count)
