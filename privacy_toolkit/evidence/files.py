"""The names of a pack's files, and how files and folders are put in place: whole and durable, or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from privacy_toolkit.core import durable as locks
from privacy_toolkit.core.durable import sync
from privacy_toolkit.core.errors import ExitCode, ToolkitError

# What can be wrong with evidence: a pack that is not what it should be, or one that can't be written.


class BadPack(ToolkitError):  # noqa: N818 - it names what was found, as the word stands in reports and in the guides
    """Something of a pack is not what it should be: changed, damaged, or made by something else."""

    exit_code = ExitCode.VERIFICATION_FAILED
    code = "bad_pack"


class PackError(ToolkitError):
    """The pack can't be written where it should be: disk full, permissions."""

    exit_code = ExitCode.STOPPED
    code = "pack"


class ChainError(ToolkitError):
    """The record of all packs can't be gone on with: a part of it is missing, changed or can't be read."""

    exit_code = ExitCode.STOPPED
    code = "chain"


REPORT_HTML, REPORT_JSON, REPORT_SCHEMA = "report.html", "report.json", "report.schema.json"
ROWS, ROWS_PARQUET, ROW_SCHEMA, EXCEPTIONS = "rows.jsonl", "rows.parquet", "row.schema.json", "exceptions.csv"
#: The refused rows of the input: where each stands and why. In every pack since the third format of the report.
REJECTED = "rejected.csv"
#: What a pack may say of the plan. In every pack since the third format of the report.
PLAN = "plan.json"
#: What is made of the rows; the other files are small, whatever the run's size.
ROW_FILES = frozenset({ROWS, ROWS_PARQUET, EXCEPTIONS, REJECTED})
APPROVAL, APPROVAL_SIGNATURE = "approval.txt", "approval.txt.sig"
CHECKPOINT, VERIFY, SUMS, SIGNATURE = "checkpoint.txt", "VERIFY.txt", "SHA256SUMS", "SHA256SUMS.sig"
#: In the place of everything else: that one person was taken off the list of erased customers, by whom and why.
REMOVAL = "removal.json"
#: The folder with the manifests of earlier packs of the same run, each in a folder named by its number in the chain.
EARLIER = "earlier"
#: The parts of such a manifest.
LINK = (CHECKPOINT, SUMS, SIGNATURE)
#: Every name that can be in ``SHA256SUMS``, but for those in ``EARLIER``.
NAMES = frozenset(
    {
        *(REPORT_HTML, REPORT_JSON, REPORT_SCHEMA, ROWS, ROWS_PARQUET, ROW_SCHEMA, EXCEPTIONS, REJECTED, PLAN),
        *(APPROVAL, APPROVAL_SIGNATURE, CHECKPOINT, VERIFY, REMOVAL),
    }
)


def write_file(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a new file only its owner can read, durably; the name itself is durable when its folder is synced.

    Raises:
        OSError: it can't be written, or is there already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())


def relative_files(folder: Path) -> Iterator[str]:
    """The paths of all files in a folder and those below it, relative, with ``/`` between their parts."""
    for parent, _, names in os.walk(folder):
        for name in names:
            yield (Path(parent) / name).relative_to(folder).as_posix()


class Place:
    """Where a folder is to stand, and the folders next to it in which it is built and from which it is replaced.

    While a folder is being built its maker holds a lock on it, which the system gives back when the process ends,
    however it ends. So what a dead process left can be told from what a living one works on, also where process ids
    are used again or come from different containers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._building: Path | None = None
        self._held: int | None = None

    def restore(self) -> None:
        """Put a folder back that a process which died between two renames had just moved out of the way.

        Raises:
            OSError: it can't be moved.
        """
        if not self.path.parent.is_dir() or os.path.lexists(self.path):
            return
        left = sorted(self._next_to("old"), key=lambda old: old.stat().st_mtime_ns)
        if left:
            left[-1].rename(self.path)
            sync(self.path.parent)

    def begin(self) -> Path:
        """Make the folder to build in; only its owner can look into it.

        Raises:
            OSError: it can't be made.
        """
        self._building = self.path.with_name(f".new-{secrets.token_hex(8)}-{self.path.name}")
        self._building.mkdir(mode=0o700, parents=True)
        self._held = locks.take_folder(self._building)
        return self._building

    def discard(self) -> None:
        """Remove what was built so far."""
        if self._building is not None:
            shutil.rmtree(self._building, ignore_errors=True)
        self._let_go()

    def finish(self) -> None:
        """Put what was built in its place, and what is there away: nobody ever sees half of it under its name.

        Raises:
            OSError: a folder can't be moved; what was there is there still.
        """
        building = self._building
        if building is None:
            raise ValueError("nothing was built")
        sync(building)
        old = self.path.with_name(building.name.replace(".new-", ".old-", 1))
        if self.path.exists():
            self.path.rename(old)
        try:
            building.rename(self.path)
        except BaseException:
            if old.exists():
                old.rename(self.path)
            raise
        self._let_go()
        sync(self.path.parent)
        if old.exists():
            _remove(old)

    def sweep(self) -> None:
        """Remove what dead processes left next to this place; call it when a whole folder is there."""
        for left in [*self._next_to("new"), *self._next_to("old")]:
            held = locks.take_folder(left)
            if held is not None:
                _remove(left)
                os.close(held)

    def _next_to(self, kind: str) -> list[Path]:
        ours = re.compile(rf"\.{kind}-[0-9a-f]+-{re.escape(self.path.name)}")
        return [found for found in self.path.parent.iterdir() if ours.fullmatch(found.name)]

    def _let_go(self) -> None:
        if self._held is not None:
            os.close(self._held)
        self._held = None


def _remove(folder: Path) -> None:
    """Remove a folder under a name from which nothing is restored: half removed it would be half a pack."""
    doomed = folder.with_name(folder.name.replace(".old-", ".new-", 1))
    with contextlib.suppress(OSError):
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
