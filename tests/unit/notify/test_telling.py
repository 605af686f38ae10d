"""Who is told what, in which order; and that nothing is raised, whatever happens."""

from datetime import date
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

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


def patient(recorder, seconds=0.0):
    """Means whose attempts take so many seconds each; the waits in between, and what was noted."""
    taken, waits, noted = [], [], []

    def send(message, **how):
        taken.append(seconds)
        recorder.send(message, **how)

    means = replace(
        recorder.means,
        send=send,
        sleep=waits.append,
        monotonic=lambda: sum(taken) + sum(waits),
        note=lambda *what: noted.append(what),
    )
    return means, waits, noted


def test_what_may_pass_is_tried_again_with_growing_waits_and_then_said_once(settings_with, recorder, run):
    recorder.trouble = NotPostedError("hooks.example.org answered with status 503.", may_pass=True)
    means, waits, noted = patient(recorder)
    finished(settings_with(PING, HOOK), run, means)
    assert [message.url for message in recorder.sent] == [f"{PING}/3", HOOK] * 3
    assert (waits, noted) == ([0.5, 2.0], [("ping", 3), ("webhook", 3)])
    assert len({message.headers["webhook-id"] for message in recorder.sent if message.headers}) == 1
    assert len(recorder.said) == 2
    assert all(said.endswith("tried 3 times. The run and its exit code stay as they are.") for said in recorder.said)


def test_a_second_attempt_that_is_taken_is_all_that_is_needed(settings_with, recorder, run):
    recorder.trouble = NotPostedError("hc.example.org could not be reached.", may_pass=True)
    means, _, noted = patient(recorder)

    def recovered(_):
        recorder.trouble = None

    finished(settings_with(PING), run, replace(means, sleep=recovered))
    assert (len(recorder.sent), recorder.said, noted) == (2, [], [])


def test_the_end_of_a_run_does_not_wait_long_for_those_who_answer_late(settings_with, recorder, run):
    recorder.trouble = NotPostedError("hc.example.org gave no answer within 10 seconds.", may_pass=True)
    means, waits, noted = patient(recorder, seconds=10.0)
    finished(settings_with(PING), run, means)
    assert (len(recorder.sent), waits, noted) == (2, [0.5], [("ping", 2)])


def test_what_will_not_pass_is_tried_once_and_so_is_the_start(settings_with, recorder, run):
    recorder.trouble = NotPostedError("hooks.example.org answered with status 404.")
    means, waits, _ = patient(recorder)
    finished(settings_with(hook=HOOK), run, means)
    recorder.trouble = NotPostedError("hc.example.org could not be reached.", may_pass=True)
    started(settings_with(PING), BEGUN, means)
    assert (len(recorder.sent), waits) == (2, [])


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
    plan = SimpleNamespace(
        job="erase", target="t", environment="live", rows=SimpleNamespace(rejected=6, rejected_by_reason={"blank": 6})
    )
    totals = {Outcome.ERASED: 4, Outcome.PENDING: 3}
    return Summary("r", plan, totals, stopped_by=None, cut_short=False, started_at=5, purged_at=None)


def test_the_totals_come_from_the_journal(summary):
    requests = [OpenRequests("2026-10-25", "2026-11-25", 1), OpenRequests("2026-10-20", "2026-12-20", 1)]
    found = finished_of(summary, requests, date(2026, 11, 26), ended_at=9)
    assert (found.verdict, found.exit_code) == ("open_items", ExitCode.OPEN_ITEMS)
    assert found.outcomes == {"erased": 4, "pending": 3}
    assert (found.open, found.overdue, found.oldest_open) == (3, 1, date(2026, 10, 20))
    assert (found.started_at, found.ended_at, found.rejected) == (5, 9, 6)
    assert found.rejected_by_reason == {"blank": 6}
    assert found.rejected_by_reason == {"blank": 6}


def test_the_last_day_in_time_is_not_overdue_and_a_execution_may_begin_later(summary):
    requests = [OpenRequests("2026-10-25", "2026-11-25", 2)]
    found = finished_of(summary, requests, date(2026, 11, 25), started_at=7, ended_at=9)
    assert (found.overdue, found.started_at) == (0, 7)
    assert finished_of(summary, [], date(2026, 11, 25), ended_at=9).oldest_open is None
