"""Achievements, cards and sessions in an access package: all, or a word that some is missing; never somebody else's."""

import csv
import json

import pytest

from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.faults import Faults
from privacy_toolkit.sandbox.handlers import card_owner
from privacy_toolkit.sandbox.store import EntityKind
from privacy_toolkit.sandbox.wire import EPOCH
from tests.support.fault_kinds import FAULTS_OF_READS
from tests.support.workbooks import write as workbook

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
        ("de", "nicht enthalten: Die Karte wird auch von anderen genutzt"),
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


def hold_sessions(store, owners):
    """Make sessions by their id, each with the customer whom it names, and something in it that says whose it is."""
    with store.transaction():
        for name, customer in owners.items():
            made = wire.session(store.number(), name, wire.timestamp(EPOCH), 1) | {
                "profileId": customer,
                "cartItems": [{"sku": f"bought by {customer}", "quantity": 2, "price": 4.5}],
                "attributes": {"note": f"of {customer}"},
            }
            store.put(EntityKind.SESSION, name, made, owner=customer or None)


def listing(folder, pairs, name="sessions.csv"):
    path = folder / name
    path.write_text("customer_id,session_id\n" + "".join(f"{one},{two}\n" for one, two in pairs), encoding="utf-8")
    return path


def sessions_in(content):
    return content["data"]["listedSessions"]


@pytest.mark.parametrize(
    ("lang", "words", "withheld"),
    [
        ("en", "Purchases and shopping carts", "Not shown, since the system does not say that they are yours"),
        ("de", "Einkäufe und Warenkörbe", "Nicht gezeigt, weil das System sie nicht als Ihre ausweist"),
        ("fr", "Achats et paniers", "Non affichés, car le système"),
        ("es", "Compras y carritos", "No mostrados, porque el sistema no indica que sean suyos"),
    ],
)
def test_listed_sessions_are_handed_to_whose_they_are_and_to_nobody_else(
    sandbox, toolkit, write_ids, lang, words, withheld
):
    me, other = IDS[:2]
    server = sandbox(IDS)
    hold_sessions(server.store, {"mine-1": me, "mine-2": me, "theirs-77": other, "nobodys-88": ""})
    kit = toolkit(server.base_url)
    pairs = [(me, one) for one in ("mine-1", "theirs-77", "nobodys-88", "never-99", "mine-2", "mine-1")]
    listed = listing(kit.folder, [*pairs, ("who-is-this", "theirs-77")])
    options = ("--out", "out", "--sessions", listed, "--lang", lang)
    done = kit.run("export", write_ids([me, IDS[2]]), *options, "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 2}), done.err
    assert "1 of the listed sessions are of customers who are not read in this run" in done.err
    assert done.json["sessions"] == {"complete": 2, "of_another": 1, "of_nobody": 1, "refused": 1}
    path, content = packages(kit.folder / "out")[me]
    assert content["sections"]["listedSessions"] == "incomplete"
    found = sessions_in(content)
    told = {name: found[name] for name in ("read", "listed", "refused", "withheld")}
    assert told == {"read": "in_part", "listed": 5, "refused": 1, "withheld": 2}
    assert [one["customerSession"]["integrationId"] for one in found["sessions"]] == ["mine-1", "mine-2"]
    everything = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    for secret in ("theirs-77", "nobodys-88", "never-99", other, f"bought by {other}"):
        assert secret.encode() not in everything
    page = (path / "index.html").read_text()
    assert words in page
    assert withheld in page
    assert f"bought by {me}" in (path / "data" / "session_items.csv").read_text()
    assert "listedSessions" not in packages(kit.folder / "out")[IDS[2]][1]["sections"]
    assert [one.get("sessions") for one in kit.subjects()] == [
        [
            {"session_id": "mine-1", "read": "complete"},
            {"session_id": "theirs-77", "read": "of_another"},
            {"session_id": "nobodys-88", "read": "of_nobody"},
            {"session_id": "never-99", "read": "refused"},
            {"session_id": "mine-2", "read": "complete"},
        ],
        None,
    ]
    told = kit.run("runs", "show", "latest").out
    assert "Listed sessions: 2 in packages" in told
    assert "1 somebody else's, in no package" in told
    pack = kit.state / "packs" / done.json["run_id"]
    report = json.loads((pack / "report.json").read_bytes())
    assert report["access"]["sessions"] == {"complete": 2, "of_another": 1, "of_nobody": 1, "refused": 1}
    assert "Somebody else" in (pack / "report.html").read_text()
    written = b"".join(file.read_bytes() for file in pack.rglob("*") if file.is_file())
    assert not [name for name in ("mine-1", "theirs-77", "nobodys-88", "never-99") if name.encode() in written]
    assert kit.run("verify", pack).code == 0


@pytest.mark.parametrize("rates", FAULTS_OF_READS.values(), ids=FAULTS_OF_READS)
def test_through_faults_nobody_gets_a_session_of_somebody_else(sandbox, toolkit, write_ids, rates):
    server = sandbox(IDS, faults=Faults(rates=rates))
    hold_sessions(server.store, {f"{part} of {one}": one for one in IDS for part in (1, 2)})
    kit = toolkit(server.base_url)
    pairs = [(one, f"{part} of {other}") for one, other in zip(IDS, IDS[1:] + IDS[:1], strict=True) for part in (1, 2)]
    listed = listing(kit.folder, [*pairs, *((one, f"1 of {one}") for one in IDS)])  # two of three are the next one's
    kit.run("export", write_ids(IDS), "--out", "out", "--sessions", listed, "--json", "--expect-missing")
    kit.settle("--expect-missing")
    found = packages(kit.folder / "out")
    assert found.keys() == {subject["id"] for subject in kit.subjects() if subject["outcome"] == "done"} != set()
    for customer, (path, content) in found.items():
        assert [one["customerSession"]["integrationId"] for one in sessions_in(content)["sessions"]] == [
            f"1 of {customer}"
        ]
        everything = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
        assert not [one for one in IDS if one != customer and f" of {one}".encode() in everything]


def test_without_a_profile_a_session_of_theirs_is_handed_over(sandbox, toolkit, write_ids):
    server = sandbox(IDS[1:])
    hold_sessions(server.store, {"left-over": IDS[0]})
    kit = toolkit(server.base_url)
    listed = listing(kit.folder, [(IDS[0], "left-over")])
    done = kit.run("export", write_ids(IDS[:1]), "--out", "out", "--sessions", listed, "--expect-missing", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 1}), done.err
    _, content = packages(kit.folder / "out")[IDS[0]]
    assert (content["sections"]["profile"], content["sections"]["listedSessions"]) == ("not_held", "complete")
    assert len(sessions_in(content)["sessions"]) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("customer_id,session_id\ncustomer-00000,\n", "row 2 can't be used (field_not_usable)"),
        ("customer_id,session_id\ncustomer-00000,..\n", "row 2 can't be used (field_not_usable)"),
        ("customer_id,session_id\n,s1\n", "row 2 can't be used (blank)"),
        ("customer_id,session\ncustomer-00000,s1\n", "there is no column 'session_id'"),
        ("session_id\ns1\n", "customer_id"),
        ("", "is empty"),
    ],
    ids=["no session", "another address", "no customer", "no such column", "no customers", "nothing"],
)
def test_a_list_of_sessions_is_taken_whole_or_not_at_all(sandbox, toolkit, write_ids, content, told):
    kit = toolkit(sandbox(IDS).base_url)
    listed = kit.folder / "list.csv"
    listed.write_text(content)
    done = kit.run("export", write_ids(IDS), "--out", "out", "--sessions", listed)
    assert done.code == 2
    assert told in done.err
    assert kit.run("runs", "list", "--json").json["runs"] == []
    from_stdin = kit.run("export", write_ids(IDS), "--out", "out", "--sessions", "-")
    assert (from_stdin.code, "standard input" in from_stdin.err) == (2, True)


def test_a_plan_names_its_list_of_sessions_and_holds_no_session(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    hold_sessions(server.store, {"a-session": IDS[0]})
    kit = toolkit(server.base_url)
    listed = listing(kit.folder, [(IDS[0], "a-session"), (IDS[1], "another"), ("nobody", "a-session")])
    held = kit.folder / "held.csv"
    held.write_text(f"customer_id,reason\n{IDS[1]},identity\n")
    options = ("--sessions", listed, "--exclude", held, "--plan", kit.folder / "plan.json")
    planned = kit.run("export", write_ids(IDS[:2]), "--out", "out", *options, "--json")
    assert planned.code == 0, planned.err
    assert [one["code"] for one in planned.json["warnings"]] == ["sessions_of_others"]
    stored = (kit.folder / "plan.json").read_text()
    assert "a-session" not in stored
    plan = json.loads(stored)
    assert plan["parameters"] == plan["parameters"] | {"listed_sessions": 1, "listed_of_others": 2}
    assert plan["calls"]["get_customer_session"] == [0, 1]
    assert (plan["sessions"]["size"], plan["sessions"]["sha256"]) == (listed.stat().st_size, "")
    before = listed.read_bytes()
    listed.write_bytes(before + f"{IDS[0]},one-more\n".encode())
    stale = kit.run("apply", kit.folder / "plan.json")
    assert (stale.code, "the list of sessions is not what it was" in stale.err) == (5, True)
    listed.write_bytes(before)
    assert kit.run("apply", kit.folder / "plan.json", "--json").json["outcomes"] == {"done": 1, "on_hold": 1}
    assert packages(kit.folder / "out").keys() == {IDS[0]}


def test_a_workbook_of_sessions_next_to_the_same_csv_gives_the_same_plan(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    hostile = ['=1+1"', "a,b;c", "Ünïcödé \u202e", "0012", "_x0041_"]
    hold_sessions(server.store, dict.fromkeys(hostile, IDS[0]))
    kit = toolkit(server.base_url)
    rows = [["session_id", "customer_id"], *([one, IDS[0]] for one in hostile)]
    with (kit.folder / "sessions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    workbook(kit.folder / "sessions.xlsx", rows)
    plans = []
    for name in ("sessions.csv", "sessions.xlsx"):
        into = ("--out", f"out-{name}", "--sessions", kit.folder / name)
        assert kit.run("export", write_ids(IDS[:1]), *into, "--plan", kit.folder / "plan.json").code == 0
        plan = json.loads((kit.folder / "plan.json").read_bytes())
        plans.append({key: plan[key] for key in ("rows", "calls", "parameters")})
        assert kit.run("apply", kit.folder / "plan.json").code == 0
        _, content = packages(kit.folder / f"out-{name}")[IDS[0]]
        assert [one["customerSession"]["integrationId"] for one in sessions_in(content)["sessions"]] == hostile
    assert plans[0] == plans[1]
    assert [one["session_id"] for one in kit.subjects()[0]["sessions"]] == hostile


def test_after_a_purge_no_session_is_left_in_the_state(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    hold_sessions(server.store, {"a-session-of-mine": IDS[0]})
    kit = toolkit(server.base_url)
    listed = listing(kit.folder, [(IDS[0], "a-session-of-mine")])
    assert kit.run("export", write_ids(IDS[:1]), "--out", "out", "--sessions", listed).code == 0
    run = kit.run("runs", "list", "--json").json["runs"][0]["run_id"]
    assert kit.run("runs", "purge", run, "--confirm", f"purge {run}").code == 0
    left = [path for path in kit.state.rglob("*") if path.is_file() and b"a-session-of-mine" in path.read_bytes()]
    assert left == []
    assert kit.run("verify", kit.state / "packs" / run).code == 0


def test_only_an_export_from_a_deployment_of_today_takes_sessions(sandbox, toolkit, write_ids):
    kit = toolkit(sandbox(IDS).base_url)
    listed = listing(kit.folder, [(IDS[0], "s")])
    (kit.folder / "old.toml").write_text('[profiles.default]\napi = { generation = "2020" }\n')
    options = ("--out", "out", "--sessions", listed, "--config", kit.folder / "old.toml")
    done = kit.run("export", write_ids(IDS), *options)
    assert (done.code, "no operations for achievements, cards and sessions" in done.err) == (2, True)
    assert kit.run("erase", write_ids(IDS), "--sessions", listed).code == 2
