"""Whose request an earlier export answered: which requests a run covers, and which runs count."""

from contextlib import ExitStack
from datetime import UTC, date, datetime

import pytest

from privacy_toolkit.config.settings import scope_of
from privacy_toolkit.core.model import Hold, Outcome, Reason, Regime, SubjectRequest, UsageError
from privacy_toolkit.engine.job import Preparation
from privacy_toolkit.engine.open_requests import amended, request_rows
from privacy_toolkit.engine.plan import plan_of
from privacy_toolkit.engine.planning import EXPORTED
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import read_input
from privacy_toolkit.jobs.export import Answered, answered, prepare, unanswered
from privacy_toolkit.journal.records import SubjectState
from tests.support import reported_runs

TARGET = "example.europe-west1.talon.one/shop"
SCOPE = scope_of("https://example.europe-west1.talon.one", "sandbox")
DAY = date(2026, 11, 23)


def micros(*when):
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1e6)


NOON = micros(2026, 11, 23, 12)


@pytest.fixture
def run(state):
    """Writes a run in which somebody stands somehow, and was asked for on a day with a ticket."""

    def write(
        number=1, id_="someone", outcome=Outcome.DONE, asked=None, ticket=None, at=NOON, *, job="export", **changes
    ):
        reason = Reason.SERVER_ERROR if outcome is Outcome.RETRYABLE else None
        subject = reported_runs.Told(
            id_,
            None if outcome is Outcome.PENDING else SubjectState(outcome, reason, settled_at=at),
            request=reported_runs.Asked(asked, None, ticket) if asked or ticket else None,
        )
        name = f"20261123-120000-export-{number:09x}"
        return reported_runs.write_run(state.runs / name, [subject], job=job, exclusions=None, **changes).name

    return write


@pytest.fixture
def skips(state, tmp_path):
    """Plans an export of a list: the requests that are left, by number, and the holds."""

    def plan(text, *, holds=None, new_only=True):
        path = tmp_path / "list.csv"
        path.write_text(text)
        with ExitStack() as resources:
            scan = resources.enter_context(read_input(str(path), spool_folder=state.path))
            parameters = {"new_only": new_only}
            preparation = Preparation(
                scan, holds or {}, parameters, InputOptions(), None, state, SCOPE, "", resources, tmp_path
            )
            assigned = prepare(preparation)
            asked = {seq: request.requested_on for seq, request in amended(scan.requests(), assigned.requests)}
        assert set(assigned.holds.values()) <= {EXPORTED}
        return set(assigned.holds), asked

    return plan


def is_answered(state, request):
    found = answered(state, SCOPE, {"someone"})
    return bool(found) and not unanswered([("someone", request)], found)


def asked_on(text, ticket=None):
    return SubjectRequest(date.fromisoformat(text) if text else None, ticket=ticket)


# which request an export answers


@pytest.mark.parametrize(
    ("made_for", "asked", "answers"),
    [
        (None, None, True),  # nobody knows when it came in
        (None, "2026-11-22", True),  # it came in on an earlier day
        (None, "2026-11-23", False),  # of the same day, and not known to be the same
        (None, "2026-11-24", False),
        ("2026-11-20", None, True),
        ("2026-11-20", "2026-11-20", True),
        ("2026-11-20", "2026-11-22", True),
        ("2026-11-20", "2026-11-23", False),
        ("2026-11-23", "2026-11-23", True),  # the very request it was made for
        ("2026-11-24", "2026-11-24", True),  # somewhere it was that day already
        ("2026-11-23", "2026-11-24", False),
    ],
)
def test_an_export_answers_what_came_in_on_an_earlier_day_and_what_it_was_made_for(
    state, run, made_for, asked, answers
):
    run(asked=made_for)
    assert is_answered(state, asked_on(asked)) is answers


@pytest.mark.parametrize(
    ("at", "day"),
    [
        (micros(2026, 11, 23, 11, 59), date(2026, 11, 22)),
        (NOON, DAY),
        (micros(2026, 11, 24, 11, 59), DAY),
        (None, date.min),
    ],
)
def test_a_day_is_over_when_it_is_over_everywhere(state, run, at, day):
    run(at=at)
    (answer,) = answered(state, SCOPE, {"someone"})["someone"]
    assert answer.day == day


@pytest.mark.parametrize(
    ("before", "now", "same"), [("T-1", "T-1", True), ("T-1", "T-2", False), ("T-1", None, True), (None, "T-1", True)]
)
def test_of_one_day_the_ticket_tells_requests_apart(before, now, same):
    assert Answered("2026-11-23", before, DAY).covers(asked_on("2026-11-23", now)) is same
    assert Answered("2026-11-23", before, date(2026, 11, 24)).covers(asked_on("2026-11-23", now))


# which runs count


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_a_package_that_was_made_is_an_answer(state, run, outcome):
    run(outcome=outcome)
    assert is_answered(state, asked_on(None)) is (outcome in {Outcome.DONE, Outcome.NOTHING_HELD})


@pytest.mark.parametrize(
    "changes",
    [{"job": "erase"}, {"base_url": "https://other.talon.one"}, {"environment": "live"}],
)
def test_runs_of_other_jobs_deployments_and_environments_do_not_count(state, run, changes):
    run(**changes)
    assert answered(state, SCOPE, {"someone"}) == {}


def test_a_purged_run_knows_nobody(state, run):
    name = run()
    with state.open(name) as journal:
        journal.purge(1, plan_of(journal).without_input().encode())
    assert answered(state, SCOPE, {"someone", ""}) == {}


def test_one_answer_of_several_runs_is_enough(state, run):
    run(1, outcome=Outcome.RETRYABLE, asked="2026-11-23")
    run(2, asked="2026-11-20", at=micros(2026, 11, 21))
    assert not is_answered(state, asked_on("2026-11-23"))
    run(3, outcome=Outcome.NOTHING_HELD, asked="2026-11-23")
    assert is_answered(state, asked_on("2026-11-23"))


# the plan


def test_those_answered_are_on_hold_and_everybody_else_is_left_as_they_are(run, skips):
    run(1, "a", asked="2026-11-20")
    run(2, "b", Outcome.RETRYABLE, asked="2026-11-20")
    text = "customer_id,requested_at\na,2026-11-20\nb,2026-11-20\nc,\n"
    assert skips(text) == ({1}, {1: date(2026, 11, 20), 2: date(2026, 11, 20)})
    assert skips(text, new_only=False)[0] == set()
    assert skips(text, holds={1: Hold("identity")})[0] == set()  # the ground of the exclusion list is said


def test_a_list_without_dates_leaves_out_anyone_who_was_exported(run, skips):
    run(1, "a", asked="2026-11-20")
    assert skips("customer_id\na\nb\na\n") == ({1}, {})


def test_who_asks_again_is_exported_again_although_the_first_request_is_still_on_the_list(run, skips):
    run(1, "a", asked="2026-01-10", at=micros(2026, 1, 11, 2))
    text = "customer_id,requested_at\nb,\na,2026-01-10\na,2026-06-05\na,2026-06-01\n"
    assert skips(text) == (set(), {2: date(2026, 6, 1)})  # the clock of the open request, not of the answered one
    run(2, "a", asked="2026-06-01", at=micros(2026, 6, 5, 2))
    assert skips(text) == (set(), {2: date(2026, 6, 5)})
    run(3, "a", asked="2026-06-05", at=micros(2026, 6, 6, 2))
    assert skips(text) == ({2}, {2: date(2026, 1, 10)})


def test_the_request_that_counts_is_the_one_the_journal_keeps():
    numbered = [(1, asked_on("2026-01-10")), (2, asked_on("2026-01-10"))]
    rows = list(request_rows(amended(numbered, {2: asked_on("2026-06-01", "T-2")}), Regime.GDPR))
    assert rows == [(1, "2026-01-10", "2026-02-10", None, None), (2, "2026-06-01", "2026-07-01", "T-2", None)]


def test_the_notice_is_planned_by_its_hash_and_has_to_be_there(state, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("customer_id\na\n")

    def planned(notice):
        with ExitStack() as resources:
            scan = resources.enter_context(read_input(str(path), spool_folder=state.path))
            return prepare(
                Preparation(scan, {}, {}, InputOptions(), notice, state, SCOPE, "", resources, tmp_path)
            ).second

    notice = tmp_path / "notice.toml"
    notice.write_bytes(b"abc")
    found = planned(str(notice))
    assert (found.path, found.size, found.format) == (str(notice), 3, "toml")
    assert found.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert planned(None) is None
    with pytest.raises(UsageError, match=r"notice none\.toml can't be read"):
        planned(str(tmp_path / "none.toml"))
