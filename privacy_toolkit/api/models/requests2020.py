"""The bodies as deployments of 2020 take them, where current ones take more.

A body that fits one of these fits the type of its operation too; what those deployments don't know would be lost or
refused there, so it is not sent.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from privacy_toolkit.api.models.base import Json, RequestBody
from privacy_toolkit.api.models.requests import (
    AdditionalCost,
    CartItemAdjustment,
    Code,
    Id,
    Moment,
    SessionState,
    Text,
)


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
