"""Checksums over the pages of a journal's database file, so that no damaged byte passes for what was observed.

SQLite checks nothing it reads from its database file, and takes a damaged write-ahead log (WAL) for one that ends where
the damage is: either way a settled subject could stand as open, or the reverse. PostgreSQL keeps such checksums itself
(``data_checksums``); for SQLite they stand in a file next to the database:

- a CRC-32 for each page of the database, as it is once everything in the log is copied into it;
- the witness: how many frames of which log are known to be durable, written after each commit, and whether the
  database has them all, or will have them once nobody reads it.

Before the log is copied into the database (a checkpoint, and nobody but this module starts one), the checksums of the
pages in it are made durable. So at whatever instant a process dies, each page of the database either has its checksum
or is in the log, whose frames SQLite's own checksums protect. SQLite itself copies and removes a log when the last
connection is closed; so nobody reads a log here without a connection that keeps it from being the last.
"""

from __future__ import annotations

import errno
import math
import os
import sqlite3
import struct
import threading
import zlib
from array import array
from collections.abc import Callable
from contextlib import closing
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from privacy_toolkit.core.durable import put_file
from privacy_toolkit.journal.packed import Damage
from privacy_toolkit.journal.sqlite.pages import setting_up

_MAGIC = b"PTKSUMS1"
_HEAD = struct.Struct("<8sIIQ")  # magic, bytes of a page, pages, inode of the database
_WITNESS = struct.Struct("<8sII")  # salts of the log, durable frames, how far it is with copying them (``_Copied``)
_CRC = struct.Struct("<I")
_WITNESS_AT = 64
_SUMS_AT = 128

# https://www.sqlite.org/fileformat2.html#the_write_ahead_log
_LOG_HEAD = struct.Struct(">IIII8s8s")  # magic, version, bytes of a page, checkpoints, salts, checksum
_FRAME_HEAD = struct.Struct(">II8s8s")  # number of the page, pages after a commit (else 0), salts, checksum
_LOG_MAGIC = 0x377F0682  # the lowest bit says that the checksum reads its words big-endian
_WORD = 0xFFFFFFFF

#: So many frames are added to the log before it is copied into the database.
FRAMES_AT_ONCE = 1_000


class Log(NamedTuple):
    """What is committed in a write-ahead log: salts, frames, pages of the database, newest frame of each page."""

    salts: bytes
    frames: int
    pages: int
    newest: dict[int, int]


class _Held(msgspec.Struct):
    """How many hold a file open in this process, and the descriptors that wait for the last of them."""

    users: int = 0
    waiting: list[int] = msgspec.field(default_factory=list)


_held: dict[tuple[int, int], _Held] = {}
_held_lock = threading.Lock()


def open_past_sqlite(path: Path) -> int:
    """Open a database file to read it past SQLite; only ``close_past_sqlite`` may close the descriptor.

    Closing any descriptor of a file drops all POSIX locks that the process has on it, those of SQLite among them
    (https://www.sqlite.org/howtocorrupt.html#posix_close_bug). So it is closed with the last user in this process.

    Raises:
        OSError: there is no such file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with _held_lock:
        _held.setdefault(_identity(descriptor), _Held()).users += 1
    return descriptor


def close_past_sqlite(descriptor: int) -> None:
    """Give a descriptor of ``open_past_sqlite`` back, once the connections of its user are closed."""
    key = _identity(descriptor)
    with _held_lock:
        held = _held[key]
        held.users -= 1
        held.waiting.append(descriptor)
        if not held.users:
            for waiting in held.waiting:
                os.close(waiting)
            del _held[key]


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


class Checksums:
    """The checksums of one database file, opened. Used by one thread at a time.

    ``descriptor`` is the database's, from ``open_past_sqlite``.

    Raises:
        Damage: they can't be read as what they are.
        OSError: there are none, or they can't be opened for writing.
    """

    def __init__(self, path: Path, database: Path, descriptor: int) -> None:
        self._log_path = database.with_name(f"{database.name}-wal")
        self._database = descriptor
        self._file = _opened(path)
        self._log: int | None = None
        self._page_size = 0
        self._witness, self._sums = _Witness(bytes(8), 0, _Copied.NO), array("I")
        try:
            self.reload()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def create(path: Path, descriptor: int) -> None:
        """Make the checksums of a database file as it is; nothing may be in its log."""
        size, pages = _geometry(descriptor)
        sums = array("I", (zlib.crc32(os.pread(descriptor, size, k * size)) for k in range(pages)))
        with put_file(path, over=True) as file:
            file.write(_sealed(_HEAD.pack(_MAGIC, size, pages, os.fstat(descriptor).st_ino)))
            file.seek(_WITNESS_AT)
            file.write(_sealed(_WITNESS.pack(bytes(8), 0, _Copied.ALL)))
            file.seek(_SUMS_AT)
            file.write(sums.tobytes())

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in (self._file, self._log):
            if descriptor is not None:
                os.close(descriptor)

    def reload(self) -> bool:
        """Read them again: another process may have worked on the database. Whether it did.

        Raises:
            Damage: they can't be read as what they are.
        """
        before = (self._witness, self._sums)
        size = os.fstat(self._file).st_size
        magic, self._page_size, pages, self._inode = _HEAD.unpack(self._sealed(_HEAD, 0))
        if magic != _MAGIC or size < _SUMS_AT + 4 * pages:
            raise Damage("the checksums")
        salts, frames, copied = _WITNESS.unpack(self._sealed(_WITNESS, _WITNESS_AT))
        self._witness = _Witness(salts, frames, _Copied(min(copied, _Copied.ONCE_UNREAD)))
        self._sums = array("I", os.pread(self._file, 4 * pages, _SUMS_AT))
        self._salts, self._frames, self._pages, self._taken_in = bytes(8), 0, int(pages), 0
        self._newest: dict[int, int] = {}
        return before != (self._witness, self._sums)

    def verify(self, log: Log | None = None) -> None:
        """Compare the whole database file, but for the pages that are in ``log``, where they would be read.

        Raises:
            Damage: a page is not what was written.
        """
        newer = log.newest if log else {}
        size = self._page_size
        for number, wanted in enumerate(self._sums, start=1):
            if number not in newer and zlib.crc32(os.pread(self._database, size, (number - 1) * size)) != wanted:
                raise Damage(f"page {number} of the database")

    def has_log(self) -> bool:
        """Whether there is anything in the log, or should be."""
        if self._witness.copied is not _Copied.ALL:
            return True
        try:
            return self._log_path.stat().st_size > 0
        except FileNotFoundError:
            return False

    def settle(self, kept: sqlite3.Connection, connect: Callable[[], sqlite3.Connection]) -> None:
        """Have all copied that a process which died left in the log; for anyone who is alone in writing.

        ``kept`` is from ``keep_log``, got before it was made sure that nobody else writes. It is closed.

        Raises:
            Damage: frames are missing that were durable.
        """
        self.reload()  # the last writer may have ended since they were read
        log = self.read_log() if self.has_log() else None
        if log is None:
            return
        self._take_in(log)
        with closing(connect()) as connection:
            kept.close()
            self.copy_log(connection, log)

    def read_log(self) -> Log | None:
        """What SQLite will find in the log of a process that died; None if there is nothing in it.

        Raises:
            Damage: frames are missing that were durable.
        """
        log = _whole_log(self._log_path)
        same = log is not None and log.salts == self._witness.salts
        whole = log is not None and log.frames >= self._witness.frames
        # Of a log that was copied another may have taken the place. What is left of it must be whole all the same:
        # SQLite would read older pages from its beginning than those in the database.
        # And of one whose checksums were all durable, whatever SQLite did with it shows in the database.
        if not whole if same else self._witness.copied is _Copied.NO:
            raise Damage("the write-ahead log")
        return log

    def committed(self, *, after_failure: bool = False) -> int:
        """Take note of what was committed since; the number of frames that await a checkpoint.

        For anyone who is alone in writing: to be called after each commit. Once one failed (a full disk), what it left
        in the log looks like frames: from then on ``after_failure`` has each of them checked.
        """
        if after_failure:
            log = _whole_log(self._log_path)
            if log is not None:
                self._salts, self._frames, self._pages, self._newest = log
                self._write_witness(_Witness(log.salts, log.frames, _Copied.NO))
            return 0 if log is None else log.frames - self._taken_in
        if self._log is None:
            self._log = os.open(self._log_path, os.O_RDONLY | os.O_CLOEXEC)
        head = os.pread(self._log, _LOG_HEAD.size, 0)
        if len(head) == _LOG_HEAD.size:
            self._follow(self._log, _LOG_HEAD.unpack(head)[4])
            self._write_witness(_Witness(self._salts, self._frames, _Copied.NO))
        return self._frames - self._taken_in

    def checkpoint(self, connection: sqlite3.Connection) -> None:
        """Have the log copied into the database; what was committed has to be noted before."""
        noted = Log(self._salts, self._frames, self._pages, self._newest)
        if noted.newest:
            self._take_in(noted)
        self._newest, self._taken_in = {}, self._frames
        counted = self.copy_log(connection)
        if noted.newest and 0 < counted < noted.frames:
            self._withdraw(noted, counted)

    def _withdraw(self, noted: Log, counted: int) -> None:
        """Forget the frames beyond ``counted``: their commit failed although they are whole, and SQLite copied none."""
        log = _whole_log(self._log_path, counted) or Log(noted.salts, 0, len(self._sums), {})
        for number in noted.newest.keys() - log.newest.keys():
            if number <= log.pages:
                self._put(number, os.pread(self._database, self._page_size, (number - 1) * self._page_size))
        self._frames = self._taken_in = log.frames
        self._take_in(log)
        self._write_witness(_Witness(log.salts, log.frames, self._witness.copied))

    def copy_log(self, connection: sqlite3.Connection, log: Log | None = None) -> int:
        """Have the log copied, whose pages are all taken in; ``log`` is that of a process that died.

        Returns how many frames SQLite takes for committed.
        """
        if log is not None:
            self._write_witness(_Witness(log.salts, log.frames, _Copied.NO))
        _, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        # Durable before the next commit, which may begin the log again: frames of the old one are gone then. While
        # somebody reads not all is copied: SQLite itself does that when the last connection is closed.
        self._write_witness(self._witness._replace(copied=_Copied.ALL if frames == copied else _Copied.ONCE_UNREAD))
        os.fsync(self._file)
        return int(frames)

    def _sealed(self, form: struct.Struct, offset: int) -> bytes:
        found = os.pread(self._file, form.size + _CRC.size, offset)
        if found != _sealed(found[: form.size]):
            raise Damage("the checksums")
        return found[: form.size]

    def _follow(self, log: int, salts: bytes) -> None:
        """Read the heads of the frames that came since; a log that was begun again has other salts."""
        if salts != self._salts:
            self._salts, self._frames, self._taken_in, self._newest = salts, 0, 0, {}
        frame, since = self._frames, {}
        while len(head := os.pread(log, _FRAME_HEAD.size, self._offset(frame))) == _FRAME_HEAD.size:
            number, pages, mine, _ = _FRAME_HEAD.unpack(head)
            if mine != salts:
                break
            since[number] = frame
            frame += 1
            if pages:
                self._frames, self._pages = frame, pages
                self._newest |= since
                since = {}

    def _take_in(self, found: Log) -> None:
        """Make the checksums of the pages in a log durable."""
        while len(self._sums) < found.pages:
            self._sums.append(0)
        del self._sums[found.pages :]
        with self._log_path.open("rb", buffering=0) as log:
            if os.pread(log.fileno(), _LOG_HEAD.size, 0)[16:24] != found.salts:
                raise Damage("the write-ahead log")  # it is another one by now
            for number, frame in found.newest.items():
                if number <= found.pages:
                    page = os.pread(log.fileno(), self._page_size, self._offset(frame) + _FRAME_HEAD.size)
                    if len(page) < self._page_size:
                        raise Damage("the write-ahead log")
                    self._put(number, page)
        self._write_head()
        os.fsync(self._file)

    def _put(self, number: int, page: bytes) -> None:
        self._sums[number - 1] = zlib.crc32(page)
        os.pwrite(self._file, _CRC.pack(self._sums[number - 1]), _SUMS_AT + 4 * (number - 1))

    def _offset(self, frame: int) -> int:
        return _LOG_HEAD.size + frame * (_FRAME_HEAD.size + self._page_size)

    def _write_head(self) -> None:
        os.pwrite(self._file, _sealed(_HEAD.pack(_MAGIC, self._page_size, len(self._sums), self._inode)), 0)

    def _write_witness(self, witness: _Witness) -> None:
        self._witness = witness
        os.pwrite(self._file, _sealed(_WITNESS.pack(*witness)), _WITNESS_AT)


class _Copied(IntEnum):
    """Whether the database has all frames of a log. ``ONCE_UNREAD``: each has its checksum, so SQLite may copy it."""

    NO = 0
    ALL = 1
    ONCE_UNREAD = 2


class _Witness(NamedTuple):
    salts: bytes
    frames: int
    copied: _Copied


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing journal for reading and writing, with commits that survive a power cut.

    On a file system that can only be read (a mounted backup, evidence under lock) it is opened for reading.

    Raises:
        sqlite3.Error: it can't be opened.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{'immutable=1' if is_unchangeable(path) else 'mode=rw'}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=30,
    )
    with setting_up(connection):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=0")  # see above
    return connection


def is_unchangeable(path: Path) -> bool:
    """Whether nobody can change a database: its file system is only read, and nothing is in its log.

    SQLite reads one in WAL mode there only if it is told so, since it would have to make files next to it.
    """
    if not os.statvfs(path.parent).f_flag & os.ST_RDONLY:
        return False
    log = path.with_name(f"{path.name}-wal")
    return not log.exists() or not log.stat().st_size


def keep_log(database: Path) -> sqlite3.Connection:
    """Open a connection that keeps SQLite from removing the log, as it does when the last one is closed.

    It only reads: when it is closed itself, SQLite copies and removes nothing.

    Raises:
        sqlite3.Error: the database can't be opened.
    """
    kept = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30)
    try:
        kept.execute("PRAGMA schema_version").fetchone()
    except BaseException:
        kept.close()
        raise
    return kept


def moved(path: Path, database: Path) -> bool:
    """Whether checksums at ``path`` were made for another file than the one at ``database``: one of them is a copy.

    Damage is not told here but by the one who opens them.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
        inode = _HEAD.unpack(head)[3]
        return bool(inode != database.stat().st_ino)
    except (OSError, struct.error):
        return False


def adopt(path: Path, database: Path) -> None:
    """Say that checksums at ``path`` are of the file at ``database`` from now on, which nobody has open for writing.

    What is damaged stays as it is.
    """
    try:
        with path.open("r+b") as file:
            head = file.read(_HEAD.size + _CRC.size)
            if head == _sealed(head[: _HEAD.size]):
                magic, size, pages, _ = _HEAD.unpack(head[: _HEAD.size])
                file.seek(0)
                file.write(_sealed(_HEAD.pack(magic, size, pages, database.stat().st_ino)))
    except (OSError, struct.error):
        return


def _opened(path: Path) -> int:
    """Open for writing too, or for reading alone where nothing may be written: looking at a run needs no more."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _sealed(data: bytes) -> bytes:
    return data + _CRC.pack(zlib.crc32(data))


def _geometry(descriptor: int) -> tuple[int, int]:
    """Bytes of a page, and the number of pages, of a database file."""
    size = int.from_bytes(os.pread(descriptor, 2, 16), "big")
    size = 65_536 if size == 1 else size
    return size, os.fstat(descriptor).st_size // size


def _whole_log(path: Path, most: float = math.inf) -> Log | None:
    """What is committed in a log, in its first ``most`` frames, each frame checked the way SQLite does it."""
    try:
        with path.open("rb") as file:
            head = file.read(_LOG_HEAD.size)
            if len(head) < _LOG_HEAD.size:
                return None
            magic, _, size, _, salts, said = _LOG_HEAD.unpack(head)
            words = ">" if magic & 1 else "<"
            sums = _add(words, head[:24], (0, 0))
            if magic & ~1 != _LOG_MAGIC or struct.pack(">II", *sums) != said:
                return None
            frames = pages = frame = 0
            newest: dict[int, int] = {}
            since: dict[int, int] = {}
            while frame < most and len(head := file.read(_FRAME_HEAD.size)) == _FRAME_HEAD.size:
                data = file.read(size)
                number, after, mine, said = _FRAME_HEAD.unpack(head)
                if mine != salts or len(data) < size:
                    break
                sums = _add(words, data, _add(words, head[:8], sums))
                if struct.pack(">II", *sums) != said:
                    break
                since[number] = frame
                frame += 1
                if after:
                    frames, pages = frame, after
                    newest |= since
                    since = {}
    except FileNotFoundError:
        return None
    return Log(salts, frames, pages, newest) if frames else None


def _add(words: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    """SQLite's running checksum of a log, over more bytes."""
    one, two = sums
    found = struct.unpack(f"{words}{len(data) // 4}I", data)
    for first, second in zip(found[::2], found[1::2], strict=True):
        one = (one + first + two) & _WORD
        two = (two + second + one) & _WORD
    return one, two
