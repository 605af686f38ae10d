from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_toolkit.sandbox.app import ApiRoute, NoRoute, Router
from privacy_toolkit.talonone.operations import OPERATIONS, Generation
from tests.support.documents import called

ROUTER = Router(Generation.CURRENT)


@pytest.mark.parametrize("operation", [called(name) for name in OPERATIONS], ids=lambda operation: operation.name)
def test_every_declared_operation_has_a_route(operation):
    path = operation.path.replace("{" + str(operation.parameter) + "}", "a%20b")
    assert ROUTER.match(operation.method, path.encode()) == ApiRoute(operation, "a b" if operation.parameter else "")


@pytest.mark.parametrize(
    ("segment", "value"),
    [
        ("a%2Fb", "a/b"),
        ("a%252Fb", "a%2Fb"),
        ("%E2%82%AC", "€"),
        ("a+b", "a+b"),
        ("%20", " "),
        ("a;b=c", "a;b=c"),
        ("...", "..."),
        ("100%25", "100%"),
    ],
)
def test_path_value_is_decoded_once(segment, value):
    assert ROUTER.match("DELETE", f"/v1/customer_data/{segment}".encode()) == ApiRoute(
        OPERATIONS["delete_customer_data"], value
    )


@given(st.text(min_size=1).filter(lambda text: text not in {".", ".."}))
def test_any_quoted_id_arrives_as_it_is(customer):
    path = "/v1/customer_profiles/" + quote(customer, safe="") + "/inventory"
    route = ROUTER.match("GET", path.encode())
    assert route == ApiRoute(OPERATIONS["get_customer_inventory"], customer)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/v1/customer_data/", 404),
        ("DELETE", "/v1/customer_data/.", 404),
        ("DELETE", "/v1/customer_data/..", 404),
        ("DELETE", "/v1/customer_data/%2E%2e", 404),
        ("DELETE", "/v1/", 404),
        ("DELETE", "/v1/customer_data/a/b", 404),
        ("GET", "/v1/customer_profiles//inventory", 404),
        ("DELETE", "/v1/customer_data/%FF", 400),
    ],
)
def test_what_is_no_operation_is_told_with_its_raw_path(method, path, status):
    assert ROUTER.match(method, path.encode()) == NoRoute(status, path)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/customer_data/a", ("DELETE",)),
        ("/v1/coupon_reservations/customerprofiles", ("DELETE", "POST")),
    ],
)
def test_a_method_that_a_path_does_not_have_is_told_which_there_are(path, methods):
    assert ROUTER.match("GET", path.encode()) == NoRoute(405, path, methods)


def test_generation_of_2020_has_no_v2_events():
    assert Router(Generation.SEED).match("POST", b"/v2/events") == NoRoute(404, "/v2/events")
