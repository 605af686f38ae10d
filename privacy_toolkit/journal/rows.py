"""Between the journal's values and the rows of its tables."""

from __future__ import annotations

from typing import Any

from privacy_toolkit.journal.records import ControlRecord, ExchangeRecord, Standing
from privacy_toolkit.model import Attribution, HeldBefore, Outcome, Purpose, Reason

STANDING_COLUMNS = (
    "seq, outcome, reason, attribution, held_before, attempts, kept_coupons, kept_referrals, hold_reason, review_on,"
    " settled_at"
)
REQUEST_COLUMNS = "seq, requested_on, due_on, ticket, ground"
EXCHANGE_COLUMNS = "seq, n, purpose, operation, intent_at, ended_at, elapsed, status, reason, carrier"

Row = tuple[Any, ...]


def exchange_row(seq: int, n: int, record: ExchangeRecord) -> Row:
    """The row of the ``n``-th exchange of subject ``seq``."""
    return (
        seq,
        n,
        record.purpose.value,
        record.operation,
        record.intent_at,
        record.ended_at,
        record.elapsed,
        record.status,
        record.reason and record.reason.value,
        record.carrier,
    )


def standing_row(seq: int, standing: Standing) -> Row:
    """The row of subject ``seq``."""
    return (
        seq,
        standing.outcome.value,
        standing.reason and standing.reason.value,
        standing.attribution and standing.attribution.value,
        standing.held_before and standing.held_before.value,
        standing.attempts,
        standing.kept_coupons,
        standing.kept_referrals,
        standing.hold_reason,
        standing.review_on,
        standing.settled_at,
    )


def control_row(record: ControlRecord) -> Row:
    """The row of a control."""
    return (
        record.control and record.control.value,
        record.operation,
        record.ended_at,
        record.elapsed,
        record.status,
        record.reason and record.reason.value,
        record.held,
    )


def exchange_of(row: Row) -> ExchangeRecord:
    """The exchange of a row."""
    _, _, purpose, operation, intent_at, ended_at, elapsed, status, reason, carrier = row
    return ExchangeRecord(
        Purpose(purpose), operation, intent_at, ended_at, elapsed, status, Reason(reason) if reason else None, carrier
    )


def standing_of(row: Row) -> Standing:
    """The standing of a row."""
    _, outcome, reason, attribution, held_before, *rest = row
    return Standing(
        Outcome(outcome),
        Reason(reason) if reason else None,
        Attribution(attribution) if attribution else None,
        HeldBefore(held_before) if held_before else None,
        *rest,
    )
