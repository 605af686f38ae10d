"""Any body there can be, written as a row of a CSV or of JSON Lines, comes back as the same body."""

import csv
import io
import json
from datetime import timedelta, timezone

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import read_input
from privacy_toolkit.jobs import declaration
from privacy_toolkit.jobs import writes as requested
from privacy_toolkit.jobs.writes import request_of

KINDS = [requested.REFERRAL_REQUESTS, requested.EVENT_REQUESTS, requested.PROFILE_REQUESTS, requested.SESSION_REQUESTS]
CASES = [
    (kind, {"api": version, "generation": generation, "run_rule_engine": kind.job == "profiles" and newest})
    for kind in KINDS
    for version in kind.operations
    for generation in ("2020", "current")
    for newest in [version == "v2" and generation == "current"]
    if not (kind.job == "events" and version in {"v2", "v3"} and generation == "2020")
]
TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
#: Texts that could be taken for something else.
ODD = st.sampled_from(["00123", "1e5", "NA", "null", "true", "", " ", "=1", '"', ",", "\r\n", "\ufeff", ".", ":number"])
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
IDS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def values(kind):
    """All values of a declared type."""
    return _VALUES[type(kind)](kind)


def _object(kind):
    fields = {field.encode_name: (field, values(field.type)) for field in kind.fields}
    required = {name: made for name, (field, made) in fields.items() if field.required}
    optional = {name: made for name, (field, made) in fields.items() if not field.required}
    return st.fixed_dictionaries(required, optional=optional)


_VALUES = {
    inspect.IntType: lambda kind: st.integers(
        kind.ge if kind.ge is not None else -(2**53), kind.le if kind.le is not None else 2**53
    ),
    inspect.FloatType: lambda kind: st.floats(min_value=kind.ge, allow_nan=False, allow_infinity=False),
    inspect.StrType: lambda kind: (TEXT | ODD).filter(bool),
    inspect.LiteralType: lambda kind: st.sampled_from(kind.values),
    inspect.DateTimeType: lambda kind: st.datetimes(timezones=ZONES).map(lambda moment: moment.isoformat()),
    inspect.ListType: lambda kind: st.lists(values(kind.item_type), max_size=min(kind.max_length or 3, 3)),
    inspect.DictType: lambda kind: st.dictionaries(
        (TEXT | ODD).filter(bool), JSON if isinstance(kind.value_type, inspect.AnyType) else values(kind.value_type),
        max_size=3,
    ),
    inspect.StructType: _object,
    inspect.UnionType: lambda kind: st.one_of(
        values(one) for one in kind.types if not isinstance(one, inspect.NoneType)
    ),
}  # fmt: skip


@st.composite
def bodies(draw):
    """A job, its parameters, the id of a row, and the body that the row is to become."""
    kind, parameters = draw(st.sampled_from(CASES))
    request = request_of(kind, parameters)
    body = draw(values(inspect.type_info(request.operation.body_for(request.generation))))
    opened = kind.opened.get(request.version)
    inner = body.get(opened, body)
    id_ = draw(IDS)
    for name in kind.customers:
        if name in inner:
            inner[name] = draw(IDS)
    if kind.id_field:
        body[kind.id_field] = id_
    return kind, parameters, id_, body, opened


def columns_of(kind, body, opened, draw):
    """The row of a body: objects whole, or member by member, as chance has it."""
    flat = {name: value for name, value in body.items() if name not in {opened, kind.id_field}}
    flat |= body[opened] if opened else {}
    for name, value in flat.items():
        if isinstance(value, dict) and value and name != "audiencesChanges" and draw(st.booleans()):
            yield from ((f"{name}.{member}", one, name == "attributes") for member, one in value.items())
        else:
            yield name, value, False


def suffix_of(value):
    if isinstance(value, str) and value:
        return "string"
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "json"


def text_of(value, *, as_json):
    if isinstance(value, str) and not as_json:
        return value
    return msgspec.json.encode(value).decode()


def taken(path, kind, parameters, id_column):
    form = declaration(kind.job).form(parameters)
    with read_input(str(path), InputOptions(id_column=id_column), spool_folder=path.parent, form=form) as scan:
        assert [(record.reason, record.detail) for record in scan.records()] == [(None, "")]
        ((subject,),) = scan.subjects()
        return subject


def same(given, id_, body, kind, parameters):
    request = request_of(kind, parameters)
    whole = msgspec.json.encode(msgspec.convert(body, request.body), order="sorted")
    assert msgspec.json.encode(msgspec.json.decode(given[2], type=request.body), order="sorted") == whole
    assert (given[1], json.loads(given[2])) == (id_, json.loads(whole))


@given(bodies(), st.data())
def test_a_csv_brings_every_body_back(tmp_path_factory, made, data):
    kind, parameters, id_, body, opened = made
    row = {"the id": id_}
    for name, value, is_attribute in columns_of(kind, body, opened, data.draw):
        column = f"{name}:{suffix_of(value)}" if is_attribute else name
        as_json = is_attribute and suffix_of(value) == "json"
        row[column] = text_of(value, as_json=as_json)
    path = tmp_path_factory.mktemp("fields") / "row.csv"
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([list(row), list(row.values())])
    path.write_bytes(text.getvalue().encode())
    same(taken(path, kind, parameters, "the id"), id_, body, kind, parameters)


@given(bodies(), st.data())
def test_json_lines_bring_every_body_back(tmp_path_factory, made, data):
    kind, parameters, id_, body, opened = made
    row = {"the id": id_}
    for name, value, is_attribute in columns_of(kind, body, opened, data.draw):
        if is_attribute and (value is None or ":" in name):  # a null on its own is not given; a colon needs a type
            row[f"{name}:json"] = msgspec.json.encode(value).decode()
        else:
            row[name] = value
    path = tmp_path_factory.mktemp("fields") / "row.jsonl"
    path.write_bytes(msgspec.json.encode(row) + b"\n")
    same(taken(path, kind, parameters, "the id"), id_, body, kind, parameters)
