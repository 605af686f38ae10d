"""A shop: one that knows of no erasure and writes a customer's profile again, and what a customer of it may have."""

import http.client
import json
from urllib.parse import quote, urlsplit

from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.store import EntityKind, card_owner
from privacy_toolkit.sandbox.wire import EPOCH

#: A customer who is seeded, and a card for them.
MEMBER, CARD = "customer-00007", "CARD-00000900"


def write_profile(base_url, customer, attributes, key="sandbox-key"):
    """Update one profile at the API, as an integration of the shop does; one that is missing is made."""
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=10)
    headers = {"Authorization": f"ApiKey-v1 {key}", "Content-Type": "application/json"}
    path = f"/v2/customer_profiles/{quote(customer, safe='')}"
    connection.request("PUT", path, json.dumps({"attributes": attributes}), headers)
    status = connection.getresponse().status
    connection.close()
    if status not in {200, 201}:
        raise AssertionError(f"the update was answered with {status}")


def redeem(base_url, customer, code, key="sandbox-key"):
    """Close a session with a coupon in it, as a shop does at the till, again until it is told that it is closed."""
    headers = {"Authorization": f"ApiKey-v1 {key}", "Content-Type": "application/json"}
    path = f"/v2/customer_sessions/{quote(f'till-{customer}', safe='')}"
    body = {"customerSession": {"profileId": customer, "couponCodes": [code], "state": "closed"}}
    for _ in range(10):
        connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=10)
        try:
            connection.request("PUT", path, json.dumps(body), headers)
            answer = connection.getresponse()
            told, status = answer.read(), answer.status
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
        if (status == 200 and b"<" not in told[:1]) or (status == 400 and b"is closed" in told):
            return
    raise AssertionError("the session could not be closed")


def hold_loyalty(store) -> None:
    """A customer with a card, and transactions in a ledger of their own and of the card."""
    now = wire.timestamp(EPOCH)
    card = wire.card(900, now, MEMBER, 30)
    store.put(EntityKind.CARD, CARD, card, owner=MEMBER)
    for number in (1, 2, 3):
        for owner, identifier in ((MEMBER, None), (card_owner(CARD), CARD)):
            made = wire.transaction(number + 10 * bool(identifier), 1, now, number - 2, identifier)
            store.put(EntityKind.TRANSACTION, made["transactionUUID"], made, owner=owner)
    store.put(EntityKind.ACHIEVEMENT, f"1 {MEMBER}", wire.achievement(1, 3), owner=MEMBER)
    event = wire.event(5, now, 1, "seen", MEMBER) | {"integrationId": "e0"}
    store.put(EntityKind.ADVANCED_EVENT, "e0", event, owner=MEMBER)
    store.put(EntityKind.SESSION, "s4", wire.session(77, "s4", now, 1) | {"profileId": MEMBER}, owner=MEMBER)
