"""Rows that become requests, many at a time, against a server with faults: order, never two at once, never twice."""

import csv
import json
import random
import signal
from collections import Counter, defaultdict

import pytest

from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import EntityKind

CUSTOMERS = [f"customer-{number:03d}" for number in range(100)]
EVENTS = 2000
#: All that may happen to a request, with and without the server acting on it.
FAULTS = {
    FaultKind.DROP_AFTER: 0.02,
    FaultKind.DROP_BEFORE: 0.01,
    FaultKind.ERROR_429: 0.02,
    FaultKind.ERROR_503: 0.02,
    FaultKind.ERROR_500: 0.01,
    FaultKind.TRUNCATED: 0.01,
}
FAST = ("--concurrency", "64", "--confirm", "yes", "--json")


@pytest.fixture
def toolkit(toolkit):
    """Makes a command line that hardly waits after a lost answer: nothing is carried out late here."""

    def make(base_url):
        kit = toolkit(base_url)
        config = kit.folder / "quick.toml"
        config.write_text("[profiles.default]\ngrace = 0.1\n")
        kit.environment["PRIVACY_TOOLKIT_CONFIG"] = str(config)
        return kit

    return make


@pytest.fixture
def write_rows(tmp_path):
    """Writes rows of customer and number, numbered in the order of the file, the customers as chance has it."""

    def write(count, columns, make, customers=CUSTOMERS):
        rng = random.Random(5)
        path = tmp_path / "rows.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(make(rng.choice(customers), number) for number in range(1, count + 1))
        return path

    return write


EVENT_COLUMNS = ["profileId", "type", "attributes.n:number"]


def event(customer, number):
    return [customer, "counted", number]


def in_session(customer, number):
    """A row of a V1 event, each in a session of its own."""
    return [customer, "counted", number, f"session-{number}"]


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def events_kept(server):
    """The numbers of the events that the server has of each customer, in the order in which it took them."""
    kinds = (EntityKind.EVENT, EntityKind.ADVANCED_EVENT)
    kept = {one: [event for kind in kinds for event in server.store.owned(one).get(kind, [])] for one in CUSTOMERS}
    return {
        customer: [event["attributes"]["n"] for event in sorted(events, key=lambda event: event["id"])]
        for customer, events in kept.items()
    }


def check_events(kit, server, path, *, of_others=False):
    """Nothing is done that the server does not have, nothing twice, nothing out of order, no two at once.

    ``of_others``: a 409 may come, since an id is taken, or what a killed process sent is under way.
    """
    rows, subjects, kept = read_rows(path), kit.subjects(), events_kept(server)
    assert [subject["id"] for subject in subjects] == [row["profileId"] for row in rows]
    assert all(numbers == sorted(set(numbers)) for numbers in kept.values())
    outcomes = defaultdict(set)
    for subject, row in zip(subjects, rows, strict=True):
        outcomes[subject["outcome"]].add((row["profileId"], int(row["attributes.n:number"])))
    taken = {(customer, number) for customer, numbers in kept.items() for number in numbers}
    assert outcomes["done"] <= taken
    assert taken <= outcomes["done"] | outcomes["unknown"]
    assert of_others or not [entry for entry in server.log if entry.status == 409]
    return outcomes


@pytest.mark.parametrize("api", ["v2", "v3"])
def test_events_whose_answers_are_lost_are_sent_again_and_count_once(sandbox, toolkit, write_rows, api):
    """V2 ones with the key by which the API knows them, V3 ones with their own id: nobody stays unknown."""
    server = sandbox(parallel_limit=1, faults=Faults(rates=FAULTS, latency_ms=(0, 4), retry_after=0))
    kit = toolkit(server.base_url)
    path = write_rows(600, EVENT_COLUMNS, event)
    kit.run("events", "track", path, "--api", api, *FAST)
    done = kit.settle("--concurrency", "64")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 600})
    check_events(kit, server, path, of_others=api == "v3")
    if api == "v3":  # by the key the API answers as it did the first time
        assert {subject["attribution"] for subject in kit.subjects()} == {None, "inferred"}


def test_events_keep_their_order_and_none_is_sent_twice(sandbox, toolkit, write_rows):
    """V1 events have neither a key nor an id: what was lost stays unknown."""
    server = sandbox(parallel_limit=1, faults=Faults(rates=FAULTS, latency_ms=(0, 4), retry_after=0))
    kit = toolkit(server.base_url)
    path = write_rows(EVENTS, [*EVENT_COLUMNS, "sessionId"], in_session)
    first = kit.run("events", "track", path, "--api", "v1", *FAST)
    assert first.code == 3, first.err
    done = kit.settle("--concurrency", "64", rounds=1)
    outcomes = check_events(kit, server, path)
    assert done.json["outcomes"] == {"done": len(outcomes["done"]), "unknown": len(outcomes["unknown"])}
    lost = {FaultKind.DROP_AFTER, FaultKind.DROP_BEFORE, FaultKind.ERROR_500, FaultKind.TRUNCATED}
    # What was answered on a connection that broke before anything proved it is as good as lost.
    assert len(outcomes["unknown"]) >= sum(entry.fault in lost for entry in server.log) > 0
    assert len(outcomes["done"]) > 0.8 * EVENTS
    reasons = {subject["reason"] for subject in kit.subjects() if subject["outcome"] == "unknown"}
    assert reasons == {"no_look_possible"}


@pytest.mark.parametrize("api", ["v1", "v2", "v3"])
def test_killed_again_and_again_no_event_counts_twice(sandbox, toolkit, write_rows, api):
    rng = random.Random(11)
    server = sandbox(parallel_limit=1, faults=Faults(latency_ms=(1, 8)))
    kit = toolkit(server.base_url)
    columns, make = (EVENT_COLUMNS, event) if api != "v1" else ([*EVENT_COLUMNS, "sessionId"], in_session)
    path = write_rows(600, columns, make)
    process = kit.fork("events", "track", path, "--api", api, *FAST)
    kills = 0
    while kills < 12 and reaches(server.log, len(server.log) + rng.randrange(1, 60), process):
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        process = kit.fork("runs", "resume", "latest", "--json", "--concurrency", "64")
    process.communicate()
    assert kills > 3
    done = kit.resume("--concurrency", "64")
    outcomes = check_events(kit, server, path, of_others=api != "v1")
    if api == "v1":
        assert set(done.json["outcomes"]) <= {"done", "unknown"}
        assert len(outcomes["unknown"]) <= len(CUSTOMERS) * kills  # what was in flight or not proven yet
        assert len(server.log) <= 600
    else:
        assert done.json["outcomes"] == {"done": 600}


def test_a_paced_run_that_is_killed_leaves_nobody_in_doubt_who_was_not_sent(sandbox, toolkit, write_rows):
    """A row waits for its turn before its intent is written, and not after."""
    server = sandbox()
    kit = toolkit(server.base_url)
    path = write_rows(100, ["customer_id", "campaignId"], lambda _, number: [f"c{number}", 1])
    process = kit.fork("referrals", "create", path, *FAST, "--rate", "20")
    assert server.log.wait_for(6, timeout=60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    in_doubt = [subject["id"] for subject in kit.subjects() if subject["outcome"] == "unknown"]
    never_sent = [one for one in in_doubt if not server.store.owned(one)]
    assert len(never_sent) <= 1  # whose turn it was at that instant


def reaches(log, count, process):
    """Wait until the server was asked ``count`` times; False if the process ended before."""
    while process.poll() is None:
        if log.wait_for(count, timeout=0.05):
            return True
    return len(log) >= count


def test_updates_whose_answers_are_lost_are_sent_again_and_count_once(sandbox, toolkit, write_rows):
    server = sandbox(parallel_limit=1, faults=Faults(rates=FAULTS, latency_ms=(0, 4), retry_after=0))
    kit = toolkit(server.base_url)
    path = write_rows(600, ["customer_id", "attributes.last:number"], lambda customer, number: [customer, number])
    kit.run("profiles", "update", path, *FAST, "--one-by-one")
    done = kit.settle("--concurrency", "64")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 600})
    rows = read_rows(path)
    acted = Counter(entry.value for entry in server.log if entry.acted)
    assert acted == Counter(row["customer_id"] for row in rows)  # what was sent again was told by its key
    last = {row["customer_id"]: int(row["attributes.last:number"]) for row in rows}
    assert {c: server.store.get(EntityKind.PROFILE, c)["attributes"]["last"] for c in last} == last
    assert not [entry for entry in server.log if entry.status == 409]


def test_sessions_of_one_customer_go_out_one_after_another(sandbox, toolkit, write_rows):
    server = sandbox(parallel_limit=1, faults=Faults(latency_ms=(0, 4)))
    kit = toolkit(server.base_url)
    columns = ["session_id", "profileId", "attributes.n:number"]
    path = write_rows(400, columns, lambda customer, number: [f"s{number % 30}", customer, number], CUSTOMERS[:20])
    done = kit.run("sessions", "update", path, *FAST)
    assert (done.code, done.json["outcomes"]) == (0, {"done": 400})
    assert {entry.status for entry in server.log.about_subjects()} == {200}
    last = {row["session_id"]: int(row["attributes.n:number"]) for row in read_rows(path)}
    assert {key: server.store.get(EntityKind.SESSION, key)["attributes"]["n"] for key in last} == last


def test_rows_of_erased_customers_are_refused_and_the_others_are_not(sandbox, toolkit, write_ids, write_rows):
    server = sandbox(CUSTOMERS[:3])
    kit = toolkit(server.base_url)
    assert kit.erase(write_ids(CUSTOMERS[:2]), 2).code == 0
    path = write_rows(20, ["profileId", "type", "attributes.n:number"], event, CUSTOMERS[:4])
    done = kit.run("events", "track", path, *FAST)
    assert done.code == 0, done.err
    for subject in kit.subjects():
        erased = subject["id"] in CUSTOMERS[:2]
        assert subject["outcome"] == ("on_hold" if erased else "done")
        assert subject["reason"] == ("suppressed" if erased else None)
    assert [server.store.get(EntityKind.PROFILE, customer) for customer in CUSTOMERS[:2]] == [None, None]


def test_a_customer_erased_between_plan_and_resume_is_not_made_again(sandbox, toolkit, write_ids, write_rows):
    server = sandbox(CUSTOMERS[:2])
    kit = toolkit(server.base_url)
    path = write_rows(6, ["customer_id", "attributes.last:number"], lambda one, n: [one, n], CUSTOMERS[:2])
    assert kit.run("profiles", "update", path, *FAST, "--until", "0s").code == 4
    run = json.loads(kit.run("runs", "list", "--json").out)["runs"][0]["run_id"]
    assert kit.erase(write_ids(CUSTOMERS[:1]), 1).code == 0
    done = kit.resume(run=run)
    assert done.code == 0, done.err
    assert set(done.json["outcomes"]) == {"done", "on_hold"}
    assert server.store.get(EntityKind.PROFILE, CUSTOMERS[0]) is None


def test_codes_are_handed_over_once_all_is_settled(sandbox, toolkit, write_rows, tmp_path):
    server = sandbox(faults=Faults(rates={FaultKind.ERROR_429: 0.3}, retry_after=0))
    kit = toolkit(server.base_url)
    columns = ["customer_id", "campaignId", "expiryDate"]
    path = write_rows(60, columns, lambda one, _: [one, 1, "2030-01-01T00:00:00Z"])
    out = tmp_path / "codes.csv"
    first = kit.run("referrals", "create", path, "--out", out, *FAST)
    done = first if first.code == 0 else kit.settle()
    assert (done.code, done.json["out"]) == (0, {"path": str(out), "rows": 60, "complete": True})
    with out.open(newline="", encoding="utf-8") as file:
        codes = list(csv.DictReader(file))
    assert [(int(one["row"]), one["advocate_id"]) for one in codes] == [
        (number, row["customer_id"]) for number, row in enumerate(read_rows(path), 2)
    ]
    for one in codes:
        made = server.store.get(EntityKind.REFERRAL, one["referral_code"])
        assert (made["advocateProfileIntegrationId"], str(made["id"])) == (one["advocate_id"], one["referral_id"])
    code = codes[0]["referral_code"].encode()
    left = [path for path in kit.state.rglob("*") if path.is_file() and code in path.read_bytes()]
    assert left == []  # what was handed over is forgotten


def test_nothing_of_a_body_is_in_pack_or_log(sandbox, toolkit, write_rows):
    server = sandbox()
    kit = toolkit(server.base_url)
    canary = "canary-4711"
    path = write_rows(
        30, ["profileId", "type", "attributes.note", "attributes.n:number"], lambda one, n: [one, canary, canary, n]
    )
    path.write_text(path.read_text() + f"customer-000,{canary},x,{canary}\n")
    done = kit.run("events", "track", path, *FAST)
    assert (done.code, done.json["outcomes"], done.json["rows"]["rejected"]) == (3, {"done": 30}, 1)
    assert canary not in done.out + done.err
    pack = [one for one in (kit.state / "packs").rglob("*") if one.is_file()]
    assert pack
    assert [one for one in pack if canary.encode() in one.read_bytes()] == []
    shown = kit.run("inspect", path, "--as", "events", "--format", "jsonl")
    assert json.loads(shown.out.splitlines()[-1])["detail"] == "attributes.n: no number"
