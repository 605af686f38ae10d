"""Rows side by side, and one at a time."""

from privacy_toolkit.inputs.options import RejectReason
from privacy_toolkit.inputs.pages import Page, SaidColumns

SAID = SaidColumns(["2026-11-01", None], [None, "2026-11-20"], ["A-1", None], [None, "17(1)(b)"])


def test_accepted_leaves_out_what_was_refused():
    assert list(Page([2, 3], ["a", "\u00e4\U0001f600"], {}).accepted()) == [(0, "a"), (1, "\u00e4\U0001f600")]
    refused = {0: RejectReason.NULL, 1: RejectReason.DOT_SEGMENT}
    assert list(Page([4, 5, 6], [None, ".", "b"], refused).accepted()) == [(2, "b")]


def test_what_a_row_says_stands_across_the_columns():
    rows = [("2026-11-01", None, "A-1", None), (None, "2026-11-20", None, "17(1)(b)")]
    assert list(SAID.words()) == rows
    assert [SAID.at(0), SAID.at(1)] == rows


def test_a_beginning_is_one_in_every_column():
    assert list(SAID.first(1).words()) == [("2026-11-01", None, "A-1", None)]
    assert SAID.first(2) == SAID
