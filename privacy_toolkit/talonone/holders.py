"""What the journal keeps of coupons, their holders and referral codes for the files that are handed over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from privacy_toolkit.talonone.models import Coupon, CustomerInventory, InventoryCoupon, ReservedCustomers
from privacy_toolkit.talonone.operations import OPERATIONS
from privacy_toolkit.talonone.responses import Answer, Finding

# Who has a coupon reserved, as the API tells it: only ids and their number are kept of the answer.
#
# The answer holds the full profiles of all holders, who are mostly not the subjects of a run.

HOLDERS = OPERATIONS["get_reserved_customers"]


@dataclass(frozen=True, slots=True)
class HolderList:
    """The ids of the holders, and how many holders there are."""

    ids: frozenset[str]
    count: int


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


# A coupon as the answer to its reservation shows it: what whoever mails it has to know.

#: What keeps a coupon from being redeemed, by the API's own figures.
EXPIRED, USED_UP, NOT_STARTED, USABLE = "expired", "used_up", "not_started", "usable"
SPENT = frozenset({EXPIRED, USED_UP})
#: Who may redeem a reserved coupon: whoever has the code, or those for whom it is reserved.
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
