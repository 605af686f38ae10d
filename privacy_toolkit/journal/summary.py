"""What a report says of a whole run, counted where it lies: nothing here grows with the number of subjects."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from privacy_toolkit.model import Attribution, HeldBefore, Outcome, Reason

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
    """How many exchanges of an operation took so long, in whole milliseconds, from the first byte to the answer."""

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
    answer_times: tuple[AnswerTime, ...]
    first_request_at: int | None
    last_answer_at: int | None


def summarise(connection: sqlite3.Connection) -> RunSummary:
    """The figures of the journal behind ``connection``."""
    first, last = connection.execute(
        "SELECT MIN(COALESCE(intent_at, ended_at - elapsed)), MAX(ended_at) FROM exchanges"
    ).fetchone()
    return RunSummary(_standings(connection), _holds(connection), _answer_times(connection), first, last)


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


def _answer_times(connection: sqlite3.Connection) -> tuple[AnswerTime, ...]:
    rows = connection.execute(
        "SELECT operation, elapsed / 1000, COUNT(*) FROM exchanges"
        " WHERE elapsed IS NOT NULL AND status IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return tuple(AnswerTime(*row) for row in rows)
