"""A job at the terminal: the preview of its plan, the confirmation, progress, signals, and the result."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from privacy_toolkit.app.plans import is_confirmed, sentence_to_confirm
from privacy_toolkit.app.runs import purged_object
from privacy_toolkit.app.service import found_again
from privacy_toolkit.app.work import RunResult
from privacy_toolkit.cli.options import CommandOptions
from privacy_toolkit.cli.output import (
    emit_json,
    error_object,
    fail,
    progress,
    quoted,
    result,
    rows_object,
    rows_sentence,
    say,
    spell_duration,
)
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.model import ExitCode, StopReason, UsageError, Verdict, count
from privacy_toolkit.engine.limits import Listener, Stop
from privacy_toolkit.engine.plan import Plan, PlannedClock, Summary
from privacy_toolkit.evidence.files import REJECTED, REPORT_HTML
from privacy_toolkit.inputs.options import InputWarning
from privacy_toolkit.jobs import declaration
from privacy_toolkit.reporting.pace import HeldBack
from privacy_toolkit.reporting.words import next_step
from privacy_toolkit.talonone.operations import OPERATIONS

#: The grounds that are the toolkit's own, not those of an exclusion list.
_OWN_GROUNDS = {
    "suppressed": "whose customers were erased",
    "already_exported": "whose request was exported already",
    "changed_since": "that a later run reserved or released",
    "not_erased": "who are not on the list of erased customers",
}


class Terminal:
    """The person at the terminal, or the one who started the command without one."""

    def __init__(self, options: CommandOptions, settings: Settings | None = None) -> None:
        self._options = options
        self._shown = options.progress
        if self._shown == "auto" and settings is not None and settings.logs_to_stderr:
            self._shown = "none"  # the log has it, and a bar would break its lines

    def say(self, text: str) -> None:
        """Say it on stderr."""
        say(text)

    def require_someone(self, name: str, *, reads_stdin: bool) -> None:
        """Make sure that a confirmation of the job ``name`` can be had at all, before anything is read.

        Raises:
            UsageError: nobody is there to type it, and none was given.
        """
        job, options = declaration(name), self._options
        is_anybody_there = not (options.no_input or reads_stdin or not is_terminal())
        if not job.writes or options.confirm is not None or is_anybody_there:
            return
        if job.confirmed_by:
            raise UsageError(
                f"{job.words.title} needs a confirmation, and there is no terminal to ask at. Nothing was sent.",
                "Make a plan with --plan FILE; it prints the sentence to give with --confirm,"
                f' "{job.confirmed_by.format(subjects="N", target="TARGET")}".',
                code="confirmation_missing",
            )
        raise UsageError(
            "This needs a confirmation, and there is no terminal to ask at. Nothing was sent.",
            "Look at the plan (--plan FILE), then give --confirm yes.",
            code="confirmation_missing",
        )

    def confirm(self, plan: Plan, settings: Settings) -> None:
        """Show the plan, and have it confirmed if its job writes.

        Raises:
            UsageError: it was not; nothing was sent.
        """
        if not self._options.quiet:
            preview(plan, settings)
        given, wanted = self._options.confirm, sentence_to_confirm(plan)
        if wanted is None:
            return
        if given is None and not declaration(plan.job).confirmed_by:
            given = "yes" if click.confirm("Go on?", default=False, err=True) else "no"
        elif given is None:
            given = _typed(wanted)
        if not is_confirmed(plan, given):
            raise UsageError(
                "That is not the confirmation of this plan. Nothing was sent.",
                f"It is:{confirmation(plan)}",
                code="not_confirmed",
            )

    def events(self, doing: str) -> AbstractContextManager[Listener]:
        """Show progress, as the options say."""
        return progress(self._shown, doing, quiet=self._options.quiet)

    @contextmanager
    def stopping(self, stop: Stop, drop: Callable[[], None]) -> Iterator[None]:
        """Stop at a signal.

        The first Ctrl-C, SIGTERM or SIGHUP lets what is in flight finish; a second Ctrl-C or SIGTERM drops it.
        """
        loop = asyncio.get_running_loop()
        asked = False

        def ask(number: int, reason: StopReason) -> None:
            nonlocal asked
            # A session that ends sends SIGHUP more than once, and SIGTERM too: only a second word of a person drops.
            if number != signal.SIGHUP:
                if asked:
                    drop()
                asked = True
            stop.request(reason)

        wanted = {signal.SIGINT: StopReason.INTERRUPTED, signal.SIGTERM: StopReason.TERMINATED}
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup had it ignored: that stays
            wanted[signal.SIGHUP] = StopReason.TERMINATED
        before = {number: signal.getsignal(number) or signal.SIG_DFL for number in wanted}
        for number, reason in wanted.items():
            loop.add_signal_handler(number, ask, number, reason)
        try:
            yield
        finally:
            for number in wanted:
                loop.remove_signal_handler(number)
                signal.signal(number, before[number])

    def sealing(self) -> None:
        """Let the session end: the pack is still to be written."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Until the result is shown; afterwards a session that ends is heard of again."""
        hangup = signal.getsignal(signal.SIGHUP)
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, hangup)


def confirmation(plan: Plan) -> str:
    """The option that confirms a plan on the command line, with a blank before it; "" for jobs that only read."""
    given = sentence_to_confirm(plan)
    if given is None:
        return ""
    return f' --confirm "{given}"' if " " in given else f" --confirm {given}"


def _typed(sentence: str) -> str:
    say("This cannot be undone. To continue, type:", alarming=True)
    say(f"  {sentence}")
    given: str = click.prompt("", prompt_suffix="> ", default="", show_default=False, err=True)
    return given


def require_typed(sentence: str, given: str | None, *, no_input: bool) -> None:
    """Have ``sentence`` typed, or given with ``--confirm``.

    Raises:
        UsageError: it was not.
    """
    if given is None and not no_input and is_terminal():
        given = _typed(sentence)
    if given is None or given.strip() != sentence:
        raise UsageError(
            "That needs a confirmation. Nothing was done.", f'Give it with --confirm "{sentence}"', code="not_confirmed"
        )


def preview(plan: Plan, settings: Settings) -> None:
    """Show what would be done."""
    rows = plan.rows
    say(f"{headline(plan)}  [{plan.environment.upper()}]")
    say(f"  Input     {rows_sentence(rows)}")
    _show_reading(plan)
    if rows.rejected:
        say(f"  REFUSED   {count(rows.rejected, 'row')}: nobody will act on {'it' if rows.rejected == 1 else 'them'}")
        say(f"            {', '.join(f'{n:,} {reason}' for reason, n in rows.rejected_by_reason.items())}")
        say(f"            {_inspection(plan)} shows them, row by row. The run ends with exit code 3,")
        say(f"            unless they are accepted as they are: --accept-rejected {rows.rejected}")
    if plan.exclusions is not None or rows.held:
        say(f"  On hold   {_held(plan)}")
    if plan.clock is not None:
        say(f"  Deadline  {_clock(plan.clock)}")
    for label, told in asked(plan):
        say(f"  {label:<9} {told}")
    if plan.observed:
        say(f"  Just now  {', '.join(_seen(name, number) for name, number in sorted(plan.observed.items()))}")
    _show_settings(settings)
    most_first = sorted(plan.calls.items(), key=lambda one: (-one[1][0], -one[1][1], one[0]))
    requests = ", ".join(f"{_range(*calls)} {OPERATIONS[name].operation_id}" for name, calls in most_first)
    say(f"  Requests  {requests}, retries apart")
    seconds = sum(least + most for least, most in plan.calls.values()) / 2 / settings.rate
    pace = f"{settings.rate:g} a second at most, {settings.concurrency} in flight"
    say(f"  Pace      {pace}; {spell_duration(seconds)} or more")
    say(f"  Plan      sha256 {plan.digest[:16]}…")


def _inspection(plan: Plan) -> str:
    """The command that judges the rows of the input as this plan did."""
    if declaration(plan.job).has_clock:
        return "privacy-toolkit inspect"
    api = plan.parameters.get("api", "v2")
    return f"privacy-toolkit inspect --as {plan.job}{'' if api == 'v2' else f' --api {api}'}"


def _show_settings(settings: Settings) -> None:
    """Show where the settings come from, and what is on the way to the target."""
    if settings.config_file is not None:
        say(f"  Settings  {settings.config_file}, profile {settings.profile}")
    proxy = settings.network.proxy_for(settings.base_url or "")
    if proxy is not None:
        say(f"  Proxy     {proxy.shown}, by the {proxy.origin}")


def _show_reading(plan: Plan) -> None:
    """Show how the input is read, where that is not what is usual for its kind."""
    given = plan.input
    told = [f"sheet {quoted(given.sheet)}"] if given.sheet else []
    columns = sorted((given.columns or {}).items(), key=lambda one: (one[0] != "customer_id", one[0]))
    told += [f"{name} = {quoted(theirs)}" for name, theirs in columns]
    told += [f"days as {quoted(given.date_format)}"] if given.date_format else []
    told += [f"keys by {quoted(Path(plan.identified.path).name)}"] if plan.identified else []
    told += [f"sessions of {quoted(Path(plan.sessions.path).name)}"] if plan.sessions else []
    if told:
        say(f"  Read as   {', '.join(told)}")


def headline(plan: Plan) -> str:
    """What would be done, to how many, and where."""
    words = declaration(plan.job).words.headline
    return f"{words.verb} {count(plan.rows.subjects - plan.rows.held, words.noun)} {words.joined} {plan.target}"


#: What is said of a parameter of a plan: a name of up to nine letters, and the words, with the value in them.
PARAMETERS: Final[Mapping[str, tuple[str, str]]] = {
    "achievements": ("Besides", "all achievements, with progress"),
    "after_days": ("Due", "{} days after the erasure"),
    "api": ("Version", "{} of the operation"),
    "as_of": ("As of", "{}, to work out what is due"),
    "cards": ("Besides", "single transactions of loyalty cards"),
    "carry": ("Carried", "columns {}"),
    "check": ("Check", "codes are read before they are assigned"),
    "codes": ("Codes", "{}"),
    "codes_held": ("In use", "{} codes"),
    "codes_looked_at": ("Codes", "who has each one was read"),
    "codes_rejected": ("Refused", "{} codes"),
    "codes_repeated": ("Repeated", "{} codes"),
    "codes_unknown": ("Unknown", "{} codes"),
    "coupons": ("Coupons", "{}"),
    "deal": ("Pairs", "{}"),
    "dry": ("Dry run", "the API evaluates each request and stores nothing"),
    "encrypt": ("Encrypted", "for {}"),
    "erased": ("Erased", "{} by that run"),
    "keep_days": ("Removed", "packages read more than {} days ago, first"),
    "lang": ("Language", "{}"),
    "listed": ("Whom", "those of the list who are on the list of erased customers"),
    "max_per_coupon": ("Budget", "{} for each coupon at most"),
    "new_only": ("Left out", "whom an earlier export answered"),
    "pack_number": ("Pack", "number {} of the chain"),
    "pack_root": ("Its rows", "{}"),
    "pack_sums": ("Its files", "{}"),
    "preset": ("File", "as {} imports it"),
    "reappeared": ("Whom", "those who reappeared in {}"),
    "rechecks": ("Whom", "those whom {} erased"),
    "run_rule_engine": ("Rules", "the rule engine runs"),
    "sample": ("Sample", "{} of them"),
    "seed": ("Seed", "{}"),
    "spreadsheet_safe": ("File", "guarded for spreadsheets"),
    "undoes": ("Undoes", "{}"),
    "unredeemed": ("Left out", "those who redeemed theirs"),
    "with_attributes": ("File", "with attributes of the customers"),
    "with_cards": ("Cards", "of programs {}, unlinked"),
    "with_loyalty": ("Ledgers", "of programs {}"),
    "zip": ("Packages", "one ZIP file each"),
}
#: What says whom a run is about comes before what refers to it.
_FIRST: Final = ("listed", "reappeared", "rechecks", "undoes")
_TOGETHER: Final = ("rows_at_once", "requests_at_once", "at_once")


def asked(plan: Plan) -> Iterator[tuple[str, str]]:
    """What a plan asks for besides its input, for people: names with words, always in the same order."""
    for name, value in sorted(plan.parameters.items(), key=lambda one: (one[0] not in _FIRST, one[0])):
        is_asked = value is not None and value is not False and (value != 0 or not name.startswith("codes_"))
        if is_asked and name not in _TOGETHER:
            label, words = PARAMETERS.get(name, (name.replace("_", " ").capitalize(), "{}"))
            words = words.replace("days", "day").replace("codes", "code") if value == 1 and value is not True else words
            yield label, words.format(_said(name, value))
    rows, requests = (int(plan.parameters.get(name) or 0) for name in _TOGETHER[:2])
    if rows:
        yield "Together", f"{count(rows, 'row')} in {count(requests, 'request')}"
    if plan.verify != "all" and declaration(plan.job).words.proof is not None:
        some = plan.verify.removeprefix("sample:")
        told = "nobody, so all stay open" if some == "none" else f"a sample of {some}; the others stay open"
        yield "Verified", told
    if plan.out is not None:
        yield "Output", quoted(str(plan.out))


def _seen(name: str, number: int) -> str:
    """So many of what was seen when the plan was made: ``1 unknown coupon``."""
    words = name.replace("_", " ")
    return f"{number:,} {words.removesuffix('s') if number == 1 else words}"


def _said(name: str, value: object) -> str:
    """The value of a parameter; of a digest its beginning, as of that of the plan."""
    if name == "reappeared" and value == "all":
        return "any patrol"
    if value is True:
        return "yes"
    if isinstance(value, int) and name != "seed":
        return f"{value:,}"
    text = str(value)
    return f"sha256 {text[:16]}…" if re.fullmatch("[0-9a-f]{64}", text) else text


def _left_out(summary: Summary, shown: RunResult) -> str:
    """What is not in the file of a run, where it should have a row for each subject."""
    if shown.handed is None:
        return ""
    missing = summary.plan.rows.subjects - shown.handed.rows
    if declaration(summary.plan.job).lists is not None and missing > 0:
        return f"; {missing:,} left out: not done, or with a code that is expired or used up"
    return "" if shown.handed.is_complete else ", not complete"


def _held(plan: Plan) -> str:
    listed = plan.exclusions
    told = (
        [f"{listed.matched:,} by {count(listed.entries, 'entry', 'entries')} of the exclusion list"] if listed else []
    )
    told += [f"{number:,} {_OWN_GROUNDS[ground]}" for ground, number in plan.rows.held_by_us.items()]
    return ", ".join(told)


def _range(least: int, most: int) -> str:
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def _clock(clock: PlannedClock) -> str:
    dated = f"{count(clock.dated, 'request')} with a date, the oldest of {clock.oldest_requested_on}"
    if clock.earliest_due_on is None:
        return dated
    overdue = f"; {clock.overdue:,} OVERDUE" if clock.overdue else ""
    return f"{dated}, due on {clock.earliest_due_on}{overdue}"


def is_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


# The result of a run.


def show_result(shown: RunResult, as_json: bool) -> ExitCode:
    """Print how a run stands; the exit code, which says what was done also where nothing can be printed."""
    try:
        if shown.summary is None:
            return _show_unreadable(shown, as_json)
        value = run_object(shown.summary, shown)
        if as_json:
            emit_json(value)
        else:
            if shown.error is not None:
                fail(shown.error[0], as_json=False)
            _show(shown.summary, shown, value["next"])
    except UsageError as error:
        fail(error, as_json=False)
        say(f"Run {shown.run_id} is as it is all the same: privacy-toolkit runs show {shown.run_id}")
    return shown.exit_code


def _show_unreadable(shown: RunResult, as_json: bool) -> ExitCode:
    """Not even the journal can be read: the id alone, and why."""
    if shown.error is not None and as_json:
        emit_json({"run_id": shown.run_id, "exit_code": int(shown.exit_code), "error": error_object(shown.error[0])})
    elif shown.error is not None:
        fail(shown.error[0], as_json=False)
        say(f"Run {shown.run_id}: its journal can't be read now. Next: privacy-toolkit runs show {shown.run_id}")
    return shown.exit_code


def _slow(found: HeldBack) -> str:
    """Why the rate was not reached, and what would help."""
    why = {
        "api": "the API refused requests as too many (429). Lower --rate",
        "processor": "a whole processor core was used up",
        "concurrency": f"{found.in_flight} in flight, answered after {found.seconds * 1000:,.0f} ms on average, make no"
        " more. Raise --concurrency",
        "unknown": "what held it back can't be told",
    }[found.by]
    return f"{found.reached:,.0f} requests a second of {found.allowed:,.12g} allowed: {why}."


def _show(summary: Summary, shown: RunResult, following: str) -> None:
    plan, handed, pack = summary.plan, shown.handed, shown.pack
    result(f"Run {summary.run_id} on {plan.target}")
    result(f"{shown.sentence}{_purged(summary)}")
    _show_outcomes(summary, shown)
    result(f"  {'':<14}{'-' * 12}")
    result(f"  {'subjects':<14}{plan.rows.subjects:>12,}")
    if summary.rejected:
        result(f"  {'refused rows':<14}{summary.rejected:>12,}  nobody acted on them")
    if shown.held_back is not None:
        result(f"Pace:   {_slow(shown.held_back)}")
    result("Report: none was written" if pack is None else f"Report: {pack / REPORT_HTML}{_copied(shown)}")
    if summary.rejected and pack is not None:
        result(f"Refused rows: {pack / REJECTED}")
    if handed is not None:
        result(f"File:   {handed.path} ({count(handed.rows, 'row')}{_left_out(summary, shown)})")
        for path in handed.others:
            result(f"        {path}")
    if declaration(plan.job).packages and plan.out:
        result(f"Packages: {plan.out}")
    if following:
        result(f"Next:   {following}")


def _purged(summary: Summary) -> str:
    """When it was purged, and what that means, on a line of its own."""
    told = "its ids are gone, so nothing of it can be resumed, listed or reported again"
    return "".join(f"\nPurged on {at[:10]}: {told}." for at in purged_object(summary).values())


def _copied(shown: RunResult) -> str:
    """Where the pack was copied to, on a line of its own."""
    return f"\nCopy:   {shown.copy}" if shown.copy else ""


def _listed(sessions: Mapping[str, int], run_id: str) -> str:
    """What came of the sessions of a list, and where it is told of each, if there is anything to look at."""
    words = {
        "complete": "in packages",
        "of_another": "somebody else's, in no package",
        "of_nobody": "without a customer, in no package",
        "refused": "not given out by the API",
    }
    told = ", ".join(f"{number:,} {words.get(read, read)}" for read, number in sessions.items())
    more = f". Which: privacy-toolkit runs subjects {run_id} --format jsonl" if sessions.keys() - {"complete"} else ""
    return f"{told}{more}"


def _show_outcomes(summary: Summary, shown: RunResult) -> None:
    """The subjects by outcome; for coupons, why they are not done."""
    causes = shown.causes or {}
    for outcome, number in summary.totals.items():
        result(f"  {outcome.value:<14}{number:>12,}")
        for reason, subjects in causes.get(outcome.value, {}).items():
            result(f"      {reason:<24}{subjects:>12,}")
    for reason, number in shown.failed_codes.items():
        result(f"  {count(number, 'code')} with nothing sent: {reason}")
    if shown.sessions:
        result(f"Listed sessions: {_listed(shown.sessions, summary.run_id)}")


class Noticed(msgspec.Struct, frozen=True):
    """What to look at before a plan is applied: warnings of its input, and how earlier runs of its people ended."""

    warnings: Sequence[InputWarning] = ()
    earlier: Mapping[str, int] = msgspec.field(default_factory=dict)


def show_plan(plan: Plan, path: Path, settings: Settings, as_json: bool, noticed: Noticed) -> None:
    """Print a plan that was written to a file, what is to be done with it, and what to look at before."""
    following = f"privacy-toolkit apply {path}{confirmation(plan)}"
    if settings.trust.approval_required:
        following = f"privacy-toolkit approve {path} --key FILE"
    if as_json:
        told = [{"code": one.code, "message": one.message} for one in noticed.warnings]
        known = dict(sorted(noticed.earlier.items()))
        emit_json({"plan": str(path), **_plan_object(plan), "warnings": told, "earlier": known, "next": following})
    else:
        for one in noticed.warnings:
            say(f"Warning: {one.message}")
        preview(plan, settings)
        if noticed.earlier:
            say(found_again(noticed.earlier))
        result(f"Plan: {path}")
        result(f"Next: {following}")


def _plan_object(plan: Plan) -> dict[str, Any]:
    return {
        "digest": plan.digest,
        "job": plan.job,
        "target": plan.target,
        "rows": rows_object(plan.rows),
        "on_hold": plan.rows.held,
        "calls": plan.calls,
        "parameters": plan.parameters,
        "observed": plan.observed,
        "clock": None if plan.clock is None else msgspec.structs.asdict(plan.clock),
        "confirm": sentence_to_confirm(plan),
    }


def run_object(summary: Summary, shown: RunResult) -> dict[str, Any]:
    """The result of a run as JSON (contract, section 2)."""
    is_running = summary.verdict is Verdict.RUNNING
    value: dict[str, Any] = {
        "run_id": summary.run_id,
        "job": summary.plan.job,
        "target": summary.plan.target,
        "verdict": summary.verdict.value,
        "exit_code": None if is_running else int(summary.exit_code),
        "rows": rows_object(summary.plan.rows),
        "outcomes": {outcome.value: number for outcome, number in summary.totals.items()},
        "pack": None if is_running or shown.pack is None else str(shown.pack),
        "next": f"privacy-toolkit runs show {summary.run_id}" if is_running else _next(summary, shown),
    }
    value |= purged_object(summary)
    if summary.rejected:
        value["rejected_accepted"] = not summary.rejected_unaccepted
    if is_running:
        return value
    if shown.causes is not None:
        value["causes"], value["failed_codes"] = shown.causes, shown.failed_codes
    if (slow := shown.held_back) is not None:
        value["pace"] = {"allowed": slow.allowed, "reached": slow.reached, "held_back_by": slow.by}
    if summary.open and summary.stopped_by is not None:
        value["stopped_by"] = summary.stopped_by.value
    value |= _handed_object(summary, shown)
    if summary.exit_code is ExitCode.CREDENTIALS:
        value["error"] = {
            "code": "credentials",
            "message": "The API refused the credentials.",
            "hint": "Check the key and that it belongs to this environment, then resume the run.",
        }
    if shown.error is not None:
        value["exit_code"], value["error"] = int(shown.error[1]), error_object(shown.error[0])
    return value


def _handed_object(summary: Summary, shown: RunResult) -> dict[str, Any]:
    handed = shown.handed
    copy: dict[str, Any] = {"pack_copy": shown.copy} if shown.copy else {}
    if declaration(summary.plan.job).packages:
        listed: dict[str, Any] = {"sessions": dict(shown.sessions)} if shown.sessions else {}
        return {"out": {"path": summary.plan.out}, **copy, **listed}
    if handed is None:
        return copy
    more: dict[str, Any] = {"others": [str(path) for path in handed.others]} if handed.others else {}
    if declaration(summary.plan.job).lists is not None:
        more["left_out"] = summary.plan.rows.subjects - handed.rows
    return {"out": {"path": str(handed.path), "rows": handed.rows, "complete": handed.is_complete, **more}, **copy}


def _next(summary: Summary, shown: RunResult) -> str:
    """The command to run next, "" where there is none."""
    is_undone = shown.error is not None and shown.error[0].code == "undone"
    if summary.purged or is_undone:
        return ""
    if shown.is_detached:
        return f"privacy-toolkit runs watch {summary.run_id}"
    if summary.open:
        step = next_step(summary)
        return "" if step is None else step.command
    return "" if shown.has_pack else f"privacy-toolkit runs report {summary.run_id}"
