"""Of the rows of one subject the one with the earliest day counts, wherever the pages and the walks end."""

import io
from array import array
from datetime import date

import pytest

from privacy_toolkit.core.model import SubjectRequest
from privacy_toolkit.inputs.options import RejectReason
from privacy_toolkit.inputs.pages import Amendments, Page, SaidColumns, Spool
from privacy_toolkit.inputs.pairs import Requests

pytestmark = pytest.mark.usefixtures("number_of_ids")

#: How many rows stand on a page, and how many ids are compared in one walk.
CUTS = [(1, 1), (2, 1), (3, 2), (1000, 1), (1000, 1000)]


@pytest.fixture
def found():
    """Marks and requests for rows of ``(id, requested_on, ticket)``, an id of ``None`` being refused."""

    def run(rows, page_rows=1000, at_once=1000, hash_of=hash):
        pages, said, amendments = (Spool(io.BytesIO(), kind) for kind in (Page, SaidColumns, Amendments))
        for start in range(0, len(rows), page_rows):
            ids, days, tickets = (list(column) for column in zip(*rows[start : start + page_rows], strict=True))
            refused = {n: RejectReason.NULL for n, id_ in enumerate(ids) if id_ is None}
            pages.append(Page(list(range(start, start + len(ids))), ids, refused))
            said.append(SaidColumns(days, [None] * len(ids), tickets, [None] * len(ids)))
        requests = Requests(pages, said, amendments)
        hashes = array("q", [hash_of(id_) for id_, _, _ in rows if id_ is not None])
        marks = requests.mark_duplicates(hashes, len(rows), at_once=at_once)
        subjects = list(requests.of_subjects(marks))
        assert list(requests.of_subjects(marks)) == subjects
        plain = [(seq, (str(it.requested_on) if it.requested_on else None, it.ticket)) for seq, it in subjects]
        return list(marks), plain

    return run


@pytest.mark.parametrize(("page_rows", "at_once"), CUTS)
def test_the_earliest_row_speaks_at_the_place_of_the_first(found, page_rows, at_once):
    rows = [
        ("a", "2026-11-05", "T1"),
        ("b", "2026-11-05", "T2"),
        ("a", "2026-11-03", "T3"),
        ("c", "2026-11-05", "T4"),
        ("a", "2026-11-04", "T5"),
        ("c", "2026-11-01", None),
        ("b", "2026-11-06", "T6"),
    ]
    marks, requests = found(rows, page_rows, at_once)
    assert marks == [0, 0, 1, 0, 1, 1, 1]
    assert requests == [(1, ("2026-11-03", "T3")), (2, ("2026-11-05", "T2")), (3, ("2026-11-01", None))]


@pytest.mark.parametrize(("page_rows", "at_once"), CUTS)
def test_of_equal_days_and_of_none_the_first_row_speaks(found, page_rows, at_once):
    rows = [
        ("a", "2026-11-05", "T1"),
        ("a", "2026-11-05", "T2"),
        ("b", None, "T3"),
        ("b", None, "T4"),
        ("c", "2026-11-05", None),
        ("c", None, "T5"),
    ]
    assert found(rows, page_rows, at_once) == (
        [0, 1, 0, 1, 0, 1],
        [(1, ("2026-11-05", "T1")), (2, (None, "T3")), (3, ("2026-11-05", None))],
    )


@pytest.mark.parametrize(("page_rows", "at_once"), CUTS)
def test_a_row_with_a_day_speaks_before_one_without(found, page_rows, at_once):
    rows = [("a", None, "T1"), ("b", None, None), ("a", "2026-11-05", None), ("b", "2026-11-06", "T2")]
    assert found(rows, page_rows, at_once) == (
        [0, 0, 1, 1],
        [(1, ("2026-11-05", None)), (2, ("2026-11-06", "T2"))],
    )


def test_of_whom_nothing_is_said_is_counted_and_left_out(found):
    rows = [("a", None, None), (None, "2026-11-01", "T1"), ("b", None, "T2"), ("c", None, None)]
    assert found(rows) == ([0, 0, 0, 0], [(2, (None, "T2"))])


def test_a_refused_row_says_nothing_for_another(found):
    assert found([("a", "2026-11-05", "T1"), (None, "2026-11-01", "T2")]) == (
        [0, 0],
        [(1, ("2026-11-05", "T1"))],
    )


def test_no_rows_are_no_special_case(found):
    assert found([]) == ([], [])


def test_two_ids_with_one_hash_stay_two(found, monkeypatch):
    monkeypatch.setattr("privacy_toolkit.inputs.pages.hash", len, raising=False)
    rows = [("aa", "2026-11-05", "T1"), ("bb", "2026-11-06", "T2"), ("bb", "2026-11-04", "T3"), ("aa", None, "T4")]
    assert found(rows, hash_of=len) == ([0, 0, 1, 1], [(1, ("2026-11-05", "T1")), (2, ("2026-11-04", "T3"))])


def test_amendments_of_more_than_a_page_come_in_order(found):
    rows = [(f"c{n}", "2026-11-05", None) for n in range(2500)]
    rows += [(f"c{n}", "2026-11-04", f"T{n}") for n in reversed(range(2500))]
    marks, requests = found(rows, at_once=1100)
    assert marks == [0] * 2500 + [1] * 2500
    assert requests == [(n + 1, ("2026-11-04", f"T{n}")) for n in range(2500)]


def test_a_request_holds_dates():
    pages, said, amendments = (Spool(io.BytesIO(), kind) for kind in (Page, SaidColumns, Amendments))
    pages.append(Page([2], ["a"], {}))
    said.append(SaidColumns(["2026-11-01"], ["2026-11-20"], ["T1"], ["17(1)(b)"]))
    requests = Requests(pages, said, amendments)
    marks = requests.mark_duplicates(array("q", [hash("a")]), 1)
    assert list(requests.of_subjects(marks)) == [
        (1, SubjectRequest(date(2026, 11, 1), date(2026, 11, 20), "T1", "17(1)(b)"))
    ]
