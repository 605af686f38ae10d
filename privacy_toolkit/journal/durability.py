"""What makes a file or a folder survive a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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
