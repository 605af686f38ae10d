import os
import subprocess
import sys
from pathlib import Path

import pytest

from privacy_toolkit.core.durable import left_over, sweep
from privacy_toolkit.core.model import RefusedError, UsageError
from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.sqlite.reader import create_run
from privacy_toolkit.journal.state import existing_state, open_controls, open_state


def test_runs_are_listed_newest_first(make_run, state):
    for run_id in ("20260101-000000-erase-aaaaaa", "20260301-000000-erase-aaaaaa", "20260201-000000-erase-aaaaaa"):
        make_run(run_id=run_id).close()
    assert [run_id[:8] for run_id in state.run_ids()] == ["20260301", "20260201", "20260101"]


def test_a_run_is_found_by_id_beginning_or_latest(make_run, state):
    for run_id in ("20260101-000000-erase-aaaaaa", "20260102-000000-erase-bbbbbb"):
        make_run(run_id=run_id).close()
    assert state.find("latest") == state.find("20260102") == "20260102-000000-erase-bbbbbb"
    assert state.find("20260101-000000-erase-aaaaaa") == "20260101-000000-erase-aaaaaa"


@pytest.mark.parametrize("name", ["2026", "nothing", "", "../runs", "latest"])
def test_an_ambiguous_or_unknown_run_is_refused(make_run, state, name):
    if name != "latest":
        for run_id in ("20260101-000000-erase-aaaaaa", "20260102-000000-erase-bbbbbb"):
            make_run(run_id=run_id).close()
    with pytest.raises(UsageError):
        state.find(name)


def test_the_lock_keeps_a_second_holder_of_the_target_out_and_no_other(state):
    with state.lock("host/shop"):
        with pytest.raises(RefusedError), StateFolder(state.path).lock("host/shop"):
            pass
        with StateFolder(state.path).lock("other/shop"):
            pass
    with StateFolder(state.path).lock("host/shop"):
        pass


def test_the_lock_of_a_killed_process_is_free(state):
    code = (
        "import os, sys, pathlib; from privacy_toolkit.journal.sqlite.folder import StateFolder;"
        "lock = StateFolder(pathlib.Path(sys.argv[1])).lock('t'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(state.path)], check=False).returncode == -9
    with state.lock("t"):
        pass


def test_a_run_that_can_not_be_staged_leaves_nothing(state):
    def broken():
        yield [(2, "a")]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        create_run(state.runs / "r", Staged(plan=b"{}", created_at=1, pages=broken()))
    assert list(state.runs.iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from privacy_toolkit.core.durable import left_over, sweep
from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.reader import create_run

def pages():
    yield [(2, "somebody")]
    os.kill(os.getpid(), 9)

create_run(Path(sys.argv[1]), Staged(plan=b"{}", created_at=1, pages=pages()))
"""


def test_what_a_killed_process_left_half_staged_is_swept_also_where_its_process_id_is_used_again(state):
    died = subprocess.run([sys.executable, "-c", KILLED, state.runs / "r"], check=False)
    assert died.returncode == -9
    (half,) = state.runs.iterdir()
    again = half.rename(state.runs / f".new-{os.getpid()}-r")  # as an earlier version called it, in a container
    assert left_over(state.runs) == [again]
    with state.lock("t"):
        pass
    assert list(state.runs.iterdir()) == []


def test_what_a_living_process_is_making_is_left_alone(state):
    def pages():
        yield [(2, "a")]
        assert left_over(state.runs) == sweep(state.runs) == []

    create_run(state.runs / "r", Staged(plan=b"{}", created_at=1, pages=pages()))
    assert state.run_ids() == ["r"]


def test_a_state_folder_that_can_not_be_made_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be used"):
        StateFolder(tmp_path / "file")


def test_runs_of_one_second_are_in_the_order_in_which_they_were_made(state, make_run):
    for run_id in ("20260101-000000-reserve-00001aaaa", "20260101-000000-assign-f423fbbbb"):
        with make_run(run_id=run_id):
            pass
    assert state.find("latest") == "20260101-000000-assign-f423fbbbb"


def snapshot(folder):
    """All that somebody could see of a folder, itself included."""
    places = sorted((folder, *folder.rglob("*")))
    return [(place, place.stat().st_mode, place.is_file() and place.read_bytes()) for place in places]


@pytest.fixture
def shared(tmp_path):
    """A folder of other things, open to everybody, as /tmp is."""
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "notes.txt").write_text("not ours")
    folder.chmod(0o1777)
    return folder


@pytest.mark.parametrize("opened", [StateFolder, StateFolder.existing])
@pytest.mark.parametrize("through_link", [False, True])
def test_a_folder_that_holds_other_things_is_refused_and_stays_as_it_is(tmp_path, shared, opened, through_link):
    (tmp_path / "link").symlink_to(shared)
    before = snapshot(shared)
    with pytest.raises(UsageError, match="no state folder"):
        opened(tmp_path / "link" if through_link else shared)
    assert snapshot(shared) == before


def test_a_shared_folder_is_not_closed_off_though_it_is_empty_or_was_filled_with_our_names(shared):
    (shared / "notes.txt").unlink()
    for name in ("runs", "locks"):
        with pytest.raises(UsageError, match="shared"):
            StateFolder(shared)
        (shared / name).mkdir()
    with pytest.raises(UsageError, match="shared"):
        StateFolder(shared)
    assert shared.stat().st_mode & 0o7777 == 0o1777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("theirs", [".", "runs"])
def test_a_folder_of_somebody_else_is_refused(state, theirs):
    os.chown(state.path / theirs, 4711, 4711)
    before = snapshot(state.path)
    with pytest.raises(UsageError, match="somebody else"):
        StateFolder(state.path)
    assert snapshot(state.path) == before


def test_an_empty_folder_of_ones_own_is_taken_and_closed_off_also_through_a_link(tmp_path):
    own = tmp_path / "own"
    (own / "lost+found").mkdir(parents=True)
    own.chmod(0o755)
    (tmp_path / "link").symlink_to(own)
    assert StateFolder(tmp_path / "link").path == own.resolve()
    assert own.stat().st_mode & 0o777 == 0o700
    StateFolder(own)  # now it is a state folder, whatever else comes to lie in it
    (own / "something").write_text("")
    StateFolder(own)


def test_to_read_a_missing_folder_has_no_runs_and_is_not_made(tmp_path):
    state = StateFolder.existing(tmp_path / "nowhere")
    assert state.run_ids() == []
    with pytest.raises(UsageError, match="no such run"):
        state.find("latest")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opened", [StateFolder, StateFolder.existing])
def test_links_in_a_circle_are_an_error_in_words(tmp_path, opened):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UsageError, match="can't be used"):
        opened(tmp_path / "a")


@pytest.mark.parametrize("opened", [open_state, existing_state, open_controls])
@pytest.mark.parametrize("address", ["postgresql://me:hunter2@db.example.org/toolkit", Path("postgres://db/toolkit")])
def test_an_address_of_a_database_is_said_not_to_be_supported_without_showing_it(
    opened, address, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"not supported yet: it needs the extra \[cluster\]") as error:
        opened(address)
    assert "hunter2" not in error.value.message + error.value.hint
    assert list(tmp_path.iterdir()) == []
