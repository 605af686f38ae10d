"""Rows that become bodies: what each column turns into, and what is refused, by field and rule and never by value."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from privacy_toolkit.core.model import InputError, Job
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import read_input
from privacy_toolkit.jobs import declaration

V1, V2 = {"api": "v1"}, {"api": "v2"}
OLD = {"generation": "2020"}
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECRET = "s3cr3t"


class Taken:
    """What was taken of a file."""

    def __init__(self, scan):
        self.subjects = [subject for page in scan.subjects() for subject in page]
        self.refused = {record.row: (str(record.reason), record.detail) for record in scan.records() if record.reason}

    @property
    def bodies(self):
        return [json.loads(given) for _, _, given in self.subjects]

    @property
    def body(self):
        (one,) = self.bodies
        return one

    @property
    def fault(self):
        """Reason and detail of the only row, which was refused."""
        assert self.subjects == []
        (one,) = self.refused.values()
        return one


@pytest.fixture
def take(tmp_path):
    """Read a file for a job."""

    def run(path, job=Job.EVENTS, parameters=V2, **options):
        form = declaration(job).form(parameters)
        with read_input(path, InputOptions(**options), spool_folder=tmp_path, form=form) as scan:
            return Taken(scan)

    return run


@pytest.fixture
def refuse(take):
    """Read a file that can't be read for a job; message and hint."""

    def run(path, *args, **options):
        with pytest.raises(InputError) as caught:
            take(path, *args, **options)
        assert caught.value.hint
        return f"{caught.value.message} {caught.value.hint}"

    return run


@pytest.fixture
def lines(put):
    """Write objects as JSON Lines."""
    return lambda *objects: put("\n".join(map(json.dumps, objects)), "rows.jsonl")


# what a CSV turns into


def test_texts_are_read_by_the_declared_type(put, take):
    text = (
        "customer_id,campaignId,usageLimit,startDate,friendProfileIntegrationId,attributes\n"
        '00123,7,0,2026-11-20T12:00:00+01:00,007,"{""a"": [1, null]}"\n'
    )
    taken = take(put(text), Job.REFERRALS, {})
    assert taken.subjects[0][:2] == (2, "00123")
    assert taken.body == {
        "advocateProfileIntegrationId": "00123",
        "campaignId": 7,
        "usageLimit": 0,
        "startDate": "2026-11-20T12:00:00+01:00",
        "friendProfileIntegrationId": "007",
        "attributes": {"a": [1, None]},
    }


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        ("attributes.a", "5", "5"),
        ("attributes.a", "null", "null"),
        ("attributes.a:string", "true", "true"),
        ("attributes.a:number", "5", 5),
        ("attributes.a:number", "-5.50", -5.5),
        ("attributes.a:number", "1e3", 1000.0),
        ("attributes.a:number", "123456789012345678901", 123456789012345678901),
        ("attributes.a:boolean", "TRUE", True),
        ("attributes.a:boolean", "false", False),
        ("attributes.a:time", "2026-11-20T12:00:00Z", "2026-11-20T12:00:00Z"),
        ("attributes.a:json", '{"x":[1]}', {"x": [1]}),
        ("attributes.a:json", "null", None),
    ],
)
def test_an_attribute_is_text_unless_its_column_says_otherwise(lines, put, take, column, cell, value):
    quoted = cell.replace('"', '""')
    assert take(put(f'id,{column}\nc,"{quoted}"\n'), Job.PROFILES).body == {"attributes": {"a": value}}
    # the same text, and the same suffix, in JSON Lines
    if ":" in column:
        assert take(lines({"id": "c", column: cell}), Job.PROFILES).body == {"attributes": {"a": value}}


def test_dots_belong_to_an_attributes_name_and_a_colon_with_a_type_behind_it_too(put, take):
    taken = take(put("id,attributes.a.b,attributes.c:d:string\nc,1,2\n"), Job.PROFILES)
    assert taken.body == {"attributes": {"a.b": "1", "c:d": "2"}}


def test_an_empty_cell_is_not_given(put, take):
    taken = take(put("id,attributes.a,attributes.b:number\nc,,\nd,x,\n"), Job.PROFILES)
    assert taken.bodies == [{}, {"attributes": {"a": "x"}}]


def test_an_object_that_has_to_be_there_may_be_empty(put, take):
    taken = take(put("profileId,type,sessionId\nc,seen,s\n"), Job.EVENTS, V1)
    assert taken.body == {"attributes": {}, "profileId": "c", "sessionId": "s", "type": "seen"}
    assert take(put("session_id\ns\n"), Job.SESSIONS).body == {"customerSession": {}}


def test_the_fields_of_a_v2_session_stand_at_the_top(put, take):
    text = (
        "session_id,customer_id,state,cartItems,couponCodes,additionalCosts.ship.price,responseContent,attributes.a\n"
        's,c,open,"[{""sku"":""a"",""quantity"":1,""price"":5}]","[""X""]",2.5,"[""coupons""]",b\n'
    )
    taken = take(put(text), Job.SESSIONS)
    assert taken.subjects[0][1] == "s"
    assert taken.body == {
        "customerSession": {
            "profileId": "c",
            "state": "open",
            "cartItems": [{"sku": "a", "quantity": 1, "price": 5.0}],
            "couponCodes": ["X"],
            "additionalCosts": {"ship": {"price": 2.5}},
            "attributes": {"a": "b"},
        },
        "responseContent": ["coupons"],
    }


def test_a_v1_session_has_fields_of_its_own(put, take):
    taken = take(put("sessionId,profileId,coupon,total\ns,,C,3\n"), Job.SESSIONS, V1)
    assert taken.body == {"coupon": "C", "total": 3.0}


def test_members_of_objects_have_dotted_names(put, take):
    columns = "id,audiencesChanges.adds,audiencesChanges.deletes"
    taken = take(put(f'{columns}\nc,"[1, 2]",[]\n'), Job.PROFILES)
    assert taken.body == {"audiencesChanges": {"adds": [1, 2], "deletes": []}}
    whole = take(put('session_id,additionalCosts.a.b\ns,"{""price"": 1}"\n'), Job.SESSIONS)
    assert whole.body == {"customerSession": {"additionalCosts": {"a.b": {"price": 1.0}}}}


def test_every_row_is_a_request_of_its_own(put, take):
    assert len(take(put("id,attributes.a\nc,1\nc,1\n"), Job.PROFILES).subjects) == 2


def test_what_is_given_does_not_hang_on_the_order_of_columns(put, take):
    one = take(put("id,attributes.a,attributes.b\nc,1,2\n"), Job.PROFILES)
    other = take(put("attributes.b,id,attributes.a\n2,c,1\n"), Job.PROFILES)
    assert one.subjects == other.subjects


# headers


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("profileId,type,colour", "the column colour is no field"),
        ("profileId,Type", "If it is type, call the column so. The fields are: type"),
        ("profileId,type,4711", "the column (column 3) is no field"),  # a file without a header must not show its data
        ("profileId,type,attributes.a:strng", "one of boolean, json, number, string, time"),
        ("profileId,type,attributes.", "'attributes.'"),
        ("profileId,type,type.x", "'type.x'"),
        ("profileId,type,type.", "'type.'"),
        ("profileId,type,customerSession", "customerSession is no field"),
        ("profileId,attributes.a", "no column 'type', which every row needs. The fields are: type, attributes.NAME"),
        ("profileId,type,attributes,attributes.a", "'attributes' and 'attributes.a' would fill the same field"),
        ("profileId,type,attributes.a,attributes.a:number", "would fill the same field"),
        ("customer_id,profileId,type", "customer_id is no field"),
        ("type,colour", "none of the columns profileId, customer_id"),
    ],
)
def test_a_header_that_does_not_fit_is_said_at_once(put, refuse, header, said):
    assert said in refuse(put(f"{header}\na,b,c\n"))


def test_parquet_columns_are_checked_as_headers_are(put_parquet, refuse):
    assert "colour is no field" in refuse(put_parquet({"profileId": ["a"], "type": ["t"], "colour": ["r"]}))
    assert "no column 'type'" in refuse(put_parquet({"profileId": ["a"]}))


def test_another_id_column_than_the_field_itself_would_fill_it_twice(put, refuse):
    path = put("profileId,customer_id,type\na,b,t\n")
    assert "'customer_id' and 'profileId' would fill the same" in refuse(path, id_column="customer_id")


def test_what_deployments_of_2020_do_not_know_is_refused_for_them(put, lines, take, refuse):
    said = "can't be used: deployments of 2020 do not know it"
    assert said in refuse(put("id,campaignId,usageLimit\nc,1,2\n"), Job.REFERRALS, OLD)
    assert said in refuse(put("id,audiencesChanges.adds\nc,[1]\n"), Job.PROFILES, OLD)
    assert said in refuse(put("session_id,loyaltyCards\nc,[]\n"), Job.SESSIONS, OLD)
    row = {"id": "c", "campaignId": 1, "attributes": {}}
    assert take(lines(row), Job.REFERRALS, OLD).fault[0] == "field_unknown"
    cart = [{"sku": "a", "quantity": 1}]
    assert take(lines({"session_id": "s", "cartItems": cart}), Job.SESSIONS, OLD).fault == (
        "field_missing",
        "cartItems[0].name: missing",
    )
    assert take(lines({"session_id": "s", "state": "partially_returned"}), Job.SESSIONS, OLD).fault == (
        "field_not_usable",
        "state: none of the values that are allowed",
    )


def test_response_content_of_a_profile_needs_the_rule_engine(put, take, refuse):
    path = put('id,responseContent\nc,"[""loyalty""]"\n')
    assert "only with --run-rule-engine" in refuse(path, Job.PROFILES)
    assert take(path, Job.PROFILES, {"run_rule_engine": True}).body == {"responseContent": ["loyalty"]}


# rows that do not fit


@pytest.mark.parametrize(
    ("column", "cell", "fault"),
    [
        ("evaluableCampaignIds", SECRET, "evaluableCampaignIds: no JSON"),
        ("evaluableCampaignIds", f'["{SECRET}"]', "evaluableCampaignIds[0]: Expected int, got str"),
        ("evaluableCampaignIds", "5", "evaluableCampaignIds: Expected array, got int"),
        ("loyaltyCards", '["a","b"]', "loyaltyCards: Expected array of length <= 1"),
        ("storeIntegrationId", "x" * 1001, "storeIntegrationId: Expected str of length <= 1000"),
        ("attributes", f'"{SECRET}"', "attributes: Expected object, got str"),
        ("attributes", "[" * 100_000, "attributes: no JSON"),
        ("attributes.a:number", SECRET, "attributes.a: no number"),
        ("attributes.a:number", "NaN", "attributes.a: no number"),
        ("attributes.a:number", "Infinity", "attributes.a: no number"),
        ("attributes.a:number", "1e999", "attributes.a: not a finite number"),
        ("attributes.a:number", "007", "attributes.a: no number"),
        ("attributes.a:number", " 7", "attributes.a: no number"),
        ("attributes.a:number", "9" * 5000, "attributes.a: a number with too many digits"),
        ("attributes.a:number", "\uff17", "attributes.a: no number"),
        ("attributes.a:boolean", "yes", "attributes.a: neither true nor false"),
        ("attributes.a:time", "2026-11-20", "attributes.a: no time with a zone, such as 2026-11-20T10:00:00Z"),
        ("attributes.a:time", "2026-11-20T10:00:00", "attributes.a: no time with a zone, such as 2026-11-20T10:00:00Z"),
        ("attributes.a:json", "{", "attributes.a: no JSON"),
        ("attributes.a:json", "NaN", "attributes.a: no JSON"),
    ],
)
def test_a_text_that_does_not_fit_is_refused_by_field_and_rule(put, take, column, cell, fault):
    quoted = cell.replace('"', '""')
    taken = take(put(f'profileId,type,{column}\nc,t,"{quoted}"\n'))
    assert taken.fault == ("field_not_usable", fault)
    assert SECRET not in fault


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"campaignId": "1"}, ("field_not_usable", "campaignId: Expected int, got str")),
        ({"campaignId": True}, ("field_not_usable", "campaignId: Expected int, got bool")),
        ({"campaignId": 1.5}, ("field_not_usable", "campaignId: Expected int, got float")),
        ({"campaignId": 1, "usageLimit": -1}, ("field_not_usable", "usageLimit: Expected int >= 0")),
        ({"campaignId": 1, "usageLimit": 10**6}, ("field_not_usable", "usageLimit: Expected int <= 999999")),
        ({"campaignId": 1, "expiryDate": "2026-11-20"}, ("field_not_usable", "expiryDate: Invalid RFC3339 encoded")),
        ({"campaignId": 1, "expiryDate": "2026-11-20T10:00:00"}, ("field_not_usable", "expiryDate: Expected datetime")),
        ({"campaignId": 1, "colour": SECRET}, ("field_unknown", "colour: no such field")),
        ({"campaignId": 1, "a b": SECRET}, ("field_unknown", "a field: no such field")),
        ({"campaignId": 1, "attributes.a:strng": 1}, ("field_unknown", "attributes.a:strng: no such field")),
        ({}, ("field_missing", "campaignId: missing")),
        ({"campaignId": None}, ("field_missing", "campaignId: missing")),
        ({"campaignId": 1, "attributes": {}, "attributes.a": 1}, ("field_not_usable", "attributes.a: given twice")),
        (
            {"campaignId": 1, "advocateProfileIntegrationId": "x"},
            ("field_not_usable", "advocateProfileIntegrationId: "),
        ),
        (
            {"campaignId": 1, "friendProfileIntegrationId": " f"},
            ("field_not_usable", "friendProfileIntegrationId: sur"),
        ),
        ({"campaignId": 1, "friendProfileIntegrationId": ""}, ("field_not_usable", "friendProfileIntegrationId: Exp")),
        ({"campaignId": 1, "attributes.a:number": "x"}, ("field_not_usable", "attributes.a: no number")),
        ({"campaignId": 1, "attributes.a:number": True}, ("field_not_usable", "attributes.a: no number")),
        ({"campaignId": 1, "attributes.a:string": 1}, ("field_not_usable", "attributes.a: no string")),
        ({"campaignId": 1, "attributes.a:boolean": 1}, ("field_not_usable", "attributes.a: no boolean")),
        ({"campaignId": 1, "attributes.a:time": 1}, ("field_not_usable", "attributes.a: no time")),
    ],
)
def test_a_record_that_does_not_fit_is_refused_and_nothing_else_is_lost(lines, take, row, fault):
    good = {"customer_id": "ok", "campaignId": 1}
    taken = take(lines(good, {"customer_id": "c", **row}, good), Job.REFERRALS, {})
    assert [line for line, *_ in taken.subjects] == [1, 3]
    (refused,) = taken.refused.items()
    assert (refused[0], refused[1][0]) == (2, fault[0])
    assert refused[1][1].startswith(fault[1])
    assert SECRET not in refused[1][1]


def test_what_is_wrong_deep_inside_is_named_by_its_place(lines, take):
    row = {"session_id": "s", "cartItems": [{"sku": "a", "quantity": 0}]}
    assert take(lines(row), Job.SESSIONS).fault == ("field_not_usable", "cartItems[0].quantity: Expected int >= 1")
    row = {"session_id": "s", "cartItems": [{"sku": "a", "quantity": 1, "colour": SECRET}]}
    assert take(lines(row), Job.SESSIONS).fault == ("field_unknown", "cartItems[0].colour: no such field")
    row = {"session_id": "s", "additionalCosts": {SECRET: {"price": SECRET}}}
    reason, detail = take(lines(row), Job.SESSIONS).fault
    assert (reason, SECRET in detail) == ("field_not_usable", False)


# JSON Lines and Parquet: values keep their types


def test_json_lines_take_nested_objects_and_dotted_names(lines, take):
    nested = {"session_id": "s", "customer_id": 7, "attributes": {"a": None, "b": [1.5]}, "identifiers": ["x"]}
    dotted = {"session_id": "s", "profileId": "7", "attributes.a": None, "attributes.b": [1.5], "identifiers": '["x"]'}
    taken = take(lines(nested, dotted), Job.SESSIONS)
    inner = {"profileId": "7", "identifiers": ["x"]}
    assert taken.bodies == [
        {"customerSession": {**inner, "attributes": {"a": None, "b": [1.5]}}},
        {"customerSession": {**inner, "attributes": {"b": [1.5]}}},
    ]


def test_an_anonymous_session_keeps_its_empty_customer(lines, take):
    assert take(lines({"session_id": "s", "profileId": ""}), Job.SESSIONS).body == {
        "customerSession": {"profileId": ""}
    }


def test_parquet_values_keep_their_types(put_parquet, take):
    table = pa.table(
        {
            "id": pa.array([1, 2]),
            "campaignId": pa.array([7.0, 8.0]),  # whole numbers with gaps come from pandas like this
            "expiryDate": pa.array([NOON, None], pa.timestamp("us", "UTC")),
            "attributes.amount": pa.array([Decimal("19.90"), Decimal("5.00")], pa.decimal128(10, 2)),
            "attributes.flag": pa.array([True, None]),
            "attributes.tags": pa.array([["a"], None], pa.list_(pa.string())),
            "attributes.place": pa.array([{"x": 1, "y": None}, None], pa.struct([("x", pa.int8()), ("y", pa.int8())])),
            "attributes.map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
            "attributes.when": pa.array([NOON, None], pa.timestamp("ns", "UTC")),
            "attributes.text": pa.array(["00123", ""]),
        }
    )
    taken = take(put_parquet(table), Job.REFERRALS, {})
    assert taken.subjects[0][:2] == (1, "1")
    assert taken.bodies == [
        {
            "advocateProfileIntegrationId": "1",
            "campaignId": 7,
            "expiryDate": "2026-11-20T12:00:00Z",
            "attributes": {
                "amount": 19.9,
                "flag": True,
                "tags": ["a"],
                "place": {"x": 1},
                "map": {"k": 1},
                "when": "2026-11-20T12:00:00Z",
                "text": "00123",
            },
        },
        {"advocateProfileIntegrationId": "2", "campaignId": 8, "attributes": {"amount": 5, "text": ""}},
    ]


def test_a_parquet_file_of_ids_alone_is_rows_with_empty_bodies(put_parquet, take):
    assert take(put_parquet({"id": ["a", "b"]}), Job.PROFILES).bodies == [{}, {}]


@pytest.mark.parametrize(
    ("values", "kind", "rule"),
    [
        ([float("nan")], pa.float64(), "not a finite number"),
        ([float("inf")], pa.float64(), "not a finite number"),
        ([date(2026, 11, 20)], pa.date32(), "JSON has no date"),
        ([datetime(2026, 11, 20)], pa.timestamp("us"), "a time without a zone"),  # noqa: DTZ001 - that is the point
        ([time(10)], pa.time64("us"), "JSON has no time"),
        ([timedelta(1)], pa.duration("us"), "JSON has no timedelta"),
        ([b"x"], pa.binary(), "JSON has no bytes"),
        ([Decimal("0.12345678901234567890")], pa.decimal128(30, 20), "a decimal with more digits than"),
        ([[(1, 1)]], pa.map_(pa.int8(), pa.int8()), "an object whose keys are no texts"),
        ([[float("nan")]], pa.list_(pa.float64()), "not a finite number"),
    ],
)
def test_what_json_does_not_have_is_refused_in_parquet(put_parquet, take, values, kind, rule):
    path = put_parquet(pa.table({"id": ["c"], "attributes.a": pa.array(values, kind)}))
    reason, detail = take(path, Job.PROFILES).fault
    assert (reason, detail.startswith(f"attributes.a: {rule}")) == ("field_not_usable", True)


def test_a_time_that_python_does_not_have_is_an_error_of_the_file(put_parquet, refuse):
    table = pa.table({"id": ["c"], "attributes.a": pa.array([10**12], pa.timestamp("s", "UTC"))})
    assert "can't be read" in refuse(put_parquet(table), Job.PROFILES)


def test_a_map_with_a_key_twice_is_an_error_of_the_file(put_parquet, refuse):
    table = pa.table({"id": ["c"], "attributes.a": pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int8()))})
    assert "can't be read" in refuse(put_parquet(table), Job.PROFILES)
