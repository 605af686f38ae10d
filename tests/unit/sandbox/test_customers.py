import pytest

from privacy_toolkit.sandbox.store import EntityKind
from privacy_toolkit.sandbox.wire import RefusalError, seed

ALL = dict.fromkeys(("profile", "referrals", "coupons", "loyalty", "giveaways", "achievements"), "true")


def status(desk, operation, value) -> int:
    try:
        return desk.call(operation, value).status
    except RefusalError as error:
        return error.status


def filled(desk):
    desk.customer("c1", Name="Ash")
    desk.coupon("MINE", recipient="c1")
    desk.coupon("SHARED")
    desk.call("create_coupon_reservation", "SHARED", {"integrationIDs": ["c1"]})
    desk.call("create_referral", body={"campaignId": 1, "advocateProfileIntegrationId": "c1", "attributes": {"a": 1}})
    return desk


def test_inventory_holds_what_is_asked_for(desk):
    opened = filled(desk())
    assert opened.ask("get_customer_inventory", "c1") == {}
    assert set(opened.ask("get_customer_inventory", "c1", profile="true", coupons="false")) == {"profile"}
    everything = opened.ask("get_customer_inventory", "c1", **ALL)
    assert set(everything) == set(ALL)
    assert [coupon["value"] for coupon in everything["coupons"]] == ["MINE", "SHARED"]
    assert everything["profile"]["attributes"] == {"Name": "Ash"}


def test_inventory_of_2020_knows_fewer_flags(desk):
    opened = filled(desk(generation="2020"))
    assert set(opened.ask("get_customer_inventory", "c1", **ALL)) == {"profile", "referrals", "coupons"}


def test_inventory_of_nobody_is_404(desk):
    assert status(desk(), "get_customer_inventory", "nobody") == 404


def test_an_erased_profile_is_gone(desk):
    opened = filled(desk())
    assert status(opened, "delete_customer_data", "c1") == 204
    assert status(opened, "get_customer_inventory", "c1") == 404
    assert status(opened, "delete_customer_data", "c1") == 404


def test_or_it_stays_without_attributes(desk):
    opened = filled(desk(after_erase="empty"))
    assert status(opened, "delete_customer_data", "c1") == 204
    left = opened.ask("get_customer_inventory", "c1", **ALL)
    assert left["profile"]["attributes"] == {}
    assert [referral["attributes"] for referral in left["referrals"]] == [{}]
    assert [coupon["attributes"] for coupon in left["coupons"]] == [{}, {}]
    assert status(opened, "delete_customer_data", "c1") == 204


@pytest.mark.parametrize("after_erase", ["404", "empty"])
def test_erasing_one_leaves_the_others(desk, after_erase):
    opened = desk(after_erase=after_erase)
    seed(opened.store, 20)
    before = {name: opened.ask("get_customer_inventory", name, **ALL) for name in ("customer-00002", "customer-00003")}
    opened.call("delete_customer_data", "customer-00001")
    assert before == {name: opened.ask("get_customer_inventory", name, **ALL) for name in before}


def test_erasure_of_nobody_is_404(desk):
    assert status(desk(), "delete_customer_data", "nobody") == 404


def test_erasure_may_show_only_after_further_reads(desk):
    opened = filled(desk(erase_delay=2))
    assert status(opened, "delete_customer_data", "c1") == 204
    assert status(opened, "delete_customer_data", "c1") == 204
    seen = [status(opened, "get_customer_inventory", "c1") for _ in range(4)]
    assert seen == [200, 200, 404, 404]


def test_an_erasure_that_shows_later_has_then_cleared_the_data(desk):
    opened = filled(desk(erase_delay=1, after_erase="404"))
    opened.call("delete_customer_data", "c1")
    assert [status(opened, "get_customer_inventory", "c1") for _ in range(2)] == [200, 404]
    assert EntityKind.PROFILE not in opened.store.owned("c1")
    assert not any(one.get("attributes") for held in opened.store.owned("c1").values() for one in held)


def test_some_erasures_are_never_carried_out(desk):
    opened = filled(desk(never_clear_ids=frozenset({"c1"})))
    assert status(opened, "delete_customer_data", "c1") == 204
    assert opened.ask("get_customer_inventory", "c1", **ALL)["profile"]["attributes"] == {"Name": "Ash"}


def test_a_share_of_erasures_is_never_carried_out(desk):
    opened = desk(never_clear=0.25)
    for customer in (ids := seed(opened.store, 200)):
        opened.call("delete_customer_data", customer)
    still = sum(status(opened, "get_customer_inventory", customer) == 200 for customer in ids)
    assert 30 <= still <= 70


def test_any_later_write_makes_an_empty_profile_again(desk):
    opened = filled(desk())
    opened.call("delete_customer_data", "c1")
    opened.call("track_event_v2", body={"type": "seen", "profileId": "c1"})
    again = opened.ask("get_customer_inventory", "c1", **ALL)
    assert again["profile"]["attributes"] == {}
    assert [referral["attributes"] for referral in again["referrals"]] == [{}]
