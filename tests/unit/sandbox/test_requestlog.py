import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.sandbox.store import LogEntry, RequestLog, read_log


def entry(value):
    return LogEntry(time=1.5, operation="delete_customer_data", value=value, status=204, acted=True, outcome="answered")


def test_entries_are_kept_and_in_the_file_at_once(tmp_path):
    path = tmp_path / "log.jsonl"
    log = RequestLog(path)
    for value in ("a\nb", "ü"):
        log.append(entry(value))
    assert list(log) == read_log(path) == [entry("a\nb"), entry("ü")]
    assert log.of("delete_customer_data") == list(log)
    assert log.of("") == []
    log.close()


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    log = RequestLog(path)
    log.append(entry("a"))
    log.close()
    with path.open("ab") as file:
        file.write(b'{"time": 1.0, "oper')
    assert read_log(path) == [entry("a")]


def test_the_file_grows_over_restarts_and_clearing(tmp_path):
    path = tmp_path / "log.jsonl"
    for value in ("a", "b"):
        log = RequestLog(path)
        log.append(entry(value))
        log.clear()
        assert len(log) == 0
        log.close()
    assert read_log(path) == [entry("a"), entry("b")]


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(UsageError, match="can't be written"):
        RequestLog(tmp_path / "missing" / "log.jsonl")
