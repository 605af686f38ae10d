"""Every way that loyalty can go in an erasure, answer by answer: the profile is erased last, or not at all."""

import httpx2
import pytest

from privacy_toolkit.core.model import Attribution, Outcome, Reason, UsageError
from privacy_toolkit.jobs.erase import DECLARATION, Erase
from privacy_toolkit.jobs.loyalty import ACT_TRIES, NONE, Programs, check_programs, decode_loyalty, named_in
from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.reader import create_run
from tests.support.answers import inventory, refusal

HELD = inventory("someone", {"Name": "x"})
ABSENT, BAD, LIMITED, KEY = refusal(404), refusal(400), refusal(429), refusal(401)
OK, LOST, E500 = httpx2.Response(204), httpx2.ReadTimeout(""), httpx2.Response(500)
HTML, NOT_SENT = httpx2.Response(200, html="<h1>proxy</h1>"), httpx2.ConnectError("")
DONE = [OK, ABSENT]  # the erasure of the profile, and the read afterwards

CONFIRMED, INFERRED = Attribution.CONFIRMED, Attribution.INFERRED


def entry(number=1, program=33, **more):
    return {"transactionUUID": f"u{number}", "programId": program, "amount": 5} | more


def ledger(*entries, more=False):
    return httpx2.Response(200, json={"hasMore": more, "data": list(entries)})


def card(identifier, program=44):
    return {"identifier": identifier, "programID": program, "profiles": [{"integrationId": "someone"}]}


def with_cards(*identifiers, program=44):
    cards = [card(identifier, program) for identifier in identifiers]
    return inventory("someone", {"Name": "x"}, loyalty={"cards": cards, "programs": {}})


def unlinked(identifier):
    return httpx2.Response(200, json={"identifier": identifier, "profiles": []})


FULL, EMPTY = ledger(entry()), ledger()
TWICE = [EMPTY, EMPTY]  # that a ledger is empty has to be said twice
GONE = [ABSENT] * 3  # the first of a ledger is asked again after its control, and then once more, elsewhere
OTHERS = ledger(entry(program=34))
ENDLESS = httpx2.Response(200, json={"hasMore": True, "data": []})

LEDGER = Programs(ledgers=(33,))
_LETTERS = {"inventory": "I", "transactions": "T", "delete_transactions": "X", "unlink_profile": "U"}


def letter(request, _):
    """What was asked, as one letter: inventory, transactions, their deletion, unlinking, the erasure (E)."""
    last = request.url.path.rsplit("/", 1)[1]
    return _LETTERS.get(last, "E")


@pytest.fixture
def erase(state, script, sit):
    """Makes one execution of a run with one subject; what it was asked, where the subject and its programs stand."""

    def run(*answers, named=LEDGER, resume=False, stop_after=None, settle=0, **options):
        if not resume:
            create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[[(2, "someone")]]))
        told = script(answers, letter)
        sit(lambda _: Erase(settle=settle, loyalty=named), told, stop_after=stop_after, **options)
        with state.open("run") as journal:
            (known,) = journal.entries()
        facts = decode_loyalty(known.result)
        programs = {} if facts is None else facts.programs
        return "".join(told.asked), known.state, programs

    return run


WALKS = [
    # what is answered, what was asked, where the subject stands, and where its ledger does
    ([HELD, FULL, OK, *TWICE, *DONE], "ITXTTEI", Outcome.ERASED, None, Outcome.ERASED, CONFIRMED),
    ([HELD, *TWICE, *DONE], "ITTEI", Outcome.ERASED, None, Outcome.NOTHING_HELD, None),
    # one empty answer is none: it was somebody else's
    ([HELD, EMPTY, FULL, OK, *TWICE, *DONE], "ITTXTTEI", Outcome.ERASED, None, Outcome.ERASED, CONFIRMED),
    ([HELD, FULL, OK, EMPTY, FULL], "ITXTT", Outcome.PENDING, Reason.LEDGER_STILL_HELD, Outcome.RESIDUAL, None),
    # accepted, and still there: the profile is left alone
    ([HELD, FULL, OK, FULL], "ITXT", Outcome.PENDING, Reason.LEDGER_STILL_HELD, Outcome.RESIDUAL, None),
    ([HELD, FULL, OK, *[E500] * 5], "ITXTTTTT", Outcome.PENDING, Reason.READ_FAILED_AFTERWARDS,
     Outcome.UNVERIFIED, None),
    # an answer that was lost: looked up, and sent again only if the transactions are still there
    ([HELD, FULL, LOST, *TWICE, *DONE], "ITXTTEI", Outcome.ERASED, None, Outcome.ERASED, INFERRED),
    ([HELD, FULL, LOST, FULL, OK, *TWICE, *DONE], "ITXTXTTEI", Outcome.ERASED, None, Outcome.ERASED, CONFIRMED),
    ([HELD, FULL, HTML, *TWICE, *DONE], "ITXTTEI", Outcome.ERASED, None, Outcome.ERASED, INFERRED),
    ([HELD, FULL, LOST, *[E500] * 5], "ITXTTTTT", Outcome.UNKNOWN, Reason.SERVER_ERROR, Outcome.UNKNOWN, None),
    ([HELD, FULL, *[LOST, FULL] * ACT_TRIES], "IT" + "XT" * ACT_TRIES, Outcome.UNKNOWN, Reason.READ_TIMEOUT,
     Outcome.UNKNOWN, None),
    # a 404 may be the second answer to a request that a proxy doubled
    ([HELD, FULL, ABSENT, *TWICE, *DONE], "ITXTTEI", Outcome.ERASED, None, Outcome.ERASED, INFERRED),
    # refused for now: certainly not done
    ([HELD, FULL, LIMITED, FULL, OK, *TWICE, *DONE], "ITXTXTTEI", Outcome.ERASED, None, Outcome.ERASED, CONFIRMED),
    ([HELD, FULL, NOT_SENT, *TWICE, *DONE], "ITXTTEI", Outcome.ERASED, None, Outcome.NOTHING_HELD, None),
    ([HELD, FULL, *[LIMITED, FULL] * ACT_TRIES], "IT" + "XT" * ACT_TRIES, Outcome.RETRYABLE, Reason.RATE_LIMITED,
     Outcome.RETRYABLE, None),
    # refused for good: nothing of the profile is erased
    ([HELD, FULL, BAD], "ITX", Outcome.FAILED, Reason.LEDGER_REFUSED, Outcome.FAILED, None),
    ([HELD, BAD], "IT", Outcome.FAILED, Reason.LEDGER_REFUSED, Outcome.FAILED, None),
    ([HELD, FULL, LOST, FULL, BAD, *TWICE, *DONE], "ITXTXTTEI", Outcome.ERASED, None, Outcome.ERASED, INFERRED),
    # the API knows no such program, and the profile is there: left to a person
    ([HELD, *GONE], "ITTT", Outcome.FAILED, Reason.PROGRAM_UNKNOWN, Outcome.FAILED, None),
    # what is not about this ledger, or no answer of the API, proves nothing
    ([HELD, *[OTHERS] * 5], "ITTTTT", Outcome.RETRYABLE, Reason.ANSWER_ABOUT_ANOTHER, Outcome.RETRYABLE, None),
    ([HELD, *[ENDLESS] * 5], "ITTTTT", Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, Outcome.RETRYABLE, None),
    ([HELD, *[HTML] * 5], "ITTTTT", Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, Outcome.RETRYABLE, None),
    ([HELD, EMPTY, *[HTML] * 5], "ITTTTTT", Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, Outcome.RETRYABLE, None),
    # no profile: its ledger is looked into all the same
    ([ABSENT, ABSENT, *GONE], "IITTT", Outcome.NOTHING_HELD, None, Outcome.NOTHING_HELD, None),
    ([ABSENT, ABSENT, *TWICE], "IITT", Outcome.NOTHING_HELD, None, Outcome.NOTHING_HELD, None),
    ([ABSENT, ABSENT, FULL, OK, *TWICE, ABSENT], "IITXTTI", Outcome.ERASED, Reason.LEDGER_ALONE, Outcome.ERASED,
     CONFIRMED),
    # Two 404s of somebody who has a ledger: the third question shows the profile, and it is erased as well.
    ([ABSENT, ABSENT, FULL, OK, *TWICE, HELD, *TWICE, *DONE], "IITXTTITTEI", Outcome.ERASED, None, Outcome.ERASED,
     CONFIRMED),
]  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "asked", "outcome", "reason", "of_ledger", "attribution"),
    WALKS,
    ids=[f"{k}-{w[1]}" for k, w in enumerate(WALKS)],
)
def test_a_ledger(erase, answers, asked, outcome, reason, of_ledger, attribution):
    said, state, programs = erase(*answers)
    assert (said, state.outcome, state.reason) == (asked, outcome, reason)
    assert {number: known.outcome for number, known in programs.items()} == {"33": of_ledger}
    assert programs["33"].attribution is attribution
    if "E" in said:
        assert of_ledger in {Outcome.ERASED, Outcome.NOTHING_HELD}


@pytest.mark.parametrize("refused", [LIMITED, refusal(503), NOT_SENT], ids=["429", "503", "not sent"])
def test_a_ledger_that_was_seen_and_is_empty_without_a_request_of_ours_has_vanished(erase, refused):
    _, state, programs = erase(HELD, FULL, refused, *TWICE, *DONE)
    (found,) = programs.values()
    assert (state.outcome, found.outcome, found.reason) == (Outcome.ERASED, Outcome.NOTHING_HELD, Reason.VANISHED)
    assert (found.transactions, found.attribution) == (1, None)


def test_a_refused_key_leaves_everything_open(erase):
    said, state, programs = erase(HELD, FULL, KEY)
    assert (said, state.outcome, state.reason) == ("ITX", Outcome.RETRYABLE, Reason.CREDENTIALS_REFUSED)
    assert programs["33"].outcome is Outcome.RETRYABLE
    said, state, _ = erase(HELD, KEY, resume=True)
    assert (said, state.outcome) == ("IT", Outcome.RETRYABLE)


ONE, TWO = [with_cards("K-1")] * 2, [with_cards("K-1", "K-2")] * 2
CARD_WALKS = [
    ([*ONE, unlinked("K-1"), HELD, *DONE], "IIUIEI", Outcome.ERASED, None, Outcome.ERASED, 1),
    ([*TWO, unlinked("K-1"), with_cards("K-2"), unlinked("K-2"), HELD, *DONE], "IIUIUIEI",
     Outcome.ERASED, None, Outcome.ERASED, 2),
    ([HELD, HELD, *DONE], "IIEI", Outcome.ERASED, None, Outcome.NOTHING_HELD, 0),
    # a card of another program stays
    ([with_cards("K-1", program=45), with_cards("K-1", program=45), *DONE], "IIEI", Outcome.ERASED, None,
     Outcome.NOTHING_HELD, 0),
    ([*ONE, unlinked("K-1"), with_cards("K-1")], "IIUI", Outcome.PENDING,
     Reason.LEDGER_STILL_HELD, Outcome.RESIDUAL, 1),
    ([*ONE, LOST, HELD, *DONE], "IIUIEI", Outcome.ERASED, None, Outcome.ERASED, 1),
    ([*ONE, unlinked("K-2"), HELD, *DONE], "IIUIEI", Outcome.ERASED, None, Outcome.ERASED, 1),
    ([*ONE, ABSENT, HELD, *DONE], "IIUIEI", Outcome.ERASED, None, Outcome.ERASED, 1),
    ([*ONE, BAD], "IIU", Outcome.FAILED, Reason.LEDGER_REFUSED, Outcome.FAILED, 1),
    ([ABSENT, ABSENT], "II", Outcome.NOTHING_HELD, None, Outcome.NOTHING_HELD, 0),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "asked", "outcome", "reason", "of_cards", "cards"), CARD_WALKS)
def test_cards(erase, answers, asked, outcome, reason, of_cards, cards):
    said, state, programs = erase(*answers, named=Programs(cards=(44,)))
    assert (said, state.outcome, state.reason) == (asked, outcome, reason)
    assert (programs["44"].outcome, programs["44"].cards) == (of_cards, cards)


def test_a_program_with_a_ledger_that_turns_out_to_have_cards_is_one_of_cards(erase):
    shown = with_cards("K-1", program=33)
    said, state, programs = erase(shown, shown, unlinked("K-1"), HELD, *DONE)
    assert (said, state.outcome, programs["33"].cards) == ("IIUIEI", Outcome.ERASED, 1)


def test_programs_are_emptied_one_after_the_other_and_one_that_is_not_keeps_the_profile(erase):
    second = ledger(entry(program=34))
    named = Programs(ledgers=(34, 33))
    said, state, programs = erase(HELD, FULL, OK, *TWICE, second, BAD, named=named)
    assert (said, state.outcome, state.reason) == ("ITXTTTX", Outcome.FAILED, Reason.LEDGER_REFUSED)
    assert {n: p.outcome for n, p in programs.items()} == {"33": Outcome.ERASED, "34": Outcome.FAILED}


# what a later execution makes of it


def test_what_was_left_open_is_taken_up_with_the_ledger_first(erase):
    erase(HELD, FULL, LOST, *[E500] * 5)
    said, state, programs = erase(HELD, *TWICE, *DONE, resume=True)
    assert (said, state.outcome, state.attempts) == ("ITTEI", Outcome.ERASED, 2)
    assert (programs["33"].outcome, programs["33"].attribution, programs["33"].transactions) == (
        Outcome.ERASED, INFERRED, 1,
    )  # fmt: skip


def test_an_unknown_ledger_is_never_taken_for_a_profile_that_was_erased(erase):
    erase(HELD, FULL, LOST, *[E500] * 5)
    said, state, programs = erase(ABSENT, ABSENT, *GONE, resume=True)
    assert (said, state.outcome, state.reason) == ("IITTT", Outcome.UNKNOWN, Reason.NOT_FOUND)
    assert programs["33"].outcome is Outcome.UNKNOWN


def test_what_was_deleted_stays_deleted_if_the_profile_vanishes(erase):
    erase(HELD, FULL, OK, *TWICE, LIMITED, stop_after=6)
    said, state, programs = erase(ABSENT, ABSENT, *GONE, ABSENT, resume=True)
    assert (said, state.outcome, state.reason) == ("IITTTI", Outcome.ERASED, Reason.LEDGER_ALONE)
    assert programs["33"].attribution is CONFIRMED


def test_new_transactions_are_deleted_as_well(erase):
    erase(HELD, FULL, OK, *TWICE, LIMITED, stop_after=6)
    said, state, programs = erase(HELD, FULL, OK, *TWICE, *DONE, resume=True)
    assert (said, state.outcome) == ("ITXTTEI", Outcome.ERASED)
    assert programs["33"].outcome is Outcome.ERASED


def test_once_the_erasure_of_the_profile_was_sent_the_ledger_is_not_asked_again(erase):
    erase(HELD, *TWICE, LOST, *[E500] * 5)
    said, state, programs = erase(ABSENT, ABSENT, resume=True)
    assert (said, state.outcome, state.attribution) == ("II", Outcome.ERASED, INFERRED)
    assert programs["33"].outcome is Outcome.NOTHING_HELD


def test_a_stop_before_the_deletion_leaves_the_subject_as_it_was(erase):
    said, state, programs = erase(HELD, FULL, stop_after=2)
    assert (said, state.outcome, programs) == ("IT", Outcome.PENDING, {})


def test_time_is_given_to_what_was_accepted(erase, clock):
    said, state, _ = erase(HELD, FULL, OK, FULL, FULL, *TWICE, *DONE, settle=3, clock=clock)
    assert (said, state.outcome) == ("ITXTTTTEI", Outcome.ERASED)


# how programs are named


@pytest.mark.parametrize(
    ("given", "named"),
    [(None, None), ("", None), ("33", "33"), ("34, 33,34", "33,34"), ("7,123456789012345", "7,123456789012345")],
)
def test_programs_are_named_by_their_numbers(given, named):
    assert check_programs(given) == named


@pytest.mark.parametrize("given", ["x", "33,", "-1", "0", "1.0", "\uff13\uff13", "33;34", "1" * 16, "33 34"])
def test_what_is_no_number_of_a_program_is_refused(given):
    with pytest.raises(UsageError):
        check_programs(given)


def test_a_plan_without_programs_names_none():
    assert named_in({}) == named_in({"with_loyalty": None}) == NONE
    assert named_in({"with_loyalty": "33,34", "with_cards": "44"}) == Programs((33, 34), (44,))
    assert DECLARATION.calls(10, {}).keys() == {"get_customer_inventory", "delete_customer_data"}
    assert DECLARATION.calls(10, {"with_loyalty": "33,34"})["delete_loyalty_transactions"] == (0, 20)
