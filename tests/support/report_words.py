"""All that reports say in words, and how their pages look, as one digest for each version: ``make words``.

A build that lands with other words or another page than the one before is another version, and the words of the one
before stay known to ``verify``: see CONTRIBUTING.md, "Release".
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from privacy_toolkit.core.model import Job, Outcome, Reason, StopReason
from privacy_toolkit.core.privacy import __version__
from privacy_toolkit.engine.plan import Plan, PlannedInput, PlannedRows, Summary
from privacy_toolkit.evidence.verify.findings import Words, words_of
from privacy_toolkit.journal.records import Acceptance, Execution
from privacy_toolkit.reporting.html import render
from privacy_toolkit.reporting.schema import FORMAT, Report

FIXTURES = Path(__file__).parents[1] / "fixtures"
RECORD = FIXTURES / "words.json"
PACKS = "packs-0.2.0"
#: What ``words_of`` gives, by the version that it is of.
VERSIONS = (__version__, "0.2.0", "0.1.2")
MEMBERS = {"jobs": Job, "outcomes": Outcome, "reasons": Reason, "stops": StopReason}


def known() -> dict[str, dict[str, Any]]:
    """What was written down of each version."""
    return json.loads(RECORD.read_bytes())


def words_by_version() -> dict[str, Words]:
    """The words of each version that ``verify`` knows."""
    return dict(zip(VERSIONS, words_of(FORMAT), strict=True))


def digest(words: Words, members: Mapping[str, Sequence[str]]) -> str:
    """The SHA-256 of all that is said for these members of the vocabulary: a later one has no part in it."""
    said = hashlib.sha256()
    for line in _said(words, members):
        said.update(repr(line).encode())
    return said.hexdigest()


def _said(words: Words, members: Mapping[str, Sequence[str]]) -> Iterator[Any]:
    stops = {stop.value: text for text, stop in words.stops.items()}
    yield [(stop, stops[stop]) for stop in members["stops"]]
    reasons = (None, *map(Reason, members["reasons"]))
    outcomes = [Outcome(name) for name in members["outcomes"]]
    for job in map(Job, members["jobs"]):
        yield job.value, sorted(outcome.value for outcome in words.possible(job))
        for outcome in outcomes:
            yield outcome.value, words.meaning(outcome, job)
            for reason in reasons if outcome not in _SETTLED else ():
                yield reason, words.action(outcome, reason, job)
        for summary, executions in _runs(job, outcomes, members["stops"]):
            step = words.next_step(summary)
            sentence = words.sentence(summary, executions)
            yield words.verdict(summary).value, sentence, step and (step.command, step.when)


#: Nobody is told what to do about these.
_SETTLED = {Outcome.ERASED, Outcome.NOTHING_HELD, Outcome.ON_HOLD, Outcome.DONE}


def _runs(job: Job, outcomes: Sequence[Outcome], stops: Sequence[str]) -> Iterator[tuple[Summary, list[Execution]]]:
    totals: list[dict[Outcome, int]] = [{}, *({one: 1} for one in outcomes), *({one: 1_000} for one in outcomes)]
    totals += [{one: 2, Outcome.PENDING: 3, Outcome.ON_HOLD: 1, Outcome.FAILED: 4} for one in outcomes]
    ends = [[], [Execution(1, 0)], [Execution(1, 0, 1)]]
    ends += [[Execution(1, 0, 1, StopReason(stop)), Execution(2, 0, 1, StopReason(stop), joined=1)] for stop in stops]
    for number in totals:
        for end in ends:
            for rejected, accepted in ((0, False), (1, False), (2, True)):
                yield _summary(job, number, end, rejected, accepted=accepted), end


def _summary(
    job: Job, totals: dict[Outcome, int], executions: list[Execution], rejected: int, *, accepted: bool
) -> Summary:
    return Summary(
        run_id="RUN",
        plan=_plan(job, sum(totals.values()), rejected),
        totals=totals,
        stopped_by=executions[-1].stopped_by if executions else None,
        cut_short=not executions or executions[-1].ended_at is None,
        started_at=0,
        purged_at=None,
        acceptance=Acceptance(0, rejected) if accepted else None,
        done={None: totals[Outcome.DONE]} if Outcome.DONE in totals else {},
    )


@cache
def _plan(job: Job, subjects: int, rejected: int) -> Plan:
    return Plan(
        toolkit="",
        job=job.value,
        target="api.example/Shop",
        base_url="",
        environment="live",
        generation="current",
        created_at="2026-01-01T00:00:00Z",
        input=PlannedInput(path="", size=0, format="", id_column=""),
        rows=PlannedRows(read=subjects + rejected, rejected=rejected, duplicates=0, subjects=subjects),
    )


def pages() -> str:
    """The SHA-256 of the pages that this version makes of the reports in the fixtures."""
    made = hashlib.sha256()
    with tarfile.open(FIXTURES / f"{PACKS}.tar.xz") as archive:
        for name in sorted(name for name in archive.getnames() if name.endswith("/report.json")):
            found = archive.extractfile(name)
            report = msgspec.json.decode(found.read() if found else b"", type=Report)
            made.update(render(report, []).encode())
    return made.hexdigest()


def main() -> None:
    """Write down what this version says; what is there of earlier ones stays."""
    members = {name: [one.value for one in kind] for name, kind in MEMBERS.items()}
    record = known() if RECORD.exists() else {}
    for version, words in words_by_version().items():
        if version == __version__ or version not in record:
            record[version] = {"words": digest(words, members), **members}
    record[__version__]["pages"] = pages()
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
