"""``rows.jsonl``: every subject on one canonical line, under its pseudonym.

Canonical: keys sorted, no blanks, ASCII, every key present. So the same run gives the same bytes, and a line can be
hashed, compared and signed.
"""

from __future__ import annotations

import hmac
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec

from privacy_toolkit.core.model import Outcome, Purpose, Subject
from privacy_toolkit.journal.records import (
    INNER,
    OUTER,
    ExchangeRow,
    Observed,
    RequestRow,
    decode_loyalty,
    decode_package,
    hmac_begun,
    keyed,
)
from privacy_toolkit.journal.windows import Windows
from privacy_toolkit.reporting.schema import maybe_rfc3339

# The names under which subjects are in a pack.
#
# A key for each row, so that handing one person their key opens only their row. Customer ids can be guessed: under a
# plain digest, or one key for all, a single disclosure would open everyone's.

_PADDING: Final = bytes(32)  # from a digest to the block of SHA-256


def row_key(secret: bytes, seq: int) -> bytes:
    """The key of row ``seq`` under the run's secret K: HMAC-SHA256(K, "row:" + seq), seq as decimal text."""
    return keyed(secret, b"row:%d" % seq)


def pseudonym(secret: bytes, seq: int, id_: str) -> str:
    """The pseudonym of the subject in row ``seq``: HMAC-SHA256(row key, id as UTF-8), in hexadecimal."""
    block = keyed(secret, b"row:%d" % seq) + _PADDING
    inner = sha256(block.translate(INNER) + id_.encode())
    return sha256(block.translate(OUTER) + inner.digest()).hexdigest()


def pseudonyms(secret: bytes, subjects: Iterable[Subject]) -> list[str]:
    """The pseudonyms of many subjects, in their order."""
    begun, begun_outside = hmac_begun(secret)
    found = []
    for subject in subjects:
        inner, outer = begun.copy(), begun_outside.copy()
        inner.update(b"row:%d" % subject.seq)
        outer.update(inner.digest())
        block = outer.digest() + _PADDING
        inner = sha256(block.translate(INNER) + subject.id.encode())
        found.append(sha256(block.translate(OUTER) + inner.digest()).hexdigest())
    return found


def file_key(secret: bytes, what: str) -> bytes:
    """The key under which the digest of a file of the run is shown; ``what`` is ``input`` or ``exclusions``."""
    return hmac.digest(secret, what.encode(), "sha256")


def keyed_digest(secret: bytes, what: str, sha256: str) -> str:
    """The SHA-256 of a file (hexadecimal) as a pack shows it: HMAC-SHA256(file key, the digest as ASCII).

    Under its plain digest, anyone who knows all ids of a file but one could try candidates for the last one.
    """
    return hmac.digest(file_key(secret, what), sha256.encode("ascii"), "sha256").hex()


#: In the place of a row of ``REQUEST_COLUMNS``, where the input says nothing next to the id.
#: What the input says of the request of a subject of whose request it says nothing.
NOTHING_SAID = RequestRow(0, None, None, None, None)

# Fields are in alphabetical order: the encoder writes them as they stand.


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


class RowProof(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was observed: the last read before the first send, every send, the last read after the last send."""

    read_after: Read | None
    read_before: Read | None
    sends: list[Send]


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A subject, without its id. Outcome, reason, attribution and ``held_before`` are the codes of the vocabulary.

    ``package`` is the SHA-256 of the access package that was handed over, ``redactions`` how often the id of another
    person was taken out of it. ``requested_on``, ``due_on``, ``ticket`` and ``ground`` are what the input says of the
    request; the ticket is only there where the plan says so. ``loyalty`` is what came of each loyalty program that the
    erasure was to reach, such as ``33:erased 34:nothing_held``; rows made before there was any don't have it. Each is
    null where there is nothing to say.

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
    loyalty: str | msgspec.UnsetType | None = msgspec.UNSET
    outcome: str
    package: str | None
    proof: RowProof
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
    proof: RowProof
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


_PROGRAM = re.compile(r"[1-9][0-9]{0,14}")


def shown_loyalty(result: bytes | None) -> str | None:
    """The loyalty of one customer as a row shows it, such as ``33:erased 34:nothing_held``; None for none."""
    facts = decode_loyalty(result)
    programs = sorted(facts.programs, key=int) if facts else ()
    return " ".join(f"{program}:{facts.programs[program].outcome}" for program in programs if facts) or None


def count_loyalty(shown: Iterable[str | None]) -> dict[int, dict[str, int]]:
    """Count customers by program and what came of it, from what rows show of their loyalty.

    Raises:
        ValueError: something in it is not what ``shown_loyalty`` makes.
    """
    counted: dict[int, Counter[str]] = {}
    for text in filter(None, shown):
        for part in text.split(" "):
            program, _, outcome = part.partition(":")
            if not _PROGRAM.fullmatch(program):
                raise ValueError("no number of a program")
            counted.setdefault(int(program), Counter())[Outcome(outcome).value] += 1
    return {program: dict(sorted(counted[program].items())) for program in sorted(counted)}


class KeptOf(NamedTuple):
    """What a row shows of what was kept of the answers about its subject; each is None where there is nothing."""

    package: str | None
    redactions: int | None
    loyalty: str | None


_NOTHING_KEPT: Final = KeptOf(None, None, None)


def kept_of(result: bytes | None) -> KeptOf:
    """What a row shows of ``result``, which the journal keeps of a subject: of a package or of loyalty."""
    if result is None:
        return _NOTHING_KEPT
    package, loyalty = decode_package(result), shown_loyalty(result)
    return KeptOf(package.sha256, package.redactions, loyalty) if package else KeptOf(None, None, loyalty)


def row_of(observed: Observed, secret: bytes, shown: Shown = EXACT) -> Row:
    """The row of a subject, from what ``RunReader.rows`` yields; ``secret`` is the run's K.

    For one subject. ``parquet.table_of`` does the same for thousands at once, and many times as fast.
    """
    subject, state, exchanges, request, result = observed
    kept = kept_of(result)
    request = request or NOTHING_SAID
    at = state.settled_at
    window = None if shown.windows is None else shown.windows[subject.seq]
    settled = maybe_rfc3339(at)
    if window is not None:
        at = window.start if at is not None else None
        exchanges = [_coarse(exchange, window.start) for exchange in exchanges]
    return Row(
        attempts=state.attempts,
        attribution=state.attribution,
        due_on=request.due_on,
        ground=request.ground,
        held_before=state.held_before,
        hold_reason=state.hold_reason,
        in_time=_in_time(state.outcome, settled and settled[:10], request.due_on),
        kept_coupons=state.kept_coupons,
        kept_referrals=state.kept_referrals,
        loyalty=kept.loyalty,
        outcome=state.outcome,
        package=kept.package,
        proof=_proof(exchanges),
        reason=state.reason,
        redactions=kept.redactions,
        requested_on=request.requested_on,
        review_on=state.review_on,
        settled_at=maybe_rfc3339(at),
        subject=pseudonym(secret, subject.seq, subject.id),
        ticket=request.ticket if shown.tickets else None,
        time_span=None if window is None else window.span,
    )


def _coarse(exchange: ExchangeRow, start: int) -> ExchangeRow:
    intent_at, ended_at = (None if at is None else start for at in (exchange.intent_at, exchange.ended_at))
    return exchange._replace(intent_at=intent_at, ended_at=ended_at)


def encode_row(row: Row | RowBefore) -> bytes:
    """The canonical line of a row, with its line end."""
    line = _encoder.encode(row)
    if not line.isascii() or b"\x7f" in line:  # the encoder leaves these characters as they are
        line = json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")).encode()
    return line + b"\n"


_encoder = msgspec.json.Encoder()


_ACT = Purpose.ACT.value


def _proof(exchanges: Sequence[ExchangeRow]) -> RowProof:
    before: Read | None = None
    after: Read | None = None
    sends: list[Send] = []
    for one in exchanges:
        at, status = maybe_rfc3339(one.ended_at), one.status
        if one.purpose == _ACT:
            intent = maybe_rfc3339(one.intent_at)
            shared = one.carrier is not None
            sends.append(Send(answered_at=at, intent_at=intent, reason=one.reason, shared=shared, status=status))
            after = None
        elif at is None:
            continue  # a read of whose end nothing is known has shown nothing
        elif sends:
            after = Read(at=at, status=status)
        else:
            before = Read(at=at, status=status)
    return RowProof(read_after=after, read_before=before, sends=sends)
