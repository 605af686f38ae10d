"""Requests over all runs: the register, the figures of a year, holds to review, and people who are found again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from privacy_toolkit.app.answers import Answers, is_extended, on_day
from privacy_toolkit.core.model import OF_EARLIER_RUNS, OPEN_OUTCOMES, Outcome, ToolkitError, count
from privacy_toolkit.engine.open_requests import BATCH, SETTLED_OUTCOMES, open_subjects, plan_scope
from privacy_toolkit.engine.summary import Summary, summarize
from privacy_toolkit.jobs import declaration, jobs_that
from privacy_toolkit.journal.store import State
from privacy_toolkit.reporting.register import (
    NO_REFUSAL,
    CalendarDay,
    PurgedRequests,
    RequestLine,
    RequestRegister,
    figures,
)
from privacy_toolkit.reporting.rows import pseudonym

# The register.


@dataclass(slots=True)
class _Known:
    """A run that answers requests: its summary, and who of it goes on in a later run, by the subject's number."""

    summary: Summary
    purged_at: int | None
    taken_over: dict[int, str] = field(default_factory=dict)

    @property
    def begun(self) -> date:
        return datetime.fromtimestamp(self.summary.started_at / 1e6, UTC).date()


def register(state: State, today: date, packs: Path | None = None) -> RequestRegister:
    """Every request over all runs, by run from the oldest on; purged runs with what is left of them.

    A request that is open or failed, and that a later run of the same job and target has settled or has open with the
    same days, is taken over by that run. ``packs`` is the folder in which packs are by default.
    """
    runs, unreadable = _known_runs(state)
    present = [run for run in runs if run.purged_at is None]
    kin: defaultdict[tuple[str, str], list[_Known]] = defaultdict(list)
    for run in present:
        kin[run.summary.plan.job, plan_scope(run.summary.plan)].append(run)
    for successors in kin.values():
        for place, run in enumerate(successors):
            if run.summary.open or run.summary.failed:
                _take_over(state, run, successors[place + 1 :])

    def lines() -> Iterator[RequestLine]:
        for run in present:
            yield from _lines(state, run, packs)

    purged = [_left(state, run, packs) for run in runs if run.purged_at is not None]
    return RequestRegister(today=today, lines=lines, purged=purged, unreadable=unreadable)


def _known_runs(state: State) -> tuple[list[_Known], list[str]]:
    """The runs that answer requests, the oldest first, and those that can't be read."""
    runs: list[_Known] = []
    unreadable: list[str] = []
    for run_id in reversed(state.run_ids()):
        try:
            with state.open(run_id) as journal:
                found = _Known(summarize(journal), journal.purged_at)
        except ToolkitError:
            unreadable.append(run_id)
            continue
        plan = found.summary.plan  # who is erased again since they reappeared had asked before
        if declaration(plan.job).has_clock and not OF_EARLIER_RUNS & plan.parameters.keys():
            runs.append(found)
    return runs, unreadable


def _take_over(state: State, run: _Known, later: Sequence[_Known]) -> None:
    with state.open(run.summary.run_id) as journal:
        unfinished = open_subjects(journal, {*OPEN_OUTCOMES, Outcome.FAILED})
        while some := {id_: (seq, days) for id_, seq, days in islice(unfinished, BATCH)}:
            for other in later:
                with state.open(other.summary.run_id) as there:
                    settled = there.among(some.keys(), SETTLED_OUTCOMES - {Outcome.FAILED})
                    if other.summary.open:
                        for id_, _, days in open_subjects(there, OPEN_OUTCOMES):
                            if id_ in some and some[id_][1] == days:
                                settled.add(id_)
                for id_ in settled:
                    run.taken_over[some.pop(id_)[0]] = other.summary.run_id


def _lines(state: State, run: _Known, packs: Path | None = None) -> Iterator[RequestLine]:
    plan, run_id, pack = run.summary.plan, run.summary.run_id, _pack(packs, run.summary.run_id)
    answers = Answers(state, run_id)
    with state.open(run_id) as journal:
        secret = journal.secret
        for observed in journal.rows():
            request, row = observed.request, observed.state
            outcome = Outcome(row.outcome)
            name = None if secret is None else pseudonym(secret, observed.subject.seq, observed.subject.id)
            settled_on = None if outcome in OPEN_OUTCOMES else on_day(row.settled_at)
            yield RequestLine(
                run_id=run_id,
                job=plan.job,
                target=plan.target,
                environment=plan.environment,
                reference=name,
                ticket=request and request.ticket,
                received=request and request.requested_on,
                due=request and request.due_on,
                extended=is_extended(observed, plan),
                outcome=outcome,
                ground=row.hold_reason,
                settled=None if settled_on is None else settled_on.isoformat(),
                answered=None if name is None else answers.of(name, outcome),
                taken_over_by=run.taken_over.get(observed.subject.seq),
                pack=pack,
            )


def _left(state: State, run: _Known, packs: Path | None) -> PurgedRequests:
    plan, run_id = run.summary.plan, run.summary.run_id
    with state.open(run_id) as journal:
        days = [o.request.requested_on for o in journal.rows() if o.request and o.request.requested_on]
    answered: Counter[str] = Counter()
    for numbers in Answers(state, run_id).left.values():
        answered.update(numbers)
    purged_on = on_day(run.purged_at)
    return PurgedRequests(
        run_id=run_id,
        job=plan.job,
        target=plan.target,
        environment=plan.environment,
        purged_on=purged_on.isoformat() if purged_on else "",
        subjects=plan.rows.subjects,
        first_received=min(days, default=None),
        last_received=max(days, default=None),
        outcomes={outcome.value: number for outcome, number in run.summary.totals.items()},
        answered=dict(sorted(answered.items())),
        pack=_pack(packs, run_id),
    )


def _pack(packs: Path | None, run_id: str) -> str:
    return str(packs / run_id) if packs is not None and (packs / run_id / "report.json").exists() else ""


def metrics(state: State, year: int, today: date) -> dict[str, Any]:
    """The figures of a year by job, with how many runs could not be read and how many are purged."""
    whole = register(state, today)
    runs, _ = _known_runs(state)
    begun = {run.summary.run_id: run.begun for run in runs}

    def lines() -> Iterator[tuple[RequestLine, date]]:
        yield from ((line, begun[line.run_id]) for line in whole.lines())
        for run in runs:  # what a purge leaves has outcomes and days, and nobody's name
            if run.purged_at is not None:
                yield from ((line, run.begun) for line in _lines(state, run))

    found = figures(lines(), year, today, jobs_that(lambda job: job.has_clock))
    purged = [run for run in runs if run.purged_at is not None]
    for run in purged:
        numbers = Answers(state, run.summary.run_id).left.get(year, Counter())
        found[run.summary.plan.job].answered += numbers.total()
    return {
        "year": year,
        "today": today.isoformat(),
        "requests": {job: one.as_object() for job, one in found.items()},
        "purged_runs": len(purged),
        "unreadable": list(whole.unreadable),
    }


# Holds, and what of them is to be reviewed.


@dataclass(frozen=True, slots=True)
class HeldRequests:
    """Subjects of a run that are on hold on one ground and to be reviewed on one day; None: on no day."""

    run_id: str
    job: str
    target: str
    reason: str | None
    review_on: str | None
    days_left: int | None
    subjects: int

    @property
    def is_past(self) -> bool:
        """Whether the day of the review is over."""
        return self.days_left is not None and self.days_left < 0


def holds(state: State, today: date, within: int | None = None) -> tuple[list[HeldRequests], list[str]]:
    """Who is on hold over all runs that are not purged, what is to be reviewed first in front; and unreadable runs.

    ``within`` leaves out what is to be reviewed in more than so many days, or on no day. Grounds of the toolkit's own
    and withdrawn requests are not listed: nobody reviews them.
    """
    found: Counter[tuple[str, str, str, str | None, str | None]] = Counter()
    unreadable = []
    for run_id in state.run_ids():
        try:
            with state.open(run_id) as journal:
                summary = summarize(journal)
                if summary.purged or not summary.totals.get(Outcome.ON_HOLD):
                    continue
                for entry in journal.entries({Outcome.ON_HOLD}):
                    if entry.state.hold_reason not in NO_REFUSAL:
                        key = (run_id, summary.plan.job, summary.plan.target)
                        found[(*key, entry.state.hold_reason, entry.state.review_on)] += 1
        except ToolkitError:
            unreadable.append(run_id)
    lines = [
        HeldRequests(*key, None if key[-1] is None else (date.fromisoformat(key[-1]) - today).days, number)
        for key, number in found.items()
    ]
    lines = [line for line in lines if within is None or (line.days_left is not None and line.days_left <= within)]
    return sorted(lines, key=lambda one: (one.review_on is None, one.review_on or "", one.run_id)), unreadable


def calendar_days(due: Iterable[Any], held: Iterable[HeldRequests]) -> Iterator[CalendarDay]:
    """What a calendar shows: due dates and reviews, in totals. ``due`` are ``DueRequest``."""
    for line in due:
        if line.due_on is not None:
            yield CalendarDay(
                f"due {line.run_id} {line.requested_on} {line.due_on}",
                line.due_on,
                f"{count(line.subjects, 'request')} due ({line.job}, {line.target})",
                f"Requested on {line.requested_on}. privacy-toolkit runs show {line.run_id}",
            )
    for one in held:
        if one.review_on is not None:
            yield CalendarDay(
                f"review {one.run_id} {one.reason} {one.review_on}",
                one.review_on,
                f"Review {count(one.subjects, 'hold')} on {one.reason} ({one.target})",
                f"privacy-toolkit due --holds; run {one.run_id}",
            )
