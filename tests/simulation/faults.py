"""All that can go wrong in a simulation, with how often it is chosen: one list, and what each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from privacy_toolkit.sandbox.faults import FaultKind


class Place(StrEnum):
    """Where a fault strikes."""

    ANSWER = "answer"  # a share of requests
    CONNECTION = "connection"  # a share of connections or writes
    WINDOW = "window"  # every request for some time
    NETWORK = "network"  # something happens to the network at some time
    DISK = "disk"
    PROCESS = "process"
    CLOCK = "clock"
    OTHERS = "others"  # somebody else changes the world


@dataclass(frozen=True)
class FaultDeclaration:
    """A kind of fault: ``weight`` is how often it is chosen for a run, ``share`` of what it strikes at most."""

    place: Place
    weight: float = 1.0
    share: float = 0.05


_STOPPING = 0.15  # faults that stop a run are chosen seldom, or the rest would never be seen


#: What nearly got through before is chosen more often.
FOREMOST = (
    FaultKind.FALSE_404,
    FaultKind.ANOTHER_NAMELESS,
    FaultKind.DUPLICATE_LATE,
    FaultKind.DROP_AFTER,
    FaultKind.APPLIED_LATE,
)


def _answers() -> dict[str, FaultDeclaration]:
    declared = {
        kind.value: FaultDeclaration(Place.ANSWER) for kind in FaultKind if kind is not FaultKind.CLOSED_AT_ONCE
    }
    declared[FaultKind.FOREIGN_401.value] = FaultDeclaration(Place.ANSWER, _STOPPING, 0.01)
    for name in ("own_401", "own_403", "retry_long"):
        declared[name] = FaultDeclaration(Place.ANSWER, _STOPPING, 0.01)
    for name in (
        "own_409",
        "own_400",
        "retry_date",
        "retry_nonsense",
        "close_unsaid",
        "http10",
        "no_length",
        "two_lengths",
        "cut_chunks",
        "interim_late",
        "two_pieces",
        "stray",
        "timed_out_idle",
        "shifted",
    ):
        declared[name] = FaultDeclaration(Place.ANSWER)
    for kind in FOREMOST:
        declared[kind.value] = FaultDeclaration(Place.ANSWER, 3.0)
    return declared


_FIRST: Mapping[str, FaultDeclaration] = {
    **_answers(),
    "refused": FaultDeclaration(Place.CONNECTION, share=0.3),
    "connect_reset": FaultDeclaration(Place.CONNECTION, share=0.3),
    "connect_timeout": FaultDeclaration(Place.CONNECTION, share=0.1),
    "closed_at_once": FaultDeclaration(Place.CONNECTION, share=0.3),
    "write_stalled": FaultDeclaration(Place.CONNECTION, share=0.02),
    "write_broken": FaultDeclaration(Place.CONNECTION, share=0.02),
    "split": FaultDeclaration(Place.CONNECTION, share=0.5),
    "keep_alive_race": FaultDeclaration(Place.CONNECTION),
    "wrong_host": FaultDeclaration(Place.WINDOW, 3.0),
    "another_environment": FaultDeclaration(Place.WINDOW),
    "foreign_host": FaultDeclaration(Place.WINDOW),
    "login_page": FaultDeclaration(Place.WINDOW),
    "silence": FaultDeclaration(Place.WINDOW, 0.5),
    "maintenance": FaultDeclaration(Place.WINDOW),
    "foreign_success": FaultDeclaration(Place.WINDOW),
    "flapping": FaultDeclaration(Place.WINDOW),
    "rate_limit": FaultDeclaration(Place.WINDOW),
    "redirecting": FaultDeclaration(Place.WINDOW),
    "partition": FaultDeclaration(Place.NETWORK),
    "stall": FaultDeclaration(Place.NETWORK),
    "unreachable": FaultDeclaration(Place.NETWORK),
    "reset_all": FaultDeclaration(Place.NETWORK),
    "slow_disk": FaultDeclaration(Place.DISK),
    "disk_full": FaultDeclaration(Place.DISK, 0.3),
    "moved": FaultDeclaration(Place.DISK, 0.3),
    "crash": FaultDeclaration(Place.PROCESS, 6.0),
    "terminated": FaultDeclaration(Place.PROCESS),
    "dropped": FaultDeclaration(Place.PROCESS),
    "window_closed": FaultDeclaration(Place.PROCESS),
    "failure_limit": FaultDeclaration(Place.PROCESS, 0.5),
    "clock_forward": FaultDeclaration(Place.CLOCK),
    "clock_back": FaultDeclaration(Place.CLOCK),
    "recreated": FaultDeclaration(Place.OTHERS),
    "removed": FaultDeclaration(Place.OTHERS),
    "reserved_by_others": FaultDeclaration(Place.OTHERS),
}

#: What was added when seeds had been written down already: drawn by a chance of its own, so that these stay what they
#: were but for it.
LATER: Mapping[str, FaultDeclaration] = {
    "stray_refusal": FaultDeclaration(Place.ANSWER, 5.0, 0.2),
    "stray_204": FaultDeclaration(Place.ANSWER, 2.0),
    "stray_interim": FaultDeclaration(Place.ANSWER),
    "interim_flood": FaultDeclaration(Place.ANSWER, 0.5),
    "cut_json": FaultDeclaration(Place.ANSWER),
    "doubled_member": FaultDeclaration(Place.ANSWER, 4.0, 0.2),
    "error_within": FaultDeclaration(Place.ANSWER, 2.0),
    "both_lengths": FaultDeclaration(Place.ANSWER),
    "empty_200": FaultDeclaration(Place.ANSWER),
    "retry_odd": FaultDeclaration(Place.ANSWER),
    "cached": FaultDeclaration(Place.WINDOW, 3.0),
    "no_right": FaultDeclaration(Place.WINDOW, 0.5),
}

#: What was added after that, for the same reason with another chance.
LATEST: Mapping[str, FaultDeclaration] = {
    "answered_early": FaultDeclaration(Place.CONNECTION, 3.0, 0.05),
    "blocked": FaultDeclaration(Place.ANSWER, 2.0),
    "turned_away": FaultDeclaration(Place.WINDOW, 2.0),
    "respelled": FaultDeclaration(Place.ANSWER, 2.0),
    "bare_lines": FaultDeclaration(Place.ANSWER),
    "accepted_202": FaultDeclaration(Place.ANSWER),
    "not_modified": FaultDeclaration(Place.ANSWER),
    "own_423": FaultDeclaration(Place.ANSWER),
    "own_425": FaultDeclaration(Place.ANSWER),
    "own_451": FaultDeclaration(Place.ANSWER),
}
FAULTS: Mapping[str, FaultDeclaration] = {**_FIRST, **LATER, **LATEST}

#: Which of them happen once, at some time of an execution.
TIMED = frozenset({Place.WINDOW, Place.NETWORK, Place.DISK, Place.PROCESS, Place.CLOCK, Place.OTHERS})
