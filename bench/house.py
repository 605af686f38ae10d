"""How far one erasure walks through the code: files it touches, and changes of file on its way.

``python bench/house.py [--files]``. One customer of the sandbox is erased through the command line in this process,
under a profile hook. A file is touched where one of its functions is called. A change of file is a call in another file
of the package than the call before; a crossing is a line of code from which such a call was made, however often.
Imports do not count, and neither do coroutines that go on, or the sandbox.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType

import privacy_toolkit
from privacy_toolkit.cli.main import main as privacy_toolkit_main
from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import SandboxSettings

PACKAGE = str(Path(privacy_toolkit.__file__).parent) + os.sep
MOST_FILES, MOST_CHANGES = 60, 350
#: Not functions that someone called: a module or a class as it is loaded.
LOADING = "<module>"
GENERATORS = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR


class Walk:
    """What a profile hook sees of the package, over all threads; those that run already are left out."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.crossings: set[tuple[CodeType, int, CodeType]] = set()
        self.changes = 0
        self._last = threading.local()
        self._begun: dict[int, FrameType] = {}  # coroutines and generators; kept, so that no address comes twice

    def see(self, frame: FrameType, event: str, _: object) -> None:
        """Take note of one event of the interpreter."""
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE) or _is_loading(frame):
            return
        if code.co_flags & GENERATORS:
            if id(frame) in self._begun:
                return
            self._begun[id(frame)] = frame
        file = code.co_filename[len(PACKAGE) :]
        self.calls[file] += 1
        self.changes += getattr(self._last, "file", file) != file
        self._last.file = file
        caller = _caller(frame)
        if caller is not None and caller.f_code.co_filename != code.co_filename:
            self.crossings.add((caller.f_code, caller.f_lineno, code))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch this thread, and every thread that is started meanwhile."""
        threading.setprofile(self.see)
        sys.setprofile(self.see)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]


def _caller(frame: FrameType) -> FrameType | None:
    """The nearest frame of the package above, past libraries."""
    above = frame.f_back
    while above is not None and not above.f_code.co_filename.startswith(PACKAGE):
        above = above.f_back
    return above


def _is_loading(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == LOADING and frame.f_code.co_filename.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False


def erase_one() -> Walk:
    """Erase one customer of a sandbox, all of it in this process."""
    walk = Walk()
    with TemporaryDirectory() as folder, start_in_thread(SandboxSettings(seed_customers=1)) as sandbox:
        ids = Path(folder) / "ids.csv"
        ids.write_text("customer_id\ncustomer-00001\n", "utf-8")
        os.environ |= {
            "PRIVACY_TOOLKIT_BASE_URL": sandbox.base_url,
            "PRIVACY_TOOLKIT_API_KEY": sandbox.settings.api_key,
            "PRIVACY_TOOLKIT_STATE": str(Path(folder) / "state"),
        }
        target = sandbox.base_url.removeprefix("http://")
        command = ["erase", str(ids), "--json", "--quiet", "--confirm", f"erase 1 from {target}"]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit), walk.watching():
            privacy_toolkit_main(command)
    if '"erased":1' not in said.getvalue().replace(" ", ""):
        raise SystemExit(f"the customer was not erased: {said.getvalue()}")
    return walk


def measure() -> Iterator[tuple[str, str, str, bool | None]]:
    """Erase one customer, and give the lines of the table."""
    yield from lines(erase_one())


def lines(walk: Walk) -> Iterator[tuple[str, str, str, bool | None]]:
    """Give what was seen: the figure, what is wanted, and whether it is reached."""
    files = len(walk.calls)
    yield "one erasure: files it touches", f"{files}", f"{MOST_FILES}", files <= MOST_FILES
    yield "one erasure: changes of file", f"{walk.changes:,}", f"{MOST_CHANGES}", walk.changes <= MOST_CHANGES
    yield "one erasure: lines that call into another file", f"{len(walk.crossings)}", "", None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", action="store_true", help="list the files, with the calls in each")
    arguments = parser.parse_args()
    walk = erase_one()
    if arguments.files:
        for file, calls in walk.calls.most_common():
            print(f"{calls:6}  {file}")
    for what, figure, wanted, _ in lines(walk):
        print(f"{what}: {figure}" + (f" (at most {wanted} wanted)" if wanted else ""))


if __name__ == "__main__":
    main()
