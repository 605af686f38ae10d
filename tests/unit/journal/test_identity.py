import shutil

import pytest

from privacy_toolkit.core.model import JournalError
from privacy_toolkit.journal.sqlite.folder import IDENTITY_FILE, Identity, StateFolder


@pytest.fixture
def used(state, tmp_path):
    """The identity of a state folder that was worked with twice."""
    identity = of(state.path, tmp_path)
    with identity.locked():
        identity.advance()
        identity.advance()
    return identity


def of(path, tmp_path, machine="first"):
    name = tmp_path / f"machine-{machine}"
    name.write_text(f"{machine}\n" if machine != "none" else "")
    return Identity(path, StateFolder(path)._files, outside=tmp_path / "outside", machine=name)


def test_a_folder_in_use_is_beyond_doubt(used, state, tmp_path):
    assert used.doubt() == of(state.path, tmp_path).doubt() == ""
    assert not used.may_lack


def test_a_new_folder_is_beyond_doubt(state, tmp_path):
    assert of(state.path, tmp_path).doubt() == ""


def test_a_copy_is_in_doubt(used, state, tmp_path):
    shutil.copytree(state.path, tmp_path / "copy")
    assert of(tmp_path / "copy", tmp_path).doubt() == "it is a copy"


def test_a_folder_that_is_older_than_it_was_is_in_doubt(used, state, tmp_path):
    path = state.path / IDENTITY_FILE
    before = path.read_bytes()
    used.advance()
    path.write_bytes(before.replace(b'"inode":', b'"inode":').replace(inode(before), inode(path.read_bytes())))
    assert of(state.path, tmp_path).doubt() == "it is older than when it was last used"


def test_a_machine_that_is_rolled_back_as_a_whole_is_not_noticed(used, state, tmp_path):
    """As docs/threats.md says: a snapshot puts back what is kept outside too, and inode numbers stay what they were."""
    kept = [state.path / IDENTITY_FILE, *(tmp_path / "outside").iterdir()]
    before = [path.read_bytes() for path in kept]
    used.advance()
    numbered = inode(kept[0].read_bytes())
    for path, content in zip(kept, before, strict=True):
        path.write_bytes(content)
    kept[0].write_bytes(before[0].replace(b'"inode":' + inode(before[0]), b'"inode":' + numbered))
    assert of(state.path, tmp_path).doubt() == ""


def inode(record):
    return record.split(b'"inode":')[1].split(b",")[0]


@pytest.mark.parametrize(("machine", "doubt"), [("second", "it was used on another machine"), ("none", "")])
def test_another_machine_is_noticed_where_it_has_a_name(used, state, tmp_path, machine, doubt):
    assert of(state.path, tmp_path, machine).doubt() == doubt


def test_a_copied_journal_is_noticed(used, state, tmp_path, make_run):
    make_run().close()
    (run,) = state.runs.iterdir()
    assert of(state.path, tmp_path).doubt() == ""
    # The first one stays, or another file could take its number, and the copy get the same one again.
    shutil.copytree(run.rename(tmp_path / "run"), run)
    assert of(state.path, tmp_path).doubt() == "journals in it are copies"
    state.adopt()
    assert of(state.path, tmp_path).doubt() == ""


@pytest.mark.parametrize("content", [b"", b"{}", b'{"id": 1}', b"\xff\xfe", b'{"id":"\xf5"}', b'{"x":' + b"[" * 5000])
def test_an_identity_that_can_not_be_read_is_in_doubt(used, state, tmp_path, content):
    (state.path / IDENTITY_FILE).write_bytes(content)
    assert of(state.path, tmp_path).doubt() == "its identity can't be read"
    used.acknowledge(5)
    assert used.doubt() == ""


def test_what_was_said_is_kept_and_the_copy_gets_a_name_of_its_own(used, state, tmp_path):
    shutil.copytree(state.path, tmp_path / "copy")
    copy = of(tmp_path / "copy", tmp_path)
    copy.acknowledge(7)
    assert (copy.doubt(), copy.restored_at, copy.may_lack) == ("", 7, True)
    assert (used.doubt(), used.restored_at) == ("", None)
    copy.advance()
    copy.acknowledge(9)
    assert copy.restored_at == 9


def test_neither_file_names_anybody_or_the_machine(used, state, tmp_path):
    (outside,) = (tmp_path / "outside").iterdir()
    content = (state.path / IDENTITY_FILE).read_bytes() + outside.read_bytes() + outside.name.encode()
    assert b"first" not in content
    assert str(state.path).encode() not in content


def test_where_nothing_can_be_kept_outside_the_folder_is_used_all_the_same(state, tmp_path):
    (tmp_path / "outside").write_text("a file")
    identity = of(state.path, tmp_path)
    identity.advance()
    identity.advance()
    assert identity.doubt() == ""


def test_a_folder_in_the_place_of_an_identity_is_in_doubt_and_said_where_it_would_be_written(used, state, tmp_path):
    (state.path / IDENTITY_FILE).unlink()
    (state.path / IDENTITY_FILE).mkdir()
    identity = of(state.path, tmp_path)
    assert identity.doubt() == "its identity can't be read"
    with pytest.raises(JournalError):
        identity.acknowledge(1)
