"""The walk of one row that becomes one request: send it, and name what the answer says.

The API has no way to look up what became of such a request. Where it does no more the second time it is sent again;
where it would, an answer that was lost is lost for good, and the row is left to a person.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from privacy_toolkit.api.addresses import QueryValue
from privacy_toolkit.api.models import RequestBody
from privacy_toolkit.api.operations import Operation, RetrySafety
from privacy_toolkit.api.responses import Answer, Finding, may_send_again
from privacy_toolkit.engine.steps import Sending, Steps
from privacy_toolkit.jobs.ways import customer_key
from privacy_toolkit.journal.records import Entry, Standing
from privacy_toolkit.model import Outcome, Reason

#: How often a request is sent for one row in one sitting before it is left for the next one.
ACT_TRIES = 5

_REFUSED_FOR_GOOD = frozenset({Finding.FINAL, Finding.ABSENT})
#: What is believed of an answer without a name only once its connection is proven.
_TO_BE_VOUCHED_FOR = frozenset({Finding.DONE, Finding.FINAL, Finding.ABSENT, Finding.REFUSED})


class Named(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Who and what a body names, whichever body it is."""

    profile_id: str | None = None
    friend_profile_integration_id: str | None = None
    session_id: str | None = None
    customer_session: Named | None = None


named = msgspec.json.Decoder(Named).decode


@dataclass(frozen=True, slots=True)
class Writing:
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
        subject = entries[0].subject
        session = self.session(subject.id, subject.given)
        found = {customer_key(customer) for customer in self.customers(subject.id, subject.given)}
        return found if session is None else {*found, f"session\0{session}"}

    async def walk(self, entries: Sequence[Entry], steps: Steps) -> None:
        """Bring one row as far as it goes in this sitting."""
        (entry,) = entries
        await _Walk(self, entry, steps).run()

    def sending(self, entry: Entry) -> Sending:
        """The request of a row: the same to the byte however often it is sent."""
        subject, operation = entry.subject, self.operation
        return Sending(
            None if operation.parameter is None else subject.id,
            msgspec.json.decode(subject.given, type=self.body),
            self.query,
            self._key(subject.seq) if operation.idempotency_key else None,
        )

    def _key(self, seq: int) -> str:
        """The Idempotency-Key of a row: the same in every sitting, and to be told by nobody without the secret."""
        return hmac.new(self.secret, f"key:{seq}".encode(), hashlib.sha256).hexdigest()


class _Walk:
    """One row on its way. ``_standing`` is always what the journal has, or is about to have, on disk."""

    def __init__(self, job: Writing, entry: Entry, steps: Steps) -> None:
        self._job = job
        self._entry = entry
        self._seq = entry.subject.seq
        self._standing = self._before = entry.standing
        self._steps = steps

    async def run(self) -> None:
        """Send the request, unless nothing may be sent."""
        if self._standing.reason in {Reason.NO_LOOK_POSSIBLE, Reason.STATE_RESTORED}:
            return  # as an earlier sitting left it: nothing was tried that could count as a failure of this one
        subject = self._entry.subject
        suppressed = any(map(self._steps.is_suppressed, self._job.customers(subject.id, subject.given)))
        is_safe = self._job.operation.retry is RetrySafety.SAFE
        if self._standing.outcome is Outcome.UNKNOWN and (suppressed or not is_safe):
            for_a_person = replace(self._standing, reason=Reason.NO_LOOK_POSSIBLE, settled_at=self._steps.now)
            self._steps.settle(for_a_person, self._seq)
        elif suppressed:
            self._steps.suppress(self._standing, self._seq)
        else:
            await self._send()

    async def _send(self) -> None:
        """Send the request, again where that is certain to do no harm, and settle by what it came to."""
        job, sending = self._job, self._job.sending(self._entry)
        keep = None if job.keep is None else self._keep
        for tries in range(1, ACT_TRIES + 1):
            lost = self._lost()
            answer = await self._steps.act(job.operation, {self._seq: lost}, self._follows, sending, keep)
            if not self._is_certain(answer):
                answer = await self._steps.vouched(job.operation, answer)
                self._stand_by(answer)
            if answer.finding is Finding.UNKNOWN and job.ordered:
                self._steps.keep_quiet()
            again = may_send_again(job.operation, answer.finding) and tries < ACT_TRIES
            if not again or not await self._steps.back_off(tries, answer):
                break
        self._steps.settle(self._standing, self._seq)
        if self._standing.outcome.is_open and self._standing.reason is not Reason.NO_LOOK_POSSIBLE:
            self._steps.hold_back()  # it is sent in a later sitting, and what comes after it must not overtake it

    def _is_certain(self, answer: Answer) -> bool:
        """Whether an answer that does not name its row needs no connection to vouch for it.

        A refusal for now that was another's does no harm where the request may be repeated.
        """
        if answer.named or answer.is_in_step:
            return True
        harmless = answer.finding is Finding.REFUSED and self._job.operation.retry is RetrySafety.SAFE
        return harmless or answer.finding not in _TO_BE_VOUCHED_FOR

    def _lost(self) -> Standing:
        """Where the row stands if no answer is ever recorded."""
        return replace(
            self._standing,
            outcome=Outcome.UNKNOWN,
            reason=Reason.NO_ANSWER_RECORDED,
            attempts=self._standing.attempts + 1,
            settled_at=self._steps.now,
        )

    def _follows(self, answer: Answer) -> dict[int, Standing]:
        """Where the row stands by the answer, as long as nothing vouches for it: a crash leaves no more than that."""
        self._before = self._standing
        if not self._is_certain(answer):
            answer = replace(answer, finding=Finding.UNKNOWN, reason=Reason.NO_ANSWER_RECORDED)
        attempts = self._standing.attempts + (answer.finding is not Finding.NEVER_SENT)
        self._standing = replace(self._standing, attempts=attempts)
        self._stand_by(answer)
        return {self._seq: self._standing}

    def _stand_by(self, answer: Answer) -> None:
        outcome, reason = self._named(answer)
        self._standing = replace(self._standing, outcome=outcome, reason=reason, settled_at=self._steps.now)

    def _named(self, answer: Answer) -> tuple[Outcome, Reason | None]:
        """What the answer says of the row; a refusal says nothing about what was sent earlier and not answered."""
        before = self._before
        if answer.finding is Finding.DONE:
            return Outcome.DONE, Reason.DRY if self._job.query.get("dry") else None
        if answer.finding is Finding.UNKNOWN:
            safe = self._job.operation.retry is RetrySafety.SAFE
            return Outcome.UNKNOWN, answer.reason if safe else Reason.NO_LOOK_POSSIBLE
        if before.outcome is Outcome.UNKNOWN:
            return Outcome.UNKNOWN, Reason.NO_LOOK_POSSIBLE if answer.finding in _REFUSED_FOR_GOOD else before.reason
        return Outcome.FAILED if answer.finding in _REFUSED_FOR_GOOD else Outcome.RETRYABLE, answer.reason

    def _keep(self, answer: Answer) -> dict[int, bytes]:
        if answer.finding is not Finding.DONE or self._job.keep is None:
            return {}
        return {self._seq: self._job.keep(answer)}
