"""What everything else builds on: the vocabulary, errors, secrets, files that survive a crash."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, Final

__version__ = "0.2.0"

#: Set where the whole process is the toolkit's own: the command line and second processes, not a script or a notebook.
OURS: Final = Event()
#: Cyclic garbage is looked for after so many more objects were made than freed, where the process is our own.
COLLECT_AFTER: Final = 50_000
_NOT_TO_BE_FOUND: Final[Any] = None


@contextmanager
def lean_pyarrow() -> Iterator[None]:
    """Have pyarrow loaded in the block with what we need of it, if the process is ours and it is not loaded yet.

    It takes numpy where it finds it, which costs more than pyarrow itself (0.1 s, 10 MB) and is needed only to hand
    over arrays: nothing of ours asks for those but data frames, which are for scripts and notebooks. And its own
    allocator keeps what it was given once; with the system's, a pack takes 20 MB less.
    """
    if not OURS.is_set() or "pyarrow" in sys.modules:
        yield
        return
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    hidden = "numpy" not in sys.modules
    if hidden:
        sys.modules["numpy"] = _NOT_TO_BE_FOUND  # so the import system is told that a module is not there
    try:
        yield
    finally:
        if hidden:
            del sys.modules["numpy"]


@contextmanager
def uncollected() -> Iterator[None]:
    """Have no cycles looked for in the block, where very many tuples come and go and none is in a cycle.

    Looking for cycles would take a sixth of the time of a pack's rows, and a third of folding a page.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def templates_folder() -> Path:
    """Where the templates are: inside the installed package, or at the top of a working copy of the sources."""
    packaged = Path(__file__).parents[1] / "reporting" / "templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "reports" / "templates"
