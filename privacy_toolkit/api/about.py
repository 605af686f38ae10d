"""Whether an answer is about what was asked: names in it are compared with those of the request, byte for byte. Pure.

A proxy that answers twice, or mixes connections up, gives well-formed answers about somebody else. Each operation has
its check. What an answer need not say can't contradict; ids that differ only in case or Unicode normalisation do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

from privacy_toolkit.api.models import (
    Coupon,
    CustomerInventory,
    CustomerProfile,
    CustomerProfileResponseV2,
    EventV2,
    Giveaway,
    IntegrationRequest,
    IntegrationState,
    IntegrationStateV2,
    InventoryCoupon,
    InventoryReferral,
    Json,
    LoyaltyCard,
    NewCustomerSession,
    NewEvent,
    NewReferral,
    Referral,
    RequestBody,
    ReservedCustomers,
)
from privacy_toolkit.api.operation import Generation


class Said(Enum):
    """What an answer says of whom or what it is about."""

    SUBJECT = "subject"  # what was asked about
    NOTHING = "nothing"  # nothing that could be compared
    ANOTHER = "another"
    TOO_LITTLE = "too_little"  # less than the documents require of the answers to this operation


def told(name: str, answer: Any, value: str | None, body: RequestBody | None, generation: Generation) -> Said:
    """What the answer to the operation ``name`` says; ``value`` stood in the path, ``body`` was sent.

    Both are None where it is not known what was asked: then nothing is compared.
    """
    return _CHECKS[name](answer, value, body, generation)


def _inventory(answer: CustomerInventory, value: str | None, *_: object) -> Said:
    """The profile names the customer, and no entry names an owner who is somebody else.

    It is asked of thousands of answers a second: hence plain loops, and only where there are entries.
    """
    if value is None:
        return Said.NOTHING
    if (
        answer.profile.integration_id != value
        or (answer.coupons and _has_coupon_of_others(answer.coupons, value))
        or (answer.referrals and _has_referral_of_others(answer.referrals, value))
        or (answer.giveaways and _has_giveaway_of_others(answer.giveaways, value))
        or (answer.loyalty and answer.loyalty.cards and _has_card_of_others(answer.loyalty.cards, value))
    ):
        return Said.ANOTHER
    return Said.SUBJECT


def _has_coupon_of_others(coupons: list[InventoryCoupon], value: str) -> bool:
    for coupon in coupons:  # noqa: SIM110 - a generator would take twice as long
        if coupon.recipient_integration_id and coupon.recipient_integration_id != value:
            return True
    return False


def _has_referral_of_others(referrals: list[InventoryReferral], value: str) -> bool:
    """Whether one names its advocate, and the customer neither so nor as one of the friends."""
    for referral in referrals:
        advocate = referral.advocate_profile_integration_id
        if advocate and advocate != value:
            friends = (referral.friend_profile_integration_id, *(referral.referred_customers or ()))
            if value not in friends:
                return True
    return False


def _has_giveaway_of_others(giveaways: list[Giveaway], value: str) -> bool:
    for giveaway in giveaways:  # noqa: SIM110 - as above
        if giveaway.profile_integration_id and giveaway.profile_integration_id != value:
            return True
    return False


def _has_card_of_others(cards: list[LoyaltyCard], value: str) -> bool:
    """Whether one names those who use it, and the customer is none of them."""
    for card in cards:
        holders = {holder.integration_id for holder in card.profiles or ()} - {None, ""}
        if holders and value not in holders:
            return True
    return False


def _coupon(answer: Coupon, value: str | None, *_: object) -> Said:
    return _compared((answer.value, value))


def _referral(answer: Referral, _: object, body: NewReferral | None, *__: object) -> Said:
    if body is None:
        return Said.NOTHING
    if (answer.friend_profile_integration_id or None) != body.friend_profile_integration_id:
        return Said.ANOTHER
    advocate = (answer.advocate_profile_integration_id, body.advocate_profile_integration_id)
    return _compared(advocate, (answer.campaign_id, body.campaign_id))


def _event_v1(answer: IntegrationState, _: object, body: NewEvent | None, *__: object) -> Said:
    if answer.event is None or not isinstance(answer.event.get("type"), str):
        return Said.TOO_LITTLE
    if body is None:
        return Said.NOTHING
    session, customer = body.session_id, body.profile_id
    kept = (_of(answer.session, "integrationId"), session), (_of(answer.event, "sessionId"), session)
    customers = [(named, customer) for named in _customers(answer.session, answer.profile, answer.event)]
    return _compared((answer.event["type"], body.type), *kept, *customers)


def _event_v2(answer: IntegrationStateV2, _: object, body: EventV2 | None, *__: object) -> Said:
    if body is None:
        return Said.NOTHING
    also = ((_of(answer.event, "type"), body.type),)
    customers = [(named, body.profile_id) for named in _customers(None, answer.customer_profile, answer.event)]
    return _compared(*customers, also=also)


def _profile_v1(answer: IntegrationState, value: str | None, *_: object) -> Said:
    if answer.profile is None:
        return Said.TOO_LITTLE
    others = [(named, value) for named in _customers(answer.session, None, answer.event)]
    return _compared((answer.profile.integration_id, value), also=others)


def _profile_v2(
    answer: CustomerProfileResponseV2, value: str | None, _: object, generation: Generation, *__: object
) -> Said:
    """A deployment of 2020 shows the profile, and a current one effects: with the profile where that is asked for."""
    if not answer.has_effects and (generation is Generation.CURRENT or answer.customer_profile is None):
        return Said.TOO_LITTLE
    return _compared(*((named, value) for named in _customers(None, answer.customer_profile, answer.event)))


def _session_v1(answer: IntegrationState, value: str | None, body: NewCustomerSession | None, *_: object) -> Said:
    if answer.session is None or not isinstance(answer.session.get("integrationId"), str):
        return Said.TOO_LITTLE
    sessions = (answer.session["integrationId"], value), (_of(answer.event, "sessionId"), value)
    customer = None if body is None else body.profile_id
    customers = [(named, customer) for named in _customers(answer.session, answer.profile, answer.event)]
    return _compared(*sessions, also=customers)


def _session_v2(answer: IntegrationStateV2, value: str | None, body: IntegrationRequest | None, *_: object) -> Said:
    sessions = (_of(answer.customer_session, "integrationId"), value), (_of(answer.event, "sessionId"), value)
    customer = None if body is None else body.customer_session.profile_id
    shown = _customers(answer.customer_session, answer.customer_profile, answer.event)
    return _compared(*sessions, also=[(named, customer) for named in shown])


def _holders(answer: ReservedCustomers, *_: object) -> Said:
    """A list does not say of which coupon it is, and one that is not as long as it says proves nobody's absence."""
    return Said.NOTHING if answer.total_result_size == len(answer.data or ()) else Said.TOO_LITTLE


def _customers(session: Json | None, profile: CustomerProfile | None, event: Json | None) -> tuple[Any, ...]:
    """Whom each part of an answer names as the customer."""
    shown = None if profile is None else profile.integration_id
    return _of(session, "profileId"), shown, _of(event, "profileId")


def _of(part: Json | None, name: str) -> Any:
    return None if part is None else part.get(name)


def _compared(*naming: tuple[Any, Any], also: Iterable[tuple[Any, Any]] = ()) -> Said:
    """Compare what the answer says with what was asked, where both say something.

    ``also`` may contradict, but does not name the subject.
    """
    said = Said.NOTHING
    for found, asked in naming:
        if _speak(found, asked):
            if found != asked:
                return Said.ANOTHER
            said = Said.SUBJECT
    return Said.ANOTHER if any(_speak(found, asked) and found != asked for found, asked in also) else said


def _speak(found: Any, asked: Any) -> bool:
    """Whether there is something on both sides: "" is an anonymous customer."""
    return found is not None and found != "" and asked is not None and asked != ""


_CHECKS: Mapping[str, Callable[..., Said]] = MappingProxyType(
    {
        "create_coupon_reservation": _coupon,
        "get_reserved_customers": _holders,
        "create_referral": _referral,
        "get_customer_inventory": _inventory,
        "track_event": _event_v1,
        "track_event_v2": _event_v2,
        "update_customer_profile": _profile_v1,
        "update_customer_profile_v2": _profile_v2,
        "update_customer_session": _session_v1,
        "update_customer_session_v2": _session_v2,
    }
)
