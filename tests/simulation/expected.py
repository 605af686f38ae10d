"""What has to be reached, so that a quiet simulation fails: each fault with what may become of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from privacy_toolkit.core.model import Job
from tests.simulation.besides import PARTS
from tests.simulation.faults import FAULTS, Place

if TYPE_CHECKING:
    from tests.simulation.campaign import Tally

#: Faults that are about no one: it is enough that they happen.
ABOUT_NOBODY = frozenset(
    name for name, one in FAULTS.items() if one.place not in {Place.ANSWER, Place.WINDOW, Place.OTHERS}
)
#: Anyone who met such a fault may be anything in the end: these outcomes have to be among it.
EVERYWHERE = frozenset({"done", "erased"})
#: Those whose subject is certain to have been open at some time, besides: what was lost is looked up or left open.
LOSING = frozenset(
    {
        "drop_after",
        "drop_before",
        "truncated",
        "hang",
        "slow",
        "applied_late",
        "error_502_html",
        "error_504",
        "bare_503",
    }
)
#: Which outcomes each job has to come to, after some execution.
OUTCOMES: dict[Job, frozenset[str]] = {
    Job.ERASE: frozenset({"erased", "nothing_held", "unverified", "residual", "retryable", "unknown", "pending"}),
    Job.EXPORT: frozenset({"done", "nothing_held", "retryable", "pending"}),
    Job.RESERVE: frozenset({"done", "on_hold", "failed", "retryable", "unknown", "pending"}),
    Job.RELEASE: frozenset({"done", "retryable", "unknown", "pending"}),
    Job.ASSIGN: frozenset({"done", "on_hold", "failed", "retryable", "unknown", "pending"}),
    Job.HOLDERS: frozenset({"done", "retryable", "pending"}),
    Job.REFERRALS: frozenset({"done", "on_hold", "failed", "retryable", "unknown", "pending"}),
    Job.EVENTS: frozenset({"done", "on_hold", "failed", "retryable", "unknown", "pending"}),
    Job.PROFILES: frozenset({"done", "on_hold", "failed", "retryable", "unknown", "pending"}),
    Job.SESSIONS: frozenset({"done", "on_hold", "failed", "retryable", "unknown", "pending"}),
    Job.AUDIENCES: frozenset({"done", "on_hold", "failed", "retryable", "unknown", "pending"}),
}


def missing(tally: Tally) -> list[str]:
    """What was not reached of all that is possible."""
    return [*missing_faults(tally, FAULTS), *_missing_pairs(tally), *_missing_outcomes(tally), *missing_parts(tally)]


def missing_faults(tally: Tally, names: Iterable[str]) -> list[str]:
    """The faults among ``names`` that never happened."""
    return [name for name in names if not tally.faults[name]]


def missing_parts(tally: Tally) -> list[str]:
    """What was never reached of what is next to a profile."""
    return [
        f"{job} {part}" for job, parts in PARTS.items() for part in sorted(parts) if not tally.parts[job.value, part]
    ]


def _missing_pairs(tally: Tally) -> list[str]:
    pairs = {(name, outcome) for name in FAULTS if name not in ABOUT_NOBODY for outcome in _possible(name)}
    return [f"{name} and {outcome}" for name, outcome in sorted(pairs) if not tally.reached[name, outcome]]


def _possible(name: str) -> frozenset[str]:
    if name == "reserved_by_others":
        return frozenset()
    return EVERYWHERE | {"unknown"} if name in LOSING else EVERYWHERE


def _missing_outcomes(tally: Tally) -> list[str]:
    return [
        f"{job} {outcome}"
        for job, outcomes in OUTCOMES.items()
        for outcome in sorted(outcomes)
        if not tally.stood[job.value, outcome]
    ]
