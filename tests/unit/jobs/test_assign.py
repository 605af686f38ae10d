"""Codes to customers, one to one: who gets which, and what is said where they run out."""

import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.jobs.assign import one_to_one, order_of_codes

PAGES = [[(2, "a"), (3, "b")], [(4, "c")]]


def assigned(free, *, kept=None, holds=None):
    pages = list(one_to_one(PAGES, holds or {}, (kept or {}).get, free))
    assert [len(page) for page in pages] == [2, 1]
    return {id_: code for page in pages for _, id_, code in page}


def test_each_customer_gets_the_next_code():
    assert assigned(["X", "Y", "Z", "W"]) == {"a": "X", "b": "Y", "c": "Z"}


def test_who_had_one_keeps_it_and_uses_up_none():
    assert assigned(["X", "Y"], kept={"b": "OLD"}) == {"a": "X", "b": "OLD", "c": "Y"}


def test_who_is_on_hold_gets_none():
    assert assigned(["X", "Y"], holds={1: "hold"}) == {"a": "", "b": "X", "c": "Y"}


@pytest.mark.parametrize(("free", "said"), [([], "3 more are"), (["X", "Y"], "1 more is")])
def test_where_codes_run_out_it_is_said_how_many_are_missing(free, said):
    with pytest.raises(UsageError) as caught:
        assigned(free)
    assert said in caught.value.message
    assert caught.value.code == "codes_run_out"


@pytest.mark.parametrize(
    ("unusable", "said", "hint"),
    [
        ((0, 0, ""), "The codes run out: 2 more are needed.", "Add codes to the list."),
        ((3, 0, ""), "the API does not know 3 of them. 2 more are needed.", "codes of this environment?"),
        ((0, 1, ""), "1 is reserved for others. 2 more are needed.", "Add codes to the list."),
        ((3, 2, ""), "does not know 3 of them and 2 are reserved for others. 2 more", "codes of this environment?"),
        ((0, 0, "2 rows were refused"), "can be assigned: 2 rows were refused. 2 more are needed.", "Correct the list"),
    ],
)
def test_why_there_are_not_enough_codes_is_said(unusable, said, hint):
    with pytest.raises(UsageError) as caught:
        list(one_to_one(PAGES, {}, {}.get, ["X"], lambda: unusable))
    assert said in caught.value.message
    assert hint in caught.value.hint


def test_the_order_is_that_of_the_file_or_the_one_a_seed_stands_for():
    codes = [str(number) for number in range(50)]
    assert order_of_codes(list(codes), None) == codes
    shuffled = order_of_codes(list(codes), 7)
    assert shuffled == order_of_codes(list(codes), 7) != order_of_codes(list(codes), 8)
    assert sorted(shuffled) == sorted(codes)
    # a plan that was made once is applied by whatever Python there is then
    assert order_of_codes(list("abcdef"), 1) == ["c", "d", "f", "a", "e", "b"]
