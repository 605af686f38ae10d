"""``export``: what is held about each customer is read, and handed over as one package a person.

Nothing is changed at the API, so there is no intent: a read that is lost is simply made again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import (
    InputError,
    Job,
    Outcome,
    Purpose,
    Reason,
    StopReason,
    SubjectRequest,
    UsageError,
)
from privacy_toolkit.engine.job import (
    INVENTORY_WORDS,
    OTHER_ENVIRONMENT,
    OUT_OF_SIGHT,
    Assigned,
    Calls,
    Context,
    Declaration,
    ForeignAnswerError,
    Headline,
    JobWords,
    NotDeliveredError,
    Observation,
    Parameters,
    Preparation,
    Subjects,
    planned_input,
    planned_settings,
)
from privacy_toolkit.engine.open_requests import looked_up, name_in, plan_scope
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.engine.planning import EXPORTED
from privacy_toolkit.engine.steps import PROOF_TRIES, Steps
from privacy_toolkit.inputs.files import STDIN
from privacy_toolkit.inputs.lists import ListedSessions, SessionForm, sessions_of
from privacy_toolkit.inputs.options import InputWarning
from privacy_toolkit.inputs.scan import read_input
from privacy_toolkit.jobs.loyalty import WITH_LOYALTY, named_in
from privacy_toolkit.journal.records import Entry, Observed, SubjectState, decode_package
from privacy_toolkit.journal.store import OpenRun, State
from privacy_toolkit.talonone.addresses import QueryValue, check_value
from privacy_toolkit.talonone.inventory import COMPLETE, Besides, CardRead, LedgerRead, ListRead, SessionRead
from privacy_toolkit.talonone.models import (
    AvailableAchievement,
    AvailableAchievements,
    CustomerInventory,
    LoyaltyBalances,
    LoyaltyCard,
    LoyaltyTransaction,
    LoyaltyTransactions,
)
from privacy_toolkit.talonone.operations import OPERATIONS, Operation
from privacy_toolkit.talonone.responses import Answer, Finding

INVENTORY = OPERATIONS["get_customer_inventory"]

BALANCES = OPERATIONS["get_loyalty_balances"]
TRANSACTIONS = OPERATIONS["get_loyalty_transactions"]
AVAILABLE = OPERATIONS["get_customer_achievements"]
OF_CARD = OPERATIONS["get_card_transactions"]
SESSION = OPERATIONS["get_customer_session"]

#: The parameter that asks for achievements, with those in which there is no progress yet.
ACHIEVEMENTS = "achievements"
#: The parameter that asks for the transactions of the cards that are the customer's alone.
CARDS = "cards"
#: What a plan says of the controller's list of sessions: how many are asked for, and how many are of customers of whom
#: nothing is read.
LISTED, NOT_READ = "listed_sessions", "listed_of_others"

#: Number of the subject, id, body of the answer (None: no such profile), time, and what was read next to it, where
#: that was asked for; what is kept in the journal of it.
Deliver = Callable[..., bytes]
_NOTHING = Besides()
_LISTS = LoyaltyTransactions | LoyaltyBalances | AvailableAchievements
#: A page has so many entries at most, and no list is read further than so many pages.
PAGE_SIZE, MOST_PAGES = 1000, 100


class _UnreadError(Exception):
    """A list could not be read reliably; nothing is handed over."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer

    @property
    def is_refusal(self) -> bool:
        """Whether the API does not give it out: then the package says so."""
        return self.answer.finding in {Finding.ABSENT, Finding.FINAL}


class _Pass(NamedTuple):
    """All pages of one list as they were read once: the bodies, what is in them, and whether there is more."""

    answers: tuple[Answer, ...]
    names: tuple[str, ...]
    read: str

    @property
    def bodies(self) -> tuple[bytes, ...]:
        """The answers as they came."""
        return tuple(answer.body for answer in self.answers)


async def read_ledger(program: int, steps: Steps) -> LedgerRead:
    """Read balances and transactions of the customer in one program; each twice, on connections of their own.

    Neither says whose it is. What comes alike twice, and on connections that are proven, was not somebody else's.

    Raises:
        _UnreadError: one of both had no reliable answer.
    """
    try:
        listed = await _alike(partial(_pages, TRANSACTIONS.within(program), steps), TRANSACTIONS.within(program), steps)
        told = await _alike(partial(_balances, BALANCES.within(program), steps), BALANCES.within(program), steps)
    except _UnreadError as error:
        if error.is_refusal:
            return LedgerRead(program, "refused")
        raise
    return LedgerRead(program, listed.read, told.answers[0].body, listed.bodies)


async def read_achievements(steps: Steps) -> ListRead:
    """Read what the customer can achieve, and has achieved, in the Application of the key; twice, as a ledger.

    Raises:
        _UnreadError: it had no reliable answer.
    """
    try:
        listed = await _alike(partial(_pages, AVAILABLE, steps), AVAILABLE, steps)
    except _UnreadError as error:
        if error.is_refusal:
            return ListRead("refused")
        raise
    return ListRead(listed.read, listed.bodies)


async def read_card(card: LoyaltyCard, customer: str, steps: Steps) -> CardRead:
    """Read the transactions of a card that is the customer's alone; twice, as a ledger.

    Of a card that others use too, or of which that is not known, nothing is asked: it could be about them.

    Raises:
        _UnreadError: it had no reliable answer.
    """
    holders, name, program = card.profiles or [], card.identifier or "", card.program_id or 0
    since = holders[0].timestamp if len(holders) == 1 and holders[0].integration_id == customer else None
    if since is None:
        return CardRead(name, program, "shared")
    try:
        check_value(name)
    except UsageError:  # nothing can be asked about such a name
        return CardRead(name, program, "refused")
    operation = OF_CARD.within(program)
    try:
        listed = await _alike(partial(_pages, operation, steps, value=name), operation, steps)
    except _UnreadError as error:
        if error.is_refusal:
            return CardRead(name, program, "refused")
        raise
    return CardRead(name, program, listed.read, since, listed.bodies)


async def read_session(session: str, customer: str, steps: Steps) -> SessionRead:
    """Read one session that the controller lists for the customer; it is theirs only if the API says so.

    A session names itself and its customer, so one answer is enough.

    Raises:
        _UnreadError: it had no reliable answer.
    """
    answer = await _meant(SESSION, await steps.read(SESSION, Purpose.READ_BEFORE, session), steps)
    if answer.finding is Finding.FINAL:
        return SessionRead(session, "refused")
    if answer.finding is not Finding.DONE:
        raise _UnreadError(answer)
    named = answer.value.customer_session.get("profileId")
    if named == customer:
        return SessionRead(session, COMPLETE, answer.body)
    return SessionRead(session, "of_another" if named else "of_nobody")


async def _alike(read: Callable[[Answer | None], Awaitable[_Pass]], operation: Operation, steps: Steps) -> _Pass:
    """What was read twice, one time after the other, and came alike."""
    before = await read(None)
    for _ in range(PROOF_TRIES):
        again = await read(before.answers[-1])
        are_alike = again.names == before.names and again.read == before.read
        if are_alike and await steps.proven(operation, *before.answers, *again.answers, bracketed=False):
            return again
        before = again
    raise _UnreadError(replace(before.answers[-1], finding=Finding.UNKNOWN, reason=Reason.FOREIGN_ANSWER))


async def _pages(operation: Operation, steps: Steps, apart: Answer | None, value: str | None = None) -> _Pass:
    """All pages of a list. A page that has nothing new, or too many of them, ends it: ``cut_off``."""
    answers, names, came = list[Answer](), dict[str, None](), 0  # what came, not what was asked for: pages may be small
    while True:
        page = {"pageSize": PAGE_SIZE, "skip": came}
        answer = await _reliable(operation, steps, apart, page, value)
        known = len(names)
        names.update(dict.fromkeys(map(_named, answer.value.data or ())))
        came += len(answer.value.data or ())
        answers.append(answer)
        if not _has_more(answer.value, len(names)):
            return _Pass(tuple(answers), tuple(names), "complete")
        if len(names) == known or len(answers) >= MOST_PAGES:
            return _Pass(tuple(answers), tuple(names), "cut_off")


def _named(entry: LoyaltyTransaction | AvailableAchievement) -> str:
    """What tells an entry from others, also from the same achievement with the progress of somebody else."""
    if isinstance(entry, LoyaltyTransaction):
        return entry.transaction_uuid
    return msgspec.json.encode((entry.id, entry.current_progress), order="sorted").decode()


def _has_more(page: LoyaltyTransactions | AvailableAchievements, seen: int) -> bool:
    """Whether the list goes on after a page, when so many of its entries were seen."""
    return page.has_more if isinstance(page, LoyaltyTransactions) else page.total_result_size > seen


async def _balances(operation: Operation, steps: Steps, apart: Answer | None) -> _Pass:
    answer = await _reliable(operation, steps, apart)
    return _Pass((answer,), (answer.body.decode(),), "complete")


async def _meant(operation: Operation, answer: Answer, steps: Steps) -> Answer:
    """The answer; a refusal names nothing and may be a copy of another's, so its connection has to vouch for it."""
    return await steps.vouched(operation, answer) if answer.finding is Finding.FINAL else answer


async def _reliable(
    operation: Operation,
    steps: Steps,
    apart: Answer | None,
    query: Mapping[str, QueryValue] | None = None,
    value: str | None = None,
) -> Answer:
    ask = partial(steps.read, operation, Purpose.READ_BEFORE, value, apart=apart, query=query)
    answer = await ask()
    if answer.finding is Finding.ABSENT:
        answer = await steps.absence(operation, Purpose.READ_BEFORE, answer, value)
        if answer.finding is Finding.DONE and query is not None:  # that was asked for without the page
            answer = await ask()
            if answer.finding is Finding.ABSENT:
                answer = replace(answer, finding=Finding.UNKNOWN, reason=Reason.ROUTE_UNPROVEN)
    answer = await _meant(operation, answer, steps)
    if answer.finding is not Finding.DONE or not isinstance(answer.value, _LISTS):
        raise _UnreadError(answer)
    return answer


class Export(msgspec.Struct, frozen=True):
    """The procedure; ``deliver`` makes a package that is durable when it returns.

    ``programs``, ``achievements`` and ``cards`` say what is read next to the inventory.
    """

    deliver: Deliver
    programs: tuple[int, ...] = ()
    achievements: bool = False
    cards: bool = False

    def keys(self, entries: Sequence[Entry]) -> Collection[str]:  # noqa: ARG002 - the protocol's
        """None: the subjects are distinct customers."""
        return ()

    async def walk(self, entries: Sequence[Entry], steps: Steps) -> None:
        """Read what is held about one customer and hand it over."""
        (entry,) = entries
        answer = await steps.read(INVENTORY, Purpose.READ_BEFORE)
        if answer.finding is Finding.ABSENT:  # a package that says "nothing" is given to nobody before that is proven
            answer = await steps.absence(INVENTORY, Purpose.READ_BEFORE, answer)
        if answer.finding is Finding.CREDENTIALS:
            steps.leave()
        elif answer.finding is Finding.DONE:
            await self._with_besides(entry, answer, steps)
        elif answer.finding is Finding.ABSENT:
            await self._without_profile(entry, steps)
        else:
            unproven = answer.reason is Reason.ROUTE_UNPROVEN
            outcome = Outcome.PENDING if unproven else Outcome.RETRYABLE
            steps.settle(SubjectState(outcome, answer.reason, settled_at=steps.now))

    async def _with_besides(self, entry: Entry, answer: Answer, steps: Steps) -> None:
        """Read what else was asked for; a package is made only once all of it has a reliable answer."""
        try:
            besides = await self._besides(entry, answer.value, steps)
        except _UnreadError as error:
            self._unread(error.answer, steps)
        else:
            await self._deliver(entry, answer.body, Outcome.DONE, steps, besides)

    async def _without_profile(self, entry: Entry, steps: Steps) -> None:
        """There is no profile, but a session may name the customer all the same: then something is held."""
        try:
            listed = await self._sessions(entry, steps)
        except _UnreadError as error:
            self._unread(error.answer, steps)
            return
        is_held = any(one.read == COMPLETE for one in listed or ())
        outcome = Outcome.DONE if is_held else Outcome.NOTHING_HELD
        await self._deliver(entry, None, outcome, steps, Besides(sessions=listed))

    @staticmethod
    def _unread(answer: Answer, steps: Steps) -> None:
        if answer.finding is Finding.CREDENTIALS:
            steps.leave()
        else:
            steps.settle(SubjectState(Outcome.RETRYABLE, answer.reason, settled_at=steps.now))

    async def _sessions(self, entry: Entry, steps: Steps) -> tuple[SessionRead, ...] | None:
        """The sessions that are listed for the customer; None where none are."""
        listed, customer = sessions_of(entry.subject.given), entry.subject.id
        return tuple([await read_session(session, customer, steps) for session in listed]) or None

    async def _besides(self, entry: Entry, inventory: CustomerInventory, steps: Steps) -> Besides:
        customer = entry.subject.id
        cards = (inventory.loyalty.cards or []) if inventory.loyalty else []
        return Besides(
            tuple([await read_ledger(program, steps) for program in self.programs]) if self.programs else None,
            await read_achievements(steps) if self.achievements else None,
            tuple([await read_card(card, customer, steps) for card in cards]) if self.cards else None,
            await self._sessions(entry, steps),
        )

    async def _deliver(
        self, entry: Entry, body: bytes | None, outcome: Outcome, steps: Steps, besides: Besides = _NOTHING
    ) -> None:
        subject, further = entry.subject, (besides,) if any(part is not None for part in besides) else ()
        try:
            kept = await steps.aside(partial(self.deliver, subject.seq, subject.id, body, steps.now, *further))
        except ForeignAnswerError:
            steps.settle(SubjectState(Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, settled_at=steps.now))
        except NotDeliveredError:  # the next one would fail as well: a full disk stays full
            steps.settle(SubjectState(Outcome.RETRYABLE, Reason.NOT_DELIVERED, settled_at=steps.now))
            steps.stop(StopReason.OUTPUT_FAILED)
        else:
            steps.settle(SubjectState(outcome, settled_at=steps.now), result=kept)


def _calls(subjects: int, parameters: Parameters) -> Calls:
    calls, ledgers = {INVENTORY.name: (subjects, 2 * subjects)}, subjects * len(named_in(parameters).ledgers)
    calls |= {one.name: (0, 2 * ledgers) for one in (TRANSACTIONS, BALANCES) if ledgers}
    asked = {AVAILABLE: parameters.get(ACHIEVEMENTS), OF_CARD: parameters.get(CARDS)}  # of one card each
    calls |= {one.name: (0, 2 * subjects) for one, is_asked in asked.items() if is_asked}
    return calls | ({SESSION.name: (0, int(parameters[LISTED] or 0))} if parameters.get(LISTED) else {})


def _make(context: Context) -> Export:
    if context.deliver is None:
        raise UsageError("An export needs a folder for its packages.", "Name one with --out DIR.")
    asked = context.parameters
    further = {name: bool(asked.get(name)) for name in (ACHIEVEMENTS, CARDS)}
    return Export(context.deliver, named_in(asked).ledgers, **further)


# Whose request was answered by an earlier export already, so that a nightly list need not be cleaned up.

#: The parameter that asks for it.
NEW_ONLY = "new_only"

_ANSWERED = frozenset({Outcome.DONE, Outcome.NOTHING_HELD})
#: How long after UTC's midnight a day still lasts somewhere. A list says on which day someone asked, not where.
_LAST_PLACE = timedelta(hours=12)


class Answered(NamedTuple):
    """One export of one person: the day and the ticket of the request it was made for, and the day it was read.

    ``day`` began everywhere on earth before the data was read.
    """

    asked: str | None
    ticket: str | None
    day: date

    def covers(self, request: SubjectRequest) -> bool:
        """Whether it answers a request: one of an earlier day, the very one it was made for, or one of no known day.

        One of the same day that is not known to be the same may have come in afterwards.
        """
        asked = request.requested_on
        if asked is None or asked < self.day:
            return True
        return self.asked == asked.isoformat() and (
            self.ticket == request.ticket or None in {self.ticket, request.ticket}
        )


def prepare(preparation: Preparation) -> Assigned:
    """The subjects as they stand, those on hold that were exported before, and the controller's notice by its hash.

    Who asked more than once is on hold if all of it was answered; else the earliest that was not counts.

    Raises:
        InputError: the list of sessions can't be used.
        UsageError: the notice can't be read.
    """
    notice = None if preparation.second is None else planned_settings(preparation.second, "notice")
    if not preparation.parameters.get(NEW_ONLY):
        return _with_sessions(Assigned(preparation.scan, second=notice), preparation)
    ids = (id_ for page in preparation.scan.subjects() for _, id_, *_ in page)
    numbers = {id_: seq for seq, id_ in enumerate(ids, 1)}
    found = answered(preparation.state, preparation.scope, numbers)
    waiting = unanswered(preparation.scan.asked(), found)
    holds = {numbers[id_]: EXPORTED for id_ in found if id_ not in waiting}
    assigned = Assigned(
        preparation.scan,
        second=notice,
        holds={seq: hold for seq, hold in holds.items() if seq not in preparation.holds},
        requests={numbers[id_]: request for id_, request in waiting.items()},
    )
    return _with_sessions(assigned, preparation)


# Which sessions are asked for: the controller lists them, since the API lists a customer's sessions nowhere.

_LIST_IS_WHOLE = "Fix the list: it is used whole or not at all."
_OTHERS = "{:,} of the listed sessions are of customers who are not read in this run: they are not asked for."


class _Sessioned(NamedTuple):
    """The subjects of a scan, with the sessions that are listed for each."""

    scan: Subjects
    listed: ListedSessions

    def subjects(self) -> Iterator[list[tuple[int, str, str]]]:
        """Row, id, and the sessions as one text, a page at a time."""
        for page in self.scan.subjects():
            yield [(row, id_, self.listed.given(id_)) for row, id_, *_ in page]


def _with_sessions(assigned: Assigned, preparation: Preparation) -> Assigned:
    """The subjects with their listed sessions; those of customers who are not read are counted, and not asked for."""
    path, options = preparation.options.sessions, preparation.options.for_list(strip=preparation.options.strip)
    if path is None:
        return assigned
    if path == STDIN:
        raise InputError("The list of sessions can't come from standard input.", "Save it to a file.")
    listed = ListedSessions()
    with read_input(path, options, spool_folder=preparation.scratch, form=SessionForm()) as scan:
        for row, reason in scan.rejected():
            raise InputError(f"{Path(path).name}: row {row} can't be used ({reason}).", _LIST_IS_WHOLE)
        for page in scan.subjects():
            for _, id_, *session in page:
                listed.add(id_, *session)
        planned = planned_input(path, options, scan.summary)
    made, held = _Sessioned(assigned.subjects, listed), {*preparation.holds, *assigned.holds}
    given = (text for page in made.subjects() for _, _, text in page)
    asked = sum(len(sessions_of(text)) for seq, text in enumerate(given, 1) if seq not in held)
    others = scan.summary.subjects - asked
    parameters = {**assigned.parameters, LISTED: asked, NOT_READ: others}
    warnings = [InputWarning("sessions_of_others", _OTHERS.format(others))] if others else []
    return replace(assigned, subjects=made, sessions=planned, parameters=parameters, warnings=warnings)


def answered(state: State, scope: str, wanted: Collection[str]) -> dict[str, list[Answered]]:
    """What earlier exports answered for the ids in ``wanted``, as far as runs in ``scope`` still know ids.

    ``scope`` is environment and deployment. What a run answered that can't be read is answered once more.
    """
    names = {name_in(scope, id_): id_ for id_ in wanted}
    _, told = looked_up(state, "answered", _tell, names)
    return {names[name]: [msgspec.msgpack.decode(one, type=Answered) for one in all_] for name, all_ in told.items()}


def _tell(journal: OpenRun, plan: Plan) -> tuple[bytes, Iterator[tuple[str, bytes]]]:
    """Whose requests a run answered, as long as it knows ids."""
    if plan.job != Job.EXPORT or journal.purged_at is not None:
        return b"", iter(())
    scope = plan_scope(plan)
    answers = _answered(journal.rows())
    return b"", ((name_in(scope, id_), msgspec.msgpack.encode(answer)) for id_, answer in answers)


def unanswered(
    asked: Iterable[tuple[str, SubjectRequest]], found: dict[str, list[Answered]]
) -> dict[str, SubjectRequest]:
    """The earliest request that none of the exports ``found`` answers, of the people exported before who have one."""
    waiting: dict[str, SubjectRequest] = {}
    for id_, request in asked:
        if id_ in found and not any(answer.covers(request) for answer in found[id_]):
            known = waiting.get(id_, request)
            waiting[id_] = min(known, request, key=lambda one: one.requested_on or date.max)
    return waiting


def _answered(rows: Iterable[Observed]) -> Iterator[tuple[str, Answered]]:
    for observed in rows:
        if observed.state.outcome in _ANSWERED:
            request = observed.request
            asked, ticket = (request.requested_on, request.ticket) if request else (None, None)
            yield observed.subject.id, Answered(asked, ticket, _day(observed.state.settled_at))


def _day(microseconds: int | None) -> date:
    return date.min if microseconds is None else (datetime.fromtimestamp(microseconds / 1e6, UTC) - _LAST_PLACE).date()


# What is said of an export.

_WORDS = JobWords(
    headline=Headline("Export what is held about", "customer", "by"),
    title="Access export",
    possible=frozenset(
        {Outcome.DONE, Outcome.NOTHING_HELD, Outcome.ON_HOLD, Outcome.FAILED, Outcome.RETRYABLE, Outcome.PENDING}
    ),
    subject="One accepted, distinct customer id of the input.",
    request="request",
    repeats="A read is repeated where it had no reliable answer: that changes nothing.",
    inventory=INVENTORY_WORDS,
    not_covered={
        "Sessions and events": "The inventory that the API gives of a customer holds neither sessions nor events, and"
        " nothing lists them. Sessions that the plan's list names for a customer are in a package where the API says"
        " that they are this customer's. Others, and events, are in none.",
        "Loyalty": "Balances that the inventory shows are in a package. Single transactions are there for the loyalty"
        " programs that the plan names, and for cards that are the customer's alone where it asks for them.",
        **OTHER_ENVIRONMENT,
        **OUT_OF_SIGHT,
        "Other systems": "What other systems of the controller hold is beyond this run.",
        "Handing over": "That a package reached the person, and only the person, is not observed here.",
    },
    nothing_known="there was nothing to export",
    outcomes={
        Outcome.DONE: ("Exported", "The API showed what it holds, and the package is on disk."),
        Outcome.NOTHING_HELD: ("Nothing held", "The API answered that it has no such profile; the package says so."),
        Outcome.ON_HOLD: (
            "On hold",
            "Nothing was read: on the exclusion list, or an earlier export answered the request (already_exported).",
        ),
        Outcome.FAILED: ("Failed", "No package: the API refused the question for good. Asking again would not help."),
        Outcome.RETRYABLE: (
            "No package yet",
            "The API gave no reliable answer, or the package could not be written. Asking again changes nothing.",
        ),
    },
    actions={
        (Outcome.RETRYABLE, None): "Resume the run, or let the next one take it up: asking again changes nothing.",
        (Outcome.RETRYABLE, Reason.NOT_DELIVERED): "Make room in the folder of the packages, then resume the run.",
    },
)


def _of_package(field: str, result: bytes) -> Any:
    return getattr(decode_package(result), field, None)


_OBSERVATIONS = (
    Observation("package", str, "SHA-256 of the access package", read=partial(_of_package, "sha256")),
    Observation("redactions", int, "ids of others taken out of it", read=partial(_of_package, "redactions")),
)

DECLARATION = Declaration(
    job=Job.EXPORT,
    words=_WORDS,
    calls=_calls,
    make=_make,
    prepare=prepare,
    writes=False,
    absences=(INVENTORY,),
    spreads=True,
    has_clock=True,
    packages=True,
    observations=_OBSERVATIONS,
    settable={
        "lang": "en",
        "zip": False,
        "encrypt": None,
        NEW_ONLY: False,
        "keep_days": None,
        WITH_LOYALTY: None,
        ACHIEVEMENTS: False,
        CARDS: False,
    },
    demands={"out": ("An export needs a folder for its packages.", "Name one with --out DIR.")},
)
