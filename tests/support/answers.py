"""Answers in the API's own form, for tests that play the API."""

import httpx2

CREATED = "2026-01-01T00:00:00Z"


def profile(customer, attributes=None, **more):
    """A CustomerProfile with every member that both documents require."""
    return {
        "id": 1,
        "created": CREATED,
        "integrationId": customer,
        "attributes": attributes or {},
        "accountId": 1,
        "closedSessions": 0,
        "totalSales": 0,
        "loyaltyMemberships": None,
        "lastActivity": CREATED,
    } | more


def coupon(value, **more):
    """A Coupon."""
    return {"id": 1, "created": CREATED, "campaignId": 1, "value": value, "usageLimit": 1, "usageCounter": 0} | more


def referral(advocate, campaign=1, code="REF-1", **more):
    """A Referral."""
    return {
        "id": 1,
        "created": CREATED,
        "campaignId": campaign,
        "advocateProfileIntegrationId": advocate,
        "code": code,
        "usageCounter": 0,
        "usageLimit": 0,
    } | more


def inventory(customer, attributes=None, **sections):
    """The answer that shows what is held about a customer."""
    return httpx2.Response(200, json={"profile": profile(customer, attributes)} | sections)


def holders(*customers):
    """The answer that lists who has a coupon reserved."""
    return httpx2.Response(200, json={"totalResultSize": len(customers), "data": [profile(one) for one in customers]})


def refusal(status, message="no", **headers):
    """A refusal in the API's own words."""
    return httpx2.Response(status, json={"message": message, "StatusCode": status}, headers=headers)


def control(request):
    """The API's answer to a control, None where the request is none: it knows neither who asks nor the id."""
    if b"/privacy-toolkit-control-" not in request.url.raw_path:
        return None
    return refusal(404 if "authorization" in request.headers else 401)


def event(customer, kind="purchase"):
    """An Event."""
    return {
        "id": 1,
        "created": CREATED,
        "applicationId": 1,
        "profileId": customer,
        "type": kind,
        "attributes": {},
        "effects": [],
    }


def rules(**more):
    """What V2 writes are answered with."""
    return httpx2.Response(200, json={"effects": [], "createdCoupons": [], "createdReferrals": []} | more)


def session(key, customer=""):
    """A CustomerSession of the legacy V1 calls."""
    return {
        "integrationId": key,
        "created": CREATED,
        "applicationId": 1,
        "profileId": customer,
        "state": "open",
        "cartItems": [],
        "coupon": "",
        "referral": "",
        "firstSession": True,
        "total": 0,
        "discounts": {},
        "attributes": {},
        "updated": CREATED,
    }
