"""Data subject requests over all runs: due dates, what is open, and what a later run has taken over.

Due dates are a help for planning, not legal advice. Days alone are counted: no clock, no time zone, no calendar of
holidays. A due date that falls on a Saturday, a Sunday or a public holiday stays there. Regulation (EEC, Euratom) No
1182/71, Article 3(4), would move it to the next working day; that is not used here, since a date that is early is safe,
and public holidays differ from place to place.
"""

from __future__ import annotations

import logging
from calendar import monthrange
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import MAXYEAR, date, timedelta
from itertools import islice
from typing import Any

import msgspec

from privacy_toolkit.config.settings import deployment_key, scope_of
from privacy_toolkit.core.model import OPEN_OUTCOMES, Job, JournalError, Outcome, Regime, SubjectRequest, ToolkitError
from privacy_toolkit.engine.plan import Plan, PlannedClock, Summary, plan_of, summarize
from privacy_toolkit.journal.ledgers import IndexLost, RunIndex
from privacy_toolkit.journal.records import RequestRow
from privacy_toolkit.journal.store import OpenRun, RunReader, State

# By when a request has to be answered.

_Period = Callable[[date], date | None]


def deadline_of(regime: Regime, requested_on: date, extended_on: date | None = None) -> date | None:
    """The last day on which a request can be answered in time.

    GDPR, Article 12(3): one calendar month after the day of the request, or three in all if it was extended. A month
    ends on the day of the same number, and where there is none on the month's last day (Regulation No 1182/71, Article
    3(2)(c)). CCPA (California Code of Regulations, title 11, section 7021(b)): 45 calendar days after the day of the
    request, or 90 in all if it was extended. Weekends and holidays don't move the date.

    Args:
        regime: the law that applies.
        requested_on: the day on which the request came in; it is not counted itself.
        extended_on: the day on which the person was told that it takes longer, and why. It counts only from the day of
            the request to the first due date, both included; told earlier or later it changes nothing.

    Returns:
        The day, or ``None``: the regime sets no deadline, or the day lies beyond the calendar (the year 9999).
    """
    if regime == Regime.NONE:
        return None
    first, extended = _PERIODS[regime]
    due = first(requested_on)
    if due is None or extended_on is None or not requested_on <= extended_on <= due:
        return due
    return extended(requested_on)


def _calendar_months(number: int) -> _Period:
    """A period of calendar months; each is counted from the day of the request, so that no month's end is lost."""

    def after(day: date) -> date | None:
        years, month = divmod(day.month - 1 + number, 12)
        year, month = day.year + years, month + 1
        if year > MAXYEAR:
            return None
        return date(year, month, min(day.day, monthrange(year, month)[1]))

    return after


def _calendar_days(number: int) -> _Period:
    """A period of calendar days."""
    length = timedelta(days=number)
    return lambda day: day + length if day <= date.max - length else None


#: For each regime the period to answer in, and the longest one, which an extension gives.
_PERIODS: dict[Regime, tuple[_Period, _Period]] = {
    Regime.GDPR: (_calendar_months(1), _calendar_months(3)),
    Regime.CCPA: (_calendar_days(45), _calendar_days(90)),
}


# The requests behind the subjects: when each came in, and by when it has to be answered.

Numbered = Iterable[tuple[int, SubjectRequest]]


def amended(requests: Numbered, instead: Mapping[int, SubjectRequest]) -> Numbered:
    """The requests, with another one for the subjects in ``instead``."""
    return ((seq, instead.get(seq, request)) for seq, request in requests)


def request_rows(requests: Numbered, regime: Regime) -> Iterator[RequestRow]:
    """What the journal keeps of each request, with its due date."""
    for seq, request in requests:
        due_on = _text(_due(request, regime))
        yield RequestRow(seq, _text(request.requested_on), due_on, request.ticket, request.ground)


def planned_clock(requests: Numbered, held: Collection[int], regime: Regime, today: date) -> PlannedClock | None:
    """The legal clock of the subjects that are not ``held``, as of ``today``; None if none has a date."""
    dated = overdue = 0
    oldest: date | None = None
    earliest: date | None = None
    for seq, request in requests:
        if request.requested_on is None or seq in held:
            continue
        dated += 1
        oldest = min(oldest or request.requested_on, request.requested_on)
        due = _due(request, regime)
        if due is not None:
            earliest = min(earliest or due, due)
            overdue += due < today
    if oldest is None:
        return None
    return PlannedClock(
        dated=dated,
        oldest_requested_on=oldest.isoformat(),
        earliest_due_on=_text(earliest),
        overdue=overdue,
    )


def _due(request: SubjectRequest, regime: Regime) -> date | None:
    if request.requested_on is None:
        return None
    return deadline_of(regime, request.requested_on, request.extended_on)


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


# What earlier runs of the same state folder know, as far as their journals can be read.
#
# A damaged journal hides no other run. Anyone who asks says what is lost with what it may know: where that only means
# more work, the run is named and skipped; where someone could be written for who was erased, or a code could go to two
# people, nothing is begun until the run is put back or set aside.

_ABSENT = frozenset({Outcome.ERASED, Outcome.NOTHING_HELD})
_log = logging.getLogger(__name__)


def look_through(
    state: State,
    look: Callable[[str, OpenRun, Plan], None],
    needed: Callable[[str], bool] = lambda _: False,
    *,
    run_ids: Iterable[str] | None = None,
    lost: Callable[[str], None] = lambda _: None,
) -> None:
    """Look at every run that can be read, newest first.

    A run that can't be read is named in the log, once for each state folder opened, and skipped.

    Args:
        state: the folder.
        look: called with the id of a run, its journal, which is closed afterwards, and its plan.
        needed: whether nothing may be done without what a run knows, by its id.
        run_ids: the runs to look at, where these are not all.
        lost: called with the id of a run that is skipped.

    Raises:
        JournalError: a run that is needed can't be read.
    """
    for run_id in state.run_ids() if run_ids is None else run_ids:
        try:
            with closing(state.open(run_id)) as journal:
                look(run_id, journal, plan_of(journal))
        except ToolkitError as error:
            if not _is_unreadable(error, run_id) or needed(run_id):
                raise
            lost(run_id)
            if run_id not in state.passed_over:
                state.passed_over.add(run_id)
                _log.warning("%s It is skipped. %s", error.message, error.hint)


#: What a run tells in one part of the index: a note of its own, and names with what is told of each.
Telling = Callable[[OpenRun, Plan], tuple[bytes, Iterable[tuple[str, bytes]]]]
#: How often a run is read again that changes while it is read; after that what was read counts for this time.
_ROUNDS = 3


def looked_up(
    state: State,
    part: str,
    tell: Telling,
    names: Collection[str] = (),
    needed: Callable[[str], bool] = lambda _: False,
    passed_over: Collection[str] = (),
) -> tuple[dict[str, bytes], dict[str, list[bytes]]]:
    """Look up what runs tell: the note of each, and what they tell of ``names``.

    Only runs are read that the index of the state does not know as they are.

    Args:
        state: the folder.
        part: the part of the index.
        tell: what a run tells in it.
        names: what is looked up.
        needed: as for ``look_through``, which says too what becomes of runs that can't be read.
        passed_over: runs that are not read now, whatever the index knows of them.

    Raises:
        JournalError: a run that is needed can't be read, or the index can't be kept.
    """
    with state.index() as index:
        for _ in range(_ROUNDS):
            with suppress(IndexLost):
                _bring_up_to_date(index, state, part, tell, needed, passed_over)
                return index.notes(part), index.told(part, names)
    raise JournalError("What earlier runs did can't be looked up: their index is lost again and again.", "Try again.")


def _bring_up_to_date(
    index: RunIndex,
    state: State,
    part: str,
    tell: Telling,
    needed: Callable[[str], bool],
    passed_over: Collection[str],
) -> None:
    done = set(passed_over)
    for left in reversed(range(_ROUNDS)):

        def look(run_id: str, journal: OpenRun, plan: Plan, left: int = left) -> None:
            note, told = tell(journal, plan)
            index.enter(part, run_id, note, told, lasting=left > 0 and not journal.is_running)

        def lost(run_id: str) -> None:
            done.add(run_id)
            index.forget(run_id)  # what it told before is not known to hold any more

        behind = [run_id for run_id in index.behind(part) if run_id not in done]
        if not behind:
            return
        look_through(state, look, needed, run_ids=behind, lost=lost)


def may_be_of(*jobs: Job) -> Callable[[str], bool]:
    """Whether a run may be of one of these jobs, by its id; its plan, which says so, may be what can't be read."""

    def is_of(run_id: str) -> bool:
        return job_of(run_id) in {*jobs, None}

    return is_of


def job_of(run_id: str) -> str | None:
    """The job of a run by its id; None if the id is not one of ours."""
    parts = run_id.split("-")
    return parts[2] if len(parts) > 2 and parts[2] in set(Job) else None  # noqa: PLR2004 - day, time, job


def all_known_absent(ids: Collection[str], state: State, scope: str, current: str) -> bool:
    """Whether earlier runs in ``scope`` found every one of ``ids`` absent or erased it.

    Then a list that answers nothing but 404 is no sign of the wrong environment.
    """
    names = {name_in(scope, id_) for id_ in ids}
    _, told = looked_up(state, "absent", _tell_absent, names, passed_over={current})
    return all(set(told.get(name, ())) - {current.encode()} for name in names)


def _tell_absent(journal: OpenRun, plan: Plan) -> tuple[bytes, Iterator[tuple[str, bytes]]]:
    """Who a run knows to be absent, as long as it knows ids; what it tells of each is that it is this run."""
    if journal.purged_at is not None:
        return b"", iter(())
    scope, by = plan_scope(plan), journal.run_id.encode()
    rows = (observed for observed in journal.rows() if observed.state.outcome in _ABSENT)
    return b"", ((name_in(scope, observed.subject.id), by) for observed in rows)


def former_scopes(state: State, scope: str, needed: Callable[[str], bool]) -> set[str]:
    """Under which names earlier versions remembered what holds in ``scope``: by the label, or the URL as written.

    Raises:
        JournalError: a run that is ``needed`` can't be read.
    """
    facts = known_plans(state, needed).values()
    return {name for plan in facts if plan.scope == scope for name in plan.former} - {scope}


class KnownPlan(msgspec.Struct, frozen=True, array_like=True):
    """What is known of the plan of each run: its digest, its scope, and the scope's names in earlier versions."""

    digest: str
    scope: str
    former: tuple[str, ...]


def known_plans(state: State, needed: Callable[[str], bool]) -> dict[str, KnownPlan]:
    """The plans of all runs that can be read, by the runs' ids.

    Raises:
        JournalError: a run that is ``needed`` can't be read.
    """

    def tell(_: OpenRun, plan: Plan) -> tuple[bytes, tuple[()]]:
        environment = plan.environment
        former = f"{environment} {plan.target}", f"{environment} {plan.base_url.rstrip('/').lower()}"
        return msgspec.msgpack.encode(KnownPlan(plan.digest, plan_scope(plan), former)), ()

    notes, _ = looked_up(state, "plans", tell, needed=needed)
    return {run_id: msgspec.msgpack.decode(note, type=KnownPlan) for run_id, note in notes.items()}


def name_in(scope: str, customer: str) -> str:
    """Under which name the index knows a customer in a scope."""
    return f"{scope}\0{customer}"


def plan_scope(plan: Plan) -> str:
    """Where what a plan's run did holds: environment and deployment."""
    return scope_of(plan.base_url, plan.environment)


def _is_unreadable(error: ToolkitError, run_id: str) -> bool:
    """Whether it is the journal that can't be read, and not what was done with it."""
    return (isinstance(error, JournalError) or error.code == "newer") and run_id in error.message


# Which open requests a later run has taken over, so that nobody counts them twice or forever.
#
# An operator may plan again instead of resuming, and a nightly job does so every night. Anyone who is settled in a
# later run of the same job and target is not open any more; anyone who is open there for the same days is counted
# there. To find out, ids are compared, a bounded number at a time.

#: The reason with which a request that was withdrawn is on hold.
WITHDRAWN = "withdrawn"

SETTLED_OUTCOMES = frozenset(Outcome) - OPEN_OUTCOMES
#: How many ids are held at once to be compared with later runs.
BATCH = 200_000

#: Day of the request and due date, as ISO 8601; None where there is none.
Days = tuple[str | None, str | None]


class Counted(msgspec.Struct):
    """A run, and its open subjects by their days as far as no later run has taken them over."""

    summary: Summary
    days: Counter[Days] = msgspec.field(default_factory=Counter)

    @property
    def successors(self) -> tuple[str, str, str]:
        """What has to be the same for a later run to be about the same requests."""
        plan = self.summary.plan
        return plan.job, deployment_key(plan.base_url), plan.environment


class SuccessorRuns:
    """The runs of one job and target, the oldest first; none of them is purged.

    ``by_id``: the job answers a person's request, so that the id alone says whether it was answered; else nothing is
    compared.
    """

    def __init__(self, state: State, runs: list[Counted], *, by_id: bool, batch: int = BATCH) -> None:
        self._state = state
        self._runs = runs
        self._by_id = by_id
        self._most = batch
        #: The open subjects at hand by id: for each run (by its place) that has them, their days.
        self._batch: dict[str, dict[int, Days]] = {}
        self._damaged: set[int] = set()

    def count(self) -> list[str]:
        """Count what is open into the ``days`` of the runs.

        Returns:
            The runs whose journals turned out to be damaged, and of which nothing is counted.
        """
        for place, run in enumerate(self._runs):
            if run.summary.open:
                try:
                    self._take(place, run)
                except Exception:  # noqa: BLE001 - damage shows in many ways, and none may hide the other runs
                    self._damaged.add(place)
        self._compare()
        for place in self._damaged:
            self._runs[place].days.clear()
        return [self._runs[place].summary.run_id for place in sorted(self._damaged)]

    def _take(self, place: int, run: Counted) -> None:
        with self._state.open(run.summary.run_id) as journal:
            if place == len(self._runs) - 1 or not self._by_id:
                run.days = _days(journal, run.summary.open)
                return
            for id_, _, days in open_subjects(journal):
                run.days[days] += 1
                self._batch.setdefault(id_, {})[place] = days
                if len(self._batch) >= self._most:
                    self._compare()

    def _compare(self) -> None:
        """Take off the count, from the batch at hand, what later runs have taken over; then drop the batch."""
        for place, run in enumerate(self._runs):
            names = {id_ for id_, found in self._batch.items() if min(found) < place}
            if not names or place in self._damaged:
                continue
            try:
                with self._state.open(run.summary.run_id) as journal:
                    self._strike(place, run, journal, names)
            except Exception:  # noqa: BLE001 - as above; without it people stay open, which is the safe side
                self._damaged.add(place)
        self._batch.clear()

    def _strike(self, place: int, run: Counted, journal: RunReader, names: set[str]) -> None:
        for id_ in journal.among(names, SETTLED_OUTCOMES):
            self._forget(id_, place)
        if run.summary.open:
            for id_, _, days in open_subjects(journal):
                if id_ in names:
                    self._forget(id_, place, days)

    def _forget(self, id_: str, before: int, wanted: Days | None = None) -> None:
        """Take an id off the count of all runs before a place, or of those only where its days are the same."""
        found = self._batch.get(id_, {})
        for place in [p for p, days in found.items() if p < before and wanted in {None, days}]:
            self._runs[place].days[found.pop(place)] -= 1
        if not found:
            self._batch.pop(id_, None)


def _days(journal: RunReader, number: int) -> Counter[Days]:
    """The open subjects by day of request and due date, from their number and the dated ones."""
    days: Counter[Days] = Counter()
    for requests in journal.open_requests():
        days[requests.requested_on, requests.due_on] += requests.subjects
    days[None, None] += number - sum(days.values())
    return days


def open_subjects(journal: RunReader, outcomes: Collection[Outcome] = OPEN_OUTCOMES) -> Iterator[tuple[str, int, Days]]:
    """Every subject in some outcomes, the open ones by default: id, number, and days."""
    for observed in journal.rows():
        if observed.state.outcome in outcomes:
            request, subject = observed.request, observed.subject
            days = (None, None) if request is None else (request.requested_on, request.due_on)
            yield subject.id, subject.seq, days


# People who are found again.


def earlier(
    state: State, plan: Plan, pages: Iterable[Sequence[tuple[Any, ...]]], personal: Collection[str]
) -> Counter[str]:
    """How many of the people of a plan were in earlier runs that answer requests, by how they last ended there.

    Runs of the same deployment and environment count, as far as they can be read and still know ids. Nobody is named.
    ``pages`` are row and id of the plan's subjects, ``personal`` the jobs that answer a person's request.
    """
    found: Counter[str] = Counter()
    runs: list[str] = []

    def look(run_id: str, journal: OpenRun, known: Plan) -> None:
        if known.job in personal and plan_scope(known) == plan_scope(plan) and journal.purged_at is None:
            runs.append(run_id)

    if plan.job in personal:
        look_through(state, look)
    ids = (row[1] for page in pages for row in page) if runs else iter(())
    while left := set(islice(ids, BATCH)):
        for run_id in runs:  # newest first: how somebody ended last is what counts
            with state.open(run_id) as journal:
                for outcome in journal.totals():
                    hits = journal.among(left, {outcome})
                    found[outcome.value] += len(hits)
                    left -= hits
    return +found


# The register of requests: what is open over all runs of a state folder, what is due first in front.


def is_past(days_left: int | None) -> bool:
    """Whether a day is over of which so many days are left: 0 on the day itself, None where there is no such day."""
    return days_left is not None and days_left < 0


class DueRequest(msgspec.Struct, frozen=True):
    """The open subjects of a run that were requested on one day and are due on one day; None: not dated.

    ``days_left`` is 0 on the last day in time and less than that afterwards.
    """

    run_id: str
    job: str
    target: str
    requested_on: str | None
    due_on: str | None
    days_left: int | None
    subjects: int

    @property
    def is_overdue(self) -> bool:
        """Whether the last day in time is over."""
        return is_past(self.days_left)


class NotCounted(msgspec.Struct, frozen=True):
    """A run whose open subjects are in no line: it was purged, or it rehearsed on SANDBOX; or it can't be read.

    ``open`` is None where its journal can't be read.
    """

    run_id: str
    reason: str
    open: int | None = None


class Register(msgspec.Struct, frozen=True):
    """What is open on a day."""

    today: date
    due: tuple[DueRequest, ...]
    not_counted: tuple[NotCounted, ...] = ()

    @property
    def open(self) -> int:
        """How many subjects the lines are about."""
        return sum(line.subjects for line in self.due)

    @property
    def overdue(self) -> int:
        """How many of them are overdue."""
        return sum(line.subjects for line in self.due if line.is_overdue)

    @property
    def is_complete(self) -> bool:
        """Whether every journal could be read; otherwise something may be overdue that nobody sees."""
        return all(run.open is not None for run in self.not_counted)


def register(state: State, today: date, personal: Collection[str], within: int | None = None) -> Register:
    """What is open over all runs, what is due first in front and what has no date last.

    ``personal`` are the jobs that answer a person's request: what a later run of theirs has settled is open no more.
    ``within`` leaves out what is due in more than so many days, or on no day. What was rehearsed is due for nobody:
    runs on SANDBOX are counted only where there are no others.
    """
    runs, not_counted = _runs(state)
    rehearsed = [run for run in runs if is_rehearsal(run.summary.plan)]
    if len(rehearsed) < len(runs):
        runs = [run for run in runs if not is_rehearsal(run.summary.plan)]
        named = ((run.summary.run_id, run.summary.open) for run in rehearsed)
        not_counted += [NotCounted(run_id, "rehearsed", number) for run_id, number in named if number]
    kins: defaultdict[tuple[str, str, str], list[Counted]] = defaultdict(list)
    for run in runs:
        kins[run.successors].append(run)
    for (job, *_), successors in kins.items():
        found = SuccessorRuns(state, successors, by_id=job in personal).count()
        not_counted += [NotCounted(run_id, "unreadable") for run_id in found]
    due = [line for run in runs for line in _lines(run, today) if within is None or _is_within(line, within)]
    due.sort(key=lambda d: (d.due_on is None, d.due_on or "", d.requested_on is None, d.requested_on or "", d.run_id))
    return Register(today, tuple(due), tuple(sorted(not_counted, key=lambda run: run.run_id)))


def is_rehearsal(plan: Plan) -> bool:
    """Whether a run is on SANDBOX: nothing of it is so for anybody."""
    return plan.environment == "sandbox"


def _runs(state: State) -> tuple[list[Counted], list[NotCounted]]:
    """Every run that can be read and was not purged, the oldest first, and those that can't be counted."""
    runs: list[Counted] = []
    not_counted: list[NotCounted] = []
    for run_id in state.run_ids():
        try:
            with state.open(run_id) as journal:
                summary = summarize(journal)
        except Exception:  # noqa: BLE001 - damage shows in many ways, and none may hide the other runs
            not_counted.append(NotCounted(run_id, "unreadable"))
            continue
        if not summary.purged:
            runs.append(Counted(summary))
        elif summary.open:
            not_counted.append(NotCounted(run_id, "purged", summary.open))
    return sorted(runs, key=lambda run: (run.summary.started_at, run.summary.run_id)), not_counted


def _lines(run: Counted, today: date) -> Iterator[DueRequest]:
    plan = run.summary.plan
    for (requested_on, due_on), subjects in run.days.items():
        if subjects:
            left = None if due_on is None else (date.fromisoformat(due_on) - today).days
            yield DueRequest(run.summary.run_id, plan.job, plan.target, requested_on, due_on, left, subjects)


def _is_within(line: DueRequest, days: int) -> bool:
    return line.days_left is not None and line.days_left <= days
