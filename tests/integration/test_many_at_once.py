"""Rows that go out many at once, against a server with faults: nothing lost, nothing doubled, nothing claimed."""

import csv
import random
import signal
from collections import Counter

import pytest

from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import EntityKind

#: All that may happen to a request, with and without the server acting on it.
FAULTS = {
    FaultKind.DROP_AFTER: 0.06,
    FaultKind.DROP_BEFORE: 0.03,
    FaultKind.ERROR_429: 0.06,
    FaultKind.ERROR_503: 0.04,
    FaultKind.ERROR_500: 0.03,
    FaultKind.TRUNCATED: 0.04,
}
FAST = ("--concurrency", "8", "--confirm", "yes", "--json")
ROWS = 8_000


@pytest.fixture
def kit(toolkit, sandbox):
    """A command line that hardly waits after a lost answer, and its server."""

    def make(**settings):
        server = sandbox(**settings)
        made = toolkit(server.base_url)
        config = made.folder / "quick.toml"
        config.write_text("[profiles.default]\ngrace = 0.1\n")
        made.environment["PRIVACY_TOOLKIT_CONFIG"] = str(config)
        return made, server

    return make


@pytest.fixture
def put(tmp_path):
    """Writes a file of rows, the header first."""

    def write(*rows):
        path = tmp_path / "rows.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        return path

    return write


def killed(kit, server, kills, *command):
    """Run a command, killed so often on the way, and resumed until nothing changes any more; how often it was."""
    rng, done = random.Random(3), 0
    process = kit.fork(*command)
    while done < kills:
        due = len(server.log) + rng.randrange(1, 4)
        while process.poll() is None and not server.log.wait_for(due, timeout=0.05):
            pass
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done += 1
        process = kit.fork("runs", "resume", "latest", "--json", "--concurrency", "8")
    process.communicate()
    return done


def of_both(number):
    """Whose row it is: every customer has two rows, some of them far apart."""
    return f"c{(number * 7919) % (ROWS // 2):05d}"


def updates():
    return ["customer_id", "attributes.n:number"], *([of_both(n), n] for n in range(ROWS))


def last_numbers():
    return {of_both(n): n for n in range(ROWS)}


def test_updates_need_a_request_for_a_thousand(kit, put):
    made, server = kit()
    done = made.run("profiles", "update", put(*updates()), *FAST)
    assert (done.code, done.json["outcomes"]) == (0, {"done": ROWS}), done.err
    assert len(server.log) <= 1.1 * ROWS / 1000
    assert {c: server.store.get(EntityKind.PROFILE, c)["attributes"]["n"] for c in last_numbers()} == last_numbers()


def test_updates_whose_answers_are_lost_are_sent_again_and_keep_their_order(kit, put):
    made, server = kit(faults=Faults(rates=FAULTS, latency_ms=(0, 20), retry_after=0))
    made.run("profiles", "update", put(*updates()), *FAST)
    done = made.settle("--concurrency", "8")
    assert (done.code, done.json["outcomes"]) == (0, {"done": ROWS})
    assert {c: server.store.get(EntityKind.PROFILE, c)["attributes"]["n"] for c in last_numbers()} == last_numbers()
    assert not [entry for entry in server.log if entry.status == 409]


def test_killed_in_the_middle_of_requests_no_update_is_lost_and_none_overtakes_another(kit, put):
    made, server = kit(faults=Faults(latency_ms=(20, 60)))
    kills = killed(made, server, 6, "profiles", "update", put(*updates()), *FAST)
    done = made.settle("--concurrency", "8")
    assert kills >= 3
    assert (done.code, done.json["outcomes"]) == (0, {"done": ROWS})
    assert {c: server.store.get(EntityKind.PROFILE, c)["attributes"]["n"] for c in last_numbers()} == last_numbers()


def check_codes(made, server, out, count):
    """No advocate has two codes, every one who is done has theirs in the file, and the others are unknown."""
    subjects = made.subjects()
    outcomes = {one["id"]: one["outcome"] for one in subjects}
    kept = {one: server.store.owned(one).get(EntityKind.REFERRAL, []) for one in outcomes}
    assert {len(codes) for codes in kept.values()} <= {0, 1}
    assert len(outcomes) == count
    with out.open(newline="", encoding="utf-8") as file:
        codes = {row["advocate_id"]: row["referral_code"] for row in csv.DictReader(file)}
    assert {one for one, outcome in outcomes.items() if outcome == "done"} == codes.keys()
    assert all(kept[one][0]["code"] == code for one, code in codes.items())
    assert {one for one, held in kept.items() if held} - codes.keys() <= {
        one["id"] for one in subjects if one["outcome"] == "unknown" and one["reason"] == "no_look_possible"
    }
    return Counter(outcomes.values())


def codes(count):
    """Advocates of three campaigns."""
    return ["customer_id", "campaignId", "usageLimit"], *([f"a{n:05d}", n % 3 + 1, 1] for n in range(count))


def test_codes_whose_answers_are_lost_are_never_made_twice(kit, put, tmp_path):
    made, server = kit(faults=Faults(rates=FAULTS, latency_ms=(0, 20), retry_after=0))
    out = tmp_path / "codes.csv"
    made.run("referrals", "create", put(*codes(ROWS)), "--out", out, *FAST)
    made.settle("--concurrency", "8", rounds=2)
    outcomes = check_codes(made, server, out, ROWS)
    assert set(outcomes) <= {"done", "unknown"}
    assert outcomes["done"] > ROWS / 3


def test_killed_in_the_middle_of_requests_no_code_is_made_twice(kit, put, tmp_path):
    made, server = kit(faults=Faults(latency_ms=(20, 60)))
    out = tmp_path / "codes.csv"
    kills = killed(made, server, 3, "referrals", "create", put(*codes(ROWS)), "--out", out, *FAST)
    made.settle("--concurrency", "8", rounds=1)
    outcomes = check_codes(made, server, out, ROWS)
    assert set(outcomes) <= {"done", "unknown"}
    assert outcomes["unknown"] <= 1000 * 8 * kills  # the requests in flight
    assert len(server.log) <= 1.1 * ROWS / 1000 + 1


def test_audiences_are_in_the_end_as_the_file_says_whatever_is_lost(kit, put):
    made, server = kit(faults=Faults(rates=FAULTS, latency_ms=(0, 20), retry_after=0))
    rows = [(of_both(n), 7, "delete" if n % 3 == 0 else "add") for n in range(ROWS)]
    killed(made, server, 2, "audiences", "update", put(["customer_id", "audienceId", "action"], *rows), *FAST)
    done = made.settle("--concurrency", "8")
    assert (done.code, done.json["outcomes"]) == (0, {"done": ROWS})
    assert {one["reason"] for one in made.subjects()} <= {"accepted_together", None}
    wanted = {customer: action == "add" for customer, _, action in rows}
    held = {one: server.store.get(EntityKind.PROFILE, one) for one in wanted}
    assert {one: bool(profile and profile["audienceMemberships"]) for one, profile in held.items()} == wanted
