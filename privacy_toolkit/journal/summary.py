"""What a report says of a whole run, counted where it lies: nothing here grows with the number of subjects."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass

from privacy_toolkit.journal.records import Traffic
from privacy_toolkit.model import Attribution, HeldBefore, Outcome, Purpose, Reason

#: How many different grounds of the exclusion list are told apart; it is free text, so there could be any number.
HOLD_REASONS = 100


@dataclass(frozen=True, slots=True)
class StandingCount:
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
class RunSummary:
    """A run in figures. Subjects without any record (pending) are in none of them.

    ``first_request_at`` and ``last_answer_at`` are microseconds since the epoch, None if there was none.
    """

    standings: tuple[StandingCount, ...]
    holds: tuple[HoldCount, ...]
    traffic: tuple[Traffic, ...]
    answer_times: tuple[AnswerTime, ...]
    first_request_at: int | None
    last_answer_at: int | None


def summarise(connection: sqlite3.Connection) -> RunSummary:
    """The figures of the journal behind ``connection``."""
    first, last = connection.execute(
        "SELECT MIN(COALESCE(intent_at, ended_at - elapsed)), MAX(ended_at) FROM exchanges"
    ).fetchone()
    traffic, answer_times = _exchanges(connection)
    return RunSummary(_standings(connection), _holds(connection), traffic, answer_times, first, last)


def _standings(connection: sqlite3.Connection) -> tuple[StandingCount, ...]:
    rows = connection.execute(
        "SELECT outcome, reason, attribution, held_before, COUNT(*), SUM(attempts > 1), SUM(MAX(attempts - 1, 0)),"
        " SUM(IFNULL(kept_coupons, 0) + IFNULL(kept_referrals, 0) > 0), SUM(IFNULL(kept_coupons, 0)),"
        " SUM(IFNULL(kept_referrals, 0)) FROM standings GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    )
    return tuple(
        StandingCount(
            Outcome(outcome),
            Reason(reason) if reason else None,
            Attribution(attribution) if attribution else None,
            HeldBefore(held_before) if held_before else None,
            *counts,
        )
        for outcome, reason, attribution, held_before, *counts in rows
    )


def _holds(connection: sqlite3.Connection) -> tuple[HoldCount, ...]:
    rows = connection.execute(
        "SELECT IFNULL(hold_reason, ''), COUNT(*), MIN(review_on) FROM standings WHERE outcome = ?"
        " GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?",
        (Outcome.ON_HOLD.value, HOLD_REASONS),
    )
    return tuple(HoldCount(*row) for row in rows)


def _exchanges(connection: sqlite3.Connection) -> tuple[tuple[Traffic, ...], tuple[AnswerTime, ...]]:
    """What was sent and what came back, and how long answers took: of millions of rows, so in one grouping.

    The time comes first in it, since comparing numbers is what makes it fast.
    """
    rows = connection.execute(
        "SELECT elapsed / 1000, status, operation, purpose, reason, ended_at IS NULL, COUNT(*) FROM exchanges"
        " GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6"
    )
    traffic: Counter[tuple[str, str, int | None, str | None, int]] = Counter()
    times: Counter[tuple[str, int]] = Counter()
    for milliseconds, status, operation, purpose, reason, unrecorded, count in rows:
        traffic[operation, purpose, status, reason, unrecorded] += count
        if milliseconds is not None and status is not None:
            times[operation, milliseconds] += count
    return (
        tuple(
            Traffic(operation, Purpose(purpose), status, Reason(reason) if reason else None, bool(unrecorded), count)
            for (operation, purpose, status, reason, unrecorded), count in traffic.items()
        ),
        tuple(AnswerTime(operation, milliseconds, count) for (operation, milliseconds), count in times.items()),
    )
