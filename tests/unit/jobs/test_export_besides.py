"""What an access package holds next to the inventory, answer by answer: handed over, or said to be missing."""

import json

import httpx2
import pytest

from privacy_toolkit.core.model import Outcome, Reason
from privacy_toolkit.jobs import export
from privacy_toolkit.jobs.export import Export
from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.reader import create_run
from privacy_toolkit.talonone.inventory import CardRead, ListRead
from tests.support.answers import inventory, refusal

HELD = inventory("someone")
ABSENT, BAD, KEY, E500 = refusal(404), refusal(400), refusal(401), httpx2.Response(500)
HTML = httpx2.Response(200, html="<h1>proxy</h1>")
HUGE = httpx2.Response(200, content=b'{"totalResultSize":1,"data":[{"id":1,"target":1e999}]}')


def page(*ids, total=None, progress=4):
    data = [{"id": one, "currentProgress": {"status": "inprogress", "progress": progress}} for one in ids]
    return httpx2.Response(200, json={"totalResultSize": len(ids) if total is None else total, "data": data})


@pytest.fixture
def handed(state, script, sit):
    """Makes one execution of a run with one subject; what was asked, where the subject stands, what was handed over."""

    def run(*answers, **asked_for):
        create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[[(2, "someone")]]))
        told, given = script(answers, lambda request, _: request.url.raw_path.decode().rsplit("/", 1)[1]), []

        def deliver(*arguments):
            given.append(arguments[4] if len(arguments) > 4 else None)
            return b"{}"

        sit(lambda _: Export(deliver, **asked_for), told)
        with state.open("run") as journal:
            (known,) = journal.entries()
        return told.asked, known.state, given

    return run


@pytest.fixture
def achieved(handed):
    return lambda *answers: handed(HELD, *answers, achievements=True)


def ids_in(listed):
    return [entry["id"] for body in listed.pages for entry in json.loads(body)["data"]]


def test_all_pages_of_achievements_are_read_twice_and_handed_over(achieved):
    pages = [page(1, 2, total=3), page(3, total=3)]
    asked, state, (besides,) = achieved(*pages, *pages)
    assert (state.outcome, besides.ledgers) == (Outcome.DONE, None)
    assert (besides.achievements.read, ids_in(besides.achievements)) == ("complete", [1, 2, 3])
    assert asked[1:] == ["achievements?pageSize=1000&skip=0", "achievements?pageSize=1000&skip=2"] * 2


def test_an_empty_list_is_complete(achieved):
    _, state, (besides,) = achieved(page(), page())
    assert (state.outcome, besides.achievements.read, ids_in(besides.achievements)) == (Outcome.DONE, "complete", [])


def test_the_same_achievements_with_the_progress_of_somebody_else_are_not_the_same(achieved):
    _, state, (besides,) = achieved(page(1, progress=9), page(1), page(1))
    assert (state.outcome, besides.achievements.pages) == (Outcome.DONE, (page(1).content,))


def test_what_never_comes_alike_is_handed_to_nobody(achieved):
    _, state, given = achieved(*(page(1, progress=number) for number in range(4)))
    assert (state.outcome, state.reason, given) == (Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, [])


def test_a_list_that_brings_nothing_new_is_cut_off_and_said_to_be(achieved):
    again = [page(1, total=5)] * 2
    _, state, (besides,) = achieved(*again, *again)
    assert (state.outcome, besides.achievements.read, set(ids_in(besides.achievements))) == (
        Outcome.DONE,
        "cut_off",
        {1},
    )


def test_a_list_that_always_has_more_is_cut_off_at_the_most(achieved, monkeypatch):
    monkeypatch.setattr(export, "MOST_PAGES", 3)
    once = [page(number, total=99) for number in range(3)]
    _, state, (besides,) = achieved(*once, *once)
    assert (state.outcome, besides.achievements.read) == (Outcome.DONE, "cut_off")


@pytest.mark.parametrize("refusals", [[ABSENT] * 3, [BAD]], ids=["not found", "refused"])
def test_what_is_refused_is_said_to_be(achieved, refusals):
    _, state, (besides,) = achieved(*refusals)
    assert (state.outcome, besides.achievements) == (Outcome.DONE, ListRead("refused"))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (HTML, Reason.FOREIGN_ANSWER),
        (HUGE, Reason.FOREIGN_ANSWER),
        (page(total=3), Reason.FOREIGN_ANSWER),
        (E500, Reason.SERVER_ERROR),
    ],
    ids=["a page of a proxy", "a number too large", "three, and none of them", "an error"],
)
def test_what_is_no_answer_makes_no_package(achieved, wrong, reason):
    _, state, given = achieved(*[wrong] * 5)
    assert (state.outcome, state.reason, given) == (Outcome.RETRYABLE, reason, [])


def test_a_refused_key_makes_no_package(achieved):
    _, state, given = achieved(KEY)
    assert (state.outcome, given) == (Outcome.PENDING, [])


def test_nothing_is_read_next_to_the_inventory_unless_it_was_asked_for(handed):
    asked, state, given = handed(HELD)
    assert (len(asked), state.outcome, given) == (1, Outcome.DONE, [None])


def test_a_page_that_came_only_after_a_false_absence_is_asked_for_again_as_that_page(achieved):
    asked, state, (besides,) = achieved(ABSENT, ABSENT, page(1), page(1), page(1))
    assert (state.outcome, besides.achievements.pages) == (Outcome.DONE, (page(1).content,))
    first = "achievements?pageSize=1000&skip=0"
    assert asked[1:] == [first, first, "achievements", first, first]


LINKED = "2026-01-05T00:00:00Z"
MINE, OTHER = ({"integrationId": one, "timestamp": LINKED} for one in ("someone", "somebody else"))


def with_card(*holders, **more):
    card = {"identifier": "CARD-1", "programID": 33, "profiles": list(holders)} | more
    return inventory("someone", loyalty={"cards": [card], "programs": {}})


def bookings(*names, card="CARD-1", more=False):
    data = [{"transactionUUID": name, "programId": 33, "cardIdentifier": card, "amount": 1} for name in names]
    return httpx2.Response(200, json={"hasMore": more, "data": data})


def test_the_transactions_of_a_card_of_the_customer_alone_are_read_twice_and_handed_over(handed):
    pages = [bookings("a", more=True), bookings("b")]
    asked, state, (besides,) = handed(with_card(MINE), *pages, *pages, cards=True)
    (card,) = besides.cards
    assert state.outcome is Outcome.DONE
    assert card == CardRead("CARD-1", 33, "complete", LINKED, tuple(one.content for one in pages))
    assert asked[1:] == ["transactions?pageSize=1000&skip=0", "transactions?pageSize=1000&skip=1"] * 2


@pytest.mark.parametrize(
    "holders",
    [[MINE, OTHER], [], [MINE | {"timestamp": None}], [{"timestamp": LINKED}]],
    ids=["shared", "of nobody", "since when", "no name"],
)
def test_of_a_card_that_is_not_known_to_be_the_customers_alone_nothing_is_asked(handed, holders):
    asked, state, (besides,) = handed(with_card(*holders), cards=True)
    assert (len(asked), state.outcome, besides.cards) == (1, Outcome.DONE, (CardRead("CARD-1", 33, "shared"),))


@pytest.mark.parametrize("name", [".", "..", "a\nb"])
def test_a_card_whose_name_addresses_something_else_is_not_asked_about(handed, name):
    asked, state, (besides,) = handed(with_card(MINE, identifier=name), cards=True)
    assert (len(asked), state.outcome, besides.cards[0].read) == (1, Outcome.DONE, "refused")


@pytest.mark.parametrize("refusals", [[ABSENT] * 3, [BAD]], ids=["not found", "refused"])
def test_a_card_that_is_refused_is_said_to_be(handed, refusals):
    _, state, (besides,) = handed(with_card(MINE), *refusals, cards=True)
    assert (state.outcome, besides.cards) == (Outcome.DONE, (CardRead("CARD-1", 33, "refused"),))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (bookings("a", card="CARD-2"), Reason.ANSWER_ABOUT_ANOTHER),
        (bookings(more=True), Reason.FOREIGN_ANSWER),
        (HTML, Reason.FOREIGN_ANSWER),
        (E500, Reason.SERVER_ERROR),
    ],
    ids=["another card", "more, and nothing of it", "a page of a proxy", "an error"],
)
def test_what_is_no_answer_about_this_card_makes_no_package(handed, wrong, reason):
    _, state, given = handed(with_card(MINE), *[wrong] * 5, cards=True)
    assert (state.outcome, state.reason, given) == (Outcome.RETRYABLE, reason, [])
