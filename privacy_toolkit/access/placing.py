"""Putting a package in place: whole and durable, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyrage

from privacy_toolkit.access.faithful import DeliveryError
from privacy_toolkit.core.errors import UsageError

# A package as a single file: a zip whose bytes follow from its content alone, and the same encrypted with age.

#: A zip knows no time before this.
_FIRST_YEAR: Final = 1980
_OWNER_ONLY: Final = 0o100600 << 16
_MADE_ON_UNIX: Final = 3


def zipped(folder: str, files: Mapping[str, bytes], moment: int) -> bytes:
    """A zip of files in one folder, in the order of their names, all with one time (microseconds since the epoch).

    Nothing is compressed: what a library makes of the same bytes changes between its versions.
    """
    when = datetime.fromtimestamp(moment // 1_000_000, UTC)
    when = max(when, datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{folder}/{name}", when.timetuple()[:6])
            entry.create_system = _MADE_ON_UNIX
            entry.external_attr = _OWNER_ONLY
            archive.writestr(entry, data)
    return content.getvalue()


def check_recipient(recipient: str) -> None:
    """Whether packages can be encrypted for a recipient.

    Raises:
        UsageError: it is no recipient of age's own kind, ``age1…``. It is not repeated: it may be a secret key.
    """
    _recipient(recipient)


def encrypted(content: bytes, recipient: str) -> bytes:
    """What only the holder of the recipient's key can read. It differs each time, as encryption has to.

    Raises:
        UsageError: as ``check_recipient``.
    """
    return bytes(pyrage.encrypt(content, [_recipient(recipient)]))


def _recipient(recipient: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(recipient)
    except (pyrage.RecipientError, ValueError):
        raise UsageError(
            "The recipient for the encryption is not a public key of age.",
            "Give one that begins with age1, as age-keygen prints it; never the secret key.",
        ) from None


#: What is being built, and what was moved out of the way: by the process id of the one that did it, and the name to be.
BUILT: Final = re.compile(r"\.(new|old)-(\d+)-(.+)")


def place(out: Path, name: str, content: bytes | Mapping[str, bytes], moment: int) -> None:
    """Put a file, or a folder of files by their relative paths, under a name; what is there is replaced.

    All files and folders have one time, ``moment`` (microseconds since the epoch), and are their owner's alone.

    Raises:
        DeliveryError: it can't be written; nothing new is under the name.
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
    """Remove a package, so that half of it never is under its own name.

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
    """Give what was built its name. A folder can't replace another in one step: a death between two is fixed later."""
    old = path.with_name(building.name.replace(".new-", ".old-", 1))
    state = path.is_dir() and not path.is_symlink()
    if state:
        path.rename(old)
    try:
        building.rename(path)
    except BaseException:
        if state:
            old.rename(path)
        raise
    _sync(path.parent)
    if state:
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
