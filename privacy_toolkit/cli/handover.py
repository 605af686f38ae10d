"""What a run hands over beside its pack: the file for which it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privacy_toolkit.cli.output import count, say
from privacy_toolkit.engine.verdict import Summary
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.model import Job, Outcome


@dataclass(frozen=True, slots=True)
class Handed:
    """A file that was handed over, and whether all is in it that was asked for."""

    path: Path
    rows: int
    is_complete: bool

    def as_object(self) -> dict[str, Any]:
        """The same as JSON."""
        return {"path": str(self.path), "rows": self.rows, "complete": self.is_complete}


def hand_over(journal: RunJournal, summary: Summary) -> Handed | None:
    """Write the file that the plan names, from what the journal keeps of the answers; None if there is nothing to do.

    What is kept is forgotten as soon as the file is durable and nothing is open any more. As long as something is, the
    file holds what is there, and the next sitting writes it anew.

    Raises:
        TableFileError: it can't be written; what is kept stays.
        JournalError: what is kept can't be destroyed.
    """
    out = summary.plan.out
    if not out or summary.purged or summary.plan.job == Job.EXPORT:  # an export hands over person by person
        return None
    done = summary.totals.get(Outcome.DONE, 0)
    if done and not any(True for _ in journal.results()):
        return None  # handed over in an earlier sitting, and forgotten
    rows = _written(Path(out), journal, summary)
    if summary.open:
        say(f"{count(summary.open, 'subject')} still open: what is about them is missing in {out}.")
    else:
        journal.forget_results()
    return Handed(Path(out), rows, not summary.open)


def _written(out: Path, journal: RunJournal, summary: Summary) -> int:
    """Write the file of the run's job; how many rows it has."""
    guard = bool(summary.plan.parameters.get("spreadsheet_safe"))
    if summary.plan.job == Job.REFERRALS:
        from privacy_toolkit.reporting.codefile import write_codes

        return write_codes(out, lambda: ((subject, kept) for subject, _, kept in journal.results()), guard=guard)
    from privacy_toolkit.reporting.holderfile import write_holders

    return write_holders(
        out,
        lambda: ((subject.id, kept) for subject, _, kept in journal.results()),
        with_attributes=bool(summary.plan.parameters.get("with_attributes")),
        guard=guard,
    )
