"""Parquet: types, nulls, parts, damage."""

import datetime as dt
import decimal
import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

TEXT = ["00123", "1e5", "NA", "Zoe\u0308", "a\u00a0b"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_text_is_text_however_it_is_kept(put_parquet, read, kind):
    column = pa.array([*TEXT, None, " a", "1e5"]).cast(kind)
    done = read(put_parquet({"x": range(8), "id": column}))
    assert done.ids == TEXT
    assert done.reasons == {6: "null", 7: "surrounding_whitespace"}
    assert (done.summary.read, done.summary.rejected, done.summary.duplicates) == (8, 2, 1)
    assert done.records[5].id is None


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64()], ids=str)
def test_integers_are_their_decimal_text(put_parquet, read, kind):
    done = read(put_parquet({"id": pa.array([7, 0, None, 127]).cast(kind)}))
    assert done.subjects == [(1, "7"), (2, "0"), (4, "127")]
    assert done.reasons == {3: "null"}


def test_integers_beyond_the_exact_floats_keep_every_digit(put_parquet, read):
    values = [2**64 - 1, 2**53 + 1]
    assert read(put_parquet({"id": pa.array(values, pa.uint64())})).ids == [str(value) for value in values]


def test_a_column_of_nothing_is_nulls(put_parquet, read):
    assert read(put_parquet({"id": pa.nulls(2)})).reasons == {1: "null", 2: "null"}


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (pa.array([1.0]), "double"),
        (pa.array([True]), "bool"),
        (pa.array([b"a"]), "binary"),
        (pa.array([decimal.Decimal("1.5")]), "decimal128(2, 1)"),
        (pa.array([dt.date(2026, 11, 23)]), "date32[day]"),
        (pa.array([dt.datetime(2026, 11, 23, tzinfo=dt.UTC)]), "timestamp[us, tz=UTC]"),
        (pa.array([["a"]]), "list<element: string>"),
    ],
)
def test_what_is_no_text_is_refused_with_its_type(put_parquet, refuse, column, name):
    assert refuse(put_parquet({"id": column})).message == f"requests.parquet: column 'id' holds {name}, not text."


def test_the_column_is_the_one_named_or_a_usual_one(put_parquet, read, refuse):
    path = put_parquet({"kunde": ["a"], "customer_id": ["b"], "a.b": ["c"]})
    assert read(path).ids == ["b"]
    assert read(path, id_column="kunde").ids == ["a"]
    assert read(path, id_column="a.b").ids == ["c"]
    assert refuse(path, id_column="x").message.endswith("there are kunde, customer_id, a.b.")


def test_a_name_for_two_columns_is_refused(put_parquet, refuse):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["id", "id"])
    assert "columns 1 and 2 have the same name" in refuse(put_parquet(table)).message


def test_pages_and_row_groups_do_not_move_rows(put_parquet, read):
    ids = [f"c{number}" for number in range(100)]
    path = put_parquet({"id": ids}, row_group_size=7)
    for size in (1, 3, 1000):
        assert read(path, page_rows=size).subjects == list(enumerate(ids, 1))


def test_a_folder_is_its_parts_in_order_of_name(put_parquet, put, read):
    put_parquet({"id": ["c", "a"]}, "parts/part-2.pq")
    first = put_parquet({"x": [1, 2], "id": [5, 6]}, "parts/part-1.parquet")
    put("", "parts/_SUCCESS")
    put("", "parts/.part-1.parquet.crc")
    folder = Path(first).parent
    done = read(str(folder))
    assert done.subjects == [(1, "5"), (2, "6"), (3, "c"), (4, "a")]
    listing = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("part-1.parquet", "part-2.pq")
    )
    assert done.summary.sha256 == hashlib.sha256(listing.encode()).hexdigest()
    assert done.summary.size == sum((folder / name).stat().st_size for name in ("part-1.parquet", "part-2.pq"))
    assert read(str(folder), limit=1).summary.sha256 == done.summary.sha256


def test_the_fingerprint_of_a_file_is_that_of_its_bytes(put_parquet, read):
    path = put_parquet({"id": ["a"]})
    summary = read(path).summary
    assert summary.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert (summary.format, summary.size) == ("parquet", Path(path).stat().st_size)


def test_parts_that_differ_in_the_column_are_an_error_that_names_the_part(put_parquet, refuse):
    put_parquet({"customer_id": ["a"]}, "parts/1.parquet")
    second = put_parquet({"id": ["b"]}, "parts/2.parquet")
    assert refuse(str(Path(second).parent)).message.startswith("2.parquet: there is no column 'customer_id'")
    put_parquet({"customer_id": [1.5]}, "parts/2.parquet")
    assert refuse(str(Path(second).parent)).message == "2.parquet: column 'customer_id' holds double, not text."


@pytest.mark.parametrize("name", ["parts/README.txt", "parts/inner/part.parquet", "parts/inner.parquet/x"])
def test_what_a_folder_holds_besides_is_not_passed_over_in_silence(put_parquet, put, refuse, tmp_path, name):
    put_parquet({"id": ["a"]}, "parts/1.parquet")
    put("", name)
    assert refuse(str(tmp_path / "parts")).message.endswith("which is no Parquet file.")


def test_an_empty_folder_is_an_error(tmp_path, refuse):
    (tmp_path / "parts").mkdir()
    assert refuse(str(tmp_path / "parts")).message == "The folder parts holds no Parquet file."


def test_damage_is_one_sentence(put_parquet, put, refuse):
    good = Path(put_parquet({"id": [f"secret-{number}" for number in range(1000)]})).read_bytes()
    middle = len(good) // 3
    for bad in (b"", b"PAR1", b"id\na\n", good[:-4], good[:middle], good[:middle] + bytes(50) + good[middle + 50 :]):
        assert refuse(put(bad, "bad.parquet")).message == "bad.parquet is damaged, or no Parquet file."


def test_text_that_is_not_utf_8_is_an_error_that_names_the_record(put_parquet, refuse):
    column = pa.array([b"a", b"b", b"caf\xe9", b"c"]).view(pa.string())
    error = refuse(put_parquet({"id": column}), page_rows=2)
    assert error.message == "requests.parquet, column 'id': record 3 is not UTF-8."
