"""A key of the toolkit's own in a file: 64 hexadecimal digits that only its owner can read."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final

from privacy_toolkit.errors import UsageError
from privacy_toolkit.files import ExposedError, read_private
from privacy_toolkit.journal.durability import new_file, sync

_FORM: Final = re.compile(rb"[0-9a-f]{64}\n?")
_LENGTH: Final = 32


class KeyFile:
    """A key of 32 bytes at ``path``, which may still be missing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> bytes | None:
        """The key; None if there is none.

        Raises:
            UsageError: it can't be read, others can read it too, or it is no key.
        """
        try:
            content = read_private(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            hint = error.hint if isinstance(error, ExposedError) else "Is it yours?"
            raise UsageError(f"The key {self.path} can't be read: {error.strerror}.", hint) from None
        if not _FORM.fullmatch(content):
            raise UsageError(f"{self.path} holds no key of this toolkit.", "It has 64 hexadecimal digits, and no more.")
        return bytes.fromhex(content.decode("ascii"))

    def write(self, key: bytes) -> None:
        """Write a key, whole and durably, where nothing is yet.

        Raises:
            UsageError: it can't be written, or something is there.
        """
        building = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                with new_file(building) as file:
                    file.write(key.hex().encode() + b"\n")
                os.link(building, self.path)  # never over another one
            finally:
                building.unlink(missing_ok=True)
            sync(self.path.parent)
        except OSError as error:
            raise UsageError(
                f"The key {self.path} can't be written: {error.strerror}.", "Name another place; none is overwritten."
            ) from None

    def read_or_draw(self) -> bytes:
        """The key; one is drawn at random and written if there is none.

        Raises:
            UsageError: it can't be read or written.
        """
        found = self.read()
        if found is None:
            found = secrets.token_bytes(_LENGTH)
            self.write(found)
        return found

    def remove(self) -> None:
        """Destroy the key, if there is one."""
        self.path.unlink(missing_ok=True)
