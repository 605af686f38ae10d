"""What the sandbox was asked, and what it did: the evidence against which the toolkit's reports are checked.

It holds the ids that were asked for, in memory and in the file: it is for fictitious data only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import msgspec

from privacy_toolkit.errors import UsageError
from privacy_toolkit.model import CONTROL_PREFIX


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """One request.

    Attributes:
        time: seconds since the epoch.
        operation: the name in OPERATIONS, or "" where the path is none of the API's.
        value: the decoded path value; the raw path where it is none of the API's.
        status: the status sent; None where none was.
        acted: whether the request was carried out (a refused one and a replayed one were not).
        outcome: whether a complete answer left (``answered``, ``dropped``). ``late`` and ``repeated`` are no requests
            of the client's: an earlier one carried out when nobody waited any more, and the first of two that a proxy
            made of one.
        fault: the fault that was played, if any.
        about: the customer whom the body names, of a request whose path names nobody.
    """

    time: float
    operation: str
    value: str
    status: int | None
    acted: bool
    outcome: Literal["answered", "dropped", "late", "repeated"]
    fault: str | None = None
    about: str = ""


class RequestLog:
    """Every request in the order in which it was dealt with, in memory and, where a path is given, in a JSONL file.

    An entry is written and flushed before the answer leaves: what a client was told is in the file even if either
    side is killed.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._entries: list[LogEntry] = []
        self._grown = threading.Condition()
        self._encoder = msgspec.json.Encoder()
        self._file = None if path is None else _open(path)

    def __iter__(self) -> Iterator[LogEntry]:
        """The entries so far."""
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        """How many requests there were."""
        return len(self._entries)

    def append(self, entry: LogEntry) -> None:
        """Record one request."""
        if self._file is not None:
            self._file.write(self._encoder.encode(entry) + b"\n")
            self._file.flush()
        with self._grown:
            self._entries.append(entry)
            self._grown.notify_all()

    def wait_for(self, count: int, timeout: float) -> bool:
        """Wait, at most ``timeout`` seconds, until there were ``count`` requests; whether there were."""
        with self._grown:
            return self._grown.wait_for(lambda: len(self._entries) >= count, timeout)

    def of(self, operation: str) -> list[LogEntry]:
        """The requests of one operation; ``""`` gives those that were none of the API's."""
        return [entry for entry in self if entry.operation == operation]

    def about_subjects(self) -> list[LogEntry]:
        """The requests about anything but controls."""
        return [entry for entry in self if not entry.value.startswith(CONTROL_PREFIX)]

    def clear(self) -> None:
        """Forget the entries in memory; the file only grows."""
        self._entries.clear()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def read_log(path: Path) -> list[LogEntry]:
    """The entries of a JSONL file, without a last line that was cut off by a kill."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [msgspec.json.decode(line, type=LogEntry) for line in whole.splitlines()]


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("ab")
    except OSError as error:
        raise UsageError(f"The request log of the sandbox can't be written: {error.strerror}.") from error
