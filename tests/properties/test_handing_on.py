"""What came of a run, handed on as a file: every id is in it as it was in the list, in each format."""

import re
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from privacy_toolkit.app.requests import Answers
from privacy_toolkit.app.runs import outcomes, read_ids
from privacy_toolkit.core.model import Outcome
from privacy_toolkit.inputs.options import InputOptions, judge
from privacy_toolkit.inputs.scan import read_input
from privacy_toolkit.journal.records import SentAnswer, counted
from privacy_toolkit.journal.state import open_state
from privacy_toolkit.reporting.register import CalendarDay, calendar
from privacy_toolkit.reporting.rows import write_table
from tests.properties.test_files_read_back import HOSTILE
from tests.support import reported_runs as runs

RUN = "20261123-080000-erase-0a1b2c3d4"
IDS = st.lists(HOSTILE.filter(lambda id_: judge(id_)[1] is None), min_size=1, max_size=4, unique=True)
#: What the library that writes workbooks would take for its own.
MARKUP = ["<r><t>x</t></r>", "<r></r>", "_x0041_x0042_x0043_", "<r>_x0041_x0042_</r>", "_x0041__x0042_"]
_NAMESPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def cells(path):
    """The texts of the first sheet by row and column, read by the format's own description (ECMA-376, part 1)."""
    with zipfile.ZipFile(path) as book:
        shared = [
            "".join(unescaped(text.text or "") for text in item.iter(f"{_NAMESPACE}t"))
            for item in ET.fromstring(book.read("xl/sharedStrings.xml")).iter(f"{_NAMESPACE}si")  # noqa: S314 - ours
        ]
        sheet = ET.fromstring(book.read("xl/worksheets/sheet1.xml"))  # noqa: S314 - ours
    assert not list(sheet.iter(f"{_NAMESPACE}f")), "a formula"
    found = {}
    for cell in sheet.iter(f"{_NAMESPACE}c"):
        column, row = re.fullmatch(r"([A-Z]+)(\d+)", cell.get("r")).groups()
        value = cell.find(f"{_NAMESPACE}v").text
        found[int(row), column] = shared[int(value)] if cell.get("t") == "s" else value
    return found


def unescaped(text):
    """A text in which characters that XML can't hold are written by their number (``ST_Xstring``)."""
    return re.sub(r"_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), text)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx"])
@settings(max_examples=40, deadline=None)
@given(ids=IDS)
@example(ids=["_x0041_", "\ufffe", "\uffff", "_x005F_x0041_", "=1+1", "http://example.org/", "1e5", "{=1}", *MARKUP])
def test_ids_are_handed_on_as_they_are(suffix, ids):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = open_state(folder / "state")
        runs.write_run(folder / "state" / "runs" / RUN, [runs.told(id_, Outcome.ERASED) for id_ in ids])
        for confirmed, column in ((False, "B"), (True, "A")):
            place = folder / f"{confirmed}{suffix}"
            assert write_table(place, outcomes(state, RUN, confirmed=confirmed)) == len(ids)
            if suffix == ".xlsx":
                found = cells(place)
                assert [found[row, column] for row in range(2, len(ids) + 2)] == ids
            else:
                with read_input(str(place), InputOptions(), spool_folder=folder) as scan:
                    assert [row[1] for page in scan.subjects() for row in page] == ids
                    assert scan.summary.rejected == 0


@given(ids=IDS)
@example(ids=["\ufeff"])
def test_a_file_of_ids_is_read_as_it_is(ids):
    # The first mark of a file is the file's: an id that begins with one needs another before it.
    encoding = "utf-8-sig" if ids[0].startswith("\ufeff") else "utf-8"
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "ids.txt"
        place.write_bytes("".join(f"{id_}\n" for id_ in ids).encode(encoding))
        assert read_ids(place) == ids


@given(title=st.text(st.characters(exclude_categories=["Cs"]), max_size=200), text=st.text(max_size=200))
def test_a_calendar_is_whole_lines_of_75_bytes_at_most(title, text):
    content = calendar([CalendarDay("key", "2026-12-31", title, text)], datetime.fromtimestamp(runs.START / 1e6, UTC))
    lines = content.split(b"\r\n")
    assert max(map(len, lines)) <= 75
    assert all(line.decode() is not None for line in lines)
    assert b"\n" not in content.replace(b"\r\n", b"")
    unfolded = content.replace(b"\r\n ", b"").split(b"\r\n")
    assert [line for line in unfolded if line.startswith((b"BEGIN:", b"END:"))] == [
        b"BEGIN:VCALENDAR",
        b"BEGIN:VEVENT",
        b"END:VEVENT",
        b"END:VCALENDAR",
    ]


@settings(max_examples=30, deadline=None)
@given(
    sent=st.dictionaries(
        st.text("0123456789abcdef", min_size=64, max_size=64),
        st.tuples(st.dates(), st.sampled_from(Outcome)),
        max_size=5,
    )
)
def test_what_was_recorded_as_sent_is_read_again(sent):
    with tempfile.TemporaryDirectory() as name:
        state = open_state(Path(name) / "state")
        Answers(state, RUN).record(
            {who: SentAnswer(day.isoformat(), outcome.value, day.year) for who, (day, outcome) in sent.items()}
        )
        again = Answers(state, RUN)
        assert all(again.of(who, outcome) == day.isoformat() for who, (day, outcome) in sent.items())
        state.answers.change(RUN, counted)
        left = Answers(state, RUN)
        assert all(left.of(who, outcome) is None for who, (_, outcome) in sent.items())
        assert sum(numbers.total() for numbers in left.left.values()) == len(sent)
