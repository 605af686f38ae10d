"""Workers: runs that are left to them are done by somebody, no matter who stops or dies, and schedules are kept."""

import json
import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from privacy_toolkit.app.workers import queue_of
from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.sandbox.faults import Faults
from tests.integration.test_crash import reaches
from tests.support import postgres

IDS = [f"customer-{number:05d}" for number in range(120)]


def over_database(sandbox, toolkit, name):
    """The command line with a state in a database of that name, and a sandbox that takes its time."""
    postgres.needed()
    server = sandbox(IDS, faults=Faults(latency_ms=10))
    made = toolkit(server.base_url)
    made.address = made.environment["PRIVACY_TOOLKIT_STATE"] = postgres.emptied(name)
    made.environment["XDG_STATE_HOME"] = str(made.folder)
    made.log = server.log
    return made


@pytest.fixture
def kit(sandbox, toolkit):
    return over_database(sandbox, toolkit, "workers")


@contextmanager
def worker(kit, *arguments):
    """A worker for a block; it is stopped as systemd does it."""
    process = kit.start("worker", *(arguments or ["--seal"]))
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def queue(kit):
    return queue_of(load_settings(Flags(), kit.environment))


def reaches_end(kit, process):
    """Wait until nothing is left to workers; False if the worker ended before."""
    return until(lambda: not queue(kit).handed_out(), process)


def until(is_so, process):
    for _ in range(1_000):
        if is_so():
            return True
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            return is_so()
    return False


def detach(kit, write_ids):
    done = kit.run("erase", write_ids(IDS), "--detach", "--confirm", f"erase {len(IDS)} from {kit.target}", "--json")
    assert done.code == 0, done.err
    return done.json


def outcomes(kit):
    return kit.run("runs", "show", "latest", "--json").json["outcomes"]


def test_a_run_that_is_left_to_workers_sends_nothing_before_one_is_there(kit, write_ids):
    left = detach(kit, write_ids)
    assert left["outcomes"] == {"pending": len(IDS)}
    assert left["next"] == f"privacy-toolkit runs watch {left['run_id']}"
    assert len(kit.log) == 0
    with worker(kit) as process:
        assert reaches_end(kit, process)
    assert outcomes(kit) == {"erased": len(IDS)}


def test_a_run_that_no_worker_has_taken_yet_is_waited_for_by_anyone_who_watches(kit, write_ids):
    detach(kit, write_ids)
    watching = kit.start("runs", "watch", "latest", "--every", "0.1", "--json")
    first = json.loads(watching.stdout.readline())
    assert (first["waiting"], first["exit_code"], first["open"]) == (True, None, len(IDS))
    assert first["said"].startswith("Left to workers: waiting for one to take it")
    with worker(kit) as process:
        assert reaches_end(kit, process)
        told, _ = watching.communicate(timeout=60)
    last = json.loads(told.splitlines()[-1])
    assert (watching.returncode, last["waiting"], last["exit_code"], last["verdict"]) == (0, False, 0, "complete")


def test_a_worker_that_is_stopped_finishes_what_is_in_flight_and_another_goes_on(kit, write_ids):
    detach(kit, write_ids)
    with worker(kit, "--concurrency", "2", "--seal") as first:
        assert reaches(kit.log, 40, first)
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
    assert queue(kit).handed_out()
    assert "unknown" not in outcomes(kit)
    with worker(kit) as process:
        assert reaches_end(kit, process)
    assert outcomes(kit) == {"erased": len(IDS)}
    pack = Path(kit.run("runs", "show", "latest", "--json").json["pack"])
    executions = json.loads((pack / "report.json").read_bytes())["executions"]
    assert [one.get("joined") for one in executions] == [None, 1]
    assert kit.run("verify", pack).code == 0


def test_what_a_killed_worker_had_is_finished_by_another(kit, write_ids):
    detach(kit, write_ids)
    with worker(kit, "--concurrency", "2", "--seal") as first:
        assert reaches(kit.log, 40, first)
        for child in children(first.pid):
            os.kill(child, signal.SIGKILL)
        first.kill()
        first.wait(60)
    with worker(kit) as process:
        assert reaches_end(kit, process)
    assert outcomes(kit) == {"erased": len(IDS)}


def test_anyone_who_waits_for_workers_writes_the_pack_at_the_end(kit, write_ids):
    confirmation = f"erase {len(IDS)} from {kit.target}"
    with worker(kit, "--concurrency", "8"):
        done = kit.run("erase", write_ids(IDS), "--no-work", "--confirm", confirmation, "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"erased": len(IDS)})
    assert kit.run("verify", done.json["pack"]).code == 0
    assert queue(kit).handed_out() == {}


def test_the_pack_is_written_where_somebody_is_to_do_so(kit, write_ids):
    left = detach(kit, write_ids)
    with worker(kit, "--concurrency", "8") as process:  # one that is not to
        assert until(lambda: outcomes(kit) == {"erased": len(IDS)}, process)
    folder = kit.folder / "privacy-toolkit" / "packs" / left["run_id"]
    assert not folder.exists()
    assert queue(kit).handed_out() == {left["run_id"]: 0}
    with worker(kit) as process:
        assert reaches_end(kit, process)
    assert kit.run("verify", folder).code == 0


def test_a_run_that_no_worker_has_taken_is_taken_back(kit, write_ids):
    run_id = detach(kit, write_ids)["run_id"]
    stopped = kit.run("runs", "stop", "latest", "--because", "not today")
    assert (stopped.code, stopped.err) == (0, "")
    assert f"Run {run_id} was left to workers, and nobody works on it: it was taken back" in stopped.out
    assert not queue(kit).handed_out()
    shown = kit.run("runs", "show", "latest").out
    assert "Not started: 120 subjects planned, 120 open." in shown
    assert "asked for the stop at" in shown
    assert "not today" in shown
    watched = kit.run("runs", "watch", "latest", "--json")
    assert (watched.code, watched.json["waiting"], watched.json["stop_asked"]["why"]) == (4, False, "not today")
    refused = kit.run("worker", "--run", run_id, "--once")
    assert refused.code == 5
    assert f"Run {run_id} was stopped for everybody (stop_asked). Nothing was sent." in refused.err
    assert kit.run("runs", "stop", "latest").code == 5
    assert kit.run("runs", "resume", "latest", "--detach").code == 0
    with worker(kit) as process:
        assert reaches_end(kit, process)
    assert outcomes(kit) == {"erased": len(IDS)}


def test_a_stopped_run_that_is_left_to_workers_again_is_gone_on_with_by_them(kit, write_ids):
    detach(kit, write_ids)
    with worker(kit, "--concurrency", "2", "--seal") as process:
        assert reaches(kit.log, 40, process)
        assert kit.run("runs", "stop", "latest", "--because", "noon").code == 0
        assert until(lambda: not queue(kit).handed_out(), process)
        assert kit.run("runs", "resume", "latest", "--detach").code == 0
        assert reaches_end(kit, process)
    assert outcomes(kit) == {"erased": len(IDS)}


def test_who_is_withdrawn_from_a_run_that_waits_for_workers_leaves_it_to_them(kit, write_ids):
    detach(kit, write_ids)
    withdrawn = kit.run("runs", "withdraw", "latest", "--id-file", write_ids([], "who.txt", column=IDS[0]))
    assert withdrawn.code == 0
    assert "Stopped early with 119 subjects still open: requests were withdrawn from it" in withdrawn.out
    with worker(kit) as process:
        assert reaches_end(kit, process)
    assert outcomes(kit) == {"erased": len(IDS) - 1, "on_hold": 1}


def test_a_run_that_somebody_stopped_waits_for_a_person(kit, write_ids):
    left = detach(kit, write_ids)
    with worker(kit, "--concurrency", "2", "--seal") as first:
        assert reaches(kit.log, 40, first)
        assert kit.run("runs", "stop", left["run_id"]).code == 0
        assert reaches_end(kit, first)
    assert kit.run("runs", "show", "latest", "--json").json["stopped_by"] == "stop_asked"
    assert "pending" in outcomes(kit)


def test_a_schedule_is_begun_by_a_worker(kit, write_ids):
    profile = kit.folder / "privacy-toolkit.toml"
    command = ["export", str(write_ids(IDS[:5])), "--out", str(kit.folder / "packages"), "--quiet"]
    profile.write_text(f'[schedules.night]\ncron = "* * * * *"\ncommand = {command}\n')
    profile.chmod(0o600)
    with worker(kit, "--config", str(profile)) as process:
        assert until(lambda: len(list((kit.folder / "packages").glob("*"))) >= 5, process)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('cron = "15 2 * * *"\ncommand = ["erase", "list.csv"]', "nobody is there to confirm it"),
        ('cron = "at night"\ncommand = ["export", "list.csv"]', "says no time"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused_at_the_start(kit, lines, said):
    profile = kit.folder / "privacy-toolkit.toml"
    profile.write_text(f"[schedules.night]\n{lines}\n")
    profile.chmod(0o600)
    refused = kit.run("worker", "--config", str(profile), "--json")
    assert refused.code == 2
    assert said in refused.json["error"]["message"]


def test_what_goes_onto_a_disk_is_left_to_nobody(kit, write_ids):
    refused = kit.run("export", write_ids(IDS), "--out", str(kit.folder / "packages"), "--detach", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "on_a_disk")
    assert len(kit.log) == 0
    assert kit.run("export", write_ids(IDS), "--out", str(kit.folder / "packages")).code == 0
    refused = kit.run("worker", "--run", "latest", "--once", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "on_a_disk")


def test_a_folder_has_no_workers(kit, write_ids):
    refused = kit.run("worker", "--state", str(kit.folder / "state"), "--json")
    assert refused.code == 2
    assert "in a folder" in refused.json["error"]["message"]
    confirmation = f"erase {len(IDS)} from {kit.target}"
    refused = kit.run(
        "erase", write_ids(IDS), "--detach", "--confirm", confirmation, "--state", str(kit.folder / "state")
    )
    assert refused.code == 2
    assert "in a folder" in refused.err
    assert len(kit.log) == 0


def children(pid):
    """The processes that one has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
