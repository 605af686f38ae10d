"""``rows.jsonl``: every subject on one canonical line, under its pseudonym.

Canonical: keys sorted, no blanks, ASCII, every key present. So the same run gives the same bytes, and a line can be
hashed, compared and signed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from privacy_toolkit.journal.packages import decode_package
from privacy_toolkit.journal.reading import Observed
from privacy_toolkit.journal.rows import Row as Columns
from privacy_toolkit.model import Purpose
from privacy_toolkit.reporting.pseudonyms import pseudonym
from privacy_toolkit.reporting.times import maybe_rfc3339

#: In the place of a row of ``REQUEST_COLUMNS``, where the input says nothing beside the id.
NOTHING_SAID: Columns = (None,) * 5

# Fields stand in alphabetical order: the encoder writes them as they stand.


class Read(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A read: when it ended, and the status, null where there was no reliable answer."""

    at: str
    status: int | None


class Send(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request that changes something.

    ``intent_at``: when its intent was durable, before anything was sent. ``answered_at`` null: no end was recorded.
    ``reason`` null: the declared success. ``shared``: it was about several subjects, and is counted with another one.
    """

    answered_at: str | None
    intent_at: str | None
    reason: str | None
    shared: bool
    status: int | None


class Proof(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was observed: the last read before the first send, every send, the last read after the last send."""

    read_after: Read | None
    read_before: Read | None
    sends: list[Send]


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A subject, without its id. Outcome, reason, attribution and ``held_before`` are the codes of the vocabulary.

    ``package`` is the SHA-256 of the access package that was handed over, ``redactions`` how often the id of another
    person was taken out of it. ``requested_on``, ``due_on``, ``ticket`` and ``ground`` are what the input says of the
    request. Each is null where there is nothing to say.
    """

    attempts: int
    attribution: str | None
    due_on: str | None
    ground: str | None
    held_before: str | None
    hold_reason: str | None
    kept_coupons: int | None
    kept_referrals: int | None
    outcome: str
    package: str | None
    proof: Proof
    reason: str | None
    redactions: int | None
    requested_on: str | None
    review_on: str | None
    settled_at: str | None
    subject: str
    ticket: str | None


def row_of(observed: Observed, secret: bytes) -> Row:
    """The row of a subject, from what ``RunReader.rows`` yields; ``secret`` is the run's K.

    For one subject. ``tables.table_of`` does the same for thousands at once, and many times as fast.
    """
    subject, standing, exchanges, request, result = observed
    package = decode_package(result)
    (_, outcome, reason, attribution, held_before, attempts, coupons, referrals, hold_reason, review_on, at) = standing
    _, requested_on, due_on, ticket, ground = request or NOTHING_SAID
    return Row(
        attempts=attempts,
        attribution=attribution,
        due_on=due_on,
        ground=ground,
        held_before=held_before,
        hold_reason=hold_reason,
        kept_coupons=coupons,
        kept_referrals=referrals,
        outcome=outcome,
        package=package.sha256 if package else None,
        proof=_proof(exchanges),
        reason=reason,
        redactions=package.redactions if package else None,
        requested_on=requested_on,
        review_on=review_on,
        settled_at=maybe_rfc3339(at),
        subject=pseudonym(secret, subject.seq, subject.id),
        ticket=ticket,
    )


def encode_row(row: Row) -> bytes:
    """The canonical line of a row, with its line end."""
    line = _encoder.encode(row)
    if not line.isascii() or b"\x7f" in line:  # the encoder leaves these characters as they are
        line = json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")).encode()
    return line + b"\n"


_encoder = msgspec.json.Encoder()


_ACT = Purpose.ACT.value


def _proof(exchanges: Sequence[Columns]) -> Proof:
    before: Read | None = None
    after: Read | None = None
    sends: list[Send] = []
    for _, _, purpose, _, intent_at, ended_at, _, status, reason, carrier in exchanges:
        at = maybe_rfc3339(ended_at)
        if purpose == _ACT:
            intent = maybe_rfc3339(intent_at)
            shared = carrier is not None
            sends.append(Send(answered_at=at, intent_at=intent, reason=reason, shared=shared, status=status))
            after = None
        elif at is None:
            continue  # a read of whose end nothing is known has shown nothing
        elif sends:
            after = Read(at=at, status=status)
        else:
            before = Read(at=at, status=status)
    return Proof(read_after=after, read_before=before, sends=sends)
