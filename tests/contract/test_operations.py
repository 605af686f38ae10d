"""The table of operations against the vendor's published documents, of 2020 and current."""

import inspect
import re

import pytest

from privacy_toolkit.talonone.operations import FOR_GOOD, OPERATIONS, Generation, Meaning, RetrySafety, Scheme
from tests.support.documents import called, read_document
from tests.support.late import talon_one

CASES = [
    (generation, operation)
    for generation in Generation
    for operation in OPERATIONS.values()
    if generation in operation.generations
]


def read(generation):
    content = read_document(generation)
    return content, {
        declared["operationId"]: (method.upper(), path, declared)
        for path, methods in content["paths"].items()
        for method, declared in methods.items()
        if method in {"get", "put", "post", "delete"}
    }


@pytest.fixture(scope="module")
def documents():
    return {generation: read(generation) for generation in Generation}


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1].name}")
def case(request, documents):
    """Generation, our declaration, and the document's method, path and declaration."""
    generation, operation = request.param
    return generation, operation, *documents[generation][1][operation.operation_id]


def resolved(content, parameter):
    while "$ref" in parameter:
        parameter = content["components"]["parameters"][parameter["$ref"].rsplit("/", 1)[1]]
    return parameter


def without_names(path):
    return [segment.startswith("{") or segment for segment in path.split("/")]


@pytest.mark.parametrize("generation", Generation)
def test_every_documented_operation_is_declared(documents, generation):
    declared = {operation.operation_id for case, operation in CASES if case is generation}
    assert set(documents[generation][1]) == declared


def test_method_and_path(case):
    _, operation, method, path, _ = case
    assert (operation.method, without_names(operation.path)) == (method, without_names(path))


def test_query(case, documents):
    generation, operation, _, _, declared = case
    kinds = {"boolean": bool, "string": str, "integer": int, "array": list}
    assert {flag.name: flag.kind for flag in operation.query if generation in flag.generations} == {
        parameter["name"]: kinds[parameter["schema"]["type"]]
        for parameter in (resolved(documents[generation][0], one) for one in declared.get("parameters", ()))
        if parameter["in"] == "query"
    }


def test_authentication(case):
    generation, operation, _, _, declared = case
    schemes = {Scheme(name) for either in declared["security"] for name in either}
    assert Scheme.API_KEY in operation.auth
    if generation is Generation.SEED:
        assert operation.auth == schemes
    else:  # signatures went from the documents in 2021; a deployment that still takes them is not kept from it
        assert operation.auth >= schemes


def test_success(case):
    _, operation, _, _, declared = case
    silent = {204} if any(flag.name == "silent" for flag in operation.query) else set()  # never asked for
    successes = {int(status) for status in declared["responses"] if status.startswith("2")}
    assert successes - silent == {operation.success}


def documented_refusals(documents, operation_id):
    """The statuses of errors that any of the documents declares for an operation."""
    return {
        int(status)
        for _, operations in documents.values()
        if operation_id in operations
        for status in operations[operation_id][2]["responses"]
        if status.startswith("4")
    }


#: Their own documents, of 2020 and the last one that had them, declare no error at all: as of those that replaced them.
SUCCESSORS = {
    "update_customer_profile": "update_customer_profile_v2",
    "update_customer_session": "update_customer_session_v2",
}


def test_the_refusals_are_those_that_the_documents_declare(documents):
    for operation in OPERATIONS.values():
        told_by = OPERATIONS[SUCCESSORS.get(operation.name, operation.name)]
        assert operation.refusals == documented_refusals(documents, told_by.operation_id)
    for name in SUCCESSORS:
        assert documented_refusals(documents, OPERATIONS[name].operation_id) == set()


def test_what_is_not_declared_has_no_meaning():
    general = {401, 403, 429}
    for operation in OPERATIONS.values():
        later = {409, 503} if operation.retry not in FOR_GOOD else set()
        assert set(operation.statuses) == operation.refusals | general | later | {operation.success}


def test_bodies(case):
    _, operation, _, _, declared = case
    assert (operation.body is not None) == ("requestBody" in declared)
    success = declared["responses"][str(operation.success)]
    assert (operation.answer is not None) == bool(success.get("content"))


def test_v2_events_are_as_in_the_vendors_sdk():
    api = talon_one.IntegrationApi(talon_one.ApiClient(talon_one.Configuration(host="http://h")))
    nothing = dict.fromkeys(("silent", "dry", "force_complete_evaluation"))
    event = talon_one.IntegrationEventV2Request(type="t")
    method, url, *_ = api._track_event_v2_serialize(
        integration_event_v2_request=event,
        **nothing,
        _request_auth=None,
        _content_type=None,
        _headers=None,
        _host_index=0,
    )
    ours = OPERATIONS["track_event_v2"]
    assert (ours.method, f"http://h{ours.path}") == (method, url)
    fields = talon_one.IntegrationEventV2Request.model_fields
    assert set(ours.body.__struct_encode_fields__) == {field.alias or name for name, field in fields.items()}
    declared = re.findall(r"'(4\d\d)':", inspect.getsource(api.track_event_v2))
    assert ours.refusals == {int(status) for status in declared}
    answer = talon_one.TrackEventV2Response.model_fields
    assert set(ours.answer.__struct_encode_fields__) >= {field.alias or name for name, field in answer.items()}


def test_names_are_keys():
    assert all(name == operation.name for name, operation in OPERATIONS.items())
    assert len({operation.operation_id for operation in OPERATIONS.values()}) == len(OPERATIONS) == 24


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_what_is_said_of_an_operation_fits_together(operation):
    assert operation.statuses[operation.success] is Meaning.DONE
    if operation.method == "GET":
        assert operation.retry is RetrySafety.SAFE
    has_an_id_of_its_own = operation.name == "track_event_v3"
    puts = {"track_event_v3", "update_customer_audiences"}  # who is in an audience twice is in it once
    if operation.method == "POST" and operation.name not in puts:  # a key that is honoured for 24 hours is not enough
        assert operation.retry is not RetrySafety.SAFE
    if operation.retry is RetrySafety.CHECK_FIRST:
        lookup = OPERATIONS[operation.lookup]
        by_inventory = {"loyaltyCardId"}  # whose card it is, is in the inventory of the customer
        assert lookup.method == "GET"
        assert lookup.parameter == operation.parameter or operation.parameter in by_inventory
    elif has_an_id_of_its_own:
        assert OPERATIONS[operation.lookup].method == "GET"
    else:
        assert operation.lookup is None
    assert operation.generations


OF_PROGRAMS = [name for name, operation in OPERATIONS.items() if operation.is_of_a_program]


@pytest.mark.parametrize("name", OF_PROGRAMS)
def test_an_operation_of_a_program_is_the_same_within_one(name):
    operation, within = OPERATIONS[name], called(name, 33)
    assert (within.program, within.is_of_a_program, within.parameter) == (33, False, operation.parameter)
    assert within.path == operation.path.replace("{loyaltyProgramId}", "33")
    assert (within.name, within.statuses, within.query) == (name, operation.statuses, operation.query)


def test_the_operations_of_programs_are_those_of_the_document():
    assert set(OF_PROGRAMS) == {
        *("get_loyalty_balances", "get_loyalty_transactions", "delete_loyalty_transactions"),
        *("get_card_transactions", "unlink_loyalty_card"),
    }
