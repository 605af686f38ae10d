import hashlib

import msgspec
import pytest

from privacy_toolkit.engine.plan import Plan, PlannedInput, PlannedRows, decode_plan
from privacy_toolkit.errors import RefusedError, UsageError


@pytest.fixture
def plan():
    return Plan(
        toolkit="0.1.0",
        job="erase",
        target="t.example.org",
        base_url="https://t.example.org",
        environment="live",
        generation="current",
        created_at="2026-01-01T00:00:00Z",
        input=PlannedInput(path="/in.csv", sha256="00", size=1, format="csv", id_column="id"),
        rows=PlannedRows(read=4, rejected=1, duplicates=1, subjects=2, rejected_by_reason={"blank": 1}),
        calls={"get_customer_inventory": (2, 4)},
    ).sealed()


def test_a_plan_comes_back_as_it_was(plan):
    assert decode_plan(plan.encode()) == plan


def test_a_changed_plan_is_refused(plan):
    for old, new in ((b'"subjects": 2', b'"subjects": 3'), (b"t.example.org", b"u.example.org"), (b"live", b"sandbox")):
        with pytest.raises(RefusedError):
            decode_plan(plan.encode().replace(old, new))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"format": "other"}', b"\xff"])
def test_what_is_no_plan_is_a_usage_error(data):
    with pytest.raises(UsageError):
        decode_plan(data)


def test_a_plan_of_another_version_is_a_usage_error(plan):
    with pytest.raises(UsageError, match="another version"):
        decode_plan(msgspec.structs.replace(plan, format="privacy-toolkit/plan/0").encode())


@pytest.mark.parametrize(
    ("change", "adds_up"),
    [({}, True), ({"read": 5}, False), ({"rejected_by_reason": {}}, False), ({"held": 3}, False), ({"held": 2}, True)],
)
def test_the_sums_of_the_input_are_checked(plan, change, adds_up):
    assert msgspec.structs.replace(plan.rows, **change).adds_up is adds_up


def test_what_is_left_of_a_plan_after_a_purge_says_nothing_of_its_input(plan):
    whole = msgspec.structs.replace(plan, nonce="abcd").sealed()
    left = whole.without_input()
    assert left.digest == whole.digest
    assert b"/in.csv" not in left.encode()
    assert (left.nonce, left.input.sha256, left.input.path) == ("", "", "")
    assert left.rows == whole.rows


def test_the_same_plan_twice_has_two_digests(plan):
    first, second = (msgspec.structs.replace(plan, nonce=nonce).sealed() for nonce in ("01", "02"))
    assert first.digest != second.digest


def stored(plan, change):
    """A plan as another version would have written it: with other fields, and the digest of what it wrote."""
    fields = msgspec.json.decode(plan.encode())
    change(fields)
    fields["digest"] = ""
    fields["digest"] = hashlib.sha256(msgspec.json.encode(fields, order="sorted")).hexdigest()
    return msgspec.json.encode(fields)


def test_a_plan_of_an_earlier_version_was_not_changed(plan):
    data = stored(plan, lambda fields: fields.pop("observed"))
    assert decode_plan(data).rows == plan.rows
    with pytest.raises(RefusedError):
        decode_plan(data.replace(b'"live"', b'"dead"'))


@pytest.mark.parametrize("field", ["tomorrow", "digest2"])
def test_a_plan_of_a_newer_version_is_called_that(plan, field):
    with pytest.raises(UsageError, match="newer version"):
        decode_plan(stored(plan, lambda fields: fields.update({field: 1})))
