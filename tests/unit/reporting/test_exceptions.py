import csv
import io

import pytest

from privacy_toolkit.reporting.exceptions import HEADER, csv_line


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
    assert csv_line(HEADER) == b"reference,outcome,reason,attempts,what_to_do\r\n"
