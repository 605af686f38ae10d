"""The journal of one run: one SQLite file that holds its plan, its subjects and all that was observed.

Three things stand between a damaged file and what is done by it. The facts and the digests of all pages of subjects are
bound together by an HMAC under the run's secret, looked at whenever a journal is opened; each page is compared with its
digest whenever it is read; and the whole file is compared with its checksums (see ``checksums``) before the first row
of it counts, unless a process that did so is at work on it.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sqlite3
import struct
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Self

import msgspec
from filelock import FileLock

from privacy_toolkit.core import durable
from privacy_toolkit.core.durable import put_folder, sync
from privacy_toolkit.core.model import JournalError, RefusedError, StopReason
from privacy_toolkit.core.privacy import uncollected
from privacy_toolkit.journal.figures import PageCounts, RunCounts, RunSummary
from privacy_toolkit.journal.ledgers import MAC, Digest, facts_mac, page_digest
from privacy_toolkit.journal.packed import (
    CONTROL_COLUMNS,
    Damage,
    KeptFacts,
    PackedReader,
    PartyWalk,
    Row,
    control_of,
    reads,
)
from privacy_toolkit.journal.records import (
    Acceptance,
    ControlRecord,
    Execution,
    RejectedRow,
    Staged,
    StateRow,
    SubjectRow,
    pieces_of_result,
)
from privacy_toolkit.journal.sqlite.checksums import (
    Checksums,
    close_past_sqlite,
    connect,
    keep_log,
    open_past_sqlite,
)
from privacy_toolkit.journal.sqlite.pages import (
    MIGRATIONS,
    applied,
    migrate,
    outcomes_of,
    page_counts,
    page_rows,
    page_states,
    put_page,
    run_counts,
    transaction,
)
from privacy_toolkit.journal.store import damaged, moved, running
from privacy_toolkit.journal.windows import Windows, times_of, windows_from
from privacy_toolkit.journal.writing import facts_of, known_at_first, members_of, numbered, pieces_of_page

JOURNAL_FILE = "journal.sqlite"
SUMS_NAME = "journal.sums"
LOCK_NAME = "execution.lock"
#: That a stop was asked for, and the lock that keeps its asking apart from the beginning of an execution.
STOP_NAME, ASKING_NAME, TUNE_NAME = "stop.json", "stop.lock", "tune.json"
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


class RunFacts(KeptFacts):
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
            while not self._is_verified:
                try:
                    self._compare(self._sums)
                    self._is_verified = True
                except Damage:
                    if self._lock is None and self.is_running:  # it began meanwhile, and writes
                        return
                    if not self._sums.reload():  # nor did it begin and end meanwhile
                        raise

    @property
    def name(self) -> str:
        """Under which name the state folder has the run: its id, unless somebody renamed it."""
        return self.folder.name

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
            if self._sums.has_log():
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
        self._digests = {digest[0]: digest for digest in digests}
        said = facts.get(MAC)
        if said is None and (self._sums is not None or digests):
            raise Damage("the facts")
        if said is not None and (self._sums is None or not hmac.compare_digest(said, facts_mac(facts, digests))):
            raise Damage("the checksums are missing" if self._sums is None else "the facts")
        self.keep(facts)

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
        with closing(keep_log(self._path)) as kept:
            while (lock := durable.take(self.folder / LOCK_NAME)) is None:
                if self.is_running:  # else somebody only looked at the lock
                    return  # it is at work, and does that itself
            try:
                self._sums.settle(kept, lambda: connect(self._path))
            finally:
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
        with self._asking():
            lock = durable.take(self.folder / LOCK_NAME, _A_MOMENT)
            if lock is None:
                raise running(self.folder.name)
            for name in (STOP_NAME, TUNE_NAME):
                (self.folder / name).unlink(missing_ok=True)  # it was for somebody else
        self._lock = lock

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Keep it apart that somebody begins to work on the run, and that somebody asks those who do to stop."""
        lock = durable.take(self.folder / ASKING_NAME, 2 * _A_MOMENT)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

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
        close_past_sqlite(self._descriptor)
        self._free_lock()


#: So many bytes a piece of what a purge takes away has at most.
_LONGEST = 16
#: In a folded page, which is compressed, so far apart; its beginning is like that of others.
_APART = 512


class JournalReader(PackedReader, RunFacts):
    """The journal of one run, opened to read what it holds.

    Raises:
        JournalError: as ``RunFacts``; and so does every method where damage shows in what it reads.
    """

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._walks: list[PartyWalk] = []
        self._counted: tuple[tuple[int, int], RunCounts] | None = None
        super().__init__(folder, monotonic)

    def reading(self) -> AbstractContextManager[None]:
        """Name the run in whatever a damaged journal leads to."""
        return damage_named(self.folder.name)

    @property
    def place(self) -> bytes:
        """Where another process finds the run, for ``state.open_run``."""
        return os.fsencode(self.folder.absolute())

    @reads
    def windows(self) -> Windows:
        """The times that a pack shows of each subject; see ``figures``."""
        execute = self._connection.execute
        execute("DROP TABLE IF EXISTS temp.times")
        execute("CREATE TEMP TABLE times (kind INTEGER, seq INTEGER, first INTEGER, last INTEGER)")
        kinds: dict[str, int] = {}
        with uncollected(), transaction(self._connection, "DEFERRED"):
            for bounds in self.bounds():
                times = times_of(page_rows(self._connection, bounds[0]))
                rows = [(kinds.setdefault(kind, len(kinds)), seq, first, last) for kind, seq, first, last in times]
                self._connection.executemany("INSERT INTO times VALUES (?, ?, ?, ?)", rows)
        ordered = execute("SELECT kind, seq, first, last FROM times ORDER BY kind, last, seq")
        found = windows_from(ordered, [(one.started_at, one.ended_at) for one in self.executions()], self.size)
        execute("DROP TABLE times")
        return found

    @reads
    def traces(self) -> Iterator[bytes]:
        """Pieces, 8 bytes or 16, of whatever a purge takes away: none of them may be in any file after it.

        They are taken where nothing else has the same bytes: an id with its place in the list and not the id alone,
        which may be a common word.
        """
        for (data,) in self._connection.execute("SELECT data FROM pages"):
            yield from pieces_of_page(data)
        texts = self._connection.execute("SELECT CAST(id || given AS BLOB) FROM parties")
        yield from (text[-_LONGEST:] for (text,) in texts if len(text) >= _LONGEST)
        for first, _ in self.bounds():
            if any(row.request and row.request.ticket for row in page_rows(self._connection, first)):
                (data,) = self._connection.execute("SELECT data FROM folded WHERE first = ?", (first,)).fetchone()
                places = (*range(_APART, len(data) - _LONGEST, _APART), max(0, len(data) - _LONGEST))
                yield from (data[place : place + _LONGEST] for place in places)
        for (data,) in self._connection.execute("SELECT data FROM results"):
            yield from pieces_of_result(data)
        yield from (value[:16] for name in ("secret", "plan_key") if (value := self._facts.get(name)))

    def summary(self) -> RunSummary:
        """The figures of a report next to ``totals``."""
        return self._counts.summary(self.executions(), self.controls())

    def controls(self) -> list[ControlRecord]:
        """Every control, in order."""
        with self.reading():
            found = self._connection.execute(f"SELECT {CONTROL_COLUMNS} FROM controls ORDER BY n")
            return [control_of(row) for row in found]

    def executions(self) -> list[Execution]:
        """Every process that worked on the run, in order."""
        with self.reading():
            rows = self._connection.execute(
                "SELECT number, started_at, ended_at, stopped_by, settings FROM sittings ORDER BY number"
            )
            return [
                Execution(number, started, ended, StopReason(stopped) if stopped else None, settings)
                for number, started, ended, stopped, settings in rows
            ]

    @reads
    def rejected(self) -> Iterator[RejectedRow]:
        """Row and reason of every refused row of the input, in its order; none once the run is purged.

        Runs made by a version that did not record them have none, whatever the plan counts.
        """
        yield from map(RejectedRow._make, self._connection.execute("SELECT row, reason FROM rejected ORDER BY rowid"))

    def rejected_by_reason(self) -> dict[str, int]:
        """How many refused rows are recorded, by reason."""
        with self.reading():
            return dict(self._connection.execute("SELECT reason, COUNT(*) FROM rejected GROUP BY 1 ORDER BY 1"))

    def acceptance(self) -> Acceptance | None:
        """Who last accepted that rows were refused, if anybody did."""
        with self.reading():
            row = self._connection.execute(
                "SELECT at, rows, signer, signing_key FROM acceptances ORDER BY number DESC LIMIT 1"
            ).fetchone()
            return None if row is None else Acceptance(*row)

    def bounds(self) -> list[tuple[int, int]]:
        """The numbers of the first and the last subject of each page."""
        with self.reading():
            if self._digests:
                return [(first, last) for first, last, _ in self._digests.values()]
            return self._connection.execute("SELECT first, last FROM pages ORDER BY first").fetchall()

    @property
    def _counts(self) -> RunCounts:
        """The counts of all pages; they are added up again once somebody wrote."""
        connection = self._connection
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        state = version, connection.total_changes
        if self._counted is None or self._counted[0] != state:
            self._counted = state, run_counts(connection)
        return self._counted[1]

    def kept_between(self, first: int, last: int) -> Iterable[tuple[int, bytes]]:
        """Give what was kept of answers about subjects, by their numbers in order."""
        return self._connection.execute("SELECT seq, data FROM results WHERE seq BETWEEN ? AND ?", (first, last))

    def page_of(self, first: int) -> tuple[bytes, bytes | None]:
        """Give the subjects of a page as bytes, and what these have to come to."""
        (data,) = self._connection.execute("SELECT data FROM pages WHERE first = ?", (first,)).fetchone()
        return data, self._digests[first][2] if self._digests else None

    def rows_of_page(self, first: int) -> list[SubjectRow]:
        """Give all that is known of the subjects of a page, in their order."""
        return page_rows(self._connection, first)

    def _page_states(self, first: int) -> dict[int, StateRow | None]:
        return page_states(self._connection, first)

    def _page_counts(self) -> Iterator[tuple[int, PageCounts]]:
        return page_counts(self._connection)

    def _outcomes_of(self, first: int, size: int) -> Collection[str]:
        return outcomes_of(self._connection, first, size)

    def members_after(self, after: Row, most: int) -> list[Row]:
        """Give party, number, row, id and what else is given of the next members of parties."""
        return self._connection.execute(
            "SELECT name, seq, row, id, given FROM parties WHERE (name, seq) > (?, ?) ORDER BY name, seq LIMIT ?",
            (*(after or ("", 0)), most),
        ).fetchall()


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
