import json

import pytest

from privacy_toolkit.access import faithful
from privacy_toolkit.access.redaction import redact

ME = "me-0000001"


def redacted(answer, customer_id=ME):
    found = redact(faithful.read(json.dumps(answer).encode()), customer_id)
    return json.loads(faithful.write(found.data)), found.people, found.occurrences


def test_others_are_numbered_as_they_appear_and_the_customer_stays(answer):
    data, people, places = redacted(answer, "customer-00001")
    assert data["referrals"][0]["advocateProfileIntegrationId"] == "customer-00001"
    assert data["referrals"][0]["friendProfileIntegrationId"] == "person 1"
    assert data["referrals"][0]["referredCustomers"] == ["person 1", "person 2"]
    assert data["coupons"][0]["recipientIntegrationId"] == "customer-00001"
    assert [holder["integrationId"] for holder in data["loyalty"]["cards"][0]["profiles"]] == [
        "customer-00001",
        "person 3",
    ]
    assert data["profile"]["attributes"]["Note"] == "knows person 1,\nsee https://shop.example/?f=person 1"
    assert (people, places) == (3, 6)


def test_nothing_else_is_changed(answer):
    data, _, _ = redacted(answer, "customer-00001")
    undone = json.dumps(data)
    for label, id_ in (("person 1", "friend-of-00042"), ("person 2", "friend-of-00099"), ("person 3", "partner-777")):
        undone = undone.replace(label, id_)
    assert json.loads(undone) == answer


def test_without_others_the_answer_is_the_answer():
    answer = {"profile": {"integrationId": ME, "attributes": {"a": "person 1"}}, "coupons": None}
    assert redacted(answer) == (answer, 0, 0)


def test_empty_ids_are_nobody():
    answer = {"coupons": [{"recipientIntegrationId": "", "referralId": 0}, {"recipientIntegrationId": None}]}
    assert redacted(answer) == (answer, 0, 0)


def test_referral_of_a_coupon_is_the_customers_own_or_another_person():
    coupons = [{"referralId": 3}, {"referralId": 4}, {"referralId": 4}]
    data, people, places = redacted({"coupons": coupons, "referrals": [{"id": 3}]})
    assert [coupon["referralId"] for coupon in data["coupons"]] == [3, "person 1", "person 1"]
    assert (people, places) == (1, 2)


def test_profile_number_of_a_giveaway_belongs_to_the_person_beside_it():
    giveaways = [
        {"profileId": 7, "profileIntegrationId": ME},
        {"profileId": 8, "profileIntegrationId": "other-0001"},
        {"profileId": 8},
        {"profileId": 9},
        {"profileId": 7},
    ]
    data, people, _ = redacted({"giveaways": giveaways})
    assert [giveaway["profileId"] for giveaway in data["giveaways"]] == [7, "person 1", "person 1", "person 2", 7]
    assert data["giveaways"][1]["profileIntegrationId"] == "person 1"
    assert people == 2


def test_unknown_fields_that_are_called_like_an_id_are_taken_for_one():
    answer = {
        "profile": {"integrationId": ME, "id": 7, "customerId": ME, "profileId": 7},
        "referrals": [{"inviterProfileId": "other-0001", "more": {"friendIntegrationIds": ["other-0002", ME]}}],
        "partners": [{"customer_id": 4711}],
    }
    data, people, _ = redacted(answer)
    assert data["profile"] == answer["profile"]
    assert data["referrals"] == [{"inviterProfileId": "person 1", "more": {"friendIntegrationIds": ["person 2", ME]}}]
    assert data["partners"] == [{"customer_id": "person 3"}]
    assert people == 3


def test_in_attributes_any_name_is_the_controllers():
    answer = {"profile": {"attributes": {"FriendId": "Breeze", "customerId": 4711}}}
    assert redacted(answer) == (answer, 0, 0)


def test_ids_are_found_in_names_and_as_numbers_where_the_controller_chose_them():
    answer = {
        "coupons": [{"recipientIntegrationId": "471100"}, {"recipientIntegrationId": "12"}],
        "profile": {
            "totalSales": 471100,
            "attributes": {"471100": 471100, "person 1": 12, "n": {"x 471100": [471100]}},
        },
        "loyalty": {"programs": {"471100": {"id": 471100, "subLedgers": {"of 471100": {}}}}},
    }
    data, people, places = redacted(answer)
    assert data["profile"]["attributes"] == {
        "person 1": "person 1",
        "person 1 (2)": 12,
        "n": {"x person 1": ["person 1"]},
    }
    assert data["profile"]["totalSales"] == 471100
    assert data["loyalty"]["programs"] == {"471100": {"id": 471100, "subLedgers": {"of person 1": {}}}}
    assert (people, places) == (2, 7)


def test_moments_are_no_ids():
    answer = {"coupons": [{"created": "2024-01-01T00:00:00Z", "recipientIntegrationId": "2024"}]}
    assert redacted(answer)[0]["coupons"][0]["created"] == "2024-01-01T00:00:00Z"


@pytest.mark.parametrize("value", [None, [], {}, "other-0001", 5, True, [["other-0001"]], {"id": "other-0001"}, [None]])
@pytest.mark.parametrize("section", ["profile", "coupons", "referrals", "loyalty", "giveaways", "achievements", "new"])
def test_answers_of_another_shape_go_through(section, value):
    answer = {section: value, "referrals": [{"friendProfileIntegrationId": "other-0001"}]} | {section: value}
    answer["x"] = {"friendProfileIntegrationId": value}
    data, _, _ = redacted(answer)
    assert data.keys() == answer.keys()
