"""JSON Lines: which line is which record, what is an id, and what can't be read."""

import gzip
import hashlib
import json

import pytest
import zstandard

from privacy_toolkit.inputs import csv as jsonlines


def test_an_id_is_text_or_a_whole_number(put, read):
    path = put('{"id": "00123"}\n{"id": 7}\n{"id": "1e5"}\n{"id": -1}\n', "ids.jsonl")
    assert read(path).subjects == [(1, "00123"), (2, "7"), (3, "1e5"), (4, "-1")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("null", "null"),
        ("true", "null"),
        ("1.5", "null"),
        ("[1]", "null"),
        ('{"a": 1}', "null"),
        ('""', "blank"),
        ('"a\\u0000b"', "control_character"),
        ('".."', "dot_segment"),
        ('" a"', "surrounding_whitespace"),
    ],
)
def test_what_is_no_id_is_refused_by_row(put, read, value, reason):
    found = read(put(f'{{"id": "a"}}\n{{"id": {value}}}\n{{"other": "x"}}\n', "ids.ndjson"))
    assert found.subjects == [(1, "a")]
    assert found.reasons == {2: reason, 3: "null"}


def test_lines_are_counted_as_they_stand_in_the_file(put, read):
    found = read(put('\ufeff{"id": "a"}\r\n\n   \n{"id": "b"}\n{"id": "a"}', "ids.jsonl"))
    assert found.subjects == [(1, "a"), (4, "b")]
    assert found.summary.duplicates == 1


def test_escapes_and_line_breaks_inside_a_text_are_no_ends_of_lines(put, read):
    found = read(put('{"id": "\\u00fc\\ud83d\\ude00", "note": "a\\nb\\u2028c"}\n{"id": "b\u2028"}\n', "ids.jsonl"))
    assert found.subjects == [(1, "\u00fc\U0001f600")]
    assert found.reasons == {2: "surrounding_whitespace"}


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_records_are_the_same_wherever_chunks_end(put, read, monkeypatch, chunk):
    path = put("".join(json.dumps({"id": f"\u00fc{n}"}, ensure_ascii=False) + "\n" for n in range(30)), "ids.jsonl")
    monkeypatch.setattr(jsonlines, "CHUNK", chunk)
    assert read(path, page_rows=4).subjects == [(n + 1, f"\u00fc{n}") for n in range(30)]


@pytest.mark.parametrize("usual", ["customer_id", "profile_id", "id"])
def test_the_first_record_says_where_the_ids_are(put, read, usual):
    found = read(put(json.dumps({"x": 1, usual: "a"}) + "\n", "ids.jsonl"))
    assert (found.summary.id_column, found.ids) == (usual, ["a"])


def test_the_operator_says_where_the_ids_are(put, read):
    found = read(put('{"id": "a", "mail": "b"}\n', "ids.jsonl"), id_column="mail")
    assert found.ids == ["b"]


def test_requests_are_understood_as_in_a_csv(put, read):
    found = read(put('{"id": "a", "requested_at": "2026-11-01", "ticket": 7}\n{"id": "b"}\n', "ids.jsonl"))
    ((seq, request),) = found.requests
    assert (seq, str(request.requested_on), request.ticket) == (1, "2026-11-01", "7")


def test_an_empty_file_has_no_subjects(put, read):
    assert read(put("", "ids.jsonl")).summary.read == 0


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)])
def test_compression_is_taken_off(put, read, suffix, pack):
    data = pack(b'{"id": "a"}\n')
    found = read(put(data, f"ids.jsonl{suffix}"))
    assert (found.ids, found.summary.format) == (["a"], f"jsonl{suffix}")
    assert (found.summary.sha256, found.summary.size) == (hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.parametrize(
    "line",
    [
        '["a"]',
        '"a"',
        "7",
        "null",
        "{",
        '{"id": NaN}',
        '{"id": "a"} {"id": "b"}',
        "id,note",
        '{"a":' * 5000,
        '"\\ud800"',
    ],
)
def test_a_line_that_is_no_object_is_an_error_that_names_it(put, refuse, line):
    error = refuse(put(f'{{"id": "a"}}\n\n{line}\n', "ids.jsonl"))
    assert "ids.jsonl, line 3 is no JSON object" in error.message


def test_bytes_that_are_no_utf_8_are_an_error(put, refuse):
    assert "line 1 is no JSON object" in refuse(put(b'{"id": "\xff"}\n', "ids.jsonl")).message


def test_a_line_without_end_is_refused_before_it_fills_the_memory(put, refuse, monkeypatch):
    monkeypatch.setattr(jsonlines, "LONGEST_LINE", 1000)
    monkeypatch.setattr(jsonlines, "CHUNK", 100)
    error = refuse(put('{"id": "a"}\n' + "x" * 5000, "ids.jsonl"))
    assert "line 2 is too long" in error.message


def test_a_damaged_compression_is_an_error(put, refuse):
    assert "cut off" in refuse(put(gzip.compress(b'{"id": "a"}\n')[:-9], "ids.jsonl.gz")).message
