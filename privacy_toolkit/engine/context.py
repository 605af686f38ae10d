"""What all walks of an execution share, and what an answer means for every one of them: waiting, stopping."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from random import Random, SystemRandom

from msgspec.structs import replace

from privacy_toolkit.config.network import Obstacle
from privacy_toolkit.core.model import Control, Gone, Purpose, Reason, StopReason
from privacy_toolkit.core.processes import Aside, in_thread
from privacy_toolkit.engine.controls import Controls, Surroundings
from privacy_toolkit.engine.limits import (
    LONGEST_WAIT,
    SUSPICIOUS_ABSENCES,
    Event,
    Exchanged,
    Obstructed,
    Places,
    Stop,
    Waiting,
    Watch,
)
from privacy_toolkit.http.exchange import Exchange, Fault, Line, Manner, Pacer, Reply
from privacy_toolkit.journal.store import Lease, OpenRun
from privacy_toolkit.talonone.client import Client
from privacy_toolkit.talonone.controls import is_of_sandbox
from privacy_toolkit.talonone.operations import Operation
from privacy_toolkit.talonone.responses import Answer, Asked, Finding, read_exchange

_CREDENTIALS = frozenset({int(HTTPStatus.UNAUTHORIZED), int(HTTPStatus.FORBIDDEN)})
_NO_ANSWER = frozenset({Finding.UNKNOWN, Finding.NEVER_SENT})
#: In the place of the time, where nothing that counts from it is said.
NO_MOMENT = datetime.fromtimestamp(0, UTC)
# Members of enumerations that are needed for each request: asking the class takes Python 3.11 as long as ten calls.
_ABSENT = Finding.ABSENT
_READ_BEFORE, _RECONCILE = Purpose.READ_BEFORE, Purpose.RECONCILE
_WRONG_ENVIRONMENT = StopReason.WRONG_ENVIRONMENT


def is_copy(answer: Answer) -> bool:
    """Whether a 401 may be the copy of what a control without credentials got on the same connection."""
    return answer.status == HTTPStatus.UNAUTHORIZED and answer.mark is not None and answer.mark.line.keyless


def _note_keyless(answer: Answer) -> None:
    if answer.mark is not None:
        answer.mark.line.keyless = True


def as_copy(answer: Answer) -> Answer:
    """Take a 401 that may be such a copy for one that proves nothing; its connection is given up."""
    if answer.mark is not None:
        answer.mark.line.spoil()
    return replace(answer, finding=Finding.UNKNOWN, reason=Reason.FOREIGN_ANSWER)


@dataclass(slots=True)
class ExecutionContext:
    """What all walks of an execution share. ``clock`` is microseconds since the epoch, ``monotonic`` seconds.

    ``journal`` is what is read, ``lease`` what is written through. ``learned_gone`` is how the deployment answers for
    an erased profile, as its control profile taught, ``gone`` how as the erasures of this run show; None: not known.
    One 404 after an erasure may have been wrong: ``gone_by`` are those who had one, with whether they are settled, as
    long as nobody ``gone_surely`` had two; ``gone_before`` gives those of earlier executions, None where that is too
    much to ask.
    ``recognise`` says of some ids whether earlier runs account for their absence, ``suppressed`` of a customer whether
    an earlier run erased them. ``sandbox``: what the settings say of the environment. ``grace`` is how many seconds an
    update without an answer may still be applied. ``aside`` does what would hold up the event loop. ``explain`` says
    what is in the way of connections, and what puts it right.
    """

    journal: OpenRun
    lease: Lease
    client: Client
    pacer: Pacer
    watch: Watch
    stop: Stop
    places: Places
    emit: Callable[[Event], None]
    rng: Random = field(default_factory=SystemRandom)
    clock: Callable[[], int] = lambda: time.time_ns() // 1000
    monotonic: Callable[[], float] = time.monotonic
    recognise: Callable[[list[str]], bool] = lambda _: False
    suppressed: Callable[[str], bool] = lambda _: False
    sandbox: bool | None = None
    grace: float = 60.0
    aside: Aside = in_thread
    explain: Callable[[Obstacle], tuple[str, str]] = lambda obstacle: (obstacle.value, "")
    positive: str | None = None
    gone: Gone | None = None
    gone_by: dict[str, bool] = field(default_factory=dict)
    gone_surely: bool = False
    gone_before: Callable[[], list[str] | None] = list
    gone_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    learned_gone: Gone | None = None
    first_absent: list[str] = field(default_factory=list)
    paused_until: float = -math.inf
    asked_until: float = -math.inf  # as answered here, not elsewhere
    obstacles: set[Obstacle] = field(default_factory=set)  # those that were told
    controls: Controls = field(init=False)
    manner: Manner = field(init=False)  # of what only reads

    def __post_init__(self) -> None:
        """Put the controls into these surroundings."""
        self.manner = Manner(when_late=self.pacer.again)
        self.controls = Controls(
            Surroundings(
                asker=self,
                record=self.lease.record_control,
                stop=self.stop,
                watch=self.watch,
                rng=self.rng,
                positive=self.positive,
                clock=self.monotonic,
                now=self.clock,
            )
        )

    def may_send(self) -> bool:
        """Whether a request may still be written: the last look before the first byte."""
        may = self.lease.may_send()
        if not (may or self.journal.is_in_place()):
            self.stop.request(StopReason.STATE_MOVED)
        return may and not self.stop.requested

    async def ask(self, control: Control, operation: Operation, value: str, line: Line | None) -> Answer | None:
        """Ask one question for a control, at the pace of all; None: a stop came before the API may be asked again."""
        while (left := self.paused_until - self.monotonic()) > 0:
            if not await self.stop.sleep(left):
                return None
        await self.pacer.wait()
        if self.stop.requested and self.pacer.is_shut:
            return None
        manner = replace(self.manner, anonymous=control is Control.ROUTE, on=line)
        exchange = await self.client.exchange(operation, value, manner=manner)
        asked = Asked(value, None, self.client.generation)
        answer = read_exchange(operation, exchange, self.moment(exchange), asked)
        if control is Control.ROUTE:
            _note_keyless(answer)
        elif line is None:
            if is_copy(answer):
                answer = as_copy(answer)
            else:
                self._heed_credentials(answer)
        if answer.wait is not None:
            self._pause(answer.wait)
        self._compare_environment(answer)
        self.emit(Exchanged(operation.name, Purpose.CONTROL, answer.status, answer.reason, exchange.elapsed))
        return answer

    def moment(self, exchange: Exchange) -> datetime:
        """The time that counts for what an exchange says of time: nearly none says anything.

        What is in the way of a connection is told here, the first time that it is met.
        """
        if isinstance(exchange, Fault) and exchange.obstacle is not None and exchange.obstacle not in self.obstacles:
            self.obstacles.add(exchange.obstacle)
            self.emit(Obstructed(exchange.obstacle.value, *self.explain(exchange.obstacle)))
        says = isinstance(exchange, Reply) and exchange.retry_after is not None
        return datetime.fromtimestamp(self.clock() / 1e6, UTC) if says else NO_MOMENT

    def heed(self, answer: Answer, purpose: Purpose, first: str | None, *, copied: bool = False) -> None:
        """Draw the conclusions from an answer that concern every worker: waiting, stopping.

        ``first`` is the subject where this is the first read about it. ``copied``: the answer may be the copy of a
        control's.
        """
        if answer.status in _CREDENTIALS and not copied:
            self._heed_credentials(answer)
        if answer.wait is not None:
            self._pause(answer.wait)
        if answer.value is not None and self.sandbox is not None:
            self._compare_environment(answer)
        absent = answer.finding is _ABSENT
        if absent and first is not None and len(self.first_absent) < SUSPICIOUS_ABSENCES:
            self.first_absent.append(first)
        counted = purpose if first is not None or purpose is not _READ_BEFORE else _RECONCILE
        reason = self.watch.exchanged(counted, reliable=answer.finding not in _NO_ANSWER, absent=absent)
        if reason is _WRONG_ENVIRONMENT and self.recognise(self.first_absent):
            self.watch.trust_absences()
        elif reason is not None:
            self.stop.request(reason)

    def _heed_credentials(self, answer: Answer) -> None:
        """Stop at once, and name who refused: a 401 or 403 that may be a gateway's says nothing of the key."""
        if answer.status in _CREDENTIALS:
            own = answer.finding is Finding.CREDENTIALS
            self.stop.request(StopReason.CREDENTIALS_REFUSED if own else StopReason.TURNED_AWAY)

    def _pause(self, seconds: float) -> None:
        if seconds > LONGEST_WAIT:
            self.stop.request(StopReason.ASKED_TO_WAIT)
        else:
            self.pacer.pause(seconds)
            self.paused_until = self.asked_until = max(self.paused_until, self.monotonic() + seconds)
            self.emit(Waiting(seconds))
            self.lease.report()

    def _compare_environment(self, answer: Answer) -> None:
        """What is shown says itself of which environment it is; where the settings say another, stop."""
        said = None if self.sandbox is None else is_of_sandbox(answer.value)
        if said is not None and said is not self.sandbox:
            self.stop.request(StopReason.ENVIRONMENT_DIFFERS)
