"""``export``: what is held about each customer is read, and handed over as one package a person.

Nothing is changed at the API, so there is no intent: a read that is lost is simply made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.durable import SETTINGS_LIMIT, read_regular
from privacy_toolkit.core.model import Job, Outcome, Purpose, Reason, StopReason, SubjectRequest, UsageError
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
    Parameters,
    Preparation,
)
from privacy_toolkit.engine.open_requests import looked_up, name_in, plan_scope
from privacy_toolkit.engine.plan import Plan, PlannedInput
from privacy_toolkit.engine.planning import EXPORTED
from privacy_toolkit.engine.steps import PROOF_TRIES, Steps
from privacy_toolkit.jobs.loyalty import WITH_LOYALTY, named_in
from privacy_toolkit.journal.records import Entry, Observed, SubjectState
from privacy_toolkit.journal.store import OpenRun, State
from privacy_toolkit.talonone.addresses import QueryValue, check_value
from privacy_toolkit.talonone.inventory import Besides, CardRead, LedgerRead, ListRead
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

#: The parameter that asks for achievements, with those in which there is no progress yet.
ACHIEVEMENTS = "achievements"
#: The parameter that asks for the transactions of the cards that are the customer's alone.
CARDS = "cards"

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
    answers: list[Answer] = []
    names: dict[str, None] = {}
    while True:
        page = {"pageSize": PAGE_SIZE, "skip": PAGE_SIZE * len(answers)}
        answer = await _reliable(operation, steps, apart, page, value)
        known = len(names)
        names.update(dict.fromkeys(map(_named, answer.value.data or ())))
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
    if answer.finding is not Finding.DONE or not isinstance(answer.value, _LISTS):
        raise _UnreadError(answer)
    return answer


@dataclass(frozen=True, slots=True)
class Export:
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
            await self._deliver(entry, None, Outcome.NOTHING_HELD, steps)
        else:
            unproven = answer.reason is Reason.ROUTE_UNPROVEN
            outcome = Outcome.PENDING if unproven else Outcome.RETRYABLE
            steps.settle(SubjectState(outcome, answer.reason, settled_at=steps.now))

    async def _with_besides(self, entry: Entry, answer: Answer, steps: Steps) -> None:
        """Read what else was asked for; a package is made only once all of it has a reliable answer."""
        try:
            besides = await self._besides(entry.subject.id, answer.value, steps)
        except _UnreadError as error:
            if error.answer.finding is Finding.CREDENTIALS:
                steps.leave()
            else:
                steps.settle(SubjectState(Outcome.RETRYABLE, error.answer.reason, settled_at=steps.now))
            return
        await self._deliver(entry, answer.body, Outcome.DONE, steps, besides)

    async def _besides(self, customer: str, inventory: CustomerInventory, steps: Steps) -> Besides:
        cards = (inventory.loyalty.cards or []) if inventory.loyalty else []
        return Besides(
            tuple([await read_ledger(program, steps) for program in self.programs]) if self.programs else None,
            await read_achievements(steps) if self.achievements else None,
            tuple([await read_card(card, customer, steps) for card in cards]) if self.cards else None,
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
    return calls | {one.name: (0, 2 * subjects) for one, is_asked in asked.items() if is_asked}


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
        UsageError: the notice can't be read.
    """
    notice = _notice(preparation.second)
    if not preparation.parameters.get(NEW_ONLY):
        return Assigned(preparation.scan, second=notice)
    numbers = {id_: seq for seq, id_ in enumerate(_ids(preparation), 1)}
    found = answered(preparation.state, preparation.scope, numbers)
    waiting = unanswered(preparation.scan.asked(), found)
    holds = {numbers[id_]: EXPORTED for id_ in found if id_ not in waiting}
    return Assigned(
        preparation.scan,
        second=notice,
        holds={seq: hold for seq, hold in holds.items() if seq not in preparation.holds},
        requests={numbers[id_]: request for id_, request in waiting.items()},
    )


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
            known = waiting.setdefault(id_, request)
            if _asked_on(request) < _asked_on(known):
                waiting[id_] = request
    return waiting


def _answered(rows: Iterable[Observed]) -> Iterator[tuple[str, Answered]]:
    for observed in rows:
        if observed.state.outcome in _ANSWERED:
            request = observed.request
            asked, ticket = (request.requested_on, request.ticket) if request else (None, None)
            yield observed.subject.id, Answered(asked, ticket, _day(observed.state.settled_at))


def _day(microseconds: int | None) -> date:
    return date.min if microseconds is None else (datetime.fromtimestamp(microseconds / 1e6, UTC) - _LAST_PLACE).date()


def _asked_on(request: SubjectRequest) -> date:
    return request.requested_on or date.max


def _ids(preparation: Preparation) -> Iterator[str]:
    for page in preparation.scan.subjects():
        for _, id_, *_ in page:
            yield id_


def _notice(path: str | None) -> PlannedInput | None:
    if path is None:
        return None
    place = Path(path).absolute()
    try:
        content = read_regular(place, SETTINGS_LIMIT)
    except OSError as error:
        raise UsageError(f"The notice {place.name} can't be read: {error.strerror}.") from None
    return PlannedInput(
        path=str(place), sha256=hashlib.sha256(content).hexdigest(), size=len(content), format="toml", id_column=""
    )


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
        "Sessions and events": "The inventory that the API gives of a customer holds neither sessions nor events: they"
        " are in no package.",
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
