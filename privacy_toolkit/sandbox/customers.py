"""The inventory of a customer, and its erasure."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.problems import not_found
from privacy_toolkit.sandbox.settings import SandboxSettings
from privacy_toolkit.sandbox.store import Kind, Store
from privacy_toolkit.sandbox.world import Answer, Call, World


def inventory(world: World, call: Call) -> Answer:
    """What is held, as far as the flags ask for it; 404 without a profile."""
    if world.settings.erase_delay:
        _let_time_pass(world, call.value)
    profile = world.store.raw(Kind.PROFILE, call.value)
    if profile is None:
        raise not_found("Customer profile")
    asked = {name for name in call.flags if call.flag(name)}
    content: dict[str, Any] = {"profile": profile} if "profile" in asked else {}
    if asked - {"profile"}:
        held = _sections(world.store, call.value)
        content |= {name: section for name, section in held.items() if name in asked}
    return Answer(200, content)


def _sections(store: Store, customer: str) -> dict[str, Any]:
    owned = store.owned(customer)
    coupons = {coupon["value"]: coupon for coupon in [*owned.get(Kind.COUPON, []), *store.reserved_by(customer)]}
    return {
        "referrals": [wire.inventory_referral(made) for made in owned.get(Kind.REFERRAL, [])],
        "coupons": [wire.inventory_coupon(coupon) for coupon in coupons.values()],
        "loyalty": wire.loyalty(owned.get(Kind.LEDGER, []), owned.get(Kind.CARD, [])),
        "giveaways": owned.get(Kind.GIVEAWAY, []),
        "achievements": owned.get(Kind.ACHIEVEMENT, []),
    }


def erase(world: World, call: Call) -> Answer:
    """Accept the erasure, and carry it out now, after further reads, or never, as the settings say.

    Attributes go; reservations, codes and balances stay, as the API's own words have it ("all attributes on the
    customer profile and on entities that reference this customer profile").
    """
    if world.store.raw(Kind.PROFILE, call.value) is None:
        raise not_found("Customer profile")
    if never_clears(world.settings, call.value):
        return Answer(204)
    if world.settings.erase_delay == 0:
        _clear(world, call.value)
    elif world.store.reads_left(call.value) is None:
        world.store.set_reads_left(call.value, world.settings.erase_delay)
    return Answer(204)


def never_clears(settings: SandboxSettings, customer: str) -> bool:
    """Whether the erasure of this customer is accepted and not carried out: the same for an id in every run."""
    if customer in settings.never_clear_ids:
        return True
    digest = blake2b(customer.encode(), digest_size=8, person=b"never").digest()
    return int.from_bytes(digest, "big") < settings.never_clear * 2**64


def _let_time_pass(world: World, customer: str) -> None:
    left = world.store.reads_left(customer)
    if left == 0:
        world.store.set_reads_left(customer, None)
        _clear(world, customer)
    elif left is not None:
        world.store.set_reads_left(customer, left - 1)


def _clear(world: World, customer: str) -> None:
    world.store.clear_attributes(customer)
    if world.settings.after_erase == "404":
        world.store.remove(Kind.PROFILE, customer)
