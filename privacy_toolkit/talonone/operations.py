"""The operations of the Integration API, each declared once.

Client, commands, sandbox, documentation and contract tests are generated from this table. Sources: the eleven
operations published in 2020, V2 events, which replaced the V1 one, and of the document of August 2026 what is held
about a customer next to the inventory (loyalty ledgers, achievements, sessions), and what is about many customers at
once. Where the API of 2020 and the current one differ, ``Generation`` says which has what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType

import msgspec

from privacy_toolkit.talonone.bodies import (
    AudienceActions,
    CardHolder,
    CouponReservations,
    CustomerProfileRequestV2,
    DeletedTransactions,
    EventV2,
    EventV3,
    IntegrationRequest,
    NewCustomerProfile,
    NewCustomerSession,
    NewEvent,
    NewReferral,
    NewReferrals,
    ProfileUpdates,
    ProfileV2Of2020,
    ReferralOf2020,
    RequestOf2020,
    SessionV1Of2020,
)
from privacy_toolkit.talonone.models import (
    AvailableAchievements,
    Coupon,
    CreatedReferrals,
    CustomerInventory,
    CustomerProfileResponseV2,
    CustomerSessionAnswer,
    IntegrationState,
    IntegrationStateV2,
    LoyaltyBalances,
    LoyaltyCard,
    LoyaltyTransactions,
    Referral,
    RegisteredEvent,
    RequestBody,
    ReservedCustomers,
    Success,
    UpdatedProfiles,
)

# What is said about an operation of the API: the vocabulary of the table in ``operations``.


class Generation(StrEnum):
    """Which published state of the API a deployment answers to."""

    SEED = "2020"
    CURRENT = "current"


class Scheme(StrEnum):
    """A way to authenticate; an operation takes any one of those it lists."""

    API_KEY = "api_key_v1"  # Authorization: ApiKey-v1 <key>
    SIGNATURE = "integration_auth"  # Content-Signature: signer=<id>; signature=<hex>


class RetrySafety(StrEnum):
    """What may be done after an answer was lost."""

    SAFE = "safe"  # send again: repeating has no further effect
    CHECK_FIRST = "check_first"  # look it up by the ``lookup`` operation before anything is sent again
    KEYED = "keyed"  # send again with the same Idempotency-Key while the API remembers it; later as ``NEVER``
    NEVER = "never"  # no way to look it up: left to a person


#: With these a lost answer is, sooner or later, lost for good.
FOR_GOOD = frozenset({RetrySafety.NEVER, RetrySafety.KEYED})
#: How long after the first sending a request may be sent again with its key (microseconds). The API forgets the key 24
#: hours "after the request is sent"; the hour is for clocks that differ and requests that are under way.
KEY_IS_KEPT = 23 * 60 * 60 * 1_000_000


class Meaning(StrEnum):
    """What a status says about the request, for the one who has to act."""

    DONE = "done"
    CREDENTIALS = "credentials"  # refused for every request: stop
    ABSENT = "absent"  # the thing named does not exist
    REPEAT = "repeat"  # refused now, may be sent again
    FINAL = "final"  # refused for good


class QueryFlag(msgspec.Struct, frozen=True):
    """A query parameter and the generations that know it.

    ``always`` is the value the client sends on every call, where any other would have an answer that proves nothing.
    ``needs`` names the flag without which this one has no effect: the call would be carried out for real.
    """

    name: str
    generations: frozenset[Generation]
    kind: type = bool
    always: str | None = None
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API.

    ``path`` holds at most one ``{parameter}`` that a call fills in; one of a loyalty program holds the program's before
    it, and is called only ``within`` one. ``body_of_2020`` is set where deployments of 2020 take less than
    ``body``. ``success`` is the only status that counts as done. ``lookup`` names the operation that settles a lost
    answer. ``creates_profile``: a call re-creates the profile of an erased customer. ``refusals`` are the statuses of
    errors that the documents declare for it; ``statuses`` follows from them.
    """

    name: str
    operation_id: str
    method: str
    path: str
    success: int
    summary: str
    body: type[RequestBody] | None = None
    body_of_2020: type[RequestBody] | None = None
    answer: type[Success] | None = None
    query: tuple[QueryFlag, ...] = ()
    auth: frozenset[Scheme] = frozenset({Scheme.API_KEY})
    retry: RetrySafety = RetrySafety.NEVER
    lookup: str | None = None
    idempotency_key: bool = False
    creates_profile: bool = False
    generations: frozenset[Generation] = frozenset(Generation)
    refusals: frozenset[int] = frozenset()
    program: int | None = None
    statuses: Mapping[int, Meaning] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Say once what each status means."""
        object.__setattr__(self, "statuses", MappingProxyType(self._statuses()))

    @property
    def parameter(self) -> str | None:
        """The name of the path parameter that a call fills in, if there is one."""
        start, end = self.path.rfind("{"), self.path.rfind("}")
        return self.path[start + 1 : end] if start >= 0 else None

    @property
    def is_of_a_program(self) -> bool:
        """Whether it has to be said within which loyalty program it is called."""
        return _PROGRAM in self.path

    def within(self, program: int) -> Operation:
        """The same operation within one loyalty program, by the program's number."""
        return replace(self, path=self.path.replace(_PROGRAM, str(program)), program=program)

    def body_for(self, generation: Generation) -> type[RequestBody] | None:
        """The type that a body has to fit for a deployment of ``generation``."""
        return (generation is Generation.SEED and self.body_of_2020) or self.body

    def _statuses(self) -> dict[int, Meaning]:
        """What each status means that the API is known to answer, if it is the API that says so.

        A refusal (400, 404, 409) is one where the documents declare it. What is in no document of an operation
        but in the API's general text (409, 429, 503: come back later) proves that nothing was done only where that
        can be looked up or repeated; 429 always, since it is said before a request is worked on.
        """
        meanings = {status: meaning for status, meaning in _REFUSALS.items() if status in self.refusals}
        if self.retry not in FOR_GOOD:
            meanings |= {HTTPStatus.CONFLICT: Meaning.REPEAT, HTTPStatus.SERVICE_UNAVAILABLE: Meaning.REPEAT}
        meanings |= dict.fromkeys((HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN), Meaning.CREDENTIALS)
        return {**meanings, HTTPStatus.TOO_MANY_REQUESTS: Meaning.REPEAT, self.success: Meaning.DONE}


_PROGRAM = "{loyaltyProgramId}"
_REFUSALS: Mapping[int, Meaning] = {
    HTTPStatus.BAD_REQUEST: Meaning.FINAL,
    HTTPStatus.NOT_FOUND: Meaning.ABSENT,
    HTTPStatus.CONFLICT: Meaning.REPEAT,
}


__all__ = ["OPERATIONS", "Generation", "Meaning", "Operation", "QueryFlag", "RetrySafety", "Scheme"]


_BOTH = frozenset(Generation)
_CURRENT = frozenset({Generation.CURRENT})
_EITHER = frozenset(Scheme)
#: Statuses of errors, as the documents declare them together.
_REFUSES = frozenset({400, 401})
_MISSES = frozenset({401, 404})
_COLLIDES = frozenset({401, 409})


def _flag(name: str, generations: frozenset[Generation] = _BOTH) -> QueryFlag:
    return QueryFlag(name, generations)


def _shown(name: str, generations: frozenset[Generation] = _BOTH) -> QueryFlag:
    """A part of the inventory: always asked for, so that nothing held is overlooked."""
    return QueryFlag(name, generations, always="true")


def _filters(*names: str) -> tuple[QueryFlag, ...]:
    """Filters of a list: none is ever sent, or what is held would be overlooked."""
    return tuple(QueryFlag(name, _CURRENT, list) for name in names)


#: How many entries a page may have, and how many to skip.
_PAGES = (QueryFlag("pageSize", _CURRENT, int), QueryFlag("skip", _CURRENT, int))
#: Without it nothing would be answered but that all is well: not for whom, and with which codes.
_TELLING = QueryFlag("silent", _CURRENT, str, always="no")
_OF_LEDGERS = (
    QueryFlag("loyaltyTransactionType", _CURRENT, str),
    QueryFlag("startDate", _CURRENT, str),
    QueryFlag("endDate", _CURRENT, str),
    QueryFlag("awaitsActivation", _CURRENT),
    *_filters("customerSessionIDs", "transactionUUIDs"),
    *_PAGES,
)


_TABLE = (
    Operation(
        name="create_coupon_reservation",
        operation_id="createCouponReservation",
        method="POST",
        path="/v1/coupon_reservations/{couponValue}",
        success=201,
        summary="Reserve a coupon for customers (at most 1,000 a call); overrides the coupon's reservation limit",
        refusals=_REFUSES | _MISSES,
        body=CouponReservations,
        answer=Coupon,
        auth=_EITHER,
        retry=RetrySafety.CHECK_FIRST,
        lookup="get_reserved_customers",
        creates_profile=True,
    ),
    Operation(
        name="delete_coupon_reservation",
        operation_id="deleteCouponReservation",
        method="DELETE",
        path="/v1/coupon_reservations/{couponValue}",
        success=204,
        summary="Release the reservations that customers have on a coupon",
        refusals=_REFUSES | _MISSES,
        body=CouponReservations,
        auth=_EITHER,
        retry=RetrySafety.CHECK_FIRST,
        lookup="get_reserved_customers",
    ),
    Operation(
        name="get_reserved_customers",
        operation_id="getReservedCustomers",
        method="GET",
        path="/v1/coupon_reservations/customerprofiles/{couponValue}",
        success=200,
        summary="The customers that have a coupon reserved, with their full profiles",
        refusals=_REFUSES | _MISSES,
        answer=ReservedCustomers,
        auth=_EITHER,
        retry=RetrySafety.SAFE,
    ),
    Operation(
        name="create_referral",
        operation_id="createReferral",
        method="POST",
        path="/v1/referrals",
        success=201,
        summary="Create a referral code for an advocate; each call makes a new one",
        refusals=_REFUSES,
        body=NewReferral,
        body_of_2020=ReferralOf2020,
        answer=Referral,
        auth=_EITHER,
        retry=RetrySafety.NEVER,
        creates_profile=True,
    ),
    Operation(
        name="create_referrals",
        operation_id="createReferralsForMultipleAdvocates",
        method="POST",
        path="/v1/referrals_for_multiple_advocates",
        success=201,
        summary="Create a referral code for each of up to 1,000 advocates; each call makes new ones",
        refusals=_REFUSES,
        body=NewReferrals,
        answer=CreatedReferrals,
        query=(_TELLING,),
        retry=RetrySafety.NEVER,
        creates_profile=True,
        generations=_CURRENT,
    ),
    Operation(
        name="delete_customer_data",
        operation_id="deleteCustomerData",
        method="DELETE",
        path="/v1/customer_data/{integrationId}",
        success=204,
        summary="Delete the attributes of a customer and of what refers to the customer, in all Applications",
        refusals=_MISSES,
        auth=_EITHER,
        retry=RetrySafety.CHECK_FIRST,
        lookup="get_customer_inventory",
    ),
    Operation(
        name="get_customer_inventory",
        operation_id="getCustomerInventory",
        method="GET",
        path="/v1/customer_profiles/{integrationId}/inventory",
        success=200,
        summary="What is held about a customer: profile, referrals, coupons, loyalty, giveaways, achievements",
        refusals=_MISSES,
        answer=CustomerInventory,
        query=(
            _shown("profile"),
            _shown("referrals"),
            _shown("coupons"),
            _shown("loyalty", _CURRENT),
            _shown("giveaways", _CURRENT),
            _shown("achievements", _CURRENT),
        ),
        auth=_EITHER,
        retry=RetrySafety.SAFE,
    ),
    Operation(
        name="get_loyalty_balances",
        operation_id="getLoyaltyBalances",
        method="GET",
        path="/v1/loyalty_programs/{loyaltyProgramId}/profile/{integrationId}/balances",
        success=200,
        summary="The balances of a customer in one loyalty program, with tiers",
        refusals=_REFUSES | _MISSES,
        answer=LoyaltyBalances,
        query=(
            QueryFlag("endDate", _CURRENT, str),
            QueryFlag("subledgerId", _CURRENT, str),
            _shown("includeTiers", _CURRENT),
            _flag("includeProjectedTier", _CURRENT),
        ),
        retry=RetrySafety.SAFE,
        generations=_CURRENT,
    ),
    Operation(
        name="get_loyalty_transactions",
        operation_id="getLoyaltyProgramProfileTransactions",
        method="GET",
        path="/v1/loyalty_programs/{loyaltyProgramId}/profile/{integrationId}/transactions",
        success=200,
        summary="The transactions of a customer in one loyalty program, page by page",
        refusals=_REFUSES | _MISSES,
        answer=LoyaltyTransactions,
        query=(*_OF_LEDGERS, QueryFlag("subledgerId", _CURRENT, str)),
        retry=RetrySafety.SAFE,
        generations=_CURRENT,
    ),
    Operation(
        name="delete_loyalty_transactions",
        operation_id="deleteLoyaltyTransactionsFromLedgers",
        method="POST",
        path="/v1/loyalty_programs/{loyaltyProgramId}/profile/{integrationId}/delete_transactions",
        success=204,
        summary="Delete a customer's transactions from the ledgers of one loyalty program",
        refusals=_REFUSES | _MISSES,
        body=DeletedTransactions,
        retry=RetrySafety.CHECK_FIRST,
        lookup="get_loyalty_transactions",
        generations=_CURRENT,
    ),
    Operation(
        name="get_card_transactions",
        operation_id="getLoyaltyCardTransactions",
        method="GET",
        path="/v1/loyalty_programs/{loyaltyProgramId}/cards/{loyaltyCardId}/transactions",
        success=200,
        summary="The transactions of one loyalty card, page by page",
        refusals=_REFUSES | _MISSES,
        answer=LoyaltyTransactions,
        query=(*_OF_LEDGERS, *_filters("subledgerId")),
        retry=RetrySafety.SAFE,
        generations=_CURRENT,
    ),
    Operation(
        name="unlink_loyalty_card",
        operation_id="unlinkLoyaltyCardFromProfile",
        method="POST",
        path="/v2/loyalty_programs/{loyaltyProgramId}/cards/{loyaltyCardId}/unlink_profile",
        success=200,
        summary="Unlink a loyalty card from a customer; the card and its points stay",
        refusals=_REFUSES | _MISSES,
        body=CardHolder,
        answer=LoyaltyCard,
        retry=RetrySafety.CHECK_FIRST,
        lookup="get_customer_inventory",
        generations=_CURRENT,
    ),
    Operation(
        name="get_customer_achievements",
        operation_id="getCustomerAchievements",
        method="GET",
        path="/v1/customer_profiles/{integrationId}/achievements",
        success=200,
        summary="The achievements that a customer can reach, with the progress in each, page by page",
        refusals=_REFUSES | _MISSES,
        answer=AvailableAchievements,
        query=(
            *_filters("campaignIds", "achievementIds", "achievementStatus", "currentProgressStatus"),
            *_PAGES,
        ),
        retry=RetrySafety.SAFE,
        generations=_CURRENT,
    ),
    Operation(
        name="get_customer_session",
        operation_id="getCustomerSession",
        method="GET",
        path="/v2/customer_sessions/{customerSessionId}",
        success=200,
        summary="One customer session by its id; the API lists a customer's sessions nowhere",
        refusals=_REFUSES,
        answer=CustomerSessionAnswer,
        retry=RetrySafety.SAFE,
        generations=_CURRENT,
    ),
    Operation(
        name="track_event",
        operation_id="trackEvent",
        method="POST",
        path="/v1/events",
        success=201,
        summary="Track an event of a session (legacy V1)",
        refusals=_REFUSES | _COLLIDES,
        body=NewEvent,
        answer=IntegrationState,
        query=(_flag("dry"),),
        auth=_EITHER,
        retry=RetrySafety.NEVER,
        creates_profile=True,
    ),
    Operation(
        name="track_event_v2",
        operation_id="trackEventV2",
        method="POST",
        path="/v2/events",
        success=200,
        summary="Track an event of a customer (V2, replaces the V1 operation)",
        refusals=_REFUSES | _COLLIDES,
        body=EventV2,
        answer=IntegrationStateV2,
        query=(
            _TELLING,
            _flag("dry", _CURRENT),
            QueryFlag("forceCompleteEvaluation", _CURRENT, needs="dry"),
        ),
        retry=RetrySafety.KEYED,
        idempotency_key=True,
        creates_profile=True,
        generations=_CURRENT,
    ),
    Operation(
        name="track_event_v3",
        operation_id="trackEventV3",
        method="POST",
        path="/v3/events",
        success=200,
        summary="Track an event with an id of its own (V3); sent again it does no more",
        refusals=_REFUSES | _COLLIDES,
        body=EventV3,
        answer=IntegrationStateV2,
        query=(
            _TELLING,
            _flag("dry", _CURRENT),
            QueryFlag("forceCompleteEvaluation", _CURRENT, needs="dry"),
        ),
        retry=RetrySafety.SAFE,
        lookup="get_event_v3",
        creates_profile=True,
        generations=_CURRENT,
    ),
    Operation(
        name="get_event_v3",
        operation_id="getEventV3",
        method="GET",
        path="/v3/events/{integrationId}",
        success=200,
        summary="An event with an id of its own (V3), as the API has it",
        refusals=frozenset({404}),
        answer=RegisteredEvent,
        retry=RetrySafety.SAFE,
        generations=_CURRENT,
    ),
    Operation(
        name="update_customer_profile",
        operation_id="updateCustomerProfile",
        method="PUT",
        path="/v1/customer_profiles/{integrationId}",
        success=200,
        summary="Update or create a customer profile (legacy V1); attributes are merged",
        refusals=_REFUSES | _COLLIDES,  # as its V2 successor: its own documents declare no error at all
        body=NewCustomerProfile,
        answer=IntegrationState,
        query=(_flag("dry"),),
        auth=_EITHER,
        retry=RetrySafety.SAFE,
        creates_profile=True,
    ),
    Operation(
        name="update_customer_profile_v2",
        operation_id="updateCustomerProfileV2",
        method="PUT",
        path="/v2/customer_profiles/{integrationId}",
        success=200,
        summary="Update or create a customer profile (V2)",
        refusals=_REFUSES | _COLLIDES,
        body=CustomerProfileRequestV2,
        body_of_2020=ProfileV2Of2020,
        answer=CustomerProfileResponseV2,
        query=(_flag("runRuleEngine", _CURRENT), QueryFlag("dry", _CURRENT, needs="runRuleEngine")),
        retry=RetrySafety.SAFE,
        idempotency_key=True,
        creates_profile=True,
    ),
    Operation(
        name="update_customer_profiles",
        operation_id="updateCustomerProfilesV2",
        method="PUT",
        path="/v2/customer_profiles",
        success=200,
        summary="Update or create up to 1,000 customer profiles (V2)",
        refusals=_REFUSES,
        body=ProfileUpdates,
        answer=UpdatedProfiles,
        query=(_TELLING,),
        retry=RetrySafety.SAFE,
        idempotency_key=True,
        creates_profile=True,
        generations=_CURRENT,
    ),
    Operation(
        name="update_customer_audiences",
        operation_id="updateCustomerProfileAudiences",
        method="POST",
        path="/v2/customer_audiences",
        success=204,
        summary="Put up to 1,000 customers in audiences, or take them out; the answer names none of them",
        refusals=_REFUSES | _MISSES,
        body=AudienceActions,
        retry=RetrySafety.SAFE,  # who is in an audience already is in it once
        creates_profile=True,
        generations=_CURRENT,
    ),
    Operation(
        name="update_customer_session",
        operation_id="updateCustomerSession",
        method="PUT",
        path="/v1/customer_sessions/{customerSessionId}",
        success=200,
        summary="Update or create a customer session (legacy V1)",
        refusals=_REFUSES | _COLLIDES,  # as its V2 successor: its own documents declare no error at all
        body=NewCustomerSession,
        body_of_2020=SessionV1Of2020,
        answer=IntegrationState,
        query=(_flag("dry"),),
        auth=_EITHER,
        retry=RetrySafety.SAFE,
        creates_profile=True,
    ),
    Operation(
        name="update_customer_session_v2",
        operation_id="updateCustomerSessionV2",
        method="PUT",
        path="/v2/customer_sessions/{customerSessionId}",
        success=200,
        summary="Update or create a customer session (V2)",
        refusals=_REFUSES | _COLLIDES,
        body=IntegrationRequest,
        body_of_2020=RequestOf2020,
        answer=IntegrationStateV2,
        query=(_flag("dry"), QueryFlag("now", _CURRENT, str, needs="dry")),
        retry=RetrySafety.SAFE,
        idempotency_key=True,
        creates_profile=True,
    ),
)

#: Every operation by its name.
OPERATIONS: Mapping[str, Operation] = MappingProxyType({operation.name: operation for operation in _TABLE})
#: What is asked to prove a connection or a deployment: it only reads, and its answer names whom it is about.
CONTROL_QUESTION = OPERATIONS["get_customer_inventory"]
