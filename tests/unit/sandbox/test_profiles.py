import pytest

from privacy_toolkit.sandbox.wire import RefusalError, seed

PROFILE_WANTED = {"attributes": {"b": 2}, "responseContent": ["customerProfile", "loyalty"]}


def attributes(desk, customer="c1"):
    return desk.ask("get_customer_inventory", customer, profile="true")["profile"]["attributes"]


@pytest.mark.parametrize("operation", ["update_customer_profile", "update_customer_profile_v2"])
def test_attributes_are_merged_and_profiles_made(desk, operation):
    opened = desk()
    opened.call(operation, "c1", {"attributes": {"a": 1, "b": 1}})
    opened.call(operation, "c1", {"attributes": {"b": 2}})
    opened.call(operation, "c1", {})
    assert attributes(opened) == {"a": 1, "b": 2}


def test_v1_answers_with_the_whole_state(desk):
    answer = desk().ask("update_customer_profile", "c1", {"attributes": {"a": 1}})
    assert set(answer) == {"session", "profile", "event"}
    assert answer["profile"]["attributes"] == {"a": 1}


def test_v2_answers_with_the_profile_only_if_asked(desk):
    opened = desk()
    assert set(opened.ask("update_customer_profile_v2", "c1", {})) == {"effects", "createdCoupons", "createdReferrals"}
    answer = opened.ask("update_customer_profile_v2", "c1", PROFILE_WANTED, runRuleEngine="true")
    assert answer["customerProfile"]["attributes"] == {"b": 2}
    assert answer["loyalty"] == {"cards": [], "programs": {}}


def test_v2_takes_response_content_only_with_the_rule_engine(desk):
    with pytest.raises(RefusalError) as caught:
        desk().call("update_customer_profile_v2", "c1", PROFILE_WANTED)
    assert caught.value.status == 400
    assert caught.value.body["errors"][0]["source"] == {"pointer": "/responseContent"}


def test_v2_of_2020_always_answers_with_the_profile(desk):
    answer = desk(generation="2020").ask("update_customer_profile_v2", "c1", {"attributes": {"a": 1}})
    assert answer["customerProfile"]["attributes"] == {"a": 1}


def test_dry_keeps_nothing_in_v1(desk):
    opened = desk()
    opened.customer("c1", a=1)
    answer = opened.ask("update_customer_profile", "c1", {"attributes": {"a": 2}}, dry="true")
    assert answer["profile"]["attributes"] == {"a": 2}
    assert attributes(opened) == {"a": 1}


def test_dry_persists_in_v2_without_the_rule_engine(desk):
    opened = desk()
    opened.call("update_customer_profile_v2", "c1", {"attributes": {"a": 1}}, dry="true", runRuleEngine="true")
    with pytest.raises(RefusalError):
        attributes(opened)
    opened.call("update_customer_profile_v2", "c1", {"attributes": {"a": 1}}, dry="true")
    assert attributes(opened) == {"a": 1}


def test_dry_persists_in_v2_of_2020(desk):
    opened = desk(generation="2020")
    opened.call("update_customer_profile_v2", "c1", {"attributes": {"a": 1}}, dry="true", runRuleEngine="true")
    assert attributes(opened) == {"a": 1}


@pytest.mark.parametrize("environment", [None, "live", "sandbox"])
def test_profiles_say_which_environment_they_are_of_only_where_one_is_played(desk, environment):
    opened = desk(environment=environment)
    seed(opened.store, 1, ids=["seeded"])
    opened.ask("update_customer_profile", "made", {})
    for customer in ("seeded", "made"):
        profile = opened.ask("get_customer_inventory", customer, profile="true")["profile"]
        assert ("sandbox" in profile) is (environment is not None)
        assert profile.get("sandbox") == (None if environment is None else environment == "sandbox")


def test_many_profiles_are_updated_at_once_and_shown_unless_it_is_silent(desk):
    opened = desk()
    opened.customer("c1", a=1)
    body = {"customerProfiles": [{"integrationId": "c1", "attributes": {"b": 2}}, {"integrationId": "c2"}]}
    answer = opened.ask("update_customer_profiles", body=body, silent="no")
    shown = [one["customerProfile"] for one in answer["integrationStates"]]
    assert [(one["integrationId"], one["attributes"]) for one in shown] == [("c1", {"a": 1, "b": 2}), ("c2", {})]
    assert opened.call("update_customer_profiles", body=body).status == 204
    with pytest.raises(RefusalError) as caught:
        opened.call("update_customer_profiles", body={"customerProfiles": []})
    assert caught.value.status == 400


def act(desk, *actions):
    data = [{"profileIntegrationId": one, "audienceId": number, "action": action} for one, number, action in actions]
    return desk.call("update_customer_audiences", body={"data": data})


def memberships(desk, customer):
    profile = desk.ask("get_customer_inventory", customer, profile="true")["profile"]
    return [one["id"] for one in profile["audienceMemberships"]]


def test_audiences_are_joined_once_and_left_and_an_unknown_one_refuses_all(desk):
    opened = desk()
    assert act(opened, ("c1", 7, "add"), ("c1", 8, "add"), ("c2", 7, "add"), ("c3", 7, "delete")).body == b""
    act(opened, ("c1", 7, "add"), ("c2", 7, "delete"))
    assert (memberships(opened, "c1"), memberships(opened, "c2")) == ([8, 7], [])
    with pytest.raises(RefusalError):  # who left nothing was made by that
        memberships(opened, "c3")
    with pytest.raises(RefusalError) as caught:
        act(opened, ("c1", 9, "add"), ("c1", 0, "add"))
    assert (caught.value.status, memberships(opened, "c1")) == (404, [8, 7])
