"""The register of requests and its figures: every request over all runs, as CSV, JSON, a page, a calendar, and counts.

No id is in any of them. A request is named by its ticket and by the pseudonym that its row has in the pack.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cache
from heapq import nsmallest
from statistics import median
from typing import Any, Final

import jinja2
import msgspec
from markupsafe import Markup
from msgspec.structs import asdict

from privacy_toolkit.core.model import OPEN_OUTCOMES, Outcome, count
from privacy_toolkit.core.privacy import templates_folder
from privacy_toolkit.engine.open_requests import WITHDRAWN, Days, is_past
from privacy_toolkit.journal.store import RunReader
from privacy_toolkit.reporting.html import visible
from privacy_toolkit.reporting.rows import csv_line

#: Grounds of ours that refuse nobody: the request was answered, or must not be carried out twice.
NO_REFUSAL: Final = frozenset({WITHDRAWN, "already_exported", "suppressed", "over_budget", "not_erased"})
#: So many requests are listed on the page; all are in CSV and JSON.
LISTED_REQUESTS: Final = 2_000


class RequestLine(msgspec.Struct, frozen=True, kw_only=True):
    """One request of one run. Days are ISO 8601 (UTC), None where there is none or it is not known.

    ``reference`` is the pseudonym of its row, None once the run is purged. ``ground`` is why it is on hold. ``settled``
    is the day of the observation that its outcome rests on; ``answered`` the day on which the answer was sent, as
    somebody recorded it. ``taken_over_by`` is a later run in which the same person's request goes on. ``pack`` is
    where the run's pack is, "" if not in the state folder.
    """

    run_id: str
    job: str
    target: str
    environment: str
    reference: str | None
    ticket: str | None
    received: str | None
    due: str | None
    extended: bool
    outcome: Outcome
    ground: str | None
    settled: str | None
    answered: str | None
    taken_over_by: str | None
    pack: str

    @property
    def state(self) -> str:
        """``open``, ``waiting`` (settled, and no answer is recorded), ``answered`` or ``taken_over``."""
        if self.taken_over_by is not None:
            return "taken_over"
        if self.outcome in OPEN_OUTCOMES:
            return "open"
        if self.outcome is Outcome.ON_HOLD and self.ground in NO_REFUSAL - {WITHDRAWN}:
            return "answered"  # by what an earlier run did; this one has no letter for them
        return "waiting" if self.answered is None else "answered"

    def is_overdue(self, today: str) -> bool:
        """Whether the person waits for an answer, or the work on it, past the last day in time.

        Of a purged run nobody can tell any more who was answered: only what is open there is overdue.
        """
        waits = self.state == "open" or (self.state == "waiting" and self.reference is not None)
        return waits and self.due is not None and self.due < today

    def as_object(self) -> dict[str, Any]:
        """The line as JSON."""
        return {**{name: getattr(self, name) for name in _NAMES}, "outcome": self.outcome.value, "state": self.state}


_NAMES: Final = RequestLine.__struct_fields__
HEADER: Final = (*_NAMES, "state")


class PurgedRequests(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the requests of a purged run: numbers. ``answered`` counts those whose answer was recorded."""

    run_id: str
    job: str
    target: str
    environment: str
    purged_on: str
    subjects: int
    first_received: str | None
    last_received: str | None
    outcomes: Mapping[str, int]
    answered: Mapping[str, int]
    pack: str


class RequestRegister(msgspec.Struct, frozen=True, kw_only=True):
    """The register on a day. ``lines`` can be gone through repeatedly.

    Runs that are ``unreadable`` are missing, and so are those that somebody has ``set_aside``.
    """

    today: date
    lines: Callable[[], Iterator[RequestLine]]
    purged: Sequence[PurgedRequests] = ()
    unreadable: Sequence[str] = ()
    set_aside: Sequence[str] = ()

    def as_object(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "today": self.today.isoformat(),
            "states": dict(sorted(Counter(line.state for line in self.lines()).items())),
            "requests": [line.as_object() for line in self.lines()],
            "purged": [asdict(run) for run in self.purged],
            "unreadable": list(self.unreadable),
            **({"set_aside": list(self.set_aside)} if self.set_aside else {}),
        }


def csv_of(register: RequestRegister) -> Iterator[bytes]:
    """The register as CSV: a line for each request, then one for each purged run with outcomes in place of one.

    No spreadsheet takes a cell for a formula.
    """
    yield csv_line(HEADER)
    for line in register.lines():
        found = line.as_object()
        yield csv_line(tuple(_cell(found[name]) for name in HEADER))
    for run in register.purged:
        said = {**asdict(run), "outcome": _counted(run.outcomes), "answered": _counted(run.answered), "state": "purged"}
        said["received"] = " to ".join(filter(None, dict.fromkeys((run.first_received, run.last_received))))
        yield csv_line(tuple(_cell(said.get(name)) for name in HEADER))


def _cell(value: Any) -> str:
    return {True: "yes", False: "no", None: ""}.get(value, str(value)) if not isinstance(value, str) else value


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items())


# Figures of a year: what 11 CCR 7102 asks a business to compile, and Article 5(2) GDPR a controller to be able to show.


class RequestFigures(msgspec.Struct, kw_only=True):
    """What came of the requests of one kind that were received in a year.

    ``complied`` are erased or handed over, ``nothing_held`` those about whom nothing is held, ``refused`` those on hold
    on a ground, by ``refused_by_ground``. ``answered_before`` are requests that an earlier export answered. ``undated``
    came without a day and count by the day of their run. ``answered`` counts recorded answers; of purged runs only
    their number is left, so their days are in no median. The lengths of time are days since the request.
    """

    received: int = 0
    undated: int = 0
    extended: int = 0
    complied: int = 0
    nothing_held: int = 0
    refused: int = 0
    refused_by_ground: Counter[str] = msgspec.field(default_factory=Counter)
    withdrawn: int = 0
    answered_before: int = 0
    failed: int = 0
    open: int = 0
    overdue: int = 0
    settled_in_time: int = 0
    settled_late: int = 0
    answered: int = 0
    answered_in_time: int = 0
    answered_late: int = 0
    days_to_settle: Counter[int] = msgspec.field(default_factory=Counter)
    days_to_answer: Counter[int] = msgspec.field(default_factory=Counter)

    def add(self, line: RequestLine, today: str) -> None:
        """Count a request."""
        self.received += 1
        self.undated += line.received is None
        self.extended += line.extended
        self.overdue += line.is_overdue(today)
        self._add_outcome(line)
        if line.settled is not None and line.outcome not in OPEN_OUTCOMES:
            self._add_days(line, line.settled, self.days_to_settle)
            if line.due is not None:
                self.settled_in_time += line.settled <= line.due
                self.settled_late += line.settled > line.due
        if line.answered is not None:
            self.answered += 1
            self._add_days(line, line.answered, self.days_to_answer)
            if line.due is not None:
                self.answered_in_time += line.answered <= line.due
                self.answered_late += line.answered > line.due

    def _add_outcome(self, line: RequestLine) -> None:
        if line.outcome in OPEN_OUTCOMES:
            self.open += 1
        elif line.outcome is Outcome.FAILED:
            self.failed += 1
        elif line.outcome is Outcome.NOTHING_HELD:
            self.nothing_held += 1
        elif line.outcome is not Outcome.ON_HOLD:
            self.complied += 1
        elif line.ground == WITHDRAWN:
            self.withdrawn += 1
        elif line.ground in NO_REFUSAL:
            self.answered_before += 1
        else:
            self.refused += 1
            self.refused_by_ground[line.ground or "none given"] += 1

    @staticmethod
    def _add_days(line: RequestLine, until: str, days: Counter[int]) -> None:
        if line.received is not None:
            days[max(0, (date.fromisoformat(until) - date.fromisoformat(line.received)).days)] += 1

    def as_object(self) -> dict[str, Any]:
        """The figures as JSON: medians in place of the days; null where there is nothing to take one of."""
        found: dict[str, Any] = asdict(self)
        for name in ("settle", "answer"):
            days = found.pop(f"days_to_{name}")
            found[f"median_days_to_{name}"] = median(days.elements()) if days else None
        return {**found, "refused_by_ground": dict(sorted(self.refused_by_ground.items()))}


def figures(
    lines: Iterable[tuple[RequestLine, date]], year: int, today: date, kinds: Iterable[str]
) -> dict[str, RequestFigures]:
    """Count the requests of a year by job; each comes with the day of its run, for those without a day of their own."""
    found = {kind: RequestFigures() for kind in kinds}
    for line, begun in lines:
        received = date.fromisoformat(line.received) if line.received else begun
        if received.year == year and line.taken_over_by is None:
            found.setdefault(line.job, RequestFigures()).add(line, today.isoformat())
    return found


#: What the figures are called for people, in their order.
FIGURES: Final[Mapping[str, str]] = {
    "received": "Received",
    "undated": "  of them without a date (counted by their run)",
    "extended": "  of them extended",
    "complied": "Complied with",
    "nothing_held": "Nothing held",
    "refused": "Refused on a ground",
    "withdrawn": "Withdrawn",
    "answered_before": "Answered by an earlier export",
    "failed": "Failed",
    "open": "Still open",
    "overdue": "Overdue: open, or settled without a recorded answer",
    "settled_in_time": "Settled in time",
    "settled_late": "Settled late",
    "answered": "Answers recorded as sent",
    "answered_in_time": "  in time",
    "answered_late": "  late",
    "median_days_to_settle": "Median days until settled",
    "median_days_to_answer": "Median days until answered",
}


# The page.


def page_of(register: RequestRegister) -> str:
    """The register as a page for people: one file without scripts and network access."""
    environment = _environment()
    states = Counter(line.state for line in register.lines())
    today = register.today.isoformat()
    files = (environment.get_template(name) for name in ("style.css", "register.css"))
    style = "".join(file.render(run="", today=today) for file in files)
    overdue = sum(line.is_overdue(today) for line in register.lines())
    listed = nsmallest(LISTED_REQUESTS, register.lines(), key=_urgency)
    return environment.get_template("register.html.j2").render(
        register=register,
        today=today,
        style=Markup(style),  # noqa: S704 - ours
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        states=states,
        total=sum(states.values()),
        overdue=overdue,
        lines=listed,
        purged_subjects=sum(run.subjects for run in register.purged),
    )


def _urgency(line: RequestLine) -> tuple[bool, bool, str, str]:
    """What waits comes first, and of that what is due first."""
    return line.state not in {"open", "waiting"}, line.due is None, line.due or "", line.run_id


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_folder()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=visible,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number="{:,}".format, words=lambda code: str(code).replace("_", " "), counted=_counted, short=lambda t: t[:12]
    )
    return environment


# A calendar of due dates (RFC 5545): whole days, totals, and no id.


class CalendarDay(msgspec.Struct, frozen=True):
    """Something that is due on a day; ``key`` tells it from all others, ``text`` says more."""

    key: str
    day: str
    title: str
    text: str


_MAY_GO_ON: Final = OPEN_OUTCOMES | {Outcome.FAILED}


def going_on(journal: RunReader) -> Iterator[tuple[str, int, Days, bool]]:
    """Whose request was not carried out and may go on: id, number, days, and whether it is on hold.

    Who is on hold without a refusal, such as after a withdrawal, has no request that goes on.
    """
    for observed in journal.rows():
        outcome, request, subject = observed.state.outcome, observed.request, observed.subject
        is_held = outcome == Outcome.ON_HOLD
        if observed.state.hold_reason in NO_REFUSAL if is_held else outcome not in _MAY_GO_ON:
            continue
        days = (None, None) if request is None else (request.requested_on, request.due_on)
        yield subject.id, subject.seq, days, is_held


class HeldRequests(msgspec.Struct, frozen=True):
    """Subjects of a run that are on hold on one ground and to be reviewed on one day; None: on no day."""

    run_id: str
    job: str
    target: str
    reason: str | None
    review_on: str | None
    days_left: int | None
    subjects: int

    @property
    def is_past(self) -> bool:
        """Whether the day of the review is over."""
        return is_past(self.days_left)


def calendar_days(due: Iterable[Any], held: Iterable[HeldRequests]) -> Iterator[CalendarDay]:
    """What a calendar shows: due dates and reviews, in totals. ``due`` are ``DueRequest``."""
    for line in due:
        if line.due_on is not None:
            yield CalendarDay(
                f"due {line.run_id} {line.requested_on} {line.due_on}",
                line.due_on,
                f"{count(line.subjects, 'request')} due ({line.job}, {line.target})",
                f"Requested on {line.requested_on}. privacy-toolkit runs show {line.run_id}",
            )
    for one in held:
        if one.review_on is not None:
            yield CalendarDay(
                f"review {one.run_id} {one.reason} {one.review_on}",
                one.review_on,
                f"Review {count(one.subjects, 'hold')} on {one.reason} ({one.target})",
                f"privacy-toolkit due --holds; run {one.run_id}",
            )


def calendar(days: Iterable[CalendarDay], now: datetime) -> bytes:
    """The calendar file. The same day of the same run keeps its identity, so a calendar replaces what it had of it."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//privacy-toolkit//due//EN", "CALSCALE:GREGORIAN"]
    for one in days:
        begin = date.fromisoformat(one.day)
        uid = hashlib.sha256(one.key.encode()).hexdigest()[:32]
        lines += [
            "BEGIN:VEVENT",
            f"UID:{uid}@privacy-toolkit",
            f"DTSTAMP:{now:%Y%m%dT%H%M%SZ}",
            f"DTSTART;VALUE=DATE:{begin:%Y%m%d}",
            *([f"DTEND;VALUE=DATE:{begin + timedelta(days=1):%Y%m%d}"] if begin < date.max else []),
            f"SUMMARY:{_escaped(one.title)}",
            f"DESCRIPTION:{_escaped(one.text)}",
            "TRANSP:TRANSPARENT",
            "END:VEVENT",
        ]
    lines.append("END:VCALENDAR")
    return b"".join(_folded(line) for line in lines)


def _escaped(text: str) -> str:
    text = visible(text)
    for character in "\\;,":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", "\\n")


def _folded(line: str) -> bytes:
    """A content line in pieces of up to 75 bytes, none of which ends within a character."""
    pieces: list[bytes] = [b""]
    for character in line:
        encoded = character.encode("utf-8", "backslashreplace")
        if len(pieces[-1]) + len(encoded) > (75 if len(pieces) == 1 else 74):
            pieces.append(b"")
        pieces[-1] += encoded
    return b"\r\n ".join(pieces) + b"\r\n"
