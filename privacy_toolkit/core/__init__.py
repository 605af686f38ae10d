"""What everything else builds on: the vocabulary, errors, secrets, files that survive a crash."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

__version__ = "0.2.0"

#: Set where the whole process is the toolkit's own: the command line and second processes, not a script or a notebook.
OURS: Final = Event()
_NOT_TO_BE_FOUND: Final[Any] = None


@contextmanager
def without_numpy() -> Iterator[None]:
    """Have pyarrow loaded without numpy in the block, if the process is ours and neither of them is loaded yet.

    pyarrow takes numpy where it finds it, which costs more than pyarrow itself (0.1 s, 10 MB), and needs it only to
    hand over arrays. Nothing of ours asks for those but data frames, which are for scripts and notebooks.
    """
    if not OURS.is_set() or "numpy" in sys.modules or "pyarrow" in sys.modules:
        yield
        return
    sys.modules["numpy"] = _NOT_TO_BE_FOUND  # so the import system is told that a module is not there
    try:
        yield
    finally:
        del sys.modules["numpy"]
