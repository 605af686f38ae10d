"""What the sandbox answers fits the vendor's published documents, of 2020 and current, operation by operation."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import quote

import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from privacy_toolkit.sandbox import RunningSandbox, start_in_thread
from privacy_toolkit.sandbox.faults import Faults
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.talonone.operations import OPERATIONS, Generation, Operation
from tests.support.documents import called, read_document, settle
from tests.support.late import openapi_schema_validator as validators
from tests.support.shop import CARD, MEMBER, hold_loyalty

KEY = {"authorization": "ApiKey-v1 sandbox-key"}
CUSTOMERS = 40
CODE = "SANDBOX-0001"
ITEM = {"name": "Lamp", "sku": "s1", "quantity": 2, "price": 2.5}
ALL_CONTENT = ["customerSession", "customerProfile", "coupons", "loyalty", "event", "triggeredCampaigns"]

#: A request for each operation of the documents that succeeds: path value, query, body.
SUCCESSES = {
    "create_coupon_reservation": (CODE, "", {"integrationIDs": ["customer-00001"]}),
    "delete_coupon_reservation": (CODE, "", {"integrationIDs": ["customer-00002"]}),
    "get_reserved_customers": (CODE, "", None),
    "create_referral": ("", "", {"campaignId": 1, "advocateProfileIntegrationId": "a1"}),
    "create_referrals": (
        "",
        "silent=no",
        {"campaignId": 1, "advocateProfileIntegrationIds": ["a1", "a2"], "usageLimit": 1},
    ),
    "delete_customer_data": ("customer-00003", "", None),
    "get_customer_inventory": ("customer-00001", "profile=true&referrals=true&coupons=true&loyalty=true", None),
    "get_loyalty_balances": (MEMBER, "includeTiers=true", None),
    "get_loyalty_transactions": (MEMBER, "pageSize=1000&skip=0", None),
    "delete_loyalty_transactions": (MEMBER, "", {"scope": "AllSubledgers"}),
    "get_card_transactions": (CARD, "pageSize=1", None),
    "unlink_loyalty_card": (CARD, "", {"integrationId": MEMBER}),
    "get_customer_achievements": (MEMBER, "pageSize=1000", None),
    "get_customer_session": ("s4", "", None),
    "track_event_v2": ("", "silent=no", {"type": "seen", "profileId": "c1", "responseContent": ["event"]}),
    "track_event_v3": (
        "",
        "silent=no",
        {"type": "seen", "profileId": "c1", "integrationId": "e1", "responseContent": ["advancedEvent"]},
    ),
    "get_event_v3": ("e0", "", None),
    "track_event": ("", "", {"type": "seen", "attributes": {"a": 1}, "sessionId": "s1", "profileId": "c1"}),
    "update_customer_profile": ("c1", "", {"attributes": {"a": 1}}),
    "update_customer_profile_v2": ("c1", "", {"attributes": {"a": 1}}),
    "update_customer_profiles": (
        "",
        "silent=no",
        {"customerProfiles": [{"integrationId": "c1", "attributes": {"a": 1}}, {"integrationId": "c2"}]},
    ),
    "update_customer_audiences": (
        "",
        "",
        {
            "data": [
                {"profileIntegrationId": "c1", "audienceId": 7, "action": "add"},
                {"profileIntegrationId": "c2", "audienceId": 7, "action": "delete"},
            ]
        },
    ),
    "update_customer_session": ("s2", "", {"profileId": "c1", "coupon": "ABCD", "cartItems": [ITEM]}),
    "update_customer_session_v2": (
        "s3",
        "",
        {"customerSession": {"profileId": "c1", "cartItems": [ITEM]}, "responseContent": ALL_CONTENT},
    ),
}


class Document:
    """One OpenAPI document, and validators for the answers it declares."""

    def __init__(self, generation: Generation) -> None:
        content = read_document(generation)
        settle(content)
        self._registry = Registry().with_resource("urn:document", Resource(content, DRAFT202012))
        self._paths = {
            operation["operationId"]: (path, method, operation["responses"])
            for path, methods in content["paths"].items()
            for method, operation in methods.items()
            if isinstance(operation, dict) and "operationId" in operation
        }
        newer = content["openapi"].startswith("3.1")
        self._validator = validators.OAS31Validator if newer else validators.OAS30Validator
        self._formats = validators.oas31_format_checker if newer else validators.oas30_format_checker

    def declares(self, operation_id: str, status: int) -> bool:
        return str(status) in self._paths[operation_id][2]

    def problems(self, operation_id: str, status: int, body: bytes) -> list[str]:
        """Where a body departs from the schema of the answer; an answer without content has to be empty."""
        path, method, responses = self._paths[operation_id]
        declared = responses[str(status)]
        if "application/json" not in declared.get("content", {}):
            return [] if body == b"" else ["a body where none is declared"]
        steps = ("paths", path, method, "responses", str(status), "content", "application/json", "schema")
        pointer = "".join("/" + quote(step.replace("~", "~0").replace("/", "~1")) for step in steps)
        schema = {"$ref": f"urn:document#{pointer}"}
        validator = self._validator(schema, registry=self._registry, format_checker=self._formats)
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(json.loads(body))]


@pytest.fixture(scope="module", params=list(Generation))
def generation(request) -> Generation:
    return request.param


@pytest.fixture(scope="module")
def document(generation) -> Document:
    return Document(generation)


@pytest.fixture(scope="module")
def sandbox(generation) -> Iterator[RunningSandbox]:
    with start_in_thread(SandboxSettings(generation=generation, seed_customers=CUSTOMERS)) as running:
        hold_loyalty(running.store)
        yield running


@pytest.fixture
def operation(request, generation) -> Operation:
    """An operation by its name, where the generation has it."""
    found = called(request.param)
    if generation not in found.generations:
        pytest.skip("not an operation of that generation")
    return found


def send(sandbox, operation, value="", query="", body=None, headers=KEY) -> tuple[int, bytes]:
    path = operation.path.replace("{" + str(operation.parameter) + "}", quote(value, safe=""))
    connection = HTTPConnection(sandbox.base_url.removeprefix("http://"), timeout=60)
    try:
        encoded = None if body is None else json.dumps(body).encode()
        connection.request(operation.method, f"{path}?{query}", encoded, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_every_operation_of_the_documents_is_asked():
    assert SUCCESSES.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("operation", SUCCESSES, indirect=True)
def test_success_fits(document, sandbox, operation):
    value, query, body = SUCCESSES[operation.name]
    status, answer = send(sandbox, operation, value, query, body)
    assert status == operation.success
    assert document.problems(operation.operation_id, status, answer) == []


def test_inventories_of_all_kinds_of_customers_fit(document, sandbox, generation):
    operation = OPERATIONS["get_customer_inventory"]
    query = "&".join(f"{flag.name}=true" for flag in operation.query if generation in flag.generations)
    for number in range(4, CUSTOMERS + 1):
        status, answer = send(sandbox, operation, f"customer-{number:05d}", query)
        assert document.problems(operation.operation_id, status, answer) == []


def test_profile_v2_fits_with_what_is_asked_for(sandbox, generation, document):
    if generation is Generation.SEED:
        pytest.skip("responseContent is not known to the document of 2020")
    body = {"attributes": {}, "responseContent": ["customerProfile", "loyalty", "event", "awardedGiveaways"]}
    operation = OPERATIONS["update_customer_profile_v2"]
    status, answer = send(sandbox, operation, "c1", "runRuleEngine=true", body)
    assert set(json.loads(answer)) >= set(body["responseContent"])
    assert document.problems(operation.operation_id, status, answer) == []


@pytest.mark.parametrize("operation", SUCCESSES, indirect=True)
def test_wrong_key_fits(document, sandbox, operation):
    status, answer = send(sandbox, operation, "x", headers={"authorization": "ApiKey-v1 wrong"})
    assert status == 401
    if document.declares(operation.operation_id, 401):
        assert document.problems(operation.operation_id, 401, answer) == []


@pytest.mark.parametrize(
    "operation", [name for name, (_, _, body) in SUCCESSES.items() if body is not None], indirect=True
)
def test_wrong_body_fits(document, sandbox, operation):
    status, answer = send(sandbox, operation, CODE, body=[])
    assert status == 400
    if document.declares(operation.operation_id, 400):
        assert document.problems(operation.operation_id, 400, answer) == []


@pytest.mark.parametrize(
    "operation",
    [
        "create_coupon_reservation",
        "delete_coupon_reservation",
        "get_reserved_customers",
        "delete_customer_data",
        "get_customer_inventory",
        "get_event_v3",
        "get_loyalty_balances",
        "get_loyalty_transactions",
        "delete_loyalty_transactions",
        "get_card_transactions",
        "unlink_loyalty_card",
        "get_customer_achievements",
    ],
    indirect=True,
)
def test_unknown_thing_fits(document, sandbox, operation):
    _, query, body = SUCCESSES[operation.name]
    status, answer = send(sandbox, operation, "nobody knows", query, body)
    assert status == 404
    if document.declares(operation.operation_id, 404):
        assert document.problems(operation.operation_id, 404, answer) == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/loyalty_programs/one/profile/customer-00007/transactions",
        "/v1/loyalty_programs/9/profile/customer-00007/transactions",
        "/v1/loyalty_programs/1/profile//transactions",
        "/v1/loyalty_programs//profile/customer-00007/transactions",
    ],
)
def test_a_path_of_no_program_or_customer_is_not_found(sandbox, path):
    connection = HTTPConnection(sandbox.base_url.removeprefix("http://"), timeout=60)
    connection.request("GET", path, headers=KEY)
    assert connection.getresponse().status == 404
    connection.close()


@pytest.mark.parametrize("name", ["update_customer_profile_v2", "update_customer_session_v2", "track_event"])
def test_conflict_fits(document, generation, name):
    if not document.declares(OPERATIONS[name].operation_id, 409):
        pytest.skip("this document declares no 409")
    settings = SandboxSettings(generation=generation, parallel_limit=1, faults=Faults(latency_ms=600_000))
    operation, (value, query, body) = OPERATIONS[name], SUCCESSES[name]
    with start_in_thread(settings) as sandbox:
        path = operation.path.replace("{" + str(operation.parameter) + "}", value)
        first = HTTPConnection(sandbox.base_url.removeprefix("http://"), timeout=60)
        first.request(operation.method, path, json.dumps(body).encode(), KEY)
        status, answer = send(sandbox, operation, value, query, body)
        first.close()
    assert status == 409
    assert document.problems(operation.operation_id, 409, answer) == []
