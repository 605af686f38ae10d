"""Referrals, events, profiles and sessions from the command line."""

import csv
import json
import stat

import pytest

from privacy_toolkit.cli.main import main
from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import EntityKind, SandboxSettings

COMMANDS = [("referrals", "create"), ("events", "track"), ("profiles", "update"), ("sessions", "update")]
COMMANDS += [("audiences", "update")]
ROWS = {
    "referrals": "customer_id,campaignId\nc1,1\nc2,1\n",
    "events": "profileId,type,attributes.n:number\nc1,seen,1\nc2,seen,2\nc1,seen,3\n",
    "profiles": "customer_id,attributes.tier\nc1,gold\nc2,silver\n",
    "audiences": "customer_id,audienceId,action\nc1,7,add\nc1,7,delete\n",
    "sessions": 'session_id,profileId,cartItems\ns1,c1,"[{""sku"":""a"",""quantity"":1,""name"":""A"",""price"":1}]"\n',
}

#: How each row is its own request, where that is not so anyway.
ALONE = {"profiles": ("--one-by-one",), "referrals": ("--one-by-one",)}


@pytest.fixture
def rows(tmp_path):
    """Writes a file of rows."""

    def write(text, name="rows.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def old_server(monkeypatch, tmp_path):
    """A deployment of 2020, and a profile that says so."""
    with start_in_thread(SandboxSettings(generation="2020")) as running:
        monkeypatch.setenv("PRIVACY_TOOLKIT_BASE_URL", running.base_url)
        monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "sandbox-key")
        config = tmp_path / "privacy-toolkit.toml"
        config.write_text('[profiles.old]\n[profiles.old.api]\ngeneration = "2020"\n')
        monkeypatch.setenv("PRIVACY_TOOLKIT_CONFIG", str(config))
        monkeypatch.setenv("PRIVACY_TOOLKIT_PROFILE", "old")
        yield running


@pytest.mark.parametrize("command", COMMANDS)
def test_each_row_becomes_a_request(call, server, rows, command):
    path = rows(ROWS[command[0]])
    done = call(*command, path, "--confirm", "yes", "--json", *ALONE.get(command[0], ()))
    assert done.code == 0, done.err
    assert done.json["job"] == command[0]
    number = ROWS[command[0]].count("\n") - 1
    assert (done.json["outcomes"], len(server.log.about_subjects())) == ({"done": number}, number)
    report = call("runs", "report", "latest", "--json")
    assert report.code == 0


@pytest.mark.parametrize("api", ["v1", "v2"])
@pytest.mark.parametrize(("command", "kind"), [(COMMANDS[2], EntityKind.PROFILE), (COMMANDS[3], EntityKind.SESSION)])
def test_either_version_writes_the_same(call, server, rows, command, kind, api):
    path = rows(
        "customer_id,session_id,attributes.a\nc1,s1,x\n" if kind is EntityKind.SESSION else "id,attributes.a\nc1,x\n"
    )
    done = call(*command, path, "--api", api, "--confirm", "yes", "--json", *ALONE.get(command[0], ()))
    assert done.code == 0, done.err
    (entry,) = server.log.about_subjects()
    assert entry.operation.endswith("_v2") is (api == "v2")
    assert server.store.get(kind, "s1" if kind is EntityKind.SESSION else "c1")["attributes"] == {"a": "x"}


MANY = {
    "profiles": "customer_id,attributes.tier,audiencesChanges\n" + "".join(f"c{n},x,\n" for n in range(1500)),
    "referrals": "customer_id,campaignId,usageLimit\n" + "".join(f"c{n},{n % 2},1\n" for n in range(1500)),
}


@pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[2]])
def test_rows_go_out_many_at_once_and_those_that_can_not_alone(call, server, rows, command, tmp_path):
    last = {"profiles": 'b,y,"{""adds"": [7], ""deletes"": []}"\n', "referrals": "b,1,\n"}[command[0]]
    path, plan = rows(MANY[command[0]] + last), tmp_path / "plan.json"
    call(*command, path, "--plan", plan)
    done = call("apply", plan, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 1501}), done.err
    sent = [entry.operation for entry in server.log.about_subjects()]
    together, alone = {
        "profiles": ("update_customer_profiles", "update_customer_profile_v2"),
        "referrals": ("create_referrals", "create_referral"),
    }[command[0]]
    assert sorted(sent) == sorted([alone, *[together] * 2])
    planned = json.loads(plan.read_text())
    assert planned["calls"] == {together: [2, 2], alone: [1, 1]}
    assert planned["parameters"]["rows_at_once"] == 1500
    assert server.store.get(EntityKind.PROFILE, "c1499") is not None
    report = call("runs", "report", "latest", "--json")
    assert report.code == 0


@pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[2]])
def test_a_plan_that_knows_no_other_way_is_applied_one_by_one(call, server, rows, command, tmp_path):
    path, plan = rows("\n".join(MANY[command[0]].split("\n")[:4]) + "\n"), tmp_path / "plan.json"
    call(*command, path, "--plan", plan, "--one-by-one")
    assert "at_once" not in plan.read_text()  # as plans of earlier versions are
    assert call("apply", plan, "--confirm", "yes", "--json").code == 0
    assert len(server.log.about_subjects()) == 3


def test_v1_events_belong_to_a_session(call, server, rows):
    done = call("events", "track", rows("profileId,type\nc1,seen\n"), "--api", "v1", "--confirm", "yes", "--json")
    assert (done.code, "'sessionId', which every row needs" in done.json["error"]["message"]) == (2, True)
    path = rows("profileId,type,sessionId\nc1,seen,s1\n")
    assert call("events", "track", path, "--api", "v1", "--confirm", "yes", "--json").code == 0
    assert server.store.get(EntityKind.SESSION, "s1")["profileId"] == "c1"


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_sent_without_a_confirmation(call, server, rows, command):
    path = rows(ROWS[command[0]])
    for given in ((), ("--confirm", "no"), ("--no-input",)):
        assert call(*command, path, *given, "--json").code == 2
    assert len(server.log.about_subjects()) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_plan_is_shown_and_then_applied(call, server, rows, tmp_path, command):
    path, plan = rows(ROWS[command[0]]), tmp_path / "plan.json"
    made = call(*command, path, "--plan", plan)
    assert (made.code, len(server.log.about_subjects())) == (0, 0)
    assert f"Next: privacy-toolkit apply {plan} --confirm yes" in made.out
    assert not {"c1", "gold", "seen", "s1"} & set(plan.read_text().split('"'))
    done = call("apply", plan, "--confirm", "yes", "--json")
    assert (done.code, set(done.json["outcomes"])) == (0, {"done"})


def test_a_plan_of_other_rows_is_stale(call, server, rows, tmp_path):
    path, plan = rows(ROWS["events"]), tmp_path / "plan.json"
    call("events", "track", path, "--plan", plan)
    rows(ROWS["events"].replace("seen", "bought"))
    done = call("apply", plan, "--confirm", "yes", "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "stale")
    assert len(server.log.about_subjects()) == 0


def test_a_run_that_was_stopped_is_resumed_in_order(call, server, rows):
    path = rows(ROWS["events"])
    assert call("events", "track", path, "--until", "0s", "--confirm", "yes", "--json").code == 4
    assert len(server.log.about_subjects()) == 0
    done = call("runs", "resume", "latest", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 3})
    assert [one["attributes"]["n"] for one in server.store.owned("c1")[EntityKind.EVENT]] == [1, 3]


# what the rows say


def test_rows_that_do_not_fit_are_refused_one_by_one(call, server, rows):
    path = rows(ROWS["events"] + "c1,,4\nc1,seen,x\n..,seen,5\nc1,seen,6\n")
    done = call("events", "track", path, "--confirm", "yes", "--json")
    assert (done.code, done.json["rows"]) == (3, {"read": 7, "rejected": 3, "duplicates": 0, "subjects": 4})
    shown = call("inspect", path, "--as", "events", "--format", "jsonl").out.splitlines()
    refused = [line for line in map(json.loads, shown) if line["status"] == "rejected"]
    assert [(line["row"], line["reason"], line.get("detail")) for line in refused] == [
        (5, "field_missing", "type: missing"),
        (6, "field_not_usable", "attributes.n: no number"),
        (7, "dot_segment", None),
    ]


def test_a_file_is_inspected_for_either_version(call, rows):
    path = rows("profileId,type,sessionId\nc1,seen,s1\n")
    assert call("inspect", path, "--as", "events", "--api", "v1", "--json").json["rows"]["subjects"] == 1
    done = call("inspect", path, "--as", "events", "--json")
    assert (done.code, "sessionId is no field" in done.json["error"]["message"]) == (2, True)


def test_json_lines_are_rows_too(call, server, rows):
    lines = [{"session_id": "s1", "profileId": "c1", "attributes": {"a": [1, {"b": None}]}}, {"session_id": "s2"}]
    path = rows("\n".join(map(json.dumps, lines)), "rows.jsonl")
    assert call("sessions", "update", path, "--confirm", "yes", "--json").code == 0
    assert server.store.get(EntityKind.SESSION, "s1")["attributes"] == {"a": [1, {"b": None}]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("customer_id,colour\nc1,red\n", "the column colour is no field"),
        ("customer_id,attributes.a,attributes.a:json\nc1,1,2\n", "would fill the same field"),
        ("colour\nred\n", "none of the columns customer_id"),
        ("", "is empty"),
    ],
)
def test_a_file_that_does_not_fit_is_one_error(call, server, rows, text, said):
    done = call("profiles", "update", rows(text), "--confirm", "yes", "--json")
    assert (done.code, done.json["error"]["code"], said in done.json["error"]["message"]) == (2, "input", True)
    assert len(server.log.about_subjects()) == 0


def test_a_file_that_is_not_there_is_one_error(call, server, tmp_path):
    for name in ("nope.csv", "nope.jsonl", "nope.parquet", "nope.xls"):
        assert call("profiles", "update", tmp_path / name, "--confirm", "yes", "--json").code == 2


# holds


def test_the_exclusion_list_holds_for_everybody_a_row_names(call, server, rows, tmp_path):
    holds = tmp_path / "holds.csv"
    holds.write_text("customer_id,reason\nheld,identity\n")
    referrals = rows("customer_id,campaignId,friendProfileIntegrationId\nc1,1,held\nheld,1,c2\nc1,1,c2\n")
    done = call("referrals", "create", referrals, "--exclude", holds, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"on_hold": 2, "done": 1})
    sessions = rows("session_id,profileId\ns1,held\ns2,\nheld,c1\n")
    done = call("sessions", "update", sessions, "--exclude", holds, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"on_hold": 1, "done": 2})


@pytest.mark.parametrize("command", COMMANDS)
def test_who_was_erased_is_not_made_again(call, server, requests, phrase, rows, command):
    assert call("erase", requests, "--confirm", phrase, "--json").code == 0
    text = ROWS[command[0]].replace("c1", "customer-00001")
    path = rows(text)
    done = call(*command, path, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]["on_hold"]) == (0, text.count("customer-00001"))
    assert server.store.get(EntityKind.PROFILE, "customer-00001") is None
    reasons = {
        line["id"]: line["reason"]
        for line in map(json.loads, call("runs", "subjects", "latest", "--format", "jsonl").out.splitlines())
    }
    assert reasons["s1" if command[0] == "sessions" else "customer-00001"] == "suppressed"


# dry runs


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (("events", "track"), ("--api", "v2")),
        (("profiles", "update"), ("--api", "v1")),
        (("profiles", "update"), ("--api", "v2", "--run-rule-engine")),
        (("sessions", "update"), ("--api", "v1")),
        (("sessions", "update"), ("--api", "v2")),
    ],
)
def test_a_dry_run_stores_nothing_and_says_so(call, server, rows, command, options):
    before = server.store.totals()
    path = rows(ROWS[command[0]])
    done = call(*command, path, *options, "--dry", "--confirm", "yes")
    assert done.code == 0, done.err
    assert "Dry run   the API evaluates each request and stores nothing" in done.err
    assert "Dry run: the API was asked to evaluate each request and to store nothing. Complete" in done.out
    assert server.store.totals() == before
    lines = call("runs", "subjects", "latest", "--format", "jsonl").out.splitlines()
    assert {json.loads(line)["reason"] for line in lines} == {"dry"}


@pytest.mark.parametrize("options", [(), ("--api", "v2")])
def test_a_dry_run_that_would_be_none_is_refused(call, server, rows, options):
    done = call("profiles", "update", rows(ROWS["profiles"]), *options, "--dry", "--confirm", "yes", "--json")
    assert (done.code, "--run-rule-engine" in done.json["error"]["message"]) == (2, True)
    assert len(server.log.about_subjects()) == 0


def test_referrals_have_no_dry_run(call, server, rows):
    assert call("referrals", "create", rows(ROWS["referrals"]), "--dry", "--confirm", "yes", "--json").code == 2


# deployments of 2020


def test_deployments_of_2020_have_v1_events_only(call, old_server, rows):
    done = call("events", "track", rows(ROWS["events"]), "--confirm", "yes", "--json")
    assert (done.code, done.json["error"]["hint"]) == (2, "Use --api v1.")
    path = rows("profileId,type,sessionId\nc1,seen,s1\n")
    assert call("events", "track", path, "--api", "v1", "--confirm", "yes", "--json").code == 0


@pytest.mark.parametrize("options", [("--dry",), ("--dry", "--run-rule-engine"), ("--run-rule-engine",)])
def test_deployments_of_2020_have_no_dry_profiles_v2(call, old_server, rows, options):
    done = call("profiles", "update", rows(ROWS["profiles"]), *options, "--confirm", "yes", "--json")
    assert (done.code, "deployments of 2020" in done.json["error"]["message"]) == (2, True)
    assert len(old_server.log) == 0


@pytest.mark.parametrize("command", [one for one in COMMANDS if one[0] not in {"events", "audiences"}])
def test_deployments_of_2020_take_what_they_know(call, old_server, rows, command):
    done = call(*command, rows(ROWS[command[0]]), "--confirm", "yes")
    assert done.code == 0, done.err
    assert "Generation 2020" in done.err
    newer = rows("customer_id,campaignId,usageLimit\nc1,1,5\n")
    assert call("referrals", "create", newer, "--confirm", "yes", "--json").code == 2


# the codes


@pytest.mark.parametrize("name", ["codes.csv", "codes.parquet"])
def test_the_new_codes_are_handed_over(call, server, rows, tmp_path, name):
    out = tmp_path / name
    done = call("referrals", "create", rows(ROWS["referrals"]), "--out", out, "--confirm", "yes")
    assert done.code == 0, done.err
    assert f"File:   {out} (2 rows)" in done.out
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    if name.endswith(".csv"):
        with out.open(newline="") as file:
            codes = list(csv.DictReader(file))
        assert [(one["row"], one["advocate_id"]) for one in codes] == [("2", "c1"), ("3", "c2")]
        assert all(server.store.get(EntityKind.REFERRAL, one["referral_code"]) for one in codes)
    again = call("runs", "resume", "latest", "--json")
    assert (again.code, "out" in again.json) == (0, False)  # the codes are forgotten, and the file is left alone


def test_a_place_for_the_codes_is_checked_before_anything_is_sent(call, server, rows, tmp_path):
    for name in ("codes.txt", "nowhere/codes.csv"):
        done = call(
            "referrals", "create", rows(ROWS["referrals"]), "--out", tmp_path / name, "--confirm", "yes", "--json"
        )
        assert done.code == 2
    assert len(server.log.about_subjects()) == 0


def test_codes_nobody_asked_for_are_not_in_the_pack(call, server, rows):
    done = call("referrals", "create", rows(ROWS["referrals"]), "--confirm", "yes", "--json")
    assert "out" not in done.json
    assert "REF-" not in done.out


# wrong ways to call it


@pytest.mark.parametrize(
    "arguments",
    [
        ("events", "track"),
        ("events", "track", "x.csv", "--api", "v3"),
        ("referrals", "create", "x.csv", "--api", "v1"),
        ("sessions", "update", "x.csv", "--run-rule-engine"),
        ("events", "update", "x.csv"),
    ],
)
def test_what_is_no_command_is_a_usage_error(call, server, arguments):
    assert call(*arguments, "--json").code == 2


def test_the_groups_list_their_commands(capfd):
    for group, command in COMMANDS:
        with pytest.raises(SystemExit):
            main([group, "--help"])
        assert command in capfd.readouterr().out
