"""``export``: what is held about each customer is read, and handed over as one package a person.

Nothing is changed at the API, so there is no intent: a read that is lost is simply made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from privacy_toolkit.core.errors import UsageError
from privacy_toolkit.core.model import Job, Outcome, Purpose, Reason, StopReason
from privacy_toolkit.engine.job import Calls, Context, Declaration, ForeignAnswerError, NotDeliveredError, Parameters
from privacy_toolkit.engine.open_requests import prepare
from privacy_toolkit.engine.steps import Steps
from privacy_toolkit.journal.records import Entry, SubjectState
from privacy_toolkit.talonone.operations import OPERATIONS
from privacy_toolkit.talonone.responses import Finding

INVENTORY = OPERATIONS["get_customer_inventory"]

#: Number of the subject, id, body of the answer (None: no such profile), time; what is kept in the journal of it.
Deliver = Callable[[int, str, bytes | None, int], bytes]


@dataclass(frozen=True, slots=True)
class Export:
    """The procedure; ``deliver`` makes a package that is durable when it returns."""

    deliver: Deliver

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
            await self._deliver(entry, answer.body, Outcome.DONE, steps)
        elif answer.finding is Finding.ABSENT:
            await self._deliver(entry, None, Outcome.NOTHING_HELD, steps)
        else:
            unproven = answer.reason is Reason.ROUTE_UNPROVEN
            outcome = Outcome.PENDING if unproven else Outcome.RETRYABLE
            steps.settle(SubjectState(outcome, answer.reason, settled_at=steps.now))

    async def _deliver(self, entry: Entry, body: bytes | None, outcome: Outcome, steps: Steps) -> None:
        subject = entry.subject
        try:
            kept = await asyncio.to_thread(self.deliver, subject.seq, subject.id, body, steps.now)
        except ForeignAnswerError:
            steps.settle(SubjectState(Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, settled_at=steps.now))
        except NotDeliveredError:  # the next one would fail as well: a full disk stays full
            steps.settle(SubjectState(Outcome.RETRYABLE, Reason.NOT_DELIVERED, settled_at=steps.now))
            steps.stop(StopReason.OUTPUT_FAILED)
        else:
            steps.settle(SubjectState(outcome, settled_at=steps.now), result=kept)


def _calls(subjects: int, parameters: Parameters) -> Calls:  # noqa: ARG001 - no parameter changes it
    return {INVENTORY.name: (subjects, 2 * subjects)}


def _make(context: Context) -> Export:
    if context.deliver is None:
        raise UsageError("An export needs a folder for its packages.", "Name one with --out DIR.")
    return Export(context.deliver)


DECLARATION = Declaration(
    job=Job.EXPORT, calls=_calls, make=_make, prepare=prepare, writes=False, absences=(INVENTORY,), has_clock=True
)
