"""What was set aside comes back."""

import io

import pytest

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.options import RejectReason
from privacy_toolkit.inputs.pages import Page, Spool

PAGES = [
    Page([2, 3], ["a", "\u00e4\U0001f600"], {}),
    Page([], [], {}),
    Page([4, 10**12], [None, "."], {0: RejectReason.NULL, 1: RejectReason.DOT_SEGMENT}),
]


@pytest.fixture
def spool():
    spool = Spool(io.BytesIO(), Page)
    for page in PAGES:
        spool.append(page)
    return spool


def test_pages_come_back_as_often_as_wanted(spool):
    assert list(spool.pages()) == PAGES
    assert list(spool.pages()) == PAGES


def test_readers_do_not_disturb_each_other(spool):
    assert [pair for pair in zip(spool.pages(), spool.pages(), strict=True) if pair[0] != pair[1]] == []


def test_some_pages_come_back_by_number(spool):
    assert len(spool) == 3
    assert list(spool.pages(1, 2)) == PAGES[1:2]
    assert list(spool.pages(2)) == PAGES[2:]
    assert list(spool.pages(3)) == list(spool.pages(1, 1)) == []


def test_a_full_disk_is_an_error_that_says_what_to_do():
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"The input can't be set aside: No space left on device\.") as caught:
        Spool(Full(), Page).append(PAGES[0])
    assert "Make room" in caught.value.hint
