"""What a random sample says of what was not read."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, floor, lgamma, log, log1p

from privacy_toolkit.journal.records import Sitting
from privacy_toolkit.journal.summary import StandingCount
from privacy_toolkit.model import Attribution, Outcome, Reason
from privacy_toolkit.reporting.schema_parts import Sample

CONFIDENCE = 0.95

_CLOSE = 1e-12  # where the bisection ends
_DIGITS = 1e9  # a bound is written with nine decimals, rounded up
_NOTHING = 1e-18  # what is smaller beside the sum no longer changes it


def sample_of(
    verify: str, standings: Sequence[StandingCount], sittings: Sequence[Sitting]
) -> tuple[Sample | None, str | None]:
    """The sample of a plan that asked for one (``sample:N``), or why no bound is given; both None without one.

    The sample is drawn by the run's secret from all subjects, whatever they hold, so those of it whose erasure was
    accepted are a random sample of all accepted erasures. That holds for a run of one sitting that went to its end: a
    stop leaves a part of the sample unread, and a resumed run reads more than the sample.
    """
    if not verify.startswith("sample:"):
        return None, None
    if len(sittings) != 1 or sittings[0].ended_at is None or sittings[0].stopped_by is not None:
        return None, (
            "The run was stopped or resumed, so what was read afterwards is not one random sample: no bound is given"
            " for what was not read."
        )
    read, showing, not_read = _counted(standings)
    if not read:
        return None, "No erasure of the sample was accepted, so the sample says nothing about what was not read."
    if not not_read:
        return None, "The sample held every accepted erasure: there is none that was not read."
    share = upper_share(showing, read)
    return Sample(
        read=read,
        showing=showing,
        not_read=not_read,
        confidence=CONFIDENCE,
        upper_share=share,
        upper_not_read=min(not_read, floor((read + not_read) * share) - showing),
    ), None


def upper_share(showing: int, read: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided upper Clopper-Pearson bound of a share of which a sample of ``read`` has ``showing``.

    The largest share under which so few in a sample are not less likely than ``1 - confidence``. It is found by
    bisection and cut upwards, so it is never too low. For a finite population it is, if anything, too high.

    Raises:
        ValueError: the sample is empty, or has fewer than none or more than all.
    """
    if not 0 <= showing <= read or not read:
        raise ValueError("a sample has at least one member, and between none and all of them show data")
    if showing == read:
        return 1.0
    low, high = showing / read, 1.0
    while high - low > _CLOSE:
        middle = (low + high) / 2
        if _at_most(showing, read, middle) >= 1 - confidence:
            low = middle
        else:
            high = middle
    return ceil(high * _DIGITS) / _DIGITS


def _at_most(showing: int, read: int, share: float) -> float:
    """How likely at most ``showing`` of ``read`` are, if each is one with the chance ``share`` > showing / read.

    The terms of the binomial distribution from ``showing`` downwards, where they shrink; the first through logarithms,
    since factorials of millions don't fit a float.
    """
    rest = read - showing
    choices = lgamma(read + 1) - lgamma(showing + 1) - lgamma(rest + 1)
    term = total = exp(choices + showing * log(share) + rest * log1p(-share))
    for k in range(showing, 0, -1):
        term *= k * (1 - share) / ((read - k + 1) * share)
        total += term
        if term < total * _NOTHING:
            break
    return total


def _counted(standings: Sequence[StandingCount]) -> tuple[int, int, int]:
    """Accepted erasures: in the sample, showing data or unreadable of them, and not in the sample."""
    read = showing = not_read = 0
    for s in standings:
        if s.outcome is Outcome.ERASED and s.attribution is Attribution.CONFIRMED:
            read += s.subjects
        elif s.outcome is Outcome.UNVERIFIED and s.reason is Reason.NOT_READ_YET:
            not_read += s.subjects
        elif s.outcome in {Outcome.UNVERIFIED, Outcome.RESIDUAL}:
            read += s.subjects
            showing += s.subjects
    return read, showing, not_read
