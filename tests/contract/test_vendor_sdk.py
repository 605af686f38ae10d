"""The vendor's own Python SDK talks to the sandbox: what it requires of an answer is there.

It has nine of the twelve operations; the three legacy V1 ones have gone from it.
"""

from collections.abc import Iterator

import pytest

from privacy_toolkit.sandbox import RunningSandbox, start_in_thread
from privacy_toolkit.sandbox.store import SandboxSettings
from tests.support.late import talon_one

CUSTOMERS = 60  # enough for some of every kind of holding
CODE = "SANDBOX-0001"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    with start_in_thread(SandboxSettings(seed_customers=CUSTOMERS)) as running:
        yield running


def api_with(sandbox: RunningSandbox, key: str) -> "talon_one.IntegrationApi":
    configuration = talon_one.Configuration(
        host=sandbox.base_url, api_key={"api_key_v1": key}, api_key_prefix={"api_key_v1": "ApiKey-v1"}
    )
    configuration.retries = 0
    return talon_one.IntegrationApi(talon_one.ApiClient(configuration))


@pytest.fixture
def api(sandbox) -> "talon_one.IntegrationApi":
    return api_with(sandbox, sandbox.settings.api_key)


def test_inventories_are_understood(api):
    held = [
        api.get_customer_inventory(
            f"customer-{number:05d}",
            profile=True,
            referrals=True,
            coupons=True,
            loyalty=True,
            giveaways=True,
            achievements=True,
        )
        for number in range(1, CUSTOMERS + 1)
    ]
    assert [inventory.profile.integration_id for inventory in held][-1] == f"customer-{CUSTOMERS:05d}"
    assert all(inventory.profile.loyalty_memberships is None for inventory in held)
    assert any(inventory.loyalty.programs for inventory in held)
    assert any(inventory.loyalty.cards for inventory in held)
    assert any(inventory.referrals and inventory.referrals[0].referred_customers for inventory in held)
    assert any(inventory.coupons and inventory.coupons[0].state == "active" for inventory in held)
    assert any(inventory.giveaways for inventory in held)
    assert any(inventory.achievements for inventory in held)


def test_coupons_are_reserved_listed_and_released(api):
    ids = talon_one.CouponReservations(integrationIDs=["customer-00002", "customer-00003"])
    assert api.create_coupon_reservation(CODE, ids).value == CODE
    reserved = api.get_reserved_customers(CODE)
    assert {"customer-00002", "customer-00003"} <= {profile.integration_id for profile in reserved.data}
    assert reserved.total_result_size == len(reserved.data)
    assert api.delete_coupon_reservation_with_http_info(CODE, ids).status_code == 204
    left = {profile.integration_id for profile in api.get_reserved_customers(CODE).data}
    assert not {"customer-00002", "customer-00003"} & left


def test_referrals_are_made(api):
    made = api.create_referral(talon_one.NewReferral(campaignId=7, advocateProfileIntegrationId="a1", usageLimit=2))
    assert (made.campaign_id, made.advocate_profile_integration_id, made.usage_limit) == (7, "a1", 2)


def test_profiles_are_updated(api):
    request = talon_one.CustomerProfileIntegrationRequestV2(
        attributes={"City": "Sampleford"}, responseContent=["customerProfile", "loyalty", "event"]
    )
    answer = api.update_customer_profile_v2("new customer/1", request, run_rule_engine=True)
    assert answer.customer_profile.integration_id == "new customer/1"
    assert answer.customer_profile.attributes == {"City": "Sampleford"}
    assert answer.event.profile_id == "new customer/1"
    assert answer.effects == []


def test_sessions_are_updated_although_coupon_and_referral_are_missing(api):
    session = talon_one.NewCustomerSessionV2(
        profileId="customer-00004",
        state="closed",
        couponCodes=["ABC"],
        cartItems=[talon_one.CartItem(sku="s1", quantity=2, price=2.5)],
        additionalCosts={"shipping": talon_one.AdditionalCost(price=3)},
    )
    content = ["customerSession", "customerProfile", "event", "coupons", "loyalty", "triggeredCampaigns"]
    answer = api.update_customer_session_v2(
        "s/1", talon_one.IntegrationRequest(customerSession=session, responseContent=content)
    )
    assert (answer.customer_session.integration_id, answer.customer_session.state) == ("s/1", "closed")
    assert answer.customer_session.total == 8
    assert answer.customer_profile.integration_id == "customer-00004"
    assert answer.event.session_id == "s/1"


def test_events_are_tracked(api):
    request = talon_one.IntegrationEventV2Request(profileId="customer-00005", type="seen", responseContent=["event"])
    answer = api.track_event_v2(request, silent="no")
    assert answer.event.type == "seen"
    assert answer.customer_profile.integration_id == "customer-00005"
    assert api.track_event_v2_with_http_info(request).status_code == 204


def test_customer_data_is_deleted(api):
    assert api.delete_customer_data_with_http_info("customer-00006").status_code == 204
    with pytest.raises(talon_one.exceptions.NotFoundException) as gone:
        api.get_customer_inventory("customer-00006", profile=True)
    assert isinstance(gone.value.data, talon_one.ErrorResponseWithStatus)
    assert gone.value.data.status_code == 404


def test_refusals_are_understood(sandbox, api):
    with pytest.raises(talon_one.exceptions.UnauthorizedException) as refused:
        api_with(sandbox, "wrong").get_customer_inventory("customer-00001")
    assert refused.value.data.message == "Invalid API key"
    with pytest.raises(talon_one.exceptions.BadRequestException) as invalid:
        api.create_referral(talon_one.NewReferral(campaignId=7, advocateProfileIntegrationId=""))
    assert invalid.value.data.message == "The submitted data was invalid"
    assert invalid.value.data.errors[0].source.pointer == "/advocateProfileIntegrationId"


def test_ids_reach_the_sandbox_as_they_are(sandbox, api):
    for customer in ("a/b c+d@x.example", "a%2Fb", " ", "ü€", "?#;="):
        with pytest.raises(talon_one.exceptions.NotFoundException):
            api.delete_customer_data(customer)
        assert [entry.value for entry in sandbox.log][-1] == customer
