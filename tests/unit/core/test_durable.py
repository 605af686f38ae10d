import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from privacy_toolkit.core import durable
from privacy_toolkit.core.durable import FolderPlace, write_file


def build(path, content):
    place = FolderPlace(path, over=True)
    write_file(place.begin() / "content", [content])
    return place


def neighbour(path):
    return sorted(found.name for found in path.parent.iterdir())


@pytest.fixture
def packs(tmp_path):
    (tmp_path / "packs").mkdir()
    return tmp_path / "packs"


@pytest.fixture
def died_while_building(packs):
    """A process that ended in the middle of building at p, without a chance to clean up."""
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom privacy_toolkit.core.durable import FolderPlace\n"
        "(FolderPlace(Path(sys.argv[1]), over=True).begin() / 'half').write_text('half')\nos._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, packs / "p"], check=False).returncode == 9
    assert len(neighbour(packs / "p")) == 1


def test_file_is_for_its_owner_only_and_never_replaced(tmp_path):
    write_file(tmp_path / "f", [b"a", b"b"])
    assert (tmp_path / "f").read_bytes() == b"ab"
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "f", [b"c"])
    assert (tmp_path / "f").read_bytes() == b"ab"


def test_folder_comes_to_its_place_as_a_whole(packs):
    place = build(packs / "p", b"new")
    assert not (packs / "p").exists()
    place.finish()
    assert (packs / "p" / "content").read_bytes() == b"new"
    assert stat.S_IMODE((packs / "p").stat().st_mode) == 0o700
    assert neighbour(packs / "p") == ["p"]


def test_folder_takes_the_place_of_another(packs):
    build(packs / "p", b"old").finish()
    build(packs / "p", b"new").finish()
    assert (packs / "p" / "content").read_bytes() == b"new"
    assert neighbour(packs / "p") == ["p"]


def test_folder_that_can_not_be_moved_leaves_the_old_one_in_its_place(packs, monkeypatch):
    build(packs / "p", b"old").finish()
    place = build(packs / "p", b"new")
    rename = durable.Path.rename

    def refuse(path, target):
        if path.name.startswith(".new-"):
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(durable.Path, "rename", refuse)
        with pytest.raises(PermissionError):
            place.finish()
    place.discard()
    assert (packs / "p" / "content").read_bytes() == b"old"
    assert neighbour(packs / "p") == ["p"]


def test_nothing_is_put_in_place_that_was_not_built(packs):
    with pytest.raises(ValueError, match="nothing was built"):
        FolderPlace(packs / "p", over=True).finish()


def test_what_a_dead_process_left_goes_away(packs, died_while_building):
    place = build(packs / "p", b"new")
    place.finish()
    place.sweep()
    assert neighbour(packs / "p") == ["p"]


def test_what_another_process_works_on_stays(packs):
    other = build(packs / "p", b"other")
    place = build(packs / "p", b"new")
    place.finish()
    place.sweep()
    assert len(neighbour(packs / "p")) == 2
    other.finish()
    assert (packs / "p" / "content").read_bytes() == b"other"
    assert neighbour(packs / "p") == ["p"]


def test_what_belongs_to_another_place_stays(packs):
    for name in (".new-1-other", ".old-1-other", ".new-x y-p", "p-new"):
        (packs / name).mkdir()
    place = build(packs / "p", b"new")
    place.finish()
    place.sweep()
    assert neighbour(packs / "p") == [".new-1-other", ".new-x y-p", ".old-1-other", "p", "p-new"]


def test_folder_that_was_moved_away_by_a_process_that_died_is_put_back(packs):
    for number, name in enumerate(["1", "2"]):
        old = packs / f".old-{name}-p"
        old.mkdir()
        (old / "content").write_text(name)
        os.utime(old, (number, number))
    FolderPlace(packs / "p", over=True).restore()
    assert (packs / "p" / "content").read_text() == "2"
    assert neighbour(packs / "p") == [".old-1-p", "p"]


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.touch(), lambda p: p.symlink_to("nowhere")])
def test_nothing_is_put_back_where_something_stands(packs, make):
    (packs / ".old-1-p").mkdir()
    make(packs / "p")
    FolderPlace(packs / "p", over=True).restore()
    assert neighbour(packs / "p") == [".old-1-p", "p"]


def test_there_is_nothing_to_put_back_where_no_folder_is(tmp_path):
    FolderPlace(tmp_path / "missing" / "p", over=True).restore()
    assert not (tmp_path / "missing").exists()


def test_what_was_half_removed_is_never_put_back(packs, monkeypatch):
    """A process that dies while it removes the folder that was replaced leaves nothing that looks like a whole one."""
    build(packs / "p", b"old").finish()
    place = build(packs / "p", b"new")
    with monkeypatch.context() as patched:
        patched.setattr(durable.shutil, "rmtree", lambda *_, **__: None)
        place.finish()
    assert len(neighbour(packs / "p")) == 2
    (packs / "p").rename(packs / "taken-elsewhere")
    FolderPlace(packs / "p", over=True).restore()
    assert not (packs / "p").exists()


def test_folder_that_was_swept_before_it_was_locked_is_made_once_more(packs, monkeypatch):
    """Between making and locking it a sweeping process may take it for left over."""
    lock, swept = durable.try_lock, []

    def sweeping(descriptor):
        monkeypatch.setattr(durable, "try_lock", lock)  # it is swept once, under the lock as it is
        swept.extend(durable.left_over(packs))
        durable.sweep(packs)
        return lock(descriptor)

    monkeypatch.setattr(durable, "try_lock", sweeping)
    place = FolderPlace(packs / "p", over=False)
    building = place.begin()
    assert len(swept) == 1
    assert not swept[0].exists()
    assert neighbour(packs / "p") == [building.name]
    assert durable.left_over(packs) == []
    place.finish()
    assert neighbour(packs / "p") == ["p"]


def test_folder_that_is_being_swept_is_left_to_anyone_who_sweeps(packs, monkeypatch):
    new_folder, others = durable._new_folder, []

    def watched(path):
        descriptor = new_folder(path)
        if not others:
            others.append(os.open(path, os.O_RDONLY))
            fcntl.flock(others[0], fcntl.LOCK_EX)
        return descriptor

    monkeypatch.setattr(durable, "_new_folder", watched)
    with FolderPlace(packs / "p", over=False) as place:
        building = place.begin()
        assert len(neighbour(packs / "p")) == 2
        os.close(others[0])
        durable.sweep(packs)
        assert neighbour(packs / "p") == [building.name]


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.touch(), lambda p: p.symlink_to("nowhere")])
def test_nothing_that_is_there_is_replaced_unless_that_is_asked_for(packs, make):
    make(packs / "p")
    with pytest.raises(FileExistsError), durable.put_folder(packs / "p", over=False) as building:
        write_file(building / "content", [b"new"])
    with pytest.raises(FileExistsError), durable.put_file(packs / "p", over=False) as file:
        file.write(b"new")
    assert neighbour(packs / "p") == ["p"]


def test_file_takes_the_place_of_another_with_the_permissions_that_were_asked_for(packs):
    before = os.umask(0o022)
    try:
        for content, mode in ((b"old", 0o600), (b"new", 0o666)):
            with durable.put_file(packs / "p", over=True, mode=mode) as file:
                file.write(content)
                assert (packs / "p").exists() == (content == b"new")
            assert (packs / "p").read_bytes() == content
            assert stat.S_IMODE((packs / "p").stat().st_mode) == mode & ~0o022
    finally:
        os.umask(before)
    assert neighbour(packs / "p") == ["p"]


@pytest.mark.parametrize("over", [True, False])
@pytest.mark.parametrize("at", [1, 2])
def test_file_that_can_not_be_made_durable_leaves_what_was_there(packs, monkeypatch, over, at):
    calls, fsync = [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == at:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), durable.put_file(packs / "p", over=over) as file:
        file.write(b"new")
    assert neighbour(packs / "p") == (["p"] if over and at == 2 else [])


def test_file_that_a_killed_process_left_is_swept_and_one_that_is_being_written_is_not(packs):
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom privacy_toolkit.core.durable import put_file\n"
        "with put_file(Path(sys.argv[1]), over=True) as file:\n    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, packs / "p"], check=False).returncode == 9
    (left,) = packs.iterdir()
    with durable.put_file(packs / "p", over=True):
        assert durable.left_over(packs, "other") == []
        assert durable.left_over(packs, "p") == [left]
        durable.sweep(packs, "p")
        assert len(neighbour(packs / "p")) == 1
    assert neighbour(packs / "p") == ["p"]


@pytest.mark.parametrize("name", [".new-17-p", ".new-0123456789abcdef-p", ".new-17.0123abcd-p.part"])
def test_what_this_and_earlier_versions_left_is_swept_and_nothing_else(packs, name):
    kept = [".new-17.0123abcd-p", ".new-add-ons", ".new-17", ".new-x-p", "p"]
    for other in (name, *kept):
        (packs / other).touch()
    assert [left.name for left in durable.left_over(packs)] == [name]
    assert durable.sweep(packs) == []
    assert neighbour(packs / "p") == sorted(kept)


def test_files_of_a_folder_have_one_time_also_those_below_it(tmp_path):
    durable.write_files(tmp_path, {"a": b"a", "b/c/d": b"d"}, modified=1_000_000_000)
    assert {path.stat().st_mtime for path in (tmp_path, *tmp_path.rglob("*"))} == {1.0}
    assert (tmp_path / "b/c/d").read_bytes() == b"d"
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o700


def test_no_file_takes_the_place_of_a_device_or_pipe_and_none_is_made_among_devices(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/not-there-before")):
        with pytest.raises(FileExistsError), durable.put_file(place, over=True):
            pytest.fail("it was begun")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
