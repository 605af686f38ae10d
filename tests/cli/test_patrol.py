"""Patrols from the command line: who was erased is looked at again, by a schedule, and erased again if seen."""

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from tests.cli.conftest import CUSTOMERS
from tests.support.shop import write_profile

BACK = CUSTOMERS[2:5]


def in_days(days):
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


@pytest.fixture
def shop(server):
    """Writes a profile, as a shop does that knows of no erasure."""
    return partial(write_profile, server.base_url)


@pytest.fixture
def erased(call, server, requests, phrase):
    """A run that erased all customers, on a deployment with a control profile."""
    assert call("controls", "create", "--confirm", "yes").code == 0
    done = call("erase", requests, "--confirm", phrase, "--json")
    assert done.code == 0, done.err
    return done.json["run_id"]


def patrol(call, *arguments):
    return call("patrol", *arguments, "--json", "--progress", "none")


def test_nothing_is_due_on_the_day_of_the_erasure(call, erased):
    done = patrol(call)
    assert (done.code, done.json["runs"], done.json["next_on"]) == (0, 0, in_days(1))
    due = patrol(call, "--due").json
    assert [(look["run_id"], look["after_days"], look["is_due"]) for look in due["looks"]] == [(erased, 1, False)]


def test_all_are_still_gone_and_the_pack_names_the_pack_that_it_rechecks(call, erased, tmp_path):
    done = patrol(call, "--as-of", in_days(30))
    assert done.code == 0, done.out
    assert (done.json["still_gone"], done.json["reappeared"], done.json["not_read"]) == (12, 0, 0)
    (run,) = done.json["patrols"]
    assert (run["job"], run["verdict"], run["outcomes"]) == ("patrol", "complete", {"done": 12})
    packs = tmp_path / "state" / "packs"
    recheck = json.loads((packs / run["run_id"] / "report.json").read_text())["recheck"]
    lines = (packs / erased / "checkpoint.txt").read_text().splitlines()
    assert (recheck["run_id"], recheck["after_days"], recheck["as_of"]) == (erased, 30, in_days(30))
    assert (recheck["pack_number"], recheck["erased"], recheck["sample"]) == (1, 12, None)
    assert base64.b64decode(lines[2]).hex() == recheck["pack_root"]
    assert call("verify", packs / run["run_id"], "--chain", packs).code == 0
    page = (packs / run["run_id"] / "report.html").read_text()
    assert erased in page
    assert f"as of {in_days(30)}" in page
    assert "customers are still gone" in page
    assert not any(one in page for one in CUSTOMERS)


def test_each_look_is_taken_once(call, erased):
    assert patrol(call, "--as-of", in_days(7)).json["runs"] == 1
    again = patrol(call, "--as-of", in_days(8)).json
    assert (again["runs"], again["next_on"]) == (0, in_days(30))
    assert patrol(call, "--as-of", in_days(30)).json["runs"] == 1
    assert patrol(call, "--as-of", in_days(90)).json["runs"] == 1
    last = patrol(call, "--as-of", in_days(400)).json
    assert (last["runs"], last["next_on"]) == (0, None)
    # Those looked on another day than they were asked for: none of them counts for who asks for today.
    assert patrol(call, "--due").json["next_on"] == in_days(1)


def test_who_reappears_is_named_erased_again_and_seen_to_be_gone(call, erased, shop, server, tmp_path):
    for customer in BACK[:2]:
        shop(customer, {"Name": "somebody"})
    shop(BACK[2], {})  # a profile without attributes, where there was none any more
    done = patrol(call, "--as-of", in_days(1))
    assert (done.code, done.json["reappeared"], done.json["still_gone"]) == (3, 3, 9)
    assert done.json["next"] == f"privacy-toolkit erase --reappeared {done.json['patrols'][0]['run_id']} --plan FILE"
    run_id = done.json["patrols"][0]["run_id"]
    listed = call("runs", "subjects", run_id, "--format", "jsonl", "--outcome", "reappeared").out
    found = [json.loads(line) for line in listed.splitlines()]
    assert [one["id"] for one in found] == BACK
    assert [(one["held_before"], one["reason"]) for one in found] == [
        ("visible", None),
        ("visible", None),
        ("none_visible", "listed_again"),
    ]
    assert "patrol" in call("runs", "list").out
    page = (tmp_path / "state" / "packs" / run_id / "report.html").read_text()
    assert "3 of 12 subjects have reappeared." in page

    plan = tmp_path / "again.json"
    made = call("erase", "--reappeared", run_id, "--plan", plan, "--json")
    assert made.code == 0, made.out
    sentence = f"erase 3 from {server.base_url.removeprefix('http://')}"
    assert made.json["confirm"] == sentence
    again = call("apply", plan, "--confirm", sentence, "--json")
    assert (again.code, again.json["outcomes"]) == (0, {"erased": 3})

    closed = patrol(call, "--as-of", in_days(1))
    assert (closed.code, closed.json["reappeared"], closed.json["patrols"][0]["run_id"]) == (0, 0, run_id)
    assert call("erase", "--reappeared", run_id, "--plan", plan, "--json").code == 2
    packs = tmp_path / "state" / "packs"
    done = json.loads((packs / run_id / "report.json").read_text())["done"]
    assert {one["reason"]: one["count"] for one in done} == {"still_gone": 9, "gone_again": 3}
    assert call("verify", packs / run_id, "--chain", packs).code == 0


def test_all_who_reappeared_are_taken_from_every_patrol(call, erased, shop, tmp_path):
    shop(BACK[0], {"Name": "somebody"})
    assert patrol(call, erased).code == 3
    shop(BACK[1], {"Name": "somebody"})
    assert patrol(call, erased).json["reappeared"] == 2
    made = call("erase", "--reappeared", "all", "--plan", tmp_path / "again.json", "--json").json
    assert (made["rows"]["subjects"], made["rows"]["duplicates"]) == (2, 1)
    refused = call("erase", "--reappeared", erased, "--plan", tmp_path / "other.json", "--json")
    assert (refused.code, refused.json["error"]["message"]) == (2, f"Run {erased} is no patrol.")


def test_a_person_taken_off_the_list_is_looked_at_no_more(call, erased, shop, tmp_path):
    (tmp_path / "one.txt").write_text(BACK[0] + "\n")
    shop(BACK[0], {"Name": "a customer again"})
    removed = "suppression", "remove", "--id-file", tmp_path / "one.txt", "--reason", "Came back", "--confirm", "yes"
    assert call(*removed).code == 0
    done = patrol(call, "--as-of", in_days(1)).json
    assert (done["still_gone"], done["reappeared"], done["on_hold"]) == (11, 0, 1)


def test_a_sample_is_drawn_and_told(call, erased, tmp_path):
    done = patrol(call, "--as-of", in_days(1), "--sample", "5").json
    assert (done["still_gone"], done["patrols"][0]["rows"]["subjects"]) == (5, 5)
    report = tmp_path / "state" / "packs" / done["patrols"][0]["run_id"] / "report.json"
    recheck = json.loads(report.read_text())["recheck"]
    assert (recheck["sample"], recheck["erased"]) == (5, 12)


def test_the_schedule_is_the_profile_s(call, erased, tmp_path):
    config = tmp_path / "privacy-toolkit.toml"
    config.write_text("[patrol]\ndays = [2, 14]\nsample = 3\n")
    done = patrol(call, "--as-of", in_days(2), "--config", config).json
    assert (done["still_gone"], done["next_on"]) == (3, in_days(14))
    config.write_text("[patrol]\ndays = [0]\n")
    assert patrol(call, "--config", config).code == 2


def test_once_purged_a_list_says_whom_to_look_at(call, erased, shop, table, tmp_path):
    shop(BACK[0], {"Name": "somebody"})
    assert call("runs", "purge", erased, "--confirm", f"purge {erased}").code == 0
    done = patrol(call, "--as-of", in_days(7))
    assert (done.code, done.json["runs"], done.json["need_a_list"]) == (0, 0, 1)
    refused = patrol(call, erased)
    assert (refused.code, refused.json["error"]["code"]) == (5, "purged")
    fresh = table("fresh.csv", "customer_id", [BACK[0]], [BACK[1]], ["somebody-else"])
    done = patrol(call, erased, "--list", fresh, "--as-of", in_days(7))
    assert (done.code, done.json["reappeared"], done.json["still_gone"], done.json["on_hold"]) == (3, 1, 1, 1)
    assert done.json["need_a_list"] == 0
    run_id = done.json["patrols"][0]["run_id"]
    recheck = json.loads((tmp_path / "state" / "packs" / run_id / "report.json").read_text())["recheck"]
    assert (recheck["run_id"], recheck["listed"], recheck["pack_number"]) == (erased, True, 1)
    assert call("erase", "--reappeared", run_id, "--plan", tmp_path / "p.json", "--json").json["rows"]["subjects"] == 1
    unnamed = patrol(call, "--list", fresh).json["patrols"][0]["run_id"]
    recheck = json.loads((tmp_path / "state" / "packs" / unnamed / "report.json").read_text())["recheck"]
    assert (recheck["run_id"], recheck["pack_root"]) == (None, None)


def test_without_a_profile_that_must_be_visible_nobody_is_looked_at(call, server, requests, phrase):
    run_id = call("erase", requests, "--confirm", phrase, "--json").json["run_id"]
    done = patrol(call, run_id)
    assert (done.code, done.json["error"]["code"]) == (2, "no_control")


def test_a_patrol_needs_no_approval_and_an_erasure_after_it_does(call, erased, shop, server, tmp_path):
    shop(BACK[0], {"Name": "somebody"})
    config = tmp_path / "privacy-toolkit.toml"
    (tmp_path / "signers").write_text("")
    config.write_text(f'[profiles.default]\napproval = "required"\nallowed_signers = "{tmp_path / "signers"}"\n')
    done = patrol(call, erased, "--config", config)
    assert (done.code, done.json["reappeared"]) == (3, 1)
    sentence = f"erase 1 from {server.base_url.removeprefix('http://')}"
    run_id = done.json["patrols"][0]["run_id"]
    again = call("erase", "--reappeared", run_id, "--confirm", sentence, "--config", config, "--json")
    assert (again.code, again.json["error"]["code"]) == (5, "not_approved")


def test_the_register_counts_an_erasure_after_a_patrol_as_no_request(call, erased, shop, server):
    shop(BACK[0], {"Name": "somebody"})
    run_id = patrol(call, erased).json["patrols"][0]["run_id"]
    sentence = f"erase 1 from {server.base_url.removeprefix('http://')}"
    assert call("erase", "--reappeared", run_id, "--confirm", sentence).code == 0
    assert len(call("register", "--json").json["requests"]) == 12


def test_what_is_said_at_a_terminal(call, erased, shop):
    shop(BACK[0], {"Name": "somebody"})
    due = call("patrol", "--due", "--as-of", in_days(3))
    assert (due.code, "1 look due, the next on" in due.out) == (0, True)
    done = call("patrol", "--as-of", in_days(3), "--quiet")
    assert done.code == 3
    assert "1 patrol: 11 still gone, 1 reappeared." in done.out
    assert "privacy-toolkit erase --reappeared" in done.out
    assert not any(one in done.out + done.err for one in CUSTOMERS)


@pytest.mark.parametrize("given", [("--as-of", "31.12.2026"), ("--due", "--sample", "3"), ("--notify",), ("nothing",)])
def test_what_can_t_be_meant_is_refused(call, erased, given):
    assert patrol(call, *given).code == 2


def test_an_erasure_takes_a_list_or_a_patrol(call, server, requests, tmp_path):
    both = call("erase", requests, "--reappeared", "all", "--plan", tmp_path / "p.json", "--json")
    neither = call("erase", "--plan", tmp_path / "p.json", "--json")
    assert (both.code, neither.code) == (2, 2)
    nobody = call("erase", "--reappeared", "all", "--plan", tmp_path / "p.json", "--json")
    assert nobody.json["error"]["message"] == "Nobody stands as reappeared in any patrol."


# A letter tells what one run observed; the toolkit must not write what another run of it has shown to be over.


def test_nobody_who_was_seen_again_is_told_that_all_is_gone_until_it_is(call, erased, shop, server, tmp_path):
    templates = tmp_path / "templates"
    call("letters", "init", templates)
    settings = templates / "letters.toml"
    settings.write_text(settings.read_text().replace("FILL IN", "Example"))

    def letters(name):
        done = call("letters", erased, "--out", tmp_path / name, "--templates", templates, "--json")
        return done.json["letters"], done.json["without"]

    assert letters("before") == ({"erased": 12}, {})
    for customer in BACK[:2]:
        shop(customer, {"Name": "somebody"})
    looked = patrol(call, erased).json["patrols"][0]["run_id"]
    assert letters("seen") == ({"erased": 10}, {"reappeared": 2})
    index = (tmp_path / "seen" / "index.csv").read_text()
    assert not any(customer in index for customer in BACK[:2])
    sent = call("letters", erased, "--sent", "--all", "--json").json
    assert (sent["recorded"], sent["waiting"]) == (10, 2)
    sentence = f"erase 2 from {server.base_url.removeprefix('http://')}"
    assert call("erase", "--reappeared", looked, "--confirm", sentence).code == 0
    assert letters("after") == ({"erased": 12}, {})


def test_nobody_is_told_to_wait_whom_a_later_run_has_erased(call, server, requests, phrase, tmp_path):
    templates = tmp_path / "templates"
    call("letters", "init", templates)
    settings = templates / "letters.toml"
    settings.write_text(settings.read_text().replace("FILL IN", "Example"))
    first = call("erase", requests, "--confirm", phrase, "--until", "0s", "--json").json["run_id"]
    assert call("erase", requests, "--confirm", phrase).code == 0
    done = call("letters", first, "--out", tmp_path / "out", "--templates", templates, "--with-open", "--json")
    assert (done.json["letters"], done.json["without"]) == ({}, {"taken_over": 12})
