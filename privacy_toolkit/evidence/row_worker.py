"""The second process that writes rows: a task on standard input, the result on standard output."""

from __future__ import annotations

import os
import sys
from threading import Thread

import msgspec

from privacy_toolkit.core.privacy import forbid_core_dumps
from privacy_toolkit.evidence.row_writer import RowsReply, RowsTask, scatter_pages, shown_elsewhere
from privacy_toolkit.journal.state import open_run
from privacy_toolkit.reporting.parquet import returned_memory

_STDIN = 0
_LEFT_ALONE = 1  # exit status


def main() -> None:
    """Do the task. Any error but one of the system ends the process without a reply."""
    forbid_core_dumps()
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=RowsTask)
    Thread(target=_end_with_the_first, daemon=True).start()
    error = None
    try:
        with returned_memory(), open_run(task.run) as journal:
            scatter_pages(journal, journal.secret or b"", task, shown_elsewhere(journal, task))
    except OSError as failed:
        error = failed.errno or 0
    sys.stdout.buffer.write(msgspec.json.encode(RowsReply(error=error)))


def _end_with_the_first() -> None:
    """Nothing more is ever written to standard input: it is closed when the first process ends, or wants no more."""
    os.read(_STDIN, 1)
    os._exit(_LEFT_ALONE)


if __name__ == "__main__":
    main()
