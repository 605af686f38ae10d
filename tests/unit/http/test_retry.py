from datetime import UTC, datetime
from random import Random

import pytest

from privacy_toolkit.engine.limits import FIRST_WAIT, LONGEST_BACKOFF, backoff
from privacy_toolkit.http.exchange import parse_retry_after

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Monday, 23-Nov-26 12:00:30 GMT", 30.0),
        ("Mon Nov 23 12:00:30 2026", 30.0),
        ("Mon, 23 Nov 2026 13:00:30 +0100", 30.0),
        ("Mon, 23 Nov 2026 11:59:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("1e9", None),
        ("nan", None),
        ("inf", None),
        ("9" * 400, None),
        ("--1", None),
        ("1.2.3", None),
        ("\u0661\u0662", None),
        ("Mon, 99 Nov 2026 12:00:30 GMT", None),
        ("1, 2", None),
    ],
)
def test_retry_after(value, seconds):
    assert parse_retry_after(value, NOW) == seconds


class Highest(Random):
    def uniform(self, _, highest):
        return highest


def test_backoff_doubles_up_to_its_bound():
    waits = [backoff(attempt, Highest()) for attempt in range(1, 9)]
    assert waits[:4] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT, 8 * FIRST_WAIT]
    assert waits[-1] == LONGEST_BACKOFF


def test_backoff_takes_any_attempt():
    assert backoff(0, Highest()) == FIRST_WAIT
    assert backoff(10**9, Highest()) == LONGEST_BACKOFF


def test_jitter_is_full():
    waits = [backoff(3, Random(seed)) for seed in range(200)]
    assert 0 <= min(waits) < 0.2
    assert 1.8 < max(waits) <= 4 * FIRST_WAIT
