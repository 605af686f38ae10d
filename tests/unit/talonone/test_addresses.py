import pytest

from privacy_toolkit.config.file import is_loopback
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.talonone.addresses import check_base_url, make_path, make_query
from privacy_toolkit.talonone.operations import OPERATIONS, Generation

ERASE, INVENTORY = OPERATIONS["delete_customer_data"], OPERATIONS["get_customer_inventory"]
CURRENT, SEED = Generation.CURRENT, Generation.SEED


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("https://x.europe-west1.talon.one", "https://x.europe-west1.talon.one"),
        ("https://x.talon.one/", "https://x.talon.one"),
        ("https://x.talon.one:8443/", "https://x.talon.one:8443"),
        ("https://gateway.example/talon/", "https://gateway.example/talon"),
        ("HTTPS://X.talon.one", "https://x.talon.one"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_base_urls_that_are_taken(text, base):
    assert str(check_base_url(text)) == base


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x.talon.one",
        "ftp://x.talon.one",
        "https://",
        "https:///path",
        "https://user:pass@x.talon.one",
        "https://x.talon.one@evil.example",
        "https://x.talon.one?a=b",
        "https://x.talon.one/?",
        "https://x.talon.one#f",
        "https://x.talon.one:99999",
        "https://x.talon.one:port",
        "https://x talon.one",
        "https://x.talon.one\n",
        "https://x.talon.one\\evil",
        "https://[::1",
        "http://x.talon.one",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://0.0.0.0",
    ],
)
def test_base_urls_that_are_refused(text):
    with pytest.raises(UsageError) as refused:
        check_base_url(text)
    assert "pass" not in refused.value.message.replace("password", "")


def test_http_can_be_allowed():
    assert str(check_base_url("http://talon.internal", allow_insecure_http=True)) == "http://talon.internal"


@pytest.mark.parametrize(
    ("host", "is_it"), [("localhost", True), ("127.8.9.1", True), ("::1", True), ("10.0.0.1", False), ("x.y", False)]
)
def test_loopback(host, is_it):
    assert is_loopback(host) is is_it


@pytest.mark.parametrize(
    ("value", "segment"),
    [
        ("00123", "00123"),
        ("a/b c+d@x.com", "a%2Fb%20c%2Bd%40x.com"),
        ("a%2Fb", "a%252Fb"),
        ("...", "..."),
        ("ü", "%C3%BC"),
        ("?#", "%3F%23"),
        (" ", "%20"),
        ("x" * 1000, "x" * 1000),
    ],
)
def test_values_are_encoded_once(value, segment):
    assert make_path(ERASE, value) == f"/v1/customer_data/{segment}"


@pytest.mark.parametrize(
    "value",
    [5, b"abc", 1.5, None, "", ".", "..", "a\nb", "a\x00", "\x7f", "\x85", "\u2028", "\ud800", "x" * 1001],
)
def test_values_that_address_something_else_are_refused(value):
    with pytest.raises(UsageError) as refused:
        make_path(ERASE, value)
    assert not value or value in {".", ".."} or str(value) not in str(refused.value)


def test_an_operation_without_parameter_takes_no_value():
    assert make_path(OPERATIONS["create_referral"], None) == "/v1/referrals"
    with pytest.raises(UsageError):
        make_path(OPERATIONS["create_referral"], "x")


def test_the_inventory_is_always_asked_in_all_its_parts():
    assert make_query(INVENTORY, SEED, None) == "?profile=true&referrals=true&coupons=true"
    everything = "?profile=true&referrals=true&coupons=true&loyalty=true&giveaways=true&achievements=true"
    assert make_query(INVENTORY, CURRENT, {}) == everything
    assert make_query(INVENTORY, CURRENT, {"profile": True}) == everything
    with pytest.raises(UsageError, match="always sent with profile=true"):
        make_query(INVENTORY, CURRENT, {"profile": False})


def test_a_v2_event_is_never_silent():
    assert make_query(OPERATIONS["track_event_v2"], CURRENT, {"dry": True}) == "?silent=no&dry=true"


@pytest.mark.parametrize(
    ("name", "generation", "query"),
    [
        ("get_customer_inventory", SEED, {"loyalty": True}),
        ("delete_customer_data", CURRENT, {"dry": True}),
        ("update_customer_profile_v2", SEED, {"dry": True}),
        ("update_customer_profile_v2", CURRENT, {"dry": True}),
        ("update_customer_profile_v2", CURRENT, {"dry": True, "runRuleEngine": False}),
        ("update_customer_session_v2", CURRENT, {"now": "2027-01-01T00:00:00Z"}),
        ("update_customer_session_v2", CURRENT, {"dry": "yes"}),
        ("track_event_v2", CURRENT, {"silent": "yes"}),
    ],
)
def test_queries_that_would_not_do_what_they_say_are_refused(name, generation, query):
    with pytest.raises(UsageError):
        make_query(OPERATIONS[name], generation, query)


def test_a_dry_call_can_look_into_the_future():
    query = make_query(
        OPERATIONS["update_customer_session_v2"], CURRENT, {"dry": True, "now": "2027-01-01T00:00:00+01:00"}
    )
    assert query == "?dry=true&now=2027-01-01T00%3A00%3A00%2B01%3A00"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("https://x.talon.one/v1", "https://x.talon.one"),
        ("https://x.talon.one/v1/", "https://x.talon.one"),
        ("https://x.talon.one//V2", "https://x.talon.one"),
        ("https://x.talon.one/%76%31", "https://x.talon.one"),
        ("https://x.talon.one/v1/customer_profiles", "https://x.talon.one"),
        ("https://x.talon.one/v1/customer_profiles/anna%40x/inventory", "https://x.talon.one"),
        ("https://x.talon.one/v1/applications", "https://x.talon.one"),
        ("https://x.talon.one/integration", "https://x.talon.one"),
        ("https://x.talon.one/integration/v1", "https://x.talon.one"),
        ("https://x.talon.one/management/v1/campaigns", "https://x.talon.one"),
        ("https://gateway.example:8443/talon/v1", "https://gateway.example:8443/talon"),
    ],
)
def test_a_path_that_belongs_to_a_call_is_refused_and_the_right_url_named(text, right):
    with pytest.raises(UsageError) as refused:
        check_base_url(text)
    assert refused.value.hint == f"Without it, it is {right}"
    assert "anna" not in refused.value.message + refused.value.hint
    assert str(check_base_url(right)) == right


@pytest.mark.parametrize(
    "text",
    ["https://talon.one", "https://docs.talon.one/integration-api", "https://WWW.talon.one.", "https://g/a/../b"],
)
def test_what_can_be_no_deployment_is_refused(text):
    with pytest.raises(UsageError):
        check_base_url(text)


@pytest.mark.parametrize("text", ["https://g.example/v1/talon", "https://g.example/api", "https://g.example/vip"])
def test_a_gateway_may_have_a_path_of_its_own(text):
    assert str(check_base_url(text)) == text
