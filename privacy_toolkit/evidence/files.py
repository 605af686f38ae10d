"""The names of a pack's files, and what can be wrong with evidence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

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


def relative_files(folder: Path) -> Iterator[str]:
    """The paths of all files in a folder and those below it, relative, with ``/`` between their parts."""
    for parent, _, names in os.walk(folder):
        for name in names:
            yield (Path(parent) / name).relative_to(folder).as_posix()
