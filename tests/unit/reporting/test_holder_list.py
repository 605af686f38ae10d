"""The list of holders as a file."""

import csv
import json
import stat

import msgspec
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from privacy_toolkit.core.model import ExitCode, Subject, UsageError
from privacy_toolkit.jobs import holders
from privacy_toolkit.jobs.holders import Holder, holders_table
from privacy_toolkit.reporting.rows import TableFileError, check_out, write_table

PLAIN = [("X", [Holder("a"), Holder("00123")]), ("Y", []), ("Z", [Holder('q"u,o\nte')])]
FULL = [("X", [Holder("a", "2020-02-07T08:15:22Z", '{"n":"=1"}', -1.5, 3, "2020-02-08T00:00:00Z"), Holder("b")])]


def write(path, kept, *, with_attributes=False, guard=False, at_once=10_000):
    data = [(Subject(n, n, coupon), msgspec.msgpack.encode(found)) for n, (coupon, found) in enumerate(kept, 1)]
    table = holders_table({"with_attributes": with_attributes}, lambda: iter(data))
    return write_table(path, replace(table, at_once=at_once), guard=guard)


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_csv_has_a_row_for_each_pair(tmp_path):
    path = tmp_path / "out.csv"
    assert write(path, PLAIN) == 3
    assert rows(path) == [["coupon_value", "customer_id"], ["X", "a"], ["X", "00123"], ["Z", 'q"u,o\nte']]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_csv_has_profiles_where_they_are_asked_for(tmp_path):
    path = tmp_path / "out.csv"
    write(path, FULL, with_attributes=True)
    header, first, second = rows(path)
    assert header[2:] == ["created", "attributes", "total_sales", "closed_sessions", "last_activity"]
    assert first == ["X", "a", "2020-02-07T08:15:22Z", '{"n":"=1"}', "-1.5", "3", "2020-02-08T00:00:00Z"]
    assert second == ["X", "b", "", "", "", "", ""]


@pytest.mark.parametrize("id_", ["=1+1", "+49 30", "-5", "@SUM(A1)", "\t=1", "\uff1d1", " \x1b=1"])
def test_a_csv_that_is_safe_for_spreadsheets_has_no_formula_loses_no_id_and_says_so(tmp_path, id_):
    path = tmp_path / "out.csv"
    write(path, [("X", [Holder(id_), Holder("'a")]), ("=c", [Holder("b")])], guard=True)
    header, guarded, plain, coupon = rows(path)
    assert header == ["coupon_value", "customer_id", "guarded_for_spreadsheets"]
    assert guarded[:2] == ["X", f"'{id_}"]
    assert json.loads(guarded[2]) == {"coupon_value": "X", "customer_id": id_}
    assert plain == ["X", "'a", ""]
    assert (coupon[0], json.loads(coupon[2])["coupon_value"]) == ("'=c", "=c")


@pytest.mark.parametrize("at_once", [1, 2, 10_000])
def test_parquet_has_every_text_as_it_is(tmp_path, at_once):
    path = tmp_path / "out.parquet"
    assert write(path, [*PLAIN, ("=c", [Holder("=1")])], at_once=at_once) == 4
    assert pq.read_table(path).to_pydict() == {
        "coupon_value": ["X", "X", "Z", "=c"],
        "customer_id": ["a", "00123", 'q"u,o\nte', "=1"],
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_parquet_has_profiles_with_their_types(tmp_path):
    path = tmp_path / "out.parquet"
    write(path, FULL, with_attributes=True)
    table = pq.read_table(path)
    assert [str(kind) for kind in table.schema.types] == ["string"] * 4 + ["double", "int64", "string"]
    assert table.to_pylist()[0]["total_sales"] == -1.5
    assert table.to_pylist()[1]["attributes"] is None


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_nobody_at_all_is_a_file_with_its_columns(tmp_path, name):
    path = tmp_path / name
    assert write(path, [("X", [])]) == 0
    found = rows(path)[0] if name == "out.csv" else pq.read_table(path).column_names
    assert found == ["coupon_value", "customer_id"]


def test_an_older_file_is_replaced_and_what_a_kill_left_is_swept(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    (tmp_path / ".out.csv.part").write_text("half")
    write(path, PLAIN)
    assert rows(path)[1] == ["X", "a"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_can_not_be_written_leaves_the_older_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "out.csv"
    path.write_text("old")
    monkeypatch.setattr(holders, "decode_holders", full)
    with pytest.raises(TableFileError) as caught:
        write(path, PLAIN)
    assert (caught.value.exit_code, "No space" in caught.value.message) == (ExitCode.STOPPED, True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["out.txt", "out", "nowhere/out.csv", "folder.csv"])
def test_a_place_that_can_not_be_meant_is_said_before_anything_is_read(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError) as caught:
        check_out(str(tmp_path / name))
    assert caught.value.hint


def test_a_parquet_file_can_not_be_guarded(tmp_path):
    check_out(str(tmp_path / "out.csv"), guard=True)
    with pytest.raises(UsageError, match="no formulas"):
        check_out(str(tmp_path / "out.parquet"), guard=True)
