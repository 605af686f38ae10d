"""Patrols where answers are wrong, or another deployment's, and patrols that are killed: nothing false is said."""

import random
import signal

import pytest

from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.sandbox.wire import seed
from tests.support.shop import write_profile

IDS = [f"customer-{number:05d}" for number in range(60)]
BACK = IDS[10:13]


class World:
    """A deployment at one address: it can be stopped, and started again with faults or with another's customers."""

    def __init__(self, folder):
        self._folder = folder
        self._running = None
        self._port = 0

    def start(self, database="deployment.sqlite", **settings):
        """Start it, at the port that it had before."""
        self.stop()
        given = SandboxSettings(port=self._port, database=self._folder / database, **settings)
        self._running = start_in_thread(given)
        self._running.__enter__()
        self._port = int(self._running.base_url.rpartition(":")[2])
        return self._running

    def stop(self):
        """Stop it, if it runs."""
        if self._running is not None:
            self._running.__exit__(None, None, None)
        self._running = None


@pytest.fixture
def world(tmp_path):
    started = World(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def erased(world, toolkit, write_ids):
    """Starts a deployment on which all customers were erased, and a shop that wrote some of them since."""

    def make(**settings):
        server = world.start(**settings)
        seed(server.store, len(IDS), ids=IDS)
        kit = toolkit(server.base_url)
        assert kit.run("controls", "create", "--confirm", "yes").code == 0
        assert kit.erase(write_ids(IDS), len(IDS)).code == 0
        for customer in BACK:
            write_profile(server.base_url, customer, {"Name": "somebody"})
        return kit

    return make


def patrol(kit, *arguments):
    return kit.run("patrol", "--as-of", "2100-01-01", "--json", *arguments)


def seen(kit, run="latest"):
    """The ids of a patrol by outcome."""
    found = {}
    for one in kit.subjects(run):
        found.setdefault(one["outcome"], set()).add(one["id"])
    return found


def test_from_an_erasure_to_a_second_one(world, erased):
    kit = erased()
    done = patrol(kit)
    assert (done.code, done.json["reappeared"], done.json["still_gone"]) == (3, len(BACK), len(IDS) - len(BACK))
    patrol_id = done.json["patrols"][0]["run_id"]
    plan = kit.folder / "again.json"
    assert kit.run("erase", "--reappeared", patrol_id, "--plan", plan, "--json").code == 0
    again = kit.run("apply", plan, "--confirm", f"erase {len(BACK)} from {kit.target}", "--json")
    assert (again.code, again.json["outcomes"]) == (0, {"erased": len(BACK)})
    closed = patrol(kit)  # the same patrol is gone on with, and those erased again are looked at in their turn
    assert (closed.code, closed.json["reappeared"], closed.json["runs"]) == (0, 0, 2)
    packs = kit.state / "packs"
    for run in closed.json["patrols"]:
        assert kit.run("verify", packs / run["run_id"], "--chain", packs).code == 0


def test_where_erased_profiles_stay_listed_attributes_alone_say_that_somebody_is_back(world, erased):
    kit = erased(after_erase="empty")
    write_profile(f"http://{kit.target}", IDS[20], {})
    done = patrol(kit)
    assert (done.code, seen(kit)) == (3, {"done": set(IDS) - set(BACK), "reappeared": set(BACK)})
    assert {one["reason"] for one in kit.subjects() if one["outcome"] == "done"} == {"empty_profile"}


@pytest.mark.parametrize(
    "kind", [FaultKind.HTML_200, FaultKind.TRUNCATED, FaultKind.FOREIGN_404, FaultKind.FOREIGN_200, FaultKind.ERROR_500]
)
def test_who_answers_in_the_api_s_place_makes_nobody_gone_and_nobody_back(world, erased, kind):
    kit = erased()
    world.start(faults=Faults(rates={kind: 1.0}))
    done = patrol(kit)
    assert done.code == 4, done.out
    assert set(done.json["patrols"][0]["outcomes"]) <= {"pending", "retryable"}
    world.start()
    again = patrol(kit)
    assert (again.code, again.json["runs"]) == (3, 1)
    assert seen(kit) == {"done": set(IDS) - set(BACK), "reappeared": set(BACK)}


@pytest.mark.parametrize("after_erase", ["404", "empty"])
def test_another_environment_that_takes_the_key_and_knows_nobody_makes_nobody_gone(world, erased, after_erase):
    kit = erased(after_erase=after_erase)
    world.start(database="another.sqlite")
    done = patrol(kit)
    assert (done.code, done.json["patrols"][0]["stopped_by"]) == (4, "route_unproven")
    assert set(done.json["patrols"][0]["outcomes"]) == {"pending"}


@pytest.mark.parametrize(
    "kind", [FaultKind.HTML_200, FaultKind.TRUNCATED, FaultKind.ANOTHER_NAMED, FaultKind.DROP_AFTER]
)
def test_where_some_answers_are_bad_each_word_is_true_and_a_later_patrol_completes_it(world, erased, kind):
    kit = erased()
    world.start(faults=Faults(rates={kind: 0.3}, seed=5))
    patrol(kit)
    found = seen(kit)
    assert found.get("done", set()) <= set(IDS) - set(BACK)
    assert found.get("reappeared", set()) <= set(BACK)
    world.start()
    patrol(kit)
    assert seen(kit) == {"done": set(IDS) - set(BACK), "reappeared": set(BACK)}


def test_killed_again_and_again_a_patrol_goes_on_and_is_taken_once(world, erased):
    kit, rng = erased(), random.Random(3)
    server = world.start(faults=Faults(latency_ms=(5, 20)))
    kills = 0
    while kills < 6:
        process = kit.start("patrol", "--as-of", "2100-01-01", "--json", "--concurrency", "2")
        wanted = len(server.log) + rng.randrange(4, 30)
        while process.poll() is None and not server.log.wait_for(wanted, timeout=0.05):
            pass
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        found = seen(kit) if "patrol" in kit.run("runs", "list").out else {}
        assert found.get("done", set()) <= set(IDS)
        assert found.get("reappeared", set()) <= set(BACK)
    assert kills >= 2
    done = patrol(kit)
    assert done.code == 3
    assert seen(kit) == {"done": set(IDS) - set(BACK), "reappeared": set(BACK)}
    runs = [run for run in kit.run("runs", "list", "--json").json["runs"] if run["job"] == "patrol"]
    assert len(runs) == 1
    assert {entry.operation for entry in server.log} == {"get_customer_inventory"}


def test_a_patrol_waits_for_nobody_else_and_leaves_what_is_under_way_alone(world, erased, write_ids):
    kit = erased()
    server = world.start(faults=Faults(latency_ms=30))
    others = write_ids([f"other-{number}" for number in range(40)], "others.csv")
    first = kit.start("erase", others, "--confirm", f"erase 40 from {kit.target}", "--json", "--concurrency", "2")
    while first.poll() is None and not server.log.wait_for(8, timeout=0.05):
        pass
    done = patrol(kit)
    assert (done.code, done.json["error"]["code"]) == (5, "locked")
    first.send_signal(signal.SIGTERM)
    kit.finish(first)


def test_a_purged_run_is_rechecked_from_a_fresh_list(world, erased, write_ids):
    kit = erased()
    run_id = kit.run("runs", "list", "--json").json["runs"][0]["run_id"]
    assert kit.run("runs", "purge", run_id, "--confirm", f"purge {run_id}").code == 0
    fresh = write_ids([*BACK, *IDS[:5], "never-seen"], "fresh.csv")
    done = patrol(kit, run_id, "--list", fresh)
    assert done.code == 3
    assert seen(kit) == {"reappeared": set(BACK), "done": set(IDS[:5]), "on_hold": {"never-seen"}}
