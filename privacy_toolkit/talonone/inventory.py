"""The inventory of a customer: its parts, and the predicate for an erased profile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from privacy_toolkit.core.model import HeldBefore
from privacy_toolkit.talonone.models import CustomerInventory

# What counts as gone: the predicate by which an erasure is proven, and what the API keeps after it.
#
# Which of the two a deployment answers after an erasure, 404 or an empty profile, is documented nowhere (API facts,
# deleteCustomerData): both are taken. A profile that was empty before looks the same emptied: it counts as gone only
# where nothing says that this deployment answers 404 for an erased one.

#: The name and version of the predicate, as reports give it.
GONE_PREDICATE = "gone/2"


class Holding(msgspec.Struct, frozen=True, gc=False):
    """What an inventory shows of a person: whether attributes are visible, and how many entries remain."""

    visible: bool
    coupons: int
    referrals: int

    @property
    def held(self) -> HeldBefore:
        """The same in the words of a report."""
        return HeldBefore.VISIBLE if self.visible else HeldBefore.NONE_VISIBLE


def holding(inventory: CustomerInventory) -> Holding:
    """What ``inventory`` shows."""
    return Holding(is_visible(inventory), len(inventory.coupons or ()), len(inventory.referrals or ()))


def is_visible(inventory: CustomerInventory) -> bool:
    """Tell whether the profile, or an entry that refers to it, shows an attribute.

    Plain loops: it is asked of thousands of answers a second, and nearly always the profile's own are there.
    """
    if inventory.profile.attributes:
        for value in inventory.profile.attributes.values():
            if value is not None:
                return True
    loyalty = inventory.loyalty
    cards, programs = (loyalty.cards, loyalty.programs) if loyalty else (None, None)
    for entries_ in (inventory.referrals, inventory.coupons, cards, programs and programs.values()):
        for entry in entries_ or ():
            for value in (entry.attributes or {}).values():
                if value is not None:
                    return True
    return False


# The field map: every field that a customer's inventory can hold, by what it is to the person it is about.
#
# It also says where other people's ids are replaced: in the fields of the category ``THIRD_PARTY``, by place, and
# nowhere else. What a person may have written (``FREE``) is given back as it is, since anyone who guesses ids there
# could otherwise read from their package which guesses are right.
#
# Both published documents (2020 and current) are drawn against it in a test, so that a new release of the API is
# noticed. The plain words for each field are in ``access/languages``, under the same two names: shape and field.


class Category(StrEnum):
    """What a field is to the person."""

    PERSONAL = "personal"
    THIRD_PARTY = "third_party"  # it holds the id of another person, or may hold it: replaced unless it is their own
    TECHNICAL = "technical"  # how the system is set up, and its internal numbers


class FieldKind(StrEnum):
    """What a field holds, so that it can be shown in plain words."""

    VALUE = "value"  # a text or a number, or a list of them
    MOMENT = "moment"
    FLAG = "flag"
    CHOICE = "choice"  # one of few codes, which have words of their own
    FREE = "free"  # names and values as the controller chose them
    OPEN = "open"  # one of many forms of the API: a field whose name says that it is somebody's id is replaced
    RECORD = "record"  # the fields of ``shape``
    LIST = "list"  # many records of ``shape``
    MAP = "map"  # records of ``shape`` by a name


class Field(msgspec.Struct, frozen=True):
    """One field; ``shape`` names what its records are made of."""

    category: Category
    kind: FieldKind = FieldKind.VALUE
    shape: str | None = None


ROOT: Final = "inventory"

_PERSONAL = Field(Category.PERSONAL)
_DATE = Field(Category.PERSONAL, FieldKind.MOMENT)
_CHOICE = Field(Category.PERSONAL, FieldKind.CHOICE)
_FREE = Field(Category.PERSONAL, FieldKind.FREE)
_OTHERS = Field(Category.THIRD_PARTY)
_TECHNICAL = Field(Category.TECHNICAL)
_SET_DATE = Field(Category.TECHNICAL, FieldKind.MOMENT)
_SET_FLAG = Field(Category.TECHNICAL, FieldKind.FLAG)
_SET_CHOICE = Field(Category.TECHNICAL, FieldKind.CHOICE)


def _record(shape: str) -> Field:
    return Field(Category.PERSONAL, FieldKind.RECORD, shape)


def _list(shape: str, category: Category = Category.PERSONAL) -> Field:
    return Field(category, FieldKind.LIST, shape)


def _map(shape: str) -> Field:
    return Field(Category.PERSONAL, FieldKind.MAP, shape)


SHAPES: Final[Mapping[str, Mapping[str, Field]]] = {
    ROOT: {
        "profile": _record("profile"),
        "coupons": _list("coupon"),
        "referrals": _list("referral"),
        "loyalty": _record("loyalty"),
        "giveaways": _list("giveaway"),
        "achievements": _list("achievement"),
        # Not of the inventory: what is read next to it, put together by us.
        "loyaltyLedgers": _list("programLedger"),
        "availableAchievements": _record("achievementList"),
        "loyaltyCardLedgers": _list("cardLedger"),
        "listedSessions": _record("sessionList"),
    },
    "cardLedger": {
        "cardIdentifier": _PERSONAL,
        "programId": _PERSONAL,
        "read": _CHOICE,  # ours
        "transactions": _list("transaction"),
    },
    "sessionList": {
        "read": _CHOICE,  # ours, as are the counts: of the sessions that the controller lists
        "listed": _PERSONAL,
        "refused": _PERSONAL,
        "withheld": _PERSONAL,
        "sessions": _list("sessionRead"),
    },
    "sessionRead": {"customerSession": _record("session"), "effects": _list("effect")},
    "session": {
        "integrationId": _PERSONAL,
        "created": _DATE,
        "updated": _DATE,
        "state": _CHOICE,
        "total": _PERSONAL,
        "cartItemTotal": _PERSONAL,
        "cartItemAdditionalCostTotal": _PERSONAL,
        "additionalCostTotal": _PERSONAL,
        "couponCodes": _PERSONAL,
        "referralCode": _PERSONAL,
        "loyaltyCards": _PERSONAL,
        "storeIntegrationId": _PERSONAL,
        "firstSession": Field(Category.PERSONAL, FieldKind.FLAG),
        "identifiers": _PERSONAL,
        "cartItems": _list("cartItem"),
        "additionalCosts": _map("cost"),
        "attributes": _FREE,
        "experimentVariantAllocations": _list("variant"),
        "profileId": _OTHERS,
        "evaluableCampaignIds": _TECHNICAL,
        "updateCount": _TECHNICAL,
        "applicationId": _TECHNICAL,
        "id": _TECHNICAL,
    },
    "cartItem": {
        "name": _PERSONAL,
        "sku": _PERSONAL,
        "quantity": _PERSONAL,
        "price": _PERSONAL,
        "returnedQuantity": _PERSONAL,
        "remainingQuantity": _PERSONAL,
        "category": _PERSONAL,
        "product": _record("product"),
        "additionalCosts": _map("cost"),
        "attributes": _FREE,
        "prices": Field(Category.TECHNICAL, FieldKind.MAP, "price"),
        "selectedPriceType": _PERSONAL,
        "adjustmentEffectiveFrom": _SET_DATE,
        "adjustmentEffectiveUntil": _SET_DATE,
        "adjustmentReferenceId": _TECHNICAL,
        **dict.fromkeys(("weight", "height", "width", "length", "position", "catalogItemID"), _TECHNICAL),
    },
    "product": {"name": _PERSONAL},
    "cost": {"price": _PERSONAL},
    "price": {
        "price": _TECHNICAL,
        "adjustmentContextId": _TECHNICAL,
        "adjustmentReferenceId": _TECHNICAL,
        "adjustmentEffectiveFrom": _SET_DATE,
        "adjustmentEffectiveUntil": _SET_DATE,
    },
    "variant": {"experimentID": _PERSONAL, "variantID": _PERSONAL},
    "effect": {
        "effectType": _PERSONAL,
        "props": Field(Category.PERSONAL, FieldKind.OPEN),
        "selectedPriceType": _PERSONAL,
        "selectedPrice": _PERSONAL,
        **dict.fromkeys(
            (
                *("campaignId", "rulesetId", "ruleIndex", "ruleName", "conditionIndex", "triggeredByCoupon"),
                *("triggeredForCatalogItem", "evaluationGroupID", "evaluationGroupMode", "experimentId"),
                *("campaignRevisionId", "campaignRevisionVersionId", "adjustmentReferenceId"),
            ),
            _TECHNICAL,
        ),
    },
    "achievementList": {
        "read": _CHOICE,  # ours: whether all of it was given out
        "achievements": _list("available"),
    },
    "available": {
        "title": _PERSONAL,
        "description": _PERSONAL,
        "currentProgress": _record("reached"),
        "target": _PERSONAL,
        "status": _SET_CHOICE,
        "period": _TECHNICAL,
        "periodEndOverride": Field(Category.TECHNICAL, FieldKind.RECORD, "timePoint"),
        "recurrencePolicy": _SET_CHOICE,
        "activationPolicy": _SET_CHOICE,
        "fixedStartDate": _SET_DATE,
        "endDate": _SET_DATE,
        "allowRollbackAfterCompletion": _SET_FLAG,
        "created": _SET_DATE,
        "name": _TECHNICAL,
        "id": _TECHNICAL,
        "campaignId": _TECHNICAL,
    },
    "reached": {
        "status": _CHOICE,
        "progress": _PERSONAL,
        "startDate": _DATE,
        "completionDate": _DATE,
        "endDate": _DATE,
    },
    "timePoint": dict.fromkeys(("month", "dayOfMonth", "dayOfWeek", "hour", "minute", "second"), _TECHNICAL),
    "programLedger": {
        "programId": _PERSONAL,
        "read": _CHOICE,  # ours: whether all of it was given out
        "balances": _record("balances"),
        "transactions": _list("transaction"),
    },
    "balances": {"balance": _record("balance"), "subledgerBalances": _map("balance")},
    "balance": {
        "activePoints": _PERSONAL,
        "pendingPoints": _PERSONAL,
        "negativePoints": _PERSONAL,
        "expiredPoints": _PERSONAL,
        "spentPoints": _PERSONAL,
        "currentTier": _record("tier"),
        "pointsToNextTier": _PERSONAL,
        "nextTierName": _PERSONAL,
        "projectedTier": _record("projection"),
    },
    "projection": {
        "projectedTierName": _PERSONAL,
        "projectedActivePoints": _PERSONAL,
        "stayInTierPoints": _PERSONAL,
    },
    "transaction": {
        "created": _DATE,
        "type": _CHOICE,
        "amount": _PERSONAL,
        "name": _PERSONAL,
        "startDate": _CHOICE,  # a word such as "immediate", or a time
        "expiryDate": _CHOICE,
        "validityDuration": _PERSONAL,
        "subledgerId": _PERSONAL,
        "cardIdentifier": _PERSONAL,
        "customerSessionId": _PERSONAL,
        "storeIntegrationId": _PERSONAL,
        "flags": _record("flags"),
        "ruleName": _TECHNICAL,
        "rulesetId": _TECHNICAL,
        "programId": _TECHNICAL,
        "transactionUUID": _TECHNICAL,
        "id": _TECHNICAL,
    },
    "flags": {"createsNegativeBalance": _SET_FLAG},
    "profile": {
        "integrationId": _PERSONAL,
        "created": _DATE,
        "lastActivity": _DATE,
        "closedSessions": _PERSONAL,
        "totalSales": _PERSONAL,
        "attributes": _FREE,
        "audienceMemberships": _list("audience"),
        "loyaltyMemberships": _list("membership"),
        "id": _PERSONAL,
        "accountId": _TECHNICAL,
        "sandbox": _SET_FLAG,
    },
    "audience": {"name": _PERSONAL, "id": _TECHNICAL},
    "membership": {"loyaltyProgramId": _PERSONAL, "joined": _DATE},
    "coupon": {
        "value": _PERSONAL,
        "state": _CHOICE,
        "created": _DATE,
        "startDate": _DATE,
        "expiryDate": _DATE,
        "usageCounter": _PERSONAL,
        "profileRedemptionCount": _PERSONAL,
        "discountLimit": _PERSONAL,
        "discountCounter": _PERSONAL,
        "discountRemainder": _PERSONAL,
        "recipientIntegrationId": _OTHERS,
        "referralId": _OTHERS,
        "attributes": _FREE,
        "limits": _list("limit", Category.TECHNICAL),
        "usageLimit": _TECHNICAL,
        "reservationLimit": _TECHNICAL,
        "reservationCounter": _TECHNICAL,
        "reservation": _SET_FLAG,
        "isReservationMandatory": _SET_FLAG,
        "implicitlyReserved": _SET_FLAG,
        "id": _TECHNICAL,
        "campaignId": _TECHNICAL,
        "importId": _TECHNICAL,
        "batchId": _TECHNICAL,
    },
    "limit": {"action": _TECHNICAL, "limit": _TECHNICAL, "period": _SET_CHOICE, "entities": _TECHNICAL},
    "referral": {
        "code": _PERSONAL,
        "advocateProfileIntegrationId": _OTHERS,
        "friendProfileIntegrationId": _OTHERS,
        "referredCustomers": _OTHERS,
        "created": _DATE,
        "startDate": _DATE,
        "expiryDate": _DATE,
        "usageCounter": _PERSONAL,
        "attributes": _FREE,
        "usageLimit": _TECHNICAL,
        "id": _TECHNICAL,
        "campaignId": _TECHNICAL,
        "importId": _TECHNICAL,
        "batchId": _TECHNICAL,
    },
    "loyalty": {"programs": _map("program"), "cards": _list("card")},
    "program": {
        "title": _PERSONAL,
        "joinDate": _DATE,
        "ledger": _record("ledger"),
        "subLedgers": _map("ledger"),
        "attributes": _FREE,  # in no document; it would be personal data
        "name": _TECHNICAL,
        "id": _TECHNICAL,
    },
    "card": {
        "identifier": _PERSONAL,
        "programTitle": _PERSONAL,
        "status": _CHOICE,
        "blockReason": _PERSONAL,
        "created": _DATE,
        "modified": _DATE,
        "oldCardIdentifier": _PERSONAL,
        "newCardIdentifier": _PERSONAL,
        "profiles": _list("holder"),
        "ledger": _record("ledger"),
        "subledgers": _map("ledger"),
        "attributes": _FREE,  # as for a program
        "usersPerCardLimit": _TECHNICAL,
        "programName": _TECHNICAL,
        "programID": _TECHNICAL,
        "id": _TECHNICAL,
        "batchId": _TECHNICAL,
    },
    "holder": {"integrationId": _OTHERS, "timestamp": _DATE},
    "ledger": {
        "currentBalance": _PERSONAL,
        "pendingBalance": _PERSONAL,
        "negativeBalance": _PERSONAL,
        "expiredBalance": _PERSONAL,
        "spentBalance": _PERSONAL,
        "tentativeCurrentBalance": _PERSONAL,
        "tentativePendingBalance": _PERSONAL,
        "tentativeNegativeBalance": _PERSONAL,
        "currentTier": _record("tier"),
        "pointsToNextTier": _PERSONAL,
        "nextTierName": _PERSONAL,
    },
    "tier": {
        "name": _PERSONAL,
        "startDate": _DATE,
        "expiryDate": _DATE,
        "downgradePolicy": _SET_CHOICE,
        "id": _TECHNICAL,
    },
    "giveaway": {
        "code": _PERSONAL,
        "created": _DATE,
        "startDate": _DATE,
        "endDate": _DATE,
        "used": Field(Category.PERSONAL, FieldKind.FLAG),
        "profileIntegrationId": _OTHERS,
        "profileId": _OTHERS,
        "attributes": _FREE,
        "poolId": _TECHNICAL,
        "id": _TECHNICAL,
        "importId": _TECHNICAL,
    },
    "achievement": {
        "title": _PERSONAL,
        "description": _PERSONAL,
        "status": _CHOICE,
        "progress": _PERSONAL,
        "target": _PERSONAL,
        "startDate": _DATE,
        "completionDate": _DATE,
        "endDate": _DATE,
        "achievementFixedStartDate": _SET_DATE,
        "achievementEndDate": _SET_DATE,
        "achievementRecurrencePolicy": _SET_CHOICE,
        "achievementActivationPolicy": _SET_CHOICE,
        "achievementAllowRollbackAfterCompletion": _SET_FLAG,
        "name": _TECHNICAL,
        "achievementId": _TECHNICAL,
        "campaignId": _TECHNICAL,
    },
}

#: A step of a path: a name, and whether it stands for each of a list (``[]``) or of a map (``{}``).
_STEP = re.compile(r"([^.\[\]{}]+)(\[\]|\{\})?")


def place(path: str) -> tuple[str, str] | None:
    """Shape and name of the field at a path such as ``loyalty.programs{}.ledger``; None if it is not classified."""
    shape: str | None = ROOT
    found = None
    for name, _ in _STEP.findall(path):
        field = SHAPES[shape].get(name) if shape else None
        if shape is None or field is None:
            return None
        found, shape = (shape, name), field.shape
    return found


COMPLETE: Final = "complete"
NOT_HELD: Final = "not_held"
NOT_OBTAINABLE: Final = "not_obtainable"
#: Some of what was asked for was not given out, or was too much: it is never said that there is no more.
INCOMPLETE: Final = "incomplete"

LEDGERS: Final = "loyaltyLedgers"
AVAILABLE: Final = "availableAchievements"
CARD_LEDGERS: Final = "loyaltyCardLedgers"
SESSIONS: Final = "listedSessions"
#: Read next to the inventory, and a section only where they were asked for.
BESIDES: Final = (LEDGERS, AVAILABLE, CARD_LEDGERS, SESSIONS)
SECTIONS: Final = tuple(name for name in SHAPES[ROOT] if name not in BESIDES)
#: What deployments of 2020 don't give out.
_NEWER: Final = frozenset({"loyalty", "giveaways", "achievements"})


def sections_of(answer: Mapping[str, Any] | None, generation: str) -> dict[str, str]:
    """How each section stands by an answer; None is a 404, which says that nothing is held.

    What is read next to the inventory is a section where it was asked for.
    """
    held = answer or {}
    found = {name: _state(name, held, generation) for name in SECTIONS}
    return found | {name: _read(name, held, generation) for name in BESIDES if name in held}


def _read(name: str, held: Mapping[str, Any], generation: str) -> str:
    """How a section stands that we put together: each part of it says how it was read.

    Where nothing was there to be asked about, or the list came empty, nothing is held; of cards only as far as the
    inventory says that there are none.
    """
    value = held[name]
    parts = value if isinstance(value, list) else [value]
    if not parts:
        return NOT_OBTAINABLE if _state("loyalty", held, generation) == NOT_OBTAINABLE else NOT_HELD
    if name == AVAILABLE and value["read"] == COMPLETE and not value["achievements"]:
        return NOT_HELD
    return COMPLETE if all(part["read"] == COMPLETE for part in parts) else INCOMPLETE


class LedgerRead(NamedTuple):
    """The ledger of a customer in one loyalty program, as it was read.

    ``read`` is ``complete``, ``refused`` (the API knows no such program, or not this customer in it) or ``cut_off``
    (there is more than was read). ``balances`` and ``pages`` are bodies of answers, byte for byte.
    """

    program: int
    read: str
    balances: bytes | None = None
    pages: tuple[bytes, ...] = ()


class ListRead(NamedTuple):
    """A list of the customer's as it was read; ``read`` and ``pages`` as in ``LedgerRead``."""

    read: str
    pages: tuple[bytes, ...] = ()


class CardRead(NamedTuple):
    """The transactions of one loyalty card as they were read; ``read`` and ``pages`` as in ``LedgerRead``.

    ``read`` is ``shared`` where the card is not known to be the customer's alone: then nothing was asked. ``since``:
    when the card was linked to the customer, RFC 3339; what is older may be about the one who had it before.
    """

    card: str
    program: int
    read: str
    since: str = ""
    pages: tuple[bytes, ...] = ()


class SessionRead(NamedTuple):
    """A session that the controller lists for a customer, as it was read.

    ``read`` is ``complete`` (the session names this customer), ``of_another`` or ``of_nobody`` (it names somebody else,
    or no customer: then nothing of it is kept), or ``refused`` (the API gives no session out by this id). ``body`` is
    the answer, byte for byte.
    """

    session: str
    read: str
    body: bytes = b""


class Besides(NamedTuple):
    """What was read next to the inventory; None where it was not asked for."""

    ledgers: tuple[LedgerRead, ...] | None = None
    achievements: ListRead | None = None
    cards: tuple[CardRead, ...] | None = None
    sessions: tuple[SessionRead, ...] | None = None


def entries(name: str, value: Any) -> int:
    """How many records a section holds; 0 for one that is a single record."""
    if isinstance(value, list):
        return len(value)
    if name in {"loyalty", AVAILABLE, SESSIONS} and isinstance(value, dict):
        return sum(len(part) for part in value.values() if isinstance(part, list | dict))
    return 0


def _state(name: str, answer: Mapping[str, Any], generation: str) -> str:
    if _holds(answer.get(name)):
        return COMPLETE
    return NOT_OBTAINABLE if generation == "2020" and name in _NEWER and name not in answer else NOT_HELD


def _holds(value: Any) -> bool:
    """Whether anything is in it: records that are all empty hold nothing."""
    if isinstance(value, dict):
        return any(map(_holds, value.values()))
    if isinstance(value, list):
        return bool(value)
    return value is not None
