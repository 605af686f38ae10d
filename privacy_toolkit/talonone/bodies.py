"""The bodies that are sent, with the limits of the published documents; also as deployments of 2020 take them.

A body that fits one of these fits the type of its operation too; what those deployments don't know would be lost or
refused there, so it is not sent.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.talonone.models import Json, RequestBody

# The bodies that are sent, with the limits of the published documents.

Count = Annotated[int, Meta(ge=0, le=999_999)]
Text = Annotated[str, Meta(min_length=1)]
#: An id as the API takes it; an empty one addresses nobody.
Id = Annotated[str, Meta(min_length=1, max_length=1000)]
#: A point in time; one without a zone would be anyone's guess.
Moment = Annotated[datetime, Meta(tz=True)]
Code = Annotated[str, Meta(max_length=100)]
SessionState = Literal["open", "closed", "cancelled"]

#: How many customers one reservation call may name (current document; none was stated in 2020).
MOST_RESERVATIONS = 1000
#: And one call of an operation that is about many at once.
MOST_AT_ONCE = 1000


class CouponReservations(RequestBody, frozen=True):
    """The customers for whom a coupon is reserved or released."""

    integration_ids: Annotated[list[Id], Meta(min_length=1, max_length=MOST_RESERVATIONS)] = field(
        name="integrationIDs"
    )


class DeletedTransactions(RequestBody, frozen=True):
    """Which transactions of a loyalty ledger are deleted: those of all its parts, or of some subledgers."""

    scope: Literal["AllSubledgers", "SelectedSubledgers"]
    subledger_ids: list[str] | None = None


class CardHolder(RequestBody, frozen=True):
    """The customer whom a loyalty card is unlinked from."""

    integration_id: Id


class NewReferral(RequestBody, frozen=True):
    """A referral code to be made; ``usage_limit`` and ``attributes`` are unknown to deployments of 2020."""

    campaign_id: int
    advocate_profile_integration_id: Id
    friend_profile_integration_id: Id | None = None
    start_date: Moment | None = None
    expiry_date: Moment | None = None
    usage_limit: Count | None = None
    attributes: Json | None = None


class NewReferrals(RequestBody, frozen=True):
    """Referral codes to be made, one for each of up to 1,000 advocates, alike but for their advocates."""

    campaign_id: int
    advocate_profile_integration_ids: Annotated[list[Id], Meta(min_length=1, max_length=MOST_AT_ONCE)]
    usage_limit: Count
    start_date: Moment | None = None
    expiry_date: Moment | None = None
    attributes: Json | None = None
    valid_characters: list[str] | None = None
    referral_pattern: Annotated[str, Meta(min_length=3, max_length=100)] | None = None


class NewEvent(RequestBody, frozen=True):
    """An event of a session (V1)."""

    type: Text
    session_id: Text
    attributes: Json
    profile_id: str | None = None


class EventV2(RequestBody, frozen=True):
    """An event of a customer (V2). ``profile_id`` is needed although the published schema does not say so."""

    profile_id: Id
    type: Text
    attributes: Json | None = None
    store_integration_id: Id | None = None
    evaluable_campaign_ids: list[int] | None = None
    loyalty_cards: Annotated[list[str], Meta(max_length=1)] | None = None
    response_content: list[str] | None = None


class EventV3(RequestBody, frozen=True):
    """An event with an id of its own (V3): the API registers one event of an id, however often it is sent.

    ``integration_id`` is needed; where a row has none it is made for it.
    """

    profile_id: Id
    type: Text
    integration_id: Id | None = None
    attributes: Json | None = None
    connected_session_id: Text | None = None
    store_integration_id: Id | None = None
    evaluable_campaign_ids: list[int] | None = None
    loyalty_cards: Annotated[list[str], Meta(max_length=1)] | None = None
    response_content: (
        list[
            Literal[
                "customerProfile",
                "triggeredCampaigns",
                "loyalty",
                "advancedEvent",
                "awardedGiveaways",
                "ruleFailureReasons",
            ]
        ]
        | None
    ) = None


class NewCustomerProfile(RequestBody, frozen=True):
    """Attributes to be merged into a profile (V1): leaving one out does not erase it."""

    attributes: Json | None = None


class ProfileUpdate(RequestBody, frozen=True):
    """What is merged into one of several profiles."""

    integration_id: Id
    attributes: Json | None = None


class ProfileUpdates(RequestBody, frozen=True):
    """Updates of up to 1,000 profiles; no rules are evaluated."""

    customer_profiles: Annotated[list[ProfileUpdate], Meta(min_length=1, max_length=MOST_AT_ONCE)]


class AudienceAction(RequestBody, frozen=True):
    """A customer that is put in an audience, or taken out of it."""

    profile_integration_id: Id
    audience_id: int
    action: Literal["add", "delete"]


class AudienceActions(RequestBody, frozen=True):
    """Up to 1,000 such actions."""

    data: Annotated[list[AudienceAction], Meta(min_length=1, max_length=MOST_AT_ONCE)]


class AudienceChanges(RequestBody, frozen=True):
    """Ids of audiences that a customer is put in or taken out of."""

    adds: list[int]
    deletes: list[int]


class CustomerProfileRequestV2(RequestBody, frozen=True):
    """A profile update (V2). Deployments of 2020 know ``attributes`` alone."""

    attributes: Json | None = None
    evaluable_campaign_ids: list[int] | None = None
    audiences_changes: AudienceChanges | None = None
    response_content: (
        list[
            Literal[
                "customerProfile",
                "triggeredCampaigns",
                "loyalty",
                "event",
                "awardedGiveaways",
                "ruleFailureReasons",
                "campaignEligibility",
                "achievements",
            ]
        ]
        | None
    ) = None


class CartItemAdjustment(RequestBody, frozen=True):
    """Points of a loyalty program that pay for a cart item (2020, V1 and V2 sessions)."""

    pay_from_loyalty_program: int
    point_payment: Annotated[int, Meta(ge=1)]
    remaining_price: Annotated[float, Meta(ge=0)] | None = None


class AdditionalCost(RequestBody, frozen=True):
    """A cost next to the items, such as shipping."""

    price: float


class Product(RequestBody, frozen=True):
    """The product that a cart item is one of."""

    name: str


class CartItem(RequestBody, frozen=True):
    """An item of a session (V2). Deployments of 2020 need ``name`` and ``price`` as well."""

    sku: Text
    quantity: Annotated[int, Meta(ge=1)]
    name: Text | None = None
    price: float | None = None
    category: str | None = None
    product: Product | None = None
    weight: float | None = None
    height: float | None = None
    width: float | None = None
    length: float | None = None
    attributes: Json | None = None
    additional_costs: dict[str, AdditionalCost] | None = None
    adjustment: CartItemAdjustment | None = None


class CartItemV1(CartItem, frozen=True):
    """An item of a session (V1)."""

    name: Text
    price: float


class NewCustomerSession(RequestBody, frozen=True):
    """A session (V1); ``profile_id`` "" is an anonymous one."""

    profile_id: str | None = None
    coupon: Code | None = None
    referral: Code | None = None
    state: SessionState | None = None
    cart_items: list[CartItemV1] | None = None
    identifiers: Annotated[list[str], Meta(max_length=5)] | None = None
    total: float | None = None
    attributes: Json | None = None


class ExperimentVariantAllocation(RequestBody, frozen=True):
    """The variant of an experiment that a session is in."""

    experiment_id: int = field(name="experimentID")
    variant_id: int = field(name="variantID")


class NewCustomerSessionV2(RequestBody, frozen=True):
    """A session (V2). An empty ``coupon_codes`` discards earlier coupons; None keeps them."""

    profile_id: str | None = None
    store_integration_id: Id | None = None
    evaluable_campaign_ids: list[int] | None = None
    coupon_codes: list[Code] | None = None
    referral_code: Code | None = None
    loyalty_cards: Annotated[list[str], Meta(max_length=1)] | None = None
    state: SessionState | Literal["partially_returned"] | None = None
    cart_items: Annotated[list[CartItem], Meta(max_length=1000)] | None = None
    experiment_variant_allocations: list[ExperimentVariantAllocation] | None = None
    additional_costs: dict[str, AdditionalCost] | None = None
    identifiers: Annotated[list[str], Meta(max_length=5)] | None = None
    attributes: Json | None = None


class IntegrationRequest(RequestBody, frozen=True):
    """A session (V2) and what is wanted in the answer."""

    customer_session: NewCustomerSessionV2
    response_content: (
        list[
            Literal[
                "customerSession",
                "customerProfile",
                "coupons",
                "triggeredCampaigns",
                "referral",
                "loyalty",
                "event",
                "awardedGiveaways",
                "ruleFailureReasons",
                "previousReturns",
                "campaignEligibility",
                "achievements",
            ]
        ]
        | None
    ) = None


def encode_body(body: RequestBody) -> bytes:
    """The bytes to be sent for ``body``.

    Raises:
        UsageError: it breaks a published limit, or can't be written as JSON. The message names the place and the
            rule, never the value.
    """
    try:
        plain = msgspec.to_builtins(body)
        msgspec.convert(plain, type(body))
        return msgspec.json.encode(plain)
    except msgspec.ValidationError as error:
        raise UsageError(f"{type(body).__name__} can't be sent: {error}.") from None
    except (TypeError, ValueError, RecursionError):  # UnicodeEncodeError included: a lone surrogate
        raise UsageError(f"{type(body).__name__} can't be written as JSON.") from None


class ReferralOf2020(RequestBody, frozen=True):
    """A referral code to be made."""

    campaign_id: int
    advocate_profile_integration_id: Id
    friend_profile_integration_id: Id | None = None
    start_date: Moment | None = None
    expiry_date: Moment | None = None


class ProfileV2Of2020(RequestBody, frozen=True):
    """A profile update (V2)."""

    attributes: Json | None = None


class CartItemOf2020(RequestBody, frozen=True):
    """An item of a session (V1 and V2)."""

    name: Text
    sku: Text
    quantity: Annotated[int, Meta(ge=1)]
    price: float
    category: str | None = None
    weight: float | None = None
    height: float | None = None
    width: float | None = None
    length: float | None = None
    attributes: Json | None = None
    adjustment: CartItemAdjustment | None = None


class SessionV1Of2020(RequestBody, frozen=True):
    """A session (V1)."""

    profile_id: str | None = None
    coupon: Code | None = None
    referral: Code | None = None
    state: SessionState | None = None
    cart_items: list[CartItemOf2020] | None = None
    identifiers: Annotated[list[str], Meta(max_length=5)] | None = None
    total: float | None = None
    attributes: Json | None = None


class SessionV2Of2020(RequestBody, frozen=True):
    """A session (V2)."""

    profile_id: str | None = None
    coupon_codes: list[Code] | None = None
    referral_code: Code | None = None
    state: SessionState | None = None
    cart_items: Annotated[list[CartItemOf2020], Meta(max_length=1000)] | None = None
    additional_costs: dict[str, AdditionalCost] | None = None
    identifiers: Annotated[list[str], Meta(max_length=5)] | None = None
    attributes: Json | None = None


class RequestOf2020(RequestBody, frozen=True):
    """A session (V2) and what is wanted in the answer."""

    customer_session: SessionV2Of2020
    response_content: (
        list[
            Literal[
                "customerSession", "customerProfile", "coupons", "triggeredCampaigns", "referral", "loyalty", "event"
            ]
        ]
        | None
    ) = None
