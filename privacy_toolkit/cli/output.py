"""What is said, and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
from typing import Any, Protocol

import click

from privacy_toolkit.errors import ExitCode, ToolkitError
from privacy_toolkit.privacy import visible


class Rows(Protocol):
    """The sums of an input, planned or just read."""

    @property
    def read(self) -> int:
        """Rows read."""

    @property
    def rejected(self) -> int:
        """Rows refused."""

    @property
    def duplicates(self) -> int:
        """Rows that name a subject again."""

    @property
    def subjects(self) -> int:
        """Distinct accepted ids."""


def say(text: str = "") -> None:
    """Say something to the person at the terminal (stderr). Whatever of it would steer the terminal is escaped."""
    click.echo(visible(text, "\n"), err=True)


def result(text: str) -> None:
    """Print a result for people (stdout). Whatever of it would steer a terminal is escaped, but for line ends."""
    click.echo(visible(text, "\n"))


def emit_json(value: dict[str, Any]) -> None:
    """Print the one JSON object of a command called with ``--json`` (stdout)."""
    click.echo(json.dumps(value))


def emit_line(value: dict[str, Any]) -> None:
    """Print one of the JSON objects of ``--format jsonl``, in ASCII: nothing in it steers a terminal (stdout)."""
    click.echo(json.dumps(value))


def quoted(value: object) -> str:
    """A foreign value in quotes, with everything escaped that a person would not see or that steers a terminal."""
    return visible(repr(value))


def error_object(error: ToolkitError) -> dict[str, str]:
    """An error as JSON."""
    return {"code": error.code, "message": error.message, "hint": error.hint}


def fail(error: ToolkitError, as_json: bool, exit_code: ExitCode | None = None) -> int:
    """Say what went wrong and return the exit code."""
    if as_json:
        emit_json({"error": error_object(error)})
    else:
        say(f"Error: {visible(error.message)}")
        if error.hint:
            say(f"  {visible(error.hint)}")
    return int(exit_code if exit_code is not None else error.exit_code)


def rows_object(rows: Rows) -> dict[str, int]:
    """The sums of an input as JSON (contract, section 2)."""
    return {"read": rows.read, "rejected": rows.rejected, "duplicates": rows.duplicates, "subjects": rows.subjects}


def rows_sentence(rows: Rows) -> str:
    """The sums of an input in words."""
    return (
        f"{count(rows.read, 'row')} = {rows.rejected:,} rejected + {count(rows.duplicates, 'duplicate')}"
        f" + {count(rows.subjects, 'subject')}"
    )


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: ``1 subject``, ``1,000 subjects``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
