"""Around reservations: before, budgets and how things stand; afterwards, who has which code, and the way back."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import (
    MAY_BE_DONE,
    OPEN_OUTCOMES,
    Hold,
    Job,
    Outcome,
    Purpose,
    Reason,
    RefusedError,
    UsageError,
)
from privacy_toolkit.engine.job import (
    OTHER_ENVIRONMENT,
    OTHER_TIMES,
    SPREADSHEET_SAFE,
    Assigned,
    Headline,
    IdleWords,
    JobWords,
    Lines,
    Page,
    Parameters,
    Preparation,
    Subjects,
    Table,
)
from privacy_toolkit.engine.open_requests import former_scopes, look_through, may_be_of, plan_scope
from privacy_toolkit.engine.plan import Plan, plan_of
from privacy_toolkit.engine.planning import CHANGED
from privacy_toolkit.inputs.options import InputWarning
from privacy_toolkit.inputs.pairs import (
    COUPON_COLUMN,
    budget_of,
    carried_of,
    carried_text,
    coupon_of,
    given_of,
)
from privacy_toolkit.jobs.holders import HOLDERS, SPENT, ShownCoupon, decode_coupon, holders_of
from privacy_toolkit.journal.records import Entry
from privacy_toolkit.journal.store import OpenRun, RunReader, State, purged, running
from privacy_toolkit.talonone.responses import Answer, Finding

MAX_PER_COUPON = "max_per_coupon"

_Parameter = str | int | bool | None


def smallest(one: int | None, other: int | None) -> int | None:
    """The smaller of two limits, either of which may be none."""
    return min((limit for limit in (one, other) if limit is not None), default=None)


def limit_of(parameters: Mapping[str, _Parameter]) -> int | None:
    """How many customers may have any one coupon, as the operator set it."""
    limit = parameters.get(MAX_PER_COUPON)
    return None if limit is None else int(limit)


class _Budgeted(msgspec.Struct, frozen=True):
    """The pairs of a scan, each with the budget of its coupon: so it is known wherever one of them turns up."""

    scan: Subjects
    budgets: Mapping[str, int | None]

    def subjects(self) -> Iterator[Page]:
        """Row, customer, coupon with budget, a page at a time."""
        for page in self.scan.subjects():
            pairs = ((row, id_, "".join(map(str, given))) for row, id_, *given in page)
            yield [(row, id_, self._given(given)) for row, id_, given in pairs]

    def _given(self, given: str) -> str:
        coupon = coupon_of(given)
        return given_of(coupon, self.budgets[coupon], carried_text(given))


def with_budgets(preparation: Preparation) -> Assigned:
    """Give each pair the budget of its coupon: the smallest of all its rows and of what the operator set.

    A row that repeats a pair counts for that too.
    """
    limit = limit_of(preparation.parameters)
    budgets: dict[str, int | None] = {}
    for given in preparation.scan.given():
        coupon = coupon_of(given)
        budgets[coupon] = smallest(budget_of(given), budgets.get(coupon, limit))
    return Assigned(_Budgeted(preparation.scan, budgets), parameters={"coupons": len(budgets)})


class _Asked(msgspec.Struct):
    """The pairs of one coupon: hashes of the customers, and the budget."""

    budget: int | None
    customers: array[int] = msgspec.field(default_factory=lambda: array("q"))


class LookAtHolders:
    """Reads who has the coupons of a plan. Of the customers it keeps 64-bit hashes, which is enough to count them."""

    operation = HOLDERS

    def __init__(self, subjects: Subjects, holds: Mapping[int, Hold]) -> None:
        self._coupons: dict[str, _Asked] = {}
        self._seen = {"reserved_already": 0, "over_budget": 0, "unknown_coupons": 0}
        seq = 0
        for page in subjects.subjects():
            for _, id_, *given in page:
                seq += 1
                if seq not in holds:
                    text = "".join(map(str, given))
                    asked = self._coupons.setdefault(coupon_of(text), _Asked(budget_of(text)))
                    asked.customers.append(hash(id_))

    @property
    def values(self) -> Collection[str]:
        """The coupons."""
        return self._coupons

    def take(self, value: str, answer: Answer) -> bool:
        """Count what a list of holders says of the customers of its coupon; False if it does not name them all."""
        asked = self._coupons[value]
        if answer.finding is not Finding.DONE:
            self._seen["unknown_coupons"] += 1
            return True
        holders = holders_of(answer)
        if holders is None:
            return False
        already = len(set(asked.customers).intersection(map(hash, holders.ids)))
        self._seen["reserved_already"] += already
        if asked.budget is not None:
            room = max(0, asked.budget - holders.count)
            self._seen["over_budget"] += max(0, len(asked.customers) - already - room)
        return True

    def totals(self) -> Mapping[str, int]:
        """What was counted."""
        return self._seen


class LookAtReleases(LookAtHolders):
    """The same for a release, which no budget holds back."""

    def totals(self) -> Mapping[str, int]:
        """What was counted."""
        return {name: count for name, count in self._seen.items() if name != "over_budget"}


# What is said of reservations.

_PAIR = "One accepted, distinct pair of a coupon and a customer."
_RESERVED = ("Reserved", "The customer was seen in the list of those who have the coupon reserved.")
_RELEASED = ("Released", "The customer was seen to be missing from the list of those who have the coupon reserved.")
_NO_ROOM = (
    "On hold",
    (
        "Not sent, or not sent again: on the exclusion list, beyond the budget of its coupon (over_budget), or the"
        " customer was erased before (suppressed)."
    ),
)
_LEFT = (
    "On hold",
    (
        "Nothing was sent: on the exclusion list; the customer has redeemed the coupon (redeemed), or the API does not"
        " tell (redemption_not_told); or a later run reserved or released it since (changed_since)."
    ),
)
_BUDGETS = {
    "Budgets": "The API overrides a coupon's own reservation limit. A budget of this run was kept against the list of"
    " holders as it was read before each request; what others reserved between the two is not in it."
}
_ALREADY = IdleWords("the reservation was there already", "all {} reservations were there already", "nothing was sent")
_NOTHING_TO_RELEASE = IdleWords("it was not reserved", "none of the {} was reserved", "there was nothing to release")


def words_of(headline: Headline, title: str, *, adds: bool) -> JobWords:
    """The words of a job that reserves, or else releases."""
    return JobWords(
        headline=headline,
        title=title,
        possible=frozenset(
            {
                Outcome.DONE,
                Outcome.ON_HOLD,
                Outcome.FAILED,
                Outcome.UNVERIFIED,
                Outcome.RETRYABLE,
                Outcome.UNKNOWN,
                Outcome.PENDING,
            }
        ),
        subject=_PAIR,
        request="reservation" if adds else "release",
        repeats="Sent again only after it was refused, or after the list of holders showed that it had not taken"
        " place.",
        not_covered={
            "Redemptions": "Whether a coupon was or can be redeemed is not looked at. A soft reservation keeps nobody"
            " else from redeeming it.",
            **(_BUDGETS if adds else {}),
            **OTHER_ENVIRONMENT,
            **OTHER_TIMES,
        },
        idle={Reason.ALREADY_RESERVED: _ALREADY} if adds else {Reason.NOT_RESERVED: _NOTHING_TO_RELEASE},
        outcomes={
            Outcome.DONE: _RESERVED if adds else _RELEASED,
            Outcome.ON_HOLD: _NO_ROOM if adds else _LEFT,
            Outcome.UNVERIFIED: (
                "Not seen yet",
                "The API accepted it, but the list of holders has not shown it yet.",
            ),
        },
        actions={
            (Outcome.UNVERIFIED, None): "Resume the run: it reads the list of holders again, before anything is sent.",
            (Outcome.UNKNOWN, None): "Resume the run: it reads the list of holders first, and sends again only what is"
            " missing.",
        },
    )


# Afterwards: who has which code, in a file for people or for a mail tool, and what became of each code in another.

CARRY, PRESET = "carry", "preset"
#: What can be set for every job that hands over these files, and for those that give codes to customers.
LISTED: Parameters = {CARRY: None, SPREADSHEET_SAFE: False}
MAILED: Parameters = {**LISTED, PRESET: None}
#: Between the names of columns to be carried.
_COMMA = ","
#: What a plan takes as one text.
_LONGEST = 500
#: What goes into the name of the second file, before its ending.
BY_CODE = "by-code"


class _Names(NamedTuple):
    """How a mail tool calls customer, code and expiry; ``first`` is the column that it wants in front, if any."""

    customer: str
    coupon: str
    expiry: str
    first: str = ""


#: The columns as mail tools know them. Klaviyo takes no list without an address in the first column; Braze knows its
#: users by ``external_id``.
PRESETS: Mapping[str, _Names] = {
    "braze": _Names("external_id", "coupon_code", "coupon_expiry"),
    "klaviyo": _Names("External ID", "Coupon Code", "Coupon Expiry", "Email"),
}
_EMAIL = frozenset({"email", "e-mail", "email address", "email_address"})
_STATE_COLUMNS = {"expiry": str, "coupon_state": str, "redeemable_by": str}
_COLUMNS = {"customer_id": str, COUPON_COLUMN: str, "outcome": str, "reason": str, **_STATE_COLUMNS}
_COUNTED = {"customers": int, "done": int, "on_hold": int, "failed": int, "open": int}
_CODE_COLUMNS = {COUPON_COLUMN: str, **_COUNTED, "reasons": str, **_STATE_COLUMNS}


def carried(parameters: Parameters) -> tuple[str, ...]:
    """The columns that are carried from the input, in the order in which they were named."""
    return tuple(str(parameters.get(CARRY) or "").split(_COMMA)) if parameters.get(CARRY) else ()


def check_listing(parameters: Parameters, out: str | None) -> None:
    """Make sure that what is asked for can be in one file.

    Raises:
        UsageError: there is no file, a column is named twice or has a name of the file's own, or a tool needs another.
    """
    columns, preset = carried(parameters), parameters.get(PRESET)
    if out is None and (columns or preset):
        name = PRESET if preset else CARRY
        raise UsageError(f"--{name} says what is in a file, and none is asked for.", "Name one with --out FILE.")
    if not _COMMA.join(columns).isprintable() or len(_COMMA.join(columns)) > _LONGEST:
        raise UsageError("--carry can't be that.", "Name columns of the input, such as --carry email,name.")
    names = _names(parameters)
    own = set(_COLUMNS) if names is None else {name for name in names if name}
    for position, name in enumerate(columns):
        if not name or name != name.strip() or name in columns[:position]:
            raise UsageError(f"--carry {_COMMA.join(columns)} names a column twice, or none.", "Example: --carry a,b")
        if name in own - {names.first if names else ""}:
            raise UsageError(
                f"The file has a column {name!r} of its own.", "Give that column of the input another name."
            )
    if names is not None and names.first and _address(columns) is None:
        raise UsageError(
            f"A list for {preset} begins with an address, and no column with one is carried.",
            "Carry it from the input: --carry email",
        )


def _names(parameters: Parameters) -> _Names | None:
    preset = parameters.get(PRESET)
    return None if preset is None else PRESETS[str(preset)]


def _address(columns: Sequence[str]) -> int | None:
    """The position of the column with the addresses."""
    return next((position for position, name in enumerate(columns) if name.lower() in _EMAIL), None)


def coupon_lists(parameters: Parameters, lines: Lines, moment: datetime) -> Mapping[str, Table]:
    """The file that says who has which code, under "", and that about each code, by what goes into its name.

    ``moment`` is when they are written: a coupon may have expired since the API showed it.
    """
    names = _names(parameters)
    listed = _for_people(parameters, lines, moment) if names is None else _for_a_tool(names, parameters, lines, moment)
    return {"": listed, BY_CODE: _about_codes(lines, moment)}


def _shown(kept: bytes | None) -> ShownCoupon:
    return ShownCoupon() if kept is None else decode_coupon(kept)


def _for_people(parameters: Parameters, lines: Lines, moment: datetime) -> Table:
    """Every subject in input order, whatever became of it."""
    columns = carried(parameters)

    def rows() -> Iterator[Sequence[Any]]:
        for subject, state, kept in lines():
            shown = _shown(kept)
            reason = state.reason or state.hold_reason
            told = (reason, shown.expiry, shown.state_at(moment), shown.redeemable_by)
            cells = carried_of(subject.given)
            yield [subject.id, coupon_of(subject.given), state.outcome, *(one or "" for one in told), *cells]

    return Table("list of codes", {**_COLUMNS, **dict.fromkeys(columns, str)}, ("customer_id", COUPON_COLUMN), rows)


def _for_a_tool(names: _Names, parameters: Parameters, lines: Lines, moment: datetime) -> Table:
    """Those alone who certainly have a code that was not seen to be spent: a tool writes to everybody in its list."""
    columns = carried(parameters)
    front = _address(columns) if names.first else None
    others = [position for position in range(len(columns)) if position != front]
    header = [names.first] if names.first else []
    header += [names.customer, names.coupon, names.expiry, *(columns[position] for position in others)]

    def rows() -> Iterator[Sequence[Any]]:
        for subject, state, kept in lines():
            shown = _shown(kept)
            if state.outcome != Outcome.DONE or shown.state_at(moment) in SPENT:
                continue
            cells = carried_of(subject.given)
            address = [] if front is None else [cells[front]]
            rest = [cells[position] for position in others]
            yield [*address, subject.id, coupon_of(subject.given), shown.expiry or "", *rest]

    return Table("list of codes", dict.fromkeys(header, str), (names.customer, names.coupon), rows)


class _Tally(msgspec.Struct):
    """What became of one code: its subjects by outcome, why some were held or failed, and what the API showed."""

    counts: array[int] = msgspec.field(default_factory=lambda: array("q", bytes(8 * len(_COUNTED))))
    reasons: set[str] = msgspec.field(default_factory=set)
    kept: bytes | None = None

    def take(self, outcome: str, reason: str | None, kept: bytes | None) -> None:
        """Count one subject."""
        at = "open" if outcome in OPEN_OUTCOMES else outcome
        self.counts[0] += 1
        self.counts[list(_COUNTED).index(at)] += 1
        if reason is not None and outcome != Outcome.DONE:
            self.reasons.add(reason)
        self.kept = kept or self.kept


def _about_codes(lines: Lines, moment: datetime) -> Table:
    """A row for each code, in the order in which they first occur; memory grows with the number of codes."""

    def rows() -> Iterator[Sequence[Any]]:
        tallies: dict[str, _Tally] = {}
        for subject, state, kept in lines():
            coupon = coupon_of(subject.given)
            if coupon:
                tally = tallies.setdefault(coupon, _Tally())
                tally.take(state.outcome, state.reason or state.hold_reason, kept)
        for coupon, tally in tallies.items():
            shown = _shown(tally.kept)
            told = (shown.expiry, shown.state_at(moment), shown.redeemable_by)
            yield [coupon, *tally.counts, ";".join(sorted(tally.reasons)), *(one or "" for one in told)]

    return Table("list of what became of each code", _CODE_COLUMNS, (COUPON_COLUMN,), rows)


def causes(lines: Iterable[tuple[str, Outcome, str | None, bool]]) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Count why subjects were not given what they were to get, and the codes that failed as a whole.

    Args:
        lines: coupon, outcome, reason and whether anything was sent, of each subject that is not done.

    Returns:
        Subjects by outcome and reason; codes by the reason for which nothing could be sent about them.
    """
    counted: dict[str, dict[str, int]] = {}
    codes: dict[str, set[str]] = {}
    for coupon, outcome, reason, is_sent in lines:
        by_reason = counted.setdefault(outcome.value, {})
        by_reason[reason or "-"] = by_reason.get(reason or "-", 0) + 1
        if outcome is Outcome.FAILED and not is_sent:
            codes.setdefault(reason or "-", set()).add(coupon)
    return counted, {reason: len(found) for reason, found in sorted(codes.items())}


# And back: what one run reserved is released by another, which gives the codes back.

UNDOES = "undoes"
_RESERVING = (Job.RESERVE, Job.ASSIGN)
_SENT = (Outcome.DONE, Outcome.UNKNOWN, Outcome.UNVERIFIED)


def runs_of(state: State, *jobs: Job) -> list[str]:
    """The runs that may be of these jobs, by their ids, newest first."""
    return list(filter(may_be_of(*jobs), state.run_ids()))


def undone_by(state: State, run_id: str) -> str | None:
    """The run that releases what ``run_id`` reserved; None if there is none.

    Raises:
        JournalError: a run that may be it can't be read.
    """
    found: list[str] = []

    def look(other: str, _: OpenRun, plan: Plan) -> None:
        if plan.parameters.get(UNDOES) == run_id:
            found.append(other)

    look_through(state, look, may_be_of(Job.RELEASE), run_ids=runs_of(state, Job.RELEASE))
    return found[0] if found else None


def check_not_undone(state: State, run_id: str, job: str) -> None:
    """Make sure that a run which reserves is not gone on with once it was undone: its codes may be others' by now.

    Raises:
        RefusedError: it was.
        JournalError: a run that may have done so can't be read.
    """
    other = undone_by(state, run_id) if job in _RESERVING else None
    if other is not None:
        raise RefusedError(
            f"Run {run_id} was undone by run {other}, so it can't go on. Nothing was sent.",
            "What is to be done goes into another run: its codes may be others' by now.",
            code="undone",
        )


def rows_to_undo(parameters: Parameters, state: State, scope: str) -> Iterator[Sequence[str]] | None:
    """The rows of a release that undoes a run: a header, and the pairs which that run reserved; None for any other.

    Pairs that had the reservation before the run are not among them. Those for which a request was sent without a
    reliable answer are: the list of holders tells.

    Raises:
        UsageError: there is no such run, it reserves nothing, or it is of another deployment.
        RefusedError: it was undone before, is under way, or was purged.
    """
    if parameters.get(UNDOES) is None:
        return None
    run_id = state.find(str(parameters[UNDOES]))
    with state.open(run_id) as journal:
        plan = plan_of(journal)
        if plan.job not in _RESERVING:
            raise UsageError(f"Run {run_id} reserved nothing.", "A run of reserve or assign can be undone.")
        if journal.purged_at is not None:
            raise purged(journal, "its ids are gone, so it can't be undone")
        if plan_scope(plan) != scope:
            raise UsageError(
                f"Run {run_id} was on {plan.target} ({plan.environment}); the settings say otherwise.",
                "Name the profile it was made for with --profile.",
            )
        if journal.is_running:
            raise running(run_id)
    _check_undone_once(state, run_id)
    return _pairs_to_undo(state, run_id)


def _check_undone_once(state: State, run_id: str) -> None:
    other = undone_by(state, run_id)
    if other is not None:
        raise RefusedError(
            f"Run {run_id} was undone by run {other}.",
            f"If something is open in that one: privacy-toolkit runs resume {other}",
            code="undone",
        )


def _pairs_to_undo(state: State, run_id: str) -> Iterator[Sequence[str]]:
    yield COUPON_COLUMN, "customer_id"
    with state.open(run_id) as journal:
        for entry in filter(_may_be_own, journal.entries()):
            yield coupon_of(entry.subject.given), entry.subject.id


def _may_be_own(entry: Entry) -> bool:
    """Whether the run itself may have changed something for a subject.

    What stood as wanted before is done without attribution. Whatever was said in the end, a request without a reliable
    answer may have been carried out, or be carried out later.
    """
    state = entry.state
    if state.outcome is Outcome.DONE:
        return state.attribution is not None
    return state.outcome in _SENT or any(
        one.purpose is Purpose.ACT and one.reason in MAY_BE_DONE for one in entry.exchanges
    )


def release_prepared(preparation: Preparation) -> Assigned:
    """The pairs of a release; of one that undoes a run, with those on hold that later runs reserved or released."""
    assigned, name = with_budgets(preparation), preparation.parameters.get(UNDOES)
    if name is None:
        return assigned
    state, run_id = preparation.state, str(name)
    pairs = [hash((coupon_of(given), id_)) for page in assigned.subjects.subjects() for _, id_, given in _triples(page)]
    changed = _changed_since(run_id, set(pairs), preparation)
    return replace(
        assigned,
        warnings=(*assigned.warnings, *_warnings_of_undo(state, run_id)),
        holds={seq: CHANGED for seq, pair in enumerate(pairs, 1) if pair in changed},
        remember=lambda: _check_undone_once(state, run_id),  # once more, now that no other run can be begun
    )


def _warnings_of_undo(state: State, run_id: str) -> Iterator[InputWarning]:
    with state.open(run_id) as journal:
        number, out = _open_in(journal), plan_of(journal).out
    if out and Path(out).exists():
        yield InputWarning("undoes_listed", f"The list of that run is still there, and its codes are released: {out}")
    if number:
        yield InputWarning(
            "undoes_open", f"Open subjects of run {run_id}: {number:,}. Once it is undone, it can't be resumed."
        )


def _open_in(journal: RunReader) -> int:
    return sum(number for outcome, number in journal.totals().items() if outcome in OPEN_OUTCOMES)


def _triples(page: Page) -> Iterator[tuple[int, str, str]]:
    return ((row, id_, "".join(map(str, given))) for row, id_, *given in page)


def _changed_since(run_id: str, pairs: Collection[int], preparation: Preparation) -> set[int]:
    """Those of ``pairs``, by their hashes, for which a later run of the state folder sent something."""
    state, found = preparation.state, set[int]()
    with state.open(run_id) as journal:
        created_at = journal.created_at

    def look(_: str, journal: OpenRun, plan: Plan) -> None:
        is_later = journal.created_at > created_at and journal.purged_at is None
        if plan.job in (*_RESERVING, Job.RELEASE) and is_later and plan_scope(plan) == preparation.scope:
            sent = filter(_may_be_own, journal.entries())
            later = (hash((coupon_of(entry.subject.given), entry.subject.id)) for entry in sent)
            found.update(pair for pair in later if pair in pairs)

    jobs = (*_RESERVING, Job.RELEASE)
    look_through(state, look, may_be_of(*jobs), run_ids=runs_of(state, *jobs))
    return found


def give_back(journal: RunReader, state: State) -> None:
    """Give back the codes of a run that undoes another, once nothing of it is open: what it released is free again.

    A code that the API showed as spent is not given to anybody else, nor is one that was not reserved any more: it may
    have been redeemed.

    Raises:
        JournalError: it can't be written down; it is done when the run is resumed.
    """
    plan = plan_of(journal)
    if plan.parameters.get(UNDOES) is None or journal.purged_at is not None or _open_in(journal):
        return
    scope = plan_scope(plan)
    with closing(state.assigned(scope, former_scopes(state, scope, may_be_of(Job.ASSIGN)))) as record:
        record.give_back(_released(journal), journal.run_id)


def _released(journal: RunReader) -> Iterator[tuple[str, str]]:
    for one in journal.rows():
        is_released = one.state.outcome == Outcome.DONE and one.state.attribution is not None
        if is_released and _shown(one.result).state not in SPENT:
            yield one.subject.id, coupon_of(one.subject.given)
