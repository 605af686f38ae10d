"""Every way an erasure can go, answer by answer: what is sent, and what is said of it."""

import httpx2
import pytest

from privacy_toolkit.core.model import Attribution, Gone, HeldBefore, Outcome, Reason
from privacy_toolkit.engine.execution import _gone_before
from privacy_toolkit.engine.steps import READ_TRIES
from privacy_toolkit.jobs.erase import ACT_TRIES, Erase
from privacy_toolkit.journal.records import Note, Staged, SubjectState
from privacy_toolkit.journal.sqlite.reader import create_run
from tests.support.answers import inventory, refusal

HELD = inventory("someone", {"Name": "x"}, coupons=[{"value": "C"}])
EMPTY = inventory("someone", coupons=[{"value": "C"}], referrals=[])
OTHER = inventory("somebody else")
ABSENT = refusal(404)
FOREIGN_404 = httpx2.Response(404, json={"detail": "Not Found"})
OK = httpx2.Response(204)
E500 = httpx2.Response(500)
REJECTED = refusal(503, "later")
LIMITED = refusal(429)
BAD = refusal(400)
KEY = refusal(401)
FOREIGN_KEY = httpx2.Response(401, json={"message": "no"})
HTML = httpx2.Response(200, html="<h1>proxy</h1>")
REDIRECT = httpx2.Response(303, headers={"Location": "/"})
LOST = httpx2.ReadTimeout("")
NOT_SENT = httpx2.ConnectError("")


@pytest.fixture
def erase(state, script, sit):
    """Makes one execution of a run with one subject; what it was asked, and where the subject stands."""

    def run(*answers, job=None, resume=False, stop_after=None, **options):
        if not resume:
            create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[[(2, "someone")]]))
        told = script(answers)
        sit(lambda _: job or Erase(settle=0), told, stop_after=stop_after, **options)
        with state.open("run") as journal:
            (entry,) = journal.entries()
        return "".join(method[0] for method in told.asked), entry.state

    return run


CONFIRMED, INFERRED = Attribution.CONFIRMED, Attribution.INFERRED
VISIBLE, NONE_VISIBLE = HeldBefore.VISIBLE, HeldBefore.NONE_VISIBLE

WALKS = [
    # what is answered, what was asked, where the subject stands
    ([ABSENT, ABSENT], "GG", Outcome.NOTHING_HELD, None, None, None, 0),
    # answered both ways: what was absent before proves nothing, and what is absent next needs a control first
    ([ABSENT, HELD, OK, ABSENT, ABSENT], "GGDGG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 1),
    ([HELD, OK, ABSENT], "GDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 1),
    ([HELD, OK, EMPTY], "GDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 1),
    ([EMPTY, OK, ABSENT], "GDG", Outcome.ERASED, None, CONFIRMED, NONE_VISIBLE, 1),
    ([EMPTY, OK, EMPTY], "GDG", Outcome.ERASED, None, CONFIRMED, NONE_VISIBLE, 1),
    ([HELD, OK, HELD], "GDG", Outcome.RESIDUAL, Reason.STILL_HELD, None, VISIBLE, 1),
    # reads are repeated, and nothing is sent while it is not known what is held
    ([E500, LOST, NOT_SENT, HTML, ABSENT, ABSENT], "GGGGGG", Outcome.NOTHING_HELD, None, None, None, 0),
    ([E500] * 5, "GGGGG", Outcome.RETRYABLE, Reason.SERVER_ERROR, None, None, 0),
    # what no document declares for a read, is in other words, or about somebody else leaves the subject open
    ([BAD] * 5, "GGGGG", Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, None, None, 0),
    ([FOREIGN_404] * 5, "GGGGG", Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, None, None, 0),
    ([OTHER] * 5, "GGGGG", Outcome.RETRYABLE, Reason.ANSWER_ABOUT_ANOTHER, None, None, 0),
    # an answer that was lost: looked up, and sent again only if the data is still there
    ([HELD, LOST, ABSENT, ABSENT], "GDGG", Outcome.ERASED, None, INFERRED, VISIBLE, 1),
    ([HELD, LOST, EMPTY], "GDG", Outcome.ERASED, None, INFERRED, VISIBLE, 1),
    ([HELD, LOST, HELD, OK, ABSENT], "GDGDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    ([HELD, E500, HELD, OK, ABSENT], "GDGDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    ([HELD, HTML, HELD, OK, ABSENT], "GDGDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    ([HELD, REDIRECT, HELD, OK, ABSENT], "GDGDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    # an empty profile looks the same before and after: only an accepted request tells
    ([EMPTY, LOST, EMPTY, OK, EMPTY], "GDGDG", Outcome.ERASED, None, CONFIRMED, NONE_VISIBLE, 2),
    ([EMPTY, LOST, ABSENT, ABSENT], "GDGG", Outcome.ERASED, None, INFERRED, NONE_VISIBLE, 1),
    # what was lost stays unknown, whatever is refused afterwards
    ([HELD, *[LOST, HELD] * ACT_TRIES], "G" + "DG" * ACT_TRIES, Outcome.UNKNOWN, Reason.READ_TIMEOUT, None, VISIBLE, 4),
    ([HELD, LOST, HELD, ABSENT, ABSENT, ABSENT], "GDGDGG", Outcome.ERASED, None, INFERRED, VISIBLE, 2),
    ([HELD, LOST, *[E500] * 5], "GDGGGGG", Outcome.UNKNOWN, Reason.READ_TIMEOUT, None, VISIBLE, 1),
    # refused: certainly not done, so it may be sent again at once
    ([HELD, LIMITED, OK, ABSENT], "GDDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    ([HELD, REJECTED, OK, ABSENT], "GDDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    ([HELD, NOT_SENT, OK, ABSENT], "GDDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 1),
    ([HELD, *[LIMITED] * 4], "GDDDD", Outcome.RETRYABLE, Reason.RATE_LIMITED, None, VISIBLE, 4),
    # a 404 to the erasure may be a proxy's, which repeated ours: looked up
    # or another host's, which knows nobody: after a new control
    ([HELD, *[ABSENT] * 4], "GDGGG", Outcome.ERASED, None, INFERRED, VISIBLE, 1),
    ([HELD, ABSENT, EMPTY], "GDG", Outcome.ERASED, None, INFERRED, VISIBLE, 1),
    ([HELD, ABSENT, HELD, OK, ABSENT, ABSENT], "GDGDGG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    # a refusal that no document declares is nobody's word
    ([HELD, BAD, HELD, OK, ABSENT], "GDGDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    ([HELD, FOREIGN_404, HELD, OK, ABSENT], "GDGDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    # accepted, but the read that should prove it does not succeed
    ([HELD, OK, *[E500] * 5], "GDGGGGG", Outcome.UNVERIFIED, Reason.READ_FAILED_AFTERWARDS, None, VISIBLE, 1),
    ([HELD, OK, *[BAD] * 5], "GDGGGGG", Outcome.UNVERIFIED, Reason.READ_FAILED_AFTERWARDS, None, VISIBLE, 1),
    ([HELD, OK, *[OTHER] * 5], "GDGGGGG", Outcome.UNVERIFIED, Reason.READ_FAILED_AFTERWARDS, None, VISIBLE, 1),
    # credentials
    ([KEY], "G", Outcome.PENDING, None, None, None, 0),
    ([HELD, KEY], "GD", Outcome.RETRYABLE, Reason.CREDENTIALS_REFUSED, None, VISIBLE, 1),
    # those of a gateway say nothing of the key, and stop the run as well
    ([FOREIGN_KEY], "G", Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, None, None, 0),
    ([HELD, FOREIGN_KEY], "GD", Outcome.UNKNOWN, Reason.FOREIGN_ANSWER, None, VISIBLE, 1),
    ([HELD, OK, KEY], "GDG", Outcome.UNVERIFIED, Reason.READ_FAILED_AFTERWARDS, None, VISIBLE, 1),
]


@pytest.mark.parametrize(("answers", "asked", "outcome", "reason", "attribution", "held", "attempts"), WALKS)
def test_a_walk_ends_where_the_answers_lead(erase, answers, asked, outcome, reason, attribution, held, attempts):
    sent, state = erase(*answers)
    assert sent == asked
    assert (state.outcome, state.reason) == (outcome, reason)
    assert (state.attribution, state.held_before, state.attempts) == (attribution, held, attempts)


def test_what_the_api_keeps_is_counted(erase):
    _, state = erase(HELD, OK, EMPTY)
    assert (state.first_count, state.second_count) == (1, 0)


def test_after_a_404_nothing_is_claimed_about_what_is_kept(erase):
    _, state = erase(HELD, OK, ABSENT)
    assert (state.first_count, state.second_count) == (None, None)


RESUMES = [
    # the first execution, the second one, what the second one asked, where the subject stands then
    ([E500] * 5, [ABSENT, ABSENT], "GG", Outcome.NOTHING_HELD, None, None),
    ([HELD, *[LIMITED] * 4], [HELD, OK, ABSENT], "GDG", Outcome.ERASED, None, CONFIRMED),
    ([HELD, *[LIMITED] * 4], [ABSENT, ABSENT], "GG", Outcome.NOTHING_HELD, Reason.VANISHED, None),
    ([HELD, LOST, *[E500] * 5], [ABSENT, ABSENT], "GG", Outcome.ERASED, None, INFERRED),
    ([HELD, LOST, *[E500] * 5], [EMPTY], "G", Outcome.ERASED, None, INFERRED),
    ([EMPTY, LOST, *[E500] * 5], [EMPTY, OK, EMPTY], "GDG", Outcome.ERASED, None, CONFIRMED),
    ([HELD, LOST, *[E500] * 5], [HELD, OK, ABSENT], "GDG", Outcome.ERASED, None, CONFIRMED),
    ([HELD, OK, *[E500] * 5], [ABSENT], "G", Outcome.ERASED, None, CONFIRMED),
    ([HELD, OK, *[E500] * 5], [HELD], "G", Outcome.RESIDUAL, Reason.STILL_HELD, None),
    ([HELD, OK, HELD], [ABSENT], "G", Outcome.ERASED, None, CONFIRMED),
    ([HELD, OK, HELD], [HELD, OK, ABSENT], "GDG", Outcome.ERASED, None, CONFIRMED),
    ([HELD, OK, HELD], [HELD, OK, HELD], "GDG", Outcome.RESIDUAL, Reason.STILL_HELD, None),
    ([HELD, OK, HELD], [HELD, ABSENT, ABSENT], "GDG", Outcome.ERASED, None, CONFIRMED),
    ([HELD, OK, HELD], [HELD, ABSENT, HELD], "GDG", Outcome.RESIDUAL, Reason.STILL_HELD, None),
]


@pytest.mark.parametrize(("first", "second", "asked", "outcome", "reason", "attribution"), RESUMES)
def test_a_second_execution_goes_on_from_what_was_observed(erase, first, second, asked, outcome, reason, attribution):
    erase(*first)
    sent, state = erase(*second, resume=True)
    assert sent == asked
    assert (state.outcome, state.reason, state.attribution) == (outcome, reason, attribution)


def test_in_a_restored_state_nobody_says_of_who_is_gone_that_nothing_was_sent(erase):
    restored = Erase(settle=0, restored=True)
    sent, state = erase(ABSENT, ABSENT, job=restored)
    assert (sent, state.outcome, state.reason) == ("GG", Outcome.NOTHING_HELD, Reason.STATE_RESTORED)


def test_in_a_restored_state_nobody_says_of_who_was_seen_that_somebody_else_removed_them(erase):
    erase(HELD, *[LIMITED] * 4)
    sent, state = erase(ABSENT, ABSENT, resume=True, job=Erase(settle=0, restored=True))
    assert (sent, state.outcome, state.reason) == ("GG", Outcome.NOTHING_HELD, Reason.STATE_RESTORED)


def test_a_subject_that_is_not_chosen_for_verification_is_not_read_again(erase):
    sent, state = erase(HELD, OK, job=Erase(settle=0, verified=lambda _: False))
    assert (sent, state.outcome, state.reason) == ("GD", Outcome.UNVERIFIED, Reason.NOT_READ_YET)


def test_a_stop_before_the_erasure_leaves_the_subject_pending(erase):
    sent, state = erase(HELD, stop_after=1)
    assert (sent, state.outcome) == ("G", Outcome.PENDING)


def test_a_stop_after_the_erasure_still_reads(erase):
    sent, state = erase(HELD, OK, ABSENT, stop_after=2)
    assert (sent, state.outcome) == ("GDG", Outcome.ERASED)


def test_a_stop_while_data_is_still_visible_claims_neither_erased_nor_residual(erase):
    sent, state = erase(HELD, OK, HELD, job=Erase(settle=60), stop_after=3)
    assert (sent, state.outcome, state.reason) == ("GDG", Outcome.UNVERIFIED, Reason.STILL_HELD)


KNOWN = [
    # what the deployment taught, what is answered, what was asked, where the subject stands
    (Gone.ABSENT, [EMPTY, OK, EMPTY], "GDG", Outcome.RESIDUAL, Reason.STILL_HELD, None),
    (Gone.ABSENT, [EMPTY, OK, ABSENT], "GDG", Outcome.ERASED, None, CONFIRMED),
    (Gone.ABSENT, [EMPTY, LOST, EMPTY, OK, EMPTY], "GDGDG", Outcome.RESIDUAL, Reason.STILL_HELD, None),
    (Gone.ABSENT, [HELD, OK, EMPTY], "GDG", Outcome.ERASED, None, CONFIRMED),  # what was seen is gone
    (Gone.EMPTIED, [EMPTY, OK, EMPTY], "GDG", Outcome.ERASED, None, CONFIRMED),  # can't be told: the API's word
    (None, [EMPTY, OK, EMPTY], "GDG", Outcome.ERASED, None, CONFIRMED),
]


@pytest.mark.parametrize(("gone", "answers", "asked", "outcome", "reason", "attribution"), KNOWN)
def test_an_empty_profile_is_not_erased_while_it_is_listed_where_erased_ones_are_not(
    erase, gone, answers, asked, outcome, reason, attribution
):
    sent, state = erase(*answers, learned_gone=gone)
    assert sent == asked
    assert (state.outcome, state.reason, state.attribution) == (outcome, reason, attribution)


def test_an_empty_profile_that_stays_listed_is_erased_again_and_again_until_it_is_gone(erase):
    erase(EMPTY, OK, EMPTY, learned_gone=Gone.ABSENT)
    sent, state = erase(EMPTY, OK, EMPTY, resume=True, learned_gone=Gone.ABSENT)
    assert (sent, state.outcome) == ("GDG", Outcome.RESIDUAL)
    sent, state = erase(EMPTY, OK, ABSENT, resume=True, learned_gone=Gone.ABSENT)
    assert (sent, state.outcome, state.attribution) == ("GDG", Outcome.ERASED, CONFIRMED)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_run_learns_by_itself_how_a_deployment_answers_for_who_was_erased(state, script, sit, is_first):
    """Without a control profile those who are answered with 404 afterwards tell it for the others, before and after."""
    create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[[(2, "someone"), (3, "second")]]))
    second = inventory("second")
    one, other = ([HELD, OK, ABSENT], [second, OK, second]) if is_first else ([EMPTY, OK, EMPTY], [second, OK, ABSENT])
    sit(lambda _: Erase(settle=0), script([*one, *other, *[ABSENT] * is_first]))  # who is under way is not asked about
    with state.open("run") as journal:
        outcomes = [entry.state.outcome for entry in journal.entries()]
    assert outcomes == [Outcome.ERASED, Outcome.RESIDUAL][:: 1 if is_first else -1]


@pytest.mark.parametrize(
    ("again", "left"), [([EMPTY], Outcome.ERASED), ([HELD], Outcome.ERASED), ([E500] * READ_TRIES, Outcome.RESIDUAL)]
)
def test_one_404_that_may_be_wrong_is_asked_for_once_more_before_anything_rests_on_it(state, script, sit, again, left):
    create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[[(2, "someone"), (3, "second")]]))
    second = inventory("second")
    sit(lambda _: Erase(settle=0), script([HELD, OK, ABSENT, second, OK, second, *again]))
    with state.open("run") as journal:
        assert [entry.state.outcome for entry in journal.entries()] == [Outcome.ERASED, left]


@pytest.mark.parametrize(("again", "left"), [(ABSENT, Outcome.RESIDUAL), (EMPTY, Outcome.ERASED)])
def test_what_an_earlier_execution_learned_from_one_404_is_asked_once_more(state, script, sit, again, left):
    create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[[(2, "someone"), (3, "second")]]))
    second, known = inventory("second"), {"gone": Gone.ABSENT, "gone_before": lambda: ["someone"]}
    sit(lambda _: Erase(settle=0), script([HELD, OK, ABSENT, second]), stop_after=4)
    sit(lambda _: Erase(settle=0), script([second, OK, second, again]), **known)
    with state.open("run") as journal:
        assert [entry.state.outcome for entry in journal.entries()] == [Outcome.ERASED, left]


@pytest.mark.parametrize(
    ("answers", "gone"),
    [
        ([HELD, OK, ABSENT], Gone.ABSENT),
        ([HELD, OK, EMPTY], Gone.EMPTIED),
        ([EMPTY, OK, EMPTY], None),  # it looks as before
        ([HELD, OK, HELD], None),
    ],
)
def test_the_journal_tells_a_later_execution_how_erased_ones_are_answered(state, erase, answers, gone):
    erase(*answers)
    with state.open("run") as journal:
        assert journal.gone() is gone
        assert _gone_before(journal, 1 << 60) == (["someone"] if gone is Gone.ABSENT else [])


def test_who_had_no_profile_tells_nothing_of_how_erased_ones_are_answered(state):
    create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[[(2, "someone")]]))
    ledger = SubjectState(Outcome.ERASED, Reason.LEDGER_ALONE, CONFIRMED, attempts=1, settled_at=2)
    with state.open("run") as journal:
        number = journal.begin_execution(1, "{}")
        journal.record([Note(1, (), ledger)])
        journal.end_execution(number, 2, None)
        assert (journal.gone(), _gone_before(journal, 1 << 60)) == (None, [])


def test_an_id_that_is_answered_both_ways_takes_back_what_was_absent_before(state, script, sit):
    """One of two servers behind the address has no data: anyone who was absent is asked again after a new control."""
    create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[[(2, "someone"), (3, "second")]]))
    given = {"someone": [ABSENT] * 4, "second": [ABSENT, inventory("second", {"Name": "x"}), OK, ABSENT, ABSENT]}
    asked = script([], told=lambda request, _: next(one for one in given if one in request.url.path))
    asked.choose = lambda: given[asked.asked[-1]].pop(0)
    sit(lambda _: Erase(settle=0), asked)
    with state.open("run") as journal:
        outcomes = [entry.state.outcome for entry in journal.entries()]
    assert outcomes == [Outcome.NOTHING_HELD, Outcome.ERASED]
    assert asked.asked.count("someone") > 2


def test_a_window_in_which_another_host_answers_proves_nobody_absent(state, script, sit):
    """It falls between two controls that held: one who was absent in it is there when asked again, so all may be."""
    names = [f"c{n}" for n in range(4)]
    create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[list(enumerate(names, 2))]))
    there = {name: inventory(name, {"Name": "x"}) for name in names}
    given = {
        "c0": [ABSENT, there["c0"], OK, ABSENT],
        # Absent once more by itself, which no client can tell: but what it rests on was refuted by then.
        "c1": [ABSENT, ABSENT, there["c1"], OK, ABSENT],
        "c2": [there["c2"], OK, ABSENT],
        "c3": [there["c3"], OK, ABSENT],
    }

    def choose(asked):
        left = given[asked.asked[-1]]
        return left.pop(0) if len(left) > 1 else left[0]

    asked = script([], told=lambda request, _: next(one for one in given if one in request.url.path), choose=choose)
    sit(lambda _: Erase(settle=0), asked)
    with state.open("run") as journal:
        assert {entry.state.outcome for entry in journal.entries()} == {Outcome.ERASED}
    assert asked.asked[:3] == ["c0", "c1", "c2"]
