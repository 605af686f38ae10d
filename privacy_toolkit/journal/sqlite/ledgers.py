"""What outlives the runs of a state folder: whom it erased, and which codes it gave away.

Erased stays erased: the list of whom holds no id. An entry is HMAC-SHA256 under a key of the list's own, which is kept
apart from it. The list outlives the purge of a run, which takes the ids away, since afterwards too a request would
re-create the profile of the one who was erased. Lists of other machines can be taken in, each under its own key, and
single people can be taken off.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final, Self

from privacy_toolkit.core.model import JournalError, ToolkitError
from privacy_toolkit.core.privacy import SecretFile
from privacy_toolkit.journal.ledgers import unwrapped, wrap, wrapped_under
from privacy_toolkit.journal.records import (
    DIGEST,
    RUN_SECOND,
    decode_lists,
    encode_lists,
    hmac_begun,
    list_digest,
    list_name,
    newest_first,
)
from privacy_toolkit.journal.sqlite.checksums import is_unchangeable
from privacy_toolkit.journal.sqlite.pages import setting_up
from privacy_toolkit.journal.sqlite.reader import JOURNAL_FILE, LOCK_NAME, SUMS_NAME
from privacy_toolkit.journal.store import assigned_meanwhile

# The keys of lists that name people by digests: they lie apart from the lists, wrapped under the state folder's key.
#
# Anyone who has a list and its key can test whether somebody is on it. So the key of a list is never in the same file:
# there
# it is only XORed with HMAC-SHA256(the state folder's key, the list's name), which without that key says nothing of
# it.

_KEY_LENGTH: Final = 32


def own_key(connection: sqlite3.Connection, key: SecretFile, name: str) -> bytes:
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
    found = bytes(facts.get("key") or secrets.token_bytes(_KEY_LENGTH))
    wrapped, check = wrapped_under(master, name, found)
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", [("wrapped", wrapped), ("check", check)])
    connection.execute("DELETE FROM facts WHERE name = 'key'")
    connection.execute("COMMIT")
    if "key" in facts:  # nothing of it may stay in the file or the log
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return own_key(connection, key, name)  # of two processes the first one's stays


def faults_of(folder: Path, key: SecretFile) -> Iterator[tuple[str, str]]:
    """The lists of a state folder that are not sound, or whose key does not fit, and what is wrong with each."""
    for file, name in ((SUPPRESSION_FILE, "suppression"), (ASSIGNED_FILE, "dealt")):
        if not (folder / file).is_file():
            continue
        try:
            how = "immutable=1" if is_unchangeable(folder / file) else "mode=ro"
            with closing(sqlite3.connect(f"{(folder / file).absolute().as_uri()}?{how}", uri=True)) as connection:
                ((said, *_), *_) = connection.execute("PRAGMA integrity_check(1)").fetchall()
                facts = dict(connection.execute("SELECT name, value FROM facts WHERE name IN ('wrapped', 'check')"))
                if "wrapped" in facts:
                    unwrapped(key, name, bytes(facts["wrapped"]), bytes(facts.get("check", b"")))
        except sqlite3.Error as error:
            said = str(error)
        except ToolkitError as error:
            said = error.message
        if said != "ok":
            yield file, said


# The runs that there are, and whether one is still as it was when it was read for a list or for the index.


def runs_in(place: Path) -> list[str]:
    """Every run in the folder of the runs, newest first."""
    if not place.is_dir():
        return []
    found = [
        p.name
        for p in place.iterdir()
        if not p.name.startswith(".") and ((p / JOURNAL_FILE).exists() or (p / SUMS_NAME).exists())
    ]
    return newest_first(found) if len(found) > 1 else found


def stamp_of(run: Path) -> bytes:
    """What tells whether the files of a run are still the ones that they were; empty if there are none.

    The lock, SQLite's shared memory and an empty log come and go without the run, so they are left out.
    """
    try:
        with os.scandir(run) as entries:
            found = [
                f"{entry.name} {there.st_ino} {there.st_size} {there.st_mtime_ns} {there.st_ctime_ns}"
                for entry in entries
                if entry.name != LOCK_NAME and not entry.name.endswith("-shm")
                for there in (entry.stat(follow_symlinks=False),)
                if there.st_size or not entry.name.endswith("-wal")
            ]
    except OSError:
        return b""
    return hashlib.sha256("\n".join(sorted(found)).encode()).digest()


SUPPRESSION_FILE = "suppression.sqlite"
#: The file with the state folder's key, unless the configuration names another place.
KEY_NAME: Final = "state.key"
_TABLES = """
    CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS suppressed (digest BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS counted (run_id TEXT PRIMARY KEY, erased INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS read (run_id TEXT PRIMARY KEY, stamp BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS lists (name TEXT PRIMARY KEY, wrapped BLOB NOT NULL, checked BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS imported (list TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (list, digest))
        WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS removed (digest BLOB PRIMARY KEY, before TEXT NOT NULL) WITHOUT ROWID;
"""
_AT_ONCE = 10_000


class SuppressionFile:
    """The list in a state folder, opened; made if it is missing.

    ``key`` is the file with the state folder's key; None: next to the list.

    Raises:
        JournalError: it can't be opened, or the key is missing.
    """

    def __init__(self, folder: Path, key: SecretFile | None = None) -> None:
        self._runs = folder / "runs"
        self._stamps: dict[str, bytes] = {}
        self._state_key = key or SecretFile(folder / KEY_NAME)
        try:
            with suppress(OSError):  # SQLite says better what is wrong with the folder
                (folder / SUPPRESSION_FILE).touch(mode=0o600)
            self._connection = sqlite3.connect(folder / SUPPRESSION_FILE, isolation_level=None, timeout=30)
            with setting_up(self._connection):
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
            with _list_read():
                if execute(f"SELECT 1 FROM suppressed WHERE digest IN ({marks})", own).fetchone():
                    return True
                return any(
                    execute(
                        f"SELECT 1 FROM imported WHERE list = ? AND digest IN ({marks})",
                        [name, *(list_digest(key, scope, customer) for scope in scopes)],
                    ).fetchone()
                    for name, key in self._imported.items()
                )

        return is_suppressed

    def behind(self) -> list[str]:
        """The runs that may have erased somebody who is not in the list, newest first: not read as they are now."""
        with _list_read():
            read = dict(self._connection.execute("SELECT run_id, stamp FROM read"))
        self._stamps = {run_id: stamp_of(self._runs / run_id) for run_id in runs_in(self._runs)}
        return [run_id for run_id, stamp in self._stamps.items() if not stamp or read.get(run_id) != stamp]

    def mark_read(self, run_id: str) -> None:
        """Note that everybody is in whom a run has erased, if it still is as it was when ``behind`` named it.

        Where that can't be written, the run is read again the next time.
        """
        stamp = self._stamps.get(run_id)
        if stamp and stamp_of(self._runs / run_id) == stamp:
            with suppress(JournalError), self._written():
                self._connection.execute("INSERT OR REPLACE INTO read VALUES (?, ?)", (run_id, stamp))

    def counted(self, run_id: str) -> int:
        """How many erased customers of a run are in the list."""
        with _list_read():
            found = self._connection.execute("SELECT erased FROM counted WHERE run_id = ?", (run_id,)).fetchone()
        return 0 if found is None else int(found[0])

    def add(self, scope: str, customers: Iterable[str], run_id: str, erased: int) -> None:
        """Enter the erased customers of a run, ``erased`` in number; who is in already stays there.

        Who was taken off the list stays off, unless the run was created after that.

        Raises:
            JournalError: it can't be written.
        """
        rest, second = iter(customers), run_id[:RUN_SECOND]
        with self._written():
            is_plain = self._connection.execute("SELECT 1 FROM removed LIMIT 1").fetchone() is None  # nearly always
            while batch := sorted(_digests(self._key, scope, islice(rest, _AT_ONCE))):
                if is_plain:
                    self._connection.executemany("INSERT OR IGNORE INTO suppressed VALUES (?)", zip(batch))
                    continue
                self._connection.executemany(
                    "INSERT OR IGNORE INTO suppressed SELECT ? WHERE NOT EXISTS"
                    " (SELECT 1 FROM removed WHERE digest = ? AND before >= ?)",
                    [(digest, digest, second) for digest in batch],
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
                    [(name, list_digest(key, scope, customer)) for scope in scopes],
                )
            if was_on:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO removed VALUES (?, ?)", [(digest, second) for digest in own]
                )
        return was_on

    def exported(self) -> tuple[bytes, bytes, int]:
        """The list with all that were taken in, as JSON; the keys, as JSON; and how many entries there are."""
        execute = self._connection.execute
        keys = {list_name(self._key): self._key, **self._imported}
        with _list_read():
            digests = {list_name(self._key): [d for (d,) in execute("SELECT digest FROM suppressed")]}
            for name in self._imported:
                found = [d for (d,) in execute("SELECT digest FROM imported WHERE list = ?", (name,))]
                digests[name] = found
        return encode_lists([(name, key, digests[name]) for name, key in keys.items()])

    def take_in(self, export: bytes, keys: bytes) -> int:
        """Take in what ``exported`` gave on another machine; how many entries are new here.

        Raises:
            UsageError: it is no export, or the keys are not its keys.
            JournalError: it can't be written.
        """
        found = list(decode_lists(export, keys))
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

    def removed(self) -> list[tuple[bytes, str]]:
        """Who was taken off, by digest, and for all runs created up to which second."""
        with _list_read():
            return self._connection.execute("SELECT digest, before FROM removed").fetchall()

    @property
    def key(self) -> bytes:
        """The key of the list."""
        return self._key

    def _count(self) -> int:
        tables = ("suppressed", "imported")
        with _list_read():
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
        return list_digest(self._key, scope, customer)


def _digests(key: bytes, scope: str, customers: Iterable[str]) -> list[bytes]:
    """Name many customers as ``list_digest`` does: what is the same for all of them is taken in once."""
    begun, outer = hmac_begun(key)
    inner, found = begun.copy(), list[bytes]()
    inner.update(f"{scope}\0".encode())
    for customer in customers:
        one, whole = inner.copy(), outer.copy()
        one.update(customer.encode())
        whole.update(one.digest())
        found.append(whole.digest()[:DIGEST])
    return found


@contextmanager
def _list_read() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(
            f"The list of erased customers can't be read: {error}.", "Put it back from a backup."
        ) from None


# Which code was assigned to whom, over all runs of a state folder, without any code or id.
#
# Codes and customers stand here as HMAC-SHA256 under a key of the record's own, which lies apart (see ``listkey``). It
# outlives the purge of a run: a code that was assigned once goes to nobody else.

#: File and table keep the names under which every earlier version knows them: what was assigned there still counts.
ASSIGNED_FILE = "dealt.sqlite"
_ASSIGNED: Final = "dealt"
_ASSIGNED_TABLES = f"""
    CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS {_ASSIGNED} (code BLOB PRIMARY KEY, customer BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS {_ASSIGNED}_to ON {_ASSIGNED} (customer);
    CREATE TABLE IF NOT EXISTS shared (code BLOB NOT NULL, customer BLOB NOT NULL, PRIMARY KEY (code, customer))
        WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS shared_to ON shared (customer);
    CREATE TABLE IF NOT EXISTS given_back (run_id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS state (scope BLOB PRIMARY KEY, changes INTEGER NOT NULL) WITHOUT ROWID;
"""
_CODES_AT_ONCE = 10_000
#: Both tables with pairs: the first customer of a code, which is all that earlier versions know, and every one of a
#: code that several may have.
_PAIR_TABLES: Final = (_ASSIGNED, "shared")


class AssignedCodesFile:
    """What was assigned in one scope, a deployment and its environment; opened, and made if it is missing.

    ``former`` are the names under which earlier versions remembered it. What is known there counts; what is
    assigned from now on is remembered under ``scope``.

    ``key`` is the file with the state folder's key; None: next to the record.

    Raises:
        JournalError: it can't be opened.
    """

    def __init__(self, folder: Path, scope: str, former: Collection[str] = (), key: SecretFile | None = None) -> None:
        self._scopes = (scope, *former)
        with _explained("opened"):
            with suppress(OSError):  # SQLite says better what is wrong with the folder
                (folder / ASSIGNED_FILE).touch(mode=0o600)
            self._connection = sqlite3.connect(folder / ASSIGNED_FILE, isolation_level=None, timeout=30)
            with setting_up(self._connection):
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
                self._connection.executescript(_ASSIGNED_TABLES)
                self._key = own_key(self._connection, key or SecretFile(folder / KEY_NAME), "dealt")
        #: How often something was assigned here; what was worked out at another count may not hold any more.
        with _explained("read"):
            self.changes = self._changes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @property
    def key(self) -> bytes:
        """The key under which codes and customers are named."""
        return self._key

    def copied(self) -> Iterator[tuple[str, list[tuple[object, ...]]]]:
        """The rows of each table with its name, in parts: for another store."""
        for table in (_ASSIGNED, "shared", "given_back", "state"):
            with _explained("read"):
                found = self._connection.execute(f"SELECT * FROM {table}")
            while some := found.fetchmany(_CODES_AT_ONCE):
                yield table, some

    def among(self, codes: Iterable[str]) -> dict[bytes, str]:
        """Those of ``codes`` that were assigned to somebody, by their digests, in their order."""
        if not self.changes:
            return {}
        with _explained("read"):
            return {
                digest: code
                for code in codes
                for scope in self._scopes
                if self._is_assigned(digest := self._digest("code", code, scope))
            }

    def code_of(self, customer: str, among: dict[bytes, str]) -> str | None:
        """The first of the codes ``among`` that was assigned to a customer."""
        if not among:
            return None
        digests = [self._digest("customer", customer, scope) for scope in self._scopes]
        marks = ", ".join("?" * len(digests))
        with _explained("read"):
            mine = {
                code
                for table in _PAIR_TABLES
                for (code,) in self._connection.execute(
                    f"SELECT code FROM {table} WHERE customer IN ({marks})", digests
                )
            } & among.keys()
        return next((code for digest, code in among.items() if digest in mine), None) if mine else None

    def used(self, code: str) -> int:
        """How many customers a code was assigned to."""
        return len(self._customers_of(code))

    def is_of(self, customer: str, code: str) -> bool:
        """Whether a code was assigned to a customer."""
        found = self._customers_of(code)
        return bool(found) and any(self._digest("customer", customer, scope) in found for scope in self._scopes)

    def _customers_of(self, code: str) -> set[bytes]:
        if not self.changes:
            return set()
        digests = [self._digest("code", code, scope) for scope in self._scopes]
        marks = ", ".join("?" * len(digests))
        with _explained("read"):
            return {
                customer
                for table in _PAIR_TABLES
                for (customer,) in self._connection.execute(
                    f"SELECT customer FROM {table} WHERE code IN ({marks})", digests
                )
            }

    def remember(
        self, pairs: Iterable[tuple[str, str]], shared: Collection[str] = (), void: Collection[str] = ()
    ) -> None:
        """Make durable which codes are assigned to which customers, as worked out when this was opened; all or nothing.

        Codes in ``shared`` may have several customers. Those in ``void`` don't exist: who had one has it no more.

        Raises:
            RefusedError: something was assigned meanwhile.
            JournalError: it can't be written.
        """
        rest, many = iter(pairs), {self._digest("code", code) for code in shared}
        with self._changing():
            self._check_unchanged()
            gone = [(self._digest("code", code, scope),) for code in void for scope in self._scopes]
            for table in _PAIR_TABLES:
                self._connection.executemany(f"DELETE FROM {table} WHERE code = ?", gone)
            while batch := list(islice(rest, _CODES_AT_ONCE)):
                digests = [(self._digest("code", code), self._digest("customer", one)) for one, code in batch]
                self._connection.executemany(f"INSERT OR IGNORE INTO {_ASSIGNED} VALUES (?, ?)", digests)
                several = [pair for pair in digests if pair[0] in many]
                self._connection.executemany("INSERT OR IGNORE INTO shared VALUES (?, ?)", several)

    def give_back(self, pairs: Iterable[tuple[str, str]], run_id: str) -> None:
        """Forget, durably and once for each ``run_id``, that these customers have these codes, since it released them.

        Raises:
            JournalError: it can't be written.
        """
        rest = iter(pairs)
        with self._changing():
            if self._connection.execute("INSERT OR IGNORE INTO given_back VALUES (?)", (run_id,)).rowcount == 0:
                return
            while batch := list(islice(rest, _CODES_AT_ONCE)):
                digests = [
                    (self._digest("code", code, scope), self._digest("customer", one, scope))
                    for one, code in batch
                    for scope in self._scopes
                ]
                for table in _PAIR_TABLES:
                    self._connection.executemany(f"DELETE FROM {table} WHERE code = ? AND customer = ?", digests)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Write all of it or nothing, and count that something was assigned or given back."""
        with _explained("written"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
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
            raise assigned_meanwhile()

    def _changes(self) -> int:
        digests = [self._digest("scope", "", scope) for scope in self._scopes]
        marks = ", ".join("?" * len(digests))
        (changes,) = self._connection.execute(
            f"SELECT IFNULL(SUM(changes), 0) FROM state WHERE scope IN ({marks})", digests
        ).fetchone()
        return int(changes)

    def _is_assigned(self, digest: bytes) -> bool:
        return any(
            self._connection.execute(f"SELECT 1 FROM {table} WHERE code = ?", (digest,)).fetchone() is not None
            for table in _PAIR_TABLES
        )

    def _digest(self, kind: str, name: str, scope: str | None = None) -> bytes:
        return hmac.digest(self._key, f"{kind}\0{scope or self._scopes[0]}\0{name}".encode(), hashlib.sha256)[:16]


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(
            f"The record of assigned codes can't be {what}: {error}.", "Is the state folder complete and writable?"
        ) from None


# What deployments taught the toolkit: a small file for each in the state folder, with its control profile.
#
# The id of a control profile is written down before the profile is made, so that no crash leaves one behind that nobody
# knows of. Anyone who writes holds the lock on the deployment.
