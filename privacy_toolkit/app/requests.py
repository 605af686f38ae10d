"""Data subject requests over all runs: the register, figures, people found again, and the answers."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from privacy_toolkit.access.letters import Letter, LetterFacts, LetterWriter
from privacy_toolkit.access.placing import placed
from privacy_toolkit.core.durable import put_folder
from privacy_toolkit.core.model import OF_EARLIER_RUNS, OPEN_OUTCOMES, Outcome, Regime, ToolkitError, UsageError, count
from privacy_toolkit.core.privacy import check_apart
from privacy_toolkit.engine.job import Table
from privacy_toolkit.engine.open_requests import (
    BATCH,
    SETTLED_OUTCOMES,
    WITHDRAWN,
    deadline_of,
    is_rehearsal,
    open_subjects,
    plan_scope,
)
from privacy_toolkit.engine.plan import Plan, Summary, summarize
from privacy_toolkit.jobs import declaration, jobs_that
from privacy_toolkit.jobs.patrol import EarlierErasure, erased_before, seen_again
from privacy_toolkit.journal.records import Observed, RunAnswers, SentAnswer, counted, decode_package
from privacy_toolkit.journal.store import OpenRun, State, purged
from privacy_toolkit.reporting.register import (
    NO_REFUSAL,
    PurgedRequests,
    RequestLine,
    RequestRegister,
    figures,
    going_on,
)
from privacy_toolkit.reporting.rows import AGAIN, pseudonym, write_table

# When people were sent their answers, as somebody recorded it.
#
# A file a run in the folder ``answers`` of the state. People are named by the beginning of their pseudonyms, so there
# is no id in it. A purge destroys the key of the pseudonyms. It also takes away the days, since a day next to the log
# of a mail server would tell whose row of the pack is whose. Numbers by outcome and year are left.

_NAMED: Final = 32  # hexadecimal digits of a pseudonym
_THERE: Final = (FileExistsError, NotADirectoryError)


class Answers:
    """The answers of one run that were recorded as sent."""

    def __init__(self, state: State, run_id: str) -> None:
        self._store = state.answers
        self._run_id = run_id
        self._known = self._store.read(run_id)

    def of(self, name: str, outcome: Outcome) -> str | None:
        """The day of the answer to somebody, by the pseudonym; None if there is none about this outcome."""
        found = self._known.sent.get(name[:_NAMED])
        return found.on if found is not None and found.outcome == outcome else None

    @property
    def left(self) -> dict[int, Counter[str]]:
        """Of a purged run, how many answers were recorded by year and outcome."""
        return {int(year): Counter(numbers) for year, numbers in counted(self._known).left.items()}

    def record(self, sent: dict[str, SentAnswer]) -> None:
        """Record answers by pseudonym, durably; what was recorded of the same people is replaced.

        Raises:
            JournalError: it can't be written.
        """
        named = {name[:_NAMED]: answer for name, answer in sent.items()}
        self._store.change(self._run_id, lambda known: RunAnswers(sent=known.sent | named, left=known.left))


# What a letter to somebody is about.

#: Kinds of letters that are the answer to a request; the others are words on the way to it.
FINAL: Final = frozenset({"erased", "nothing_held", "refused", "withdrawn", "access", "access_nothing"})
_OF_ERASURE: Final = {Outcome.ERASED: "erased", Outcome.NOTHING_HELD: "nothing_held"}
_OF_ACCESS: Final = {Outcome.DONE: "access", Outcome.NOTHING_HELD: "access_nothing"}


def kind_of(observed: Observed, plan: Plan) -> str | None:
    """What the letter to a subject is about; None where there is nothing to say, as after a failure.

    ``open`` is for those who are to hear that their request is being worked on, if that is wanted.
    """
    state = observed.state
    outcome = Outcome(state.outcome)
    if outcome in OPEN_OUTCOMES or outcome is Outcome.FAILED:
        return "extended" if outcome is not Outcome.FAILED and is_extended(observed, plan) else "open"
    if outcome is Outcome.ON_HOLD:
        if state.hold_reason == WITHDRAWN:
            return "withdrawn"
        return None if state.hold_reason in NO_REFUSAL else "refused"
    return (_OF_ACCESS if declaration(plan.job).packages else _OF_ERASURE).get(outcome)


def is_extended(observed: Observed, plan: Plan) -> bool:
    """Whether the person was told in time that it takes longer: then the due date is later than the first one."""
    request = observed.request
    if request is None or request.requested_on is None or request.due_on is None:
        return False
    first = deadline_of(Regime(plan.regime), date.fromisoformat(request.requested_on))
    return first is not None and first.isoformat() < request.due_on


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


def on_day(microseconds: int | None) -> date | None:
    """The day (UTC) of a moment in microseconds since the epoch; None stays None."""
    return None if microseconds is None else datetime.fromtimestamp(microseconds / 1e6, UTC).date()


def _facts(kind: str, observed: Observed, plan: Plan, over: _Overtaken) -> LetterFacts:
    state, request, package = observed.state, observed.request, decode_package(observed.result)
    due_on, review_on = _day(request and request.due_on), _day(state.review_on)
    is_review_over = review_on is not None and review_on < over.today  # nobody is promised a day that is over
    is_due_over = due_on is not None and due_on < over.today and kind in _SAY_OPEN
    return LetterFacts(
        kind=kind,
        customer_id=observed.subject.id,
        regime=plan.regime,
        ticket=request and request.ticket,
        requested_on=_day(request and request.requested_on),
        due_on=None if is_due_over else due_on,
        settled_on=on_day(state.settled_at),
        ground=state.hold_reason,
        review_on=None if is_review_over else review_on,
        kept=(state.first_count or 0) + (state.second_count or 0),
        package="" if package is None or not over.is_placed(package.name) else package.name,
        erased_on=over.erased_on(observed) if package is None else _day(package.erased_on),
    )


# Letters: a file in each form for everybody who has something to be told, and an index.

INDEX: Final = "index.csv"
#: Why somebody gets no cover letter: what it would cover was removed since.
PACKAGE_GONE: Final = "package_gone"
_COLUMNS: Final = ("letter", "id", "ticket", "kind", "outcome", "requested_on", "due_on", "package")


class LetterOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What letters are wanted: where, by which templates, in which language.

    ``with_open``: those whose request is open hear that it is worked on. ``unsent``: only who has no recorded answer.
    """

    out: Path
    templates: Path
    lang: str
    with_open: bool = False
    unsent: bool = False


class WrittenLetters(msgspec.Struct):
    """How many letters were written by kind, and how many subjects got none by outcome; ``index`` maps them.

    ``without`` also counts ``reappeared`` and ``taken_over`` by later runs, ``overdue`` of extended requests, and
    ``package_gone``: of whom there is no package any more in ``packages``; and ``answered`` before, with ``unsent``.
    """

    index: Path
    letters: Counter[str] = msgspec.field(default_factory=Counter)
    without: Counter[str] = msgspec.field(default_factory=Counter)
    #: Where it was carried out; nothing of a run on ``sandbox`` is so for anybody.
    environment: str = "live"
    no_reason: int = 0  # extended requests without a letter, since the settings give no reason for the extension
    reviews_past: int = 0  # refusals that name no review, since its day is over
    packages: str = ""
    #: What of the settings is not there in the language of the letters, which say it in another one.
    foreign: Sequence[str] = ()


def write_letters(state: State, run_id: str, order: LetterOrder, today: date) -> WrittenLetters:
    """Write the letters of a run into a new folder, all or none.

    Raises:
        UsageError: the run answers nobody's request; the folder is there; a template can't be used.
        RefusedError, JournalError: the run was purged; the journal can't be read.
    """
    check_apart(order.out)
    with _answering(state, run_id) as (journal, plan, secret):
        writer = LetterWriter(order.templates, order.lang, rehearsed=is_rehearsal(plan))
        _make_way(order.out)
        answers, over = Answers(state, run_id), _Overtaken.of(state, run_id, plan, today)
        written = WrittenLetters(order.out / INDEX, environment=plan.environment, packages=plan.out or "")

        def rows(folder: Path) -> Iterator[tuple[str, ...]]:
            for observed in journal.rows():
                name = pseudonym(secret, observed.subject.seq, observed.subject.id)
                kind = _wanted(observed, plan, order)
                is_told = order.unsent and answers.of(name, Outcome(observed.state.outcome)) is not None
                by = None if kind is None else "answered" if is_told else over.by(observed, kind)
                if by is not None:
                    written.without[by] += 1
                    continue
                facts = None if kind is None else _facts(kind, observed, plan, over)
                if kind == "extended" and facts is not None and writer.reason(facts) is None:
                    written.no_reason += 1
                    facts = None
                if facts is None or kind is None:
                    written.without[observed.state.outcome] += 1
                    continue
                written.letters[kind] += 1
                written.reviews_past += facts.review_on is None and observed.state.review_on is not None
                stem = facts.package.partition(".")[0] or name[:_NAMED]
                _put(folder, stem, writer.write(facts, today))
                yield _index_row(stem, kind, observed, facts)

        try:
            order.out.absolute().parent.mkdir(parents=True, exist_ok=True)
            with put_folder(order.out, over=False) as folder:
                table = Table("index", dict.fromkeys(_COLUMNS, str), ("id", "ticket"), lambda: rows(folder))
                write_table(folder / INDEX, table, guard=True, hint=AGAIN)
                os.sync()  # once for all letters: each on its own would take hours for a million
        except OSError as error:
            raise UsageError(
                f"The letters can't be written to {order.out}: {error.strerror}.",
                "Name a folder that is not there." if isinstance(error, _THERE) else AGAIN,
            ) from None
    written.foreign = sorted(writer.foreign)
    return written


def _make_way(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()


def _wanted(observed: Observed, plan: Plan, order: LetterOrder) -> str | None:
    kind = kind_of(observed, plan)
    return None if kind == "open" and not order.with_open else kind


# Nobody is told what one run observed where a later run has shown it to be over.
_SAY_GONE: Final = frozenset({"erased", "nothing_held"})
_ABSENT: Final = Outcome.NOTHING_HELD
_SAY_OPEN: Final = frozenset({"open", "extended"})
_SAY_NOT_DONE: Final = _SAY_OPEN | {"refused"}


class _Overtaken(msgspec.Struct, frozen=True):
    """Who of a run was seen again since, with the moment in µs; and whose request went on, by the subject's number.

    ``is_placed`` says by its name whether a package is still there.
    """

    today: date
    seen: dict[str, int]
    taken_over: dict[int, str]
    is_placed: Callable[[str], bool]
    #: Who of an erasure was erased by another run.
    erased: Mapping[str, EarlierErasure]

    @classmethod
    def of(cls, state: State, run_id: str, plan: Plan, today: date) -> _Overtaken:
        runs, _ = _known_runs(state)
        run = next((one for one in runs if one.summary.run_id == run_id), None)  # None: nobody asked for it again
        later = [] if run is None else [one for one in runs[runs.index(run) + 1 :] if one.kind == run.kind]
        if run is not None and run.may_go_on:
            _take_over(state, run, later)
        is_placed = placed(plan.out, run_id) if declaration(plan.job).packages and plan.out else lambda _: True
        scope, erases = plan_scope(plan), declaration(plan.job).erases
        erased = erased_before(state, scope, run_id) if erases and run and run.summary.totals.get(_ABSENT) else {}
        return cls(today, seen_again(state, scope), run.taken_over if run else {}, is_placed, erased)

    def erased_on(self, observed: Observed) -> date | None:
        """The day on which another run had erased somebody before nothing was found; None if none is known."""
        found = self.erased.get(observed.subject.id) if observed.state.outcome == _ABSENT else None
        return found.on if found is not None and found.at <= (observed.state.settled_at or 0) else None

    def is_lifted(self, observed: Observed) -> bool:
        """Whether somebody is on hold here, and a later run has the answer to their request."""
        return observed.state.outcome == Outcome.ON_HOLD and observed.subject.seq in self.taken_over

    def is_told(self, observed: Observed, on: date) -> bool:
        """Whether somebody whose request is settled had a letter on a day."""
        again_on = on_day(self.seen.get(observed.subject.id))  # from then on no letter says of them that all is gone
        return not self.is_lifted(observed) and (again_on is None or on < again_on)

    def by(self, observed: Observed, kind: str) -> str | None:
        """What is so instead of what a letter of this kind would say; None if nothing is known to be."""
        due_on = _day(observed.request and observed.request.due_on)
        if kind == "extended" and due_on is not None and due_on < self.today:  # it would promise a day that is over
            return "overdue"
        if kind in _SAY_GONE and self.seen.get(observed.subject.id, 0) > (observed.state.settled_at or 0):
            return Outcome.REAPPEARED.value
        package = decode_package(observed.result) if kind == "access" else None
        if package is not None and not self.is_placed(package.name):  # the letter is the cover of it
            return PACKAGE_GONE
        # "We are working on it" or "we will review this" would be false by now.
        return "taken_over" if kind in _SAY_NOT_DONE and observed.subject.seq in self.taken_over else None


def _index_row(stem: str, kind: str, observed: Observed, facts: LetterFacts) -> tuple[str, ...]:
    request = observed.request
    days = (request.requested_on, request.due_on) if request else ("", "")
    told = (facts.ticket, kind, observed.state.outcome, *days, facts.package)
    return stem, observed.subject.id, *(text or "" for text in told)


def _put(folder: Path, stem: str, letter: Letter) -> None:
    for suffix, content in (("html", letter.html), ("txt", letter.text)):
        place = os.open(folder / f"{stem}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(place, "wb") as file:
            file.write(content)


@contextmanager
def _answering(state: State, run_id: str) -> Iterator[tuple[OpenRun, Plan, bytes]]:
    """A run that answers people's requests, with its plan and its secret.

    Raises:
        UsageError: it answers nobody's request; RefusedError: it was purged.
    """
    with state.open(run_id) as journal:
        plan = summarize(journal).plan
        if not declaration(plan.job).has_clock:
            raise UsageError(
                f"Run {run_id} ({plan.job}) answers no request of a person.", "Name a run of erase or export."
            )
        if journal.secret is None:
            raise purged(journal)
        yield journal, plan, journal.secret


#: So much earlier than that of UTC a day may be somewhere.
_ELSEWHERE: Final = timedelta(days=1)


def record_sent(state: State, run_id: str, ids: Sequence[str] | None, on: date, today: date) -> tuple[int, int]:
    """Record that answers were sent on a day; how many, and how many of the run still wait for one.

    ``ids`` are those who were sent theirs, whose day is replaced if there is one; None: everybody whose request is
    settled and who has none recorded, without those whom a patrol had seen again by that day, and those on hold whose
    request a later run has taken over: they have no letter of this run.

    Raises:
        UsageError: the day is to come; the run answers nobody's request; an id is not in it, or its request has no
            answer yet, or has had one only since that day. Nothing is recorded then.
        RefusedError, JournalError: the run was purged; it can't be written.
    """
    if on > today:
        raise UsageError(f"{on} is to come: record an answer once it was sent.")
    answers = Answers(state, run_id)
    wanted = None if ids is None else set(ids)
    sent: dict[str, SentAnswer] = {}
    unanswered: set[str] = set()
    waiting = early = 0
    with _answering(state, run_id) as (journal, plan, secret):
        over = _Overtaken.of(state, run_id, plan, today)
        begun = datetime.fromtimestamp(journal.created_at / 1e6, UTC).year
        for observed in journal.rows():
            id_, outcome = observed.subject.id, Outcome(observed.state.outcome)
            if kind_of(observed, plan) not in FINAL:
                unanswered.add(id_)
                continue
            name = pseudonym(secret, observed.subject.seq, id_)
            has_none = answers.of(name, outcome) is None
            if (has_none and over.is_told(observed, on)) if wanted is None else id_ in wanted:
                received = _day(observed.request and observed.request.requested_on)
                settled_on = on_day(observed.state.settled_at)
                early += settled_on is not None and on < settled_on - _ELSEWHERE
                sent[name] = SentAnswer(on.isoformat(), outcome.value, received.year if received else begun)
            waiting += has_none and name not in sent and not over.is_lifted(observed)
            if wanted is not None:
                wanted.discard(id_)
    if wanted:
        raise _not_recorded(ids or (), wanted, unanswered)
    if early:
        raise UsageError(
            f"Nothing was recorded: {count(early, 'request')} had no outcome yet on {on}.",
            "Name the day of the letters.",
        )
    answers.record(sent)
    return len(sent), waiting


def _not_recorded(ids: Sequence[str], missing: Collection[str], unanswered: Collection[str]) -> UsageError:
    """Says which of the ids can't be recorded, by their numbers."""
    numbers = [number for number, id_ in enumerate(ids, 1) if id_ in missing]
    first = next(iter(id_ for id_ in ids if id_ in missing))
    why = "has no final answer yet" if first in unanswered else "is not in this run"
    named = ", ".join(map(str, numbers[:20])) + (" …" if numbers[20:] else "")
    return UsageError(
        f"Nothing was recorded: {count(len(numbers), 'id')} can't be (number {named}); the first one {why}.",
        "They are ids alone, without a heading: privacy-toolkit runs subjects RUN shows who is in it.",
    )


# The register.


#: What was asked for was done, or there was nothing to do.
CARRIED_OUT: Final = frozenset({Outcome.ERASED, Outcome.NOTHING_HELD, Outcome.DONE})
_NOT_CARRIED_OUT: Final = frozenset({Outcome.ON_HOLD, Outcome.FAILED})


class _Known(msgspec.Struct):
    """A run that answers requests: its summary, and who of it goes on in a later run, by the subject's number."""

    summary: Summary
    purged_at: int | None
    taken_over: dict[int, str] = msgspec.field(default_factory=dict)

    @property
    def kind(self) -> tuple[str, str, int | None]:
        return self.summary.plan.job, plan_scope(self.summary.plan), self.purged_at

    @property
    def may_go_on(self) -> bool:
        """Whether it has requests that were not carried out, which a later run may have taken over."""
        return bool(self.summary.open or self.summary.failed or self.summary.totals.get(Outcome.ON_HOLD))

    @property
    def begun(self) -> date:
        return datetime.fromtimestamp(self.summary.started_at / 1e6, UTC).date()


def register(state: State, today: date, packs: Path | None = None) -> RequestRegister:
    """Every request over all runs, by run from the oldest on; purged runs with what is left of them.

    A request that is open or failed, and that a later run of the same job and target has settled or has open with the
    same days, is taken over by that run. So is one on hold whose refusal nobody has recorded as sent, and that a later
    run has carried out or has with the same days. ``packs`` is the folder in which packs are by default.
    """
    runs, unreadable = _known_runs(state)
    present = _compared(state, runs)

    def lines() -> Iterator[RequestLine]:
        for run in present:
            yield from _lines(state, run, packs)

    purged = [_left(state, run, packs) for run in runs if run.purged_at is not None]
    aside = state.ids_set_aside()
    return RequestRegister(today=today, lines=lines, purged=purged, unreadable=unreadable, set_aside=aside)


def _compared(state: State, runs: Sequence[_Known]) -> list[_Known]:
    """Give the runs that are not purged, each with who of it goes on in a later one."""
    present = [run for run in runs if run.purged_at is None]
    kin: defaultdict[tuple[str, str, int | None], list[_Known]] = defaultdict(list)
    for run in present:
        kin[run.kind].append(run)
    for successors in kin.values():
        for place, run in enumerate(successors):
            if run.may_go_on:
                _take_over(state, run, successors[place + 1 :])
    return present


def taking_over(state: State) -> dict[str, str]:
    """Tell which runs hold what became of requests that an earlier run has open, and which one that is.

    Once such a run is purged, these requests count as open again: nobody can tell any more whose they were.
    """
    present = _compared(state, _known_runs(state)[0])
    return {later: run.summary.run_id for run in present for later in run.taken_over.values()}


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
    if not later:
        return
    with state.open(run.summary.run_id) as journal:
        wanted = going_on(journal)
        while some := {id_: (seq, days, is_held) for id_, seq, days, is_held in islice(wanted, BATCH)}:
            held = {id_ for id_, (_, _, is_held) in some.items() if is_held}
            for other in later if some else ():
                with state.open(other.summary.run_id) as there:
                    settled = there.among(some.keys() - held, SETTLED_OUTCOMES - {Outcome.FAILED})
                    settled |= there.among(some.keys() & held, CARRIED_OUT)
                    again = there.among(some.keys(), OPEN_OUTCOMES) | there.among(some.keys() & held, _NOT_CARRIED_OUT)
                    for id_, _, days in open_subjects(there, OPEN_OUTCOMES | _NOT_CARRIED_OUT) if again else ():
                        if id_ in again and some[id_][1] == days:
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
            answered = None if name is None else answers.of(name, outcome)
            is_refused = outcome is Outcome.ON_HOLD and answered is not None  # what comes later is another answer
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
                answered=answered,
                taken_over_by=None if is_refused else run.taken_over.get(observed.subject.seq),
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
    """The figures of a year by job, with how many runs could not be read and how many are purged.

    What was rehearsed answered nobody: runs on SANDBOX are left out, and counted alone only where there are no others.
    """
    whole = register(state, today)
    known, _ = _known_runs(state)
    environments = {run.summary.plan.environment for run in known}
    environment = "sandbox" if environments == {"sandbox"} else "live"
    runs = [run for run in known if run.summary.plan.environment == environment]
    begun = {run.summary.run_id: run.begun for run in runs}

    def lines() -> Iterator[tuple[RequestLine, date]]:
        yield from ((line, begun[line.run_id]) for line in whole.lines() if line.run_id in begun)
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
        "environment": environment,
        "left_out": len(known) - len(runs),
        "requests": {job: one.as_object() for job, one in found.items()},
        "purged_runs": len(purged),
        "unreadable": list(whole.unreadable),
        **({"set_aside": list(whole.set_aside)} if whole.set_aside else {}),
    }
