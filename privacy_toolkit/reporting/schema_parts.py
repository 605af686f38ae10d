"""The parts of a report that hang on people, on days and on seconds."""

from __future__ import annotations

import msgspec

from privacy_toolkit.model import Control, Regime


class SignedBy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key, by its SHA-256 fingerprint, and the name its owner goes by, if one was given."""

    name: str | None
    fingerprint: str


class Hand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody who had a hand in the run, as far as it was recorded: a name, a key by its fingerprint, a time."""

    name: str | None
    fingerprint: str | None
    at: str | None


class Hands(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who planned, approved and ran it.

    ``approved`` null: no approval was given. ``ran`` has one entry for each name and key that worked on the run, with
    the beginning of their first sitting.
    """

    planned: Hand
    approved: Hand | None
    ran: tuple[Hand, ...]


class Due(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Open requests of one day. ``days_left`` is below zero once the due date has passed, null where there is none."""

    requested_on: str
    due_on: str | None
    days_left: int | None
    subjects: int


class Clock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The legal clock: open requests against their due dates, on the day (UTC) the report was made.

    ``dated`` is how many subjects, holds left out, came with a date of request. ``oldest`` is the oldest open request,
    ``first_due`` the one with the earliest due date; both are null where no open request has such a date. ``overdue``
    subjects were due before that day, ``due_soon`` are due on it or within seven days. ``settled_in_time`` and
    ``settled_late`` count subjects with a due date that are erased, not held or done, by the day (UTC) they were
    settled.
    """

    regime: Regime
    on: str
    dated: int
    open_dated: int
    open_undated: int
    oldest: Due | None
    first_due: Due | None
    overdue: int
    due_soon: int
    settled_in_time: int
    settled_late: int


class AgeGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Open subjects by whole days since their request. ``most_days`` null: no end; both null: no date was given."""

    least_days: int | None
    most_days: int | None
    subjects: int


class PacePoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The requests begun in a stretch of time. ``at`` is its beginning, ``seconds`` its length."""

    at: str
    seconds: float
    requests: int
    per_second: float


class PaceSitting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One sitting's pace. ``limit`` is requests a second, null where it was not recorded."""

    number: int
    limit: float | None
    points: tuple[PacePoint, ...]


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast requests were begun, in stretches of ``step`` seconds; ``least``, ``median``, ``most`` are a second.

    ``sittings_left_out`` of the earliest sittings that made requests are not in it.
    """

    step: int
    least: float
    median: float
    most: float
    sittings: tuple[PaceSitting, ...]
    sittings_left_out: int


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a random sample of the accepted erasures says of all of them.

    ``read`` were in the sample, ``showing`` of them still showed data or could not be read, ``not_read`` were not in
    it. With a confidence of 95 per cent at most ``upper_share`` (0 to 1, one-sided Clopper-Pearson) of all accepted
    erasures still showed data: at most ``upper_not_read`` of those that were not read.
    """

    read: int
    showing: int
    not_read: int
    confidence: float
    upper_share: float
    upper_not_read: int


class RejectedReason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refused rows of one reason: how many, and where the first of them stand in the input. All are in rejected.csv."""

    reason: str
    count: int
    rows: tuple[int, ...]


class AcceptedPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who accepted that rows were refused and nobody acts on them, and when; null: no signing key was set."""

    at: str
    name: str | None
    fingerprint: str | None


class RejectedPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The refused rows of the input.

    ``recorded`` is false where a run of an older version counted them only. ``accepted`` is null where the operator
    did not accept exactly their number.
    """

    recorded: bool
    accepted: AcceptedPart | None
    reasons: tuple[RejectedReason, ...]


class ControlLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The controls of one kind: how many held, failed, and had no reliable answer."""

    control: Control
    held: int
    failed: int
    unanswered: int


class ControlsPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The requests that proved the route and not a subject, counted apart.

    ``longest_gap`` is the longest time, in seconds, between two route or positive controls that held, one after the
    other; ``most_absences`` the most answers "no such profile" between two of them. Null: there were no two. ``needed``
    is whether the job settles subjects by such answers.
    """

    needed: bool
    lines: tuple[ControlLine, ...]
    longest_gap: float | None
    most_absences: int | None
