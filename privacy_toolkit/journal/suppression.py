"""Erased stays erased: a list of whom this state folder erased, without any id.

An entry is HMAC-SHA256 under a key of the list's own, which lies apart from it (see ``listkey``). The list outlives the
purge of a run, which takes the ids away, since afterwards too a request would re-create the profile of whoever was
erased. Lists of other machines can be taken in, each under its own key, and single people can be taken off.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import sqlite3
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, Self

import msgspec

from privacy_toolkit.errors import JournalError, UsageError
from privacy_toolkit.journal.keyfile import KeyFile
from privacy_toolkit.journal.listkey import own_key, unwrapped, wrap

FILE_NAME = "suppression.sqlite"
FORMAT: Final = "privacy-toolkit/suppression/1"
#: The file with the state folder's key, unless the configuration names another place.
KEY_NAME: Final = "state.key"
_TABLES = """
    CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS suppressed (digest BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS counted (run_id TEXT PRIMARY KEY, erased INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS lists (name TEXT PRIMARY KEY, wrapped BLOB NOT NULL, checked BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS imported (list TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (list, digest))
        WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS removed (digest BLOB PRIMARY KEY, before TEXT NOT NULL) WITHOUT ROWID;
"""
_AT_ONCE = 10_000
_DIGEST: Final = 16
#: How many characters of a run's id say the second in which it was created.
_SECOND: Final = len("20260101-000000")
_NAME: Final = re.compile(r"[0-9a-f]{32}")


class ListPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One list of an export: the name of its key, and its digests in base64, one after the other."""

    name: str
    digests: str


class Export(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one machine hands to another: digests alone. The keys go in a file of their own, ``ExportKeys``."""

    lists: list[ListPart]
    format: str = FORMAT


class ExportKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of the lists of an export, by name, in hexadecimal digits."""

    keys: dict[str, str]
    format: str = f"{FORMAT}/keys"


class Suppression:
    """The list in a state folder, opened; made if it is missing.

    ``key`` is the file with the state folder's key; None: next to the list.

    Raises:
        JournalError: it can't be opened, or the key is missing.
    """

    def __init__(self, folder: Path, key: KeyFile | None = None) -> None:
        self._state_key = key or KeyFile(folder / KEY_NAME)
        try:
            self._connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None, timeout=30)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_TABLES)
            self._key = own_key(self._connection, self._state_key, "suppression")
            self._imported = {
                name: unwrapped(self._state_key, f"list:{name}", wrapped, checked)
                for name, wrapped, checked in self._connection.execute("SELECT name, wrapped, checked FROM lists")
            }
        except sqlite3.Error as error:
            raise JournalError(
                f"The list of erased customers can't be opened: {error}.", "Is the state folder complete and writable?"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def of(self, scopes: Collection[str]) -> Callable[[str], bool]:
        """Whether a customer was erased in one of ``scopes``, here or on another machine.

        They are the names of one deployment and its environment: earlier versions named it by its URL as it was
        written.
        """
        marks = ", ".join("?" * len(scopes))

        def is_suppressed(customer: str) -> bool:
            execute = self._connection.execute
            own = [self._digest(scope, customer) for scope in scopes]
            try:
                if execute(f"SELECT 1 FROM suppressed WHERE digest IN ({marks})", own).fetchone():
                    return True
                return any(
                    execute(
                        f"SELECT 1 FROM imported WHERE list = ? AND digest IN ({marks})",
                        [name, *(_digest(key, scope, customer) for scope in scopes)],
                    ).fetchone()
                    for name, key in self._imported.items()
                )
            except sqlite3.Error as error:
                raise JournalError(
                    f"The list of erased customers can't be read: {error}.", "Put it back from a backup."
                ) from None

        return is_suppressed

    def counted(self, run_id: str) -> int:
        """How many erased customers of a run are in the list."""
        found = self._connection.execute("SELECT erased FROM counted WHERE run_id = ?", (run_id,)).fetchone()
        return 0 if found is None else int(found[0])

    def add(self, scope: str, customers: Iterable[str], run_id: str, erased: int) -> None:
        """Enter the erased customers of a run, ``erased`` in number; who is in already stays there.

        Who was taken off the list stays off, unless the run was created after that.

        Raises:
            JournalError: it can't be written.
        """
        rest, second = iter(customers), run_id[:_SECOND]
        with self._written():
            while batch := list(islice(rest, _AT_ONCE)):
                self._connection.executemany(
                    "INSERT OR IGNORE INTO suppressed SELECT ?1 WHERE NOT EXISTS"
                    " (SELECT 1 FROM removed WHERE digest = ?1 AND before >= ?2)",
                    [(self._digest(scope, one), second) for one in batch],
                )
            self._connection.execute("INSERT OR REPLACE INTO counted VALUES (?, ?)", (run_id, erased))

    def remove(self, scopes: Collection[str], customer: str, second: str) -> bool:
        """Take a customer off, for all runs created up to ``second`` (``20260101-000000``, UTC); False: was not on it.

        ``scopes`` are all names of the deployment and its environment, as for ``of``.

        Raises:
            JournalError: it can't be written.
        """
        was_on = self.of(scopes)(customer)
        own = [self._digest(scope, customer) for scope in scopes]
        with self._written():
            self._connection.executemany("DELETE FROM suppressed WHERE digest = ?", [(digest,) for digest in own])
            for name, key in self._imported.items():
                self._connection.executemany(
                    "DELETE FROM imported WHERE list = ? AND digest = ?",
                    [(name, _digest(key, scope, customer)) for scope in scopes],
                )
            if was_on:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO removed VALUES (?, ?)", [(digest, second) for digest in own]
                )
        return was_on

    def exported(self) -> tuple[bytes, bytes, int]:
        """The list with all that were taken in, as JSON; the keys, as JSON; and how many entries there are."""
        execute = self._connection.execute
        keys = {_name(self._key): self._key, **self._imported}
        digests = {_name(self._key): [d for (d,) in execute("SELECT digest FROM suppressed")]}
        for name in self._imported:
            found = [d for (d,) in execute("SELECT digest FROM imported WHERE list = ?", (name,))]
            digests[name] = found
        parts = [ListPart(name, b64encode(b"".join(found)).decode()) for name, found in digests.items()]
        names = {name: key.hex() for name, key in keys.items()}
        count = sum(map(len, digests.values()))
        return _json(Export(parts)), _json(ExportKeys(names)), count

    def take_in(self, export: bytes, keys: bytes) -> int:
        """Take in what ``exported`` gave on another machine; how many entries are new here.

        Raises:
            UsageError: it is no export, or the keys are not its keys.
            JournalError: it can't be written.
        """
        found = list(_read(export, keys))
        before = self._count()
        with self._written():
            for name, key, digests in found:
                if hmac.compare_digest(key, self._key):
                    self._connection.executemany("INSERT OR IGNORE INTO suppressed VALUES (?)", [(d,) for d in digests])
                    continue
                wrapped, check = wrap(self._state_key, f"list:{name}", key)
                self._connection.execute("INSERT OR IGNORE INTO lists VALUES (?, ?, ?)", (name, wrapped, check))
                self._connection.executemany(
                    "INSERT OR IGNORE INTO imported VALUES (?, ?)", [(name, digest) for digest in digests]
                )
                self._imported[name] = key
        return self._count() - before

    def _count(self) -> int:
        tables = ("suppressed", "imported")
        return sum(int(self._connection.execute(f"SELECT COUNT(*) FROM {t}").fetchone()[0]) for t in tables)

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            self._connection.execute("PRAGMA secure_delete=ON")
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise JournalError(
                f"The list of erased customers can't be written: {error}.", "Make room on the disk, then go on."
            ) from None
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _digest(self, scope: str, customer: str) -> bytes:
        return _digest(self._key, scope, customer)


def _digest(key: bytes, scope: str, customer: str) -> bytes:
    return hmac.digest(key, f"{scope}\0{customer}".encode(), hashlib.sha256)[:_DIGEST]


def _name(key: bytes) -> str:
    return hmac.digest(key, b"name of the list", hashlib.sha256)[:16].hex()


def _json(value: Export | ExportKeys) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _read(export: bytes, keys: bytes) -> Iterator[tuple[str, bytes, list[bytes]]]:
    """Name, key and digests of each list.

    Raises:
        UsageError: it is no export, or the keys are not its keys.
    """
    try:
        lists = msgspec.json.decode(export, type=Export)
        named = msgspec.json.decode(keys, type=ExportKeys)
        parts = [
            (part.name, bytes.fromhex(named.keys[part.name]), b64decode(part.digests, validate=True))
            for part in lists.lists
        ]
    except (msgspec.MsgspecError, KeyError, Base64Error, ValueError, RecursionError):
        parts = []
    whole = parts and all(
        _NAME.fullmatch(name) and len(key) == 2 * _DIGEST and name == _name(key) and not len(data) % _DIGEST
        for name, key, data in parts
    )
    if not whole or lists.format != FORMAT:
        raise UsageError(
            "This is no export of a list of erased customers, or the keys are not its keys.",
            "Make both with: privacy-toolkit suppression export FILE --key-file FILE",
        )
    for name, key, data in parts:
        yield name, key, [data[k : k + _DIGEST] for k in range(0, len(data), _DIGEST)]
