"""The journal's file, and the facts of a run that were fixed when it was created."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Self

import msgspec

from privacy_toolkit.errors import JournalError
from privacy_toolkit.journal.records import Approval
from privacy_toolkit.journal.schema import migrate

FILE_NAME = "journal.sqlite"


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing journal for reading and writing, with commits that survive a power cut."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False, timeout=30
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


class RunFacts:
    """An open journal, and what it says of its run as a whole.

    Raises:
        JournalError: the file is missing, damaged or of a newer toolkit.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / FILE_NAME
        try:
            self._connection = connect(self._path)
            migrate(self._connection)
        except sqlite3.Error as error:
            raise JournalError(
                f"The journal of run {folder.name} can't be opened: {error}.", "Is the state folder complete?"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def fact(self, name: str) -> bytes | None:
        """A fact of the run by its name (see ``staging.create_run``); None if it was purged or never known."""
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    @property
    def run_id(self) -> str:
        """The name of the run; it holds no personal data."""
        return (self.fact("run_id") or b"").decode()

    @property
    def plan(self) -> bytes:
        """The plan as JSON, byte for byte as it was confirmed."""
        return self.fact("plan") or b""

    @property
    def secret(self) -> bytes | None:
        """The run's secret K, from which the pseudonyms of its rows are made; None once it is purged."""
        return self.fact("secret")

    @property
    def created_at(self) -> int:
        """When the run was created, in microseconds since the epoch."""
        return int(self.fact("created_at") or b"0")

    @property
    def size(self) -> int:
        """How many subjects the run has, purged or not."""
        return int(self.fact("size") or b"0")

    @property
    def purged_at(self) -> int | None:
        """When ids and secret were destroyed, if they were."""
        value = self.fact("purged_at")
        return None if value is None else int(value)

    @property
    def approval(self) -> Approval | None:
        """The approval of the plan by a second person, if it has one."""
        value = self.fact("approval")
        return None if value is None else msgspec.json.decode(value, type=Approval)
