"""What the journal holds, as typed values: what a run is made of, and what was observed.

Every store of runs (see ``store``) speaks in these, so nobody else ever sees how it keeps them. All times are
microseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec

from privacy_toolkit.core.model import (
    Attribution,
    Control,
    HeldBefore,
    Hold,
    Learned,
    Outcome,
    Purpose,
    Reason,
    StopReason,
    Subject,
    UsageError,
)

if TYPE_CHECKING:
    from hashlib import _Hash


class ExchangeRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One request made for a subject.

    ``intent_at`` is set for requests that change something: the moment their intent became part of the journal, before
    the first byte was sent. ``ended_at`` is None as long as no answer (or fault) was recorded: in flight, or a crash.
    ``elapsed`` is microseconds. ``reason`` is None where the API answered with the operation's declared success.
    ``carrier`` is set where one request is about several subjects: it is counted once, with the subject of that number.
    """

    purpose: Purpose
    operation: str
    intent_at: int | None = None
    ended_at: int | None = None
    elapsed: int | None = None
    status: int | None = None
    reason: Reason | None = None
    carrier: int | None = None


class ControlRecord(msgspec.Struct, frozen=True, gc=False):
    """One control asked, or, with ``control`` None, the longest gap so far between two that held.

    ``elapsed`` is microseconds: what the question took, or how long the gap was. ``status`` is that of the answer, or
    the most absences in a gap. ``held`` is None where nothing came that says anything.
    """

    control: Control | None
    operation: str
    ended_at: int
    elapsed: int
    status: int | None = None
    reason: Reason | None = None
    held: bool | None = None


class SubjectState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Where a subject stands, by what was observed so far.

    ``attempts`` counts requests that change something and were sent or may have been. ``first_count`` and
    ``second_count`` are two numbers of the job's own: what they count, its declaration says (``Observation``); None
    where nothing was counted. ``hold_reason`` and ``review_on`` belong to ``on_hold``.
    """

    outcome: Outcome
    reason: Reason | None = None
    attribution: Attribution | None = None
    held_before: HeldBefore | None = None
    attempts: int = 0
    first_count: int | None = None
    second_count: int | None = None
    hold_reason: str | None = None
    review_on: str | None = None
    settled_at: int | None = None


PENDING = SubjectState(Outcome.PENDING)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A subject with its state and everything that was exchanged for it. ``subject.id`` is "" after a purge.

    ``result`` is what was kept of an answer, where the subject is handed out on its own.
    """

    subject: Subject
    state: SubjectState
    exchanges: tuple[ExchangeRecord, ...] = ()
    result: bytes | None = None


Numbered = Sequence[tuple[int, ExchangeRecord]]


class Note(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is written of one subject: its exchanges by number, where it stands, and what the API answered with.

    ``result`` is what has to be kept of an answer until it is handed over, such as a list of holders.
    """

    seq: int
    exchanges: Numbered = ()
    state: SubjectState | None = None
    result: bytes | None = None


class OpenRequests(msgspec.Struct, frozen=True):
    """How many open subjects were requested on one day and are due on one day; both are ISO 8601 dates."""

    requested_on: str
    due_on: str | None
    subjects: int


class StopAsked(msgspec.Struct, frozen=True):
    """That a stop was asked for: ``at`` microseconds since the epoch, ``by`` whom (user@machine), ``why`` if said."""

    at: int
    by: str
    why: str = ""


class AtWork(msgspec.Struct, frozen=True):
    """An execution that is under way; ``host`` is "" where that can only be this machine.

    ``share``: requests a second, None if nobody shares with it. ``silent``: seconds since its last sign of life.
    """

    number: int
    host: str = ""
    share: float | None = None
    silent: float | None = None


class TuneAsked(msgspec.Struct, frozen=True):
    """Another pace for a run at work: requests a second, subjects in flight; None: as its settings say."""

    at: int
    by: str
    rate: float | None = None
    concurrency: int | None = None
    paused: bool = False


class Acceptance(msgspec.Struct, frozen=True):
    """That the operator accepted so many refused ``rows``: ``at`` is microseconds, the key is the one that was set."""

    at: int
    rows: int
    signer: str | None = None
    signing_key: str | None = None


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """The approval of a plan by a second person: what was signed, the signature (armored SSHSIG), and by whom.

    ``approver`` is the name under which the allowed signers list the key, ``fingerprint`` the key's SHA-256.
    """

    statement: str
    signature: str
    approver: str
    fingerprint: str


class Traffic(msgspec.Struct, frozen=True):
    """How often an operation came to the same end. ``reason`` None: the declared success.

    ``unrecorded``: sent or about to be, with no answer recorded.
    """

    operation: str
    purpose: Purpose
    status: int | None
    reason: Reason | None
    unrecorded: bool
    count: int


class Execution(msgspec.Struct, frozen=True):
    """One process that worked on the run, from start to stop. ``ended_at`` None: under way, or it crashed.

    ``joined`` is the number of the execution that began what this one joined; None: it began by itself.
    """

    number: int
    started_at: int
    ended_at: int | None = None
    stopped_by: StopReason | None = None
    settings: str = "{}"
    joined: int | None = None


# The same as flat rows of plain values, for readers of millions: an enumeration or an object for each value would cost
# a pack a third of its speed. They are named tuples, and ``columns_of`` turns many of them into named columns.


class StateRow(NamedTuple):
    """Where subject ``seq`` stands: the fields of ``SubjectState``, codes as texts."""

    seq: int
    outcome: str
    reason: str | None
    attribution: str | None
    held_before: str | None
    attempts: int
    first_count: int | None
    second_count: int | None
    hold_reason: str | None
    review_on: str | None
    settled_at: int | None


class ExchangeRow(NamedTuple):
    """The ``n``-th exchange of subject ``seq``: the fields of ``ExchangeRecord``, codes as texts."""

    seq: int
    n: int
    purpose: str
    operation: str
    intent_at: int | None
    ended_at: int | None
    elapsed: int | None
    status: int | None
    reason: str | None
    carrier: int | None


class RequestRow(NamedTuple):
    """What the input says of the request of subject ``seq``; the days are ISO 8601 dates."""

    seq: int
    requested_on: str | None
    due_on: str | None
    ticket: str | None
    ground: str | None


class SubjectRow(NamedTuple):
    """All that a page says of subject ``seq`` but its id: ``exchanges`` in their order; what is not known is None."""

    seq: int
    state: StateRow | None
    exchanges: list[ExchangeRow]
    request: RequestRow | None


R = TypeVar("R", StateRow, ExchangeRow, RequestRow)
_new = tuple.__new__  # what a named tuple's own constructor comes to, in a third of the time


def columns_of(kind: type[R], rows: Sequence[R]) -> Any:
    """Turn rows into columns: a ``kind`` whose every field is a tuple of the values of all rows, in their order."""
    return kind._make(zip(*rows, strict=True)) if rows else kind._make([()] * len(kind._fields))


def state_row(seq: int, state: SubjectState) -> StateRow:
    """Flatten the state of subject ``seq``."""
    return _new(
        StateRow,
        (
            seq,
            state.outcome.value,
            state.reason and state.reason.value,
            state.attribution and state.attribution.value,
            state.held_before and state.held_before.value,
            state.attempts,
            state.first_count,
            state.second_count,
            state.hold_reason,
            state.review_on,
            state.settled_at,
        ),
    )


def exchange_row(seq: int, n: int, record: ExchangeRecord) -> ExchangeRow:
    """Flatten the ``n``-th exchange of subject ``seq``."""
    return _new(
        ExchangeRow,
        (
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
        ),
    )


class Observed(NamedTuple):
    """A subject with all that the journal has of it.

    ``request`` is None where the input says nothing next to the id, ``result`` where nothing was kept of an answer.
    """

    subject: Subject
    state: StateRow
    exchanges: Sequence[ExchangeRow]
    request: RequestRow | None
    result: bytes | None = None


class KeptResult(NamedTuple):
    """What was kept of the answer about a subject until it is handed over."""

    subject: Subject
    state: SubjectState
    result: bytes


class RejectedRow(NamedTuple):
    """A refused row of the input, by its number, and why."""

    row: int
    reason: str


# What a run is made of.

#: Row and id of up to 1,000 subjects, and what else a row gives where the job takes more than the id.
Page = list[tuple[int, str]] | list[tuple[int, str, str]]


class Staged(msgspec.Struct, frozen=True):
    """What a run is made of.

    ``pages`` are row and id of its subjects, and what else a row gives where the job takes more than the id; ``holds``
    those on hold, by their numbers; ``requests`` a row for each of whose request the input says something. ``party``
    names, where one request is about several subjects, those that belong together. ``rejected`` are row and reason of
    what was refused, in order. Under ``plan_key`` the plan names its files; ``order`` signs the run (see ``orders``).
    """

    plan: bytes
    created_at: int
    pages: Iterable[Page]
    holds: Mapping[int, Hold] = msgspec.field(default_factory=dict)
    requests: Iterable[RequestRow] = ()
    party: Callable[[str, str], str] | None = None
    approval: Approval | None = None
    plan_key: bytes | None = None
    rejected: Iterable[tuple[int, str]] = ()
    order: Callable[[Any], bytes] | None = None


class ControlProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The control profile of a deployment.

    ``deployment`` is the key of ``Settings.deployment_key``, ``begun_at`` when its making began last (UTC, ISO 8601).
    ``learned`` is None while it is being made: the profile may be there or not.
    """

    format: int = 1
    deployment: str
    profile_id: str
    begun_at: str
    learned: Learned | None = None


# An access package that was handed over: nothing of what is in it.


class PackageFacts(msgspec.Struct, frozen=True, kw_only=True, tag="package", omit_defaults=True, gc=False):
    """One package: its name in the folder and its SHA-256, what it holds by section, and what was taken out.

    ``sections`` are ``complete``, ``not_held``, ``not_obtainable`` or ``incomplete``. ``redactions`` counts the places
    where the id of one of ``people`` other people was replaced. ``sessions`` is how each listed session was read, in
    the order in which the subject was given them (see ``SessionRead``). ``erased_by`` is the run of this state that had
    erased the data before nothing was found, ``erased_on`` its day, as ISO 8601.
    """

    name: str
    sha256: str
    sections: dict[str, str]
    redactions: int
    people: int
    sessions: tuple[str, ...] = ()
    erased_by: str | None = None
    erased_on: str | None = None


#: How that begins of which a pack says on purpose all that there is: it holds no name.
_SHOWN = b'{"type":"loyalty"'

KeptFacts = TypeVar("KeptFacts", bound=msgspec.Struct)


def decoder_of(kind: type[KeptFacts]) -> Callable[[bytes | None], KeptFacts | None]:
    """Make what decodes the one kind of what is kept of answers, by its tag; None: it is another kind, or nothing."""
    mark, decode = b'{"type":"%b"' % str(kind.__struct_config__.tag).encode(), msgspec.json.Decoder(kind).decode
    return lambda result: decode(result) if result is not None and result.startswith(mark) else None


#: The package behind what was kept of an answer.
decode_package = decoder_of(PackageFacts)


def encode_package(facts: PackageFacts) -> bytes:
    """The bytes that the journal keeps."""
    return msgspec.json.encode(facts)


def pieces_of_result(data: bytes) -> Iterator[bytes]:
    """Pieces, 16 bytes each, of what was kept of an answer and may be in no file after a purge.

    A pack says on purpose what a package is by its hash, and what came of loyalty: only whose it was has to go.
    """
    package = decode_package(data)
    if package is not None:
        data = package.name.encode()
    elif data.startswith(_SHOWN):
        return
    yield from (data[k : k + 16] for k in range(0, len(data) - 15, 16))


# What one machine hands to another of whom it erased: lists of digests, and in another file their keys.

LISTS_FORMAT: Final = "privacy-toolkit/suppression/1"
#: Bytes of a digest in a list.
DIGEST: Final = 16
_NAME: Final = re.compile(r"[0-9a-f]{32}")


class ListPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One list of an export: the name of its key, and its digests in base64, one after the other."""

    name: str
    digests: str


class SuppressionExport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one machine hands to another: digests alone. The keys go in a file of their own, ``ExportKeys``."""

    lists: list[ListPart]
    format: str = LISTS_FORMAT


class ExportKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of the lists of an export, by name, in hexadecimal digits."""

    keys: dict[str, str]
    format: str = f"{LISTS_FORMAT}/keys"


def list_digest(key: bytes, scope: str, customer: str) -> bytes:
    """Name a customer in a scope as a list with this key does: HMAC-SHA256, its first 16 bytes."""
    return keyed(key, f"{scope}\0{customer}".encode())[:DIGEST]


# HMAC-SHA256 (RFC 2104) is put together from ``hashlib`` here: it is made of every subject again and again, and the
# library's one-call form sets OpenSSL up again each time, which takes longer than the digest.

_BLOCK: Final = 64  # bytes, the block of SHA-256
#: What a key is changed by, byte for byte, for the inner digest and for the outer one.
INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


def keyed(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 of a message under a key that is used for very many of them."""
    begun = hmac_begun(key)
    inner, outer = begun[0].copy(), begun[1].copy()
    inner.update(message)
    outer.update(inner.digest())
    return outer.digest()


@lru_cache(maxsize=4)
def hmac_begun(key: bytes) -> tuple[_Hash, _Hash]:
    """Begin an HMAC-SHA256: inner and outer digest with the key taken in. They are to be copied, and never changed."""
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    return hashlib.sha256(block.translate(INNER)), hashlib.sha256(block.translate(OUTER))


def list_name(key: bytes) -> str:
    """Name the key of a list so that it tells nothing of the key."""
    return hmac.digest(key, b"name of the list", hashlib.sha256)[:16].hex()


def encode_lists(lists: Iterable[tuple[str, bytes, Sequence[bytes]]]) -> tuple[bytes, bytes, int]:
    """Write name, key and digests of some lists as two files: the lists, the keys; and how many entries there are."""
    known = list(lists)
    parts = [ListPart(name, b64encode(b"".join(digests)).decode()) for name, _, digests in known]
    keys = ExportKeys({name: key.hex() for name, key, _ in known})
    return _json(SuppressionExport(parts)), _json(keys), sum(len(digests) for *_, digests in known)


def decode_lists(export: bytes, keys: bytes) -> Iterator[tuple[str, bytes, list[bytes]]]:
    """Read what ``encode_lists`` wrote: name, key and digests of each list.

    Raises:
        UsageError: it is no export, or the keys are not its keys.
    """
    try:
        lists = msgspec.json.decode(export, type=SuppressionExport)
        named = msgspec.json.decode(keys, type=ExportKeys)
        parts = [
            (part.name, bytes.fromhex(named.keys[part.name]), b64decode(part.digests, validate=True))
            for part in lists.lists
        ]
    except (msgspec.MsgspecError, KeyError, Base64Error, ValueError, RecursionError):
        parts = []
    whole = parts and all(
        _NAME.fullmatch(name) and len(key) == 2 * DIGEST and name == list_name(key) and not len(data) % DIGEST
        for name, key, data in parts
    )
    if not whole or lists.format != LISTS_FORMAT:
        raise UsageError(
            "This is no export of a list of erased customers, or the keys are not its keys.",
            "Make both with: privacy-toolkit suppression export FILE --key-file FILE",
        )
    for name, key, data in parts:
        yield name, key, [data[k : k + DIGEST] for k in range(0, len(data), DIGEST)]


def _json(value: SuppressionExport | ExportKeys) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


# When people were sent the answers to their requests, as somebody recorded it.


class SentAnswer(msgspec.Struct, frozen=True, array_like=True):
    """An answer: the day it was sent (ISO 8601), the outcome that it told, and the year of the request."""

    on: str
    outcome: str
    year: int


class RunAnswers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The recorded answers of a run: ``sent`` by pseudonym, and of a purged run how many, by year and outcome."""

    format: str = "privacy-toolkit/answers/1"
    sent: dict[str, SentAnswer] = {}
    left: dict[str, dict[str, int]] = {}


def counted(answers: RunAnswers) -> RunAnswers:
    """What a purge leaves of the answers of a run: numbers alone."""
    left = {year: Counter(numbers) for year, numbers in answers.left.items()}
    for sent in answers.sent.values():
        left.setdefault(str(sent.year), Counter())[sent.outcome] += 1
    return RunAnswers(left={year: dict(sorted(numbers.items())) for year, numbers in sorted(left.items())})


# The names of runs.

#: How many characters of a run's id say the second in which it was created.
RUN_SECOND: Final = len("20260101-000000")


def newest_first(run_ids: Iterable[str]) -> list[str]:
    """Put ids in order: they begin with the second of creation, and what follows the job goes on from there."""
    return sorted(run_ids, key=lambda run_id: (run_id[:RUN_SECOND], run_id.rpartition("-")[2]), reverse=True)


def meant_by(name: Any, run_ids: Sequence[str]) -> str:
    """Give the id meant by ``name``: an id, an unambiguous beginning of one, or ``latest``, the first of all.

    Raises:
        UsageError: there is none, or more than one.
    """
    if not isinstance(name, str):
        raise UsageError("Which run? Its id is a text.", "privacy-toolkit runs list shows them all.")
    if name == "latest" and run_ids:
        return run_ids[0]
    begin_so = [run_id for run_id in run_ids if name and run_id.startswith(name)]
    matches = [run_id for run_id in begin_so if run_id == name] or begin_so
    if len(matches) == 1:
        return matches[0]
    what = "more than one run begins so" if matches else "there is no such run in this state"
    raise UsageError(f"Which run? For {name!r} {what}.", "privacy-toolkit runs list shows them all.")
