"""Purging a run, and making sure that what was to go is gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from privacy_toolkit.engine.grounds import catch_up
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.errors import JournalError
from privacy_toolkit.journal.staging import left_over, sweep
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.journal.suppression import Suppression
from privacy_toolkit.reporting.traces import Traces


def purge_run(state: StateFolder, run_id: str, plan: Plan) -> None:
    """Destroy the ids and the secret of a run, then search all of its files for them. The caller holds the lock.

    Raises:
        JournalError: it could not be done, or something is left; the message says what and where.
    """
    with Suppression(state.path, state.key) as listed:  # before the ids are gone
        catch_up(listed, state, complete=False)
    with state.open(run_id) as journal:
        traces = Traces(journal.traces())
        journal.purge(int(datetime.now(UTC).timestamp() * 1e6), plan.without_input().encode())
    remain = _holding(traces, [state.runs / run_id, state.pack(run_id)]) if len(traces) else []
    if remain:
        raise JournalError(
            f"Run {run_id} was purged, but ids, or the secret, are still in: {', '.join(map(str, remain))}.",
            "These files are not of the toolkit's making, or were copied while it worked. Remove them yourself.",
            code="remains",
        )


def purge_left_over(state: StateFolder) -> list[str]:
    """Remove what processes that died while they created a run have left behind, and say what it was called.

    Raises:
        JournalError: something can't be removed.
    """
    names = [folder.name for folder in left_over(state.runs)]
    remain = sweep(state.runs)
    if remain:
        raise JournalError(
            f"It can't be removed: {', '.join(map(str, remain))}.", "Remove it yourself: it holds ids.", code="remains"
        )
    return names


def _holding(traces: Traces, places: list[Path]) -> list[Path]:
    """The files at some places in which one of the traces stands, or that can't be read, so nobody knows."""
    return [path for place in places for path in _files(place) if _holds(traces, path)]


def _files(place: Path) -> Iterator[Path]:
    return (path for path in sorted(place.rglob("*")) if path.is_file() and not path.is_symlink())


def _holds(traces: Traces, path: Path) -> bool:
    try:
        return traces.are_in(path)
    except OSError:
        return True
