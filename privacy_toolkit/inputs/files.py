"""Files as bytes: what one is by its name, reading it once while it is hashed."""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from privacy_toolkit.core.durable import NotRegularError, open_regular
from privacy_toolkit.core.model import InputError

STDIN = "-"
STDIN_NAME = "standard input"
#: The delimiter that goes with each suffix of a CSV.
DELIMITERS = {".csv": ",", ".txt": ",", ".tsv": "\t"}
LINES_SUFFIXES = frozenset({".jsonl", ".ndjson"})
WORKBOOK_SUFFIXES = frozenset({".xlsx", ".xlsm"})
#: Workbooks that are not read.
OTHER_WORKBOOKS = frozenset({".xls", ".xlsb", ".ods", ".numbers"})
PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})
COMPRESSIONS = frozenset({".gz", ".zst"})
CHUNK = 1 << 18  # bytes read at a time
COMPRESSED_CHUNK = 1 << 14

READ_ARE = (
    "Read are .csv, .tsv, .txt and .jsonl (also with .gz or .zst), .xlsx, .parquet and .pq, a folder of Parquet files,"
    " and - for CSV from standard input."
)


class FileKind(msgspec.Struct, frozen=True):
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
    if suffixes and suffixes[-1] in WORKBOOK_SUFFIXES:
        return FileKind("xlsx")
    if suffixes and suffixes[-1] in OTHER_WORKBOOKS and place.exists():
        raise InputError(
            f"{name_of(place)} is a workbook of a kind that is not read.",
            "Open it in a spreadsheet program, and save it as .xlsx.",
        )
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
        InputError: it can't be opened; or somebody wrote to it meanwhile: what was read is no list that ever was.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular(place))
        except OSError as error:
            raise unreadable(name_of(place), error) from None
        before = os.fstat(file.fileno())
        yield file
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise InputError(
                f"{name_of(place)} was changed while it was read, so rows may be missing or be there twice.",
                "Wait until it is written and nobody works on it, then give the command again.",
            )


class ByteSource:
    """The bytes of one file from beginning to end, hashed and counted as they are there."""

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
        if stdin is None and sys.stdin is None:
            raise InputError("Standard input is closed.", "Name a file, or give a CSV through standard input.")
        yield ByteSource(stdin or sys.stdin.buffer, STDIN_NAME)
        return
    with open_file(Path(path)) as file:
        yield ByteSource(file, name_of(Path(path)))


# Taking ``.gz`` and ``.zst`` off, in pieces of bounded size whatever the file says.
#
# A few bytes can stand for as many as one likes. So nothing is decompressed further than it is asked for: gzip has a
# limit for each call; Zstandard is passed on block by block, since none gives more than 128 KB (RFC 8878, section
# 3.1.1.2.4).

#: Bytes that Zstandard may have to look back, which is memory that it takes. ``zstd --long`` needs so much.
LARGEST_WINDOW: Final = 1 << 27
#: Beyond so many bytes no list is so many times as long as its compressed form: it was made to fill memory or disk.
BEGUN: Final = 1 << 25
MOST_TIMES: Final = 200

_MAGIC: Final = 0xFD2FB528
_SKIPPABLE: Final = range(0x184D2A50, 0x184D2A60)
_REPEATED_BLOCK, _RESERVED_BLOCK = 1, 3
_LARGEST_BLOCK: Final = 1 << 17
_AGAIN: Final = "Fetch or make the file again."


def decompressed(chunks: Iterable[bytes], compression: str, name: str) -> Iterator[bytes]:
    """Take ``.gz`` or ``.zst`` off; several members or frames one after the other are one text.

    Raises:
        InputError: the data is damaged, ends in the middle, so that rows would be missing, needs too much memory, or is
            too many times as long as its compressed form.
    """
    source = _Source(chunks, name)
    out = 0
    for piece in (_gunzipped if compression == ".gz" else _unzstd)(source):
        out += len(piece)
        if out > BEGUN and out > MOST_TIMES * source.taken:
            raise InputError(
                f"{name} is more than {MOST_TIMES} times as long as its compressed form; a list of ids never is.",
                "If it is meant, decompress it first.",
            )
        yield piece


class _Source:
    """Compressed bytes, as many at a time as are wanted, or as there are. ``taken`` counts those handed out."""

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        self.name = name
        self.taken = 0
        self._chunks = iter(chunks)
        self._rest = b""

    def some(self) -> bytes:
        """What is there next; empty at the end."""
        found = self._rest or next(filter(None, self._chunks), b"")
        self._rest = b""
        self.taken += len(found)
        return found

    def give_back(self, rest: bytes) -> None:
        """Take back what was not used."""
        self._rest = rest
        self.taken -= len(rest)

    def exactly(self, size: int) -> bytes:
        """So many bytes.

        Raises:
            InputError: there are fewer.
        """
        parts, missing = list[bytes](), size
        while missing:
            part = self.some()
            if not part:
                raise self.cut_off()
            parts.append(part[:missing])
            self.give_back(part[missing:])
            missing -= len(parts[-1])
        return b"".join(parts)

    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        self.give_back(self.some())
        return not self._rest

    def cut_off(self) -> InputError:
        """The error for data that ends in the middle."""
        return InputError(f"{self.name} is cut off: its compressed data has no end.", _AGAIN)

    def damaged(self, compression: str) -> InputError:
        """The error for data that is none."""
        return InputError(f"{self.name} is damaged: it can't be decompressed as {compression}.", _AGAIN)


def _gunzipped(source: _Source) -> Iterator[bytes]:
    while not source.is_at_end():
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            while not member.eof:
                compressed = source.some()
                if not compressed:
                    raise source.cut_off()
                yield member.decompress(compressed, CHUNK)
                source.give_back(member.unused_data or member.unconsumed_tail)  # never both
        except zlib.error:
            raise source.damaged(".gz") from None


def _unzstd(source: _Source) -> Iterator[bytes]:
    while not source.is_at_end():
        magic = source.exactly(4)
        number = int.from_bytes(magic, "little")
        if number in _SKIPPABLE:
            _skip(source, int.from_bytes(source.exactly(4), "little"))
        elif number == _MAGIC:
            yield from _frame(source, magic)
        else:
            raise source.damaged(".zst")


def _skip(source: _Source, size: int) -> None:
    while size:
        size -= len(source.exactly(min(size, CHUNK)))


def _frame(source: _Source, magic: bytes) -> Iterator[bytes]:
    """One frame: its header, then its blocks, each of which is decompressed on its own."""
    import zstandard

    header, has_checksum = _header(source)
    frame = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()
    try:
        yield frame.decompress(magic + header)
        is_last = False
        while not is_last:
            head = source.exactly(3)
            word = int.from_bytes(head, "little")
            is_last, kind, size = bool(word & 1), word >> 1 & 3, word >> 3
            if kind == _RESERVED_BLOCK or size > _LARGEST_BLOCK:
                raise source.damaged(".zst")
            yield frame.decompress(head + source.exactly(1 if kind == _REPEATED_BLOCK else size))
        if has_checksum:
            yield frame.decompress(source.exactly(4))
    except zstandard.ZstdError:
        raise source.damaged(".zst") from None
    if not frame.eof:
        raise source.damaged(".zst")


def _header(source: _Source) -> tuple[bytes, bool]:
    """The header of a frame without its magic number, and whether a checksum follows the last block.

    Raises:
        InputError: the frame asks for more memory than it gets.
    """
    descriptor = source.exactly(1)
    flags = descriptor[0]
    is_single = bool(flags & 0x20)
    window = b"" if is_single else source.exactly(1)
    dictionary = source.exactly((0, 1, 2, 4)[flags & 3])
    content = source.exactly((1 if is_single else 0, 2, 4, 8)[flags >> 6])
    if is_single:
        needed = int.from_bytes(content, "little")
    else:
        base = 1 << (10 + (window[0] >> 3))
        needed = base + base // 8 * (window[0] & 7)
    if needed > LARGEST_WINDOW:
        raise InputError(
            f"{source.name} needs a window of more than {LARGEST_WINDOW >> 20} MB to be decompressed.",
            "Compress it again without --long, or decompress it first.",
        )
    return descriptor + window + dictionary + content, bool(flags & 4)
