"""The journal's file: creating it with all of its subjects, and the facts of a run that are fixed from then on."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import os
import secrets
import sqlite3
import struct
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import groupby
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import msgspec
from filelock import FileLock

from privacy_toolkit.core import durable
from privacy_toolkit.core.durable import put_folder, sync
from privacy_toolkit.core.model import JournalError, Outcome, RefusedError
from privacy_toolkit.journal.records import Approval, Page, RequestRow, Staged, SubjectRow, SubjectState, state_row
from privacy_toolkit.journal.sqlite.checksums import Checksums, Damage, close_past_sqlite, open_past_sqlite
from privacy_toolkit.journal.sqlite.pages import MIGRATIONS, applied, migrate, page_rows, put_page
from privacy_toolkit.journal.store import damaged, moved, running

JOURNAL_FILE = "journal.sqlite"
SUMS_NAME = "journal.sums"
LOCK_NAME = "execution.lock"
#: The fact that binds all others, and the digests of the pages.
MAC = "mac"
#: So long, in seconds, a look at where the journal's file is holds.
_IN_PLACE_FOR = 0.2
#: So long, in seconds, another process may hold a run's lock that only looks at how the run stands.
_A_MOMENT = 2.0

#: What SQLite says where nothing is wrong with the file itself: no room, no permission, another process.
_NO_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
_PRIMARY = 0xFF  # the lower byte of an extended code is the code proper

Digest = tuple[int, int, bytes]
M = TypeVar("M", bound=Callable[..., Any])


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing journal for reading and writing, with commits that survive a power cut."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False, timeout=30
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=0")  # see ``checksums``
    return connection


def page_digest(secret: bytes, first: int, last: int, data: bytes) -> bytes:
    """What a page of subjects has to come to: HMAC-SHA256 of its numbers and its bytes."""
    return hmac.digest(secret, struct.pack(">QQ", first, last) + data, hashlib.sha256)


def facts_mac(facts: Mapping[str, bytes], pages: Iterable[Digest]) -> bytes:
    """What binds the facts of a run and the digests of its pages: HMAC-SHA256 under the secret that is among them.

    A purged run has no secret any more: its fact is a plain checksum, under an empty key.
    """
    mac = hmac.new(facts.get("secret", b""), digestmod=hashlib.sha256)
    for name in sorted(facts.keys() - {MAC}):
        mac.update(struct.pack(">QQ", len(name.encode()), len(facts[name])) + name.encode() + facts[name])
    for first, last, digest in pages:
        mac.update(struct.pack(">QQ", first, last) + digest)
    return mac.digest()


@contextmanager
def damage_named(run_id: str) -> Iterator[None]:
    """Turn whatever a damaged journal leads to into the one error that names the run.

    Raises:
        DamagedError: the journal does not hold what was written to it.
        JournalError: it can't be read or written for another reason.
    """
    try:
        yield
    except Damage as damage:
        raise damaged(run_id, str(damage)) from None
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _NO_DAMAGE:
            raise JournalError(
                f"The journal of run {run_id} can't be used: {error}.", "Is the state folder complete and writable?"
            ) from None
        raise damaged(run_id, "the database") from None
    except OSError as error:
        raise JournalError(
            f"The journal of run {run_id} can't be used: {error.strerror}.",
            "Is the state folder complete and writable?",
        ) from None
    except (msgspec.MsgspecError, struct.error, ValueError, TypeError, OverflowError, LookupError):
        raise damaged(run_id, "a record") from None  # the text of such an error may hold an id


def reads(method: M) -> M:
    """A method that reads the journal: damage that shows in it is named."""
    if inspect.isgeneratorfunction(method):

        @wraps(method)
        def generate(self: RunFacts, *given: Any, **named: Any) -> Iterator[Any]:
            with damage_named(self.folder.name):
                yield from method(self, *given, **named)

        return cast("M", generate)

    @wraps(method)
    def call(self: RunFacts, *given: Any, **named: Any) -> Any:
        with damage_named(self.folder.name):
            return method(self, *given, **named)

    return cast("M", call)


class RunFacts:
    """An open journal, and what it says of its run as a whole. ``monotonic`` is a clock in seconds.

    Raises:
        DamagedError: it does not hold what was written to it.
        RefusedError: it is of a newer toolkit (code ``newer``).
        JournalError: it is missing with its folder (code ``moved``), or can't be opened.
    """

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self._path = folder / JOURNAL_FILE
        self._sums_path = folder / SUMS_NAME
        self._monotonic = monotonic
        self._sums: Checksums | None = None
        self._raw: sqlite3.Connection | None = None
        self._lock: FileLock | None = None
        self._is_verified = self._has_failed = False
        self._in_place: tuple[float, bool] | None = None
        self._facts: dict[str, bytes] = {}
        self._digests: dict[int, Digest] = {}
        try:
            self._descriptor = open_past_sqlite(self._path)
        except FileNotFoundError:
            if not folder.exists():  # it was there when the run was begun, or looked for
                raise moved(folder.name) from None
            raise damaged(folder.name, "its file is missing") from None
        except OSError as error:
            raise JournalError(
                f"The journal of run {folder.name} can't be opened: {error.strerror}.", "Is the state folder complete?"
            ) from None
        try:
            with damage_named(folder.name):
                self._open()
        except BaseException:
            self._let_go()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._raw is None:
            return
        try:
            if self._is_there():  # else another file stands at its place, which is none of ours
                with damage_named(self.folder.name):
                    self._settle_log()
        finally:
            self._let_go()

    def is_in_place(self) -> bool:
        """Whether the journal's file is still where it was opened; what is written to it is lost if it is not.

        A look holds for a fifth of a second.
        """
        now = self._monotonic()
        if self._in_place is None or not 0 <= now - self._in_place[0] < _IN_PLACE_FOR:
            self._in_place = (now, self._is_there())
        return self._in_place[1]

    @property
    def is_running(self) -> bool:
        """Whether a process works on the run: it holds the run's lock."""
        return self._lock is not None or durable.is_taken(self.folder / LOCK_NAME)

    def verify(self) -> None:
        """Compare the whole file with its checksums, once; a process at work on it did so before it began.

        Raises:
            DamagedError: a part of it is not what was written.
        """
        if self._is_verified or self._sums is None or (self._lock is None and self.is_running):
            return
        with damage_named(self.folder.name):
            try:
                self._compare(self._sums)
            except Damage:
                if self._lock is None and self.is_running:  # it began meanwhile, and writes
                    return
                self._sums.reload()  # or it began and ended meanwhile
                self._compare(self._sums)
        self._is_verified = True

    def fact(self, name: str) -> bytes | None:
        """A fact of the run by its name (see ``staging.create_run``); None if it was purged or never known."""
        return self._facts.get(name)

    @property
    def name(self) -> str:
        """Under which name the state folder has the run: its id, unless somebody renamed it."""
        return self.folder.name

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
    def plan_key(self) -> bytes | None:
        """The key under which the plan names its files; None once the run is purged, or if its digests are plain."""
        return self.fact("plan_key")

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

    @property
    def _connection(self) -> sqlite3.Connection:
        """The way to all that is not a fact: only what was compared with its checksums counts."""
        self.verify()
        return self._facts_connection

    @property
    def _facts_connection(self) -> sqlite3.Connection:
        if self._raw is None:
            raise JournalError(f"The journal of run {self.folder.name} is closed.")
        return self._raw

    def _open(self) -> None:
        if self._sums_path.exists():
            self._sums = Checksums(self._sums_path, self._path, self._descriptor)
            self._settle_log()
        self._raw = connect(self._path)
        self._bring_up_to_date(self._raw)
        self._read_facts()

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        known = [name for name, _ in MIGRATIONS]
        there = applied(connection)
        if there == set(known):
            return
        self.verify()  # what seems to be of another toolkit may be damaged
        if there - set(known):
            raise RefusedError(
                f"The journal of run {self.folder.name} was written by a newer version of this toolkit.",
                "Use that version, or a later one. Nothing was changed.",
                code="newer",
            )
        self._take_lock()  # the tables are written again: nobody may be at work on them
        try:
            if self._sums is not None:  # somebody else may just have done it
                self._sums.reload()
                self._is_verified = False
            self.verify()
            migrate(connection)
            self._note_commit()
        finally:
            self._free_lock()

    def _read_facts(self) -> None:
        connection = self._facts_connection
        facts = {str(name): bytes(value) for name, value in connection.execute("SELECT name, value FROM facts")}
        digests: list[Digest] = connection.execute(
            "SELECT first, last, digest FROM page_digests ORDER BY first"
        ).fetchall()
        said = facts.get(MAC)
        if said is None and (self._sums is not None or digests):
            raise Damage("the facts")
        if said is not None and (self._sums is None or not hmac.compare_digest(said, facts_mac(facts, digests))):
            raise Damage("the checksums are missing" if self._sums is None else "the facts")
        self._facts = facts
        self._digests = {digest[0]: digest for digest in digests}

    @staticmethod
    def _compare(sums: Checksums) -> None:
        sums.verify(sums.read_log() if sums.has_log() else None)

    def _note_commit(self) -> None:
        """Tell the checksums of what this very connection wrote."""
        if self._sums is not None:
            self._sums.committed(after_failure=self._has_failed)
            self._sums.checkpoint(self._facts_connection)

    def _settle_log(self) -> None:
        """Take into the checksums what a process that died left in the log, before SQLite does anything with it."""
        if self._sums is None or self._lock is not None or not self._sums.has_log():
            return
        lock_path = self.folder / LOCK_NAME
        lock = durable.take(lock_path) if lock_path.exists() else None
        if lock is None and durable.is_taken(lock_path):
            return  # it is at work, and does that itself
        try:
            self._sums.settle(lambda: connect(self._path))
        finally:
            if lock is not None:
                lock.release()

    def _is_there(self) -> bool:
        try:
            found = self._path.stat()
        except OSError:
            return False
        opened = os.fstat(self._descriptor)
        return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)

    def _take_lock(self) -> None:
        """Say that this process works on the run, for as long as it does.

        Raises:
            RefusedError: another one does.
        """
        lock = durable.take(self.folder / LOCK_NAME, _A_MOMENT)
        if lock is None:
            raise running(self.folder.name)
        self._lock = lock

    def _free_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _let_go(self) -> None:
        if self._raw is not None:
            self._raw.close()
            self._raw = None
        if self._sums is not None:
            self._sums.close()
            self._sums = None
        self._free_lock()
        close_past_sqlite(self._descriptor)


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
        for first, page in _numbered(staged.pages):
            size = first + len(page) - 1
            data = msgspec.msgpack.encode(page)
            connection.execute("INSERT INTO pages VALUES (?, ?, ?)", (first, size, data))
            digests.append((first, size, page_digest(secret, first, size, data)))
            if staged.party is not None:
                connection.executemany(_PUT_PARTY, _parties(first, page, staged.party))
        _put_what_is_known(connection, staged, [first for first, _, _ in digests])
        connection.executemany("INSERT INTO rejected VALUES (?, ?)", staged.rejected)
        _bind(connection, _facts(run_id, staged, secret, size), digests)
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


def _facts(run_id: str, staged: Staged, secret: bytes, size: int) -> dict[str, bytes]:
    facts = {
        "run_id": run_id.encode(),
        "plan": staged.plan,
        "secret": secret,
        "created_at": str(staged.created_at).encode(),
        "size": str(size).encode(),
    }
    if staged.approval is not None:
        facts["approval"] = msgspec.json.encode(staged.approval)
    if staged.plan_key is not None:
        facts["plan_key"] = staged.plan_key
    return facts


def _numbered(pages: Iterable[Page]) -> Iterator[tuple[int, Page]]:
    first = 1
    for page in pages:
        if page:
            yield first, page
            first += len(page)


def _parties(first: int, page: Page, party: Callable[[str, str], str]) -> Iterator[tuple[object, ...]]:
    for seq, (row, id_, *more) in enumerate(page, start=first):
        given = "".join(map(str, more))
        yield party(str(id_), given), seq, row, id_, given


def _put_what_is_known(connection: sqlite3.Connection, staged: Staged, firsts: Sequence[int]) -> None:
    """Write what is known of some subjects from the beginning: who is on hold, and what the input says of requests."""

    def page_of(row: SubjectRow) -> int:
        return firsts[bisect_right(firsts, row.seq) - 1]

    requests = (SubjectRow(row[0], None, [], RequestRow._make(row)) for row in staged.requests)
    for said in (_held(staged), requests):
        for first, some in groupby(said, key=page_of):
            rows = {row.seq: row for row in page_rows(connection, first)}
            for row in some:
                known = rows.get(row.seq)
                rows[row.seq] = row if known is None else known._replace(request=row.request)
            put_page(connection, first, [rows[seq] for seq in sorted(rows)])


def _held(staged: Staged) -> Iterator[SubjectRow]:
    for seq in sorted(staged.holds):
        hold = staged.holds[seq]
        state = SubjectState(
            Outcome.ON_HOLD, hold_reason=hold.reason, review_on=hold.review_on, settled_at=staged.created_at
        )
        yield SubjectRow(seq, state_row(seq, state), [], None)
