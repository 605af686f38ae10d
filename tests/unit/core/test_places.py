"""Whether others could put something else in the place of what is written."""

import os

import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import check_apart, exposed


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "packages"
    made.mkdir(mode=0o700)
    return made


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o775, 0o1777])
def test_nobody_else_can_swap_files_in_a_folder_of_ones_own(folder, mode):
    folder.chmod(mode)
    assert exposed(folder) is None
    assert exposed(folder / "new" / "file.csv") is None


@pytest.mark.parametrize("place", ["", "file.csv", "new/file.csv"])
def test_a_folder_that_everyone_can_write_is_told_with_what_puts_it_right(folder, place):
    folder.chmod(0o777)
    assert exposed(folder / place) == f"everyone can write {folder} (chmod o-w {folder})"


def test_a_folder_above_counts_too_and_so_does_the_one_that_a_link_leads_to(folder, tmp_path):
    inner = folder / "inner"
    inner.mkdir(mode=0o700)
    folder.chmod(0o777)
    (tmp_path / "link").symlink_to(inner)
    assert str(folder) in exposed(inner)
    assert str(folder) in exposed(tmp_path / "link" / "file.csv")


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give a folder away")
def test_a_folder_of_somebody_else_is_told(folder):
    os.chown(folder, 12345, 12345)
    assert exposed(folder / "file.csv") == f"{folder} belongs to another user"


def test_what_leads_nowhere_is_told_where_it_is_used(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert exposed(tmp_path / "loop" / "file.csv") is None


@pytest.fixture
def state_folder(tmp_path):
    made = tmp_path / "state"
    for name in ("runs", "locks"):
        (made / name).mkdir(parents=True)
    (made / "identity").write_text("0" * 32 + "\n")
    return made


@pytest.mark.parametrize("place", ["", "state.key", "new.csv", "runs/new/file.csv"])
def test_nothing_is_written_into_a_state_folder(state_folder, tmp_path, place):
    (tmp_path / "link").symlink_to(state_folder)
    for way in (state_folder, tmp_path / "link"):
        with pytest.raises(UsageError, match="is in the state folder"):
            check_apart(way / place)


def test_what_is_next_to_a_state_folder_is_apart_from_it(state_folder):
    check_apart(state_folder.parent / "new.csv")
    check_apart(state_folder.parent)


@pytest.mark.parametrize(
    "content",
    ["-----BEGIN OPENSSH PRIVATE KEY-----\nA\n", "-----BEGIN PRIVATE KEY-----\n", "ab" * 32, "0f" * 32 + "\n"],
)
def test_nothing_takes_the_place_of_a_key(tmp_path, content):
    (tmp_path / "key").write_text(content)
    with pytest.raises(UsageError, match="holds a key: it would be lost"):
        check_apart(tmp_path / "key")


@pytest.mark.parametrize("content", ["", "customer_id\n", "ab" * 33])
def test_other_files_may_be_replaced(tmp_path, content):
    (tmp_path / "list.csv").write_text(content)
    check_apart(tmp_path / "list.csv")
