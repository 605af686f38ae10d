"""What is said, and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO

import click

from privacy_toolkit.errors import ExitCode, JournalError, ToolkitError


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


class Lasting:
    """A text stream that is written to as long as somebody listens: a terminal that is gone ends no run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop it."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop it."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's."""
        return getattr(self._stream, name)


@contextmanager
def lasting(stream: TextIO | None = None) -> Iterator[None]:
    """Go on where ``stream`` (stdout) has nobody left to read it; what is written to it later goes nowhere."""
    try:
        yield
    except OSError:
        silence(sys.stdout if stream is None else stream)


def silence(stream: TextIO | None) -> None:
    """Lead a stream that broke into the void, so that the end of the process does not stumble over it."""
    if stream is None:  # there was none from the start
        return
    with suppress(OSError, ValueError):
        void = os.open(os.devnull, os.O_WRONLY)
        os.dup2(void, stream.fileno())
        os.close(void)


def say(text: str = "") -> None:
    """Say something to the person at the terminal (stderr); nothing happens if they have gone."""
    with lasting(sys.stderr):
        click.echo(text, err=True)


def result(text: str) -> None:
    """Print a result for people (stdout).

    Raises:
        BrokenPipeError: whoever read it has gone. Where work is still to be done, see ``lasting``.
    """
    click.echo(text)


def emit_json(value: dict[str, Any]) -> None:
    """Print the one JSON object of a command called with ``--json`` (stdout); nothing happens if nobody reads it."""
    with lasting():
        click.echo(json.dumps(value, ensure_ascii=False))


def error_object(error: ToolkitError) -> dict[str, str]:
    """An error as JSON."""
    return {"code": error.code, "message": error.message, "hint": error.hint}


def fail(error: ToolkitError, as_json: bool, exit_code: ExitCode | None = None) -> int:
    """Say what went wrong and return the exit code."""
    if as_json:
        emit_json({"error": error_object(error)})
    else:
        say(f"Error: {error.message}")
        if error.hint:
            say(f"  {error.hint}")
    return int(exit_code if exit_code is not None else error.exit_code)


def explained(error: BaseException) -> tuple[ToolkitError, ExitCode]:
    """Any error in words that hold no data, with its exit code."""
    from privacy_toolkit.journal.durability import storage_failure

    if isinstance(error, ToolkitError):
        return error, error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return ToolkitError("Interrupted.", code="interrupted"), ExitCode.INTERRUPTED
    why = storage_failure(error)
    if why is not None:
        told = JournalError(f"The state folder can't be read or written: {why}.", "Make room on the disk, then resume.")
        return told, told.exit_code
    return _bug(error), ExitCode.BUG


def _bug(error: BaseException) -> ToolkitError:
    """A bug in words that hold no data: the kind of the error and the place in our code, never its text."""
    place = "an unknown place"
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith("privacy_toolkit"):
            place = f"{module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return ToolkitError(
        f"This is a bug in privacy-toolkit: {type(error).__name__} at {place}.",
        "Nothing in the journal is lost. Please report it with this line; it holds no personal data.",
        code="bug",
    )


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
