"""What is told of a run while it is worked on: lines of a log, figures in a file and on a port of this machine."""

import http.client
import json
import re
from datetime import date

import pytest
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from privacy_toolkit.config.file import LogProfile
from privacy_toolkit.core.model import Outcome, Purpose, Reason, StopReason, UsageError
from privacy_toolkit.engine.limits import (
    Exchanged,
    Gauges,
    Obstructed,
    PaceChanged,
    Settled,
    Stopping,
    Waiting,
    Working,
)
from privacy_toolkit.notify.live import (
    CONTENT_TYPE,
    EVERY,
    PROGRESS_EVERY,
    BegunFacts,
    Live,
    LiveMeans,
    LogEvent,
    check_log,
    following,
    serve,
)
from privacy_toolkit.notify.telling import render

NOW = 1_795_420_800_123_000
RUN = "20261128-013300-erase-abcdef"
FACTS = BegunFacts("erase", "shop.talon.one/Shop", 10, 8, {"blank": 2}, NOW, 1, date(2026, 12, 1))
DELETE = "deleteCustomerData"


class Stage:
    """A run that is told of, by clocks and a ticker of its own."""

    def __init__(self, settings):
        self.lines, self.said, self.time, self.ticks = [], [], 0.0, []
        means = LiveMeans(lambda: NOW, lambda: self.time, self.lines.append, self.begin)
        self.live = Live(settings, RUN, self.said.append, means)

    def begin(self, tick, seconds):
        self.ticks.append((tick, seconds))
        return self.ticks.clear

    def pass_by(self, seconds):
        self.time += seconds
        for tick, _ in self.ticks:
            tick()

    def logged(self):
        return [json.loads(line) for line in self.lines]


def asked(status, reason=None, purpose=Purpose.ACT):
    return Exchanged(DELETE, purpose, status, reason, 0.02)


@pytest.fixture
def stage(settings_with):
    def make(level="info", file=None, form="json", port=None):
        given = settings_with(file=file)
        notify = replace(given.notify, metrics_port=port)
        return Stage(replace(given, notify=notify, log=LogProfile(form, level) if level else None))

    return make


def test_each_line_has_time_level_event_run_and_execution(stage):
    told = stage()
    told.live.begin(FACTS, resumed=False)
    told.live(Working(3, lambda: Gauges(4, 16, 50.0)))
    told.live(Waiting(2.5))
    told.live(PaceChanged(Gauges(4, 8, 20.0), by_hand=True))
    told.live(PaceChanged(Gauges(4, 8, 10.0), by_hand=False))
    told.live(Stopping(StopReason.ROUTE_UNPROVEN, 4))
    told.live.failed("webhook", 3)
    lines = told.logged()
    assert [(one["event"], one["level"], one["execution"]) for one in lines] == [
        ("run.started", "info", None),
        ("rows.rejected", "warning", None),
        ("execution.started", "info", 3),
        ("api.wait", "warning", 3),
        ("run.tuned", "info", 3),
        ("rate.changed", "info", 3),
        ("control.failed", "error", 3),
        ("stop.asked", "warning", 3),
        ("notify.failed", "warning", 3),
    ]
    assert {(one["time"], one["run"]) for one in lines} == {("2026-11-23T08:00:00.123Z", RUN)}
    assert lines[0] | {"job": "erase", "open": 8, "next_due_on": "2026-12-01"} == lines[0]
    assert lines[1]["reasons"] == {"blank": 2}
    assert lines[7]["reason"] == "route_unproven"


def test_trouble_is_logged_once_a_kind_and_then_counted_with_the_progress(stage):
    told = stage()
    told.live.begin(FACTS, resumed=True)
    for _ in range(5):
        told.live(asked(None, Reason.CONNECT_REFUSED))
    for _ in range(3):
        told.live(asked(500, Reason.SERVER_ERROR))
    told.live(asked(401, Reason.SERVER_ERROR, Purpose.CONTROL))
    told.live(Settled(Outcome.ERASED))
    told.live(Settled(Outcome.RETRYABLE))
    told.pass_by(PROGRESS_EVERY)
    lines = told.logged()
    assert lines[0]["event"] == "run.resumed"
    assert [(one["event"], one.get("reason"), one.get("requests")) for one in lines[2:]] == [
        ("connection.trouble", "connect_refused", 1),
        ("api.trouble", "server_error", 1),
        ("progress", None, 9),
        ("connection.trouble", "connect_refused", 4),
        ("api.trouble", "server_error", 2),
    ]
    assert lines[4] | {"open": 7, "outcomes": {"erased": 1, "retryable": 1}, "rate_reached": 0.9} == lines[4]
    told.pass_by(EVERY)
    assert told.logged() == lines  # progress no more often than that


def test_progress_that_takes_trouble_away_while_it_is_told_ends_no_run(stage):
    class Taken(dict):
        """Trouble that the other thread takes away as soon as somebody looks at it."""

        def keys(self):
            seen = set(self)
            self.clear()
            return seen

    told = stage()
    told.live.begin(FACTS, resumed=False)
    told.live._figures.trouble = Taken()
    told.live(asked(None, Reason.CONNECT_REFUSED))
    assert told.logged()[-1] | {"event": "connection.trouble", "requests": 1} == told.logged()[-1]


def test_what_is_in_the_way_of_a_connection_is_in_the_log_and_not_on_the_screen_alone(stage):
    told = stage("warning")
    told.live.begin(FACTS, resumed=False)
    told.live(Obstructed("expired", "the certificate has expired", "Have it renewed."))
    (line,) = [one for one in told.logged() if one["event"] == "connection.obstructed"]
    assert (line["level"], line["obstacle"]) == ("warning", "expired")
    assert (line["said"], line["remedy"]) == ("the certificate has expired", "Have it renewed.")


@pytest.mark.parametrize(("level", "events"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 0)])
def test_less_is_logged_at_a_higher_level(stage, level, events):
    told = stage(level)
    told.live.begin(FACTS, resumed=False)
    told.live(asked(204))
    told.live(Waiting(1, for_late=True))
    assert len(told.lines) == events


def test_as_text_it_is_one_line_with_its_figures(stage):
    told = stage(form="text")
    told.live.line(LogEvent.RUN_ENDED, verdict="open_items", open=2, outcomes={"erased": 8}, what="two words", no=None)
    figures_ = 'verdict=open_items open=2 outcomes.erased=8 what="two words"'
    assert told.lines == [f"2026-11-23T08:00:00.123Z info    run.ended run={RUN} {figures_}\n"]


def test_anyone_who_wants_nothing_hears_nothing_and_costs_nothing(stage):
    told = stage(level=None)
    told.live.begin(FACTS, resumed=False)
    assert (told.live.listeners, told.lines, told.ticks) == ([], [], [])


def test_a_log_that_can_not_be_written_stops_nothing(stage):
    told = stage()

    def gone(_):
        raise BrokenPipeError

    told.live._log.write = gone
    told.live.line(LogEvent.PROGRESS, open=1)


def test_a_log_file_is_private_added_to_and_checked_beforehand(settings_with, tmp_path):
    path = tmp_path / "run.log"
    settings = replace(settings_with(), log=LogProfile("json", "info", str(path)))
    check_log(settings.log)
    for _ in range(2):
        with following(settings, RUN, print) as live:
            live.line(LogEvent.PACK_SEALED)
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["pack.sealed"] * 2
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="No such file"):
        check_log(LogProfile(file=str(tmp_path / "no" / "run.log")))


def figures(families):
    return {
        (one.name.removeprefix("privacy_toolkit_"), *sorted(set(one.labels.values()) - {"erase", FACTS.target})): (
            one.value
        )
        for family in families
        for one in family.samples
    }


EXPECTED = {
    ("run_in_progress", RUN): 1,
    ("run_updated_timestamp_seconds",): NOW / 1e6,
    ("run_begun_timestamp_seconds",): NOW / 1e6,
    ("run_subjects",): 10,
    ("run_open_subjects",): 7,
    ("run_rejected_rows", "blank"): 2,
    ("settled_subjects_total", "erased"): 1,
    ("requests_total", "204", DELETE): 1,
    ("requests_total", "connect_refused", DELETE): 1,
    ("run_in_flight",): 4,
    ("run_concurrency",): 16,
    ("run_rate_allowed",): 50,
    ("run_rate_reached",): 0.4,
    ("run_paused",): 0,
    ("waits_total",): 1,
    ("wait_seconds_total",): 2.5,
    ("last_trouble_timestamp_seconds", "connect_refused", DELETE): NOW / 1e6,
    ("run_overdue_subjects",): 1,
    ("run_next_due_timestamp_seconds",): 1_796_083_200,
}


def worked_on(told):
    told.live.begin(FACTS, resumed=False)
    for event in (
        Working(1, lambda: Gauges(4, 16, 50.0)),
        asked(204),
        asked(None, Reason.CONNECT_REFUSED),
        Settled(Outcome.ERASED),
        Waiting(2.5),
    ):
        told.live(event)
    told.pass_by(EVERY)


def test_the_file_has_the_figures_while_the_run_is_worked_on_and_not_afterwards(stage, run, tmp_path):
    path = tmp_path / "toolkit.prom"
    before = render(replace(run, exit_code=0)) + render(replace(run, job="erase", target=FACTS.target))
    path.write_text(before)
    told = stage(level=None, file=path)
    worked_on(told)
    assert told.ticks[0][1] == EVERY
    found = figures(parse_text(path.read_text()))
    assert EXPECTED.items() <= found.items()
    assert len(found) > len(EXPECTED)  # what was there before stays
    told.live.end()
    assert figures(parse_text(path.read_text())) == figures(parse_text(before))
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_that_can_not_be_written_is_logged_once_and_stops_nothing(stage, tmp_path):
    told = stage(file=tmp_path / "no" / "toolkit.prom")
    worked_on(told)
    told.pass_by(EVERY)
    failed = [one for one in told.logged() if one["event"] == "notify.failed"]
    assert [(one["what"], one["error"]) for one in failed] == [("textfile", "FileNotFoundError")]


def test_the_port_serves_open_metrics_to_this_machine_alone(stage):
    told = stage(level=None, port=0)
    worked_on(told)
    port = int(re.search(r"127\.0\.0\.1:(\d+)/metrics", told.said[0])[1])

    def get(path, host):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, answer.headers["Content-Type"], body

    status, kind, body = get("/metrics", f"127.0.0.1:{port}")
    assert (status, kind) == (200, CONTENT_TYPE)
    assert body.endswith("# EOF\n")
    assert figures(parse_open(body)) == EXPECTED
    assert get("/", f"localhost:{port}")[0] == 404
    assert get("/metrics", "rebound.example.org")[::2] == (421, "")
    told.live.end()
    with pytest.raises(ConnectionRefusedError):
        get("/metrics", f"127.0.0.1:{port}")


def test_a_port_that_is_taken_is_said_and_stops_nothing(stage):
    server = serve(str, 0)
    try:
        told = stage(port=server.server_address[1])
        worked_on(told)
        assert "The run goes on without" in told.said[0]
    finally:
        server.shutdown()
        server.server_close()
