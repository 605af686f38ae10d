"""The page stays under 1 MB, however large the run is and whatever stands in its journal."""

from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlparse

import pytest

from bench.synthetic import make_run
from privacy_toolkit.core.model import Hold, Outcome, StopReason
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.reader import JournalReader
from privacy_toolkit.reporting.rows import LISTED_CASES
from tests.support import reported_runs as runs

MOST = 1_000_000  # bytes
#: Longer than anything is shown, and four bytes a character.
LONG = "\U0001f4a0" * 1_000
TODAY = date(2026, 11, 23)


@pytest.fixture
def page_of(tmp_path):
    """Makes the pack of a run, and gives the page in it."""

    def make(run):
        with JournalReader(run) as journal:
            return (
                write_pack(journal, tmp_path / "pack", chain=Chain(FolderChain(tmp_path / "chain"))).path
                / "report.html"
            )

    return make


@pytest.mark.parametrize("attention", [LISTED_CASES, LISTED_CASES + 1])
def test_page_of_a_larger_run_is_small_and_lists_what_it_can(open_page, page_of, tmp_path, attention):
    outcomes = (Outcome.FAILED, Outcome.UNVERIFIED, Outcome.RESIDUAL, Outcome.UNKNOWN)
    mix = dict.fromkeys(outcomes, attention // len(outcomes)) | {
        Outcome.RETRYABLE: attention % len(outcomes),
        Outcome.NOTHING_HELD: 500,
        Outcome.ON_HOLD: 400,
    }
    mix[Outcome.ERASED] = 20_000 - sum(mix.values())
    path = page_of(make_run(tmp_path / "20261123-080000-erase-0a1b2c", mix))
    assert path.stat().st_size < MOST
    page = open_page(path.as_uri(), width=320)
    assert page.locator(".cases tr").count() == (attention if attention == LISTED_CASES else 0)
    assert page.locator(".sum").inner_text().endswith("= 20,000 subjects, each counted once.")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 320
    assert (page.asked, page.said) == ([path.as_uri()], [])


def test_page_of_a_small_run_with_the_longest_of_everything_is_small(open_page, page_of, tmp_path):
    """As many cases, grounds, executions, settings, reasons and dates as are told apart, each as long as it can be."""
    outcomes = [Outcome.RETRYABLE] * LISTED_CASES + [Outcome.ON_HOLD] * 300 + [Outcome.ERASED]
    subjects = [
        runs.told(
            f"customer-{k}",
            outcome,
            hold=Hold(f"{k:04}{LONG}", "2026-01-01"),
            request=runs.Asked((TODAY - timedelta(k)).isoformat(), (TODAY - timedelta(k - 30)).isoformat(), "T" * 64),
        )
        for k, outcome in enumerate(outcomes)
    ]
    run = runs.write_run(
        tmp_path / "20261123-080000-erase-0a1b2c",
        subjects,
        stops=[StopReason.ASKED_TO_WAIT] * 150,
        settings=dict.fromkeys(runs.SETTINGS, LONG),
        target=LONG[:500],
    )
    path = page_of(run)
    assert path.stat().st_size < MOST
    page = open_page(path.as_uri())
    assert page.locator(".cases tr").count() == LISTED_CASES
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 1280


def test_page_of_every_other_test_is_a_tenth_of_that(reports):
    sizes = {name: Path(urlparse(address).path).stat().st_size for name, address in reports.items()}
    assert max(sizes.values()) < MOST / 10
