"""Erasures with loyalty, through faults and kills: what is said of a ledger and of a profile is what the server did."""

import json
import random
import signal
from collections import defaultdict

import pytest

from privacy_toolkit.reporting.report import encode_report
from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import EntityKind, card_owner
from privacy_toolkit.sandbox.wire import EPOCH
from tests.support.lengths import IS_LONG

IDS = [f"customer-{number:05d}" for number in range(60)]
#: The program with a ledger, and the one with cards.
LEDGERS, CARDS = "1", "2"
WITH = ("--with-loyalty", LEDGERS, "--with-cards", CARDS)


def hold_loyalty(store):
    """Give every second customer a ledger with three transactions, and every third a card with one."""
    now = wire.timestamp(EPOCH)
    with store.transaction():
        for number, customer in enumerate(IDS):
            for owned in store.owned(customer).get(EntityKind.CARD, []):
                store.remove(EntityKind.CARD, owned["identifier"])
            for part in range(3 if number % 2 else 0):
                made = wire.transaction(10**9 + 10 * number + part, 1, now, 5)
                store.put(EntityKind.TRANSACTION, made["transactionUUID"], made, owner=customer)
            if number % 3 == 0:
                card = wire.card(10**6 + number, now, customer, 7) | {"programID": 2}
                store.put(EntityKind.CARD, card["identifier"], card, owner=customer)
                made = wire.transaction(2 * 10**9 + number, 2, now, 7, card["identifier"])
                store.put(EntityKind.TRANSACTION, made["transactionUUID"], made, owner=card_owner(card["identifier"]))


def check_against_server(kit, server):
    """No profile is erased before its loyalty was seen empty, and nothing is called erased that is not."""
    order = defaultdict(list)
    for entry in server.log:
        if entry.acted or entry.status == 200:
            order[entry.value].append((entry.operation, entry.status, entry.acted))
    for subject in kit.subjects():
        id_, outcome = subject["id"], subject["outcome"]
        walk = order[id_]
        owned = server.store.owned(id_)
        erased = [at for at, (name, _, acted) in enumerate(walk) if name == "delete_customer_data" and acted]
        deleted = [at for at, (name, _, acted) in enumerate(walk) if name == "delete_loyalty_transactions" and acted]
        reads = [
            at for at, (name, status, _) in enumerate(walk) if name == "get_loyalty_transactions" and status == 200
        ]
        if outcome in {"erased", "unverified"}:
            assert erased
            assert not [one for one in owned.get(EntityKind.TRANSACTION, []) if one["programId"] == 1]
            assert not [one for one in owned.get(EntityKind.CARD, []) if one["programID"] == 2]
        if erased and deleted:  # seen empty by reading, after the deletion and before the erasure
            assert [at for at in reads if deleted[-1] < at < erased[0]] or deleted[-1] > erased[0]
        if erased:
            assert [at for at in reads if at < erased[0]]
        if outcome in {"failed", "nothing_held"}:
            assert not erased


KILLS = 15 if IS_LONG else 5
FAULTS = {
    "lost": {FaultKind.DROP_BEFORE: 0.05, FaultKind.DROP_AFTER: 0.05, FaultKind.ERROR_500: 0.05},
    "foreign": {FaultKind.HTML_200: 0.05, FaultKind.FOREIGN_200: 0.05, FaultKind.ERROR_502_HTML: 0.05},
    "false": {FaultKind.FALSE_404: 0.1, FaultKind.REPEATED: 0.1},
    "another's": {FaultKind.ANOTHER_NAMELESS: 0.2, FaultKind.ANOTHER_NAMED: 0.05},
    "stale": {FaultKind.STALE_READS: 0.1, FaultKind.NOT_APPLIED: 0.1},
    "refused": {FaultKind.ERROR_429: 0.05, FaultKind.ERROR_503: 0.05, FaultKind.FOREIGN_4XX: 0.05},
    "late": {FaultKind.APPLIED_LATE: 0.05, FaultKind.TRUNCATED: 0.05},
}


@pytest.mark.parametrize("rates", [*FAULTS.values()] if IS_LONG else [FAULTS["lost"], FAULTS["false"]])
def test_through_faults_nothing_is_called_erased_whose_loyalty_is_not(sandbox, toolkit, write_ids, rates):
    server = sandbox(IDS, faults=Faults(rates=rates, retry_after=0, stale_ms=50, late_ms=50))
    hold_loyalty(server.store)
    kit = toolkit(server.base_url)
    kit.erase(write_ids(IDS), len(IDS), *WITH, "--expect-missing")
    check_against_server(kit, server)
    done = kit.settle("--expect-missing")
    server.wait_until_quiet(5)
    check_against_server(kit, server)
    assert done.code == 0, done.err
    assert set(done.json["outcomes"]) <= {"erased", "nothing_held"}
    assert not [
        one for id_ in IDS for one in server.store.owned(id_).get(EntityKind.TRANSACTION, []) if one["programId"] == 1
    ]


def test_killed_at_random_instants_a_ledger_is_never_left_behind_by_an_erased_profile(sandbox, toolkit, write_ids):
    rng = random.Random(11)
    server = sandbox(IDS, faults=Faults(latency_ms=(5, 30)))
    hold_loyalty(server.store)
    kit = toolkit(server.base_url)
    arguments = ("--confirm", f"erase {len(IDS)} from {kit.target}", "--json", "--concurrency", "2")
    process = kit.start("erase", write_ids(IDS), *WITH, *arguments)
    kills = 0
    while kills < KILLS and reaches(server.log, len(server.log) + rng.randrange(1, 24), process):
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        if kills % 5 == 0:
            check_against_server(kit, server)
        process = kit.fork("runs", "resume", "latest", "--json", "--concurrency", "2")
    process.communicate()
    assert kills == KILLS
    done = kit.settle()
    assert (done.code, done.json["outcomes"]) == (0, {"erased": len(IDS)})
    check_against_server(kit, server)


def reaches(log, count, process):
    """Wait until the server was asked ``count`` times; False if the process ended before."""
    while process.poll() is None:
        if log.wait_for(count, timeout=0.05):
            return True
    return len(log) >= count


def test_a_program_that_does_not_exist_erases_nobody(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    kit = toolkit(server.base_url)
    done = kit.erase(write_ids(IDS), len(IDS), "--with-loyalty", "9")
    assert (done.code, done.json["outcomes"]) == (3, {"failed": len(IDS)})
    assert {subject["reason"] for subject in kit.subjects()} == {"program_unknown"}
    assert server.log.of("delete_customer_data") == []


def test_the_report_says_program_by_program_what_was_seen_and_verify_counts_it_again(sandbox, toolkit, write_ids):
    ids = IDS[:12]
    server = sandbox(IDS)
    hold_loyalty(server.store)
    kit = toolkit(server.base_url)
    done = kit.erase(write_ids(ids), len(ids), *WITH)
    pack = kit.state / "packs" / done.json["run_id"]
    report = json.loads((pack / "report.json").read_bytes())
    assert report["loyalty"] == [
        {"program": 1, "outcomes": {"erased": 8, "nothing_held": 4}},
        {"program": 2, "outcomes": {"erased": 4, "nothing_held": 8}},
    ]
    rows = [json.loads(line) for line in (pack / "rows.jsonl").read_text().splitlines()]
    assert {row["loyalty"] for row in rows} == {
        *("1:erased 2:erased", "1:erased 2:nothing_held", "1:nothing_held 2:erased", "1:nothing_held 2:nothing_held"),
    }
    assert "Customers by loyalty program" in (pack / "report.html").read_text()
    assert kit.run("verify", pack).code == 0
    report["loyalty"][0]["outcomes"] = {"erased": 12}
    (pack / "report.json").write_bytes(encode_report(report))
    refused = kit.run("verify", pack)
    assert (refused.code, "The rows give other figures for: loyalty." in refused.out + refused.err) == (6, True)


def test_without_being_asked_for_no_loyalty_is_touched(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    hold_loyalty(server.store)
    kit = toolkit(server.base_url)
    assert kit.erase(write_ids(IDS), len(IDS)).code == 0
    assert {entry.operation for entry in server.log} == {"get_customer_inventory", "delete_customer_data"}


def test_programs_are_named_in_plan_preview_and_help(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    kit = toolkit(server.base_url)
    plan = kit.folder / "plan.json"
    planned = kit.run("erase", write_ids(IDS), "--with-loyalty", "2,1", "--with-cards", "7", "--plan", plan, "--json")
    assert planned.json["parameters"] == {"with_loyalty": "1,2", "with_cards": "7"}
    assert planned.json["calls"]["delete_loyalty_transactions"] == [0, 2 * len(IDS)]
    refused = kit.run("erase", write_ids(IDS), "--with-loyalty", "x", "--plan", plan)
    assert (refused.code, "named by its number" in refused.err) == (2, True)
    assert len(server.log) == 0
