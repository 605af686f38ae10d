"""Every way an erasure can go, answer by answer: what is sent, and what is said of it."""

import httpx2
import pytest

from privacy_toolkit.jobs.erase import ACT_TRIES, Erase
from privacy_toolkit.journal.staging import Staged, create_run
from privacy_toolkit.model import Attribution, HeldBefore, Outcome, Reason

HELD = httpx2.Response(200, json={"profile": {"attributes": {"Name": "x"}}, "coupons": [{"value": "C"}]})
EMPTY = httpx2.Response(200, json={"profile": {"attributes": {}}, "coupons": [{"value": "C"}], "referrals": []})
ABSENT = httpx2.Response(404, json={"message": "not found"})
OK = httpx2.Response(204)
E500 = httpx2.Response(500)
REJECTED = httpx2.Response(503, json={"message": "later"})
LIMITED = httpx2.Response(429)
BAD = httpx2.Response(400, json={"message": "no"})
KEY = httpx2.Response(401, json={"message": "no"})
HTML = httpx2.Response(200, html="<h1>proxy</h1>")
REDIRECT = httpx2.Response(303, headers={"Location": "/"})
LOST = httpx2.ReadTimeout("")
NOT_SENT = httpx2.ConnectError("")


@pytest.fixture
def erase(state, script, sit):
    """Makes one sitting of a run with one subject; what it was asked, and where the subject stands."""

    def run(*answers, job=None, resume=False, stop_after=None):
        if not resume:
            create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[[(2, "someone")]]))
        told = script(answers)
        sit(lambda _: job or Erase(settle=0), told, stop_after=stop_after)
        with state.open("run") as journal:
            (entry,) = journal.entries()
        return "".join(method[0] for method in told.asked), entry.standing

    return run


CONFIRMED, INFERRED = Attribution.CONFIRMED, Attribution.INFERRED
VISIBLE, NONE_VISIBLE = HeldBefore.VISIBLE, HeldBefore.NONE_VISIBLE

WALKS = [
    # what is answered, what was asked, where the subject stands
    ([ABSENT], "G", Outcome.NOTHING_HELD, None, None, None, 0),
    ([HELD, OK, ABSENT], "GDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 1),
    ([HELD, OK, EMPTY], "GDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 1),
    ([EMPTY, OK, ABSENT], "GDG", Outcome.ERASED, None, CONFIRMED, NONE_VISIBLE, 1),
    ([EMPTY, OK, EMPTY], "GDG", Outcome.ERASED, None, CONFIRMED, NONE_VISIBLE, 1),
    ([HELD, OK, HELD], "GDG", Outcome.RESIDUAL, Reason.STILL_HELD, None, VISIBLE, 1),
    # reads are repeated, and nothing is sent while it is not known what is held
    ([E500, LOST, NOT_SENT, HTML, ABSENT], "GGGGG", Outcome.NOTHING_HELD, None, None, None, 0),
    ([E500] * 5, "GGGGG", Outcome.RETRYABLE, Reason.SERVER_ERROR, None, None, 0),
    ([BAD], "G", Outcome.FAILED, Reason.BAD_REQUEST, None, None, 0),
    # an answer that was lost: looked up, and sent again only if the data is still there
    ([HELD, LOST, ABSENT], "GDG", Outcome.ERASED, None, INFERRED, VISIBLE, 1),
    ([HELD, LOST, EMPTY], "GDG", Outcome.ERASED, None, INFERRED, VISIBLE, 1),
    ([HELD, LOST, HELD, OK, ABSENT], "GDGDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    ([HELD, E500, HELD, OK, ABSENT], "GDGDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    ([HELD, HTML, HELD, OK, ABSENT], "GDGDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    ([HELD, REDIRECT, HELD, OK, ABSENT], "GDGDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    # an empty profile looks the same before and after: only an accepted request tells
    ([EMPTY, LOST, EMPTY, OK, EMPTY], "GDGDG", Outcome.ERASED, None, CONFIRMED, NONE_VISIBLE, 2),
    ([EMPTY, LOST, ABSENT], "GDG", Outcome.ERASED, None, INFERRED, NONE_VISIBLE, 1),
    # what was lost stays unknown, whatever is refused afterwards
    ([HELD, *[LOST, HELD] * ACT_TRIES], "G" + "DG" * ACT_TRIES, Outcome.UNKNOWN, Reason.READ_TIMEOUT, None, VISIBLE, 4),
    ([HELD, LOST, HELD, BAD], "GDGD", Outcome.UNKNOWN, Reason.BAD_REQUEST, None, VISIBLE, 2),
    ([HELD, LOST, HELD, ABSENT, ABSENT], "GDGDG", Outcome.ERASED, None, INFERRED, VISIBLE, 2),
    ([HELD, LOST, *[E500] * 5], "GDGGGGG", Outcome.UNKNOWN, Reason.READ_TIMEOUT, None, VISIBLE, 1),
    # refused: certainly not done, so it may be sent again at once
    ([HELD, LIMITED, OK, ABSENT], "GDDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    ([HELD, REJECTED, OK, ABSENT], "GDDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 2),
    ([HELD, NOT_SENT, OK, ABSENT], "GDDG", Outcome.ERASED, None, CONFIRMED, VISIBLE, 1),
    ([HELD, *[LIMITED] * 4], "GDDDD", Outcome.RETRYABLE, Reason.RATE_LIMITED, None, VISIBLE, 4),
    ([HELD, BAD], "GD", Outcome.FAILED, Reason.BAD_REQUEST, None, VISIBLE, 1),
    ([HELD, ABSENT], "GD", Outcome.FAILED, Reason.VANISHED, None, VISIBLE, 1),
    # accepted, but the read that should prove it does not succeed
    ([HELD, OK, *[E500] * 5], "GDGGGGG", Outcome.UNVERIFIED, Reason.READ_FAILED_AFTERWARDS, None, VISIBLE, 1),
    ([HELD, OK, BAD], "GDG", Outcome.UNVERIFIED, Reason.READ_FAILED_AFTERWARDS, None, VISIBLE, 1),
    # credentials
    ([KEY], "G", Outcome.PENDING, None, None, None, 0),
    ([HELD, KEY], "GD", Outcome.RETRYABLE, Reason.CREDENTIALS_REFUSED, None, VISIBLE, 1),
    ([HELD, OK, KEY], "GDG", Outcome.UNVERIFIED, Reason.READ_FAILED_AFTERWARDS, None, VISIBLE, 1),
]


@pytest.mark.parametrize(("answers", "asked", "outcome", "reason", "attribution", "held", "attempts"), WALKS)
def test_a_walk_ends_where_the_answers_lead(erase, answers, asked, outcome, reason, attribution, held, attempts):
    sent, standing = erase(*answers)
    assert sent == asked
    assert (standing.outcome, standing.reason) == (outcome, reason)
    assert (standing.attribution, standing.held_before, standing.attempts) == (attribution, held, attempts)


def test_what_the_api_keeps_is_counted(erase):
    _, standing = erase(HELD, OK, EMPTY)
    assert (standing.kept_coupons, standing.kept_referrals) == (1, 0)


def test_after_a_404_nothing_is_claimed_about_what_is_kept(erase):
    _, standing = erase(HELD, OK, ABSENT)
    assert (standing.kept_coupons, standing.kept_referrals) == (None, None)


RESUMES = [
    # the first sitting, the second one, what the second one asked, where the subject stands then
    ([E500] * 5, [ABSENT], "G", Outcome.NOTHING_HELD, None, None),
    ([HELD, *[LIMITED] * 4], [HELD, OK, ABSENT], "GDG", Outcome.ERASED, None, CONFIRMED),
    ([HELD, *[LIMITED] * 4], [ABSENT], "G", Outcome.NOTHING_HELD, Reason.VANISHED, None),
    ([HELD, LOST, *[E500] * 5], [ABSENT], "G", Outcome.ERASED, None, INFERRED),
    ([HELD, LOST, *[E500] * 5], [EMPTY], "G", Outcome.ERASED, None, INFERRED),
    ([EMPTY, LOST, *[E500] * 5], [EMPTY, OK, EMPTY], "GDG", Outcome.ERASED, None, CONFIRMED),
    ([HELD, LOST, *[E500] * 5], [HELD, OK, ABSENT], "GDG", Outcome.ERASED, None, CONFIRMED),
    ([HELD, OK, *[E500] * 5], [ABSENT], "G", Outcome.ERASED, None, CONFIRMED),
    ([HELD, OK, *[E500] * 5], [HELD], "G", Outcome.RESIDUAL, Reason.STILL_HELD, None),
    ([HELD, OK, HELD], [ABSENT], "G", Outcome.ERASED, None, CONFIRMED),
    ([HELD, OK, HELD], [HELD, OK, ABSENT], "GDG", Outcome.ERASED, None, CONFIRMED),
    ([HELD, OK, HELD], [HELD, OK, HELD], "GDG", Outcome.RESIDUAL, Reason.STILL_HELD, None),
    ([HELD, OK, HELD], [HELD, BAD], "GD", Outcome.RESIDUAL, Reason.BAD_REQUEST, None),
]


@pytest.mark.parametrize(("first", "second", "asked", "outcome", "reason", "attribution"), RESUMES)
def test_a_second_sitting_goes_on_from_what_was_observed(erase, first, second, asked, outcome, reason, attribution):
    erase(*first)
    sent, standing = erase(*second, resume=True)
    assert sent == asked
    assert (standing.outcome, standing.reason, standing.attribution) == (outcome, reason, attribution)


def test_a_subject_that_is_not_chosen_for_verification_is_not_read_again(erase):
    sent, standing = erase(HELD, OK, job=Erase(settle=0, verified=lambda _: False))
    assert (sent, standing.outcome, standing.reason) == ("GD", Outcome.UNVERIFIED, Reason.NOT_READ_YET)


def test_a_stop_before_the_erasure_leaves_the_subject_pending(erase):
    sent, standing = erase(HELD, stop_after=1)
    assert (sent, standing.outcome) == ("G", Outcome.PENDING)


def test_a_stop_after_the_erasure_still_reads(erase):
    sent, standing = erase(HELD, OK, ABSENT, stop_after=2)
    assert (sent, standing.outcome) == ("GDG", Outcome.ERASED)


def test_a_stop_while_data_is_still_visible_claims_neither_erased_nor_residual(erase):
    sent, standing = erase(HELD, OK, HELD, job=Erase(settle=60), stop_after=3)
    assert (sent, standing.outcome, standing.reason) == ("GDG", Outcome.UNVERIFIED, Reason.STILL_HELD)
