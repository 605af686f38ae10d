import json
import subprocess
import sys

import click
import pytest

from privacy_toolkit.cli.main import COMMANDS, cli


def test_inspect_says_row_by_row_what_would_be_taken(call, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("id,customer_id\n1,a\n2,\n3,a\n4, b\n")
    lines = [json.loads(line) for line in call("inspect", path, "--format", "jsonl").out.splitlines()]
    assert [(line["row"], line["id"], line["status"]) for line in lines] == [
        (2, "a", "accepted"),
        (3, "", "rejected"),
        (4, "a", "duplicate"),
        (5, " b", "rejected"),
    ]
    assert [line["reason"] for line in lines] == [None, "blank", None, "surrounding_whitespace"]


def test_inspect_sums_up(call, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("customer_id\na\n\na\n")
    done = call("inspect", path, "--json")
    assert done.json["rows"] == {"read": 3, "rejected": 1, "duplicates": 1, "subjects": 1}
    assert "3 rows = 1 rejected + 1 duplicate + 1 subject" in call("inspect", path).out


def test_inspect_needs_no_settings_and_makes_no_state(call, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("customer_id\na\n")
    assert call("inspect", path).code == 0
    assert not (tmp_path / "state").exists()


def test_the_demo_ends_with_a_report_whose_sums_add_up(call, tmp_path):
    done = call("demo", "--out", tmp_path / "demo", "--customers", "60", "--json")
    assert done.code == 0, done.err
    rows, outcomes = done.json["rows"], done.json["outcomes"]
    assert rows["read"] == rows["rejected"] + rows["duplicates"] + rows["subjects"]
    assert rows["subjects"] == sum(outcomes.values())
    assert (rows["rejected"], rows["duplicates"]) == (4, 9)
    assert (outcomes["on_hold"], outcomes["nothing_held"]) == (5, 11)


def test_the_overview_names_each_command_as_the_command_does():
    for name, (_, line) in COMMANDS.items():
        command = cli.get_command(click.Context(cli), name)
        assert command.help, name
        assert line.endswith("."), name


def test_a_wrong_option_with_json_is_one_object(call):
    done = call("inspect", "--nope", "--json")
    assert (done.code, set(done.json)) == (2, {"error"})


def test_no_command_prints_the_overview_and_is_a_usage_error(call):
    assert call().code == 2


def test_a_bug_is_told_without_the_data_that_led_to_it(call, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("customer-00001")

    monkeypatch.setattr(cli, "main", broken)
    done = call("runs", "list", "--json")
    assert done.code == 1
    assert "customer-00001" not in done.out + done.err
    assert done.json["error"]["code"] == "bug"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["runs", "--help"]])
def test_as_a_module(arguments):
    done = subprocess.run([sys.executable, "-m", "privacy_toolkit", *arguments], capture_output=True, check=True)
    assert done.stdout.strip()


def test_the_configuration_file_in_use_is_named_in_the_preview_and_one_passed_over_with_the_reason(
    call, server, requests, phrase, tmp_path, monkeypatch
):
    here = tmp_path / "here"
    here.mkdir(mode=0o755)
    file = here / "privacy-toolkit.toml"
    file.write_text("[profiles.default]\nrate = 400\n")
    monkeypatch.chdir(here)
    done = call("erase", requests, "--plan", tmp_path / "a.json")
    assert (done.code, f"Settings  {file}, profile default" in done.err) == (0, True)
    here.chmod(0o777)
    done = call("erase", requests, "--plan", tmp_path / "b.json")
    assert (done.code, "Settings  " in done.err) == (0, False)
    assert f"The configuration file {file} is skipped: others can write its folder" in done.err
