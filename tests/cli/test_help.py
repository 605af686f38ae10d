"""What somebody is told who asks for help, or mistypes."""

import os
import shutil
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from privacy_toolkit.cli.main import cli, examples
from release.manual import commands, write_man

pytestmark = pytest.mark.folder

#: How each shell checks a script without running it.
SHELLS = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


@pytest.mark.parametrize("words", [[], ["erase"], ["runs", "list"]])
def test_help_ends_with_examples_on_lines_of_their_own(call, words):
    said = call(*words, "--help").out
    assert "\n  Examples:\n" in said
    assert all(any(line.strip() == one for line in said.splitlines()) for one, _ in examples()[" ".join(words)])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["erse", "ids.csv"], "'erase'"),
        (["run"], "'runs'"),
        (["runs", "lst"], "'list'"),
        (["erase", "ids.csv", "--confrim", "x"], "'--confirm'"),
        (["coupons", "assign", "ids.csv", "--cupons", "x"], "'--coupons'"),
    ],
)
def test_who_mistypes_is_told_what_they_may_have_meant(call, typed, meant):
    done = call(*typed)
    assert (done.code, done.out) == (2, "")
    assert "Did you mean" in done.err
    assert meant in done.err
    assert meant in call(*typed, "--json").json["error"]["message"]


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_printed_for_each_shell_and_is_valid_there(call, tmp_path, shell):
    done = call("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert done.out.strip() == call("completion", shell, "--json").json["script"].strip()
    assert {"_PRIVACY_TOOLKIT_COMPLETE", "privacy-toolkit"} <= set(done.out.replace("=", " ").replace(";", " ").split())
    (tmp_path / "script").write_text(done.out)
    if shutil.which(shell):  # whatever there is on this machine; bash is everywhere
        subprocess.run([*SHELLS[shell], tmp_path / "script"], check=True)


def completed(typed):
    """What is offered at the end of a line."""
    *before, last = typed
    found = ShellComplete(cli, {}, "privacy-toolkit", "_COMPLETE").get_completions(before, last)
    return [f"{one.type},{one.value}" for one in found]


def test_the_shell_s_script_is_answered_by_the_program(tmp_path):
    told = {"COMP_WORDS": "privacy-toolkit er", "COMP_CWORD": "1", "_PRIVACY_TOOLKIT_COMPLETE": "bash_complete"}
    command = [sys.executable, "-m", "privacy_toolkit"]
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("plain,erase\n", "")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["er"], ["plain,erase"]),
        (["runs", "undo", "--on"], []),
        (["erase", "--reg"], ["plain,--regime"]),
        (["erase", "--regime", "c"], ["plain,ccpa"]),
        (["erase", "req"], ["file,req"]),
        (["erase", "--exclude", "on-"], ["file,on-"]),
        (["export", "--out", "pa"], ["dir,pa"]),
        (["runs", "show", "--config", "missing.toml", ""], []),  # nobody is disturbed by an error while they type
    ],
)
def test_commands_options_choices_and_files_are_completed(typed, offered):
    assert completed(typed) == offered


def test_runs_are_completed_by_their_ids_and_no_state_folder_is_made(tmp_path, server, call):
    state = tmp_path / "state"
    assert completed(["runs", "show", "--state", str(state), ""]) == ["plain,latest"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "ids.csv").write_text("customer_id\nnobody\n")
    done = call("export", tmp_path / "ids.csv", "--out", tmp_path / "out", "--state", state, "--json")
    run_id = done.json["run_id"]
    assert completed(["runs", "show", "--state", str(state), run_id[:4]]) == [f"plain,{run_id}"]


def test_a_database_is_not_asked_while_somebody_types(server):
    assert completed(["runs", "show", "--state", "postgresql://127.0.0.1:9/x", ""]) == []


def test_every_command_has_a_man_page_in_which_roff_finds_no_fault(tmp_path):
    pages = write_man(tmp_path / "man")
    assert {page.stem for page in pages} == {words.replace(" ", "-") for words, _, _ in commands()}
    erase = (tmp_path / "man" / "man1" / "privacy-toolkit-erase.1").read_text()
    assert all(part in erase for part in (".SH NAME", "\\-\\-exclude", "requests.csv", ".SH EXIT STATUS"))
    checks = (["mandoc", "-Tlint", "-Werror"], ["groff", "-man", "-Tutf8", "-ww", "-z"])
    for program, *arguments in checks:
        if shutil.which(program):  # the one that is on this machine
            done = subprocess.run([program, *arguments, *pages], check=False, capture_output=True, text=True)
            assert (done.returncode, done.stdout + done.stderr) == (0, "")
