"""Who is left alone: the exclusion list, anyone who was erased, and which of the two is said."""

import pytest
from msgspec.structs import replace

from privacy_toolkit.config.settings import Flags, load_settings, scope_of
from privacy_toolkit.core.model import Hold, Job, Outcome
from privacy_toolkit.engine.plan import plan_of
from privacy_toolkit.engine.planning import SUPPRESSED, Holds, catch_up, suppression
from privacy_toolkit.journal.records import Note, SubjectState
from privacy_toolkit.journal.sqlite.ledgers import SUPPRESSION_FILE, SuppressionFile
from tests.support import reported_runs

LISTED = {"b": Hold("identity"), "c": Hold("17(3)(b)", "2027-01-31")}
PAGES = [[(2, "a"), (3, "b")], [(4, "c"), (5, "d")]]
BASE_URL = "https://example.europe-west1.talon.one"
SCOPE = scope_of(BASE_URL, "sandbox")
ERASING = (Job.ERASE,)


def of_the_id(id_, _):
    return (id_,)


@pytest.fixture
def run(state):
    """Writes a run of (id, outcome)."""

    def write(number, *subjects, **changes):
        told = [reported_runs.told(id_, outcome) for id_, outcome in subjects]
        return reported_runs.write_run(state.runs / f"run-{number}", told, **changes).name

    return write


@pytest.fixture
def is_suppressed(state):
    """Whether somebody is on the list as it is once it was brought up to date."""

    def ask(id_, where=SCOPE):
        with SuppressionFile(state.path) as listed:
            catch_up(listed, state, ERASING)
            return listed.of({where})(id_)

    return ask


# on whose ground


def test_without_any_ground_nothing_is_read():
    def none():
        yield pytest.fail("read")

    assert Holds({}, None, of_the_id).among(none()) == ({}, 0)


def test_subjects_are_held_by_their_numbers_and_the_list_comes_first():
    grounds = Holds(LISTED, {"a", "b"}.__contains__, of_the_id)
    assert grounds.among(PAGES) == ({1: SUPPRESSED, 2: LISTED["b"], 3: LISTED["c"]}, 2)


def test_a_subject_is_held_for_any_customer_it_is_about():
    pages = [[(2, "CODE", "a"), (3, "CODE", "c")], [(4, "CODE", "d,b")]]
    grounds = Holds(LISTED, {"a"}.__contains__, lambda _, given: given.split(","))
    assert grounds.among(pages) == ({1: SUPPRESSED, 2: LISTED["c"], 3: LISTED["b"]}, 2)


@pytest.mark.parametrize(
    "written",
    ["B", "b\u200b", "\ufeffb", "\uff42", "0b", "b\u2060 ", "b.0"],
    ids=["capitals", "zero width", "byte order mark", "full width", "zero in front", "invisible and blank", "decimal"],
)
def test_who_is_on_the_list_but_for_how_the_id_is_written_is_counted_and_not_held(written):
    grounds = Holds(LISTED, None, of_the_id)
    assert grounds.among([[(2, "a"), (3, written)]]) == ({}, 0)
    assert grounds.nearly == 1


def test_zeros_that_a_spreadsheet_dropped_from_the_list_are_seen_too():
    grounds = Holds({"123": Hold("identity"), "0": Hold("identity")}, None, of_the_id)
    assert grounds.among([[(2, "00123"), (3, "000"), (4, "1230"), (5, "123")]]) == ({4: Hold("identity")}, 1)
    assert grounds.nearly == 2


def test_who_is_held_or_somebody_else_is_not_nearly_on_the_list():
    grounds = Holds(LISTED, {"B"}.__contains__, of_the_id)
    assert grounds.among(PAGES)[1] == 2
    assert grounds.nearly == 0
    assert grounds.among([[(2, "B"), (3, "bb")]]) == ({1: SUPPRESSED}, 0)
    assert grounds.nearly == 0


# who was erased


def test_whom_a_run_erased_is_on_the_list_and_nobody_else(run, is_suppressed):
    run(1, ("a", Outcome.ERASED), ("b", Outcome.NOTHING_HELD), ("c", Outcome.UNVERIFIED), ("d", Outcome.ON_HOLD))
    run(2, ("e", Outcome.ERASED))
    assert [is_suppressed(id_) for id_ in "abcde"] == [True, False, False, False, True]


def test_an_erasure_holds_in_all_applications_of_its_environment_alone(run, is_suppressed):
    run(1, ("a", Outcome.ERASED), target="example.europe-west1.talon.one/other")
    assert is_suppressed("a")
    assert is_suppressed("a", scope_of("HTTPS://Example.europe-west1.talon.one/", "sandbox"))
    assert not is_suppressed("a", scope_of(BASE_URL, "live"))
    assert not is_suppressed("a", scope_of("https://other.talon.one", "sandbox"))


def test_who_is_erased_by_a_later_execution_comes_on_the_list(run, state, is_suppressed):
    name = run(1, ("a", Outcome.ERASED), ("b", Outcome.UNVERIFIED))
    assert not is_suppressed("b")
    with state.open(name) as journal:
        number = journal.begin_execution(1, "{}")
        journal.record([Note(2, (), SubjectState(Outcome.ERASED, settled_at=2))])
        journal.end_execution(number, 2, None)
    assert is_suppressed("b")


def test_a_purge_takes_nobody_off_the_list(run, state, is_suppressed):
    name = run(1, ("a", Outcome.ERASED))
    assert is_suppressed("a")
    with state.open(name) as journal:
        journal.purge(1, plan_of(journal).without_input().encode())
    assert is_suppressed("a")
    assert not is_suppressed("")


def test_a_job_that_makes_no_profile_asks_for_no_list(run, state):
    run(1, ("a", Outcome.ERASED))
    settings = replace(load_settings(Flags(), {"PRIVACY_TOOLKIT_BASE_URL": BASE_URL}), environment="sandbox")
    with suppression(state, settings, ()) as asked:
        assert asked is None
    assert not (state.path / SUPPRESSION_FILE).exists()
    with suppression(state, settings, ERASING) as asked:
        assert [asked("a"), asked("b")] == [True, False]


def test_runs_are_read_once_for_the_list_and_again_when_they_change(run, state, is_suppressed, monkeypatch):
    name = run(1, ("a", Outcome.ERASED), ("b", Outcome.UNVERIFIED))
    run(2, ("c", Outcome.NOTHING_HELD))
    assert is_suppressed("a")
    opened = []
    original = type(state).open
    monkeypatch.setattr(type(state), "open", lambda self, run_id: opened.append(run_id) or original(self, run_id))
    assert is_suppressed("a")
    assert opened == []
    with original(state, name) as journal:
        number = journal.begin_execution(1, "{}")
        journal.record([Note(2, (), SubjectState(Outcome.ERASED))])
        assert is_suppressed("a")  # while it is at work, whatever of it is durable yet
        journal.end_execution(number, 2, None)
    assert is_suppressed("b")
    assert opened == [name, name]


def test_a_list_that_is_lost_or_older_is_made_of_all_runs_again(run, state, is_suppressed):
    run(1, ("a", Outcome.ERASED))
    assert is_suppressed("a")
    before = (state.path / SUPPRESSION_FILE).read_bytes()
    run(2, ("b", Outcome.ERASED))
    assert is_suppressed("b")
    (state.path / SUPPRESSION_FILE).write_bytes(before)
    assert [is_suppressed(id_) for id_ in "ab"] == [True, True]
    (state.path / SUPPRESSION_FILE).unlink()
    assert [is_suppressed(id_) for id_ in "ab"] == [True, True]
