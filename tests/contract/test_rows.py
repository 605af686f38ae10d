"""What the jobs make of rows, against the vendor's published documents: its examples as rows, and bodies of 2020."""

import csv
import json
from pathlib import Path

import msgspec
import pytest
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import read_input
from privacy_toolkit.jobs import declaration
from privacy_toolkit.jobs import writes as requested
from privacy_toolkit.talonone.operations import OPERATIONS, Generation
from tests.support.late import openapi_schema_validator as validators
from tests.support.late import talon_one

DOCUMENTS = Path(__file__).parent / "documents"
KINDS = (
    *(requested.REFERRAL_REQUESTS, requested.EVENT_REQUESTS, requested.PROFILE_REQUESTS),
    *(requested.SESSION_REQUESTS, requested.AUDIENCE_REQUESTS),
)
CART = [{"name": "Lamp", "sku": "s1", "quantity": 2, "price": 2.5, "attributes": {"colour": "red"}}]
#: A row of each job with all that deployments of either generation take; V2 events are in neither document.
ROWS = {
    ("referrals", "v1"): {
        "campaignId": 7,
        "friendProfileIntegrationId": "friend",
        "startDate": "2026-11-01T00:00:00Z",
        "expiryDate": "2026-12-01T00:00:00+01:00",
    },
    ("events", "v1"): {"type": "seen", "sessionId": "s1", "attributes.page": "start"},
    ("profiles", "v1"): {"attributes.tier": "gold"},
    ("profiles", "v2"): {"attributes.tier": "gold"},
    ("sessions", "v1"): {
        "profileId": "c1",
        "coupon": "CODE",
        "referral": "REFE",
        "state": "open",
        "cartItems": CART,
        "identifiers": ["phone"],
        "total": 5,
        "attributes.shop": "north",
    },
    ("sessions", "v2"): {
        "profileId": "c1",
        "couponCodes": ["CODE"],
        "referralCode": "REFE",
        "state": "closed",
        "cartItems": CART,
        "additionalCosts.shipping.price": 3,
        "identifiers": ["phone"],
        "attributes.shop": "north",
        "responseContent": ["customerSession", "loyalty"],
    },
}


class Document:
    """One OpenAPI document."""

    def __init__(self, generation):
        self.content = yaml.load((DOCUMENTS / f"openapi-{generation}.yaml").read_text("utf-8"), yaml.CSafeLoader)
        self._registry = Registry().with_resource("urn:document", Resource(self.content, DRAFT202012))
        self._validator = validators.OAS31Validator if generation is Generation.CURRENT else validators.OAS30Validator
        self.media = {
            declared["operationId"]: declared["requestBody"]["content"]["application/json"]
            for methods in self.content["paths"].values()
            for declared in methods.values()
            if isinstance(declared, dict) and "content" in declared.get("requestBody", {})
        }

    def errors(self, operation, body):
        text = json.dumps(self.media[operation.operation_id]["schema"]).replace('"#/', '"urn:document#/')
        validator = self._validator(json.loads(text), registry=self._registry)
        return [error.message for error in validator.iter_errors(body)]

    def properties(self, schema):
        """The names of all properties that can be sent, of an object or of the items of a list."""
        while "$ref" in schema or "items" in schema:
            at = self.content
            for part in schema.get("$ref", "").removeprefix("#/").split("/") if "$ref" in schema else ():
                at = at[part]
            schema = at if "$ref" in schema else schema["items"]
        found = {name: one for name, one in schema.get("properties", {}).items() if not one.get("readOnly")}
        for part in schema.get("allOf", ()):
            found |= self.properties(part)
        return found


@pytest.fixture(scope="module")
def documents():
    return {generation: Document(generation) for generation in Generation}


@pytest.fixture
def take(tmp_path):
    """The body that a job makes of a row."""

    def run(kind, parameters, row, *, as_csv):
        path = tmp_path / ("row.csv" if as_csv else "row.jsonl")
        row = {"the id": "c1", **row}
        if as_csv:
            cells = [value if isinstance(value, str) else json.dumps(value) for value in row.values()]
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([list(row), cells])
        else:
            path.write_text(json.dumps(row))
        form = declaration(kind.job).form(parameters)
        with read_input(str(path), InputOptions(id_column="the id"), spool_folder=tmp_path, form=form) as scan:
            assert [(record.reason, record.detail) for record in scan.records()] == [(None, "")]
            ((subject,),) = scan.subjects()
            return json.loads(subject[2])

    return run


@pytest.mark.parametrize("as_csv", [True, False], ids=["csv", "jsonl"])
@pytest.mark.parametrize("generation", Generation)
@pytest.mark.parametrize(("job", "version"), ROWS)
def test_what_a_row_becomes_fits_the_documents(documents, take, job, version, generation, as_csv):
    kind = next(kind for kind in KINDS if kind.job == job)
    operation, document = kind.operations[version], documents[generation]
    body = take(kind, {"api": version, "generation": str(generation)}, ROWS[job, version], as_csv=as_csv)
    assert document.errors(operation, body) == []


def published():
    """Every example of a request body in the current document that a job of ours could send."""
    media = Document(Generation.CURRENT).media
    for kind in KINDS:
        for version, operation in kind.operations.items():
            for name, example in media.get(operation.operation_id, {}).get("examples", {}).items():
                yield pytest.param(kind, version, example["value"], id=f"{kind.job}-{name}")


@pytest.mark.parametrize("as_csv", [True, False], ids=["csv", "jsonl"])
@pytest.mark.parametrize(("kind", "version", "example"), list(published()))
def test_the_vendors_examples_can_be_written_as_rows(take, kind, version, example, as_csv):
    opened = kind.opened.get(version)
    row = {name: value for name, value in example.items() if name != opened} | example.get(opened, {})
    engine = {"run_rule_engine": True} if kind.job == "profiles" else {}
    assert take(kind, {"api": version, **engine}, row, as_csv=as_csv) == example


def test_there_are_examples_of_the_vendors():
    assert len(list(published())) >= 10


def kinds_of_2020():
    """Each body of 2020 that is narrower than today's, and each object in it."""
    for operation in OPERATIONS.values():
        if operation.body_of_2020 is not None:
            yield operation.operation_id, msgspec.inspect.type_info(operation.body_of_2020)


@pytest.mark.parametrize(("operation_id", "kind"), list(kinds_of_2020()))
def test_a_body_of_2020_has_the_fields_of_its_document_and_no_others(documents, operation_id, kind):
    document = documents[Generation.SEED]
    check_fields(document, document.media[operation_id]["schema"], kind)


def check_fields(document, schema, kind):
    if isinstance(kind, msgspec.inspect.UnionType):
        kind = kind.types[0]
    if isinstance(kind, msgspec.inspect.ListType):
        kind = kind.item_type
    if isinstance(kind, msgspec.inspect.StructType):
        properties = document.properties(schema)
        fields = {field.encode_name: field.type for field in kind.fields}
        assert set(properties) - {"position"} == set(fields)  # read-only since
        for name, inner in fields.items():
            check_fields(document, properties[name], inner)


def test_v2_events_are_those_of_the_vendors_sdk(take):
    row = {
        "type": "seen",
        "attributes.page": "start",
        "attributes.count:number": "3",
        "evaluableCampaignIds": [1],
        "loyaltyCards": ["card"],
        "storeIntegrationId": "store",
        "responseContent": ["loyalty"],
    }
    body = take(requested.EVENT_REQUESTS, {"api": "v2"}, row, as_csv=True)
    assert talon_one.IntegrationEventV2Request.from_dict(body).to_dict() == body
