"""Sample packs, and pictures of their reports: ``python bench/sample_report.py OUT [--pictures]``.

Needs Chromium for the pictures. Used for the screenshot in the README and to look at a change of the templates.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from synthetic import make_run

from privacy_toolkit.journal.reading import RunReader
from privacy_toolkit.model import Outcome, StopReason
from privacy_toolkit.reporting.pack import write_pack

SAMPLES: dict[str, tuple[dict[Outcome, int], str, tuple[StopReason, ...]]] = {
    "20261123-080000-complete": (
        {Outcome.ERASED: 951, Outcome.NOTHING_HELD: 30, Outcome.ON_HOLD: 19},
        "sandbox",
        (),
    ),
    "20261123-080000-dirty": (
        {Outcome.ERASED: 922, Outcome.NOTHING_HELD: 30, Outcome.ON_HOLD: 19, Outcome.FAILED: 3, Outcome.UNVERIFIED: 4}
        | {Outcome.RESIDUAL: 2, Outcome.RETRYABLE: 9, Outcome.UNKNOWN: 11},
        "live",
        (StopReason.WINDOW_CLOSED,),
    ),
    "20261123-080000-stopped": (
        {outcome: 37 * k for k, outcome in enumerate(Outcome, 1) if outcome is not Outcome.DONE},
        "live",
        (StopReason.TARGET_UNREACHABLE,),
    ),
    "20261123-080000-refused": (
        {Outcome.PENDING: 250_000, Outcome.ERASED: 12},
        "live",
        (StopReason.CREDENTIALS_REFUSED,),
    ),
}
VIEWS = {
    "first-screen": (1280, 800, "light", False),
    "light": (1280, 800, "light", True),
    "dark": (1280, 800, "dark", True),
    "narrow": (320, 720, "light", True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as runs:
        for name, (mix, environment, stops) in SAMPLES.items():
            run = make_run(Path(runs) / name, mix, environment=environment, stops=stops)
            shutil.rmtree(arguments.out / name, ignore_errors=True)
            with RunReader(run) as journal:
                print(write_pack(journal, arguments.out / name).path / "report.html")
    if arguments.pictures:
        take_pictures(arguments.out)


def take_pictures(out: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in SAMPLES:
            address = (out / name / "report.html").absolute().as_uri()
            for view, (width, height, scheme, full) in VIEWS.items():
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(address)
                page.screenshot(path=out / f"{name}-{view}.png", full_page=full)
                page.close()
            page = browser.new_page()
            page.goto(address)
            page.pdf(path=out / f"{name}.pdf", prefer_css_page_size=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
