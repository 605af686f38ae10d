"""The toolkit, with the moment written down at which each of its requests is handed to the socket.

``python bench/sender.py FOLDER erase customers.csv …``: when the process ends, the moments (``time.monotonic`` seconds,
one clock for all processes of the machine) are in a file of the folder. The toolkit knows nothing of it.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any


def moments(folder: Path) -> array[float]:
    """When requests were sent, by all processes that wrote into the folder, in order."""
    sent = array("d")
    for path in folder.iterdir():
        sent.frombytes(path.read_bytes())
    return array("d", sorted(sent))


def main() -> None:
    """Carry out what is asked for, and keep the moments."""
    from privacy_toolkit.cli.main import main as toolkit  # noqa: PLC0415 - those who read moments don't need it
    from privacy_toolkit.http.connection import Connection  # noqa: PLC0415 - as above

    folder, sent = Path(sys.argv[1]), array("d")
    folder.mkdir(exist_ok=True)
    exchange: Callable[..., Any] = Connection.exchange
    now = time.monotonic

    def exchanged(*given: Any, **named: Any) -> Any:
        sent.append(now())  # nothing is waited for between this and the write
        return exchange(*given, **named)

    Connection.exchange = exchanged  # type: ignore[method-assign]
    atexit.register(lambda: (folder / str(os.getpid())).write_bytes(sent.tobytes()))
    sys.argv[1:] = sys.argv[2:]
    toolkit()


if __name__ == "__main__":
    main()
