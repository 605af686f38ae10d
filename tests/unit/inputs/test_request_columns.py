"""What is taken for a day, a reference or a code, and what would carry an id into a report."""

import pytest

from privacy_toolkit.inputs.options import WHITE_SPACE, RejectReason
from privacy_toolkit.inputs.pairs import understand


def one(column, text, id_="c-1001", **options):
    """What one text in one column comes to, and why its row is refused."""
    said, faults = understand({column: [text]}, [id_], **options)
    places = {"requested_at": 0, "extended_at": 1, "ticket": 2, "ground": 3}
    words = list(said.at(0))
    value = words.pop(places[column])
    assert words == [None, None, None]
    assert list(faults) in ([], [0])
    return value, faults.get(0)


@pytest.mark.parametrize("column", ["requested_at", "extended_at"])
@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-11-20", "2026-11-20"),
        ("2028-02-29", "2028-02-29"),
        ("0001-01-01", "0001-01-01"),
        ("9999-12-31", "9999-12-31"),
        ("2026-11-20T09:30", "2026-11-20"),
        ("2026-11-20T09", "2026-11-20"),
        ("2026-11-20T09:30:15Z", "2026-11-20"),
        ("2026-11-20 09:30:15", "2026-11-20"),
        ("2026-11-20T09:30:15.123456789+01:00", "2026-11-20"),
        ("2026-11-20T09:30:15,5-0530", "2026-11-20"),
        ("2026-11-20 09:30:15.1+00", "2026-11-20"),
        ("2026-06-30T23:59:60Z", "2026-06-30"),
    ],
)
def test_dates_and_times_of_iso_8601_are_days(column, text, day):
    assert one(column, text) == (day, None)


@pytest.mark.parametrize("text", ["2026-11-20T23:59:59-12:00", "2026-11-20T00:00:00+14:00", "2026-11-20T00:00Z"])
def test_the_day_as_written_counts_whatever_the_offset(text):
    assert one("requested_at", text) == ("2026-11-20", None)


@pytest.mark.parametrize(
    ("column", "reason"), [("requested_at", "requested_at_no_date"), ("extended_at", "extended_at_no_date")]
)
@pytest.mark.parametrize(
    "text",
    [
        *("20.11.2026", "11/20/2026", "20261120", "2026-W47-5", "2026-324", "2026-11", "26-11-20", "1763596800"),
        *("2026-02-29", "2026-13-01", "2026-00-10", "2026-11-00", "0000-01-01", "10000-01-01", "+2026-11-20"),
        *("2026-11-20T", "2026-11-20T24:00", "2026-11-20T09:60", "2026-11-20T9:30", "2026-11-20T09:30 UTC"),
        *("2026-11-20T09:30+24:00", "2026-11-20x09:30", "2026-11-20T09:30Zx", "2026-11-20Z", "2026-11-20\n"),
        *(" 2026-11-20", "2026-11-20 ", "yesterday", "0", "null", "-", "\u0662\u0660\u0662\u0666-11-20", "\ud800"),
    ],
)
def test_what_is_no_date_refuses_the_row(column, reason, text):
    assert one(column, text) == (None, RejectReason(reason))


@pytest.mark.parametrize("column", ["requested_at", "extended_at", "ticket", "ground"])
@pytest.mark.parametrize("text", [None, "", " ", "\t", WHITE_SPACE])
def test_no_text_and_blanks_say_nothing(column, text):
    assert one(column, text) == (None, None)


@pytest.mark.parametrize("text", ["DSR-2026/0017", "JIRA:PRIV_1.2", "a#1", "7", "0017", "x" * 64, "NA", "null"])
def test_references_are_taken_as_they_are(text):
    assert one("ticket", text) == (text, None)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "x" * 65,
            "-1",
            "#17",
            "/a",
            ".a",
            "two words",
            "a,b",
            "a(b)",
            "anna@example.org",
            "\u00fcber",
            "a\n",
            "a\x00",
        ),
        *(" a", "a ", "=1+1", "a\u200b", "<b>", "a\ud800"),
    ],
)
def test_what_is_no_reference_refuses_the_row(text):
    assert one("ticket", text) == (None, RejectReason.TICKET_NOT_USABLE)


@pytest.mark.parametrize("text", ["17(1)(b)", "consent_withdrawn", "LEGAL-2026.4", "x" * 40])
def test_codes_are_taken_as_they_are(text):
    assert one("ground", text) == (text, None)


@pytest.mark.parametrize(
    "text", ["x" * 41, "(a)", "two words", "a/b", "a:b", "a#b", "anna@example.org", "\u00e4", " a"]
)
def test_what_is_no_code_refuses_the_row(text):
    assert one("ground", text) == (None, RejectReason.GROUND_NOT_USABLE)


@pytest.mark.parametrize(("column", "reason"), [("ticket", "ticket_not_usable"), ("ground", "ground_not_usable")])
@pytest.mark.parametrize(
    ("id_", "text"),
    [
        ("4711", "4711"),
        ("4711", "DSR-4711-a"),
        ("c-1001", "C-1001"),
        ("ANNA", "dsr-anna"),
        ("ma\u017fs", "DSR-MASS"),  # the long s is an s
    ],
)
def test_a_text_with_the_id_in_it_refuses_the_row(column, reason, id_, text):
    assert one(column, text, id_) == (None, RejectReason(reason))


@pytest.mark.parametrize("column", ["ticket", "ground"])
@pytest.mark.parametrize(("id_", "text"), [("471", "DSR-471"), ("a", "a"), ("c-1001", "c-1002"), ("DSR-17", "17")])
def test_short_ids_and_others_are_no_reason(column, id_, text):
    assert one(column, text, id_) == (text, None)


def test_a_row_without_an_id_is_judged_by_its_text_alone():
    assert one("ticket", "DSR-1", None) == ("DSR-1", None)


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [("requested_at", " 2026-11-20\t", "2026-11-20"), ("ticket", "\u00a0DSR-1 ", "DSR-1"), ("ground", "a\n", "a")],
)
def test_stripping_passes_over_white_space_around_a_text(column, text, value):
    assert one(column, text)[1] is not None
    assert one(column, text, strip=True) == (value, None)
    assert one(column, " \t ", strip=True) == (None, None)


def test_rows_are_judged_one_by_one_and_the_first_column_names_the_reason():
    columns = {
        "requested_at": ["2026-11-01", "soon", "soon", "2026-11-04"],
        "ticket": ["A-1", "A-2", "x y", "x y"],
        "ground": ["a", "b", "c d", "c d"],
    }
    said, faults = understand(columns, ["id-1", "id-2", "id-3", "id-4"])
    assert faults == {
        1: RejectReason.REQUESTED_AT_NO_DATE,
        2: RejectReason.REQUESTED_AT_NO_DATE,
        3: RejectReason.TICKET_NOT_USABLE,
    }
    assert list(said.words()) == [
        ("2026-11-01", None, "A-1", "a"),
        (None, None, "A-2", "b"),
        (None, None, None, None),
        ("2026-11-04", None, None, None),
    ]
