"""The legal clock in the journal: what is due first is worked on first, and a purge takes the order away."""

import itertools
from random import Random

import pytest

from privacy_toolkit.core.model import OPEN_OUTCOMES, Hold, Outcome, Purpose
from privacy_toolkit.journal.records import ExchangeRecord, Note, OpenRequests, SubjectState

IDS = tuple("abcdefghij")
DUE = {
    2: ("2026-10-20", "2026-11-20", "T-2", None),
    5: ("2026-10-01", "2026-11-01", "T-5", "17(1)(b)"),
    9: ("2026-10-20", "2026-11-20", None, None),
    10: ("2026-10-30", None, None, None),
}
REQUESTS = [(seq, *said) for seq, said in DUE.items()]


def seqs(pages):
    return [entry.subject.seq for page in pages for entry in page]


def test_what_is_due_first_comes_first_and_what_has_no_date_last(make_run):
    with make_run(IDS, page=3, requests=REQUESTS) as journal:
        found = seqs(journal.by_urgency(OPEN_OUTCOMES, lambda _: None))
    assert found == [5, 2, 9, 1, 3, 4, 6, 7, 8, 10]


def test_without_dates_every_open_subject_comes_once_in_an_order_that_is_not_the_inputs(make_run):
    ids = [f"c{k}" for k in range(500)]
    with make_run(ids, page=50) as journal:
        found = seqs(journal.by_urgency(OPEN_OUTCOMES, Random(7).shuffle))
    assert sorted(found) == list(range(1, 501))
    assert found != sorted(found)
    assert sum(a < b for a, b in itertools.pairwise(found)) < 300  # about half, were it by chance


def test_settled_subjects_are_left_out_of_the_order(make_run):
    holds = {5: Hold("17(3)(b)")}
    with make_run(IDS, page=4, requests=REQUESTS, holds=holds) as journal:
        assert 5 not in seqs(journal.by_urgency(OPEN_OUTCOMES, lambda _: None))


def test_the_open_requests_are_counted_by_day_the_first_due_first(make_run):
    with make_run(IDS, page=4, requests=REQUESTS, holds={5: Hold("17(3)(b)")}) as journal:
        assert journal.open_requests() == [
            OpenRequests("2026-10-20", "2026-11-20", 2),
            OpenRequests("2026-10-30", None, 1),
        ]


def test_rows_carry_what_is_known_of_the_request(make_run):
    with make_run(IDS, page=4, requests=REQUESTS) as journal:
        found = {observed.subject.seq: observed.request for observed in journal.rows()}
        assert found[5] == (5, *DUE[5])
        assert found[1] is None
        assert [o.subject.seq for o in journal.rows(5, 8)] == [5, 6, 7, 8]
        assert journal.bounds() == [(1, 4), (5, 8), (9, 10)]


@pytest.fixture
def purged(make_run):
    """A run of 300 subjects, each settled at the time of its number, before and after its purge."""
    ids = [f"c{k}" for k in range(1, 301)]
    requests = [(seq, "2026-10-20", f"2026-11-{seq % 28 + 1:02}", f"T-{seq}", None) for seq in range(1, 301)]
    with make_run(ids, page=50, requests=requests) as journal:
        journal.begin_execution(1, "{}")
        for seq in range(1, 301):
            read = ExchangeRecord(Purpose.READ_BEFORE, "get", None, seq, 1, 404)
            journal.record([Note(seq, [(1, read)], SubjectState(Outcome.NOTHING_HELD, settled_at=seq))])
        journal.end_execution(1, 2, None)
        before = journal.totals(), journal.summary()
        journal.purge(99, b'{"left": 1}')
        yield journal, before


def test_a_purge_keeps_every_figure_but_the_exact_times(purged):
    journal, (totals, figures) = purged
    left = journal.summary()
    assert journal.totals() == totals
    assert (left.states, left.holds, left.traffic, left.repeats) == (
        figures.states,
        figures.holds,
        figures.traffic,
        figures.repeats,
    )
    assert journal.plan == b'{"left": 1}'


def test_after_a_purge_numbers_and_times_tell_nothing_of_the_input(purged):
    journal, _ = purged
    rows = list(journal.rows())
    assert {o.subject.id for o in rows} == {""}
    assert not any(o.request and o.request.ticket for o in rows)
    assert {o.state.settled_at for o in rows} == {0}  # all was done within one second
    assert {o.exchanges[0][4:7] for o in rows} == {(None, 0, None)}
    same = sum(o.request.due_on == f"2026-11-{o.subject.seq % 28 + 1:02}" for o in rows)
    assert same < 35  # one of 28 by chance: some 11


def test_after_a_purge_the_file_holds_no_ticket(purged):
    journal, _ = purged
    assert not any(b"T-2" in path.read_bytes() for path in journal.folder.iterdir())
