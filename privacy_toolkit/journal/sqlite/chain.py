"""Records next to the runs of a state folder: sealed packs, answers and controls; and the index of what its runs tell.

A sealed pack has a folder, a run's answers and a deployment's controls a file each. What the runs tell is looked up in
one file, the index, instead of read in each of them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final, Self

import msgspec
from filelock import FileLock

from privacy_toolkit.core.durable import put_file, put_folder, read_regular, remove, sync, take, write_files
from privacy_toolkit.core.model import CONTROL_PREFIX, JournalError, UsageError
from privacy_toolkit.core.privacy import SecretFile
from privacy_toolkit.journal.ledgers import ChainError, IndexLost, KeptLink
from privacy_toolkit.journal.records import ControlProfile, RunAnswers
from privacy_toolkit.journal.sqlite.ledgers import ASSIGNED_FILE, SUPPRESSION_FILE, own_key, runs_in, stamp_of
from privacy_toolkit.journal.sqlite.pages import setting_up

_ID: Final = "id"
_CHECKPOINT, _SUMS, _SIGNATURE = "checkpoint.txt", "SHA256SUMS", "SHA256SUMS.sig"
_NAME = re.compile(r"([0-9]{8})-(.+)")


class FolderChain:
    """The record in ``folder``; it is made with the first pack.

    Every method raises ``OSError`` where the folder can't be read or written, and then nothing has changed.
    """

    remedy = (
        "Restore the folder chain of the state folder from a backup. If there is none, move it away and keep it:"
        " the next pack then begins a new chain, which says so itself."
    )

    def __init__(self, folder: Path, draw: Callable[[int], str] = secrets.token_hex) -> None:
        self.folder = folder
        self._draw = draw

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process seals a pack, and keep others from it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock", mode=0o600):
            for left in self.folder.glob(".new-*"):  # of a process that died: nobody else is in here now
                remove(left)
            yield

    def drawn_id(self) -> str:
        """Give the 32 random hexadecimal digits of this record, drawn and made durable by the first call.

        Raises:
            ChainError: there are links, but the id is gone or is none.
        """
        path = self.folder / _ID
        if not path.exists():
            if self._names():
                raise ChainError("The record of the packs has lost its id.", self.remedy)
            with put_file(path, over=True) as file:
                file.write(f"{self._draw(16)}\n".encode())
            sync(self.folder.parent)
        value = read_regular(path)
        if not re.fullmatch(rb"[0-9a-f]{32}\n", value):
            raise ChainError("The id of the record of the packs is damaged.", self.remedy)
        return value.decode().strip()

    def newest(self) -> KeptLink | None:
        """Give the last link; None in a new record.

        Raises:
            ChainError: the record is damaged.
        """
        names = self._names()
        return self._read(names[-1]) if names else None

    def of_run(self, run_id: str) -> list[KeptLink]:
        """Give the links of one run, the oldest first.

        Raises:
            ChainError: the record is damaged.
        """
        return [self._read(name) for name in self._names() if name[9:] == run_id]

    def links(self) -> list[KeptLink]:
        """Give all links in their order; raises as ``newest``."""
        return [self._read(name) for name in self._names()]

    def append(self, link: KeptLink) -> None:
        """Add a link. It is durable when this returns.

        Raises:
            ChainError: it does not have the next number.
        """
        if link.sequence != len(self._names()) + 1:
            raise ChainError("The pack does not follow the newest one of the record.", self.remedy)
        files = {_CHECKPOINT: link.checkpoint, _SUMS: link.sums}
        if link.signature is not None:
            files[_SIGNATURE] = link.signature
        with put_folder(self.folder / f"{link.sequence:08}-{link.run_id}", over=False) as building:
            write_files(building, files)

    def _names(self) -> list[str]:
        """The names of the links in their order: none is missing and no number appears twice."""
        if not self.folder.is_dir():
            return []
        names = sorted(path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name))
        if [int(name[:8]) for name in names] != list(range(1, len(names) + 1)):
            raise ChainError("The record of the packs has a gap or a fork.", self.remedy)
        return names

    def _read(self, name: str) -> KeptLink:
        folder = self.folder / name
        signature = folder / _SIGNATURE
        try:
            return KeptLink(
                int(name[:8]),
                name[9:],
                read_regular(folder / _CHECKPOINT),
                read_regular(folder / _SUMS),
                read_regular(signature) if signature.exists() else None,
            )
        except FileNotFoundError:
            raise ChainError("A part of the record of the packs is damaged.", self.remedy) from None


#: The record of ten million answers is not larger, in bytes.
_LARGEST_ANSWERS: Final = 1 << 30
#: How long another process is waited for, in seconds.
_PATIENCE: Final = 10.0


class AnswerFiles:
    """When people were sent their answers, a file a run in the folder ``answers``. Reading makes nothing."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "answers"

    def read(self, run_id: str) -> RunAnswers:
        """What is recorded of a run.

        Raises:
            JournalError: the file can't be read, is damaged, or of a newer toolkit.
        """
        path = self._path(run_id)
        try:
            content = read_regular(path, _LARGEST_ANSWERS)
            found = msgspec.json.decode(content, type=RunAnswers)
        except (FileNotFoundError, NotADirectoryError):
            return RunAnswers()
        except OSError as error:
            raise self._trouble(run_id, "read", error.strerror) from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise self._trouble(run_id, "read", "it is damaged, or of a newer version of the toolkit") from None
        return found

    def change(self, run_id: str, change: Callable[[RunAnswers], RunAnswers]) -> None:
        """Record what ``change`` makes of what is recorded, durable when it returns.

        Raises:
            JournalError: it can't be read or written, or another process records something for too long.
        """
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            lock = take(self._folder / ".lock", _PATIENCE)
            if lock is None:
                raise self._trouble(run_id, "written", "another process is writing there")
            try:
                content = msgspec.json.encode(change(self.read(run_id)), order="sorted")
                with put_file(self._path(run_id), over=True) as file:
                    file.write(content)
                sync(self._folder.parent)
            finally:
                lock.release()
        except OSError as error:
            raise self._trouble(run_id, "written", error.strerror) from None

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.json"

    @staticmethod
    def _trouble(run_id: str, what: str, why: str | None) -> JournalError:
        return JournalError(
            f"The record of sent answers of run {run_id} can't be {what}: {why or 'the system gave no reason'}.",
            "It is in the folder answers of the state folder.",
        )


# What deployments taught.

CONTROLS_FOLDER = "controls"
_CONTROL_FORMAT = 1
_OWN_ID = re.compile(f"{CONTROL_PREFIX}[0-9a-f]{{32}}")
_LARGEST_CONTROL = 100_000  # a file of ours has less than a kilobyte


class ControlFiles:
    """The control profiles in a state folder. Reading makes nothing."""

    def __init__(self, state: Path) -> None:
        self._folder = state / CONTROLS_FOLDER

    def read(self, deployment: str) -> ControlProfile | None:
        """What is kept of a deployment, by its key; None if nothing is.

        Raises:
            JournalError: the file can't be read, is damaged, or of a newer toolkit.
        """
        path = self._path(deployment)
        try:
            content = read_regular(path, _LARGEST_CONTROL)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise JournalError(
                f"The file {path} can't be read: {error.strerror}.", "Is the state folder yours?"
            ) from None
        try:
            control = msgspec.json.decode(content, type=ControlProfile)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            control = None
        if control is None or not _is_ours(control, deployment):
            raise JournalError(
                f"The file {path} is damaged, or of a newer version of the toolkit.",
                "Move it away, then: privacy-toolkit controls create. It names a profile that may be left behind.",
            )
        return control

    def write(self, control: ControlProfile) -> None:
        """Keep this of a deployment, durable when it returns; what was kept before is replaced in one step.

        Raises:
            JournalError: it can't be written; what was kept before still is.
        """
        path = self._path(control.deployment)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with put_file(path, over=True) as file:
                file.write(msgspec.json.format(msgspec.json.encode(control)) + b"\n")
            sync(self._folder.parent)
        except OSError as error:
            raise JournalError(
                f"The file {path} can't be written: {error.strerror}.", "Is there room on the disk? Is it yours?"
            ) from None

    def drop(self, deployment: str) -> None:
        """Keep nothing of a deployment any more.

        Raises:
            JournalError: the file can't be removed.
        """
        path = self._path(deployment)
        try:
            path.unlink(missing_ok=True)
            sync(self._folder)
        except OSError as error:
            raise JournalError(f"The file {path} can't be removed: {error.strerror}.", "Is it yours?") from None

    def all(self) -> list[ControlProfile]:
        """What is kept of every deployment; a damaged file is ``msgspec``'s error, or that of ``read``."""
        places = [read_regular(path, _LARGEST_CONTROL) for path in sorted(self._folder.glob("*.json"))]
        named = [msgspec.json.decode(content, type=ControlProfile).deployment for content in places]
        return [control for one in named if (control := self.read(one)) is not None]

    def _path(self, deployment: str) -> Path:
        return self._folder / f"{hashlib.sha256(deployment.encode()).hexdigest()[:16]}.json"


def _is_ours(control: ControlProfile, deployment: str) -> bool:
    """Whether this can have been written here. The id above all: ``controls remove`` erases whom it names."""
    ids = {control.profile_id} | ({control.learned.profile_id} if control.learned else set())
    return (
        control.format == _CONTROL_FORMAT
        and control.deployment == deployment
        and len(ids) == 1
        and all(_OWN_ID.fullmatch(one) for one in ids)
    )


INDEX_FILE: Final = "index.sqlite"
_VERSION: Final = 1
_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS parts (
        no INTEGER PRIMARY KEY, run_id TEXT NOT NULL, part TEXT NOT NULL, stamp BLOB NOT NULL, salt BLOB NOT NULL,
        note BLOB NOT NULL, checked BLOB NOT NULL, UNIQUE (run_id, part)
    );
    CREATE TABLE IF NOT EXISTS told (
        digest BLOB NOT NULL, no INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (digest, no)
    ) WITHOUT ROWID;
    CREATE TEMP TABLE passing (
        digest BLOB NOT NULL, run_id TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (digest, run_id)
    ) WITHOUT ROWID;
"""
_DIGEST, _CHECK = 16, 8
_AT_ONCE: Final = 400
_SORTED_AT_ONCE: Final = 50_000
#: Seconds that another process may take to enter a run.
_LONGEST_WAIT: Final = 30.0


class FolderIndex:
    """The index of a state folder, opened with its first use.

    Where the file can't be used or written, or the key of the lists is missing, everything is kept in memory, as if the
    index were made for the first time: that is slower and never wrong.

    Args:
        folder: the state folder.
        key: that of the state folder.
    """

    def __init__(self, folder: Path, key: SecretFile) -> None:
        self._path = folder / INDEX_FILE
        self._runs = folder / "runs"
        self._has_lists = any((folder / name).exists() for name in (SUPPRESSION_FILE, ASSIGNED_FILE))
        self._state_key = key
        self._opened: sqlite3.Connection | None = None
        self._in_memory = False
        self._key = b""
        #: What the files of a run were when a part of it was found to be behind.
        self._stamps: dict[tuple[str, str], bytes] = {}
        #: Salt and note of the runs that are known for as long as this is open.
        self._passing: dict[tuple[str, str], tuple[bytes, bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def behind(self, part: str) -> list[str]:
        """Give the runs of which a part was not entered as they are now, newest first.

        Raises:
            IndexLost: the file could not be used any more; what was entered has to be entered again.
        """
        runs = runs_in(self._runs)
        with self._held() as connection:
            known = self._known(connection, part)
            gone = {run_id for (run_id,) in connection.execute("SELECT run_id FROM parts")} - set(runs)
            for run_id in gone:
                _forget(connection, run_id)
        found = []
        for run_id in runs:
            stamp = stamp_of(self._runs / run_id)
            if (part, run_id) not in self._passing and (not stamp or stamp != known.get(run_id, (b"",))[0]):
                self._stamps[part, run_id] = stamp
                found.append(run_id)
        return found

    def enter(self, part: str, run_id: str, note: bytes, told: Iterable[tuple[str, bytes]], *, lasting: bool) -> None:
        """Enter what a run tells in a part, in the place of what it told there before.

        If ``lasting``, it is entered only if the run still is as it was when it was found to be behind; otherwise for
        as long as this is open, whatever becomes of the run.

        Raises:
            IndexLost: as ``behind``.
        """
        stamp, salt = self._stamps.get((part, run_id), b""), secrets.token_bytes(_DIGEST)
        with self._held() as connection:
            sealed = self._sealed(part, salt, told)
            if not lasting:
                connection.execute("BEGIN")
                _put(connection, "temp.passing", ((digest, run_id, value) for digest, value in sealed))
                connection.execute("COMMIT")
                self._passing[part, run_id] = salt, note
                return
            with _written(connection) as keep:
                _forget(connection, run_id, part)
                number = connection.execute(
                    "INSERT INTO parts VALUES (NULL, ?, ?, ?, ?, ?, ?)",
                    (run_id, part, stamp, salt, *self._note(part, run_id, stamp, salt, note)),
                ).lastrowid
                _put(connection, "told", ((digest, number, value) for digest, value in sealed))
                if stamp and stamp_of(self._runs / run_id) == stamp:
                    keep()

    def notes(self, part: str) -> dict[str, bytes]:
        """Give the notes of all runs of which a part was entered.

        Raises:
            IndexLost: as ``behind``.
        """
        with self._held() as connection:
            known = {run_id: note for run_id, (_, _, note) in self._known(connection, part).items()}
        return known | {run_id: note for (of, run_id), (_, note) in self._passing.items() if of == part}

    def told(self, part: str, names: Iterable[str]) -> dict[str, list[bytes]]:
        """Give what was told under each of some names, by the runs in no order; a name without anything is left out.

        Raises:
            IndexLost: as ``behind``.
        """
        found: dict[str, list[bytes]] = {}
        rest = iter(names)
        with self._held() as connection:
            salts = {run_id: salt for run_id, (_, salt, _) in self._known(connection, part).items()}
            while some := {self._digest(part, name): name for name in islice(rest, _AT_ONCE)}:
                marks = ", ".join("?" * len(some))
                rows = connection.execute(
                    "SELECT digest, run_id, value, 0 FROM main.told JOIN parts USING (no)"
                    f" WHERE digest IN ({marks}) AND part = ? UNION ALL"
                    f" SELECT digest, run_id, value, 1 FROM temp.passing WHERE digest IN ({marks})",
                    [*some, part, *some],
                )
                for digest, run_id, sealed, is_passing in rows:
                    passing = self._passing.get((part, run_id))
                    salt = passing[0] if is_passing and passing else salts.get(run_id)
                    if salt is None or bool(is_passing) != (passing is not None):
                        continue
                    value = self._unsealed(salt, digest, sealed)
                    if value is not None:
                        found.setdefault(some[digest], []).append(value)
        return found

    def forget(self, run_id: str) -> None:
        """Destroy all that was entered of a run.

        Raises:
            JournalError: it is still there.
        """
        for passing in [key for key in self._passing if key[1] == run_id]:
            del self._passing[passing]
        if self._opened is not None:
            with self._held() as connection, _written(connection) as keep:
                _forget(connection, run_id)
                keep()
        if (self._opened is None or self._in_memory) and self._path.exists():
            try:
                with closing(_connected(self._path)) as connection, _written(connection) as keep:
                    _forget(connection, run_id)
                    keep()
            except sqlite3.Error:
                self._remove_file()

    # What is at hand: the file, or a database in memory.

    @contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        """Use the database; where that fails, another one in memory takes its place, and everything is to be redone."""
        try:
            if self._opened is None:
                self._opened = self._open()
            yield self._opened
        except sqlite3.Error as error:
            if self._in_memory:
                raise JournalError(f"The index of the runs can't be kept: {error}.") from None
            if self._opened is not None:
                self._opened.close()
            if not isinstance(error, sqlite3.OperationalError):
                with suppress(JournalError):  # it is damaged: the next one makes it again
                    self._remove_file()
            self._opened = self._open_in_memory()
            raise IndexLost from None

    def _open(self) -> sqlite3.Connection:
        try:
            if self._has_lists and self._state_key.read() is None:
                return self._open_in_memory()  # to draw another key would hide that the one of the lists is missing
            return self._open_file()
        except UsageError:  # the key can't be read
            return self._open_in_memory()
        except JournalError:  # made under another key
            with suppress(JournalError, UsageError):
                self._remove_file()
                return self._open_file()
        return self._open_in_memory()

    def _open_file(self) -> sqlite3.Connection:
        with suppress(OSError):  # SQLite says better what is wrong with the folder
            self._path.touch(mode=0o600)
        connection = _connected(self._path)
        with setting_up(connection):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, _VERSION}:
            connection.close()
            self._remove_file()
            connection = _connected(self._path)
        with setting_up(connection):
            connection.executescript(_TABLES)
            connection.execute(f"PRAGMA user_version={_VERSION}")
            self._key = own_key(connection, self._state_key, "index")
        return connection

    def _open_in_memory(self) -> sqlite3.Connection:
        self._in_memory, self._key = True, secrets.token_bytes(32)
        self._passing.clear()
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.executescript(_TABLES)
        return connection

    def _remove_file(self) -> None:
        try:
            for name in (f"{INDEX_FILE}-journal", INDEX_FILE):  # a journal would be applied to the next one
                self._path.with_name(name).unlink(missing_ok=True)
        except OSError as error:
            raise JournalError(
                f"The file {self._path} can't be changed: {error.strerror}.", "Remove it yourself: it is made again."
            ) from None

    # What is in it.

    def _known(self, connection: sqlite3.Connection, part: str) -> dict[str, tuple[bytes, bytes, bytes]]:
        """Stamp, salt and note of each run, but for those that are not as they were written."""
        known = {}
        rows = connection.execute("SELECT run_id, stamp, salt, note, checked FROM parts WHERE part = ?", (part,))
        for run_id, stamp, salt, sealed, checked in rows:
            note = _xored(sealed, self._pad(salt, b"", len(sealed)))
            if hmac.compare_digest(checked, self._note(part, run_id, stamp, salt, note)[1]):
                known[run_id] = stamp, salt, note
        return known

    def _note(self, part: str, run_id: str, stamp: bytes, salt: bytes, note: bytes) -> tuple[bytes, bytes]:
        """The note as it is kept, and what tells that the row is as it was written."""
        whole = b"\0".join([part.encode(), run_id.encode(), stamp.hex().encode(), salt.hex().encode(), note])
        check = hashlib.blake2b(whole, key=self._key, digest_size=_DIGEST).digest()
        return _xored(note, self._pad(salt, b"", len(note))), check

    def _sealed(self, part: str, salt: bytes, told: Iterable[tuple[str, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for name, value in told:
            digest = self._digest(part, name)
            hidden = _xored(value, self._pad(salt, digest, len(value)))
            yield digest, self._check(salt, digest, hidden) + hidden

    def _unsealed(self, salt: bytes, digest: bytes, sealed: bytes) -> bytes | None:
        """What was told; None if that is not what was written."""
        check, hidden = sealed[:_CHECK], sealed[_CHECK:]
        if not hmac.compare_digest(check, self._check(salt, digest, hidden)):
            return None
        return _xored(hidden, self._pad(salt, digest, len(hidden)))

    def _digest(self, part: str, name: str) -> bytes:
        whole = f"{part}\0{name}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(whole, key=self._key, digest_size=_DIGEST, person=b"name").digest()

    def _check(self, salt: bytes, digest: bytes, hidden: bytes) -> bytes:
        whole = salt + digest + hidden
        return hashlib.blake2b(whole, key=self._key, digest_size=_CHECK, person=b"check").digest()

    def _pad(self, salt: bytes, digest: bytes, length: int) -> bytes:
        return hashlib.shake_256(self._key + salt + digest).digest(length) if length else b""


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=_LONGEST_WAIT)
    with setting_up(connection):
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
    return connection


@contextmanager
def _written(connection: sqlite3.Connection) -> Iterator[Callable[[], None]]:
    """A transaction that is kept if what is yielded is called, and else leaves everything as it was."""
    kept = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield lambda: kept.append(True)
        if kept:
            connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _forget(connection: sqlite3.Connection, run_id: str, part: str | None = None) -> None:
    """Remove what a run told, in one part or in all."""
    where, given = ("run_id = ?", [run_id]) if part is None else ("run_id = ? AND part = ?", [run_id, part])
    numbers = connection.execute(f"SELECT no FROM parts WHERE {where}", given).fetchall()
    for number in numbers:
        connection.execute("DELETE FROM told WHERE no = ?", number)
        connection.execute("DELETE FROM parts WHERE no = ?", number)


def _put(connection: sqlite3.Connection, table: str, rows: Iterator[tuple[bytes, object, bytes]]) -> None:
    while some := sorted(islice(rows, _SORTED_AT_ONCE)):  # in the order of the tree that they go into
        connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", some)


def _xored(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")
