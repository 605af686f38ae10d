import os
import stat
import subprocess
import sys

import pytest

from privacy_toolkit.evidence import files as files_module
from privacy_toolkit.evidence.files import Place, relative_files, write_file


def build(path, content):
    place = Place(path)
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
        "import os, sys\nfrom pathlib import Path\nfrom privacy_toolkit.evidence.files import Place\n"
        "(Place(Path(sys.argv[1])).begin() / 'half').write_text('half')\nos._exit(9)\n"
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


def test_files_of_a_folder_are_named_relative_to_it(tmp_path):
    for name in ("a", "earlier/1/b"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(relative_files(tmp_path)) == ["a", "earlier/1/b"]


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
    rename = files_module.Path.rename

    def refuse(path, target):
        if path.name.startswith(".new-"):
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(files_module.Path, "rename", refuse)
        with pytest.raises(PermissionError):
            place.finish()
    place.discard()
    assert (packs / "p" / "content").read_bytes() == b"old"
    assert neighbour(packs / "p") == ["p"]


def test_nothing_is_put_in_place_that_was_not_built(packs):
    with pytest.raises(ValueError, match="nothing was built"):
        Place(packs / "p").finish()


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
    for number, name in enumerate(["1a", "2b"]):
        old = packs / f".old-{name}-p"
        old.mkdir()
        (old / "content").write_text(name)
        os.utime(old, (number, number))
    Place(packs / "p").restore()
    assert (packs / "p" / "content").read_text() == "2b"
    assert neighbour(packs / "p") == [".old-1a-p", "p"]


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.touch(), lambda p: p.symlink_to("nowhere")])
def test_nothing_is_put_back_where_something_stands(packs, make):
    (packs / ".old-1a-p").mkdir()
    make(packs / "p")
    Place(packs / "p").restore()
    assert neighbour(packs / "p") == [".old-1a-p", "p"]


def test_there_is_nothing_to_put_back_where_no_folder_is(tmp_path):
    Place(tmp_path / "missing" / "p").restore()
    assert not (tmp_path / "missing").exists()


def test_what_was_half_removed_is_never_put_back(packs, monkeypatch):
    """A process that dies while it removes the folder that was replaced leaves nothing that looks like a whole one."""
    build(packs / "p", b"old").finish()
    place = build(packs / "p", b"new")
    with monkeypatch.context() as patched:
        patched.setattr(files_module.shutil, "rmtree", lambda *_, **__: None)
        place.finish()
    assert len(neighbour(packs / "p")) == 2
    (packs / "p").rename(packs / "taken-elsewhere")
    Place(packs / "p").restore()
    assert not (packs / "p").exists()
