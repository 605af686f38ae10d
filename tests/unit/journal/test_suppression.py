"""Erased stays erased, and the list names nobody."""

import pytest

from privacy_toolkit.core.model import JournalError
from privacy_toolkit.journal.sqlite.ledgers import SUPPRESSION_FILE, SuppressionFile

SCOPE = "live https://api.example.org"


def test_who_was_erased_is_known_in_that_environment_alone(tmp_path):
    with SuppressionFile(tmp_path) as listed:
        listed.add(SCOPE, ["a", "b"], "run-1", 2)
    with SuppressionFile(tmp_path) as listed:
        is_suppressed = listed.of({SCOPE})
        assert [is_suppressed(one) for one in ("a", "b", "c", "A")] == [True, True, False, False]
        assert not listed.of({"sandbox https://api.example.org"})("a")


def test_a_run_is_counted_and_may_grow(tmp_path):
    with SuppressionFile(tmp_path) as listed:
        assert listed.counted("run-1") == 0
        listed.add(SCOPE, ["a"], "run-1", 1)
        listed.add(SCOPE, ["a", "b"], "run-1", 2)
        assert listed.counted("run-1") == 2
        assert listed.of({SCOPE})("b")


def test_a_run_is_entered_as_a_whole_or_not_at_all(tmp_path):
    def ids():
        yield "a"
        raise JournalError("the journal can't be read")

    with SuppressionFile(tmp_path) as listed, pytest.raises(JournalError):
        listed.add(SCOPE, ids(), "run-1", 2)
    with SuppressionFile(tmp_path) as listed:
        assert listed.counted("run-1") == 0
        assert not listed.of({SCOPE})("a")


def test_no_id_stands_in_it(tmp_path):
    with SuppressionFile(tmp_path) as listed:
        listed.add(SCOPE, ["somebody@example.org"], "run-1", 1)
    assert b"somebody" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_damaged_list_is_said_and_not_made_again(tmp_path):
    (tmp_path / SUPPRESSION_FILE).write_bytes(b"not a database at all, and long enough to be seen" * 20)
    with pytest.raises(JournalError):
        SuppressionFile(tmp_path)
