"""What is said of a job in a report: the kinds of words, for ``jobwords`` and ``otherjobs`` to fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from privacy_toolkit.model import Outcome, Reason


@dataclass(frozen=True, slots=True)
class ProofWords:
    """The part that says what reads afterwards showed; for jobs whose effect is proven by reading.

    ``checked`` says by the plan's ``verify`` (``all``, ``sample``, ``none``) what was asked for; ``{size}`` is the
    sample's. ``predicates`` says by its version what counts as gone.
    """

    title: str
    contents: str
    checked: Mapping[str, str]
    gone: str
    still_there: str
    unverified: str
    counts_as: str
    predicates: Mapping[str, str]
    split_title: str
    split: Mapping[str, tuple[str, str]]
    kept_title: str
    kept_some: str
    kept_none: str
    sample: str
    sample_unreadable: str


@dataclass(frozen=True, slots=True)
class JobWords:
    """What a report of one job says.

    ``possible`` are the outcomes it can come to: the table shows them all, also where the count is zero. ``subject``
    is what one subject is. ``not_covered`` is what a run says nothing about, whatever its verdict. ``proof`` is None
    for a job that nothing is read for afterwards. ``has_clock`` is False where no law says by when a subject has to be
    settled, ``claims_absence`` is True where a settled subject may rest on "no such profile", so that controls are
    needed, ``reads_only`` is True where nothing is changed, so that nobody confirms it. ``late`` is what stays
    possible of requests whose answer was lost, with their number. ``actions`` are what to do about an outcome where the
    general word would be wrong, and ``outcomes`` name an outcome and say what it means where the general words are.
    """

    title: str
    possible: frozenset[Outcome]
    subject: str
    request: str
    repeats: str
    inventory: str | None
    not_covered: Mapping[str, str]
    proof: ProofWords | None = None
    has_clock: bool = True
    reads_only: bool = False
    claims_absence: bool = False
    late: str = ""
    actions: Mapping[tuple[Outcome, Reason | None], str] = field(default_factory=dict)
    outcomes: Mapping[Outcome, tuple[str, str]] = field(default_factory=dict)
