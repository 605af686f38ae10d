"""The report of a run, as one frozen value: what every renderer shows and ``report.json`` holds.

There is no id, no pseudonym, no file name and no path in it. Times are RFC 3339 in UTC. Its size does not depend on the
size of the run.
"""

from __future__ import annotations

import msgspec

from privacy_toolkit.model import Outcome, Purpose, Reason, Verdict

FORMAT = "privacy-toolkit/report/1"
NOT_SIGNED = "This pack is not signed."


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
    """What was seen after erasures were sent. ``reads_after`` counts requests, the others subjects."""

    reads_after: int
    gone: int
    still_present: int
    unverified: int


class TrafficCount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often an operation came to the same end.

    ``answered`` is false where neither an answer nor a fault was recorded: the process ended between the intent and
    its outcome. ``reason`` is null where the API answered with the operation's declared success.
    """

    operation: str
    purpose: Purpose
    status: int | None
    reason: Reason | None
    answered: bool
    count: int


class OperationCalls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operation: requests planned without retries (least, most; null if not planned) and made, and answer times.

    ``p50_ms``, ``p95_ms`` and ``p99_ms``: in so many whole milliseconds that share of the answers had come.
    """

    operation: str
    planned_least: int | None
    planned_most: int | None
    made: int
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None


class Repeated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests that change something and were sent more than once: for how many subjects, and how many too many."""

    subjects: int
    requests: int


class HoldReason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many subjects are on hold on one ground, and when the earliest of them is looked at again."""

    reason: str
    subjects: int
    review_on: str | None


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
    """The input, by what it is: ``size`` in bytes, ``limit`` if only so many subjects were taken of it."""

    sha256: str
    size: int
    format: str
    encoding: str
    limit: int | None
    strip: bool


class ExclusionsPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The exclusion list, by what it is."""

    sha256: str
    entries: int
    matched: int


class NextStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The command to run next, and when."""

    command: str
    when: str


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run, as it stood at ``made_at``. ``duration`` is in microseconds, from first request to last answer."""

    format: str = FORMAT
    signed: bool = False
    signature_note: str = NOT_SIGNED
    run_id: str
    job: str
    target: str
    environment: str
    made_at: str
    verdict: Verdict
    sentence: str
    next: NextStep | None
    rows: Rows
    open: int
    outcomes: tuple[OutcomeCount, ...]
    erased: ErasedSplit
    kept: Kept
    proof: Proof
    gone_predicate: str
    traffic: tuple[TrafficCount, ...]
    calls: tuple[OperationCalls, ...]
    repeated: Repeated
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
