"""What came of a command, and what the program says of its commands."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import click

from privacy_toolkit.cli.main import cli


@dataclass
class Done:
    """A command that ended: its exit code, and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON object on stdout."""
        return json.loads(self.out)


def walk(command: click.Command, context: click.Context, path: str) -> Iterator[tuple[str, click.Command]]:
    """Give a command and all that are below it, each with the words by which it is called."""
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            yield from walk(inner, click.Context(inner, parent=context, info_name=name), f"{path} {name}")


def commands() -> dict[str, click.Command]:
    """Give every command by the words by which it is called."""
    return dict(walk(cli, click.Context(cli, info_name="privacy-toolkit"), "privacy-toolkit"))


def parsed(line: str) -> str:
    """Parse a line as it is typed and run nothing; give the words of the command that it calls.

    Raises:
        click.UsageError: there is no such command or option, or a value does not fit.
    """
    program, *words = shlex.split(line)
    if program != "privacy-toolkit":
        raise click.UsageError(f"{program} is not the program")
    command: click.Command = cli
    context = cli.make_context(program, words)
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, inner, rest = command.resolve_command(context, rest)
        command, context = inner, inner.make_context(name, rest, parent=context)
    return context.command_path
