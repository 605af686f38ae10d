"""``rows.jsonl``: every subject on one canonical line, under its pseudonym.

Canonical: keys sorted, no blanks, ASCII, every key present. So the same run gives the same bytes, and a line can be
hashed, compared and signed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from privacy_toolkit.journal.coarsening import Windows
from privacy_toolkit.journal.packages import decode_package
from privacy_toolkit.journal.reading import Observed
from privacy_toolkit.journal.rows import Row as Columns
from privacy_toolkit.model import Outcome, Purpose
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
    request; the ticket is only there where the plan says so. Each is null where there is nothing to say.

    Times are coarse: all of a row's are the same, and stand for some moment in the ``time_span`` seconds from then on,
    which at least 50 rows share, or are all of the executions that worked on it. ``in_time``: whether a settled subject
    with a due date was settled on or before that day (UTC), by the exact time.
    """

    attempts: int
    attribution: str | None
    due_on: str | None
    ground: str | None
    held_before: str | None
    hold_reason: str | None
    in_time: bool | None
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
    time_span: int | None


class RowBefore(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of the form before, ``row/2``: its times are exact, and tell by themselves what was settled in time."""

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

    def as_now(self) -> Row:
        """The row as one of today's form."""
        settled_on = self.settled_at and self.settled_at[:10]
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        return Row(**fields, in_time=_in_time(self.outcome, settled_on, self.due_on), time_span=None)


@dataclass(frozen=True, slots=True)
class Shown:
    """What rows show of what the journal holds: ``windows`` None: exact times; ``tickets``: those of the input."""

    windows: Windows | None = None
    tickets: bool = True


#: Everything, for the operator's own eyes.
EXACT: Final = Shown()
#: Settled, and not on hold: whether that was in time is counted.
IN_TIME: Final = frozenset({Outcome.ERASED.value, Outcome.NOTHING_HELD.value, Outcome.DONE.value})


def _in_time(outcome: str, settled_on: str | None, due_on: str | None) -> bool | None:
    if settled_on is None or due_on is None or outcome not in IN_TIME:
        return None
    return settled_on <= due_on


def row_of(observed: Observed, secret: bytes, shown: Shown = EXACT) -> Row:
    """The row of a subject, from what ``RunReader.rows`` yields; ``secret`` is the run's K.

    For one subject. ``tables.table_of`` does the same for thousands at once, and many times as fast.
    """
    subject, standing, exchanges, request, result = observed
    package = decode_package(result)
    (_, outcome, reason, attribution, held_before, attempts, coupons, referrals, hold_reason, review_on, at) = standing
    _, requested_on, due_on, ticket, ground = request or NOTHING_SAID
    window = None if shown.windows is None else shown.windows[subject.seq]
    settled = maybe_rfc3339(at)
    if window is not None:
        at = window.start if at is not None else None
        exchanges = [_coarse(exchange, window.start) for exchange in exchanges]
    return Row(
        attempts=attempts,
        attribution=attribution,
        due_on=due_on,
        ground=ground,
        held_before=held_before,
        hold_reason=hold_reason,
        in_time=_in_time(outcome, settled and settled[:10], due_on),
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
        ticket=ticket if shown.tickets else None,
        time_span=None if window is None else window.span,
    )


def _coarse(exchange: Columns, start: int) -> Columns:
    seq, n, purpose, operation, intent_at, ended_at, *rest = exchange
    at = [None if moment is None else start for moment in (intent_at, ended_at)]
    return (seq, n, purpose, operation, *at, *rest)


def encode_row(row: Row | RowBefore) -> bytes:
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
