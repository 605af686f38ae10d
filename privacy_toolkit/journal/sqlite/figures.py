"""What a report says of a whole run, counted by SQL where it is."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Final

from privacy_toolkit.core.model import NEVER_SENT, Attribution, Control, HeldBefore, Outcome, Purpose, Reason
from privacy_toolkit.journal.figures import (
    HOLD_REASONS,
    PACE_STRETCHES,
    AnswerTime,
    ControlCount,
    HoldCount,
    PaceCount,
    RunSummary,
    SettledRequests,
    StateCount,
    Windows,
    windows_from,
)
from privacy_toolkit.journal.records import Traffic

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


def windows_of(connection: sqlite3.Connection, size: int) -> Windows:
    """The windows of a run of ``size`` subjects. The same journal gives the same windows."""
    return windows_from(connection.execute(_TIMES), _executions(connection), size)


def _executions(connection: sqlite3.Connection) -> list[tuple[int, int | None]]:
    """When each execution began and ended; one without an end is open."""
    return connection.execute("SELECT started_at, ended_at FROM sittings ORDER BY number").fetchall()


#: The reasons of requests of which nothing left, as a list for SQL.
_UNSENT: Final = ", ".join(f"'{reason.value}'" for reason in sorted(NEVER_SENT))
_DAY: Final = 86_400


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
