import json

import pytest

OUTCOME_KEYS = {"run_id", "job", "target", "verdict", "exit_code", "rows", "outcomes", "pack", "next"}


def test_an_erasure_prints_exactly_the_promised_object(call, server, requests, phrase):
    done = call("erase", requests, "--confirm", phrase, "--json")
    assert done.code == 0, done.err
    assert set(done.json) == OUTCOME_KEYS
    assert done.json["job"] == "erase"
    assert done.json["verdict"] == "complete"
    assert done.json["outcomes"] == {"erased": 12}
    assert done.json["next"] == ""
    assert len(done.out.splitlines()) == 1


def test_without_a_terminal_and_without_a_confirmation_it_ends_at_once(call, server, requests):
    done = call("erase", requests)
    assert (done.code, done.out) == (2, "")
    assert "confirm" in done.err
    assert len(server.log) == 0


@pytest.mark.parametrize("text", ["yes", "", "erase 11 from {target}", "erase 12 from elsewhere", "erase 12"])
def test_a_wrong_confirmation_sends_nothing_and_leaves_no_run(call, server, requests, text):
    target = server.base_url.removeprefix("http://")
    done = call("erase", requests, "--confirm", text.format(target=target), "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "not_confirmed")
    assert len(server.log) == 0
    assert call("runs", "list", "--json").json == {"runs": []}


def test_there_is_no_yes(call, server, requests):
    done = call("erase", requests, "--yes", "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "usage")


def test_ids_can_come_from_standard_input(call, server, phrase, requests):
    done = call("erase", "-", "--confirm", phrase, "--json", stdin=requests.read_text())
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 12})


def test_limit_takes_the_first_subjects_only(call, server, requests, phrase):
    done = call("erase", requests, "--limit", "5", "--confirm", phrase.replace("erase 12", "erase 5"), "--json")
    assert done.json["outcomes"] == {"erased": 5}
    assert len(server.log.of("delete_customer_data")) == 5


def test_for_people_the_result_is_on_stdout_and_the_rest_on_stderr(call, server, requests, phrase):
    done = call("erase", requests, "--confirm", phrase)
    assert "Complete: all 12 subjects settled." in done.out
    assert "report.html" in done.out
    assert "Erase 12 customers from" in done.err
    assert "customer-0" not in done.out + done.err


def test_quiet_leaves_stderr_empty(call, server, requests, phrase):
    done = call("erase", requests, "--confirm", phrase, "--quiet")
    assert (done.code, done.err) == (0, "")


def test_the_pack_can_be_written_elsewhere(call, server, requests, phrase, tmp_path):
    done = call("erase", requests, "--confirm", phrase, "--json", "--pack", tmp_path / "pack")
    assert done.json["pack"] == str(tmp_path / "pack")
    assert json.loads((tmp_path / "pack" / "report.json").read_bytes())["run_id"] == done.json["run_id"]


def test_the_application_label_is_part_of_the_target(call, server, requests, phrase, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_APPLICATION", "Shop")
    assert call("erase", requests, "--confirm", phrase, "--json").code == 2
    done = call("erase", requests, "--confirm", f"{phrase}/Shop", "--json")
    assert (done.code, done.json["target"].endswith("/Shop")) == (0, True)


def test_plain_http_is_refused_except_on_loopback(call, requests, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_BASE_URL", "http://talon.example.org")
    monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "k")
    done = call("erase", requests, "--confirm", "erase 12 from talon.example.org", "--json")
    assert done.code == 2
    assert "http" in done.json["error"]["message"]
    assert call("runs", "list", "--json").json == {"runs": []}


@pytest.mark.parametrize("missing", ["PRIVACY_TOOLKIT_BASE_URL", "PRIVACY_TOOLKIT_API_KEY"])
def test_a_missing_setting_is_said_before_anything_happens(call, server, requests, phrase, monkeypatch, missing):
    monkeypatch.delenv(missing)
    done = call("erase", requests, "--confirm", phrase, "--json")
    assert done.code == 2
    assert call("runs", "list", "--json").json == {"runs": []}


@pytest.mark.parametrize(
    "content", ["", "name\nx\n", "customer_id,a\n1,2,3\n", "customer_id,customer_id\n1,2\n", 'customer_id\n"x\n']
)
def test_a_file_that_can_not_be_read_is_one_sentence_and_nothing_is_sent(call, server, tmp_path, phrase, content):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    done = call("erase", path, "--confirm", phrase)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert done.err.startswith("Error: ")
    assert len(server.log) == 0


def test_a_missing_file_is_said(call, server, phrase, tmp_path):
    done = call("erase", tmp_path / "nope.csv", "--confirm", phrase, "--json")
    assert (done.code, set(done.json)) == (2, {"error"})
    assert set(done.json["error"]) == {"code", "message", "hint"}


@pytest.mark.parametrize(
    "options",
    [("--until", "soon"), ("--max-failures", "x"), ("--verify", "some"), ("--rate", "0"), ("--concurrency", "0")],
)
def test_an_option_that_makes_no_sense_sends_nothing(call, server, requests, phrase, options):
    done = call("erase", requests, "--confirm", phrase, "--json", *options)
    assert done.code == 2
    assert len(server.log) == 0
    assert call("runs", "list", "--json").json == {"runs": []}


# Those who asked for a copy of their data have to have it before they are erased.


def test_who_waits_for_an_access_package_is_pointed_out_before_they_are_erased(call, requests, phrase, tmp_path):
    warned = "12 customers of this list asked for access, and that is not finished"
    export = ("export", requests, "--out", tmp_path / "packages")
    assert call(*export, "--until", "0s").code == 4
    plan = ("erase", requests, "--plan", tmp_path / "plan.json")
    assert warned in call(*plan).err
    (told,) = call(*plan[:-1], tmp_path / "another.json", "--json").json["warnings"]
    assert told["code"] == "access_open"
    quiet = call("apply", tmp_path / "plan.json", "--confirm", phrase, "--until", "0s", "--quiet")
    assert warned in quiet.err
    assert call(*export).code == 0
    assert "asked for access" not in call(*plan[:-1], tmp_path / "third.json").err
