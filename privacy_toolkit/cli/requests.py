"""What becomes of requests over all runs: `privacy-toolkit letters`, `register`, `metrics`, `due`, and `patrol`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import asdict

from privacy_toolkit.cli.options import (
    input_of,
    input_options,
    settings_options,
    take_execution,
    take_settings,
    take_settings_and_state,
    take_state,
    unattended_options,
    written_to,
)
from privacy_toolkit.cli.output import emit_bytes, emit_json, microseconds, now_utc, result, say, say_set_aside
from privacy_toolkit.core.model import LANGUAGES, ExitCode, Outcome, UsageError, count

if TYPE_CHECKING:
    from privacy_toolkit.app.patrol import Look, PatrolOrder, PatrolResult, Round
    from privacy_toolkit.app.requests import WrittenLetters
    from privacy_toolkit.cli.options import CommandOptions
    from privacy_toolkit.config.settings import Settings
    from privacy_toolkit.engine.open_requests import DueRequest, NotCounted, Register
    from privacy_toolkit.journal.store import State
    from privacy_toolkit.reporting.register import HeldRequests, RequestRegister


# ``privacy-toolkit letters``.


class _LettersGroup(click.Group):
    """A group in which a word that is no command is a run: ``letters RUN`` is ``letters write RUN``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what was typed; where the run is missing, say that."""
        if args and args[0].startswith("--") and args[0] != "--help":
            raise UsageError("Letters of which run?", "Name it first: privacy-toolkit letters RUN, or latest for RUN.")
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["write", *args]
        return super().resolve_command(ctx, args)


@click.group("letters", cls=_LettersGroup)
def letters_command() -> None:
    """Write the answers to the people of a run: privacy-toolkit letters RUN --out DIR --templates DIR."""


@letters_command.command("init")
@click.argument("folder", metavar="DIR")
@settings_options
def init_letters(**options: Any) -> int:
    """Write the templates of the letters into the new folder DIR, to be filled in and adapted."""
    from privacy_toolkit.access.letters import SETTINGS, init

    as_json, folder = options.pop("as_json"), Path(options.pop("folder"))
    names = init(folder)
    if as_json:
        emit_json({"folder": str(folder), "files": list(names)})
    else:
        result(f"Templates: {folder}")
        result(
            f"Next:      fill in {folder / SETTINGS}; then privacy-toolkit letters RUN --out DIR --templates {folder}"
        )
    return ExitCode.SETTLED


@letters_command.command("write")
@click.argument("run")
@written_to("--out", metavar="DIR", help="The new folder for the letters, one for each person, and an index.")
@click.option("--templates", metavar="DIR", help="The folder that letters init wrote, filled in.")
@click.option("--lang", type=click.Choice(LANGUAGES), default=LANGUAGES[0], show_default=True, help="Language.")
@click.option("--with-open", is_flag=True, help="Also write to those whose request is still being worked on.")
@click.option("--unsent", is_flag=True, help="Write only to those for whom no sent answer is recorded.")
@click.option("--sent", is_flag=True, help="Write nothing; record that answers were sent.")
@click.option("--on", "day", metavar="DATE", help="With --sent: the day they were sent, as 2026-12-31 [today, UTC].")
@click.option("--all", "everybody", is_flag=True, help="With --sent: all that are settled and have no day yet.")
@click.option("--id-file", metavar="FILE", help="With --sent: only these people, one id on each line.")
@settings_options
def write_letters(**options: Any) -> int:
    """Write a letter for everybody of RUN whose request is settled or extended, or record that letters were sent."""
    as_json, name, sent = options.pop("as_json"), options.pop("run"), options.pop("sent")
    given = {key: options.pop(key) for key in ("out", "templates", "lang", "with_open", "unsent")}
    marks = {key: options.pop(key) for key in ("day", "everybody", "id_file")}
    state = take_state(options)
    run_id = state.find(name)
    if sent:
        if given["out"] or given["templates"]:
            raise UsageError("Letters are either written or recorded as sent.", "Leave --out out, or --sent.")
        return _record_sent(state, run_id, marks, as_json=as_json)
    if any(marks.values()):
        raise UsageError("--on, --all and --id-file are about letters that were sent.", "Add --sent.")
    return _write(state, run_id, given, as_json=as_json)


def _write(state: State, run_id: str, given: dict[str, Any], *, as_json: bool) -> int:
    from privacy_toolkit.app.requests import LetterOrder
    from privacy_toolkit.app.requests import write_letters as write

    for key, hint in (("out", "Name a new folder."), ("templates", "privacy-toolkit letters init DIR writes them.")):
        if not given[key]:
            raise UsageError(f"Letters need --{key} DIR.", hint)
    order = LetterOrder(**given | {"out": Path(given["out"]), "templates": Path(given["templates"])})
    written = write(state, run_id, order, now_utc().date())
    _say_of_letters(written)
    if as_json:
        emit_json(
            {
                "run_id": run_id,
                "out": str(order.out),
                "index": str(written.index),
                "letters": dict(sorted(written.letters.items())),
                "without": dict(sorted(written.without.items())),
            }
        )
        return ExitCode.SETTLED
    for kind, number in sorted(written.letters.items()):
        result(f"  {kind.replace('_', ' '):<16}{number:>12,}")
    result(f"Letters: {order.out} ({count(written.letters.total(), 'person', 'people')})")
    result(f"Index:   {written.index}")
    if written.without:
        result(f"Without: {', '.join(f'{number:,} {name}' for name, number in sorted(written.without.items()))}")
    if written.letters:
        result(f"Next:    once they are sent: privacy-toolkit letters {run_id} --sent --all --on DATE")
    return ExitCode.SETTLED


def _say_of_letters(written: WrittenLetters) -> None:
    from privacy_toolkit.app.requests import PACKAGE_GONE

    if written.environment == "sandbox":
        say("This run was on SANDBOX: what these letters say was rehearsed, and is so for nobody. Don't send them.")
    if written.foreign:
        names = ", ".join(written.foreign)
        say(f"Warning: letters.toml does not say everything in the language of these letters: {names}. Look at them.")
    if gone := written.without.get(PACKAGE_GONE, 0):
        say(
            f"{count(gone, 'person', 'people')} without a letter: their package is not in {written.packages} any more."
            " Put it back, or export them again."
        )
    if written.reviews_past:
        which = count(written.reviews_past, "refusal names", "refusals name")
        say(f"{which} no day of review, since it is over. Review and plan again: privacy-toolkit due --holds")
    if written.no_reason:
        say(f"{count(written.no_reason, 'extended request')} without a letter: letters.toml gives no extension_reason.")


def _record_sent(state: State, run_id: str, marks: dict[str, Any], *, as_json: bool) -> int:
    from privacy_toolkit.app.requests import record_sent
    from privacy_toolkit.app.runs import read_ids

    if marks["everybody"] == bool(marks["id_file"]):
        raise UsageError("Whose letters were sent?", "Give --all, or --id-file FILE; one of the two.")
    today = now_utc().date()
    day = _day(marks["day"]) if marks["day"] else today
    ids = None if marks["everybody"] else read_ids(Path(marks["id_file"]))
    recorded, waiting = record_sent(state, run_id, ids, day, today)
    if as_json:
        emit_json({"run_id": run_id, "on": day.isoformat(), "recorded": recorded, "waiting": waiting})
    else:
        result(f"{count(recorded, 'answer')} recorded as sent on {day}; {waiting:,} still to be sent.")
    return ExitCode.SETTLED


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise UsageError("That is no date.", "Write it as 2026-12-31.")
    return day


# ``privacy-toolkit register`` and ``privacy-toolkit metrics``.


@click.command("register")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV.")
@click.option("--html", "as_page", is_flag=True, help="As a page.")
@written_to("--out", metavar="FILE", help="Write to FILE instead of to standard output; an earlier one is replaced.")
@settings_options
def register_command(**options: Any) -> int:
    """List every request over all runs: received, due, outcome, settled, answered. It names no ids.

    As a summary, or with --csv, --html or --json in full. Exit code 3: a journal can't be read, so some are missing.
    """
    from privacy_toolkit.app.requests import register
    from privacy_toolkit.reporting.register import csv_of, page_of

    as_json, as_csv, as_page = options.pop("as_json"), options.pop("as_csv"), options.pop("as_page")
    out = options.pop("out")
    if as_json + as_csv + as_page > 1:
        raise UsageError("The register is written in one form.", "Give --json, --csv or --html.")
    if out and not (as_json or as_csv or as_page):
        raise UsageError("In which form is FILE to be?", "Add --csv, --html or --json.")
    settings, state = take_settings_and_state(options)
    found = register(state, now_utc().date(), settings.packs)
    for run_id in found.unreadable:
        say(f"Run {run_id} can't be read: its requests are missing. Keep its folder, it may be fixed.")
    say_set_aside(found.set_aside)
    if as_csv or as_page:
        _deliver(csv_of(found) if as_csv else [page_of(found).encode("utf-8", "backslashreplace")], out)
        if out:
            say(f"Register: {out}")
    elif as_json and out:
        _deliver([_json(found.as_object())], out)
        emit_json({"out": out})
    elif as_json:
        emit_json(found.as_object())
    else:
        _summarize(found)
    return ExitCode.OPEN_ITEMS if found.unreadable else ExitCode.SETTLED


def _json(value: dict[str, Any]) -> bytes:
    import json

    return json.dumps(value, indent=2).encode() + b"\n"


def _deliver(content: Iterable[bytes], out: str | None, flag: str = "--out") -> None:
    """Write to the file that ``flag`` names, durably and for its owner alone, or to standard output."""
    from privacy_toolkit.core.durable import put_file
    from privacy_toolkit.core.privacy import check_apart

    if out is None:
        emit_bytes(content)
        return
    check_apart(out, flag)
    try:
        with put_file(Path(out), over=True) as file:
            file.writelines(content)
    except OSError as error:
        raise UsageError(f"{out} can't be written: {error.strerror}.", f"Name another file with {flag}.") from None


def _summarize(found: RequestRegister) -> None:
    value = found.as_object()
    for name, text in (
        ("open", "still open"),
        ("waiting", "settled, no sent answer recorded"),
        ("answered", "answered"),
        ("taken_over", "taken over by a later run"),
    ):
        result(f"{value['states'].get(name, 0):>12,}  {text}")
    result(f"{sum(value['states'].values()):>12,}  {'request' if sum(value['states'].values()) == 1 else 'requests'}")
    for run in found.purged:
        answers = sum(run.answered.values())
        result(f"Purged: {run.run_id}, {count(run.subjects, 'subject')}, {count(answers, 'answer')} recorded.")


@click.command("metrics")
@click.option("--year", metavar="YYYY", type=click.IntRange(1900, 9999), required=True, help="Requests of this year.")
@settings_options
def metrics_command(**options: Any) -> int:
    """Count the requests received in a year by what came of them, with median days (11 CCR 7102, Art. 5(2) GDPR).

    Exit code 3: a journal can't be read, so requests are missing.
    """
    from privacy_toolkit.app.requests import metrics
    from privacy_toolkit.reporting.register import FIGURES

    as_json, year = options.pop("as_json"), options.pop("year")
    found = metrics(take_state(options), year, now_utc().date())
    if as_json:
        emit_json(found)
    for job, one in {} if as_json else found["requests"].items():
        result(f"Requests of {year}: {job}{'  [SANDBOX]' if found['environment'] == 'sandbox' else ''}")
        for name, words in FIGURES.items():
            value = one[name]
            result(f"  {words:<55}{'-' if value is None else format(value, ',g'):>10}")
            for ground, number in one["refused_by_ground"].items() if name == "refused" else ():
                result(f"    {ground:<53}{number:>10,}")
    _say_what_is_missing(found)
    return ExitCode.OPEN_ITEMS if found["unreadable"] else ExitCode.SETTLED


def _say_what_is_missing(found: Mapping[str, Any]) -> None:
    if found["year"] >= int(found["today"][:4]):
        say(f"{found['year']} is not over: these are figures as of {found['today']}.")
    if found["environment"] == "sandbox":
        say("All runs were on SANDBOX: these are figures of a rehearsal, and nobody's requests.")
    elif found["left_out"]:
        say(f"{count(found['left_out'], 'run')} on SANDBOX left out: nobody's request was answered there.")
    for run_id in found["unreadable"]:
        say(f"Run {run_id} can't be read: its requests are missing. Keep its folder, it may be fixed.")
    say_set_aside(found.get("set_aside", ()))
    if found["purged_runs"]:
        say(f"{count(found['purged_runs'], 'purged run')}: counted by what is left; who asked again is counted again.")


# ``privacy-toolkit due``.


@click.command("due")
@click.option("--days", metavar="N", type=click.IntRange(min=0), help="Only what is due within N days, or overdue.")
@click.option("--holds", is_flag=True, help="List who is on hold instead, by the day of the review.")
@click.option("--ics", metavar="FILE", help="Write due dates and reviews as a calendar (iCalendar) to FILE too.")
@click.option("--notify", is_flag=True, help="Post the totals to the webhook of [notify] too.")
@settings_options
def due_command(**options: Any) -> int:
    """List the requests that are open over all runs of the state folder, what is due first in front.

    Exit code 3: something is overdue (with --holds: a review is), or a journal can't be read, so that something may be.
    """
    from privacy_toolkit.app.upkeep import holds
    from privacy_toolkit.engine.open_requests import register
    from privacy_toolkit.jobs import jobs_that

    as_json, days, only_holds = options.pop("as_json"), options.pop("days"), options.pop("holds")
    ics, notify = options.pop("ics"), options.pop("notify")
    (settings, state), today = take_settings_and_state(options), now_utc().date()
    found = register(state, today, jobs_that(lambda job: job.has_clock), days)
    held, unreadable = holds(state, today, days) if only_holds or ics or notify else ([], [])
    for run in found.not_counted:
        say(_not_counted(run))
    say_set_aside(state.ids_set_aside())
    if ics:
        _write_calendar(Path(ics), found, held)
    if notify:
        _tell(settings, found, held)
    if only_holds:
        _show_holds(held, unreadable, today, days, as_json=as_json)
        return ExitCode.OPEN_ITEMS if unreadable or any(line.is_past for line in held) else ExitCode.SETTLED
    if as_json:
        emit_json(_register_object(found, days))
    else:
        _print_register(found, days)
    return ExitCode.OPEN_ITEMS if found.overdue or not found.is_complete else ExitCode.SETTLED


def _write_calendar(path: Path, found: Register, held: list[HeldRequests]) -> None:
    from privacy_toolkit.reporting.register import calendar, calendar_days

    days = list(calendar_days(found.due, held))
    _deliver([calendar(days, now_utc())], str(path), "--ics")
    say(f"Calendar: {path} ({count(len(days), 'day')} on which something is due or to be reviewed)")


def _tell(settings: Settings, found: Register, held: list[HeldRequests]) -> None:
    """Post the totals; that it did not work is said and changes nothing."""
    from privacy_toolkit.notify.telling import DueTotals, Means, remind

    if settings.notify.webhook is None:
        raise UsageError("There is nobody to notify.", "Set [notify] webhook in the configuration file.")
    dated = [line for line in held if line.review_on is not None]
    totals = DueTotals(
        today=found.today.isoformat(),
        open=found.open,
        overdue=found.overdue,
        next_due_on=next((line.due_on for line in found.due if line.due_on and not line.is_overdue), None),
        holds=sum(line.subjects for line in held),
        reviews_past=sum(line.subjects for line in dated if line.is_past),
        next_review_on=next((line.review_on for line in dated if not line.is_past), None),
        unreadable=sum(run.open is None for run in found.not_counted),
    )
    remind(settings, totals, Means(say=say))


def _show_holds(
    held: list[HeldRequests], unreadable: list[str], today: date, days: int | None, *, as_json: bool
) -> None:
    if as_json:
        emit_json(
            {
                "today": today.isoformat(),
                "within_days": days,
                "on_hold": sum(line.subjects for line in held),
                "past": sum(line.subjects for line in held if line.is_past),
                "holds": [asdict(line) for line in held],
                "unreadable": unreadable,
            }
        )
        return
    for line in held:
        past = f"PAST {count(-(line.days_left or 0), 'day')}" if line.is_past else ""
        result(
            f"{line.review_on or 'no review':<11}  {past:<14}{count(line.subjects, 'subject'):>18}"
            f"  {line.reason or 'no ground':<16}  {line.job:<7}  {line.run_id}  {line.target}"
        )
    result(f"{count(sum(line.subjects for line in held), 'subject')} on hold.")


def _register_object(found: Register, days: int | None) -> dict[str, Any]:
    return {
        "today": found.today.isoformat(),
        "within_days": days,
        "open": found.open,
        "overdue": found.overdue,
        "requests": [asdict(line) for line in found.due],
        "not_counted": [asdict(run) for run in found.not_counted],
    }


def _print_register(found: Register, days: int | None) -> None:
    for line in found.due:
        result(_due_line(line))
    within = "" if days is None else f" and due within {count(days, 'day')}"
    overdue = f", {found.overdue:,} of them OVERDUE" if found.overdue else ""
    result(f"{count(found.open, 'subject')} open{within}{overdue}.")


def _due_line(line: DueRequest) -> str:
    asked = f"requested {line.requested_on}" if line.requested_on else ""
    return (
        f"{line.due_on or 'no due date':<11}  {_left(line):<18}{count(line.subjects, 'subject'):>18}"
        f"  {line.job:<9}  {asked:<20}  {line.run_id}  {line.target}"
    )


def _left(line: DueRequest) -> str:
    if line.days_left is None:
        return ""
    if line.is_overdue:
        return f"OVERDUE {count(-line.days_left, 'day')}"
    return f"{count(line.days_left, 'day')} left" if line.days_left else "today"


def _not_counted(run: NotCounted) -> str:
    if run.open is None:
        return f"Run {run.run_id} can't be read: what is open in it is not counted. Keep its folder, it may be fixed."
    if run.reason == "rehearsed":
        return f"Run {run.run_id} was a rehearsal on SANDBOX: {count(run.open, 'open subject')} of it left out."
    return (
        f"Run {run.run_id} was purged with {count(run.open, 'subject')} open: nobody can tell any more who they are,"
        " so they are not counted."
    )


# ``privacy-toolkit patrol``.


@click.command("patrol")
@click.argument("run", required=False)
@click.option("--due", "only_due", is_flag=True, help="List what is to be looked at, and when. Nothing is read.")
@click.option("--list", "path", metavar="FILE", help="Look at those of FILE who are on the list of erased customers.")
@click.option("--sample", metavar="N", type=click.IntRange(min=1), help="At most N of each run, drawn at random.")
@click.option("--as-of", metavar="DATE", help="The day that counts as today, as 2026-12-31. The report says so.")
@click.option("--notify", is_flag=True, help="Post the totals to the webhook of [notify] too.")
@input_options
@unattended_options
@settings_options
def patrol_command(**options: Any) -> int:
    """Look whether those who were erased are still gone, after the days that [patrol] names: 1, 7, 30 and 90.

    It only reads. Each look is a run with a pack of its own, which names the pack that it rechecks; anyone who is
    visible again stands as reappeared, and is looked at by each patrol until gone. RUN looks at those of one run now.
    Once a run is purged nobody knows whom it erased: a list of yours says whom to look at (--list).

    Exit code 3: somebody reappeared or could not be read, or a journal can't be read.
    """
    from privacy_toolkit.app.patrol import PatrolOrder

    as_json, only_due, notify = options.pop("as_json"), options.pop("only_due"), options.pop("notify")
    execution = take_execution(options)
    day, run, path, sample = (options.pop(name) for name in ("as_of", "run", "path", "sample"))
    settings = take_settings(options, execution)
    if notify and settings.notify.webhook is None:
        raise UsageError("There is nobody to notify.", "Set [notify] webhook in the configuration file.")
    order = PatrolOrder(run, path, input_of(options, settings.input), _day(day) if day else None, sample)
    if only_due:
        if run or path or sample or notify:
            raise UsageError("--due lists what is to be looked at, and looks at nobody.", "Leave the rest out.")
        return _show_round(settings, order.as_of, as_json=as_json)
    return _patrol(order, settings, execution, as_json=as_json, notify=notify)


def _show_round(settings: Settings, as_of: date | None, *, as_json: bool) -> int:
    from privacy_toolkit.app.patrol import round_of
    from privacy_toolkit.journal.state import open_state

    today = as_of or now_utc().date()
    found = round_of(open_state(settings.state, settings.state_key), settings, today, is_asked=as_of is not None)
    if as_json:
        emit_json(_round_object(found))
    else:
        _print_round(found)
    return ExitCode.OPEN_ITEMS if found.unreadable else ExitCode.SETTLED


def _round_object(found: Round) -> dict[str, Any]:
    looks = [asdict(look) | {"due_on": look.due_on.isoformat()} for look in found.looks]
    return {
        "today": found.today.isoformat(),
        "looks": looks,
        "unfinished": list(found.unfinished),
        "next_on": found.next_on.isoformat() if found.next_on else None,
        "unreadable": list(found.unreadable),
    }


def _print_round(found: Round) -> None:
    for look in found.looks:
        result(_look_line(look))
    for run_id in found.unfinished:
        result(f"{'goes on':<11}  {'':<10}{'':>18}  {run_id}")
    for run_id in found.unreadable:
        say(f"Run {run_id} can't be read: whom it erased is looked at by nobody. Keep its folder, it may be fixed.")
    result(f"{count(len(found.due), 'look')} due{f', the next on {found.next_on}' if found.next_on else ''}.")


def _look_line(look: Look) -> str:
    how = "needs a list" if look.is_purged else "due" if look.is_due else ""
    after = f"after {count(look.after_days, 'day')}"
    return f"{look.due_on}  {how:<12}  {after:<13}{count(look.erased, 'customer'):>18}  {look.run_id}"


def _patrol(order: PatrolOrder, settings: Settings, execution: CommandOptions, *, as_json: bool, notify: bool) -> int:
    from privacy_toolkit.app.patrol import patrol, totals_of
    from privacy_toolkit.app.service import telling
    from privacy_toolkit.cli.preview import Terminal, run_object, show_result
    from privacy_toolkit.notify.telling import Means, failed, patrolled

    host = Terminal(execution, settings)
    with telling(settings, host), host.whole():
        done = patrol(order, settings, execution, host, microseconds)
    if not done.results:  # anyone who waits for a word hears that there was nothing to do
        failed(settings, done.exit_code, Means(say=say))
    if notify:
        patrolled(settings, totals_of(done), Means(say=say))
    if as_json:
        runs = [run_object(one.summary, one) for one in done.results if one.summary is not None]
        emit_json({**totals_of(done), "patrols": runs, "next": _again(done)})
        return done.exit_code
    for one in done.results:
        show_result(one, as_json=False)
    for look in done.after.need_a_list:
        say(f"Run {look.run_id} was purged: privacy-toolkit patrol {look.run_id} --list FILE looks at those of FILE.")
    still, back = done.count(Outcome.DONE), done.count(Outcome.REAPPEARED)
    result(f"{count(len(done.results), 'patrol')}: {still:,} still gone, {back:,} reappeared.")
    if done.after.next_on is not None:
        result(f"The next look is due on {done.after.next_on}.")
    if _again(done).find(" all ") > 0:  # else it is said with the one patrol
        result(f"Next:   {_again(done)}")
    return done.exit_code


def _again(done: PatrolResult) -> str:
    """The command that erases again who reappeared; "" if nobody did."""
    runs = [one.run_id for one in done.results if one.summary and one.summary.totals.get(Outcome.REAPPEARED)]
    return f"privacy-toolkit erase --reappeared {runs[0] if len(runs) == 1 else 'all'} --plan FILE" if runs else ""
