"""A campaign by a process that is killed again and again: one code for each customer, budgets kept, and all undone."""

import csv
import json
import random
from collections import Counter

import pytest

from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import EntityKind
from privacy_toolkit.sandbox.wire import EPOCH, coupon, session, timestamp

CODES = [f"SUMMER-{number:02d}" for number in range(40)]
CUSTOMERS = [f"customer-{number:04d}" for number in range(300)]
BUDGET = 9


@pytest.fixture
def stocked(sandbox):
    server = sandbox(CUSTOMERS, faults=Faults(rates={FaultKind.DROP_AFTER: 0.03}, latency_ms=(1, 4), seed=5))
    with server.store.transaction():
        for code in CODES:
            made = coupon(server.store.number(), code, timestamp(EPOCH)) | {"usageLimit": 0}
            server.store.put(EntityKind.COUPON, code, made)
    return server


def held(server):
    return {
        (code, json.loads(bytes(profile))["integrationId"]) for code in CODES for profile in server.store.holders(code)
    }


def killed(kit, server, command, kills, rng):
    """Carry out a command, with the process killed so often, and the run gone on with; how it ended."""
    before = runs(kit)
    process = kit.fork(*command)
    for _ in range(kills):
        wanted = len(server.log) + rng.randrange(2, 25)
        while process.poll() is None and not server.log.wait_for(wanted, timeout=0.05):
            pass
        process.kill()
        process.communicate()
        process = kit.fork("runs", "resume", "latest", "--json") if runs(kit) > before else kit.fork(*command)
    process.communicate()
    return kit.settle()


def runs(kit):
    return len(list((kit.state / "runs").glob("2*"))) if kit.state.exists() else 0


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_campaign_and_the_next_one_and_the_way_back_through_kills(stocked, toolkit, write_ids, tmp_path):
    kit, rng = toolkit(stocked.base_url), random.Random(8)
    stocked.store.reserve(CODES[0], CUSTOMERS[290:294])  # others have it already
    codes = tmp_path / "codes.csv"
    codes.write_text("coupon_value,budget\n" + "".join(f"{code},{BUDGET}\n" for code in ["NO-SUCH-CODE", *CODES]))
    erased = write_ids(CUSTOMERS[:3], "erased.csv")
    kit.erase(erased, 3)
    first, out = write_ids(CUSTOMERS[:200], "first.csv"), tmp_path / "mail.csv"
    command = ("coupons", "assign", first, "--coupons", codes, "--out", out, "--confirm", "yes", "--json")
    done = killed(kit, stocked, command, 6, rng)
    assert done.json["outcomes"] == {"done": 197, "on_hold": 3}
    assert done.json["causes"] == {"on_hold": {"suppressed": 3}}
    written = {(row["coupon_value"], row["customer_id"]) for row in read(out) if row["outcome"] == "done"}
    assert written == held(stocked) - {(CODES[0], one) for one in CUSTOMERS[290:294]}
    assert len({customer for _, customer in written}) == 197
    per_code = Counter(code for code, _ in held(stocked))
    assert max(per_code.values()) == BUDGET
    by_code = {row["coupon_value"]: int(row["done"]) for row in read(tmp_path / "mail.by-code.csv")}
    assert by_code == Counter(code for code, _ in written)
    # the next day: others get what is left, and nobody a second one
    second = write_ids(CUSTOMERS[150:260], "second.csv")
    command = ("coupons", "assign", second, "--coupons", codes, "--out", out, "--confirm", "yes", "--json")
    assert killed(kit, stocked, command, 4, rng).json["outcomes"] == {"done": 110}
    later = {(row["coupon_value"], row["customer_id"]) for row in read(out)}
    assert {pair for pair in later if pair[1] in CUSTOMERS[150:200]} <= written
    assert max(Counter(code for code, _ in held(stocked)).values()) == BUDGET
    run_ids = [line["run_id"] for line in kit.run("runs", "list", "--json").json["runs"]]
    # and back: what the first one reserved goes, what the second one did stays
    done = killed(kit, stocked, ("runs", "undo", run_ids[1], "--confirm", "yes", "--json"), 5, rng)
    assert done.json["outcomes"] == {"done": 197}
    assert held(stocked) == (later - written) | {(CODES[0], one) for one in CUSTOMERS[290:294]}
    # its codes are free again: there is room for a third campaign, and none gets over its budget
    third = write_ids(CUSTOMERS[3:260], "third.csv")
    command = ("coupons", "assign", third, "--coupons", codes, "--confirm", "yes", "--json")
    assert killed(kit, stocked, command, 3, rng).json["outcomes"] == {"done": 257}
    assert max(Counter(code for code, _ in held(stocked)).values()) == BUDGET
    assert len({customer for _, customer in held(stocked)} - set(CUSTOMERS[290:294])) == 257


@pytest.mark.parametrize(
    "kind", [FaultKind.ERROR_500, FaultKind.TRUNCATED, FaultKind.DROP_AFTER, FaultKind.FOREIGN_200]
)
def test_whatever_the_answers_nobody_who_redeemed_loses_a_reservation(sandbox, toolkit, tmp_path, kind):
    faults = Faults(rates={kind: 0.1}, seed=4)
    server, codes, customers = sandbox(CUSTOMERS[:40], faults=faults), CODES[:4], CUSTOMERS[:40]
    for code in codes:
        made = coupon(server.store.number(), code, timestamp(EPOCH)) | {"usageLimit": 0}
        server.store.put(EntityKind.COUPON, code, made)
        server.store.reserve(code, customers)
    redeemed = [(codes[n % 4], customer) for n, customer in enumerate(customers[::3])]
    for code, customer in redeemed:
        made = session(server.store.number(), f"s-{customer}", timestamp(EPOCH), 1)
        made |= {"profileId": customer, "state": "closed", "couponCodes": [code]}
        server.store.put(EntityKind.SESSION, f"s-{customer}", made, owner=customer)
    pairs = tmp_path / "pairs.csv"
    rows = [f"{code},{customer}\n" for code in codes for customer in customers]
    pairs.write_text("coupon_value,customer_id\n" + "".join(rows))
    kit = toolkit(server.base_url)
    kit.run("coupons", "release", pairs, "--unredeemed", "--confirm", "yes", "--json")
    done = kit.settle()
    assert (done.code, done.json["outcomes"]) == (0, {"on_hold": len(redeemed), "done": len(rows) - len(redeemed)})
    assert held(server) == set(redeemed)
