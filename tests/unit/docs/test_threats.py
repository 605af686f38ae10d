"""docs/threats.md: what is said to hold has a test, and the test is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "threats.md").read_text()
NAMED = re.compile(r"`(?P<file>tests/[\w/]+\.py)?(?:::)?(?P<name>test_\w+)?`")


def names_in(path):
    """The names of the tests in a file."""
    return {node.name for node in ast.parse(path.read_text()).body if getattr(node, "name", "").startswith("test_")}


@pytest.fixture(scope="module")
def there():
    return {path.relative_to(ROOT).as_posix(): names_in(path) for path in (ROOT / "tests").rglob("test_*.py")}


def named(text):
    """File, or None, and name, or None, of each test that a text names."""
    return [(match["file"], match["name"]) for match in NAMED.finditer(text) if match["file"] or match["name"]]


def tables():
    """The rows of each table whose last column has tests."""
    found, inside = [], False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[-1] == "test":
            inside = True
        elif inside and not set(line) <= set("|-"):
            found.append(cells)
    return found


def test_every_test_that_is_named_is_there(there):
    everything = set().union(*there.values())
    missing = [
        (file, name)
        for file, name in named(PAGE)
        if (file is not None and file not in there) or (name is not None and name not in there.get(file, everything))
    ]
    assert missing == []
    assert len(named(PAGE)) > 50


def test_everything_that_looks_like_a_test_is_read_as_one():
    assert PAGE.count("test_") == sum(sum("test_" in (part or "") for part in one) for one in named(PAGE))


def test_every_line_of_what_holds_says_what_and_names_its_test():
    for cells in tables():
        assert len(cells) == 3, cells
        assert all(cells), cells
        assert named(cells[2]), cells
    assert len(tables()) > 40


@pytest.mark.parametrize(
    "who", ["runs the toolkit", "server", "file", "colleague", "thief", "person whose data", "same machine", "built of"]
)
def test_who_may_attack_is_said_first(who):
    assert who in PAGE.partition("\n## ")[0]


def test_each_part_says_what_does_not_hold():
    parts = PAGE.split("\n## ")[1:]
    assert [
        part.splitlines()[0] for part in parts if "oes not hold" not in part and "what they can test" not in part
    ] == []
