"""No core dumps: a process that held ids or keys must leave them neither on the disk nor with a crash reporter.

A limit of 0 keeps the system from writing a core file. A handler that takes cores through a pipe does not heed that
limit; on Linux the process is marked as not dumpable too, which also keeps other processes of the same user from
reading its memory. What a process starts has the limit from it, and the mark only after it asked for it itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Final

#: ``PR_SET_DUMPABLE`` of ``prctl`` (Linux, include/uapi/linux/prctl.h).
_SET_DUMPABLE: Final = 4


def forbid_core_dumps() -> None:
    """Keep this process from being dumped, as far as the system lets us; never an error."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 - not on every system

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)
