"""The result as Markdown: a table for each case with the machine that it was measured on, and its place in a page."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness import CLIENT, CORES, SERVER

#: Tables that are not in the page yet are put in front of this.
MORE = "<!-- bench: more -->"
HEAD = "| what | measured | wanted | reached |\n|---|---|---|---|"


@dataclass(frozen=True)
class Row:
    """One line of the result; ``reached`` is None where nothing is asked for."""

    what: str
    figure: str
    wanted: str = ""
    reached: bool | None = None

    def __str__(self) -> str:
        verdict = {True: "yes", False: "**no**", None: ""}[self.reached]
        return f"| {self.what} | {self.figure} | {self.wanted} | {verdict} |"


def machine() -> str:
    """What it is measured on: processor, cores, system, Python, how busy it is, and who has which core."""
    cores = len(CORES) or os.cpu_count() or "?"
    pinned = "client and server on a core each" if CLIENT and CLIENT != SERVER else "client and server not kept apart"
    return (
        f"{_processor()}, {cores} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; {pinned}; load before it {os.getloadavg()[0]:.1f}"
    )


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def table(where: str, rows: Iterable[Row]) -> str:
    """The rows of one case under the machine."""
    return "\n".join([f"{where}:", "", HEAD, *map(str, rows)])


def put(page: str, name: str, text: str) -> str:
    """The page with the table of a case in it, in the place of the one before.

    Raises:
        ValueError: the page has no place for it.
    """
    begin, end = f"<!-- bench: {name} -->", f"<!-- /bench: {name} -->"
    block = f"{begin}\n\n{text}\n\n{end}"
    if begin in page and end in page:
        before, _, rest = page.partition(begin)
        return before + block + rest.partition(end)[2]
    if MORE not in page:
        raise ValueError(f"the page has no {MORE}")
    return page.replace(MORE, f"{block}\n\n{MORE}", 1)
