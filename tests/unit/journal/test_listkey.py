"""Keys that lie apart from the lists they open."""

import sqlite3

import pytest

from privacy_toolkit.core.model import JournalError, UsageError
from privacy_toolkit.core.privacy import SecretFile
from privacy_toolkit.journal.sqlite.ledgers import SUPPRESSION_FILE, AssignedCodesFile, SuppressionFile

SCOPE = "live https://api.example.org"


def facts(folder, name=SUPPRESSION_FILE):
    connection = sqlite3.connect(folder / name)
    found = dict(connection.execute("SELECT name, value FROM facts"))
    connection.close()
    return found


@pytest.mark.parametrize("make", [SuppressionFile, lambda folder: AssignedCodesFile(folder, SCOPE)])
def test_the_key_is_not_in_the_file_with_the_digests(tmp_path, make):
    opened = make(tmp_path)
    key = opened._key
    opened.__exit__()
    key_file = tmp_path / "state.key"
    assert key_file.stat().st_mode & 0o777 == 0o600
    for path in tmp_path.iterdir():
        assert key not in path.read_bytes()
    with make(tmp_path) as again:
        assert again._key == key


def test_a_list_of_old_gives_its_key_up(tmp_path):
    old = sqlite3.connect(tmp_path / SUPPRESSION_FILE)
    old.execute("PRAGMA journal_mode=WAL")
    old.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL)")
    old.execute("INSERT INTO facts VALUES ('key', ?)", (b"old key of thirty-two bytes here",))
    old.commit()
    old.close()
    with SuppressionFile(tmp_path) as listed:
        assert listed._key == b"old key of thirty-two bytes here"
        listed.add(SCOPE, ["a"], "run", 1)
    assert facts(tmp_path).keys() == {"wrapped", "check"}
    assert not any(b"old key of thirty-two" in path.read_bytes() for path in tmp_path.iterdir())
    with SuppressionFile(tmp_path) as listed:
        assert listed.of({SCOPE})("a")


def test_the_key_may_lie_elsewhere_and_without_it_nothing_is_opened(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "vault").mkdir()
    key = SecretFile(tmp_path / "vault" / "key")
    with SuppressionFile(tmp_path / "state", key) as listed:
        listed.add(SCOPE, ["a"], "run", 1)
    assert not (tmp_path / "state" / "state.key").exists()
    with pytest.raises(JournalError, match="is missing"):
        SuppressionFile(tmp_path / "state")
    other = SecretFile(tmp_path / "vault" / "other")
    other.read_or_draw()
    with pytest.raises(JournalError, match="not the one"):
        SuppressionFile(tmp_path / "state", other)
    with SuppressionFile(tmp_path / "state", key) as listed:
        assert listed.of({SCOPE})("a")


def two(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return SuppressionFile(tmp_path / "a"), SuppressionFile(tmp_path / "b")


def test_a_list_is_handed_on_as_digests(tmp_path):
    here, there = two(tmp_path)
    with here, there:
        here.add(SCOPE, ["anna", "otto"], "20260101-000000-erase-1", 2)
        digests, keys, entries = here.exported()
        assert entries == 2
        assert b"anna" not in digests + keys
        assert there.take_in(digests, keys) == 2
        assert there.take_in(digests, keys) == 0
        assert [there.of({SCOPE})(one) for one in ("anna", "otto", "x")] == [True, True, False]
        passed_on = there.exported()
        assert here.take_in(*passed_on[:2]) == 0  # one's own come home
    with SuppressionFile(tmp_path / "b") as again:
        assert again.of({SCOPE})("anna")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"lists":[]}', b'{"lists":[{"name":"x","digests":"AA"}]}', b"\xff"]
)
def test_what_is_no_export_is_refused(tmp_path, content):
    here, there = two(tmp_path)
    with here, there:
        here.add(SCOPE, ["anna"], "20260101-000000-erase-1", 1)
        digests, keys, _ = here.exported()
        for given in ((content, keys), (digests, content), (digests, there.exported()[1])):
            with pytest.raises(UsageError):
                there.take_in(*given)
        assert not there.of({SCOPE})("anna")


def test_who_is_taken_off_stays_off_until_erased_once_more(tmp_path):
    here, there = two(tmp_path)
    with here, there:
        here.add(SCOPE, ["anna", "otto"], "20260101-000000-erase-1", 2)
        there.take_in(*here.exported()[:2])
        for listed in (here, there):
            assert listed.remove({SCOPE}, "anna", "20260201-000000")
            assert [listed.of({SCOPE})(one) for one in ("anna", "otto")] == [False, True]
            assert not listed.remove({SCOPE}, "anna", "20260201-000000")
        here.add(SCOPE, ["anna", "otto", "x"], "20260101-000000-erase-1", 3)  # the same run, gone on with
        assert not here.of({SCOPE})("anna")
        here.add(SCOPE, ["anna"], "20260301-000000-erase-2", 1)
        assert here.of({SCOPE})("anna")
