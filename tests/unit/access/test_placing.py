import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from privacy_toolkit.access.placing import clear_up, place
from privacy_toolkit.access.words import DeliveryError

MOMENT = 1_764_187_200_123_456
FILES = {"a.txt": b"a", "data/b.csv": b"b"}
OTHER = {"a.txt": b"new", "c.txt": b"c"}
#: Beyond what any system gives out.
DEAD = 2**22 + 1


def content(path):
    """Every file below a path with its bytes, times and rights."""
    paths = [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]
    return {
        found.relative_to(path.parent).as_posix(): (
            found.read_bytes() if found.is_file() else None,
            found.stat().st_mtime_ns,
            stat.S_IMODE(found.stat().st_mode),
        )
        for found in paths
    }


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("what", [FILES, b"one file"])
def test_what_is_placed_is_its_owners_alone_and_has_one_time(out, what):
    place(out, "name", what, MOMENT)
    found = content(out / "name")
    assert {time for _, time, _ in found.values()} == {MOMENT * 1000}
    assert all(rights == (0o700 if data is None else 0o600) for data, _, rights in found.values())
    files = {name: data for name, (data, _, _) in found.items() if data is not None}
    assert files == ({"name": what} if isinstance(what, bytes) else {f"name/{k}": v for k, v in what.items()})


@pytest.mark.parametrize(("first", "then"), [(FILES, OTHER), (FILES, FILES), (b"old", b"new")])
def test_what_stands_there_is_replaced(out, first, then):
    place(out, "name", first, MOMENT)
    place(out, "name", then, MOMENT)
    place(out, "as new", then, MOMENT)
    assert sorted(path.name for path in out.iterdir()) == ["as new", "name"]
    assert list(content(out / "name").values()) == list(content(out / "as new").values())


@pytest.mark.parametrize("what", [FILES, b"one file"])
def test_everything_is_on_the_disk_before_it_has_its_name_and_the_name_after(out, monkeypatch, what):
    synced, fsync, rename = [], os.fsync, Path.rename

    def renamed(path, target):
        building = {found.stat().st_ino for found in (path, *path.rglob("*"))}
        assert building == set(synced)
        synced.clear()
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.fstat(file).st_ino), fsync(file)))
    monkeypatch.setattr(Path, "rename", renamed)
    place(out, "name", what, MOMENT)
    assert synced == [out.stat().st_ino]


def test_what_stood_there_is_put_back_if_the_new_one_can_not_be_moved(out, monkeypatch):
    place(out, "name", FILES, MOMENT)
    before, rename = content(out / "name"), Path.rename

    def stuck(path, target):
        if path.name.startswith(".new-"):
            raise OSError(5, "no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stuck)
    with pytest.raises(DeliveryError):
        place(out, "name", OTHER, MOMENT)
    assert content(out / "name") == before
    assert [path.name for path in out.iterdir()] == ["name"]


def test_own_leftovers_do_no_harm(out):
    (out / f".new-{os.getpid()}-name").mkdir()
    (out / f".new-{os.getpid()}-name" / "half").touch()
    place(out, "name", FILES, MOMENT)
    assert len(content(out / "name")) == 4
    clear_up(out)
    assert [path.name for path in out.iterdir()] == ["name"]


def test_links_are_not_followed(out, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (out / f".new-{os.getpid()}-name").symlink_to(outside)
    (out / "name").symlink_to(outside)
    with pytest.raises(DeliveryError):
        place(out, "name", FILES, MOMENT)
    place(out, "name", b"x", MOMENT)
    assert list(outside.iterdir()) == []
    assert (out / "name").read_bytes() == b"x"


def test_a_folder_that_can_not_be_written_is_an_error(out):
    with pytest.raises(DeliveryError, match="could not be written"):
        place(out / "none", "name", FILES, MOMENT)


@pytest.mark.parametrize("what", [{"a": b"", "b": b"x" * 100_000}, b"x" * 100_000])
@pytest.mark.parametrize("before", [True, False])
def test_full_disk_leaves_nothing_new_under_the_name(out, what, before):
    small = {"a": b"old"} if isinstance(what, dict) else b"old"
    if before:
        place(out, "name", small, MOMENT)
    code = f"""
        import resource
        from pathlib import Path
        from privacy_toolkit.access.words import DeliveryError
        from privacy_toolkit.access.placing import place
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            place(Path({str(out)!r}), "name", {what!r}, {MOMENT})
        except DeliveryError as error:
            print(error.message, error.exit_code)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True)
    assert done.stdout == "An access package could not be written: File too large. 4\n"
    place(out.parent, "expected", small, MOMENT)
    assert [list(content(path).values()) for path in out.iterdir()] == (
        [list(content(out.parent / "expected").values())] if before else []
    )


#: Kills itself at the n-th of the system's calls that change anything, for each n, until a delivery gets through.
KILLED = """
    import os, signal, sys
    from pathlib import Path
    from privacy_toolkit.access import placing
    out, moment = Path(sys.argv[1]), int(sys.argv[2])

    def deadly(call, left):
        def made(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)
        return made

    for before in (False, True):
        for number in range(1, 200):
            folder = out / f"{before}-{number}"
            folder.mkdir()
            if before:
                placing.place(folder, "name", {"a.txt": b"a", "data/b.csv": b"b"}, moment)
            child = os.fork()
            if child == 0:
                left = [number]
                for name in ("open", "mkdir", "fsync", "utime", "rename", "unlink", "rmdir", "close"):
                    setattr(os, name, deadly(getattr(os, name), left))
                placing.place(folder, "name", {"a.txt": b"new", "c.txt": b"c"}, moment)
                os._exit(0)
            if os.WIFEXITED(os.waitpid(child, 0)[1]):
                break
        else:
            sys.exit("never got through")
"""


def test_killed_at_any_moment_no_half_package_stands_under_the_name(out, tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(out), str(MOMENT)]
    subprocess.run(command, check=True, timeout=60)
    place(tmp_path, "name", FILES, MOMENT)
    whole = [content(tmp_path / "name")]
    place(tmp_path, "name", OTHER, MOMENT)
    whole += [content(tmp_path / "name")]
    folders = sorted(out.iterdir())
    assert len(folders) > 30
    for folder in folders:
        assert not (folder / "name").exists() or content(folder / "name") in whole, folder.name
        clear_up(folder)
        assert [path.name for path in folder.iterdir()] == (["name"] if (folder / "name").exists() else [])
        assert (folder / "name").exists() or folder.name.startswith("False")
        place(folder, "name", OTHER, MOMENT)
        assert content(folder / "name") == whole[1]


def test_sweeping_leaves_alone_what_is_worked_on_and_what_is_not_ours(out):
    code = """
        import sys, time
        from pathlib import Path
        from privacy_toolkit.access import placing
        def stay(*_):
            print("building", flush=True)
            time.sleep(60)
        placing.write_files = stay
        placing.place(Path(sys.argv[1]), "name", {"a": b""}, 0)
    """
    for name in ("x.txt", ".new-hand-made", ".new-", "name"):
        (out / name).touch()
    command = [sys.executable, "-c", textwrap.dedent(code), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as builder:
        assert builder.stdout.readline() == b"building\n"
        clear_up(out)
        assert (out / ".new-hand-made").exists()
        assert [path.is_dir() for path in out.glob(f".new-{builder.pid}.*-name.part")] == [True]
        builder.send_signal(signal.SIGKILL)
    clear_up(out)
    assert sorted(path.name for path in out.iterdir()) == [".new-", ".new-hand-made", "name", "x.txt"]


def test_what_was_moved_away_is_put_back_only_if_nothing_stands_there(out):
    for name in ("lost", "kept"):
        (out / f".old-{DEAD}-{name}").mkdir()
        (out / f".old-{DEAD}-{name}" / "old").touch()
    (out / "kept").mkdir()
    clear_up(out)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == ["kept", "lost", "lost/old"]


def test_without_locks_the_process_id_says_whether_anybody_builds(out, monkeypatch):
    def none(*_):
        raise OSError(95, "no locks here")

    monkeypatch.setattr("fcntl.flock", none)
    place(out, "name", FILES, MOMENT)
    for pid in (DEAD, os.getpid()):
        (out / f".new-{pid}-left").touch()
    clear_up(out)
    assert sorted(path.name for path in out.iterdir()) == [f".new-{os.getpid()}-left", "name"]


def test_sweeping_a_folder_that_is_not_there_is_an_error():
    with pytest.raises(DeliveryError):
        clear_up(Path("none"))
