"""The answers that are not a customer's holdings: reservation holders, results of the rule engine, errors."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType, field

from privacy_toolkit.api.models.base import AnswerBody, Json
from privacy_toolkit.api.models.customers import CustomerProfile, Loyalty


class ReservedCustomers(AnswerBody, frozen=True):
    """The customers that have a coupon reserved: all of them, there is no paging."""

    data: list[CustomerProfile] | None
    total_result_size: int | None = None


class IntegrationState(AnswerBody, frozen=True):
    """What the V1 calls answer: the state of session, profile and event after the call."""

    session: Json | UnsetType | None = UNSET
    profile: CustomerProfile | UnsetType | None = UNSET
    event: Json | UnsetType | None = UNSET
    loyalty: Loyalty | None = None
    coupon: Json | None = None

    def __post_init__(self) -> None:
        """Refuse an object that shares no key with this answer."""
        if self.session is UNSET and self.profile is UNSET and self.event is UNSET:
            raise ValueError("no session, profile or event")


class RuleEngineAnswer(AnswerBody, frozen=True):
    """What both kinds of V2 answers hold: effects of the rule engine, and what was asked for with them."""

    effects: list[Json] | UnsetType | None = UNSET
    created_coupons: list[Json] | None = None
    created_referrals: list[Json] | None = None
    customer_profile: CustomerProfile | UnsetType | None = UNSET
    event: Json | None = None
    loyalty: Loyalty | None = None
    triggered_campaigns: list[Json] | None = None
    rule_failure_reasons: list[Json] | None = None
    campaign_eligibility: list[Json] | None = None
    awarded_giveaways: list[Json] | None = None

    def __post_init__(self) -> None:
        """Refuse an object that shares no key with this answer."""
        if self.effects is UNSET and self.customer_profile is UNSET:
            raise ValueError("no effects and no customerProfile")


class CustomerProfileResponseV2(RuleEngineAnswer, frozen=True):
    """What a V2 profile update answers; deployments of 2020 give ``customer_profile`` alone."""

    achievements: list[Json] | None = None


class IntegrationStateV2(RuleEngineAnswer, frozen=True):
    """What a V2 session update or event answers."""

    customer_session: Json | None = None
    referral: Json | None = None
    coupons: list[Json] | None = None
    achievements: list[Json] | None = None
    advanced_event: Json | None = None
    return_: Json | None = field(default=None, name="return")
    previous_returns: list[Json] | None = None


class ErrorBody(AnswerBody, frozen=True):
    """The body of a refusal: ErrorResponse, ErrorResponseWithStatus and the object of a 409.

    No field is required by all of them. The texts can echo customer data: they are never logged or reported, and the
    HTTP status counts, not ``status_code``.
    """

    message: Any = UNSET
    errors: Any = UNSET
    status_code: Any = field(default=UNSET, name="StatusCode")

    @property
    def is_in_api_words(self) -> bool:
        """Whether the object has any of the keys by which the API refuses."""
        return not (self.message is UNSET and self.errors is UNSET and self.status_code is UNSET)
