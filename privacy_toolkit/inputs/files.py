"""Files as bytes: what one is by its name, reading it once while it is hashed, taking compression off."""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Protocol

from privacy_toolkit.errors import InputError
from privacy_toolkit.files import NotRegularError, open_regular

STDIN = "-"
STDIN_NAME = "standard input"
#: The delimiter that goes with each suffix of a CSV.
DELIMITERS = {".csv": ",", ".txt": ",", ".tsv": "\t"}
LINES_SUFFIXES = frozenset({".jsonl", ".ndjson"})
PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})
COMPRESSIONS = frozenset({".gz", ".zst"})
CHUNK = 1 << 18  # bytes read at a time
COMPRESSED_CHUNK = 1 << 14  # less, since what comes out may be a thousand times as long

READ_ARE = (
    "Read are .csv, .tsv, .txt and .jsonl (also with .gz or .zst), .parquet and .pq, a folder of Parquet files, and -"
    " for CSV from standard input."
)


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is: ``format`` for people, ``delimiter`` of a CSV, ``compression`` by suffix."""

    format: str
    delimiter: str | None = None
    compression: str | None = None


def fingerprint(path: Path) -> str:
    """SHA-256 of an input as a plan has it: of a folder that of the lines of sha256sum, in the order of names.

    Raises:
        OSError: it can't be read.
    """
    if not path.is_dir():
        return _sha256(path)
    parts = sorted(part for part in path.iterdir() if not part.name.startswith((".", "_")))
    listing = "".join(f"{_sha256(part)}  {part.name}\n" for part in parts)
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kind_of(path: str) -> FileKind:
    """What the file is by its name, or by being a folder; its contents are not looked at.

    Raises:
        InputError: it is nothing that is read.
    """
    if path == STDIN:
        return FileKind("csv", ",")
    place = Path(path)
    suffixes = [suffix.lower() for suffix in place.suffixes]
    if _is_folder(place) or (suffixes and suffixes[-1] in PARQUET_SUFFIXES):
        return FileKind("parquet")
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else None
    if suffixes and suffixes[-1] in LINES_SUFFIXES:
        return FileKind(f"jsonl{compression or ''}", None, compression)
    if suffixes and suffixes[-1] in DELIMITERS:
        return FileKind(f"csv{compression or ''}", DELIMITERS[suffixes[-1]], compression)
    if place.exists():
        with open_file(place):  # a pipe, such as /dev/fd/63 of the shell's <(…), is told as what it is
            pass
    else:
        raise InputError(f"{name_of(place)} does not exist.", "Check the name and the folder.")
    raise InputError(f"{name_of(place)} is of a kind that is not read.", READ_ARE)


def name_of(place: Path) -> str:
    """What a file is called in messages: its own name, without the folders above it."""
    return place.name or str(place)


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir()
    except OSError as error:
        raise unreadable(name_of(place), error) from None


def unreadable(name: str, error: OSError) -> InputError:
    """The error for a file that the system does not hand out."""
    if isinstance(error, NotRegularError):  # read twice, for the plan and again when it is applied
        return InputError(
            f"{name} can't be read: {error.strerror}.",
            "Save it as a file first; a CSV can also come through standard input: give - for the name.",
        )
    return InputError(
        f"{name} can't be read: {error.strerror or 'input/output error'}.", "Check the name and who may read it."
    )


@contextmanager
def open_file(place: Path) -> Iterator[BufferedReader]:
    """Open a file for reading.

    Raises:
        InputError: it can't be opened.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular(place))
        except OSError as error:
            raise unreadable(name_of(place), error) from None
        yield file


class ByteSource:
    """The bytes of one file from beginning to end, hashed and counted as they lie there."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0

    def chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        """The bytes that were not read yet, in chunks of at most ``size``.

        Raises:
            InputError: the system can't read them.
        """
        while True:
            try:
                chunk = self._file.read(size)
            except OSError as error:
                raise unreadable(self.name, error) from None
            if not chunk:
                return
            self._hash.update(chunk)
            self._size += len(chunk)
            yield chunk

    def fingerprint(self) -> tuple[str, int]:
        """SHA-256 (hex) and number of all bytes; what was not read yet is read for it.

        Raises:
            InputError: the system can't read it.
        """
        for _ in self.chunks():
            pass
        return self._hash.hexdigest(), self._size


@contextmanager
def open_bytes(path: str, stdin: BinaryIO | None = None) -> Iterator[ByteSource]:
    """Open a file, or standard input for ``-``, which is left open.

    Raises:
        InputError: it can't be opened.
    """
    if path == STDIN:
        yield ByteSource(stdin or sys.stdin.buffer, STDIN_NAME)
        return
    with open_file(Path(path)) as file:
        yield ByteSource(file, name_of(Path(path)))


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def decompressed(chunks: Iterable[bytes], compression: str, name: str) -> Iterator[bytes]:
    """Take ``.gz`` or ``.zst`` off; several members or frames one after the other are one text.

    Raises:
        InputError: the data is damaged, or ends in the middle: rows would be missing.
    """
    new, damage = _decompressor(compression)
    active: _Decompressor | None = None
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                active = active or new()
                yield active.decompress(rest)
                rest = active.unused_data
                if active.eof:
                    active = None
    except damage:
        raise InputError(
            f"{name} is damaged: it can't be decompressed as {compression}.", "Fetch or make the file anew."
        ) from None
    if active is not None:
        raise InputError(f"{name} is cut off: its compressed data has no end.", "Fetch or make the file anew.")


def _decompressor(compression: str) -> tuple[Callable[[], _Decompressor], type[Exception]]:
    if compression == ".gz":
        return lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), zlib.error
    import zstandard

    return lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError
