"""What holds for every input, however odd its texts and wherever its pages and chunks end."""

import csv
import io
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from privacy_toolkit.inputs.csvfile import CsvReader
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import Status, read_input
from privacy_toolkit.inputs.validation import WHITE_SPACE, all_fine, judge

ODD = st.sampled_from([*WHITE_SPACE, *".,;\"'\x00\x1c\x7f\u200b\ufeff\U0001f600aA", "\r\n", "..", "x" * 999])
#: Mostly ids as there are, often repeated, and everything that could be taken for something else.
TEXTS = st.one_of(
    st.sampled_from(["a", "b", "00123", "1e5", "NA"]),
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.lists(ODD, max_size=4).map("".join),
)
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
