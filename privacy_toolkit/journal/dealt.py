"""Which code was dealt to whom, over all runs of a state folder, without any code or id.

Codes and customers stand here as HMAC-SHA256 under a key of the record's own, which lies apart (see ``listkey``). It
outlives the purge of a run: a code that was dealt once goes to nobody else.
"""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Self

from privacy_toolkit.errors import JournalError, RefusedError
from privacy_toolkit.journal.keyfile import KeyFile
from privacy_toolkit.journal.listkey import own_key
from privacy_toolkit.journal.suppression import KEY_NAME

FILE_NAME = "dealt.sqlite"
_TABLES = """
    CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS dealt (code BLOB PRIMARY KEY, customer BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS dealt_to ON dealt (customer);
    CREATE TABLE IF NOT EXISTS state (scope BLOB PRIMARY KEY, changes INTEGER NOT NULL) WITHOUT ROWID;
"""
_AT_ONCE = 10_000


class DealtCodes:
    """What was dealt in one scope, a deployment and its environment; opened, and made if it is missing.

    ``former`` are the names under which earlier versions remembered it. What is known there counts; what is dealt from
    now on is remembered under ``scope``.

    ``key`` is the file with the state folder's key; None: next to the record.

    Raises:
        JournalError: it can't be opened.
    """

    def __init__(self, folder: Path, scope: str, former: Collection[str] = (), key: KeyFile | None = None) -> None:
        self._scopes = (scope, *former)
        with _explained("opened"):
            self._connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None, timeout=30)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_TABLES)
            self._key = own_key(self._connection, key or KeyFile(folder / KEY_NAME), "dealt")
        #: How often something was dealt here; what was worked out at another count may not hold any more.
        self.changes = self._changes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def among(self, codes: Iterable[str]) -> dict[bytes, str]:
        """Those of ``codes`` that were dealt to somebody, by their digests, in their order."""
        if not self.changes:
            return {}
        with _explained("read"):
            return {
                digest: code
                for code in codes
                for scope in self._scopes
                if self._is_dealt(digest := self._digest("code", code, scope))
            }

    def code_of(self, customer: str, among: dict[bytes, str]) -> str | None:
        """The first of the codes ``among`` that was dealt to a customer."""
        if not among:
            return None
        digests = [self._digest("customer", customer, scope) for scope in self._scopes]
        marks = ", ".join("?" * len(digests))
        with _explained("read"):
            rows = self._connection.execute(f"SELECT code FROM dealt WHERE customer IN ({marks})", digests).fetchall()
        mine = {code for (code,) in rows} & among.keys()
        return next((code for digest, code in among.items() if digest in mine), None) if mine else None

    def remember(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Make durable which codes are dealt to which customers, as worked out when this was opened; all or nothing.

        Raises:
            RefusedError: something was dealt meanwhile.
            JournalError: it can't be written.
        """
        rest = iter(pairs)
        with _explained("written"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._check_unchanged()
                while batch := list(islice(rest, _AT_ONCE)):
                    digests = [(self._digest("code", code), self._digest("customer", one)) for one, code in batch]
                    self._connection.executemany("INSERT OR IGNORE INTO dealt VALUES (?, ?)", digests)
                self._connection.execute(
                    "INSERT INTO state VALUES (?, 1) ON CONFLICT (scope) DO UPDATE SET changes = changes + 1",
                    (self._digest("scope", ""),),
                )
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _check_unchanged(self) -> None:
        if self._changes() != self.changes:
            raise RefusedError(
                "Codes were dealt by another run meanwhile, so these may be taken. Nothing was sent.",
                "Give the command again; with a plan, make it anew.",
                code="stale",
            )

    def _changes(self) -> int:
        digests = [self._digest("scope", "", scope) for scope in self._scopes]
        marks = ", ".join("?" * len(digests))
        (changes,) = self._connection.execute(
            f"SELECT IFNULL(SUM(changes), 0) FROM state WHERE scope IN ({marks})", digests
        ).fetchone()
        return int(changes)

    def _is_dealt(self, digest: bytes) -> bool:
        return self._connection.execute("SELECT 1 FROM dealt WHERE code = ?", (digest,)).fetchone() is not None

    def _digest(self, kind: str, name: str, scope: str | None = None) -> bytes:
        return hmac.digest(self._key, f"{kind}\0{scope or self._scopes[0]}\0{name}".encode(), hashlib.sha256)[:16]


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(
            f"The record of dealt codes can't be {what}: {error}.", "Is the state folder complete and writable?"
        ) from None
