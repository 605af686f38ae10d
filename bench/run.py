"""Measure, and print the result as Markdown tables: ``python bench/run.py [CASE ...]``, see ``cases.CASES``.

``--write`` puts the tables into docs/performance.md too, each in its place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cases import BIG, CASES, Options, say
from harness import SERVER, on
from table import machine, put, table

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=f"Measure the toolkit. Cases: {', '.join(CASES)}.")
    parser.add_argument("cases", nargs="*", metavar="case", help=f"default: all but {', '.join(sorted(BIG))}")
    parser.add_argument("--subjects", type=int, help="so many subjects; default: what the case is about")
    parser.add_argument("--rounds", type=int, default=3, help="how often both are measured (default: 3)")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.parent.name}/{PAGE.name}")
    given = parser.parse_args()
    if unknown := set(given.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    for name in given.cases or [name for name in CASES if name not in BIG]:
        say(f"measuring: {name}")
        where = machine()
        with on(SERVER):
            text = table(where, CASES[name](Options(given.subjects, given.rounds)))
        print(f"{text}\n", flush=True)
        if given.write:
            PAGE.write_text(put(PAGE.read_text("utf-8"), name, text), "utf-8")


if __name__ == "__main__":
    main()
