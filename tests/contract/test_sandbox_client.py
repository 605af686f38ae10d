"""The toolkit's own client against the sandbox: every operation, every way to authenticate, every fault."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from privacy_toolkit.core.model import Reason
from privacy_toolkit.sandbox import RunningSandbox, start_in_thread, wire
from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import DEFAULT_APPLICATION_KEY, DEFAULT_KEY, EntityKind, SandboxSettings, card_owner
from privacy_toolkit.sandbox.wire import EPOCH
from privacy_toolkit.talonone import bodies
from privacy_toolkit.talonone.addresses import Credentials, Signer
from privacy_toolkit.talonone.client import Client, Timeouts
from privacy_toolkit.talonone.operations import OPERATIONS, Generation
from privacy_toolkit.talonone.responses import Answer, Asked, Finding, read_exchange
from tests.support.documents import called

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = Credentials(api_key=DEFAULT_KEY)
SIGNED = Credentials(api_key=DEFAULT_KEY, signer=Signer("1", DEFAULT_APPLICATION_KEY))
CODE = "SANDBOX-0001"

#: A call of each operation that succeeds: path value and body.
CALLS = {
    "create_coupon_reservation": (CODE, bodies.CouponReservations(integration_ids=["customer-00001"])),
    "delete_coupon_reservation": (CODE, bodies.CouponReservations(integration_ids=["customer-00001"])),
    "get_reserved_customers": (CODE, None),
    "create_referral": (None, bodies.NewReferral(campaign_id=1, advocate_profile_integration_id="a1")),
    "create_referrals": (
        None,
        bodies.NewReferrals(campaign_id=1, advocate_profile_integration_ids=["a1", "a2"], usage_limit=0),
    ),
    "delete_customer_data": ("customer-00002", None),
    "get_customer_inventory": ("customer-00003", None),
    "get_loyalty_balances": ("customer-00001", None),
    "get_loyalty_transactions": ("customer-00001", None),
    "delete_loyalty_transactions": ("customer-00001", bodies.DeletedTransactions(scope="AllSubledgers")),
    "get_card_transactions": ("CARD-1", None),
    "unlink_loyalty_card": ("CARD-1", bodies.CardHolder(integration_id="customer-00001")),
    "get_customer_achievements": ("customer-00001", None),
    "get_customer_session": ("s9", None),
    "track_event": (None, bodies.NewEvent(type="seen", session_id="s1", attributes={"a": 1}, profile_id="c1")),
    "track_event_v2": (None, bodies.EventV2(type="seen", profile_id="c1")),
    "track_event_v3": (
        None,
        bodies.EventV3(type="seen", profile_id="c1", integration_id="e1", response_content=["advancedEvent"]),
    ),
    "get_event_v3": ("e0", None),
    "update_customer_profile": ("c1", bodies.NewCustomerProfile(attributes={"a": 1})),
    "update_customer_profile_v2": ("c1", bodies.CustomerProfileRequestV2(attributes={"a": 1})),
    "update_customer_profiles": (
        None,
        bodies.ProfileUpdates(customer_profiles=[bodies.ProfileUpdate(integration_id="c1", attributes={"a": 1})]),
    ),
    "update_customer_audiences": (
        None,
        bodies.AudienceActions(data=[bodies.AudienceAction(profile_integration_id="c1", audience_id=7, action="add")]),
    ),
    "update_customer_session": ("s2", bodies.NewCustomerSession(profile_id="c1")),
    "update_customer_session_v2": (
        "s3",
        bodies.IntegrationRequest(
            customer_session=bodies.NewCustomerSessionV2(profile_id="c1"), response_content=["customerSession"]
        ),
    ),
}


NO_AUDIENCE = bodies.AudienceActions(
    data=[bodies.AudienceAction(profile_integration_id="c1", audience_id=0, action="add")]
)
#: Whose answer names what was asked about; V2 writes show it only where that is asked for.
NAMING = {
    Generation.CURRENT: {
        *("create_coupon_reservation", "create_referral", "get_customer_inventory", "track_event", "track_event_v2"),
        *("update_customer_profile", "update_customer_session", "update_customer_session_v2"),
        *("get_card_transactions", "unlink_loyalty_card", "get_customer_session", "track_event_v3", "get_event_v3"),
        *("create_referrals", "update_customer_profiles"),
    },
    Generation.SEED: {
        *("create_coupon_reservation", "create_referral", "get_customer_inventory", "track_event"),
        *("update_customer_profile", "update_customer_session", "update_customer_session_v2"),
        "update_customer_profile_v2",
    },
}


@pytest.fixture
def start() -> Iterator[Callable[..., RunningSandbox]]:
    def started(**settings):
        sandbox = stack.enter_context(start_in_thread(SandboxSettings(**{"seed_customers": 5} | settings)))
        now, owner = wire.timestamp(EPOCH), "customer-00001"
        sandbox.store.put(
            EntityKind.CARD, "CARD-1", wire.card(7, now, owner, 3) | {"identifier": "CARD-1"}, owner=owner
        )
        made = wire.transaction(7, 1, now, 3, "CARD-1")
        sandbox.store.put(EntityKind.TRANSACTION, made["transactionUUID"], made, owner=card_owner("CARD-1"))
        event = wire.event(9, now, 1, "seen", owner) | {"integrationId": "e0"}
        sandbox.store.put(EntityKind.ADVANCED_EVENT, "e0", event, owner=owner)
        sandbox.store.put(EntityKind.SESSION, "s9", wire.session(8, "s9", now, 1), owner=owner)
        return sandbox

    with ExitStack() as stack:
        yield started


def call(sandbox, name, value=None, body=None, *, credentials=KEY, timeouts=None, **more) -> Answer:
    async def talk() -> Answer:
        made = Client(
            sandbox.base_url,
            credentials,
            generation=sandbox.settings.generation,
            timeouts=timeouts or Timeouts(),
        )
        async with made as client:
            exchange = await client.exchange(called(name), value, body=body, **more)
            asked = Asked(value, body, sandbox.settings.generation)
            return read_exchange(called(name), exchange, NOW, asked)

    return asyncio.run(talk())


def test_every_operation_is_called():
    assert CALLS.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("credentials", [KEY, SIGNED], ids=["key", "signature"])
@pytest.mark.parametrize("generation", Generation)
@pytest.mark.parametrize("name", CALLS)
def test_every_operation_succeeds(start, name, generation, credentials):
    operation = OPERATIONS[name]
    if generation not in operation.generations:
        pytest.skip("not an operation of that generation")
    sandbox = start(generation=generation)
    answer = call(sandbox, name, *CALLS[name], credentials=credentials)
    assert (answer.finding, answer.status) == (Finding.DONE, operation.success)
    assert isinstance(answer.value, operation.answer or type(None))
    assert answer.named is (name in NAMING[generation])
    (entry,) = sandbox.log
    assert (entry.operation, entry.value, entry.acted) == (name, CALLS[name][0] or "", True)


def test_inventory_is_asked_for_whole(start):
    inventory = call(start(seed_customers=1), "get_customer_inventory", "customer-00001").value
    shown = (inventory.profile, inventory.referrals, inventory.coupons, inventory.loyalty)
    assert None not in (*shown, inventory.giveaways, inventory.achievements)


@pytest.mark.parametrize("customer", ["a/b c+d@x.example", "a%2Fb", "ü€", "?#;=&", "...", "%2E%2E", "customerprofiles"])
def test_ids_arrive_as_they_are(start, customer):
    sandbox = start()
    assert call(sandbox, "delete_customer_data", customer).finding is Finding.ABSENT
    assert [(entry.operation, entry.value) for entry in sandbox.log] == [("delete_customer_data", customer)]


def test_wrong_credentials_are_told(start):
    wrong = Credentials(api_key="wrong")
    assert call(start(), "get_customer_inventory", "x", credentials=wrong).finding is Finding.CREDENTIALS
    wrong = Credentials(signer=Signer("1", "abcd"))
    refused = call(start(), *("create_coupon_reservation", *CALLS["create_coupon_reservation"]), credentials=wrong)
    assert (refused.finding, refused.status) == (Finding.FINAL, 400)
    undeclared = call(start(), "delete_customer_data", "x", credentials=wrong)
    assert (undeclared.finding, undeclared.status) == (Finding.UNKNOWN, 400)


@pytest.mark.parametrize("generation", Generation)
@pytest.mark.parametrize("name", CALLS)
def test_its_refusals_are_in_the_apis_own_words(start, name, generation):
    operation = OPERATIONS[name]
    if generation not in operation.generations:
        pytest.skip("not an operation of that generation")
    sandbox = start(generation=generation)
    value, body = CALLS[name]
    assert call(sandbox, name, value, body, credentials=Credentials(api_key="wrong")).finding is Finding.CREDENTIALS
    if 404 in operation.refusals:
        unknown = ("nobody", body) if operation.parameter else (None, NO_AUDIENCE)
        assert call(sandbox, name, *unknown).finding is Finding.ABSENT


def test_an_idempotent_write_is_done_once(start):
    sandbox = start()
    body = CALLS["track_event_v2"][1]
    answers = [call(sandbox, "track_event_v2", body=body, idempotency_key="k1") for _ in range(2)]
    assert [answer.finding for answer in answers] == [Finding.DONE] * 2
    assert [entry.acted for entry in sandbox.log] == [True, False]


@pytest.mark.parametrize(
    ("kind", "finding", "reason"),
    [
        (FaultKind.ERROR_500, Finding.UNKNOWN, Reason.SERVER_ERROR),
        (FaultKind.ERROR_503, Finding.REFUSED, Reason.UNAVAILABLE),
        (FaultKind.BARE_503, Finding.UNKNOWN, Reason.SERVER_ERROR),
        (FaultKind.ERROR_429, Finding.REFUSED, Reason.RATE_LIMITED),
        (FaultKind.ERROR_502_HTML, Finding.UNKNOWN, Reason.SERVER_ERROR),
        (FaultKind.HTML_200, Finding.UNKNOWN, Reason.FOREIGN_ANSWER),
        (FaultKind.REDIRECT_303, Finding.UNKNOWN, Reason.REDIRECTED),
        (FaultKind.TRUNCATED, Finding.UNKNOWN, None),
        (FaultKind.DROP_BEFORE, Finding.UNKNOWN, Reason.READ_FAILED),
        (FaultKind.DROP_AFTER, Finding.UNKNOWN, Reason.READ_FAILED),
        (FaultKind.SLOW, Finding.UNKNOWN, Reason.READ_TIMEOUT),
    ],
)
@pytest.mark.parametrize("name", ["delete_customer_data", "get_customer_inventory"])
def test_no_fault_passes_for_done_and_none_is_sent_twice(start, name, kind, finding, reason):
    sandbox = start(faults=Faults(rates={kind: 1}, slow_seconds=600))
    answer = call(sandbox, name, "customer-00001", timeouts=Timeouts(read=0.3))
    assert answer.finding is finding
    assert reason in (answer.reason, None)
    (entry,) = sandbox.log
    assert (entry.operation, entry.fault) == (name, kind)
    erased = name == "delete_customer_data" and kind.server_acts
    assert sandbox.store.totals()["profile"] == (4 if erased else 5)
