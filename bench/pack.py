"""How long the pack of a large run takes, and in how much memory: ``python bench/pack.py [--subjects N]``.

The journal is synthetic and is on disk before the clock starts. Aims (contract, section 6): 1,000,000 subjects in
under 60 s, report.html under 1 MB and open in under 1 s. To open it, Chromium is needed.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from synthetic import make_run

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.reader import JournalReader

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SHARES = {
    Outcome.NOTHING_HELD: 0.03,
    Outcome.ON_HOLD: 0.01,
    Outcome.FAILED: 0.002,
    Outcome.UNVERIFIED: 0.004,
    Outcome.RESIDUAL: 0.001,
    Outcome.RETRYABLE: 0.006,
    Outcome.UNKNOWN: 0.003,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        run, pack = Path(folder) / "run", Path(folder) / "pack"
        processes = get_context("spawn")  # so that the memory of the first is not counted with the second
        steps = ((prepare, (run, arguments.subjects)), (measure, (run, pack)), (view, (pack / "report.html",)))
        for work, values in steps:
            process = processes.Process(target=work, args=values)
            process.start()
            process.join()


def prepare(run: Path, size: int) -> None:
    mix = {outcome: int(size * share) for outcome, share in SHARES.items()}
    make_run(run, {Outcome.ERASED: size - sum(mix.values())} | mix)


def measure(run: Path, pack: Path) -> None:
    before = _peak(resource.RUSAGE_SELF)
    started, busy = time.perf_counter(), _busy()
    with JournalReader(run) as journal:
        report = write_pack(journal, pack, chain=Chain(FolderChain(pack.parent / "chain"))).report
    taken, busy = time.perf_counter() - started, _busy() - busy
    print(f"{report.rows.subjects:,} subjects: {taken:.1f} s ({busy:.1f} s of processor time)")
    own, children = _peak(resource.RUSAGE_SELF), _peak(resource.RUSAGE_CHILDREN)
    print(f"memory: peak {own:,.0f} MB, {own - before:,.0f} MB of it for the pack; {children:,.0f} MB in its helper")
    for path in sorted(pack.iterdir()):
        print(f"  {path.name:<20}{path.stat().st_size / 1e6:>10.2f} MB")


def view(page: Path, times: int = 9) -> None:
    """Open the page in a browser that runs already; the clock stops when it was painted."""
    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if path is None:
        print("opening report.html: no Chromium is installed")
        return
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - its memory is not the pack's

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        taken = [_open(browser, page.as_uri()) for _ in range(times)]
        browser.close()
    print(f"opening report.html: {median(taken):.2f} s, the median of {times}; at most {max(taken):.2f} s")


def _open(browser: Browser, address: str) -> float:
    page = browser.new_page()
    started = time.perf_counter()
    page.goto(address)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    taken = time.perf_counter() - started
    page.close()
    return taken


def _busy() -> float:
    """Seconds of processor time of this process and of those that it started and that have ended."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in found)


def _peak(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


if __name__ == "__main__":
    main()
