"""What the journal keeps of an access package that was handed over: nothing of what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from privacy_toolkit.core.model import Attribution, Control, HeldBefore, Outcome, Purpose, Reason, StopReason, Subject

# What the journal holds, as values. All times are microseconds since the Unix epoch, UTC.


class ExchangeRecord(msgspec.Struct, frozen=True, gc=False):
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


class SubjectState(msgspec.Struct, frozen=True, gc=False):
    """Where a subject stands, by what was observed so far.

    ``attempts`` counts requests that change something and were sent or may have been. ``kept_*`` count what the API
    keeps without attributes after an erasure. ``hold_reason`` and ``review_on`` belong to ``on_hold``.
    """

    outcome: Outcome
    reason: Reason | None = None
    attribution: Attribution | None = None
    held_before: HeldBefore | None = None
    attempts: int = 0
    kept_coupons: int | None = None
    kept_referrals: int | None = None
    hold_reason: str | None = None
    review_on: str | None = None
    settled_at: int | None = None


PENDING = SubjectState(Outcome.PENDING)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A subject with its state and everything that was exchanged for it. ``subject.id`` is "" after a purge."""

    subject: Subject
    state: SubjectState
    exchanges: tuple[ExchangeRecord, ...] = ()


Numbered = Sequence[tuple[int, ExchangeRecord]]


class Note(msgspec.Struct, frozen=True, gc=False):
    """What is written of one subject: its exchanges by number, where it stands, and what the API answered with.

    ``result`` is what has to be kept of an answer until it is handed over, such as a list of holders.
    """

    seq: int
    exchanges: Numbered = ()
    state: SubjectState | None = None
    result: bytes | None = None


@dataclass(frozen=True, slots=True)
class OpenRequests:
    """How many open subjects were requested on one day and are due on one day; both are ISO 8601 dates."""

    requested_on: str
    due_on: str | None
    subjects: int


@dataclass(frozen=True, slots=True)
class Acceptance:
    """That the operator accepted so many refused ``rows``: ``at`` is microseconds, the key is whoever's was set."""

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


@dataclass(frozen=True, slots=True)
class Traffic:
    """How often an operation came to the same end. ``reason`` None: the declared success.

    ``unrecorded``: sent or about to be, with no answer recorded.
    """

    operation: str
    purpose: Purpose
    status: int | None
    reason: Reason | None
    unrecorded: bool
    count: int


@dataclass(frozen=True, slots=True)
class Execution:
    """One process that worked on the run, from start to stop. ``ended_at`` None: under way, or it crashed."""

    number: int
    started_at: int
    ended_at: int | None = None
    stopped_by: StopReason | None = None
    settings: str = "{}"


class PackageFacts(msgspec.Struct, frozen=True, kw_only=True, tag="package", gc=False):
    """One package: its name in the folder and its SHA-256, what it holds by section, and what was taken out.

    ``sections`` are ``complete``, ``not_held`` or ``not_obtainable``. ``redactions`` counts the places where the id of
    one of ``people`` other people was replaced.
    """

    name: str
    sha256: str
    sections: dict[str, str]
    redactions: int
    people: int


@dataclass(frozen=True, slots=True)
class PackageCounts:
    """All packages of a run, added up; ``sections`` counts the packages by section and state."""

    packages: int = 0
    redactions: int = 0
    people: int = 0
    sections: dict[str, dict[str, int]] = field(default_factory=dict)


_MARK = b'{"type":"package"'
_decode = msgspec.json.Decoder(PackageFacts).decode


def encode_package(facts: PackageFacts) -> bytes:
    """The bytes that the journal keeps."""
    return msgspec.json.encode(facts)


def decode_package(result: bytes | None) -> PackageFacts | None:
    """The package behind what was kept of an answer; None where something else was kept, or nothing."""
    return _decode(result) if result is not None and result.startswith(_MARK) else None


def count_packages(results: Iterable[bytes]) -> PackageCounts | None:
    """The packages among what was kept, added up; None if there are none."""
    packages = redactions = people = 0
    sections: dict[str, Counter[str]] = {}
    for result in results:
        facts = decode_package(result)
        if facts is None:
            continue
        packages += 1
        redactions += facts.redactions
        people += facts.people
        for name, state in facts.sections.items():
            sections.setdefault(name, Counter())[state] += 1
    if not packages:
        return None
    return PackageCounts(packages, redactions, people, {name: dict(sections[name]) for name in sorted(sections)})
