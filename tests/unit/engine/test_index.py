"""What earlier runs did, looked up in an index that may be missing, damaged, behind, or left by a process that died."""

import os
import signal
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime

import pytest

from privacy_toolkit.app import runs
from privacy_toolkit.config.settings import scope_of
from privacy_toolkit.core.model import Job, JournalError, Outcome, RefusedError
from privacy_toolkit.engine.open_requests import all_known_absent, known_plans
from privacy_toolkit.engine.plan import plan_of
from privacy_toolkit.engine.planning import check_not_applied
from privacy_toolkit.jobs.export import answered
from privacy_toolkit.journal.records import Note, SubjectState
from privacy_toolkit.journal.sqlite import chain as index_file
from privacy_toolkit.journal.sqlite.folder import StateFolder
from tests.support import reported_runs
from tests.support.reported_runs import Told

SCOPE = scope_of("https://example.europe-west1.talon.one", "sandbox")
NOW = datetime(2026, 11, 25, tzinfo=UTC)
AT = 1_795_435_200_000_000
DONE = SubjectState(Outcome.DONE, settled_at=AT)
ABSENT = SubjectState(Outcome.NOTHING_HELD, settled_at=AT)
OPEN = SubjectState(Outcome.RETRYABLE, settled_at=AT)
RUN, LATER = "20261123-120000-export-00001", "20261124-120000-export-00002"


@pytest.fixture
def write(state):
    """Write an export: who was asked about, and how they stand."""

    def written(run_id=RUN, **subjects):
        told = [Told(id_, stands, request=("2026-11-20", None, "T-4711", None)) for id_, stands in subjects.items()]
        reported_runs.write_run(state.runs / run_id, told, job=Job.EXPORT, exclusions=None, nonce=run_id[-1] * 32)
        return run_id

    return written


def exported(state):
    return set(answered(state, SCOPE, {"anna", "ben", "carl", "dora"}))


def plan(state, run_id):
    with state.open(run_id) as journal:
        return plan_of(journal)


def look(state):
    """Look at everything that the index is asked for."""
    return exported(state), all_known_absent({"ben"}, state, SCOPE, "other"), set(known_plans(state, lambda _: True))


@pytest.fixture
def two(state, write):
    write(anna=DONE, ben=ABSENT, carl=OPEN)
    write(LATER, carl=DONE)
    return state


EXPECTED = ({"anna", "ben", "carl"}, True, {RUN, LATER})


def path(state):
    return state.path / "index.sqlite"


def test_the_index_tells_what_the_runs_do_and_reads_each_once(two, monkeypatch):
    assert look(two) == look(two) == EXPECTED
    monkeypatch.setattr(StateFolder, "open", None)  # no run is opened any more
    assert look(StateFolder(two.path)) == EXPECTED
    assert not all_known_absent({"anna", "ben"}, two, SCOPE, "other")
    assert not all_known_absent({"ben"}, two, SCOPE, RUN)
    assert answered(two, f"other {SCOPE}", {"anna"}) == {}


def test_the_index_is_its_owners_and_names_nobody(two):
    look(two)
    assert stat.S_IMODE(path(two).stat().st_mode) == 0o600
    content = path(two).read_bytes()
    for text in (b"anna", b"carl", b"T-4711", b"2026-11-20", two.key.read()):
        assert text not in content


def test_what_a_resumed_run_adds_is_known(two):
    look(two)
    with two.open(RUN) as journal:
        number = journal.begin_execution(1, "{}")
        journal.record([Note(3, (), DONE)])
        assert exported(StateFolder(two.path)) == EXPECTED[0]  # while it is at work
        journal.end_execution(number, 2, None)
    with closing(sqlite3.connect(two.runs / LATER / "journal.sqlite")) as other:
        assert other.execute("SELECT 1").fetchone() == (1,)  # who only reads changes nothing
    assert sorted(len(found) for found in answered(two, SCOPE, {"anna", "carl"}).values()) == [1, 2]


def cut(state):
    path(state).write_bytes(path(state).read_bytes()[:5_000])


def noise(state):
    content = bytearray(path(state).read_bytes())
    content[4_096:] = os.urandom(len(content) - 4_096)
    path(state).write_bytes(content)


def other_version(state):
    with closing(sqlite3.connect(path(state))) as connection:
        connection.executescript("PRAGMA user_version=77; DROP TABLE parts;")


def other_key(state):
    state.key.path.unlink()
    state.key.read_or_draw()


def no_tables(state):
    path(state).write_bytes(b"")


def older(state):
    """As if index and runs came from different backups: it knows one run less, and another one as it was."""
    with closing(sqlite3.connect(path(state))) as connection:
        connection.executescript("DELETE FROM parts WHERE no % 2; UPDATE parts SET stamp = zeroblob(32);")


@pytest.mark.parametrize("change", [cut, noise, other_version, other_key, no_tables, older, lambda s: path(s).unlink()])
def test_an_index_that_can_not_be_used_is_made_again(two, change, monkeypatch):
    look(two)
    change(two)
    assert look(StateFolder(two.path)) == EXPECTED
    assert look(StateFolder(two.path)) == EXPECTED
    monkeypatch.setattr(StateFolder, "open", None)
    assert look(StateFolder(two.path)) == EXPECTED


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE told SET value = zeroblob(length(value))",
        "UPDATE OR REPLACE told SET digest = (SELECT max(digest) FROM told)",
        "UPDATE parts SET salt = zeroblob(16)",
        "UPDATE parts SET run_id = 'x' || run_id",
        "UPDATE OR REPLACE parts SET part = 'answered' WHERE part = 'absent' AND no IN (SELECT max(no) FROM parts)",
        "UPDATE parts SET note = zeroblob(length(note))",
        "DELETE FROM told",
    ],
)
def test_nobody_is_left_out_by_an_entry_that_is_not_as_it_was_written(two, sql):
    """Anyone who is missing is exported again; nobody who was not exported is taken for it."""
    look(two)
    with closing(sqlite3.connect(path(two), isolation_level=None)) as connection:
        connection.execute(sql)
    assert exported(two) <= EXPECTED[0]
    assert set(known_plans(two, lambda _: True)) == {RUN, LATER}
    with pytest.raises(RefusedError):
        check_not_applied(plan(two, RUN), two)


def test_without_the_key_of_the_lists_everything_is_read_and_no_other_key_is_drawn(two):
    with two.suppression():
        pass
    look(two)
    two.key.path.rename(two.path / "kept-elsewhere")
    assert look(StateFolder(two.path)) == EXPECTED
    assert not two.key.path.exists()
    with pytest.raises(JournalError, match="is missing"):
        two.suppression()


def test_an_index_that_can_not_be_written_is_none(two, monkeypatch):
    path(two).mkdir()
    assert look(two) == EXPECTED


def test_a_purge_destroys_what_the_index_has_of_the_run(two):
    look(two)
    with closing(sqlite3.connect(path(two))) as connection:
        digests = {digest for (digest,) in connection.execute("SELECT digest FROM told")}
    assert len(digests) == 4  # three answers, one of them an absence too
    runs.purge(two, runs.to_purge(two, RUN), NOW, None)
    content = path(two).read_bytes()
    assert sum(digest in content for digest in digests) == 1
    assert exported(two) == {"carl"}
    with pytest.raises(RefusedError) as error:
        check_not_applied(plan(two, RUN), two)
    assert error.value.code == "applied"


def test_anyone_who_reads_a_run_while_it_is_purged_enters_nothing_of_it(two):
    def told():
        yield f"{SCOPE}\0anna", b"x"
        with two.open(RUN) as journal:
            journal.purge(1, plan(two, RUN).without_input().encode())

    with two.index() as index:
        index.behind("answered")
        index.enter("answered", RUN, b"", told(), lasting=True)
        assert RUN in index.behind("answered")
    assert exported(two) == {"carl"}


def test_a_plan_is_applied_once_whatever_became_of_its_run(two):
    known = plan(two, RUN)
    with pytest.raises(RefusedError, match=RUN):
        check_not_applied(known, two)
    two.set_aside(RUN)
    with pytest.raises(RefusedError) as error:
        check_not_applied(known, two)
    assert "set aside" in error.value.hint
    (two.path / "set-aside" / RUN).rename(two.runs / RUN)
    with pytest.raises(RefusedError) as error:
        check_not_applied(known, two)
    assert "runs show" in error.value.hint


def test_a_run_that_is_damaged_since_it_was_entered_may_be_the_one(two):
    known = plan(two, RUN)
    look(two)
    (two.runs / RUN / "journal.sqlite").write_bytes(b"noise" * 999)
    with pytest.raises(JournalError):
        check_not_applied(known, two)
    assert exported(two) == {"carl"}  # what it answered is answered once more


def dies_at(state, step):
    """Look at everything in a process that is killed before its statement number ``step``; whether it came so far."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)
    left = [step]

    def count(_):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    connected = index_file._connected

    def watched(place):
        connection = connected(place)
        connection.set_trace_callback(count)
        return connection

    index_file._connected = watched
    try:
        if left[0] < 500:
            look(StateFolder(state.path))
    finally:
        os._exit(0)


def test_a_process_may_die_at_any_step(two):
    """After each kill, with what it left behind, the runs tell what they did, and a run that ends then tells too."""
    step, died = 0, True
    while died:
        path(two).unlink(missing_ok=True)
        path(two).with_name("index.sqlite-journal").unlink(missing_ok=True)
        died = dies_at(two, step)
        assert look(StateFolder(two.path)) == EXPECTED
        step += 1
    assert step > 30
