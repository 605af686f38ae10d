"""Sample packs, and pictures of their reports: ``python bench/sample_report.py OUT [--pictures]``.

Needs Chromium for the pictures. Used for the screenshot in the README and to look at a change of the templates.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from random import Random

import msgspec
from playwright.sync_api import Browser, sync_playwright
from synthetic import ERASE, HOLDS, READ, SETTINGS, START, Walk, history

from privacy_toolkit.core.model import Outcome, Reason, Regime, StopReason
from privacy_toolkit.engine.open_requests import deadline_of
from privacy_toolkit.engine.plan import Plan, PlannedClock, PlannedExclusions, PlannedInput, PlannedRows, Planner
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.journal.records import Acceptance, Approval, Note, Staged
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.reader import JournalReader, create_run
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.signatures.signers import DocumentSigner, load_signer
from privacy_toolkit.signatures.sshsig import generate

TODAY = date(2026, 11, 23)  # the day of START
RATE = 200.0
SECOND = 1_000_000
PLANNER, APPROVER, OPERATOR = "a.planner@example.org", "dpo@example.org", "night-shift@example.org"
FINGERPRINTS = {
    PLANNER: "SHA256:3yTqTjcsW0zJ1pJqVbW1B1u7Gm1bZ3oX4m2p9aQe0Fk",
    APPROVER: "SHA256:Qk5v8mLr2HhYcD0sXo6uJ4tEwZ1bNf7gPa9iKq3yRzM",
}


@dataclass(frozen=True)
class Sample:
    """A run to be made up. ``ages`` are the days, from and to, since the requests; None: the list gave no dates."""

    mix: dict[Outcome, int]
    environment: str = "live"
    stops: Sequence[StopReason | None] = (None,)
    ages: tuple[int, int] | None = (3, 27)
    signed: bool = True
    approved: bool = True
    verify: str = "all"
    settings: dict[str, object] = field(default_factory=dict)


SAMPLES = {
    "20261123-080000-complete": Sample(
        {Outcome.ERASED: 23_410, Outcome.NOTHING_HELD: 512, Outcome.ON_HOLD: 78}, environment="live"
    ),
    "20261123-080000-dirty": Sample(
        {Outcome.ERASED: 922, Outcome.NOTHING_HELD: 30, Outcome.ON_HOLD: 19, Outcome.FAILED: 3, Outcome.UNVERIFIED: 4}
        | {Outcome.RESIDUAL: 2, Outcome.RETRYABLE: 9, Outcome.UNKNOWN: 11},
        stops=(StopReason.WINDOW_CLOSED, StopReason.INTERRUPTED, None),
        ages=(2, 40),
        approved=False,
    ),
    "20261123-080000-stopped": Sample(
        {outcome: 37 * k for k, outcome in enumerate(Outcome, 1) if outcome is not Outcome.DONE},
        stops=(StopReason.TARGET_UNREACHABLE,),
        ages=None,
        signed=False,
        approved=False,
    ),
    "20261123-080000-refused": Sample(
        {Outcome.PENDING: 250_000, Outcome.ERASED: 12}, stops=(StopReason.CREDENTIALS_REFUSED,), ages=(20, 24)
    ),
    "20261123-080000-sample": Sample(
        {Outcome.ERASED: 300, Outcome.UNVERIFIED: 9_400, Outcome.NOTHING_HELD: 250, Outcome.ON_HOLD: 50},
        environment="sandbox",
        ages=(0, 5),
        verify="sample:310",
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
    parser.add_argument("--only", metavar="TEXT", default="", help="only samples with this in their name")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = [name for name in SAMPLES if arguments.only in name]
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        generate(key, OPERATOR)
        signer = load_signer(key)
        for name in names:
            sample = SAMPLES[name]
            run = make_sample(Path(folder) / name, sample, signer)
            shutil.rmtree(arguments.out / name, ignore_errors=True)
            signing = {"signer": signer, "principal": OPERATOR} if sample.signed else {}
            with JournalReader(run) as journal:
                pack = write_pack(
                    journal, arguments.out / name, chain=Chain(FolderChain(Path(folder) / "chain")), **signing
                )
            print(pack.path / "report.html")
    if arguments.pictures:
        take_pictures(arguments.out, names)


def make_sample(folder: Path, sample: Sample, signer: DocumentSigner) -> Path:
    """Write the journal of a made-up run that went at its limit, with a rest between its executions."""
    rng = Random(7)  # a sample, not a secret
    outcomes = [outcome for outcome, count in sample.mix.items() for _ in range(count)]
    rng.shuffle(outcomes)
    held = {seq: HOLDS[seq % 3] for seq, o in enumerate(outcomes, 1) if o is Outcome.ON_HOLD}
    requests = list(_requests(len(outcomes), sample.ages, rng))
    approval = Approval(
        statement="A made-up approval.\n", signature="", approver=APPROVER, fingerprint=FINGERPRINTS[APPROVER]
    )
    create_run(
        folder,
        Staged(
            plan=_plan(sample, len(outcomes), len(held), requests).encode(),
            created_at=START,
            pages=_pages(len(outcomes)),
            holds=held,
            requests=requests,
            approval=approval if sample.approved else None,
            rejected=_rejected(len(outcomes)),
        ),
    )
    who = {"signer": OPERATOR, "signing_key": signer.public.fingerprint} if sample.signed else {}
    with RunJournal(folder) as journal:
        _work(journal, outcomes, sample, who, rng)
    if sample.approved:
        with RunJournal(folder) as journal:
            journal.accept_rejected(Acceptance(START, sum(_reasons(len(outcomes)).values()), OPERATOR))
    return folder


def _work(journal: RunJournal, outcomes: list[Outcome], sample: Sample, who: dict[str, str], rng: Random) -> None:
    said = msgspec.json.encode(SETTINGS | {"rate": RATE, "verify": sample.verify} | who).decode()
    share = -(-len(outcomes) // len(sample.stops))
    now = START + 60 * SECOND
    for k, stop in enumerate(sample.stops):
        started = now
        number = journal.begin_execution(started - SECOND, said)
        for seq, outcome in list(enumerate(outcomes, 1))[k * share : (k + 1) * share]:
            if outcome in {Outcome.PENDING, Outcome.ON_HOLD}:
                continue
            state, exchanges = history(outcome, Walk(now, rng))
            if outcome is Outcome.UNVERIFIED and sample.verify != "all":
                state = msgspec.structs.replace(state, reason=Reason.NOT_READ_YET)
                exchanges = exchanges[:-1]
            now += int(len(exchanges) * SECOND / RATE / _readiness(now))
            journal.record([Note(seq, list(enumerate(exchanges, 1)), state)])
        journal.end_execution(number, now + SECOND, stop)
        now += 5_000 * SECOND


def _readiness(now: int) -> float:
    """What share of the pace the made-up API allowed: two slow stretches, else nearly all."""
    minute = (now - START) / 60 / SECOND % 10
    return 0.55 if 3.2 < minute < 3.7 else 0.8 if 5 < minute < 5.2 else 0.995


def _requests(size: int, ages: tuple[int, int] | None, rng: Random) -> Iterator[tuple[int, str, str, str, str]]:
    for seq in range(1, size + 1) if ages else ():
        asked = TODAY - timedelta(days=rng.randint(*ages))
        due = deadline_of(Regime.GDPR, asked)
        yield seq, asked.isoformat(), due.isoformat(), f"PRIV-{seq:06}", "17(1)(b)"


def _reasons(size: int) -> dict[str, int]:
    return {"blank": 3 + size // 500, "surrounding_whitespace": 2 + size // 200, "control_character": 1}


def _rejected(size: int) -> Iterator[tuple[int, str]]:
    reasons = [reason for reason, count in _reasons(size).items() for _ in range(count)]
    return ((size + 2 + k, reason) for k, reason in enumerate(reasons))


def _pages(size: int) -> Iterator[list[tuple[int, str]]]:
    for first in range(1, size + 1, 1000):
        yield [(seq + 1, f"customer-{seq:08}") for seq in range(first, min(first + 1000, size + 1))]


def _plan(sample: Sample, size: int, held: int, requests: list[tuple[int, str, str, str, str]]) -> Plan:
    reasons = _reasons(size)
    rejected, duplicates = sum(reasons.values()), size // 40
    reads = size - held
    asked, due = [request[1] for request in requests], [request[2] for request in requests]
    clock = (
        PlannedClock(
            dated=size - held,
            oldest_requested_on=min(asked),
            earliest_due_on=min(due),
            overdue=sum(day < TODAY.isoformat() for day in due),
        )
        if asked
        else None
    )
    return Plan(
        toolkit="0.1.0",
        job="erase",
        target="example.europe-west1.talon.one/shop",
        base_url="https://example.europe-west1.talon.one",
        environment=sample.environment,
        generation="current",
        created_at="2026-11-23T07:41:10Z",
        input=PlannedInput(
            path="requests.csv", keyed_sha256="0" * 64, size=size * 19, format="csv", id_column="customer_id"
        ),
        rows=PlannedRows(
            read=size + rejected + duplicates,
            rejected=rejected,
            duplicates=duplicates,
            subjects=size,
            held=held,
            rejected_by_reason=reasons,
        ),
        exclusions=PlannedExclusions(path="holds.csv", keyed_sha256="1" * 64, entries=held + 40, matched=held),
        verify=sample.verify,
        calls={READ: (reads, 2 * reads), ERASE: (0, reads)},
        regime="gdpr",
        planned_by=Planner(name=PLANNER, fingerprint=FINGERPRINTS[PLANNER]) if sample.signed else None,
        clock=clock,
    ).sealed()


def take_pictures(out: Path, names: Sequence[str]) -> None:
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        for name in names:
            _pictures(browser, out, name)
        browser.close()


def _pictures(browser: Browser, out: Path, name: str) -> None:
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


if __name__ == "__main__":
    main()
