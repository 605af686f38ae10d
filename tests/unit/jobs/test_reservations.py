"""Every way a coupon's walk can go, answer by answer: what is sent, and what is said of each pair."""

import asyncio
import json
import random
from collections import Counter, defaultdict

import httpx2
import pytest

from privacy_toolkit.core.model import Outcome, Purpose, Reason, Sequencing
from privacy_toolkit.engine.context import ExecutionContext
from privacy_toolkit.engine.job import Context
from privacy_toolkit.engine.limits import Limits, Places, Stop, Watch
from privacy_toolkit.engine.runner import Runner
from privacy_toolkit.http.exchange import Line, Mark, Pacer
from privacy_toolkit.inputs.pairs import coupon_of, given_of
from privacy_toolkit.jobs import coupons as reserving
from privacy_toolkit.jobs.coupons import ACT_TRIES, ADDING, TAKING_AWAY, Reservations, adding
from privacy_toolkit.journal.lease import SoleLease
from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.reader import create_run
from privacy_toolkit.talonone.addresses import Credentials
from privacy_toolkit.talonone.client import Client
from privacy_toolkit.talonone.responses import Answer, Finding
from tests.support.answers import coupon, profile, refusal

CREATED = httpx2.Response(201, json=coupon("CODE"))
GONE = httpx2.Response(204)
ABSENT = refusal(404)
BAD = refusal(400)
LIMITED = refusal(429)
REJECTED = refusal(503, "later")
E500 = httpx2.Response(500)
KEY = refusal(401)
LOST = httpx2.ReadTimeout("")
NOT_SENT = httpx2.ConnectError("")


def has(*customers, total=None):
    """The list of holders."""
    profiles = [profile(one, {"Name": "x"}) for one in customers]
    return httpx2.Response(200, json={"totalResultSize": len(profiles) if total is None else total, "data": profiles})


def told(request, content):
    """The method, and for whom."""
    return request.method[0] + (",".join(json.loads(content)["integrationIDs"]) if content else "")


@pytest.fixture
def walk(state, script, sit):
    """One execution of a run; what was asked, and where each pair stands by its customer."""

    def run(
        *answers,
        customers="abc",
        budget=None,
        direction=ADDING,
        resume=False,
        settle=0,
        stop_after=None,
        suppressed="",
        **given,
    ):
        if not resume:
            rows = [(n + 2, one, given_of("CODE", budget)) for n, one in enumerate(customers)]
            staged = Staged(plan=b"{}", created_at=1, pages=[rows], party=lambda _, given: coupon_of(given))
            create_run(state.runs / "run", staged)
        asked = script(answers, told)
        sit(
            lambda _: Reservations(direction, settle),
            asked,
            sequencing=Sequencing.TOGETHER,
            stop_after=stop_after,
            suppressed=lambda one: one in suppressed,
            **given,
        )
        with state.open("run") as journal:
            return asked.asked, {entry.subject.id: entry for entry in journal.entries()}

    return run


def stands(entries):
    """Outcome, and why, of each."""
    return {
        one: f"{entry.state.outcome} {entry.state.reason or entry.state.hold_reason or ''}".strip()
        for one, entry in entries.items()
    }


def attributions(entries):
    return {one: str(entry.state.attribution) for one, entry in entries.items() if entry.state.attribution}


def test_one_read_one_request_one_read(walk):
    asked, entries = walk(has("z"), CREATED, has("a", "b", "c", "z"))
    assert asked == ["G", "Pa,b,c", "G"]
    assert stands(entries) == dict.fromkeys("abc", "done")
    assert attributions(entries) == dict.fromkeys("abc", "confirmed")
    purposes = [(record.purpose, record.carrier) for record in entries["b"].exchanges]
    assert purposes == [(Purpose.READ_BEFORE, 1), (Purpose.ACT, 1), (Purpose.READ_AFTER, 1)]
    assert [record.carrier for record in entries["a"].exchanges] == [None] * 3


def test_in_a_restored_state_nobody_says_of_who_has_it_already_that_nothing_was_sent(walk):
    direction = adding(Context({}, "all", 1, b"", 0.0, restored=True)).direction
    asked, entries = walk(has("a", "b", "c"), direction=direction)
    assert (asked, stands(entries)) == (["G"], dict.fromkeys("abc", "done state_restored"))


def test_who_has_it_already_is_not_sent_for(walk):
    asked, entries = walk(has("b"), CREATED, has("a", "b", "c"))
    assert asked == ["G", "Pa,c", "G"]
    assert stands(entries) == {"a": "done", "b": "done already_reserved", "c": "done"}
    assert entries["b"].state.attempts == 0
    assert len(entries["b"].exchanges) == 1


def test_nothing_is_sent_where_all_have_it(walk):
    asked, entries = walk(has("a", "b", "c"))
    assert (asked, stands(entries)) == (["G"], dict.fromkeys("abc", "done already_reserved"))


@pytest.mark.parametrize("direction", [ADDING, TAKING_AWAY])
def test_a_coupon_that_does_not_exist_fails_for_all(walk, direction):
    asked, entries = walk(ABSENT, ABSENT, direction=direction)
    assert (asked, stands(entries)) == (["G", "G"], dict.fromkeys("abc", "failed not_found"))


@pytest.mark.parametrize(
    ("answers", "stand"),
    [
        ([E500] * 5, "retryable server_error"),
        ([E500, LOST, NOT_SENT, LIMITED, has("a", "b", "c")], "done already_reserved"),
        ([BAD], "retryable bad_request"),
        ([KEY], "pending"),
        # a list that is shorter than it says proves nobody's absence
        ([has("a", total=7)] * 5, "retryable foreign_answer"),
    ],
)
def test_without_the_list_nothing_is_sent(walk, answers, stand):
    asked, entries = walk(*answers)
    assert set(asked) == {"G"}
    assert set(stands(entries).values()) == {stand}


def test_refused_for_now_is_sent_again_and_given_up_after_some_tries(walk):
    asked, entries = walk(has(), LIMITED, REJECTED, NOT_SENT, CREATED, has("a", "b", "c"))
    assert asked == ["G", *["Pa,b,c"] * 4, "G"]
    assert stands(entries) == dict.fromkeys("abc", "done")
    assert entries["a"].state.attempts == 3


def test_refused_for_now_again_and_again_is_left_for_later(walk):
    asked, entries = walk(has(), *[LIMITED] * ACT_TRIES)
    assert asked == ["G", *["Pa,b,c"] * ACT_TRIES]
    assert stands(entries) == dict.fromkeys("abc", "retryable rate_limited")
    asked, entries = walk(has("b"), CREATED, has("a", "b", "c"), resume=True)
    assert asked == ["G", "Pa,c", "G"]
    assert stands(entries) == {"a": "done", "b": "done already_reserved", "c": "done"}


@pytest.mark.parametrize("lost", [LOST, E500, httpx2.Response(200, html="<p>proxy"), httpx2.Response(302)])
def test_after_a_lost_answer_the_list_is_read_before_anything_is_sent(walk, lost):
    asked, entries = walk(has(), lost, has("a", "c"), CREATED, has("a", "b", "c"))
    assert asked == ["G", "Pa,b,c", "G", "Pb", "G"]
    assert stands(entries) == dict.fromkeys("abc", "done")
    assert attributions(entries) == {"a": "inferred", "b": "confirmed", "c": "inferred"}


def test_lost_again_and_again_is_looked_up_each_time_and_stays_unknown(walk):
    asked, entries = walk(has(), *[LOST, has()] * ACT_TRIES)
    assert asked == ["G", *["Pa,b,c", "G"] * ACT_TRIES]
    assert stands(entries) == dict.fromkeys("abc", "unknown read_timeout")
    asked, entries = walk(has("a"), CREATED, has("a", "b", "c"), resume=True)
    assert asked == ["G", "Pb,c", "G"]
    assert attributions(entries) == {"a": "inferred", "b": "confirmed", "c": "confirmed"}


def test_a_lost_answer_that_can_not_be_looked_up_stays_unknown_and_nothing_is_sent(walk):
    asked, entries = walk(has(), LOST, *[E500] * 5)
    assert asked == ["G", "Pa,b,c", *["G"] * 5]
    assert stands(entries) == dict.fromkeys("abc", "unknown read_timeout")
    asked, entries = walk(*[E500] * 5, resume=True)
    assert asked == ["G"] * 5
    assert stands(entries) == dict.fromkeys("abc", "unknown read_timeout")
    asked, entries = walk(
        ABSENT, ABSENT, resume=True
    )  # that the coupon is gone does not say that it was never reserved
    assert stands(entries) == dict.fromkeys("abc", "unknown read_timeout")
    asked, entries = walk(has("a", "b", "c"), resume=True)
    assert (asked, set(attributions(entries).values())) == (["G"], {"inferred"})
    assert [record.purpose for record in entries["a"].exchanges[-1:]] == [Purpose.RECONCILE]


@pytest.mark.parametrize(("refusal", "reason"), [(ABSENT, "not_found"), (BAD, "bad_request")])
def test_one_who_is_refused_for_good_does_not_keep_it_from_the_others(walk, refusal, reason):
    asked, entries = walk(has(), refusal, CREATED, refusal, refusal, CREATED, has("a", "b", "d"), customers="abcd")
    assert asked == ["G", "Pa,b,c,d", "Pa,b", "Pc,d", "Pc", "Pd", "G"]
    assert stands(entries) == {"a": "done", "b": "done", "c": f"failed {reason}", "d": "done"}


def test_all_refused_for_good_are_failed_without_another_read(walk):
    asked, entries = walk(has(), BAD, BAD, BAD, customers="ab")
    assert asked == ["G", "Pa,b", "Pa", "Pb"]
    assert stands(entries) == dict.fromkeys("ab", "failed bad_request")


@pytest.mark.parametrize(("seen", "stand"), [(has(), "failed not_found"), (has("a"), "done")])
def test_refused_for_good_after_a_lost_answer_the_list_decides(walk, seen, stand):
    asked, entries = walk(has(), LOST, has(), ABSENT, seen, customers="a")
    assert asked == ["G", "Pa", "G", "Pa", "G"]
    assert stands(entries) == {"a": stand}


def test_refused_for_good_after_a_lost_answer_without_a_list_stays_unknown(walk):
    _, entries = walk(has(), LOST, has(), ABSENT, *[E500] * 5, customers="a")
    assert stands(entries) == {"a": "unknown not_found"}


def test_accepted_and_not_seen_is_not_done(walk):
    asked, entries = walk(has(), CREATED, has("a"))
    assert stands(entries) == {
        "a": "done",
        "b": "unverified not_among_holders",
        "c": "unverified not_among_holders",
    }
    # the next execution looks first, and sends only for those who are still missing
    asked, entries = walk(has("a", "b"), CREATED, has("a", "b", "c"), resume=True)
    assert asked == ["G", "Pc", "G"]
    assert stands(entries) == dict.fromkeys("abc", "done")


def test_accepted_and_not_read_afterwards_is_looked_for_and_not_sent_again(walk):
    asked, entries = walk(has(), CREATED, *[E500] * 5)
    assert stands(entries) == dict.fromkeys("abc", "unverified read_failed_afterwards")
    asked, entries = walk(has("a"), resume=True)
    assert asked == ["G"]
    assert stands(entries) == {
        "a": "done",
        "b": "unverified not_among_holders",
        "c": "unverified not_among_holders",
    }
    assert entries["a"].exchanges[-1].purpose is Purpose.READ_AFTER


def test_what_does_not_show_at_once_is_given_time(walk):
    asked, entries = walk(has(), CREATED, has(), has("a"), customers="a", settle=0.001)
    assert (asked, stands(entries)) == (["G", "Pa", "G", "G"], {"a": "done"})


def test_a_resend_that_is_refused_leaves_what_was_accepted_unverified(walk):
    walk(has(), CREATED, has(), customers="a")
    _, entries = walk(has(), BAD, has(), customers="a", resume=True)
    assert stands(entries) == {"a": "unverified not_among_holders"}


def test_credentials_that_are_refused_leave_what_is_certain(walk):
    asked, entries = walk(has(), KEY)
    assert (asked, stands(entries)) == (["G", "Pa,b,c"], dict.fromkeys("abc", "retryable credentials_refused"))


def test_after_an_accepted_request_a_stop_still_reads(walk):
    asked, entries = walk(has(), CREATED, has("a", "b", "c"), stop_after=2)
    assert (asked, stands(entries)) == (["G", "Pa,b,c", "G"], dict.fromkeys("abc", "done"))


def test_a_stop_before_the_request_leaves_all_as_it_was(walk):
    asked, entries = walk(has("b"), stop_after=1)
    assert (asked, stands(entries)) == (["G"], {"a": "pending", "b": "done already_reserved", "c": "pending"})


def test_more_than_the_api_takes_at_once_goes_in_several_requests(walk, monkeypatch):
    monkeypatch.setattr(reserving, "MOST_RESERVATIONS", 2)
    asked, entries = walk(has(), CREATED, LOST, has("a", "b", "c"), CREATED, CREATED, has(*"abcde"), customers="abcde")
    assert asked == ["G", "Pa,b", "Pc,d", "G", "Pd", "Pe", "G"]
    assert stands(entries) == dict.fromkeys("abcde", "done")
    assert attributions(entries)["c"] == "inferred"


def test_a_stop_between_two_requests_leaves_the_second_unsent(walk, monkeypatch):
    monkeypatch.setattr(reserving, "MOST_RESERVATIONS", 2)
    asked, entries = walk(has(), CREATED, has(*"ab"), customers="abcd", stop_after=2)
    assert asked == ["G", "Pa,b", "G"]
    assert stands(entries) == {"a": "done", "b": "done", "c": "pending", "d": "pending"}


def test_no_coupon_goes_over_its_budget(walk):
    asked, entries = walk(has("y", "z", "b"), CREATED, has(*"abyz"), customers="abcd", budget=4)
    assert asked == ["G", "Pa", "G"]
    assert stands(entries) == {
        "a": "done",
        "b": "done already_reserved",
        "c": "on_hold over_budget",
        "d": "on_hold over_budget",
    }


@pytest.mark.parametrize(("holders", "budget"), [(has("y", "z"), 2), (has("x", "y", "z"), 2), (has(), 0)])
def test_without_room_nothing_is_sent(walk, holders, budget):
    asked, entries = walk(holders, budget=budget)
    assert (asked, stands(entries)) == (["G"], dict.fromkeys("abc", "on_hold over_budget"))


def test_who_may_have_it_keeps_the_room(walk):
    walk(has(), LOST, *[E500] * 5, customers="abc", budget=2)  # c is over; a and b may have it
    asked, entries = walk(has("z"), CREATED, has("z", "a"), resume=True)
    assert asked == ["G", "Pa", "G"]  # somebody else took one of the two
    assert stands(entries) == {"a": "done", "b": "on_hold over_budget", "c": "on_hold over_budget"}


@pytest.mark.parametrize(
    ("given", "stand"), [({"budget": 1}, "on_hold over_budget"), ({"suppressed": "a"}, "on_hold suppressed")]
)
def test_who_may_have_it_is_left_out_only_once_that_can_not_come_any_more(walk, given, stand):
    """Somebody else took the last one, or the customer was erased: what was sent may be carried out all the same."""
    moments = {"wall": lambda: 10**15, "grace": 60.0}
    walk(has(), LOST, *[E500] * 5, customers="a", budget=given.get("budget"), **moments)
    asked, entries = walk(has("z"), customers="a", resume=True, **given, **moments)
    assert (asked, stands(entries)) == (["G"], {"a": "unknown read_timeout"})
    later = {"wall": lambda: 10**15 + 61 * 10**6, "grace": 60.0}
    asked, entries = walk(has("z"), customers="a", resume=True, **given, **later)
    assert (asked, stands(entries)) == (["G"], {"a": stand})


def test_who_is_refused_after_a_lost_request_has_failed_only_once_that_can_not_come_any_more(walk):
    """The list may come from a cache, and what was lost may be carried out yet."""
    moments = {"wall": lambda: 10**15, "grace": 60.0}
    _, entries = walk(has(), LOST, has(), ABSENT, has(), customers="a", **moments)
    assert stands(entries) == {"a": "unknown not_found"}
    later = {"wall": lambda: 10**15 + 61 * 10**6, "grace": 60.0}
    _, entries = walk(has(), ABSENT, has(), customers="a", resume=True, **later)
    assert stands(entries) == {"a": "failed not_found"}


def test_who_is_seen_to_have_it_while_others_are_looked_for_is_done(walk):
    """A busy refusal, though it was carried out; then one of several is refused, and its look shows them all."""
    answers = [has(), LOST, has(), ABSENT, LOST, has(*"ab")]
    asked, entries = walk(*answers, customers="abc", budget=2)
    assert asked == ["G", "Pa,b", "G", "Pa,b", "Pa", "G"]
    assert stands(entries) == {"a": "done", "b": "done", "c": "on_hold over_budget"}
    assert attributions(entries) == dict.fromkeys("ab", "inferred")


def test_accepted_and_unseen_keeps_its_room(walk, monkeypatch):
    monkeypatch.setattr(reserving, "MOST_RESERVATIONS", 1)
    asked, entries = walk(has(), CREATED, LOST, has("b"), has("b"), customers="abc", budget=2)
    assert asked == ["G", "Pa", "Pb", "G", "G"]
    assert stands(entries) == {"a": "unverified not_among_holders", "b": "done", "c": "on_hold over_budget"}


def test_the_room_of_one_who_is_refused_goes_to_the_next(walk, monkeypatch):
    monkeypatch.setattr(reserving, "MOST_RESERVATIONS", 1)
    asked, entries = walk(has(), BAD, CREATED, has("b"), customers="abc", budget=1)
    assert asked == ["G", "Pa", "Pb", "G"]
    assert stands(entries) == {"a": "failed bad_request", "b": "done", "c": "on_hold over_budget"}


def test_while_it_is_in_doubt_who_has_it_nothing_more_is_begun_for_a_coupon_with_a_budget(walk, monkeypatch):
    monkeypatch.setattr("privacy_toolkit.engine.runner.MOST_TOGETHER", 2)
    asked, entries = walk(has(), LOST, *[E500] * 5, customers="abcd", budget=3)
    assert asked == ["G", "Pa,b", *["G"] * 5]
    assert stands(entries) == {**dict.fromkeys("ab", "unknown read_timeout"), "c": "pending", "d": "pending"}
    # what is in doubt comes first, then the others
    asked, entries = walk(has("b"), CREATED, has(*"ab"), has(*"ab"), CREATED, has(*"abc"), resume=True)
    assert asked == ["G", "Pa", "G", "G", "Pc", "G"]
    assert stands(entries) == {**dict.fromkeys("abc", "done"), "d": "on_hold over_budget"}


def test_an_erased_customer_gets_none_and_keeps_what_they_have(walk):
    asked, entries = walk(has("b"), CREATED, has("b", "c"), suppressed="ab")
    assert asked == ["G", "Pc", "G"]
    assert stands(entries) == {"a": "on_hold suppressed", "b": "done already_reserved", "c": "done"}


RELEASES = [
    ([has(*"abcz"), GONE, has("z")], ["G", "Da,b,c", "G"], dict.fromkeys("abc", "done")),
    # that there is nothing to release is read twice, on two connections
    (
        [has("b"), has("b"), GONE, has()],
        ["G", "G", "Db", "G"],
        {"a": "done not_reserved", "b": "done", "c": "done not_reserved"},
    ),
    ([has(), has()], ["G", "G"], dict.fromkeys("abc", "done not_reserved")),
    ([has(), has("a"), GONE, has()], ["G", "G", "Da", "G"], {"a": "done", "b": "done not_reserved"}),
    ([has("a"), has("b"), GONE, has()], ["G", "G", "Da,b", "G"], {"a": "done", "b": "done", "c": "done not_reserved"}),
    # who may be there in another spelling is released, and then has to be absent as it was asked for
    ([has("A"), has("A"), GONE, has()], ["G", "G", "Da", "G"], {"a": "done", "b": "done not_reserved"}),
    ([has("A"), has("A"), GONE, has("A")], ["G", "G", "Da", "G"], {"a": "done", "b": "done not_reserved"}),
    ([has("%61 "), has(), GONE, has()], ["G", "G", "Da", "G"], {"a": "done", "b": "done not_reserved"}),
    ([has(), ABSENT], ["G", "G"], dict.fromkeys("abc", "pending route_unproven")),
    ([has(), *[E500] * 5], ["G"] * 6, dict.fromkeys("abc", "retryable server_error")),
    ([has("a"), has("a"), GONE, has("a")], ["G", "G", "Da", "G"], {"a": "unverified still_among_holders"}),
    ([has(*"abc"), LOST, has("c"), GONE, has()], ["G", "Da,b,c", "G", "Dc", "G"], dict.fromkeys("abc", "done")),
    ([has("a"), has("a"), LOST, ABSENT, ABSENT], ["G", "G", "Da", "G", "G"], {"a": "unknown read_timeout"}),
]


@pytest.mark.parametrize(("answers", "asked", "stand"), RELEASES)
def test_a_release_is_the_same_the_other_way_round(walk, answers, asked, stand):
    sent, entries = walk(*answers, direction=TAKING_AWAY, budget=1, suppressed="abc")
    assert sent == asked
    assert stands(entries).items() >= stand.items()


def test_the_coupon_and_the_customers_are_claimed_under_different_names(walk, state):
    walk(has(*"ab"), customers="ab")
    with state.open("run") as journal:
        (parties,) = list(journal.parties(frozenset(Outcome), 10))
        keys = Reservations(ADDING, 0).keys(parties[0])
    assert set(keys) == {"coupon\0CODE", "customer\0a", "customer\0b"}


class Desk(httpx2.AsyncBaseTransport):
    """A server that takes its time, and notes who is in two requests at once, and how many requests there are."""

    def __init__(self):
        self.holders = defaultdict(set)
        self.under_way = Counter()
        self.requests = self.most = 0
        self.twice = set()

    async def handle_async_request(self, request):
        content = b"".join([part async for part in request.stream])
        coupon = request.url.raw_path.decode().rpartition("/")[2]
        customers = json.loads(content)["integrationIDs"] if content else []
        names = [coupon, *customers]
        self.under_way.update(names)
        self.requests += 1
        self.most = max(self.most, self.requests)
        self.twice.update(name for name in names if self.under_way[name] > 1)
        for _ in range(200):  # turns of the loop, more than it takes to hand out the next walk
            await asyncio.sleep(0)
        self.under_way.subtract(names)
        self.requests -= 1
        self.holders[coupon].update(customers)
        return CREATED if customers else has(*self.holders[coupon])


def test_one_customer_is_never_in_two_requests_at_once_and_no_coupon_either(state, monkeypatch):
    monkeypatch.setattr("privacy_toolkit.engine.runner.MOST_TOGETHER", 7)
    rng = random.Random(3)
    rows = [(f"K{k}", one) for k in range(30) for one in rng.sample([f"c{n}" for n in range(400)], 10)]
    rng.shuffle(rows)
    pages = [[(n, one, code) for n, (code, one) in enumerate(rows, 2)]]
    create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=pages, party=lambda _, given: given))
    desk = Desk()

    async def work(journal):
        stop = Stop()
        async with Client("http://127.0.0.1:1", Credentials(api_key="k"), transport=desk) as client:
            tools = ExecutionContext(
                journal=journal,
                lease=SoleLease(journal, 1),
                client=client,
                pacer=Pacer(None),
                watch=Watch(Limits()),
                stop=stop,
                places=Places(16, stop),
                emit=lambda _: None,
            )
            return await Runner(Reservations(ADDING, 0), tools, Sequencing.TOGETHER).run()

    with state.open("run") as journal:
        number = journal.begin_execution(1, "{}")
        journal.end_execution(number, 2, asyncio.run(work(journal)))
        assert journal.totals() == {Outcome.DONE: 300}
    assert {(code, one) for code, customers in desk.holders.items() for one in customers} == set(rows)
    assert desk.most > 1
    assert desk.twice == set()


def test_a_refusal_counts_once_its_connection_vouches_for_it_and_leaves_the_pair_unknown_until_then():
    line = Line()
    line.answered = 1
    answer = Answer(Finding.ABSENT, Reason.NOT_FOUND, 404, mark=Mark(line, 1))
    assert ADDING.follows(Outcome.PENDING, answer, alone=True) == (Outcome.UNKNOWN, Reason.NOT_FOUND)
    line.prove(1)
    assert ADDING.follows(Outcome.PENDING, answer, alone=True) == (Outcome.FAILED, Reason.NOT_FOUND)
