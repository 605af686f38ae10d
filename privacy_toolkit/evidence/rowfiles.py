"""The files of a pack that hold its rows: ``rows.jsonl``, ``rows.parquet`` and ``exceptions.csv``."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from privacy_toolkit.journal.reading import RunReader
from privacy_toolkit.reporting.exceptions import Case
from privacy_toolkit.reporting.jobwords import job_of
from privacy_toolkit.reporting.summaries import RowSummary


@dataclass(frozen=True, slots=True)
class RowFiles:
    """What was written.

    ``size`` is how many rows, ``root`` the root of the tree over ``rows.jsonl``. ``cases`` are the subjects that need
    attention, the first due first, or none of them where they are too many to be listed.
    """

    size: int
    root: bytes
    summary: RowSummary
    cases: list[Case]


def write_rows(building: Path, journal: RunReader, secret: bytes) -> RowFiles:
    """Write the rows of a run into the folder ``building``, durably and for their owner only.

    Rows are made in the order of the input and put down sorted in parts, by two processes if they are many; then the
    parts are put together, and everything that is made of rows is made in one go. Memory does not grow with the run.

    Args:
        building: the folder, which holds none of the files yet. After an error it may hold parts of them.
        journal: the run.
        secret: its secret K.

    Raises:
        OSError: something can't be written, or the second process died.
    """
    # Loaded here since they load pandas and pyarrow: half a second, and 80 MB that a run under way has no use for.
    from privacy_toolkit.evidence.rowmerge import merge  # noqa: PLC0415
    from privacy_toolkit.evidence.rowscatter import WINDOWS, scatter  # noqa: PLC0415
    from privacy_toolkit.reporting.sorting import returned_memory  # noqa: PLC0415

    spills = building / ".rows"
    try:
        spills.mkdir(mode=0o700)
        with returned_memory():
            scatter(journal, secret, spills)
            return RowFiles(*merge(spills, building, job_of(journal.run_id)))
    finally:
        shutil.rmtree(spills, ignore_errors=True)
        (building / WINDOWS).unlink(missing_ok=True)
