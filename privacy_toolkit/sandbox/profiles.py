"""Customer profiles, in both versions of the operation, and the states that V1 and V2 answers are made of."""

from __future__ import annotations

from typing import Any

from privacy_toolkit.api.operations import Generation
from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.problems import invalid
from privacy_toolkit.sandbox.store import JsonObject, Kind
from privacy_toolkit.sandbox.world import Answer, Call, World


def ensure(world: World, customer: str) -> JsonObject:
    """The profile of a customer; an empty one is made silently where there is none, as the API does."""
    found = world.store.get(Kind.PROFILE, customer)
    if found is None:
        found = wire.profile(world.store.number(), customer, world.now(), environment=world.store.environment)
        world.store.put(Kind.PROFILE, customer, found)
    return found


def touch(world: World, customer: str, *, closed_sessions: int = 0, sales: float = 0) -> JsonObject | None:
    """Make the profile if needed, note the activity and count sessions and sales; None for an anonymous customer."""
    if not customer:
        return None
    profile = ensure(world, customer)
    profile["lastActivity"] = world.now()
    profile["closedSessions"] += closed_sessions
    profile["totalSales"] += sales
    world.store.put(Kind.PROFILE, customer, profile)
    return profile


def update_v1(world: World, call: Call) -> Answer:
    """Merge attributes into the profile; the answer holds a session and an event because the V1 type requires them."""
    profile, event = _merge(world, call)
    session = wire.session_v1(wire.session(0, "", world.now(), world.settings.application_id))
    return Answer(200, {"session": session, "profile": profile, "event": event})


def update_v2(world: World, call: Call) -> Answer:
    """Merge attributes into the profile; the profile is in the answer only if ``responseContent`` asks for it.

    The generation of 2020 always answers with the profile and knows no ``responseContent``.
    """
    if world.settings.generation == Generation.SEED:
        return Answer(200, {"customerProfile": _merge(world, call)[0]})
    wanted = call.body.get("responseContent") or []
    if wanted and not call.flag("runRuleEngine"):
        raise invalid("Invalid", "responseContent needs runRuleEngine=true", "/responseContent")
    profile, event = _merge(world, call)
    return Answer(200, state_v2(world, wanted, profile, event=event))


def state_v2(world: World, wanted: list[str], profile: JsonObject | None, **more: Any) -> JsonObject:
    """What V2 operations answer: the required lists, and the entities that were asked for.

    No campaign runs in the sandbox: there are no effects, and nothing is created by them.
    """
    available: JsonObject = dict(more)
    if profile is not None:
        available["customerProfile"] = profile
        owned = world.store.owned(profile["integrationId"])
        available["loyalty"] = wire.loyalty(owned.get(Kind.LEDGER, []), owned.get(Kind.CARD, []))
    available |= {"triggeredCampaigns": [], "ruleFailureReasons": [], "awardedGiveaways": [], "achievements": []}
    asked = {name: entity for name, entity in available.items() if name in wanted}
    return {"effects": [], "createdCoupons": [], "createdReferrals": []} | asked


def _merge(world: World, call: Call) -> tuple[JsonObject, JsonObject]:
    """The profile afterwards, and the event that V1 and V2 can show for the update."""
    profile = ensure(world, call.value)
    profile["attributes"] |= call.body.get("attributes") or {}
    profile["lastActivity"] = world.now()
    world.store.put(Kind.PROFILE, call.value, profile)
    application = world.settings.application_id
    return profile, wire.event(world.store.number(), world.now(), application, "talon_profile_updated", call.value)
