"""Reading an untrusted folder: follows no link, waits for no pipe, reads nothing without a bound."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from privacy_toolkit.evidence.verify.findings import Code, Findings, Unusable

#: A text file of a pack, but the rows, is never so large; report.html has its own aim of 1 MB.
LARGEST_TEXT: Final = 16 * 1024 * 1024
#: A line of rows.jsonl or exceptions.csv is never so long, however often a request was sent.
LONGEST_LINE: Final = 1024 * 1024
#: A pack has about a dozen files and three for each earlier edition; a folder with more than this is not walked on.
MOST_ENTRIES: Final = 20_000
#: Files that macOS and Windows make by themselves.
DROPPED: Final = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
#: ``earlier/<sequence>/file`` is as deep as it gets.
_DEEPEST: Final = 3
_CHUNK: Final = 1024 * 1024
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PackFolder:
    """The files of one pack.

    Attributes:
        path: where it is.
        files: the relative POSIX path of each regular file, with its size in bytes.
        folders: the relative paths of the folders in it.
        name: what stands before a file's name where a problem is told about; empty for the pack that is asked about.
    """

    def __init__(self, path: Path, findings: Findings, name: str = "") -> None:
        self.path = path
        self.name = name
        self.files: dict[str, int] = {}
        self.folders: list[str] = []
        #: What systems drop into folders that are looked at: no part of a pack, and no harm to one.
        self.dropped: list[str] = []
        self._findings = findings
        self._walk("", 1)

    def note(self, code: Code, file: str, message: str) -> None:
        """Note a problem of a file of this folder."""
        self._findings.add(code, self.name + file, message)

    def text(self, file: str, largest: int = LARGEST_TEXT) -> bytes:
        """The whole of a small file.

        Raises:
            Unusable: it can't be read, is too large or not there; that was noted.
        """
        data = b"".join(self._chunks(file, largest + 1))
        if len(data) > largest:
            self.note(Code.TOO_LARGE, file, f"It is larger than {largest:,} bytes, which it never is.")
            raise Unusable
        return data

    def digest(self, file: str) -> str:
        """The SHA-256 of a file in hexadecimal digits.

        Raises:
            Unusable: it can't be read; that was noted.
        """
        digest = hashlib.sha256()
        for chunk in self._chunks(file):
            digest.update(chunk)
        return digest.hexdigest()

    def lines(self, file: str, longest: int = LONGEST_LINE) -> Iterator[bytes]:
        r"""The lines of a file with their ends (``\n``), the last one perhaps without.

        Raises:
            Unusable: it can't be read, or a line has no end in sight; that was noted.
        """
        number = 0
        try:
            with os.fdopen(self._open(file), "rb", buffering=_CHUNK) as stream:
                while line := stream.readline(longest + 1):
                    number += 1
                    if len(line) > longest:
                        self.note(Code.TOO_LARGE, file, f"Line {number:,} is longer than {longest:,} bytes.")
                        raise Unusable
                    yield line
        except OSError as error:
            raise self._unreadable(file, error) from None

    def _chunks(self, file: str, most: int | None = None) -> Iterator[bytes]:
        """A file in pieces, cut where it goes beyond ``most`` bytes."""
        left = self.files.get(file, 0) + _CHUNK if most is None else most
        try:
            with os.fdopen(self._open(file), "rb", buffering=0) as stream:
                while left > 0 and (chunk := stream.read(min(left, _CHUNK))):
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise self._unreadable(file, error) from None

    def _open(self, file: str) -> int:
        if file not in self.files:
            self.note(Code.MISSING, file, "It is missing.")
            raise Unusable
        try:
            descriptor = os.open(self.path / file, _FLAGS)
        except OSError as error:
            raise self._unreadable(file, error) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # it was one when we looked
            os.close(descriptor)
            self.note(Code.NOT_A_REGULAR_FILE, file, "It is no regular file. It was not read.")
            raise Unusable
        return descriptor

    def _unreadable(self, file: str, error: OSError) -> Unusable:
        self.note(Code.UNREADABLE, file, f"It can't be read: {error.strerror}.")
        return Unusable()

    def _walk(self, below: str, depth: int) -> None:
        try:
            with os.scandir(self.path / below) as entries:
                for entry in entries:
                    if not self._enter(entry, below, depth):
                        return
        except OSError as error:
            self._unreadable(below, error)

    def _enter(self, entry: os.DirEntry[str], below: str, depth: int) -> bool:
        """Take in an entry of a folder; False if there are too many."""
        file = below + entry.name
        if len(self.files) + len(self.folders) + len(self.dropped) >= MOST_ENTRIES:
            self.note(Code.TOO_LARGE, "", f"The folder holds more than {MOST_ENTRIES:,} files; not all were looked at.")
            return False
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) and entry.name in DROPPED:
            self.dropped.append(file)
        elif stat.S_ISREG(found.st_mode):
            self.files[file] = found.st_size
        elif not stat.S_ISDIR(found.st_mode):
            self.note(
                Code.NOT_A_REGULAR_FILE, file, f"It is {_kind(found.st_mode)}, no regular file. It was not followed."
            )
        else:
            self.folders.append(file)
            if depth < _DEEPEST:
                self._walk(f"{file}/", depth + 1)
        return True


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"
