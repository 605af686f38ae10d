import json
import os
import stat

import pytest


@pytest.fixture
def plan(call, server, requests, tmp_path):
    path = tmp_path / "plan.json"
    done = call("erase", requests, "--plan", path, "--json")
    assert done.code == 0, done.err
    assert len(server.log) == 0
    return path


def test_a_plan_is_written_and_nothing_is_sent(call, server, plan, phrase, requests):
    done = call("erase", requests, "--plan", plan, "--json")
    assert done.json["confirm"] == phrase
    assert done.json["rows"]["subjects"] == 12
    assert call("runs", "list", "--json").json == {"runs": []}
    assert "customer-0" not in plan.read_text()


def test_apply_does_exactly_the_plan(call, server, plan, phrase):
    done = call("apply", plan, "--confirm", phrase, "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 12})


def test_apply_shows_what_the_plan_showed_in_the_same_order(call, server, requests, tmp_path, phrase):
    (tmp_path / "pairs.csv").write_text("Code,Kunde\nNO-SUCH-1,customer-00001\n")
    columns = ["--column", "coupon_value=Code", "--column", "customer_id=Kunde"]
    for words, said in (
        (["erase", requests], phrase),
        (["coupons", "reserve", tmp_path / "pairs.csv", *columns, "--max-per-coupon", "5"], "yes"),
    ):
        planned = call(*words, "--plan", tmp_path / "p.json").err.splitlines()
        applied = call("apply", tmp_path / "p.json", "--confirm", said).err.splitlines()
        shown = [line for line in planned if line.startswith("  ")]
        assert shown == [line for line in applied if line in shown]
        (tmp_path / "p.json").unlink()
    assert "  Read as   customer_id = 'Kunde', coupon_value = 'Code'" in shown


def test_apply_needs_the_confirmation_too(call, server, plan):
    assert call("apply", plan, "--json").code == 2
    assert call("apply", plan, "--confirm", "yes", "--json").code == 2
    assert len(server.log) == 0


def test_a_plan_is_applied_once(call, server, plan, phrase):
    assert call("apply", plan, "--confirm", phrase, "--json").code == 0
    done = call("apply", plan, "--confirm", phrase, "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "applied")


def test_a_changed_input_makes_the_plan_stale(call, server, plan, phrase, requests):
    requests.write_text(requests.read_text() + "one-more\n")
    done = call("apply", plan, "--confirm", phrase, "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "stale")
    assert len(server.log) == 0


def test_a_changed_exclusion_list_makes_the_plan_stale(call, server, requests, tmp_path, phrase):
    holds, plan = tmp_path / "holds.csv", tmp_path / "p.json"
    holds.write_text("customer_id,reason\ncustomer-00001,identity\n")
    assert call("erase", requests, "--exclude", holds, "--plan", plan, "--json").json["on_hold"] == 1
    holds.write_text("customer_id,reason\n")
    done = call("apply", plan, "--confirm", phrase, "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "stale")


def test_who_is_on_the_exclusion_list_in_another_spelling_is_pointed_out_even_quietly(call, requests, tmp_path, phrase):
    holds = tmp_path / "holds.csv"
    holds.write_text("customer_id,reason\nCUSTOMER-00001,identity\ncustomer-00002,identity\n")
    done = call("erase", requests, "--exclude", holds, "--plan", tmp_path / "p.json", "--json", "--quiet")
    assert (done.json["on_hold"], [one["code"] for one in done.json["warnings"]]) == (1, ["nearly_held"])
    assert "customer-0" not in done.out.lower()
    done = call("erase", requests, "--exclude", holds, "--confirm", phrase.replace("12", "11"), "--quiet")
    assert "Warning: 1 subject would be on hold if" in done.err


def test_an_edited_plan_is_refused(call, server, plan, phrase):
    edited = json.loads(plan.read_bytes())
    edited["rows"]["subjects"] = 13
    plan.write_text(json.dumps(edited))
    done = call("apply", plan, "--confirm", phrase, "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "refused")


@pytest.mark.parametrize(
    ("name", "value"), [("BASE_URL", "http://127.0.0.1:9"), ("BASE_URL", "{}/other"), ("ENVIRONMENT", "sandbox")]
)
def test_a_plan_for_another_target_is_refused(call, server, plan, phrase, monkeypatch, name, value):
    monkeypatch.setenv(f"PRIVACY_TOOLKIT_{name}", value.format(server.base_url))
    done = call("apply", plan, "--confirm", phrase, "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "other_target")
    assert len(server.log) == 0


def test_a_plan_is_for_a_deployment_however_that_is_written_and_labelled(call, server, plan, phrase, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_APPLICATION", "Other")
    monkeypatch.setenv("PRIVACY_TOOLKIT_BASE_URL", server.base_url.replace("127.0.0.1", "LOCALHOST") + "/")
    done = call("apply", plan, "--confirm", phrase, "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 12})


def test_what_is_no_plan_is_a_usage_error(call, server, requests, tmp_path):
    assert call("apply", requests, "--confirm", "x", "--json").code == 2
    assert call("apply", tmp_path / "nope", "--confirm", "x", "--json").code == 2


def test_standard_input_can_not_be_planned(call, server, requests, tmp_path):
    done = call("erase", "-", "--plan", tmp_path / "p.json", "--json", stdin=requests.read_text())
    assert done.code == 2
    assert not (tmp_path / "p.json").exists()


# What is written takes the place of nothing but what it is.


def test_a_plan_does_not_take_the_place_of_the_list_that_it_is_made_of(call, server, requests, tmp_path):
    before = requests.read_bytes()
    done = call("erase", requests, "--plan", requests)
    assert (done.code, requests.read_bytes()) == (2, before)
    assert "is no plan" in done.err
    plan = tmp_path / "plan.json"
    for _ in range(2):  # an earlier plan is replaced
        assert call("erase", requests, "--plan", plan).code == 0


def test_nothing_takes_the_place_of_a_pipe_or_a_device(call, server, requests, tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    (tmp_path / "codes.csv").write_text("coupon_value\nSUMMER\n")
    for given in (("erase", requests, "--plan"), ("coupons", "holders", tmp_path / "codes.csv", "--out")):
        done = call(*given, pipe)
        assert done.code == 2
        assert "pipe" in done.err.replace(str(pipe), "")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_place_in_which_others_could_swap_files_is_warned_of(call, server, requests, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    warning = f"everyone can write {shared} (chmod o-w {shared})"
    planned = call("erase", requests, "--plan", shared / "plan.json", "--json")
    assert planned.code == 0
    assert warning in planned.err
    exported = call("export", requests, "--out", shared / "packages", "--plan", tmp_path / "export.json")
    assert warning in exported.err
    assert warning in call("apply", tmp_path / "export.json").err
    assert warning not in call("erase", requests, "--plan", tmp_path / "plan.json").err
