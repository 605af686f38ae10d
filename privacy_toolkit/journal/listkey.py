"""The keys of lists that name people by digests: they lie apart from the lists, wrapped under the state folder's key.

Whoever has a list and its key can test whether somebody is on it. So the key of a list is never in the same file: there
it is only XORed with HMAC-SHA256(the state folder's key, the list's name), which without that key says nothing of it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from typing import Final

from privacy_toolkit.errors import JournalError
from privacy_toolkit.journal.keyfile import KeyFile

_LENGTH: Final = 32


def own_key(connection: sqlite3.Connection, key: KeyFile, name: str) -> bytes:
    """The key of a list, drawn with the first use; a list of a toolkit of old, which has it in the clear, is changed.

    Args:
        connection: the list's database, with a table ``facts``.
        key: that of the state folder.
        name: that of the list.

    Raises:
        UsageError: the state folder's key can't be read.
        JournalError: it is missing, or another one than the list was made with.
        sqlite3.Error: the database can't be read or written.
    """
    facts = dict(connection.execute("SELECT name, value FROM facts WHERE name IN ('key', 'wrapped', 'check')"))
    if "wrapped" in facts:
        return unwrapped(key, name, bytes(facts["wrapped"]), bytes(facts.get("check", b"")))
    master = key.read_or_draw()
    found = bytes(facts.get("key") or secrets.token_bytes(_LENGTH))
    wrapped, check = _wrapped(master, name, found)
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", [("wrapped", wrapped), ("check", check)])
    connection.execute("DELETE FROM facts WHERE name = 'key'")
    connection.execute("COMMIT")
    if "key" in facts:  # nothing of it may stay in the file or the log
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return own_key(connection, key, name)  # of two processes the first one's stays


def wrap(key: KeyFile, name: str, value: bytes) -> tuple[bytes, bytes]:
    """A list's key as it may lie next to the list, and what tells later whether the state folder's key is the same."""
    return _wrapped(key.read_or_draw(), name, value)


def unwrapped(key: KeyFile, name: str, wrapped: bytes, check: bytes) -> bytes:
    """The key of a list.

    Raises:
        UsageError: the state folder's key can't be read.
        JournalError: it is missing, or another one than the list was made with.
    """
    master = key.read()
    if master is None:
        raise JournalError(
            f"The key {key.path} is missing: without it nobody can tell who is on the lists of this state folder.",
            "Put it back from where it is kept. Without it nothing that creates profiles may be sent.",
            code="state_key",
        )
    if not hmac.compare_digest(check, _check(master, name)):
        raise JournalError(
            f"The key {key.path} is not the one with which this state folder's lists were made.",
            "Name the right one: [state] key = { file = … } in the configuration.",
            code="state_key",
        )
    return _xored(wrapped, _pad(master, name))


def _wrapped(master: bytes, name: str, value: bytes) -> tuple[bytes, bytes]:
    return _xored(value, _pad(master, name)), _check(master, name)


def _pad(master: bytes, name: str) -> bytes:
    return hmac.digest(master, f"wrap:{name}".encode(), hashlib.sha256)


def _check(master: bytes, name: str) -> bytes:
    return hmac.digest(master, f"check:{name}".encode(), hashlib.sha256)


def _xored(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
