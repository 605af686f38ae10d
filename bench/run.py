"""Measure, and print the result as a Markdown table: ``python bench/run.py [CASE ...]``, see ``cases.CASES``.

The times are those of the stand-in server (``bench/server.py``), from the first request of a run to its last.
"""

from __future__ import annotations

import argparse
import platform
from os import cpu_count

from cases import CASES, Row, say


def line(row: Row) -> str:
    """One row of the table."""
    verdict = {True: "yes", False: "**no**", None: ""}[row.reached]
    return f"| {row.what} | {row.figure} | {row.wanted} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=f"Measure the toolkit. Cases: {', '.join(CASES)}; default: all.")
    parser.add_argument("cases", nargs="*", metavar="case", default=list(CASES))
    cases = parser.parse_args().cases
    if unknown := set(cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    print(f"{platform.system()} {platform.machine()}, {cpu_count()} cores, Python {platform.python_version()}\n")
    print("| what | figure | wanted | reached |\n|---|---|---|---|")
    for name in cases:
        say(f"measuring: {name}")
        for row in CASES[name]():
            print(line(row), flush=True)


if __name__ == "__main__":
    main()
