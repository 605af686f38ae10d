"""What an exchange says about a request: done, refused, never sent, or unknown. Pure.

The rule behind all of it: only what the API itself said counts. A request that may have left and has no reliable
answer is unknown, never done and never failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import Enum, StrEnum
from functools import cache, lru_cache
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from privacy_toolkit.config.network import Obstacle
from privacy_toolkit.core.model import Reason
from privacy_toolkit.http.exchange import Exchange, Fault, Mark, Phase, Reply, Trouble, parse_retry_after
from privacy_toolkit.talonone.bodies import (
    EventV2,
    EventV3,
    IntegrationRequest,
    NewCustomerSession,
    NewEvent,
    NewReferral,
    NewReferrals,
    ProfileUpdates,
)
from privacy_toolkit.talonone.inventory import is_visible
from privacy_toolkit.talonone.models import (
    AnswerBody,
    AvailableAchievements,
    Coupon,
    CreatedReferrals,
    CustomerInventory,
    CustomerProfile,
    CustomerProfileResponseV2,
    CustomerSessionAnswer,
    ErrorBody,
    Giveaway,
    IntegrationState,
    IntegrationStateV2,
    InventoryCoupon,
    InventoryReferral,
    Json,
    LoyaltyBalances,
    LoyaltyCard,
    LoyaltyTransactions,
    Referral,
    RegisteredEvent,
    RequestBody,
    ReservedCustomers,
    Success,
    UpdatedProfiles,
    has_no_doubles,
    is_unambiguous,
)
from privacy_toolkit.talonone.operations import Generation, Meaning, Operation, RetrySafety

# Whether an answer is about what was asked: names in it are compared with those of the request, byte for byte. Pure.
#
# A proxy that answers twice, or mixes connections up, gives well-formed answers about someone else. Each operation has
# its check. What an answer need not say can't contradict; ids that differ only in case or Unicode normalisation do.


class Said(Enum):
    """What an answer says of whom or what it is about."""

    SUBJECT = "subject"  # what was asked about
    NOTHING = "nothing"  # nothing that could be compared
    ANOTHER = "another"
    TOO_LITTLE = "too_little"  # less than the documents require of the answers to this operation


def told(
    operation: Operation, answer: Any, value: str | None, body: RequestBody | None, generation: Generation
) -> Said:
    """What the answer to ``operation`` says; ``value`` was in the path, ``body`` was sent.

    Both are None where it is not known what was asked: then nothing is compared.
    """
    said = _CHECKS[operation.name](answer, value, body, generation)
    if operation.program is not None and said is not _TOO_LITTLE and _is_of_another_program(answer, operation.program):
        return Said.ANOTHER
    return said


def _inventory(answer: CustomerInventory, value: str | None, *_: object) -> Said:
    """The profile names the customer, and no entry an owner who is someone else. Plain loops: asked very often."""
    if value is None:
        return Said.NOTHING
    if (
        answer.profile.integration_id != value
        or (answer.coupons and _has_coupon_of_others(answer.coupons, value))
        or (answer.referrals and _has_referral_of_others(answer.referrals, value))
        or (answer.giveaways and _has_giveaway_of_others(answer.giveaways, value))
        or (answer.loyalty and answer.loyalty.cards and _has_card_of_others(answer.loyalty.cards, value))
    ):
        return _ANOTHER
    return _SUBJECT


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


def _referrals(answer: CreatedReferrals, _: object, body: NewReferrals | None, *__: object) -> Said:
    made = answer.data or ()
    if len(made) != answer.total_result_size:
        return Said.TOO_LITTLE
    if body is None:
        return Said.NOTHING
    if any((one.campaign_id, one.friend_profile_integration_id or None) != (body.campaign_id, None) for one in made):
        return Said.ANOTHER
    return _among([one.advocate_profile_integration_id for one in made], body.advocate_profile_integration_ids)


def _profiles_v2(answer: UpdatedProfiles, _: object, body: ProfileUpdates | None, *__: object) -> Said:
    if body is None:
        return Said.NOTHING
    named = [one.customer_profile.integration_id for one in answer.integration_states or ()]
    return _among(named, [one.integration_id for one in body.customer_profiles])


def _among(named: list[str], asked: list[str]) -> Said:
    """Each who is named was asked about, and is named once; anyone who is not named has to be looked for elsewhere."""
    if len(set(named)) < len(named) or not set(asked).issuperset(named):
        return Said.ANOTHER
    return Said.SUBJECT if named else Said.TOO_LITTLE


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


def _event_v3(answer: IntegrationStateV2, _: object, body: EventV3 | None, *__: object) -> Said:
    if body is None:
        return Said.NOTHING
    named = ((_of(answer.advanced_event, "integrationId"), body.integration_id),)
    also = [(_of(answer.advanced_event, "type"), body.type)]
    also += [(one, body.profile_id) for one in _customers(None, answer.customer_profile, answer.advanced_event)]
    return _compared(*named, also=also)


def _registered_event(answer: RegisteredEvent, value: str | None, *_: object) -> Said:
    return _compared((answer.integration_id, value))


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


def _is_of_another_program(answer: LoyaltyTransactions | LoyaltyCard | LoyaltyBalances, program: int) -> bool:
    """Whether a part of an answer names a loyalty program that it was not asked about."""
    if isinstance(answer, LoyaltyTransactions):
        return any(entry.program_id != program for entry in answer.data or ())
    return isinstance(answer, LoyaltyCard) and answer.program_id not in (None, program)


def _balances(*_: object) -> Said:
    """Balances do not say whose they are."""
    return Said.NOTHING


def _ledger(answer: LoyaltyTransactions, *_: object) -> Said:
    """Transactions do not say whose they are; a page that promises others and has none promises anything."""
    return Said.TOO_LITTLE if answer.has_more and not answer.data else Said.NOTHING


def _card_ledger(answer: LoyaltyTransactions, value: str | None, *_: object) -> Said:
    if answer.has_more and not answer.data:
        return Said.TOO_LITTLE
    return _compared(*((entry.card_identifier, value) for entry in answer.data or ()))


def _unlinked(answer: LoyaltyCard, value: str | None, *_: object) -> Said:
    """The card as it is afterwards names itself, in whatever case it was asked for."""
    return _compared((answer.identifier, value)) if answer.identifier else Said.TOO_LITTLE


def _achievements(answer: AvailableAchievements, *_: object) -> Said:
    """A list does not say whose progress is in it; a page of a list that is not empty is not empty either."""
    return Said.TOO_LITTLE if answer.total_result_size > 0 and not answer.data else Said.NOTHING


def _session(answer: CustomerSessionAnswer, value: str | None, *_: object) -> Said:
    named = answer.customer_session.get("integrationId")
    return _compared((named, value)) if named else Said.TOO_LITTLE


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
        "create_referrals": _referrals,
        "get_customer_inventory": _inventory,
        "get_loyalty_balances": _balances,
        "get_loyalty_transactions": _ledger,
        "get_card_transactions": _card_ledger,
        "unlink_loyalty_card": _unlinked,
        "get_customer_achievements": _achievements,
        "get_customer_session": _session,
        "track_event": _event_v1,
        "track_event_v2": _event_v2,
        "track_event_v3": _event_v3,
        "get_event_v3": _registered_event,
        "update_customer_profile": _profile_v1,
        "update_customer_profile_v2": _profile_v2,
        "update_customer_profiles": _profiles_v2,
        "update_customer_session": _session_v1,
        "update_customer_session_v2": _session_v2,
    }
)


T = TypeVar("T", bound=AnswerBody)


class Finding(StrEnum):
    """What is known of a request after it."""

    DONE = "done"
    ABSENT = "absent"  # the API says that what was named does not exist
    CREDENTIALS = "credentials"  # no request will be answered with these
    REFUSED = "refused"  # provably not done, may be repeated
    FINAL = "final"  # provably not done, repeating is useless
    NEVER_SENT = "never_sent"  # not one byte left, may be repeated
    UNKNOWN = "unknown"  # it may have been done


def may_send_again(operation: Operation, finding: Finding) -> bool:
    """Whether a request may be sent again after what is known of it, without looking first.

    What certainly was not done may; what may have been done only where the operation does no more the second time.
    """
    if finding is _UNKNOWN:
        return operation.retry is _SAFE
    return finding in {_REFUSED, _UNSENT}


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A finding, why, and the decoded answer where there is one. ``wait`` is what Retry-After says, in seconds.

    ``body`` is the answer of a success byte for byte, for those who must not lose what the types don't know.
    ``named``: the answer names whom or what it is about, and that is what was asked about. ``mark`` is its place on
    its connection.
    """

    finding: Finding
    reason: Reason | None
    status: int | None
    value: Any = None
    wait: float | None = None
    body: bytes = b""
    named: bool = False
    mark: Mark | None = None

    @property
    def is_in_step(self) -> bool:
        """Whether its connection vouches for it, so far as anything is known of the connection."""
        mark = self.mark
        return mark is None or mark.line.proven >= mark.number


def is_maybe_copied(answer: Answer) -> bool:
    """Whether a refusal for now, or of the credentials, may be what another request on its connection was answered.

    No refusal names its request. One that is final is judged where it settles something.
    """
    return answer.finding in _COPIED and not answer.is_in_step


class Asked(msgspec.Struct, frozen=True, gc=False):
    """What a request was about: the value in its path, its body, and the generation of the API that it was sent to."""

    value: str | None = None
    body: RequestBody | None = None
    generation: Generation = Generation.CURRENT


_NEVER_SENT = {
    (Phase.POOL, Trouble.TIMEOUT): Reason.POOL_TIMEOUT,
    (Phase.CONNECT, Trouble.REFUSED): Reason.CONNECT_REFUSED,
    (Phase.CONNECT, Trouble.TIMEOUT): Reason.CONNECT_TIMEOUT,
    (Phase.CONNECT, Trouble.BROKEN): Reason.CONNECT_FAILED,
    (Phase.TLS, Trouble.TIMEOUT): Reason.TLS_FAILED,
    (Phase.TLS, Trouble.BROKEN): Reason.TLS_FAILED,
}
#: Where it is known what was in the way, and not only that there is no connection.
_OBSTRUCTED = {
    Obstacle.NO_ADDRESS: Reason.NO_ADDRESS,
    **{obstacle: Reason.PROXY_FAILED for obstacle in Obstacle if obstacle.name.startswith("PROXY_")},
}
_SENT = {
    (Phase.WRITE, Trouble.TIMEOUT): Reason.WRITE_TIMEOUT,
    (Phase.WRITE, Trouble.BROKEN): Reason.WRITE_FAILED,
    (Phase.READ, Trouble.TIMEOUT): Reason.READ_TIMEOUT,
    (Phase.READ, Trouble.BROKEN): Reason.READ_FAILED,
    (Phase.BODY, Trouble.TIMEOUT): Reason.READ_TIMEOUT,
    (Phase.BODY, Trouble.BROKEN): Reason.TRUNCATED_ANSWER,
}


_FINDINGS = {
    Meaning.ABSENT: Finding.ABSENT,
    Meaning.CREDENTIALS: Finding.CREDENTIALS,
    Meaning.REPEAT: Finding.REFUSED,
    Meaning.FINAL: Finding.FINAL,
}
_REASONS: dict[int, Reason] = {
    HTTPStatus.BAD_REQUEST: Reason.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED: Reason.CREDENTIALS_REFUSED,
    HTTPStatus.FORBIDDEN: Reason.CREDENTIALS_REFUSED,
    HTTPStatus.NOT_FOUND: Reason.NOT_FOUND,
    HTTPStatus.CONFLICT: Reason.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS: Reason.RATE_LIMITED,
    HTTPStatus.SERVICE_UNAVAILABLE: Reason.UNAVAILABLE,
}
_REDIRECTIONS = range(300, 400)
_SERVER_ERRORS = range(500, 600)
# Members of enumerations that are needed for each request: asking the class takes Python 3.11 as long as ten calls.
_DONE, _UNSENT, _REFUSED, _UNKNOWN = Finding.DONE, Finding.NEVER_SENT, Finding.REFUSED, Finding.UNKNOWN
_CURRENT = Generation.CURRENT
_UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE
_NOT_LET_IN = Meaning.CREDENTIALS
_SAFE = RetrySafety.SAFE
_COPIED = frozenset({Finding.CREDENTIALS, Finding.REFUSED})
_ANOTHER, _SUBJECT, _TOO_LITTLE = Said.ANOTHER, Said.SUBJECT, Said.TOO_LITTLE
_NOTHING = Asked()
_SHORT = 512  # bytes of a refusal that is remembered

#: Names on which a reading rests. Where one appears twice in an object the answer can be read either way.
_OF_REFUSALS = (b'"message"', b'"StatusCode"', b'"errors"')
_OF_SUCCESSES: Mapping[type[Success], tuple[bytes, ...]] = {
    AvailableAchievements: (b'"data"', b'"totalResultSize"'),
    Coupon: (b'"value"',),
    CreatedReferrals: (b'"data"', b'"totalResultSize"', b'"code"', b'"advocateProfileIntegrationId"', b'"campaignId"'),
    CustomerInventory: (b'"profile"', b'"integrationId"', b'"coupons"', b'"referrals"', b'"loyalty"', b'"cards"'),
    CustomerProfileResponseV2: (b'"customerProfile"', b'"event"', b'"effects"'),
    CustomerSessionAnswer: (b'"customerSession"', b'"integrationId"', b'"profileId"'),
    IntegrationState: (b'"session"', b'"profile"', b'"event"'),
    IntegrationStateV2: (b'"customerSession"', b'"customerProfile"', b'"event"', b'"advancedEvent"', b'"effects"'),
    LoyaltyBalances: (b'"balance"',),
    LoyaltyCard: (b'"identifier"', b'"profiles"', b'"programID"'),
    LoyaltyTransactions: (b'"data"', b'"hasMore"', b'"transactionUUID"', b'"programId"', b'"cardIdentifier"'),
    Referral: (b'"advocateProfileIntegrationId"', b'"friendProfileIntegrationId"', b'"campaignId"'),
    RegisteredEvent: (b'"integrationId"', b'"type"', b'"profileId"', b'"attributes"'),
    ReservedCustomers: (b'"data"', b'"totalResultSize"', b'"integrationId"'),
    UpdatedProfiles: (b'"integrationStates"', b'"customerProfile"', b'"integrationId"'),
}


def read_exchange(operation: Operation, exchange: Exchange, now: datetime, asked: Asked | None = None) -> Answer:
    """Name what ``exchange`` means for a call of ``operation``; ``now`` (aware) is what Retry-After counts from.

    ``asked`` is what the answer has to be about; without it nothing is compared, and the answer is never ``named``.
    """
    if isinstance(exchange, Fault):
        return _read_fault(exchange)
    mark = exchange.mark
    if mark is not None and mark.line.foreign == mark.number:  # whatever it says, it was said to another request
        wait = parse_retry_after(exchange.retry_after, now)
        return Answer(_UNKNOWN, Reason.FOREIGN_ANSWER, exchange.status, wait=wait, mark=mark)
    if exchange.status == operation.success:
        return _read_success(operation, exchange, asked or _NOTHING)
    return _read_refusal(operation, exchange, now, asked or _NOTHING)


def _read_fault(fault: Fault) -> Answer:
    kind = (fault.phase, fault.trouble)
    if not fault.sent:
        known = None if fault.obstacle is None else _OBSTRUCTED.get(fault.obstacle)
        return Answer(Finding.NEVER_SENT, known or _NEVER_SENT.get(kind, Reason.NOT_WRITTEN), None)
    return Answer(Finding.UNKNOWN, _SENT.get(kind, Reason.FOREIGN_ANSWER), None)


def _read_success(operation: Operation, reply: Reply, asked: Asked) -> Answer:
    """A success is one in the form of the documents, about what was asked, that holds nothing of an error."""
    if operation.answer is None:
        if reply.body:
            return Answer(_UNKNOWN, Reason.FOREIGN_ANSWER, reply.status, mark=reply.mark)
        return Answer(_DONE, None, reply.status, mark=reply.mark)
    value = _decoded(reply.body, operation.answer)
    if value is None or value.tells_of_an_error or not _says_one_thing(reply.body, value, operation.answer):
        return Answer(_UNKNOWN, Reason.FOREIGN_ANSWER, reply.status, mark=reply.mark)
    said = told(operation, value, asked.value, asked.body, asked.generation)
    if said is _ANOTHER:
        return Answer(_UNKNOWN, Reason.ANSWER_ABOUT_ANOTHER, reply.status, mark=reply.mark)
    if said is _TOO_LITTLE:
        return Answer(_UNKNOWN, Reason.FOREIGN_ANSWER, reply.status, mark=reply.mark)
    named = said is _SUBJECT
    return Answer(_DONE, None, reply.status, value, body=reply.body, named=named, mark=reply.mark)


def _read_refusal(operation: Operation, reply: Reply, now: datetime, asked: Asked) -> Answer:
    """A refusal counts where the documents let the API refuse so, and the API says it in its own words.

    Anyone who asks to wait is heard all the same: ``wait`` is kept of every answer but credentials.
    """
    status = reply.status
    meaning = operation.statuses.get(status)
    is_silent = reply.retry_after is None or meaning is _NOT_LET_IN
    wait = None if is_silent else parse_retry_after(reply.retry_after, now)
    if meaning is not None and _is_own_refusal(reply, asked.generation):
        return Answer(_FINDINGS[meaning], _REASONS[status], status, wait=wait, mark=reply.mark)
    return Answer(_UNKNOWN, _unreliable(status), status, wait=wait, mark=reply.mark)


def _is_own_refusal(reply: Reply, generation: Generation) -> bool:
    """Whether the API itself says so.

    A 503 has to repeat its status in any generation: it is what gateways say when the API has worked and they lost
    the answer.
    """
    has_code = generation is _CURRENT or reply.status == _UNAVAILABLE
    return (_is_refusal if len(reply.body) <= _SHORT else _is_refusal.__wrapped__)(reply.body, reply.status, has_code)


@lru_cache(maxsize=64)  # most say the same few words again and again
def _is_refusal(body: bytes, status: int, has_code: bool) -> bool:
    error = _decoded(body, ErrorBody)
    if error is None or not is_in_api_words(error, status, has_code=has_code):
        return False
    if b"\\" in body:  # a name may be written with escapes
        return has_no_doubles(body, _OF_REFUSALS)
    return is_unambiguous(body, _OF_REFUSALS)


def is_in_api_words(error: ErrorBody, status: int, *, has_code: bool) -> bool:
    """Whether the API itself refuses with this status.

    It always says something (``message``). ``has_code``: it also repeats the status or, where it does not
    (ErrorResponse), lists titled errors. A code that is not the status, or errors that are no list, are others'.
    """
    if not isinstance(error.message, str) or not error.message.strip():
        return False
    if error.errors is not UNSET and error.errors is not None and not isinstance(error.errors, list):
        return False
    if error.status_code is not UNSET and error.status_code is not None:
        return type(error.status_code) is int and error.status_code == status
    return not has_code or (isinstance(error.errors, list) and bool(error.errors) and all(map(_titled, error.errors)))


def _titled(error: Any) -> bool:
    return isinstance(error, dict) and isinstance(error.get("title"), str)


def _says_one_thing(body: bytes, value: Success, kind: type[Success]) -> bool:
    """Whether a success can be read in one way only, as far as anything rests on it.

    That a person's data is gone rests on what is not there: an inventory that shows none may hold no name twice at all.
    """
    if isinstance(value, CustomerInventory) and not is_visible(value):
        return has_no_doubles(body)
    return is_unambiguous(body, _OF_SUCCESSES[kind])


def _unreliable(status: int) -> Reason:
    if status in _REDIRECTIONS:
        return Reason.REDIRECTED
    if status in _SERVER_ERRORS or status == HTTPStatus.REQUEST_TIMEOUT:
        return Reason.SERVER_ERROR
    return Reason.FOREIGN_ANSWER


_decoder: Callable[[type[AnswerBody]], msgspec.json.Decoder[Any]] = cache(msgspec.json.Decoder)


def _decoded(body: bytes, kind: type[T]) -> T | None:
    try:
        value: T = _decoder(kind).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value
