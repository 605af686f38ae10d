"""A run that is watched, and asked to stop, from another process than the one that works on it."""

import json

import pytest

from privacy_toolkit.sandbox.faults import FaultKind, Faults
from tests.integration.test_crash import begin, reaches
from tests.support import postgres

IDS = [f"customer-{number:05d}" for number in range(400)]


@pytest.fixture(params=["folder", "database"])
def at_work(request, sandbox, toolkit, write_ids):
    """Starts an erasure that takes a while, and waits until it is under way."""

    def start(*arguments, **faults):
        server = sandbox(IDS, faults=Faults(latency_ms=20, **faults))
        kit = toolkit(server.base_url)
        if request.param == "database":
            postgres.needed()
            kit.environment["PRIVACY_TOOLKIT_STATE"] = postgres.emptied("watching")
        process = begin(kit, write_ids(IDS), "--concurrency", "2", *arguments)
        assert reaches(server.log, 30, process)
        return kit, process, server

    return start


def test_a_run_is_stopped_from_another_process_and_it_is_said_by_whom_and_why(at_work):
    kit, process, _ = at_work()
    asked = kit.run("runs", "stop", "latest", "--because", "the API is to be maintained", "--json")
    assert asked.code == 0, asked.err
    by = asked.json["stop_asked"]["by"]
    assert "@" in by
    done = kit.finish(process)
    assert (done.code, done.json["exit_code"], done.json["stopped_by"]) == (4, 4, "stop_asked")
    assert set(done.json["outcomes"]) <= {
        "erased",
        "pending",
        "retryable",
        "unverified",
    }  # what was in flight was finished
    assert "Stopping: somebody asked for it (runs stop)" in done.err
    shown = kit.run("runs", "show", "latest")
    assert f"{by} asked for the stop at " in shown.out
    assert ": the API is to be maintained." in shown.out
    assert kit.resume("--concurrency", "64").json["outcomes"] == {"erased": len(IDS)}


def test_a_run_that_is_not_at_work_is_not_stopped_and_that_is_said(at_work):
    kit, process, _ = at_work("--until", "1h")
    kit.run("runs", "stop", "latest")
    kit.finish(process)
    refused = kit.run("runs", "stop", "latest", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (5, "not_running")
    assert "Nobody works on run" in refused.json["error"]["message"]
    assert kit.resume("--concurrency", "64").code == 0  # what was refused stops nobody later


def test_a_run_is_watched_until_it_ends_with_its_exit_code(at_work):
    kit, process, _ = at_work(rates={FaultKind.ERROR_500: 0.05})
    seen = kit.run("runs", "watch", "latest", "--every", "0.2", "--json")
    done = kit.finish(process)
    changes = [json.loads(line) for line in seen.out.splitlines()]
    assert seen.code == done.code
    assert len(changes) > 2
    first, before, last = changes[0], changes[-2], changes[-1]
    assert (first["verdict"], first["exit_code"], first["subjects"]) == ("running", None, len(IDS))
    assert [one["execution"] for one in first["workers"]] == [1]
    assert before["requests_per_second"] > 0
    assert any(one["seconds_left"] for one in changes)  # at the end there is nothing left to forecast
    assert any(kind.endswith(": server_error") for kind in before["errors"])
    assert (last["verdict"], last["exit_code"]) == (done.json["verdict"], done.code)
    assert last["outcomes"] == done.json["outcomes"]
    assert [one["open"] for one in changes] == sorted((one["open"] for one in changes), reverse=True)
    assert not any(id_ in seen.out + seen.err for id_ in IDS)


def test_without_a_terminal_there_are_plain_lines(at_work):
    kit, process, _ = at_work()
    watching = kit.fork("runs", "watch", "latest", "--every", "0.2")
    kit.run("runs", "stop", "latest", "--because", "lunch")
    seen, done = kit.finish(watching), kit.finish(process)
    lines = seen.out.splitlines()
    assert seen.code == done.code == 4
    assert "of 400 settled" in lines[0]
    assert "\x1b" not in seen.out
    assert ": lunch" in lines[-1]
    assert "somebody asked for it (runs stop)" in lines[-1]


def test_a_run_that_nobody_works_on_is_told_once(at_work):
    kit, process, _ = at_work()
    kit.run("runs", "stop", "latest")
    kit.finish(process)
    seen = kit.run("runs", "watch", "latest", "--json")
    assert (seen.code, seen.json["verdict"]) == (4, "stopped")
