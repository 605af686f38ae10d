"""What the console shows: runs, deadlines and packs as pages, read from a state and changing nothing."""

from __future__ import annotations

import os
import re
import shlex
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import msgspec

from privacy_toolkit.app import runs
from privacy_toolkit.app.upkeep import holds, verifier_of
from privacy_toolkit.app.workers import Looks, Standing, standing
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.durable import read_regular
from privacy_toolkit.core.model import OPEN_OUTCOMES, Job, Outcome, ToolkitError, Verdict, explained
from privacy_toolkit.engine.open_requests import job_of, register
from privacy_toolkit.engine.plan import Summary
from privacy_toolkit.evidence.verify.findings import Verification, signature_said
from privacy_toolkit.jobs import jobs_that
from privacy_toolkit.journal.state import existing_state
from privacy_toolkit.journal.store import State
from privacy_toolkit.reporting.html import Tile, render_page
from privacy_toolkit.reporting.pace import shares
from privacy_toolkit.reporting.words import next_step, outcome_words

#: So many runs are on one page, and so many packs are listed.
RUNS_LISTED: Final = 30
PACKS_LISTED: Final = 100
#: Of so many runs the looks are kept from which a pace is told.
_RUNS_WATCHED: Final = 64
#: Due within so many days is soon.
SOON: Final = 7
#: No report is larger, in bytes; see ``evidence.verify``.
_LARGEST_REPORT: Final = 1 << 24

_ONE = re.compile(r"/(older|runs|packs)/([0-9a-z-]{1,100})(/report|/verify)?")
_RUN_ID = re.compile(r"\d{8}-\d{6}-[a-z]+-[0-9a-f]+")

#: What a page of ours may do: use what this server has, and nothing else.
POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
#: What the report of a pack may do, which may be anybody's: be looked at. ``sandbox`` gives it an origin of its own.
REPORT_POLICY: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
_ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48"><circle cx="24" cy="24" r="21" fill="#fff"'
    ' stroke="#17633f" stroke-width="4"/><path d="M14 24.5l7 7 13.5-14.5" fill="none" stroke="#17633f"'
    ' stroke-width="5"/></svg>'
)
_FILES: Final = {
    "/style.css": ("console.css", "text/css; charset=utf-8"),
    "/console.js": ("console.js", "text/javascript; charset=utf-8"),
}


class ConsolePage(msgspec.Struct, frozen=True):
    """An answer of the console: a status, and either a body of some ``kind`` or the place to go on to."""

    status: HTTPStatus
    body: bytes = b""
    kind: str = "text/html; charset=utf-8"
    policy: str = POLICY
    location: str = ""


#: The answer about whatever is not there, whatever was asked for.
NOT_THERE: Final = ConsolePage(HTTPStatus.NOT_FOUND, b"There is nothing here.\n", "text/plain; charset=utf-8")


class PackCheck(msgspec.Struct, frozen=True):
    """The check of a pack that was asked for here: under way until there is a result, or an error that kept it."""

    at: str = ""
    found: Verification | None = None
    error: ToolkitError | None = None

    @property
    def is_over(self) -> bool:
        """Whether it ended."""
        return self.found is not None or self.error is not None


class CopiedCommand(msgspec.Struct, frozen=True):
    """A command for the terminal, quoted for a shell, and when it is the one to run."""

    when: str
    command: str


class _OneByOne:
    """Does what it is given in one thread, one after the other; it keeps no process from ending."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], object]] = SimpleQueue()
        threading.Thread(target=self._go, name="console-checks", daemon=True).start()

    def __call__(self, work: Callable[[], object]) -> None:
        self._work.put(work)

    def _go(self) -> None:
        while True:
            self._work.get()()


@dataclass(slots=True)
class Console:
    """Answers requests for pages, from any thread. Nothing of the state is changed, and no id of a subject is shown.

    ``base`` is what every path of a page begins with. ``flags`` are added to commands, so that they are about the same
    state. ``clock`` gives microseconds since the epoch, ``monotonic`` seconds; ``begin`` has a check done some time.
    """

    settings: Settings
    base: str = ""
    flags: Sequence[str] = ()
    clock: Callable[[], int] = lambda: time.time_ns() // 1000
    monotonic: Callable[[], float] = time.monotonic
    begin: Callable[[Callable[[], object]], object] = field(default_factory=_OneByOne)
    _looks: OrderedDict[str, Looks] = field(default_factory=OrderedDict, init=False)
    _checks: dict[str, PackCheck] = field(default_factory=dict, init=False)
    _database: State | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def get(self, path: str) -> ConsolePage:
        """Answer a GET; ``path`` comes after ``base`` and is as it was sent."""
        return self._shown(lambda: self._got(path))

    def post(self, path: str) -> ConsolePage:
        """Answer a POST: the one thing that can be begun here is the check of a pack."""
        one = _ONE.fullmatch(path)
        if one is None or (one[1], one[3]) != ("packs", "/verify"):
            return NOT_THERE
        run_id = one[2]
        return self._shown(lambda: self._begin_check(run_id))

    def _shown(self, made: Callable[[], ConsolePage]) -> ConsolePage:
        """Give a page; where it can't be made, one that says why."""
        try:
            return made()
        except Exception as error:  # noqa: BLE001 - it ends no server
            known = explained(error)[0]
            return self._page("error", "This can't be shown", HTTPStatus.SERVICE_UNAVAILABLE, error=known)

    def _got(self, path: str) -> ConsolePage:
        if path in _FILES:
            name, kind = _FILES[path]
            return ConsolePage(HTTPStatus.OK, render_page(name).encode(), kind)
        if path == "/icon.svg":
            return ConsolePage(HTTPStatus.OK, _ICON.encode(), "image/svg+xml")
        fixed: dict[str, Callable[[], ConsolePage]] = {
            "/": self._list_runs,
            "/due": self._due,
            "/packs": self._list_packs,
        }
        if path in fixed:
            return fixed[path]()
        one = _ONE.fullmatch(path)
        if one is None:
            return NOT_THERE
        several: dict[tuple[str, str | None], Callable[[str], ConsolePage]] = {
            ("older", None): self._list_runs,
            ("runs", None): self._run,
            ("runs", "/report"): self._report,
            ("packs", None): self._pack,
        }
        show = several.get((one[1], one[3]))
        return NOT_THERE if show is None else show(one[2])

    def _page(
        self,
        name: str,
        title: str,
        status: HTTPStatus = HTTPStatus.OK,
        /,
        *,
        job: str | None = None,
        section: str = "",
        environment: str | None = None,
        **values: Any,
    ) -> ConsolePage:
        body = render_page(
            "console.html.j2",
            job,
            name=name,
            title=title,
            section=section or name,
            base=self.base,
            now=self._now(),
            environment=environment,
            settings=self.settings,
            **values,
        )
        return ConsolePage(status, body.encode())

    def _now(self) -> str:
        return datetime.fromtimestamp(self.clock() / 1e6, UTC).isoformat(timespec="seconds")

    def _today(self) -> date:
        return datetime.fromtimestamp(self.clock() / 1e6, UTC).date()

    def _state(self) -> State:
        """The state as it is now; that of a database is kept, with the connections it has idle."""
        with self._lock:
            if self._database is None:
                state = existing_state(self.settings.state, self.settings.state_key)
                self._database = state if self.settings.is_in_database else None
                return state
            return self._database

    def _command(self, when: str, command: str) -> CopiedCommand:
        """A command about this state; what comes from outside is quoted for the shell."""
        return CopiedCommand(when, " ".join([command, *map(shlex.quote, self.flags)]))

    # Runs.

    def _list_runs(self, before: str | None = None) -> ConsolePage:
        state, today = self._state(), self._today()
        ids = state.run_ids()
        if before is not None:
            if before not in ids:
                return NOT_THERE
            ids = ids[ids.index(before) + 1 :]
        lines = [runs.listed(state, run_id, today) for run_id in ids[:RUNS_LISTED]]
        under_way = sum(line["verdict"] == Verdict.RUNNING for line in lines)
        return self._page(
            "runs",
            "Runs",
            lines=lines,
            total=len(ids),
            under_way=under_way,
            is_first=before is None,
            older=lines[-1]["run_id"] if ids[RUNS_LISTED:] else None,
            unreadable=sum("error" in line for line in lines),
            set_aside=state.ids_set_aside(),
            overdue=sum(line["overdue"] or 0 for line in lines),
            start=self._command("Runs are begun in a terminal, such as:", "privacy-toolkit erase requests.csv"),
        )

    def _run(self, run_id: str) -> ConsolePage:
        state = self._state()
        if run_id not in state.run_ids():
            return NOT_THERE
        check = self._checks.get(run_id)
        has_report = self._pack_file(run_id, "report.html").is_file()
        try:
            with state.open(run_id) as journal:
                now = self._compared(standing(journal))
        except ToolkitError as error:
            return self._page(
                "damaged",
                f"Run {run_id}",
                section="runs",
                run_id=run_id,
                line=runs.unreadable(run_id, error),
                has_report=has_report,
                check=check,
            )
        summary = now.summary
        tiles = tiles_of_run(summary)
        return self._page(
            "run",
            f"Run {run_id}",
            job=summary.plan.job,
            section="runs",
            environment=summary.plan.environment,
            now_=now,
            summary=summary,
            tiles=tiles,
            shares=_shares(tiles, summary),
            started=_moment(summary.started_at),
            purged_at=None if summary.purged_at is None else _moment(summary.purged_at),
            step=self._next(now),
            has_report=has_report,
            write=self._command("", f"privacy-toolkit runs report {run_id}"),
            check=check,
            today=self._today().isoformat(),
        )

    def _compared(self, now: Standing) -> Standing:
        """A look at a run next to those before it."""
        with self._lock:
            run_id = now.summary.run_id
            seen = self._looks.setdefault(run_id, Looks())
            self._looks.move_to_end(run_id)
            while len(self._looks) > _RUNS_WATCHED:
                self._looks.popitem(last=False)
            return seen.compared(now, self.monotonic())

    def _next(self, now: Standing) -> CopiedCommand | None:
        if not now.is_over:
            stop = f"privacy-toolkit runs stop {now.summary.run_id}"
            return self._command("A process is at work on it; nothing has to be done. To stop it, in a terminal:", stop)
        step = next_step(now.summary)
        return None if step is None else self._command(step.when, step.command)

    def _report(self, run_id: str) -> ConsolePage:
        """The report as it is in the pack."""
        if run_id not in self._packs() and run_id not in self._state().run_ids():
            return NOT_THERE
        place = self._pack_file(run_id, "report.html")
        if place.is_symlink():
            return NOT_THERE
        try:
            body = read_regular(place, _LARGEST_REPORT)
        except OSError:
            return NOT_THERE
        return ConsolePage(HTTPStatus.OK, body, policy=REPORT_POLICY)

    # Deadlines.

    def _due(self) -> ConsolePage:
        state, today = self._state(), self._today()
        found = register(state, today, jobs_that(lambda job: job.has_clock))
        held, _ = holds(state, today)
        days = [(line.subjects, line.days_left) for line in found.due]
        return self._page(
            "due",
            "Deadlines",
            found=found,
            held=held,
            soon=sum(subjects for subjects, left in days if left is not None and 0 <= left <= SOON),
            later=sum(subjects for subjects, left in days if left is not None and left > SOON),
            undated=sum(subjects for subjects, left in days if left is None),
            within=SOON,
            command_=self._command("The same in a terminal, also as a calendar:", "privacy-toolkit due"),
        )

    # Packs, and their verification.

    def _pack_file(self, run_id: str, name: str) -> Path:
        return self.settings.pack(run_id) / name

    def _packs(self) -> list[str]:
        """The names of the packs in the folder of all packs, newest first."""
        found: list[str] = []
        with suppress(FileNotFoundError), os.scandir(self.settings.packs) as entries:
            found = [e.name for e in entries if _RUN_ID.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
        return sorted(found, reverse=True)

    def _list_packs(self) -> ConsolePage:
        names = self._packs()
        lines = [(name, job_of(name), self._checks.get(name)) for name in names[:PACKS_LISTED]]
        return self._page(
            "packs",
            "Packs",
            lines=lines,
            total=len(names),
            folder=str(self.settings.packs),
            is_checking=any(check is not None and not check.is_over for _, _, check in lines),
        )

    def _pack(self, run_id: str) -> ConsolePage:
        if run_id not in self._packs():
            return NOT_THERE
        check, signers = self._checks.get(run_id), self.settings.trust.allowed_signers
        given = [] if signers is None else ["--signers", str(signers)]
        arguments = [str(self.settings.pack(run_id)), "--chain", str(self.settings.packs), *given]
        command = CopiedCommand(
            "The same in a terminal, offline:", shlex.join(["privacy-toolkit", "verify", *arguments])
        )
        return self._page(
            "pack",
            f"Pack of run {run_id}",
            section="packs",
            run_id=run_id,
            check=check,
            has_report=self._pack_file(run_id, "report.html").is_file(),
            has_run=run_id in self._state().run_ids(),
            command_=command,
            signed_said="" if check is None or check.found is None else signature_said(check.found),
        )

    def _begin_check(self, run_id: str) -> ConsolePage:
        """Have a pack checked some time, unless that is under way."""
        if run_id not in self._packs():
            return NOT_THERE
        with self._lock:
            check = self._checks.get(run_id)
            is_new = check is None or check.is_over
            if is_new:
                self._checks[run_id] = PackCheck()
        if is_new:
            self.begin(partial(self._check, run_id))
        return ConsolePage(HTTPStatus.SEE_OTHER, location=f"{self.base}/packs/{run_id}")

    def _check(self, run_id: str) -> None:
        now = datetime.fromtimestamp(self.clock() / 1e6, UTC)
        try:
            found = verifier_of(self.settings, now)(self.settings.pack(run_id), chain=self.settings.packs)
            self._checks[run_id] = PackCheck(self._now(), found)
        except Exception as error:  # noqa: BLE001 - told on the page
            self._checks[run_id] = PackCheck(self._now(), error=explained(error)[0])


def tiles_of_run(summary: Summary) -> list[Tile]:
    """One tile for each outcome with subjects, settled ones first; and one that says so if nothing is open."""
    words = outcome_words(Job(summary.plan.job))
    settled = [outcome for outcome in Outcome if outcome not in OPEN_OUTCOMES and summary.totals.get(outcome)]
    still = [outcome for outcome in Outcome if outcome in OPEN_OUTCOMES and summary.totals.get(outcome)]
    tiles = [Tile(words[outcome][0], summary.totals[outcome], outcome.value) for outcome in settled]
    return tiles + (
        [Tile(words[one][0], summary.totals[one], "open") for one in still] or [Tile("Still open", 0, "none")]
    )


def _shares(tiles: Sequence[Tile], summary: Summary) -> Any:
    parts = [(tile.label, tile.count, tile.kind) for tile in tiles]
    return shares([*parts, ("Refused rows", summary.rejected, "rejected")])


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="seconds")
