"""Fictitious customers for the sandbox. What a customer holds follows from the seed and the id alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import islice

from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.store import EntityKind, JsonObject, Store, card_owner

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
                store.put(EntityKind.COUPON, code, wire.coupon(store.number(), code, wire.timestamp(EPOCH)))
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
        made = wire.profile(store.number(), OTHER_HOLDER, wire.timestamp(EPOCH), {}, store.environment)
        store.put(EntityKind.PROFILE, OTHER_HOLDER, made)
    with store.transaction():
        for number, code in new:
            made = wire.coupon(store.number(), code, wire.timestamp(EPOCH))
            made |= {"usageLimit": 0, "isReservationMandatory": number % 2 == 1, "expiryDate": "2999-01-01T00:00:00Z"}
            store.put(EntityKind.COUPON, code, made | _KINDS_OF_CODES.get(number % 20, {}))
    for number, code in new:
        if number % 20 in _HELD_BY_OTHERS:
            store.reserve(code, [OTHER_HOLDER])
    return codes


def _make(store: Store, customer: str, dice: Dice) -> None:
    now = wire.timestamp(EPOCH + timedelta(seconds=dice.below("created", 365 * 86_400)))
    attributes = {} if dice.percent("empty", 5) else _attributes(dice)
    profile = wire.profile(store.number(), customer, now, attributes, store.environment)
    store.put(EntityKind.PROFILE, customer, profile | {"closedSessions": dice.below("sessions", 20)})
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
    body: JsonObject = {"campaignId": wire.CAMPAIGN_ID, "advocateProfileIntegrationId": customer}
    friend = f"friend-of-{dice.below('friend', 100_000):05d}" if dice.percent("has friend", 60) else None
    body |= {"friendProfileIntegrationId": friend, "attributes": {"Channel": dice.choice("channel", ("mail", "web"))}}
    made = wire.referral(store.number(), now, body)
    store.put(EntityKind.REFERRAL, made["code"], made, owner=customer, friend=friend)


def _make_coupon(store: Store, customer: str, now: str, dice: Dice) -> None:
    number = store.number()
    made = wire.coupon(number, f"PERSONAL-{number:08d}", now, recipient=customer)
    made["attributes"] = {"Greeting": f"For {dice.choice('given', GIVEN_NAMES)}"}
    store.put(EntityKind.COUPON, made["value"], made, owner=customer)


def _make_loyalty(store: Store, customer: str, now: str, dice: Dice) -> None:
    if dice.percent("ledger", 30):
        points = dice.below("points", 5000)
        store.put(EntityKind.LEDGER, f"1 {customer}", wire.ledger(1, now, points), owner=customer)
        _make_transactions(store, customer, now, points, dice)
    if dice.percent("card", 10):
        card = wire.card(store.number(), now, customer, dice.below("card points", 500))
        store.put(EntityKind.CARD, card["identifier"], card, owner=customer)
        _make_transactions(store, card_owner(card["identifier"]), now, card["ledger"]["currentBalance"], dice)


def _make_transactions(store: Store, owner: str, now: str, points: int, dice: Dice) -> None:
    """Make one to three transactions that come to so many points; a card's name it."""
    _, is_card, card = owner.partition(card_owner(""))
    parts = 1 + dice.below(f"transactions {bool(is_card)}", 3)
    for part in range(parts):
        share = points // parts + (points % parts if part == 0 else 0)
        number = dice.below(f"transaction {bool(is_card)} {part}", 2**53)
        made = wire.transaction(number, 1, now, share, card if is_card else None)
        store.put(EntityKind.TRANSACTION, made["transactionUUID"], made, owner=owner)


def _make_rewards(store: Store, customer: str, now: str, dice: Dice) -> None:
    if dice.percent("giveaway", 15):
        giveaway = wire.giveaway(store.number(), now, customer, {"Note": "Thank you"})
        store.put(EntityKind.GIVEAWAY, giveaway["code"], giveaway, owner=customer)
    if dice.percent("achievement", 15):
        store.put(
            EntityKind.ACHIEVEMENT, f"1 {customer}", wire.achievement(1, dice.below("progress", 10)), owner=customer
        )
