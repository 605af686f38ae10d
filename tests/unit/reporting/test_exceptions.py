import csv
import io

import pytest

from privacy_toolkit.core.model import OPEN_OUTCOMES, Job, Outcome
from privacy_toolkit.reporting.rows import (
    HEADER,
    LISTED_CASES,
    Case,
    CaseList,
    csv_line,
    make_case,
    needs_attention,
    row_of,
)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("a","b")'])
def test_no_field_is_taken_for_a_formula(text):
    (field,) = next(csv.reader(io.StringIO(csv_line((text,)).decode(), newline="")))
    assert field == "'" + text


@pytest.mark.parametrize("text", ["plain", "with, comma", 'with "quotes"', "two\r\nlines", "", "12"])
def test_other_fields_come_back_as_they_were(text):
    line = csv_line((text, 7))
    assert line.endswith(b"\r\n")
    assert next(csv.reader(io.StringIO(line.decode(), newline=""))) == [text, "7"]


def test_header_names_what_an_operator_needs():
    assert csv_line(HEADER) == b"reference,outcome,reason,attempts,due_on,what_to_do\r\n"


def test_open_and_failed_rows_need_attention(mixed):
    rows = [row_of(observed, b"k" * 32) for observed in mixed.rows()]
    assert {row.outcome for row in rows if needs_attention(row)} == {
        outcome.value for outcome in Outcome if outcome in OPEN_OUTCOMES or outcome is Outcome.FAILED
    }


def test_case_says_what_is_due_when_and_what_to_do(mixed):
    row = next(row for row in (row_of(observed, b"k" * 32) for observed in mixed.rows()) if row.outcome == "failed")
    case = make_case(row.subject, row.outcome, row.reason, row.attempts, row.due_on, Job.ERASE)
    assert case[:5] == (row.subject, "failed", "bad_request", 1, "")
    assert "new run" in case.what_to_do
    assert make_case("s", "pending", None, 0, "2026-12-01", Job.ERASE)[:5] == ("s", "pending", "", 0, "2026-12-01")


def case(reference: str, due_on: str = "") -> Case:
    return Case(reference, "pending", "", 0, due_on, "Resume the run.")


def test_cases_are_listed_by_due_date_then_reference_and_those_without_a_date_last():
    cases = CaseList()
    cases.add([case("d"), case("c", "2026-12-02"), case("b", "2026-12-02")])
    cases.add([case("a"), case("e", "2026-12-01")])
    assert [one.reference for one in cases.listed()] == ["e", "b", "c", "a", "d"]


@pytest.mark.parametrize(("number", "listed"), [(LISTED_CASES, LISTED_CASES), (LISTED_CASES + 1, 0)])
def test_too_many_cases_are_not_listed_at_all(number, listed):
    cases = CaseList()
    for k in range(number):
        cases.add([case(f"{k:06}")])
    cases.add([])
    assert len(cases.listed()) == listed
