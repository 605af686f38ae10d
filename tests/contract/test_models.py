"""The bodies against the vendor's published documents: no property is missing, and every example can be read."""

import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.talonone import bodies, models
from privacy_toolkit.talonone.operations import OPERATIONS, Generation
from privacy_toolkit.talonone.responses import is_in_api_words
from tests.support.documents import read_document
from tests.support.late import openapi_schema_validator as validators

ANSWERS = {
    "LoyaltyProgramBalance": models.LedgerInfo,
    "inline_response_200": models.ReservedCustomers,
    "AchievementStatusEntry": models.AvailableAchievement,
    "CardLedgerTransactionLogEntryIntegrationAPI": models.LoyaltyTransaction,
    "IntegrationCustomerSessionResponse": models.CustomerSessionAnswer,
    "LedgerTransactionLogEntryIntegrationAPI": models.LoyaltyTransaction,
    "LoyaltyBalanceWithTier": models.LoyaltyBalance,
    "LoyaltyBalancesWithTiers": models.LoyaltyBalances,
    "CustomerProfileUpdate": models.CustomerProfileResponseV2,
    "CustomerProfileUpdateV2Response": models.UpdatedProfile,
    "MultipleCustomerProfileIntegrationResponseV2": models.UpdatedProfiles,
    "CustomerProfileIntegrationResponseV2": models.CustomerProfileResponseV2,
    "AchievementProgressWithDefinition": models.AchievementProgress,
    "ErrorResponse": models.ErrorBody,
    "ErrorResponseWithStatus": models.ErrorBody,
    "IntegrationStateLegacyV240": models.IntegrationState,
    "IntegrationStateLegacyV300": models.IntegrationState,
}
#: Schemas whose every property must have a field of ours, besides those above: of the same name.
SAME_NAMES = (
    "AudienceMembership", "Coupon", "CustomerInventory", "CustomerProfile", "Giveaway", "IntegrationState",
    "IntegrationStateV2", "InventoryCoupon", "InventoryReferral", "LedgerInfo", "LimitConfig", "Loyalty", "LoyaltyCard",
    "LoyaltyCardProfileRegistration", "LoyaltyMembership", "LoyaltyProgramLedgers", "ProjectedTier", "Referral",
    "Tier",
)  # fmt: skip
REQUESTS = {
    "CouponReservations": bodies.CouponReservations,
    "DeleteLoyaltyTransactionsRequest": bodies.DeletedTransactions,
    "LoyaltyCardRegistration": bodies.CardHolder,
    "NewReferral": bodies.NewReferral,
    "NewReferralsForMultipleAdvocates": bodies.NewReferrals,
    "MultipleCustomerProfileIntegrationRequest": bodies.ProfileUpdates,
    "MultipleCustomerProfileIntegrationRequestItem": bodies.ProfileUpdate,
    "CustomerProfileAudienceRequest": bodies.AudienceActions,
    "CustomerProfileAudienceRequestItem": bodies.AudienceAction,
    "NewEvent": bodies.NewEvent,
    "NewEventLegacyV300": bodies.NewEvent,
    "NewCustomerProfile": bodies.NewCustomerProfile,
    "NewCustomerProfileLegacyV240": bodies.NewCustomerProfile,
    "CustomerProfileIntegrationRequestV2": bodies.CustomerProfileRequestV2,
    "NewCustomerSession": bodies.NewCustomerSession,
    "NewCustomerSessionLegacyV240": bodies.NewCustomerSession,
    "IntegrationRequest": bodies.IntegrationRequest,
    "NewCustomerSessionV2": bodies.NewCustomerSessionV2,
    "CartItem": bodies.CartItem,
}
#: What deployments of 2020 don't know; it is sent to current ones only.
NEWER_STATES = ("partially_returned",)


class Document:
    """One OpenAPI document."""

    def __init__(self, generation):
        self.generation = generation
        self.content = read_document(generation)
        self.schemas = self.content["components"]["schemas"]
        self._registry = Registry().with_resource("urn:document", Resource(self.content, DRAFT202012))
        self._validator = validators.OAS31Validator if generation is Generation.CURRENT else validators.OAS30Validator

    def resolve(self, schema):
        while "$ref" in schema:
            at = self.content
            for part in schema["$ref"].removeprefix("#/").split("/"):
                at = at[part]
            schema = at
        return schema

    def properties(self, schema):
        """All properties of an object schema, its parts included."""
        schema = self.resolve(schema)
        found = dict(schema.get("properties", {}))
        for part in schema.get("allOf", ()):
            found |= self.properties(part)
        return found

    def errors(self, schema, value):
        """What is wrong with a value by a schema of this document."""
        text = json.dumps(schema).replace('"#/', '"urn:document#/')
        validator = self._validator(json.loads(text), registry=self._registry)
        return [error.message for error in validator.iter_errors(value)]

    def operations(self):
        for methods in self.content["paths"].values():
            yield from (declared for declared in methods.values() if "operationId" in declared)


@pytest.fixture(scope="module", params=Generation)
def document(request):
    return Document(request.param)


def reference(name):
    return {"$ref": f"#/components/schemas/{name}"}


def fields(kind):
    return set(kind.__struct_encode_fields__)


def test_no_property_of_an_answer_is_missing(document):
    kinds = ANSWERS | {name: getattr(models, name) for name in SAME_NAMES}
    missing = {
        name: unknown
        for name, kind in kinds.items()
        if name in document.schemas and (unknown := set(document.properties(document.schemas[name])) - fields(kind))
    }
    assert missing == {}


def test_all_that_an_inventory_reaches_has_a_type_of_ours(document):
    reached, left = set(), ["CustomerInventory"]
    while left:
        name = left.pop()
        if name not in reached:
            reached.add(name)
            for schema in document.properties(document.schemas[name]).values():
                left += [reference.rsplit("/", 1)[1] for reference in references(schema)]
    scalars = {"LoyaltyCardIdentifier"}
    assert reached - scalars <= {*ANSWERS, *SAME_NAMES}


def references(schema):
    if isinstance(schema, dict):
        for key, value in schema.items():
            yield from [value] if key == "$ref" else references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)


def test_no_property_of_a_request_is_missing(document):
    missing = {
        (name, field)
        for name, kind in REQUESTS.items()
        for field, schema in document.properties(document.schemas.get(name, {})).items()
        if field not in fields(kind) and not schema.get("readOnly")
    }
    assert missing <= {("CartItem", "position")}  # of 2020; read-only since


def examples(media):
    found = [media["example"]] if "example" in media else []
    return found + [example["value"] for example in media.get("examples", {}).values()]


def fixed(example):
    """The documents' generator has written empty objects as text."""
    if isinstance(example, dict):
        return {key: fixed(value) for key, value in example.items()}
    if isinstance(example, list):
        return [fixed(value) for value in example]
    return {} if example == "{}" else example


def successes(document):
    """Our operation, and what the document says of its answer."""
    by_id = {operation.operation_id: operation for operation in OPERATIONS.values()}
    for declared in document.operations():
        operation = by_id[declared["operationId"]]
        for media in declared["responses"][str(operation.success)].get("content", {}).values():
            yield operation, media


def test_published_answers_can_be_read(document):
    read = 0
    for operation, media in successes(document):
        for example in map(fixed, examples(media) + examples(document.resolve(media["schema"]))):
            assert isinstance(msgspec.convert(example, operation.answer), operation.answer)
            read += 1
    assert read >= 3


def sketch(document, schema):
    """An answer with every property of its schema, from the documents' examples of single values."""
    schema = document.resolve(schema)
    if properties := document.properties(schema):
        return {name: sketch(document, inner) for name, inner in properties.items()}
    if isinstance(schema.get("additionalProperties"), dict):
        return {"key": sketch(document, schema["additionalProperties"])}
    if "oneOf" in schema:
        return sketch(document, schema["oneOf"][0])
    kind = schema.get("type", "object")
    if kind == "array":
        return [sketch(document, schema.get("items", {"type": "object"}))]
    if kind == "object":
        return {}
    fallback = {"string": "2020-06-10T09:05:27Z", "integer": 7, "number": 1.5, "boolean": True}[kind]
    return schema.get("enum", [schema.get("example", fallback)])[0]


def test_nothing_of_a_full_answer_is_lost(document):
    for operation, media in successes(document):
        full = sketch(document, media["schema"])
        assert without_nulls(msgspec.to_builtins(msgspec.convert(full, operation.answer))) == full


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def error_examples(document):
    for declared in document.operations():
        for status, response in declared["responses"].items():
            for media in document.resolve(response).get("content", {}).values():
                if status.startswith("4"):
                    schema = document.resolve(media["schema"])
                    yield from examples(media) + examples(schema)
                    sketch = {
                        name: property_["example"]
                        for name, property_ in schema.get("properties", {}).items()
                        if "example" in property_
                    }
                    if sketch:
                        yield sketch


def test_published_errors_are_in_the_words_of_the_api():
    found = list(error_examples(Document(Generation.CURRENT)))
    assert len(found) >= 2
    for example in found:
        status = example.get("StatusCode", 400)
        assert is_in_api_words(msgspec.convert(example, models.ErrorBody), status, has_code=False)


def required(document, schema):
    """The properties that an object schema requires, its parts included."""
    schema = document.resolve(schema)
    found = set(schema.get("required", ()))
    return found.union(*(required(document, part) for part in schema.get("allOf", ())))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, getattr(models, name)) for name in ("Coupon", "CustomerProfile", "IntegrationStateV2", "Referral")),
        ("IntegrationState", models.IntegrationState),
        ("inline_response_200", models.ReservedCustomers),
    ],
)
def test_what_both_documents_require_has_to_be_there_and_no_more(name, kind):
    seed, current = Document(Generation.SEED), Document(Generation.CURRENT)
    wanted = required(seed, reference(name))
    newer = {"IntegrationState": "IntegrationStateLegacyV300"}.get(name, name)
    if newer in current.schemas:
        wanted &= required(current, reference(newer))
    described = msgspec.inspect.type_info(kind)
    assert {field.encode_name for field in described.fields if field.required} == wanted


# what both documents require of a profile, with null where the toolkit takes it
PROFILE = (
    '"integrationId":"c","created":"2020-02-07T08:15:22Z","attributes":null,"accountId":null,"closedSessions":null,'
    '"totalSales":null,"lastActivity":null'
)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (models.CustomerProfile, f'{{{PROFILE},"loyaltyMemberships":null}}'),
        (models.CustomerProfile, f'{{{PROFILE},"audienceMemberships":null,"brandNew":{{}}}}'),
        (models.CustomerInventory, f'{{"profile":{{{PROFILE}}},"referrals":null,"coupons":null,"loyalty":null}}'),
        (models.Loyalty, '{"cards":null,"programs":{"1":{"subLedgers":null}}}'),
        (models.InventoryCoupon, '{"value":"ABCD","attributes":null,"limits":null,"state":"newer"}'),
        (models.InventoryReferral, '{"code":"ABCD","referredCustomers":null}'),
        (models.ReservedCustomers, '{"totalResultSize":0,"data":null}'),
        (models.IntegrationState, '{"session":null,"profile":null,"event":null,"loyalty":null,"coupon":null}'),
        (models.IntegrationStateV2, '{"effects":null,"createdCoupons":null,"createdReferrals":null}'),
        (models.CustomerProfileResponseV2, f'{{"customerProfile":{{{PROFILE}}}}}'),
        (models.ErrorBody, '{"message":null,"errors":[{}],"StatusCode":"409"}'),
    ],
)
def test_real_answers_have_nulls_and_gaps(kind, text):
    assert isinstance(msgspec.json.decode(text, type=kind), kind)


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=5))
ANYTHING = st.recursive(SCALARS, lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=2), max_leaves=4)


def strategy(kind):
    """Values of a type as msgspec describes it, within its limits."""
    return STRATEGIES[type(kind)](kind)


def structs(kind):
    return st.fixed_dictionaries(
        {field.name: strategy(field.type) for field in kind.fields if field.required},
        optional={field.name: strategy(field.type) for field in kind.fields if not field.required},
    ).map(lambda values: kind.cls(**values))


def unions(kind):
    return st.one_of([strategy(one) for one in kind.types if not isinstance(one, msgspec.inspect.NoneType)])


def texts(kind):
    characters = st.characters(codec="utf-8")
    return st.text(characters, min_size=kind.min_length or 0, max_size=min(kind.max_length or 8, 1000))


def lists(kind):
    return st.lists(strategy(kind.item_type), min_size=kind.min_length or 0, max_size=min(kind.max_length or 3, 3))


def numbers(least, most):
    return lambda kind: (st.integers if isinstance(kind, msgspec.inspect.IntType) else st.floats)(
        least if kind.ge is None else kind.ge, most if kind.le is None else kind.le
    )


STRATEGIES = {
    msgspec.inspect.StructType: structs,
    msgspec.inspect.UnionType: unions,
    msgspec.inspect.StrType: texts,
    msgspec.inspect.ListType: lists,
    msgspec.inspect.IntType: numbers(-5, 10**6),
    msgspec.inspect.FloatType: numbers(-1e6, 1e6),
    msgspec.inspect.DictType: lambda kind: st.dictionaries(st.text(max_size=5), strategy(kind.value_type), max_size=2),
    msgspec.inspect.LiteralType: lambda kind: st.sampled_from(kind.values),
    msgspec.inspect.DateTimeType: lambda _: st.datetimes(timezones=st.timezones()),
    msgspec.inspect.AnyType: lambda _: ANYTHING,
}
BODIES = {kind: strategy(msgspec.inspect.type_info(kind)) for kind in set(REQUESTS.values())}


@pytest.mark.parametrize("name", REQUESTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=40)
@given(data=st.data())
def test_what_is_sent_fits_the_documents(document, name, data):
    if name not in document.schemas:
        return
    kind = REQUESTS[name]
    sent = msgspec.json.decode(bodies.encode_body(data.draw(BODIES[kind])))
    if document.generation is Generation.SEED:
        sent = as_of_2020(sent)
    assert document.errors(reference(name), sent) == []


def as_of_2020(value):
    """What a careful user would send to a deployment of 2020: no newer states, items with their name and price."""
    if isinstance(value, list):
        return [as_of_2020(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {key: as_of_2020(one) for key, one in value.items() if key not in {"responseContent", "attributes"}}
    if kept.get("state") in NEWER_STATES:
        del kept["state"]
    if "sku" in kept:
        kept = {"name": "n", "price": 1} | kept
    if "attributes" in value:
        kept["attributes"] = value["attributes"]
    return kept


@pytest.mark.parametrize(
    "body",
    [
        bodies.CouponReservations(integration_ids=[]),
        bodies.CouponReservations(integration_ids=[""]),
        bodies.CouponReservations(integration_ids=["x" * 1001]),
        bodies.CouponReservations(integration_ids=["c"] * 1001),
        bodies.CouponReservations(integration_ids="c1"),
        bodies.CouponReservations(integration_ids=[1]),
        bodies.NewReferral(campaign_id=1, advocate_profile_integration_id=""),
        bodies.NewReferral(campaign_id="1", advocate_profile_integration_id="a"),
        bodies.NewReferral(campaign_id=1, advocate_profile_integration_id="a", usage_limit=1_000_000),
        bodies.NewReferral(campaign_id=1, advocate_profile_integration_id="a", start_date="tomorrow"),
        bodies.NewReferral(campaign_id=1, advocate_profile_integration_id="a", start_date="2027-01-01T00:00:00"),
        bodies.NewEvent(type="", session_id="s", attributes={}),
        bodies.NewEvent(type="t", session_id="", attributes={}),
        bodies.NewEvent(type="t", session_id="s", attributes=None),
        bodies.EventV2(type="t", profile_id=""),
        bodies.NewCustomerProfile(attributes={"a": object()}),
        bodies.NewCustomerProfile(attributes={"a": "\ud800"}),
        bodies.CustomerProfileRequestV2(response_content=["everything"]),
        bodies.NewCustomerSession(state="ajar"),
        bodies.NewCustomerSession(cart_items=[bodies.CartItem(sku="", quantity=1)]),
        bodies.NewCustomerSession(cart_items=[bodies.CartItem(sku="s", quantity=0)]),
        bodies.NewCustomerSessionV2(identifiers=["i"] * 6),
        bodies.NewCustomerSessionV2(referral_code="x" * 101),
        bodies.NewCustomerSessionV2(loyalty_cards=["a", "b"]),
    ],
    ids=lambda body: type(body).__name__,
)
def test_what_breaks_a_published_limit_is_not_sent(body):
    with pytest.raises(UsageError):
        bodies.encode_body(body)


def test_only_what_is_set_is_sent():
    assert bodies.encode_body(bodies.NewCustomerSessionV2()) == b"{}"
    assert bodies.encode_body(bodies.NewCustomerSessionV2(profile_id="", coupon_codes=[])) == (
        b'{"profileId":"","couponCodes":[]}'
    )
    assert bodies.encode_body(bodies.NewCustomerProfile(attributes={"gone": None})) == b'{"attributes":{"gone":null}}'


def test_no_repr_shows_what_a_body_holds():
    text = f"{{{PROFILE}}}".replace('"c"', '"somebody"')  # the braces of an object
    profile = msgspec.json.decode(text, type=models.CustomerProfile)
    assert repr([profile]) == "[CustomerProfile(...)]"
    assert "somebody" not in f"{bodies.CouponReservations(integration_ids=['somebody'])}"
    assert profile.__rich_repr__() == []
