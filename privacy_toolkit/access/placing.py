"""How a package comes to its place: as a whole, durably, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from privacy_toolkit.access.errors import DeliveryError

#: What is being built, and what was moved out of the way: by the process id of whoever did it, and the name to be.
BUILT: Final = re.compile(r"\.(new|old)-(\d+)-(.+)")


def place(out: Path, name: str, content: bytes | Mapping[str, bytes], moment: int) -> None:
    """Put a file, or a folder of files by their relative paths, under a name; what stands there is replaced.

    All files and folders have one time, ``moment`` (microseconds since the epoch), and are their owner's alone.

    Raises:
        DeliveryError: it can't be written; nothing new stands under the name.
    """
    building = out / f".new-{os.getpid()}-{name}"
    try:
        remove(building)
        with _held(building, folder=not isinstance(content, bytes)):
            _build(building, content, moment)
            _move(building, out / name)
    except OSError as error:
        with contextlib.suppress(OSError):
            remove(building)
        raise DeliveryError(
            f"An access package could not be written: {error.strerror or 'the system refused'}.",
            "Is there room on the disk, and may the output folder be written?",
        ) from None
    except BaseException:
        with contextlib.suppress(OSError):
            remove(building)
        raise


def sweep(out: Path) -> None:
    """Remove what dead processes left behind in the output folder, and put back what one had just moved away.

    Raises:
        DeliveryError: the folder can't be read, or a package can't be put back.
    """
    try:
        for left in sorted(out.iterdir()):
            match = BUILT.fullmatch(left.name)
            if match is None or not _abandoned(left, int(match[2])):
                continue
            if match[1] == "old" and not os.path.lexists(out / match[3]):
                left.rename(out / match[3])
                _sync(out)
            else:
                take_away(left)
    except OSError as error:
        raise DeliveryError(f"The output folder could not be cleared up: {error.strerror}.") from None


def take_away(path: Path) -> None:
    """Remove a package, so that half of it never stands under its own name.

    Raises:
        OSError: it can't be removed.
    """
    doomed = path.with_name(f".new-{os.getpid()}-{path.name.lstrip('.')}")
    if path != doomed:
        remove(doomed)
        path.rename(doomed)
    remove(doomed)


def remove(path: Path) -> None:
    """Remove a file or a folder; none is no error.

    Raises:
        OSError: it can't be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _build(building: Path, content: bytes | Mapping[str, bytes], moment: int) -> None:
    if isinstance(content, bytes):
        _write(building, content, moment, flags=os.O_WRONLY)
        return
    folders = {building}
    for name, data in sorted(content.items()):
        path = building / name
        if path.parent not in folders:
            path.parent.mkdir(mode=0o700)
            folders.add(path.parent)
        _write(path, data, moment, flags=os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    for folder in sorted(folders, reverse=True):  # what is inside first: it changes the times of what is around it
        os.utime(folder, ns=(moment * 1000, moment * 1000))
        _sync(folder)


def _write(path: Path, data: bytes, moment: int, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.utime(descriptor, ns=(moment * 1000, moment * 1000))
        os.fsync(descriptor)


def _move(building: Path, path: Path) -> None:
    """Give what was built its name. A folder can't replace another in one step: a death between two is mended later."""
    old = path.with_name(building.name.replace(".new-", ".old-", 1))
    standing = path.is_dir() and not path.is_symlink()
    if standing:
        path.rename(old)
    try:
        building.rename(path)
    except BaseException:
        if standing:
            old.rename(path)
        raise
    _sync(path.parent)
    if standing:
        with contextlib.suppress(OSError):  # the new one stands; the next sweep removes what is left of the old
            take_away(old)


@contextlib.contextmanager
def _held(building: Path, *, folder: bool) -> Iterator[None]:
    """Make what is built in, and hold a lock on it, which the system gives back however the process ends."""
    if folder:
        building.mkdir(mode=0o700)
        descriptor = os.open(building, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    else:
        descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: then the process id alone says who builds
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _abandoned(path: Path, pid: int) -> bool:
    """Whether nobody works on it any more: told by the lock, which also holds between containers, else by the id."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return not _alive(pid)
    else:
        return True
    finally:
        os.close(descriptor)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
