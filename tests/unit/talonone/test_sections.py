import pytest

from privacy_toolkit.talonone.inventory import SECTIONS, entries, sections_of

NEWER = {"loyalty", "giveaways", "achievements"}


def test_everything_that_holds_something_is_complete():
    answer = {
        "profile": {"integrationId": "x"},
        "coupons": [{}],
        "referrals": [{"code": "A"}],
        "loyalty": {"cards": [], "programs": {"1": {"id": 1}}},
        "giveaways": [{}],
        "achievements": [{"title": "a"}],
    }
    assert set(sections_of(answer, "current").values()) == {"complete"}


@pytest.mark.parametrize("empty", [None, [], {}, {"cards": [], "programs": {}}, {"cards": None}])
def test_what_is_empty_is_not_held(empty):
    for generation in ("2020", "current"):
        assert set(sections_of(dict.fromkeys(SECTIONS, empty), generation).values()) == {"not_held"}


@pytest.mark.parametrize("answer", [None, {}])
def test_what_deployments_of_2020_do_not_give_out_is_not_said_to_be_nothing(answer):
    found = sections_of(answer, "2020")
    assert {name for name, state in found.items() if state == "not_obtainable"} == NEWER
    assert set(sections_of(answer, "current").values()) == {"not_held"}


def test_entries():
    assert entries("coupons", [{}, {}]) == 2
    assert entries("loyalty", {"cards": [{}], "programs": {"1": {}, "2": {}}, "new": 5}) == 3
    assert entries("profile", {"id": 5}) == 0
