"""How the sandbox answers each operation: inventory, erasure, loyalty, profiles, coupons, sessions, events."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import Any

from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.store import Call, EntityKind, JsonObject, SandboxSettings, ServedAnswer, World, card_owner
from privacy_toolkit.sandbox.wire import RefusalError, invalid, not_found
from privacy_toolkit.talonone.operations import Generation

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


# What is held next to the inventory: loyalty ledgers and cards, achievements, sessions.

#: How many entries a page has where nothing is said; and the most that it may have.
_PAGE, _LARGEST_PAGE = 50, 1000


def balances(world: World, call: Call) -> ServedAnswer:
    """The balances of a customer in a program: what the transactions come to."""
    return ServedAnswer(200, wire.balances(sum(map(_points, _transactions(world, call, _member(world, call))))))


def transactions(world: World, call: Call) -> ServedAnswer:
    """A page of the transactions of a customer in a program, the newest first."""
    return _ledger_page(call, _transactions(world, call, _member(world, call)))


def delete_transactions(world: World, call: Call) -> ServedAnswer:
    """Forget the transactions of a customer in a program, and with them the balances that the inventory shows."""
    customer, program = _member(world, call), call.operation.program
    for held in _transactions(world, call, customer):
        world.store.remove(EntityKind.TRANSACTION, held["transactionUUID"])
    for ledger in world.store.owned(customer).get(EntityKind.LEDGER, []):
        if ledger["id"] == program:
            emptied = ledger | {"ledger": wire.balance(0), "subLedgers": {}}
            world.store.put(EntityKind.LEDGER, f"{program} {customer}", emptied, owner=customer)
    return ServedAnswer(204)


def card_transactions(world: World, call: Call) -> ServedAnswer:
    """A page of the transactions of a loyalty card, the newest first."""
    card = _card(world, call)
    return _ledger_page(call, _transactions(world, call, card_owner(card["identifier"])))


def unlink_card(world: World, call: Call) -> ServedAnswer:
    """Unlink a card from a customer, whose inventory shows it no longer; 404 if they are not linked."""
    card, customer = _card(world, call), call.body["integrationId"]
    left = [holder for holder in card["profiles"] if holder["integrationId"] != customer]
    if len(left) == len(card["profiles"]):
        raise not_found("Customer profile")
    unlinked = card | {"profiles": left}
    world.store.put(EntityKind.CARD, card["identifier"], unlinked, owner=left[0]["integrationId"] if left else None)
    return ServedAnswer(200, unlinked)


def achievements(world: World, call: Call) -> ServedAnswer:
    """A page of the achievements of a customer: those in which there is progress."""
    if world.store.raw(EntityKind.PROFILE, call.value) is None:
        raise not_found("Customer profile")
    held = world.store.owned(call.value).get(EntityKind.ACHIEVEMENT, [])
    shown, _ = _page(call, held, _LARGEST_PAGE)
    entries = [wire.available_achievement(one, world.now()) for one in shown]
    return ServedAnswer(200, {"totalResultSize": len(held), "data": entries})


def session(world: World, call: Call) -> ServedAnswer:
    """One session; 400 where there is none: the document declares no 404."""
    found = world.store.get(EntityKind.SESSION, call.value)
    if found is None:
        raise invalid("Not found", "There is no such session", "")
    return ServedAnswer(200, {"customerSession": wire.session_v2(found), "effects": []})


def _member(world: World, call: Call) -> str:
    """The customer whom a call within a program is about; 404 without the program, and without the profile."""
    _check_program(world, call)
    if world.store.raw(EntityKind.PROFILE, call.value) is None:
        raise not_found("Customer profile")
    return call.value


def _card(world: World, call: Call) -> JsonObject:
    _check_program(world, call)
    card = world.store.get(EntityKind.CARD, call.value)
    if card is None or card["programID"] != call.operation.program:
        raise not_found("Loyalty card")
    return card


def _check_program(world: World, call: Call) -> None:
    if call.operation.program not in world.settings.loyalty_programs:
        raise not_found("Loyalty program")


def _transactions(world: World, call: Call, owner: str) -> list[JsonObject]:
    held = world.store.owned(owner).get(EntityKind.TRANSACTION, [])
    ours = [one for one in held if one["programId"] == call.operation.program]
    return sorted(ours, key=lambda one: (one["created"], one["id"]), reverse=True)


def _points(held: JsonObject) -> float:
    return float(held["amount"] if held["type"] == "addition" else -held["amount"])


def _ledger_page(call: Call, held: list[JsonObject]) -> ServedAnswer:
    shown, has_more = _page(call, held, _PAGE)
    return ServedAnswer(200, {"hasMore": has_more, "data": shown})


def _page(call: Call, held: list[JsonObject], usual: int) -> tuple[list[JsonObject], bool]:
    """The entries of the page that a call asks for, and whether others follow."""
    sizes = {"pageSize": usual, "skip": 0}
    for name, default in list(sizes.items()):
        given = call.flags.get(name, str(default))
        if not wire.is_count(given):
            raise invalid("Invalid", f"{name} is no number", "")
        sizes[name] = int(given)
    if not 1 <= sizes["pageSize"] <= _LARGEST_PAGE:
        raise invalid("Invalid", "pageSize is from 1 to 1000", "")
    end = sizes["skip"] + sizes["pageSize"]
    return held[sizes["skip"] : end], end < len(held)


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


def update_profiles(world: World, call: Call) -> ServedAnswer:
    """Merge attributes into several profiles, which are in the answer unless it is ``silent``, as it is if not told."""
    items = call.body["customerProfiles"]
    shown = [_merged(world, item["integrationId"], item.get("attributes")) for item in items]
    if call.flags.get("silent", "yes") == "yes":
        return ServedAnswer(204)
    return ServedAnswer(200, {"integrationStates": [{"customerProfile": profile} for profile in shown]})


def update_audiences(world: World, call: Call) -> ServedAnswer:
    """Put customers in audiences, or take them out; all or none. Any audience is there whose number is above 0."""
    for item in call.body["data"]:
        if item["audienceId"] < 1:
            raise not_found("Audience")
        customer, number, is_added = item["profileIntegrationId"], item["audienceId"], item["action"] == "add"
        profile = ensure(world, customer) if is_added else world.store.get(EntityKind.PROFILE, customer)
        if profile is not None:
            kept = [one for one in profile["audienceMemberships"] or () if one["id"] != number]
            added = [{"id": number, "name": f"Audience {number}"}] if is_added else []
            world.store.put(EntityKind.PROFILE, customer, profile | {"audienceMemberships": kept + added})
    return ServedAnswer(204)


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
    profile = _merged(world, call.value, call.body.get("attributes"))
    application = world.settings.application_id
    return profile, wire.event(world.store.number(), world.now(), application, "talon_profile_updated", call.value)


def _merged(world: World, customer: str, attributes: JsonObject | None) -> JsonObject:
    profile = ensure(world, customer)
    profile["attributes"] |= attributes or {}
    profile["lastActivity"] = world.now()
    world.store.put(EntityKind.PROFILE, customer, profile)
    return profile


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
    return ServedAnswer(201, _referred(world, call.body))


def create_referrals(world: World, call: Call) -> ServedAnswer:
    """Make a referral for each advocate; they are in the answer unless it is ``silent``, as it is if not told."""
    advocates = call.body["advocateProfileIntegrationIds"]
    made = [_referred(world, call.body | {"advocateProfileIntegrationId": advocate}) for advocate in advocates]
    if call.flags.get("silent", "yes") == "yes":
        return ServedAnswer(204)
    return ServedAnswer(201, {"totalResultSize": len(made), "data": made})


def _referred(world: World, given: JsonObject) -> JsonObject:
    advocate = given["advocateProfileIntegrationId"]
    ensure(world, advocate)
    referral = wire.referral(world.store.number(), world.now(), given)
    friend = referral.get("friendProfileIntegrationId")
    world.store.put(EntityKind.REFERRAL, referral["code"], referral, owner=advocate, friend=friend)
    return referral


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


def track_v3(world: World, call: Call) -> ServedAnswer:
    """Track an event with an id of its own. 409 if there is one with that id, 400 if a session named is not closed."""
    given = call.body
    customer, key = given["profileId"], given.get("integrationId")
    if not key:
        raise invalid("Invalid", "Expected `str` of length >= 1", "/integrationId")
    if world.store.get(EntityKind.ADVANCED_EVENT, key) is not None:
        raise RefusalError(409, "An event with this integration ID already exists", [])
    connected = given.get("connectedSessionId")
    session = world.store.get(EntityKind.SESSION, connected) if connected else None
    if connected and (session is None or session["state"] != "closed"):
        raise invalid("Invalid", "The connected session has to be closed", "/connectedSessionId")
    profile = touch(world, customer)
    number = world.store.number()
    event = wire.event(number, world.now(), world.settings.application_id, given["type"], customer)
    del event["ledgerEntries"], event["meta"]
    event |= {"integrationId": key, "attributes": given.get("attributes") or {}}
    event |= {"connectedSessionId": connected} if connected else {}
    world.store.put(EntityKind.ADVANCED_EVENT, key, event, owner=customer)
    if call.flags.get("silent", "yes") == "yes":
        return ServedAnswer(204)
    wanted = given.get("responseContent") or []
    answer = state_v2(world, ["customerProfile", *wanted], profile)
    return ServedAnswer(200, answer | ({"advancedEvent": event} if "advancedEvent" in wanted else {}))


def advanced_event(world: World, call: Call) -> ServedAnswer:
    """The event with an id of its own; 404 if there is none."""
    event = world.store.get(EntityKind.ADVANCED_EVENT, call.value)
    if event is None:
        raise not_found("event")
    return ServedAnswer(200, event)


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
    wire.check_amounts(session)
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
