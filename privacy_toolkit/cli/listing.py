"""The lines of ``privacy-toolkit runs list``."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from privacy_toolkit.engine.history import job_of
from privacy_toolkit.engine.verdict import summarize
from privacy_toolkit.errors import ToolkitError
from privacy_toolkit.journal.packages import decode_package
from privacy_toolkit.journal.reading import RunReader
from privacy_toolkit.journal.state import StateFolder


def listed(state: StateFolder, run_id: str, today: date) -> dict[str, Any]:
    """A run as one object (contract, section 2), with the legal clock of its open subjects.

    ``rejected`` is how many rows of its input were refused, where nobody accepted that. ``due_on`` is the earliest due
    date of an open subject, ``overdue`` how many were due before ``today``. Of a run that can't be read only what its
    id says is known; ``error`` says why.
    """
    try:
        with state.open(run_id) as journal:
            summary = summarize(journal)
            dated = [requests for requests in journal.open_requests() if requests.due_on is not None]
    except ToolkitError as error:
        return _unreadable(run_id, error)
    started = datetime.fromtimestamp(summary.started_at / 1e6, UTC)
    return {
        "run_id": run_id,
        "job": summary.plan.job,
        "target": summary.plan.target,
        "verdict": summary.verdict.value,
        "started_at": started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "subjects": summary.plan.rows.subjects,
        "open": summary.open,
        "rejected": summary.rejected_unaccepted,
        "due_on": dated[0].due_on if dated else None,
        "overdue": sum(r.subjects for r in dated if r.due_on is not None and r.due_on < today.isoformat()),
    }


def _unreadable(run_id: str, error: ToolkitError) -> dict[str, Any]:
    try:
        began = datetime.strptime("-".join(run_id.split("-")[:2]), "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
        started_at = began.isoformat(timespec="seconds").replace("+00:00", "Z")
    except ValueError:
        started_at = None
    return {
        "run_id": run_id,
        "job": job_of(run_id),
        "target": None,
        "verdict": "damaged" if error.code == "damaged" else "unreadable",
        "started_at": started_at,
        "subjects": None,
        "open": None,
        "due_on": None,
        "overdue": None,
        "error": {"code": error.code, "message": error.message, "hint": error.hint},
    }


def package_names(journal: RunReader) -> dict[int, dict[str, str]]:
    """The name of the package of each subject that has one, by the subject's number: it tells whose a package is."""
    found = ((subject.seq, decode_package(result)) for subject, _, result in journal.results())
    return {seq: {"package": facts.name} for seq, facts in found if facts is not None}


def told(line: dict[str, Any]) -> str:
    """The same for people."""
    if line["subjects"] is None:
        return f"{line['run_id']}  {line['verdict']:<11}"
    due = f"  due {line['due_on']}" if line["due_on"] else ""
    refused = f"  {line['rejected']:,} rows REFUSED" if line["rejected"] else ""
    overdue = f"  {line['overdue']:,} OVERDUE" if line["overdue"] else ""
    return (
        f"{line['run_id']}  {line['verdict']:<11}{line['subjects']:>12,} subjects{line['open']:>12,} open"
        f"  {line['target']}{due}{overdue}{refused}"
    )
