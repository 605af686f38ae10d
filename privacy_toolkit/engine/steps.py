"""What a job may do for one subject: read, act, wait, settle.

Here stands, once for all jobs, what makes a run survive: an intent is durable before the request that changes
something leaves, an answer and the standing that follows from it are one commit, and nothing is begun after a stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random, SystemRandom
from typing import Protocol

from privacy_toolkit.api.client import Client
from privacy_toolkit.api.operations import Operation
from privacy_toolkit.api.pacing import Pacer
from privacy_toolkit.api.responses import Answer, Finding, read_exchange
from privacy_toolkit.api.retry import backoff
from privacy_toolkit.engine.control import Places, Stop
from privacy_toolkit.engine.events import Event, Exchanged, Settled, Waiting
from privacy_toolkit.engine.limits import LONGEST_WAIT, SUSPICIOUS_ABSENCES, Watch
from privacy_toolkit.journal.records import Entry, ExchangeRecord, Standing
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.model import Purpose, Reason, StopReason

#: How often a read is tried in one sitting before it is left for the next one.
READ_TRIES = 5

_CONCLUSIVE = frozenset({Finding.DONE, Finding.ABSENT, Finding.FINAL, Finding.CREDENTIALS})
_NO_ANSWER = frozenset({Finding.UNKNOWN, Finding.NEVER_SENT})


class Procedure(Protocol):
    """A job: what is done for one subject. It uses nothing but the steps it is handed."""

    async def walk(self, entry: Entry, steps: Steps) -> None:
        """Bring one open subject as far as it goes in this sitting, and settle it."""


class Stopped(Exception):  # noqa: N818 - not an error: the walk of a subject ends here for this sitting
    """The sitting ends and this subject is left as the journal has it."""


@dataclass(slots=True)
class Tools:
    """What all walks of a sitting share. ``clock`` is microseconds since the epoch."""

    journal: RunJournal
    client: Client
    pacer: Pacer
    watch: Watch
    stop: Stop
    places: Places
    emit: Callable[[Event], None]
    rng: Random = field(default_factory=SystemRandom)
    clock: Callable[[], int] = lambda: time.time_ns() // 1000
    recognise: Callable[[list[str]], bool] = lambda _: False
    first_absent: list[str] = field(default_factory=list)
    paused_until: int = 0


class Steps:
    """The steps for one subject in one sitting."""

    def __init__(self, entry: Entry, tools: Tools) -> None:
        self._subject = entry.subject
        self._n = len(entry.exchanges)
        self._tools = tools
        self._unrecorded: list[tuple[int, ExchangeRecord]] = []
        self._acted = False

    @property
    def now(self) -> int:
        """The time, in microseconds since the epoch."""
        return self._tools.clock()

    async def read(self, operation: Operation, purpose: Purpose) -> Answer:
        """Ask the API about the subject, again if need be; the last answer if none was conclusive.

        Raises:
            Stopped: the sitting ends before the question was asked.
        """
        tries = 0
        while True:
            await self._turn()
            answer, record = await self._exchange(operation, ExchangeRecord(purpose, operation.name))
            self._unrecorded.append((self._next(), record))
            tries += 1
            if answer.finding in _CONCLUSIVE or tries == READ_TRIES or not await self.back_off(tries, answer):
                return answer

    async def act(self, operation: Operation, lost: Standing, then: Callable[[Answer], Standing]) -> Answer:
        """Send the request that changes something, once.

        ``lost`` is the standing that is true if no answer is ever recorded; it is durable before the first byte
        leaves. ``then`` names the standing that follows from the answer, which is recorded together with it.

        Raises:
            Stopped: the sitting ends before anything was sent.
            JournalError: the intent could not be made durable, so nothing was sent.
        """
        tools = self._tools
        await self._pause_over()
        if tools.stop.requested:
            raise Stopped
        n = self._next()
        intent = ExchangeRecord(Purpose.ACT, operation.name, intent_at=tools.clock())
        await tools.journal.intend(self._subject.seq, [*self._unrecorded, (n, intent)], lost)
        self._unrecorded.clear()
        await tools.pacer.wait()
        if tools.stop.requested:
            answer, record = self._withdrawn(intent)
        else:
            self._acted = True
            answer, record = await self._exchange(operation, intent)
        tools.journal.record(self._subject.seq, [(n, record)], then(answer))
        return answer

    async def back_off(self, tries: int, answer: Answer) -> bool:
        """Wait before the next try, at least as long as the API asked; whether to go on."""
        return await self.nap(max(backoff(tries, self._tools.rng), answer.wait or 0.0))

    async def nap(self, seconds: float) -> bool:
        """Wait without holding a place in flight; False if a stop was asked for meanwhile."""
        return await self._tools.places.nap(seconds)

    def settle(self, standing: Standing) -> None:
        """Record where the subject stands at the end of its walk."""
        self._tools.journal.record(self._subject.seq, self._unrecorded, standing)
        self._unrecorded = []
        self._tools.emit(Settled(standing.outcome))
        reason = self._tools.watch.settled(standing.outcome)
        if reason is not None:
            self._tools.stop.request(reason)

    def leave(self) -> None:
        """Record what was exchanged and leave the standing as the journal has it."""
        if self._unrecorded:
            self._tools.journal.record(self._subject.seq, self._unrecorded)
            self._unrecorded = []

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

    def _next(self) -> int:
        self._n += 1
        return self._n

    async def _exchange(self, operation: Operation, record: ExchangeRecord) -> tuple[Answer, ExchangeRecord]:
        exchange = await self._tools.client.exchange(operation, self._subject.id)
        answer = read_exchange(operation, exchange, datetime.fromtimestamp(self._tools.clock() / 1e6, UTC))
        self._heed(answer, record.purpose)
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

    def _heed(self, answer: Answer, purpose: Purpose) -> None:
        """Draw the conclusions that concern every worker: waiting, stopping."""
        tools = self._tools
        if answer.finding is Finding.CREDENTIALS:
            tools.stop.request(StopReason.CREDENTIALS_REFUSED)
        if answer.wait is not None:
            if answer.wait > LONGEST_WAIT:
                tools.stop.request(StopReason.ASKED_TO_WAIT)
            else:
                tools.pacer.pause(answer.wait)
                tools.paused_until = max(tools.paused_until, tools.clock() + round(answer.wait * 1e6))
                tools.emit(Waiting(answer.wait))
        absent = answer.finding is Finding.ABSENT
        if absent and purpose is Purpose.READ_BEFORE and len(tools.first_absent) < SUSPICIOUS_ABSENCES:
            tools.first_absent.append(self._subject.id)
        reason = tools.watch.exchanged(purpose, reliable=answer.finding not in _NO_ANSWER, absent=absent)
        if reason is StopReason.WRONG_ENVIRONMENT and tools.recognise(tools.first_absent):
            tools.watch.trust_absences()
        elif reason is not None:
            tools.stop.request(reason)
