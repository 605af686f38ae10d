"""CSV: what is a record, on which line it starts, and what is no CSV."""

import csv

import pytest

from privacy_toolkit.inputs.lists import read_exclusions
from privacy_toolkit.inputs.options import InputOptions

BIG = csv.field_size_limit()


def test_ids_are_text_byte_for_byte(put, read):
    ids = ["00123", "1e5", "NA", "null", "True", "3.10", "0x1F", "Zoe\u0308", 'a"b', "x;y", "'", "\U0001f600"]
    done = read(put("customer_id\n" + "\n".join(ids) + "\n"))
    assert done.ids == ids
    assert [row for row, _ in done.subjects] == list(range(2, len(ids) + 2))


def test_the_column_may_stand_anywhere(put, read):
    done = read(put("requested_at,customer_id,note\n2026-11-01,a,\n,b,x\n"))
    assert (done.ids, done.summary.id_column) == (["a", "b"], "customer_id")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_all_line_ends_are_read_with_or_without_the_last(put, read, end, last):
    done = read(put(end.join(["id", "a", "b"]) + end * last))
    assert done.subjects == [(2, "a"), (3, "b")]


def test_line_ends_may_be_mixed(put, read):
    assert read(put("id\r\na\nb\rc")).subjects == [(2, "a"), (3, "b"), (4, "c")]


def test_rows_are_the_lines_on_which_records_start(put, read):
    done = read(put('note,id\n"one\ntwo\r\nthree",a\n,b\n"x\ry",c\n\n,d\n'))
    assert done.subjects == [(2, "a"), (5, "b"), (6, "c"), (9, "d")]
    assert done.reasons == {8: "blank"}


def test_a_header_may_have_several_lines(put, read):
    assert read(put('"a\nb",id\nx,1\n')).subjects == [(3, "1")]


def test_blank_lines_count_as_rows_that_are_blank(put, read):
    one = read(put("id\na\n\n   \n\nb\n\n"))
    assert one.reasons == {3: "blank", 4: "blank", 5: "blank", 7: "blank"}
    two = read(put("id,x\na,\n\nb,\n"))
    assert (two.ids, two.reasons) == (["a", "b"], {3: "blank"})


def test_line_breaks_inside_an_id_are_refused_and_do_not_shift_what_follows(put, read):
    done = read(put('id,x\n"a\nb",1\nc,2\n'))
    assert done.reasons == {2: "control_character"}
    assert done.subjects == [(4, "c")]


def test_a_nul_is_an_id_refused_and_not_the_end(put, read):
    done = read(put("id\na\0b\nc\n"))
    assert (done.reasons, done.ids) == ({2: "control_character"}, ["c"])


def test_an_id_may_be_far_too_long_without_being_the_end(put, read):
    done = read(put(f"id\n{'x' * 1001}\n{'x' * BIG}\nb\n"))
    assert (done.reasons, done.ids) == ({2: "too_long", 3: "too_long"}, ["b"])


def test_a_header_alone_is_an_input_without_rows(put, read):
    summary = read(put("id,x")).summary
    assert (summary.read, summary.subjects, summary.rejected_by_reason) == (0, 0, {})


def test_a_record_with_too_few_values_may_be_where_the_file_was_cut_off(put, refuse):
    assert (
        refuse(put("id,x\na,1\nb")).hint == "A value is missing, or the file was cut off here: save or send it again."
    )
    assert refuse(put("id,x\na,1,2\n")).hint == "Put quotes around a value that holds the delimiter."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty."),
        ("\ufeff", "is empty."),
        ("\nid\na\n", ", line 1 is blank."),
        ("id,x\na,\nb\n", ", line 3: the header has 2 fields, this record 1."),
        ("id,x\na,\nb,,\n", ", line 3: the header has 2 fields, this record 3."),
        ('x,id\n"1\n2",a\n   \n', ", line 4: the header has 2 fields, this record 1."),
        ("id,x,id\na,,b\n", ", line 1: columns 1 and 3 have the same name."),
        ('id\na\n"b\nc\n', ", line 3: a quote is opened in the record that starts here, and never closed."),
        ('id\n"a\nb"c\nd\n', ", line 2: the quotes in the record that starts here do not match."),
        ('"id\na\n', ", line 1: a quote is opened in the record that starts here, and never closed."),
        (
            f'id\na\n"b\n{"c" * BIG}',
            f", line 3: a value of the record that starts here is longer than {BIG:,} characters",
        ),
        (f"id\na\n{'x' * (1 << 21)}", ", line 3 is longer than 1,048,576 characters."),
        ("name,mail\na,b\n", ", line 1: there is none of the columns"),
    ],
)
def test_what_is_no_csv_is_an_error_that_names_the_line(put, refuse, content, message):
    found = refuse(put(content)).message
    assert found.startswith("requests.csv")
    assert message.strip(",. ") in found


def test_what_can_not_be_decoded_is_an_error_that_names_the_line(put, refuse):
    data = b"id,x\n" + b'a,"1\n2"\n' * 50_000 + b"b,caf\xe9\n"
    assert refuse(put(data)).message == "requests.csv, line 100002 is not utf-8."
    assert refuse(put(b"id\xe9\n")).message == "requests.csv, line 1 is not utf-8."


def test_another_encoding_is_taken_when_it_is_named(put, read, refuse):
    path = put("id\ncaf\u00e9\n".encode("cp1252"))
    assert read(path, encoding="cp1252").ids == ["caf\u00e9"]
    path = put("id\ncaf\u00e9\n".encode("utf-16"))
    assert read(path, encoding="utf-16").ids == ["caf\u00e9"]
    assert "utf-16" in refuse(path).hint


def test_another_delimiter_is_taken_when_it_is_named_and_never_guessed(put, read, refuse):
    path = put("id;x\na,b;1\n")
    assert read(path, delimiter=";").ids == ["a,b"]
    assert "--delimiter ';'" in refuse(path).hint
    assert read(put("id\tx\na,b\t1\n", "requests.tsv")).ids == ["a,b"]


def test_half_characters_are_refused_and_can_be_shown(put, read):
    done = read(put(b"id\n+2AA-x\nb\n"), encoding="utf-7")
    assert done.reasons == {2: "lone_surrogate"}
    assert done.records[0].id == "\\ud800x"
    assert done.ids == ["b"]


def test_optional_columns_may_stand_anywhere_and_a_blank_line_says_nothing(put, read):
    done = read(put('ticket,note,id,requested_at\n"A-1","x\ny",a,2026-11-01\n\nA-2,,b,\n'))
    assert done.subjects == [(2, "a"), (5, "b")]
    assert done.reasons == {4: "blank"}
    assert [(seq, str(it.requested_on), it.ticket) for seq, it in done.requests] == [
        (1, "2026-11-01", "A-1"),
        (2, "None", "A-2"),
    ]


def test_an_exclusion_list_is_not_asked_what_requests_say(put):
    listed = read_exclusions(put("ticket,id,reason,requested_at\nx y,a,identity,soon\n"), InputOptions(id_column="id"))
    assert list(listed.holds) == ["a"]
    listed = read_exclusions(put("ticket,reason\nanna,identity\n"), InputOptions(id_column="ticket"))
    assert list(listed.holds) == ["anna"]
