"""``rows.jsonl``: every subject on one canonical line, under its pseudonym.

Canonical: keys sorted, no blanks, ASCII, every key present. So the same run gives the same bytes, and a line can be
hashed, compared and signed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from privacy_toolkit.journal.rows import Row as Columns
from privacy_toolkit.model import Purpose, Subject
from privacy_toolkit.reporting.pseudonyms import pseudonym
from privacy_toolkit.reporting.times import maybe_rfc3339

# Fields stand in alphabetical order: the encoder writes them as they stand.


class Read(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A read: when its answer came, and the status, null where there was no reliable answer."""

    at: str | None
    status: int | None


class Send(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request that changes something.

    ``intent_at``: when its intent was durable, before anything was sent. ``answered_at`` null: no end was recorded.
    ``reason`` null: the declared success.
    """

    answered_at: str | None
    intent_at: str | None
    reason: str | None
    status: int | None


class Proof(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was observed: the last read before the first send, every send, the last read after the last send."""

    read_after: Read | None
    read_before: Read | None
    sends: list[Send]


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A subject, without its id. Outcome, reason, attribution and ``held_before`` are the codes of the vocabulary."""

    attempts: int
    attribution: str | None
    held_before: str | None
    hold_reason: str | None
    kept_coupons: int | None
    kept_referrals: int | None
    outcome: str
    proof: Proof
    reason: str | None
    review_on: str | None
    settled_at: str | None
    subject: str


def row_of(subject: Subject, standing: Columns, exchanges: Sequence[Columns], secret: bytes) -> Row:
    """The row of a subject, from what ``RunReader.rows`` yields; ``secret`` is the run's K."""
    (_, outcome, reason, attribution, held_before, attempts, coupons, referrals, hold_reason, review_on, at) = standing
    return Row(
        attempts=attempts,
        attribution=attribution,
        held_before=held_before,
        hold_reason=hold_reason,
        kept_coupons=coupons,
        kept_referrals=referrals,
        outcome=outcome,
        proof=_proof(exchanges),
        reason=reason,
        review_on=review_on,
        settled_at=maybe_rfc3339(at),
        subject=pseudonym(secret, subject.seq, subject.id),
    )


def encode_row(row: Row) -> bytes:
    """The canonical line of a row, with its line end."""
    line = _encoder.encode(row)
    if not line.isascii():  # the encoder leaves other characters as they are
        line = json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")).encode()
    return line + b"\n"


_encoder = msgspec.json.Encoder()


_ACT = Purpose.ACT.value


def _proof(exchanges: Sequence[Columns]) -> Proof:
    before: Read | None = None
    after: Read | None = None
    sends: list[Send] = []
    for _, _, purpose, _, intent_at, ended_at, _, status, reason in exchanges:
        at = maybe_rfc3339(ended_at)
        if purpose == _ACT:
            intent = maybe_rfc3339(intent_at)
            sends.append(Send(answered_at=at, intent_at=intent, reason=reason, status=status))
            after = None
        elif sends:
            after = Read(at=at, status=status)
        else:
            before = Read(at=at, status=status)
    return Proof(read_after=after, read_before=before, sends=sends)
