"""The table of every module in ARCHITECTURE.md: one line each, from the first line of its docstring.

``python -m tests.support.module_table`` (``make modules``) writes it; a test holds the page to the code.
"""

import ast
import re
from itertools import groupby

from tests.support.house import ROOT, Module, read_modules

PAGE = ROOT / "ARCHITECTURE.md"
TABLE = re.compile(r"(?<=<!-- modules -->\n\n).*?(?=<!-- end of modules -->)", re.DOTALL)


def one_line(module: Module) -> str:
    """Give the first sentence-bearing line of a module's docstring, as a cell of a table."""
    first, *_ = (ast.get_docstring(module.tree) or "").split("\n")
    return first.removesuffix(".").replace("``", "`").replace("|", r"\|")


def table(modules: list[Module]) -> str:
    """Draw the modules that have code, those of a folder together."""
    lines = ["| module | what it is for |", "|---|---|"]
    coded = sorted((module for module in modules if module.has_code), key=_place)
    for folder, inside in groupby(coded, key=lambda module: _place(module)[0]):
        lines.append(f"| **`{folder or 'privacy_toolkit'}/`** | |")
        lines += [f"| `{module.path}` | {one_line(module)} |" for module in inside]
    return "\n".join(lines) + "\n\n"


def _place(module: Module) -> tuple[str, str]:
    folder, _, name = module.path.rpartition("/")
    return folder, name


def write() -> None:
    """Put today's table into the page."""
    PAGE.write_text(TABLE.sub(lambda _: table(read_modules()), PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    write()
