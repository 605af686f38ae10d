"""What every store of runs promises, whatever it keeps them in. A new store is done when it passes this."""

import asyncio
import itertools
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_toolkit.core.model import (
    OPEN_OUTCOMES,
    Attribution,
    Control,
    Gone,
    HeldBefore,
    Hold,
    JournalError,
    Outcome,
    Purpose,
    Reason,
    RefusedError,
    StopReason,
    Subject,
    UsageError,
)
from privacy_toolkit.evidence.files import Checkpoint, encode_sums, hash_bytes
from privacy_toolkit.evidence.seal import Chain, Link
from privacy_toolkit.journal.figures import AnswerTime, ControlCount, HoldCount, SettledRequests, StateCount
from privacy_toolkit.journal.lease import ClaimedPages, LeaseTally, LeaseTerms, RunStopped
from privacy_toolkit.journal.ledgers import ChainError, KeptLink
from privacy_toolkit.journal.memory.state import MemoryState
from privacy_toolkit.journal.postgres.state import PostgresState
from privacy_toolkit.journal.records import (
    PENDING,
    Acceptance,
    Approval,
    ControlProfile,
    ControlRecord,
    Entry,
    ExchangeRecord,
    Execution,
    Note,
    OpenRequests,
    RejectedRow,
    RequestRow,
    RunAnswers,
    SentAnswer,
    Staged,
    StopAsked,
    SubjectState,
    Traffic,
    TuneAsked,
    counted,
    exchange_row,
    state_row,
)
from privacy_toolkit.journal.sqlite import reader
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.store import OpenRun, State
from privacy_toolkit.journal.windows import LEAST
from tests.support import postgres
from tests.support.lengths import IS_LONG
from tests.support.scanning import Scan

RUN = "20260101-000000-erase-0a0a0"
LATER = "20260201-000000-erase-0b0b0"
TARGET = "https://api.example.org"
SCOPE, FORMER, OTHER = f"live {TARGET}", f"live {TARGET}/Shop", f"sandbox {TARGET}"
READ, ERASE = "get_customer_inventory", "delete_customer_data"
SECOND = 1_000_000
DAY = 86_400 * SECOND

SEEN = ExchangeRecord(Purpose.READ_BEFORE, READ, None, 10, 3, 200)
INTENT = ExchangeRecord(Purpose.ACT, ERASE, intent_at=20)
ANSWERED = ExchangeRecord(Purpose.ACT, ERASE, 20, 29, 9, 204)
LOST = SubjectState(Outcome.UNKNOWN, Reason.NO_ANSWER_RECORDED, held_before=HeldBefore.VISIBLE, attempts=1)
ERASED = SubjectState(Outcome.ERASED, None, Attribution.CONFIRMED, HeldBefore.VISIBLE, 1, settled_at=30)


class Folder:
    """State folders; opened again they are read from the disk."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def open(self) -> State:
        return StateFolder(self._place / "state")

    def another(self) -> State:
        return StateFolder(self._place / "another")


class Memory:
    """States in memory; opened again they are the same."""

    def __init__(self, place: Path) -> None:
        self._state, self._another = MemoryState(), MemoryState()

    def open(self) -> State:
        return self._state

    def another(self) -> State:
        return self._another


class MemoryForMany(Memory):
    """States in memory on whose runs several executions may work at once."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._state, self._another = MemoryState(time.monotonic), MemoryState(time.monotonic)


class Database:
    """States in PostgreSQL: a database for each; opened again they are read from other connections."""

    def __init__(self, place: Path) -> None:
        self._state, self._another = postgres.emptied("conformance"), ""

    def open(self) -> State:
        return PostgresState(self._state)

    def another(self) -> State:
        self._another = self._another or postgres.emptied("another")
        return PostgresState(self._another)


class SealedDatabase(Database):
    """States in PostgreSQL whose runs are sealed under a key that is elsewhere."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._key = place / "state.key"

    def open(self) -> State:
        return PostgresState(self._state, key=self._key)

    def another(self) -> State:
        self._another = self._another or postgres.emptied("another")
        return PostgresState(self._another, key=self._key)


STORES = (Folder, Memory, MemoryForMany, *((Database,) if postgres.is_there() else ()))


@pytest.fixture(
    params=(Folder, Memory, MemoryForMany, Database, SealedDatabase), ids=lambda kind: kind.__name__.lower()
)
def store(request, tmp_path):
    """One kind of store."""
    if issubclass(request.param, Database):
        postgres.needed()
    return request.param(tmp_path)


@pytest.fixture
def state(store) -> State:
    return store.open()


@pytest.fixture
def codes():
    """Open the record of the codes that a state assigned, until the test is over."""
    with ExitStack() as opened:
        yield lambda state, scope=SCOPE, former=(): opened.enter_context(closing(state.assigned(scope, former)))


def staged(ids=("a", "b", "c"), page=2, **more) -> Staged:
    rows = [(k + 2, *([id_] if isinstance(id_, str) else id_)) for k, id_ in enumerate(ids)]
    pages = [rows[k : k + page] for k in range(0, len(rows), page)]
    return Staged(**{"plan": b'{"a":1}', "created_at": 1_000, "pages": pages} | more)


@pytest.fixture
def make(state):
    """Create a run and open it."""

    def made(ids=("a", "b", "c"), page=2, run_id=RUN, **more) -> OpenRun:
        state.create(run_id, staged(ids, page, **more))
        return state.open(run_id)

    return made


def work(run, *notes, controls=(), stopped=None):
    """One whole execution that records some notes."""
    number = run.begin_execution(1, "{}")
    run.record(notes)
    for control in controls:
        run.record_control(control)
    run.end_execution(number, 100, stopped)


def ids(entries):
    return [entry.subject.id for entry in entries]


# Creating, finding, opening.


def test_a_new_run_holds_what_it_was_made_of(make):
    approval = Approval(statement="s", signature="x", approver="dpo", fingerprint="f")
    with make(
        ("b", "a", "ü 1"), approval=approval, plan_key=b"k" * 32, rejected=[(7, "empty"), (3, "too_long")]
    ) as run:
        assert [entry.subject for entry in run.entries()] == [
            Subject(1, 2, "b"),
            Subject(2, 3, "a"),
            Subject(3, 4, "ü 1"),
        ]
        assert {entry.state for entry in run.entries()} == {PENDING}
        assert (run.run_id, run.name, run.plan, run.plan_key) == (RUN, RUN, b'{"a":1}', b"k" * 32)
        assert (run.created_at, run.size, run.purged_at, run.approval) == (1_000, 3, None, approval)
        assert len(run.secret) == 32
        assert run.totals() == {Outcome.PENDING: 3}
        assert run.bounds() == [(1, 2), (3, 3)]
        assert list(run.rejected()) == [RejectedRow(7, "empty"), RejectedRow(3, "too_long")]
        assert run.rejected_by_reason() == {"empty": 1, "too_long": 1}
        assert (run.executions(), run.acceptance(), run.is_running, run.is_in_place()) == ([], None, False, True)
        run.verify()


def test_no_two_runs_have_one_secret(make):
    with make() as one, make(run_id=LATER) as other:
        assert one.secret != other.secret


def test_a_run_without_subjects_is_a_run(make):
    with make(()) as run:
        assert (run.totals(), list(run.entries()), list(run.rows()), run.bounds(), run.size) == ({}, [], [], [], 0)
        assert (run.states(), list(run.windows().items())) == ((), [])


def test_who_is_on_hold_is_so_from_the_beginning(make):
    with make(holds={2: Hold("17(3)(e)", "2027-01-31")}) as run:
        (held,) = run.entries({Outcome.ON_HOLD})
        assert held.state == SubjectState(
            Outcome.ON_HOLD, hold_reason="17(3)(e)", review_on="2027-01-31", settled_at=1_000
        )
        assert run.totals() == {Outcome.PENDING: 2, Outcome.ON_HOLD: 1}
        assert run.summary().holds == (HoldCount("17(3)(e)", 1, "2027-01-31"),)


def test_a_run_that_can_not_be_made_of_what_is_given_is_no_run(state):
    def broken():
        yield [(2, "a")]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        state.create(RUN, Staged(plan=b"{}", created_at=1, pages=broken()))
    assert state.run_ids() == []
    assert state.left_over() == state.sweep() == []


def test_runs_are_listed_newest_first_and_found_by_what_names_one(make, store):
    for run_id in (RUN, LATER):
        make(run_id=run_id).close()
    state = store.open()
    assert state.run_ids() == [LATER, RUN]
    assert state.find("latest") == state.find("20260201") == LATER
    assert state.find(RUN) == RUN
    for name in ("2026", "", "nothing", "../runs"):
        with pytest.raises(UsageError):
            state.find(name)


def test_a_run_that_is_not_there_can_not_be_opened(state):
    with pytest.raises(JournalError) as error:
        state.open(RUN)
    assert error.value.code == "moved"


def test_a_closed_run_is_not_read(make):
    run = make()
    run.close()
    with pytest.raises(JournalError):
        run.totals()


# Reading back what was written.


def test_every_kind_of_record_is_read_back_as_it_was_written(make, store):
    state = SubjectState(
        Outcome.ERASED, Reason.NOT_FOUND, Attribution.INFERRED, HeldBefore.NONE_VISIBLE, 3, 4, 5, None, None, 77
    )
    exchange = ExchangeRecord(Purpose.RECONCILE, READ, 5, 9, 4, 404, Reason.NOT_FOUND, 1)
    with make() as run:
        work(run, Note(1, [(1, SEEN), (2, exchange)], state, b"kept"), Note(2, [(1, SEEN)]))
    with store.open().open(RUN) as run:
        first, second, third = run.entries()
        assert first == Entry(Subject(1, 2, "a"), state, (SEEN, exchange), b"kept")
        assert (second.state, second.exchanges) == (PENDING, (SEEN,))
        assert (third.state, third.exchanges) == (PENDING, ())
        assert [(kept.subject.id, kept.state, kept.result) for kept in run.results()] == [("a", state, b"kept")]
        one, two, three = run.rows()
        assert one == (
            first.subject,
            state_row(1, state),
            [exchange_row(1, 1, SEEN), exchange_row(1, 2, exchange)],
            None,
            b"kept",
        )
        assert (two.state, two.exchanges, two.result) == (state_row(2, PENDING), [exchange_row(2, 1, SEEN)], None)
        assert (three.exchanges, three.request) == ([], None)


def test_flat_rows_have_names(make):
    with make(requests=[RequestRow(1, "2026-10-01", "2026-11-01", "T-1", "17(1)(b)")]) as run:
        work(run, Note(1, [(1, ANSWERED)], ERASED))
        row = next(run.rows())
        assert (row.state.outcome, row.state.attempts, row.state.settled_at) == ("erased", 1, 30)
        assert (row.exchanges[0].purpose, row.exchanges[0].intent_at, row.exchanges[0].status) == ("act", 20, 204)
        assert (row.request.requested_on, row.request.due_on, row.request.ticket) == ("2026-10-01", "2026-11-01", "T-1")


def test_rows_are_read_from_page_to_page(make):
    with make([f"c{k}" for k in range(7)], page=3) as run:
        assert [row.subject.seq for row in run.rows(4, 6)] == [4, 5, 6]
        assert [row.subject.seq for row in run.rows(4)] == [4, 5, 6, 7]


def test_pages_keep_the_order_of_the_input_and_leave_out_what_is_not_asked_for(make):
    with make([f"c{k}" for k in range(7)], page=3) as run:
        work(run, *(Note(seq, (), ERASED) for seq in (1, 4, 5, 6)))
        assert [[e.subject.seq for e in page] for page in run.pages()] == [[1, 2, 3], [4, 5, 6], [7]]
        assert [[e.subject.seq for e in page] for page in run.pages(OPEN_OUTCOMES)] == [[2, 3], [7]]
        assert ids(run.entries({Outcome.ERASED})) == ["c0", "c3", "c4", "c5"]


def test_what_is_due_first_comes_first_and_what_has_no_date_last(make):
    requests = [RequestRow(seq, None, day, None, None) for seq, day in ((2, "2026-12-02"), (5, "2026-12-01"))]
    with make(
        [f"c{k}" for k in range(6)], page=3, requests=[*requests, RequestRow(6, "2026-11-01", None, None, None)]
    ) as run:
        work(run, Note(3, (), ERASED))
        found = list(run.by_urgency(OPEN_OUTCOMES, lambda _: None))
    assert [[e.subject.seq for e in page] for page in found] == [[5], [2], [1], [4, 6]]


def test_within_one_day_the_order_is_the_one_that_is_drawn(make):
    with make([f"c{k}" for k in range(300)], page=50) as run:
        found = [e.subject.seq for page in run.by_urgency(OPEN_OUTCOMES, Random(7).shuffle) for e in page]
    assert sorted(found) == list(range(1, 301))
    assert sum(a < b for a, b in itertools.pairwise(found)) < 180


def test_who_is_among_some_ids_is_told_by_outcome(make):
    with make() as run:
        work(run, Note(2, (), ERASED))
        assert run.among({"a", "b", "x"}, {Outcome.ERASED}) == {"b"}
        assert run.among(["a", "b"], {Outcome.PENDING}) == {"a"}


def test_the_ids_of_some_outcomes_are_those_of_the_entries_in_the_order_of_the_input(make):
    with make([f"c-{n}" for n in range(25)], page=10) as run:
        work(run, Note(2, ((1, SEEN),), ERASED), Note(13, (), ERASED), Note(7, (), LOST))
        for outcomes in ({Outcome.ERASED}, OPEN_OUTCOMES, {Outcome.ERASED, Outcome.PENDING}, {Outcome.FAILED}):
            assert list(run.ids(outcomes)) == [entry.subject.id for entry in run.entries(outcomes)]
        assert list(run.ids({Outcome.ERASED})) == ["c-1", "c-12"]


# Subjects that belong together.


def parties(run, most=10):
    return ["".join(ids(party)) for page in run.parties(OPEN_OUTCOMES, most) for party in page]


def alike(store, found, expected):
    """Whether parties come in the order of their names; in a sealed run no name is there, and the order is another."""
    return sorted(found) == sorted(expected) if isinstance(store, SealedDatabase) else found == expected


@pytest.fixture
def shared(make):
    pairs = [("a", "Y"), ("b", "X"), ("c", "Y"), ("d", "X"), ("e", "X"), ("f", "Z")]
    with make(pairs, page=4, party=lambda _, given: given) as run:
        yield run


@pytest.mark.parametrize(
    ("most", "expected"), [(1, "b d e a c f"), (2, "bd e ac f"), (3, "bde ac f"), (4, "bde ac f"), (10, "bde ac f")]
)
def test_a_party_is_handed_out_as_a_whole_as_far_as_it_fits(shared, most, expected, store):
    assert alike(store, parties(shared, most), expected.split())


def test_of_a_party_what_is_in_doubt_comes_first_with_the_number_of_its_exchanges(shared, store):
    work(
        shared,
        Note(3, [(1, SEEN), (2, INTENT)], LOST),
        Note(5, (), SubjectState(Outcome.RETRYABLE)),
        Note(6, (), ERASED),
    )
    (first, *_), *_ = shared.parties(OPEN_OUTCOMES, 10)
    assert [(e.subject, e.state, len(e.exchanges)) for e in first] == [(Subject(3, 4, "c", "Y"), LOST, 2)]
    first, *rest = parties(shared)
    assert first == "c"
    assert alike(store, rest, ["bde", "a"])


def test_what_becomes_of_a_doubt_meanwhile_does_not_bring_it_up_again(shared, store):
    work(shared, Note(3, (), LOST))
    walk = shared.parties(OPEN_OUTCOMES, 10)
    assert [ids(party) for party in next(walk)] == [["c"]]
    work(shared, Note(3, (), SubjectState(Outcome.RETRYABLE)), Note(2, (), ERASED))
    assert alike(store, [ids(party) for page in walk for party in page], [["d", "e"], ["a"], ["f"]])


# Intents, answers, crashes.


def test_an_intent_that_is_durable_is_unknown_to_anyone_who_looks(make, store):
    run = make()
    run.begin_execution(1, "{}")
    asyncio.run(run.intend([Note(1, [(1, SEEN), (2, INTENT)], LOST)]))
    with store.open().open(RUN) as other:
        assert other.is_running
        assert next(other.entries()) == Entry(Subject(1, 2, "a"), LOST, (SEEN, INTENT))
    run.close()


def test_what_a_crash_leaves_behind_is_true_and_the_run_goes_on(make, store):
    run = make()
    run.begin_execution(1, '{"rate":5}')
    asyncio.run(run.intend([Note(1, [(1, INTENT)], LOST), Note(2, [(1, INTENT)], LOST)]))
    run.record([Note(2, [(1, ANSWERED)], ERASED)])
    run.close()  # and nothing more: its end is not noted
    with store.open().open(RUN) as again:
        assert again.totals() == {Outcome.PENDING: 1, Outcome.ERASED: 1, Outcome.UNKNOWN: 1}
        assert again.executions() == [Execution(1, 1, None, None, '{"rate":5}')]
        assert not again.is_running
        (line, lost) = again.summary().traffic
        assert sorted([(line.unrecorded, line.count), (lost.unrecorded, lost.count)]) == [(False, 1), (True, 1)]
        assert again.last_lost_at() == 20
        assert again.begin_execution(50, "{}") == 2
        again.record([Note(1, [(1, ANSWERED)], ERASED)])
        again.end_execution(2, 60, None)
        assert next(again.entries()) == Entry(Subject(1, 2, "a"), ERASED, (ANSWERED,))
        assert again.last_lost_at() is None


def act(at, status, reason=None):
    return ExchangeRecord(Purpose.ACT, ERASE, at, at + 5, 5, status, reason)


@pytest.mark.parametrize(
    ("acts", "stands", "lost_at"),
    [
        # refused and sent again: the refusal may have been another's, and the row was done by what came next
        ([act(10, 429, Reason.RATE_LIMITED), act(30, 204)], SubjectState(Outcome.DONE, attempts=2), 15),
        # a crash before anything vouched for the last answer
        ([act(10, 409, Reason.CONFLICT)], SubjectState(Outcome.UNKNOWN, attempts=1), 15),
        # of what never left, and of what was sent once and answered, nothing may come late
        ([act(10, None, Reason.NOT_WRITTEN), act(30, 204)], SubjectState(Outcome.DONE, attempts=1), None),
    ],
)
def test_what_was_sent_again_may_still_be_carried_out(make, acts, stands, lost_at):
    with make() as run:
        run.begin_execution(1, "{}")
        run.record([Note(1, list(enumerate(acts, 1)), stands)])
        run.end_execution(1, 100, None)
        assert run.last_lost_at() == lost_at


def test_an_answer_completes_its_intent_and_is_never_changed(make):
    late = ExchangeRecord(Purpose.ACT, ERASE, 99, 99, 99, 500, Reason.UNAVAILABLE, 7)
    with make() as run:
        run.begin_execution(1, "{}")
        asyncio.run(run.intend([Note(1, [(1, INTENT)], LOST)]))
        run.record([Note(1, [(1, ANSWERED)], ERASED)])
        run.record([Note(1, [(1, late)])])
        run.end_execution(1, 100, None)
        assert next(run.entries()) == Entry(Subject(1, 2, "a"), ERASED, (ANSWERED,))


def test_what_says_when_and_why_an_intent_was_made_stays_with_its_answer(make):
    with make() as run:
        run.begin_execution(1, "{}")
        asyncio.run(run.intend([Note(1, [(1, INTENT)], LOST)]))
        other = ExchangeRecord(Purpose.READ_AFTER, READ, 1, 29, 9, 204, None, 3)
        run.record([Note(1, [(1, other)])])
        run.end_execution(1, 100, None)
        assert next(run.entries()).exchanges == (ANSWERED,)


def test_without_an_execution_nothing_is_written(make):
    with make() as run:
        with pytest.raises(JournalError):
            asyncio.run(run.intend([Note(1, [(1, INTENT)], LOST)]))
        with pytest.raises(JournalError):
            run.record([Note(1, (), ERASED)])
        with pytest.raises(JournalError):
            run.record_control(ControlRecord(None, READ, 1, 1))
        work(run)
        with pytest.raises(JournalError):
            run.record([Note(1, (), ERASED)])
        assert run.totals() == {Outcome.PENDING: 3}


# Executions: each has a number that none before it had.


def test_every_resume_has_the_next_number_and_is_kept_with_its_end(make, store):
    with make() as run:
        assert run.begin_execution(1, '{"n":1}') == 1
        run.end_execution(1, 7, StopReason.INTERRUPTED)
        assert run.begin_execution(8, '{"n":2}') == 2
        run.end_execution(2, 9, None)
    with store.open().open(RUN) as run:
        assert run.begin_execution(10, "{}") == 3
        assert run.executions() == [
            Execution(1, 1, 7, StopReason.INTERRUPTED, '{"n":1}'),
            Execution(2, 8, 9, None, '{"n":2}'),
            Execution(3, 10, None, None, "{}"),
        ]


def test_a_lease_writes_as_its_execution_and_is_alone_with_an_exclusive_run(make):
    heard = []

    async def work_through(run):
        lease = run.lease(1, '{"n":1}', LeaseTerms(exclusive=True, rate=100.0))
        assert lease.number == 1
        lease.listen(heard.append, lambda: LeaseTally(failures=1, first_reads=1, has_seen=True))
        claimed = await lease.claim(lambda: None)
        assert claimed == ClaimedPages(1, 3)
        await lease.intend([Note(1, [(1, SEEN), (2, INTENT)], LOST)])
        assert next(run.entries()) == Entry(Subject(1, 2, "a"), LOST, (SEEN, INTENT))
        assert lease.may_send()
        lease.record([Note(1, [(2, ANSWERED)], ERASED)])
        lease.record_control(ControlRecord(Control.ROUTE, READ, 20, 4, 401, None, True))
        lease.report()
        lease.walked(claimed)
        assert await lease.claim(lambda: None) is None
        await lease.end(7, StopReason.TERMINATED)

    with make() as run:
        asyncio.run(work_through(run))
        assert next(run.entries()) == Entry(Subject(1, 2, "a"), ERASED, (SEEN, ANSWERED))
        assert run.executions() == [Execution(1, 1, 7, StopReason.TERMINATED, '{"n":1}')]
        assert len(run.summary().controls) == 1
        assert not run.is_running


def test_only_one_works_on_a_run(make, state, monkeypatch):
    monkeypatch.setattr(reader, "_A_MOMENT", 0.0)  # a folder waits for anyone who only looks
    with make() as run, state.open(RUN) as other:
        number = run.begin_execution(1, "{}")
        assert (run.is_running, other.is_running) == (True, True)
        for attempt in (
            lambda: other.begin_execution(2, "{}"),
            lambda: other.purge(1, b"{}"),
            other.forget_results,
            lambda: other.mark_restored(1),
            lambda: other.accept_rejected(Acceptance(1, 1)),
        ):
            with pytest.raises(RefusedError) as error:
                attempt()
            assert error.value.code == "locked"
        run.end_execution(number, 2, None)
        assert other.begin_execution(3, "{}") == 2


ASKED = StopAsked(5, "anna@desk", "the API is to be maintained")


def test_anyone_who_works_on_a_run_hears_that_it_is_to_stop_and_the_next_one_does_not(make, store):
    async def until_stopped(run, *, is_asked):
        lease = run.lease(1, "{}", LeaseTerms(lease=5.0, beat=0.02, exclusive=True))
        heard = asyncio.Queue()
        lease.listen(heard.put_nowait, LeaseTally)
        with store.open().open(RUN) as other:
            assert [(one.number, one.share) for one in other.at_work()] == [(lease.number, None)]
            if is_asked:
                await asyncio.to_thread(other.ask_to_stop, ASKED)
                while not isinstance(signal := await heard.get(), RunStopped):
                    pass
                assert signal == RunStopped(StopReason.STOP_ASKED)
            assert other.stop_asked == (ASKED if is_asked else None)
        await lease.end(7, StopReason.STOP_ASKED if is_asked else None)

    with make() as run:
        assert (run.at_work(), run.stop_asked) == ([], None)
        asyncio.run(until_stopped(run, is_asked=True))
        assert (run.at_work(), run.stop_asked) == ([], ASKED)  # who it was can still be told
        asyncio.run(until_stopped(run, is_asked=False))
        assert run.executions()[0].stopped_by is StopReason.STOP_ASKED


def test_nobody_is_asked_to_stop_who_does_not_work(make, store):
    with make() as run:
        for _ in range(2):
            with pytest.raises(RefusedError) as error:
                run.ask_to_stop(ASKED)
            assert error.value.code == "not_running"
            assert run.stop_asked is None
            run.end_execution(run.begin_execution(1, "{}"), 2, None)


def test_another_pace_is_asked_of_anyone_who_works_on_a_run_and_not_of_the_next_one(make, store):
    asked = TuneAsked(5, "anna@desk", 20.0, 2, paused=True)

    async def at_work(run):
        lease = run.lease(1, "{}", LeaseTerms(lease=5.0, beat=0.02, exclusive=True))
        lease.listen(lambda _: None, LeaseTally)
        with store.open().open(RUN) as other:
            before = run.tune_asked
            await asyncio.to_thread(other.ask_to_tune, asked)
            found = before, run.tune_asked, other.tune_asked
        await lease.end(7, None)
        return found

    with make() as run:
        with pytest.raises(RefusedError) as error:
            run.ask_to_tune(asked)
        assert error.value.code == "not_running"
        for _ in range(2):
            assert asyncio.run(at_work(run)) == (None, asked, asked)


# What is done to a run as a whole.


def test_that_refused_rows_were_accepted_is_kept_the_last_word_counts(make, store):
    with make() as run:
        run.accept_rejected(Acceptance(5, 2))
        run.begin_execution(1, "{}")
        run.accept_rejected(Acceptance(6, 3, "dpo", "SHA256:x"))
        run.end_execution(1, 2, None)
    with store.open().open(RUN) as run:
        assert run.acceptance() == Acceptance(6, 3, "dpo", "SHA256:x")


def test_what_was_kept_of_answers_is_destroyed_on_demand(make):
    with make() as run:
        work(run, Note(3, (), ERASED, b"three"), Note(1, (), ERASED, b"one"), Note(1, (), None, b"one, again"))
        assert [kept.result for kept in run.results()] == [b"one, again", b"three"]
        run.forget_results()
        assert list(run.results()) == []


def test_after_a_restore_what_is_open_is_unknown_for_good(make):
    gone = SubjectState(Outcome.UNKNOWN, Reason.NO_LOOK_POSSIBLE, attempts=1)
    with make(("a", "b", "c", "d")) as run:
        work(run, Note(1, (), ERASED), Note(2, (), LOST), Note(3, (), gone))
        assert run.mark_restored(88) == 2
        assert run.mark_restored(99) == 0
        one, two, three, four = (entry.state for entry in run.entries())
        assert (one, three) == (ERASED, gone)
        assert (two.outcome, two.reason, two.attempts, two.settled_at) == (
            Outcome.UNKNOWN,
            Reason.STATE_RESTORED,
            1,
            88,
        )
        assert (four.outcome, four.reason, four.settled_at) == (Outcome.UNKNOWN, Reason.STATE_RESTORED, 88)


@pytest.fixture
def purged(make):
    """A run of 200 subjects, each settled at the time of its number, before and after its purge."""
    requests = [RequestRow(seq, "2026-10-20", f"2026-11-{seq % 28 + 1:02}", f"T-{seq}", "g") for seq in range(1, 201)]
    pairs = [(f"c{k}", f"coupon-{k}") for k in range(1, 201)]
    with make(
        pairs, 50, requests=requests, party=lambda _, given: given, plan_key=b"k", rejected=[(1, "empty")]
    ) as run:
        notes = []
        for seq in range(1, 201):
            sent = ExchangeRecord(Purpose.ACT, ERASE, seq, seq + 1, 1, 204, None, 7 if seq == 9 else None)
            notes.append(Note(seq, [(1, sent)], SubjectState(Outcome.DONE, attempts=1, settled_at=seq), b"kept"))
        work(run, *notes)
        before = run.totals(), run.summary()
        run.purge(99, b'{"left":1}')
        yield run, before


def test_a_purge_destroys_whom_it_was_about(purged, store):
    run, _ = purged
    again = store.open().open(RUN)
    for opened in (run, again):
        assert (opened.secret, opened.plan_key, opened.purged_at, opened.plan) == (None, None, 99, b'{"left":1}')
        assert {(s.row, s.id, s.given) for s in (entry.subject for entry in opened.entries())} == {(0, "", "")}
        assert {row.request.ticket for row in opened.rows()} == {None}
        assert (list(opened.results()), list(opened.rejected()), list(opened.parties(set(Outcome), 9))) == ([], [], [])
        assert (opened.run_id, opened.size, opened.created_at) == (RUN, 200, 1_000)
    again.close()


def test_a_purge_keeps_what_was_observed_but_for_the_exact_times(purged):
    run, (totals, figures) = purged
    left = run.summary()
    assert run.totals() == totals
    assert (left.states, left.traffic, left.repeats) == (figures.states, figures.traffic, figures.repeats)
    rows = list(run.rows())
    assert {row.state.settled_at for row in rows} == {0}
    assert {row.exchanges[0][4:7] for row in rows} == {(0, 0, None)}


def test_after_a_purge_the_numbers_tell_nothing_of_the_input_and_still_say_what_carries_what(purged):
    run, _ = purged
    rows = list(run.rows())
    assert Counter(row.request.due_on for row in rows)["2026-11-02"] in {7, 8}
    assert sum(row.request.due_on == f"2026-11-{row.subject.seq % 28 + 1:02}" for row in rows) < 30
    (carrier,) = {row.exchanges[0].carrier for row in rows} - {None}
    assert rows[carrier - 1].request.due_on == "2026-11-08"  # of what was number 7


def test_a_purge_is_the_same_the_second_time(purged):
    run, _ = purged
    before = list(run.rows())
    run.purge(111, b"{}")
    assert (run.purged_at, run.plan, list(run.rows())) == (99, b'{"left":1}', before)


def test_a_run_that_is_purged_while_it_is_read_is_not_called_damaged(make, state):
    with make() as run, state.open(RUN) as other:
        run.purge(9, b"{}")
        if isinstance(state, MemoryState):  # both look at the same
            assert {entry.subject.id for entry in other.entries()} == {""}
        else:
            with pytest.raises(UsageError) as error:
                list(other.entries())
            assert error.value.code == "purged"


def test_a_run_that_is_set_aside_is_in_use_no_more(make, state):
    run = make()
    run.begin_execution(1, "{}")
    with pytest.raises(RefusedError):
        state.set_aside(RUN)
    run.end_execution(1, 2, None)
    run.close()
    assert RUN in state.set_aside(RUN)
    assert (state.run_ids(), state.ids_set_aside()) == ([], [RUN])
    assert [(name, found.run_id, found.size) for name, found in state.runs_set_aside()] == [(RUN, RUN, 3)]
    with pytest.raises(UsageError):
        state.set_aside(RUN)


def test_a_run_that_was_taken_away_takes_no_intent(make, state):
    make().close()
    run = state.open(RUN)
    assert run.is_in_place()
    state.set_aside(RUN)

    def attempt():
        run.begin_execution(1, "{}")
        asyncio.run(run.intend([Note(1, [(1, INTENT)], LOST)]))

    with pytest.raises(JournalError):
        attempt()
    with suppress(JournalError):  # whether it is said again is the store's affair
        run.close()
    ((_, found),) = [(name, list(kept.entries())) for name, kept in state.runs_set_aside()]
    assert [entry.state for entry in found] == [PENDING] * 3


# Figures.


def test_states_are_counted_with_what_was_repeated_and_kept(make):
    kept = SubjectState(Outcome.ERASED, None, Attribution.CONFIRMED, HeldBefore.VISIBLE, 3, 2, 0, settled_at=3)
    with make(("a", "b", "c", "d")) as run:
        work(run, Note(1, (), ERASED), Note(2, (), kept), Note(4, (), SubjectState(Outcome.DONE)))
        assert run.states() == (
            StateCount(Outcome.DONE, None, None, None, 1, 0, 0, 0, 0, 0),
            StateCount(Outcome.ERASED, None, Attribution.CONFIRMED, HeldBefore.VISIBLE, 2, 1, 2, 1, 2, 0),
        )
        assert run.done_reasons() == {None: 1}
        assert run.gone() is Gone.ABSENT


def test_how_the_erased_are_answered_is_told_from_what_was_counted_of_them(make):
    with make() as run:
        assert run.gone() is None
        work(run, Note(1, (), SubjectState(Outcome.ERASED, held_before=HeldBefore.VISIBLE, first_count=0)))
        assert run.gone() is Gone.EMPTIED


def test_traffic_counts_each_request_once_and_what_came_after_another(make):
    shared = ExchangeRecord(Purpose.ACT, ERASE, 5, 9, 4_500, 204, None, 1)
    unsent = ExchangeRecord(Purpose.ACT, ERASE, 5, 6, None, None, Reason.NOT_WRITTEN)
    with make() as run:
        work(
            run,
            Note(1, [(1, unsent), (2, ANSWERED), (3, ANSWERED)], ERASED),
            Note(2, [(1, shared)]),
            controls=[
                ControlRecord(Control.ROUTE, READ, 40, 4, 401, None, held=True),
                ControlRecord(Control.ROUTE, READ, 41, 4, None, Reason.CONNECT_REFUSED, held=None),
                ControlRecord(Control.POSITIVE, READ, 42, 4, 404, None, held=False),
                ControlRecord(None, READ, 43, 2_500_000, 17, None, held=True),
            ],
        )
        found = run.summary()
        withdrawn = Traffic(ERASE, Purpose.ACT, None, Reason.NOT_WRITTEN, False, 1)
        done = Traffic(ERASE, Purpose.ACT, 204, None, False, 2)
        assert found.traffic == (withdrawn, done)
        assert found.repeats == {withdrawn: 0, done: 1}
        assert found.answer_times == (AnswerTime(ERASE, 0, 2),)
        assert found.controls == (ControlCount(Control.ROUTE, 1, 0, 1), ControlCount(Control.POSITIVE, 0, 1, 0))
        assert (found.control_gap, found.control_gap_absences) == (2.5, 17)
        assert (found.first_request_at, found.last_answer_at, found.pace_unit) == (5, 29, 1)
        assert [(p.requests, p.first, p.last) for p in found.pace] == [(4, 20, 42)]


def test_open_requests_are_counted_by_day_and_settled_ones_by_whether_it_was_in_time(make):
    requests = [
        RequestRow(1, "2026-10-20", "2026-11-20", None, None),
        RequestRow(2, "2026-10-20", "2026-11-20", None, None),
        RequestRow(3, "2026-10-30", None, None, None),
        RequestRow(4, None, "1970-01-02", None, None),
        RequestRow(5, None, "1970-01-02", None, None),
    ]
    with make([f"c{k}" for k in range(5)], requests=requests) as run:
        assert run.open_requests() == [OpenRequests("2026-10-20", "2026-11-20", 2), OpenRequests("2026-10-30", None, 1)]
        on, after = SubjectState(Outcome.DONE, settled_at=2 * DAY - 1), SubjectState(Outcome.DONE, settled_at=2 * DAY)
        work(run, Note(1, (), ERASED), Note(4, (), on), Note(5, (), after))
        assert run.open_requests() == [OpenRequests("2026-10-20", "2026-11-20", 1), OpenRequests("2026-10-30", None, 1)]
        assert run.summary().settled == SettledRequests(in_time=2, late=1)


def test_times_are_shown_in_windows_that_at_least_fifty_share(make):
    moments = [100 * SECOND + 37_777 * k for k in range(2 * LEAST + 3)]
    with make([f"c{k}" for k in range(len(moments))], page=100) as run:
        work(
            run,
            *(Note(seq, (), SubjectState(Outcome.NOTHING_HELD, settled_at=at)) for seq, at in enumerate(moments, 1)),
        )
        windows = run.windows()
    assert min(Counter(window for _, window in windows.items()).values()) >= LEAST
    for seq, at in enumerate(moments, 1):
        assert windows[seq].start <= at < windows[seq].start + windows[seq].span * SECOND


exchanges = st.builds(
    ExchangeRecord,
    st.sampled_from(Purpose),
    st.sampled_from([READ, ERASE]),
    st.none() | st.integers(1, 9 * SECOND),
    st.none() | st.integers(9 * SECOND, 20 * SECOND),
    st.none() | st.sampled_from([0, 999, 1_000, 1_999, 2_500]),
    st.none() | st.sampled_from([200, 204, 404, 503]),
    st.none() | st.sampled_from(Reason),
    st.none() | st.just(1),
)
states = st.builds(
    SubjectState,
    st.sampled_from(Outcome),
    st.none() | st.sampled_from([Reason.NOT_FOUND, Reason.NO_ANSWER_RECORDED]),
    st.none() | st.sampled_from(Attribution),
    st.none() | st.sampled_from(HeldBefore),
    st.integers(0, 3),
    st.none() | st.integers(0, 2),
    st.none() | st.integers(0, 2),
    st.none() | st.sampled_from(["x", "y"]),
    st.none() | st.sampled_from(["2026-01-01", "2026-02-01"]),
    st.none() | st.integers(1, 30 * SECOND),
)
notes = st.lists(
    st.builds(
        Note,
        st.integers(1, 5),
        st.lists(st.tuples(st.integers(1, 3), exchanges), max_size=3, unique_by=lambda made: made[0]),
        st.none() | states,
        st.none() | st.binary(min_size=1, max_size=4),
    ),
    max_size=12,
)
days = st.none() | st.sampled_from(["1970-01-01", "1970-01-02", "2026-12-01"])
controls = st.builds(
    ControlRecord,
    st.none() | st.sampled_from(Control),
    st.just(READ),
    st.integers(1, 20 * SECOND),
    st.integers(0, 9_000),
    st.none() | st.integers(0, 500),
    st.none() | st.sampled_from([Reason.CONNECT_REFUSED, Reason.NOT_FOUND]),
    st.none() | st.booleans(),
)


@settings(max_examples=100 if IS_LONG else 10)
@given(
    st.lists(notes, min_size=1, max_size=3), st.lists(st.tuples(days, days), max_size=5), st.lists(controls, max_size=4)
)
def test_all_stores_tell_the_same_of_the_same(executions, dated, asked):
    requests = [RequestRow(seq, asked_on, due_on, None, None) for seq, (asked_on, due_on) in enumerate(dated, 1)]
    told = []
    for kind in STORES:
        with tempfile.TemporaryDirectory() as place:
            state = kind(Path(place)).open()
            pairs = [(f"c{k}", f"coupon-{k % 2}") for k in range(5)]
            state.create(RUN, staged(pairs, 2, requests=requests, party=lambda _, given: given))
            with state.open(RUN) as run:
                for part in executions:
                    work(run, *part, controls=asked)
                told.append(
                    (
                        [run.totals(), run.states(), run.summary(), dict(run.windows().items()), run.executions()],
                        [run.open_requests(), run.done_reasons(), run.gone(), run.last_lost_at()],
                        [list(run.entries()), list(run.rows()), list(run.results())],
                        [list(run.by_urgency(OPEN_OUTCOMES, lambda _: None)), list(run.parties(OPEN_OUTCOMES, 2))],
                    )
                )
    assert all(each == told[0] for each in told[1:])


def check_counters(run):
    """What is told of the run as a whole is what its subjects come to, one by one."""
    scan, found = Scan(run), run.summary()
    assert run.totals() == scan.totals()
    assert run.states() == found.states == scan.state_counts()
    assert (run.open_requests(), run.done_reasons()) == (scan.open_requests(), scan.done_reasons())
    assert (run.gone(), run.last_lost_at()) == (scan.gone(), scan.last_lost_at())
    assert (found.repeats, set(found.traffic)) == (scan.repeats(), set(scan.repeats()))
    assert (found.holds, found.settled, found.answer_times) == (scan.holds(), scan.settled(), scan.answer_times())
    begun = [range(part.first, part.last + 1) for part in found.pace]
    assert sum(part.requests for part in found.pace) == len(scan.begun())
    assert all(any(at in part for part in begun) for at in scan.begun())
    assert {at for part in found.pace for at in (part.first, part.last)} <= set(scan.begun())
    assert (found.first_request_at, found.last_answer_at) == scan.moments()


@settings(max_examples=100 if IS_LONG else 8)
@given(
    st.lists(st.tuples(notes, st.booleans()), min_size=1, max_size=4),
    st.lists(st.tuples(days, days), max_size=5),
    st.dictionaries(st.integers(1, 5), st.sampled_from([Hold("x"), Hold("y", "2027-01-01")]), max_size=2),
)
def test_counters_come_to_what_all_subjects_come_to_at_any_moment(parts, dated, holds):
    requests = [RequestRow(seq, asked_on, due_on, None, None) for seq, (asked_on, due_on) in enumerate(dated, 1)]
    for kind in STORES:
        with tempfile.TemporaryDirectory() as place:
            state = kind(Path(place)).open()
            state.create(RUN, staged([f"c{k}" for k in range(5)], 2, requests=requests, holds=holds))
            for part, is_ended in parts:
                # A scan can't tell a state that was recorded and is like that of the beginning from none.
                some = [msgspec.structs.replace(note, state=None) if note.state == PENDING else note for note in part]
                with state.open(RUN) as run:
                    number = run.begin_execution(1, "{}")
                    for note in some:
                        asyncio.run(run.intend([note]))
                        check_counters(run)
                    if is_ended:
                        run.end_execution(number, 2, None)
                        check_counters(run)
                with state.open(RUN) as run:
                    check_counters(run)


def test_anyone_who_reads_while_a_run_is_worked_on_sees_every_commit_once(make, state):
    """Pages are folded meanwhile: nothing may be missing at any moment, and nothing may be there twice."""
    names = [f"c{k}" for k in range(40)]
    with make(names, page=8) as run, state.open(RUN) as other:
        number = run.begin_execution(1, "{}")
        for done, seq in enumerate(Random(5).sample(range(1, 41), 40), 1):
            asyncio.run(run.intend([Note(seq, [(1, INTENT)], LOST)]))
            asyncio.run(run.intend([Note(seq, [(1, ANSWERED), (2, SEEN)], ERASED)]))
            for reader in (run, other):
                assert reader.totals().get(Outcome.ERASED) == done
                assert sum(entry.exchanges == (ANSWERED, SEEN) for entry in reader.entries({Outcome.ERASED})) == done
                assert sum(line.count for line in reader.summary().traffic) == 2 * done
        run.end_execution(number, 2, None)
        assert list(run.rows()) == list(other.rows())


# What outlives the runs.


def test_the_lock_on_a_deployment_keeps_others_out_and_is_given_back(state, store):
    with state.lock(TARGET):
        with pytest.raises(RefusedError) as error, store.open().lock(TARGET):
            pass
        assert error.value.code == "locked"
        with store.open().lock("https://other.example.org"):
            pass
    with store.open().lock(TARGET):
        pass


def test_who_was_erased_stays_so_there_and_under_the_names_of_old(state, store):
    with state.suppression() as listed:
        listed.add(SCOPE, ["a", "b"], RUN, 2)
        listed.add(FORMER, iter(["c"]), LATER, 1)
    with store.open().suppression() as listed:
        assert (listed.counted(RUN), listed.counted(LATER), listed.counted("other")) == (2, 1, 0)
        is_suppressed = listed.of({SCOPE})
        assert [is_suppressed(one) for one in ("a", "b", "c", "A")] == [True, True, False, False]
        assert [listed.of({SCOPE, FORMER})(one) for one in ("a", "c")] == [True, True]
        assert not listed.of({OTHER})("a")


def test_the_erased_of_a_run_are_entered_all_or_none(state, store):
    def broken():
        yield "a"
        raise RuntimeError

    with state.suppression() as listed, pytest.raises(RuntimeError):
        listed.add(SCOPE, broken(), RUN, 2)
    with store.open().suppression() as listed:
        assert (listed.counted(RUN), listed.of({SCOPE})("a")) == (0, False)


def test_whom_a_run_erased_is_asked_for_until_it_is_marked_and_when_it_changed(make, store):
    make(run_id=LATER).close()
    run = make()
    with store.open().suppression() as listed:
        assert listed.behind() == [LATER, RUN]
        listed.mark_read(RUN)
        listed.mark_read(LATER)
    with store.open().suppression() as listed:
        assert listed.behind() == []
        work(run, Note(1, (), ERASED))
        assert listed.behind() == [RUN]
        work(run, Note(2, (), ERASED))
        listed.mark_read(RUN)
        assert listed.behind() == [RUN]  # it is not as it was when it was named
        listed.mark_read(RUN)
        assert listed.behind() == []
    run.close()


def test_who_was_taken_off_stays_off_until_a_later_run_erases_them(state):
    with state.suppression() as listed:
        listed.add(SCOPE, ["a"], RUN, 1)
        assert not listed.remove({SCOPE}, "nobody", RUN[:15])
        assert listed.remove({SCOPE, FORMER}, "a", RUN[:15])
        assert not listed.of({SCOPE, FORMER})("a")
        listed.add(SCOPE, ["a"], RUN, 2)
        assert not listed.of({SCOPE})("a")
        listed.add(SCOPE, ["a"], LATER, 1)
        assert listed.of({SCOPE})("a")


def test_a_list_is_taken_in_under_its_own_key_and_handed_on(state, store):
    with state.suppression() as mine, store.another().suppression() as theirs:
        theirs.add(SCOPE, ["a", "b"], RUN, 2)
        export, keys, entries = theirs.exported()
        assert entries == 2
        assert (mine.take_in(export, keys), mine.take_in(export, keys)) == (2, 0)
        assert [mine.of({SCOPE})(one) for one in ("a", "b", "c")] == [True, True, False]
        mine.add(SCOPE, ["c"], RUN, 1)
        assert theirs.take_in(*mine.exported()[:2]) == 1
        assert theirs.of({SCOPE})("c")
        assert mine.remove({SCOPE}, "a", RUN[:15])
        assert not mine.of({SCOPE})("a")
        with pytest.raises(UsageError):
            mine.take_in(export, export)
        with pytest.raises(UsageError):
            mine.take_in(export, mine.exported()[1].replace(b'"keys"', b'"locks"'))
    assert b"customer" not in export + keys


def test_lists_go_from_one_kind_of_store_to_another(tmp_path):
    lists = [kind(tmp_path).open().suppression() for kind in STORES]
    for listed, customer in zip(lists, "abc", strict=False):
        listed.add(SCOPE, [customer], RUN, 1)
    for one, other in itertools.permutations(lists, 2):
        one.take_in(*other.exported()[:2])
    assert all(listed.of({SCOPE})(one) for listed in lists for one in "abc"[: len(lists)])
    for listed in lists:
        listed.__exit__(None, None, None)


def test_a_code_that_was_assigned_is_known_to_be_whose_and_by_the_names_of_old(state, store):
    record = state.assigned(SCOPE)
    assert (record.changes, record.among(["X", "Y"])) == (0, {})
    record.remember([("anna", "X"), ("ben", "Y")])
    record.close()
    for scope, former in ((SCOPE, ()), (FORMER, (SCOPE,))):
        record = store.open().assigned(scope, former)
        taken = record.among(["Z", "Y", "X"])
        assert (record.changes, list(taken.values())) == (1, ["Y", "X"])
        assert [record.code_of(one, taken) for one in ("anna", "ben", "carl")] == ["X", "Y", None]
        assert record.code_of("anna", record.among(["Y"])) is None
        record.close()
    other = store.open().assigned(OTHER)
    assert (other.changes, other.among(["X"])) == (0, {})
    other.close()


def test_codes_are_assigned_by_anyone_who_worked_them_out_last_all_or_none(state, store, codes):
    def broken():
        yield "anna", "X"
        raise RuntimeError

    one, other = codes(state), codes(store.open())
    with pytest.raises(RuntimeError):
        one.remember(broken())
    one.remember([("anna", "X")])
    with pytest.raises(RefusedError) as error:
        other.remember([("ben", "X")])
    assert error.value.code == "stale"
    again = codes(state)
    again.remember([("ben", "X")])  # whose it was first, it stays
    again = codes(state)
    assert again.code_of("anna", again.among(["X"])) == "X"
    assert again.code_of("ben", again.among(["X"])) is None


def test_a_code_with_a_budget_has_several_customers_and_one_that_does_not_exist_none(state, store, codes):
    record = codes(state)
    record.remember([("anna", "X"), ("ben", "X"), ("carl", "Y"), ("dora", "Y")], ["X"], [])
    record = codes(store.open())
    taken = record.among(["X", "Y", "Z"])
    assert [record.code_of(one, taken) for one in ("anna", "ben", "carl", "dora")] == ["X", "X", "Y", None]
    assert [record.used(code) for code in ("X", "Y", "Z")] == [2, 1, 0]
    assert [record.is_of(one, "X") for one in ("anna", "ben", "carl")] == [True, True, False]
    record.remember([("dora", "X"), ("anna", "Z")], ["X"], ["Y"])
    record = codes(store.open(), OTHER, (SCOPE,))
    taken = record.among(["X", "Y", "Z"])
    assert list(taken.values()) == ["X", "Z"]
    assert [record.used(code) for code in ("X", "Y", "Z")] == [3, 0, 1]
    assert [record.code_of(one, taken) for one in ("anna", "carl", "dora")] == ["X", None, "X"]


def test_what_a_run_released_is_given_back_once(state, store, codes):
    record = codes(state)
    record.remember([("anna", "X"), ("ben", "X"), ("carl", "Y")], ["X"], [])
    codes(state).give_back([("anna", "X"), ("carl", "X"), ("carl", "Y")], "run-1")
    record = codes(store.open())
    taken = record.among(["X", "Y"])
    assert list(taken.values()) == ["X"]
    assert [record.code_of(one, taken) for one in ("anna", "ben", "carl")] == [None, "X", None]
    record.remember([("carl", "Y")], [], [])
    with pytest.raises(RefusedError):  # what was worked out before codes came back does not hold any more
        codes(state).remember([], [], []) or record.remember([], [], [])
    codes(state).give_back([("carl", "Y")], "run-1")
    record = codes(store.open())
    assert record.code_of("carl", record.among(["Y"])) == "Y"


def test_what_a_deployment_taught_is_replaced_in_one_step_and_forgotten(state, store):
    control = ControlProfile(
        deployment=TARGET, profile_id=f"privacy-toolkit-control-{'0a' * 16}", begun_at="2026-01-01T00:00:00Z"
    )
    later = ControlProfile(deployment=TARGET, profile_id=control.profile_id, begun_at="2026-02-01T00:00:00Z")
    assert state.controls.read(TARGET) is None
    state.controls.write(control)
    assert store.open().controls.read(TARGET) == control
    state.controls.write(later)
    assert (store.open().controls.read(TARGET), state.controls.read("other")) == (later, None)
    state.controls.drop(TARGET)
    state.controls.drop(TARGET)
    assert store.open().controls.read(TARGET) is None


def test_the_key_of_a_plan_is_kept_until_it_is_removed_and_never_replaced(state, store):
    assert state.plan_key("0a").read() is None
    state.plan_key("0a").write(b"k" * 32)
    with pytest.raises(UsageError):
        state.plan_key("0a").write(b"x" * 32)
    assert store.open().plan_key("0a").read() == b"k" * 32
    assert store.open().plan_key("0b").read() is None
    state.plan_key("0a").remove()
    state.plan_key("0a").remove()
    assert store.open().plan_key("0a").read() is None


def test_a_state_is_known_by_what_was_drawn_once(state, store):
    assert len(state.drawn_id) == 32
    assert store.open().drawn_id == state.drawn_id
    assert store.another().drawn_id != state.drawn_id


def test_that_a_state_was_restored_is_remembered(state, store):
    identity = state.identity
    with identity.locked():
        identity.advance()
        assert (identity.doubt(), identity.restored_at, identity.may_lack) == ("", None, False)
        identity.acknowledge(7)
    assert (store.open().identity.restored_at, store.open().identity.may_lack) == (7, True)
    state.adopt()
    assert state.identity.doubt() == ""


def link(chain, run_id=RUN, signature=None) -> KeptLink:
    """Make the link that follows the newest one."""
    newest = chain.newest()
    number = 1 if newest is None else newest.sequence + 1
    return KeptLink(number, run_id, b"checkpoint %d" % number, b"sums", signature)


def test_what_people_were_sent_is_recorded_by_run(state, store):
    assert state.answers.read("run-1") == RunAnswers()
    sent = {"ab" * 16: SentAnswer("2026-12-01", "erased", 2026), "cd" * 16: SentAnswer("2026-12-02", "on_hold", 2026)}
    state.answers.change("run-1", lambda known: msgspec.structs.replace(known, sent=known.sent | sent))
    assert store.open().answers.read("run-1").sent == sent
    assert state.answers.read("run-2") == RunAnswers()
    state.answers.change("run-1", counted)
    left = store.open().answers.read("run-1")
    assert (left.sent, left.left) == ({}, {"2026": {"erased": 1, "on_hold": 1}})


def test_a_chain_has_an_id_drawn_once(state, store):
    with state.chain.lock():
        drawn = state.chain.drawn_id()
    assert (len(drawn), store.open().chain.drawn_id()) == (32, drawn)
    other = store.another().chain
    with other.lock():
        assert other.drawn_id() != drawn


def test_a_chain_keeps_its_links_in_order_and_by_run(state, store):
    chain = state.chain
    assert (chain.newest(), chain.of_run(RUN)) == (None, [])
    with chain.lock():
        chain.drawn_id()
        for run_id, signature in ((RUN, b"signature"), (LATER, None), (RUN, None)):
            chain.append(link(chain, run_id, signature))
    again = store.open().chain
    assert again.newest() == KeptLink(3, RUN, b"checkpoint 3", b"sums", None)
    assert again.of_run(RUN) == [KeptLink(1, RUN, b"checkpoint 1", b"sums", b"signature"), again.newest()]
    assert again.of_run(RUN[:15]) == []


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_chain_has_no_gap_and_no_fork(state, number):
    chain = state.chain
    with chain.lock():
        chain.drawn_id()
        chain.append(link(chain))
        with pytest.raises(ChainError) as error:
            chain.append(link(chain, LATER)._replace(sequence=number))
    assert (error.value.code, error.value.hint) == ("chain", chain.remedy)
    assert chain.newest().run_id == RUN


def test_who_seals_second_waits_and_follows(store):
    together = threading.Barrier(3)

    def seal(run_id):
        mine = store.open().chain
        together.wait()
        for _ in range(5):
            with mine.lock():
                mine.drawn_id()
                mine.append(link(mine, run_id))

    threads = [threading.Thread(target=seal, args=(f"run-{k}",)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chain = store.open().chain
    assert chain.newest().sequence == 15
    assert [len(chain.of_run(f"run-{k}")) for k in range(3)] == [5] * 3


def test_what_is_kept_of_a_run_is_searched_and_what_a_purge_takes_away_is_gone(purged, make, store):
    def having(piece):
        return lambda pieces: piece in b"".join(pieces)

    make(("somebody@example.org",), run_id=LATER, plan=b'{"of":"later"}').close()
    state = store.open()
    assert len(state.remains(LATER, having(b"somebody@example.org"))) == 1
    assert len(state.remains(RUN, having(b'{"left":1}'))) == 1
    for piece in (b"somebody@example.org", b"coupon-77", b"T-77"):
        assert state.remains(RUN, having(piece)) == []


def test_packs_are_sealed_into_every_store(state):
    """The rules of ``evidence.chain`` hold over each: what does not follow is not added, what was added is found."""
    chain = Chain(state.chain)
    with chain.lock():
        for run_id in (RUN, LATER):
            newest = chain.newest()
            number, previous = (1, None) if newest is None else (newest.head().sequence + 1, newest.hash)
            head = Checkpoint(chain.origin(), 1, bytes(32), run_id, number, previous).encode()
            sealed = Link(head, encode_sums({"checkpoint.txt": hash_bytes(head)}), None)
            chain.append(sealed)
            with pytest.raises(ChainError):
                chain.append(sealed)
    assert (chain.newest(), chain.of_run(LATER)) == (sealed, [sealed])


# What runs tell, looked up.


def enter(index, part="p", run_id=RUN, note=b"n", told=(("a", b"1"), ("b", b"")), *, lasting=True):
    index.enter(part, run_id, note, iter(told), lasting=lasting)


def test_what_runs_tell_is_looked_up_by_name_until_they_change(make, store):
    make(run_id=LATER).close()
    run = make()
    with store.open().index() as index:
        assert index.behind("p") == [LATER, RUN]
        enter(index)
        enter(index, run_id=LATER, note=b"", told=[("a", b"2")])
        assert (index.behind("p"), index.behind("q")) == ([], [LATER, RUN])
    with store.open().index() as index:
        assert index.behind("p") == []
        assert index.notes("p") == {RUN: b"n", LATER: b""}
        found = index.told("p", ["a", "b", "c"])
        assert (sorted(found["a"]), found["b"], set(found)) == ([b"1", b"2"], [b""], {"a", "b"})
        assert (index.told("q", ["a"]), index.notes("q")) == ({}, {})
    work(run, Note(1, (), ERASED))
    run.close()
    with store.open().index() as index:
        assert index.behind("p") == [RUN]
        enter(index, note=b"new", told=[("b", b"3")])
        assert index.behind("p") == []
        assert (index.notes("p")[RUN], index.told("p", ["a", "b"])) == (b"new", {"a": [b"2"], "b": [b"3"]})


def test_a_run_that_changes_while_it_is_entered_is_behind_as_before(make, store):
    run = make()

    def told():
        yield "a", b"1"
        work(run, Note(1, (), ERASED))

    with store.open().index() as index:
        index.behind("p")
        enter(index, told=told())
        assert index.behind("p") == [RUN]
        assert (index.notes("p"), index.told("p", ["a"])) == ({}, {})
    run.close()


def test_what_does_not_last_is_known_while_the_index_is_open(make, store):
    run = make()
    number = run.begin_execution(1, "{}")
    with store.open().index() as index:
        index.behind("p")
        enter(index, lasting=False)
        run.record([Note(1, (), ERASED)])
        assert (index.behind("p"), index.notes("p"), index.told("p", ["a"])) == ([], {RUN: b"n"}, {"a": [b"1"]})
    run.end_execution(number, 2, None)
    run.close()
    with store.open().index() as index:
        assert (index.behind("p"), index.notes("p"), index.told("p", ["a"])) == ([RUN], {}, {})


def test_a_run_is_forgotten_on_demand_and_when_it_is_gone(make, store):
    for run_id in (RUN, LATER):
        make(run_id=run_id).close()
    state = store.open()
    with state.index() as index:
        for part in ("p", "q"):
            for run_id in index.behind(part):
                enter(index, part, run_id)
        index.forget(RUN)
        assert (index.behind("p"), index.behind("q"), index.notes("p")) == ([RUN], [RUN], {LATER: b"n"})
    state.set_aside(LATER)
    with store.open().index() as index:
        assert index.behind("p") == [RUN]
        assert (index.notes("p"), index.told("q", ["a"])) == ({}, {})


def test_a_lot_of_names_is_told_of_a_run(make, store):
    make().close()
    names = [f"name-{k}" for k in range(3_000)]
    with store.open().index() as index:
        index.behind("p")
        enter(index, told=((name, name.encode() * 9) for name in names))
    with store.open().index() as index:
        found = index.told("p", [*names, "other"])
    assert found == {name: [name.encode() * 9] for name in names}
