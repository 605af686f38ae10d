"""Whatever the current document lets anybody ask, the sandbox answers as it says; and what it lets nobody ask."""

import http.client
import json

import pytest

from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import EntityKind, SandboxSettings
from privacy_toolkit.talonone.operations import OPERATIONS, Generation
from tests.support.against_document import KEY, UNDECLARED, Explorer
from tests.support.documents import read_document

EXAMPLES, SEED = 6, 1
NAMES = [one.operation_id for one in OPERATIONS.values() if Generation.CURRENT in one.generations]
PATHS = sorted(read_document(Generation.CURRENT)["paths"])
ITEM = {"sku": "s1", "quantity": 2, "price": 2.5}


@pytest.fixture(scope="module")
def asking():
    return Explorer()


@pytest.fixture(scope="module")
def sandbox():
    with start_in_thread(SandboxSettings(seed_customers=8)) as running:
        yield running


def ask(sandbox, method, path, body=None):
    connection = http.client.HTTPConnection(sandbox.base_url.removeprefix("http://"), timeout=60)
    connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), KEY)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_no_answer_departs_from_the_document(asking, name):
    asking.explore(name, EXAMPLES, SEED)
    departures = {what: how for what, how in asking.seen.departures.items() if what.startswith(f"{name}:")}
    assert departures == {}
    assert min(asking.seen.answers[name]) < 300  # what was asked is not refused alone


def test_each_operation_of_the_document_is_asked(asking):
    assert sorted(asking.operations) == sorted(NAMES)


@pytest.mark.parametrize("name", sorted({name for name, _ in UNDECLARED}))
def test_each_exception_is_met(asking, name):
    asking.explore(name, EXAMPLES, SEED)
    assert {status for of, status in UNDECLARED if of == name} <= asking.seen.answers[name].keys()


@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_told_which_there_are(asking, path):
    found = list(asking.methods(path))
    methods = ", ".join(sorted(method.upper() for method in asking.document["paths"][path] if method != "parameters"))
    assert len(found) >= 6
    assert {(status, allow) for _, status, allow in found} == {(405, methods)}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_that_there_is_not_has_no_methods(sandbox, method):
    assert ask(sandbox, method, "/v1/nothing")[0] == 404


# What was answered with 500, or with null, before.


@pytest.mark.parametrize(
    ("item", "pointer"),
    [
        ({"price": None}, "/customerSession/cartItems/0/price"),
        ({"additionalCosts": None}, "/customerSession/cartItems/0/additionalCosts"),
        ({"additionalCosts": {"a": None}}, "/customerSession/cartItems/0/additionalCosts"),
        ({"quantity": 10_001}, "/cartItems"),
        ({"price": 1e308}, "/cartItems"),
        ({"quantity": 10**400}, "/cartItems"),
        ({"price": 10**400}, "/customerSession/cartItems/0/price"),
    ],
)
def test_an_item_that_can_not_be_counted_is_refused(sandbox, item, pointer):
    body = {"customerSession": {"cartItems": [ITEM | item]}, "responseContent": ["customerSession"]}
    status, answer = ask(sandbox, "PUT", "/v2/customer_sessions/s1", body)
    assert (status, json.loads(answer)["errors"][0]["source"]["pointer"]) == (400, pointer)
    assert sandbox.store.get(EntityKind.SESSION, "s1") is None


def test_null_is_taken_where_the_document_has_it_and_in_what_has_any_shape(sandbox):
    attributes = {"attributes": {"a": None, "b": [None]}}
    assert ask(sandbox, "PUT", "/v2/customer_profiles/c1", attributes)[0] == 200
    path = "/v1/loyalty_programs/1/profile/customer-00001/delete_transactions"
    assert ask(sandbox, "POST", path, {"scope": "AllSubledgers", "subledgerIds": None})[0] == 204
    status, answer = ask(sandbox, "PUT", "/v2/customer_profiles/c1", {"attributes": None})
    assert (status, json.loads(answer)["errors"][0]["source"]["pointer"]) == (400, "/attributes")


@pytest.mark.parametrize("digits", [19, 5000])
def test_a_number_of_many_digits_is_none_of_the_sandbox(sandbox, digits):
    number = "9" * digits
    assert ask(sandbox, "GET", f"/v1/loyalty_programs/{number}/profile/customer-00001/balances")[0] == 404
    path = f"/v1/loyalty_programs/1/profile/customer-00001/transactions?skip={number}"
    assert ask(sandbox, "GET", path)[0] == 400
