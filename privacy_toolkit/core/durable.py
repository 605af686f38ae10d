"""Files that survive a power cut, bounded reading of files of others, and locks that the kernel holds."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shlex
import sqlite3
import stat
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Final

from filelock import FileLock, Timeout

# Opening files that someone else may have put there: no pipe is waited for, no device is touched, sizes are bounded.
#
# All of it is told as ``OSError`` whose ``strerror`` fits into "It can't be read: …", so that callers need one case
# only.

#: Bytes that a file of settings, a notice or a list of names may have.
SETTINGS_LIMIT: Final = 1 << 20
#: Bytes that a plan, a report or the sums of a pack may have.
TEXT_LIMIT: Final = 1 << 24
#: Bytes that a key, a secret or a signature may have.
KEY_LIMIT: Final = 1 << 16

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegularError(OSError):
    """What is there is a pipe, a socket or a device: reading it could wait forever, or do something."""


class ExposedError(OSError):
    """Others than its owner can read or change a file that holds a secret; ``hint`` says what to type."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EACCES, "others than its owner can read or change it")
        self.hint = f"chmod 600 {shlex.quote(str(path))}"


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read its bytes. It is looked at before it is opened, since opening a device can do something.

    Raises:
        NotRegularError: it is a pipe, a socket or a device.
        OSError: it can't be opened, or is a folder.
    """
    _check(path.stat())
    descriptor = os.open(path, _FLAGS)
    try:
        _check(os.fstat(descriptor))  # it may have been replaced meanwhile
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, limit: int = TEXT_LIMIT) -> bytes:
    """The bytes of a file, of which there may be at most ``limit``.

    Raises:
        OSError: it can't be read, is no regular file, or longer.
    """
    with open_regular(path) as file:
        return _bounded(file, limit)


#: A key of more than 20 parts. Python's parser takes time and memory by the square of that: 250 KB take all there is.
_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{20}}", re.ASCII)


def read_toml(path: Path, encoding: str) -> dict[str, Any]:
    """What a file of settings in TOML says, of at most ``SETTINGS_LIMIT`` bytes.

    Raises:
        OSError: as ``read_regular``.
        ValueError: it is not TOML in this encoding, or can't be held: numbers of thousands of digits, brackets without
            end, keys of more than 20 parts. The text says where.
    """
    text = read_regular(path, SETTINGS_LIMIT).decode(encoding)
    if _LONG_KEY.search(text):
        raise ValueError("a key in it has too many parts")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, RecursionError):  # of a number too long for Python, and of the parser, which calls itself
        raise ValueError("a number in it is too long, or its brackets too deep") from None


def read_private(path: Path, limit: int = KEY_LIMIT) -> bytes:
    """The bytes of a file that holds a secret; the mode is that of the very file that is read.

    Nobody but its owner may read or change it. One exception: a file of root's may be readable for a group, where the
    process is not root's. Whom root puts into a group is not ours to judge, and this is what systemd's
    ``LoadCredential=`` (which grants access by an ACL) and the secrets of Kubernetes with ``fsGroup`` look like.

    Raises:
        ExposedError: others can read or change it.
        OSError: it can't be read, is no regular file, or longer than ``limit``.
    """
    with open_regular(path) as file:
        found = os.fstat(file.fileno())
        allowed = stat.S_IRGRP if found.st_uid == 0 != os.geteuid() else 0
        if os.name == "posix" and found.st_mode & 0o077 & ~allowed:
            raise ExposedError(path)
        return _bounded(file, limit)


def _check(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise NotRegularError(errno.EINVAL, f"it is {kind} and no file")


def _bounded(file: BufferedReader, limit: int) -> bytes:
    content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is longer than {limit:,} bytes")
    return content


# What makes a file or a folder survive a power cut.

#: The system's words for "there is no room", or none for us.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


def sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk before it returns.

    Raises:
        OSError: it could not.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that only its owner can read; it is on the disk when the block ends without an error.

    Raises:
        OSError: it can't be written, or is there already.
    """
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    try:
        yield file
        file.flush()
        os.fsync(file.fileno())
    finally:
        with contextlib.suppress(OSError):  # what did not fit was said by then, and the file is given up
            file.close()


def probe(folder: Path) -> None:
    """Try whether something can be made in ``folder``, or in the nearest folder above it that exists.

    Raises:
        OSError: it can't.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    Path(tempfile.mkdtemp(prefix=".probe-", dir=folder)).rmdir()


def storage_failure(error: BaseException) -> str | None:
    """Why a file could not be written or read, if that is what an error says: no room, or a database in trouble."""
    if isinstance(error, sqlite3.Error):
        return str(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return error.strerror
    return None


# Locks that the kernel holds for a process, and gives back however that process ends.


def take(path: Path, seconds: float = 0.0) -> FileLock | None:
    """Take the lock in a file, which is made if it is missing; None if another process has it still after ``seconds``.

    Raises:
        OSError: the file can't be made.
    """
    lock = FileLock(path, timeout=seconds, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def take_folder(folder: Path) -> int | None:
    """Take the lock on a folder; None if another has it, or if the file system knows no locks.

    Closing the descriptor that is returned gives it back.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        return None
    return descriptor


def is_taken(path: Path) -> bool:
    """Whether a process has the lock in a file; nothing is made or changed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def templates_folder() -> Path:
    """Where the templates are: inside the installed package, or at the top of a working copy of the sources."""
    packaged = Path(__file__).parents[1] / "reporting" / "templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "reports" / "templates"
