"""The house rules hold: size, imports, names and words of the whole package."""

import ast
import re

import pytest

from tests.support import house, module_table
from tests.support.house import Module


@pytest.fixture(scope="module")
def package():
    return house.read_modules()


def module(text, path="engine/a.py", name="privacy_toolkit.engine.a"):
    return Module(name, path, len(text.splitlines()), ast.parse(text))


def test_every_figure_is_within_its_limit(package):
    figures = house.measure(package, house.banned_words())
    assert {figure.what: (figure.value, figure.limit, figure.where) for figure in figures if not figure.held} == {}


def test_a_module_without_code_has_a_docstring_at_most():
    assert [module(text).has_code for text in ("", '"""Words."""\n', '"""Words."""\nA = 1\n')] == [False, False, True]


def test_an_import_edge_is_a_pair_of_modules_however_often_it_is_imported():
    known = module("", "core/b.py", "privacy_toolkit.core.b")
    text = "import os\nfrom privacy_toolkit.core import b\nfrom privacy_toolkit.core.b import One, Two\n"
    text += "def late():\n    from privacy_toolkit.core.b import Three\n"
    assert house.import_edges([module(text), known]) == {("privacy_toolkit.engine.a", "privacy_toolkit.core.b")}


def test_a_class_name_that_exists_twice_is_found():
    twice = [module("class Page: ..."), module("def f():\n    class Page: ...\n", "http/c.py")]
    assert house.doubled_classes(twice) == {"Page": ["engine/a.py", "http/c.py"]}


def test_libraries_are_found_where_they_may_not_be_imported():
    text = "import sqlite3\nfrom click import echo\n"
    assert house.misplaced_imports([module(text)]) == ["engine/a.py imports click", "engine/a.py imports sqlite3"]
    assert (
        house.misplaced_imports([module("import sqlite3", "journal/sqlite/x.py"), module("import rich", "cli/x.py")])
        == []
    )


def test_a_job_is_named_by_its_member_and_not_by_its_type():
    text = "def f(job: Job): return job is Job.ERASE or Job(job) or Job.of"
    assert house.named_jobs([module(text), module("Job.ERASE", "jobs/erase.py")]) == {"engine/a.py": 1}


@pytest.mark.parametrize(
    "text",
    [
        "settings.state / 'x'",
        "self._settings.state.exists()",
        "place = duty.settings.state",
        "Path(settings.state)",
        "folder / 'packs' / run_id",
        "from privacy_toolkit.journal.state import open_state\nopen_state(settings.state.parent)",
    ],
)
def test_a_path_made_from_the_state_folder_is_found_where_it_may_not_be(text):
    last = len(text.splitlines())
    assert house.state_paths([module(text)]) == [f"engine/a.py:{last}"]
    for path in ("journal/sqlite/x.py", "journal/state.py", "config/settings.py"):
        assert house.state_paths([module(text, path)]) == []


def test_a_state_may_be_opened_and_shown_by_its_address():
    text = "from privacy_toolkit.journal.state import open_state\n"
    text += "open_state(settings.state, settings.state_key)\nsay(f'in {settings.state}')\nsubject.state.outcome\n"
    assert house.state_paths([module(text)]) == []


@pytest.mark.parametrize("text", ["from pathlib import Path\n", "import pathlib\n", "def f() -> Path: ..."])
def test_a_place_in_the_interface_of_the_journal_is_found(text):
    assert house.state_paths([module(text, "journal/store.py")]) != []
    assert house.state_paths([module(text, "journal/memory/state.py")]) != []
    assert house.state_paths([module(text, "journal/sqlite/run.py")]) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It was dealt a new one.", ["dealt"]),
        ("open_sittings, NewSitting", ["sittings", "Sitting"]),
        ("Mended and mending, recommended amendments", ["Mended", "mending"]),
        ("besides, ideally, ordeal, a new, visiting", []),
        ('FROM sittings, "dealt.sqlite", raw["sittings"]', []),
    ],
)
def test_retired_words_are_found_as_words_and_in_names(text, found):
    assert house.banned_in(text) == found


def test_every_exception_is_still_needed(root):
    assert [place for place in house.OLD_FILES if not (root / place).exists()] == []
    whole = "\n".join(path.read_text("utf-8") for path in house.texts() if path.name != "house.py")
    assert [literal for literal in house.OLD_LITERALS if not house.re.search(literal, whole, house.re.M)] == []


def test_the_table_of_modules_is_that_of_today(package):
    """``make modules`` writes it again."""
    (shown,) = module_table.TABLE.findall(module_table.PAGE.read_text("utf-8"))
    assert shown == module_table.table(package)


def test_every_module_says_what_it_is_for(package):
    assert [one.path for one in package if one.has_code and not module_table.one_line(one)] == []


def test_the_glossary_names_places_that_exist(root):
    lines = (root / "docs" / "glossary.md").read_text("utf-8").splitlines()
    cells = [line.split("|")[-2] for line in lines if line.startswith("|")]
    places = [place for cell in cells for place in re.findall(r"`([\w/.]+)`", cell)]
    assert len(places) > 40
    assert [place for place in places if not (root / "privacy_toolkit" / place).exists()] == []
