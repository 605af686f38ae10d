"""``holders``: who has each coupon reserved, kept in the journal until it is handed over as one file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from privacy_toolkit.core.model import Job, Outcome, Purpose, Reason, Sequencing
from privacy_toolkit.engine.job import Calls, Context, Declaration, Parameters
from privacy_toolkit.engine.steps import PROOF_TRIES, Steps
from privacy_toolkit.inputs.pairs import COUPON_COLUMN, CodeForm, RowForm
from privacy_toolkit.journal.records import Entry, SubjectState
from privacy_toolkit.talonone.holders import HOLDERS, encode_holders, holders_of
from privacy_toolkit.talonone.responses import Answer, Finding

WITH_ATTRIBUTES = "with_attributes"


@dataclass(frozen=True, slots=True)
class Holders:
    """The procedure; without ``with_attributes`` nothing but the ids is kept of the profiles."""

    with_attributes: bool

    def keys(self, entries: Sequence[Entry]) -> Collection[str]:  # noqa: ARG002 - the protocol's
        """None: each code is asked for once, and reading disturbs nobody."""
        return ()

    async def walk(self, entries: Sequence[Entry], steps: Steps) -> None:
        """Read who has one coupon."""
        (entry,) = entries
        for _ in range(PROOF_TRIES):
            answer = await steps.read(HOLDERS, Purpose.READ_BEFORE)
            if answer.finding is Finding.ABSENT:
                answer = await steps.absence(HOLDERS, Purpose.READ_BEFORE, answer)
            if answer.finding is Finding.CREDENTIALS:
                steps.leave()
                return
            outcome, reason = _named(answer)
            # A list does not name its coupon: the connection has to vouch for it.
            if outcome is not Outcome.DONE or await steps.proven(HOLDERS, answer):
                break
            outcome, reason = Outcome.RETRYABLE, Reason.ROUTE_UNPROVEN
        kept = encode_holders(answer.body, with_attributes=self.with_attributes) if outcome is Outcome.DONE else None
        steps.settle(SubjectState(outcome, reason, settled_at=steps.now), entry.subject.seq, kept)


def _named(answer: Answer) -> tuple[Outcome, Reason | None]:
    if answer.finding is Finding.ABSENT:  # said twice, between controls that held
        return Outcome.FAILED, answer.reason
    if answer.reason is Reason.ROUTE_UNPROVEN:
        return Outcome.PENDING, answer.reason
    holders = holders_of(answer)
    if holders is None:  # unread, or not all are named: it is asked again, which changes nothing
        return Outcome.RETRYABLE, answer.reason or Reason.FOREIGN_ANSWER
    return Outcome.DONE, None if holders.count else Reason.NO_HOLDERS


def _calls(subjects: int, parameters: Parameters) -> Calls:  # noqa: ARG001 - the same with attributes
    return {HOLDERS.name: (subjects, subjects)}


def _make(context: Context) -> Holders:
    return Holders(with_attributes=bool(context.parameters.get(WITH_ATTRIBUTES)))


def _form(parameters: Parameters) -> RowForm:  # noqa: ARG001 - no parameter changes it
    return CodeForm()


def _shown(code: str, given: str) -> Mapping[str, str]:  # noqa: ARG001 - nothing is given next to the code
    return {COUPON_COLUMN: code}


DECLARATION = Declaration(
    job=Job.HOLDERS,
    calls=_calls,
    make=_make,
    form=_form,
    shown=_shown,
    sequencing=Sequencing.FILE,
    writes=False,
)
