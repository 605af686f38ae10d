"""Coupons against a server that loses answers, by a process that is killed: what the server saw is what counts."""

import csv
import json
import random
from collections import Counter, defaultdict

import pytest

from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import EntityKind
from privacy_toolkit.sandbox.wire import EPOCH, coupon, timestamp

COUPONS = [f"CAMPAIGN-{number:02d}" for number in range(50)]
CUSTOMERS = [f"customer-{number:04d}" for number in range(400)]
PAIRS = 3000
BUDGET = 55
READ, SEND = "get_reserved_customers", "create_coupon_reservation"


@pytest.fixture
def pairs(tmp_path):
    """60 customers for each of 50 coupons, in any order."""
    rng = random.Random(11)
    rows = [(code, customer) for code in COUPONS for customer in rng.sample(CUSTOMERS, PAIRS // len(COUPONS))]
    rng.shuffle(rows)
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("coupon_value", "customer_id"), *rows])
    return path, rows


@pytest.fixture
def stocked(sandbox):
    """A sandbox that has the coupons and nobody who holds them."""

    def start(**settings):
        server = sandbox(CUSTOMERS, **settings)
        with server.store.transaction():
            for code in COUPONS:
                server.store.put(EntityKind.COUPON, code, coupon(server.store.number(), code, timestamp(EPOCH)))
        return server

    return start


def held(server):
    """The pairs that the server has."""
    return {
        (code, json.loads(bytes(profile))["integrationId"])
        for code in COUPONS
        for profile in server.store.holders(code)
    }


def begin(kit, path, *arguments):
    return kit.fork("coupons", "reserve", path, "--confirm", "yes", "--json", "--quiet", *arguments)


def kill_again_and_again(kit, server, process, kills, rng):
    """Kill the process after some requests more, and go on with the run, so often."""
    done = 0
    while done < kills:
        wanted = len(server.log) + rng.randrange(1, 12)
        while process.poll() is None and not server.log.wait_for(wanted, timeout=0.05):
            pass
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        done += 1
        # before it has a run there is nothing to go on with
        process = begin(kit, *kit.again) if not any(kit.runs()) else kit.fork("runs", "resume", "latest", "--json")
    process.communicate()
    return done


def check_looks(log):
    """Nothing is sent twice for a coupon without a look between."""
    sent = set()
    for entry in log:
        if entry.operation == READ and entry.outcome == "answered":
            sent.discard(entry.value)
        elif entry.operation == SEND and entry.acted:
            assert entry.value not in sent
            sent.add(entry.value)


@pytest.fixture
def kit_for(toolkit):
    def make(server, path):
        kit = toolkit(server.base_url)
        kit.again = (path, "--max-per-coupon", BUDGET, "--concurrency", "8")
        kit.runs = lambda: list((kit.state / "runs").glob("2*")) if kit.state.exists() else []
        return kit

    return make


def test_reserved_once_each_and_never_over_budget_with_lost_answers_and_kills(stocked, kit_for, pairs):
    path, rows = pairs
    faults = Faults(rates={FaultKind.DROP_AFTER: 0.02}, latency_ms=(1, 6), seed=3)
    server = stocked(faults=faults)
    kit = kit_for(server, path)
    rng = random.Random(5)
    kills = kill_again_and_again(kit, server, begin(kit, *kit.again), 10, rng)
    assert kills == 10
    done = kit.settle()
    assert (done.code, done.json["outcomes"]) == (
        0,
        {"on_hold": PAIRS - BUDGET * len(COUPONS), "done": BUDGET * len(COUPONS)},
    )
    # what is reported is what the server has: the first rows of each coupon, up to its budget
    subjects = kit.subjects()
    reported = {(s["coupon_value"], s["id"]) for s in subjects if s["outcome"] == "done"}
    assert reported == held(server)
    firsts = defaultdict(list)
    for code, customer in rows:
        firsts[code].append(customer)
    assert reported == {(code, customer) for code, first in firsts.items() for customer in first[:BUDGET]}
    check_looks(server.log)
    acted = Counter(entry.value for entry in server.log if entry.operation == SEND and entry.acted)
    assert set(acted.values()) == {1}


@pytest.mark.parametrize("kind", [FaultKind.ERROR_429, FaultKind.ERROR_500, FaultKind.TRUNCATED, FaultKind.BARE_503])
def test_whatever_the_answers_each_pair_is_reserved_in_the_end(stocked, kit_for, pairs, kind):
    path, rows = pairs
    server = stocked(faults=Faults(rates={kind: 0.08}, retry_after=0, seed=1))
    kit = kit_for(server, path)
    begin(kit, path, "--concurrency", "16").communicate()
    done = kit.settle()
    assert (done.code, done.json["outcomes"]) == (0, {"done": PAIRS})
    assert held(server) == set(rows)


def test_assigned_across_kills_each_customer_has_one_code(stocked, kit_for, write_ids):
    customers, codes = CUSTOMERS[:40], [*COUPONS[:45]]
    server = stocked(faults=Faults(rates={FaultKind.DROP_AFTER: 0.05}, latency_ms=(1, 4), seed=9))
    kit = kit_for(server, "")
    lists = write_ids(customers), write_ids(codes, "codes.csv", "coupon_value")
    command = ("coupons", "assign", lists[0], "--coupons", lists[1], "--seed", "2", "--confirm", "yes", "--json")
    process = kit.fork(*command)
    rng = random.Random(1)
    for _ in range(4):
        wanted = len(server.log) + rng.randrange(3, 15)
        while process.poll() is None and not server.log.wait_for(wanted, timeout=0.05):
            pass
        process.kill()
        process.communicate()
        process = kit.fork("runs", "resume", "latest", "--json") if kit.runs() else kit.fork(*command)
    process.communicate()
    assert kit.settle().json["outcomes"] == {"done": len(customers)}
    first = {s["id"]: s["coupon_value"] for s in kit.subjects()}
    assert {(code, customer) for customer, code in first.items()} == held(server)
    assert len(set(first.values())) == len(customers)
    # a later run over a longer list leaves them what they have
    longer = write_ids([*customers, *CUSTOMERS[40:45]], "longer.csv")
    kit.run("coupons", "assign", longer, "--coupons", lists[1], "--confirm", "yes", "--json")
    assert kit.settle().json["outcomes"] == {"done": 45}
    later = {s["id"]: s["coupon_value"] for s in kit.subjects()}
    assert later.items() >= first.items()
    assert len(set(later.values())) == 45


def test_holders_killed_at_any_instant_are_written_as_a_whole(stocked, kit_for, write_ids, tmp_path):
    server = stocked(faults=Faults(latency_ms=(1, 8)))
    for number, code in enumerate(COUPONS):
        server.store.reserve(code, CUSTOMERS[number : number + 20])
    kit = kit_for(server, "")
    out = tmp_path / "out.csv"
    process = kit.fork(
        "coupons", "holders", write_ids(COUPONS, "codes.csv", "coupon_value"), "--out", out, "--concurrency", "2"
    )
    rng = random.Random(4)
    for _ in range(6):
        wanted = len(server.log) + rng.randrange(1, 15)
        while process.poll() is None and not server.log.wait_for(wanted, timeout=0.05):
            pass
        process.kill()
        process.communicate()
        process = kit.fork("runs", "resume", "latest", "--json", "--concurrency", "2")
    process.communicate()
    assert kit.settle().code == 0
    with out.open(newline="", encoding="utf-8") as file:
        header, *found = csv.reader(file)
    assert header == ["coupon_value", "customer_id"]
    assert [tuple(row) for row in found] == sorted(held(server))
