"""Loyalty in an erasure: ledgers emptied and cards unlinked, each proven by reading, before the profile is erased.

The order is not free. Whether a ledger can still be read, or deleted from, once its customer has no profile is
documented nowhere (API facts, section 5): a profile is erased only after every loyalty program that was named has been
seen empty. So anyone who is ``erased`` has no ledger left that was to go with the profile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import Attribution, Outcome, Purpose, Reason, UsageError
from privacy_toolkit.engine.job import Parameters, pauses
from privacy_toolkit.engine.steps import PROOF_TRIES, Sending, Steps
from privacy_toolkit.journal.records import Entry, SubjectState, decoder_of
from privacy_toolkit.talonone.bodies import CardHolder, DeletedTransactions
from privacy_toolkit.talonone.models import CustomerInventory, LoyaltyTransactions
from privacy_toolkit.talonone.operations import OPERATIONS, Operation
from privacy_toolkit.talonone.responses import Answer, Finding, is_maybe_copied

INVENTORY = OPERATIONS["get_customer_inventory"]
TRANSACTIONS = OPERATIONS["get_loyalty_transactions"]
DELETE = OPERATIONS["delete_loyalty_transactions"]
UNLINK = OPERATIONS["unlink_loyalty_card"]

#: The parameters of the job: numbers of programs with ledgers of customers, and of those with cards alone.
WITH_LOYALTY, WITH_CARDS = "with_loyalty", "with_cards"
PROGRAMS: Final = frozenset({WITH_LOYALTY, WITH_CARDS})
#: How often a request that changes something is sent for one ledger, or one card, in one execution.
ACT_TRIES: Final = 4

_NUMBER = re.compile(r"[1-9][0-9]{0,14}")
_SETTLED = frozenset({Outcome.ERASED, Outcome.NOTHING_HELD})
#: The program's own deletion was sent, and what came of it is not known yet.
_IN_DOUBT = frozenset({Outcome.UNKNOWN, Outcome.UNVERIFIED, Outcome.RESIDUAL})


class ProgramFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One loyalty program: its own outcome, and what was seen before: at least so many transactions, so many cards."""

    outcome: Outcome
    reason: Reason | None = None
    attribution: Attribution | None = None
    transactions: int = 0
    cards: int = 0


class LoyaltyFacts(msgspec.Struct, frozen=True, kw_only=True, tag="loyalty", gc=False):
    """The loyalty of one customer, by the number of the program; only those that were reached."""

    programs: dict[str, ProgramFacts] = {}


#: The loyalty behind what was kept of an answer.
decode_loyalty = decoder_of(LoyaltyFacts)


def encode_loyalty(facts: LoyaltyFacts) -> bytes:
    """The bytes that the journal keeps."""
    return msgspec.json.encode(facts)


def check_programs(given: object) -> str | None:
    """The numbers of loyalty programs, in order, each once, with commas between them; None for none.

    ``given`` is one number, or several as text with commas or as a list.

    Raises:
        UsageError: something in it is no number of a program.
    """
    text = ",".join(map(str, given)) if isinstance(given, list | tuple) else "" if given is None else str(given)
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(_NUMBER.fullmatch(part) for part in parts):
        raise UsageError("A loyalty program is named by its number, such as 33.", "Several: 33,34")
    return ",".join(map(str, sorted(set(map(int, parts))))) or None


def programs_of(text: object) -> tuple[int, ...]:
    """The numbers behind what ``check_programs`` made."""
    return tuple(map(int, str(text).split(","))) if text else ()


class Programs(msgspec.Struct, frozen=True):
    """The loyalty programs that an erasure is to reach: those with ledgers of customers, and those with cards alone."""

    ledgers: tuple[int, ...] = ()
    cards: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ledgers or self.cards)

    @property
    def all(self) -> tuple[int, ...]:
        """All of them, in the order in which they are worked on."""
        return tuple(sorted({*self.ledgers, *self.cards}))


NONE: Final = Programs()


def named_in(parameters: Parameters) -> Programs:
    """The loyalty programs that a plan names."""
    return Programs(programs_of(parameters.get(WITH_LOYALTY)), programs_of(parameters.get(WITH_CARDS)))


class Seen(msgspec.Struct, frozen=True):
    """What a look at a program came to: ``left`` transactions or cards, None where it told nothing reliable."""

    answer: Answer
    left: int | None
    cards: tuple[str, ...] = ()


class Came(msgspec.Struct, frozen=True):
    """Where a program stands after all that could be done for it in this execution."""

    outcome: Outcome
    reason: Reason | None = None
    attribution: Attribution | None = None


def shown_loyalty(result: bytes) -> str | None:
    """The loyalty of one customer as a row shows it, such as ``33:erased 34:nothing_held``; None for none."""
    facts = decode_loyalty(result)
    programs = sorted(facts.programs, key=int) if facts else ()
    return " ".join(f"{program}:{facts.programs[program].outcome}" for program in programs if facts) or None


class LoyaltyWalk:
    """The programs of one customer on their way.

    ``state`` is where the subject stands, ``programs`` what the journal has of them, or is about to.
    """

    def __init__(self, named: Programs, settle: float, entry: Entry, steps: Steps) -> None:
        self.named = named
        self.settle = settle
        self.subject = entry.subject
        self.state = entry.state
        self.steps = steps
        known = decode_loyalty(entry.result)
        self.programs: dict[str, ProgramFacts] = dict(known.programs) if known else {}

    @property
    def facts(self) -> bytes:
        """What is known of the programs, as the journal keeps it."""
        return encode_loyalty(LoyaltyFacts(programs=self.programs))

    @property
    def erased_by(self) -> Attribution | None:
        """The weakest attribution of what was deleted or unlinked; None if nothing was."""
        found = {facts.attribution for facts in self.programs.values() if facts.outcome is Outcome.ERASED}
        if not found:
            return None
        return Attribution.CONFIRMED if found == {Attribution.CONFIRMED} else Attribution.INFERRED

    async def clear(self, state: SubjectState, inventory: CustomerInventory | None) -> bool:
        """Empty every program that is named, one after the other; ``inventory`` is None where there is no profile.

        Whether all were seen empty, so that the profile may be erased; else ``state`` says why not.
        """
        self.state = state
        for program in self.named.all:
            work = _Program(self, program, inventory)
            came = await work.run()
            self.programs[str(program)] = work.facts(came)
            if came.outcome not in _SETTLED:
                self.state = replace(
                    self.state, outcome=_of_subject(came), reason=came.reason, settled_at=self.steps.now
                )
                return False
        return True

    def with_program(self, program: int, facts: ProgramFacts) -> bytes:
        """What the journal keeps if one program stands so."""
        return encode_loyalty(LoyaltyFacts(programs=self.programs | {str(program): facts}))


def _of_subject(came: Came) -> Outcome:
    """Where a subject stands by one of its programs: of its profile nothing was sent yet.

    In the state of a subject "unverified" and "residual" would say that its own erasure was accepted.
    """
    return Outcome.PENDING if came.outcome in {Outcome.UNVERIFIED, Outcome.RESIDUAL} else came.outcome


def _shown(inventory: CustomerInventory, program: int) -> tuple[str, ...]:
    """The cards of a program that an inventory lists."""
    cards = (inventory.loyalty.cards or ()) if inventory.loyalty else ()
    return tuple(card.identifier for card in cards if card.program_id == program and card.identifier)


class _Program:
    """One program of one customer: look, delete or unlink, look again, as often as may be."""

    def __init__(self, loyalty: LoyaltyWalk, program: int, inventory: CustomerInventory | None) -> None:
        self._loyalty, self._program, self._has_profile = loyalty, program, inventory is not None
        self._steps, self._subject = loyalty.steps, loyalty.subject
        cards = () if inventory is None else _shown(inventory, program)
        self._known = loyalty.programs.get(str(program), ProgramFacts(outcome=Outcome.PENDING))
        self._is_of_cards = bool(cards or self._known.cards) or program not in loyalty.named.ledgers
        self._accepted: Answer | None = None  # the API's word to the last request that changes something
        self._unlinked: set[str] = set()
        self._tries = 0
        self._lost = self._known.outcome in _IN_DOUBT
        self._doubtful: list[Answer] = []  # refusals for now that may have been another's
        self._has_sent = self._lost or self._known.outcome is Outcome.ERASED

    def facts(self, came: Came) -> ProgramFacts:
        """The program as the journal keeps it."""
        return replace(self._known, outcome=came.outcome, reason=came.reason, attribution=came.attribution)

    async def run(self) -> Came:
        """Bring the program as far as it goes in this execution."""
        if self._is_of_cards and not self._has_profile:
            return self._without_profile()
        waits, came = pauses(self._loyalty.settle), None
        while came is None:
            seen = await self._look()
            if seen.left is None:
                came = await self._if_accepted(self._untold(seen.answer))
            elif seen.left == 0:
                came = await self._empty()
            else:
                self._remember(seen.left)
                came = await self._go_on(seen, waits)
        return came

    async def _go_on(self, seen: Seen, waits: Iterator[float]) -> Came | None:
        """Delete or unlink what was seen, or give time to what was accepted; where the program stands if that ends."""
        wanting = tuple(card for card in seen.cards if card not in self._unlinked)
        if self._accepted is not None and not wanting:
            pause = next(waits, None)
            if pause is not None and await self._steps.nap(pause):
                return None
            return await self._if_accepted(Came(Outcome.RESIDUAL, Reason.LEDGER_STILL_HELD))
        if self._tries >= ACT_TRIES * max(1, self._known.cards):
            reason = self._loyalty.state.reason
            return Came(Outcome.UNKNOWN if await self._is_in_doubt() else Outcome.RETRYABLE, reason)
        self._tries += 1
        return await self._act(wanting)

    def _remember(self, left: int) -> None:
        """Keep what was seen before anything was sent."""
        if not self._has_sent:
            cards, transactions = (left, 0) if self._is_of_cards else (0, left)
            self._known = replace(self._known, cards=cards, transactions=transactions)

    async def _look(self) -> Seen:
        if self._accepted is not None:
            purpose = Purpose.READ_AFTER
        else:
            purpose = Purpose.RECONCILE if self._has_sent else Purpose.READ_BEFORE
        return await (self._look_for_cards(purpose) if self._is_of_cards else self._look_into(purpose))

    async def _look_for_cards(self, purpose: Purpose) -> Seen:
        """The inventory names its customer, so one answer is enough."""
        answer = await self._steps.read(INVENTORY, purpose, apart=self._accepted)
        if answer.finding is not Finding.DONE:
            return Seen(answer, None)
        cards = _shown(answer.value, self._program)
        return Seen(answer, len(cards), cards)

    async def _look_into(self, purpose: Purpose) -> Seen:
        """A ledger does not say whose it is: that it is empty has to be said twice, elsewhere, between controls.

        That there is something in it counts once its connection vouches for the answer.
        """
        ledger = TRANSACTIONS.within(self._program)
        for _ in range(PROOF_TRIES):
            answer = await self._steps.read(ledger, purpose, apart=self._accepted)
            if answer.finding is Finding.ABSENT:
                answer = await self._steps.absence(ledger, purpose, answer)
            if answer.finding is not Finding.DONE:
                return Seen(answer, None)
            if not _entries(answer.value):
                answer = await self._steps.again(ledger, purpose, answer, self._subject.id, (self._subject.seq,))
                return Seen(answer, _entries(answer.value) if answer.finding is Finding.DONE else None)
            if await self._steps.proven(ledger, answer, bracketed=False):
                return Seen(answer, _entries(answer.value))
        return Seen(replace(answer, finding=Finding.UNKNOWN, reason=Reason.FOREIGN_ANSWER), None)

    async def _empty(self) -> Came:
        if not self._has_sent:  # seen before, and gone since without a request that may have worked: somebody else's
            was_seen = self._known.cards or self._known.transactions
            return Came(Outcome.NOTHING_HELD, Reason.VANISHED if was_seen else None)
        accepted = self._accepted
        if accepted is not None and await self._steps.proven(self._request(())[0], accepted):
            return Came(Outcome.ERASED, attribution=Attribution.CONFIRMED)
        return Came(Outcome.ERASED, attribution=self._known.attribution or Attribution.INFERRED)

    async def _if_accepted(self, came: Came) -> Came:
        """The same, or unknown where it rests on a success that can't be shown to be the answer to our request."""
        if self._accepted is None or came.outcome not in {Outcome.RESIDUAL, Outcome.UNVERIFIED}:
            return came
        if await self._steps.proven(self._request(())[0], self._accepted):
            return came
        return Came(Outcome.UNKNOWN, Reason.FOREIGN_ANSWER)

    def _untold(self, answer: Answer) -> Came:
        """The look told nothing on which anything could rest."""
        if answer.finding is Finding.ABSENT and not self._has_profile:
            return self._without_profile()
        if answer.finding is Finding.ABSENT and not self._is_of_cards:
            return Came(Outcome.UNKNOWN if self._has_sent else Outcome.FAILED, Reason.PROGRAM_UNKNOWN)
        if self._accepted is not None:
            return Came(Outcome.UNVERIFIED, Reason.READ_FAILED_AFTERWARDS)
        if self._has_sent:
            return Came(Outcome.UNKNOWN, answer.reason)
        if answer.finding is Finding.FINAL and answer.is_in_step:
            return Came(Outcome.FAILED, Reason.LEDGER_REFUSED)
        unproven = answer.reason is Reason.ROUTE_UNPROVEN
        return Came(Outcome.PENDING if unproven else Outcome.RETRYABLE, answer.reason)

    def _without_profile(self) -> Came:
        """What was sent can't be looked up without a profile; what is known already stays; else there is nothing."""
        if self._lost or self._doubtful:
            return Came(Outcome.UNKNOWN, Reason.NOT_FOUND)
        if self._known.outcome is Outcome.ERASED:
            return Came(Outcome.ERASED, attribution=self._known.attribution)
        return Came(Outcome.NOTHING_HELD, Reason.NOT_FOUND)

    def _request(self, cards: tuple[str, ...]) -> tuple[Operation, Sending]:
        if self._is_of_cards:
            body = CardHolder(integration_id=self._subject.id)
            return UNLINK.within(self._program), Sending(cards[0] if cards else None, body)
        return DELETE.within(self._program), Sending(self._subject.id, DeletedTransactions(scope="AllSubledgers"))

    async def _act(self, cards: tuple[str, ...]) -> Came | None:
        """Send the deletion, or unlink the first of some cards; where the program stands if that is the end of it."""
        operation, sending = self._request(cards)
        before, was_lost = self._loyalty.state, self._lost or bool(self._doubtful)
        lost = replace(
            before,
            outcome=Outcome.UNKNOWN,
            reason=Reason.NO_ANSWER_RECORDED,
            attempts=before.attempts + 1,
            settled_at=self._steps.now,
        )
        unknown = self.facts(Came(Outcome.UNKNOWN, Reason.NO_ANSWER_RECORDED))
        answer = await self._steps.act(
            operation,
            {self._subject.seq: lost},
            partial(self._follows, lost, was_lost),
            sending,
            partial(self._kept, was_lost),
            {self._subject.seq: self._loyalty.with_program(self._program, unknown)},
        )
        if answer.finding is Finding.FINAL:
            answer = await self._steps.vouched(operation, answer)
            self._follows(lost, was_lost, answer)
        if answer.finding is Finding.REFUSED and is_maybe_copied(answer):
            self._doubtful.append(answer)
        else:
            self._lost = self._lost or _may_be_done(answer)
        self._has_sent = self._has_sent or was_lost or _may_be_done(answer) or answer.finding is Finding.DONE
        if answer.finding is Finding.DONE:
            self._accepted = answer
            self._unlinked.update(cards[:1])
            return None
        return await self._ended(answer)

    async def _ended(self, answer: Answer) -> Came | None:
        """Where the program stands if nothing more can be done in this execution after an answer that is no success."""
        came = _came(answer, was_lost=self._lost or bool(self._doubtful))
        if answer.finding is Finding.CREDENTIALS or came.outcome is Outcome.FAILED:
            return came
        if answer.finding is Finding.ABSENT or await self._steps.back_off(1, answer):
            return None
        return _came(answer, was_lost=await self._is_in_doubt())

    async def _is_in_doubt(self) -> bool:
        """Whether a request may have been carried out, once it is known which refusals for now were its own."""
        if self._doubtful and not self._lost:
            operation = self._request(())[0]
            if await self._steps.proven(operation, *self._doubtful, bracketed=False):
                self._doubtful.clear()
        return self._lost or bool(self._doubtful)

    def _follows(self, lost: SubjectState, was_lost: bool, answer: Answer) -> Mapping[int, SubjectState]:
        """Where the subject stands by the answer alone."""
        came = _came(answer, was_lost=was_lost)
        attempts = lost.attempts - (answer.finding is Finding.NEVER_SENT)
        self._loyalty.state = replace(
            lost, outcome=_of_subject(came), reason=came.reason, attempts=attempts, settled_at=self._steps.now
        )
        return {self._subject.seq: self._loyalty.state}

    def _kept(self, was_lost: bool, answer: Answer) -> Mapping[int, bytes]:
        facts = self.facts(_came(answer, was_lost=was_lost))
        return {self._subject.seq: self._loyalty.with_program(self._program, facts)}


def _entries(page: LoyaltyTransactions) -> int:
    """How many transactions the first page of a ledger has; there may be more."""
    return len(page.data or ())


def _may_be_done(answer: Answer) -> bool:
    """Whether a request took effect, for all that is known: a 404 may be the second answer to one that was doubled."""
    return answer.finding in {Finding.UNKNOWN, Finding.ABSENT} or is_maybe_copied(answer)


def _came(answer: Answer, *, was_lost: bool) -> Came:
    """Where a program stands by the answer to its deletion alone."""
    if answer.finding is Finding.DONE and answer.is_in_step:
        return Came(Outcome.UNVERIFIED, Reason.NOT_READ_YET)
    if answer.finding is Finding.DONE:  # as long as nothing vouches for it: a crash leaves no more than that
        return Came(Outcome.UNKNOWN, Reason.NO_ANSWER_RECORDED)
    if was_lost or _may_be_done(answer):
        return Came(Outcome.UNKNOWN, answer.reason)
    if answer.finding is Finding.FINAL:
        return (
            Came(Outcome.FAILED, Reason.LEDGER_REFUSED) if answer.is_in_step else Came(Outcome.UNKNOWN, answer.reason)
        )
    return Came(Outcome.RETRYABLE, answer.reason)
