"""The words of each format of a report: those of today as the toolkit has them, those of a format before as they were.

A wording belongs to a format. Anyone who changes a sentence, a meaning or an action makes a new format, and freezes the
words of the one before in a file next to this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from privacy_toolkit.core.model import Job, Outcome, Reason, StopReason, Verdict
from privacy_toolkit.engine.summary import Summary
from privacy_toolkit.journal.records import Execution
from privacy_toolkit.reporting import words as sentences
from privacy_toolkit.reporting import words as wording
from privacy_toolkit.reporting.schema import FORMAT_BEFORE, NextStep

#: How a report says that an execution was not stopped; the words of a stop are in its format's own.
UNRECORDED: Final = "its end was not recorded (a crash, or still under way)"
TO_ITS_END: Final = "went to its end"


@dataclass(frozen=True, slots=True)
class Words:
    """What a report of one format says. ``stops`` are the words by which an execution's end is told from its stop."""

    stops: Mapping[str, StopReason]
    possible: Callable[[Job], frozenset[Outcome]]
    meaning: Callable[[Outcome, Job], str]
    action: Callable[[Outcome, Reason | None, Job], str]
    verdict: Callable[[Summary], Verdict]
    sentence: Callable[[Summary, Sequence[Execution]], str]
    next_step: Callable[[Summary], NextStep | None]


def words_of(form: str) -> Words:
    """The words of a report's format."""
    return _before() if form == FORMAT_BEFORE else _now()


@cache
def _now() -> Words:
    return Words(
        stops={text: stop for stop, text in wording.STOPS.items()},
        possible=wording.possible,
        meaning=lambda outcome, job: wording.outcome_words(outcome, job)[1],
        action=wording.action,
        verdict=lambda summary: summary.verdict,
        sentence=sentences.sentence,
        next_step=sentences.next_step,
    )


class _JobWords(msgspec.Struct, frozen=True):
    meanings: dict[str, str]
    actions: dict[str, str]
    possible: list[Outcome]


class _Frozen(msgspec.Struct, frozen=True):
    """The words of ``report/2``, as version 0.x had them."""

    stops: dict[str, str]
    meanings: dict[str, str]
    actions: dict[str, str]
    actions_by_reason: dict[str, str]
    jobs: dict[str, _JobWords]

    def meaning(self, outcome: Outcome, job: Job) -> str:
        return self.jobs[job].meanings.get(outcome) or self.meanings[outcome]

    def action(self, outcome: Outcome, reason: Reason | None, job: Job) -> str:
        own = self.jobs[job].actions
        for key in (f"{outcome.value}/{reason and reason.value}", outcome.value):
            if key in own:
                return own[key]
        return self.actions_by_reason.get(reason or "") or self.actions[outcome]

    def sentence(self, summary: Summary, executions: Sequence[Execution]) -> str:
        told = self._verdict(summary, executions)
        if summary.plan.parameters.get("dry"):
            return f"Dry run: the API was asked to evaluate each request and to store nothing. {told}"
        return told

    def _verdict(self, summary: Summary, executions: Sequence[Execution]) -> str:
        total, open_, failed = summary.plan.rows.subjects, summary.open, summary.failed
        if not executions and open_:
            return f"Not started: {_subjects(total)} planned, {open_:,} open."
        verdict = _verdict_before(summary)
        if verdict in {Verdict.STOPPED, Verdict.REFUSED}:
            return f"Stopped early with {_subjects(open_)} still open: {self._ending(executions[-1])}."
        if verdict is Verdict.OPEN_ITEMS:
            return _unfinished_before(open_, failed)
        return self._complete(summary, total)

    def _complete(self, summary: Summary, total: int) -> str:
        if summary.stopped_by is StopReason.WRONG_ENVIRONMENT:
            return f"Complete, but check the environment: {self.stops[StopReason.WRONG_ENVIRONMENT]}."
        if total == 0:
            return "Complete: there was nothing to do."
        return f"Complete: {'the one subject is' if total == 1 else f'all {total:,} subjects'} settled."

    def _ending(self, execution: Execution) -> str:
        if execution.stopped_by is not None:
            return self.stops[execution.stopped_by]
        return UNRECORDED if execution.ended_at is None else TO_ITS_END


@cache
def _before() -> Words:
    content = Path(__file__).with_name("words.report-2.json").read_bytes()
    frozen = msgspec.json.decode(content, type=_Frozen)
    return Words(
        stops={text: StopReason(stop) for stop, text in frozen.stops.items()},
        possible=lambda job: frozenset(frozen.jobs[job].possible),
        meaning=frozen.meaning,
        action=frozen.action,
        verdict=_verdict_before,
        sentence=frozen.sentence,
        next_step=_next_before,
    )


def _verdict_before(summary: Summary) -> Verdict:
    if summary.stopped_by is StopReason.CREDENTIALS_REFUSED and summary.open:
        return Verdict.REFUSED
    if (summary.stopped_by is not None or summary.cut_short) and summary.open:
        return Verdict.STOPPED
    return Verdict.OPEN_ITEMS if summary.open or summary.failed else Verdict.COMPLETE


def _next_before(summary: Summary) -> NextStep | None:
    if summary.open:
        return NextStep(
            command=f"privacy-toolkit runs resume {summary.run_id}",
            when="Next: go on with what is open. Nothing that is settled is done again.",
        )
    if _verdict_before(summary) is Verdict.COMPLETE:
        return NextStep(
            command=f"privacy-toolkit runs purge {summary.run_id}",
            when="Nothing is left to do. When these rows need no longer be linked to people, destroy ids and key:",
        )
    return None


def _unfinished_before(open_: int, failed: int) -> str:
    if not failed:
        return f"Finished with {_subjects(open_)} still open."
    if not open_:
        return f"Finished, but {_subjects(failed)} failed."
    return f"Finished with {_subjects(open_)} still open and {failed:,} failed."


def _subjects(count: int) -> str:
    return f"{count:,} subject{'' if count == 1 else 's'}"
