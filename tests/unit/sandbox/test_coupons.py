import pytest

from privacy_toolkit.sandbox.wire import RefusalError


def refusal(call, *given, **flags) -> int:
    with pytest.raises(RefusalError) as caught:
        call(*given, **flags)
    return caught.value.status


@pytest.fixture
def stocked(desk):
    opened = desk()
    opened.coupon("CODE")
    opened.coupon("PERSONAL", recipient="c1")
    opened.customer("c1", Name="Ash")
    opened.customer("c2")
    return opened


def reserve(desk, *customers, code="CODE"):
    return desk.ask("create_coupon_reservation", code, {"integrationIDs": list(customers)})


def holders(desk) -> list[str]:
    answer = desk.ask("get_reserved_customers", "CODE")
    found = [profile["integrationId"] for profile in answer["data"]]
    assert answer["totalResultSize"] == len(found)
    return found


def test_reserve_overrides_the_limit_and_repeats_harmlessly(stocked):
    assert reserve(stocked, "c1", "c2")["reservationCounter"] == 2
    assert reserve(stocked, "c2")["reservationCounter"] == 2
    assert holders(stocked) == ["c1", "c2"]


def test_release_passes_over_who_has_none(stocked):
    reserve(stocked, "c1", "c2")
    assert stocked.call("delete_coupon_reservation", "CODE", {"integrationIDs": ["c1", "nobody"]}).status == 204
    assert holders(stocked) == ["c2"]


@pytest.mark.parametrize("operation", ["create_coupon_reservation", "delete_coupon_reservation"])
def test_unknown_coupon_is_404(stocked, operation):
    assert refusal(stocked.call, operation, "NONE", {"integrationIDs": ["c1"]}) == 404
    assert refusal(stocked.call, "get_reserved_customers", "NONE") == 404


def test_personal_coupons_are_not_reservable(stocked):
    assert refusal(stocked.call, "create_coupon_reservation", "PERSONAL", {"integrationIDs": ["c2"]}) == 400


def test_an_unknown_customer_is_refused_and_nobody_is_reserved(stocked):
    assert refusal(stocked.call, "create_coupon_reservation", "CODE", {"integrationIDs": ["c1", "nobody"]}) == 404
    assert holders(stocked) == []


def test_or_an_unknown_customer_is_made(desk):
    opened = desk(unknown_profile="create")
    opened.coupon("CODE")
    reserve(opened, "new")
    assert holders(opened) == ["new"]


def test_each_referral_has_its_own_code_and_its_advocate_a_profile(desk):
    opened = desk()
    body = {"campaignId": 5, "advocateProfileIntegrationId": "a1", "friendProfileIntegrationId": "f1", "usageLimit": 3}
    first, second = (opened.ask("create_referral", body=body) for _ in range(2))
    assert first["code"] != second["code"]
    assert (first["campaignId"], first["usageLimit"], first["friendProfileIntegrationId"]) == (5, 3, "f1")
    held = opened.ask("get_customer_inventory", "a1", referrals="true")["referrals"]
    assert [(referral["code"], referral["referredCustomers"]) for referral in held] == [
        (first["code"], ["f1"]),
        (second["code"], ["f1"]),
    ]


def test_many_advocates_have_a_code_each_that_is_shown_unless_it_is_silent(desk):
    opened = desk()
    body = {"campaignId": 5, "advocateProfileIntegrationIds": ["a1", "a2"], "usageLimit": 3, "attributes": {"n": 1}}
    answer = opened.ask("create_referrals", body=body, silent="no")
    assert answer["totalResultSize"] == 2
    assert [one["advocateProfileIntegrationId"] for one in answer["data"]] == ["a1", "a2"]
    assert len({one["code"] for one in answer["data"]}) == 2
    assert {(one["campaignId"], one["usageLimit"], str(one["attributes"])) for one in answer["data"]} == {
        (5, 3, "{'n': 1}")
    }
    assert opened.call("create_referrals", body=body).status == 204
    assert len(opened.ask("get_customer_inventory", "a1", referrals="true")["referrals"]) == 2
