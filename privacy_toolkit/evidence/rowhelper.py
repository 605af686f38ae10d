"""The second process that makes rows, as the first one sees it.

It is a program of its own and not one of ``multiprocessing``: that would load the caller's main module once more, and
what a script of an analyst does there must not be done twice. It ends with the first process, however that ends: its
standard input is then closed.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Self

import msgspec

MODULE = "privacy_toolkit.evidence.rowworker"
_PREFIX = "PRIVACY_TOOLKIT_"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows go where: the run's folder, the folder for the parts, a name for them, the first and last subject."""

    run: bytes
    spills: bytes
    name: str
    first: int
    last: int

    @classmethod
    def of(cls, run: Path, spills: Path, name: str, first: int, last: int) -> Task:
        """The task with paths as the system has them."""
        return cls(
            run=os.fsencode(run.absolute()), spills=os.fsencode(spills.absolute()), name=name, first=first, last=last
        )


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """How it went: ``error`` is the number of the system's error (``errno``), None if all is written."""

    error: int | None


class Helper:
    """A second process at work; it is gone when the block ends.

    Raises:
        OSError: it can't be started.
    """

    def __init__(self, task: Task) -> None:
        command = [sys.executable, "-P", "-m", MODULE]
        self._process = subprocess.Popen(  # noqa: S603 - our own module, by this very Python
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the first process; it ends this one
        )
        self._hand_in(task)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def finish(self) -> None:
        """Wait until it has written everything.

        Raises:
            OSError: it could not, or it died.
        """
        pipe = self._process.stdout
        said = pipe.read() if pipe is not None else b""
        try:
            reply = msgspec.json.decode(said, type=Reply)
        except msgspec.DecodeError:
            raise OSError(errno.ECHILD, "a part of the work was ended from outside") from None
        if reply.error is not None:
            raise OSError(reply.error, os.strerror(reply.error))

    def _hand_in(self, task: Task) -> None:
        pipe = self._process.stdin
        if pipe is not None:
            try:
                pipe.write(msgspec.json.encode(task) + b"\n")
                pipe.flush()
            except BrokenPipeError:
                pass  # it has died, which is said when it is waited for


def _environment() -> dict[str, str]:
    """What this process has, without the settings, which may hold keys; and where its modules are."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}
    return inherited | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
