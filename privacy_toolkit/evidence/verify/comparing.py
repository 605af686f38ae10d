"""The second process of ``verify``, which compares rows: a task on standard input, its findings on standard output."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path
from threading import Thread

import msgspec

from privacy_toolkit.core.privacy import forbid_core_dumps
from privacy_toolkit.evidence.verify.rows import CompareReply, CompareTask, difference

#: Bytes of address space; the libraries alone reserve more than a thousand million, and use a tenth of it.
MOST_MEMORY = 6 * 1024**3
_STDIN = 0
_LEFT_ALONE = 1  # exit status


def main() -> None:
    """Do the task."""
    forbid_core_dumps()
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=CompareTask)
    Thread(target=_end_with_the_first, daemon=True).start()
    with contextlib.suppress(OSError, ValueError):  # some systems know no such limit, or have a lower one
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    found = difference(Path(os.fsdecode(task.rows)), Path(os.fsdecode(task.parquet)))
    sys.stdout.buffer.write(msgspec.json.encode(CompareReply(difference=found)))


def _end_with_the_first() -> None:
    """Nothing more is ever written to standard input: it is closed when the first process ends, or wants no more."""
    os.read(_STDIN, 1)
    os._exit(_LEFT_ALONE)


if __name__ == "__main__":
    main()
