"""Entities and refusals in the form in which the API sends them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from privacy_toolkit.sandbox.store import Environment, JsonObject

# The entities in the form in which the API sends them: every field that the vendor's documents and SDK require.

ACCOUNT_ID = 1
CAMPAIGN_ID = 1


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


def misfit(error: Exception) -> RefusalError:
    """400 for a body that is not JSON or not of the declared type."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return invalid("Malformed", "The body is not valid JSON", "")
    details, _, path = text.partition(" - at `")
    return invalid("Invalid", details, pointer_of(path.removesuffix("`")))


def pointer_of(path: str) -> str:
    """The JSON pointer of a msgspec path: ``$.cartItems[0].sku`` is ``/cartItems/0/sku``."""
    return path.removeprefix("$").replace("[", ".").replace("]", "").replace(".", "/")
