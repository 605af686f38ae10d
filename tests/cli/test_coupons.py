import json
import sqlite3

import pytest

from privacy_toolkit.app import service
from privacy_toolkit.app.plans import check_plan
from privacy_toolkit.sandbox.store import EntityKind
from privacy_toolkit.sandbox.wire import seed

CODES = [f"SANDBOX-{number:04d}" for number in range(1, 21)]


@pytest.fixture
def free(server):
    """The sandbox without any reservation."""
    for code in CODES:
        for holder in [profile["integrationId"] for profile in map(json.loads, map(bytes, server.store.holders(code)))]:
            server.store.release(code, [holder])
    return server


@pytest.fixture
def pairs(table):
    rows = [(CODES[n % 2], f"customer-{n:05d}") for n in range(8)]
    return table("pairs.csv", "coupon_value,customer_id", *rows)


@pytest.fixture
def customers(table):
    return table("customers.csv", "customer_id", *([f"customer-{n:05d}"] for n in range(4)))


@pytest.fixture
def codes(table):
    return table("codes.csv", "coupon_value", *([code] for code in CODES[:5]))


def holders(server, code):
    return {json.loads(bytes(profile))["integrationId"] for profile in server.store.holders(code)}


def subjects(call, run="latest"):
    return [json.loads(line) for line in call("runs", "subjects", run, "--format", "jsonl").out.splitlines()]


def sent(server):
    return [entry.value for entry in server.log if entry.operation.endswith("coupon_reservation")]


def test_reserve_and_release(call, free, pairs):
    done = call("coupons", "reserve", pairs, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"], done.json["verdict"]) == (0, {"done": 8}, "complete")
    assert holders(free, CODES[0]) == {f"customer-{n:05d}" for n in (0, 2, 4, 6)}
    assert [(s["row"], s["id"], s["coupon_value"]) for s in subjects(call)][:2] == [
        (2, "customer-00000", CODES[0]),
        (3, "customer-00001", CODES[1]),
    ]
    done = call("coupons", "release", pairs, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 8})
    assert holders(free, CODES[0]) == set()
    assert sorted(sent(free)) == sorted(CODES[:2] * 2)


def test_nothing_is_sent_without_a_confirmation(call, free, pairs, customers, codes):
    for arguments in (("reserve", pairs), ("release", pairs), ("assign", customers, "--coupons", codes)):
        done = call("coupons", *arguments, "--json")
        assert (done.code, done.json["error"]["code"]) == (2, "confirmation_missing")
        assert call("coupons", *arguments, "--confirm", "no", "--json").code == 2
    assert sent(free) == []


def test_a_plan_says_how_things_stand_and_changes_nothing(call, free, table, tmp_path):
    free.store.reserve(CODES[0], ["customer-00000", "customer-00011"])
    rows = [(CODES[0], f"customer-{n:05d}", "4" if n == 5 else "") for n in range(6)]
    path = table("pairs.csv", "coupon_value,customer_id,budget", *rows, ("NOPE", "customer-00001", ""))
    plan = tmp_path / "plan.json"
    done = call("coupons", "reserve", path, "--plan", plan, "--json")
    assert done.json["observed"] == {"reserved_already": 1, "over_budget": 3, "unknown_coupons": 1}
    assert done.json["parameters"] == {"coupons": 2}
    assert done.json["calls"] == {"get_reserved_customers": [2, 4], "create_coupon_reservation": [0, 2]}
    assert "customer-" not in plan.read_text()
    assert CODES[0] not in plan.read_text()
    assert sent(free) == []
    # how things stand may move: the plan is still the same
    free.store.reserve(CODES[0], ["customer-00010"])
    done = call("apply", plan, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]) == (3, {"done": 2, "on_hold": 4, "failed": 1})
    assert "1 FAILED" in call("runs", "list").out
    assert len(holders(free, CODES[0])) == 4


def test_a_plan_for_another_budget_or_input_is_stale(call, free, pairs, tmp_path):
    plan = tmp_path / "plan.json"
    assert call("coupons", "reserve", pairs, "--max-per-coupon", "2", "--plan", plan).code == 0
    pairs.write_text(pairs.read_text() + f"{CODES[0]},customer-00009\n")
    done = call("apply", plan, "--confirm", "yes", "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "stale")


def test_a_plan_that_can_not_be_looked_up_is_not_made(call, free, pairs, tmp_path, monkeypatch):
    plan = tmp_path / "plan.json"
    monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "wrong")
    done = call("coupons", "reserve", pairs, "--plan", plan, "--json")
    assert (done.code, done.json["error"]["code"]) == (7, "credentials")
    monkeypatch.delenv("PRIVACY_TOOLKIT_API_KEY")
    assert call("coupons", "reserve", pairs, "--plan", plan, "--json").code == 2
    assert not plan.exists()


def test_max_per_coupon_is_kept_with_what_others_have(call, free, pairs):
    free.store.reserve(CODES[1], ["customer-00011"])
    done = call("coupons", "reserve", pairs, "--max-per-coupon", "2", "--confirm", "yes", "--json", "--quiet")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 3, "on_hold": 5})
    assert holders(free, CODES[0]) == {"customer-00000", "customer-00002"}  # the first rows get it
    assert holders(free, CODES[1]) == {"customer-00001", "customer-00011"}
    assert {s["reason"] for s in subjects(call) if s["outcome"] == "on_hold"} == {"over_budget"}


def test_the_smallest_budget_of_a_coupon_counts_also_that_of_a_repeated_row(call, free, table):
    rows = [(CODES[0], f"customer-{n:05d}", 5) for n in range(4)]
    path = table("pairs.csv", "coupon_value,customer_id,budget", *rows, (CODES[0], "customer-00000", 1))
    done = call("coupons", "reserve", path, "--max-per-coupon", "3", "--confirm", "yes", "--json")
    assert done.json["rows"] == {"read": 5, "rejected": 0, "duplicates": 1, "subjects": 4}
    assert done.json["outcomes"] == {"done": 1, "on_hold": 3}


def test_every_row_has_its_reason_and_nothing_else_is_lost(call, free, table):
    rows = [
        (CODES[0], "customer-00000", ""),
        ("NO-SUCH-COUPON", "customer-00001", ""),
        (CODES[0], "no-such-customer", ""),
        (" X", "customer-00002", ""),
        (CODES[0], "..", ""),
        (CODES[0], "customer-00003", "many"),
        (CODES[0], "customer-00000", ""),
        (CODES[0], "customer-00004", ""),
    ]
    path = table("pairs.csv", "coupon_value,customer_id,budget", *rows)
    done = call("coupons", "reserve", path, "--confirm", "yes", "--json")
    assert done.code == 3
    assert done.json["rows"] == {"read": 8, "rejected": 3, "duplicates": 1, "subjects": 4}
    assert {(s["row"], s["outcome"], s["reason"]) for s in subjects(call)} == {
        (2, "done", None),
        (3, "failed", "not_found"),
        (4, "failed", "not_found"),
        (9, "done", None),
    }
    shown = call("inspect", path, "--as", "reserve", "--format", "jsonl").out.splitlines()
    assert [(line["row"], line["reason"], line.get("detail")) for line in map(json.loads, shown) if line["reason"]] == [
        (5, "coupon_not_usable", "coupon_value: surrounding_whitespace"),
        (6, "dot_segment", None),
        (7, "budget_not_usable", "budget: no whole number of 0 or more"),
    ]


def test_the_exclusion_list_holds_customers(call, free, pairs, customers, codes, table):
    holds = table("holds.csv", "customer_id,reason", ("customer-00000", "identity"))
    done = call("coupons", "reserve", pairs, "--exclude", holds, "--confirm", "yes", "--json")
    assert done.json["outcomes"] == {"done": 7, "on_hold": 1}
    done = call("coupons", "assign", customers, "--coupons", codes, "--exclude", holds, "--confirm", "yes", "--json")
    assert done.json["outcomes"] == {"done": 3, "on_hold": 1}
    # anyone who is on hold uses up no code, and codes that others have are skipped
    assert [s["coupon_value"] for s in subjects(call)] == ["", *CODES[2:5]]


def test_who_was_erased_is_reserved_nothing_and_may_be_released(call, free, pairs, requests, phrase):
    sentence = phrase.replace("erase 12", "erase 1")
    assert call("erase", requests, "--limit", "1", "--confirm", sentence, "--json").code == 0
    done = call("coupons", "reserve", pairs, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 7, "on_hold": 1})
    assert subjects(call)[0]["reason"] == "suppressed"
    assert free.store.raw(EntityKind.PROFILE, "customer-00000") is None
    assert call("coupons", "release", pairs, "--confirm", "yes", "--json").json["outcomes"] == {"done": 8}


def test_no_coupon_value_and_no_id_stands_in_the_pack(call, free, pairs, tmp_path):
    pack = tmp_path / "pack"
    assert call("coupons", "reserve", pairs, "--confirm", "yes", "--pack", pack, "--max-per-coupon", "3").code == 0
    for path in pack.iterdir():
        data = path.read_bytes()
        assert b"SANDBOX-0" not in data, path.name
        assert b"customer-0" not in data, path.name
    report = (pack / "report.html").read_text()
    assert "Reserved" in report
    assert "over_budget" in report
    checked = call("verify", pack)
    assert checked.code == 0, checked.out


def test_assign_assigns_in_the_order_of_the_files(call, free, customers, codes):
    done = call("coupons", "assign", customers, "--coupons", codes, "--confirm", "yes", "--json")
    assert (done.code, done.json["job"], done.json["outcomes"]) == (0, "assign", {"done": 4})
    assert [s["coupon_value"] for s in subjects(call)] == CODES[:4]
    assert all(len(holders(free, code)) == 1 for code in CODES[:4])


def test_who_was_assigned_a_code_keeps_it_and_it_goes_to_nobody_else(call, free, table, customers, codes):
    call("coupons", "assign", customers, "--coupons", codes, "--seed", "3", "--confirm", "yes")
    first = {s["id"]: s["coupon_value"] for s in subjects(call)}
    assert len(set(first.values())) == 4
    others = table("others.csv", "customer_id", ["customer-00009"], ["customer-00002"])
    done = call("coupons", "assign", others, "--coupons", codes, "--confirm", "yes", "--json")
    again = {s["id"]: s for s in subjects(call)}
    assert done.json["outcomes"] == {"done": 2}
    assert again["customer-00002"]["coupon_value"] == first["customer-00002"]
    assert again["customer-00002"]["reason"] == "already_reserved"
    assert {again["customer-00009"]["coupon_value"]} == set(CODES[:5]) - set(first.values())


def test_codes_that_run_out_are_said_before_anything_is_sent_or_remembered(call, free, table, customers, codes):
    few = table("few.csv", "coupon_value", [CODES[0]], [CODES[0]], [""], [CODES[1]])
    done = call("coupons", "assign", customers, "--coupons", few, "--confirm", "yes", "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "codes_run_out")
    assert "2 more are" in done.json["error"]["message"]
    assert len(free.log) == 0
    assert call("runs", "list", "--json").json == {"runs": []}
    assert call("coupons", "assign", customers, "--coupons", codes, "--confirm", "yes", "--json").code == 0
    assert subjects(call)[0]["coupon_value"] == CODES[0]


def test_a_plan_assigns_what_is_carried_out_or_is_stale(call, free, customers, codes, table, tmp_path):
    plan, other = tmp_path / "plan.json", tmp_path / "other.json"
    for path in (plan, other):
        done = call("coupons", "assign", customers, "--coupons", codes, "--seed", "5", "--plan", path, "--json")
        assert done.code == 0
    assert (done.json["parameters"]["codes"], done.json["parameters"]["seed"]) == (5, 5)
    assert not any(text in plan.read_text() for text in ("customer-0", "SANDBOX-0"))
    # somebody else is assigned codes of the list meanwhile: not enough are left, or others than planned
    others = table("others.csv", "customer_id", ["customer-00009"])
    call("coupons", "assign", others, "--coupons", codes, "--seed", "5", "--confirm", "yes")
    done = call("apply", plan, "--confirm", "yes", "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "stale")
    fresh = tmp_path / "fresh.json"
    call("coupons", "assign", customers, "--coupons", codes, "--seed", "5", "--plan", fresh)
    assert call("apply", fresh, "--confirm", "yes", "--json").code == 0


def test_changed_codes_make_a_plan_stale(call, free, customers, codes, tmp_path):
    plan = tmp_path / "plan.json"
    call("coupons", "assign", customers, "--coupons", codes, "--plan", plan)
    codes.write_text(codes.read_text() + f"{CODES[9]}\n")
    done = call("apply", plan, "--confirm", "yes", "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "stale")


@pytest.mark.parametrize("name", ["missing.csv", "-"])
def test_codes_that_can_not_be_read_are_said(call, free, customers, name):
    done = call("coupons", "assign", customers, "--coupons", name, "--confirm", "yes", "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "input")


def test_holders_are_written_without_a_confirmation(call, free, codes, tmp_path):
    free.store.reserve(CODES[0], ["customer-00003", "customer-00001"])
    free.store.reserve(CODES[2], ["customer-00002"])
    out = tmp_path / "holders.csv"
    done = call("coupons", "holders", codes, "--out", out, "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 5})
    assert done.json["out"] == {"path": str(out), "rows": 3, "complete": True}
    assert out.read_text().split() == [
        "coupon_value,customer_id",
        f"{CODES[0]},customer-00001",
        f"{CODES[0]},customer-00003",
        f"{CODES[2]},customer-00002",
    ]
    assert subjects(call)[0]["coupon_value"] == CODES[0]


def test_the_list_of_holders_is_the_input_that_releases_those_very_customers(call, free, codes, tmp_path):
    odd = ["+4917012345", "=1+1", "-5", "@sum", "'+4917012345", "\uff1d1"]
    seed(free.store, len(odd), ids=odd)
    free.store.reserve(CODES[0], odd)
    out = tmp_path / "holders.csv"
    assert call("coupons", "holders", codes, "--out", out).code == 0
    done = call("coupons", "release", out, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": len(odd)})
    assert holders(free, CODES[0]) == set()


def test_a_list_that_is_safe_for_spreadsheets_is_no_input(call, free, codes, tmp_path):
    free.store.reserve(CODES[0], ["customer-00003"])
    out = tmp_path / "holders.csv"
    assert call("coupons", "holders", codes, "--out", out, "--spreadsheet-safe").code == 0
    for command in (["coupons", "release", out], ["erase", out]):
        done = call(*command, "--plan", tmp_path / "plan.json", "--json")
        assert (done.code, "made safe for spreadsheets" in done.json["error"]["message"]) == (2, True)
    done = call("coupons", "holders", codes, "--out", tmp_path / "h.parquet", "--spreadsheet-safe", "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "usage")


def test_what_was_handed_over_is_forgotten_and_not_written_over(call, free, codes, tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", str(tmp_path / "state"))
    free.store.reserve(CODES[0], ["customer-00003"])
    out = tmp_path / "holders.parquet"
    done = call("coupons", "holders", codes, "--out", out, "--with-attributes", "--json")
    run = tmp_path / "state" / "runs" / done.json["run_id"]
    assert b"customer-00003" not in b"".join(path.read_bytes() for path in run.iterdir())
    out.unlink()
    done = call("runs", "resume", "latest", "--json")
    assert (done.code, "out" in done.json, out.exists()) == (0, False, False)


def test_with_codes_still_open_the_file_holds_what_is_there_and_says_so(call, free, codes, tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", str(tmp_path / "state"))
    free.store.reserve(CODES[0], ["customer-00003"])
    plan, out = tmp_path / "plan.json", tmp_path / "holders.csv"
    assert call("coupons", "holders", codes, "--out", out, "--plan", plan, "--json").json["confirm"] is None
    done = call("apply", plan, "--until", "0s", "--json")
    assert (done.code, done.json["out"]["complete"], done.json["out"]["rows"]) == (4, False, 0)
    assert "still open" in done.err
    done = call("runs", "resume", "latest", "--json")
    assert (done.code, done.json["out"]["complete"], done.json["out"]["rows"]) == (0, True, 1)


def test_a_code_that_does_not_exist_fails_alone(call, free, table, tmp_path):
    path = table("codes.csv", "coupon_value", ["NOPE"], [CODES[0]])
    done = call("coupons", "holders", path, "--out", tmp_path / "out.csv", "--json")
    assert (done.code, done.json["outcomes"]) == (3, {"done": 1, "failed": 1})
    assert done.json["out"]["complete"]


@pytest.mark.parametrize("name", ["out.txt", "nowhere/out.csv"])
def test_a_file_that_can_not_be_written_is_said_before_anything_is_asked(call, free, codes, tmp_path, name):
    done = call("coupons", "holders", codes, "--out", tmp_path / name, "--json")
    assert (done.code, len(free.log)) == (2, 0)


def test_a_file_that_could_not_be_written_is_written_by_a_resume(call, free, codes, tmp_path, monkeypatch):
    out = tmp_path / "folder" / "out.csv"
    out.parent.mkdir()
    plan = tmp_path / "plan.json"
    call("coupons", "holders", codes, "--out", out, "--plan", plan)
    out.parent.rmdir()
    done = call("apply", plan, "--json")
    assert (done.code, "There is no folder" in done.json["error"]["message"], len(free.log)) == (2, True, 0)
    out.parent.mkdir()

    def looked(*arguments, **options):  # the folder is gone as soon as it was looked at
        check_plan(*arguments, **options)
        if "run_id" in options:
            out.parent.rmdir()

    with monkeypatch.context() as patched:
        patched.setattr(service, "check_plan", looked)
        done = call("apply", plan, "--json")
    assert (done.code, done.json["error"]["code"]) == (4, "out")
    assert (done.json["exit_code"], done.json["verdict"]) == (4, "complete")
    out.parent.mkdir()
    assert call("runs", "resume", "latest", "--json").json["out"]["complete"]
    assert out.exists()


def test_a_purge_leaves_no_coupon_customer_or_path(call, free, codes, customers, tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", str(tmp_path / "state"))
    free.store.reserve(CODES[0], ["customer-00003"])
    out = tmp_path / "holders.csv"
    first = call("coupons", "assign", customers, "--coupons", codes, "--confirm", "yes", "--json").json["run_id"]
    second = call("coupons", "holders", codes, "--out", out, "--json").json["run_id"]
    for run_id in (first, second):
        assert call("runs", "purge", run_id, "--confirm", f"purge {run_id}").code == 0
        folder = tmp_path / "state" / "runs" / run_id
        data = b"".join(path.read_bytes() for path in folder.iterdir())
        assert not any(text in data for text in (b"SANDBOX-0", b"customer-0", b"holders.csv", b"codes.csv"))
    journal = sqlite3.connect(tmp_path / "state" / "runs" / second / "journal.sqlite")
    assert journal.execute("SELECT count(*) FROM parties").fetchone() == (0,)
    journal.close()


def test_inspect_knows_the_jobs(call, pairs, codes):
    assert call("inspect", pairs, "--as", "release", "--json").json["rows"]["subjects"] == 8
    assert call("inspect", codes, "--as", "holders", "--json").json["rows"]["subjects"] == 5
    assert call("inspect", codes, "--as", "reserve", "--json").json["error"]["code"] == "input"
    assert call("inspect", codes, "--as", "nonsense", "--json").code == 2
