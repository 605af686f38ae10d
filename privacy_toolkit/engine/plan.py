"""A run as a whole: the plan, fixed before anything is confirmed, and what came of it by its journal.

A plan is a value. It holds no id: it names its input by a digest under its own key, so it can be mailed, filed and
signed, and anyone who has it can't try out who is on the list. Anyone who applies it reads the input again, and does
nothing if that is not what was planned. Each field has a strict type: what a plan says is shown to people who then sign
it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from privacy_toolkit.core.model import (
    NOT_LET_IN,
    OPEN_OUTCOMES,
    ExitCode,
    Outcome,
    Reason,
    RefusedError,
    StopReason,
    ToolkitError,
    UsageError,
    Verdict,
)
from privacy_toolkit.engine.limits import STOPS_ALL
from privacy_toolkit.journal.records import Acceptance, Execution
from privacy_toolkit.journal.store import RunReader, damaged

_FORMATS = "privacy-toolkit/plan/"
#: Its digests are under a key, and it names the state folder that it was made for.
FORMAT = f"{_FORMATS}2"
#: Its digests are plain ones.
FIRST_FORMAT = f"{_FORMATS}1"
#: Those that can be read.
PLAN_FORMATS = frozenset({FORMAT, FIRST_FORMAT})

#: The key under which a plan names its inputs, in bytes.
KEY_LENGTH = 32

#: Parameters that say what is in the input; a pack says nothing of that.
_OF_THE_INPUT = frozenset({"carry"})

_NO_CONTROL = "^[^\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff]*$(?!\\n)"
Text = Annotated[str, Meta(max_length=500, pattern=_NO_CONTROL)]
Word = Annotated[str, Meta(pattern="^[0-9A-Za-z_.+-]{1,60}$(?!\\n)")]
Path = Annotated[str, Meta(max_length=8_192)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{0,64}$(?!\\n)")]
Moment = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$(?!\\n)")]
Title = Annotated[str, Meta(max_length=500)]
Day = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$(?!\\n)")]
Fingerprint = Annotated[str, Meta(pattern="^SHA256:[0-9A-Za-z+/]{43}$(?!\\n)")]
Verification = Annotated[str, Meta(pattern="^(all|none|sample:[0-9]{1,12})$(?!\\n)")]
Environment = Annotated[str, Meta(pattern="^(live|sandbox)$(?!\\n)")]
Count = Annotated[int, Meta(ge=0, le=10**12)]


class PlannedInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The input, by what it is and not by its name. ``path`` is where ``apply`` looks for it again.

    ``keyed_sha256`` is HMAC-SHA256 under a key of the plan's own (see ``keyed_digest``) of the file's SHA-256 in
    hexadecimal digits; plans of the first format have that itself, ``sha256``. ``columns`` are the names that columns
    have in the file, by the names that they have here, ``sheet`` the one of a workbook that is read. What is as it
    always was is left unset, so that a plan says it as earlier versions did.
    """

    path: Path
    sha256: Digest = ""
    keyed_sha256: Digest = ""
    size: Count
    format: Word
    id_column: Annotated[str, Meta(max_length=8_192)]
    encoding: Word = "utf-8"
    delimiter: Annotated[str, Meta(max_length=4)] | None = None
    strip: bool = False
    limit: Count | None = None
    sheet: Title | UnsetType = UNSET
    date_format: Annotated[str, Meta(max_length=40, pattern=_NO_CONTROL)] | UnsetType = UNSET
    columns: dict[Word, Annotated[str, Meta(max_length=8_192)]] | UnsetType = UNSET

    def keyed(self, key: bytes, what: str) -> PlannedInput:
        """The same, its digest under a key."""
        replace = msgspec.structs.replace
        return replace(self, sha256="", keyed_sha256=keyed_digest(key, what, self.sha256)) if self.sha256 else self

    def is_of(self, sha256: str, key: bytes | None, what: str) -> bool:
        """Whether a file with this SHA-256 is meant; ``key`` is that of the plan, which those of old have not."""
        if self.sha256:
            return hmac.compare_digest(self.sha256, sha256)
        return key is not None and hmac.compare_digest(self.keyed_sha256, keyed_digest(key, what, sha256))


class PlannedRows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sums of the input: ``read`` = ``rejected`` + ``duplicates`` + ``subjects``; ``held`` of the subjects.

    ``held_by_us`` says how many of these are not on the exclusion list, by the ground the toolkit itself has.
    """

    read: Count
    rejected: Count
    duplicates: Count
    subjects: Count
    held: Count = 0
    held_by_us: dict[Word, Count] = {}
    rejected_by_reason: dict[Word, Count] = {}

    @property
    def adds_up(self) -> bool:
        """Whether every row is accounted for."""
        return (
            self.read == self.rejected + self.duplicates + self.subjects
            and self.rejected == sum(self.rejected_by_reason.values())
            and 0 <= self.held <= self.subjects
        )


class PlannedExclusions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The exclusion list: how many entries, and how many of them are subjects of this plan."""

    path: Path
    sha256: Digest = ""
    keyed_sha256: Digest = ""
    entries: Count
    matched: Count
    sheet: Title | UnsetType = UNSET

    def keyed(self, key: bytes) -> PlannedExclusions:
        """The same, its digest under a key; see ``PlannedInput``."""
        replace = msgspec.structs.replace
        made = keyed_digest(key, "exclusions", self.sha256)
        return replace(self, sha256="", keyed_sha256=made) if self.sha256 else self


class PlannedLists(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the lists next to the input are read, where the operator said so."""

    encoding: Word | None = None
    delimiter: Annotated[str, Meta(max_length=4)] | None = None
    sheet: Title | None = None


class PlannedClock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The legal clock of the subjects that are not on hold and whose request has a date, as ISO 8601 dates.

    ``dated`` is their number, ``overdue`` how many were due before the day of the plan. ``earliest_due_on`` is null
    where no law sets a date (regime ``none``).
    """

    dated: Count
    oldest_requested_on: Day
    earliest_due_on: Day | None
    overdue: Count


class Planner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who made a plan, by the signing key that was set then: ``name`` is a principal, ``fingerprint`` the key's."""

    name: Text | None
    fingerprint: Fingerprint


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What would be done, to whom (by hash), where, and with which requests.

    ``target`` is host and application label; ``base_url`` is where requests go. ``environment`` is ``live`` or
    ``sandbox`` by the profile's word. ``calls`` maps an operation to the least and the most requests expected, without
    retries. ``verify`` is ``all``, ``sample:N`` or ``none``. ``created_at`` is an RFC 3339 time in UTC. ``regime`` is
    the law whose due dates hold. ``parameters`` are what the operator sets for this job alone, such as the version of
    the API; ``second`` is the job's second input, if it takes one, and ``out`` the file it hands over. ``observed`` is
    how things stood at the API when the plan was made: they may have moved since. ``nonce`` is random: without it the
    digest would tell who can guess the input that the guess is right. ``tickets``: whether the pack shows the tickets
    of the input. ``state`` is the identity of the state folder that the plan was made with. ``identified`` is the list
    that says whose the keys of the input are, ``sessions`` the one of customers and their sessions, ``lists`` how these
    and the other lists are read.
    """

    format: str = FORMAT
    toolkit: Word
    job: Word
    target: Text
    base_url: Text
    environment: Environment
    generation: Word
    created_at: Moment
    input: PlannedInput
    rows: PlannedRows
    exclusions: PlannedExclusions | None = None
    regime: Word = "none"
    clock: PlannedClock | None = None
    planned_by: Planner | None = None
    nonce: Digest = ""
    verify: Verification = "all"
    tickets: bool = False
    state: Digest = ""
    parameters: dict[Word, Text | int | bool | None] = {}
    second: PlannedInput | None = None
    identified: PlannedInput | UnsetType = UNSET
    sessions: PlannedInput | UnsetType = UNSET
    lists: PlannedLists | UnsetType = UNSET
    out: Path | None = None
    observed: dict[Word, int] = {}
    calls: dict[Word, tuple[Count, Count]] = {}
    digest: Digest = ""

    def sealed(self) -> Plan:
        """The plan with its own digest: SHA-256 over its canonical JSON, in which the digest is empty."""
        return msgspec.structs.replace(self, digest=_digest(self))

    def keyed(self, key: bytes) -> Plan:
        """The plan with the digests of its files under a key, 32 bytes; those of the first format stay plain."""
        if self.format == FIRST_FORMAT:
            return self
        return msgspec.structs.replace(
            self,
            input=self.input.keyed(key, "input"),
            second=self.second and self.second.keyed(key, "second"),
            identified=self.identified and self.identified.keyed(key, "identified"),
            sessions=self.sessions and self.sessions.keyed(key, "sessions"),
            exclusions=self.exclusions and self.exclusions.keyed(key),
        )

    def without_input(self) -> Plan:
        """What stays of the plan when its run is purged: nothing that could tell who was in its input.

        The digest stays the one of the whole plan.
        """
        replace, bare = msgspec.structs.replace, {"path": "", "sha256": "", "keyed_sha256": ""}
        return replace(
            self,
            nonce="",
            input=replace(self.input, **bare),
            second=self.second and replace(self.second, **bare),
            identified=self.identified and replace(self.identified, **bare),
            sessions=self.sessions and replace(self.sessions, **bare),
            exclusions=self.exclusions and replace(self.exclusions, path="", sha256="", keyed_sha256=""),
            out=self.out and "",
        )

    def for_pack(self) -> Plan:
        """What a pack says of the plan: no path, no address, and nothing by which an input could be tried out.

        The digest stays the one of the whole plan.
        """
        replace, bare = msgspec.structs.replace, {"path": "", "sha256": ""}
        named: dict[str, Any] = {**bare, "id_column": "", "columns": UNSET, "sheet": UNSET}
        return replace(
            self,
            base_url="",
            nonce="",
            input=replace(self.input, **named),
            second=self.second and replace(self.second, **named),
            identified=self.identified and replace(self.identified, **named),
            sessions=self.sessions and replace(self.sessions, **named),
            lists=self.lists and replace(self.lists, sheet=None),
            exclusions=self.exclusions and replace(self.exclusions, **bare, sheet=UNSET),
            out=self.out and "",
            parameters={name: value for name, value in self.parameters.items() if name not in _OF_THE_INPUT},
        )

    def encode(self) -> bytes:
        """The plan as indented JSON with sorted keys, for a person to read and for ``apply``."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n"


def keyed_digest(key: bytes, what: str, sha256: str) -> str:
    """The SHA-256 of a file (hexadecimal) under a key: HMAC-SHA256(HMAC-SHA256(key, ``what``), the digest as ASCII).

    Under its plain digest, anyone who knows all ids of a list but one could try candidates for the last one.
    """
    return hmac.digest(hmac.digest(key, what.encode(), "sha256"), sha256.encode("ascii"), "sha256").hex()


def decode_plan(data: bytes) -> Plan:
    """Read a plan back.

    The digest is that of the JSON as it is there, with the fields that the toolkit which made it knew.

    Raises:
        UsageError: this is no plan, or one of another version.
        RefusedError: it was changed since it was written.
    """
    stored = _fields(data)
    if not str(stored.get("format")).startswith(_FORMATS):
        raise UsageError("This file is not a plan of this toolkit.", "Make one with --plan FILE.")
    if stored["format"] not in PLAN_FORMATS:
        raise UsageError("This plan is of another version of the toolkit.", "Make another one with --plan FILE.")
    digest = stored.pop("digest", None)
    if digest != _sha256(stored):
        raise RefusedError(
            "The plan was changed after it was made.", "Make another one with --plan FILE and have it looked at again."
        )
    try:
        plan = msgspec.json.decode(data, type=Plan)
    except msgspec.ValidationError:  # intact, so it says what we don't know, or what no plan of ours says
        raise UsageError(
            "This plan says what no plan of this version can: it was made by a newer one, or by hand.",
            "Use the version that made it. Never approve a plan that this one can't read.",
            code="newer",
        ) from None
    # Each format has its own digests: a plain one in a plan of today would undo what its key is for.
    files = [file for file in (plan.input, plan.second, plan.identified, plan.sessions, plan.exclusions) if file]
    plain, keyed = [file.sha256 for file in files], [file.keyed_sha256 for file in files]
    if any(keyed if plan.format == FIRST_FORMAT else plain):
        raise UsageError("This file is not a plan of this toolkit.", "Make one with --plan FILE.")
    return plan


def plan_of(run: RunReader) -> Plan:
    """The plan of a run, as it was confirmed; what is left of it if the run was purged.

    Raises:
        DamagedError: it was changed.
        UsageError: it is of a newer toolkit.
    """
    try:
        if run.purged_at is not None:
            return msgspec.json.decode(run.plan, type=Plan)
        return decode_plan(run.plan)
    except (UsageError, RefusedError, msgspec.DecodeError) as error:
        if isinstance(error, UsageError) and error.code == "newer":
            raise
        raise damaged(run.name, "the plan") from None


def _fields(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return {}


def _digest(plan: Plan) -> str:
    try:
        data = msgspec.json.encode(plan)
    except UnicodeEncodeError:  # a name that the system gave us in bytes
        raise UsageError(
            "The name of a file or folder that the plan has to name is not UTF-8.", "Rename it, and plan again."
        ) from None
    return _sha256(msgspec.json.decode(data, type=dict[str, Any]))


def _sha256(fields: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a plan's fields, where the digest is empty."""
    return hashlib.sha256(msgspec.json.encode({**fields, "digest": ""}, order="sorted")).hexdigest()


class Summary(msgspec.Struct, frozen=True, dict=True):
    """A run in a few figures. Times are microseconds since the epoch.

    ``stopped_by`` is why the last executions stopped (see ``why_stopped``); ``cut_short`` says that no end is recorded:
    they are under way, or they crashed, or there was none. ``is_running``: a process works on it at this moment.
    ``acceptance`` is the last one of refused rows. ``purged_at`` is when ids and secret were destroyed. ``done`` counts
    the subjects that are done by why they are, which may be "there was nothing to do".
    """

    run_id: str
    plan: Plan
    totals: Mapping[Outcome, int]
    stopped_by: StopReason | None
    cut_short: bool
    started_at: int
    purged_at: int | None
    is_running: bool = False
    acceptance: Acceptance | None = None
    done: Mapping[Reason | None, int] = msgspec.field(default_factory=dict)

    @property
    def purged(self) -> bool:
        """Whether its ids and its secret are destroyed."""
        return self.purged_at is not None

    @cached_property
    def rejected(self) -> int:
        """How many rows of the input were refused and nobody acted on them."""
        return self.plan.rows.rejected

    @cached_property
    def rejected_unaccepted(self) -> int:
        """The same, 0 where the operator accepted exactly that many."""
        return 0 if self.acceptance is not None and self.acceptance.rows == self.rejected else self.rejected

    @cached_property
    def open(self) -> int:
        """How many subjects are open."""
        return sum(count for outcome, count in self.totals.items() if outcome in OPEN_OUTCOMES)

    @cached_property
    def failed(self) -> int:
        """How many subjects failed for good."""
        return self.totals.get(Outcome.FAILED, 0)

    @cached_property
    def all_unknown(self) -> bool:
        """Whether nobody of those who were looked for is known to the API: perhaps it is the wrong one."""
        unknown = self.totals.get(Outcome.NOTHING_HELD, 0)
        return 0 < unknown == self.plan.rows.subjects - self.totals.get(Outcome.ON_HOLD, 0)

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict; never ``complete`` while a subject is open, or rows were refused and nobody accepted that."""
        if self.is_running:
            return Verdict.RUNNING
        if self.stopped_by in NOT_LET_IN and self.open:
            return Verdict.REFUSED
        if (self.stopped_by is not None or self.cut_short) and self.open:
            return Verdict.STOPPED
        return Verdict.OPEN_ITEMS if self.open or self.failed or self.rejected_unaccepted else Verdict.COMPLETE

    @cached_property
    def exit_code(self) -> ExitCode:
        """What the process that worked on it last tells its caller (contract, section 2); of no use while it runs."""
        if self.verdict is Verdict.RUNNING:
            return ExitCode.STOPPED
        if self.stopped_by is StopReason.INTERRUPTED:
            return ExitCode.INTERRUPTED
        if self.verdict is Verdict.REFUSED:
            return ExitCode.CREDENTIALS
        if self.verdict is Verdict.STOPPED:
            return ExitCode.STOPPED
        return ExitCode.OPEN_ITEMS if self.verdict is Verdict.OPEN_ITEMS else ExitCode.SETTLED


def last_together(executions: Sequence[Execution]) -> list[Execution]:
    """The executions that worked last on a run, at the same time or taking over from each other."""
    first = executions[-1].joined or executions[-1].number if executions else 0
    return [one for one in executions if first in {one.number, one.joined}]


def why_stopped(executions: Sequence[Execution]) -> StopReason | None:
    """Why a run stopped: for everybody, if it did; else as the last execution to begin says that was stopped.

    None where one of the last went to its end: that takes that all subjects were tried, whatever the others say. What
    each of them says is in the report.
    """
    last = last_together(executions)
    if any(one.ended_at is not None and one.stopped_by is None for one in last):
        return None
    said = [one.stopped_by for one in last if one.stopped_by is not None]
    return next((reason for reason in reversed(said) if reason in STOPS_ALL), said[-1] if said else None)


def is_cut_short(executions: Sequence[Execution]) -> bool:
    """Whether none of the last executions tells how it ended."""
    return all(one.ended_at is None for one in last_together(executions))


def summarize(journal: RunReader) -> Summary:
    """The summary of a run, with all sums checked.

    Raises:
        ToolkitError: the rows of the input or the outcomes of the subjects don't add up; nothing may be reported then.
    """
    plan = plan_of(journal)
    totals, recorded, executions = journal.totals(), journal.rejected_by_reason(), journal.executions()
    acceptance, is_running = journal.acceptance(), journal.is_running
    rows = plan.rows
    if not rows.adds_up or sum(totals.values()) != rows.subjects or journal.size != rows.subjects:
        raise ToolkitError(
            f"The sums of run {journal.run_id} don't add up: {rows.subjects} subjects planned, {journal.size} in the"
            f" journal, {sum(totals.values())} outcomes.",
            "This is a fault of the toolkit or a damaged journal. No report is made; keep the state folder.",
            code="sums",
        )
    if recorded and recorded != {reason: count for reason, count in rows.rejected_by_reason.items() if count}:
        raise ToolkitError(
            f"The refused rows of run {journal.run_id} are not those that its plan counts.",
            "This is a fault of the toolkit or a damaged journal. No report is made; keep the state folder.",
            code="sums",
        )
    return Summary(
        run_id=journal.run_id,
        plan=plan,
        totals=totals,
        stopped_by=why_stopped(executions),
        cut_short=is_cut_short(executions),
        started_at=journal.created_at,
        purged_at=journal.purged_at,
        is_running=is_running,
        acceptance=acceptance,
        done=journal.done_reasons() if totals.get(Outcome.DONE) else {},
    )
