"""Who is told what, in which order; and that nothing is raised, whatever happens."""

from datetime import date
from types import SimpleNamespace

import pytest

from privacy_toolkit.core.model import ExitCode, Outcome
from privacy_toolkit.engine.plan import Summary
from privacy_toolkit.http.transport import NotPostedError
from privacy_toolkit.journal.records import OpenRequests
from privacy_toolkit.notify.telling import Means, RunStarted, failed, finished, finished_of, started

PING, HOOK = "https://hc.example.org/ping/s3cret-uuid", "https://hooks.example.org/in?token=s3cret-token"
BEGUN = RunStarted("20261123-080000-export-abcdef", "export", "shop.talon.one/Shop", "live", 1)


def test_nobody_is_told_where_nobody_is_named(settings_with, recorder, run):
    started(settings_with(), BEGUN, recorder.means)
    finished(settings_with(), run, recorder.means)
    failed(settings_with(), 2, recorder.means)
    assert (recorder.sent, recorder.said) == ([], [])


def test_everybody_is_told(settings_with, recorder, run, tmp_path):
    settings = settings_with(PING, HOOK, tmp_path / "t.prom", insecure=True)
    started(settings, BEGUN, recorder.means)
    finished(settings, run, recorder.means)
    assert [message.url for message in recorder.sent] == [f"{PING}/start", f"{PING}/3", HOOK]
    assert recorder.sent[2].headers["webhook-timestamp"] == "1795420900"
    assert recorder.insecure == [True] * 3
    assert (tmp_path / "t.prom").exists()
    assert recorder.said == []


def test_a_command_that_ended_before_its_run_pings_its_exit_code(settings_with, recorder, tmp_path):
    failed(settings_with(PING, HOOK, tmp_path / "t.prom"), 5, recorder.means)
    assert [message.url for message in recorder.sent] == [f"{PING}/5"]


@pytest.mark.parametrize(
    "trouble", [NotPostedError("hc.example.org answered with status 500."), RuntimeError(PING), ValueError(HOOK)]
)
def test_trouble_is_said_in_one_sentence_each_without_an_address_and_stops_nothing(
    settings_with, recorder, run, tmp_path, trouble
):
    recorder.trouble = trouble
    settings = settings_with(PING, HOOK, tmp_path / "no" / "t.prom")
    started(settings, BEGUN, recorder.means)
    finished(settings, run, recorder.means)
    assert len(recorder.sent) == 3
    said = recorder.said
    assert [text.split(" ", 2)[1] for text in said] == ["ping", "Prometheus", "ping", "webhook"]
    assert "No such file or directory" in said[1]
    assert not any("s3cret" in text or str(tmp_path) in text or "\n" in text for text in said)
    assert all(text.endswith("The run and its exit code stay as they are.") for text in said)


def test_a_listener_that_has_gone_is_no_trouble(settings_with, recorder, run):
    def gone(_):
        raise BrokenPipeError

    recorder.trouble = NotPostedError("x")
    finished(settings_with(PING), run, Means(recorder.send, gone, lambda: 1.0))
    assert len(recorder.sent) == 1


def test_without_a_listener_it_is_logged(settings_with, recorder, run, caplog):
    recorder.trouble = NotPostedError("hc.example.org could not be reached.")
    finished(settings_with(PING), run, Means(send=recorder.send))
    assert [record.name for record in caplog.records] == ["privacy_toolkit.notify"]
    assert "hc.example.org could not be reached" in caplog.text


@pytest.fixture
def summary():
    plan = SimpleNamespace(job="erase", target="t", environment="live", rows=SimpleNamespace(rejected=6))
    totals = {Outcome.ERASED: 4, Outcome.PENDING: 3}
    return Summary("r", plan, totals, stopped_by=None, cut_short=False, started_at=5, purged=False)


def test_the_totals_come_from_the_journal(summary):
    requests = [OpenRequests("2026-10-25", "2026-11-25", 1), OpenRequests("2026-10-20", "2026-12-20", 1)]
    found = finished_of(summary, requests, date(2026, 11, 26), ended_at=9)
    assert (found.verdict, found.exit_code) == ("open_items", ExitCode.OPEN_ITEMS)
    assert found.outcomes == {"erased": 4, "pending": 3}
    assert (found.open, found.overdue, found.oldest_open) == (3, 1, date(2026, 10, 20))
    assert (found.started_at, found.ended_at, found.rejected) == (5, 9, 6)


def test_the_last_day_in_time_is_not_overdue_and_a_execution_may_begin_later(summary):
    requests = [OpenRequests("2026-10-25", "2026-11-25", 2)]
    found = finished_of(summary, requests, date(2026, 11, 25), started_at=7, ended_at=9)
    assert (found.overdue, found.started_at) == (0, 7)
    assert finished_of(summary, [], date(2026, 11, 25), ended_at=9).oldest_open is None
