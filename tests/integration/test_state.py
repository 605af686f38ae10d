"""A state folder that goes away while a run works, seen from outside the process."""

import shutil

import pytest

IDS = [f"customer-{number:04d}" for number in range(400)]


def rename(state):
    state.rename(state.with_name("elsewhere"))


def replace(state):
    copy = shutil.copytree(state, state.with_name("copy"))
    state.rename(state.with_name("elsewhere"))
    copy.rename(state)


def begin(kit, running, path):
    """An erasure under way, some way in."""
    process = kit.start(
        "erase",
        path,
        "--confirm",
        f"erase {len(IDS)} from {kit.target}",
        "--concurrency",
        "2",
        "--rate",
        "60",
        "--json",
    )
    while len(running.log.of("delete_customer_data")) < 5:
        assert process.poll() is None, process.communicate()
    return process


@pytest.mark.parametrize("take_away", [shutil.rmtree, rename, replace])
def test_nothing_is_erased_once_the_journal_can_not_be_found_any_more(toolkit, sandbox, write_ids, take_away):
    running = sandbox(IDS)
    kit = toolkit(running.base_url)
    process = begin(kit, running, write_ids(IDS))
    take_away(kit.state)
    sent = len(running.log.of("delete_customer_data"))
    done = kit.finish(process)
    assert (done.code, done.json["error"]["code"]) == (4, "moved"), done.out
    assert "Nothing was sent" not in done.out
    assert len(running.log.of("delete_customer_data")) <= sent + 60  # of a second, by the pace, of nearly 400
    elsewhere = kit.state.with_name("elsewhere")
    if elsewhere.exists():
        shutil.rmtree(kit.state, ignore_errors=True)
        elsewhere.rename(kit.state)
        settled = kit.settle("--rate", "100000")
        assert settled.json.get("outcomes") == {"erased": len(IDS)}, settled.out


def test_a_run_is_running_while_its_process_lives_and_stopped_once_it_was_killed(toolkit, sandbox, write_ids):
    running = sandbox(IDS)
    kit = toolkit(running.base_url)
    process = begin(kit, running, write_ids(IDS))
    (line,) = kit.run("runs", "list", "--json").json["runs"]
    shown = kit.run("runs", "show", "latest", "--json").json
    resumed = kit.resume()
    process.kill()
    kit.finish(process)
    assert (line["verdict"], shown["verdict"], shown["exit_code"], shown["pack"]) == ("running", "running", None, None)
    assert (resumed.code, resumed.json["error"]["code"]) == (5, "locked")
    after = kit.run("runs", "show", "latest", "--json").json
    assert (after["verdict"], after["exit_code"]) == ("stopped", 4)
    assert after["next"].startswith("privacy-toolkit runs resume")
