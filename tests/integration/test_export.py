"""Exports as processes against the sandbox: what lies on disk afterwards, after whatever happened on the way."""

import hashlib
import http.client
import json
import random
import re
import signal
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from privacy_toolkit.access.placing import CLOCK
from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import EntityKind
from privacy_toolkit.talonone.operations import Generation

IDS = [f"customer-{number:05d}" for number in range(240)]
ODD = [
    "../../etc/x",
    "CON",
    "x" * 1000,
    "\U0001f469\u200d\U0001f680",
    "nul.txt",
    "a\\b",
    "%2e%2e%2fx",
    "=1+1",
    "-o",
    "é/é",
]
FLAGS = ("profile", "referrals", "coupons", "loyalty", "giveaways", "achievements")
SUM = re.compile(r"([0-9a-f]{64})  (\S+)")
#: Fields of the sandbox's answers that name somebody.
NAMING = {
    "friendProfileIntegrationId",
    "advocateProfileIntegrationId",
    "recipientIntegrationId",
    "integrationId",
    "referredCustomers",
}


class Place:
    """The folder with the packages."""

    def __init__(self, folder):
        self.folder = folder

    def names(self):
        """What stands under a final name."""
        return sorted(path.name for path in self.folder.glob("[!.]*"))

    def leftovers(self):
        """What is hidden, but for the time of the last export."""
        return sorted(path.name for path in self.folder.glob(".*") if path.name != CLOCK)

    def whole(self):
        """Every package is complete by its own check sums, and there is nothing in it that those don't name."""
        for package in self.folder.glob("[!.]*"):
            sums = dict(match[::-1] for match in SUM.findall((package / "README.txt").read_text("utf-8")))
            found = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
            assert found == {*sums, "README.txt"}
            for name, expected in sums.items():
                assert hashlib.sha256((package / name).read_bytes()).hexdigest() == expected
        return True

    def data(self):
        """What each package holds, by the customer it is about."""
        found = {}
        for package in self.folder.glob("[!.]*"):
            content = json.loads((package / "data.json").read_text("utf-8"), parse_float=str)
            found.setdefault(content["customer_id"], []).append(content)
        return found


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "out")


@pytest.fixture
def export(toolkit):
    """A command line that exports; the result is JSON."""

    def make(server):
        kit = toolkit(server.base_url)
        kit.export = lambda path, *arguments: kit.run("export", path, "--out", "out", "--json", *arguments)
        return kit

    return make


def inventory(server, id_):
    """What the API says of a customer."""
    connection = http.client.HTTPConnection(server.base_url.removeprefix("http://"), timeout=30)
    query = "&".join(f"{flag}=true" for flag in FLAGS)
    path = f"/v1/customer_profiles/{quote(id_, safe='')}/inventory?{query}"
    connection.request("GET", path, headers={"Authorization": "ApiKey-v1 sandbox-key"})
    answer = json.loads(connection.getresponse().read(), parse_float=str)
    connection.close()
    return answer


def befriend(server, pairs):
    """Make referrals of customers among themselves, each with the other's id in what was noted as well."""
    with server.store.transaction():
        for number, (advocate, friend) in enumerate(pairs):
            body = {
                "code": f"REF-{number}",
                "advocateProfileIntegrationId": advocate,
                "friendProfileIntegrationId": friend,
                "attributes": {"Note": f"Brought along {friend}, twice: {friend}."},
            }
            server.store.put(EntityKind.REFERRAL, body["code"], body, owner=advocate, friend=friend)


class Numbered:
    """An answer of the sandbox as a package has to give it: other people by numbers, everything else as it is."""

    def __init__(self, own):
        self.own = own
        self.people = {}
        self.places = 0

    def given(self, value, name=""):
        if isinstance(value, dict):
            return {key: inner if key == "attributes" else self.given(inner, key) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.given(inner, name) for inner in value]
        if name in NAMING and value and value != self.own:
            self.places += 1
            return self.people.setdefault((name, value), f"person {len(self.people) + 1}")
        return value


def notes(made):
    """The texts of the customer's own, in which anybody may be named."""
    return [referral["attributes"] for referral in (made["data"] or {}).get("referrals") or []]


def report_of(kit, run_id):
    return json.loads((kit.state / "packs" / run_id / "report.json").read_text())


def rows_of(kit, run_id):
    return [json.loads(line) for line in (kit.state / "packs" / run_id / "rows.jsonl").read_text().splitlines()]


def test_every_value_stands_once_in_the_package_and_nobody_else_in_any(sandbox, export, write_ids, place):
    server = sandbox([*IDS, *ODD])
    befriend(server, zip(IDS[:30], reversed(IDS[-30:]), strict=True))
    answers = {id_: inventory(server, id_) for id_ in [*IDS, *ODD]}
    kit = export(server)
    done = kit.export(write_ids([*IDS, *ODD, "stranger"]), "--concurrency", "16")
    assert (done.code, done.json["outcomes"]) == (0, {"nothing_held": 1, "done": 250}), done.err
    assert len(place.names()) == 251
    assert place.whole()
    assert place.leftovers() == []
    data, people, places = place.data(), 0, 0
    assert data.pop("stranger")[0]["data"] is None
    for id_, (content,) in data.items():
        expected = Numbered(id_)
        assert content["data"] == expected.given(answers[id_])
        assert content["redactions"] == {"people": len(expected.people), "occurrences": expected.places}
        people, places = people + len(expected.people), places + expected.places
    assert people > 60
    access = report_of(kit, done.json["run_id"])["access"]
    assert (access["packages"], access["people"], access["redactions"]) == (251, people, places)
    for package in place.folder.iterdir():
        made = json.loads((package / "data.json").read_text("utf-8"))
        own = {
            made["customer_id"].encode(),
            *re.findall(rb"friend-of-\d+|customer-\d+", json.dumps(notes(made)).encode()),
        }
        text = b"".join(path.read_bytes() for path in package.rglob("*") if path.is_file())
        assert set(re.findall(rb"friend-of-\d+|customer-\d+", text)) <= own


def test_no_name_on_disk_and_nothing_that_is_said_holds_an_id(sandbox, export, write_ids, place, tmp_path):
    server = sandbox(ODD)
    kit = export(server)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    done = kit.export(write_ids(ODD), "--progress", "lines")
    assert (done.code, done.json["outcomes"]) == (0, {"done": len(ODD)}), done.err
    assert sorted(place.data()) == sorted(ODD)
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before - {tmp_path / "requests.csv"}
    allowed = (kit.state, place.folder, tmp_path / "xdg" / "state" / "privacy-toolkit-witness")  # see docs/state.md
    assert [path for path in made if not any(path.is_relative_to(folder) for folder in allowed)] == []
    assert all(re.fullmatch(r"[0-9a-f]{32}", name) for name in place.names())
    telling = [id_ for id_ in ODD if len(id_) > 4]
    packs = [path.read_bytes() for path in (kit.state / "packs").rglob("*") if path.is_file()]
    shown = kit.run("export", kit.folder / "requests.csv", "--out", "out")
    for text in (done.out, done.err, shown.out, shown.err, *map(str, made)):
        assert not [id_ for id_ in telling if id_ in text]
    assert not [id_ for id_ in telling for pack in packs if id_.encode() in pack]
    names = Counter(line["package"] for line in kit.subjects())
    assert set(names.values()) == {1}


def test_the_pack_holds_the_hash_of_every_package_and_the_sections_as_they_are_on_disk(
    sandbox, export, write_ids, place
):
    server = sandbox(IDS[:60])
    kit = export(server)
    done = kit.export(write_ids(IDS[:60]))
    hashes = {hashlib.sha256((place.folder / name / "README.txt").read_bytes()).hexdigest() for name in place.names()}
    assert {row["package"] for row in rows_of(kit, done.json["run_id"])} == hashes
    sections = {}
    for (content,) in place.data().values():
        for name, state in content["sections"].items():
            sections.setdefault(name, Counter())[state] += 1
    assert report_of(kit, done.json["run_id"])["access"]["sections"] == sections
    pack = kit.state / "packs" / done.json["run_id"]
    assert kit.run("verify", pack).code == 0
    rows = pack / "rows.jsonl"
    before = rows.read_bytes()
    other = re.sub(rb'("package":")(.)', lambda found: found[1] + (b"0" if found[2] != b"0" else b"1"), before, count=1)
    assert other != before
    rows.write_bytes(other)
    assert kit.run("verify", pack, "--json").json["exit_code"] == 6
    sums = pack / "SHA256SUMS"
    fixed = sums.read_text().replace(hashlib.sha256(before).hexdigest(), hashlib.sha256(other).hexdigest())
    sums.write_text(fixed)
    assert kit.run("verify", pack).code == 6  # the tree over the rows is another one


def test_the_same_data_gives_the_same_files_but_for_the_time_and_the_reference(sandbox, export, write_ids, place):
    server = sandbox(IDS[:5])
    kit = export(server)
    for _ in range(2):
        assert kit.export(write_ids(IDS[:5]), "--zip").code == 0
    found = {}
    for path in place.folder.iterdir():
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(f"{path.stem}/data.json"))
            tables = {name.partition("/")[2]: archive.read(name) for name in archive.namelist() if "/data/" in name}
        content |= {"read_at": "", "reference": ""}
        found.setdefault(content["customer_id"], []).append((content, tables))
    assert [len(both) for both in found.values()] == [2] * 5
    assert all(first == second for first, second in found.values())


def test_what_a_deployment_of_2020_does_not_give_out_is_not_obtainable(sandbox, export, write_ids, place):
    server = sandbox(IDS[:20], generation=Generation.SEED)
    kit = export(server)
    (kit.folder / "t.toml").write_text('[profiles.default]\napi = { generation = "2020" }\n')
    done = kit.export(write_ids(IDS[:20]), "--config", "t.toml")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 20}), done.err
    sections = report_of(kit, done.json["run_id"])["access"]["sections"]
    states = {name: {"not_obtainable": 20} for name in ("loyalty", "giveaways", "achievements")}
    assert {name: sections[name] for name in states} == states
    assert {content["generation"] for (content,) in place.data().values()} == {"2020"}
    assert kit.run("verify", done.json["pack"]).code == 0


# what may happen on the way


def kill(process):
    """End a process as a power cut would."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def reaches(log, count, process):
    """Wait until the server was asked ``count`` times; False if the process ended before."""
    while process.poll() is None:
        if log.wait_for(count, timeout=0.05):
            return True
    return len(log) >= count


@pytest.mark.parametrize("way", ["resume", "next night"])
def test_killed_again_and_again_the_rest_is_completed_and_no_package_is_half(sandbox, export, write_ids, place, way):
    rng, kills = random.Random(11), 0
    server = sandbox(IDS, faults=Faults(latency_ms=(1, 6)))
    kit, path = export(server), write_ids(IDS)
    nightly = ("export", path, "--out", "out", "--new-only", "--json", "--concurrency", "4")
    process = kit.fork(*nightly)
    while kills < 6 and reaches(server.log, len(server.log) + rng.randrange(15, 40), process):
        kill(process)
        kills += 1
        assert not place.folder.exists() or place.whole()
        again = ("runs", "resume", "latest", "--json", "--concurrency", "4") if way == "resume" else nightly
        process = kit.fork(*again)
    done = kit.finish(process)
    assert (kills, done.code) == (6, 0), done.err
    assert place.whole()
    assert place.leftovers() == []
    copies = {id_: len(found) for id_, found in place.data().items()}
    assert set(copies) == set(IDS)
    if way == "resume":  # under the same name
        assert done.json["outcomes"] == {"done": len(IDS)}
        assert set(copies.values()) == {1}
    else:  # who had a package that no journal knew of has two; there were four in flight
        assert sum(copies.values()) <= len(IDS) + 4 * kills
    last = kit.export(path, "--new-only")
    assert (last.code, last.json["outcomes"]) == (0, {"on_hold": len(IDS)})


def test_a_full_disk_stops_the_run_and_says_so_and_a_resume_completes_it(sandbox, export, write_ids, place):
    ids = IDS[:40]
    server = sandbox(ids)
    body = inventory(server, ids[0])["profile"]
    with server.store.transaction():
        server.store.put(EntityKind.PROFILE, ids[0], body | {"attributes": {"Note": "x" * 3_000_000}})
    kit, path = export(server), write_ids(ids)
    # The package of the first customer is larger than any file may be.
    done = kit.finish(kit.start("export", path, "--out", "out", "--concurrency", "2", blocks=4000))
    assert done.code == 4, done.err
    assert "could not be written to its output folder" in done.out
    assert "runs resume" in done.out
    stopped = [subject for subject in kit.subjects() if subject["reason"] == "not_delivered"]
    assert [(subject["id"], subject["outcome"]) for subject in stopped] == [(ids[0], "retryable")]
    assert place.whole()
    assert ids[0] not in place.data()
    assert place.leftovers() == []
    settled = kit.resume()
    assert (settled.code, settled.json["outcomes"]) == (0, {"done": 40})
    assert sorted(place.data()) == ids
    assert place.whole()


def test_two_exports_on_one_state_folder_exclude_each_other(sandbox, export, write_ids, place):
    server = sandbox(IDS, faults=Faults(latency_ms=20))
    kit, path = export(server), write_ids(IDS)
    first = kit.fork("export", path, "--out", "out", "--concurrency", "2", "--json")
    assert reaches(server.log, 5, first)
    second = kit.export(path)
    assert (second.code, second.json["error"]["code"]) == (5, "locked")
    first.send_signal(signal.SIGTERM)
    done = kit.finish(first)
    assert (done.code, done.json["verdict"]) == (4, "stopped")
    assert set(done.json["outcomes"]) == {"done", "pending"}
    assert place.whole()
    assert len(place.names()) == done.json["outcomes"]["done"]


def test_with_faults_of_every_kind_each_gets_the_package_of_their_own_data(sandbox, export, write_ids, place):
    kinds = set(FaultKind) - {FaultKind.FOREIGN_401}  # a gateway that turns all away stops the run
    faults = Faults(rates=dict.fromkeys(kinds, 0.006), seed=5, retry_after=0, slow_seconds=2)
    server = sandbox(IDS[:150], faults=faults)
    kit, path = export(server), write_ids(IDS[:150])
    (kit.folder / "t.toml").write_text("[profiles.default]\ntimeouts = { read = 1.0 }\n")
    done = kit.export(path, "--config", "t.toml", "--concurrency", "32")
    if done.code == 3:
        done = kit.settle("--config", "t.toml")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 150}), done.err
    assert place.whole()
    for id_, contents in place.data().items():
        assert [content["data"]["profile"]["integrationId"] for content in contents] == [id_]


# night after night


def test_nights_leave_a_chain_of_signed_packs_also_where_nothing_was_due(sandbox, export, write_ids, place):
    server = sandbox(IDS[:30])
    kit = export(server)
    made, signers = kit.run("keys", "new", "key", "--signer", "dpo@example.org", "--json"), kit.folder / "signers"
    signers.write_text(made.json["allowed_signers"] + "\n")
    kit.environment |= {"PRIVACY_TOOLKIT_SIGNING_KEY_FILE": "key", "PRIVACY_TOOLKIT_SIGNER": "dpo@example.org"}
    nights = [(IDS[:20], {"done": 20}), (IDS[:20], {"on_hold": 20}), ([], {}), (IDS[:30], {"on_hold": 20, "done": 10})]
    for ids, outcomes in nights:
        done = kit.export(write_ids(ids), "--new-only", "--keep-days", "30", "--no-input")
        assert (done.code, done.json["outcomes"]) == (0, outcomes), done.out
        checked = kit.run("verify", done.json["pack"], "--signers", signers, "--chain", kit.state / "packs", "--json")
        assert (checked.code, checked.json["problems"]) == (0, [])
        assert checked.json["signer"]["allowed"]
    assert checked.json["sequence"] == 4
    assert len(place.names()) == 30
    holds = report_of(kit, done.json["run_id"])["holds"]
    assert [(hold["reason"], hold["subjects"]) for hold in holds] == [("already_exported", 20)]


def test_old_packages_are_removed_and_the_report_says_how_many(sandbox, export, write_ids, place):
    server = sandbox(IDS[:8])
    kit, path = export(server), write_ids(IDS[:8])
    assert kit.export(path).code == 0
    old, kept = place.names()[:3], place.names()[3:]
    moment = datetime.now(UTC) - timedelta(days=31)
    for name in old:
        file = place.folder / name / "data.json"
        file.write_text(re.sub(r'"read_at": "[^"]+"', f'"read_at": "{moment:%Y-%m-%dT%H:%M:%S.%fZ}"', file.read_text()))
    (place.folder / "notes.txt").write_text("not a package")
    (place.folder / f".new-{2**22 + 1}-{'0' * 32}").mkdir()  # of a process that is dead for certain
    done = kit.export(path, "--new-only", "--keep-days", "30")
    assert (done.code, done.json["outcomes"]) == (0, {"on_hold": 8})
    assert (place.names(), place.leftovers()) == (sorted([*kept, "notes.txt"]), [])
    pack = kit.state / "packs" / done.json["run_id"]
    assert [s["settings"]["packages_removed"] for s in report_of(kit, done.json["run_id"])["executions"]] == ["3"]
    assert "Old packages removed" in (pack / "report.html").read_text()


def test_an_open_export_that_is_overdue_is_due_until_it_is_settled(sandbox, export, write_ids, place):
    server = sandbox(IDS[:4])
    kit = export(server)
    path = kit.folder / "dated.csv"
    path.write_text("customer_id,requested_at\n" + "".join(f"{id_},2024-01-31\n" for id_ in IDS[:4]))
    assert kit.export(path, "--until", "0s").code == 4
    due = kit.run("due", "--json")
    assert (due.code, due.json["overdue"]) == (3, 4)
    assert {line["job"] for line in due.json["requests"]} == {"export"}
    assert kit.export(path, "--new-only").json["outcomes"] == {"done": 4}  # the next night, as a new run
    assert (kit.run("due").code, kit.run("due", "--json").json["open"]) == (0, 0)


def test_who_asks_again_is_exported_again_and_the_clock_is_that_of_the_new_request(sandbox, export, write_ids, place):
    server = sandbox(IDS[:2])
    kit = export(server)
    path, today = kit.folder / "dated.csv", datetime.now(UTC).date()
    path.write_text(f"customer_id,requested_at\n{IDS[0]},2024-01-31\n{IDS[1]},2024-01-31\n")
    assert kit.export(path, "--new-only").json["outcomes"] == {"done": 2}
    with path.open("a") as file:
        file.write(f"{IDS[0]},{today}\n")
    asked = kit.export(path, "--new-only", "--until", "0s")
    assert (asked.code, asked.json["outcomes"]) == (4, {"on_hold": 1, "pending": 1})
    (line,) = kit.run("due", "--json").json["requests"]
    assert (line["requested_on"], line["days_left"] > 0) == (today.isoformat(), True)
    assert kit.export(path, "--new-only").json["outcomes"] == {"on_hold": 1, "done": 1}
    assert kit.export(path, "--new-only").json["outcomes"] == {"on_hold": 2}
    assert {id_: len(found) for id_, found in place.data().items()} == {IDS[0]: 2, IDS[1]: 1}


def test_an_export_can_be_purged_whose_pack_names_its_packages(sandbox, toolkit, write_ids):
    kit = toolkit(sandbox(["customer-00000", "customer-00001"]).base_url)
    assert kit.run("export", write_ids(["customer-00000", "customer-00001"]), "--out", "out").code == 0
    run = kit.run("runs", "list", "--json").json["runs"][0]["run_id"]
    done = kit.run("runs", "purge", run, "--confirm", f"purge {run}")
    assert (done.code, done.err) == (0, "")
