"""Ledgers for an access package, answer by answer: what is handed over, what is said to be missing."""

import json

import httpx2
import pytest

from privacy_toolkit.core.model import Outcome, Reason
from privacy_toolkit.jobs import export
from privacy_toolkit.jobs.export import Export
from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.reader import create_run
from tests.support.answers import inventory, refusal

HELD = inventory("someone")
ABSENT, BAD, KEY, E500 = refusal(404), refusal(400), refusal(401), httpx2.Response(500)
HTML = httpx2.Response(200, html="<h1>proxy</h1>")


def page(*names, more=False, program=33):
    data = [{"transactionUUID": name, "programId": program, "amount": 1} for name in names]
    return httpx2.Response(200, json={"hasMore": more, "data": data})


def balances(points=5):
    return httpx2.Response(200, json={"balance": {"activePoints": points}})


TOLD = [balances(), balances()]
OTHERS = page("a", program=34)
HUGE = httpx2.Response(200, content=b'{"hasMore":false,"data":[{"transactionUUID":"a","programId":33,"amount":1e999}]}')


@pytest.fixture
def handed(state, script, sit):
    """Makes one execution of a run with one subject; what was asked, where the subject stands, what was handed over."""

    def run(*answers, programs=(33,)):
        create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[[(2, "someone")]]))
        told, given = script(answers, lambda request, _: request.url.raw_path.decode().rsplit("/", 1)[1]), []

        def deliver(*arguments):
            given.append(arguments[4].ledgers if len(arguments) > 4 else None)
            return b"{}"

        sit(lambda _: Export(deliver, programs), told)
        with state.open("run") as journal:
            (known,) = journal.entries()
        return told.asked, known.state, given

    return run


def names_in(ledger):
    return [entry["transactionUUID"] for body in ledger.pages for entry in json.loads(body)["data"]]


def test_all_pages_are_read_twice_and_handed_over(handed):
    pages = [page("a", "b", more=True), page("c")]
    asked, state, ((ledger,),) = handed(HELD, *pages, *pages, *TOLD)
    assert state.outcome is Outcome.DONE
    assert (ledger.program, ledger.read, names_in(ledger)) == (33, "complete", ["a", "b", "c"])
    assert [one.partition("?")[2] for one in asked[1:5]] == ["pageSize=1000&skip=0", "pageSize=1000&skip=2"] * 2


def test_a_deployment_with_smaller_pages_than_asked_for_loses_nothing(handed):
    parts = [page("a", "b", more=True), page("c", "d", more=True), page("e")]
    asked, state, ((ledger,),) = handed(HELD, *parts, *parts, *TOLD)
    assert (state.outcome, ledger.read, names_in(ledger)) == (Outcome.DONE, "complete", list("abcde"))
    assert [one.rpartition("=")[2] for one in asked[1:7]] == ["0", "2", "4"] * 2


def test_an_empty_ledger_is_complete(handed):
    _, state, ((ledger,),) = handed(HELD, page(), page(), *TOLD)
    assert (state.outcome, ledger.read, names_in(ledger)) == (Outcome.DONE, "complete", [])


def test_what_comes_differently_is_read_once_more(handed):
    _, state, ((ledger,),) = handed(HELD, page("x"), page("a"), page("a"), balances(7), *TOLD)
    assert (state.outcome, names_in(ledger), ledger.balances) == (Outcome.DONE, ["a"], TOLD[0].content)


def test_what_never_comes_alike_is_handed_to_nobody(handed):
    _, state, given = handed(HELD, *(page(f"x{number}") for number in range(4)))
    assert (state.outcome, state.reason, given) == (Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, [])


def test_a_list_that_never_ends_is_cut_off_and_said_to_be(handed):
    again = [page("a", more=True), page("a", more=True)]
    _, state, ((ledger,),) = handed(HELD, *again, *again, *TOLD)
    assert (state.outcome, ledger.read, set(names_in(ledger))) == (Outcome.DONE, "cut_off", {"a"})


def test_a_list_that_always_has_more_is_cut_off_at_the_most(handed, monkeypatch):
    monkeypatch.setattr(export, "MOST_PAGES", 3)
    once = [page(f"a{number}", more=True) for number in range(3)]
    _, state, ((ledger,),) = handed(HELD, *once, *once, *TOLD)
    assert (state.outcome, ledger.read, len(names_in(ledger))) == (Outcome.DONE, "cut_off", 3)


@pytest.mark.parametrize("refusals", [[ABSENT] * 3, [BAD]], ids=["unknown program", "refused"])
def test_what_is_refused_is_said_to_be_and_the_rest_is_handed_over(handed, refusals):
    _, state, ((ledger,),) = handed(HELD, *refusals)
    assert (state.outcome, ledger) == (Outcome.DONE, export.LedgerRead(33, "refused"))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (OTHERS, Reason.ANSWER_ABOUT_ANOTHER),
        (HTML, Reason.FOREIGN_ANSWER),
        (HUGE, Reason.FOREIGN_ANSWER),
        (page(more=True), Reason.FOREIGN_ANSWER),
        (E500, Reason.SERVER_ERROR),
    ],
    ids=["another program", "a page of a proxy", "a number too large", "more, and nothing of it", "an error"],
)
def test_what_is_no_answer_about_this_ledger_makes_no_package(handed, wrong, reason):
    _, state, given = handed(HELD, *[wrong] * 5)
    assert (state.outcome, state.reason, given) == (Outcome.RETRYABLE, reason, [])


def test_a_refused_key_makes_no_package(handed):
    _, state, given = handed(HELD, KEY)
    assert (state.outcome, given) == (Outcome.PENDING, [])


def test_without_programs_no_ledger_is_read(handed):
    asked, state, given = handed(HELD, programs=())
    assert (len(asked), state.outcome, given) == (1, Outcome.DONE, [None])
