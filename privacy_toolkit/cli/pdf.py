"""The report on paper: ``report.html`` printed to PDF by an installed Chromium or Chrome."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from privacy_toolkit.core.durable import open_regular, put_file
from privacy_toolkit.core.model import ExitCode, ToolkitError, UsageError
from privacy_toolkit.core.processes import environment

#: Names under which Debian, other distributions and the vendor install the browser.
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
#: Seconds; the largest report takes a few.
TIMEOUT: Final = 120.0

_OPTIONS: Final = (
    "--headless",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the page asks for nothing, and the browser itself shall not either
    "--no-pdf-header-footer",
)
_BEGINNING, _END = b"%PDF-", b"%%EOF"
_BY_HAND: Final = "Or open report.html in any browser and print it from there."


class PdfError(ToolkitError):
    """The report can't be printed: the browser fails, disk full, permissions."""

    exit_code = ExitCode.STOPPED
    code = "pdf"


def write_pdf(html_path: Path, pdf_path: Path) -> None:
    """Print the page at ``html_path``, for its owner only; an earlier PDF at ``pdf_path`` is replaced.

    Raises:
        UsageError: no browser is installed, or at ``pdf_path`` stands something else than a PDF.
        PdfError: the browser failed, or the file can't be written; nothing stands at ``pdf_path`` that did not before.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UsageError(
            "Printing the report needs a browser, and none was found.",
            f"Install Chromium or Google Chrome, so that one of these can be called: {', '.join(BROWSERS)}. {_BY_HAND}",
        )
    try:
        _check_place(pdf_path)
        _put(_printed(browser, html_path), pdf_path)
    except OSError as error:
        raise PdfError(
            f"The PDF can't be written: {error.strerror or 'the system gave no reason'}.",
            "Free some space, or name another file with --pdf.",
        ) from None


def _check_place(path: Path) -> None:
    """Nothing but an earlier PDF is ever replaced."""
    if not os.path.lexists(path):
        return
    if path.is_file():
        with open_regular(path) as file:
            if file.read(len(_BEGINNING)) == _BEGINNING:
                return
    raise UsageError("The place for the PDF is taken by something that is not a PDF.", "Name another file with --pdf.")


def _printed(browser: str, html_path: Path) -> bytes:
    """What the browser makes of the page; it writes into a folder of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="privacy-toolkit-pdf-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        made = folder / "report.pdf"
        command = [browser, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--print-to-pdf={made}"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # as root the browser does not start with one
        status = _run([*command, html_path.resolve().as_uri()], folder)
        data = made.read_bytes() if made.is_file() else b""
    if status != 0 or not data.startswith(_BEGINNING) or not data.rstrip().endswith(_END):
        raise PdfError(f"The browser did not print the report (it ended with {status}).", f"Try again. {_BY_HAND}")
    return data


def _run(command: list[str], folder: Path) -> int:
    """Run the browser in a session of its own, so that all its processes can be ended."""
    process = subprocess.Popen(  # noqa: S603 - a program the user has installed, on a page of ours
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(folder),
        start_new_session=True,
    )
    try:
        return process.wait(TIMEOUT)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise PdfError(
                f"The browser did not print the report within {TIMEOUT:g} seconds.", f"Try again. {_BY_HAND}"
            ) from None
        raise


def _environment(folder: Path) -> dict[str, str]:
    """What a second process may have; what the browser keeps is not kept."""
    return environment() | {
        f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "CACHE", "DATA", "STATE")
    }


def _put(data: bytes, path: Path) -> None:
    """Under its name the file is there as a whole or not at all."""
    with put_file(path, over=True) as file:
        file.write(data)
