"""Marketing's day: codes out in one file, what became of each code, and back again."""

import csv
import json
import stat
import urllib.request

import pytest

from privacy_toolkit import Toolkit
from privacy_toolkit.sandbox import start_in_thread, wire
from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import EntityKind, SandboxSettings
from privacy_toolkit.sandbox.wire import EPOCH, coupon, seed, seed_codes, timestamp

PLAIN, OLD, SPENT, FIRM, LATE = "MAIL-PLAIN", "MAIL-OLD", "MAIL-SPENT", "MAIL-FIRM", "MAIL-LATE"
COUPONS = {
    PLAIN: {"expiryDate": "2999-01-01T00:00:00Z"},
    OLD: {"expiryDate": "2020-01-01T00:00:00Z"},
    SPENT: {"usageLimit": 1, "usageCounter": 1},
    FIRM: {"isReservationMandatory": True, "usageLimit": 0, "usageCounter": 7},
    LATE: {"startDate": "2998-01-01T00:00:00Z"},
}
READ = "get_reserved_customers"
CUSTOMERS = [f"customer-{number:05d}" for number in range(12)]


@pytest.fixture
def stocked(server):
    """The sandbox with a few coupons, each of another kind, that nobody has."""
    with server.store.transaction():
        for code, more in COUPONS.items():
            made = coupon(server.store.number(), code, timestamp(EPOCH)) | more
            server.store.put(EntityKind.COUPON, code, made)
    return server


@pytest.fixture
def customers(table):
    rows = [(id_, f"{id_}@example.org", f"Name {n}") for n, id_ in enumerate(CUSTOMERS[:5])]
    return table("customers.csv", "customer_id,email,name", *rows)


@pytest.fixture
def codes(table):
    return table("codes.csv", "coupon_value", *([code] for code in COUPONS))


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def holders(server, code):
    return {json.loads(bytes(profile))["integrationId"] for profile in server.store.holders(code)}


def test_assign_writes_who_has_which_code_and_what_the_api_says_of_it(call, stocked, customers, codes, tmp_path):
    out = tmp_path / "mail.csv"
    done = call(
        "coupons", "assign", customers, "--coupons", codes, "--out", out, "--carry", "name,email",
        "--confirm", "yes", "--json",
    )  # fmt: skip
    assert (done.code, done.json["outcomes"], done.json["causes"]) == (0, {"done": 5}, {})
    by_code = tmp_path / "mail.by-code.csv"
    assert done.json["out"] == {"path": str(out), "rows": 5, "complete": True, "others": [str(by_code)], "left_out": 0}
    rows = read(out)
    assert list(rows[0]) == [
        "customer_id", "coupon_value", "outcome", "reason", "expiry", "coupon_state", "redeemable_by", "name", "email",
    ]  # fmt: skip
    assert rows[0] == {
        "customer_id": CUSTOMERS[0],
        "coupon_value": PLAIN,
        "outcome": "done",
        "reason": "",
        "expiry": "2999-01-01T00:00:00Z",
        "coupon_state": "usable",
        "redeemable_by": "anyone",
        "name": "Name 0",
        "email": f"{CUSTOMERS[0]}@example.org",
    }
    assert [(row["coupon_value"], row["coupon_state"], row["redeemable_by"]) for row in rows[1:]] == [
        (OLD, "expired", "anyone"),
        (SPENT, "used_up", "anyone"),
        (FIRM, "usable", "holders"),
        (LATE, "not_started", "anyone"),
    ]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (out, by_code)] == [0o600, 0o600]
    # what the file says can be taken back by it
    assert call("coupons", "release", out, "--confirm", "yes", "--json").json["outcomes"] == {"done": 5}
    assert not any(holders(stocked, code) for code in COUPONS)


def test_a_list_for_a_mail_tool_has_those_alone_who_have_a_code_that_holds(call, stocked, customers, codes, tmp_path):
    braze, klaviyo = tmp_path / "braze.csv", tmp_path / "klaviyo.csv"
    command = ("coupons", "assign", customers, "--coupons", codes, "--confirm", "yes", "--json")
    done = call(*command, "--out", braze, "--preset", "braze", "--carry", "name")
    assert (done.json["out"]["rows"], done.json["out"]["left_out"]) == (3, 2)
    assert read(braze) == [
        {"external_id": CUSTOMERS[0], "coupon_code": PLAIN, "coupon_expiry": "2999-01-01T00:00:00Z", "name": "Name 0"},
        {"external_id": CUSTOMERS[3], "coupon_code": FIRM, "coupon_expiry": "", "name": "Name 3"},
        {"external_id": CUSTOMERS[4], "coupon_code": LATE, "coupon_expiry": "", "name": "Name 4"},
    ]
    # The same again: nothing is reserved, so no answer to that shows a coupon; the inventory of who has it does.
    done = call(*command, "--out", klaviyo, "--preset", "klaviyo", "--carry", "name,email")
    assert (done.json["out"]["rows"], done.json["out"]["left_out"]) == (3, 2)
    assert read(klaviyo)[0] == {
        "Email": f"{CUSTOMERS[0]}@example.org",
        "External ID": CUSTOMERS[0],
        "Coupon Code": PLAIN,
        "Coupon Expiry": "2999-01-01T00:00:00Z",
        "name": "Name 0",
    }


def test_after_a_crash_a_list_for_a_mail_tool_names_nobody_whose_code_does_not_hold(
    call, stocked, customers, codes, tmp_path, monkeypatch
):
    braze = tmp_path / "braze.csv"
    faults = Faults(rates={FaultKind.DROP_AFTER: 1.0}, operations=frozenset({"create_coupon_reservation"}))
    settings = SandboxSettings(faults=faults)
    with start_in_thread(settings) as losing:
        seed(losing.store, 5, ids=CUSTOMERS[:5])
        with losing.store.transaction():
            for code, more in COUPONS.items():
                losing.store.put(EntityKind.COUPON, code, coupon(losing.store.number(), code, timestamp(EPOCH)) | more)
        monkeypatch.setenv("PRIVACY_TOOLKIT_BASE_URL", losing.base_url)
        done = call(
            *("coupons", "assign", customers, "--coupons", codes, "--confirm", "yes", "--json"),
            *("--out", braze, "--preset", "braze", "--rate", "1000000"),
        )
        assert done.json["outcomes"] == {"done": 5}
        inventories = [one for one in losing.log.about_subjects() if one.operation == "get_customer_inventory"]
        assert len(inventories) == 5
    assert [(row["coupon_code"], row["coupon_expiry"][:4]) for row in read(braze)] == [
        (PLAIN, "2999"),
        (FIRM, ""),
        (LATE, ""),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--preset", "braze"), "none is asked for"),
        (("--carry", "name"), "none is asked for"),
        (("--out", "x.csv", "--preset", "klaviyo"), "begins with an address"),
        (("--out", "x.csv", "--carry", "name,name"), "twice"),
        (("--out", "x.csv", "--carry", "outcome"), "of its own"),
        (("--out", "x.csv", "--carry", "surname"), "no column 'surname'"),
        (("--out", "x.csv", "--carry", "customer_id"), "of its own"),
        (("--out", "x.txt"), "told from its name"),
    ],
)
def test_what_can_not_be_in_a_file_is_said_before_anything_is_sent(
    call, stocked, customers, codes, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    done = call("coupons", "assign", customers, "--coupons", codes, "--confirm", "yes", "--json", *arguments)
    assert done.code == 2
    assert said in done.json["error"]["message"]
    assert not any(holders(stocked, code) for code in COUPONS)


def test_everybody_is_in_the_file_and_failures_are_counted_by_cause(call, stocked, table, tmp_path):
    out, pack = tmp_path / "who.csv", tmp_path / "pack"
    rows = [
        (PLAIN, CUSTOMERS[0], "1", "=1+1"),
        (PLAIN, CUSTOMERS[1], "1", "b"),
        ("NO-SUCH-CODE", CUSTOMERS[2], "", "c"),
        ("NO-SUCH-CODE", CUSTOMERS[3], "", "d"),
        (FIRM, "nobody", "", "e"),
    ]
    path = table("pairs.csv", "coupon_value,customer_id,budget,jotting", *rows)
    done = call(
        "coupons", "reserve", path, "--out", out, "--carry", "jotting", "--spreadsheet-safe", "--pack", pack,
        "--confirm", "yes", "--json",
    )  # fmt: skip
    assert done.code == 3
    assert done.json["causes"] == {"on_hold": {"over_budget": 1}, "failed": {"not_found": 3}}
    assert done.json["failed_codes"] == {"not_found": 1}
    found = read(out)
    assert [(row["customer_id"], row["outcome"], row["reason"], row["jotting"]) for row in found] == [
        (CUSTOMERS[0], "done", "", "'=1+1"),
        (CUSTOMERS[1], "on_hold", "over_budget", "b"),
        (CUSTOMERS[2], "failed", "not_found", "c"),
        (CUSTOMERS[3], "failed", "not_found", "d"),
        ("nobody", "failed", "not_found", "e"),
    ]
    assert read(tmp_path / "who.by-code.csv")[:2] == [
        {
            "coupon_value": PLAIN, "customers": "2", "done": "1", "on_hold": "1", "failed": "0", "open": "0",
            "reasons": "over_budget", "expiry": "2999-01-01T00:00:00Z", "coupon_state": "usable",
            "redeemable_by": "anyone", "guarded_for_spreadsheets": "",
        },
        {
            "coupon_value": "NO-SUCH-CODE", "customers": "2", "done": "0", "on_hold": "0", "failed": "2", "open": "0",
            "reasons": "not_found", "expiry": "", "coupon_state": "", "redeemable_by": "",
            "guarded_for_spreadsheets": "",
        },
    ]  # fmt: skip
    shown = call("runs", "show", "latest")
    assert "over_budget" in shown.out
    assert "1 code with nothing sent: not_found" in shown.out
    assert "MAIL-" not in shown.out + shown.err + done.out + done.err
    for file in pack.iterdir():
        assert b"jotting" not in file.read_bytes(), file.name
        assert b"MAIL-" not in file.read_bytes(), file.name
    assert call("verify", pack).code == 0
    assert call("runs", "purge", "latest", "--confirm", f"purge {done.json['run_id']}").code == 0


# Budgets in the list of codes, and codes that are looked at before they are given.


def assigned(call, run="latest"):
    lines = call("runs", "subjects", run, "--format", "jsonl").out.splitlines()
    return {line["id"]: line["coupon_value"] for line in map(json.loads, lines)}


def test_a_code_goes_to_as_many_customers_as_its_budget_says(call, stocked, table, requests):
    codes = table("codes.csv", "coupon_value,budget", (PLAIN, 5), (FIRM, 0), (LATE, ""), (OLD, 70), (SPENT, "x"))
    done = call("coupons", "assign", requests, "--coupons", codes, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 12})
    found = assigned(call)
    assert [found[id_] for id_ in CUSTOMERS] == [PLAIN] * 5 + [LATE] + [OLD] * 6
    assert len(holders(stocked, PLAIN)) == 5
    # the next day: nobody gets a code that is used up, and who has one keeps it
    later = table("later.csv", "customer_id", [CUSTOMERS[0]], ["newcomer-1"], [CUSTOMERS[11]], ["newcomer-2"])
    seed(stocked.store, 2, ids=["newcomer-1", "newcomer-2"])
    done = call("coupons", "assign", later, "--coupons", codes, "--confirm", "yes", "--json")
    assert done.json["outcomes"] == {"done": 4}
    assert assigned(call) == {CUSTOMERS[0]: PLAIN, "newcomer-1": OLD, CUSTOMERS[11]: OLD, "newcomer-2": OLD}
    plan = call("coupons", "assign", later, "--coupons", codes, "--plan", codes.with_name("plan.json"), "--json").json
    assert plan["parameters"]["coupons"] == 2
    assert plan["calls"]["get_reserved_customers"] == [2, 4]


def test_a_file_that_is_read_is_never_written_over(call, stocked, customers, codes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = customers.read_bytes(), codes.read_bytes()
    for out in (customers, codes, customers.name, f"./{codes.name}"):
        done = call("coupons", "assign", customers, "--coupons", codes, "--out", out, "--confirm", "yes", "--json")
        assert (done.code, "is what is read" in done.json["error"]["message"]) == (2, True)
    pairs = tmp_path / "pairs.csv"
    assert call("coupons", "assign", customers, "--coupons", codes, "--out", pairs, "--confirm", "yes").code == 0
    assert call("coupons", "status", pairs, "--out", pairs).code == 2
    assert call("coupons", "release", pairs, "--out", pairs, "--confirm", "yes").code == 2
    assert call("coupons", "holders", codes, "--out", codes).code == 2
    assert (customers.read_bytes(), codes.read_bytes()) == before


@pytest.mark.parametrize("budget", ["-3", "2.5", "many", "99999999999999999999", " 2 "])
def test_codes_that_run_out_since_a_budget_can_not_be_used_are_said_with_the_row(
    call, stocked, table, customers, budget
):
    codes = table("codes.csv", "coupon_value,budget", (PLAIN, 2), (FIRM, budget), (LATE, budget))
    done = call("coupons", "assign", customers, "--coupons", codes, "--confirm", "yes", "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "codes_run_out")
    assert done.json["error"]["message"] == (
        "Not enough of the codes can be assigned: 2 rows can't be used, the first is row 3 (budget_not_usable). "
        "3 more are needed. Nothing was sent."
    )
    assert "Correct the list" in done.json["error"]["hint"]
    assert "the first is row 3 (budget_not_usable)" in call("coupons", "pool", codes).err


def test_codes_that_run_out_by_their_budgets_are_said_before_anything_is_read(call, stocked, table, requests):
    codes = table("codes.csv", "coupon_value,budget", (PLAIN, 5), (OLD, 4))
    done = call("coupons", "assign", requests, "--coupons", codes, "--confirm", "yes", "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "codes_run_out")
    assert "3 more are" in done.json["error"]["message"]
    assert len(stocked.log) == 0


def test_a_code_that_does_not_exist_or_that_others_have_is_skipped(call, stocked, table, customers, tmp_path):
    stocked.store.reserve(PLAIN, [CUSTOMERS[9]])
    stocked.store.reserve(OLD, CUSTOMERS[7:10])
    codes = table(
        "codes.csv", "coupon_value,budget", ("NO-SUCH-1", ""), (PLAIN, ""), (OLD, 5), ("NO-SUCH-2", 9), (FIRM, 9)
    )
    plan = tmp_path / "plan.json"
    done = call("coupons", "assign", customers, "--coupons", codes, "--plan", plan, "--json")
    assert (done.json["parameters"]["codes_unknown"], done.json["parameters"]["codes_held"]) == (2, 2)
    done = call("apply", plan, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 5})
    assert list(assigned(call).values()) == [OLD, OLD, FIRM, FIRM, FIRM]
    reads = [entry.value for entry in stocked.log if entry.operation == "get_reserved_customers"]
    assert max(reads.count(code) for code in ("NO-SUCH-1", PLAIN)) == 2  # once for the plan, once to apply it


def test_a_plan_is_stale_if_others_got_a_code_meanwhile(call, stocked, table, customers, tmp_path):
    codes = table("codes.csv", "coupon_value,budget", (PLAIN, ""), (FIRM, 9))
    plan = tmp_path / "plan.json"
    assert call("coupons", "assign", customers, "--coupons", codes, "--plan", plan).code == 0
    stocked.store.reserve(PLAIN, [CUSTOMERS[9]])
    done = call("apply", plan, "--confirm", "yes", "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "stale")
    assert holders(stocked, FIRM) == set()


def test_without_a_check_a_code_that_did_not_exist_is_replaced_the_next_time(call, stocked, table, customers):
    codes = table("codes.csv", "coupon_value", ["NO-SUCH"], *([code] for code in COUPONS))
    command = ("coupons", "assign", customers, "--coupons", codes, "--no-check", "--confirm", "yes", "--json")
    done = call(*command)
    assert (done.code, done.json["outcomes"], done.json["failed_codes"]) == (
        3, {"done": 4, "failed": 1}, {"not_found": 1},
    )  # fmt: skip
    first = assigned(call)
    done = call(*command)
    assert (done.code, done.json["outcomes"]) == (0, {"done": 5})
    assert assigned(call) == {**first, CUSTOMERS[0]: LATE}
    assert assigned(call) == assigned(call, done.json["run_id"])


def test_a_code_that_was_made_meanwhile_is_given_after_all(call, stocked, table, customers):
    codes = table("codes.csv", "coupon_value,budget", ("NEW-CODE", 5), (FIRM, 5))
    command = ("coupons", "assign", customers, "--coupons", codes, "--confirm", "yes", "--json")
    assert call(*command, "--no-check").json["outcomes"] == {"failed": 5}
    made = coupon(stocked.store.number(), "NEW-CODE", timestamp(EPOCH))
    stocked.store.put(EntityKind.COUPON, "NEW-CODE", made)
    assert call(*command).json["outcomes"] == {"done": 5}
    assert set(assigned(call).values()) == {"NEW-CODE"}


def test_where_the_codes_can_not_be_read_nothing_is_assigned(call, stocked, customers, codes, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "wrong")
    done = call("coupons", "assign", customers, "--coupons", codes, "--confirm", "yes", "--json")
    assert (done.code, done.json["error"]["code"]) == (7, "credentials")
    assert call("runs", "list", "--json").json["runs"] == []


# Redeemed or not, and the way back.


def redeem(server, customer, *codes):
    """Have a customer use coupons, as a shop does: by a session that is closed."""
    body = {"customerSession": {"profileId": customer, "couponCodes": list(codes), "state": "closed"}}
    request = urllib.request.Request(  # noqa: S310 - the sandbox
        f"{server.base_url}/v2/customer_sessions/{customer}-session",
        json.dumps(body).encode(),
        {"Authorization": "ApiKey-v1 sandbox-key", "Content-Type": "application/json"},
        method="PUT",
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the sandbox
        assert answer.status == 200


def reasons(call, run="latest"):
    lines = map(json.loads, call("runs", "subjects", run, "--format", "jsonl").out.splitlines())
    return {line["id"]: (line["outcome"], line["reason"]) for line in lines}


def test_only_what_is_certainly_not_redeemed_is_released(call, stocked, table):
    pairs = table("pairs.csv", "coupon_value,customer_id", *((FIRM, id_) for id_ in CUSTOMERS[:3]))
    assert call("coupons", "reserve", pairs, "--confirm", "yes").code == 0
    redeem(stocked, CUSTOMERS[1], FIRM)
    plan = pairs.with_name("plan.json")
    asked = call("coupons", "release", pairs, "--unredeemed", "--plan", plan, "--json").json
    assert asked["calls"]["get_customer_inventory"] == [0, 3]
    done = call("apply", plan, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"on_hold": 1, "done": 2})
    assert holders(stocked, FIRM) == {CUSTOMERS[1]}
    assert reasons(call)[CUSTOMERS[1]] == ("on_hold", "redeemed")


def test_where_the_api_does_not_tell_nothing_is_released(call, stocked, table, monkeypatch):
    pairs = table("pairs.csv", "coupon_value,customer_id", (FIRM, CUSTOMERS[0]), (FIRM, "gone"))
    seed(stocked.store, 1, ids=["gone"])
    assert call("coupons", "reserve", pairs, "--confirm", "yes").code == 0
    monkeypatch.setattr(wire, "inventory_coupon", lambda held, *_: held)  # as the API of 2020 says it
    done = call("coupons", "release", pairs, "--unredeemed", "--confirm", "yes", "--json")
    assert done.json["causes"] == {"on_hold": {"redemption_not_told": 2}}
    assert holders(stocked, FIRM) == {CUSTOMERS[0], "gone"}


def test_a_run_is_undone_but_for_what_it_did_not_do_what_was_redeemed_and_what_changed_since(
    call, stocked, table, tmp_path
):
    stocked.store.reserve(FIRM, [CUSTOMERS[0]])
    rows = [(FIRM, id_) for id_ in CUSTOMERS[:6]]
    first = call("coupons", "reserve", table("a.csv", "coupon_value,customer_id", *rows), "--confirm", "yes", "--json")
    redeem(stocked, CUSTOMERS[1], FIRM)
    stocked.store.release(FIRM, [CUSTOMERS[2]])  # by somebody else
    again = table("b.csv", "coupon_value,customer_id", (FIRM, CUSTOMERS[3]))
    assert call("coupons", "release", again, "--confirm", "yes").code == 0
    assert call("coupons", "reserve", again, "--confirm", "yes").code == 0
    run_id, plan, out = first.json["run_id"], tmp_path / "plan.json", tmp_path / "back.csv"
    asked = call("runs", "undo", run_id, "--plan", plan, "--out", out, "--json").json
    assert asked["rows"]["subjects"] == 5  # but not who had it before
    assert asked["on_hold"] == 1
    assert (asked["confirm"], asked["parameters"]["undoes"]) == ("yes", run_id)
    assert "customer-" not in plan.read_text()
    done = call("apply", plan, "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 3, "on_hold": 2})
    assert reasons(call) == {
        CUSTOMERS[1]: ("on_hold", "redeemed"),
        CUSTOMERS[2]: ("done", "not_reserved"),
        CUSTOMERS[3]: ("on_hold", "changed_since"),
        CUSTOMERS[4]: ("done", None),
        CUSTOMERS[5]: ("done", None),
    }
    assert len(read(out)) == 5
    assert holders(stocked, FIRM) == {CUSTOMERS[0], CUSTOMERS[1], CUSTOMERS[3]}
    refused = call("runs", "undo", run_id, "--confirm", "yes", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (5, "undone")
    assert call("runs", "show", run_id, "--json").json["outcomes"] == {"done": 6}  # what it did it did


def test_codes_that_were_assigned_are_free_again_once_they_are_released(call, stocked, table, customers, codes):
    command = ("coupons", "assign", customers, "--coupons", codes, "--confirm", "yes", "--json")
    run_id = call(*command).json["run_id"]
    redeem(stocked, CUSTOMERS[0], PLAIN)
    done = call("runs", "undo", "latest", "--confirm", "yes", "--json")
    assert (done.code, done.json["job"], done.json["causes"]) == (0, "release", {"on_hold": {"redeemed": 1}})
    assert [holders(stocked, code) for code in COUPONS] == [{CUSTOMERS[0]}, *[set()] * 4]
    # others get them now; not the one that was redeemed, nor those that the API showed as spent
    others = table("others.csv", "customer_id", *([id_] for id_ in CUSTOMERS[6:8]))
    assert call("coupons", "assign", others, "--coupons", codes, "--confirm", "yes", "--json").code == 0
    assert assigned(call) == {CUSTOMERS[6]: FIRM, CUSTOMERS[7]: LATE}
    kept = call(*command)  # who kept a code, or had one that is spent, has it still; two are missing for the others
    assert (kept.code, kept.json["error"]["code"]) == (2, "codes_run_out")
    assert "2 more are" in kept.json["error"]["message"]
    assert assigned(call, run_id)[CUSTOMERS[0]] == PLAIN


def test_what_can_not_be_undone_is_said(call, stocked, table, customers, codes, requests, phrase):
    pairs = table("pairs.csv", "coupon_value,customer_id", (FIRM, CUSTOMERS[0]))
    assert call("coupons", "release", pairs, "--confirm", "yes").code == 0
    done = call("runs", "undo", "latest", "--confirm", "yes", "--json")
    assert (done.code, "reserved nothing" in done.json["error"]["message"]) == (2, True)
    assert call("runs", "undo", "nobody", "--confirm", "yes", "--json").code == 2
    run_id = call("coupons", "reserve", pairs, "--confirm", "yes", "--json").json["run_id"]
    assert call("runs", "undo", run_id, "--json").json["error"]["code"] == "confirmation_missing"
    assert holders(stocked, FIRM) == {CUSTOMERS[0]}
    assert call("runs", "purge", run_id, "--confirm", f"purge {run_id}").code == 0
    assert call("runs", "undo", run_id, "--confirm", "yes", "--json").json["error"]["code"] == "purged"


def test_a_run_that_was_undone_does_not_go_on(call, stocked, table, tmp_path):
    pairs = table("pairs.csv", "coupon_value,customer_id", *((code, id_) for code in COUPONS for id_ in CUSTOMERS))
    done = call("coupons", "reserve", pairs, "--until", "0s", "--confirm", "yes", "--json")
    if done.json["verdict"] != "stopped":
        pytest.fail(done.out)
    run_id = done.json["run_id"]
    planned = call("runs", "undo", run_id, "--plan", tmp_path / "back.json", "--json")
    assert "undoes_open" in {one["code"] for one in planned.json["warnings"]}
    undone = call("runs", "undo", run_id, "--confirm", "yes", "--json")
    assert undone.code == 0
    refused = call("runs", "resume", run_id, "--json")
    assert (refused.json["exit_code"], refused.json["error"]["code"]) == (5, "undone")
    assert refused.json["next"] == ""  # it never goes on
    assert "Next:" not in call("runs", "resume", run_id).out


def test_a_complete_run_that_was_undone_hands_its_codes_over_no_more(call, stocked, table, tmp_path):
    mail, codes = tmp_path / "mail.csv", table("codes.csv", "coupon_value", (FIRM,))
    words = ("coupons", "assign", table("one.csv", "customer_id", (CUSTOMERS[0],)), "--coupons", codes)
    run_id = call(*words, "--out", mail, "--preset", "braze", "--confirm", "yes", "--json").json["run_id"]
    undone = call("runs", "undo", run_id, "--confirm", "yes")
    assert f"The list of that run is still there, and its codes are released: {mail}" in undone.err
    mail.unlink()
    refused = call("runs", "resume", run_id, "--json")
    assert (refused.code, refused.json["error"]["code"]) == (5, "undone")
    assert not mail.exists()


# What is left.


def test_the_pool_says_what_is_left_and_when_that_is_little(call, stocked, table, customers):
    stocked.store.reserve(FIRM, CUSTOMERS[7:9])
    codes = table(
        "codes.csv", "coupon_value,budget", (OLD, ""), (PLAIN, 3), (FIRM, 5), ("NO-SUCH", 9), (LATE, ""), (" X", 1)
    )
    before = call("coupons", "pool", codes, "--json")
    assert (before.code, before.json) == (0, {
        "codes": 5, "rejected": 1, "places": 19, "assigned": 0, "held": 2, "free": 8, "missing": 1, "expired": 0,
        "low": False,
    })  # fmt: skip
    assert call("coupons", "assign", customers, "--coupons", codes, "--confirm", "yes").code == 0
    after = call("coupons", "pool", codes, "--low", "4", "--json")
    assert (after.code, after.json) == (3, {
        "codes": 5, "rejected": 1, "places": 19, "assigned": 5, "held": 2, "free": 3, "missing": 1, "expired": 1,
        "low": True,
    })  # fmt: skip
    shown = call("coupons", "pool", codes, "--low", "4")
    assert "LOW" in shown.err
    assert "1  code last shown as expired or used up" in shown.out
    assert "MAIL-" not in shown.out + shown.err
    assert call("coupons", "pool", codes, "--low", "3").code == 0
    assert {entry.operation for entry in stocked.log if entry.acted} <= {READ, "create_coupon_reservation"}


def test_a_pool_that_can_not_be_read_is_none(call, stocked, table, monkeypatch):
    done = call("coupons", "pool", table("codes.csv", "code", [PLAIN]), "--json")
    assert (done.code, "coupon_value" in done.json["error"]["message"]) == (2, True)
    monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "wrong")
    done = call("coupons", "pool", table("codes.csv", "coupon_value", [PLAIN]), "--json")
    assert (done.code, done.json["error"]["code"]) == (7, "credentials")


def test_the_status_says_who_has_redeemed_their_coupon(call, stocked, customers, codes, tmp_path, monkeypatch):
    mail, out = tmp_path / "mail.csv", tmp_path / "status.csv"
    call("coupons", "assign", customers, "--coupons", codes, "--out", mail, "--carry", "email", "--confirm", "yes")
    redeem(stocked, CUSTOMERS[0], PLAIN)
    redeem(stocked, CUSTOMERS[1], OLD)
    stocked.store.release(FIRM, [CUSTOMERS[3]])
    with mail.open("a", encoding="utf-8") as file:
        file.write(f"nobody,{PLAIN},done,,,,,x\n,{PLAIN},done,,,,,x\n")
    done = call("coupons", "status", mail, "--out", out, "--carry", "email", "--json")
    assert (done.code, done.json) == (3, {
        "read": 6, "rejected": 1, "duplicates": 0, "out": str(out),
        "counts": {"redeemed": 2, "not_redeemed": 2, "no_profile": 1, "not_shown": 1, "not_told": 0},
    })  # fmt: skip
    found = {row["customer_id"]: row for row in read(out)}
    assert [(found[one]["redeemed"], found[one]["reason"], found[one]["coupon_state"]) for one in CUSTOMERS[:5]] == [
        ("yes", "", "used_up"),
        ("yes", "", "expired"),
        ("no", "", "used_up"),
        ("", "not_shown", ""),
        ("no", "", "not_started"),
    ]
    assert (found["nobody"]["redeemed"], found["nobody"]["reason"]) == ("", "no_profile")
    assert found[CUSTOMERS[0]]["email"] == f"{CUSTOMERS[0]}@example.org"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    monkeypatch.setattr(wire, "inventory_coupon", lambda held, *_: held)  # as the API of 2020 says it
    counts = call("coupons", "status", mail, "--json").json["counts"]
    assert counts == {"redeemed": 0, "not_redeemed": 1, "no_profile": 1, "not_shown": 1, "not_told": 3}
    shown = call("coupons", "status", mail)
    assert "not_redeemed" in shown.out
    assert "MAIL-" not in shown.out + shown.err
    assert "customer-" not in shown.out + shown.err
    assert call("coupons", "status", mail, "--carry", "email", "--json").code == 2


def test_release_writes_a_file_too_and_parquet_is_one(call, stocked, customers, codes, tmp_path):
    out = tmp_path / "mail.parquet"
    call("coupons", "assign", customers, "--coupons", codes, "--out", out, "--carry", "email", "--confirm", "yes")
    back = tmp_path / "back.csv"
    done = call("coupons", "release", out, "--out", back, "--carry", "email", "--confirm", "yes", "--json")
    assert (done.code, done.json["out"]["rows"]) == (0, 5)
    assert [(row["outcome"], row["email"]) for row in read(back)][:1] == [("done", f"{CUSTOMERS[0]}@example.org")]
    assert (tmp_path / "mail.by-code.parquet").exists()


def test_the_library_writes_the_same(stocked, customers, codes, tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", str(tmp_path / "state"))
    out = tmp_path / "mail.csv"
    planned = Toolkit().plan("assign", customers, second=codes, out=out, preset="braze", carry="name")
    run = planned.apply(confirm="yes")
    run.raise_for_status()
    assert [row["external_id"] for row in read(out)] == [CUSTOMERS[0], CUSTOMERS[3], CUSTOMERS[4]]
    back = Toolkit().undo(run.id, out=tmp_path / "back.csv")
    assert (back.preview.rows.subjects, back.preview.confirm) == (5, "yes")
    back.apply(confirm="yes").raise_for_status()
    assert not any(holders(stocked, code) for code in COUPONS)
    assert len(read(tmp_path / "back.csv")) == 5
    assert Toolkit().pool(codes).free == 3  # of five codes the API showed two as spent
    assert Toolkit().redemptions(tmp_path / "back.csv", out=tmp_path / "x.csv").counts["not_shown"] == 5


def test_the_sandbox_has_codes_of_every_kind_to_try_this_with(call, stocked, requests, tmp_path):
    codes, out = tmp_path / "codes.csv", tmp_path / "mail.csv"
    made = seed_codes(stocked.store, 40)
    assert seed_codes(stocked.store, 40) == made
    codes.write_text("coupon_value\n" + "\n".join(made) + "\n")
    pool = call("coupons", "pool", codes, "--json").json
    assert (pool["codes"], pool["held"], pool["free"], pool["missing"]) == (40, 4, 36, 0)
    done = call("coupons", "assign", requests, "--coupons", codes, "--out", out, "--confirm", "yes", "--json")
    assert done.json["outcomes"] == {"done": 12}
    assert [row["coupon_state"] for row in read(out)].count("usable") == 10
    assert {row["redeemable_by"] for row in read(out)} == {"anyone", "holders"}
    assert call("coupons", "pool", codes, "--json").json["expired"] == 2
