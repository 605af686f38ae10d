"""Locks that the kernel holds for a process, and gives back however that process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from filelock import FileLock, Timeout


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
