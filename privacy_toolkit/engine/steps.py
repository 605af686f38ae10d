"""What a job may do for its subjects: read, act, wait, settle.

Here stands, once for all jobs, what makes a run survive: an intent is durable before the request that changes
something leaves, an answer and the standing that follows from it are one commit, and nothing is begun after a stop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec
from msgspec.structs import replace

from privacy_toolkit.api.addresses import QueryValue
from privacy_toolkit.api.models import RequestBody
from privacy_toolkit.api.operations import Operation
from privacy_toolkit.api.responses import Answer, Finding, read_exchange
from privacy_toolkit.api.retry import backoff
from privacy_toolkit.engine.events import Exchanged, Settled
from privacy_toolkit.engine.tools import Tools
from privacy_toolkit.journal.records import Entry, ExchangeRecord, Note, Standing
from privacy_toolkit.model import Outcome, Purpose, Reason, StopReason

#: How often a read is tried in one sitting before it is left for the next one.
READ_TRIES = 5

_CONCLUSIVE = frozenset({Finding.DONE, Finding.ABSENT, Finding.FINAL, Finding.CREDENTIALS})


class Stopped(Exception):  # noqa: N818 - not an error: the walk ends here for this sitting
    """The sitting ends and the subjects are left as the journal has them."""


class Sending(msgspec.Struct, frozen=True, gc=False):
    """What a request holds beside its operation: the value in its path, and what else it may have."""

    value: str | None
    body: RequestBody | None = None
    query: Mapping[str, QueryValue] | None = None
    idempotency_key: str | None = None


class Procedure(Protocol):
    """A job: what is done for one subject, or for several about which one request is made.

    It uses nothing but the steps it is handed.
    """

    def keys(self, entries: Sequence[Entry]) -> Collection[str]:
        """Names of what must not be in two requests at once; empty where the run has each only once."""

    async def walk(self, entries: Sequence[Entry], steps: Steps) -> None:
        """Bring open subjects as far as they go in this sitting, and settle each."""


class Steps:
    """The steps for the subjects of one walk in one sitting; the first of them carries what is about all."""

    def __init__(self, entries: Sequence[Entry], tools: Tools) -> None:
        self._made = {entry.subject.seq: len(entry.exchanges) for entry in entries}
        self._lead = entries[0].subject
        self._tools = tools
        self._unrecorded: list[Note] = []
        self._acted = False
        self.held_back: bool | Collection[str] = False

    @property
    def now(self) -> int:
        """The time, in microseconds since the epoch."""
        return self._tools.clock()

    async def read(
        self, operation: Operation, purpose: Purpose, value: str | None = None, about: Collection[int] | None = None
    ) -> Answer:
        """Ask the API about the subjects, again if need be; the last answer if none was conclusive.

        ``value`` stands in the path; it is the id of the subject unless another one is given. ``about`` are the numbers
        of the subjects that the question is about, where it is not about all of them.

        Raises:
            Stopped: the sitting ends before the question was asked.
        """
        sending = Sending(self._lead.id if value is None else value)
        tries = 0
        while True:
            await self._turn()
            answer, record = await self._exchange(operation, sending, ExchangeRecord(purpose, operation.name))
            self._unrecorded += self._notes(list(self._made if about is None else about), record)
            tries += 1
            if answer.finding in _CONCLUSIVE or tries == READ_TRIES or not await self.back_off(tries, answer):
                return answer

    async def act(
        self,
        operation: Operation,
        lost: Mapping[int, Standing],
        then: Callable[[Answer], Mapping[int, Standing]],
        sending: Sending | None = None,
        keep: Callable[[Answer], Mapping[int, bytes]] | None = None,
    ) -> Answer:
        """Send the request that changes something, once.

        ``lost`` is where the subjects stand, by their numbers, if no answer is ever recorded; it is durable before the
        first byte leaves. ``then`` names what follows from the answer, which is recorded together with it; so is what
        ``keep`` takes of an answer that could not be asked for again.

        Raises:
            Stopped: the sitting ends before anything was sent.
            JournalError: the intent could not be made durable, so nothing was sent.
        """
        tools = self._tools
        await self._pause_over()
        if tools.stop.requested:
            raise Stopped
        intent = ExchangeRecord(Purpose.ACT, operation.name, intent_at=tools.clock())
        intents = self._notes(list(lost), intent, lost)
        numbers = [note.exchanges[0][0] for note in intents]
        await tools.journal.intend([*self._unrecorded, *intents])
        self._unrecorded = []
        await tools.pacer.wait()
        if tools.stop.requested:
            answer, record = self._withdrawn(intent)
        else:
            self._acted = True
            answer, record = await self._exchange(operation, sending or Sending(self._lead.id), intent)
        results = keep(answer) if keep else {}
        tools.journal.record(self._answered(dict(zip(lost, numbers, strict=True)), record, then(answer), results))
        return answer

    async def back_off(self, tries: int, answer: Answer) -> bool:
        """Wait before the next try, at least as long as the API asked; whether to go on."""
        return await self.nap(max(backoff(tries, self._tools.rng), answer.wait or 0.0))

    async def nap(self, seconds: float) -> bool:
        """Wait without holding a place in flight; False if a stop was asked for meanwhile."""
        return await self._tools.places.nap(seconds)

    def settle(self, standing: Standing, seq: int | None = None, result: bytes | None = None) -> None:
        """Record where a subject stands at the end of its walk, and what is kept of the answer for it."""
        note = Note(self._lead.seq if seq is None else seq, (), standing, result)
        self._tools.journal.record([*self._unrecorded, note])
        self._unrecorded = []
        self._tools.emit(Settled(standing.outcome))
        reason = self._tools.watch.settled(standing.outcome)
        if reason is not None:
            self._tools.stop.request(reason)

    def leave(self) -> None:
        """Record what was exchanged and leave the standing as the journal has it."""
        if self._unrecorded:
            self._tools.journal.record(self._unrecorded)
            self._unrecorded = []

    def hold_back(self, keys: Collection[str] | None = None) -> None:
        """Begin nothing later with the same keys in this sitting: what is left open here has to come first.

        ``keys`` are those of the walk that this holds for, where it does not for all of them.
        """
        self.held_back = True if keys is None else keys

    def stop(self, reason: StopReason) -> None:
        """Ask for the end of the sitting."""
        self._tools.stop.request(reason)

    def is_suppressed(self, customer: str) -> bool:
        """Whether the customer was erased by this state folder, so that nothing may be written for them."""
        return self._tools.suppressed(customer)

    def suppress(self, before: Standing, seq: int | None = None) -> None:
        """Settle a subject, of which nothing is in doubt, as on hold because its customer was erased."""
        held = replace(before, outcome=Outcome.ON_HOLD, reason=None, hold_reason="suppressed", settled_at=self.now)
        self.settle(held, seq)

    def _notes(
        self, seqs: Sequence[int], record: ExchangeRecord, standings: Mapping[int, Standing] | None = None
    ) -> list[Note]:
        """A request about some subjects: the first of them carries it."""
        notes = []
        for seq in seqs:
            self._made[seq] += 1
            told = record if seq == seqs[0] else replace(record, carrier=seqs[0])
            notes.append(Note(seq, ((self._made[seq], told),), standings[seq] if standings else None))
        return notes

    @staticmethod
    def _answered(
        numbers: Mapping[int, int],
        record: ExchangeRecord,
        standings: Mapping[int, Standing],
        results: Mapping[int, bytes],
    ) -> list[Note]:
        """What became of the request with these numbers, where its subjects stand by that, and what is kept of it."""
        lead = next(iter(numbers))
        return [
            Note(
                seq, ((n, record if seq == lead else replace(record, carrier=lead)),), standings[seq], results.get(seq)
            )
            for seq, n in numbers.items()
        ]

    async def _turn(self) -> None:
        """Wait for the pace. After a stop, only what an act of this walk began may still be asked."""
        stop = self._tools.stop
        await self._pause_over()
        await self._tools.pacer.wait()
        if stop.requested and (not self._acted or stop.reason is StopReason.CREDENTIALS_REFUSED):
            raise Stopped

    async def _pause_over(self) -> None:
        """Wait as long as the API asked everybody to. A stop ends the waiting, and the walk as it stands."""
        while (left := self._tools.paused_until - self._tools.clock()) > 0:
            if not await self._tools.stop.sleep(left / 1e6):
                raise Stopped

    async def _exchange(
        self, operation: Operation, sending: Sending, record: ExchangeRecord
    ) -> tuple[Answer, ExchangeRecord]:
        exchange = await self._tools.client.exchange(
            operation,
            sending.value,
            query=sending.query,
            body=sending.body,
            idempotency_key=sending.idempotency_key,
        )
        answer = read_exchange(operation, exchange, datetime.fromtimestamp(self._tools.clock() / 1e6, UTC))
        self._tools.heed(answer, record.purpose, self._lead.id)
        self._tools.emit(Exchanged(operation.name, record.purpose, answer.status, answer.reason, exchange.elapsed))
        return answer, self._ended(record, answer, exchange.elapsed)

    def _ended(self, record: ExchangeRecord, answer: Answer, elapsed: float) -> ExchangeRecord:
        return ExchangeRecord(
            record.purpose,
            record.operation,
            record.intent_at,
            self._tools.clock(),
            round(elapsed * 1e6),
            answer.status,
            answer.reason,
        )

    def _withdrawn(self, intent: ExchangeRecord) -> tuple[Answer, ExchangeRecord]:
        """The stop came between the intent and its turn: nothing was sent, and the journal says so."""
        answer = Answer(Finding.NEVER_SENT, Reason.NOT_WRITTEN, None, None, None)
        return answer, self._ended(intent, answer, 0.0)
