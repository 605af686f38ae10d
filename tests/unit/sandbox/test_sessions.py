import pytest

from privacy_toolkit.sandbox.store import EntityKind
from privacy_toolkit.sandbox.wire import RefusalError, coupon

ITEMS = [
    {"sku": "s1", "quantity": 2, "price": 10, "additionalCosts": {"wrap": {"price": 1}}},
    {"sku": "s2", "quantity": 1},
]


def update(desk, **session):
    content = ["customerSession", "customerProfile", "event"]
    return desk.ask("update_customer_session_v2", "s1", {"customerSession": session, "responseContent": content})


def refused(call, *given, **flags) -> int:
    with pytest.raises(RefusalError) as caught:
        call(*given, **flags)
    return caught.value.status


def test_a_session_is_made_with_its_profile_and_totals(desk):
    answer = update(desk(), profileId="c1", cartItems=ITEMS, additionalCosts={"shipping": {"price": 5}})
    session = answer["customerSession"]
    assert (session["state"], session["firstSession"], session["updateCount"]) == ("open", True, 1)
    assert (session["cartItemTotal"], session["additionalCostTotal"], session["total"]) == (20, 7, 27)
    assert answer["customerProfile"]["integrationId"] == "c1"
    assert not {"coupon", "referral"} & set(session)


def test_what_is_not_given_is_kept_and_attributes_are_merged(desk):
    opened = desk()
    update(opened, profileId="c1", couponCodes=["A"], attributes={"a": 1})
    session = update(opened, attributes={"b": 2})["customerSession"]
    assert (session["couponCodes"], session["attributes"], session["profileId"]) == (["A"], {"a": 1, "b": 2}, "c1")
    assert update(opened, couponCodes=[])["customerSession"]["couponCodes"] == []


def test_closing_and_cancelling_count_with_the_customer(desk):
    opened = desk()
    closed = update(opened, profileId="c1", state="closed", cartItems=ITEMS)["customerProfile"]
    assert (closed["closedSessions"], closed["totalSales"]) == (1, 22)
    cancelled = update(opened, state="cancelled")["customerProfile"]
    assert (cancelled["closedSessions"], cancelled["totalSales"]) == (0, 0)


@pytest.mark.parametrize("state", ["closed", "cancelled"])
def test_an_ended_session_is_not_modified(desk, state):
    opened = desk()
    update(opened, profileId="c1", state=state)
    for change in ({"attributes": {"a": 1}}, {"state": "open"}, {"state": "closed"}):
        assert refused(update, opened, **change) == 400


def test_only_a_first_session_is_a_first_one(desk):
    opened = desk()
    update(opened, profileId="c1")
    body = {"customerSession": {"profileId": "c1"}, "responseContent": ["customerSession"]}
    assert opened.ask("update_customer_session_v2", "s2", body)["customerSession"]["firstSession"] is False


def test_v1_has_one_coupon_and_one_referral(desk):
    opened = desk()
    answer = opened.ask(
        "update_customer_session", "s1", {"profileId": "c1", "coupon": "A", "referral": "R", "cartItems": []}
    )
    assert (answer["session"]["coupon"], answer["session"]["referral"]) == ("A", "R")
    assert opened.ask("update_customer_session", "s1", {"coupon": ""})["session"]["coupon"] == ""
    assert answer["profile"]["integrationId"] == "c1"


def test_an_anonymous_session_makes_no_profile(desk):
    opened = desk()
    answer = opened.ask("update_customer_session", "s1", {"profileId": ""})
    assert answer["session"]["profileId"] == ""
    assert opened.store.totals()["profile"] == 0


def test_a_dry_session_keeps_nothing(desk):
    opened = desk()
    opened.call("update_customer_session_v2", "s1", {"customerSession": {"profileId": "c1"}}, dry="true")
    assert set(opened.store.totals().values()) == {0}


def test_v1_event_makes_session_and_profile(desk):
    opened = desk()
    body = {"type": "seen", "attributes": {"a": 1}, "sessionId": "s1", "profileId": "c1"}
    result = opened.call("track_event", body=body)
    assert result.status == 201
    totals = opened.store.totals()
    assert (totals["profile"], totals["session"], totals["event"]) == (1, 1, 1)


def test_v1_event_of_another_customers_session_is_400(desk):
    opened = desk()
    update(opened, profileId="c1")
    body = {"type": "seen", "attributes": {}, "sessionId": "s1", "profileId": "c2"}
    assert refused(opened.call, "track_event", body=body) == 400
    assert opened.call("track_event", body=body | {"profileId": ""}).status == 201


def test_v2_event_is_silent_unless_told_otherwise(desk):
    opened = desk()
    body = {"type": "seen", "profileId": "c1"}
    assert opened.call("track_event_v2", body=body).status == 204
    answer = opened.ask("track_event_v2", body=body | {"responseContent": ["event"]}, silent="no")
    assert answer["customerProfile"]["integrationId"] == "c1"
    assert answer["event"]["type"] == "seen"
    assert opened.store.totals()[EntityKind.EVENT] == 2


def test_a_closed_session_redeems_its_coupons_and_a_cancelled_one_no_longer_does(desk):
    opened = desk()
    opened.coupon("ONCE")
    opened.store.reserve("ONCE", ["c1"])

    def held():
        (shown,) = opened.ask("get_customer_inventory", "c1", coupons="true")["coupons"]
        return shown["state"], shown["usageCounter"], shown["profileRedemptionCount"]

    update(opened, profileId="c1", couponCodes=["ONCE", "NO-SUCH"])
    assert held() == ("active", 0, 0)
    update(opened, state="closed")
    assert held() == ("used", 1, 1)
    update(opened, state="cancelled")
    assert held() == ("active", 0, 0)


def test_the_inventory_says_whether_a_coupon_holds(desk):
    opened = desk()
    update(opened, profileId="c1")
    for code, name, day in (("OLD", "expiryDate", "2000-01-01"), ("LATE", "startDate", "2999-01-01")):
        made = coupon(opened.store.number(), code, "2026-01-01T00:00:00Z") | {name: f"{day}T00:00:00Z"}
        opened.store.put(EntityKind.COUPON, code, made)
        opened.store.reserve(code, ["c1"])
    shown = opened.ask("get_customer_inventory", "c1", coupons="true")["coupons"]
    assert {one["value"]: one["state"] for one in shown} == {"OLD": "expired", "LATE": "pending"}
