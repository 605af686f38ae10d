"""The report as one frozen value: what every renderer shows and ``report.json`` contains."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec

from privacy_toolkit.core.model import Attribution, Control, Outcome, Purpose, Reason, Regime, Verdict

# The parts of a report that depend on people, on days and on seconds.


class SignedBy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key, by its SHA-256 fingerprint, and the name its owner goes by, if one was given."""

    name: str | None
    fingerprint: str


class Signatory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody who had a hand in the run, as far as it was recorded: a name, a key by its fingerprint, a time."""

    name: str | None
    fingerprint: str | None
    at: str | None


class Signatories(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who planned, approved and ran it.

    ``approved`` null: no approval was given. ``ran`` has one entry for each name and key that worked on the run, with
    the beginning of their first execution.
    """

    planned: Signatory
    approved: Signatory | None
    ran: tuple[Signatory, ...]


class DueDay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Open requests of one day. ``days_left`` is below zero once the due date has passed, null where there is none."""

    requested_on: str
    due_on: str | None
    days_left: int | None
    subjects: int


class Clock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The legal clock: open requests against their due dates, on the day (UTC) the report was made.

    ``dated`` is how many subjects, holds left out, came with a date of request. ``oldest`` is the oldest open request,
    ``first_due`` the one with the earliest due date; both are null where no open request has such a date. ``overdue``
    subjects were due before that day, ``due_soon`` are due on it or within seven days. ``settled_in_time`` and
    ``settled_late`` count subjects with a due date that are erased, not held or done, by the day (UTC) they were
    settled.
    """

    regime: Regime
    on: str
    dated: int
    open_dated: int
    open_undated: int
    oldest: DueDay | None
    first_due: DueDay | None
    overdue: int
    due_soon: int
    settled_in_time: int
    settled_late: int


class AgeGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Open subjects by whole days since their request. ``most_days`` null: no end; both null: no date was given."""

    least_days: int | None
    most_days: int | None
    subjects: int


class PacePoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The requests begun in a stretch of time. ``at`` is its beginning, ``seconds`` its length."""

    at: str
    seconds: float
    requests: int
    per_second: float


class ExecutionPace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One execution's pace. ``limit`` is requests a second, null where it was not recorded."""

    number: int
    limit: float | None
    points: tuple[PacePoint, ...]


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast requests were begun, in stretches of ``step`` seconds; ``least``, ``median``, ``most`` are a second.

    ``executions_left_out`` of the earliest executions that made requests are not in it.
    """

    step: int
    least: float
    median: float
    most: float
    executions: tuple[ExecutionPace, ...]
    executions_left_out: int


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a random sample of the accepted erasures says of all of them.

    ``read`` were in the sample, ``showing`` of them still showed data or could not be read, ``not_read`` were not in
    it. With a confidence of 95 per cent at most ``upper_share`` (0 to 1, one-sided Clopper-Pearson) of all accepted
    erasures still showed data: at most ``upper_not_read`` of those that were not read.
    """

    read: int
    showing: int
    not_read: int
    confidence: float
    upper_share: float
    upper_not_read: int


class RejectedReason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refused rows of one reason: how many, and where the first of them stand in the input. All are in rejected.csv."""

    reason: str
    count: int
    rows: tuple[int, ...]


class AcceptedPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who accepted that rows were refused and nobody acts on them, and when; null: no signing key was set."""

    at: str
    name: str | None
    fingerprint: str | None


class RejectedPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The refused rows of the input.

    ``recorded`` is false where a run of an older version counted them only. ``accepted`` is null where the operator
    did not accept exactly their number.
    """

    recorded: bool
    accepted: AcceptedPart | None
    reasons: tuple[RejectedReason, ...]


class ControlLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The controls of one kind: how many held, failed, and had no reliable answer."""

    control: Control
    held: int
    failed: int
    unanswered: int


class ControlsPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The requests that proved the route and not a subject, counted apart.

    ``longest_gap`` is the longest time, in seconds, between two route or positive controls that held, one after the
    other; ``most_absences`` the most answers "no such profile" between two of them. Null: there were no two. ``needed``
    is whether the job settles subjects by such answers.
    """

    needed: bool
    lines: tuple[ControlLine, ...]
    longest_gap: float | None
    most_absences: int | None


# The report of a run, as one frozen value: what every renderer shows and ``report.json`` holds.
#
# There is no id, no pseudonym, no file name and no path in it. Times are RFC 3339 in UTC, days ISO 8601. Its size does
# not depend on the size of the run.

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


class ExecutionPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One process that worked on the run. ``ended_at`` null: its end was not recorded. No secret is in ``settings``.

    ``joined`` is the number of the execution that began what this one joined, where several worked at the same time.
    """

    number: int
    started_at: str
    ended_at: str | None
    ending: str
    settings: dict[str, str]
    joined: int | msgspec.UnsetType = msgspec.UNSET


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

    ``sections`` counts the packages by section and state: complete, not held, not obtainable, incomplete.
    ``redactions`` are the places where the id of one of ``people`` other people was replaced, each counted once a
    package. ``sessions`` counts the sessions that the controller listed: complete (handed over), of_another and
    of_nobody (the API names somebody else, or no customer: not handed over), refused (the API gave none out).
    ``erased_by`` counts those of whom nothing was found and whom an earlier run had erased, by that run.
    """

    packages: int
    redactions: int
    people: int
    sections: dict[str, dict[str, int]]
    sessions: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    erased_by: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class LoyaltyProgram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A loyalty program that an erasure was to reach, by its number: how many customers came to which outcome in it."""

    program: int
    outcomes: dict[Outcome, int]


class RecheckPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a patrol rechecks: the run that erased (null: anyone who is on the list of erased customers), and its pack.

    ``after_days`` is the look of the schedule that this was (null: one that was asked for), ``as_of`` the day as of
    which it was asked for where that was not the day itself. ``sample`` of ``erased`` customers were drawn at random;
    null: all. ``listed``: a list of the controller's said whom to read. ``pack_root`` is the root of the tree over the
    rows of that pack, ``pack_sums`` the SHA-256 of its SHA256SUMS, both in hexadecimal digits.
    """

    run_id: str | None
    after_days: int | None
    as_of: str | None
    erased: int | None
    sample: int | None
    listed: bool
    pack_number: int | None
    pack_root: str | None
    pack_sums: str | None


class NextStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The command to run next, and when."""

    command: str
    when: str


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run, as it stood at ``made_at``. ``duration`` is in microseconds, from first request to last answer.

    ``signed_by``: the key that signs the pack around this report, null where none does. ``loyalty`` is there where
    customers were erased with it, and any program was reached, ``recheck`` in the report of a patrol.
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
    signatories: Signatories
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
    executions: tuple[ExecutionPart, ...]
    plan: PlanPart
    input: InputPart
    exclusions: ExclusionsPart | None
    first_request_at: str | None
    last_answer_at: str | None
    duration: int | None
    loyalty: tuple[LoyaltyProgram, ...] | msgspec.UnsetType = msgspec.UNSET
    recheck: RecheckPart | msgspec.UnsetType = msgspec.UNSET


#: The settings shown, by their key in the journal. What is not here is not shown: it could hold a path or a name.
LABELS: Mapping[str, str] = MappingProxyType(
    {
        "toolkit": "Toolkit version",
        "python": "Python version",
        "generation": "API generation",
        "proxy": "Through the proxy",
        "rate": "Requests per second, at most",
        "concurrency": "Requests in flight, at most",
        "settle_seconds": "Time to settle after an erasure (s)",
        "grace_seconds": "Wait after an update without an answer (s)",
        "timeouts_seconds": "Time limits (s)",
        "verify": "Verification",
        "gone_predicate": "Predicate for gone",
        "learned": "Learned by the control profile",
        "max_failures": "Limit of failures",
        "expect_missing": "Missing profiles expected",
        "until": "Time window ends",
        "input_file": "Input file at the start",
        "state_restored": "State folder said to be restored",
        "packages_removed": "Old packages removed first",
        "approval": "Approval by a second person",
        "api_key": "API key",
        "content_signature": "Signing key of the Application",
    }
)
_SECRETS = {"api_key", "content_signature"}


def shown_settings(settings: str) -> dict[str, str]:
    """The settings of an execution (JSON) by their keys, as text; of a secret only whether it is set, and from where.

    What does not apply to the job is recorded as an empty text, and left out.
    """
    known = recorded_settings(settings)
    return {key: _said(key, known[key]) for key in LABELS if known.get(key, "") != ""}


def recorded_settings(settings: str) -> dict[str, Any]:
    """The settings of an execution as values; what is not JSON is none."""
    try:
        return msgspec.json.decode(settings, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _said(key: str, value: Any) -> str:
    if key in _SECRETS:
        text = str(value)
        return text if text == "not set" or (text.startswith("set (") and text.endswith(")")) else "set"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said('', inner)}" for name, inner in value.items())
    return str(value)


# Times as a report writes them: made from the journal, never from the clock.


def rfc3339(microseconds: int) -> str:
    """A moment (microseconds since the Unix epoch) as RFC 3339 in UTC with six decimals, so that text sorts as time."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}Z"


def maybe_rfc3339(microseconds: int | None) -> str | None:
    """As ``rfc3339``; None stays None."""
    if microseconds is None:
        return None
    seconds, rest = divmod(microseconds, 1_000_000)  # as above, without another call: it is made some million times
    return f"{_second(seconds)}.{rest:06d}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
