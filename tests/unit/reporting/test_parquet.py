import json
import stat

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.jobs.loyalty import LoyaltyFacts, ProgramFacts, encode_loyalty
from privacy_toolkit.journal.records import (
    PackageFacts,
    encode_package,
)
from privacy_toolkit.reporting import parquet
from privacy_toolkit.reporting.parquet import SCHEMA, STORED, lines_of, matches, rows_parquet, table_of
from privacy_toolkit.reporting.rows import Shown
from tests.support import reported_runs as runs

SECRET = b"k" * 32


@pytest.fixture
def table(tmp_path):
    """A row with something in every column, and rows of all outcomes, in the order of the pseudonyms."""
    asked = runs.Asked("2026-10-31", "2026-11-30", "DSR-412", "17(1)(b)")
    subjects = [
        runs.told(f"c-{outcome}-{k}", outcome, request=asked if k else None)
        for outcome in Outcome
        if outcome is not Outcome.DONE
        for k in range(2)
    ]
    with runs.RunJournal(runs.write_run(tmp_path / "r", subjects)) as journal:
        package = PackageFacts(name="ab.zip", sha256="c" * 64, sections={"profile": "complete"}, redactions=2, people=1)
        first, second, *others = journal.rows()
        loyalty = encode_loyalty(LoyaltyFacts(programs={"33": ProgramFacts(outcome=Outcome.ERASED)}))
        rows = [first._replace(result=encode_package(package)), second._replace(result=loyalty), *others]
        return table_of(rows, SECRET, Shown(journal.windows())).sort_by("subject").combine_chunks()


@pytest.fixture
def lines(table):
    return lines_of(table).splitlines(keepends=True)


def write(path, *tables):
    with rows_parquet(path) as file:
        for table in tables:
            file.add(table)
    return path


def test_file_agrees_with_its_own_lines(table, lines, tmp_path):
    assert matches(lines, write(tmp_path / "x", table)) is None
    assert matches(iter(lines), write(tmp_path / "y", table.slice(0, 5), table.slice(5))) is None


def test_same_rows_give_the_same_bytes(table, tmp_path):
    pieces = pa.concat_tables([table.slice(0, 4), table.slice(4)])
    assert write(tmp_path / "x", table).read_bytes() == write(tmp_path / "y", pieces).read_bytes()


def test_file_is_for_its_owner_only_and_never_written_over(table, tmp_path):
    path = write(tmp_path / "x", table)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write(path, table)


def test_no_rows_make_a_file_as_well(tmp_path):
    path = write(tmp_path / "x")
    assert matches([], path) is None
    assert matches([b"{}\n"], path) == 0


def changed(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    if isinstance(value, list):
        return (
            [{**value[0], "status": 599}]
            if value
            else [dict.fromkeys(("intent_at", "answered_at", "status", "reason", "shared"))]
        )
    return value + (1 if isinstance(value, int) else pd.Timedelta(days=1).to_pytimedelta())


@pytest.mark.parametrize("name", SCHEMA.names)
def test_any_field_that_differs_is_found_with_its_row(table, lines, tmp_path, name):
    values = table.column(name).to_pylist()
    place = next(k for k, value in enumerate(values) if value not in (None, []))
    values[place] = changed(values[place])
    field = SCHEMA.field(name)
    other = table.set_column(SCHEMA.get_field_index(name), field, pa.array(values, field.type))
    assert matches(lines, write(tmp_path / "x", other)) == place


@pytest.mark.parametrize("name", [field.name for field in SCHEMA if field.nullable])
def test_any_field_that_is_missing_is_found_with_its_row(table, lines, tmp_path, name):
    values = table.column(name).to_pylist()
    place = next(k for k, value in enumerate(values) if value is not None)
    values[place] = None
    field = SCHEMA.field(name)
    other = table.set_column(SCHEMA.get_field_index(name), field, pa.array(values, field.type))
    # A status without its time is no read at all, so it is not seen that it was there: the time stands for both.
    assert matches(lines, write(tmp_path / "x", other)) == place


@pytest.mark.parametrize("name", ["intent_at", "answered_at", "status", "reason", "shared"])
def test_any_field_of_a_send_takes_part(table, lines, tmp_path, name):
    values = table.column("sends").to_pylist()
    place = next(k for k, sends in enumerate(values) if sends and sends[0][name] is not None)
    values[place][0][name] = None
    field = SCHEMA.field("sends")
    other = table.set_column(SCHEMA.get_field_index("sends"), field, pa.array(values, field.type))
    assert matches(lines, write(tmp_path / "x", other)) == place


def test_one_that_is_longer_differs_where_the_other_ends(table, lines, tmp_path, monkeypatch):
    path = write(tmp_path / "x", table)
    for at_once in (parquet._AT_ONCE, 3, 1):
        monkeypatch.setattr(parquet, "_AT_ONCE", at_once)
        assert matches(lines, path) is None
        assert matches(lines[:-1], path) == len(lines) - 1
        assert matches([*lines, lines[0]], path) == len(lines)
        assert matches(lines[1:], path) == 0
        assert matches([], path) == 0


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b"\xff\xfe\n", b'{"subject":1}\n'])
def test_line_that_is_no_row_differs(table, lines, tmp_path, line):
    path = write(tmp_path / "x", table)
    assert matches([*lines[:4], line, *lines[5:]], path) == 4


def test_line_that_means_the_same_and_is_written_otherwise_differs(table, lines, tmp_path):
    path = write(tmp_path / "x", table)
    spaced = json.dumps(json.loads(lines[2]), sort_keys=True).encode() + b"\n"
    assert matches([*lines[:2], spaced, *lines[3:]], path) == 2


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 40 + b"PAR1", b"{}\n" * 99])
def test_file_that_is_no_parquet_differs_from_the_first_row(lines, tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    assert matches(lines, tmp_path / "x") == 0


def test_file_that_is_missing_differs_from_the_first_row(lines, tmp_path):
    assert matches(lines, tmp_path / "x") == 0


def test_damaged_file_never_agrees_nor_breaks_anything(table, lines, tmp_path):
    whole = write(tmp_path / "x", table).read_bytes()
    row_groups_end = whole.rindex(b"PAR1") - int.from_bytes(whole[-8:-4], "little")
    for place in range(4, row_groups_end, 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x80
        (tmp_path / "y").write_bytes(damaged)
        found = matches(lines, tmp_path / "y")
        assert found is None or 0 <= found < len(lines)


@pytest.mark.parametrize(
    "other",
    [
        pa.table({"subject": ["a"]}),
        STORED.empty_table().append_column("more", pa.array([], pa.int8())),
        STORED.empty_table().select(sorted(STORED.names)),
    ],
)
def test_file_with_other_columns_differs_from_the_first_row(lines, tmp_path, other):
    pq.write_table(other, tmp_path / "x")
    assert matches(lines, tmp_path / "x") == 0
    assert matches([], tmp_path / "x") == 0


def test_row_group_that_would_not_fit_is_not_read(table, lines, tmp_path, monkeypatch):
    path = write(tmp_path / "x", table)
    monkeypatch.setattr(parquet, "_MOST_ROWS", len(table) - 1)
    assert matches(lines, path) == 0


def test_pandas_reads_codes_as_categories_and_times_in_utc(table, tmp_path):
    frame = pd.read_parquet(write(tmp_path / "x", table))
    assert list(frame.columns) == SCHEMA.names
    assert isinstance(frame["outcome"].dtype, pd.CategoricalDtype)
    assert str(frame["settled_at"].dtype) == "datetime64[us, UTC]"
    assert frame["subject"].tolist() == table.column("subject").to_pylist()


def test_error_while_writing_is_told_and_the_file_is_closed(table, tmp_path):
    def break_off():
        with rows_parquet(tmp_path / "x") as file:
            file.add(table)
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    assert matches([], tmp_path / "x") == 0
