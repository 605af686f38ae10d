"""The tree of the project, parsed once."""

import ast
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "privacy_toolkit"


@dataclass(frozen=True)
class Module:
    """One module of the package: its path below the package folder, its lines and its syntax tree."""

    path: str
    lines: int
    tree: ast.Module = field(repr=False)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text("utf-8")
        found.append(Module(path.relative_to(PACKAGE).as_posix(), len(text.splitlines()), ast.parse(text)))
    return found
