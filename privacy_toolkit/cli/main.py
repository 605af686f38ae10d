"""The entry: commands loaded when they are called, errors turned into exit codes and words."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from privacy_toolkit.cli.output import fail, say, silence
from privacy_toolkit.core.model import ExitCode, ToolkitError, explained
from privacy_toolkit.core.privacy import COLLECT_AFTER, OURS, __version__, forbid_core_dumps

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
    "demo": ("privacy_toolkit.cli.sandbox", "Erase 1,000 invented customers in a sandbox and show the report."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """The overview, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="privacy-toolkit")
def cli() -> None:
    """Erasure, access and coupon batches on the Talon.One Integration API.

    Every step is journalled, every run can be resumed, and every report can be checked.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the code the contract names."""
    os.umask(0o077)  # all we write is for its owner alone
    forbid_core_dumps()  # before there is a key or an id to be dumped
    if argv is None:
        OURS.set()
        gc.set_threshold(COLLECT_AFTER)  # a start makes very many objects, and garbage of none of them
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    sys.exit(_run(arguments, as_json))


def _run(arguments: list[str], as_json: bool) -> int:
    try:
        result: Any = cli.main(arguments, prog_name="privacy-toolkit", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return ExitCode.USAGE
    except BrokenPipeError:  # whoever read our output has gone: there is nobody to tell
        silence(sys.stdout)
        return ExitCode.BUG
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last line of defence: a traceback may hold an id
        told, exit_code = _told(error)
        return fail(told, as_json, exit_code)
    return int(result) if isinstance(result, int) else ExitCode.SETTLED


def _told(error: BaseException) -> tuple[ToolkitError, ExitCode]:
    """An error in words, with its exit code."""
    if isinstance(error, click.Abort):
        error = KeyboardInterrupt()
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "privacy-toolkit"
        return ToolkitError(error.format_message(), f"{where} --help", code="usage"), ExitCode.USAGE
    return explained(error)
