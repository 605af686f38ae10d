"""How the sandbox answers each operation: inventory, erasure, profiles, coupons, referrals, sessions, events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.faults import Faults
from privacy_toolkit.sandbox.store import EntityKind, Environment, JsonObject, Store
from privacy_toolkit.sandbox.wire import RefusalError, invalid, not_found, timestamp
from privacy_toolkit.talonone.operations import Generation, Operation

# The settings of the sandbox, field by field.

DEFAULT_KEY = "sandbox-key"
DEFAULT_APPLICATION_ID = 1
DEFAULT_APPLICATION_KEY = "fefecafedeadbeef"  # the sample key of the vendor's own page on signatures
MEMORY = ":memory:"
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """How the stand-in is started and what it plays.

    Attributes:
        port: TCP port on 127.0.0.1; 0 takes a free one.
        api_key: the key that ``Authorization: ApiKey-v1 <key>`` has to carry.
        application_id: the signer that ``Content-Signature`` has to name.
        application_key: the Application's key for signatures, hexadecimal.
        database: ``:memory:``, or the SQLite file that keeps the state across restarts.
        generation: the published state of the API that is played; it decides which operations and flags are known.
        environment: ``live`` or ``sandbox``: what the profiles say of themselves; None leaves their ``sandbox`` out.
        seed_customers: how many fictitious customers are created at the start, unless the store holds customers.
        seed_codes: how many coupons for campaigns there are at the start, of several kinds.
        rng_seed: seed of the fictitious data.
        after_erase: what the inventory of an erased customer answers: ``404`` (the profile is gone, a second DELETE
            answers 404), or ``empty`` (a profile without attributes, a second DELETE answers 204). Which of the two
            the real service does is not published.
        erase_delay: how many further reads of an erased customer still show the old data.
        never_clear: the share (0 to 1) of customers whose erasure is accepted and never carried out.
        never_clear_ids: customers of which the same holds, by id.
        unknown_profile: what a reservation for an unknown customer does: ``404``, or ``create`` (an empty profile).
            Not published either.
        parallel_limit: requests for one profile or session that may be under way; one more is answered 409.
        log_file: JSONL file to which every request is appended as it is handled.
        faults: the faults that are played.
    """

    port: int = 0
    api_key: str = field(default=DEFAULT_KEY, repr=False)
    application_id: int = DEFAULT_APPLICATION_ID
    application_key: str = field(default=DEFAULT_APPLICATION_KEY, repr=False)
    database: str | Path = MEMORY
    generation: Generation = Generation.CURRENT
    environment: Environment | None = None
    seed_customers: int = 0
    seed_codes: int = 0
    rng_seed: int = 0
    after_erase: Literal["404", "empty"] = "404"
    erase_delay: int = 0
    never_clear: float = 0.0
    never_clear_ids: frozenset[str] = frozenset()
    unknown_profile: Literal["404", "create"] = "404"
    parallel_limit: int = 3
    log_file: Path | None = None
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        """Refuse what can't be played.

        Raises:
            UsageError: a number is out of range, or the application key is not hexadecimal.
        """
        if not 0 <= self.port <= MAX_PORT:
            raise UsageError("The port of the sandbox must be between 0 and 65535.")
        if not 0 <= self.never_clear <= 1:
            raise UsageError("never_clear is a share: it must be between 0 and 1.")
        if min(self.erase_delay, self.seed_customers, self.seed_codes) < 0 or self.parallel_limit < 1:
            raise UsageError("Counts of the sandbox must not be negative, and at least one request must be allowed.")
        try:
            bytes.fromhex(self.application_key)
        except ValueError:
            raise UsageError("The application key of the sandbox must be hexadecimal.") from None


@dataclass(frozen=True, slots=True)
class Call:
    """One authentic and well-formed request: ``value`` of the path, query flags the generation knows, body."""

    operation: Operation
    value: str
    flags: Mapping[str, str] = field(default_factory=dict)
    body: JsonObject = field(default_factory=dict)
    idempotency_key: str | None = None

    @property
    def about(self) -> str:
        """Whom or what the call is about: the value in its path, otherwise the customer whom its body names."""
        named = self.body.get("profileId") or self.body.get("advocateProfileIntegrationId")
        return self.value or (named if isinstance(named, str) else "")

    def flag(self, name: str) -> bool:
        """Whether a boolean flag is set."""
        return self.flags.get(name) == "true"

    @property
    def dry(self) -> bool:
        """Whether nothing is to be kept. Profile V2 honours ``dry`` only together with ``runRuleEngine``."""
        needs_engine = any(flag.name == "runRuleEngine" for flag in self.operation.query)
        return self.flag("dry") and (self.flag("runRuleEngine") or not needs_engine)


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """A status and what is sent as JSON; None is an empty body."""

    status: int
    content: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class World:
    """The state, what was set, and the clock."""

    store: Store
    settings: SandboxSettings
    clock: Callable[[], datetime]

    def now(self) -> str:
        """The time as the API writes it."""
        return timestamp(self.clock())


# The inventory of a customer, and its erasure.


def inventory(world: World, call: Call) -> ServedAnswer:
    """What is held, as far as the flags ask for it; 404 without a profile."""
    profile = world.store.raw(EntityKind.PROFILE, call.value)
    if profile is None:
        raise not_found("Customer profile")
    asked = {name for name in call.flags if call.flag(name)}
    content: dict[str, Any] = {"profile": profile} if "profile" in asked else {}
    if asked - {"profile"}:
        held = _sections(world, call.value)
        content |= {name: section for name, section in held.items() if name in asked}
    return ServedAnswer(200, content)


def _sections(world: World, customer: str) -> dict[str, Any]:
    store, now = world.store, world.now()
    owned = store.owned(customer)
    redeemed = _redeemed(owned.get(EntityKind.SESSION, []))
    coupons = {coupon["value"]: coupon for coupon in [*owned.get(EntityKind.COUPON, []), *store.reserved_by(customer)]}
    return {
        "referrals": [wire.inventory_referral(made) for made in owned.get(EntityKind.REFERRAL, [])],
        "coupons": [wire.inventory_coupon(coupon, now, redeemed[code]) for code, coupon in coupons.items()],
        "loyalty": wire.loyalty(owned.get(EntityKind.LEDGER, []), owned.get(EntityKind.CARD, [])),
        "giveaways": owned.get(EntityKind.GIVEAWAY, []),
        "achievements": owned.get(EntityKind.ACHIEVEMENT, []),
    }


def _redeemed(sessions: list[JsonObject]) -> Counter[str]:
    """How often these sessions redeemed each coupon: one does when it is closed."""
    return Counter(
        code for session in sessions if session["state"] == "closed" for code in session.get("couponCodes") or ()
    )


def erase(world: World, call: Call) -> ServedAnswer:
    """Accept the erasure, and carry it out now, after further reads, or never, as the settings say.

    Attributes go; reservations, codes and balances stay, as the API's own words have it ("all attributes on the
    customer profile and on entities that reference this customer profile").
    """
    if world.store.raw(EntityKind.PROFILE, call.value) is None:
        raise not_found("Customer profile")
    if never_clears(world.settings, call.value):
        return ServedAnswer(204)
    if world.settings.erase_delay == 0:
        _clear(world, call.value)
    elif world.store.reads_left(call.value) is None:
        world.store.set_reads_left(call.value, world.settings.erase_delay)
    return ServedAnswer(204)


def never_clears(settings: SandboxSettings, customer: str) -> bool:
    """Whether the erasure of this customer is accepted and not carried out: the same for an id in every run."""
    if customer in settings.never_clear_ids:
        return True
    digest = blake2b(customer.encode(), digest_size=8, person=b"never").digest()
    return int.from_bytes(digest, "big") < settings.never_clear * 2**64


def let_time_pass(world: World, customer: str) -> None:
    """Count a read of a customer whose erasure was accepted; carry it out once there were enough of them."""
    left = world.store.reads_left(customer)
    if left == 0:
        world.store.set_reads_left(customer, None)
        _clear(world, customer)
    elif left is not None:
        world.store.set_reads_left(customer, left - 1)


def _clear(world: World, customer: str) -> None:
    world.store.clear_attributes(customer)
    if world.settings.after_erase == "404":
        world.store.remove(EntityKind.PROFILE, customer)


# Customer profiles, in both versions of the operation, and the states that V1 and V2 answers are made of.


def ensure(world: World, customer: str) -> JsonObject:
    """The profile of a customer; an empty one is made silently where there is none, as the API does."""
    found = world.store.get(EntityKind.PROFILE, customer)
    if found is None:
        found = wire.profile(world.store.number(), customer, world.now(), environment=world.store.environment)
        world.store.put(EntityKind.PROFILE, customer, found)
    return found


def touch(world: World, customer: str, *, closed_sessions: int = 0, sales: float = 0) -> JsonObject | None:
    """Make the profile if needed, note the activity and count sessions and sales; None for an anonymous customer."""
    if not customer:
        return None
    profile = ensure(world, customer)
    profile["lastActivity"] = world.now()
    profile["closedSessions"] += closed_sessions
    profile["totalSales"] += sales
    world.store.put(EntityKind.PROFILE, customer, profile)
    return profile


def update_profile_v1(world: World, call: Call) -> ServedAnswer:
    """Merge attributes into the profile; the answer holds a session and an event because the V1 type requires them."""
    profile, event = _merge(world, call)
    session = wire.session_v1(wire.session(0, "", world.now(), world.settings.application_id))
    return ServedAnswer(200, {"session": session, "profile": profile, "event": event})


def update_profile_v2(world: World, call: Call) -> ServedAnswer:
    """Merge attributes into the profile; the profile is in the answer only if ``responseContent`` asks for it.

    The generation of 2020 always answers with the profile and knows no ``responseContent``.
    """
    if world.settings.generation == Generation.SEED:
        return ServedAnswer(200, {"customerProfile": _merge(world, call)[0]})
    wanted = call.body.get("responseContent") or []
    if wanted and not call.flag("runRuleEngine"):
        raise invalid("Invalid", "responseContent needs runRuleEngine=true", "/responseContent")
    profile, event = _merge(world, call)
    return ServedAnswer(200, state_v2(world, wanted, profile, event=event))


def state_v2(world: World, wanted: list[str], profile: JsonObject | None, **more: Any) -> JsonObject:
    """What V2 operations answer: the required lists, and the entities that were asked for.

    No campaign runs in the sandbox: there are no effects, and nothing is created by them.
    """
    available: JsonObject = dict(more)
    if profile is not None:
        available["customerProfile"] = profile
        owned = world.store.owned(profile["integrationId"])
        available["loyalty"] = wire.loyalty(owned.get(EntityKind.LEDGER, []), owned.get(EntityKind.CARD, []))
    available |= {"triggeredCampaigns": [], "ruleFailureReasons": [], "awardedGiveaways": [], "achievements": []}
    asked = {name: entity for name, entity in available.items() if name in wanted}
    return {"effects": [], "createdCoupons": [], "createdReferrals": []} | asked


def _merge(world: World, call: Call) -> tuple[JsonObject, JsonObject]:
    """The profile afterwards, and the event that V1 and V2 can show for the update."""
    profile = ensure(world, call.value)
    profile["attributes"] |= call.body.get("attributes") or {}
    profile["lastActivity"] = world.now()
    world.store.put(EntityKind.PROFILE, call.value, profile)
    application = world.settings.application_id
    return profile, wire.event(world.store.number(), world.now(), application, "talon_profile_updated", call.value)


# Coupon reservations and referrals.


def reserve(world: World, call: Call) -> ServedAnswer:
    """Reserve a coupon for customers, over its reservation limit if need be; repeating it changes nothing.

    A personal coupon is not reservable. A customer without a profile is refused or made, as the settings say.
    """
    coupon = _coupon(world, call.value)
    if coupon.get("recipientIntegrationId") is not None:
        raise invalid("Not reservable", "Personal coupons can't be reserved", "/integrationIDs")
    customers: list[str] = call.body["integrationIDs"]
    for customer in customers:
        if world.settings.unknown_profile == "create":
            ensure(world, customer)
        elif world.store.raw(EntityKind.PROFILE, customer) is None:
            raise not_found("Customer profile")
    world.store.reserve(call.value, customers)
    return ServedAnswer(201, _counted(world, coupon))


def release(world: World, call: Call) -> ServedAnswer:
    """Release the reservations of customers; who has none is skipped."""
    coupon = _coupon(world, call.value)
    world.store.release(call.value, call.body["integrationIDs"])
    _counted(world, coupon)
    return ServedAnswer(204)


def holders(world: World, call: Call) -> ServedAnswer:
    """The profiles of the customers that have a coupon reserved, all at once: the API does not page."""
    _coupon(world, call.value)
    profiles = world.store.holders(call.value)
    return ServedAnswer(200, {"totalResultSize": len(profiles), "data": profiles})


def create_referral(world: World, call: Call) -> ServedAnswer:
    """Make a referral; each call makes a new code, and a profile for an unknown advocate."""
    advocate = call.body["advocateProfileIntegrationId"]
    ensure(world, advocate)
    referral = wire.referral(world.store.number(), world.now(), call.body)
    friend = referral.get("friendProfileIntegrationId")
    world.store.put(EntityKind.REFERRAL, referral["code"], referral, owner=advocate, friend=friend)
    return ServedAnswer(201, referral)


def _coupon(world: World, value: str) -> JsonObject:
    coupon = world.store.get(EntityKind.COUPON, value)
    if coupon is None:
        raise not_found("Coupon")
    return coupon


def _counted(world: World, coupon: JsonObject) -> JsonObject:
    counted = coupon | {"reservationCounter": world.store.reservations(coupon["value"])}
    world.store.put(EntityKind.COUPON, coupon["value"], counted, owner=coupon.get("recipientIntegrationId"))
    return counted


_TRANSITIONS = {"open": {"open", "closed", "cancelled"}, "closed": {"cancelled"}}
_TAKEN_OVER = ("cartItems", "identifiers", "couponCodes", "referralCode", "loyaltyCards", "additionalCosts")


def update_session_v1(world: World, call: Call) -> ServedAnswer:
    """Make or change a session by the V1 body, which has one coupon and one referral."""
    given = dict(call.body)
    if "coupon" in given:
        given["couponCodes"] = [given["coupon"]] if given["coupon"] else []
    if "referral" in given:
        given["referralCode"] = given["referral"]
    session, profile = _update(world, call.value, given)
    return ServedAnswer(200, _state_v1(world, session, profile, _session_event(world, session)))


def update_session_v2(world: World, call: Call) -> ServedAnswer:
    """Make or change a session by the V2 body; entities are in the answer only if ``responseContent`` asks for them."""
    session, profile = _update(world, call.value, call.body["customerSession"])
    more = {
        "customerSession": wire.session_v2(session),
        "event": _session_event(world, session),
        "coupons": [],
    }
    return ServedAnswer(200, state_v2(world, call.body.get("responseContent") or [], profile, **more))


def track_v1(world: World, call: Call) -> ServedAnswer:
    """Track an event of a session; a missing session or profile is made. 400 if the session is another customer's."""
    customer = call.body.get("profileId") or ""
    session = world.store.get(EntityKind.SESSION, call.body["sessionId"])
    if session is None:
        session, profile = _update(world, call.body["sessionId"], {"profileId": customer})
    elif customer and session["profileId"] not in {"", customer}:
        raise invalid("Invalid", "The session belongs to another customer profile", "/profileId")
    else:
        profile = touch(world, session["profileId"])
    event = _keep_event(world, call, session["profileId"], session["integrationId"])
    return ServedAnswer(201, _state_v1(world, session, profile, event))


def track_v2(world: World, call: Call) -> ServedAnswer:
    """Track an event of a customer.

    ``silent`` is ``yes`` unless told otherwise, and the answer an empty 204; otherwise it holds the updated profile.
    """
    customer = call.body["profileId"]
    profile = touch(world, customer)
    event = _keep_event(world, call, customer)
    if call.flags.get("silent", "yes") == "yes":
        return ServedAnswer(204)
    wanted = ["customerProfile", *(call.body.get("responseContent") or [])]
    return ServedAnswer(200, state_v2(world, wanted, profile, event=event))


def _update(world: World, key: str, given: JsonObject) -> tuple[JsonObject, JsonObject | None]:
    """Take over what is given, keep what is not, merge attributes, and count the session with its customer."""
    session = world.store.get(EntityKind.SESSION, key)
    if session is None:
        session = _new(world, key, given)
    before = session["state"]
    after = given.get("state") or before
    if after not in _TRANSITIONS.get(before, set()):
        raise RefusalError(400, f"A session that is {before} can't be modified")
    session |= {name: given[name] for name in _TAKEN_OVER if given.get(name) is not None}
    session["attributes"] |= given.get("attributes") or {}
    session |= {"state": after, "updated": world.now(), "updateCount": session["updateCount"] + 1}
    session["profileId"] = given.get("profileId") or session["profileId"]
    world.store.put(EntityKind.SESSION, key, session, owner=session["profileId"] or None)
    closing = (after == "closed") - (before == "closed")
    for code in session.get("couponCodes") or () if closing else ():
        coupon = world.store.get(EntityKind.COUPON, code)
        if coupon is not None:
            counted = coupon | {"usageCounter": coupon["usageCounter"] + closing}
            world.store.put(EntityKind.COUPON, code, counted, owner=coupon.get("recipientIntegrationId"))
    sales = closing * wire.session_totals(session)["total"]
    return session, touch(world, session["profileId"], closed_sessions=closing, sales=sales)


def _new(world: World, key: str, given: JsonObject) -> JsonObject:
    customer = given.get("profileId") or ""
    session = wire.session(world.store.number(), key, world.now(), world.settings.application_id)
    session["profileId"] = customer
    if customer:
        ensure(world, customer)
        session["firstSession"] = EntityKind.SESSION not in world.store.owned(customer)
    return session


def _session_event(world: World, session: JsonObject) -> JsonObject:
    application, customer = session["applicationId"], session["profileId"]
    event = wire.event(world.store.number(), world.now(), application, "talon_session_updated", customer)
    return event | {"sessionId": session["integrationId"]}


def _keep_event(world: World, call: Call, customer: str, session: str = "") -> JsonObject:
    number = world.store.number()
    event = wire.event(number, world.now(), world.settings.application_id, call.body["type"], customer)
    event["attributes"] = call.body.get("attributes") or {}
    if session:
        event["sessionId"] = session
    world.store.put(EntityKind.EVENT, f"{number:012d}", event, owner=customer or None)
    return event


def _state_v1(world: World, session: JsonObject, profile: JsonObject | None, event: JsonObject) -> JsonObject:
    """An IntegrationState; the V1 type requires a profile even of an anonymous session."""
    shown = wire.profile(0, "", world.now()) if profile is None else profile
    return {"session": wire.session_v1(session), "profile": shown, "event": event}
