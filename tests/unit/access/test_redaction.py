import json

import pytest

from privacy_toolkit.access import words
from privacy_toolkit.access.package import redact

ME = "me-0000001"


def redacted(answer, customer_id=ME):
    found = redact(words.read_answer(json.dumps(answer).encode()), customer_id)
    return json.loads(words.write_json(found.data)), found.people, found.occurrences


def test_others_are_numbered_as_they_appear_and_the_customer_stays(answer):
    data, people, places = redacted(answer, "customer-00001")
    assert data["referrals"][0]["advocateProfileIntegrationId"] == "customer-00001"
    assert data["referrals"][0]["friendProfileIntegrationId"] == "person 1"
    assert data["referrals"][0]["referredCustomers"] == ["person 2", "person 3"]
    assert data["coupons"][0]["recipientIntegrationId"] == "customer-00001"
    assert [holder["integrationId"] for holder in data["loyalty"]["cards"][0]["profiles"]] == [
        "customer-00001",
        "person 4",
    ]
    assert data["profile"]["attributes"] == answer["profile"]["attributes"]
    assert (people, places) == (4, 4)


def test_nothing_else_is_changed(answer):
    data, _, _ = redacted(answer, "customer-00001")
    undone = json.dumps(data)
    others = ("friend-of-00042", "friend-of-00042", "friend-of-00099", "partner-777")
    for number, id_ in enumerate(others, 1):
        undone = undone.replace(f"person {number}", id_)
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


def test_profile_number_of_a_giveaway_belongs_to_the_person_next_to_it():
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


def test_texts_and_numbers_of_the_customers_own_stay_whatever_they_say():
    answer = {
        "coupons": [{"recipientIntegrationId": "471100"}, {"recipientIntegrationId": "other-0001"}],
        "profile": {
            "totalSales": 471100,
            "attributes": {"471100": 471100, "friendId": "other-0001", "n": {"x other-0001": ["other-0001", 471100]}},
        },
        "loyalty": {
            "programs": {"471100": {"id": 471100, "subLedgers": {"of other-0001": {}}}},
            "cards": [{"blockReason": "as other-0001 said"}],
        },
        "inANewRelease": {"note": "other-0001"},
    }
    data, people, places = redacted(answer)
    assert [coupon["recipientIntegrationId"] for coupon in data["coupons"]] == ["person 1", "person 2"]
    assert data | {"coupons": None} == answer | {"coupons": None}
    assert (people, places) == (2, 2)


def test_one_person_has_one_number_in_a_field_and_another_in_another_field():
    """So nobody learns who holds a card with them from having invited everybody whom it could be."""
    answer = {
        "referrals": [{"friendProfileIntegrationId": "a"}, {"friendProfileIntegrationId": "b"}],
        "loyalty": {"cards": [{"profiles": [{"integrationId": "b"}]}, {"profiles": [{"integrationId": "b"}]}]},
    }
    data, people, places = redacted(answer)
    assert [referral["friendProfileIntegrationId"] for referral in data["referrals"]] == ["person 1", "person 2"]
    assert [card["profiles"] for card in data["loyalty"]["cards"]] == [[{"integrationId": "person 3"}]] * 2
    assert (people, places) == (3, 4)


def test_in_a_field_that_no_document_has_each_id_gets_a_number_of_its_own():
    data, people, places = redacted(
        {"new": {"friendIds": ["a", "a", ME], "more": [{"customer": "a", "user": {"x": 1}}]}}
    )
    assert data == {
        "new": {"friendIds": ["person 1", "person 2", ME], "more": [{"customer": "person 3", "user": {"x": 1}}]}
    }
    assert (people, places) == (3, 3)


def test_whatever_stands_in_a_field_that_names_somebody_is_taken_for_an_id():
    answer = {"referrals": [{"referredCustomers": [["a"], {"id": "b", "n": [4711]}, ME, None, True, ""]}]}
    data, people, _ = redacted(answer)
    names = data["referrals"][0]["referredCustomers"]
    assert names == [["person 1"], {"id": "person 2", "n": ["person 3"]}, ME, None, True, ""]
    assert people == 3


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
