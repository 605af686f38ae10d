"""What all walks of a sitting share, and what an answer means for every one of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from random import Random, SystemRandom

from privacy_toolkit.api.client import Client
from privacy_toolkit.api.exchange import Line, Manner
from privacy_toolkit.api.models import ReservedCustomers
from privacy_toolkit.api.operations import Operation
from privacy_toolkit.api.pacing import Pacer
from privacy_toolkit.api.responses import Answer, Asked, Finding, read_exchange
from privacy_toolkit.engine.control import Places, Stop
from privacy_toolkit.engine.controls import Controls, Surroundings
from privacy_toolkit.engine.events import Event, Exchanged, Waiting
from privacy_toolkit.engine.limits import LONGEST_WAIT, SUSPICIOUS_ABSENCES, Watch
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.model import Control, Gone, Purpose, StopReason

_CREDENTIALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NO_ANSWER = frozenset({Finding.UNKNOWN, Finding.NEVER_SENT})


@dataclass(slots=True)
class Tools:
    """What all walks of an execution share. ``clock`` is microseconds since the epoch, ``monotonic`` seconds.

    ``learned_gone`` is how the deployment answers for an erased profile, as its control profile taught, and ``gone``
    how it does as the erasures of this run show; None: not known.
    ``recognise`` says of some ids whether earlier runs account for their absence, ``suppressed`` of a customer whether
    an earlier run erased them. ``sandbox`` is whether the settings say that the environment is a sandbox. ``grace`` is
    how long, in seconds, an update without an answer may still be applied.
    """

    journal: RunJournal
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
    positive: str | None = None
    gone: Gone | None = None
    learned_gone: Gone | None = None
    first_absent: list[str] = field(default_factory=list)
    paused_until: float = -math.inf
    controls: Controls = field(init=False)

    def __post_init__(self) -> None:
        """Put the controls into these surroundings."""
        self.controls = Controls(
            Surroundings(
                asker=self,
                record=self.journal.record_control,
                stop=self.stop.request,
                stopped_by=lambda: self.stop.reason,
                holds=lambda: self.watch.is_suspicious,
                rng=self.rng,
                positive=self.positive,
                clock=self.monotonic,
                now=self.clock,
            )
        )

    def may_send(self) -> bool:
        """Whether a request may still be written: the last look before the first byte."""
        if self.stop.requested:
            return False
        if not self.journal.is_in_place():
            self.stop.request(StopReason.STATE_MOVED)
            return False
        return True

    async def ask(self, control: Control, operation: Operation, value: str, line: Line | None) -> Answer | None:
        """Ask one question for a control, at the pace of all; None: a stop came before the API may be asked again."""
        while (left := self.paused_until - self.monotonic()) > 0:
            if not await self.stop.sleep(left):
                return None
        await self.pacer.wait()
        manner = Manner(anonymous=control is Control.ROUTE, on=line)
        exchange = await self.client.exchange(operation, value, manner=manner)
        asked = Asked(value, None, self.client.generation)
        answer = read_exchange(operation, exchange, datetime.fromtimestamp(self.clock() / 1e6, UTC), asked)
        if control is not Control.ROUTE and answer.status in _CREDENTIALS:
            self.stop.request(StopReason.CREDENTIALS_REFUSED)
        self._pause(answer)
        self._compare_environment(answer)
        self.emit(Exchanged(operation.name, Purpose.CONTROL, answer.status, answer.reason, exchange.elapsed))
        return answer

    def heed(self, answer: Answer, purpose: Purpose, first: str | None) -> None:
        """Draw the conclusions from an answer that concern every worker: waiting, stopping.

        ``first`` is the subject where this is the first read about it.
        """
        if answer.status in _CREDENTIALS:
            self.stop.request(StopReason.CREDENTIALS_REFUSED)
        self._pause(answer)
        self._compare_environment(answer)
        absent = answer.finding is Finding.ABSENT
        if absent and first is not None and len(self.first_absent) < SUSPICIOUS_ABSENCES:
            self.first_absent.append(first)
        counted = purpose if first is not None or purpose is not Purpose.READ_BEFORE else Purpose.RECONCILE
        reason = self.watch.exchanged(counted, reliable=answer.finding not in _NO_ANSWER, absent=absent)
        if reason is StopReason.WRONG_ENVIRONMENT and self.recognise(self.first_absent):
            self.watch.trust_absences()
        elif reason is not None:
            self.stop.request(reason)

    def _pause(self, answer: Answer) -> None:
        if answer.wait is None:
            return
        if answer.wait > LONGEST_WAIT:
            self.stop.request(StopReason.ASKED_TO_WAIT)
        else:
            self.pacer.pause(answer.wait)
            self.paused_until = max(self.paused_until, self.monotonic() + answer.wait)
            self.emit(Waiting(answer.wait))

    def _compare_environment(self, answer: Answer) -> None:
        """The profiles themselves say which environment they are of; where the settings say another, stop."""
        shown, said = answer.value, None
        if isinstance(shown, ReservedCustomers):
            said = next((profile.sandbox for profile in shown.data or () if profile.sandbox is not None), None)
        elif shown is not None:
            profile = getattr(shown, "profile", None) or getattr(shown, "customer_profile", None)
            said = getattr(profile, "sandbox", None)
        if self.sandbox is not None and isinstance(said, bool) and said is not self.sandbox:
            self.stop.request(StopReason.ENVIRONMENT_DIFFERS)
