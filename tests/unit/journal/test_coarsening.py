"""Times that at least fifty share."""

from collections import Counter

import pytest

from privacy_toolkit.core.model import Outcome, Purpose
from privacy_toolkit.journal.records import ExchangeRecord, Note, SubjectState
from privacy_toolkit.journal.windows import LEAST, Windows

SECOND = 1_000_000


def read(at, status=404):
    return ExchangeRecord(Purpose.READ_BEFORE, "get", None, at, 1_000, status)


@pytest.fixture
def timed(make_run):
    """A run whose subjects were each settled at a moment; ``kinds`` says how many times each was read."""

    def make(moments, kinds=None, ends=None):
        with make_run([f"c{k}" for k in range(len(moments))], page=100) as journal:
            number = journal.begin_execution(SECOND, "{}")
            for seq, at in enumerate(moments, 1):
                reads = [(n, read(at)) for n in range(1, (kinds[seq - 1] if kinds else 1) + 1)]
                journal.record([Note(seq, reads, SubjectState(Outcome.NOTHING_HELD, settled_at=at))])
            journal.end_execution(number, ends or max(moments) + SECOND, None)
            return journal.windows()

    return make


def test_every_window_is_shared_by_fifty_and_holds_the_times_of_its_subjects(timed):
    moments = [100 * SECOND + 37_777 * k for k in range(4 * LEAST + 3)]
    windows = timed(moments)
    assert min(Counter(window for _, window in windows.items()).values()) >= LEAST
    for seq, at in enumerate(moments, 1):
        window = windows[seq]
        assert window.start % SECOND == 0
        assert window.start <= at < window.start + window.span * SECOND


def test_where_fewer_than_fifty_look_alike_the_window_is_the_whole_execution(timed):
    windows = timed([10 * SECOND + k for k in range(LEAST - 1)], ends=90 * SECOND + 1)
    assert {window for _, window in windows.items()} == {(SECOND, 90)}


def test_who_was_asked_about_more_often_than_fifty_others_shares_no_window_with_them(timed):
    windows = timed([k * SECOND for k in range(10, 130)], kinds=[1] * 119 + [2], ends=200 * SECOND)
    assert windows[120] == (SECOND, 200)
    assert windows[119] != windows[120]


def test_another_process_reads_the_same_windows(timed, tmp_path):
    windows = timed([k * SECOND for k in range(10, 190)])
    windows.write(tmp_path / "windows")
    assert list(Windows.read(tmp_path / "windows").items()) == list(windows.items())


def test_a_subject_without_any_time_has_no_window(make_run):
    with make_run() as journal:
        assert journal.windows()[1] is None
