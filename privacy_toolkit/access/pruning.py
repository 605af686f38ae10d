"""Packages that have been kept long enough are removed; whatever is not certainly one of ours is left alone."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from privacy_toolkit.access.errors import DeliveryError
from privacy_toolkit.access.package import DATA, REFERENCE, SCHEMA
from privacy_toolkit.access.placing import take_away

_AGE_MAGIC: Final = b"age-encryption.org/v1\n"


def prune(out: Path, older_than: datetime) -> int:
    """Remove the packages whose data was read before a time, and say how many.

    A folder or a zip is ours if its name is a reference and the ``data.json`` in it says so, which also says when it
    was read; an encrypted file if its name is one and it begins as age's files do: its own time is that of the reading.

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


def _taken_away(path: Path) -> bool:
    try:
        take_away(path)
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
            with zipfile.ZipFile(path) as archive, archive.open(f"{name}/{DATA}") as file:
                return _said(file, name)
        if kind == "age" and path.is_file():
            with _plain(path) as file:
                ours = file.read(len(_AGE_MAGIC)) == _AGE_MAGIC
                return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC) if ours else None
    except (OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile):
        return None
    return None


def _plain(path: Path) -> IO[bytes]:
    """A file, and not what a link leads to or what is no file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("no plain file")
    return os.fdopen(descriptor, "rb")


def _said(data: IO[bytes], name: str) -> datetime | None:
    content = json.load(data, parse_int=str, parse_float=str)  # Python refuses to make a number of very many digits
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or content.get("reference") != name:
        return None
    return datetime.strptime(str(content["read_at"]), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
