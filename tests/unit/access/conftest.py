"""An answer with everything in it that a package has to prepare with."""

import copy

import pytest

ANSWER = {
    "profile": {
        "id": 77,
        "created": "2024-01-01T09:30:00.000Z",
        "integrationId": "customer-00001",
        "attributes": {
            "Name": "Hazel Breeze",
            "Address": {"City": "Exampleton", "Zip": "00123"},
            "Interests": ["garden", "books"],
            "Newsletter": True,
            "Note": "knows friend-of-00042,\nsee https://shop.example/?f=friend-of-00042",
            "Empty": "",
            "Turned": "abc\u202edef <b>x</b>",
        },
        "accountId": 1,
        "closedSessions": 4,
        "totalSales": 1234.5,
        "loyaltyMemberships": None,
        "audienceMemberships": [{"id": 5, "name": "Gold customers"}],
        "lastActivity": "2025-03-01T17:02:11.5Z",
        "sandbox": True,
    },
    "referrals": [
        {
            "id": 3,
            "created": "2024-03-01T00:00:00Z",
            "advocateProfileIntegrationId": "customer-00001",
            "friendProfileIntegrationId": "friend-of-00042",
            "code": "REF-00000003",
            "attributes": {"Channel": "mail"},
            "referredCustomers": ["friend-of-00042", "friend-of-00099"],
        }
    ],
    "coupons": [
        {
            "id": 11,
            "value": "PERSONAL-1",
            "limits": [{"action": "redeemCoupon", "limit": 1, "period": "daily", "entities": ["Coupon"]}],
            "attributes": {},
            "recipientIntegrationId": "customer-00001",
            "reservation": False,
            "state": "active",
            "newField": {"deep": ["a", {"b": 1}]},
        },
        {"id": 12, "value": "=SUM(A1)", "expiryDate": "2024-08-31T23:59:59+02:00", "state": "odd"},
    ],
    "loyalty": {
        "cards": [
            {
                "id": 1,
                "identifier": "CARD-00000001",
                "status": "active",
                "profiles": [
                    {"integrationId": "customer-00001", "timestamp": "2024-01-05T00:00:00Z"},
                    {"integrationId": "partner-777", "timestamp": "2024-02-05T00:00:00Z"},
                ],
                "ledger": {"currentBalance": 120.5, "currentTier": {"id": 2, "name": "Gold"}},
                "subledgers": {"Travel": {"currentBalance": 3}},
            }
        ],
        "programs": {"1": {"id": 1, "title": "Points", "ledger": {"currentBalance": -42}, "subLedgers": {}}},
    },
    "giveaways": [],
    "achievements": [{"achievementId": 1, "title": "Ten orders", "status": "inprogress", "progress": 4, "target": 10}],
    "somethingNew": {"x": "y"},
}


@pytest.fixture
def answer():
    return copy.deepcopy(ANSWER)
