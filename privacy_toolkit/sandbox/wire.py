"""Entities and refusals in the form in which the API sends them, and the fictitious customers of the sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec

from privacy_toolkit.sandbox.store import EntityKind, Environment, JsonObject, Store, card_owner, timestamp

# The entities in the form in which the API sends them: every field that the vendor's documents and SDK require.

ACCOUNT_ID = 1
CAMPAIGN_ID = 1


def profile(
    number: int,
    customer: str,
    now: str,
    attributes: JsonObject | None = None,
    environment: Environment | None = None,
) -> JsonObject:
    """A CustomerProfile; ``loyaltyMemberships`` is null, as the current document says it always is.

    ``sandbox`` is optional in the document, and there only where an ``environment`` is played.
    """
    fields: JsonObject = {
        "id": number,
        "created": now,
        "integrationId": customer,
        "attributes": attributes or {},
        "accountId": ACCOUNT_ID,
        "closedSessions": 0,
        "totalSales": 0,
        "loyaltyMemberships": None,
        "audienceMemberships": [],
        "lastActivity": now,
    }
    return fields if environment is None else fields | {"sandbox": environment == "sandbox"}


def coupon(number: int, value: str, now: str, recipient: str | None = None) -> JsonObject:
    """A Coupon: personal where it has a recipient, else one that many customers may reserve."""
    fields: JsonObject = {
        "id": number,
        "created": now,
        "campaignId": CAMPAIGN_ID,
        "value": value,
        "usageLimit": 1,
        "discountLimit": 0,
        "reservationLimit": 1,
        "usageCounter": 0,
        "discountCounter": 0,
        "discountRemainder": 0,
        "reservationCounter": 0,
        "attributes": {},
        "reservation": recipient is None,
        "batchId": "sandbox",
        "isReservationMandatory": False,
        "implicitlyReserved": False,
    }
    return fields if recipient is None else fields | {"recipientIntegrationId": recipient}


def inventory_coupon(held: JsonObject, now: str, redemptions: int = 0) -> JsonObject:
    """An InventoryCoupon at a time, which its customer redeemed so often. Times are of one form, so texts compare."""
    state = "active"
    if held.get("startDate", now) > now:
        state = "pending"
    if held["usageLimit"] and held["usageCounter"] >= held["usageLimit"]:
        state = "used"
    if held.get("expiryDate", "9") <= now:
        state = "expired"
    return held | {"state": state, "profileRedemptionCount": redemptions}


def referral(number: int, now: str, body: JsonObject) -> JsonObject:
    """A Referral made from a NewReferral; its code is new and at least 4 characters long."""
    wanted = ("advocateProfileIntegrationId", "friendProfileIntegrationId", "startDate", "expiryDate", "campaignId")
    return {name: body[name] for name in wanted if body.get(name) is not None} | {
        "id": number,
        "created": now,
        "code": f"REF-{number:08d}",
        "usageCounter": 0,
        "usageLimit": body.get("usageLimit") or 0,
        "attributes": body.get("attributes") or {},
        "batchId": "sandbox",
    }


def inventory_referral(made: JsonObject) -> JsonObject:
    """An InventoryReferral: who was referred is another person's id."""
    friend = made.get("friendProfileIntegrationId")
    return made | {"referredCustomers": [friend] if friend else []}


def balance(points: int) -> JsonObject:
    """A LedgerInfo."""
    return {
        "currentBalance": points,
        "pendingBalance": 0,
        "negativeBalance": 0,
        "expiredBalance": 0,
        "spentBalance": 0,
        "tentativeCurrentBalance": points,
        "tentativePendingBalance": 0,
        "tentativeNegativeBalance": 0,
    }


def ledger(program: int, joined: str, points: int) -> JsonObject:
    """The LoyaltyProgramLedgers of one customer in one program."""
    return {
        "id": program,
        "title": f"Sandbox program {program}",
        "name": f"sandbox_program_{program}",
        "joinDate": joined,
        "ledger": balance(points),
        "subLedgers": {},
    }


def card(number: int, now: str, customer: str, points: int) -> JsonObject:
    """A LoyaltyCard with one holder."""
    return {
        "id": number,
        "created": now,
        "programID": 1,
        "programName": "sandbox_program_1",
        "programTitle": "Sandbox program 1",
        "status": "active",
        "identifier": f"CARD-{number:08d}",
        "usersPerCardLimit": 1,
        "profiles": [{"integrationId": customer, "timestamp": now}],
        "ledger": balance(points),
        "subledgers": {},
    }


def loyalty(ledgers: list[JsonObject], cards: list[JsonObject]) -> JsonObject:
    """The Loyalty of a customer: ledgers by the id of their program, and cards."""
    return {"cards": cards, "programs": {str(held["id"]): held for held in ledgers}}


def transaction(number: int, program: int, now: str, points: int, card_identifier: str | None = None) -> JsonObject:
    """A transaction of a loyalty ledger; of a card's where it has one. Its UUID follows from its number."""
    fields: JsonObject = {
        "transactionUUID": str(UUID(int=number)),
        "created": now,
        "programId": program,
        "customerSessionId": f"session-{number}",
        "type": "addition" if points >= 0 else "subtraction",
        "name": "Points for an order",
        "startDate": "immediate",
        "expiryDate": "unlimited",
        "subledgerId": "",
        "amount": abs(points),
        "id": number,
    }
    return fields if card_identifier is None else fields | {"cardIdentifier": card_identifier}


def balances(points: float) -> JsonObject:
    """The LoyaltyBalancesWithTiers of a customer without tiers and subledgers."""
    ledger = {"activePoints": points, "pendingPoints": 0, "spentPoints": 0, "expiredPoints": 0, "negativePoints": 0}
    return {"balance": ledger, "subledgerBalances": {}}


def available_achievement(held: JsonObject, now: str) -> JsonObject:
    """An AchievementStatusEntry made from the achievement in an inventory."""
    progress = {name: held[name] for name in ("status", "progress", "startDate") if name in held}
    return {
        "id": held["achievementId"],
        "created": now,
        "name": held["name"],
        "title": held["title"],
        "description": held["description"],
        "target": held["target"],
        "recurrencePolicy": held["achievementRecurrencePolicy"],
        "activationPolicy": held["achievementActivationPolicy"],
        "allowRollbackAfterCompletion": held["achievementAllowRollbackAfterCompletion"],
        "campaignId": held["campaignId"],
        "status": "active",
        "currentProgress": progress,
    }


def giveaway(number: int, now: str, customer: str, attributes: JsonObject) -> JsonObject:
    """A Giveaway that a customer got."""
    return {
        "id": number,
        "created": now,
        "code": f"GIVE-{number:08d}",
        "poolId": 1,
        "attributes": attributes,
        "used": True,
        "profileIntegrationId": customer,
    }


def achievement(number: int, progress: int) -> JsonObject:
    """An AchievementProgressWithDefinition."""
    return {
        "achievementId": number,
        "name": f"sandbox_achievement_{number}",
        "title": f"Sandbox achievement {number}",
        "description": "Ten orders",
        "campaignId": CAMPAIGN_ID,
        "status": "inprogress",
        "progress": progress,
        "target": 10,
        "achievementRecurrencePolicy": "no_recurrence",
        "achievementActivationPolicy": "user_action",
        "achievementAllowRollbackAfterCompletion": False,
    }


def session(number: int, key: str, now: str, application: int) -> JsonObject:
    """A session as it is kept: the CustomerSessionV2 without its totals, open, anonymous and empty."""
    return {
        "id": number,
        "created": now,
        "integrationId": key,
        "applicationId": application,
        "profileId": "",
        "state": "open",
        "cartItems": [],
        "identifiers": [],
        "couponCodes": [],
        "referralCode": "",
        "additionalCosts": {},
        "attributes": {},
        "firstSession": True,
        "updateCount": 0,
        "updated": now,
    }


def session_totals(kept: JsonObject) -> dict[str, float]:
    """The totals of a session before discounts, of which the sandbox gives none."""
    items = sum(item.get("price", 0) * item["quantity"] for item in kept["cartItems"])
    item_costs = sum(
        cost["price"] * item["quantity"]
        for item in kept["cartItems"]
        for cost in (item.get("additionalCosts") or {}).values()
    )
    session_costs = sum(cost["price"] for cost in kept["additionalCosts"].values())
    return {
        "cartItemTotal": items,
        "cartItemAdditionalCostTotal": item_costs,
        "additionalCostTotal": item_costs + session_costs,
        "total": items + item_costs + session_costs,
    }


def check_amounts(kept: JsonObject) -> None:
    """Raise RefusalError (400) for a session with more items than the API takes, or amounts that can't be added up."""
    if sum(item["quantity"] for item in kept["cartItems"]) > _MOST_ITEMS:
        raise invalid("Invalid", f"Expected at most {_MOST_ITEMS} items in all", "/cartItems")
    if any(abs(total) > _LARGEST_AMOUNT for total in session_totals(kept).values()):
        raise invalid("Invalid", "The amounts come to more than there can be", "/cartItems")


#: By the current document, over all items of a session.
_MOST_ITEMS = 10_000
#: What the current document says of a coupon's discount, so that sums of them stay numbers.
_LARGEST_AMOUNT = 1e15


def session_v2(kept: JsonObject) -> JsonObject:
    """A CustomerSessionV2, without ``coupon`` and ``referral``: the document requires them and defines neither."""
    return kept | session_totals(kept)


def session_v1(kept: JsonObject) -> JsonObject:
    """A CustomerSession: one coupon and one referral, and cart items that have a name and a price."""
    codes = kept["couponCodes"]
    items = [{"name": item["sku"], "price": 0} | item for item in kept["cartItems"]]
    names = ("integrationId", "created", "applicationId", "profileId", "state", "identifiers", "attributes")
    return {name: kept[name] for name in names} | {
        "cartItems": items,
        "coupon": codes[0] if codes else "",
        "referral": kept["referralCode"],
        "firstSession": kept["firstSession"],
        "total": session_totals(kept)["total"],
        "discounts": {},
        "updated": kept["updated"],
    }


def event(number: int, now: str, application: int, kind: str, customer: str) -> JsonObject:
    """An Event without attributes and effects."""
    return {
        "id": number,
        "created": now,
        "applicationId": application,
        "profileId": customer,
        "type": kind,
        "attributes": {},
        "effects": [],
        "ledgerEntries": [],
        "meta": {},
    }


INVALID = "The submitted data was invalid"


class RefusalError(Exception):
    """A request is refused with ``status`` and a body of the API's error type; nothing is changed."""

    def __init__(self, status: int, message: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body: dict[str, Any] = {"message": message}
        if errors is not None:
            self.body["errors"] = errors
        self.body["StatusCode"] = status


def invalid(title: str, details: str, pointer: str) -> RefusalError:
    """400: one property of the body, named by its JSON pointer (RFC 6901), does not fit."""
    return RefusalError(400, INVALID, [{"title": title, "details": details, "source": {"pointer": pointer}}])


def not_found(what: str) -> RefusalError:
    """404: the thing that the path or body names does not exist."""
    return RefusalError(404, f"{what} not found")


def is_count(text: str) -> bool:
    """Whether a text is a number of 1 to 18 decimal digits: one that any database takes."""
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_COUNT


_LONGEST_COUNT = 18


def misfit(error: Exception) -> RefusalError:
    """400 for a body that is not JSON or not of the declared type."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return invalid("Malformed", "The body is not valid JSON", "")
    details, _, path = text.partition(" - at `")
    return invalid("Invalid", details, pointer_of(path.removesuffix("`")))


def pointer_of(path: str) -> str:
    """The JSON pointer of a msgspec path: ``$.cartItems[0].sku`` is ``/cartItems/0/sku``.

    Of a map's entry, which the path does not name (``[...]``), it is that of the map.
    """
    path = path.partition("[...]")[0]
    return path.removeprefix("$").replace("[", ".").replace("]", "").replace(".", "/")


#: Names of trees and of weather: nobody's.
GIVEN_NAMES = (
    "Alder",
    "Aspen",
    "Birch",
    "Cedar",
    "Elm",
    "Hazel",
    "Juniper",
    "Linden",
    "Maple",
    "Rowan",
    "Willow",
    "Yew",
)
FAMILY_NAMES = ("Breeze", "Cloud", "Drizzle", "Frost", "Gale", "Hail", "Mist", "Rainbow", "Sleet", "Squall", "Thaw")
CITIES = ("Exampleton", "Fictionville", "Nowhere-on-Sea", "Placeholder Falls", "Sampleford")
LANGUAGES = ("de", "en", "es", "fr")
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
#: The coupons that are seeded for reservations.
COUPON_CODES = tuple(f"SANDBOX-{number:04d}" for number in range(1, 101))
BATCH = 1000
#: The customer who has some of the codes for campaigns reserved already.
OTHER_HOLDER = "customer-of-another-system"
#: What tells a code for campaigns from the others, by its place among twenty.
_KINDS_OF_CODES: dict[int, JsonObject] = {
    4: {"expiryDate": "2024-02-01T00:00:00Z"},
    9: {"usageLimit": 1, "usageCounter": 1},
    14: {"startDate": "2998-01-01T00:00:00Z"},
}
_HELD_BY_OTHERS = frozenset({17, 18})


class Dice:
    """Draws named numbers from a seed and an id: the same for the same three, whatever is drawn besides."""

    def __init__(self, rng_seed: int, customer: str) -> None:
        self._key = f"{rng_seed}\0{customer}\0".encode()

    def below(self, name: str, bound: int) -> int:
        """A number from 0 to ``bound`` - 1."""
        digest = blake2b(self._key + name.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % bound

    def choice(self, name: str, options: Sequence[str]) -> str:
        """One of the options."""
        return options[self.below(name, len(options))]

    def percent(self, name: str, share: int) -> bool:
        """True for about ``share`` of 100 customers."""
        return self.below(name, 100) < share


def customer_ids() -> Iterator[str]:
    """``customer-00001``, ``customer-00002`` and so on."""
    number = 0
    while True:
        number += 1
        yield f"customer-{number:05d}"


def seed(store: Store, count: int, *, rng_seed: int = 0, ids: Iterable[str] | None = None) -> list[str]:
    """Make ``count`` customers, and coupons to reserve; returns the ids.

    About 5 in 100 profiles have no attributes, 40 a referral, 50 a personal coupon, 30 a loyalty ledger, 10 a card,
    15 a giveaway, 15 an achievement, 20 a reservation.
    """
    taken = iter(customer_ids() if ids is None else ids)
    made: list[str] = []
    with store.transaction():
        for code in COUPON_CODES:
            if store.raw(EntityKind.COUPON, code) is None:
                store.put(EntityKind.COUPON, code, coupon(store.number(), code, timestamp(EPOCH)))
    while batch := list(islice(taken, min(BATCH, count - len(made)))):
        with store.transaction():
            for customer in batch:
                _make(store, customer, Dice(rng_seed, customer))
        made += batch
    return made


def seed_codes(store: Store, count: int) -> list[str]:
    """Make coupons for campaigns, ``CODE-00001`` and so on, that many customers may redeem, where they are not there.

    Of twenty one after the other one is expired, one is used up, one begins late, two have been reserved by a customer
    of another system, and every second may be redeemed by its holders alone. The others hold until the year 2999.
    """
    codes = [f"CODE-{number:05d}" for number in range(1, count + 1)]
    new = [(number, code) for number, code in enumerate(codes) if store.raw(EntityKind.COUPON, code) is None]
    if new and store.raw(EntityKind.PROFILE, OTHER_HOLDER) is None:
        made = profile(store.number(), OTHER_HOLDER, timestamp(EPOCH), {}, store.environment)
        store.put(EntityKind.PROFILE, OTHER_HOLDER, made)
    with store.transaction():
        for number, code in new:
            made = coupon(store.number(), code, timestamp(EPOCH))
            made |= {"usageLimit": 0, "isReservationMandatory": number % 2 == 1, "expiryDate": "2999-01-01T00:00:00Z"}
            store.put(EntityKind.COUPON, code, made | _KINDS_OF_CODES.get(number % 20, {}))
    for number, code in new:
        if number % 20 in _HELD_BY_OTHERS:
            store.reserve(code, [OTHER_HOLDER])
    return codes


def _make(store: Store, customer: str, dice: Dice) -> None:
    now = timestamp(EPOCH + timedelta(seconds=dice.below("created", 365 * 86_400)))
    attributes = {} if dice.percent("empty", 5) else _attributes(dice)
    made = profile(store.number(), customer, now, attributes, store.environment)
    store.put(EntityKind.PROFILE, customer, made | {"closedSessions": dice.below("sessions", 20)})
    if dice.percent("referral", 40):
        _make_referral(store, customer, now, dice)
    if dice.percent("coupon", 50):
        _make_coupon(store, customer, now, dice)
    if dice.percent("reservation", 20):
        store.reserve(dice.choice("reserved", COUPON_CODES), [customer])
    _make_loyalty(store, customer, now, dice)
    _make_rewards(store, customer, now, dice)


def _attributes(dice: Dice) -> JsonObject:
    given, family = dice.choice("given", GIVEN_NAMES), dice.choice("family", FAMILY_NAMES)
    attributes: JsonObject = {
        "Name": f"{given} {family}",
        "Email": f"{given}.{family}.{dice.below('mail', 10_000)}@example.org".lower(),
        "Language": dice.choice("language", LANGUAGES),
    }
    if dice.percent("has city", 70):
        attributes["ShippingCity"] = dice.choice("city", CITIES)
    if dice.percent("has phone", 50):
        attributes["Phone"] = f"+1 202 555 01{dice.below('phone', 100):02d}"
    if dice.percent("has birthday", 40):
        attributes["BirthDate"] = (EPOCH - timedelta(days=7000 + dice.below("birthday", 20_000))).date().isoformat()
    return attributes


def _make_referral(store: Store, customer: str, now: str, dice: Dice) -> None:
    body: JsonObject = {"campaignId": CAMPAIGN_ID, "advocateProfileIntegrationId": customer}
    friend = f"friend-of-{dice.below('friend', 100_000):05d}" if dice.percent("has friend", 60) else None
    body |= {"friendProfileIntegrationId": friend, "attributes": {"Channel": dice.choice("channel", ("mail", "web"))}}
    made = referral(store.number(), now, body)
    store.put(EntityKind.REFERRAL, made["code"], made, owner=customer, friend=friend)


def _make_coupon(store: Store, customer: str, now: str, dice: Dice) -> None:
    number = store.number()
    made = coupon(number, f"PERSONAL-{number:08d}", now, recipient=customer)
    made["attributes"] = {"Greeting": f"For {dice.choice('given', GIVEN_NAMES)}"}
    store.put(EntityKind.COUPON, made["value"], made, owner=customer)


def _make_loyalty(store: Store, customer: str, now: str, dice: Dice) -> None:
    if dice.percent("ledger", 30):
        points = dice.below("points", 5000)
        store.put(EntityKind.LEDGER, f"1 {customer}", ledger(1, now, points), owner=customer)
        _make_transactions(store, customer, now, points, dice)
    if dice.percent("card", 10):
        made = card(store.number(), now, customer, dice.below("card points", 500))
        store.put(EntityKind.CARD, made["identifier"], made, owner=customer)
        _make_transactions(store, card_owner(made["identifier"]), now, made["ledger"]["currentBalance"], dice)


def _make_transactions(store: Store, owner: str, now: str, points: int, dice: Dice) -> None:
    """Make one to three transactions that come to so many points; a card's name it."""
    _, is_card, card = owner.partition(card_owner(""))
    parts = 1 + dice.below(f"transactions {bool(is_card)}", 3)
    for part in range(parts):
        share = points // parts + (points % parts if part == 0 else 0)
        number = dice.below(f"transaction {bool(is_card)} {part}", 2**53)
        made = transaction(number, 1, now, share, card if is_card else None)
        store.put(EntityKind.TRANSACTION, made["transactionUUID"], made, owner=owner)


def _make_rewards(store: Store, customer: str, now: str, dice: Dice) -> None:
    if dice.percent("giveaway", 15):
        made = giveaway(store.number(), now, customer, {"Note": "Thank you"})
        store.put(EntityKind.GIVEAWAY, made["code"], made, owner=customer)
    if dice.percent("achievement", 15):
        store.put(EntityKind.ACHIEVEMENT, f"1 {customer}", achievement(1, dice.below("progress", 10)), owner=customer)
