"""How the program behaves where its output goes: pipes that close, streams that are not there, terminals, locales."""

import os
import pty
import subprocess
import sys

import pytest

from privacy_toolkit.cli.main import main
from privacy_toolkit.cli.output import progress, say
from privacy_toolkit.core.model import StopReason
from privacy_toolkit.engine.limits import Started, Stopping

pytestmark = pytest.mark.folder
#: A locale of before UTF-8, and nothing that would make up for it.
OLD = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.fixture
def ids(tmp_path):
    path = tmp_path / "Kündigung.csv"
    path.write_text("customer_id\n" + "".join(f"Zoë-王-{number}\n" for number in range(5000)), "utf-8")
    return path


def shell(command, path, **environment):
    """What a line of bash ends with, the program's own exit code last, and what was said."""
    program = f"{sys.executable} -m privacy_toolkit"
    line = f"{command.format(program=program, path=path)}; echo ${{PIPESTATUS[0]}}"
    environment = os.environ | environment
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.splitlines(), done.stderr


FULL = "Error: Standard output can't be written: No space left"


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("{program} inspect {path} | head -1", 0, ""),
        ("{program} inspect {path} --format jsonl | head -1", 0, ""),
        ("{program} verify {path} | head -1", 6, ""),
        ("{program} inspect {path} >&-", 0, ""),
        ("{program} inspect {path} --nonsense 2>&-", 2, ""),
        ("{program} inspect {path} > /dev/full", 2, FULL),
        ("{program} inspect {path} --json > /dev/full", 2, FULL),
        ("{program} inspect missing.csv --json > /dev/full", 2, FULL),
        ("{program} register --csv > /dev/full", 2, FULL),
        ("{program} --help > /dev/full", 2, FULL),
    ],
)
def test_a_stream_that_closes_changes_no_exit_code_and_makes_no_noise(ids, command, code, said):
    lines, told = shell(command, ids)
    assert int(lines[-1]) == code
    assert told.startswith(said)
    assert "Traceback" not in told
    assert told or not said


@pytest.mark.parametrize("words", [["--json"], []])
def test_where_the_result_of_a_run_can_not_be_printed_its_exit_code_says_what_was_done(
    call, requests, phrase, server, monkeypatch, words
):
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        monkeypatch.setattr(sys, "stdout", full)
        done = call("erase", requests, "--confirm", phrase, *words)
        monkeypatch.undo()
    assert (done.code, done.out) == (0, "")
    assert FULL in done.err
    assert "is as it is all the same: privacy-toolkit runs show " in done.err


@pytest.mark.parametrize("words", ["inspect {path}", "inspect {path} --format jsonl", "sandbox --help"])
def test_a_locale_without_utf_8_is_no_obstacle(ids, words):
    lines, told = shell("{program} " + words, ids, **OLD)
    assert (lines[-1], told) == ("0", "")


def test_windows_is_refused_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    told = capsys.readouterr()
    assert (ended.value.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert "WSL" in told.err


@pytest.fixture
def screen(monkeypatch):
    """Puts a terminal of 60 columns on stderr, and gives what reads from it what was written.

    The kernel hands on what is written to a terminal when it comes to it: what reads waits for a mark of its own.
    """
    controller, terminal = pty.openpty()
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with os.fdopen(terminal, "w", encoding="utf-8", buffering=1) as stream:

        def read() -> str:
            stream.write("\0")
            stream.flush()
            came = b""
            while not came.endswith(b"\0"):
                came += os.read(controller, 65_536)
            return came.removesuffix(b"\0").decode()

        def put():  # by the test itself: what pytest captures by is set between its set-up and its call
            monkeypatch.setattr(sys, "stderr", stream)
            return read

        yield put
    os.close(controller)


def test_the_bar_says_what_the_job_does_and_a_notice_takes_a_line_of_its_own(screen):
    read = screen()
    with progress("auto", "Export", quiet=False) as listen:
        listen(Started(2, 2))
        listen(Stopping(StopReason.INTERRUPTED, 1))
    shown = read()
    assert "Export" in shown
    assert "\x1b[2K" in shown.partition("Stopping: ")[0]  # the bar was taken off the line before
    assert "Stopping: " in shown


def test_what_cannot_be_undone_is_red_unless_colour_is_not_wanted(screen, monkeypatch):
    read = screen()
    say("This cannot be undone.", alarming=True)
    assert "\x1b[31m\x1b[1mThis cannot be undone." in read()
    monkeypatch.setenv("NO_COLOR", "1")
    say("This cannot be undone.", alarming=True)
    assert read() == "This cannot be undone.\r\n"


@pytest.mark.parametrize("command", [["--help"], ["erase", "--help"], ["runs", "--help"]])
def test_help_fits_into_60_columns_but_for_examples_that_are_copied(call, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "60")
    text, _, _ = call(*command).out.partition("  Examples:")
    assert [line for line in text.splitlines() if len(line) > 60] == []
