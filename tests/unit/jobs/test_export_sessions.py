"""Sessions that the controller lists, answer by answer: handed to whose they are, and to nobody else."""

import json

import httpx2
import pytest

from privacy_toolkit.core.model import Outcome, Reason
from privacy_toolkit.jobs.export import Export
from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.reader import create_run
from privacy_toolkit.talonone.inventory import SessionRead
from tests.support.answers import inventory, refusal

HELD = inventory("someone")
ABSENT, BAD, KEY, E500 = refusal(404), refusal(400), refusal(401), httpx2.Response(500)
HTML = httpx2.Response(200, html="<h1>proxy</h1>")


def session(of, name="s1"):
    return httpx2.Response(200, json={"customerSession": {"integrationId": name, "profileId": of}, "effects": []})


@pytest.fixture
def handed(state, script, sit):
    """Makes one execution of a run with one subject and its listed sessions; see ``test_export_besides``."""

    def run(*answers, listed=("s1",)):
        given = json.dumps(list(listed)) if listed else ""
        create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[[(2, "someone", given)]]))
        told = script(answers, lambda request, _: request.url.raw_path.decode().rsplit("/", 1)[1].partition("?")[0])
        delivered = []

        def deliver(*arguments):
            delivered.append((arguments[2], arguments[4].sessions if len(arguments) > 4 else None))
            return b"{}"

        sit(lambda _: Export(deliver), told)
        with state.open("run") as journal:
            (known,) = journal.entries()
        return told.asked, known.state, delivered

    return run


def test_a_session_that_names_the_customer_is_handed_over_as_it_came(handed):
    own = session("someone")
    asked, state, delivered = handed(HELD, own)
    assert asked == ["inventory", "s1"]
    assert (state.outcome, delivered) == (
        Outcome.DONE,
        [(HELD.content, (SessionRead("s1", "complete", own.content),))],
    )


@pytest.mark.parametrize(
    ("of", "read"),
    [
        ("somebody else", "of_another"),
        ("Someone", "of_another"),
        ("someone ", "of_another"),
        (17, "of_another"),
        (["someone"], "of_another"),
        ("", "of_nobody"),
        (None, "of_nobody"),
    ],
    ids=["another's", "other case", "a blank more", "a number", "a list", "nobody's", "null"],
)
def test_nothing_is_kept_of_a_session_that_does_not_name_the_customer(handed, of, read):
    _, state, ((_, listed),) = handed(HELD, session(of))
    assert (state.outcome, listed) == (Outcome.DONE, (SessionRead("s1", read),))


def test_each_session_has_an_outcome_of_its_own(handed):
    answers = [HELD, session("someone", "a"), session("other", "b"), BAD, session(None, "d")]
    _, state, ((_, listed),) = handed(*answers, listed="abcd")
    assert state.outcome is Outcome.DONE
    assert [(one.session, one.read) for one in listed] == [
        ("a", "complete"),
        ("b", "of_another"),
        ("c", "refused"),
        ("d", "of_nobody"),
    ]


def test_anyone_who_has_no_session_on_the_list_has_none_asked_for(handed):
    asked, state, delivered = handed(HELD, listed=())
    assert (asked, state.outcome, delivered) == (["inventory"], Outcome.DONE, [(HELD.content, None)])


def test_without_a_profile_a_session_that_names_the_customer_is_something_held(handed):
    own = session("someone")
    _, state, delivered = handed(ABSENT, ABSENT, own)
    assert (state.outcome, delivered) == (Outcome.DONE, [(None, (SessionRead("s1", "complete", own.content),))])


@pytest.mark.parametrize(
    ("answer", "read"), [(session("other"), "of_another"), (session(""), "of_nobody"), (BAD, "refused")]
)
def test_without_a_profile_and_a_session_of_their_own_nothing_is_held(handed, answer, read):
    _, state, delivered = handed(ABSENT, ABSENT, answer)
    assert (state.outcome, delivered) == (Outcome.NOTHING_HELD, [(None, (SessionRead("s1", read),))])


@pytest.mark.parametrize("profile", [[HELD], [ABSENT, ABSENT]], ids=["a profile", "no profile"])
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (HTML, Reason.FOREIGN_ANSWER),
        (session("someone", "another session"), Reason.ANSWER_ABOUT_ANOTHER),
        (httpx2.Response(200, json={"customerSession": {"profileId": "someone"}}), Reason.FOREIGN_ANSWER),
        (ABSENT, Reason.FOREIGN_ANSWER),
        (E500, Reason.SERVER_ERROR),
    ],
    ids=["a page of a proxy", "another session", "a session without a name", "a 404 that no document has", "an error"],
)
def test_what_is_no_answer_makes_no_package(handed, profile, wrong, reason):
    _, state, delivered = handed(*profile, *[wrong] * 5)
    assert (state.outcome, state.reason, delivered) == (Outcome.RETRYABLE, reason, [])


def test_an_answer_that_names_two_customers_is_none(handed):
    body = b'{"customerSession":{"integrationId":"s1","profileId":"other","profileId":"someone"},"effects":[]}'
    _, state, delivered = handed(HELD, *[httpx2.Response(200, content=body)] * 5)
    assert (state.outcome, delivered) == (Outcome.RETRYABLE, [])


def test_a_refused_key_makes_no_package(handed):
    _, state, delivered = handed(HELD, KEY)
    assert (state.outcome, delivered) == (Outcome.PENDING, [])
