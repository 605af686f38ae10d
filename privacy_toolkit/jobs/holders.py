"""``holders``: who has each coupon reserved, as one file; and who has redeemed theirs, from the inventories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

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
    Subjects,
    Table,
)
from privacy_toolkit.engine.steps import PROOF_TRIES, Steps
from privacy_toolkit.inputs.pairs import COUPON_COLUMN, CodeForm, RowForm, carried_of, coupon_of
from privacy_toolkit.journal.records import Entry, SubjectState
from privacy_toolkit.talonone.holders import (
    HOLDERS,
    ShownCoupon,
    coupon_in,
    decode_holders,
    encode_holders,
    holders_of,
    is_redeemed,
    shown_in_inventory,
)
from privacy_toolkit.talonone.operations import OPERATIONS
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
    spreads=True,
    writes=False,
    settable={WITH_ATTRIBUTES: False, SPREADSHEET_SAFE: False},
    demands={"out": ("The holders are written to a file.", "Name one with --out FILE: .csv or .parquet.")},
    table=holders_table,
)


# Who has redeemed their coupon: read from the customers' inventories, and no run, since nothing follows from it.

NO_PROFILE, NOT_SHOWN, NOT_TOLD = "no_profile", "not_shown", "not_told"
REDEMPTION_COLUMNS = {
    "customer_id": str,
    COUPON_COLUMN: str,
    "redeemed": str,
    "reason": str,
    "expiry": str,
    "coupon_state": str,
}


class Redemption(NamedTuple):
    """Whether a customer has redeemed a coupon; None: it is not known, for this ``reason``."""

    redeemed: bool | None
    reason: str
    shown: ShownCoupon


class LookAtRedemptions:
    """Reads the inventory of each customer of some pairs, at an aware ``moment``. Memory grows with the pairs."""

    operation = OPERATIONS["get_customer_inventory"]

    def __init__(self, subjects: Subjects, moment: datetime) -> None:
        self._subjects, self._moment = subjects, moment
        self._wanted: dict[str, dict[str, Redemption | None]] = {}
        for _, customer, given in self._pairs():
            self._wanted.setdefault(customer, {})[coupon_of(given)] = None

    @property
    def values(self) -> Collection[str]:
        """The customers."""
        return self._wanted

    def take(self, value: str, answer: Answer) -> bool:
        """Take what an inventory says of the coupons of its customer; False if it says nothing reliable."""
        if answer.finding is Finding.FINAL:
            return False
        for code in self._wanted[value]:
            self._wanted[value][code] = self._of(answer, code)
        return True

    def _of(self, answer: Answer, code: str) -> Redemption:
        found = coupon_in(answer, code)
        if found is None:
            return Redemption(None, NO_PROFILE if answer.finding is Finding.ABSENT else NOT_SHOWN, ShownCoupon())
        redeemed = is_redeemed(found)
        return Redemption(redeemed, NOT_TOLD if redeemed is None else "", shown_in_inventory(found, self._moment))

    def totals(self) -> Mapping[str, int]:
        """What was counted: pairs whose coupon was redeemed, was not, and of which it is not known, by why."""
        found = [one for codes in self._wanted.values() for one in codes.values() if one is not None]
        counts = Counter("redeemed" if one.redeemed else one.reason or "not_redeemed" for one in found)
        return {name: counts[name] for name in ("redeemed", "not_redeemed", NO_PROFILE, NOT_SHOWN, NOT_TOLD)}

    def table(self, columns: Sequence[str]) -> Table:
        """A row for each pair, in input order, with the ``columns`` that are carried from it."""

        def rows() -> Iterator[list[Any]]:
            for _, customer, given in self._pairs():
                code = coupon_of(given)
                one = self._wanted[customer][code]
                if one is not None:
                    said = "" if one.redeemed is None else "yes" if one.redeemed else "no"
                    told = (one.shown.expiry or "", one.shown.state or "")
                    yield [customer, code, said, one.reason, *told, *carried_of(given)]

        named = ("customer_id", COUPON_COLUMN)
        return Table("list of redemptions", {**REDEMPTION_COLUMNS, **dict.fromkeys(columns, str)}, named, rows)

    def _pairs(self) -> Iterator[tuple[int, str, str]]:
        for page in self._subjects.subjects():
            yield from ((row, id_, "".join(map(str, given))) for row, id_, *given in page)
