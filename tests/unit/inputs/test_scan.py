"""An input as a whole: sums, order, limits, standard input, what is left behind."""

import gc
import gzip
import hashlib
import io
import os
import stat
import tracemalloc
from datetime import date

import pytest
from msgspec.structs import asdict

from privacy_toolkit.core.model import InputError, SubjectRequest
from privacy_toolkit.inputs.options import RejectReason
from privacy_toolkit.inputs.scan import Record, Status, read_input

MIXED = "id\na\n\nb\na\n c\n..\nb\nd\n"


@pytest.mark.parametrize("page_rows", [1, 2, 3, 1000])
def test_every_row_is_a_subject_a_duplicate_or_rejected(put, read, page_rows):
    done = read(put(MIXED), page_rows=page_rows)
    assert done.subjects == [(2, "a"), (4, "b"), (9, "d")]
    assert done.records == [
        Record(2, "a", Status.ACCEPTED),
        Record(3, "", Status.REJECTED, RejectReason.BLANK),
        Record(4, "b", Status.ACCEPTED),
        Record(5, "a", Status.DUPLICATE),
        Record(6, " c", Status.REJECTED, RejectReason.SURROUNDING_WHITESPACE),
        Record(7, "..", Status.REJECTED, RejectReason.DOT_SEGMENT),
        Record(8, "b", Status.DUPLICATE),
        Record(9, "d", Status.ACCEPTED),
    ]


def test_the_summary_adds_up_and_names_nobody(put, read):
    path = put(MIXED)
    summary = read(path).summary
    assert asdict(summary) == {
        "format": "csv",
        "sha256": hashlib.sha256(MIXED.encode()).hexdigest(),
        "size": len(MIXED),
        "id_column": "id",
        "read": 8,
        "rejected_by_reason": {"blank": 1, "dot_segment": 1, "surrounding_whitespace": 1},
        "duplicates": 2,
        "subjects": 3,
        "columns": (),
        "sheet": None,
        "identified": None,
        "warnings": (),
    }
    assert summary.rejected == 3


def test_ids_that_differ_in_anything_are_two_subjects(put, read):
    ids = ["a", "A", "\u00e9", "e\u0301", "0", "00", "a\u200b"]
    assert read(put("\n".join(["id", *ids]))).ids == ids


def test_stripping_comes_before_de_duplication(put, read):
    path = put("id\n a\na\nb \n \n")
    assert read(path).ids == ["a"]
    done = read(path, strip=True)
    assert done.subjects == [(2, "a"), (4, "b")]
    assert (done.summary.duplicates, done.reasons) == (1, {5: "blank"})


def test_pages_hold_at_most_a_thousand_subjects_and_are_repeatable(put, tmp_path):
    path = put("id\n" + "\n".join(f"c{number % 2500}" for number in range(4000)))
    with read_input(path, spool_folder=tmp_path) as scan:
        pages = list(scan.subjects())
        assert [len(page) for page in pages] == [1000, 1000, 500]
        assert list(scan.subjects()) == pages


@pytest.mark.parametrize("page_rows", [1, 3, 1000])
@pytest.mark.parametrize(("limit", "read_rows", "subjects"), [(1, 1, 1), (2, 3, 2), (3, 8, 3), (9, 8, 3)])
def test_a_limit_ends_the_reading_at_its_last_subject(put, read, page_rows, limit, read_rows, subjects):
    done = read(put(MIXED), limit=limit, page_rows=page_rows)
    assert (done.summary.read, done.summary.subjects) == (read_rows, subjects)
    assert len(done.records) == read_rows
    assert done.summary.read == done.summary.rejected + done.summary.duplicates + done.summary.subjects
    assert done.summary.sha256 == hashlib.sha256(MIXED.encode()).hexdigest()


def test_rows_beyond_a_limit_are_hashed_and_not_looked_at(put, read, refuse):
    content = "id\na\n" + "b\n" * 200_000 + "c,d\n"
    path = put(content)
    assert "line 200003" in refuse(path).message
    summary = read(path, limit=1).summary
    assert (summary.read, summary.size) == (1, len(content))
    packed = gzip.compress(content.encode())
    assert read(put(packed, "a.csv.gz"), limit=1).summary.size == len(packed)


def test_standard_input_is_read_as_csv_and_left_open(read):
    stdin = io.BytesIO(MIXED.encode())
    done = read("-", stdin=stdin)
    assert done.ids == ["a", "b", "d"]
    assert done.summary.sha256 == hashlib.sha256(MIXED.encode()).hexdigest()
    assert not stdin.closed


def test_errors_of_standard_input_name_it(refuse):
    assert refuse("-", stdin=io.BytesIO(b"id\na,b\n")).message.startswith("standard input, line 2:")


def test_the_spool_has_no_name_and_is_for_its_owner_alone(put, tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    with read_input(put(MIXED), spool_folder=folder) as scan:
        assert list(folder.iterdir()) == []
        file = scan._spool._file
        assert os.fstat(file.fileno()).st_nlink == 0
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
    assert file.closed


def test_a_missing_spool_folder_is_an_error_that_says_so(put, tmp_path):
    with pytest.raises(InputError, match=r"The input can't be set aside: No such file or directory\."):
        read_input(put(MIXED), spool_folder=tmp_path / "missing")


def test_an_input_that_fails_leaves_no_file_open(put, tmp_path):
    path = put("id\na\nb,c\n")
    with pytest.raises(InputError):
        read_input(path, spool_folder=tmp_path)
    gc.collect()  # a file left to the collector would warn, and a warning is an error here


def peak(path, folder):
    tracemalloc.start()
    try:
        with read_input(path, spool_folder=folder) as scan:
            for _ in scan.subjects():
                pass
            for _ in scan.requests():
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_by_a_few_bytes_a_row(put, tmp_path):
    few, many = 10_000, 60_000
    files = [put("id\n" + "".join(f"customer-{n:040}\n" for n in range(rows)), f"{rows}.csv") for rows in (few, many)]
    read_input(files[0], spool_folder=tmp_path).close()  # numpy is loaded once
    assert (peak(files[1], tmp_path) - peak(files[0], tmp_path)) / (many - few) < 32


ASKED = (
    "customer_id,requested_at,extended_at,ticket,ground\n"
    "anna,2026-11-05,,DSR-1,17(1)(b)\n"
    "bert,,,,\n"
    "carl,05.11.2026,,,\n"
    "anna,2026-11-02T08:00:00+01:00,2026-11-20,DSR-2,\n"
    "\n"
    "dora,2026-11-07,soon,,\n"
    "emil,2026-11-07,,dsr-EMIL,\n"
    "fred,2026-11-07,,,free text\n"
    "..,2026-11-07,,x y,\n"
    "gina,,,DSR-3,\n"
)


@pytest.mark.parametrize("page_rows", [1, 2, 3, 1000])
def test_what_an_input_says_of_requests_is_told_by_subject(put, read, page_rows):
    done = read(put(ASKED), page_rows=page_rows)
    assert done.subjects == [(2, "anna"), (3, "bert"), (11, "gina")]
    assert done.requests == [
        (1, SubjectRequest(date(2026, 11, 2), date(2026, 11, 20), "DSR-2", None)),
        (3, SubjectRequest(ticket="DSR-3")),
    ]
    assert done.summary.columns == ("requested_at", "extended_at", "ticket", "ground")
    assert done.summary.id_column == "customer_id"


@pytest.mark.parametrize("page_rows", [1, 2, 3, 1000])
def test_rows_that_can_not_be_understood_are_refused_and_counted(put, read, page_rows):
    done = read(put(ASKED), page_rows=page_rows)
    assert done.reasons == {
        4: "requested_at_no_date",
        6: "blank",
        7: "extended_at_no_date",
        8: "ticket_not_usable",
        9: "ground_not_usable",
        10: "dot_segment",  # what is wrong with an id comes first
    }
    assert done.summary.rejected_by_reason == {
        "blank": 1,
        "dot_segment": 1,
        "extended_at_no_date": 1,
        "ground_not_usable": 1,
        "requested_at_no_date": 1,
        "ticket_not_usable": 1,
    }
    assert (done.summary.read, done.summary.duplicates, done.summary.subjects) == (10, 1, 3)
    assert done.records[2] == Record(4, "carl", Status.REJECTED, RejectReason.REQUESTED_AT_NO_DATE)


def test_a_refused_row_leaves_its_id_to_another_row(put, read):
    done = read(put("id,requested_at\nanna,1.11.2026\nanna,2026-11-05\n"))
    assert done.subjects == [(3, "anna")]
    assert done.requests == [(1, SubjectRequest(date(2026, 11, 5)))]
    assert done.summary.duplicates == 0


@pytest.mark.parametrize("page_rows", [1, 3, 1000])
def test_a_limit_leaves_what_later_rows_say_unread(put, read, page_rows):
    done = read(put(ASKED), limit=2, page_rows=page_rows)
    assert (done.summary.read, done.ids) == (2, ["anna", "bert"])
    assert done.requests == [(1, SubjectRequest(date(2026, 11, 5), None, "DSR-1", "17(1)(b)"))]


def test_stripping_reaches_the_optional_columns_and_a_refused_id_is_shown_as_it_stands(put, read):
    path = put("id,requested_at,ticket\n anna , 2026-11-05 , DSR-1 \n bert ,2026-11-05,DSR-bert\n")
    done = read(path, strip=True)
    assert (done.ids, done.requests) == (["anna"], [(1, SubjectRequest(date(2026, 11, 5), None, "DSR-1"))])
    assert done.records[1] == Record(3, " bert ", Status.REJECTED, RejectReason.TICKET_NOT_USABLE)


@pytest.mark.parametrize("header", ["id,Ticket,ground ,requested_on", "id,x,y,z"])
def test_without_the_columns_nothing_is_said(put, read, header):
    done = read(put(f"{header}\na,x y,x y,soon\n"))
    assert (done.ids, done.requests, done.summary.columns) == (["a"], [], ())


def test_empty_columns_say_nothing(put, read):
    assert read(put("id,ticket\na,\n")).requests == []
    assert read(put("id,ticket\n")).summary.columns == ("ticket",)


@pytest.mark.parametrize("name", ["requested_at", "extended_at", "ticket", "ground"])
def test_the_ids_can_not_be_in_an_optional_column(put, refuse, name):
    assert name in refuse(put(f"{name}\nanna\n"), id_column=name).message


def test_requests_from_standard_input_are_repeatable(tmp_path):
    with read_input("-", spool_folder=tmp_path, stdin=io.BytesIO(ASKED.encode())) as scan:
        assert [seq for seq, _ in scan.requests()] == [1, 3]
        assert list(scan.requests()) == list(scan.requests())
        readers = zip(scan.requests(), scan.requests(), scan.records(), strict=False)
        assert [one == other for one, other, _ in readers] == [True, True]
        assert list(tmp_path.iterdir()) == []  # what was set aside has no name


def test_what_the_columns_say_stays_out_of_memory(put, tmp_path):
    few, many = 5_000, 25_000
    files = []
    for rows in (few, many):
        lines = (f"customer-{n:040},2026-11-{n % 28 + 1:02}T10:00:{n % 60:02},DSR-{n:050}\n" for n in range(rows))
        files.append(put("id,requested_at,ticket\n" + "".join(lines), f"{rows}.csv"))
    read_input(files[0], spool_folder=tmp_path).close()
    assert (peak(files[1], tmp_path) - peak(files[0], tmp_path)) / (many - few) < 32
