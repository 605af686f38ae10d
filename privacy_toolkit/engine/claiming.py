"""What stands before anything is sent: one run at a time for a deployment, in a state folder that is what it seems."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from privacy_toolkit.api.operation import RetrySafety
from privacy_toolkit.api.operations import OPERATIONS
from privacy_toolkit.config import deployment_key
from privacy_toolkit.engine.history import look_through
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.errors import JournalError, RefusedError
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.model import OPEN_OUTCOMES


@contextmanager
def claimed(
    state: StateFolder,
    base_url: str,
    *,
    restored: bool = False,
    clock: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Iterator[None]:
    """Hold the lock on a deployment, in a state folder that is not a copy and not older than it was.

    Args:
        state: the folder.
        base_url: that of the deployment, in whatever way it is written.
        restored: whether somebody says that the folder was restored, copied or moved on purpose. What was open in it
            and can't be looked up is never sent then.
        clock: microseconds since the epoch.

    Raises:
        RefusedError: another process has the lock; or the folder is a copy or older than it was, and nobody says why.
        JournalError: the folder can't be written.
    """
    with state.lock(deployment_key(base_url)):
        with state.identity.locked():
            check_identity(state, restored=restored)
            if restored:
                _take_up(state, clock())
            state.identity.advance()
        try:
            yield
        finally:
            # The folder may be gone, or another one at its place, of which the run has told already.
            with suppress(OSError, JournalError), state.identity.locked():
                if not state.identity.doubt():
                    state.identity.advance()  # a copy that was made meanwhile is older too


def check_identity(state: StateFolder, *, restored: bool) -> None:
    """Make sure that the state folder is not a copy and not older than it was, unless somebody says why.

    Raises:
        RefusedError: it is (code ``restored``).
    """
    doubt = state.identity.doubt()
    if doubt and not restored:
        raise RefusedError(
            f"The state folder is not what it was: {doubt}. What was sent since may be missing. Nothing was sent.",
            "If it was restored, copied or moved on purpose, add --restored: what was open in it and can't be looked up"
            " is left to you then, and never sent. See docs/state.md.",
            code="restored",
        )


def _take_up(state: StateFolder, now: int) -> None:
    """Go on with a folder that may lack what was done since the copy was made."""

    def look(_: str, journal: RunJournal, plan: Plan) -> None:
        if journal.is_running or journal.purged_at is not None:
            return
        open_ = sum(count for outcome, count in journal.totals().items() if outcome in OPEN_OUTCOMES)
        if open_ and not _can_be_looked_up(plan):
            journal.mark_restored(now)

    look_through(state, look)
    state.adopt()
    state.identity.acknowledge(now)


def _can_be_looked_up(plan: Plan) -> bool:
    """Whether the API can be asked what became of the requests of a plan, or they may be sent twice."""
    return all(OPERATIONS[name].retry is not RetrySafety.NEVER for name in plan.calls if name in OPERATIONS)
