"""Erased stays erased: a list of whom this state folder erased, without any id.

An entry is HMAC-SHA256 under a key of the list's own, so the list alone names nobody. It outlives the purge of a run,
which takes the ids away, since afterwards too a request would re-create the profile of whoever was erased.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from pathlib import Path
from typing import Self

from privacy_toolkit.errors import JournalError

FILE_NAME = "suppression.sqlite"
_TABLES = """
    CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS suppressed (digest BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS counted (run_id TEXT PRIMARY KEY, erased INTEGER NOT NULL);
"""
_AT_ONCE = 10_000


class Suppression:
    """The list in a state folder, opened; made if it is missing.

    Raises:
        JournalError: it can't be opened.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None, timeout=30)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_TABLES)
            self._connection.execute("INSERT OR IGNORE INTO facts VALUES ('key', ?)", (secrets.token_bytes(32),))
            (self._key,) = self._connection.execute("SELECT value FROM facts WHERE name = 'key'").fetchone()
        except sqlite3.Error as error:
            raise JournalError(
                f"The list of erased customers can't be opened: {error}.", "Is the state folder complete and writable?"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def of(self, scopes: Collection[str]) -> Callable[[str], bool]:
        """Whether a customer was erased in one of ``scopes``: the names of one deployment and its environment.

        Earlier versions named it by its URL as it was written.
        """
        marks = ", ".join("?" * len(scopes))

        def is_suppressed(customer: str) -> bool:
            digests = [self._digest(scope, customer) for scope in scopes]
            try:
                found = self._connection.execute(
                    f"SELECT 1 FROM suppressed WHERE digest IN ({marks})", digests
                ).fetchone()
            except sqlite3.Error as error:
                raise JournalError(
                    f"The list of erased customers can't be read: {error}.", "Put it back from a backup."
                ) from None
            return found is not None

        return is_suppressed

    def counted(self, run_id: str) -> int:
        """How many erased customers of a run are in the list."""
        found = self._connection.execute("SELECT erased FROM counted WHERE run_id = ?", (run_id,)).fetchone()
        return 0 if found is None else int(found[0])

    def add(self, scope: str, customers: Iterable[str], run_id: str, erased: int) -> None:
        """Enter the erased customers of a run, ``erased`` in number; who is in already stays there.

        Raises:
            JournalError: it can't be written.
        """
        rest = iter(customers)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            while batch := list(islice(rest, _AT_ONCE)):
                self._connection.executemany(
                    "INSERT OR IGNORE INTO suppressed VALUES (?)", [(self._digest(scope, one),) for one in batch]
                )
            self._connection.execute("INSERT OR REPLACE INTO counted VALUES (?, ?)", (run_id, erased))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise JournalError(
                f"The list of erased customers can't be written: {error}.", "Make room on the disk, then go on."
            ) from None
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _digest(self, scope: str, customer: str) -> bytes:
        return hmac.digest(self._key, f"{scope}\0{customer}".encode(), hashlib.sha256)[:16]
