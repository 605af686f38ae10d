"""What really happened in a simulated world: every request that arrived, what it did, and what it was told."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from privacy_toolkit.sandbox.faults import FaultKind

#: Faults that tell something wrong in the API's own words: no client can tell one such answer from the API's.
LIES = frozenset(
    {
        FaultKind.FALSE_404,
        FaultKind.ANOTHER_NAMELESS,
        FaultKind.NOT_APPLIED,
        FaultKind.OWN_503,
        FaultKind.STALE_READS,
        "wrong_host",
        "another_environment",
        "shifted",
        "stray",
        "respelled",
    }
)


@dataclass(slots=True)
class Arrived:
    """One request at the API. ``acted``: it was carried out for it; ``told``: a status that left for the client."""

    at: float
    operation: str
    value: str
    customers: tuple[str, ...]
    rows: tuple[str, ...]
    acted: bool
    status: int
    fault: str | None
    is_ours: bool = True  # not repeated by a proxy, and not carried out later than it came


@dataclass(slots=True)
class Ledger:
    """The truth. ``lies`` are the faults that said something wrong about somebody in the API's own words.

    ``struck`` are the faults that met a request about somebody, ``sent`` counts what the client wrote about somebody.
    """

    arrived: list[Arrived] = field(default_factory=list)
    about: defaultdict[str, list[Arrived]] = field(default_factory=lambda: defaultdict(list))
    lies: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    struck: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    faults: Counter[str] = field(default_factory=Counter)
    outside: set[str] = field(default_factory=set)  # about whom somebody else did something
    gone: set[str] = field(default_factory=set)  # customers who were not visible at some instant after an erasure
    returned: set[str] = field(default_factory=set)  # customers whom somebody else made again after that

    def enter(self, one: Arrived) -> None:
        """Note a request."""
        self.arrived.append(one)
        for key in {one.value, *one.rows, *one.customers} - {""}:
            self.about[key].append(one)
            if one.fault is not None:
                self.struck[key].add(one.fault)
                if one.fault in LIES:
                    self.lies[key].add(one.fault)
        if one.fault is not None:
            self.faults[one.fault] += 1

    def happened(self, fault: str) -> None:
        """Note a fault that is about nobody."""
        self.faults[fault] += 1
