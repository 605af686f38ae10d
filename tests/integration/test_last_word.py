"""A run whose listener goes away, or whose disk fills up, still ends with journal, pack and an honest last word."""

import json
import os
import pty
import signal
import subprocess

import pytest

from privacy_toolkit.sandbox.faults import Faults

IDS = [f"customer-{number:05d}" for number in range(60)]
STEADY = Faults(latency_ms=20)


def command(kit, path, *arguments):
    return ["erase", str(path), "--confirm", f"erase {len(IDS)} from {kit.target}", *arguments]


def begun(kit, path, *arguments, before=(), **options):
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [*before, *kit.command, *command(kit, path, *arguments)], env=kit.environment, **(given | options)
    )


def reaches(server, count, process):
    while process.poll() is None:
        if server.log.wait_for(count, timeout=0.05):
            return True
    return False


@pytest.mark.parametrize("times", [1, 2])
def test_a_session_that_ends_is_taken_as_a_request_to_stop(sandbox, toolkit, write_ids, times):
    server = sandbox(IDS, faults=STEADY)
    kit = toolkit(server.base_url)
    process = begun(kit, write_ids(IDS), "--json", "--concurrency", "2")
    assert reaches(server, 12, process)
    for _ in range(times):  # the system and the shell both send it
        process.send_signal(signal.SIGHUP)
    done = kit.finish(process)
    assert (done.code, done.json["verdict"], done.json["stopped_by"]) == (4, "stopped", "terminated")
    assert set(done.json["outcomes"]) == {"erased", "pending"}
    assert (kit.state / "packs" / done.json["run_id"] / "report.html").exists()
    assert kit.resume().json["outcomes"] == {"erased": len(IDS)}


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 4, "terminated"), (signal.SIGHUP, 4, "terminated")],
)
def test_a_signal_before_there_is_a_run_ends_in_a_word_and_leaves_nothing(toolkit, tmp_path, number, code, told):
    kit, plan = toolkit("http://127.0.0.1:9"), tmp_path / "plan.json"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(
        [*kit.command, "erase", "-", "--plan", str(plan), "--json"], env=kit.environment, **pipes
    )
    process.stdin.write(b"customer_id\n" + b"".join(b"customer-%07d\n" % one for one in range(20_000)))
    process.stdin.flush()  # more than a pipe takes: somebody is reading
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert (json.loads(out)["error"]["code"], err.strip()) == (told, b"")
    assert [one for one in tmp_path.rglob("*") if "plan" in one.name] == []
    assert [*(kit.state / "runs").glob("*")] == []


def test_under_nohup_a_session_that_ends_stops_nothing(sandbox, toolkit, write_ids):
    server = sandbox(IDS, faults=STEADY)
    kit = toolkit(server.base_url)
    nohup = ("sh", "-c", 'trap "" HUP && exec "$@"', "sh")
    process = begun(kit, write_ids(IDS), "--json", "--concurrency", "2", before=nohup)
    assert reaches(server, 12, process)
    process.send_signal(signal.SIGHUP)
    done = kit.finish(process)
    assert (done.code, done.json["outcomes"]) == (0, {"erased": len(IDS)})


@pytest.mark.parametrize("progress", ["lines", "bar"])
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_nobody_left_to_read_ends_no_run(sandbox, toolkit, write_ids, progress, as_json):
    server = sandbox(IDS, faults=STEADY)
    kit = toolkit(server.base_url)
    process = begun(kit, write_ids(IDS), "--progress", progress, "--concurrency", "2", *as_json)
    assert reaches(server, 12, process)
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=120) == 0
    shown = kit.run("runs", "show", "latest", "--json").json
    assert (shown["verdict"], shown["outcomes"]) == ("complete", {"erased": len(IDS)})
    assert kit.run("verify", shown["pack"]).code == 0


@pytest.mark.parametrize(
    ("closed", "arguments", "code", "told"),
    [
        ("<&-", ["erase", "IDS", "--json"], 2, "confirmation_missing"),
        ("<&- 2>&-", ["erase", "IDS", "--json"], 2, "confirmation_missing"),
        ("<&- 2>&-", ["erase", "-", "--plan", "plan.json", "--json"], 2, "input"),
    ],
)
def test_streams_that_are_closed_are_no_terminal_and_no_file(toolkit, write_ids, closed, arguments, code, told):
    kit = toolkit("http://127.0.0.1:9")
    given = [str(write_ids(IDS)) if one == "IDS" else one for one in arguments]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    done = subprocess.run(
        [*shell, *kit.command, *given], env=kit.environment, cwd=kit.folder, capture_output=True, check=False
    )
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (code, told)


def test_no_file_takes_the_number_of_a_stream_that_is_closed(toolkit):
    kit = toolkit("http://127.0.0.1:9")
    code = (
        "from privacy_toolkit.cli.main import _take_the_first_three as take; take(); import os; print(os.open('/', 0))"
    )
    shell = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", kit.command[0], "-c", code]
    done = subprocess.run(shell, env=kit.environment, capture_output=True, check=False, text=True)
    assert done.stdout == "3\n"


def test_a_folder_that_is_gone_is_named(toolkit, tmp_path):
    kit, folder = toolkit("http://127.0.0.1:9"), tmp_path / "gone"
    folder.mkdir()
    shell = ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *kit.command, "runs", "list", "--json"]
    done = subprocess.run(shell, env=kit.environment, cwd=folder, capture_output=True, check=False)
    assert (done.returncode, "no longer there" in json.loads(done.stdout)["error"]["message"]) == (2, True)


def test_a_terminal_that_is_gone_ends_no_run(sandbox, toolkit, write_ids):
    server = sandbox(IDS, faults=STEADY)
    kit = toolkit(server.base_url)
    ours, theirs = pty.openpty()
    process = begun(kit, write_ids(IDS), "--progress", "bar", "--concurrency", "2", stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert reaches(server, 12, process)
    os.close(ours)  # from here on each write is an error, as after a dropped connection
    assert process.wait(timeout=120) == 0
    shown = kit.run("runs", "show", "latest", "--json").json
    assert (shown["verdict"], shown["outcomes"]) == ("complete", {"erased": len(IDS)})


def test_streams_that_were_closed_from_the_start_end_no_run(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    kit = toolkit(server.base_url)
    closed = ("sh", "-c", 'exec "$@" 2>&- >&-', "sh")
    process = begun(kit, write_ids(IDS), before=closed, stdout=None, stderr=None)
    assert process.wait(timeout=120) == 0
    assert kit.run("runs", "show", "latest", "--json").json["outcomes"] == {"erased": len(IDS)}


@pytest.mark.parametrize("blocks", [180, 300, 420])
def test_a_full_disk_is_told_with_the_run_and_its_counts(sandbox, toolkit, write_ids, blocks):
    server = sandbox(IDS)
    kit = toolkit(server.base_url)
    # No file may grow beyond some 100 kB: writing fails as it does when the disk is full.
    full = ("sh", "-c", f'ulimit -f {blocks} && exec "$@"', "sh")
    done = kit.finish(begun(kit, write_ids(IDS), "--json", before=full))
    value = done.json
    acted = len({entry.value for entry in server.log if entry.operation == "delete_customer_data" and entry.acted})
    assert value["exit_code"] == done.code
    if not acted:
        assert done.code in {2, 4}
        return
    assert value["run_id"]
    assert sum(value["outcomes"].values()) == len(IDS)
    assert value["outcomes"].get("erased", 0) <= acted
    if value["outcomes"] != {"erased": len(IDS)}:
        assert value["next"] == f"privacy-toolkit runs resume {value['run_id']}"
    settled = kit.settle()
    assert (settled.code, settled.json["outcomes"]) == (0, {"erased": len(IDS)})


def test_a_place_of_the_pack_that_is_taken_during_the_run_is_told_at_its_end(sandbox, toolkit, write_ids):
    server = sandbox(IDS, faults=STEADY)
    kit = toolkit(server.base_url)
    pack = kit.folder / "report" / "pack"
    process = begun(kit, write_ids(IDS), "--json", "--pack", str(pack), "--concurrency", "2")
    assert reaches(server, 12, process)
    pack.parent.write_text("something else is here now")
    done = kit.finish(process)
    assert (done.code, done.json["error"]["code"], done.json["pack"]) == (4, "pack", None)
    assert (done.json["verdict"], done.json["outcomes"]) == ("complete", {"erased": len(IDS)})
    assert done.json["next"] == f"privacy-toolkit runs report {done.json['run_id']}"
    again = kit.run(*done.json["next"].split()[1:], "--json")
    assert (again.code, kit.run("verify", again.json["pack"]).code) == (0, 0)


def test_after_ctrl_c_nothing_is_counted_as_made_that_was_not(sandbox, toolkit, write_ids):
    server = sandbox(IDS, faults=STEADY)
    kit = toolkit(server.base_url)
    process = begun(kit, write_ids(IDS), "--json", "--rate", "40", "--concurrency", "16")
    assert reaches(server, 24, process)
    process.send_signal(signal.SIGINT)
    done = kit.finish(process)
    report = json.loads((kit.state / "packs" / done.json["run_id"] / "report.json").read_text())
    made = {line["operation"]: line["made"] for line in report["calls"]}
    assert made["delete_customer_data"] == len(server.log.of("delete_customer_data"))
    page = (kit.state / "packs" / done.json["run_id"] / "report.html").read_text()
    assert "connection broke before anything was sent" not in page
    assert kit.run("verify", done.json["pack"]).code == 0
    withdrawn = sum(line["withdrawn"] for line in report["calls"])
    assert ("Withdrawn before sending" in page) is bool(withdrawn)
