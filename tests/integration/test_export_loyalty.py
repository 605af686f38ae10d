"""Loyalty in an access package: all of the ledger, or a word that some is missing; never that of somebody else."""

import csv
import json

import pytest

from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.faults import Faults
from privacy_toolkit.sandbox.store import EntityKind
from privacy_toolkit.sandbox.wire import EPOCH
from tests.support.fault_kinds import FAULTS_OF_READS

IDS = [f"customer-{number:05d}" for number in range(8)]
MANY = 2_345


def hold_transactions(store, count=3):
    """Give every customer a ledger in program 2 whose bookings name their customer."""
    now = wire.timestamp(EPOCH)
    with store.transaction():
        for number, customer in enumerate(IDS):
            for part in range(count):
                made = wire.transaction(10**12 + 10_000 * number + part, 2, now, part + 1)
                made["name"] = f"booking of {customer}"
                store.put(EntityKind.TRANSACTION, made["transactionUUID"], made, owner=customer)


def packages(folder):
    """What is in each package, by the customer it is for."""
    found = {}
    for path in folder.iterdir():
        if (path / "data.json").exists():
            content = json.loads((path / "data.json").read_bytes())
            found[content["customer_id"]] = (path, content)
    return found


def test_every_page_of_a_ledger_is_in_the_package_in_all_its_forms(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    hold_transactions(server.store, MANY)
    kit = toolkit(server.base_url)
    done = kit.run("export", write_ids(IDS[:1]), "--out", "out", "--with-loyalty", "2", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 1}), done.err
    path, content = packages(kit.folder / "out")[IDS[0]]
    assert content["sections"]["loyaltyLedgers"] == "complete"
    (ledger,) = content["data"]["loyaltyLedgers"]
    assert (ledger["programId"], ledger["read"], len(ledger["transactions"])) == (2, "complete", MANY)
    assert ledger["balances"]["balance"]["activePoints"] == sum(range(MANY + 1))
    with (path / "data" / "loyalty_transactions.csv").open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == MANY
    page = (path / "index.html").read_text()
    assert "Points and single transactions" in page
    assert page.count(f"booking of {IDS[0]}") >= MANY
    assert "Individual points transactions" not in page  # no longer among what the package does not hold
    pages = [entry for entry in server.log.of("get_loyalty_transactions") if entry.status == 200]
    assert len(pages) == 2 * 3  # twice, on connections of their own
    report = json.loads((kit.state / "packs" / done.json["run_id"] / "report.json").read_bytes())
    assert report["access"]["sections"]["loyaltyLedgers"] == {"complete": 1}
    assert kit.run("verify", kit.state / "packs" / done.json["run_id"]).code == 0


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", "this says nothing about whether any is held"),
        ("de", "ob etwas gespeichert ist, geht daraus nicht hervor"),
        ("fr", "cela ne dit pas si des données sont conservées"),
        ("es", "esto no indica si se conservan datos"),
    ],
)
def test_a_program_that_is_refused_is_announced_and_never_called_empty(sandbox, toolkit, write_ids, lang, words):
    server = sandbox(IDS)
    hold_transactions(server.store)
    kit = toolkit(server.base_url)
    done = kit.run("export", write_ids(IDS[:1]), "--out", "out", "--with-loyalty", "2,9", "--lang", lang, "--json")
    assert done.code == 0, done.err
    path, content = packages(kit.folder / "out")[IDS[0]]
    assert content["sections"]["loyaltyLedgers"] == "incomplete"
    assert [one["read"] for one in content["data"]["loyaltyLedgers"]] == ["complete", "refused"]
    assert words in (path / "index.html").read_text()
    report = (kit.state / "packs" / done.json["run_id"] / "report.html").read_text()
    assert "Not complete" in report


def test_what_was_not_asked_for_stays_among_what_the_package_does_not_hold(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    hold_transactions(server.store)
    kit = toolkit(server.base_url)
    assert kit.run("export", write_ids(IDS[:1]), "--out", "out", "--json").code == 0
    path, content = packages(kit.folder / "out")[IDS[0]]
    assert "loyaltyLedgers" not in content["sections"]
    assert "Individual points transactions" in (path / "index.html").read_text()
    assert server.log.of("get_loyalty_transactions") == []


@pytest.mark.parametrize("rates", FAULTS_OF_READS.values(), ids=FAULTS_OF_READS)
def test_through_faults_nobody_gets_a_ledger_of_somebody_else(sandbox, toolkit, write_ids, rates):
    server = sandbox(IDS, faults=Faults(rates=rates))
    hold_transactions(server.store)
    kit = toolkit(server.base_url)
    kit.run("export", write_ids(IDS), "--out", "out", "--with-loyalty", "2", "--json", "--expect-missing")
    kit.settle("--expect-missing")
    found = packages(kit.folder / "out")
    assert found.keys() == {subject["id"] for subject in kit.subjects() if subject["outcome"] == "done"} != set()
    for customer, (_, content) in found.items():
        (ledger,) = content["data"]["loyaltyLedgers"]
        assert ledger["read"] == "complete"
        assert [one["name"] for one in ledger["transactions"]] == [f"booking of {customer}"] * 3


def test_the_programs_of_the_configuration_are_read_unless_the_command_names_others(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    hold_transactions(server.store)
    kit = toolkit(server.base_url)
    config = kit.folder / "t.toml"
    config.write_text("[loyalty]\nprograms = [2]\n\n[profiles.default]\n")
    config.chmod(0o600)
    assert kit.run("export", write_ids(IDS[:1]), "--out", "out", "--config", config, "--json").code == 0
    asked = ["--config", config, "--with-loyalty", "9", "--json"]
    assert kit.run("export", write_ids(IDS[1:2]), "--out", "out", *asked).code == 0
    found = packages(kit.folder / "out")
    shown = {customer: content["data"]["loyaltyLedgers"] for customer, (_, content) in found.items()}
    assert [(one["programId"], one["read"]) for one in shown[IDS[0]]] == [(2, "complete")]
    assert [(one["programId"], one["read"]) for one in shown[IDS[1]]] == [(9, "refused")]


def test_an_erasure_takes_no_programs_from_the_configuration(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    hold_transactions(server.store)
    kit = toolkit(server.base_url)
    config = kit.folder / "t.toml"
    config.write_text("[loyalty]\nprograms = [2]\n\n[profiles.default]\n")
    config.chmod(0o600)
    assert kit.erase(write_ids(IDS[:1]), 1, "--config", config).code == 0
    assert server.log.of("delete_loyalty_transactions") == []
