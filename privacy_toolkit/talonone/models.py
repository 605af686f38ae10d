"""What the API holds about a customer: profile, coupons, referrals, loyalty, giveaways, achievements.

Every property of both published documents (2020 and current) has its field here; contract tests compare them.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType, field

# What all bodies have in common: wire names in camel case, and a repr that shows no personal data.

#: A JSON object whose shape the toolkit does not depend on.
Json = dict[str, Any]
#: A number as the API counts and numbers things (int64): a larger one is not the API's, and fits in no table.
Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
#: A date and time as the API wrote it (RFC 3339). Kept as text: an odd one must not make an answer unreadable.
Timestamp = str


class Body(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A body on the wire. Bodies hold personal data: only their type is shown."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class RequestBody(Body, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A body to be sent: what is not set is left out. ``encode_body`` checks it against the published limits."""


class AnswerBody(Body, frozen=True):
    """A body that was received.

    Wider than the documents: real answers hold null for lists and objects, leave fields out and have fields that are
    newer than the toolkit. A field that is null or missing is None.
    """


class Success(AnswerBody, frozen=True):
    """The whole body of a success. None of the documents has an error in one; what tells of an error is no success."""

    message: Any = UNSET
    errors: Any = UNSET
    error: Any = UNSET
    status_code: Any = field(default=UNSET, name="StatusCode")

    @property
    def tells_of_an_error(self) -> bool:
        """Whether there is a member by which the API, or anyone else, tells of an error."""
        if self.message is UNSET and self.errors is UNSET and self.error is UNSET and self.status_code is UNSET:
            return False  # nearly always, and it is asked of every answer
        told = (self.message, self.errors, self.error, self.status_code)
        return any(part is not UNSET and part is not None and part != [] for part in told)


class LoyaltyMembership(AnswerBody, frozen=True):
    """A loyalty program that a customer has joined."""

    loyalty_program_id: Integer | None = None
    joined: Timestamp | None = None


class AudienceMembership(AnswerBody, frozen=True):
    """An audience that a customer is in."""

    id: Integer | None = None
    name: str | None = None


class CustomerProfile(AnswerBody, frozen=True):
    """A customer; what both documents require has to be there. ``loyalty_memberships`` is always null today."""

    integration_id: str
    created: Timestamp
    attributes: Json | None
    account_id: Integer | None
    closed_sessions: Integer | None
    total_sales: float | None
    last_activity: Timestamp | None
    id: Integer | None = None
    loyalty_memberships: list[LoyaltyMembership] | None = None
    audience_memberships: list[AudienceMembership] | None = None
    sandbox: bool | None = None


class LimitConfig(AnswerBody, frozen=True):
    """A limit on a coupon."""

    action: str | None = None
    limit: float | None = None
    period: str | None = None
    entities: list[str] | None = None


class CouponDetails(Success, frozen=True):
    """What a coupon may have: all that not both documents require."""

    discount_limit: float | None = None
    reservation_limit: Integer | None = None
    start_date: Timestamp | None = None
    expiry_date: Timestamp | None = None
    limits: list[LimitConfig] | None = None
    discount_counter: float | None = None
    discount_remainder: float | None = None
    reservation_counter: float | None = None
    attributes: Json | None = None
    referral_id: Integer | None = None
    recipient_integration_id: str | None = None
    import_id: Integer | None = None
    reservation: bool | None = None
    batch_id: str | None = None
    is_reservation_mandatory: bool | None = None
    implicitly_reserved: bool | None = None


class Coupon(CouponDetails, frozen=True, kw_only=True):
    """A coupon code; what both documents require has to be there.

    The meaning of ``reservation`` changed over time; since 2023: true if several customers may reserve it, false for
    a personal code. The coupon does not say who holds it: ``get_reserved_customers`` does.
    """

    value: str
    id: Integer
    created: Timestamp
    campaign_id: Integer
    usage_limit: Integer | None
    usage_counter: Integer | None


class InventoryCoupon(CouponDetails, frozen=True):
    """A coupon in a customer's inventory; ``state``: active, used, expired, pending or disabled.

    What such an entry lacks must not make all that is held about a person unreadable: the profile proves the answer.
    """

    value: str = ""
    id: Integer | None = None
    created: Timestamp | None = None
    campaign_id: Integer | None = None
    usage_limit: Integer | None = None
    usage_counter: Integer | None = None
    profile_redemption_count: Integer | None = None
    state: str | None = None


class ReferralDetails(Success, frozen=True):
    """What a referral may have: all that not both documents require."""

    friend_profile_integration_id: str | None = None
    start_date: Timestamp | None = None
    expiry_date: Timestamp | None = None
    attributes: Json | None = None
    import_id: Integer | None = None
    batch_id: str | None = None


class Referral(ReferralDetails, frozen=True, kw_only=True):
    """A referral code of an advocate, for one friend or for anyone; what both documents require has to be there."""

    code: str
    id: Integer
    created: Timestamp
    campaign_id: Integer
    advocate_profile_integration_id: str
    usage_limit: Integer | None
    usage_counter: Integer | None


class CreatedReferrals(Success, frozen=True, kw_only=True):
    """The referral codes that were made at once, each with its advocate."""

    data: list[Referral] | None
    total_result_size: Integer


class InventoryReferral(ReferralDetails, frozen=True):
    """A referral in a customer's inventory; ``referred_customers`` are the ids of other people."""

    code: str = ""  # this and what follows as for ``InventoryCoupon``
    id: Integer | None = None
    created: Timestamp | None = None
    campaign_id: Integer | None = None
    advocate_profile_integration_id: str | None = None
    usage_limit: Integer | None = None
    usage_counter: Integer | None = None
    referred_customers: list[str] | None = None


class Tier(AnswerBody, frozen=True):
    """A tier of a loyalty program."""

    id: Integer | None = None
    name: str | None = None
    start_date: Timestamp | None = None
    expiry_date: Timestamp | None = None
    downgrade_policy: str | None = None


class LedgerInfo(AnswerBody, frozen=True):
    """The balances of a loyalty ledger, in points."""

    current_balance: float | None = None
    pending_balance: float | None = None
    negative_balance: float | None = None
    expired_balance: float | None = None
    spent_balance: float | None = None
    tentative_current_balance: float | None = None
    tentative_pending_balance: float | None = None
    tentative_negative_balance: float | None = None
    current_tier: Tier | None = None
    points_to_next_tier: float | None = None
    next_tier_name: str | None = None


class LoyaltyProgramLedgers(AnswerBody, frozen=True):
    """A customer's ledgers in one loyalty program. ``attributes`` is in no document; it would be personal data."""

    id: Integer | None = None
    attributes: Json | None = None
    title: str | None = None
    name: str | None = None
    join_date: Timestamp | None = None
    ledger: LedgerInfo | None = None
    sub_ledgers: dict[str, LedgerInfo] | None = None


class LoyaltyCardProfileRegistration(AnswerBody, frozen=True):
    """A customer who uses a loyalty card."""

    integration_id: str | None = None
    timestamp: Timestamp | None = None


class LoyaltyCard(Success, frozen=True):
    """A loyalty card; its ``profiles`` may be other people. ``attributes`` as for ``LoyaltyProgramLedgers``."""

    id: Integer | None = None
    attributes: Json | None = None
    created: Timestamp | None = None
    program_id: Integer | None = field(default=None, name="programID")
    program_name: str | None = None
    program_title: str | None = None
    status: str | None = None
    block_reason: str | None = None
    identifier: str | None = None
    users_per_card_limit: Integer | None = None
    profiles: list[LoyaltyCardProfileRegistration] | None = None
    ledger: LedgerInfo | None = None
    subledgers: dict[str, LedgerInfo] | None = None
    modified: Timestamp | None = None
    old_card_identifier: str | None = None
    new_card_identifier: str | None = None
    batch_id: str | None = None


class Loyalty(AnswerBody, frozen=True):
    """A customer's loyalty cards, and the programs by their id."""

    cards: list[LoyaltyCard] | None = None
    programs: dict[str, LoyaltyProgramLedgers] | None = None


class Giveaway(AnswerBody, frozen=True):
    """A giveaway code that a customer was awarded."""

    id: Integer | None = None
    created: Timestamp | None = None
    code: str | None = None
    pool_id: Integer | None = None
    start_date: Timestamp | None = None
    end_date: Timestamp | None = None
    attributes: Json | None = None
    used: bool | None = None
    import_id: Integer | None = None
    profile_integration_id: str | None = None
    profile_id: Integer | None = None


class AchievementProgress(AnswerBody, frozen=True):
    """How far a customer is with an achievement, and the achievement itself."""

    achievement_id: Integer | None = None
    name: str | None = None
    title: str | None = None
    description: str | None = None
    campaign_id: Integer | None = None
    target: float | None = None
    status: str | None = None
    progress: float | None = None
    start_date: Timestamp | None = None
    completion_date: Timestamp | None = None
    end_date: Timestamp | None = None
    achievement_recurrence_policy: str | None = None
    achievement_activation_policy: str | None = None
    achievement_fixed_start_date: Timestamp | None = None
    achievement_end_date: Timestamp | None = None
    achievement_allow_rollback_after_completion: bool | None = None


class CustomerInventory(Success, frozen=True, kw_only=True):
    """What is held about a customer. The profile is always asked for: without it the answer is not the API's."""

    profile: CustomerProfile
    referrals: list[InventoryReferral] | None = None
    coupons: list[InventoryCoupon] | None = None
    loyalty: Loyalty | None = None
    giveaways: list[Giveaway] | None = None
    achievements: list[AchievementProgress] | None = None


# The answers that are not a customer's holdings: reservation holders, results of the rule engine, errors.


class ReservedCustomers(Success, frozen=True, kw_only=True):
    """The customers that have a coupon reserved: all of them, there is no paging."""

    data: list[CustomerProfile] | None
    total_result_size: Integer


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


class UpdatedProfile(AnswerBody, frozen=True):
    """One of the profiles that were updated at once."""

    customer_profile: CustomerProfile


class UpdatedProfiles(Success, frozen=True, kw_only=True):
    """The profiles that were updated at once, as they are afterwards."""

    integration_states: list[UpdatedProfile] | None


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


class RegisteredEvent(Success, frozen=True, kw_only=True):
    """A V3 event as the API has it; what says which one it is has to be there."""

    integration_id: str
    type: str
    profile_id: str | None = None
    attributes: Json | None = None
    connected_session_id: str | None = None
    store_integration_id: str | None = None
    id: Integer | None = None
    created: Timestamp | None = None
    application_id: Integer | None = None
    effects: list[Any] | None = None


# What is asked for next to the inventory: a loyalty ledger, what can be achieved, a session.


class ProjectedTier(AnswerBody, frozen=True):
    """The tier that a customer will have when the current one expires."""

    projected_active_points: float | None = None
    stay_in_tier_points: float | None = None
    projected_tier_name: str | None = None


class LoyaltyBalance(AnswerBody, frozen=True):
    """The balances of one ledger of a customer, in points, and the tier that follows from them."""

    active_points: float | None = None
    pending_points: float | None = None
    spent_points: float | None = None
    expired_points: float | None = None
    negative_points: float | None = None
    current_tier: Tier | None = None
    next_tier_name: str | None = None
    points_to_next_tier: float | None = None
    projected_tier: ProjectedTier | None = None


class LoyaltyBalances(Success, frozen=True, kw_only=True):
    """The balances of a customer in one loyalty program. Without ``balance`` it could be anybody's answer."""

    balance: LoyaltyBalance
    subledger_balances: dict[str, LoyaltyBalance] | None = None


class LoyaltyTransaction(AnswerBody, frozen=True, kw_only=True):
    """One transaction of a loyalty ledger: of a customer, or of the card ``card_identifier``."""

    transaction_uuid: str = field(name="transactionUUID")
    program_id: Integer
    created: Timestamp | None = None
    card_identifier: str | None = None
    customer_session_id: str | None = None
    store_integration_id: str | None = None
    type: str | None = None
    name: str | None = None
    start_date: str | None = None
    expiry_date: str | None = None
    subledger_id: str | None = None
    amount: float | None = None
    id: Integer | None = None
    ruleset_id: Integer | None = None
    rule_name: str | None = None
    flags: Json | None = None
    validity_duration: str | None = None


class LoyaltyTransactions(Success, frozen=True, kw_only=True):
    """A page of transactions; ``has_more`` says whether others follow."""

    data: list[LoyaltyTransaction] | None
    has_more: bool


class AvailableAchievement(AnswerBody, frozen=True):
    """An achievement of the Application, and how far a customer is with it."""

    id: Integer | None = None
    created: Timestamp | None = None
    name: str | None = None
    title: str | None = None
    description: str | None = None
    target: float | None = None
    period: str | None = None
    period_end_override: Json | None = None
    recurrence_policy: str | None = None
    activation_policy: str | None = None
    fixed_start_date: Timestamp | None = None
    end_date: Timestamp | None = None
    allow_rollback_after_completion: bool | None = None
    campaign_id: Integer | None = None
    status: str | None = None
    current_progress: Json | None = None


class AvailableAchievements(Success, frozen=True, kw_only=True):
    """A page of achievements; ``total_result_size`` is how many there are on all pages."""

    data: list[AvailableAchievement] | None
    total_result_size: Integer


class CustomerSessionAnswer(Success, frozen=True, kw_only=True):
    """One customer session, and what the rules made of it."""

    customer_session: Json
    effects: list[Json] | None = None


class ErrorBody(AnswerBody, frozen=True):
    """The body of a refusal: ErrorResponse, ErrorResponseWithStatus and the object of a 409.

    The texts can echo customer data: they are never logged or reported.
    """

    message: Any = UNSET
    errors: Any = UNSET
    status_code: Any = field(default=UNSET, name="StatusCode")


# Whether a body can be read in one way only: where a name is in an object twice, readers differ in which one counts.

#: What looks like a name: each that is one, where there are no escapes, and in an odd text one more.
_NAMES = re.compile(rb'"([^"]*)"\s*:').findall


def is_unambiguous(body: bytes, names: tuple[bytes, ...]) -> bool:
    """Tell whether none of the names, in quotes, appears twice in an object of the body, which is JSON.

    Nearly every answer holds each of them once; then nothing has to be parsed for that.
    """
    for name in names:
        if body.count(name) > 1:
            return has_no_doubles(body, names)
    return True


def has_no_doubles(body: bytes, names: tuple[bytes, ...] | None = None) -> bool:
    """Tell whether none of the names, in quotes, is in an object twice; without names, whether none at all is."""
    if names is None and b"\\" not in body:
        found = _NAMES(body)
        if len(found) == len(set(found)):
            return True
    watched = None if names is None else {name.decode().strip('"') for name in names}

    def without_doubles(pairs: list[tuple[str, Any]]) -> None:
        seen = [name for name, _ in pairs if watched is None or name in watched]
        if len(seen) > len(set(seen)):
            raise ValueError("a name appears twice")

    try:  # numbers are left as text: nothing is done with them, and a long one would be refused
        json.loads(body, object_pairs_hook=without_doubles, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True
