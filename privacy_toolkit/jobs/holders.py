"""``holders``: who has each coupon reserved, as one file; who redeemed theirs; and what files need of coupons."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

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
from privacy_toolkit.talonone.models import Coupon, CustomerInventory, InventoryCoupon, ReservedCustomers
from privacy_toolkit.talonone.operations import OPERATIONS
from privacy_toolkit.talonone.responses import Answer, Finding

# Who has a coupon reserved, as the API tells it: only ids and their number are kept of the answer.
#
# The answer holds the full profiles of all holders, who are mostly not the subjects of a run.

HOLDERS = OPERATIONS["get_reserved_customers"]


class HolderList(msgspec.Struct, frozen=True):
    """The ids of the holders, and how many holders there are."""

    ids: frozenset[str]
    count: int

    def may_name(self, customer: str) -> bool:
        """Whether a customer is there, or one whose id is the same but for its spelling: who tells them apart?"""
        return customer in self.ids or _spelled(customer) in _all_spelled(self.ids)


def _spelled(id_: str) -> str:
    """An id without regard to case, Unicode normalisation, percent-encoding, and blanks around it."""
    return unicodedata.normalize("NFKC", unquote(id_)).casefold().strip()


@lru_cache(maxsize=16)  # each list is looked at for all who are not in it
def _all_spelled(ids: frozenset[str]) -> frozenset[str]:
    return frozenset(map(_spelled, ids))


def holders_of(answer: Answer) -> HolderList | None:
    """The holders, or None where the answer is none: a list that is not as long as it says is no answer of the API."""
    if answer.finding is not Finding.DONE or not isinstance(answer.value, ReservedCustomers):
        return None
    profiles = answer.value.data or []
    return HolderList(frozenset(profile.integration_id for profile in profiles), len(profiles))


# The holders of a coupon as they wait in the journal for being delivered: the form, and both ways.


class Holder(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One holder. All but the id is only there where it was asked for; ``attributes`` is JSON as the API wrote it."""

    customer_id: str
    created: str | None = None
    attributes: str | None = None
    total_sales: float | None = None
    closed_sessions: int | None = None
    last_activity: str | None = None


class _Profile(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """What is taken of a profile; texts as the API wrote them."""

    integration_id: str | None = None
    created: str | None = None
    attributes: msgspec.Raw = msgspec.Raw(b"null")
    total_sales: float | None = None
    closed_sessions: int | None = None
    last_activity: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    data: list[_Profile] | None


class _Bare(msgspec.Struct, rename="camel", frozen=True, gc=False):
    integration_id: str | None = None


class _BareAnswer(msgspec.Struct, frozen=True):
    data: list[_Bare] | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Holder]).decode


def encode_holders(body: bytes, *, with_attributes: bool) -> bytes:
    """What is kept of an answer that names the holders of a coupon; it was read as one before."""
    if not with_attributes:
        bare = msgspec.json.decode(body, type=_BareAnswer).data or []
        return _encode([Holder(profile.integration_id or "") for profile in bare])
    profiles = msgspec.json.decode(body, type=_Answer).data or []
    return _encode([_holder(profile) for profile in profiles])


def decode_holders(kept: bytes) -> list[Holder]:
    """What was kept, as it was."""
    return _decode(kept)


def _holder(profile: _Profile) -> Holder:
    attributes = bytes(profile.attributes).decode()
    return Holder(
        profile.integration_id or "",
        profile.created,
        None if attributes == "null" else attributes,
        profile.total_sales,
        profile.closed_sessions,
        profile.last_activity,
    )


class MadeCode(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A code that the API made, its number there, and until when it holds, as the API wrote it; None: without end."""

    code: str
    number: int | None = None
    expiry: str | None = None


encode_code = msgspec.msgpack.Encoder().encode
decode_code = msgspec.msgpack.Decoder(MadeCode).decode


# A coupon as the answer to its reservation shows it: what anyone who mails it has to know.

#: What keeps a coupon from being redeemed, by the API's own figures.
EXPIRED, USED_UP, NOT_STARTED, USABLE = "expired", "used_up", "not_started", "usable"
SPENT = frozenset({EXPIRED, USED_UP})
#: Who may redeem a reserved coupon: anyone who has the code, or those for whom it is reserved.
ANYONE, HOLDERS_ALONE = "anyone", "holders"


class ShownCoupon(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A coupon as the API showed it: until when it holds, its state then, who may redeem it; None: it did not say.

    ``expiry`` is as the API wrote it.
    """

    expiry: str | None = None
    state: str | None = None
    redeemable_by: str | None = None

    def state_at(self, moment: datetime) -> str | None:
        """Its state at a later moment: what held then may have expired since."""
        return EXPIRED if _is_past(self.expiry, moment) else self.state


encode_coupon = msgspec.msgpack.Encoder().encode
decode_coupon = msgspec.msgpack.Decoder(ShownCoupon).decode


def shown_coupon(answer: Answer, moment: datetime) -> ShownCoupon | None:
    """The coupon of an answer that is about this very one, at an aware ``moment``; None where it shows none."""
    found = answer.value
    if answer.finding is not Finding.DONE or not answer.named or not isinstance(found, Coupon):
        return None
    return _as_shown(found, moment)


def coupon_in(answer: Answer, code: str) -> InventoryCoupon | None:
    """A coupon in the inventory of a customer; None where that does not show it, or is none."""
    if answer.finding is not Finding.DONE or not isinstance(answer.value, CustomerInventory):
        return None
    return next((coupon for coupon in answer.value.coupons or () if coupon.value == code), None)


def is_redeemed(coupon: InventoryCoupon) -> bool | None:
    """Whether the customer in whose inventory a coupon is has redeemed it; None: the API does not tell.

    The documents of 2020 count redemptions by everybody alone: that tells it of a coupon that nobody redeemed.
    """
    if coupon.profile_redemption_count is not None:
        return coupon.profile_redemption_count > 0
    return False if coupon.usage_counter == 0 else None


def shown_in_inventory(coupon: InventoryCoupon, moment: datetime) -> ShownCoupon:
    """The same coupon as it is kept, at an aware ``moment``."""
    return _as_shown(coupon, moment)


def _as_shown(found: Coupon | InventoryCoupon, moment: datetime) -> ShownCoupon:
    by = {None: None, True: HOLDERS_ALONE, False: ANYONE}[found.is_reservation_mandatory]
    return ShownCoupon(found.expiry_date, _state(found, moment), by)


def _state(found: Coupon | InventoryCoupon, moment: datetime) -> str:
    if _is_past(found.expiry_date, moment):
        return EXPIRED
    if found.usage_limit and found.usage_counter is not None and found.usage_counter >= found.usage_limit:
        return USED_UP
    begins = _moment(found.start_date)
    return NOT_STARTED if begins is not None and begins > moment else USABLE


def _is_past(text: str | None, moment: datetime) -> bool:
    ends = _moment(text)
    return ends is not None and ends <= moment


def _moment(text: str | None) -> datetime | None:
    """A time as the API writes it; None for none, or for one that can't be read."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo is not None else found.replace(tzinfo=UTC)


WITH_ATTRIBUTES = "with_attributes"


class Holders(msgspec.Struct, frozen=True):
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


def by_coupon(customer: str, given: str) -> str:  # noqa: ARG001 - the coupon alone
    """Name the group of a pair: its coupon."""
    return coupon_of(given)


def shown(customer: str, given: str) -> Mapping[str, str]:  # noqa: ARG001 - the customer is shown anyway
    """Name the coupon of a pair."""
    return {COUPON_COLUMN: coupon_of(given)}


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
