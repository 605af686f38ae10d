"""``patrol``: those who were erased are read again, and anyone who is visible again is named as reappeared.

It only reads. A 404 counts as everywhere else: said twice, on two connections, between controls that held. Since
nothing but absence is expected, the controls have to include a profile that must be visible: the key of another
environment would find everybody "still gone".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import islice
from random import Random
from typing import NamedTuple

import msgspec

from privacy_toolkit.core.model import Gone, HeldBefore, Hold, Job, Outcome, Purpose, Reason, Sequencing, UsageError
from privacy_toolkit.engine.job import (
    INVENTORY_WORDS,
    OTHER_ENVIRONMENT,
    OUT_OF_SIGHT,
    Assigned,
    Calls,
    Context,
    Declaration,
    Headline,
    IdleWords,
    JobWords,
    Parameters,
    Preparation,
)
from privacy_toolkit.engine.open_requests import BATCH, former_scopes, look_through, may_be_of, plan_scope
from privacy_toolkit.engine.plan import Plan, plan_of
from privacy_toolkit.engine.planning import NOT_ERASED, catch_up
from privacy_toolkit.engine.steps import PROOF_TRIES, Steps
from privacy_toolkit.inputs.options import ID_COLUMNS
from privacy_toolkit.inputs.pairs import Record, RowForm
from privacy_toolkit.journal.records import Entry, Observed, SubjectState
from privacy_toolkit.journal.store import OpenRun, State, purged, running
from privacy_toolkit.talonone.inventory import GONE_PREDICATE, holding
from privacy_toolkit.talonone.operations import OPERATIONS
from privacy_toolkit.talonone.responses import Answer, Finding

INVENTORY = OPERATIONS["get_customer_inventory"]

# What a plan says of a patrol.

#: The run whose erased customers are read again; of a list only where somebody says which run it is about.
RECHECKS = "rechecks"
#: Whether a list of the controller's says whom to read, since the run knows no ids any more.
LISTED = "listed"
#: How many days after the erasure that is, and as of which day it was asked for, where that is not today.
AFTER_DAYS, AS_OF = "after_days", "as_of"
#: How many of the erased are read, if not all, the number from which these are drawn, and how many were erased.
SAMPLE, SEED, ERASED = "sample", "seed", "erased"
#: What binds the newest pack of that run: its number in the chain, the root of its rows, the SHA-256 of its SHA256SUMS.
PACK_NUMBER, PACK_ROOT, PACK_SUMS = "pack_number", "pack_root", "pack_sums"
#: Of an erasure: the patrol whose reappeared customers are erased again; ``all`` of the deployment's.
REAPPEARED, EVERY = "reappeared", "all"

_AFTER_COLUMN = "after_erasure"
_AFTER = frozenset(Gone)


class Patrol(msgspec.Struct, frozen=True):
    """The procedure: read once more, and name what was seen."""

    def keys(self, entries: Sequence[Entry]) -> Collection[str]:  # noqa: ARG002 - the protocol's
        """None: the subjects are distinct customers, and reading disturbs nobody."""
        return ()

    async def walk(self, entries: Sequence[Entry], steps: Steps) -> None:
        """Look whether one customer is still gone; of one who reappeared, whether that is still so."""
        (entry,) = entries
        answer, is_proven = await _read(steps)
        if answer.finding is Finding.CREDENTIALS:
            steps.leave()
        elif is_proven and answer.finding is Finding.ABSENT:
            steps.saw_gone(Gone.ABSENT, surely=True)
            _settle(entry, steps, Outcome.DONE, Reason.STILL_GONE)
        elif is_proven and answer.finding is Finding.DONE:
            await _name(entry, steps, answer)
        elif entry.state.outcome is Outcome.REAPPEARED:  # what was seen stays so until a read shows otherwise
            steps.leave()
        else:
            unproven = not is_proven or answer.reason is Reason.ROUTE_UNPROVEN
            reason = Reason.ROUTE_UNPROVEN if unproven else answer.reason
            steps.settle(SubjectState(Outcome.PENDING if unproven else Outcome.RETRYABLE, reason, settled_at=steps.now))


async def _read(steps: Steps) -> tuple[Answer, bool]:
    """The inventory, and whether the answer is certainly the API's to this question."""
    for _ in range(PROOF_TRIES):
        answer = await steps.read(INVENTORY, Purpose.READ_AFTER)
        if answer.finding is Finding.ABSENT:
            answer = await steps.absence(INVENTORY, Purpose.READ_AFTER, answer)
        if answer.finding is not Finding.DONE or await steps.proven(INVENTORY, answer):
            return answer, True
    return answer, False


async def _name(entry: Entry, steps: Steps, answer: Answer) -> None:
    """Name what an inventory shows of somebody who was erased.

    Anyone who was answered 404 after the erasure has a profile again as soon as one is listed, attributes or not:
    sessions and events are not shown. Where a profile stays listed after an erasure, only attributes show a new use.
    """
    seen, after = holding(answer.value), entry.subject.given
    if seen.visible:
        _settle(entry, steps, Outcome.REAPPEARED, None, HeldBefore.VISIBLE)
    elif after == Gone.ABSENT or (not after and await steps.are_erased_absent(answer)):
        _settle(entry, steps, Outcome.REAPPEARED, Reason.LISTED_AGAIN, HeldBefore.NONE_VISIBLE)
    else:
        _settle(entry, steps, Outcome.DONE, Reason.EMPTY_PROFILE, HeldBefore.NONE_VISIBLE)


def _settle(
    entry: Entry, steps: Steps, outcome: Outcome, reason: Reason | None, held: HeldBefore | None = None
) -> None:
    if outcome is Outcome.DONE and entry.state.outcome is Outcome.REAPPEARED:
        reason = Reason.GONE_AGAIN
    steps.settle(SubjectState(outcome, reason, held_before=held, settled_at=steps.now))


# Whom a patrol reads: those whom a run erased, as far as they are on the list of erased customers still.


class AfterForm(msgspec.Struct, frozen=True):
    """Rows of a run: the id, and how the customer was answered for after the erasure (``Gone``)."""

    id_columns: tuple[str, ...] = ID_COLUMNS
    is_distinct: bool = True

    def check(self, columns: Sequence[str], id_column: str, where: str) -> None:
        """Nothing more is needed than the ids."""

    def take(self, id_: str, record: Record, *, typed: bool) -> str:  # noqa: ARG002 - the form's
        """How the customer was answered for; "" if that is not known."""
        said = record.get(_AFTER_COLUMN)
        return said if isinstance(said, str) and said in _AFTER else ""

    def key(self, id_: str, given: str) -> str:  # noqa: ARG002 - the form's
        """The id itself."""
        return id_


def _form(parameters: Parameters) -> RowForm | None:
    return None if parameters.get(LISTED) else AfterForm()


def _source(parameters: Parameters, state: State, scope: str) -> Iterator[Sequence[str]] | None:
    """The rows of a patrol: whom a run erased, or the sample of them; None where a list says whom.

    Raises:
        UsageError: there is no such run, it erased nobody, its ids are gone, or it is of another deployment.
        RefusedError: it is under way.
    """
    if parameters.get(LISTED):
        return None
    run_id = state.find(str(parameters[RECHECKS]))
    with state.open(run_id) as journal:
        _check_usable(journal, run_id, scope)
        erased = journal.totals().get(Outcome.ERASED, 0)
    size = parameters.get(SAMPLE)
    drawn: Collection[int] = range(erased)
    if isinstance(size, int) and size < erased:  # the number is of the plan's, so the same rows come again
        seed = int(str(parameters.get(SEED, 0)))
        drawn = frozenset(Random(seed).sample(range(erased), size))  # noqa: S311 - as above
    return _erased_rows(state, run_id, drawn)


def _check_usable(journal: OpenRun, run_id: str, scope: str) -> None:
    plan = plan_of(journal)
    if plan_scope(plan) != scope:
        raise UsageError(
            f"Run {run_id} was on {plan.target} ({plan.environment}); the settings say otherwise.",
            "Name the profile it was made for with --profile.",
        )
    if journal.purged_at is not None:
        raise purged(
            journal,
            "its ids are gone. Whom it erased can be checked from a list of yours alone",
            f"privacy-toolkit patrol {run_id} --list FILE reads those of FILE who are on the list of erased customers.",
        )
    if journal.is_running:
        raise running(run_id)


def _erased_rows(state: State, run_id: str, drawn: Collection[int]) -> Iterator[Sequence[str]]:
    yield "customer_id", _AFTER_COLUMN, "ticket"
    with state.open(run_id) as journal:
        erased = (one for one in journal.rows() if one.state.outcome == Outcome.ERASED)
        for number, observed in enumerate(erased):
            if number in drawn:  # after a 404 there is nothing that could have been counted
                after = Gone.ABSENT if observed.state.first_count is None else Gone.EMPTIED
                yield observed.subject.id, after, _ticket(observed)


def _ticket(observed: Observed) -> str:
    return (observed.request.ticket or "") if observed.request else ""


def _prepare(preparation: Preparation) -> Assigned:
    """The subjects as they stand; nobody is read who is not, or no longer, on the list of erased customers.

    Raises:
        JournalError: the list can't be read.
    """
    state, scope = preparation.state, preparation.scope
    holds: dict[int, Hold] = {}
    with state.suppression() as listed:
        catch_up(listed, state)
        is_erased = listed.of({scope, *former_scopes(state, scope, may_be_of(Job.ERASE))})
        ids = (row[1] for page in preparation.scan.subjects() for row in page)
        for seq, id_ in enumerate(ids, 1):
            if not is_erased(id_):
                holds[seq] = NOT_ERASED
    return Assigned(preparation.scan, holds=holds)


# Whom an erasure takes from patrols: those who reappeared.


def reappeared_rows(parameters: Parameters, state: State, scope: str) -> Iterator[Sequence[str]] | None:
    """The rows of an erasure of those who reappeared in a patrol, or in all; None for an erasure of a list.

    Raises:
        UsageError: there is no such patrol, nobody reappeared in it, its ids are gone, or it is of another deployment.
        RefusedError: it is under way.
    """
    named = parameters.get(REAPPEARED)
    if named is None:
        return None
    runs = _patrols(state, scope) if named == EVERY else [state.find(str(named))]
    for run_id in runs:
        with state.open(run_id) as journal:
            if plan_of(journal).job != Job.PATROL:
                raise UsageError(f"Run {run_id} is no patrol.", "privacy-toolkit runs list shows them all.")
            _check_usable(journal, run_id, scope)
            found = journal.totals().get(Outcome.REAPPEARED, 0)
        if not found and named != EVERY:
            raise UsageError(f"Nobody stands as reappeared in run {run_id}.", "There is nobody to erase again.")
    if not runs:
        raise UsageError("Nobody stands as reappeared in any patrol.", "There is nobody to erase again.")
    return _reappeared(state, runs)


def _patrols(state: State, scope: str) -> list[str]:
    """The patrols of a deployment in which somebody stands as reappeared, oldest first."""
    found: list[str] = []

    def look(run_id: str, journal: OpenRun, plan: Plan) -> None:
        is_one = plan.job == Job.PATROL and plan_scope(plan) == scope and journal.purged_at is None
        if is_one and journal.totals().get(Outcome.REAPPEARED):
            found.append(run_id)

    look_through(state, look, run_ids=[one for one in state.run_ids() if may_be_of(Job.PATROL)(one)])
    return found[::-1]


def _reappeared(state: State, runs: Sequence[str]) -> Iterator[Sequence[str]]:
    yield "customer_id", "ticket"
    for run_id in runs:
        with state.open(run_id) as journal:
            for observed in journal.rows():
                if observed.state.outcome == Outcome.REAPPEARED:
                    yield observed.subject.id, _ticket(observed)


# Who was seen again, by all that was read since.

_GONE = frozenset({Outcome.ERASED, Outcome.NOTHING_HELD, Outcome.DONE})


def seen_again(state: State, scope: str) -> dict[str, int]:
    """Tell who stands as reappeared at a deployment, and was not seen gone since: id to moment, in µs."""
    seen: dict[str, int] = {}
    gone: set[str] = set()

    def find(id_: str, at: int) -> None:
        seen[id_] = max(at, seen.get(id_, 0))

    def compare(id_: str, at: int) -> None:
        if at > seen.get(id_, at):
            gone.add(id_)

    _each(state, scope, {Outcome.REAPPEARED}, find)
    if seen:
        _each(state, scope, _GONE, compare)
    return {id_: at for id_, at in seen.items() if id_ not in gone}


class EarlierErasure(NamedTuple):
    """The run that erased somebody, and the moment of the read that showed it, in µs."""

    run_id: str
    at: int

    @property
    def on(self) -> date:
        """The day of that read (UTC)."""
        return datetime.fromtimestamp(self.at / 1e6, UTC).date()


def erased_before(state: State, scope: str, run_id: str) -> dict[str, EarlierErasure]:
    """Tell whom of a run other runs in ``scope`` have erased, and which of them was the last, as far as they know ids.

    Raises ``JournalError`` where the run itself can't be read.
    """
    found, erasures = dict[str, EarlierErasure](), list[str]()

    def look(erased_by: str, journal: OpenRun, plan: Plan) -> None:
        if plan_scope(plan) == scope and journal.purged_at is None and journal.totals().get(Outcome.ERASED):
            erasures.append(erased_by)

    may_erase = may_be_of(Job.ERASE)
    look_through(state, look, run_ids=[other for other in state.run_ids() if may_erase(other)])
    if not erasures:
        return found
    with state.open(run_id) as run:
        ids = run.ids(frozenset(Outcome))
        while some := set(islice(ids, BATCH)):
            for erased_by in erasures:  # the newest first
                with state.open(erased_by) as journal:
                    those = journal.among(some - found.keys(), {Outcome.ERASED})
                    for one in journal.entries({Outcome.ERASED}) if those else ():
                        if one.subject.id in those:
                            found[one.subject.id] = EarlierErasure(erased_by, one.state.settled_at or 0)
    return found


def _each(state: State, scope: str, outcomes: Collection[Outcome], take: Callable[[str, int], None]) -> None:
    """Hand over everybody in some outcomes of the erasures and patrols of a deployment, with the moment in µs."""

    def look(run_id: str, journal: OpenRun, plan: Plan) -> None:  # noqa: ARG001 - as it is called
        if plan_scope(plan) == scope and journal.purged_at is None and any(map(journal.totals().get, outcomes)):
            for one in journal.rows():
                if one.state.outcome in outcomes:
                    take(one.subject.id, one.state.settled_at or 0)

    may_tell = may_be_of(Job.ERASE, Job.PATROL)
    look_through(state, look, run_ids=[run_id for run_id in state.run_ids() if may_tell(run_id)])


# What is said of a patrol.


def _calls(subjects: int, parameters: Parameters) -> Calls:  # noqa: ARG001 - no parameter changes it
    return {INVENTORY.name: (subjects, 2 * subjects)}


def _make(context: Context) -> Patrol:  # noqa: ARG001 - nothing is set for it
    return Patrol()


_ERASE_AGAIN = (
    "Find out which system writes this customer, and stop it. Then erase again, as any erasure, with a plan:"
    " privacy-toolkit erase --reappeared RUN --plan FILE."
)

_WORDS = JobWords(
    headline=Headline("Look whether still gone:", "customer", "at"),
    title="Patrol after erasures",
    possible=frozenset(
        {Outcome.DONE, Outcome.REAPPEARED, Outcome.ON_HOLD, Outcome.FAILED, Outcome.RETRYABLE, Outcome.PENDING}
    ),
    subject="One customer whom an earlier run erased, by its record or by the list of erased customers.",
    request="request",
    repeats="A read is repeated where it had no reliable answer: that changes nothing.",
    inventory=INVENTORY_WORDS,
    not_covered={
        "Between two looks": "A look shows one moment. Who reappeared and was gone again before it is not seen.",
        "Sessions and events": "Nothing this run used shows a customer's sessions and events. Where the API keeps an"
        " erased profile listed, new ones without attributes are not seen.",
        "Who wrote it": "The API does not say which system made a profile again.",
        **OTHER_ENVIRONMENT,
        **OUT_OF_SIGHT,
    },
    idle={
        Reason.STILL_GONE: IdleWords("the customer is still gone", "all {} customers are still gone", "nothing to do"),
        Reason.EMPTY_PROFILE: IdleWords(
            "the customer's profile is still empty", "the profiles of all {} customers are still empty", "nothing to do"
        ),
    },
    actions={
        (Outcome.REAPPEARED, None): _ERASE_AGAIN,
        (Outcome.RETRYABLE, None): "Resume the run, or let the next patrol do so: asking again changes nothing.",
    },
    outcomes={
        Outcome.DONE: (
            "Still gone",
            "The API answered that it has no such profile, or listed it without any attributes, as after its erasure.",
        ),
        Outcome.REAPPEARED: (
            "Reappeared",
            "Was erased, and this read showed data again; or a profile is listed again that was answered 404.",
        ),
        Outcome.ON_HOLD: (
            "Not looked at",
            "Not, or no longer, on the list of erased customers: nothing was read (not_erased).",
        ),
        Outcome.FAILED: ("Failed", "The API refused the question for good: nothing is known."),
        Outcome.RETRYABLE: ("Not read", "No reliable answer: nothing is known. Asking again changes nothing."),
        Outcome.PENDING: ("Not started", "The run ended before it came to this customer, or nothing is proven yet."),
    },
)

DECLARATION = Declaration(
    job=Job.PATROL,
    words=_WORDS,
    calls=_calls,
    make=_make,
    form=_form,
    source=_source,
    prepare=_prepare,
    sequencing=Sequencing.FILE,
    writes=False,
    is_approved=False,
    expects_absence=True,
    absences=(INVENTORY,),
    predicate=GONE_PREDICATE,
    settable={
        **dict.fromkeys((RECHECKS, AFTER_DAYS, AS_OF, SAMPLE, SEED, ERASED, PACK_NUMBER, PACK_ROOT, PACK_SUMS)),
        LISTED: False,
    },
)
