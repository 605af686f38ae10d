"""The referral codes of a run as a file."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from privacy_toolkit.core.model import Subject
from privacy_toolkit.jobs.holders import MadeCode, decode_code, encode_code
from privacy_toolkit.jobs.writes import codes_table
from privacy_toolkit.reporting.rows import write_table

KEPT = [
    (Subject(1, 2, "00123"), MadeCode("REF-1", 7, "2030-01-01T00:00:00Z")),
    (Subject(3, 4, "=c"), MadeCode("=REF", None, None)),
]


def write(path, **options):
    table = codes_table({}, lambda: ((subject, encode_code(made)) for subject, made in KEPT))
    return write_table(path, table, **options)


@pytest.mark.parametrize("made", [made for _, made in KEPT])
def test_what_is_kept_comes_back(made):
    assert decode_code(encode_code(made)) == made


def cells(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_csv_has_a_row_for_each_code_with_every_text_as_it_is(tmp_path):
    path = tmp_path / "codes.csv"
    assert write(path) == 2
    header, first, second = cells(path)
    assert header == ["row", "advocate_id", "referral_code", "referral_id", "expiry"]
    assert first == ["2", "00123", "REF-1", "7", "2030-01-01T00:00:00Z"]
    assert second == ["4", "=c", "=REF", "", ""]


def test_a_csv_that_is_safe_for_spreadsheets_has_no_formula_and_says_so(tmp_path):
    path = tmp_path / "codes.csv"
    assert write(path, guard=True) == 2
    header, first, second = cells(path)
    assert header[5:] == ["guarded_for_spreadsheets"]
    assert (first[5], second[:3]) == ("", ["4", "'=c", "'=REF"])
    assert json.loads(second[5]) == {"advocate_id": "=c", "referral_code": "=REF"}


def test_parquet_has_every_text_as_it_is(tmp_path):
    path = tmp_path / "codes.parquet"
    assert write(path) == 2
    assert pq.read_table(path).to_pylist() == [
        {
            "row": 2,
            "advocate_id": "00123",
            "referral_code": "REF-1",
            "referral_id": 7,
            "expiry": "2030-01-01T00:00:00Z",
        },
        {"row": 4, "advocate_id": "=c", "referral_code": "=REF", "referral_id": None, "expiry": None},
    ]
