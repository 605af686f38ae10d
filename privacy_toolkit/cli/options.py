"""The options that mean the same on every command (contract, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from privacy_toolkit.cli.output import microseconds, say, show_log, show_warnings
from privacy_toolkit.config.settings import ExecutionOptions, Flags, Settings, is_object_address, load_settings
from privacy_toolkit.core.model import OF_EARLIER_RUNS, ExitCode, UsageError
from privacy_toolkit.core.privacy import exposed
from privacy_toolkit.inputs.files import STDIN
from privacy_toolkit.inputs.options import KEY_COLUMN, InputOptions, merged

if TYPE_CHECKING:
    from privacy_toolkit.journal.store import State

F = TypeVar("F", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """A number within bounds, and a finite one: nan is within any bounds, since all it is compared with is false."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number.

        Raises:
            click.BadParameter: it is none, not finite, or out of bounds.
        """
        found = super().convert(value, param, ctx)
        if not isfinite(found):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return found


def warn_of_place(path: str | None) -> None:
    """Say on stderr where others could swap what is written to a path; addresses in object storage are none."""
    why = exposed(Path(path)) if path and not is_object_address(path) else None
    if why:
        say(f"Warning: others could put something else in the place of {path}: {why}.")


def written_to(*names: str, **attributes: Any) -> Callable[[F], F]:
    """Declare an option that names where something is written (see ``warn_of_place``)."""

    def warn(context: click.Context, _: click.Parameter, path: str | None) -> str | None:
        if not context.resilient_parsing:
            warn_of_place(path)
        return path

    return click.option(*names, callback=warn, **attributes)


_SETTINGS = (
    click.option("--config", metavar="FILE", help="The configuration file [privacy-toolkit.toml]."),
    click.option("--profile", metavar="NAME", help="The profile in the configuration file [default]."),
    click.option("--state", metavar="DIR", help="The state folder: journals, packs, locks."),
)
_OUTPUT = (click.option("--json", "as_json", is_flag=True, help="Print one JSON object, errors too."),)
_INPUT = (
    click.option("--id-column", metavar="NAME", help="The column with the customer ids."),
    click.option(
        "--column",
        "column",
        metavar="NAME=COLUMN",
        multiple=True,
        help="What a column is called in the files, such as requested_at=Eingang; may be repeated.",
    ),
    click.option("--map", "map_file", metavar="FILE", help="A file that says what the columns are called."),
    click.option("--identify", metavar="FILE", help="A list with key and customer_id: the input has keys, not ids."),
    click.option("--key-column", metavar="NAME", help="The column with the keys, in the input and in that list [key]."),
    click.option(
        "--date-format", metavar="FORM", help="How days are written: iso, de, uk, fr, es, us, %d-%m-%Y [iso]."
    ),
    click.option("--sheet", metavar="NAME", help="The sheet of a workbook [the first]."),
    click.option("--encoding", metavar="NAME", help="The encoding of a CSV [utf-8]."),
    click.option("--delimiter", metavar="CHAR", help="The delimiter of a CSV [, or a tab for .tsv]."),
    click.option("--list-encoding", metavar="NAME", help="The same for the other lists, such as --exclude."),
    click.option("--list-delimiter", metavar="CHAR", help="The same for the other lists."),
    click.option("--list-sheet", metavar="NAME", help="The same for the other lists."),
    click.option("--strip", is_flag=True, help="Strip blanks around ids instead of refusing the ids."),
    click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Only the first N subjects."),
)
#: Options of an input that are fields of ``InputOptions`` by the same name.
_FIELDS = (
    *("id_column", "identify", "date_format", "sheet", "encoding", "delimiter"),
    *("list_encoding", "list_delimiter", "list_sheet", "limit"),
)
_PLAN = (
    written_to("--plan", "plan_file", metavar="FILE", help="Write the plan to FILE and stop; nothing is sent."),
    written_to("--plan-key", metavar="FILE", help="Write the plan's key to FILE too, for another state folder."),
    click.option("--exclude", metavar="FILE", help="The exclusion list (CSV, .xlsx): customer_id, reason, review_on."),
    click.option("--tickets", is_flag=True, help="Include the column ticket in the pack."),
)
_REGIME = (
    click.option(
        "--regime",
        type=click.Choice(["gdpr", "ccpa", "none"]),
        default="gdpr",
        show_default=True,
        help="The law that says by when a request is answered (column requested_at).",
    ),
)
#: What of an execution can be said where nothing is confirmed, and several runs may follow each other.
_UNATTENDED = (
    click.option(
        "--rate",
        metavar="N",
        type=FiniteRange(min=0, min_open=True),
        help="Requests per second, over all operations.",
    ),
    click.option("--concurrency", metavar="N", type=click.IntRange(1, 10_000), help="Requests in flight."),
    click.option("--until", metavar="06:00|2h", help="Start no subject after this time of day or duration."),
    click.option("--quiet", is_flag=True, help="No progress and no preview, only the result."),
    click.option(
        "--progress", type=click.Choice(["auto", "bar", "lines", "none"]), default="auto", help="How progress is shown."
    ),
    click.option(
        "--restored", is_flag=True, help="The state folder was restored, copied or moved on purpose (docs/state.md)."
    ),
)
#: What is told of a run while it is worked on.
_TOLD = (
    click.option("--log-format", type=click.Choice(["json", "text"]), help="Log what happens, a line each [text]."),
    click.option(
        "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What is worth a line [info]."
    ),
    click.option("--log-file", metavar="FILE", help="Where the log goes [stderr, without a progress bar then]."),
    click.option(
        "--metrics-port",
        metavar="N",
        type=click.IntRange(0, 65_535),
        help="Serve figures in OpenMetrics on 127.0.0.1:N while the run is worked on; 0: any free port.",
    ),
)
_EXECUTION = (
    click.option("--confirm", metavar="TEXT", help="The confirmation, for use without a terminal."),
    *_UNATTENDED[:3],
    click.option("--max-failures", metavar="N|N%", help="Stop when more subjects than that failed."),
    click.option("--expect-missing", is_flag=True, help="Continue even if the first 100 customers are all unknown."),
    click.option(
        "--accept-rejected",
        metavar="N",
        type=click.IntRange(min=0),
        help="Accept that exactly N rows were refused and nobody acts on them.",
    ),
    written_to("--pack", metavar="DIR", help="The folder for the report [packs/RUN in the state folder]."),
    click.option("--detach", is_flag=True, help="Leave the run to workers and return at once (a state in PostgreSQL)."),
    click.option("--no-work", is_flag=True, help="Leave the run to workers, and wait for its end here."),
    *_UNATTENDED[3:5],
    click.option("--no-input", is_flag=True, help="Never prompt."),
    *_UNATTENDED[5:],
    *_TOLD,
)


class CommandOptions(ExecutionOptions, frozen=True, kw_only=True):
    """What the command line says about one execution; see ``execution_options`` for each."""

    confirm: str | None = None
    rate: float | None = None
    concurrency: int | None = None
    quiet: bool = False
    progress: str = "auto"
    no_input: bool = False
    log_format: str | None = None
    log_level: str | None = None
    log_file: str | None = None
    metrics_port: int | None = None


def settings_options(function: F) -> F:
    """``--config``, ``--profile``, ``--state`` and ``--json``."""
    return _apply(function, _SETTINGS + _OUTPUT)


def input_options(function: F) -> F:
    """How the input is read."""
    return _apply(function, _INPUT)


def output_options(function: F) -> F:
    """``--json``."""
    return _apply(function, _OUTPUT)


def plan_options(function: F) -> F:
    """``--plan``, ``--plan-key``, ``--exclude`` and ``--tickets``."""
    return _apply(function, _PLAN)


def regime_option(function: F) -> F:
    """``--regime``."""
    return _apply(function, _REGIME)


def execution_options(function: F) -> F:
    """How a run is carried out."""
    return _apply(function, _EXECUTION)


def unattended_options(function: F) -> F:
    """How runs are carried out that nobody confirms."""
    return _apply(function, _UNATTENDED + _TOLD)


def told_options(function: F) -> F:
    """``--log-format``, ``--log-level``, ``--log-file`` and ``--metrics-port``."""
    return _apply(function, _TOLD)


def take_execution(options: dict[str, Any]) -> CommandOptions:
    """Take the options of an execution out of click's keyword arguments."""
    return CommandOptions(**{name: options.pop(name) for name in CommandOptions.__struct_fields__ if name in options})


def take_settings(options: dict[str, Any], execution: CommandOptions | None = None) -> Settings:
    """Take the settings out of click's keyword arguments and load them.

    Raises:
        UsageError: they can't be used.
    """
    show_warnings()
    flags = Flags(
        config=options.pop("config"),
        profile=options.pop("profile"),
        state=options.pop("state"),
        rate=execution.rate if execution else None,
        concurrency=execution.concurrency if execution else None,
        log_format=execution.log_format if execution else None,
        log_level=execution.log_level if execution else None,
        log_file=execution.log_file if execution else None,
        metrics_port=execution.metrics_port if execution else None,
    )
    settings = load_settings(flags)
    if settings.logs_to_stderr:
        show_log()
    if settings.logs_to_stderr and execution is not None and execution.progress == "bar":
        raise UsageError(
            "A progress bar and a log can't share stderr.",
            "Write the log to a file with --log-file, or leave out the bar.",
        )
    if settings.config_passed_over:
        say(settings.config_passed_over)
    return settings


def take_settings_and_state(options: dict[str, Any]) -> tuple[Settings, State]:
    """Take the settings out of click's keyword arguments, and open the state that they name, which has to be there.

    Raises:
        UsageError: they can't be used.
    """
    from privacy_toolkit.journal.state import existing_state

    settings = take_settings(options)
    return settings, existing_state(settings.state, settings.state_key)


def take_state(options: dict[str, Any]) -> State:
    """Open the state that the settings in click's keyword arguments name, as ``take_settings_and_state`` does."""
    _, state = take_settings_and_state(options)
    return state


def _apply(function: F, options: tuple[Callable[[F], F], ...]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


# From the options of a command to the order of a job.

#: ``--api``, for the jobs of which the API has two versions.
api_option = click.option(
    "--api",
    type=click.Choice(["v1", "v2"]),
    default="v2",
    show_default=True,
    help="The version of the operation; V1 is no longer published.",
)
#: ``--api`` of events, of which there is a third version.
event_api_option = click.option(
    "--api",
    type=click.Choice(["v1", "v2", "v3"]),
    default="v2",
    show_default=True,
    help="The version of the operation: V3 gives each event an id of its own, so that a lost answer is settled; V1 is"
    " no longer published.",
)
#: ``--dry``, for the jobs of which the API has dry runs.
dry_option = click.option(
    "--dry", is_flag=True, help="Have the API evaluate each request without storing anything, where it can."
)
#: ``--one-by-one``, for the jobs whose rows may go out many at once.
one_by_one_option = click.option(
    "--at-once/--one-by-one",
    default=True,
    show_default=True,
    help="Up to 1,000 rows a request, where their fields allow it; or one request for each row.",
)
#: ``--spreadsheet-safe``, for the jobs that write a file of ids.
safe_option = click.option(
    "--spreadsheet-safe",
    is_flag=True,
    help="Keep spreadsheets from running cells of a CSV as formulas. The file can't be used as an input then.",
)


def input_of(options: dict[str, Any], usual: Mapping[str, Any]) -> InputOptions:
    """How the input is read: by the options of the command line, then the file of ``--map``, then the profile.

    ``usual`` is what the profile says; see ``Settings.input``.

    Raises:
        UsageError: an option can't be used.
    """
    from privacy_toolkit.config.file import read_mapping

    mapped = options.pop("map_file")
    base = merged(InputOptions(), **usual)
    if mapped is not None:
        base = merged(base, **read_mapping(Path(mapped)).given())
    columns = dict(map(column_of, options.pop("column")))
    key_column = options.pop("key_column")
    if key_column is not None:
        if options["identify"] is None:
            raise UsageError("--key-column is for --identify.", "Name the list of keys and ids with --identify FILE.")
        columns[KEY_COLUMN] = key_column
    strip = options.pop("strip") or None
    fields = {name: options.pop(name, None) for name in (*_FIELDS, "sessions")}  # sessions: of an export alone
    return merged(base, strip=strip, columns=columns, **fields)


def column_of(given: str) -> tuple[str, str]:
    """Take ``requested_at=Eingang`` apart.

    Raises:
        UsageError: it is nothing like that.
    """
    name, equals, theirs = given.partition("=")
    if not (name and equals and theirs):
        raise UsageError(f"--column {given!r} does not say what is called how.", "Write it as requested_at=Eingang.")
    return name, theirs


def start_job(
    job: str, path: str, options: dict[str, Any], parameters: Mapping[str, str | int | bool | None] | None = None
) -> int:
    """Plan a job on the rows in ``path``, and carry it out once it is confirmed; with ``--plan`` write the plan.

    ``parameters`` are what are set for this job alone; ``options`` what is left of click's keyword arguments.

    Raises:
        ToolkitError: it can't be done as asked; nothing was sent.
    """
    from privacy_toolkit.app.plans import check_accepted, checked, require_file, write_plan
    from privacy_toolkit.app.service import planned, start, telling
    from privacy_toolkit.cli.preview import Noticed, Terminal, show_plan, show_result
    from privacy_toolkit.core.model import Regime
    from privacy_toolkit.engine.approval import require_direct
    from privacy_toolkit.engine.open_requests import earlier
    from privacy_toolkit.engine.planning import Order
    from privacy_toolkit.jobs import declaration, jobs_that
    from privacy_toolkit.journal.state import open_state

    execution = take_execution(options)
    as_json, plan_file = options.pop("as_json"), options.pop("plan_file")
    host = Terminal(execution, settings := take_settings(options, execution))
    order = Order(
        job=declaration(job),
        path=path,
        options=input_of(options, settings.input) if "id_column" in options else InputOptions(),
        exclude=options["exclude"],
        verify=options.get("verify", "all"),
        regime=Regime(options.get("regime", Regime.NONE)),
        tickets=options["tickets"],
        key_file=options["plan_key"],
        parameters=parameters or {},
        second=options.get("second"),
        out=options.get("out"),
    )
    if plan_file is not None:
        state = open_state(settings.state, settings.state_key)
        with planned(checked(order, settings), settings, state, host, microseconds) as ready:
            check_accepted(ready.plan, execution)
            require_file(ready.plan)
            write_plan(ready.plan, ready.key, Path(plan_file), state, order.key_file)
            known = earlier(state, ready.plan, ready.subjects.subjects(), jobs_that(lambda one: one.has_clock))
            show_plan(ready.plan, Path(plan_file), settings, as_json, Noticed(ready.warnings, known))
        return ExitCode.SETTLED
    with telling(settings, host), host.whole():
        order = checked(order, settings)
        require_direct(settings.trust)
        host.require_someone(job, reads_stdin=path == STDIN and not OF_EARLIER_RUNS & (parameters or {}).keys())
        return show_result(start(order, settings, execution, host, microseconds, unseen=execution.quiet), as_json)
