"""The report of a run, as one frozen value: what every renderer shows and ``report.json`` holds.

There is no id, no pseudonym, no file name and no path in it. Times are RFC 3339 in UTC, days ISO 8601. Its size does
not depend on the size of the run. What hangs on time and on people is in ``schema_parts``.
"""

from __future__ import annotations

import msgspec

from privacy_toolkit.model import Attribution, Outcome, Purpose, Reason, Verdict
from privacy_toolkit.reporting.schema_parts import (
    AgeGroup,
    Clock,
    ControlsPart,
    Hands,
    Pace,
    RejectedPart,
    Sample,
    SignedBy,
)

__all__ = ["FORMAT", "FORMAT_BEFORE", "Report", "SignedBy"]

FORMAT = "privacy-toolkit/report/3"

#: That of version 0.x: packs of it are still checked. It has no ``rejected``, no ``controls``, and counts what was
#: withdrawn among the requests made.
FORMAT_BEFORE = "privacy-toolkit/report/2"


class Rows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rows of the input: ``read`` = ``rejected`` + ``duplicates`` + ``subjects``."""

    read: int
    rejected: int
    duplicates: int
    subjects: int
    rejected_by_reason: dict[str, int]


class OutcomeCount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many subjects stand in one outcome, what that means, and whether something is still to be done."""

    outcome: Outcome
    count: int
    open: bool
    meaning: str


class DoneReason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many subjects are done for the same reason; null: by a request of this run, which was answered."""

    reason: Reason | None
    attribution: Attribution | None
    count: int


class ErasedSplit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The erased subjects, by why the erasure is put down to this run, and by what was visible before."""

    confirmed: int
    inferred: int
    visible: int
    none_visible: int


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the API keeps of erased subjects, without attributes: entries, and the subjects they belong to."""

    subjects: int
    coupons: int
    referrals: int


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was seen after erasures were sent. ``reads_after`` counts requests, the others subjects.

    ``sample`` is null where there was none, or where what was read is not one random sample: ``sample_note`` says why.
    """

    reads_after: int
    gone: int
    still_present: int
    unverified: int
    sample: Sample | None
    sample_note: str | None


class TrafficCount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often an operation came to the same end.

    ``answered`` is false where neither an answer nor a fault was recorded: the process ended between the intent and
    its outcome. ``reason`` is null where the API answered with the operation's declared success. ``repeats`` of them
    came after another request for the same subject and purpose. With a reason that says that nothing was sent it is no
    request made, but one that was withdrawn. Controls are not among them: see ``ControlsPart``.
    """

    operation: str
    purpose: Purpose
    status: int | None
    reason: Reason | None
    answered: bool
    count: int
    repeats: int


class OperationCalls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operation: requests planned without retries (least, most; null if not planned) and made, and answer times.

    ``look_ups`` of those made settled a lost answer, ``repeats`` of the others came again for the same subject and
    purpose. ``withdrawn`` were prepared and never sent: they are not among those made, and neither are controls.
    ``p50_ms``, ``p95_ms`` and ``p99_ms``: in so many whole milliseconds that share of the answers had come.
    """

    operation: str
    planned_least: int | None
    planned_most: int | None
    made: int
    look_ups: int
    repeats: int
    withdrawn: int
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None


class Repeated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests that change something and were sent more than once: for how many subjects, and how many too many."""

    subjects: int
    requests: int


class HoldReason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many subjects are on hold on one ground, and when the earliest of them is looked at again.

    ``review_past`` is true where that day had passed when the report was made.
    """

    reason: str
    subjects: int
    review_on: str | None
    review_past: bool


class Cause(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Subjects that need attention for the same cause, and what to do about it."""

    outcome: Outcome
    reason: Reason | None
    count: int
    action: str


class SittingPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One process that worked on the run. ``ended_at`` null: its end was not recorded. No secret is in ``settings``."""

    number: int
    started_at: str
    ended_at: str | None
    ending: str
    settings: dict[str, str]


class PlanPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The plan that was carried out, by its digest."""

    digest: str
    created_at: str
    toolkit: str
    generation: str
    verify: str


class InputPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The input, by what it is: ``size`` in bytes, ``limit`` if only so many subjects were taken of it.

    ``keyed_sha256`` is HMAC-SHA256(key, hexadecimal SHA-256 of the file), so that nobody can try inputs against it; the
    operator opens it with ``privacy-toolkit receipt PACK --input FILE``.
    """

    keyed_sha256: str
    size: int
    format: str
    encoding: str
    limit: int | None
    strip: bool


class ExclusionsPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The exclusion list, by what it is; ``keyed_sha256`` as that of the input, under a key of its own."""

    keyed_sha256: str
    entries: int
    matched: int


class AccessPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The access packages of an export, added up.

    ``sections`` counts the packages by section and state: complete, not held, not obtainable. ``redactions`` are the
    places where the id of one of ``people`` other people was replaced, each counted once a package.
    """

    packages: int
    redactions: int
    people: int
    sections: dict[str, dict[str, int]]


class NextStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The command to run next, and when."""

    command: str
    when: str


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run, as it stood at ``made_at``. ``duration`` is in microseconds, from first request to last answer.

    ``signed_by``: the key that signs the pack around this report, null where none does.
    """

    format: str = FORMAT
    signed_by: SignedBy | None
    run_id: str
    job: str
    target: str
    environment: str
    made_at: str
    verdict: Verdict
    sentence: str
    next: NextStep | None
    hands: Hands
    clock: Clock
    ages: tuple[AgeGroup, ...]
    rows: Rows
    rejected: RejectedPart
    open: int
    outcomes: tuple[OutcomeCount, ...]
    done: tuple[DoneReason, ...]
    erased: ErasedSplit
    kept: Kept
    proof: Proof
    controls: ControlsPart
    access: AccessPart | None
    gone_predicate: str
    traffic: tuple[TrafficCount, ...]
    calls: tuple[OperationCalls, ...]
    repeated: Repeated
    pace: Pace | None
    holds: tuple[HoldReason, ...]
    holds_not_listed: int
    causes: tuple[Cause, ...]
    sittings: tuple[SittingPart, ...]
    plan: PlanPart
    input: InputPart
    exclusions: ExclusionsPart | None
    first_request_at: str | None
    last_answer_at: str | None
    duration: int | None
