"""What all walks of a sitting share, and what an answer means for every one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random, SystemRandom

from privacy_toolkit.api.client import Client
from privacy_toolkit.api.pacing import Pacer
from privacy_toolkit.api.responses import Answer, Finding
from privacy_toolkit.engine.control import Places, Stop
from privacy_toolkit.engine.events import Event, Waiting
from privacy_toolkit.engine.limits import LONGEST_WAIT, SUSPICIOUS_ABSENCES, Watch
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.model import Purpose, StopReason

_NO_ANSWER = frozenset({Finding.UNKNOWN, Finding.NEVER_SENT})


@dataclass(slots=True)
class Tools:
    """What all walks of a sitting share. ``clock`` is microseconds since the epoch.

    ``recognise`` says of some ids whether earlier runs account for their absence, ``suppressed`` of a customer whether
    an earlier run erased them.
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
    recognise: Callable[[list[str]], bool] = lambda _: False
    suppressed: Callable[[str], bool] = lambda _: False
    first_absent: list[str] = field(default_factory=list)
    paused_until: int = 0

    def heed(self, answer: Answer, purpose: Purpose, about: str) -> None:
        """Draw the conclusions from an answer that concern every worker: waiting, stopping."""
        if answer.finding is Finding.CREDENTIALS:
            self.stop.request(StopReason.CREDENTIALS_REFUSED)
        if answer.wait is not None:
            if answer.wait > LONGEST_WAIT:
                self.stop.request(StopReason.ASKED_TO_WAIT)
            else:
                self.pacer.pause(answer.wait)
                self.paused_until = max(self.paused_until, self.clock() + round(answer.wait * 1e6))
                self.emit(Waiting(answer.wait))
        absent = answer.finding is Finding.ABSENT
        if absent and purpose is Purpose.READ_BEFORE and len(self.first_absent) < SUSPICIOUS_ABSENCES:
            self.first_absent.append(about)
        reason = self.watch.exchanged(purpose, reliable=answer.finding not in _NO_ANSWER, absent=absent)
        if reason is StopReason.WRONG_ENVIRONMENT and self.recognise(self.first_absent):
            self.watch.trust_absences()
        elif reason is not None:
            self.stop.request(reason)
