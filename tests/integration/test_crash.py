"""Processes that are killed, interrupted and starved of disk: what the journal says afterwards must be true."""

import random
import signal
from collections import Counter

import pytest

from privacy_toolkit.sandbox.faults import FaultKind, Faults
from tests.support.lengths import IS_LONG

IDS = [f"customer-{number:05d}" for number in range(400)]
#: So often a process is killed on its way through them.
KILLS = 50 if IS_LONG else 15


def begin(kit, path, *arguments):
    return kit.start("erase", path, "--confirm", f"erase {len(IDS)} from {kit.target}", "--json", *arguments)


def kill(process):
    """End a process as a power cut would."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def reaches(log, count, process):
    """Wait until the server was asked ``count`` times; False if the process ended before."""
    while process.poll() is None:
        if log.wait_for(count, timeout=0.05):
            return True
    return len(log) >= count


def check_against_server(kit, server):
    """No subject is reported erased that the server did not erase, and none is missing or doubled."""
    acted = {e.value for e in server.log if e.operation == "delete_customer_data" and e.acted}
    subjects = kit.subjects()
    assert [s["id"] for s in subjects] == IDS
    for subject in subjects:
        if subject["outcome"] in {"erased", "unverified"}:
            assert subject["id"] in acted
        if subject["outcome"] in {"pending", "retryable", "nothing_held"}:
            assert subject["id"] not in acted


def test_killed_at_random_instants_nothing_is_lost_and_nothing_counted_twice(sandbox, toolkit, write_ids):
    rng = random.Random(7)
    # Slow enough that what is asked between an instant and its kill does not use up the run, on a busy machine either.
    server = sandbox(IDS, faults=Faults(latency_ms=(5, 30)))
    kit = toolkit(server.base_url)
    path = write_ids(IDS)
    process = begin(kit, path, "--concurrency", "2")
    kills = 0
    while kills < KILLS and reaches(server.log, len(server.log) + rng.randrange(1, 24), process):
        kill(process)
        kills += 1
        if kills % 10 == 0:
            check_against_server(kit, server)
        process = kit.fork("runs", "resume", "latest", "--json", "--concurrency", "2")
    process.communicate()
    assert kills == KILLS
    done = kit.settle()
    assert (done.code, done.json["outcomes"]) == (0, {"erased": len(IDS)})
    check_against_server(kit, server)
    sent = Counter(e.value for e in server.log if e.operation == "delete_customer_data")
    assert set(sent) == set(IDS)
    # At most what was in flight at a kill may have been sent again, and only after a look.
    assert sum(sent.values()) <= len(IDS) + 2 * kills


def test_killed_before_the_first_request_the_run_is_whole_or_not_there(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    kit = toolkit(server.base_url)
    process = begin(kit, write_ids(IDS))
    while process.poll() is None and not (kit.state / "runs").exists():
        pass
    kill(process)
    listed = kit.run("runs", "list", "--json").json["runs"]
    assert [run["subjects"] for run in listed] in ([], [len(IDS)])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 4)])
def test_a_first_signal_finishes_what_is_in_flight(sandbox, toolkit, write_ids, number, code):
    server = sandbox(IDS, faults=Faults(latency_ms=20))
    kit = toolkit(server.base_url)
    process = begin(kit, write_ids(IDS), "--concurrency", "4")
    assert reaches(server.log, 30, process)
    process.send_signal(number)
    done = kit.finish(process)
    assert (done.code, done.json["verdict"], done.json["exit_code"]) == (code, "stopped", code)
    assert set(done.json["outcomes"]) <= {"erased", "pending", "retryable"}
    withdrawn = {s["reason"] for s in kit.subjects() if s["outcome"] == "retryable"}
    assert withdrawn <= {"not_written"}  # its intent was durable when the signal came: it was withdrawn
    assert (kit.state / "packs" / done.json["run_id"] / "report.html").exists()
    check_against_server(kit, server)
    assert kit.resume("--concurrency", "64").json["outcomes"] == {"erased": len(IDS)}
    assert len(server.log.of("delete_customer_data")) == len(IDS)


def test_a_second_signal_leaves_what_was_sent_unknown(sandbox, toolkit, write_ids):
    server = sandbox(IDS, faults=Faults(latency_ms=5000, operations=frozenset({"delete_customer_data"})))
    kit = toolkit(server.base_url)
    process = begin(kit, write_ids(IDS), "--concurrency", "4")
    while process.poll() is None and "unknown" not in kit.outcomes_now():
        pass
    process.send_signal(signal.SIGINT)
    line = process.stderr.readline()
    while "Stopping" not in line:
        line = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    done = kit.finish(process)
    assert done.code == 130
    assert set(done.json["outcomes"]) == {"unknown", "pending"}
    assert 1 <= done.json["outcomes"]["unknown"] <= 4


def test_a_signal_ends_the_waiting_that_the_api_asked_for(sandbox, toolkit, write_ids):
    server = sandbox(IDS, faults=Faults(rates={FaultKind.ERROR_429: 1.0}, retry_after=100))
    kit = toolkit(server.base_url)
    process = begin(kit, write_ids(IDS), "--concurrency", "4", "--progress", "lines")
    assert any("wait 100 s" in line for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    done = kit.finish(process)
    assert done.code == 4
    assert done.json["outcomes"] == {"pending": len(IDS)}
    assert len(server.log) <= 4


def test_two_runs_on_one_target_exclude_each_other(sandbox, toolkit, write_ids):
    server = sandbox(IDS, faults=Faults(latency_ms=20))
    kit = toolkit(server.base_url)
    path = write_ids(IDS)
    first = begin(kit, path, "--concurrency", "2")
    assert reaches(server.log, 5, first)
    second = kit.erase(path, len(IDS))
    assert (second.code, second.json["error"]["code"]) == (5, "locked")
    assert len(kit.run("runs", "list", "--json").json["runs"]) == 1
    first.send_signal(signal.SIGTERM)
    assert kit.finish(first).code == 4


def test_a_full_disk_stops_the_run_and_a_resume_completes_it(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    kit = toolkit(server.base_url)
    path = write_ids(IDS)
    plan = kit.folder / "plan.json"
    assert kit.run("erase", path, "--plan", plan).code == 0
    process = kit.start("apply", plan, "--confirm", f"erase {len(IDS)} from {kit.target}", "--json", blocks=300)
    done = kit.finish(process)
    assert done.code == 4, (done.out, done.err)
    check_against_server(kit, server)
    settled = kit.settle()
    assert (settled.code, settled.json["outcomes"]) == (0, {"erased": len(IDS)})
    check_against_server(kit, server)
