"""The tables of docs/performance.md are written by the measurement: each in its place, and nothing else touched."""

import importlib.util
import re
import sys

import pytest

from tests.support.house import ROOT


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    spec = importlib.util.spec_from_file_location("bench_table", ROOT / "bench" / "table.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("harness", None)


PAGE = "# Title\n\n<!-- bench: more -->\n\nRest.\n"


def test_a_table_goes_into_its_place_and_leaves_the_others(table):
    once = table.put(table.put(PAGE, "erase", "first"), "export", "other")
    again = table.put(once, "erase", "second")
    assert "first" in once
    assert again == once.replace("first", "second")
    assert again.startswith("# Title\n\n<!-- bench: erase -->")
    assert again.endswith("<!-- bench: more -->\n\nRest.\n")


def test_a_page_without_a_place_is_refused(table):
    with pytest.raises(ValueError, match="bench: more"):
        table.put("# Title\n", "erase", "text")


def test_a_row_says_what_was_wanted_and_whether_it_was_reached(table):
    rows = [table.Row("a", "1"), table.Row("b", "2", "3", reached=False), table.Row("c", "4", "3", reached=True)]
    assert table.table("A machine", rows).splitlines()[4:] == [
        "| a | 1 |  |  |",
        "| b | 2 | 3 | **no** |",
        "| c | 4 | 3 | yes |",
    ]


def test_the_machine_is_named(table):
    assert re.search(r", \d+ cores, .+, Python 3\.\d+\.\d+; .+; load before it \d", table.machine())


def test_the_page_has_a_place_for_every_table_and_none_that_is_open():
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    begun = re.findall(r"<!-- bench: (\w+) -->", page)
    assert sorted(begun) == sorted([*re.findall(r"<!-- /bench: (\w+) -->", page), "more"])
    assert len(set(begun)) == len(begun)
