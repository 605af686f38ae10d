"""The entry: commands loaded when they are called, errors turned into exit codes and words."""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.output import emit_json, fail, result, say, unwritten
from privacy_toolkit.core.model import ExitCode, Terminated, ToolkitError, UsageError, explained
from privacy_toolkit.core.privacy import COLLECT_AT_START, OURS, __version__, forbid_core_dumps

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: Every command: the module it lives in, and its line in the overview, so that ``--help`` loads none of them.
COMMANDS = {
    "erase": ("privacy_toolkit.cli.jobs", "Erase the listed customers' personal data."),
    "coupons": ("privacy_toolkit.cli.jobs", "Reserve and release coupons, assign codes, list who holds what."),
    "export": ("privacy_toolkit.cli.jobs", "Create an access package for each listed customer."),
    "referrals": ("privacy_toolkit.cli.jobs", "Create referral codes for customers."),
    "events": ("privacy_toolkit.cli.jobs", "Track events of customers."),
    "profiles": ("privacy_toolkit.cli.jobs", "Update customer profiles."),
    "sessions": ("privacy_toolkit.cli.jobs", "Update customer sessions."),
    "audiences": ("privacy_toolkit.cli.jobs", "Put customers in audiences, or take them out."),
    "apply": ("privacy_toolkit.cli.apply", "Run exactly the plan in a file."),
    "approve": ("privacy_toolkit.cli.apply", "Approve a plan as the second person, with a signature."),
    "inspect": ("privacy_toolkit.cli.apply", "Show, offline, which rows of a file would be accepted."),
    "runs": ("privacy_toolkit.cli.runs", "List, show, resume, report and purge runs."),
    "worker": ("privacy_toolkit.cli.apply", "Work on the runs that were left to workers, in a state in PostgreSQL."),
    "suppression": ("privacy_toolkit.cli.evidence", "Export and import the list of erased customers, or remove one."),
    "state": ("privacy_toolkit.cli.apply", "Back up, restore and check a state; its tables in PostgreSQL."),
    "letters": (
        "privacy_toolkit.cli.requests",
        "Write the answers to the people of a run; record when they were sent.",
    ),
    "register": ("privacy_toolkit.cli.requests", "List every request over all runs: due, outcome, answered."),
    "metrics": ("privacy_toolkit.cli.requests", "Count the requests of a year by what came of them."),
    "due": ("privacy_toolkit.cli.requests", "List what is open over all runs, by its due date."),
    "patrol": ("privacy_toolkit.cli.requests", "Look whether those who were erased are still gone."),
    "console": ("privacy_toolkit.cli.console", "Show runs, deadlines and packs in a browser on this machine."),
    "verify": ("privacy_toolkit.cli.evidence", "Check a pack: files, rows, sums, signature, chain."),
    "receipt": ("privacy_toolkit.cli.evidence", "Give one person proof of their row in a pack."),
    "config": ("privacy_toolkit.cli.sandbox", "Write a configuration file, and make the key that signs."),
    "keys": ("privacy_toolkit.cli.evidence", "Create the key that signs packs and approvals."),
    "controls": (
        "privacy_toolkit.cli.doctor",
        "Create the profile by which a deployment proves that absence is absence.",
    ),
    "doctor": ("privacy_toolkit.cli.doctor", "Check settings, key, target and state folder."),
    "sandbox": ("privacy_toolkit.cli.sandbox", "Simulate the API on this machine, for trying things out."),
    "completion": ("privacy_toolkit.cli.main", "Print the completion script for bash, zsh or fish."),
    "demo": ("privacy_toolkit.cli.sandbox", "Erase 1,000 invented customers in a sandbox and show the report."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), f"{cmd_name}_command")
        show_examples(command, cmd_name)
        if ctx.resilient_parsing:
            complete_values(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which ones are called nearly so: click looks among those that are loaded."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the examples of the program itself."""
        self.epilog = epilog("")
        super().format_epilog(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """The overview, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@functools.cache
def examples() -> dict[str, list[tuple[str, str]]]:
    """Read the examples of all commands: by the command's words, lines as they are typed and what each does."""
    found: dict[str, list[tuple[str, str]]] = json.loads(Path(__file__).with_name("examples.json").read_bytes())
    return found


def show_examples(command: click.Command, words: str) -> None:
    """Give a command, and all that are below it, their examples as the end of ``--help``."""
    command.epilog = epilog(words)
    for name, inner in getattr(command, "commands", {}).items():
        show_examples(inner, f"{words} {name}")


def epilog(words: str) -> str:
    """Give the examples of a command as click prints them: line by line (the mark), never wrapped."""
    lines = [f"  {line}\n      {what}" for line, what in examples().get(words, ())]
    return "\n".join(["\b", "Examples:", *lines]) if lines else ""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="privacy-toolkit")
def cli() -> None:
    """Erasure, access and coupon batches on the Talon.One Integration API.

    Every step is journalled, every run can be resumed, and every report can be checked.
    """


# Completion in a shell: click's own, which calls the program again for what may follow.

#: The variable by which the shell's script says that it is the one who calls.
_COMPLETE = "_PRIVACY_TOOLKIT_COMPLETE"


class _FileName(click.types.StringParamType):
    """A text that names a file or a folder; the shell completes it."""

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,
        incomplete: str,
    ) -> list[CompletionItem]:
        """Leave it to the shell."""
        from click.shell_completion import CompletionItem

        kind = "dir" if getattr(param, "metavar", None) == "DIR" else "file"
        return [CompletionItem(incomplete, type=kind)]


class _RunId(click.types.StringParamType):
    """A text that names a run; the runs of the state folder are offered."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - as above
        """Offer the ids that begin so, newest first. They hold no personal data. A database is not asked."""
        from click.shell_completion import CompletionItem

        try:
            return [CompletionItem(name) for name in _known_runs(ctx) if name.startswith(incomplete)]
        except Exception:  # noqa: BLE001 - anyone who presses Tab wants no error in the middle of their line
            return []


def _known_runs(ctx: click.Context) -> list[str]:
    from privacy_toolkit.config.settings import Flags, is_elsewhere, load_settings
    from privacy_toolkit.journal.state import existing_state

    flags = Flags(**{name: ctx.params.get(name) for name in ("config", "profile", "state")})
    address = load_settings(flags).state
    return ["latest", *existing_state(address).run_ids()] if not is_elsewhere(address) else []


def complete_values(command: click.Command) -> None:
    """Have names of files, and ids of runs, completed for a command and for all that are below it."""
    for param in command.params:
        if param.name == "run":
            param.type = _RunId()
        elif isinstance(param.type, click.types.StringParamType) and (
            isinstance(param, click.Argument) or param.metavar in {"FILE", "FILE.pub", "DIR"}
        ):
            param.type = _FileName()
    for inner in getattr(command, "commands", {}).values():
        complete_values(inner)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, errors too.")
def completion_command(shell: str, as_json: bool) -> int:
    """Print the script by which a shell completes commands, options, files and runs.

    docs/shell.md says where it goes.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:  # never: they are click's own
        raise UsageError(f"There is no completion for {shell}.")
    made = found(cli, {}, "privacy-toolkit", _COMPLETE)
    script = made.source_template % made.source_vars()
    if as_json:
        emit_json({"shell": shell, "script": script})
    else:
        result(script)
    return ExitCode.SETTLED


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the code the contract names."""
    if sys.platform == "win32":  # locks, signals and private files are those of POSIX
        say("privacy-toolkit does not run on Windows itself: run it in WSL, in a container, or on Linux or macOS.")
        sys.exit(ExitCode.USAGE)
    os.umask(0o077)  # all we write is for its owner alone
    if argv is None:
        _take_the_first_three()
    forbid_core_dumps()  # before there is a key or an id to be dumped
    if argv is None:
        OURS.set()
        _hear_the_system()
        gc.set_threshold(COLLECT_AT_START)
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    code = _run(arguments, as_json)
    if argv is None:
        for number in _HEARD:  # the last word is said: one more signal is to end it without a traceback
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
    sys.exit(code)


def _take_the_first_three() -> None:
    """Put /dev/null where standard input, output or error is closed.

    A file that is opened would get its number otherwise, and whatever a library or another program says into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_OF_THREE:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


_LAST_OF_THREE = 2

#: What ends a process in a word, with an exit code.
_HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _hear_the_system() -> None:
    """Take SIGTERM and SIGHUP as Ctrl-C is taken, so that nothing half-made is left and there are a code and a word.

    Where a run is worked on, and in servers, they are heard otherwise meanwhile.
    """

    def end(*_: object) -> None:
        raise Terminated

    for number in _HEARD:
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup had it ignored: that stays
            signal.signal(number, end)


def _run(arguments: list[str], as_json: bool) -> int:
    try:
        result: Any = cli.main(arguments, prog_name="privacy-toolkit", complete_var=_COMPLETE, standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return ExitCode.USAGE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last line of defence: a traceback may hold an id
        told, exit_code = _told(error)
        return fail(told, as_json, exit_code)
    return int(result) if isinstance(result, int) else ExitCode.SETTLED


def _told(error: BaseException) -> tuple[ToolkitError, ExitCode]:
    """An error in words, with its exit code."""
    # What fails while a signal unwinds the stack, such as a transaction that is rolled back, is not what went wrong.
    before = error.__context__
    while before is not None:
        if isinstance(before, KeyboardInterrupt):
            return explained(before)
        before = before.__context__
    if isinstance(error, click.Abort):  # of a question that nobody answers
        return explained(KeyboardInterrupt())
    if isinstance(error, FileNotFoundError) and not _is_anywhere():
        return explained(UsageError("The folder that you are in is no longer there.", "Change to one that is."))
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "privacy-toolkit"
        return ToolkitError(error.format_message(), f"{where} --help", code="usage"), ExitCode.USAGE
    return explained(unwritten(error) or error)


def _is_anywhere() -> bool:
    """Whether the folder in which the command was given is still there."""
    try:
        os.getcwd()  # noqa: PTH109 - it is only asked for
    except FileNotFoundError:
        return False
    return True
