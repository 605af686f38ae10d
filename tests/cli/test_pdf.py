"""The report as PDF: printed by the browser that is installed, and by scripts that stand for one that misbehaves."""

import json
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from privacy_toolkit.cli import evidence as pdf
from privacy_toolkit.cli.evidence import BROWSERS, PdfError, write_pdf
from privacy_toolkit.core.model import ExitCode, ToolkitError, UsageError

#: What the scripts find of their arguments, and write.
PRELUDE = (
    "import json, os, sys, time\n"
    "out = next(a.partition('=')[2] for a in sys.argv if a.startswith('--print-to-pdf='))\n"
    "profile = next(a.partition('=')[2] for a in sys.argv if a.startswith('--user-data-dir='))\n"
    "def write(data):\n    open(out, 'wb').write(data)\n"
)
WHOLE = b"%PDF-1.4\nwhole\n%%EOF\n"


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "a pack" / "report.html"
    path.parent.mkdir()
    path.write_text("<!doctype html><title>Report</title><h1>What was done</h1>")
    return path


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a script in the place of the browser; without one there is none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(script, name=BROWSERS[0]):
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{PRELUDE}{script}\n")
        path.chmod(0o700)

    return put


@pytest.fixture
def place(tmp_path):
    """Where the PDF is to stand: a folder that holds nothing else."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "report.pdf"


def test_page_is_printed_on_a4_without_header_or_footer(chromium, page, place):
    write_pdf(page, place)
    data = place.read_bytes()
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) == 1
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert list(place.parent.iterdir()) == [place]


def test_report_of_a_run_is_printed(chromium, call, server, requests, phrase, tmp_path):
    run = call("erase", requests, "--confirm", phrase, "--json").json["run_id"]
    done = call("runs", "report", run, "--pdf", tmp_path / "report.pdf")
    assert (done.code, done.out.splitlines()[-1]) == (0, f"PDF: {tmp_path / 'report.pdf'}")
    data = (tmp_path / "report.pdf").read_bytes()
    sizes = {tuple(round(float(n)) for n in box.split()[2:]) for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", data)}
    assert sizes == {(595, 842)}


def test_without_a_browser_it_is_said_what_to_do(install, page, place):
    with pytest.raises(UsageError, match="browser") as error:
        write_pdf(page, place)
    assert all(name in error.value.hint for name in BROWSERS)
    assert "open report.html" in error.value.hint
    assert not place.exists()


def test_without_a_browser_the_command_ends_with_2(install, call, server, requests, phrase, tmp_path):
    run = call("erase", requests, "--confirm", phrase, "--json").json["run_id"]
    done = call("runs", "report", run, "--pdf", tmp_path / "report.pdf", "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "usage")
    assert not (tmp_path / "report.pdf").exists()


@pytest.mark.parametrize("name", BROWSERS)
def test_browser_is_found_by_any_of_its_names(install, page, place, name):
    install(f"write({WHOLE!r})", name)
    write_pdf(page, place)
    assert place.read_bytes() == WHOLE


@pytest.mark.parametrize(("user", "sandboxed"), [(0, False), (1000, True)])
def test_browser_is_called_with_a_fresh_profile_no_network_and_no_settings(
    install, page, place, tmp_path, monkeypatch, user, sandboxed
):
    monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "the-key")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    install(
        f"assert not os.path.exists(profile)\nwrite({WHOLE!r})\n"
        f"json.dump([sys.argv[1:], dict(os.environ)], open({str(tmp_path / 'seen')!r}, 'w'))"
    )
    write_pdf(page, place)
    arguments, environment = json.loads((tmp_path / "seen").read_text())
    assert {"--headless", "--disable-background-networking", "--no-pdf-header-footer"} < set(arguments)
    assert ("--no-sandbox" not in arguments) == sandboxed
    assert arguments[-1] == page.as_uri()
    assert not [name for name in environment if name.startswith("PRIVACY_TOOLKIT_")]
    (profile,) = [a.partition("=")[2] for a in arguments if a.startswith("--user-data-dir=")]
    assert not Path(profile).parent.exists()


@pytest.mark.parametrize(
    "script",
    [
        "sys.exit(0)",
        "write(b'')",
        "write(b'<html>')",
        f"write({WHOLE[:-8]!r})",
        f"write({WHOLE!r}); sys.exit(1)",
        f"write({WHOLE!r}); os.kill(os.getpid(), 9)",
    ],
)
@pytest.mark.parametrize("before", [None, b"%PDF-1.4\nearlier\n%%EOF\n"])
def test_browser_that_fails_leaves_things_as_they_were(install, page, place, script, before):
    install(script)
    if before is not None:
        place.write_bytes(before)
    with pytest.raises(ToolkitError, match="did not print") as error:
        write_pdf(page, place)
    assert isinstance(error.value, PdfError)
    assert error.value.exit_code is ExitCode.STOPPED
    assert [path.read_bytes() for path in place.parent.iterdir()] == ([] if before is None else [before])


def test_browser_that_hangs_is_ended_with_all_its_processes(install, page, place, tmp_path, monkeypatch):
    pids = tmp_path / "pids"
    install(
        f"write({WHOLE!r})\nchild = os.fork()\nopen({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\ntime.sleep(600)"
    )

    class Waited(subprocess.Popen):
        """Its time is counted from when it hangs: how long it takes to begin is the machine's affair."""

        def wait(self, timeout=None):
            while timeout is not None and not (pids.exists() and pids.read_text().count("\n") == 2):
                time.sleep(0.01)
            return super().wait(timeout)

    monkeypatch.setattr(pdf, "TIMEOUT", 1.0)
    monkeypatch.setattr(pdf.subprocess, "Popen", Waited)
    with pytest.raises(PdfError, match="within 1 seconds"):
        write_pdf(page, place)
    assert list(place.parent.iterdir()) == []
    ended = time.monotonic() + 60
    left = [int(pid) for pid in pids.read_text().split()]
    assert len(left) == 2
    while any(map(runs, left)) and time.monotonic() < ended:
        time.sleep(0.05)
    assert not any(map(runs, left))


def runs(pid):
    """Whether a process is there, and is not just waiting to be collected."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_earlier_pdf_is_replaced(install, page, place):
    install(f"write({WHOLE!r})")
    place.write_bytes(b"%PDF-1.4\nearlier\n%%EOF\n")
    write_pdf(page, place)
    assert place.read_bytes() == WHOLE


@pytest.mark.parametrize("kind", ["another file", "folder", "dangling link"])
def test_anything_else_is_never_replaced(install, page, place, kind):
    install(f"write({WHOLE!r})")
    {
        "another file": lambda: place.write_text("customer_id\n1\n"),
        "folder": place.mkdir,
        "dangling link": lambda: place.symlink_to("nowhere"),
    }[kind]()
    with pytest.raises(UsageError, match="not a PDF"):
        write_pdf(page, place)
    assert list(place.parent.iterdir()) == [place]
    assert kind != "another file" or place.read_text() == "customer_id\n1\n"


def test_place_that_does_not_exist_is_said(install, page, tmp_path):
    install(f"write({WHOLE!r})")
    with pytest.raises(PdfError, match="can't be written"):
        write_pdf(page, tmp_path / "nowhere" / "report.pdf")
