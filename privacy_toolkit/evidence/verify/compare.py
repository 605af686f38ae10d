"""``rows.parquet`` against ``rows.jsonl``, in a process of its own.

A Parquet file is read by a large library in C++, which hostile bytes might bring down or make ask for any amount of
memory. So another process reads it, with a limit, while this one reads the rows: two cores get both done in the time of
one. It is a program of its own and not one of ``multiprocessing``, which would run the caller's main module once more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, TypeAlias

import msgspec

from privacy_toolkit.evidence.verify.folder import LONGEST_LINE

#: The number, from 0, of the first row in which both differ; None: they agree; ``CANNOT_BE_READ``: no row at all.
Difference: TypeAlias = int | None
#: Begins to compare, and gives back what waits for the result.
Comparer: TypeAlias = Callable[[Path, Path], Callable[[], Difference]]

CANNOT_BE_READ: Final = -1
MODULE: Final = "privacy_toolkit.evidence.verify.comparing"
_SETTINGS: Final = "PRIVACY_TOOLKIT_"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be compared: both paths as the system has them."""

    rows: bytes
    parquet: bytes


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    difference: int | None


def compare_here(rows: Path, parquet: Path) -> Callable[[], Difference]:
    """Compare in this process, when the result is asked for."""
    return lambda: difference(rows, parquet)


def compare_apart(rows: Path, parquet: Path) -> Callable[[], Difference]:
    """Compare in another process, beginning now. It ends with this one, whose end closes its standard input."""
    task = msgspec.json.encode(Task(rows=os.fsencode(rows.absolute()), parquet=os.fsencode(parquet.absolute())))
    try:
        process = subprocess.Popen(  # noqa: S603 - our own module, by this very Python
            [sys.executable, "-P", "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a message of the library could hold what stands in the file
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the first process; it ends this one
        )
    except OSError:  # the system has no room for it
        return compare_here(rows, parquet)
    try:
        _pipe(process.stdin).write(task + b"\n")
        _pipe(process.stdin).flush()
    except BrokenPipeError:
        pass  # it has died, which is found out below
    return lambda: _wait(process)


def difference(rows: Path, parquet: Path) -> Difference:
    """What differs first, read in this process."""
    from privacy_toolkit.reporting.parquet import matches  # noqa: PLC0415 - it loads pyarrow and pandas

    try:
        return matches(_lines(rows), parquet)
    except Exception:  # noqa: BLE001 - whatever the library makes of hostile bytes, they are not our rows
        return CANNOT_BE_READ


def _wait(process: subprocess.Popen[bytes]) -> Difference:
    try:
        return msgspec.json.decode(_pipe(process.stdout).read(), type=Reply).difference
    except msgspec.DecodeError:  # it died: of a signal, or of its limit
        return CANNOT_BE_READ
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            _pipe(pipe).close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process was started without its pipes")
    return pipe


def _environment() -> dict[str, str]:
    """What this process has, without the settings, which may hold keys; and where its modules are."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    return inherited | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _lines(rows: Path) -> Iterator[bytes]:
    """The lines of the rows; one without an end in sight is cut, so it can't agree with anything."""
    descriptor = os.open(rows, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=LONGEST_LINE) as stream:
        while line := stream.readline(LONGEST_LINE + 1):
            yield line
