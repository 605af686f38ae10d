"""The bytes of OpenSSH: length-prefixed strings (RFC 4251, section 5) and the armor of a signature."""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Final

_UINT32: Final = struct.Struct(">I")
_BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----\n"
_END: Final = b"-----END SSH SIGNATURE-----\n"
_COLUMNS: Final = 70
#: A signature takes about 300 bytes. Whatever is longer than this is none, and nobody has to decode it to find out.
_LONGEST: Final = 10_000


class MalformedError(ValueError):
    """Something is not of the expected form. It never leaves this package: callers turn it into an error for people."""


class Reader:
    """Takes fields off the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes.

        Raises:
            MalformedError: there are fewer.
        """
        end = self._at + length
        if end > len(self._data):
            raise MalformedError
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def uint32(self) -> int:
        """The next four bytes as a number, big-endian.

        Raises:
            MalformedError: there are fewer.
        """
        (value,) = _UINT32.unpack(self.take(_UINT32.size))
        return int(value)

    def string(self) -> bytes:
        """The next ``string``: four bytes of length, then as many bytes.

        Raises:
            MalformedError: there are fewer.
        """
        return self.take(self.uint32())

    def expect(self, value: bytes) -> None:
        """Take bytes that have to be these.

        Raises:
            MalformedError: they are others.
        """
        if self.take(len(value)) != value:
            raise MalformedError

    def end(self) -> None:
        """Make sure that nothing is left.

        Raises:
            MalformedError: something is.
        """
        if self._at != len(self._data):
            raise MalformedError


def uint32(value: int) -> bytes:
    """A number as four bytes, big-endian."""
    return _UINT32.pack(value)


def string(value: bytes) -> bytes:
    """A ``string``: its length in four bytes, then the bytes."""
    return uint32(len(value)) + value


def from_base64(text: bytes | str) -> bytes:
    """Decode base64 that holds no other character, not even a line break.

    Raises:
        MalformedError: it does, or its padding is wrong.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError from None


def armor(blob: bytes) -> bytes:
    """The text form of a signature, byte for byte as ``ssh-keygen -Y sign`` writes it."""
    text = base64.b64encode(blob)
    lines = [text[start : start + _COLUMNS] + b"\n" for start in range(0, len(text), _COLUMNS)]
    return _BEGIN + b"".join(lines) + _END


def unarmor(armored: bytes) -> bytes:
    """The bytes of a signature out of its text form, which has to be the one that ``armor`` makes.

    One signature has one text: otherwise blanks, line breaks or the unused bits at the end of the base64 could be
    changed without anybody noticing.

    Raises:
        MalformedError: it is not.
    """
    if len(armored) > _LONGEST or not (armored.startswith(_BEGIN) and armored.endswith(_END)):
        raise MalformedError
    blob = from_base64(armored[len(_BEGIN) : -len(_END)].replace(b"\n", b""))
    if armor(blob) != armored:
        raise MalformedError
    return blob
