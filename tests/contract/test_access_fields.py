"""The field map of the access package against both published documents: a field that nobody classified fails here."""

import pytest

from privacy_toolkit.access.package import redact
from privacy_toolkit.access.words import LANGUAGES, language
from privacy_toolkit.talonone.inventory import ROOT, SHAPES, Category, FieldKind, place
from tests.support.documents import read_document

#: In no document; they would be personal data if they came.
UNDOCUMENTED = {("program", "attributes"), ("card", "attributes")}
#: Where what is read next to the inventory is put, and what the document calls it.
BESIDES = {
    "availableAchievements.achievements[]": "AchievementStatusEntry",
    "listedSessions.sessions[]": "IntegrationCustomerSessionResponse",
    "loyaltyCardLedgers[].transactions[]": "CardLedgerTransactionLogEntryIntegrationAPI",
    "loyaltyLedgers[].balances": "LoyaltyBalancesWithTiers",
    "loyaltyLedgers[].transactions[]": "LedgerTransactionLogEntryIntegrationAPI",
}
#: What we put around it.
OURS = {
    *((ROOT, name) for name in ("loyaltyLedgers", "availableAchievements", "loyaltyCardLedgers", "listedSessions")),
    *(
        (shape, name)
        for shape in ("programLedger", "achievementList", "cardLedger", "sessionList")
        for name in SHAPES[shape]
    ),
}


def reachable(document, schema, path="", seen=()):
    """Every path of a field below a schema, with the schema of the field, through references, parts, lists and maps."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        assert name not in seen, f"{name} holds itself: say how deep"
        schema, seen = document["components"]["schemas"][name], (*seen, name)
        yield from reachable(document, schema, path, seen)
        return
    for part in (*schema.get("allOf", ()), *schema.get("oneOf", ()), *schema.get("anyOf", ())):
        yield from reachable(document, part, path, seen)
    if "items" in schema:
        yield from reachable(document, schema["items"], f"{path}[]", seen)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from reachable(document, schema["additionalProperties"], f"{path}{{}}", seen)
    for name, inner in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        yield below, inner
        yield from reachable(document, inner, below, seen)


def resolved(document, schema):
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


@pytest.fixture(scope="module")
def documents():
    return {generation: read_document(generation) for generation in ("2020", "current")}


def is_inside_open(path):
    """Whether a field is inside one that has many forms, which is shown as the API has it."""
    steps = path.split(".")
    above = (place(".".join(steps[:number])) for number in range(1, len(steps)))
    return any(SHAPES[one[0]][one[1]].kind is FieldKind.OPEN for one in above if one)


@pytest.fixture(scope="module")
def all_paths(documents):
    """Generation, path and schema of every field: of the inventory, and of what is read next to it."""
    inventory = [
        (generation, path, resolved(document, schema))
        for generation, document in documents.items()
        for path, schema in reachable(document, document["components"]["schemas"]["CustomerInventory"])
    ]
    document = documents["current"]
    besides = [
        ("current", path, resolved(document, schema))
        for below, name in BESIDES.items()
        for path, schema in reachable(document, document["components"]["schemas"][name], below)
    ]
    return inventory + besides


@pytest.fixture(scope="module")
def paths(all_paths):
    """Those of which the map says what they are."""
    return [one for one in all_paths if not is_inside_open(one[1])]


def test_the_documents_reach_what_they_are_known_to_reach(paths):
    found = {generation: {path for of, path, _ in paths if of == generation} for generation in ("2020", "current")}
    assert {generation: len(known) for generation, known in found.items()} == {"2020": 40, "current": 348}
    assert "loyalty.cards[].subledgers{}.currentTier.name" in found["current"]


def test_every_field_is_classified(paths):
    assert sorted({f"{of}: {path}" for of, path, _ in paths if place(path) is None}) == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_field_has_a_label(paths, code):
    labels = language(code).labels
    places = {place(path) for _, path, _ in paths}
    assert [f"{shape}.{name}" for shape, name in places if not labels.get(shape, {}).get(name, "").strip()] == []


def test_no_classification_is_left_of_a_field_that_is_gone(paths):
    reached = {place(path) for _, path, _ in paths}
    declared = {(shape, name) for shape, fields in SHAPES.items() for name in fields}
    assert declared - reached == UNDOCUMENTED | OURS


def test_fields_hold_what_the_map_says(paths):
    kinds = {FieldKind.MOMENT: "date-time", FieldKind.FLAG: "boolean", FieldKind.LIST: "array"}
    wrong = []
    for of, path, schema in paths:
        shape, name = place(path)
        field = SHAPES[shape][name]
        said = {schema.get("format"), schema.get("type")}
        if field.kind in kinds and kinds[field.kind] not in said:
            wrong.append(f"{of}: {path}")
        if field.kind is FieldKind.VALUE and said & {"date-time", "boolean"}:
            wrong.append(f"{of}: {path}")
        if name == "attributes" and field.kind is not FieldKind.FREE:
            wrong.append(f"{of}: {path}")
    assert wrong == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_code_of_a_choice_has_words(paths, code):
    choices = language(code).choices
    assert [
        (path, value)
        for _, path, schema in paths
        for value in schema.get("enum", ())
        if value not in choices[".".join(place(path))]
    ] == []


def test_ids_of_customers_are_never_shown_as_they_are(paths):
    named = {
        place(path)
        for _, path, _ in paths
        if path.lower().endswith(("integrationid", "referredcustomers"))
        and not path.endswith(("profile.integrationId", "customerSession.integrationId", ".storeIntegrationId"))
    }
    assert {SHAPES[shape][name].category for shape, name in named} == {Category.THIRD_PARTY}
    assert len(named) == 6


def test_what_followed_from_a_session_names_other_people_by_number_alone(all_paths):
    names = {path.rsplit(".", 1)[1] for _, path, _ in all_paths if is_inside_open(path)}
    people = {name for name in names if name.lower().endswith(("integrationid", "profileid"))}
    assert people == {"profileId", "profileIntegrationId", "recipientIntegrationId"}
    effect = {"effectType": "any", "props": dict.fromkeys(people, "somebody else") | {"value": "a code"}}
    listed = {"read": "complete", "sessions": [{"customerSession": {"profileId": "me"}, "effects": [effect]}]}
    found = redact({"listedSessions": listed}, "me")
    (shown,) = found.data["listedSessions"]["sessions"]
    assert "somebody else" not in str(shown)
    assert (shown["customerSession"]["profileId"], shown["effects"][0]["props"]["value"]) == ("me", "a code")
    assert found.occurrences == 3


def test_an_unknown_field_is_noticed():
    assert place("profile.shoeSize") is None
    assert place("profile.integrationId.more") is None
    assert place("shoes[].size") is None
    assert place("coupons[].value") == ("coupon", "value")
    assert place("coupons") == (ROOT, "coupons")
