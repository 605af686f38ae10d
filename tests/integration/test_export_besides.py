"""Achievements and cards in an access package: all, or a word that some is missing; never those of somebody else."""

import csv
import json

import pytest

from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.faults import Faults
from privacy_toolkit.sandbox.handlers import card_owner
from privacy_toolkit.sandbox.store import EntityKind
from privacy_toolkit.sandbox.wire import EPOCH
from tests.support.fault_kinds import FAULTS_OF_READS

IDS = [f"customer-{number:05d}" for number in range(8)]


def hold_achievements(store, count=3):
    """Give every customer achievements whose title names their customer."""
    with store.transaction():
        for number, customer in enumerate(IDS):
            for part in range(count):
                made = wire.achievement(100_000 + 10_000 * number + part, part)
                made["title"] = f"goal of {customer}"
                store.put(EntityKind.ACHIEVEMENT, f"more {number} {part}", made, owner=customer)


def packages(folder):
    """What is in each package, by the customer it is for."""
    found = {}
    for path in folder.iterdir():
        if (path / "data.json").exists():
            content = json.loads((path / "data.json").read_bytes())
            found[content["customer_id"]] = (path, content)
    return found


def titles(content):
    return [one["title"] for one in content["data"]["availableAchievements"]["achievements"]]


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", "All achievements, with progress"),
        ("de", "Alle Erfolge mit Fortschritt"),
        ("fr", "Tous les succès et votre progression"),
        ("es", "Todos los logros y su progreso"),
    ],
)
def test_achievements_are_in_the_package_in_all_its_forms(sandbox, toolkit, write_ids, lang, words):
    server = sandbox(IDS)
    hold_achievements(server.store, 1_234)
    kit = toolkit(server.base_url)
    done = kit.run("export", write_ids(IDS[:1]), "--out", "out", "--achievements", "--lang", lang, "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 1}), done.err
    path, content = packages(kit.folder / "out")[IDS[0]]
    assert content["sections"]["availableAchievements"] == "complete"
    assert content["data"]["availableAchievements"]["read"] == "complete"
    assert titles(content).count(f"goal of {IDS[0]}") == 1_234
    with (path / "data" / "available_achievements.csv").open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(titles(content))
    assert words in (path / "index.html").read_text()
    report = json.loads((kit.state / "packs" / done.json["run_id"] / "report.json").read_bytes())
    assert report["access"]["sections"]["availableAchievements"] == {"complete": 1}
    assert kit.run("verify", kit.state / "packs" / done.json["run_id"]).code == 0


@pytest.mark.parametrize("rates", FAULTS_OF_READS.values(), ids=FAULTS_OF_READS)
def test_through_faults_nobody_gets_achievements_of_somebody_else(sandbox, toolkit, write_ids, rates):
    server = sandbox(IDS, faults=Faults(rates=rates))
    hold_achievements(server.store)
    kit = toolkit(server.base_url)
    kit.run("export", write_ids(IDS), "--out", "out", "--achievements", "--json", "--expect-missing")
    kit.settle("--expect-missing")
    found = packages(kit.folder / "out")
    assert found.keys() == {subject["id"] for subject in kit.subjects() if subject["outcome"] == "done"} != set()
    for customer, (_, content) in found.items():
        named = {title for title in titles(content) if title.startswith("goal of")}
        assert named == {f"goal of {customer}"}


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", "not included: the card is used by other people too"),
        ("de", "nicht enthalten: die Karte wird auch von anderen genutzt"),
        ("fr", "la carte est aussi utilisée par"),
        ("es", "la tarjeta también la usan otras personas"),
    ],
)
def test_cards_of_the_customer_alone_are_in_the_package_and_shared_ones_announced(
    sandbox, toolkit, write_ids, lang, words
):
    server = sandbox(IDS)
    now = wire.timestamp(EPOCH)
    with server.store.transaction():
        for number, others in ((901, []), (902, ["somebody else"])):
            card = wire.card(number, now, IDS[0], 3) | {"programID": 2}
            card["profiles"] += [{"integrationId": one, "timestamp": now} for one in others]
            server.store.put(EntityKind.CARD, card["identifier"], card, owner=IDS[0])
            made = wire.transaction(10**12 + number, 2, now, 3, card["identifier"]) | {"name": f"booking {number}"}
            server.store.put(
                EntityKind.TRANSACTION, made["transactionUUID"], made, owner=card_owner(card["identifier"])
            )
    kit = toolkit(server.base_url)
    done = kit.run("export", write_ids(IDS[:1]), "--out", "out", "--cards", "--lang", lang, "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 1}), done.err
    path, content = packages(kit.folder / "out")[IDS[0]]
    assert content["sections"]["loyaltyCardLedgers"] == "incomplete"
    cards = {one["cardIdentifier"]: one for one in content["data"]["loyaltyCardLedgers"]}
    assert (cards["CARD-00000901"]["read"], cards["CARD-00000902"]["read"]) == ("complete", "shared")
    assert [one["name"] for one in cards["CARD-00000901"]["transactions"]] == ["booking 901"]
    page = (path / "index.html").read_text()
    assert words in page
    assert "booking 901" in page
    assert "booking 902" not in page
    assert "booking 901" in (path / "data" / "loyalty_card_transactions.csv").read_text()
