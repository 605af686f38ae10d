import hashlib

import msgspec
import pytest

from privacy_toolkit.core.model import RefusedError, StopReason, UsageError
from privacy_toolkit.engine.plan import (
    FIRST_FORMAT,
    Plan,
    PlannedClock,
    PlannedInput,
    PlannedRows,
    Planner,
    decode_plan,
    is_cut_short,
    why_stopped,
)
from privacy_toolkit.journal.records import Execution


@pytest.fixture
def plan():
    return (
        Plan(
            toolkit="0.1.0",
            job="erase",
            target="t.example.org",
            base_url="https://t.example.org",
            environment="live",
            generation="current",
            created_at="2026-01-01T00:00:00Z",
            input=PlannedInput(path="/in.csv", sha256="00" * 32, size=1, format="csv", id_column="id"),
            rows=PlannedRows(read=4, rejected=1, duplicates=1, subjects=2, rejected_by_reason={"blank": 1}),
            calls={"get_customer_inventory": (2, 4)},
        )
        .keyed(b"k" * 32)
        .sealed()
    )


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
    assert (left.nonce, left.input.keyed_sha256, left.input.path) == ("", "", "")
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
    with pytest.raises(UsageError, match="no plan of this version can"):
        decode_plan(stored(plan, lambda fields: fields.update({field: 1})))


def resealed(plan, **changes):
    """A plan that somebody changed and sealed again, as anybody can."""
    return msgspec.structs.replace(plan, **changes).sealed().encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": "2026-01-01T00:00:00Z\x1b[2J"},
        {"created_at": "2026-01-01T00:00:00Z\n"},
        {"created_at": "yesterday"},
        {"target": "t.example.org\x1b[3A"},
        {"target": "t.example\u202egro.live"},
        {"target": "x" * 501},
        {"environment": "LIVE"},
        {"verify": "all\nsent: 3"},
        {"verify": "sample:all"},
        {"toolkit": "0.1.0 \x9b"},
        {"job": "erase\n"},
        {"regime": "gdpr\u200b"},
        {"generation": "\u2028"},
        {"nonce": "no"},
        {"state": "x"},
        {"parameters": {"encrypt": "age1\nsent: 3"}},
        {"parameters": {"a b": 1}},
        {"calls": {"get": (-1, 2)}},
        {"planned_by": Planner(name="dpo\x07", fingerprint="SHA256:" + "A" * 43)},
        {"planned_by": Planner(name="dpo", fingerprint="mine")},
        {"rows": PlannedRows(read=-1, rejected=0, duplicates=0, subjects=-1)},
        {"clock": PlannedClock(dated=1, oldest_requested_on="soon", earliest_due_on=None, overdue=0)},
    ],
)
def test_every_field_of_a_plan_has_a_strict_type(plan, changes):
    with pytest.raises(UsageError, match="says what no plan of this version can"):
        decode_plan(resealed(plan, **changes))


def test_a_plan_names_its_input_by_a_digest_under_its_key(plan):
    list_of_one = hashlib.sha256(b"customer_id\nanna\n").hexdigest()
    made = msgspec.structs.replace(plan.input, sha256=list_of_one).keyed(b"k" * 32, "input")
    assert list_of_one not in str(made)
    assert made.is_of(list_of_one, b"k" * 32, "input")
    assert not made.is_of(list_of_one, b"x" * 32, "input")
    assert not made.is_of(list_of_one, None, "input")
    assert not made.is_of("ab" * 32, b"k" * 32, "input")


def test_a_plan_of_today_has_no_plain_digest_and_one_of_the_first_format_no_other(plan):
    plain = msgspec.structs.replace(plan.input, sha256="a" * 64, keyed_sha256="")
    with pytest.raises(UsageError):
        decode_plan(resealed(plan, input=plain))
    assert decode_plan(resealed(plan, input=plain, format=FIRST_FORMAT)).input == plain
    with pytest.raises(UsageError):
        decode_plan(resealed(plan, format=FIRST_FORMAT))


TERM, KEY = StopReason.TERMINATED, StopReason.CREDENTIALS_REFUSED


@pytest.mark.parametrize(
    ("executions", "stopped_by", "cut_short"),
    [
        ([], None, True),
        ([Execution(1, 0, 5, TERM), Execution(2, 6, 9)], None, False),
        ([Execution(1, 0, 5), Execution(2, 6, 9, TERM)], TERM, False),
        ([Execution(1, 0, 5), Execution(2, 6)], None, True),
        # Of several at the same time, the one that went to the end saw that all were tried, by whatever clock.
        ([Execution(1, 0, 5), Execution(2, 1, 4, TERM, joined=1)], None, False),
        ([Execution(1, 9, 10), Execution(2, 1, joined=1)], None, False),
        ([Execution(1, 0), Execution(2, 1, 4, TERM, joined=1)], TERM, False),
        ([Execution(1, 0, 5, TERM), Execution(2, 1, joined=1)], TERM, False),
        ([Execution(1, 0, 5, KEY), Execution(2, 1, 4, TERM, joined=1)], KEY, False),
        ([Execution(1, 0), Execution(2, 1, joined=1)], None, True),
        # What came before them is over.
        ([Execution(1, 0, 5), Execution(2, 1, 4, joined=1), Execution(3, 6, 9, TERM)], TERM, False),
        ([Execution(1, 0, 5, KEY), Execution(2, 6, 9, TERM), Execution(3, 7, 8, TERM, joined=2)], TERM, False),
    ],
)
def test_how_a_run_ended_is_told_by_all_who_worked_last_on_it(executions, stopped_by, cut_short):
    assert (why_stopped(executions), is_cut_short(executions)) == (stopped_by, cut_short)
