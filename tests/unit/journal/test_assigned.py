"""What was assigned stays assigned, and the record names nobody."""

import sqlite3
from contextlib import closing

import pytest

from privacy_toolkit.core.model import JournalError, RefusedError
from privacy_toolkit.journal.sqlite.ledgers import ASSIGNED_FILE, AssignedCodesFile

SCOPE = "live api.example.org/shop"


@pytest.fixture
def opened(tmp_path):
    def make(scope=SCOPE):
        return AssignedCodesFile(tmp_path, scope)

    return make


def test_at_first_nothing_is_assigned(opened):
    with opened() as record:
        assert record.among(["X", "Y"]) == {}
        assert record.code_of("a", {}) is None


def test_what_was_assigned_is_known_to_anyone_who_opens_it_next(opened):
    with opened() as record:
        record.remember([("a", "X"), ("b", "Y")])
    with opened() as record:
        taken = record.among(["Z", "Y", "X"])
        assert list(taken.values()) == ["Y", "X"]
        assert [record.code_of(one, taken) for one in "abc"] == ["X", "Y", None]
        assert record.code_of("a", record.among(["Y"])) is None


def test_of_several_codes_the_first_in_the_list_counts(opened):
    for code in "XY":
        with opened() as record:
            record.remember([("a", code)])
    with opened() as record:
        assert record.code_of("a", record.among(["Y", "X"])) == "Y"


def test_another_target_is_another_record(opened):
    with opened() as record:
        record.remember([("a", "X")])
    with opened("sandbox api.example.org/shop") as record:
        assert record.among(["X"]) == {}


def test_what_was_worked_out_before_somebody_else_assigned_is_refused(opened):
    with opened() as one, opened() as other, opened("another") as elsewhere:
        elsewhere.remember([("a", "X")])
        one.remember([("a", "X")])
        with pytest.raises(RefusedError) as caught:
            other.remember([("b", "X")])
        assert caught.value.code == "stale"
    with opened() as record:
        assert record.code_of("a", record.among(["X"])) == "X"


def test_it_is_remembered_as_a_whole_or_not_at_all(opened):
    def pairs():
        yield ("a", "X")
        raise RuntimeError

    with opened() as record, pytest.raises(RuntimeError):
        record.remember(pairs())
    with opened() as record:
        assert record.among(["X"]) == {}
        record.remember([("a", "X"), ("a", "X")])


def test_neither_code_nor_customer_stands_in_it(opened, tmp_path):
    with opened() as record:
        record.remember([("somebody@example.org", "WELCOME-10")])
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"somebody" not in data
    assert b"WELCOME" not in data
    with closing(sqlite3.connect(tmp_path / ASSIGNED_FILE)) as connection:
        (digest,) = connection.execute("SELECT code FROM dealt").fetchone()
    assert len(digest) == 16


def test_a_damaged_record_is_said_and_not_made_again(opened, tmp_path):
    (tmp_path / ASSIGNED_FILE).write_bytes(b"not a database at all, and long enough to be seen" * 20)
    with pytest.raises(JournalError):
        opened()
