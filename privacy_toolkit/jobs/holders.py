"""``holders``: who has each coupon reserved, kept in the journal until it is handed over as one file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from privacy_toolkit.core.model import Job, Outcome, Purpose, Reason, Sequencing
from privacy_toolkit.engine.job import (
    OTHER_ENVIRONMENT,
    OTHER_TIMES,
    SPREADSHEET_SAFE,
    Calls,
    Context,
    Declaration,
    Headline,
    IdleWords,
    JobWords,
    Kept,
    Parameters,
    Table,
)
from privacy_toolkit.engine.steps import PROOF_TRIES, Steps
from privacy_toolkit.inputs.pairs import COUPON_COLUMN, CodeForm, RowForm
from privacy_toolkit.journal.records import Entry, SubjectState
from privacy_toolkit.talonone.holders import HOLDERS, decode_holders, encode_holders, holders_of
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


# The file that is handed over: a row for each pair of a coupon and one who has it reserved.

HOLDER_COLUMNS = {"coupon_value": str, "customer_id": str}
PROFILE_COLUMNS = {
    "created": str,
    "attributes": str,
    "total_sales": float,
    "closed_sessions": int,
    "last_activity": str,
}


def holders_table(parameters: Parameters, kept: Kept) -> Table:
    """The list of holders; profiles are part of it where they were asked for."""
    profile = PROFILE_COLUMNS if parameters.get(WITH_ATTRIBUTES) else {}

    def rows() -> Iterator[list[Any]]:
        for subject, data in kept():
            for holder in decode_holders(data):
                yield [subject.id, holder.customer_id, *(getattr(holder, name) for name in profile)]

    return Table("list of holders", {**HOLDER_COLUMNS, **profile}, tuple(HOLDER_COLUMNS), rows)


_WORDS = JobWords(
    headline=Headline("List who holds", "coupon", "at"),
    title="List of coupon holders",
    possible=frozenset({Outcome.DONE, Outcome.ON_HOLD, Outcome.FAILED, Outcome.RETRYABLE, Outcome.PENDING}),
    subject="One accepted, distinct coupon code of the input.",
    request="request",
    repeats="A read is repeated where it had no reliable answer: that changes nothing.",
    not_covered={
        "Redemptions": "Whether a coupon was redeemed is not looked at.",
        **OTHER_ENVIRONMENT,
        **OTHER_TIMES,
    },
    idle={
        Reason.NO_HOLDERS: IdleWords(
            "nobody has the coupon reserved", "nobody has any of the {} coupons reserved", "the list is empty"
        )
    },
    outcomes={
        Outcome.DONE: ("Listed", "The API gave the list of those who have the coupon reserved."),
        Outcome.ON_HOLD: ("On hold", "On the exclusion list: the code was not asked for."),
        Outcome.RETRYABLE: ("Not read", "The API gave no reliable answer. Asking again changes nothing."),
    },
)

DECLARATION = Declaration(
    job=Job.HOLDERS,
    words=_WORDS,
    calls=_calls,
    make=_make,
    form=_form,
    shown=_shown,
    sequencing=Sequencing.FILE,
    writes=False,
    settable={WITH_ATTRIBUTES: False, SPREADSHEET_SAFE: False},
    demands={"out": ("The holders are written to a file.", "Name one with --out FILE: .csv or .parquet.")},
    table=holders_table,
)
