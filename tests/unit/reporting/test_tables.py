import json

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_toolkit.core.model import HeldBefore, Job, Outcome, Purpose, Reason, Subject
from privacy_toolkit.journal.records import ExchangeRow, Observed, RequestRow, StateRow
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.journal.windows import Window, Windows
from privacy_toolkit.reporting.parquet import SCHEMA, cases_of, lines_of, table_of
from privacy_toolkit.reporting.rows import Shown, encode_row, make_case, needs_attention, row_of
from tests.support import reported_runs as runs

SECRET = b"k" * 32
LAST = 253_402_300_799_999_999  # microseconds; the end of the year 9999

texts = st.none() | st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(['"', "\\", "\n", "\x7f", ""])
times = st.none() | st.integers(0, LAST)
days = st.none() | st.dates().map(lambda day: day.isoformat())
numbers = st.none() | st.integers(0, 2**40)
exchanges = st.lists(
    st.tuples(
        st.sampled_from([purpose.value for purpose in Purpose]),
        times,
        times,
        st.none() | st.integers(0, 999),
        st.none() | st.sampled_from([reason.value for reason in Reason]),
    ),
    max_size=5,
)


@st.composite
def subjects(draw: st.DrawFn, seq: int) -> Observed:
    """Whatever a journal could hold of a subject, likely or not."""
    state = StateRow(
        seq,
        draw(st.sampled_from([outcome.value for outcome in Outcome])),
        draw(st.none() | st.sampled_from([reason.value for reason in Reason])),
        draw(st.none() | st.just("confirmed")),
        draw(st.none() | st.sampled_from([held.value for held in HeldBefore])),
        *(draw(st.integers(0, 9)), draw(numbers), draw(numbers), draw(texts), draw(days), draw(times)),
    )
    walk = [
        ExchangeRow(seq, n, purpose, "some_operation", intent, ended, None, status, reason, None)
        for n, (purpose, intent, ended, status, reason) in enumerate(draw(exchanges), 1)
    ]
    request = draw(st.none() | st.builds(RequestRow, st.just(seq), days, days, texts, texts))
    return Observed(Subject(seq, seq + 1, draw(st.text(st.characters(codec="utf-8")))), state, walk, request)


@given(st.integers(1, 6).flatmap(lambda size: st.tuples(*(subjects(seq) for seq in range(1, size + 1)))))
def test_lines_of_a_table_are_the_lines_of_its_rows(observed):
    assert lines_of(table_of(observed, SECRET)) == b"".join(encode_row(row_of(one, SECRET)) for one in observed)


@given(
    st.integers(1, 6).flatmap(lambda size: st.tuples(*(subjects(seq) for seq in range(1, size + 1)))),
    st.dictionaries(st.integers(1, 6), st.tuples(st.integers(0, 4_000_000_000), st.integers(1, 100_000))),
    st.booleans(),
)
def test_coarse_times_are_the_same_in_both_ways(observed, given_windows, tickets):
    windows = Windows(6)
    for seq, (second, span) in given_windows.items():
        windows.put(Window(second * 1_000_000, span), [seq])
    shown = Shown(windows, tickets=tickets)
    rows = [row_of(one, SECRET, shown) for one in observed]
    assert lines_of(table_of(observed, SECRET, shown)) == b"".join(map(encode_row, rows))
    assert tickets or all(row.ticket is None for row in rows)


@pytest.mark.parametrize("text", ["a\x7fb", "a\x7fb✓", "\x7f\x1f\n"])
def test_delete_is_escaped_in_both_ways(mixed, text):
    """U+007F is ASCII, but nothing to be printed: one encoder of JSON leaves it as it is, the other does not."""
    one = next(iter(mixed.rows()))._replace(request=RequestRow(1, None, None, text, text))
    line = encode_row(row_of(one, SECRET))
    assert lines_of(table_of([one], SECRET)) == line
    assert rb"\u007f" in line
    assert b"\x7f" not in line
    assert line.decode("ascii") == json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")) + "\n"


def test_it_holds_every_field_of_a_row(mixed):
    table = table_of(list(mixed.rows()), SECRET)
    assert table.schema == SCHEMA
    lines = lines_of(table).splitlines()
    assert len(lines) == mixed.size
    assert [json.loads(line)["subject"] for line in lines] == table.column("subject").to_pylist()


def test_lines_of_a_part_are_that_part_of_the_lines(mixed):
    table = table_of(list(mixed.rows()), SECRET)
    lines = lines_of(table).splitlines(keepends=True)
    assert lines_of(table.slice(7, 20)) == b"".join(lines[7:27])
    pieces = pa.concat_tables([table.slice(0, 9), table.slice(9)])
    assert lines_of(pieces) == b"".join(lines)
    assert lines_of(table.slice(3, 0)) == b""


def test_sends_of_a_subject_stay_its_own(tmp_path, mixed):
    rows = [json.loads(line) for line in lines_of(table_of(list(mixed.rows()), SECRET)).splitlines()]
    sent = {row["outcome"]: len(row["proof"]["sends"]) for row in rows}
    assert sent["pending"] == sent["on_hold"] == sent["nothing_held"] == 0
    assert sent["erased"] == sent["failed"] == 1


def test_cases_are_those_of_the_rows(mixed):
    observed = list(mixed.rows())
    rows = [row_of(one, SECRET) for one in observed]
    assert cases_of(table_of(observed, SECRET), Job.ERASE) == [
        make_case(row.subject, row.outcome, row.reason, row.attempts, row.due_on, Job.ERASE)
        for row in rows
        if needs_attention(row)
    ]


def test_case_has_the_due_date(tmp_path):
    asked = runs.Asked("2026-10-31", "2026-11-30")
    folder = runs.write_run(tmp_path / "r", [runs.told("a", Outcome.FAILED, request=asked)])
    with RunJournal(folder) as journal:
        (case,) = cases_of(table_of(list(journal.rows()), SECRET), Job.ERASE)
    assert case.due_on == "2026-11-30"


@pytest.mark.parametrize("day", ["2026-02-30", "soon", "20261231x"])
def test_date_that_is_none_gives_no_row(mixed, day):
    one = next(iter(mixed.rows()))
    with pytest.raises(pa.ArrowInvalid):
        table_of([one._replace(request=RequestRow(1, day, None, None, None))], SECRET)


def test_later_reads_replace_earlier_ones(tmp_path):
    told = runs.told("a", Outcome.RESIDUAL)
    later = runs.ExchangeRecord(Purpose.READ_AFTER, runs.READ, None, runs.START + 99_000_000, 5, 404)
    folder = runs.write_run(tmp_path / "r", [msgspec.structs.replace(told, exchanges=(*told.exchanges, later))])
    with RunJournal(folder) as journal:
        table = table_of(list(journal.rows()), SECRET)
    assert table.column("read_after_status").to_pylist() == [404]
    assert table.column("read_before_status").to_pylist() == [200]
