"""The answers that are not a customer's holdings: reservation holders, results of the rule engine, errors."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType, field

from privacy_toolkit.api.models.base import AnswerBody, Json, Success
from privacy_toolkit.api.models.customers import CustomerProfile, Loyalty


class ReservedCustomers(Success, frozen=True, kw_only=True):
    """The customers that have a coupon reserved: all of them, there is no paging."""

    data: list[CustomerProfile] | None
    total_result_size: int


class IntegrationState(Success, frozen=True, kw_only=True):
    """What the V1 calls answer: the state of session, profile and event after the call."""

    session: Json | None
    profile: CustomerProfile | None
    event: Json | None
    loyalty: Loyalty | None = None
    coupon: Json | None = None


class RuleEngineAnswer(Success, frozen=True):
    """What both kinds of V2 answers may hold: what was asked for with them."""

    customer_profile: CustomerProfile | None = None
    event: Json | None = None
    loyalty: Loyalty | None = None
    triggered_campaigns: list[Json] | None = None
    rule_failure_reasons: list[Json] | None = None
    campaign_eligibility: list[Json] | None = None
    awarded_giveaways: list[Json] | None = None
    achievements: list[Json] | None = None


class CustomerProfileResponseV2(RuleEngineAnswer, frozen=True):
    """What a V2 profile update answers: effects and what they made; of deployments of 2020 ``customer_profile``."""

    effects: list[Json] | UnsetType | None = UNSET
    created_coupons: list[Json] | UnsetType | None = UNSET
    created_referrals: list[Json] | UnsetType | None = UNSET

    @property
    def has_effects(self) -> bool:
        """Whether the members are there that the current document requires."""
        return not any(part is UNSET for part in (self.effects, self.created_coupons, self.created_referrals))


class IntegrationStateV2(RuleEngineAnswer, frozen=True, kw_only=True):
    """What a V2 session update or event answers; what both documents require has to be there."""

    effects: list[Json] | None
    created_coupons: list[Json] | None
    created_referrals: list[Json] | None
    customer_session: Json | None = None
    referral: Json | None = None
    coupons: list[Json] | None = None
    advanced_event: Json | None = None
    return_: Json | None = field(default=None, name="return")
    previous_returns: list[Json] | None = None


class ErrorBody(AnswerBody, frozen=True):
    """The body of a refusal: ErrorResponse, ErrorResponseWithStatus and the object of a 409.

    The texts can echo customer data: they are never logged or reported.
    """

    message: Any = UNSET
    errors: Any = UNSET
    status_code: Any = field(default=UNSET, name="StatusCode")

    def is_in_api_words(self, status: int, *, has_code: bool) -> bool:
        """Whether the API itself refuses with this status.

        It always says something (``message``). ``has_code``: the generation also repeats the status or, where it does
        not (ErrorResponse), lists titled errors. A code that is not the status contradicts both.
        """
        if not isinstance(self.message, str) or not self.message.strip():
            return False
        if self.status_code is not UNSET and self.status_code is not None:
            return type(self.status_code) is int and self.status_code == status
        return not has_code or (isinstance(self.errors, list) and bool(self.errors) and all(map(_titled, self.errors)))


def _titled(error: Any) -> bool:
    return isinstance(error, dict) and isinstance(error.get("title"), str)
