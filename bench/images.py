"""The pictures of the documentation, made again: ``python -m bench.images`` (needs Chromium).

The patrol is the one of ``docs/samples/tour``, which ``make tour`` makes; the others are made up here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from privacy_toolkit.access.package import Recipe, deliver
from privacy_toolkit.access.words import Notice
from privacy_toolkit.core.model import Outcome
from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.sandbox.wire import seed
from tests.support import consoles

ROOT = Path(__file__).parents[1]
IMAGES, SAMPLES = ROOT / "docs" / "images", ROOT / "docs" / "samples" / "tour"
CUSTOMER, AT_WORK = "customer-00060", "20261122-090000-erase-00000c"
NOTICE = {
    "controller": "Example Ltd",
    "contact": "privacy@example.org",
    "rights": "You may have your data corrected or erased, restrict or object to its use, and take it elsewhere.",
    "authority": "Data Protection Authority of Exampleton",
}
REST = ("purposes", "legal_bases", "categories", "recipients", "transfers", "retention", "source")


def main() -> None:
    """Take each picture in the size that it has in the documentation."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        folder = Path(name)
        take(_opened(browser, _report(folder), 1280, 800), "report")
        take(_opened(browser, _package(folder), 960, 1020), "package")
        take(_opened(browser, (SAMPLES / "patrol.html").as_uri(), 1000, 640), "patrol")
        _console(browser, folder)
        browser.close()


def take(page: Page, name: str) -> None:
    """Take a picture of what the page shows."""
    page.screenshot(path=IMAGES / f"{name}.png")


def _opened(browser: Browser, address: str, width: int, height: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
    page.goto(address)
    return page


def _report(folder: Path) -> str:
    out = folder / "report"
    subprocess.run(
        [sys.executable, str(ROOT / "bench" / "sample_report.py"), str(out), "--only", "complete"], check=True
    )
    return next(out.glob("*/report.html")).as_uri()


def _package(folder: Path) -> str:
    """The package of a customer of the sandbox."""
    out = folder / "packages"
    out.mkdir()
    notice = Notice(**NOTICE, **dict.fromkeys(REST, "…"), automated_decisions="…", time_zone="Europe/Berlin")
    recipe = Recipe(out, "en", "current", "mycompany.europe-west1.talon.one", "live", notice)
    read_at = int(datetime(2026, 11, 26, 20, tzinfo=UTC).timestamp() * 1e6)
    with start_in_thread(SandboxSettings()) as sandbox:
        seed(sandbox.store, 1, ids=[CUSTOMER])
        flags = "&".join(f"{part}=true" for part in ("profile", "referrals", "coupons", "loyalty", "giveaways"))
        asked = urllib.request.Request(  # noqa: S310 - the sandbox of a moment ago
            f"{sandbox.base_url}/v1/customer_profiles/{CUSTOMER}/inventory?{flags}&achievements=true",
            headers={"Authorization": "ApiKey-v1 sandbox-key"},
        )
        with urllib.request.urlopen(asked) as answer:  # noqa: S310 - as above
            body = answer.read()
    return (out / deliver(recipe, "3f" * 16, CUSTOMER, body, read_at).name / "index.html").as_uri()


def _console(browser: Browser, folder: Path) -> None:
    """A run under way, looked at twice, so that a pace is told."""
    desk, seconds = consoles.Desk(str(folder / "state")), iter(range(0, 10_000, 4))
    with desk.run(AT_WORK, 500, held=3) as journal:
        consoles.begin(journal)
        consoles.settle(journal, range(4, 200))
        consoles.settle(journal, range(200, 204), Outcome.UNKNOWN)
        with consoles.running(desk.settings, clock=consoles.microseconds, monotonic=lambda: next(seconds)) as address:
            page = _opened(browser, address, 1280, 534)
            page.goto(f"{page.url.rstrip('/')}/runs/{AT_WORK}")
            consoles.settle(journal, range(204, 260))
            page.reload()
            take(page, "console")


if __name__ == "__main__":
    main()
