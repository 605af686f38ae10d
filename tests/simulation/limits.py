"""What no client can tell: false claims that rest on the API's own word, each by name and with its reason.

A false claim counts as a limit only where the ledger shows that the fault in question did tell that lie about the very
subject; everything else is a violation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.run import Simulation


@dataclass(frozen=True)
class Limit:
    """A limit: which lie, what is claimed because of it (as it begins), for which jobs (all where none is named)."""

    name: str
    lies: frozenset[str]
    claims: tuple[str, ...]
    reason: str
    jobs: frozenset[str] = frozenset()
    only_empty: bool = False


LIMITS: tuple[Limit, ...] = ()


def limit_of(simulation: Simulation, what: str, about: str) -> str | None:
    """The name of the limit that a false claim is, if it is one."""
    lies = simulation.ledger.lies.get(about, set())
    for limit in LIMITS:
        if (
            lies & limit.lies
            and what.startswith(limit.claims)
            and (not limit.jobs or simulation.spec.job in limit.jobs)
            and not (limit.only_empty and simulation.play.kind_of(about) != 2)
        ):
            return limit.name
    return None
