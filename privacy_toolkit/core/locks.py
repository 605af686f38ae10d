"""Locks that the kernel holds for a process, and gives back however that process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

#: How something is opened only to be locked: it may be anything, and nothing of it is read.
_LOOK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def take(path: Path, seconds: float = 0.0) -> FileLock | None:
    """Take the lock in a file, which is made if it is missing; None if another process has it still after ``seconds``.

    Raises:
        OSError: the file can't be made.
    """
    lock = FileLock(path, timeout=seconds, mode=0o600, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


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


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder until it is closed; False if another has the lock, None if locks are unknown here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


@contextmanager
def locked(path: Path) -> Iterator[bool | None]:
    """Hold the lock on a file or folder while the block runs; gives what ``try_lock`` gives.

    Raises:
        OSError: it can't be opened, or is a link.
    """
    descriptor = os.open(path, _LOOK)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)
