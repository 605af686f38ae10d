"""Rows about coupons: what is taken of them, and what is refused."""

import json

import pytest

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.pairs import CodeForm, PairForm, budget_of, coupon_of, given_of
from privacy_toolkit.inputs.scan import read_input


@pytest.fixture
def take(tmp_path):
    """Read rows with a form; the subjects, and row, reason and detail of what was refused."""

    def run(path, form=None, **options):
        with read_input(path, InputOptions(**options), spool_folder=tmp_path, form=form or PairForm()) as scan:
            subjects = [subject for page in scan.subjects() for subject in page]
            refused = [(r.row, str(r.reason), r.detail) for r in scan.records() if r.reason]
            return subjects, refused, scan.summary.duplicates, list(scan.given())

    return run


def test_coupon_and_customer_are_taken_byte_for_byte(put, take):
    subjects, refused, *_ = take(put("coupon_value,customer_id\n0012,00123\nNA,null\nü 1,a b\n"))
    assert subjects == [(2, "00123", "0012"), (3, "null", "NA"), (4, "a b", "ü 1")]
    assert refused == []


def test_the_same_pair_is_one_subject_whatever_its_budget(put, take):
    subjects, _, duplicates, given = take(put("customer_id,coupon_value,budget\na,X,5\nb,X,\na,X,3\na,Y,\n"))
    assert subjects == [(2, "a", "X\t5"), (3, "b", "X"), (5, "a", "Y")]
    assert duplicates == 1
    assert given == ["X\t5", "X", "X\t3", "Y"]


@pytest.mark.parametrize(
    ("coupon", "rule"),
    [
        ("", "blank"),
        ("  ", "blank"),
        (" X", "surrounding_whitespace"),
        ("..", "dot_segment"),
        ('"a\tb"', "control_character"),
        ('"a\nb"', "control_character"),
        ("x" * 1001, "too_long"),
    ],
)
def test_a_coupon_is_judged_as_an_id_is(put, take, coupon, rule):
    subjects, refused, *_ = take(put(f"customer_id,coupon_value\na,{coupon}\nb,X\n"))
    assert [id_ for _, id_, _ in subjects] == ["b"]
    assert refused == [(2, "coupon_not_usable", f"coupon_value: {rule}")]


def test_a_bad_customer_is_named_before_a_bad_coupon(put, take):
    _, refused, *_ = take(put("customer_id,coupon_value\n..,\n"))
    assert refused == [(2, "dot_segment", "")]


@pytest.mark.parametrize("budget", ["-1", "1.5", " 5", "+5", "five", "1e3", "\u0665", "9" * 19])
def test_a_budget_is_a_whole_number(put, take, budget):
    subjects, refused, *_ = take(put(f"customer_id,coupon_value,budget\na,X,{budget}\n"))
    assert subjects == []
    assert refused == [(2, "budget_not_usable", "budget: no whole number of 0 or more")]


def test_without_budgets_that_column_is_one_like_any_other(put, take):
    subjects, *_ = take(put("customer_id,coupon_value,budget,note\na,X,many,n\n"), PairForm(has_budget=False))
    assert subjects == [(2, "a", "X")]


def test_parquet_gives_numbers_as_text_and_gaps_as_no_budget(put_parquet, take):
    path = put_parquet({"customer_id": ["a", "b", "c"], "coupon_value": [7, 8, None], "budget": [3.0, None, 1.0]})
    subjects, refused, *_ = take(path)
    assert subjects == [(1, "a", "7\t3"), (2, "b", "8")]
    assert refused == [(3, "coupon_not_usable", "coupon_value: null")]


@pytest.mark.parametrize("columns", [{"coupon_value": [1.5]}, {"coupon_value": [True]}])
def test_parquet_of_other_types_is_refused(put_parquet, take, columns):
    _, refused, *_ = take(put_parquet({"customer_id": ["a"], **columns}))
    assert [reason for _, reason, _ in refused] == ["coupon_not_usable"]


@pytest.mark.parametrize(("column", "value"), [("budget", 1.5), ("budget", True), ("budget", -1), ("budget", 2**70)])
def test_json_lines_of_other_types_are_refused(put, take, column, value):
    path = put(json.dumps({"customer_id": "a", "coupon_value": "X", column: value}), "rows.jsonl")
    _, refused, *_ = take(path)
    assert [reason for _, reason, _ in refused] == ["budget_not_usable"]


@pytest.mark.parametrize(
    ("header", "options", "said"),
    [
        ("customer_id,code", {}, "no column 'coupon_value'"),
        ("coupon_value,code", {}, "none of the columns customer_id"),
        ("coupon_value,customer_id", {"id_column": "coupon_value"}, "can't be the one with the customers"),
        ("coupon_value,customer_id,budget", {"id_column": "budget"}, "can't be the one with the customers"),
    ],
)
def test_a_missing_column_is_an_error_and_not_a_guess(put, take, header, options, said):
    with pytest.raises(InputError) as caught:
        take(put(f"{header}\n"), **options)
    assert said in caught.value.message
    assert "line 1" in caught.value.message


def test_a_list_of_codes_is_read_from_its_own_column(put, take):
    subjects, refused, duplicates, _ = take(put("customer_id,coupon_value\na,X\nb,X\nc,\n"), CodeForm())
    assert subjects == [(2, "X", "")]
    assert ([row for row, *_ in refused], duplicates) == ([4], 1)
    with pytest.raises(InputError):
        take(put("customer_id\na\n"), CodeForm())


@pytest.mark.parametrize("budget", [None, 0, 7])
def test_coupon_and_budget_come_back(budget):
    given = given_of("a b|c", budget)
    assert (coupon_of(given), budget_of(given)) == ("a b|c", budget)
