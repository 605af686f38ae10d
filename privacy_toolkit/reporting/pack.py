"""The audit pack of a run: a folder that is there as a whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec

from privacy_toolkit.errors import ExitCode, RefusedError, ToolkitError, UsageError
from privacy_toolkit.journal.durability import sync
from privacy_toolkit.journal.reading import RunReader
from privacy_toolkit.reporting.counts import ATTENTION
from privacy_toolkit.reporting.exceptions import HEADER, Case, case_of, csv_line
from privacy_toolkit.reporting.html import render
from privacy_toolkit.reporting.report import build_report, moment_of, sums_differ
from privacy_toolkit.reporting.rows import encode_row, row_of
from privacy_toolkit.reporting.schema import Report
from privacy_toolkit.reporting.sorting import SortedLines

REPORT_JSON, REPORT_HTML, ROWS, EXCEPTIONS = "report.json", "report.html", "rows.jsonl", "exceptions.csv"

#: Up to so many subjects that need attention are listed one by one in the report; more stand in exceptions.csv only.
LISTED_CASES = 2_000


class PackError(ToolkitError):
    """The pack can't be written where it should be: disk full, permissions."""

    exit_code = ExitCode.STOPPED
    code = "pack"


@dataclass(frozen=True, slots=True)
class PackResult:
    """Where the pack stands, and its report."""

    path: Path
    report: Report


def write_pack(journal: RunReader, folder: Path) -> PackResult:
    """Write the pack of the run at ``folder``, or replace the one that stands there from an earlier sitting.

    It is built beside its place and renamed when it is complete and durable. The same journal gives the same bytes.

    Raises:
        RefusedError: the run was purged, so its pseudonyms can't be made any more.
        UsageError: at ``folder`` stands something that is no pack of this run.
        ToolkitError: the sums don't add up (code ``sums``).
        PackError: the pack can't be written.
    """
    secret = journal.secret
    if secret is None:
        raise RefusedError(
            f"Run {journal.run_id} was purged: its pack can't be made again.", "Keep the pack that was made before."
        )
    folder = folder.resolve()
    _check_place(folder, journal.run_id)
    building = folder.with_name(f".new-{os.getpid()}-{folder.name}")
    try:
        building.mkdir(mode=0o700, parents=True)
        report = _fill(building, journal, secret)
        _replace(folder, building)
        _sweep(folder)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        raise PackError(
            f"The pack can't be written: {error.strerror}.",
            "Make room or mend the permissions; nothing of the run is lost.",
        ) from None
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return PackResult(folder, report)


def _fill(building: Path, journal: RunReader, secret: bytes) -> Report:
    report = build_report(journal, now=moment_of(journal))
    rows, exceptions = SortedLines(building / ".rows"), SortedLines(building / ".exceptions")
    cases: list[Case] = []
    counted: Counter[str] = Counter()
    attention = {outcome.value for outcome in ATTENTION}  # of plain text, which is looked up faster
    listed = sum(cause.count for cause in report.causes) <= LISTED_CASES
    for subject, standing, exchanges in journal.rows():
        row = row_of(subject, standing, exchanges, secret)
        counted[row.outcome] += 1
        rows.add(row.subject, encode_row(row))
        if row.outcome in attention:
            case = case_of(row)
            exceptions.add(case.reference, csv_line(case))
            if listed:
                cases.append(case)
    if counted != Counter({line.outcome.value: line.count for line in report.outcomes}):
        raise sums_differ("The rows of the pack and the totals of the run differ.")
    _write(building / ROWS, _chunks(rows))
    _write(building / EXCEPTIONS, chain([csv_line(HEADER)], _chunks(exceptions)))
    _write(building / REPORT_JSON, [encode_report(report)])
    _write(building / REPORT_HTML, [render(report, sorted(cases)).encode()])
    for temporary in (".rows", ".exceptions"):
        shutil.rmtree(building / temporary, ignore_errors=True)
    return report


def encode_report(report: Report) -> bytes:
    """``report.json``: indented, keys sorted."""
    return msgspec.json.format(msgspec.json.encode(report, order="sorted"), indent=2) + b"\n"


def _chunks(lines: SortedLines) -> Iterator[bytes]:
    for bucket in lines:
        yield b"".join(bucket)


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a new file only its owner can read, durably."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())


def _check_place(folder: Path, run_id: str) -> None:
    """Nothing but an earlier pack of the same run is ever replaced."""
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
        found = msgspec.json.decode((folder / REPORT_JSON).read_bytes(), type=dict[str, object])
        if found.get("run_id") == run_id:
            return
    except (OSError, msgspec.DecodeError):
        pass
    raise UsageError(
        "The place for the pack is taken by something that is no pack of this run.", "Name another folder with --pack."
    )


def _replace(folder: Path, building: Path) -> None:
    """Put the new pack in the place of an old one. There is no moment with half a pack under the final name."""
    sync(building)
    old = folder.with_name(f".old-{os.getpid()}-{folder.name}")
    if folder.exists():
        folder.rename(old)
    building.rename(folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what a process that died while it wrote this pack has left beside it."""
    ours = re.compile(rf"\.(new|old)-\d+-{re.escape(folder.name)}")
    for left in folder.parent.iterdir():
        if ours.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True)
