"""The walk of one row that becomes one request: send it, and name what the answer says."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from http import HTTPStatus

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import NEVER_SENT, OPEN_OUTCOMES, Attribution, Outcome, Purpose, Reason, Subject
from privacy_toolkit.engine.steps import Sending, Steps
from privacy_toolkit.journal.records import Entry, ExchangeRecord, SubjectState
from privacy_toolkit.talonone.addresses import QueryValue
from privacy_toolkit.talonone.bodies import EventV3
from privacy_toolkit.talonone.models import RegisteredEvent, RequestBody
from privacy_toolkit.talonone.operations import KEY_IS_KEPT, OPERATIONS, Operation, RetrySafety
from privacy_toolkit.talonone.responses import Answer, Finding, may_send_again

# The API has no way to look up what became of such a request. Where it does no more the second time it is sent again:
# always, or as long as the API remembers the key that it was sent with. Where it would, an answer that was lost is lost
# for good, and the row is left to a person.

#: How often a request is sent for one row in one execution before it is left for the next one.
ACT_TRIES = 5

#: What the API will not do, however often it is asked.
REFUSED_FOR_GOOD = frozenset({Finding.FINAL, Finding.ABSENT})
#: What is believed of an answer without a name only once its connection is proven.
_TO_BE_VOUCHED_FOR = frozenset({Finding.DONE, Finding.FINAL, Finding.ABSENT, Finding.REFUSED, Finding.CREDENTIALS})


#: What shows an event with an id of its own.
_REGISTERED = OPERATIONS["get_event_v3"]


def coupon_key(coupon: str) -> str:
    """The name of a coupon among what must not be in two requests at once."""
    return f"coupon\0{coupon}"


def customer_key(customer: str) -> str:
    """The name of a customer among the same."""
    return f"customer\0{customer}"


class Named(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Who and what a body names, whichever body it is."""

    profile_id: str | None = None
    friend_profile_integration_id: str | None = None
    session_id: str | None = None
    connected_session_id: str | None = None
    integration_id: str | None = None
    customer_session: Named | None = None


named = msgspec.json.Decoder(Named).decode


class Writing(msgspec.Struct, frozen=True):
    """The procedure of a job that makes one request of each row.

    ``customers`` says whose data a row is about, by its id and its body, ``session`` which session it is about.
    ``secret`` is the run's; ``keep`` takes what has to be kept of an answer. ``ordered``: a request that is carried out
    late would undo what a later row of the same customer says.
    """

    operation: Operation
    body: type[RequestBody]
    query: Mapping[str, QueryValue]
    secret: bytes
    customers: Callable[[str, str], Collection[str]]
    session: Callable[[str, str], str | None]
    keep: Callable[[Answer], bytes] | None = None
    ordered: bool = True

    def keys(self, entries: Sequence[Entry]) -> Collection[str]:
        """The customers and the session: their requests go out one after another, in the order of the input."""
        return self.about(entries[0].subject)

    def about(self, subject: Subject) -> Collection[str]:
        """Give the names of the customers and the session of a row."""
        session = self.session(subject.id, subject.given)
        found = {customer_key(customer) for customer in self.customers(subject.id, subject.given)}
        return found if session is None else {*found, f"session\0{session}"}

    async def walk(self, entries: Sequence[Entry], steps: Steps) -> None:
        """Bring one row as far as it goes in this execution."""
        (entry,) = entries
        await _WriteWalk(self, entry, steps).run()

    def sending(self, entry: Entry) -> Sending:
        """The request of a row: the same to the byte however often it is sent."""
        subject, operation = entry.subject, self.operation
        body = msgspec.json.decode(subject.given, type=self.body)
        if isinstance(body, EventV3):
            shown = {*(body.response_content or ()), "advancedEvent"}  # so that the answer names the event
            own = body.integration_id or self._key(subject.seq)
            body = replace(body, integration_id=own, response_content=sorted(shown))
        return Sending(
            None if operation.parameter is None else subject.id,
            body,
            self.query,
            self._key(subject.seq) if operation.idempotency_key else None,
            about=self.about(subject),
        )

    def _key(self, seq: int) -> str:
        """The Idempotency-Key of a row: the same in every execution, and to be told by nobody without the secret."""
        return hmac.new(self.secret, f"key:{seq}".encode(), hashlib.sha256).hexdigest()


def is_certain(answer: Answer) -> bool:
    """Whether an answer that does not name its row needs no connection to vouch for it."""
    return answer.named or answer.is_in_step or answer.finding not in _TO_BE_VOUCHED_FOR


def _sent_at(exchange: ExchangeRecord) -> float:
    """When a request that changes something may have left; of one that certainly did not: never."""
    if exchange.intent_at is None or exchange.reason in NEVER_SENT:
        return math.inf
    return exchange.intent_at


class _WriteWalk:
    """One row on its way. ``_state`` is always what the journal has, or is about to have, on disk."""

    def __init__(self, job: Writing, entry: Entry, steps: Steps) -> None:
        self._job = job
        self._entry = entry
        self._seq = entry.subject.seq
        self._state = self._before = entry.state
        self._steps = steps
        self._doubtful: list[Answer] = []  # refusals for now that may have been another's
        self._is_lost = entry.state.outcome is Outcome.UNKNOWN  # whether what was sent may be done, whatever they say
        #: Of what was certainly refused it does not matter for how long the API remembers its key.
        self._first_sent = min(map(_sent_at, entry.exchanges), default=math.inf) if self._is_lost else math.inf

    async def run(self) -> None:
        """Send the request, unless nothing may be sent."""
        if self._state.reason in {Reason.NO_LOOK_POSSIBLE, Reason.STATE_RESTORED}:
            return  # as an earlier execution left it: nothing was tried that could count as a failure of this one
        subject = self._entry.subject
        suppressed = any(map(self._steps.is_suppressed, self._job.customers(subject.id, subject.given)))
        if self._state.outcome is Outcome.UNKNOWN and (suppressed or not self._may_repeat()):
            for_a_person = replace(self._state, reason=Reason.NO_LOOK_POSSIBLE, settled_at=self._steps.now)
            self._steps.settle(for_a_person, self._seq)
        elif suppressed:
            self._steps.suppress(self._state, self._seq)
        else:
            await self._send()

    async def _send(self) -> None:
        """Send the request, again where that is certain to do no harm, and settle by what it came to."""
        job, sending = self._job, self._job.sending(self._entry)
        for tries in range(1, ACT_TRIES + 1):
            answer = await self._send_once(sending)
            if answer.status == HTTPStatus.CONFLICT and await self._is_settled_by_id(sending.body):
                break
            self._is_lost = self._is_lost or self._may_be_there(answer)
            lost_and_harmless = answer.finding is Finding.UNKNOWN and self._may_repeat()
            again = (lost_and_harmless or may_send_again(job.operation, answer.finding)) and tries < ACT_TRIES
            if not again or not await self._steps.back_off(tries, answer):
                break
        if self._doubtful:
            await self._clear_up(answer)
        self._steps.settle(self._state, self._seq)
        if self._state.outcome in OPEN_OUTCOMES and self._state.reason is not Reason.NO_LOOK_POSSIBLE:
            self._steps.hold_back()  # it is sent in a later execution, and what comes after it must not overtake it

    async def _send_once(self, sending: Sending) -> Answer:
        job, lost = self._job, self._lost()
        keep = None if job.keep is None else self._keep
        self._first_sent = min(self._first_sent, self._steps.now)
        if job.operation.retry is RetrySafety.KEYED:
            sending = replace(sending, not_after=self._first_sent + KEY_IS_KEPT)
        answer = await self._steps.act(job.operation, {self._seq: lost}, self._follows, sending, keep)
        if answer.finding is Finding.REFUSED and job.operation.retry is RetrySafety.SAFE:
            # That of another does no harm where the row may be sent again: it is told later whose it was.
            self._doubtful += [] if is_certain(answer) else [answer]
        elif not is_certain(answer):
            answer = await self._steps.vouched(job.operation, answer)
            self._stand_by(answer)
        if answer.finding is Finding.UNKNOWN:
            self._is_lost = True
            if job.ordered:
                self._steps.keep_quiet()
        return answer

    async def _clear_up(self, answer: Answer) -> None:
        """Find out whether all refusals for now were the row's own: only then is it certain that it was not done.

        Else it may be carried out yet, also where it was done since: after what comes next for the same customer.
        """
        is_open = self._state.outcome is Outcome.UNKNOWN and not self._is_lost
        if not (is_open or self._job.ordered):
            return
        if not await self._steps.proven(self._job.operation, *self._doubtful, bracketed=False):
            if self._job.ordered:
                self._steps.keep_quiet()
        elif is_open:
            self._before = self._entry.state
            self._stand_by(answer)

    async def _is_settled_by_id(self, sent: RequestBody | None) -> bool:
        """Look up why a 409 came: it may say that the id is taken, by this very event or by another one.

        Where no event has the id the 409 said to come back later, and nothing is settled.
        """
        if not isinstance(sent, EventV3) or self._is_dry:
            return False
        answer = await self._steps.read(_REGISTERED, Purpose.RECONCILE, sent.integration_id)
        if answer.finding is not Finding.DONE or not answer.named:
            return False
        outcome, reason = self._compared(answer.value, sent)
        ours = Attribution.INFERRED if outcome is Outcome.DONE and reason is None else None
        now = self._steps.now
        self._state = replace(self._state, outcome=outcome, reason=reason, attribution=ours, settled_at=now)
        return True

    def _may_be_there(self, answer: Answer) -> bool:
        """Whether it may be by this very event that an id is taken: a proxy may have sent the request twice."""
        return answer.status == HTTPStatus.CONFLICT and self._job.body is EventV3 and not self._is_dry

    def _compared(self, found: RegisteredEvent, sent: EventV3) -> tuple[Outcome, Reason | None]:
        """What the event that has the id says of the row.

        One that differs only in its attributes may be this one as the API keeps it, if it was sent before. An id that
        was made for the row is nobody else's.
        """
        if found.type != sent.type or (found.profile_id or sent.profile_id) != sent.profile_id:
            return Outcome.FAILED, Reason.ID_TAKEN
        if named(self._entry.subject.given).integration_id is None:
            return Outcome.DONE, None
        is_same = (found.attributes or {}) == (sent.attributes or {})
        if self._before.outcome is Outcome.UNKNOWN:
            return (Outcome.DONE, None) if is_same else (Outcome.UNKNOWN, Reason.NO_LOOK_POSSIBLE)
        return (Outcome.DONE, Reason.ALREADY_TRACKED) if is_same else (Outcome.FAILED, Reason.ID_TAKEN)

    @property
    def _is_dry(self) -> bool:
        return bool(self._job.query.get("dry"))

    def _may_repeat(self) -> bool:
        """Whether the request does no more if it is sent again now, though it may have arrived before.

        A clock that was set back tells nothing of how long ago that was.
        """
        retry = self._job.operation.retry
        ago = self._steps.now - self._first_sent
        return retry is RetrySafety.SAFE or (retry is RetrySafety.KEYED and 0 <= ago < KEY_IS_KEPT)

    def _lost(self) -> SubjectState:
        """Where the row stands if no answer is ever recorded."""
        return replace(
            self._state,
            outcome=Outcome.UNKNOWN,
            reason=Reason.NO_ANSWER_RECORDED,
            attempts=self._state.attempts + 1,
            settled_at=self._steps.now,
        )

    def _follows(self, answer: Answer) -> dict[int, SubjectState]:
        """Where the row stands by the answer, as long as nothing vouches for it: a crash leaves no more than that."""
        self._before = self._state
        if not is_certain(answer):
            answer = replace(answer, finding=Finding.UNKNOWN, reason=Reason.NO_ANSWER_RECORDED)
        attempts = self._state.attempts + (answer.finding is not Finding.NEVER_SENT)
        self._state = replace(self._state, attempts=attempts)
        self._stand_by(answer)
        return {self._seq: self._state}

    def _stand_by(self, answer: Answer) -> None:
        outcome, reason = self._named(answer)
        self._state = replace(self._state, outcome=outcome, reason=reason, settled_at=self._steps.now)

    def _named(self, answer: Answer) -> tuple[Outcome, Reason | None]:
        """What the answer says of the row; a refusal says nothing about what was sent earlier and not answered."""
        before = self._before
        if answer.finding is Finding.DONE:
            return Outcome.DONE, Reason.DRY if self._is_dry else None
        if answer.finding is Finding.UNKNOWN:
            return Outcome.UNKNOWN, answer.reason if self._may_repeat() else Reason.NO_LOOK_POSSIBLE
        if self._may_be_there(answer):
            return Outcome.UNKNOWN, answer.reason
        if before.outcome is Outcome.UNKNOWN:
            return Outcome.UNKNOWN, Reason.NO_LOOK_POSSIBLE if answer.finding in REFUSED_FOR_GOOD else before.reason
        return Outcome.FAILED if answer.finding in REFUSED_FOR_GOOD else Outcome.RETRYABLE, answer.reason

    def _keep(self, answer: Answer) -> dict[int, bytes]:
        if answer.finding is not Finding.DONE or self._job.keep is None:
            return {}
        return {self._seq: self._job.keep(answer)}
