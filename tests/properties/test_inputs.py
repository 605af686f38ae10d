"""What holds for every input, however odd its texts and wherever its pages and chunks end."""

import csv
import io
from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from privacy_toolkit.core.model import SubjectRequest
from privacy_toolkit.inputs.csv import CsvReader
from privacy_toolkit.inputs.options import OPTIONAL_COLUMNS, WHITE_SPACE, InputOptions, all_fine, judge
from privacy_toolkit.inputs.pairs import understand
from privacy_toolkit.inputs.scan import Status, read_input

ODD = st.sampled_from([*WHITE_SPACE, *".,;\"'\x00\x1c\x7f\u200b\ufeff\U0001f600aA", "\r\n", "..", "x" * 999])
#: Mostly ids as there are, often repeated, and everything that could be taken for something else.
TEXTS = st.one_of(
    st.sampled_from(["a", "b", "00123", "1e5", "NA"]),
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.lists(ODD, max_size=4).map("".join),
)
#: What the optional columns may hold: much that is understood, and some that is not.
DAYS = st.dates().map(str) | st.sampled_from(["2026-11-01", "2026-11-02", "2026-11-02T10:00Z", "", " ", "2.11.2026"])
TICKETS = st.sampled_from(["DSR-1", "DSR-2", "", "x y", "00123", "a@b"])
GROUNDS = st.sampled_from(["17(1)(b)", "consent", "", "x y"])
#: Rows of an id and what is said next to it, in the order of ``OPTIONAL_COLUMNS``; few ids, so that many are repeated.
ASKED = st.lists(st.tuples(st.sampled_from(["a", "b", "00123", "", "c d"]), DAYS, DAYS, TICKETS, GROUNDS), max_size=25)
LISTS = st.lists(TEXTS, max_size=40)
SIZES = st.integers(1, 7)
#: Delimiter, line end, quoting. The writer quotes a carriage return of its own accord only if it stands in the end.
STYLES = st.tuples(
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.just(csv.QUOTE_ALL),
) | st.just((",", "\r\n", csv.QUOTE_MINIMAL))


def records(path, **options):
    """All records, after checking that the sums of the summary are theirs."""
    page_rows = options.pop("page_rows", 1000)
    with read_input(str(path), InputOptions(**options), spool_folder=path.parent, page_rows=page_rows) as scan:
        found = list(scan.records())
        subjects = [pair for page in scan.subjects() for pair in page]
        summary = scan.summary
    count = Counter(record.status for record in found)
    assert summary.read == len(found) == summary.rejected + summary.duplicates + summary.subjects
    assert (summary.rejected, summary.duplicates) == (count[Status.REJECTED], count[Status.DUPLICATE])
    assert summary.rejected_by_reason == Counter(record.reason.value for record in found if record.reason)
    assert subjects == [(record.row, record.id) for record in found if record.status is Status.ACCEPTED]
    return found


def expected(texts, *, strip=False):
    """The plain way to say what becomes of each text: one at a time, with a set of all ids."""
    seen = set()
    for text in texts:
        id_, reason = judge(text, strip=strip)
        if reason:
            yield id_, Status.REJECTED, reason
        else:
            yield id_, Status.DUPLICATE if id_ in seen else Status.ACCEPTED, None
            seen.add(id_)


def as_csv(rows, delimiter=",", end="\r\n", quoting=csv.QUOTE_MINIMAL):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    return text.getvalue()


@given(LISTS, STYLES, st.booleans(), SIZES)
def test_csv_comes_back_byte_for_byte(tmp_path_factory, texts, style, strip, page_rows):
    path = tmp_path_factory.mktemp("csv") / "ids.csv"
    rows = [["note", "id"], *(["", text] for text in texts)]
    path.write_bytes(as_csv(rows, *style).encode())
    found = records(path, delimiter=style[0], strip=strip, page_rows=page_rows)
    assert [(record.id, record.status, record.reason) for record in found] == list(expected(texts, strip=strip))


@given(st.lists(st.none() | TEXTS, max_size=40), st.booleans(), SIZES, SIZES)
def test_parquet_comes_back_byte_for_byte(tmp_path_factory, texts, strip, page_rows, group):
    path = tmp_path_factory.mktemp("parquet") / "ids.parquet"
    pq.write_table(pa.table({"id": pa.array(texts, pa.string())}), path, row_group_size=group)
    found = records(path, strip=strip, page_rows=page_rows)
    assert [(record.id, record.status, record.reason) for record in found] == list(expected(texts, strip=strip))
    assert [record.row for record in found] == list(range(1, len(texts) + 1))


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=20), SIZES, st.sampled_from(["utf-8", "utf-16"]))
def test_lines_are_those_on_which_records_start_wherever_chunks_end(rows, size, codec):
    rows = [["a", "b"], *rows]
    starts, line = [], 1
    for row in rows:
        starts.append(line)
        line += len(io.StringIO(as_csv([row]), newline="").readlines())
    data = as_csv(rows).encode(codec)
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    reader = CsvReader(chunks, "x", codec, ",")
    assert [(1, reader.columns), *reader.records()] == list(zip(starts, rows, strict=True))


@given(st.lists(st.sampled_from(["a", "b", "c", "", ".."]), max_size=30), st.integers(1, 4), SIZES)
def test_a_limit_reads_a_beginning_with_so_many_subjects(tmp_path_factory, texts, limit, page_rows):
    path = tmp_path_factory.mktemp("limit") / "ids.csv"
    path.write_text(as_csv([["id"], *([text] for text in texts)]), encoding="utf-8")
    whole = records(path)
    found = records(path, limit=limit, page_rows=page_rows)
    assert found == whole[: len(found)]
    subjects = sum(record.status is Status.ACCEPTED for record in found)
    assert subjects == min(limit, sum(record.status is Status.ACCEPTED for record in whole))
    assert len(found) == len(whole) or found[-1].status is Status.ACCEPTED


@given(st.lists(st.none() | TEXTS | st.text(st.characters(), max_size=3), max_size=5))
def test_a_page_taken_for_fine_is_fine(texts):
    if all_fine(texts):
        assert [judge(text) for text in texts] == [(text, None) for text in texts]


@given(st.text(st.characters(), max_size=6) | TEXTS)
def test_what_is_taken_can_be_sent_and_is_what_was_there(text):
    id_, reason = judge(text)
    assert id_ == text
    if reason is None:
        text.encode("utf-8")
        assert text.strip(WHITE_SPACE) == text not in {"", ".", ".."}
    else:
        assert judge(text) == (text, reason)


def told(rows):
    """The plain way to say what is said of each subject: all rows of an id at once, the earliest one chosen."""
    by_id = {}
    for id_, *texts in rows:
        said, faults = understand(dict(zip(OPTIONAL_COLUMNS, ([text] for text in texts), strict=True)), [id_])
        if not faults and judge(id_)[1] is None:
            by_id.setdefault(id_, []).append(said.at(0))
    for seq, words in enumerate(by_id.values(), 1):
        requested, extended, ticket, ground = min(words, key=lambda row: row[0] or "~")  # of equals the first
        if requested or extended or ticket or ground:
            days = (text and date.fromisoformat(text) for text in (requested, extended))
            yield seq, SubjectRequest(*days, ticket, ground)


@given(ASKED, SIZES)
def test_of_every_subject_the_earliest_row_is_told(tmp_path_factory, rows, page_rows):
    path = tmp_path_factory.mktemp("asked") / "ids.csv"
    path.write_text(as_csv([["id", *OPTIONAL_COLUMNS], *rows], quoting=csv.QUOTE_ALL), encoding="utf-8")
    records(path, page_rows=page_rows)
    with read_input(str(path), spool_folder=path.parent, page_rows=page_rows) as scan:
        assert list(scan.requests()) == list(told(rows))


@given(ASKED, SIZES, st.permutations(range(5)))
def test_parquet_tells_what_csv_tells(tmp_path_factory, rows, group, order):
    folder = tmp_path_factory.mktemp("both")
    columns = dict(zip(["id", *OPTIONAL_COLUMNS], [*zip(*rows, strict=True)] or [()] * 5, strict=True))
    names = [[*columns][n] for n in order]
    table = pa.table({name: pa.array(columns[name], pa.string()) for name in names})
    pq.write_table(table, folder / "ids.parquet", row_group_size=group)
    lines = [names, *zip(*(columns[name] for name in names), strict=True)]
    (folder / "ids.csv").write_text(as_csv(lines, quoting=csv.QUOTE_ALL), encoding="utf-8")
    with (
        read_input(str(folder / "ids.csv"), spool_folder=folder) as plain,
        read_input(str(folder / "ids.parquet"), spool_folder=folder) as parquet,
    ):
        assert list(plain.requests()) == list(parquet.requests())
        assert plain.summary.rejected_by_reason == parquet.summary.rejected_by_reason
        assert plain.summary.columns == parquet.summary.columns == OPTIONAL_COLUMNS


OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(timezones=st.none() | st.just(UTC) | OFFSETS), st.sampled_from(["T", " "]))
def test_every_time_that_is_written_is_its_own_day(moment, mark):
    said, faults = understand({"requested_at": [moment.isoformat(mark)]}, ["a"])
    assert not faults
    assert said.requested_on == [moment.date().isoformat()]


@given(st.text(max_size=30) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T 0-9:.,Z+-]{0,20}", fullmatch=True))
def test_no_text_is_taken_for_another_day_than_the_one_it_begins_with(text):
    said, faults = understand({"requested_at": [text]}, ["a"])
    if said.requested_on == [None]:
        assert bool(faults) == bool(text.strip(WHITE_SPACE))
    else:
        assert said.requested_on == [text[:10]]
        assert datetime.strptime(text[:10], "%Y-%m-%d").replace(tzinfo=UTC).date().isoformat() == text[:10]


@given(TEXTS.filter(lambda text: len(text) >= 4), st.text("ABab01-/", max_size=5), st.text("ABab01-/", max_size=5))
def test_nothing_that_is_taken_holds_the_id(id_, before, after):
    for name in ("ticket", "ground"):
        for core in (id_, id_.upper(), id_.lower()):
            said, faults = understand({name: [f"{before}{core}{after}"]}, [id_])
            assert faults or not any(said.at(0))
