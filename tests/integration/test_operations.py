"""What the person on call sees of a run: its log, and figures while it works."""

import json
import select
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from privacy_toolkit.sandbox.faults import FaultKind, Faults
from tests.integration.test_crash import reaches
from tests.support import postgres

IDS = [f"canary-{number:05d}" for number in range(300)]


def test_a_log_tells_a_run_from_begin_to_end_and_nobody_in_it(sandbox, toolkit, write_ids):
    server = sandbox(IDS[:40], faults=Faults(rates={FaultKind.ERROR_500: 0.1}))
    kit = toolkit(server.base_url)
    path = write_ids([*IDS[:40], ""])
    told = ("--log-format", "json", "--log-level", "debug", "--log-file", "run.log")
    done = kit.run("erase", path, "--confirm", f"erase 40 from {kit.target}", *told, "--json")
    text = (kit.folder / "run.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    events = [one["event"] for one in lines]
    assert events[:3] == ["run.started", "rows.rejected", "execution.started"]
    assert events[-2:] == ["pack.sealed", "run.ended"]
    assert {"request", "api.trouble"} <= set(events)
    assert {one["run"] for one in lines} == {done.json["run_id"]}
    assert {one["execution"] for one in lines[2:]} == {1}
    assert (lines[-1]["exit_code"], lines[-1]["outcomes"]) == (done.code, done.json["outcomes"])
    assert "canary" not in text


def test_on_stderr_the_log_is_alone_and_a_bar_is_refused(sandbox, toolkit, write_ids):
    kit = toolkit(sandbox(IDS[:3]).base_url)
    command = ("erase", write_ids(IDS[:3]), "--confirm", f"erase 3 from {kit.target}", "--log-format", "json", "--json")
    refused = kit.run(*command, "--progress", "bar")
    assert (refused.code, "can't share stderr" in refused.json["error"]["message"]) == (2, True)
    done = kit.run(*command, "--quiet", "--until", "0s")
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert [one["event"] for one in lines] == [
        "run.started",
        "execution.started",
        "stop.asked",
        "pack.sealed",
        "run.ended",
    ]
    assert done.json["exit_code"] == 4
    resumed = kit.run("runs", "resume", "latest", "--log-level", "warning", "--quiet", "--json")
    assert (resumed.code, resumed.err) == (0, "")


def test_a_log_that_can_not_be_written_is_refused_before_anything_is_sent(sandbox, toolkit, write_ids):
    server = sandbox(IDS[:1])
    kit = toolkit(server.base_url)
    refused = kit.run("erase", write_ids(IDS[:1]), "--confirm", "x", "--log-file", "no/run.log", "--json")
    assert (refused.code, list(server.log)) == (2, [])
    assert "can't be written to no/run.log" in refused.json["error"]["message"]


def test_figures_are_served_and_written_while_a_run_works(sandbox, toolkit, write_ids, unused_port):
    server = sandbox(IDS, faults=Faults(latency_ms=20))
    kit = toolkit(server.base_url)
    (kit.folder / "privacy-toolkit.toml").write_text("[notify]\nprometheus_textfile = 'toolkit.prom'\n")
    confirmed = ("--confirm", f"erase {len(IDS)} from {kit.target}", "--concurrency", "2")
    process = kit.start("erase", write_ids(IDS), *confirmed, "--metrics-port", unused_port)
    assert reaches(server.log, 30, process)
    with urllib.request.urlopen(f"http://127.0.0.1:{unused_port}/metrics", timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        body = answer.read().decode()
    written = (kit.folder / "toolkit.prom").read_text()
    kit.run("runs", "stop", "latest")
    kit.finish(process)
    found = {one.name: one for family in text_string_to_metric_families(body) for one in family.samples}
    assert found["privacy_toolkit_run_subjects"].value == len(IDS)
    assert found["privacy_toolkit_run_concurrency"].value == 2
    assert found["privacy_toolkit_requests_total"].value > 0
    assert "privacy_toolkit_run_in_progress" in written
    after = (kit.folder / "toolkit.prom").read_text()
    assert "privacy_toolkit_run_in_progress" not in after
    assert 'privacy_toolkit_last_run_exit_code{job="erase"' in after
    assert "canary" not in body + written + after


@pytest.fixture(params=["folder", "database"])
def at_work(request, sandbox, toolkit, write_ids):
    """A run under way that takes a while, at a pace that can be lowered."""
    server = sandbox(IDS[:150], faults=Faults(latency_ms=10))
    kit = toolkit(server.base_url)
    if request.param == "database":
        postgres.needed()
        kit.environment["PRIVACY_TOOLKIT_STATE"] = postgres.emptied("tuning")
    confirmed = ("--confirm", f"erase 150 from {kit.target}", "--rate", "100", "--concurrency", "4", "--json")
    process = kit.start("erase", write_ids(IDS[:150]), *confirmed, "--log-file", "run.log", "--log-format", "json")
    assert reaches(server.log, 10, process)
    return kit, process, server


def tuned(kit, count):
    """Wait until so many changes of the pace are logged, and give them."""
    for _ in range(400):
        lines = [json.loads(line) for line in (kit.folder / "run.log").read_text().splitlines()]
        found = [one for one in lines if one["event"] == "run.tuned"]
        if len(found) >= count:
            break
        select.select([], [], [], 0.025)
    return [(one["rate"], one["concurrency"], one["paused"]) for one in found]


def test_a_run_at_work_is_paused_slowed_and_goes_on_and_all_is_done_in_the_end(at_work):
    kit, process, server = at_work
    paused = kit.run("runs", "pause", "latest", "--json")
    assert (paused.code, paused.json["paused"]) == (0, True)
    assert tuned(kit, 1) == [(0, 4, True)]
    above = kit.run("runs", "tune", "latest", "--rate", "101", "--json")
    assert (above.code, above.json["error"]["code"]) == (2, "above_allowed")
    assert "--rate 100" in above.json["error"]["message"]
    assert kit.run("runs", "tune", "latest", "--concurrency", "2", "--json").code == 0
    assert tuned(kit, 2)[1:] == [(0, 2, True)]
    before = len(server.log)
    assert kit.run("runs", "show", "latest", "--json").json["verdict"] == "running"
    assert len(server.log) == before  # nothing was asked meanwhile
    gone_on = kit.run("runs", "continue", "latest", "--json")
    assert gone_on.json | {"rate": None, "concurrency": 2, "paused": False} == gone_on.json
    assert tuned(kit, 3)[2:] == [(100, 2, False)]
    done = kit.finish(process)
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 150})
    assert "Paused, as somebody asked" in done.err
    refused = kit.run("runs", "tune", "latest", "--rate", "5", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (5, "not_running")
    assert kit.run("runs", "tune", "latest", "--json").code == 2
