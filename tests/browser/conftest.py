"""A browser, and the reports it opens."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.model import Outcome, StopReason
from privacy_toolkit.reporting.pack import write_pack

SUPPORT = Path(__file__).parents[1] / "support" / "reported_runs.py"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


@pytest.fixture(scope="module")  # not longer: as long as it lives, no test in this process can use asyncio.run
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The addresses of two reports: ``complete``, and ``mixed`` with every outcome, long names and a hard stop."""
    spec = importlib.util.spec_from_file_location("reported_runs", SUPPORT)
    runs = importlib.util.module_from_spec(spec)
    sys.modules["reported_runs"] = runs
    spec.loader.exec_module(runs)
    folder = tmp_path_factory.mktemp("reports")
    calm = [Outcome.ERASED] * 95 + [Outcome.NOTHING_HELD] * 3 + [Outcome.ON_HOLD] * 2
    every = [
        outcome for place, outcome in enumerate(Outcome, 1) if outcome is not Outcome.DONE for _ in range(3 * place)
    ]
    found = {}
    for name, outcomes, stop, changes in (
        ("complete", calm, None, {}),
        (
            "mixed",
            every,
            StopReason.WINDOW_CLOSED,
            {"target": "a-very-long-host-name" * 4 + ".example", "environment": "live"},
        ),
    ):
        subjects = [runs.told(f"customer-{k}", outcome) for k, outcome in enumerate(outcomes)]
        run = runs.write_run(folder / name, subjects, stops=(StopReason.INTERRUPTED, stop), **changes)
        with RunJournal(run) as journal:
            found[name] = (write_pack(journal, folder / f"{name}-pack").path / "report.html").as_uri()
    return found
