"""Retention: removes packages that were kept long enough, and leaves alone whatever is not certainly ours."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import zipfile
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from pathlib import Path
from typing import IO, Final

from privacy_toolkit.access.faithful import DeliveryError
from privacy_toolkit.access.package import DATA, NOTE, REFERENCE, SCHEMA
from privacy_toolkit.access.placing import place
from privacy_toolkit.core.durable import SETTINGS_LIMIT, read_regular, take_away

#: Where the folder says at which times old packages were removed from it.
CLOCK: Final = ".privacy-toolkit-clock"
#: No export is so long after the one before that its time is believed at once.
LONGEST_PAUSE: Final = timedelta(days=7)
#: After so long another export confirms the time of the one before.
CONFIRMED_AFTER: Final = timedelta(hours=20)
_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


def prune(out: Path, older_than: datetime) -> int:
    """Remove the packages whose data was read before a time, and say how many.

    A folder or a zip is ours if its name is a reference and the ``data.json`` in it says so, which also says when it
    was read; an encrypted file if the note that was written with it has its name and the SHA-256 that it still has.

    Raises:
        DeliveryError: the folder can't be read, or a package can't be removed; the others were.
    """
    if older_than.tzinfo is None:
        raise ValueError("a time without a zone says nothing")
    try:
        due = [path for path in sorted(out.iterdir()) if (when := _read_at(path)) is not None and when < older_than]
    except OSError as error:
        raise DeliveryError(f"The output folder can't be read: {error.strerror}.") from None
    failed = [path for path in due if not _taken_away(path)]
    if failed:
        raise DeliveryError(
            f"{len(failed)} of {len(due)} packages that were kept long enough could not be removed.",
            "May the output folder and what is in it be written?",
        )
    return len(due)


def believed(out: Path, now: datetime) -> datetime:
    """The time by which packages in a folder are old: ``now``, or an earlier one while ``now`` is not to be believed.

    A clock that is set forward makes today's packages old. So the folder keeps the time of the last export (``seen``),
    and the last that was believed. A time is believed if the export before was at most ``LONGEST_PAUSE`` earlier; else,
    once another export at least ``CONFIRMED_AFTER`` later shows that the clock stayed there. A clock that is set back
    only makes packages younger. Where nothing was kept yet, the newest package says when the last export was.

    Raises:
        DeliveryError: the folder can't be read or written.
    """
    try:
        seen, trusted = _kept(out) or (_newest(out, now),) * 2
        gap = now - seen
        if gap < timedelta(0):
            seen, trusted = now, min(trusted, now)
        elif gap > LONGEST_PAUSE:
            seen, trusted = now, seen
        elif seen == trusted or gap >= CONFIRMED_AFTER:
            seen, trusted = now, now
        # else: too early to tell whether the clock stays where it leapt to
    except OSError as error:
        raise DeliveryError(f"The output folder can't be read: {error.strerror}.") from None
    content = json.dumps({"seen": f"{seen:{_TIME}}", "trusted": f"{trusted:{_TIME}}"})
    place(out, CLOCK, f"{content}\n".encode(), int(now.timestamp()) * 1_000_000)
    return min(trusted, now)


def _kept(out: Path) -> tuple[datetime, datetime] | None:
    """When the last export was, and the last time that was believed; None if the folder does not say."""
    try:
        content = json.loads(read_regular(out / CLOCK, SETTINGS_LIMIT))
        seen, trusted = (datetime.strptime(content[key], _TIME).replace(tzinfo=UTC) for key in ("seen", "trusted"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return seen, trusted


def _newest(out: Path, now: datetime) -> datetime:
    """When the newest package was read, or ``now`` if there is none; not later than ``now``."""
    return min(now, max(filter(None, map(_read_at, out.iterdir())), default=now))


def _taken_away(path: Path) -> bool:
    try:
        take_away(path)
        if path.suffix == ".age":
            _note(path).unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _read_at(path: Path) -> datetime | None:
    """When the data of a package was read; None if it is none of ours."""
    name, dot, kind = path.name.partition(".")
    if REFERENCE.fullmatch(name) is None or path.is_symlink():
        return None
    try:
        if not dot and path.is_dir():
            with _plain(path / DATA) as file:
                return _said(file, name)
        if kind == "zip" and path.is_file():
            with zipfile.ZipFile(path) as archive, archive.open(_stored(archive, f"{name}/{DATA}")) as file:
                return _said(file, name)
        if kind == "age" and path.is_file():
            with _plain(_note(path)) as note, _plain(path) as file:
                return _said(note, name, hashlib.file_digest(file, "sha256").hexdigest())
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, OverflowError, struct.error, zipfile.BadZipFile):
        return None  # RuntimeError: too deep, under a password, or of a kind that zipfile does not know
    return None


def _stored(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A file in a zip, as it is in ours: not compressed, so that what is read is no longer than the zip.

    Raises:
        KeyError: there is none.
    """
    found = archive.getinfo(name)
    if found.compress_type != zipfile.ZIP_STORED:
        raise KeyError(name)
    return found


def _plain(path: Path) -> BufferedReader:
    """A file, and not what a link leads to or what is no file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("no plain file")
    return os.fdopen(descriptor, "rb")


def _note(path: Path) -> Path:
    """The note about an encrypted package."""
    return path.with_name(f"{NOTE}{path.name.partition('.')[0]}.json")


def _said(data: IO[bytes], name: str, sha256: str | None = None) -> datetime | None:
    content = json.load(data, parse_int=str, parse_float=str)  # Python refuses to make a number of very many digits
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or content.get("reference") != name:
        return None
    if sha256 is not None and content.get("sha256") != sha256:
        return None
    return datetime.strptime(str(content["read_at"]), _TIME).replace(tzinfo=UTC)
