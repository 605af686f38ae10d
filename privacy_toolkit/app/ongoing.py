"""Runs as objects: one that is being worked on in the background, and one that is looked at."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import msgspec

from privacy_toolkit.app import runs, service, workers
from privacy_toolkit.app.plans import is_confirmed, sentence_to_confirm
from privacy_toolkit.app.work import Host, RunResult
from privacy_toolkit.config.settings import ExecutionOptions, Flags, Settings, load_settings
from privacy_toolkit.core.model import (
    LANGUAGES,
    ExitCode,
    RefusedError,
    StopReason,
    ToolkitError,
    UsageError,
    Verdict,
    explained,
)
from privacy_toolkit.engine.approval import hand_of
from privacy_toolkit.engine.limits import Event, Listener, PaceChanged, Stop, Working
from privacy_toolkit.engine.plan import Plan, Summary, summarize
from privacy_toolkit.evidence.verify.findings import Verification
from privacy_toolkit.evidence.verify.manifest import Trust
from privacy_toolkit.evidence.verify.verifier import Wanted, verify_pack
from privacy_toolkit.jobs import declaration
from privacy_toolkit.journal.state import existing_state, open_state
from privacy_toolkit.journal.store import State
from privacy_toolkit.reporting.words import next_step
from privacy_toolkit.signatures.signers import AllowedSigners

if TYPE_CHECKING:
    import pandas as pd

    from privacy_toolkit.app.requests import WrittenLetters

Clock: TypeAlias = Callable[[], int]
#: Events that wait to be taken; of more, the oldest are dropped. The journal keeps what counts.
MOST_EVENTS: Final = 10_000


class Remark(msgspec.Struct, frozen=True):
    """A sentence about a run, such as that an input has changed since. It holds no personal data."""

    text: str


class NotSettledError(ToolkitError):
    """A run did not settle everything; ``run`` is that run, and ``exit_code`` what the command line would end with."""

    code = "not_settled"

    def __init__(self, run: Run, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.run = run
        self.exit_code = run.exit_code


class Ongoing:
    """A run that is being worked on in the background.

    Iterating over it, with ``for`` or ``async for``, gives the engine's events and ``Remark`` until the end; who does
    not keep up misses some. ``result()``, or awaiting it, gives the run.
    """

    def __init__(
        self, work: Callable[[Host], RunResult], settings: Settings, clock: Clock, confirm: str | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._work = work
        self._host = Backstage(confirm)
        self._ended: RunResult | BaseException | None = None
        self._done = threading.Event()
        threading.Thread(target=self._go, name="privacy-toolkit").start()

    def _go(self) -> None:
        try:
            with service.telling(self._settings, self._host):
                self._ended = self._work(self._host)
        except BaseException as error:  # noqa: BLE001 - raised to anyone who asks for the result
            self._ended = error
        finally:
            self._done.set()
            self._host.over()

    def stop(self) -> None:
        """Ask it to stop: no new subject is begun, what is in flight is finished, and the run can be resumed."""
        self._host.ask(StopReason.TERMINATED)

    def result(self) -> Run:
        """Wait for the end, and return the run. Ctrl-C stops the run as ``stop`` does, and is raised when it ended.

        Raises:
            ToolkitError: nothing was begun, and why.
        """
        try:
            self._done.wait()
        except KeyboardInterrupt:
            self._host.ask(StopReason.INTERRUPTED)
            self._done.wait()
            raise
        if isinstance(self._ended, RunResult):
            return Run(self._settings, self._ended.run_id, self._ended, self._clock)
        raise explained(self._ended or RuntimeError())[0] from None

    def told_to(self, listen: Callable[[Event | Remark], None] | None) -> Run:
        """Call ``listen`` with everything until the end, and return the run; if it raises, the run is stopped first.

        Raises:
            ToolkitError: as ``result``.
        """
        if listen is not None:
            try:
                for event in self:
                    listen(event)
            except BaseException:
                self.stop()
                self._done.wait()
                raise
        return self.result()

    def __iter__(self) -> Iterator[Event | Remark]:
        while some := self._host.take():
            yield from some

    async def __aiter__(self) -> AsyncIterator[Event | Remark]:
        while some := await asyncio.to_thread(self._host.take):
            for event in some:
                yield event

    def __await__(self) -> Generator[Any, None, Run]:
        return self._wait().__await__()

    async def _wait(self) -> Run:
        waiting = asyncio.ensure_future(asyncio.to_thread(self._done.wait))
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            self.stop()
            await waiting
            raise
        return self.result()


class Run:
    """A run of the state folder: looked at, gone on with, reported, verified, purged. Opening it changes nothing."""

    def __init__(
        self, settings: Settings, run_id: str, result: RunResult | None = None, clock: Clock | None = None
    ) -> None:
        self.id = run_id
        self._settings = settings
        self._result = result
        self._clock: Clock = clock or microseconds

    @classmethod
    def open(cls, run: str = "latest", state: Path | str | None = None) -> Run:
        """Open a run by its id, an unambiguous beginning of it, or ``latest``.

        ``state`` is the state folder; without one, that of the settings (environment, configuration file, default).

        Raises:
            UsageError: there is no such run, or the settings or the state folder can't be used.
        """
        settings = load_settings(Flags(state=text_of(state)))
        folder = existing_state(settings.state, settings.state_key)
        return cls(settings, folder.find(run))

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @property
    def error(self) -> ToolkitError | None:
        """What went wrong the last time that this object worked on the run; None if nothing did."""
        return None if self._result is None or self._result.error is None else self._result.error[0]

    @property
    def pack(self) -> Path | None:
        """The folder of its audit pack; None where there is none."""
        if self._result is not None:
            return self._result.pack
        return RunResult(self.id, self._settings.pack(self.id)).pack

    @property
    def exit_code(self) -> ExitCode:
        """What the command line would end with: 0 if all is settled."""
        if self._result is not None and self._result.error is not None:
            return self._result.error[1]
        return self.summary().exit_code

    @property
    def verdict(self) -> Verdict:
        """How it stands as a whole."""
        return self.summary().verdict

    @property
    def outcomes(self) -> dict[str, int]:
        """How many subjects have which outcome."""
        return {outcome.value: number for outcome, number in self.summary().totals.items()}

    def summary(self) -> Summary:
        """How the run stands as a whole: verdict, totals, plan.

        Raises:
            JournalError: its journal can't be opened.
            ToolkitError: its sums don't add up (code ``sums``).
        """
        with self._state().open(self.id) as journal:
            return summarize(journal)

    def raise_for_status(self) -> Self:
        """Return the run itself if everything is settled: for a scheduler, which takes an error for a failure.

        Raises:
            NotSettledError: it is not, though nothing went wrong in the toolkit.
            ToolkitError: what went wrong.
        """
        if self.error is not None:
            raise self.error
        if self.exit_code is not ExitCode.SETTLED:
            summary = self.summary()
            step = next_step(summary)
            hint = "" if step is None else step.command
            raise NotSettledError(self, f"Run {self.id} ended as {summary.verdict}: {summary.open:,} open.", hint)
        return self

    def to_frame(self, *, ids: bool = False, results: bool = False) -> pd.DataFrame:
        """Every subject on a line, in the order of the pseudonyms: the rows of the pack, with a type for each column.

        Codes are categories, times are in UTC, dates are midnights without a zone, numbers that may be missing are
        nullable; ``sends`` holds a list of dicts. The whole run is held in memory, about 1 KB a subject.

        Args:
            ids: whether ``row`` (where the subject is in the input) and ``id`` come first. It is personal data then.
            results: whether columns with coupon values and the names of packages come last, as far as the
                job has them and they were not handed over yet. It is personal data then.

        Raises:
            RefusedError: the run was purged: no pseudonyms can be made, and there are no ids.
        """
        from privacy_toolkit.reporting.report import run_frame  # noqa: PLC0415 - only where a frame is wanted

        with self._state().open(self.id) as journal:
            shown = declaration(summarize(journal).plan.job).shown
            return run_frame(journal, ids=ids, shown=shown if results else None)

    def start(self, options: ExecutionOptions | None = None) -> Ongoing:
        """Go on with the run in the background: look up what is unknown, do what is open. It was confirmed once."""
        settings, clock, given = self._settings, self._clock, options or ExecutionOptions()
        return Ongoing(lambda host: service.resume(self.id, settings, given, host, clock), settings, clock)

    def resume(self, options: ExecutionOptions | None = None) -> Run:
        """Go on with the run, and return it, however far it came.

        Raises:
            ToolkitError: it can't be begun; nothing was sent.
        """
        return self.start(options).result()

    def report(self, pack: Path | str | None = None) -> Path:
        """Write the pack again, from the journal, and return its folder. Where nothing changed it is the same again.

        Raises:
            JournalError: it is under way.
            ToolkitError: it can't be written.
        """
        self._result = service.report(self.id, self._settings, text_of(pack))
        return self._result.folder

    def verify(self, signers: Path | str | None = None, *, require_approval: bool = False) -> Verification:
        """Check the pack of the run: files, rows, sums, signature.

        Args:
            signers: the list of allowed signers; that of the settings by default. With one, an unsigned pack fails.
            require_approval: whether it fails if no second person approved the plan.

        Raises:
            UsageError: there is no pack, or the list can't be used.
        """
        pack, listed = self.pack, path_of(signers) if signers else self._settings.trust.allowed_signers
        if pack is None:
            raise UsageError(f"Run {self.id} has no pack.", "Write one with report().")
        trust = Trust(None if listed is None else AllowedSigners.read(listed), service.moment(self._clock))
        return verify_pack(pack, trust, wanted=Wanted(approval=require_approval))

    def stop(self, why: str = "") -> None:
        """Ask those who work on the run to stop, here or elsewhere; what they have under way is finished first.

        Raises:
            UsageError: the reason can't be written down.
            RefusedError: nobody works on it.
        """
        workers.ask_to_stop(self._state(), self.id, why, self._clock)

    # The day of a data protection officer: answers to people, lists for other systems, people who change their mind.

    def letters(
        self,
        out: Path | str,
        templates: Path | str,
        *,
        lang: str = "en",
        with_open: bool = False,
        unsent: bool = False,
    ) -> WrittenLetters:
        """Write a letter for everybody whose request is settled or extended, and an index, into a new folder.

        Args:
            out: the folder; it holds personal data then.
            templates: the folder that ``privacy-toolkit letters init`` wrote, filled in.
            lang: ``en``, ``de``, ``fr`` or ``es``.
            with_open: whether those whose request is open hear that it is worked on.
            unsent: whether only those get one for whom no sent answer is recorded.

        Raises:
            UsageError: the run answers nobody's request, the folder is there, or the templates or the language can't be
                used. Nothing is written then.
            RefusedError: the run was purged.
            JournalError: the journal can't be read.
        """
        from privacy_toolkit.app.requests import LetterOrder, write_letters  # noqa: PLC0415 - only where it is asked for

        _check_language(lang)
        order = LetterOrder(
            out=path_of(out), templates=path_of(templates), lang=lang, with_open=with_open, unsent=unsent
        )
        return write_letters(self._state(), self.id, order, self._today())

    def record_sent(self, ids: Sequence[str] | None = None, *, on: date | None = None) -> tuple[int, int]:
        """Record that answers were sent on a day; how many, and how many of the run still wait for theirs.

        Args:
            ids: who was sent theirs; all who are settled and have none recorded by default.
            on: the day, today by default (UTC).

        Raises:
            UsageError: the day is to come, or an id is not in the run or has no answer. Nothing is recorded then.
            RefusedError: the run was purged.
            JournalError: it can't be written.
        """
        from privacy_toolkit.app.requests import record_sent  # noqa: PLC0415 - only where it is asked for

        today = self._today()
        return record_sent(
            self._state(), self.id, None if ids is None else _listed(ids), checked_day(on) or today, today
        )

    def withdraw(self, ids: Sequence[str], *, restored: bool = False) -> int:
        """Take people out whose requests were withdrawn, all or none, and write the pack again; how many.

        ``restored``: the state folder was restored, copied or moved on purpose.

        Raises:
            UsageError: somebody can't be taken out. Nothing is changed then.
            RefusedError: the run is under way, or purged.
            ToolkitError: it can't be written.
        """
        settings = self._settings
        order = runs.WithdrawOrder(self.id, _listed(ids), settings, hand_of(settings.trust), restored)
        withdrawn = runs.withdraw(open_state(settings.state, settings.state_key), order, self._clock)
        self.report()
        return withdrawn

    def export(self, out: Path | str, *, confirmed: bool = False, spreadsheet_safe: bool = False) -> int:
        """Write what came of every subject, with ids, to a file; how many rows it has.

        Args:
            out: the file: ``.csv``, ``.parquet`` or ``.xlsx``. It is for its owner alone, and replaces an earlier one.
            confirmed: whether only who was erased is in it: a list for other systems (Article 19 GDPR).
            spreadsheet_safe: whether no spreadsheet can take a cell of a CSV for a formula.

        Raises:
            UsageError: the file can't be written, or erasures are asked for of a run that erases nobody.
            RefusedError: the run was purged.
        """
        return runs.write_outcomes(
            self._state(), self.id, str(path_of(out)), confirmed=confirmed, guard=spreadsheet_safe
        )

    def receipt(
        self, id_: str, out: Path | str, *, row: int | None = None, lang: str = "en", notice: Path | str | None = None
    ) -> Path:
        """Open one row of the pack for the person it is about, in a new folder for them, which is returned.

        Args:
            id_: the customer's id.
            out: the folder.
            row: which row of the input, if the id has several.
            lang: the language of its page.
            notice: the controller's notice: who answers, and in which time zone.

        Raises:
            UsageError: there is no pack, the id is not in it, or the folder is there.
            RefusedError: the run was purged.
            ToolkitError: the pack was changed, or the folder can't be written.
        """
        from privacy_toolkit.evidence import receipts  # noqa: PLC0415 - only where it is asked for

        ((id_,), folder) = _listed([id_]), path_of(out)
        if self.pack is None:
            raise UsageError(f"Run {self.id} has no pack.", "Write one with report().")
        _check_language(lang)
        link = receipts.read_link(self.pack)
        receipts.check_free(folder)
        with self._state().open(self.id) as journal:
            page = receipts.page_for(journal, lang, path_of(notice) if notice else None)
            receipt = receipts.receipt_of(journal, self.pack, link.head(), id_, row)
        receipts.write_receipt(receipt, link, folder, page)
        return folder

    def purge(self, *, confirm: str) -> None:
        """Destroy the ids of the run and its secret. The pack stays, and nothing links it to a person any more.

        ``confirm`` is ``purge`` and the run's id.

        Raises:
            RefusedError: that was not said, or the run is under way; nothing was done.
            JournalError: something is left; the message says what and where.
        """
        if str(confirm).strip() != runs.sentence_to_purge(self.id):
            raise RefusedError(
                "That needs a confirmation. Nothing was done.",
                f'Give it with confirm="{runs.sentence_to_purge(self.id)}"',
                code="not_confirmed",
            )
        state = self._state()
        runs.purge(state, runs.to_purge(state, self.id), service.moment(self._clock), self._settings.packs)

    def _state(self) -> State:
        return existing_state(self._settings.state, self._settings.state_key)

    def _today(self) -> date:
        return service.moment(self._clock).date()


def _check_language(lang: str) -> None:
    if lang not in LANGUAGES:
        raise UsageError("There are no words in that language.", f"The languages are: {', '.join(LANGUAGES)}.")


def _listed(ids: Sequence[Any]) -> list[str]:
    """Ids that were handed over one by one, each as text.

    Raises:
        UsageError: they are none, or not that.
    """
    listed = [] if isinstance(ids, str) else list(ids)
    if not listed or not all(isinstance(id_, str) and id_ for id_ in listed):
        raise UsageError("The ids are a list of texts that is not empty.", 'For one person: ["customer-00001"]')
    return listed


# What is between the caller's thread and the one that works.


class Backstage:
    """The host of a run that nobody watches at a terminal: it keeps what is told, and hands on the wish to stop."""

    def __init__(self, confirmation: str | None) -> None:
        self._confirmation = confirmation
        self._changed = threading.Condition()
        self._told: deque[Event | Remark] = deque(maxlen=MOST_EVENTS)
        self._is_over = False
        self._ask: Callable[[StopReason], object] | None = None
        self._asked: StopReason | None = None

    def say(self, text: str) -> None:
        """Keep a sentence."""
        self._tell(Remark(text))

    def confirm(self, plan: Plan, settings: Settings) -> None:  # noqa: ARG002 - the preview was there to be looked at
        """Compare the confirmation that was given with the plan's."""
        check_confirmed(plan, self._confirmation)

    @contextmanager
    def events(self, doing: str) -> Iterator[Listener]:  # noqa: ARG002 - the host's signature
        """Keep the events."""
        yield self._tell

    @contextmanager
    def stopping(self, stop: Stop, drop: Callable[[], None]) -> Iterator[None]:  # noqa: ARG002 - nothing is ever dropped
        """Stop when ``ask`` was called, before or meanwhile."""
        loop = asyncio.get_running_loop()
        with self._changed:
            self._ask = lambda reason: loop.call_soon_threadsafe(stop.request, reason)
            if self._asked is not None:
                stop.request(self._asked)
        try:
            yield
        finally:
            with self._changed:
                self._ask = None

    def sealing(self) -> None:
        """Do nothing: nothing here could end the process."""

    def ask(self, reason: StopReason) -> None:
        """Ask for a stop, from any thread."""
        with self._changed:
            self._asked = reason
            if self._ask is not None:
                self._ask(reason)

    def over(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def take(self) -> list[Event | Remark]:
        """Wait for something, and take all there is; nothing is left when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._told or self._is_over)
            some = list(self._told)
            self._told.clear()
            return some

    def _tell(self, told: Event | Remark) -> None:
        if isinstance(told, Working) or (isinstance(told, PaceChanged) and not told.by_hand):
            return  # for listeners that look at the execution itself
        with self._changed:
            self._told.append(told)
            self._changed.notify_all()


def check_confirmed(plan: Plan, given: Any) -> None:
    """Make sure that a plan is confirmed.

    Raises:
        RefusedError: it is not; nothing was sent.
    """
    if not (given is None or isinstance(given, str)) or not is_confirmed(plan, given):
        raise RefusedError(
            "That is not the confirmation of this plan. Nothing was sent.",
            f'It is: confirm="{sentence_to_confirm(plan)}"',
            code="confirmation_missing" if given is None else "not_confirmed",
        )


def microseconds(clock: Callable[[], int] = time.time_ns) -> int:
    """The time, in microseconds since the epoch."""
    return clock() // 1000


def text_of(path: Any) -> str | None:
    """A path as text, as ``path_of`` takes it; None stays None."""
    return None if path is None else str(path_of(path))


def path_of(path: Any) -> Path:
    """A path, by what the caller gave for it.

    Raises:
        UsageError: it is none. What it is is not shown: a data frame would show what it holds.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(
            f"A {type(path).__name__} is no path.", "Give a text or a pathlib.Path. Only the rows may be a data frame."
        )
    return Path(path)


def checked_day(day: Any) -> date | None:
    """A day that the caller gave, None if none was.

    Raises:
        UsageError: it is no day, or one with a time.
    """
    if day is not None and (not isinstance(day, date) or isinstance(day, datetime)):
        raise UsageError("A day is a datetime.date here.", "Such as datetime.date(2026, 12, 31).")
    return day


def checked_number(name: str, number: Any, least: int, most: int | None = None) -> int | None:
    """A whole number that the caller gave, None if none was.

    Raises:
        UsageError: it is none, or too small or too large.
    """
    if number is None:
        return None
    is_whole = isinstance(number, int) and not isinstance(number, bool)
    if not is_whole or number < least or (most is not None and number > most):
        raise UsageError(f"{name} is a whole number from {least} {'on' if most is None else f'to {most}'}.")
    return int(number)
