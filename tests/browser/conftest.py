"""A browser, and the reports it opens.

The text of the report ``hostile`` is, wherever somebody else has a say in it, made of ``HOSTILE``.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from privacy_toolkit.core.model import Hold, Outcome, StopReason
from privacy_toolkit.engine.plan import PlannedInput, Planner
from privacy_toolkit.engine.planning import EXPORTED
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.journal.records import Approval, PackageFacts
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.run import RunJournal
from tests.support import reported_runs as runs
from tests.support.hostile import HOSTILE, hostile

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
    """The addresses of four reports.

    ``complete``; ``mixed`` with every outcome, long names and a hard stop; ``hostile``, as ``mixed``; ``export``, whose
    last package did not fit on the disk.
    """
    folder = tmp_path_factory.mktemp("reports")
    calm = [Outcome.ERASED] * 95 + [Outcome.NOTHING_HELD] * 3 + [Outcome.ON_HOLD] * 2
    every = [
        outcome for place, outcome in enumerate(Outcome, 1) if outcome is not Outcome.DONE for _ in range(3 * place)
    ]
    long_names = {"target": "a-very-long-host-name" * 4 + ".example", "environment": "live"}
    found = {}
    for name, outcomes, stop, changes in (
        ("complete", calm, None, {}),
        ("mixed", every, StopReason.WINDOW_CLOSED, long_names),
        ("hostile", every, StopReason.WINDOW_CLOSED, _hostile_changes()),
    ):
        hold = Hold(hostile("hold")) if name == "hostile" else None
        subjects = [runs.told(f"customer-{k}", outcome, hold=hold) for k, outcome in enumerate(outcomes)]
        run = runs.write_run(folder / name, subjects, stops=(StopReason.INTERRUPTED, stop), **changes)
        with RunJournal(run) as journal:
            pack = write_pack(journal, folder / f"{name}-pack", chain=Chain(FolderChain(folder / f"{name}-chain")))
            found[name] = (pack.path / "report.html").as_uri()
    return found | {"export": _export(folder)}


def _export(folder: Path) -> str:
    states = {"profile": "complete", "coupons": "not_held", "loyalty": "not_obtainable", "new": "complete"}
    facts = PackageFacts(name="f" * 32, sha256="a" * 64, sections=states, redactions=3, people=2)
    subjects = [runs.exported(f"customer-{k}", facts) for k in range(40)]
    subjects += [runs.told("held", Outcome.ON_HOLD, hold=EXPORTED), runs.exported("last")]
    stops = (None, StopReason.OUTPUT_FAILED)
    changes = {"job": "export", "calls": {runs.READ: (41, 41)}, "settings": runs.SETTINGS | {"packages_removed": 3}}
    run = runs.write_run(folder / "export", subjects, stops=stops, **changes)
    with RunJournal(run) as journal:
        pack = write_pack(journal, folder / "export-pack", chain=Chain(FolderChain(folder / "export-chain")))
    return (pack.path / "report.html").as_uri()


def _hostile_changes() -> dict[str, object]:
    """What is hostile of a plan, its approval and the settings of its executions."""
    settings = {name: hostile(name) for name in ("python", "rate", "max_failures", "api_key", "gone_predicate")}
    settings |= {"signer": hostile("operator"), "signing_key": hostile("operator key")}
    settings |= {"timeouts_seconds": {"connect": hostile("timeout"), HOSTILE: 1}}
    return {
        "target": hostile("target"),
        "input": PlannedInput(path="a.csv", keyed_sha256="a" * 64, size=1, format="csv", id_column=HOSTILE),
        "planned_by": Planner(name=hostile("planner"), fingerprint=f"SHA256:{'A' * 43}"),
        "approval": Approval(
            statement=HOSTILE, signature="", approver=hostile("approver"), fingerprint=hostile("approver key")
        ),
        "settings": runs.SETTINGS | settings,
    }


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a report; what it asked for and what the console said are kept on the page."""
    contexts = []

    def open_(address: str, width: int = 1280, height: int = 800, **options: object) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
