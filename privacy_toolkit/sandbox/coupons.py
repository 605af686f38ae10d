"""Coupon reservations and referrals."""

from __future__ import annotations

from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.problems import invalid, not_found
from privacy_toolkit.sandbox.profiles import ensure
from privacy_toolkit.sandbox.store import JsonObject, Kind
from privacy_toolkit.sandbox.world import Answer, Call, World


def reserve(world: World, call: Call) -> Answer:
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
        elif world.store.raw(Kind.PROFILE, customer) is None:
            raise not_found("Customer profile")
    world.store.reserve(call.value, customers)
    return Answer(201, _counted(world, coupon))


def release(world: World, call: Call) -> Answer:
    """Release the reservations of customers; who has none is passed over."""
    coupon = _coupon(world, call.value)
    world.store.release(call.value, call.body["integrationIDs"])
    _counted(world, coupon)
    return Answer(204)


def holders(world: World, call: Call) -> Answer:
    """The profiles of the customers that have a coupon reserved, all at once: the API does not page."""
    _coupon(world, call.value)
    profiles = world.store.holders(call.value)
    return Answer(200, {"totalResultSize": len(profiles), "data": profiles})


def create_referral(world: World, call: Call) -> Answer:
    """Make a referral; each call makes a new code, and a profile for an unknown advocate."""
    advocate = call.body["advocateProfileIntegrationId"]
    ensure(world, advocate)
    referral = wire.referral(world.store.number(), world.now(), call.body)
    friend = referral.get("friendProfileIntegrationId")
    world.store.put(Kind.REFERRAL, referral["code"], referral, owner=advocate, friend=friend)
    return Answer(201, referral)


def _coupon(world: World, value: str) -> JsonObject:
    coupon = world.store.get(Kind.COUPON, value)
    if coupon is None:
        raise not_found("Coupon")
    return coupon


def _counted(world: World, coupon: JsonObject) -> JsonObject:
    counted = coupon | {"reservationCounter": world.store.reservations(coupon["value"])}
    world.store.put(Kind.COUPON, coupon["value"], counted, owner=coupon.get("recipientIntegrationId"))
    return counted
