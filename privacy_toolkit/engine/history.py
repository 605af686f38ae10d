"""What earlier runs of the same state folder know."""

from __future__ import annotations

from collections.abc import Collection

from privacy_toolkit.engine.plan import plan_of
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.model import Outcome

_ABSENT = frozenset({Outcome.ERASED, Outcome.NOTHING_HELD})


def all_known_absent(ids: Collection[str], state: StateFolder, target: str, current: str) -> bool:
    """Whether earlier runs on ``target`` found every one of ``ids`` absent or erased it.

    Then a list that answers nothing but 404 is no sign of the wrong environment.
    """
    missing = set(ids)
    for run_id in state.run_ids():
        if not missing:
            break
        if run_id != current:
            with state.open(run_id) as journal:
                if plan_of(journal).target == target:
                    missing -= journal.among(missing, _ABSENT)
    return not missing
