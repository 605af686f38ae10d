"""The exclusion list is understood as a whole, or refused as a whole."""

import gzip
import hashlib

import pytest

from privacy_toolkit.core.model import Hold, InputError
from privacy_toolkit.inputs.lists import read_exclusions
from privacy_toolkit.inputs.options import InputOptions


def test_holds_are_found_by_id(put):
    content = (
        "customer_id,reason,review_on\n00123,17(3)(e),2027-01-31\nb,identity,\nc,art_17_3_a,2026-12-01\n"
        "d,LEGAL-2026.4,\nb,identity,\n"
    )
    listed = read_exclusions(put(content, "holds.csv"))
    assert dict(listed.holds) == {
        "00123": Hold("17(3)(e)", "2027-01-31"),
        "b": Hold("identity"),
        "c": Hold("art_17_3_a", "2026-12-01"),
        "d": Hold("LEGAL-2026.4"),
    }
    assert listed.sha256 == hashlib.sha256(content.encode()).hexdigest()


def test_review_on_may_be_missing_and_the_columns_in_any_order(put):
    assert read_exclusions(put("note,reason,id\n,identity,a\n")).holds == {"a": Hold("identity")}
    assert read_exclusions(put("review_on,reason,id\n2027-01-01,identity,a\n")).holds == {
        "a": Hold("identity", "2027-01-01")
    }


def test_a_list_may_be_empty_or_compressed(put):
    assert read_exclusions(put("id,reason\n")).holds == {}
    packed = gzip.compress(b"id,reason\na,identity\n")
    assert read_exclusions(put(packed, "holds.csv.gz")).holds == {"a": Hold("identity")}


def test_options_apply_to_a_list_as_to_an_input(put):
    options = InputOptions(id_column="kunde", delimiter=";", encoding="cp1252", strip=True)
    path = put("kunde;reason\n caf\u00e9;identity\n".encode("cp1252"))
    assert read_exclusions(path, options).holds == {"caf\u00e9": Hold("identity")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id\na\n", ", line 1: there is no column 'reason'; there is one column only."),
        ("x,reason\na,identity\n", ", line 1: there is none of the columns"),
        ("id,reason\na,identity\nb,\n", ", line 3: the reason is missing."),
        ("id,reason\nb, \n", ", line 2: the reason is missing."),
        ("id,reason\nb,asked by Anna Schmidt\n", ", line 2: the reason is no code."),
        ("id,reason\nb,anna@example.org\n", ", line 2: the reason is no code."),
        (f"id,reason\nb,{'x' * 41}\n", ", line 2: the reason is no code."),
        ("id,reason\nb,\u00fcber\n", ", line 2: the reason is no code."),
        ("id,reason\na,identity\n\nb,identity\n", ", line 3: the id can't be used (blank)."),
        ("id,reason\n anna,identity\n", ", line 2: the id can't be used (surrounding_whitespace)."),
        ("id,reason\n..,identity\n", ", line 2: the id can't be used (dot_segment)."),
        ("id,reason\nanna\n", ", line 2: the header has 2 fields, this record 1."),
        ("id,reason,review_on\nanna,identity,31.12.2026\n", ", line 2: review_on is no date."),
        ("id,reason,review_on\nanna,identity,2026-02-30\n", ", line 2: review_on is no date."),
        ("id,reason,review_on\nanna,identity,20261231\n", ", line 2: review_on is no date."),
        ("id,reason,review_on\nanna,identity, \n", ", line 2: review_on is no date."),
        ("id,reason\nanna,identity\nb,identity\nanna,court\n", ", line 4 says something else of the id in line 2."),
        (
            "id,reason,review_on\nanna,identity,\nanna,identity,2027-01-01\n",
            ", line 3 says something else of the id in line 2.",
        ),
    ],
)
def test_one_line_that_is_not_understood_is_an_error_for_the_whole_list(put, content, message):
    with pytest.raises(InputError) as caught:
        read_exclusions(put(content, "holds.csv"))
    assert caught.value.message.startswith(f"holds.csv{message}")
    assert caught.value.hint
    assert "anna" not in (caught.value.message + caught.value.hint).lower()


@pytest.mark.parametrize("path", ["-", "holds.parquet"])
def test_a_list_is_a_csv_in_a_file(path):
    with pytest.raises(InputError, match="An exclusion list is a CSV or a workbook in a file"):
        read_exclusions(path)
