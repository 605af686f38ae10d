"""Customer sessions and events, in both versions of the operations."""

from __future__ import annotations

from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.problems import RefusalError, invalid
from privacy_toolkit.sandbox.profiles import ensure, state_v2, touch
from privacy_toolkit.sandbox.store import JsonObject, Kind
from privacy_toolkit.sandbox.world import Answer, Call, World

_TRANSITIONS = {"open": {"open", "closed", "cancelled"}, "closed": {"cancelled"}}
_TAKEN_OVER = ("cartItems", "identifiers", "couponCodes", "referralCode", "loyaltyCards", "additionalCosts")


def update_v1(world: World, call: Call) -> Answer:
    """Make or change a session by the V1 body, which has one coupon and one referral."""
    given = dict(call.body)
    if "coupon" in given:
        given["couponCodes"] = [given["coupon"]] if given["coupon"] else []
    if "referral" in given:
        given["referralCode"] = given["referral"]
    session, profile = _update(world, call.value, given)
    return Answer(200, _state_v1(world, session, profile, _session_event(world, session)))


def update_v2(world: World, call: Call) -> Answer:
    """Make or change a session by the V2 body; entities are in the answer only if ``responseContent`` asks for them."""
    session, profile = _update(world, call.value, call.body["customerSession"])
    more = {
        "customerSession": wire.session_v2(session),
        "event": _session_event(world, session),
        "coupons": [],
    }
    return Answer(200, state_v2(world, call.body.get("responseContent") or [], profile, **more))


def track_v1(world: World, call: Call) -> Answer:
    """Track an event of a session; a missing session or profile is made. 400 if the session is another customer's."""
    customer = call.body.get("profileId") or ""
    session = world.store.get(Kind.SESSION, call.body["sessionId"])
    if session is None:
        session, profile = _update(world, call.body["sessionId"], {"profileId": customer})
    elif customer and session["profileId"] not in {"", customer}:
        raise invalid("Invalid", "The session belongs to another customer profile", "/profileId")
    else:
        profile = touch(world, session["profileId"])
    event = _keep_event(world, call, session["profileId"], session["integrationId"])
    return Answer(201, _state_v1(world, session, profile, event))


def track_v2(world: World, call: Call) -> Answer:
    """Track an event of a customer.

    ``silent`` is ``yes`` unless told otherwise, and the answer an empty 204; else it holds the updated profile.
    """
    customer = call.body["profileId"]
    profile = touch(world, customer)
    event = _keep_event(world, call, customer)
    if call.flags.get("silent", "yes") == "yes":
        return Answer(204)
    wanted = ["customerProfile", *(call.body.get("responseContent") or [])]
    return Answer(200, state_v2(world, wanted, profile, event=event))


def _update(world: World, key: str, given: JsonObject) -> tuple[JsonObject, JsonObject | None]:
    """Take over what is given, keep what is not, merge attributes, and count the session with its customer."""
    session = world.store.get(Kind.SESSION, key)
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
    world.store.put(Kind.SESSION, key, session, owner=session["profileId"] or None)
    closing = (after == "closed") - (before == "closed")
    sales = closing * wire.session_totals(session)["total"]
    return session, touch(world, session["profileId"], closed_sessions=closing, sales=sales)


def _new(world: World, key: str, given: JsonObject) -> JsonObject:
    customer = given.get("profileId") or ""
    session = wire.session(world.store.number(), key, world.now(), world.settings.application_id)
    session["profileId"] = customer
    if customer:
        ensure(world, customer)
        session["firstSession"] = Kind.SESSION not in world.store.owned(customer)
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
    world.store.put(Kind.EVENT, f"{number:012d}", event, owner=customer or None)
    return event


def _state_v1(world: World, session: JsonObject, profile: JsonObject | None, event: JsonObject) -> JsonObject:
    """An IntegrationState; the V1 type requires a profile even of an anonymous session."""
    shown = wire.profile(0, "", world.now()) if profile is None else profile
    return {"session": wire.session_v1(session), "profile": shown, "event": event}
