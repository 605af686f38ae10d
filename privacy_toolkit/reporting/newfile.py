"""A new file only its owner can read, durable when it is complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write; it is on the disk when the block ends without an error.

    Raises:
        OSError: it can't be written, or is there already.
    """
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    try:
        yield file
        file.flush()
        os.fsync(file.fileno())
    finally:
        with contextlib.suppress(OSError):  # what did not fit was said by then, and the file is given up
            file.close()
