"""The plan: what would be done, fixed before anything is confirmed.

A plan is a value. It holds no id: it names its input by hash, so it can be mailed, filed and signed. Whoever applies
it reads the input again, and does nothing if that is not what was planned.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from privacy_toolkit.errors import RefusedError, UsageError
from privacy_toolkit.journal.facts import RunFacts, damaged

_FORMATS = "privacy-toolkit/plan/"
FORMAT = f"{_FORMATS}1"


class PlannedInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The input, by what it is and not by its name. ``path`` is where ``apply`` looks for it again."""

    path: str
    sha256: str
    size: int
    format: str
    id_column: str
    encoding: str = "utf-8"
    delimiter: str | None = None
    strip: bool = False
    limit: int | None = None


class PlannedRows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sums of the input: ``read`` = ``rejected`` + ``duplicates`` + ``subjects``; ``held`` of the subjects.

    ``held_by_us`` says how many of these are not on the exclusion list, by the ground the toolkit itself has.
    """

    read: int
    rejected: int
    duplicates: int
    subjects: int
    held: int = 0
    held_by_us: dict[str, int] = {}
    rejected_by_reason: dict[str, int] = {}

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

    path: str
    sha256: str
    entries: int
    matched: int


class PlannedClock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The legal clock of the subjects that are not on hold and whose request has a date, as ISO 8601 dates.

    ``dated`` is their number, ``overdue`` how many were due before the day of the plan. ``earliest_due_on`` is null
    where no law sets a date (regime ``none``).
    """

    dated: int
    oldest_requested_on: str
    earliest_due_on: str | None
    overdue: int


class Planner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who made a plan, by the signing key that was set then: ``name`` is a principal, ``fingerprint`` the key's."""

    name: str | None
    fingerprint: str


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What would be done, to whom (by hash), where, and with which requests.

    ``target`` is host and application label; ``base_url`` is where requests go. ``environment`` is ``live`` or
    ``sandbox`` by the profile's word. ``calls`` maps an operation to the least and the most requests expected, without
    retries. ``verify`` is ``all``, ``sample:N`` or ``none``. ``created_at`` is an RFC 3339 time in UTC. ``regime`` is
    the law whose due dates hold. ``parameters`` are what the operator sets for this job alone, such as the version of
    the API; ``second`` is the job's second input, if it takes one, and ``out`` the file it hands over. ``observed`` is
    how things stood at the API when the plan was made: they may have moved since. ``nonce`` is random: without it the
    digest would tell who can guess the input that the guess is right.
    """

    format: str = FORMAT
    toolkit: str
    job: str
    target: str
    base_url: str
    environment: str
    generation: str
    created_at: str
    input: PlannedInput
    rows: PlannedRows
    exclusions: PlannedExclusions | None = None
    regime: str = "none"
    clock: PlannedClock | None = None
    planned_by: Planner | None = None
    nonce: str = ""
    verify: str = "all"
    parameters: dict[str, str | int | bool | None] = {}
    second: PlannedInput | None = None
    out: str | None = None
    observed: dict[str, int] = {}
    calls: dict[str, tuple[int, int]] = {}
    digest: str = ""

    def sealed(self) -> Plan:
        """The plan with its own digest: SHA-256 over its canonical JSON, in which the digest is empty."""
        return msgspec.structs.replace(self, digest=_digest(self))

    def without_input(self) -> Plan:
        """What stays of the plan when its run is purged: nothing that could tell who was in its input.

        The digest stays the one of the whole plan.
        """
        replace = msgspec.structs.replace
        return replace(
            self,
            nonce="",
            input=replace(self.input, path="", sha256=""),
            second=self.second and replace(self.second, path="", sha256=""),
            exclusions=self.exclusions and replace(self.exclusions, path="", sha256=""),
            out=self.out and "",
        )

    def encode(self) -> bytes:
        """The plan as indented JSON with sorted keys, for a person to read and for ``apply``."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n"


def decode_plan(data: bytes) -> Plan:
    """Read a plan back.

    The digest is that of the JSON as it stands there, with the fields that the toolkit which made it knew.

    Raises:
        UsageError: this is no plan, or one of another version.
        RefusedError: it was changed since it was written.
    """
    try:
        stored = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        stored = {}
    if not str(stored.get("format")).startswith(_FORMATS):
        raise UsageError("This file is not a plan of this toolkit.", "Make one with --plan FILE.")
    if stored["format"] != FORMAT:
        raise UsageError("This plan is of another version of the toolkit.", "Make another one with --plan FILE.")
    digest = stored.pop("digest", None)
    if digest != _sha256(stored):
        raise RefusedError(
            "The plan was changed after it was made.", "Make another one with --plan FILE and have it looked at again."
        )
    try:
        return msgspec.json.decode(data, type=Plan)
    except msgspec.ValidationError:  # intact, so it says what we don't know
        raise UsageError(
            "This plan was made by a newer version of this toolkit.", "Use that version, or a later one.", code="newer"
        ) from None


def plan_of(run: RunFacts) -> Plan:
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
        raise damaged(run.folder.name, "the plan") from None


def _digest(plan: Plan) -> str:
    return _sha256(msgspec.json.decode(msgspec.json.encode(msgspec.structs.replace(plan, digest="")), type=dict))


def _sha256(fields: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a plan's fields, where the digest is empty."""
    return hashlib.sha256(msgspec.json.encode({**fields, "digest": ""}, order="sorted")).hexdigest()
