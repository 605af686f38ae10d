"""A package as one file, zipped and encrypted, and how packages come to the output folder."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyrage

from privacy_toolkit.access.faithful import DeliveryError
from privacy_toolkit.core.durable import put_file, put_folder, sweep, write_files
from privacy_toolkit.core.model import UsageError

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


def place(out: Path, name: str, content: bytes | Mapping[str, bytes], moment: int) -> None:
    """Put a file, or a folder of files by their relative paths, under a name; what is there is replaced.

    All files and folders have one time, ``moment`` (microseconds since the epoch), and are their owner's alone.

    Raises:
        DeliveryError: it can't be written; nothing new is under the name.
    """
    modified = moment * 1000
    try:
        if isinstance(content, bytes):
            with put_file(out / name, over=True) as file:
                file.write(content)
                file.flush()
                os.utime(file.fileno(), ns=(modified, modified))
        else:
            with put_folder(out / name, over=True) as building:
                write_files(building, content, modified)
    except OSError as error:
        raise DeliveryError(
            f"An access package could not be written: {error.strerror or 'the system refused'}.",
            "Is there room on the disk, and may the output folder be written?",
        ) from None


def clear_up(out: Path) -> None:
    """Remove what dead processes left behind in the output folder, and put back what one had just moved away.

    Raises:
        DeliveryError: the folder can't be read, something can't be removed, or a package can't be put back.
    """
    try:
        remain = sweep(out, by_process_id=True)
    except OSError as error:
        raise DeliveryError(f"The output folder could not be cleared up: {error.strerror}.") from None
    if remain:
        raise DeliveryError(f"The output folder could not be cleared up: {remain[0].name} can't be removed.")
