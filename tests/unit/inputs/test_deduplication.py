"""The first of equal ids stays, whatever the hashes say."""

from array import array

import pytest

from privacy_toolkit.inputs.options import RejectReason
from privacy_toolkit.inputs.pages import Page, mark_duplicates

pytestmark = pytest.mark.usefixtures("number_of_ids")


def marks(pages, **options):
    hashes = array("q", [hash(id_) for page in pages for _, id_ in page.accepted()])
    return list(mark_duplicates(hashes, lambda: iter(pages), sum(len(page.rows) for page in pages), **options))


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_later_ones_are_marked_over_pages_and_walks(at_once):
    pages = [Page([2, 3, 4], ["a", "b", "a"], {}), Page([5], ["c"], {}), Page([6, 7, 8], ["c", "a", "d"], {})]
    assert marks(pages, at_once=at_once) == [0, 0, 1, 0, 1, 1, 0]


def test_what_was_refused_is_no_duplicate_and_makes_none():
    refused = {0: RejectReason.NULL, 2: RejectReason.DOT_SEGMENT, 3: RejectReason.DOT_SEGMENT}
    assert marks([Page([1, 2, 3, 4, 5], [None, "a", ".", ".", "a"], refused)]) == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("pages", [[], [Page([], [], {})], [Page([2], ["a"], {})]])
def test_few_rows_are_no_special_case(pages):
    assert marks(pages) == [0] * sum(len(page.rows) for page in pages)


def test_two_ids_with_one_hash_stay_two(monkeypatch):
    monkeypatch.setattr("privacy_toolkit.inputs.pages.hash", len, raising=False)
    pages = [Page([2, 3, 4], ["aa", "bb", "c"], {}), Page([5, 6, 7], ["bb", "aa", "dd"], {})]
    hashes = array("q", [len(id_) for page in pages for id_ in page.ids])
    assert list(mark_duplicates(hashes, lambda: iter(pages), 6)) == [0, 0, 0, 1, 1, 0]
