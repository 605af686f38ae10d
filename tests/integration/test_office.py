"""Months of work with one state, drawn from seeds: all that is said of it agrees, and is so at the API."""

import pytest

from tests.support.lengths import IS_LONG
from tests.support.office import Office, play
from tests.support.office_shop import Shop

SEEDS, STEPS = (range(300, 330), 25) if IS_LONG else (range(300, 301), 9)


@pytest.mark.parametrize("kind", [Office, Shop])
@pytest.mark.parametrize("number", SEEDS)
def test_whatever_is_done_all_that_is_said_agrees(tmp_path, monkeypatch, kind, number):
    office = play(tmp_path, number, STEPS, monkeypatch, kind)
    assert len(office.runs()) > 1
