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


def days(done):
    """Row by row the day that was asked on, ``None`` where nothing is said of it."""
    said = {seq: it.requested_on and str(it.requested_on) for seq, it in done.requests}
    return [said.get(seq) for seq in range(1, len(done.subjects) + 1)]


EVENING = dt.datetime.fromisoformat("2026-11-20T23:59:59")
UTC_NIGHT = dt.datetime(2026, 11, 20, 23, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("column", "day"),
    [
        (pa.array([dt.date(2026, 11, 20), None], pa.date32()), "2026-11-20"),
        (pa.array([dt.date(2026, 11, 20), None], pa.date64()), "2026-11-20"),
        *((pa.array([EVENING, None], pa.timestamp(unit)), "2026-11-20") for unit in ("s", "ms", "us", "ns")),
        (pa.array([UTC_NIGHT, None], pa.timestamp("us", "UTC")), "2026-11-20"),
        (pa.array([UTC_NIGHT, None], pa.timestamp("us", "Europe/Berlin")), "2026-11-21"),
        (pa.array([UTC_NIGHT, None], pa.timestamp("ns", "America/New_York")), "2026-11-20"),
        (pa.array([UTC_NIGHT, None], pa.timestamp("ms", "+02:00")), "2026-11-21"),
        (pa.array([dt.date(1, 1, 1), None], pa.date32()), "0001-01-01"),
        (pa.array([dt.date(1969, 12, 31), None], pa.date32()), "1969-12-31"),
        (pa.array(["2026-11-20T23:30:00-11:00", " "], pa.string()), "2026-11-20"),
        (pa.array(["2026-11-20", ""], pa.large_string()), "2026-11-20"),
        (pa.array(["2026-11-20", None]).dictionary_encode(), "2026-11-20"),
    ],
)
@pytest.mark.parametrize("name", ["requested_at", "extended_at"])
def test_days_are_read_from_dates_times_and_text(put_parquet, read, name, column, day):
    done = read(put_parquet({"id": ["a", "b"], name: column}))
    assert done.ids == ["a", "b"]
    [(seq, request)] = done.requests
    assert (seq, str(request.requested_on or request.extended_on)) == (1, day)


def test_days_beyond_the_calendar_refuse_their_rows(put_parquet, read):
    last = (dt.date(9999, 12, 31) - dt.date(1970, 1, 1)).days
    column = pa.array([last, last + 1, -719_163, 2**31 - 1, -(2**31)], pa.date32())
    done = read(put_parquet({"id": list("abcde"), "requested_at": column}))
    assert days(done) == ["9999-12-31"]
    assert set(done.reasons.values()) == {"requested_at_no_date"}
    seconds = pa.array([0, (2**32 + 20_000) * 86_400_000, 2**62], pa.timestamp("ms"))  # more days than 32 bits hold
    assert days(read(put_parquet({"id": list("abc"), "requested_at": seconds}))) == ["1970-01-01"]


def test_references_are_text_or_whole_numbers(put_parquet, read):
    for column in (pa.array([17, None, 2**53 + 1]), pa.array(["17", None, str(2**53 + 1)])):
        done = read(put_parquet({"id": list("abc"), "ticket": column}))
        assert [(seq, it.ticket) for seq, it in done.requests] == [(1, "17"), (3, str(2**53 + 1))]


def test_a_number_that_holds_the_id_or_a_sign_is_no_reference(put_parquet, read):
    done = read(put_parquet({"id": [4711, 4712, 4713], "ticket": pa.array([104711, -3, 1])}))
    assert done.reasons == {1: "ticket_not_usable", 2: "ticket_not_usable"}
    assert done.ids == ["4713"]


@pytest.mark.parametrize(
    ("name", "column", "kind"),
    [
        ("requested_at", pa.array([20261120]), "int64, neither dates nor text"),
        ("requested_at", pa.array([1.5]), "double, neither dates nor text"),
        ("extended_at", pa.array([dt.time(10)]), "time64[us], neither dates nor text"),
        ("extended_at", pa.array([b"2026-11-20"]), "binary, neither dates nor text"),
        ("ticket", pa.array([1.0]), "double, not text"),
        ("ticket", pa.array([True]), "bool, not text"),
        ("ticket", pa.array([dt.date(2026, 11, 20)]), "date32[day], not text"),
        ("ground", pa.array([17]), "int64, not text"),
    ],
)
def test_an_optional_column_of_another_type_is_an_error_that_names_it(put_parquet, refuse, name, column, kind):
    message = refuse(put_parquet({"id": ["a"], name: column})).message
    assert message == f"requests.parquet: column '{name}' holds {kind}."


def test_a_time_zone_that_is_not_known_is_an_error(put_parquet, refuse):
    path = put_parquet({"id": ["a"], "requested_at": pa.array([0], pa.timestamp("us", "Nowhere/X"))})
    assert refuse(path).message == "requests.parquet, column 'requested_at': its time zone is not known."


def test_empty_optional_columns_say_nothing(put_parquet, read):
    done = read(put_parquet({"id": ["a"], "requested_at": pa.nulls(1), "ground": pa.nulls(1)}))
    assert (done.requests, done.summary.columns) == ([], ("requested_at", "ground"))


def test_text_of_an_optional_column_that_is_not_utf_8_names_column_and_record(put_parquet, refuse):
    column = pa.array([b"a", b"caf\xe9"]).view(pa.string())
    error = refuse(put_parquet({"id": ["a", "b"], "ticket": column}))
    assert error.message == "requests.parquet, column 'ticket': record 2 is not UTF-8."


def test_parts_may_differ_in_how_they_write_a_day(put_parquet, read):
    put_parquet({"id": ["a"], "requested_at": [dt.date(2026, 11, 20)]}, "parts/1.parquet")
    second = put_parquet({"requested_at": ["2026-11-19T10:00Z", "2026-11-18"], "id": ["a", "b"]}, "parts/2.parquet")
    assert days(read(str(Path(second).parent))) == ["2026-11-19", "2026-11-18"]


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ({"ticket": ["x"]}, {}, "lacks the column 'ticket', unlike 1.parquet."),
        ({}, {"requested_at": ["2026-11-20"]}, "has the column 'requested_at', unlike 1.parquet."),
    ],
)
def test_parts_that_differ_in_their_optional_columns_are_an_error(put_parquet, refuse, first, second, problem):
    put_parquet({"id": ["a"], **first}, "parts/1.parquet")
    path = put_parquet({"id": ["b"], **second}, "parts/2.parquet")
    assert refuse(str(Path(path).parent)).message == f"2.parquet {problem}"


def test_pages_and_row_groups_do_not_move_what_rows_say(put_parquet, read):
    ids = [f"c{number}" for number in range(100)]
    path = put_parquet({"ticket": [f"T-{id_}"[:2] + str(n) for n, id_ in enumerate(ids)], "id": ids}, row_group_size=7)
    for size in (1, 3, 1000):
        assert [(seq, it.ticket) for seq, it in read(path, page_rows=size).requests] == [
            (n + 1, f"T-{n}") for n in range(100)
        ]
