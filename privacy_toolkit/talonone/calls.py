"""The operations as methods, for users of the library: typed in, typed out, and an exception for all but success."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar

from privacy_toolkit.core.model import ApiError, CredentialsError, UsageError
from privacy_toolkit.http.exchange import PLAIN, Exchange, Manner, Pacer
from privacy_toolkit.talonone.addresses import QueryValue
from privacy_toolkit.talonone.bodies import (
    AudienceAction,
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
    ProfileUpdate,
    ProfileUpdates,
)
from privacy_toolkit.talonone.models import (
    AnswerBody,
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
    UpdatedProfiles,
)
from privacy_toolkit.talonone.operations import OPERATIONS, Generation, Operation
from privacy_toolkit.talonone.responses import Answer, Asked, Finding, read_exchange

#: The most entries that a page may have.
LARGEST_PAGE: Final = 1000

T = TypeVar("T", bound=AnswerBody)


_UNAUTHORIZED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_ADVICE_OF_KEYS = "Is the key right, and of this environment?"
_ADVICE_OF_GATES = "It may be no answer of the API: look at proxy, gateway and base URL, then at the key."
_ADVICE = {
    Finding.ABSENT: "The API does not know what was named.",
    Finding.REFUSED: "It was not done, and may be sent again later.",
    Finding.FINAL: "It was not done, and sending the same again is useless.",
    Finding.NEVER_SENT: "Nothing was sent; it may be tried again.",
    Finding.UNKNOWN: "It may have been done: look it up before anything is sent again.",
}


def _several(ids: Any) -> list[str]:
    """Ids that were given as a list, and no text, which would go out letter by letter."""
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise UsageError("The customers are a list of ids.", 'For one customer: ["customer-1"]')
    return list(ids)


class Calls(ABC):
    """One method for each operation.

    All of them raise ``ApiError``, with the reason as its ``code``, where the call was not answered with success;
    ``CredentialsError`` on 401 and 403, with ``foreign_answer`` as its code where they may be a gateway's;
    ``UsageError`` where nothing was sent because the call is not possible.
    """

    generation = Generation.CURRENT

    def __init__(self, pacer: Pacer | None) -> None:
        self._pacer = pacer
        self._now: Callable[[], datetime] = partial(datetime.now, UTC)

    @abstractmethod
    async def exchange(
        self,
        operation: Operation,
        value: str | None = None,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: RequestBody | None = None,
        idempotency_key: str | None = None,
        manner: Manner = PLAIN,
    ) -> Exchange:
        """Send one call, once, and return what came of it."""

    async def create_coupon_reservation(self, coupon_value: str, integration_ids: Sequence[str]) -> Coupon:
        """Reserve a coupon for at most 1,000 customers; overrides the coupon's reservation limit."""
        body = CouponReservations(integration_ids=_several(integration_ids))
        return await self._ask("create_coupon_reservation", Coupon, coupon_value, body=body)

    async def delete_coupon_reservation(self, coupon_value: str, integration_ids: Sequence[str]) -> None:
        """Release the reservations that at most 1,000 customers have on a coupon."""
        body = CouponReservations(integration_ids=_several(integration_ids))
        await self._call("delete_coupon_reservation", coupon_value, body=body)

    async def get_reserved_customers(self, coupon_value: str) -> ReservedCustomers:
        """The customers that have a coupon reserved, with their full profiles."""
        return await self._ask("get_reserved_customers", ReservedCustomers, coupon_value)

    async def create_referral(self, referral: NewReferral) -> Referral:
        """Create a referral code; each call makes a new one."""
        return await self._ask("create_referral", Referral, body=referral)

    async def create_referrals(self, referrals: NewReferrals) -> CreatedReferrals:
        """Create a referral code for each of at most 1,000 advocates; each call makes new ones."""
        return await self._ask("create_referrals", CreatedReferrals, body=referrals)

    async def delete_customer_data(self, integration_id: str) -> None:
        """Delete a customer's attributes, in all Applications of the environment. It can't be undone."""
        await self._call("delete_customer_data", integration_id)

    async def get_customer_inventory(self, integration_id: str) -> CustomerInventory:
        """What is held about a customer, in all parts that the generation of the API shows."""
        return await self._ask("get_customer_inventory", CustomerInventory, integration_id)

    async def get_loyalty_balances(self, program: int, integration_id: str) -> LoyaltyBalances:
        """The balances of a customer in one loyalty program."""
        return await self._ask("get_loyalty_balances", LoyaltyBalances, integration_id, program=program)

    async def get_loyalty_transactions(
        self, program: int, integration_id: str, *, skip: int = 0, page_size: int = LARGEST_PAGE
    ) -> LoyaltyTransactions:
        """A page of a customer's transactions in one loyalty program, after ``skip`` of them."""
        query = _page(skip, page_size)
        name = "get_loyalty_transactions"
        return await self._ask(name, LoyaltyTransactions, integration_id, query=query, program=program)

    async def delete_loyalty_transactions(self, program: int, integration_id: str) -> None:
        """Delete all transactions of a customer in one loyalty program. It can't be undone."""
        body = DeletedTransactions(scope="AllSubledgers")
        await self._call("delete_loyalty_transactions", integration_id, body=body, program=program)

    async def get_card_transactions(
        self, program: int, card: str, *, skip: int = 0, page_size: int = LARGEST_PAGE
    ) -> LoyaltyTransactions:
        """A page of the transactions of a loyalty card, after ``skip`` of them."""
        query = _page(skip, page_size)
        return await self._ask("get_card_transactions", LoyaltyTransactions, card, query=query, program=program)

    async def unlink_loyalty_card(self, program: int, card: str, integration_id: str) -> LoyaltyCard:
        """Unlink a loyalty card from a customer; the card and its points stay."""
        body = CardHolder(integration_id=integration_id)
        return await self._ask("unlink_loyalty_card", LoyaltyCard, card, body=body, program=program)

    async def get_customer_achievements(
        self, integration_id: str, *, skip: int = 0, page_size: int = LARGEST_PAGE
    ) -> AvailableAchievements:
        """A page of the achievements that a customer can reach, after ``skip`` of them."""
        query = _page(skip, page_size)
        return await self._ask("get_customer_achievements", AvailableAchievements, integration_id, query=query)

    async def get_customer_session(self, session_id: str) -> CustomerSessionAnswer:
        """One customer session."""
        return await self._ask("get_customer_session", CustomerSessionAnswer, session_id)

    async def track_event(self, event: NewEvent, *, dry: bool = False) -> IntegrationState:
        """Track an event of a session (legacy V1)."""
        return await self._ask("track_event", IntegrationState, body=event, query=_set(dry=dry))

    async def track_event_v2(
        self, event: EventV2, *, dry: bool = False, idempotency_key: str | None = None
    ) -> IntegrationStateV2:
        """Track an event of a customer (V2)."""
        query = _set(dry=dry)
        return await self._ask("track_event_v2", IntegrationStateV2, body=event, query=query, key=idempotency_key)

    async def track_event_v3(self, event: EventV3, *, dry: bool = False) -> IntegrationStateV2:
        """Track an event with an id of its own (V3). A 409 says that the id is taken, or to come back later."""
        return await self._ask("track_event_v3", IntegrationStateV2, body=event, query=_set(dry=dry))

    async def get_event_v3(self, integration_id: str) -> RegisteredEvent:
        """The event with this id (V3), as the API has it."""
        return await self._ask("get_event_v3", RegisteredEvent, integration_id)

    async def update_customer_profile(
        self, integration_id: str, profile: NewCustomerProfile, *, dry: bool = False
    ) -> IntegrationState:
        """Update or create a customer profile (legacy V1); attributes are merged."""
        query = _set(dry=dry)
        return await self._ask("update_customer_profile", IntegrationState, integration_id, body=profile, query=query)

    async def update_customer_profile_v2(
        self,
        integration_id: str,
        profile: CustomerProfileRequestV2,
        *,
        run_rule_engine: bool = False,
        dry: bool = False,
        idempotency_key: str | None = None,
    ) -> CustomerProfileResponseV2:
        """Update or create a customer profile (V2); ``dry`` only works with ``run_rule_engine``."""
        return await self._ask(
            "update_customer_profile_v2",
            CustomerProfileResponseV2,
            integration_id,
            body=profile,
            query=_set(runRuleEngine=run_rule_engine, dry=dry),
            key=idempotency_key,
        )

    async def update_customer_profiles(
        self, profiles: Sequence[ProfileUpdate], *, idempotency_key: str | None = None
    ) -> UpdatedProfiles:
        """Update or create at most 1,000 customer profiles (V2); no rules are evaluated."""
        body = ProfileUpdates(customer_profiles=list(profiles))
        return await self._ask("update_customer_profiles", UpdatedProfiles, body=body, key=idempotency_key)

    async def update_customer_audiences(self, actions: Sequence[AudienceAction]) -> None:
        """Put at most 1,000 customers in audiences, or take them out; the answer names none of them."""
        await self._call("update_customer_audiences", body=AudienceActions(data=list(actions)))

    async def update_customer_session(
        self, session_id: str, session: NewCustomerSession, *, dry: bool = False
    ) -> IntegrationState:
        """Update or create a customer session (legacy V1)."""
        query = _set(dry=dry)
        return await self._ask("update_customer_session", IntegrationState, session_id, body=session, query=query)

    async def update_customer_session_v2(
        self,
        session_id: str,
        session: IntegrationRequest,
        *,
        dry: bool = False,
        now: str | None = None,
        idempotency_key: str | None = None,
    ) -> IntegrationStateV2:
        """Update or create a customer session (V2); ``now`` is a future time (RFC 3339) to evaluate a dry call at."""
        query = _set(dry=dry) | ({} if now is None else {"now": now})
        key = idempotency_key
        return await self._ask(
            "update_customer_session_v2", IntegrationStateV2, session_id, body=session, query=query, key=key
        )

    async def _ask(
        self,
        name: str,
        kind: type[T],
        value: str | None = None,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: RequestBody | None = None,
        key: str | None = None,
        program: int | None = None,
    ) -> T:
        """Call an operation that answers with a body of this kind."""
        answer = await self._call(name, value, query=query, body=body, key=key, program=program)
        if not isinstance(answer.value, kind):
            raise TypeError(f"{name} answers with another kind than {kind.__name__}.")
        return answer.value

    async def _call(
        self,
        name: str,
        value: str | None = None,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: RequestBody | None = None,
        key: str | None = None,
        program: int | None = None,
    ) -> Answer:
        operation = OPERATIONS[name] if program is None else OPERATIONS[name].within(program)
        if self._pacer is not None:
            await self._pacer.wait()
        exchange = await self.exchange(operation, value, query=query, body=body, idempotency_key=key)
        answer = read_exchange(operation, exchange, self._now(), Asked(value, body, self.generation))
        if answer.finding is not Finding.DONE:
            raise _error(operation, answer)
        return answer


def _set(**flags: bool) -> dict[str, QueryValue]:
    return {name: True for name, value in flags.items() if value}


def _page(skip: int, page_size: int) -> dict[str, QueryValue]:
    return {"pageSize": page_size, "skip": skip}


def _error(operation: Operation, answer: Answer) -> ApiError | CredentialsError:
    """The exception for an answer that is no success; it names no id and nothing that a server wrote."""
    status = "no answer" if answer.status is None else f"HTTP {answer.status}"
    message = f"{operation.operation_id} did not succeed: {answer.reason} ({status})."
    if answer.status in _UNAUTHORIZED:  # in whatever words: no call will get further
        advice = _ADVICE_OF_KEYS if answer.finding is Finding.CREDENTIALS else _ADVICE_OF_GATES
        return CredentialsError(message, advice, code=answer.reason)
    wait = "" if answer.wait is None else f" The API asks to wait for {answer.wait:.0f} s."
    return ApiError(message, _ADVICE[answer.finding] + wait, code=answer.reason)
