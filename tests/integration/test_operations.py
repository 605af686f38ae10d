"""What whoever is on call sees of a run: its log, and figures while it works."""

import json
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from privacy_toolkit.sandbox.faults import FaultKind, Faults
from tests.integration.test_crash import reaches

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
