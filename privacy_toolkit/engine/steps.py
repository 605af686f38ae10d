"""What a job may do for its subjects: read, act, wait, settle.

Here stands, once for all jobs, what makes a run survive: an intent is durable before the request that changes
something leaves, an answer and the state that follows from it are one commit, and nothing is begun after a stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Protocol, TypeVar, runtime_checkable

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import NOT_LET_IN, Gone, Outcome, Purpose, Reason, StopReason
from privacy_toolkit.engine.context import NO_MOMENT, ExecutionContext, as_copy, is_copy
from privacy_toolkit.engine.controls import Between
from privacy_toolkit.engine.limits import Exchanged, Settled, backoff
from privacy_toolkit.http.exchange import Exchange, Manner, Reply
from privacy_toolkit.journal.records import Entry, ExchangeRecord, Note, SubjectState
from privacy_toolkit.talonone.addresses import QueryValue
from privacy_toolkit.talonone.models import RequestBody
from privacy_toolkit.talonone.operations import CONTROL_QUESTION, Operation
from privacy_toolkit.talonone.responses import Answer, Asked, Finding, read_exchange

# Members of enumerations that are needed for each request: asking the class takes Python 3.11 as long as ten calls.
_ABSENT, _DONE, _NEVER_SENT, _UNKNOWN = Finding.ABSENT, Finding.DONE, Finding.NEVER_SENT, Finding.UNKNOWN
_UNAUTHORIZED = int(HTTPStatus.UNAUTHORIZED)
_ACT, _READ_BEFORE, _RECONCILE = Purpose.ACT, Purpose.READ_BEFORE, Purpose.RECONCILE
#: An answer that is no answer to what was asked: its connection is out of step, or in other hands.
_NOT_OURS = frozenset({Reason.ANSWER_ABOUT_ANOTHER, Reason.FOREIGN_ANSWER})
_GONE = Gone.ABSENT

R = TypeVar("R")


#: So many who were answered 404 after their erasure may have had a wrong one; beyond that it is how they are answered.
MOST_GONE_BY = 100
#: How often a read is tried in one execution before it is left for the next one; and what could not be proven is asked.
READ_TRIES, PROOF_TRIES = 5, 3
_CONCLUSIVE = frozenset({Finding.DONE, Finding.ABSENT, Finding.FINAL, Finding.CREDENTIALS})


#: In the place of what is known of some subjects, where nothing has to be kept of it.
NOTHING_KNOWN: Mapping[int, bytes] = MappingProxyType({})


class Stopped(Exception):  # noqa: N818 - not an error: the walk ends here for this execution
    """The execution ends and the subjects are left as the journal has them."""


class Sending(msgspec.Struct, frozen=True, gc=False):
    """What a request holds next to its operation. It is not sent after ``not_after`` (microseconds since the epoch)."""

    value: str | None
    body: RequestBody | None = None
    query: Mapping[str, QueryValue] | None = None
    idempotency_key: str | None = None
    not_after: float = math.inf
    about: Collection[str] = ()


class _Act(msgspec.Struct):
    """A request on its way out: where its subjects stand if it is lost, and what its intent was recorded as."""

    operation: Operation
    lost: Mapping[int, SubjectState]
    known: Mapping[int, bytes]
    not_after: float = math.inf
    numbers: Sequence[int] = ()
    intended_at: int | None = None


class Procedure(Protocol):
    """A job: what is done for one subject, or for several about which one request is made.

    It uses nothing but the steps it is handed.
    """

    def keys(self, entries: Sequence[Entry]) -> Collection[str]:
        """Names of what must not be in two requests at once; empty where the run has each only once."""

    async def walk(self, entries: Sequence[Entry], steps: Steps) -> None:
        """Bring open subjects as far as they go in this execution, and settle each."""


@runtime_checkable
class Gatherer(Protocol):
    """A job that says which rows of a file it takes together."""

    def gather(self, pages: Iterable[Sequence[Entry]]) -> Iterator[Sequence[Sequence[Entry]]]:
        """Make walks of the rows, which come in the order of the file; rows that share a key keep it."""


class Steps:
    """The steps for the subjects of one walk in one execution; the first of them carries what is about all."""

    def __init__(self, entries: Sequence[Entry], tools: ExecutionContext) -> None:
        if len(entries) == 1:  # nearly always
            self._made = {entries[0].subject.seq: len(entries[0].exchanges)}
        else:
            self._made = {entry.subject.seq: len(entry.exchanges) for entry in entries}
        self._lead = entries[0].subject
        self._tools = tools
        self._unrecorded: list[Note] = []
        self._acted = self._has_read = False
        self._absent: Answer | None = None
        self._between: Between | None = None  # where the last absence stands
        self.has_place = True  # among those in flight; without one nothing is sent
        self.held_back: bool | Collection[str] = False
        self.quiet_until = -math.inf

    @property
    def now(self) -> int:
        """The time, in microseconds since the epoch."""
        return self._tools.clock()

    async def read(
        self,
        operation: Operation,
        purpose: Purpose,
        value: str | None = None,
        about: Collection[int] | None = None,
        apart: Answer | None = None,
        query: Mapping[str, QueryValue] | None = None,
    ) -> Answer:
        """Ask the API about the subjects, again if need be; the last answer if none was conclusive.

        ``value`` is in the path; it is the id of the subject unless another one is given. ``about`` are the numbers
        of the subjects that the question is about, where it is not about all of them. ``apart``: an answer on whose
        connection this is not asked. ``query`` says which page of a list is wanted.

        Raises:
            Stopped: the execution ends before the question was asked.
        """
        tools, tries = self._tools, 0
        asked = Asked(self._lead.id if value is None else value, None, tools.client.generation)
        plain, controls = tools.manner, tools.controls
        manner = plain if apart is None or apart.mark is None else replace(plain, apart=(apart.mark.line,))
        while True:
            if not self._is_turn():
                await self._turn()
            self._check_stopped()
            fresh, begun = controls.is_fresh(operation), tools.monotonic()
            exchange = await tools.client.exchange(operation, asked.value, query=query, manner=manner)
            answer = self._understood(operation, asked, purpose, exchange)
            record = self._ended(purpose, operation, answer, exchange.elapsed)
            self._unrecorded += self._notes(tuple(self._made if about is None else about), record)
            if self._contradicts(operation, answer):
                controls.contradicted(operation, self._between)
            elif answer.finding is _DONE and answer.named:
                controls.seen(operation, begun)
            if answer.finding is _ABSENT and not fresh:  # no control vouches for it: after one it is asked again
                if not await controls.ensure(operation):
                    raise Stopped
                continue
            tries += 1
            if answer.finding in _CONCLUSIVE or tries == READ_TRIES or not await self.back_off(tries, answer):
                return answer

    def seen_absent(self, answer: Answer, *, was_there: bool) -> None:
        """Take note of an answer that says, of what this walk reads about, that it is not there.

        If it ``was_there`` a moment ago, and nothing that we sent can have changed that, one who knows nobody may have
        answered: what is absent next needs a new control.
        """
        if was_there:
            self._tools.controls.contradicted(CONTROL_QUESTION)
        self._absent, self._between = answer, self._tools.controls.absent(CONTROL_QUESTION)

    def _contradicts(self, operation: Operation, answer: Answer) -> bool:
        """Whether what was absent a moment ago is there now: one of those who answer here knows nobody."""
        before = self._absent
        if answer.finding is _ABSENT:
            self._absent, self._between = answer, self._tools.controls.absent(operation)
        elif answer.finding is _DONE and before is not None:
            self._absent = None
            return before.mark is None or not before.mark.is_suspect  # else it was the answer to something else
        return False

    async def absence(
        self,
        operation: Operation,
        purpose: Purpose,
        first: Answer,
        value: str | None = None,
        about: Collection[int] | None = None,
    ) -> Answer:
        """Make sure of a 404: wait for the control after it, ask once more on another connection, and wait again.

        So a control held between the two questions: whatever answers in the API's place would have to come twice. It
        counts as long as nobody who was absent between the same controls was there when they were asked again.
        Returns the answer that counts: absent only where both said so and controls held before, between and after;
        ``unknown`` with reason ``route_unproven`` where that could not be shown; else whatever was answered instead.

        Raises:
            Stopped: the execution ends before the second question was asked.
        """
        controls, before = self._tools.controls, None
        for _ in range(2 * PROOF_TRIES):
            if await self.proven(operation, first):
                if before is not None and not controls.is_refuted(operation, before):
                    return first
                before = self._between
            elif self._tools.stop.requested:
                break
            else:
                before = None
            first = await self.read(operation, purpose, value, about, apart=first)
            if first.finding is not Finding.ABSENT:
                return first
        return replace(first, finding=Finding.UNKNOWN, reason=Reason.ROUTE_UNPROVEN)

    async def again(
        self, operation: Operation, purpose: Purpose, first: Answer, value: str, about: Collection[int]
    ) -> Answer:
        """Make sure of who is not in a list as of an absence: ask once more, elsewhere, and wait for the control after.

        Returns the second answer; ``unknown`` with reason ``route_unproven`` where that could not be shown.

        Raises:
            Stopped: the execution ends before the second question was asked.
        """
        controls = self._tools.controls
        if not controls.is_fresh(operation) and not await controls.ensure(operation):
            raise Stopped
        second = await self.read(operation, purpose, value, about, apart=first)
        is_absent = second.finding is Finding.ABSENT
        if is_absent:  # and a moment ago there was a list
            controls.contradicted(operation)
        if is_absent or (second.finding is _DONE and not await self.proven(operation, first, second, bracketed=True)):
            return replace(second, finding=Finding.UNKNOWN, reason=Reason.ROUTE_UNPROVEN)
        return second

    async def proven(self, operation: Operation, *answers: Answer, bracketed: bool | None = None) -> bool:
        """Wait until it is certain that these answers belong to their requests, and that absences are absences.

        ``bracketed``: wait for the next control, too; where it is not said, for absences alone. The place in flight is
        given to others, and taken again for what is asked next. False: nothing may follow from them.
        """
        is_absence, are_in_step = False, True
        for answer in answers:  # nearly always one
            is_absence = is_absence or answer.finding is _ABSENT
            mark = answer.mark
            are_in_step = are_in_step and (mark is None or mark.line.proven >= mark.number)
        bracketed = is_absence if bracketed is None else bracketed
        if are_in_step and not bracketed:
            return True
        self.leave()
        self.give_place_back()
        controls, between = self._tools.controls, self._between
        is_proven = await controls.proven(operation, answers, bracketed=bracketed)
        if is_proven and is_absence and between is not None:
            between.until = min(between.until, self._tools.monotonic())
            return not controls.is_refuted(operation, between)
        return is_proven

    def give_place_back(self) -> None:
        """Give the place in flight to others, if the walk has one."""
        if self.has_place:
            self.has_place = False
            self._tools.places.give_back()

    async def _hold_place(self) -> None:
        if not self.has_place:
            await self._tools.places.take()
            self.has_place = True

    async def vouched(self, operation: Operation, answer: Answer) -> Answer:
        """The answer to a request that changes something, once its connection vouches for it; else as good as lost.

        No refusal names its request: it could be the copy of one that someone else got on the same connection.
        """
        if answer.named or await self.proven(operation, answer, bracketed=False):
            return answer
        return replace(answer, finding=_UNKNOWN, reason=Reason.FOREIGN_ANSWER)

    async def in_step(self, answer: Answer) -> bool:
        """Find out at once, by a control on its connection, whether an answer belongs to its request."""
        if answer.mark is not None:
            await self._tools.controls.prove_line(answer.mark)
        return answer.is_in_step

    async def act(
        self,
        operation: Operation,
        lost: Mapping[int, SubjectState],
        then: Callable[[Answer], Mapping[int, SubjectState]],
        sending: Sending | None = None,
        keep: Callable[[Answer], Mapping[int, bytes]] | None = None,
        known: Mapping[int, bytes] = NOTHING_KNOWN,
    ) -> Answer:
        """Send the request that changes something, once.

        In this order: turn of the pace, connection, intent, a last look whether sending is still allowed, write. So
        an intent in the journal means that its request was about to leave, not that it waited for its turn. ``lost``
        is where the subjects stand, by their numbers, if no answer is ever recorded; it is durable before the first
        byte leaves, and so is what is ``known`` of them by then. ``then`` names what follows from the answer, which is
        recorded together with it; so is what ``keep`` takes of an answer that could not be asked for again.

        Raises:
            Stopped: the execution ends before anything was sent.
            JournalError: the intent could not be made durable, so nothing was sent.
        """
        tools = self._tools
        if not self._is_turn(writes_later=True):
            await self._turn(writes_later=True)
        if tools.stop.requested:
            raise Stopped
        sending = sending or Sending(self._lead.id)
        asked = Asked(sending.value, sending.body, tools.client.generation)
        act = _Act(operation, lost, known, sending.not_after)
        manner = Manner(before_write=partial(self._before_write, act), may_write=tools.may_send, about=sending.about)
        query, body, key = sending.query, sending.body, sending.idempotency_key
        exchange = await tools.client.exchange(
            operation, sending.value, query=query, body=body, idempotency_key=key, manner=manner
        )
        answer = self._understood(operation, asked, _ACT, exchange, sending.about)
        if not act.numbers and tools.stop.requested:
            raise Stopped
        record = self._ended(_ACT, operation, answer, exchange.elapsed, act.intended_at)
        if not act.numbers:  # no connection: there was no intent either
            act.numbers = [note.exchanges[0][0] for note in self._notes(tuple(lost), record)]
        elif answer.finding is not _NEVER_SENT:
            self._acted = True
        numbers = dict(zip(lost, act.numbers, strict=True))
        answered = self._answered(numbers, record, then(answer), keep(answer) if keep else {})
        tools.lease.record(self._unrecorded + answered if self._unrecorded else answered)
        self._unrecorded = []
        return answer

    async def _before_write(self, act: _Act) -> bool:
        """Make the intent durable now that a connection is at hand; False where a stop came before that."""
        tools = self._tools
        if tools.stop.requested:
            return False
        act.intended_at = tools.clock()
        intent = ExchangeRecord(_ACT, act.operation.name, intent_at=act.intended_at)
        intents = self._notes(tuple(act.lost), intent, act.lost)
        if act.known:
            intents = [replace(note, result=act.known.get(note.seq)) for note in intents]
        act.numbers = list(map(self._made.__getitem__, act.lost))
        told, self._unrecorded = self._unrecorded + intents, []
        await tools.lease.intend(told)
        if not tools.pacer.is_clear():
            await tools.pacer.gate()
        return act.not_after == math.inf or tools.clock() <= act.not_after

    async def back_off(self, tries: int, answer: Answer) -> bool:
        """Wait before the next try, at least as long as the API asked; whether to continue."""
        return await self.nap(max(backoff(tries, self._tools.rng), answer.wait or 0.0))

    async def nap(self, seconds: float) -> bool:
        """Wait without holding a place in flight; False if a stop was asked for meanwhile."""
        await self._hold_place()
        return await self._tools.places.nap(seconds)

    def settle(self, state: SubjectState, seq: int | None = None, result: bytes | None = None) -> None:
        """Record the state of a subject at the end of its walk, and what is kept of the answer for it."""
        note = Note(self._lead.seq if seq is None else seq, (), state, result)
        self._tools.lease.record([*self._unrecorded, note])
        self._unrecorded = []
        if self._lead.id in self._tools.gone_by:
            self._tools.gone_by[self._lead.id] = True
        self._tools.emit(Settled(state.outcome))
        if (reason := self._tools.watch.settled(state.outcome)) is not None:
            self._tools.stop.request(reason)

    def leave(self) -> None:
        """Record what was exchanged and leave the state as the journal has it."""
        if self._unrecorded:
            self._tools.lease.record(self._unrecorded)
            self._unrecorded = []

    def hold_back(self, keys: Collection[str] | None = None) -> None:
        """Begin nothing later with the same keys in this execution: what is left open here has to come first.

        ``keys`` are those of the walk that this holds for, where it does not for all of them.
        """
        self.held_back = True if keys is None else keys

    def keep_quiet(self) -> None:
        """Let what comes later with the same keys wait: an update without an answer may be applied late."""
        self.quiet_until = self._tools.monotonic() + self._tools.grace

    def may_come(self, state: SubjectState) -> bool:
        """Whether what was sent for a subject without a reliable answer is so recent that it may be carried out yet."""
        return state.settled_at is None or self.now - state.settled_at < self._tools.grace * 1e6

    def stop(self, reason: StopReason) -> None:
        """Ask for the end of the execution."""
        self._tools.stop.request(reason)

    async def aside(self, work: Callable[[], R]) -> R:
        """Do what would hold up all walks, such as writing files, somewhere else, in a place in flight; its result."""
        await self._hold_place()
        return await self._tools.aside(work)

    def is_suppressed(self, customer: str) -> bool:
        """Whether the customer was erased by this state folder, so that nothing may be written for them."""
        return self._tools.suppressed(customer)

    async def are_erased_absent(self, answer: Answer) -> bool:
        """Whether this deployment answers 404 for an erased profile, as far as is known at the next control.

        What its control profile taught counts; without one it is what the erasures of this run show until then.
        ``answer`` is the inventory that this is asked about.
        """
        tools = self._tools
        if tools.learned_gone is None and tools.gone is not _GONE:
            await self.proven(CONTROL_QUESTION, answer, bracketed=True)
            await self._hold_place()  # by its turn, those who took the place meanwhile may have shown it
        if tools.learned_gone is None and tools.gone is _GONE and not tools.gone_surely:
            await self._make_sure_of_gone()
        return (tools.learned_gone or tools.gone) is _GONE

    async def _make_sure_of_gone(self) -> None:
        """Ask once more about those who were answered 404 after their erasure, one of whom is enough if it holds.

        Anyone who is listed after all had a wrong one, and shows nothing. It is asked where something rests on it
        alone: nearly never.
        """
        tools, walked = self._tools, (self._absent, self._between)
        self.give_place_back()  # who waits for the turn must not keep it from the one who has it
        await tools.controls.wait_for(tools.gone_turn)
        try:
            before, tools.gone_before = tools.gone_before(), list
            tools.gone_surely = tools.gone_surely or before is None
            tools.gone_by.update(dict.fromkeys(before or (), True))
            while not tools.gone_surely:
                asked = next((id_ for id_, is_settled in tools.gone_by.items() if is_settled), None)
                if asked is None:  # nobody, or those whose own requests are still under way
                    break
                answer = await self.read(CONTROL_QUESTION, Purpose.READ_AFTER, asked)
                if answer.finding is _DONE:
                    tools.controls.contradicted(CONTROL_QUESTION)
                    del tools.gone_by[asked]
                    tools.gone = tools.gone if tools.gone_by else None
                elif answer.finding is _ABSENT and await self.proven(CONTROL_QUESTION, answer):
                    tools.gone_surely = True
                else:
                    break
        finally:
            tools.gone_turn.release()
            self._absent, self._between = walked
        await self._hold_place()

    def saw_gone(self, gone: Gone, *, surely: bool = False) -> None:
        """Take note how a profile is answered whose erasure was accepted. Where they differ a 404 counts.

        It need not be proven: nothing is claimed by it, and less of those who stay listed. ``surely``: it was said
        twice.
        """
        tools = self._tools
        if gone is _GONE and not tools.gone_surely:
            tools.gone_surely = surely
            tools.gone_by[self._lead.id] = False
            if len(tools.gone_by) > MOST_GONE_BY:  # so many are not all wrong
                tools.gone_surely = True
        if tools.gone is None or gone is _GONE:
            tools.gone = gone

    def suppress(self, before: SubjectState, seq: int | None = None) -> None:
        """Settle a subject, of which nothing is in doubt, as on hold because its customer was erased."""
        held = replace(before, outcome=Outcome.ON_HOLD, reason=None, hold_reason="suppressed", settled_at=self.now)
        self.settle(held, seq)

    def _notes(
        self, seqs: Sequence[int], record: ExchangeRecord, states: Mapping[int, SubjectState] | None = None
    ) -> list[Note]:
        """A request about some subjects: the first of them carries it."""
        if len(seqs) == 1:  # nearly always
            (seq,) = seqs
            number = self._made[seq] = self._made[seq] + 1
            return [Note(seq, ((number, record),), states[seq] if states else None)]
        lead, notes = seqs[0], []
        for seq in seqs:
            self._made[seq] += 1
            told = record if seq == lead else replace(record, carrier=lead)
            notes.append(Note(seq, ((self._made[seq], told),), states[seq] if states else None))
        return notes

    @staticmethod
    def _answered(
        numbers: Mapping[int, int],
        record: ExchangeRecord,
        states: Mapping[int, SubjectState],
        results: Mapping[int, bytes],
    ) -> list[Note]:
        """What became of the request with these numbers, where its subjects stand by that, and what is kept of it."""
        if len(numbers) == 1:  # nearly always
            ((seq, number),) = numbers.items()
            return [Note(seq, ((number, record),), states[seq], results.get(seq))]
        lead = next(iter(numbers))
        return [
            Note(seq, ((n, record if seq == lead else replace(record, carrier=lead)),), states[seq], results.get(seq))
            for seq, n in numbers.items()
        ]

    def _is_turn(self, *, writes_later: bool = False) -> bool:
        """Whether a request may go at once; its turn is taken then."""
        tools = self._tools
        if not self.has_place or (tools.paused_until > -math.inf and tools.paused_until > tools.monotonic()):
            return False
        return tools.pacer.ready(writes_later=writes_later)

    async def _turn(self, *, writes_later: bool = False) -> None:
        """Wait for a place, the end of a pause, and the pace."""
        await self._hold_place()
        await self._pause_over()
        await self._tools.pacer.wait(writes_later=writes_later)

    def _check_stopped(self) -> None:
        """After a stop, only what an act of this walk began may still be asked."""
        stop = self._tools.stop
        if stop.requested:
            refused = stop.reason in NOT_LET_IN
            if not self._acted or refused or self._tools.pacer.is_shut:
                raise Stopped

    async def _pause_over(self) -> None:
        """Wait as long as the API asked everyone to. A stop ends the waiting, and the walk as it stands."""
        while (left := self._tools.paused_until - self._tools.monotonic()) > 0:
            if not await self._tools.stop.sleep(left):
                raise Stopped

    @staticmethod
    def _placed(answer: Answer, operation: Operation, value: str | None, about: Collection[str]) -> Answer:
        """Conclude from an answer for its connection.

        One that names whom an earlier one may have been about, whose place there is not proven, may be that one's:
        it proves nothing, as if it named nobody.
        """
        line, number = answer.mark  # type: ignore[misc]
        if answer.reason in _NOT_OURS:
            line.spoil()
        elif answer.named and not line.asked:  # nearly always
            line.prove(number)
        elif value is not None and not (answer.named or about):  # nearly always of the others
            line.asked.add((operation.name, value))
        else:
            keys = [(operation.name, name) for name in (about if value is None else (value, *about))]
            if answer.named and line.asked.isdisjoint(keys):
                line.prove(number)
            else:
                line.asked.update(keys)
                return replace(answer, named=False) if answer.named else answer
        return answer

    def _understood(
        self,
        operation: Operation,
        asked: Asked,
        purpose: Purpose,
        exchange: Exchange,
        about: Collection[str] = (),
    ) -> Answer:
        """What an exchange says, once it is noted what follows from it for its connection and for all walks."""
        tools = self._tools
        says_no_time = type(exchange) is Reply and exchange.retry_after is None  # nearly always
        answer = read_exchange(operation, exchange, NO_MOMENT if says_no_time else tools.moment(exchange), asked)
        copied = answer.status == _UNAUTHORIZED and is_copy(answer)
        if copied and purpose is not _ACT:
            answer = as_copy(answer)
        if answer.mark is not None:
            answer = self._placed(answer, operation, asked.value, about)
        first = purpose is _READ_BEFORE and not self._has_read
        if first and answer.finding in _CONCLUSIVE:
            self._has_read = True
        tools.heed(answer, purpose, self._lead.id if first else None, copied=copied)
        tools.emit(Exchanged(operation.name, purpose, answer.status, answer.reason, exchange.elapsed))
        return answer

    def _ended(
        self, purpose: Purpose, operation: Operation, answer: Answer, elapsed: float, intent_at: int | None = None
    ) -> ExchangeRecord:
        ended_at, taken = self._tools.clock(), round(elapsed * 1e6)
        return ExchangeRecord(purpose, operation.name, intent_at, ended_at, taken, answer.status, answer.reason)
