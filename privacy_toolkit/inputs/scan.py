"""Reading an input: once over the file, then as often as wanted over what was set aside of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from privacy_toolkit.errors import InputError
from privacy_toolkit.inputs.csvfile import open_csv
from privacy_toolkit.inputs.deduplication import mark_duplicates
from privacy_toolkit.inputs.files import kind_of
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.spool import Page, Spool
from privacy_toolkit.inputs.tally import Tally
from privacy_toolkit.inputs.validation import RejectReason

PAGE_ROWS = 1000


class InputFile(Protocol):
    """What an input of either format gives: its ids in pages, then the fingerprint of all of its bytes."""

    format: str
    id_column: str

    def pages(self, size: int) -> Iterator[tuple[list[int], list[str | None]]]:
        """Rows and the texts in the id column, at most ``size`` at a time."""

    def fingerprint(self) -> tuple[str, int]:
        """SHA-256 (hex) and number of bytes."""


class Status(StrEnum):
    """What became of a row."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Record:
    """One row for the operator's eyes; ``id`` is the text as it stands there, where it was rejected."""

    row: int
    id: str | None
    status: Status
    reason: RejectReason | None = None


@dataclass(frozen=True, slots=True)
class InputSummary:
    """An input in numbers: ``read`` = ``rejected`` + ``duplicates`` + ``subjects``. It names neither file nor id.

    ``sha256`` and ``size`` are of the bytes as they lie in the file, compressed if it is; for a folder see
    ``ParquetFiles.fingerprint``. With a limit ``read`` ends at the row of the last subject, the hash does not.
    """

    format: str
    sha256: str
    size: int
    id_column: str
    read: int
    rejected_by_reason: dict[str, int]
    duplicates: int
    subjects: int

    @property
    def rejected(self) -> int:
        """Rows refused, for whatever reason."""
        return sum(self.rejected_by_reason.values())


class Scan:
    """What an input holds, set aside in a file without a name, which is gone when the scan is closed."""

    def __init__(self, summary: InputSummary, spool: Spool, duplicates: bytearray, resources: ExitStack) -> None:
        self.summary = summary
        self._spool = spool
        self._duplicates = duplicates
        self._resources = resources

    def subjects(self) -> Iterator[list[tuple[int, str]]]:
        """Row and id of every subject in input order, a page of at most 1,000 at a time; repeatable."""
        for start, page in self._pages():
            end = start + len(page.rows)
            if not page.refused and self._duplicates.find(1, start, end) < 0:
                chosen = [(row, id_) for row, id_ in zip(page.rows, page.ids, strict=True) if id_ is not None]
            else:
                chosen = [(page.rows[n], id_) for n, id_ in page.accepted() if not self._duplicates[start + n]]
            if chosen:
                yield chosen

    def records(self) -> Iterator[Record]:
        """Every row in input order, the rejected ones too; repeatable."""
        for start, page in self._pages():
            for position, (row, id_) in enumerate(zip(page.rows, page.ids, strict=True)):
                if reason := page.refused.get(position):
                    yield Record(row, id_, Status.REJECTED, reason)
                else:
                    repeated = self._duplicates[start + position]
                    yield Record(row, id_, Status.DUPLICATE if repeated else Status.ACCEPTED)

    def close(self) -> None:
        """Let go of what was set aside."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _pages(self) -> Iterator[tuple[int, Page]]:
        start = 0
        for page in self._spool.pages():
            yield start, page
            start += len(page.rows)


def read_input(
    path: str,
    options: InputOptions | None = None,
    *,
    spool_folder: Path,
    stdin: BinaryIO | None = None,
    page_rows: int = PAGE_ROWS,
) -> Scan:
    """Read an input once, from beginning to end; ``-`` is CSV from ``stdin`` (default: the process's own).

    The rows are set aside in ``spool_folder`` in a file without a name, so nothing of it outlives the process.

    Raises:
        InputError: it can't be read, or a record is not what the header says; nothing of it is used.
    """
    options = options or InputOptions()
    with ExitStack() as resources:
        spool = _new_spool(spool_folder, resources)
        with _opened(path, options, stdin) as file:
            tally = Tally(spool, options)
            for rows, texts in file.pages(page_rows):
                if not tally.take(rows, texts):
                    break
            sha256, size = file.fingerprint()
        marks = mark_duplicates(tally.hashes, spool.pages, tally.read)
        duplicates = marks.count(1)
        summary = InputSummary(
            format=file.format,
            sha256=sha256,
            size=size,
            id_column=file.id_column,
            read=tally.read,
            rejected_by_reason={reason.value: number for reason, number in sorted(tally.refused.items())},
            duplicates=duplicates,
            subjects=tally.read - tally.refused.total() - duplicates,
        )
        return Scan(summary, spool, marks, resources.pop_all())


def _new_spool(folder: Path, resources: ExitStack) -> Spool:
    try:
        return Spool(resources.enter_context(TemporaryFile(dir=folder)))
    except OSError as error:
        raise InputError(
            f"The input can't be set aside: {error.strerror}.", "Is there a state folder that may be written?"
        ) from None


@contextmanager
def _opened(path: str, options: InputOptions, stdin: BinaryIO | None) -> Iterator[InputFile]:
    kind = kind_of(path)
    if kind.delimiter is None:
        from privacy_toolkit.inputs.parquet import ParquetFiles

        yield ParquetFiles(path, options)
    else:
        with open_csv(path, kind, options, stdin) as file:
            yield file
