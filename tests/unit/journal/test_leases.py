"""Leases among executions: fence, claim, write and beat in every order, step by step, by a clock that tests move."""

import asyncio
import math
from random import Random

import psycopg
import pytest
from msgspec.structs import replace

from privacy_toolkit.core.model import JournalError, Outcome, Purpose, Reason, StopReason
from privacy_toolkit.journal.lease import (
    AskedToPause,
    ClaimedPages,
    CountedElsewhere,
    FencedError,
    KeptLease,
    LeaseBatch,
    LeaseBeat,
    LeaseLost,
    LeaseTally,
    LeaseTerms,
    RunStopped,
    ShareChanged,
    Unclaimed,
)
from privacy_toolkit.journal.memory.lease import MemoryKeeper, RunLeases
from privacy_toolkit.journal.memory.run import taken_in
from privacy_toolkit.journal.packed import exchange_of, state_of
from privacy_toolkit.journal.postgres.state import PostgresState
from privacy_toolkit.journal.records import ExchangeRecord, Note, RequestRow, Staged, SubjectState
from tests.simulation.loop import VirtualLoop
from tests.support import postgres

READ, ERASE = "get_customer_inventory", "delete_customer_data"
SEEN = ExchangeRecord(Purpose.READ_BEFORE, READ, None, 10, 3, 200)
INTENT = ExchangeRecord(Purpose.ACT, ERASE, intent_at=20)
ANSWERED = ExchangeRecord(Purpose.ACT, ERASE, 20, 29, 9, 204)
LOST = SubjectState(Outcome.UNKNOWN, Reason.NO_ANSWER_RECORDED, attempts=1)
ERASED = SubjectState(Outcome.ERASED, attempts=1)
DONE = SubjectState(Outcome.DONE)

TERMS = LeaseTerms(lease=15.0, beat=1.0, margin=1.0, drain=30.0, exclusive=False, rate=100.0)
OVER = 15.0 + 30.0 + 0.1
SEEN_SOMEBODY = LeaseTally(has_seen=True)


RUN = "20260101-000000-erase-0a0a0"


def staged(subjects, **more):
    """A run of pages of two."""
    ids = [(k + 2, f"c{k}") for k in range(subjects)]
    return Staged(plan=b"{}", created_at=1, pages=[ids[k : k + 2] for k in range(0, subjects, 2)], **more)


class Book:
    """The leases of a run of pages of two, on a clock that a test moves: in memory."""

    def __init__(self, subjects=6, terms=TERMS, **more):
        self.run = taken_in(RUN, staged(subjects, **more))
        self.now = 0.0
        self.terms = terms
        self.leases = RunLeases(self.run, lambda: self.now)
        self.serials = {}

    # What each store does in its own way.

    def begin(self, terms=None):
        return self.leases.begin(1, "{}", terms or self.terms)

    def commit(self, number, batch):
        return self.leases.commit(number, batch)

    def late(self, number, notes):
        self.leases.keep_late(number, notes)

    def claim(self, number, *known):
        return self.leases.claim(number, known)

    def state(self, seq):
        return self.run.states.get(seq)

    def walk(self, seq):
        return self.run.walk(seq)

    def executions(self):
        return self.run.executions

    def fenced_at(self, number):
        return self.leases.tenants[number].fenced_at

    def in_use(self, number):
        return self.leases.tenants[number].share.in_use

    def listen(self, number, tell):
        MemoryKeeper(self.leases, number).listen(tell)

    def told(self, told):
        return told

    def is_held(self):
        return self.leases.are_held

    def close(self):
        pass

    # What is the same for all.

    def put(self, number, *notes, walked=(), ended=None, beat=None):
        serial = self.serials.get(number, 0) + 1
        answer = self.commit(number, LeaseBatch(serial, list(notes), [], list(walked), beat, ended))
        self.serials[number] = serial
        return answer

    def beat(self, number, tally=SEEN_SOMEBODY, in_use=0.0):
        self.serials[number, "beat"] = serial = self.serials.get((number, "beat"), 0) + 1
        return self.put(number, beat=LeaseBeat(serial, in_use, tally))


#: Has all who ask for the time look at a clock that a test moves.
CLOCK = """
    CREATE TABLE IF NOT EXISTS public.clock (at float8);
    DELETE FROM public.clock;
    INSERT INTO public.clock VALUES (0);
    CREATE OR REPLACE FUNCTION toolkit.moment() RETURNS timestamptz LANGUAGE sql VOLATILE
        AS 'SELECT to_timestamp(1.6e9 + at) FROM public.clock';
"""


class DatabaseBook(Book):
    """The same in PostgreSQL: each execution has the run opened for itself, and connections of its own."""

    def __init__(self, subjects=6, terms=TERMS, **more):
        address = postgres.emptied("leases")
        self.other = psycopg.connect(address, autocommit=True, options="-c search_path=toolkit")
        self.other.execute(CLOCK)
        self.state_of_all, self.terms, self.serials, self.keepers = PostgresState(address), terms, {}, {}
        self.tells = {}
        self.state_of_all.create(RUN, staged(subjects, **more))
        self.run = self.state_of_all.open(RUN)
        self.runner = asyncio.Runner()

    @property
    def now(self):
        return self.other.execute("SELECT at FROM public.clock").fetchone()[0]

    @now.setter
    def now(self, at):
        self.other.execute("UPDATE public.clock SET at = %s", (at,))

    def begin(self, terms=None):
        lease = self.state_of_all.open(RUN).lease(1, "{}", terms or self.terms)
        self.keepers[lease.number] = lease._keeper
        return lease.number

    def commit(self, number, batch):
        return self.runner.run(self.keepers[number].commit(batch))

    def late(self, number, notes):
        self.runner.run(self.keepers[number].late(notes))

    def claim(self, number, *known):
        return self.runner.run(self.keepers[number].claim(known))

    def state(self, seq):
        return next((state_of(row.state) for row in self._rows() if row.seq == seq and row.state), None)

    def walk(self, seq):
        return [(one.n, exchange_of(one)) for row in self._rows() if row.seq == seq for one in row.exchanges]

    def _rows(self):
        return [row for first, _ in self.run.bounds() for row in self.run.rows_of_page(first)]

    def executions(self):
        return self.run.executions()

    def fenced_at(self, number):
        (at,) = self.other.execute(
            "SELECT (extract(epoch FROM fenced_at) - 1.6e9)::float8 FROM executions WHERE number = %s", (number,)
        ).fetchone()
        return at

    def in_use(self, number):
        return self.other.execute("SELECT in_use FROM executions WHERE number = %s", (number,)).fetchone()[0]

    def listen(self, number, tell):
        self.other.execute("LISTEN toolkit_shares")
        self.tells[number] = tell

    def told(self, told):
        self.other.execute("NOTIFY toolkit_shares, 'all'")
        for notice in self.other.notifies():
            if notice.payload == "all":
                break
            self.tells[int(notice.payload.split()[1])]()
        return told

    def is_held(self):
        return self.run.is_running

    def close(self):
        self.runner.close()
        for keeper in self.keepers.values():
            keeper.close()
        self.other.close()


@pytest.fixture(params=(Book, DatabaseBook), ids=("memory", "database"))
def make_book(request):
    """A store's leases on a run."""
    made = []

    def make(*given, **named):
        made.append(request.param(*given, **named))
        return made[-1]

    if request.param is DatabaseBook:
        postgres.needed()
    yield make
    for book in made:
        book.close()


def ids(claimed):
    return [[entry.subject.id for entry in due] for due in claimed.entries]


@pytest.fixture
def book(make_book):
    return make_book()


@pytest.fixture
def pair(book):
    """Two executions, of which one has seen somebody."""
    first, second = book.begin(), book.begin()
    book.beat(first)
    book.beat(second)
    return first, second


# Claims.


def test_no_page_is_claimed_by_two_and_all_are_claimed(book, pair):
    first, second = pair
    claimed = [book.claim(first), book.claim(second), book.claim(first, 1)]
    assert [(one.first, one.last) for one in claimed] == [(1, 2), (3, 4), (5, 6)]
    assert [ids(one) for one in claimed] == [[["c0", "c1"]], [["c2", "c3"]], [["c4", "c5"]]]
    assert book.claim(second, 3) is Unclaimed.NOT_NOW


def test_once_all_are_walked_nothing_is_left(book, pair):
    first, _ = pair
    for at in (1, 3, 5):
        assert isinstance(book.claim(first), ClaimedPages)
        book.put(first, walked=[ClaimedPages(at, at + 1)])
    assert book.claim(first) is Unclaimed.NOTHING_LEFT
    assert book.is_held()


def test_a_page_without_open_subjects_is_not_claimed(book, pair):
    first, second = pair
    book.put(second, Note(1, (), DONE), Note(2, (), DONE))
    assert book.claim(first).first == 3


def test_a_claim_whose_answer_was_lost_is_given_once_more(book, pair):
    first, second = pair
    book.claim(first)
    assert book.claim(second).first == 3
    assert book.claim(first).first == 1
    assert book.claim(first, 1).first == 5


def test_what_is_in_doubt_is_claimed_first_then_what_is_due_first(make_book):
    requests = [RequestRow(5, None, "2026-02-01", None, None), RequestRow(8, None, "2026-03-01", None, None)]
    book = make_book(8, requests=requests)
    first, second = book.begin(), book.begin()
    book.beat(first)
    assert [book.claim(first).first, book.claim(first, 5).first, book.claim(first, 5, 7).first] == [5, 7, 1]
    book.put(first, Note(1, (), LOST))
    book.put(first, ended=(9, None))
    book.beat(second)
    known, order = [], []
    for _ in range(4):
        claimed = book.claim(second, *known)
        known.append(claimed.first)
        order.append(ids(claimed))
    assert order == [[["c0", "c1"]], [["c4"], ["c5"]], [["c7"], ["c6"]], [["c2", "c3"]]]


def test_what_an_execution_leaves_at_its_end_is_free_at_once(book, pair):
    first, second = pair
    book.claim(first)
    book.put(first, ended=(9, StopReason.TERMINATED))
    assert book.claim(second).first == 1
    assert book.executions()[0].stopped_by is StopReason.TERMINATED


def test_a_claim_that_arrives_after_the_end_of_who_asked_takes_nothing(book, pair):
    first, second = pair
    book.put(first, ended=(9, StopReason.TERMINATED))
    with pytest.raises(FencedError):
        book.claim(first)
    assert book.claim(second).first == 1


def test_an_exclusive_run_is_claimed_as_a_whole_and_by_one_at_a_time(make_book):
    book = make_book(terms=LeaseTerms(exclusive=True, rate=None))
    first, second = book.begin(), book.begin()
    assert book.beat(first).share == math.inf
    whole = book.claim(first)
    assert whole == ClaimedPages(1, 6)
    assert (book.claim(first, 1), book.claim(second)) == (Unclaimed.NOT_NOW, Unclaimed.NOT_NOW)
    book.put(first, ended=(9, None))
    assert book.claim(second) == whole
    book.put(second, walked=[whole])
    assert book.claim(second, 1) is Unclaimed.NOTHING_LEFT


def test_until_somebody_is_seen_only_one_has_anything(book):
    first, second = book.begin(), book.begin()
    book.beat(first, LeaseTally(first_reads=2))
    book.beat(second, LeaseTally())
    assert book.claim(first).first == 1
    assert book.claim(second) is Unclaimed.NOT_NOW
    book.put(first, walked=[ClaimedPages(1, 2)])
    book.claim(first)
    assert book.claim(second) is Unclaimed.NOT_NOW
    book.beat(first)
    assert book.claim(second).first == 5


def test_anyone_who_joins_a_run_does_not_try_again_what_was_left_open(book, pair):
    first, second = pair
    for at in (1, 3):
        book.claim(first)
        book.put(first, walked=[ClaimedPages(at, at + 1)])
    book.beat(second, LeaseTally(has_seen=True, stop=StopReason.FAILURE_LIMIT))
    for number in pair:
        book.put(number, ended=(9, None))
    joins = replace(TERMS, joins=True)
    third = book.begin(joins)
    assert book.beat(third).stop is StopReason.FAILURE_LIMIT
    assert book.claim(third) is Unclaimed.STOPPED
    book.put(third, ended=(9, None))
    fourth, fifth = book.begin(), book.begin(joins)
    assert book.beat(fourth).stop is None
    book.beat(fifth)
    assert [book.claim(fifth).first, book.claim(fourth).first] == [1, 3]
    assert [one.joined for one in book.executions()] == [None, 1, 1, None, 4]


def test_anyone_who_joins_a_run_that_nobody_began_begins_it(make_book):
    book = make_book()
    number = book.begin(replace(TERMS, joins=True))
    book.beat(number)
    assert book.claim(number).first == 1


def test_a_resumed_run_tries_again_what_was_left_open(book, pair):
    first, second = pair
    for at in (1, 3, 5):
        book.claim(first)
        book.put(first, Note(at, (), DONE), walked=[ClaimedPages(at, at + 1)])
    for number in pair:
        book.put(number, ended=(9, None))
    third = book.begin()
    assert third > second
    book.beat(third)
    assert ids(book.claim(third)) == [["c1"]]


# Fences.


def test_nobody_is_fenced_before_lease_and_drain_are_over(book, pair):
    first, second = pair
    book.claim(first)
    book.now = 44.9
    book.beat(second)
    assert book.claim(second).first == 3
    assert book.fenced_at(first) is None
    book.now = OVER
    assert book.claim(second, 3).first == 1
    assert book.fenced_at(first) == pytest.approx(OVER)


def test_a_write_that_comes_before_the_fence_is_seen_by_anyone_who_takes_over(book, pair):
    first, second = pair
    book.claim(first)
    book.now = OVER
    book.put(first, Note(1, [(1, SEEN), (2, INTENT)], LOST))
    book.beat(second)
    taken = book.claim(second)
    assert taken.entries[0][0].state == LOST
    assert taken.entries[0][0].exchanges == (SEEN, INTENT)


def test_a_write_that_comes_after_the_fence_changes_nothing(book, pair):
    first, second = pair
    book.claim(first)
    book.now = OVER
    book.beat(second)
    book.claim(second)
    with pytest.raises(FencedError):
        book.put(first, Note(1, [(1, SEEN), (2, INTENT)], LOST))
    assert book.state(1) is None
    for step in (lambda: book.beat(first), lambda: book.claim(first), lambda: book.put(first, ended=(1, None))):
        with pytest.raises(FencedError):
            step()


def test_a_beat_before_the_fence_keeps_the_lease_though_it_was_over(book, pair):
    first, second = pair
    book.claim(first)
    book.now = OVER
    book.beat(first)
    book.beat(second)
    assert book.claim(second).first == 3
    book.now += 44.9
    book.put(first, Note(1, (), DONE))
    assert book.state(1) == DONE


def test_anyone_who_has_not_beaten_in_time_claims_nothing(book, pair):
    first, _ = pair
    book.now = 15.0
    assert book.claim(first) is Unclaimed.NOT_NOW
    book.beat(first)
    assert book.claim(first).first == 1


def test_late_answers_are_facts_and_change_no_state(book, pair):
    first, second = pair
    book.claim(first)
    book.put(first, Note(1, [(1, SEEN), (2, INTENT)], LOST))
    book.now = OVER
    book.beat(second)
    book.claim(second)
    after = ExchangeRecord(Purpose.READ_AFTER, READ, None, 31, 3, 404)
    book.late(first, [Note(1, [(2, ANSWERED), (3, after)], ERASED), Note(2, [(1, INTENT)], LOST)])
    assert book.state(1) == LOST
    assert book.walk(1) == [(1, SEEN), (2, ANSWERED)]
    assert (book.walk(2), book.state(2)) == ([], None)
    reconciled = ExchangeRecord(Purpose.RECONCILE, READ, None, 50, 3, 404)
    book.put(second, Note(1, [(3, reconciled)], ERASED))
    assert book.walk(1) == [(1, SEEN), (2, ANSWERED), (3, reconciled)]


def test_a_late_answer_to_the_intent_of_another_is_not_its_answer(book, pair):
    first, second = pair
    book.claim(first)
    book.now = OVER
    book.beat(second)
    book.claim(second)
    theirs = ExchangeRecord(Purpose.ACT, ERASE, intent_at=77)
    book.put(second, Note(1, [(1, theirs)], LOST))
    book.late(first, [Note(1, [(1, ANSWERED)], ERASED)])
    assert book.walk(1) == [(1, theirs)]


# Batches and beats whose answers were lost.


def test_a_batch_that_is_written_once_more_is_there_once(book, pair):
    first, _ = pair
    batch = LeaseBatch(2, [Note(1, [(1, SEEN)], DONE)])
    book.commit(first, batch)
    book.commit(first, LeaseBatch(3, [Note(1, (), ERASED)]))
    book.commit(first, batch)
    assert book.state(1) == ERASED


def test_a_beat_that_is_out_of_date_says_nothing(book, pair):
    first, _ = pair
    book.commit(first, LeaseBatch(2, beat=LeaseBeat(9, 100.0, LeaseTally(failures=3))))
    assert book.commit(first, LeaseBatch(2, beat=LeaseBeat(8, 0.0, LeaseTally()))) is None
    assert book.in_use(first) == 100.0


def test_a_share_is_free_for_others_only_when_its_cut_is_confirmed(book):
    first, second = book.begin(), book.begin()
    assert book.beat(first).share == 100.0
    assert book.beat(second).share == 0.0
    assert book.beat(first, in_use=100.0).share == 50.0
    assert book.beat(second).share == 0.0
    book.beat(first, in_use=50.0)
    assert book.beat(second).share == 50.0


def test_the_share_of_anyone_who_is_gone_is_free_when_its_lease_is_over(book):
    first, second = book.begin(), book.begin()
    book.beat(first)
    book.now = 14.9
    assert book.beat(second).share == 0.0
    book.now = 15.0
    assert book.beat(second).share == 100.0
    assert book.beat(first, in_use=100.0).share == 0.0


def test_counts_pauses_and_stops_reach_all(book, pair):
    first, second = pair
    book.beat(first, LeaseTally(failures=2, first_reads=5, pause=8.0, stop=StopReason.FAILURE_LIMIT))
    answer = book.beat(second, LeaseTally())
    assert answer.elsewhere == CountedElsewhere(2, 5, has_seen=False)
    assert (answer.pause, answer.stop) == (8.0, StopReason.FAILURE_LIMIT)
    assert book.claim(second) is Unclaimed.STOPPED
    book.now = 9.0
    assert book.beat(second).pause == 0.0


# The lease as its execution holds it, in virtual time.


class Link:
    """What is between an execution and the store: ``cut`` breaks it before or after the call, ``stuck`` hangs it."""

    def __init__(self, leases, number):
        self.leases, self.number = leases, number
        self.cut, self.stuck, self.takes = None, False, 0.001
        self.batches = []

    async def _across(self, call):
        if self.stuck:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self.takes)
        if self.cut == "before":
            raise ConnectionError
        done = call()
        if self.cut == "after":
            raise ConnectionError
        return done

    async def commit(self, batch):
        self.batches.append(batch)
        return await self._across(lambda: self.leases.commit(self.number, batch))

    def listen(self, tell):
        self.tell = tell

    async def late(self, notes):
        await self._across(lambda: self.leases.keep_late(self.number, notes))

    async def claim(self, known):
        return await self._across(lambda: self.leases.claim(self.number, known))


def play(script, terms=TERMS):
    """Run ``script(book, lease, link, heard)`` in a loop whose clock is that of the store and of the execution."""
    loop = VirtualLoop(Random(1), shuffles=False)
    book = Book()
    book.leases = RunLeases(book.run, lambda: loop.now)
    heard = []

    async def run():
        held = LeaseTerms(
            terms.lease, terms.beat, terms.margin, terms.drain, terms.exclusive, terms.rate, lambda: loop.now
        )
        link = Link(book.leases, book.leases.begin(1, "{}", held))
        lease = KeptLease(link, held, "run")
        lease.listen(heard.append, lambda: SEEN_SOMEBODY)
        return await script(book, lease, link, heard)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(run())
    assert loop.errors == []
    return result


def test_it_says_at_once_that_there_is_no_share_yet_and_then_which():
    async def script(_, lease, __, heard):
        assert not lease.may_send()
        await asyncio.sleep(0.1)
        assert heard[:2] == [ShareChanged(0.0), ShareChanged(100.0)]
        assert lease.may_send()
        await lease.end(9, None)

    play(script)


def test_who_has_work_and_no_share_has_one_soon_after_others_give_some_up():
    async def script(book, lease, _, heard):
        other = book.begin()
        assert book.beat(other).share == 100.0
        await asyncio.sleep(0.3)
        assert book.beat(other, in_use=100.0).share == 50.0
        book.beat(other, in_use=50.0)
        await asyncio.sleep(0.4)
        assert [signal.rate for signal in heard if isinstance(signal, ShareChanged)] == [0.0, 50.0]
        await lease.end(9, None)

    play(script)


def test_who_could_have_more_of_the_rate_is_told_as_soon_as_somebody_needs_less_or_ends(book):
    told = []
    first, second, idle = (book.begin() for _ in range(3))
    for number in (first, second, idle):
        book.listen(number, lambda number=number: told.append(number))
    book.beat(first)
    book.beat(idle, replace(SEEN_SOMEBODY, want=0.0))
    assert book.beat(second).share == 0.0
    assert book.beat(first, in_use=100.0).share == 50.0
    assert book.told(told) == []
    book.beat(first, in_use=50.0)
    assert book.told(told) == [second]
    assert book.beat(second).share == 50.0
    book.beat(second, in_use=50.0)
    assert book.told(told) == [second]
    book.put(second, ended=(9, None))
    assert book.told(told) == [second, first]
    assert book.beat(first, in_use=50.0).share == 100.0


def test_a_share_that_was_cut_counts_in_full_until_what_was_written_of_it_is_as_if_written_evenly():
    async def script(book, lease, link, _):
        settling = 0.3

        def count():
            return replace(SEEN_SOMEBODY, settling=settling)

        await asyncio.sleep(0.1)
        lease._count = count
        other = book.begin()
        book.beat(other)
        await asyncio.sleep(1.2)
        assert [book.in_use(lease.number), book.beat(other).share] == [100.0, 0.0]
        settling = 0.0
        await asyncio.sleep(0.3)
        assert [book.in_use(lease.number), book.beat(other).share] == [50.0, 50.0]
        await lease.end(9, None)

    play(script)


def test_anyone_who_finds_the_run_stopped_when_they_claim_hears_why_at_once():
    async def script(book, lease, _, heard):
        await asyncio.sleep(0.1)
        book.leases.stop = StopReason.FAILURE_LIMIT
        assert await lease.claim(lambda: None) is None
        assert heard[-1] == RunStopped(StopReason.FAILURE_LIMIT)
        await lease.end(9, None)

    play(script)


def test_after_a_stop_nobody_waits_for_a_store_that_is_out_of_reach_longer_than_the_lease():
    async def script(_, lease, link, __):
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(0.1)
        link.cut = "before"
        intent = asyncio.ensure_future(lease.intend([Note(1, [(1, INTENT)], LOST)]))
        await asyncio.sleep(3600.0)  # it is waited for as long as it takes
        assert not intent.done()
        asked = clock()
        lease.report(leaves=True)
        with pytest.raises(JournalError, match=r"can't be reached\. Nothing more is sent"):
            await intent
        with pytest.raises(JournalError, match=r"can't be reached\. The end of this execution is not noted in it"):
            await lease.end(9, StopReason.TERMINATED)
        assert clock() - asked < TERMS.lease

    play(script)


def test_what_was_heard_is_handed_over_at_the_end_as_long_as_nobody_can_have_taken_over():
    async def script(book, lease, link, _):
        await asyncio.sleep(0.1)
        await lease.intend([Note(1, [(1, INTENT)], LOST)])
        link.cut = "before"
        lease.record([Note(1, [(1, ANSWERED)], ERASED)])
        lease.report(leaves=True)
        asyncio.get_running_loop().call_later(40.0, setattr, link, "cut", None)
        await lease.end(9, StopReason.TERMINATED)
        assert book.state(1) == ERASED

    play(script)


def test_a_beat_that_is_asked_for_while_another_is_under_way_follows_it():
    async def script(_, lease, link, __):
        link.takes = 0.1
        await asyncio.sleep(0.05)
        lease.report()
        await asyncio.sleep(0.2)
        assert len(link.batches) == 2
        await lease.end(9, None)

    play(script)


def test_who_waits_long_for_a_share_beats_no_more_often_than_others():
    async def script(book, lease, link, _):
        other = book.begin()
        for _ in range(10):
            book.beat(other, in_use=100.0)
            await asyncio.sleep(1.0)
        assert len(link.batches) <= 14
        await lease.end(9, None)

    play(script)


def test_an_intent_is_durable_when_it_returns():
    async def script(book, lease, _, __):
        await lease.intend([Note(1, [(1, INTENT)], LOST)])
        assert book.state(1) == LOST
        lease.record([Note(1, [(1, ANSWERED)], ERASED)])
        assert book.state(1) == LOST
        await asyncio.sleep(0.05)
        assert book.state(1) == ERASED
        await lease.end(9, StopReason.TERMINATED)
        assert book.run.executions[0].stopped_by is StopReason.TERMINATED

    play(script)


def test_the_local_deadline_is_before_the_stores_whatever_an_answer_takes():
    async def script(book, lease, link, _):
        link.takes = 0.9
        await asyncio.sleep(30.0)
        link.cut = "before"
        while lease.may_send():
            assert asyncio.get_running_loop().time() < book.leases.tenants[1].expires_at - 1.0
            await asyncio.sleep(0.01)
        link.cut = None
        await asyncio.sleep(2.0)
        assert lease.may_send()
        await lease.end(9, None)

    play(script)


@pytest.mark.parametrize("where", ["before", "after"])
def test_while_the_store_is_out_of_reach_nothing_is_lost_and_the_share_is_given_back(where):
    async def script(book, lease, link, heard):
        await asyncio.sleep(0.5)
        link.cut = where
        waits = asyncio.create_task(lease.intend([Note(1, [(1, INTENT)], LOST)]))
        await asyncio.sleep(10.0)
        assert (waits.done(), lease.may_send()) == (False, True)
        await asyncio.sleep(10.0)
        assert (waits.done(), lease.may_send()) == (
            where == "after" and waits.done(),
            where == "after" and lease.may_send(),
        )
        if where == "before":
            assert heard[-1] == ShareChanged(0.0)
        link.cut = None
        await waits
        assert book.run.walk(1) == [(1, INTENT)]
        await asyncio.sleep(1.5)
        assert lease.may_send()
        assert heard[-1] == ShareChanged(100.0)
        await lease.end(9, None)

    play(script)


def test_a_stuck_writer_sends_no_beat_so_its_pages_come_free():
    async def script(book, lease, link, _):
        claimed = await lease.claim(lambda: None)
        link.stuck = True
        lease.record([Note(1, [(1, SEEN)])])
        await asyncio.sleep(OVER)
        assert not lease.may_send()
        other = book.begin()
        book.beat(other)
        assert book.claim(other).first == claimed.first

    play(script)


def test_a_lost_lease_sends_nothing_and_keeps_what_it_hears_as_facts():
    async def script(book, lease, link, heard):
        await lease.claim(lambda: None)
        await lease.intend([Note(1, [(1, INTENT)], LOST)])
        link.cut = "before"
        lease.record([Note(1, [(1, ANSWERED)], ERASED)])
        waits = asyncio.create_task(lease.intend([Note(2, [(1, INTENT)], LOST)]))
        await asyncio.sleep(20.0)
        other = book.begin()
        book.beat(other)
        await asyncio.sleep(24.9)
        book.beat(other)
        assert book.claim(other).first == 3  # the first page is not free yet: the drain began when the lease was over
        await asyncio.sleep(1.0)
        assert book.claim(other, 3).first == 1
        link.cut = None
        with pytest.raises(FencedError):
            await waits
        assert heard[-1] == LeaseLost()
        assert not lease.may_send()
        for step in (lease.intend([]), lease.claim(lambda: None)):
            with pytest.raises(FencedError):
                await step
        await lease.end(9, StopReason.JOURNAL_FAILED)
        assert book.run.walk(1) == [(1, ANSWERED)]
        assert (book.state(1), book.state(2)) == (LOST, None)
        assert book.run.executions[0].ended_at is None

    play(script)


def test_anyone_who_hands_in_an_intent_while_a_batch_is_being_refused_hears_of_it_too():
    async def script(book, lease, link, _):
        await lease.claim(lambda: None)
        link.cut = "before"
        first = asyncio.create_task(lease.intend([Note(1, [(1, INTENT)], LOST)]))
        await asyncio.sleep(OVER + 1.0)
        other = book.begin()
        book.beat(other)
        assert book.claim(other).first == 1
        second = asyncio.create_task(lease.intend([Note(2, [(1, INTENT)], LOST)]))
        await asyncio.sleep(0.0)
        link.cut = None
        for waits in (first, second):
            with pytest.raises(FencedError):
                await waits
        await lease.end(9, None)

    play(script)


def test_a_claim_waits_for_others_and_takes_over_from_anyone_who_is_gone():
    async def script(book, lease, _, __):
        other = book.begin()
        book.beat(other)
        for at in (0, 1, 3):
            book.claim(other, *range(1, at + 1))
        waited = []
        claimed = await lease.claim(lambda: waited.append(asyncio.get_running_loop().time()))
        assert claimed.first == 1
        assert 45.0 <= asyncio.get_running_loop().time() <= 47.0
        assert len(waited) > 40
        await lease.end(9, None)

    play(script)


def test_signals_of_others_are_told_once():
    async def script(book, lease, _, heard):
        other = book.begin()
        book.beat(other, LeaseTally(failures=1, pause=5.0))
        await asyncio.sleep(2.5)
        book.beat(other, LeaseTally(failures=1, stop=StopReason.CREDENTIALS_REFUSED))
        await asyncio.sleep(2.5)
        assert heard.count(CountedElsewhere(1, 0, has_seen=False)) == 1
        assert heard.count(RunStopped(StopReason.CREDENTIALS_REFUSED)) == 1
        assert any(isinstance(signal, AskedToPause) for signal in heard)
        assert await lease.claim(lambda: None) is None
        await lease.end(9, None)

    play(script)


def test_a_journal_that_can_not_be_written_for_good_fails_everything():
    async def script(_, lease, link, __):
        async def refuse(_):
            raise JournalError("The disk is full.")

        link.commit = refuse
        with pytest.raises(JournalError, match="full"):
            await lease.intend([Note(1, [(1, INTENT)], LOST)])
        with pytest.raises(JournalError, match="full"):
            await lease.end(9, None)

    play(script)


def test_where_nobody_waits_for_what_can_not_be_written_for_good_it_is_told_all_the_same_and_tried_no_more():
    async def script(_, lease, link, heard):
        await asyncio.sleep(0.5)

        async def fail(batch):
            link.batches.append(batch)
            raise JournalError("The journal could not be written: its disk is full.")

        link.commit = fail
        lease.record([Note(1, (), ERASED)])
        await asyncio.sleep(1.0)
        assert RunStopped(StopReason.JOURNAL_FAILED, "The journal could not be written: its disk is full.") in heard
        tried = len(link.batches)
        await asyncio.sleep(30.0)
        assert len(link.batches) == tried
        with pytest.raises(JournalError, match="its disk is full"):
            await lease.end(9, StopReason.JOURNAL_FAILED)

    play(script)


def test_the_end_is_given_up_when_the_store_is_out_of_reach_for_longer_than_it_takes_others_to_take_over():
    async def script(_, lease, link, __):
        await asyncio.sleep(0.1)
        link.cut = "before"
        with pytest.raises(JournalError, match="can't be reached"):
            await lease.end(9, None)
        assert asyncio.get_running_loop().time() == pytest.approx(45.1, abs=1.0)

    play(script)


def test_a_bug_of_the_writer_leaves_nobody_waiting():
    async def script(_, lease, link, __):
        async def broken(_):
            raise ZeroDivisionError

        link.commit = broken
        with pytest.raises(JournalError):
            await lease.intend([Note(1, [(1, INTENT)], LOST)])
        with pytest.raises(ZeroDivisionError):
            await lease.end(9, None)

    play(script)
