"""Creating a run: all of its subjects on disk before the first request, or no run at all."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from privacy_toolkit.core.durable import put_folder, sync
from privacy_toolkit.core.model import JournalError
from privacy_toolkit.journal.packed import MAC, Digest, page_digest
from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.checksums import Checksums, close_past_sqlite, open_past_sqlite
from privacy_toolkit.journal.sqlite.pages import migrate, page_rows, put_page
from privacy_toolkit.journal.sqlite.reader import JOURNAL_FILE, SUMS_NAME
from privacy_toolkit.journal.writing import facts_mac, facts_of, known_at_first, members_of, numbered

_PUT_PARTY = "INSERT INTO parties VALUES (?, ?, ?, ?, ?)"


def create_run(folder: Path, staged: Staged) -> None:
    """Make the journal of a new run at ``folder``, whose name is the run's id.

    It is built next to its place and renamed when it is complete and durable, so a folder under the final name always
    holds every subject of the plan.

    Raises:
        JournalError: it could not be written; nothing is left behind.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with put_folder(folder, over=False) as building:
            _fill(building / JOURNAL_FILE, folder.name, staged)
            sync(building / JOURNAL_FILE)
            add_checksums(building / JOURNAL_FILE)
    except (OSError, sqlite3.Error) as error:
        raise JournalError(
            f"The run could not be created: {error}.", "Is there room on the disk, and may the state folder be written?"
        ) from None


def _fill(path: Path, run_id: str, staged: Staged) -> None:
    path.touch(mode=0o600)  # as all that stands next to it, whatever the umask is
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # Nothing refers to this file yet: it is synced once, as a whole, before it gets its name.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        migrate(connection)
        connection.execute("BEGIN")
        size, secret = 0, secrets.token_bytes(32)
        digests: list[Digest] = []
        for first, page in numbered(staged.pages):
            size = first + len(page) - 1
            data = msgspec.msgpack.encode(page)
            connection.execute("INSERT INTO pages VALUES (?, ?, ?)", (first, size, data))
            digests.append((first, size, page_digest(secret, first, size, data)))
            if staged.party is not None:
                connection.executemany(_PUT_PARTY, members_of(first, page, staged.party))
        for first, rows in known_at_first(
            staged, [first for first, _, _ in digests], lambda first: page_rows(connection, first)
        ):
            put_page(connection, first, rows)
        connection.executemany("INSERT INTO rejected VALUES (?, ?)", staged.rejected)
        _bind(connection, facts_of(run_id, staged, secret, size), digests)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def protect(connection: sqlite3.Connection, path: Path, sums_path: Path, descriptor: int) -> Checksums:
    """Take the journal of a toolkit that knew no checksums as it is, and make them.

    ``descriptor`` is that of the database, from ``checksums.open_past_sqlite``.

    Raises:
        JournalError: another process reads it.
    """
    facts = {str(name): bytes(value) for name, value in connection.execute("SELECT name, value FROM facts")}
    secret = facts.get("secret")
    pages = connection.execute("SELECT first, last, data FROM pages ORDER BY first")
    digests = [
        (first, last, b"" if secret is None else page_digest(secret, first, last, data)) for first, last, data in pages
    ]
    connection.execute("BEGIN IMMEDIATE")
    _bind(connection, facts, digests)
    connection.execute("COMMIT")
    busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise JournalError(f"The journal of run {path.parent.name} is read by another process.", "Try again.")
    Checksums.create(sums_path, descriptor)
    return Checksums(sums_path, path, descriptor)


def _bind(connection: sqlite3.Connection, facts: Mapping[str, bytes], digests: Sequence[Digest]) -> None:
    """Write the facts and the digests of the pages, and what binds them together."""
    connection.executemany("INSERT OR REPLACE INTO page_digests VALUES (?, ?, ?)", digests)
    bound = {**facts, MAC: facts_mac(facts, digests)}
    connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", bound.items())


def add_checksums(path: Path) -> None:
    """Make the checksums of a journal's file as it is."""
    descriptor = open_past_sqlite(path)
    try:
        Checksums.create(path.with_name(SUMS_NAME), descriptor)
    finally:
        close_past_sqlite(descriptor)
