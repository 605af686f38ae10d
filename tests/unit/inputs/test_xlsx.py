"""Workbooks: what a cell gives, what is refused, and files that nobody should have to think about."""

import struct
import zipfile

import pytest

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs import ooxml
from privacy_toolkit.inputs.ooxml import IS_DAY, IS_OTHER, shape_of
from tests.support.workbooks import MAIN, number, sheet, text, typed, write

DAY = 46346  # 20 November 2026
FORMATS = ["dd.mm.yyyy", "00000", '"K-"0', "#,##0.00", "0%", "0.00E+00", "[Red]General", "hh:mm"]


@pytest.fixture
def book(tmp_path):
    """Write a workbook and give its path."""

    def made(rows=(), **how):
        how.setdefault("formats", FORMATS)
        return str(write(tmp_path / "requests.xlsx", rows, **how))

    return made


def test_text_is_taken_as_it_is_and_rows_have_the_numbers_of_the_sheet(book, read):
    found = read(book([["customer_id"], ["00123"], ["1e5"], ["Müller 1"], ["NA"], ["00123"]]))
    assert found.subjects == [(2, "00123"), (3, "1e5"), (4, "Müller 1"), (5, "NA")]
    assert found.summary.format == "xlsx"
    assert found.summary.sheet == "Requests"
    assert (found.summary.read, found.summary.duplicates) == (5, 1)


@pytest.mark.parametrize(
    ("cell", "id_"),
    [
        (number("123"), "123"),
        (number("123.0"), "123"),
        (number("1.23E+3"), "1230"),
        (number("999999999999999"), "999999999999999"),
        (number("-5"), "-5"),
        (number("123", 2), "00123"),  # as the cell shows it, and as the program would save it in a CSV
        (number("1234567", 2), "1234567"),
        (number("1234567", 4), "1234567"),
        (number("123456789012", 6), "123456789012"),
        (number("123", 7), "123"),
        (typed("str", "K-1", "A1&1"), "K-1"),
        (typed("n", "77", "A1+1"), "77"),
    ],
)
def test_a_cell_that_still_says_its_id_gives_it(book, read, cell, id_):
    assert read(book([["id"], [cell]])).ids == [id_]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (number("1234567890123456"), "number_not_exact"),
        (number("1.2345678901234E+21"), "number_not_exact"),
        (number("1E+999"), "number_not_exact"),
        (number("12.5"), "number_not_exact"),
        (number("0.1"), "number_not_exact"),
        (number("123", 3), "number_not_exact"),  # it shows K-123
        (number("1", 5), "number_not_exact"),  # it shows 100%
        (number("1_0"), "number_not_exact"),
        (number("NaN"), "number_not_exact"),
        (number(DAY, 1), "not_text"),  # 3-4 turned into a date
        (number("0.5", 8), "not_text"),
        (typed("d", "2026-11-20"), "not_text"),
        (typed("b", "1"), "not_text"),
        (typed("e", "#N/A"), "cell_error"),
        ("<c{}><f>A1&amp;1</f></c>", "formula_without_value"),
        ('<c{} t="str"><f>A1&amp;1</f><v></v></c>', "formula_without_value"),
        (text(""), "blank"),
        (text(" a"), "surrounding_whitespace"),
        (text("a\tb"), "control_character"),
        (text("a\x07b"), "control_character"),
        (text("a\ud800b"), "lone_surrogate"),
    ],
)
def test_a_cell_that_no_longer_says_its_id_is_refused(book, read, cell, reason):
    found = read(book([["id", "x"], [cell, "y"], ["good", "y"]]))
    assert found.reasons == {2: reason}
    assert found.ids == ["good"]


def test_escapes_of_the_format_are_undone_and_what_looks_like_one_is_kept(book, read):
    ids = ["_x0041_", "ax005F_b", "_x005F_", "x_x", "_x00GG_"]
    assert read(book([["id"], *([id_] for id_ in ids)])).ids == ids
    raw = '<c{} t="inlineStr"><is><t>_x0041_b</t></is></c>'
    assert read(book([["id"], [raw]])).ids == ["Ab"]


def test_shared_texts_are_found_without_how_they_are_pronounced(book, read):
    shared = [
        "<si><t>id</t></si>",
        "<si><r><t>An</t></r><r><rPr><b/></rPr><t>na</t></r><rPh><t>ANNA</t></rPh></si>",
        '<si><t xml:space="preserve">ax005F_b</t></si>',
        "<si/>",
    ]
    rows = [[typed("s", at)] for at in (0, 1, 2, 3)]
    found = read(book(rows, shared=shared))
    assert found.ids == ["Anna", "ax005F_b"]
    assert found.reasons == {4: "blank"}


def test_what_looks_like_an_escape_across_pieces_of_a_text_is_none(book, read):
    """Each piece has escapes of its own (ECMA-376, ST_Xstring), as the library writes a text with two of them."""
    pieces = "<r><t>_x005F</t></r><r><t>_x005F_x0041_</t></r>"
    inline = f'<c{{}} t="inlineStr"><is>{pieces}</is></c>'
    rows = [["id"], [inline], [typed("s", 0)], ["_x0041_"]]
    found = read(book(rows, shared=[f"<si>{pieces.replace('_x005F</t>', '_x0042_</t>')}</si>"]))
    assert found.ids == ["_x005F_x0041_", "B_x0041_", "_x0041_"]


@pytest.mark.parametrize("at", [7, -1, "x"])
def test_a_text_that_is_not_there_is_an_error(book, refuse, at):
    assert "damaged" in refuse(book([["id"], [typed("s", at)]], shared=["<si><t>a</t></si>"])).message


def test_days_are_days_however_they_look(book, read):
    rows = [
        ["id", "requested_at"],
        ["a", number(DAY, 1)],
        ["b", number(DAY + 0.75, 1)],
        ["c", "2026-11-20"],
        ["d", number(DAY)],
        ["e", number("0.5", 8)],
        ["f", typed("e", "#N/A")],
        ["g", "<c{}><f>TODAY()</f></c>"],
        ["h", typed("d", "2026-11-20")],
        ["i", number("60", 1)],
        ["j", number("61", 1)],
        ["k", number("59", 1)],
        ["l", number("1e9", 1)],
        ["m", None],
    ]
    found = read(book(rows))
    assert found.ids == ["a", "b", "c", "h", "j", "k", "m"]
    days = [f"{request.requested_on:%Y-%m-%d}" for _, request in found.requests]
    assert days == ["2026-11-20"] * 4 + ["1900-03-01", "1900-02-28"]
    assert set(found.reasons.values()) == {"requested_at_no_date"}


def test_days_are_counted_from_1904_where_the_workbook_says_so(book, read):
    rows = [["id", "requested_at"], ["a", number(DAY - 1462, 1)], ["b", number(0, 1)]]
    found = read(book(rows, is_1904=True))
    assert [str(request.requested_on) for _, request in found.requests] == ["2026-11-20", "1904-01-01"]


def test_a_reference_that_became_something_else_is_refused(book, read):
    rows = [
        ["id", "ticket"],
        ["a", number(17)],
        ["b", number(DAY, 1)],
        ["c", typed("b", 1)],
        ["d", number("1e20")],
        ["e", typed("e", "#REF!")],
        ["f", "DSR-1"],
    ]
    found = read(book(rows))
    assert found.ids == ["a", "f"]
    assert [request.ticket for _, request in found.requests] == ["17", "DSR-1"]
    assert set(found.reasons.values()) == {"ticket_not_usable"}


def test_rows_in_between_are_blank_rows_and_those_behind_the_last_are_none(book, read):
    rows = [["id"], ["a"], None, [None], ["b"], [number("", 1)], None, ["<c{} s='1'/>"]]
    found = read(book(rows))
    assert found.subjects == [(2, "a"), (5, "b")]
    assert found.reasons == {3: "blank", 4: "blank"}


def test_cells_of_formulas_and_hidden_rows_are_told(book, read):
    rows = [["id", "x"], ["a", typed("str", "1", "B1")], [typed("str", "b", "A1"), "y"], ["c"]]
    hidden = {"Requests": sheet(rows, attributes={2: ' hidden="1"', 4: ' hidden="true"'}), "Other": sheet([["id"]])}
    warnings = {one.code: one.message for one in read(book(sheets=hidden)).summary.warnings}
    assert "1 value " in warnings["formulas"]
    assert "2 hidden rows" in warnings["hidden_rows"]
    assert "1 other one" in warnings["other_sheets"]
    assert set(warnings) == {"formulas", "hidden_rows", "other_sheets"}


def test_a_sheet_is_the_first_or_the_named_one(book, read, refuse):
    sheets = {"Notes": sheet([["text"]]), "Kunden": sheet([["id"], ["a"]]), "Alt": sheet([["id"], ["old"]])}
    path = book(sheets=sheets, states={"Alt": "hidden"})
    assert read(path, sheet="Kunden").ids == ["a"]
    assert read(path, sheet="Alt").ids == ["old"]  # asked for by name, so it may be hidden
    assert "customer_id" in refuse(path).message
    assert refuse(path, sheet="kunden").message == "requests.xlsx has no sheet 'kunden'; it has 'Notes', 'Kunden'."
    path = book(sheets=sheets, states={"Notes": "veryHidden"})
    assert "is hidden; the others are 'Kunden', 'Alt'" in refuse(path).message
    assert "--sheet" in refuse(path).hint


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "requests.xlsx, sheet 'Requests' is empty, or its first row is."),
        ([None, ["id"], ["a"]], "requests.xlsx, sheet 'Requests': the first row is empty."),
        ([[" "], ["a"]], "requests.xlsx, sheet 'Requests': the first row is blank."),
        ([["id", None, "x"], ["a"]], "requests.xlsx, sheet 'Requests', row 1: column B has no name."),
        ([["id", "id"], ["a"]], "requests.xlsx, sheet 'Requests', row 1: columns 1 and 2 have the same name."),
        (
            [["id"], ["a", None, "b"]],
            "requests.xlsx, sheet 'Requests', row 2: there is a value in column C, which has no name.",
        ),
    ],
)
def test_a_header_that_is_none_is_told(book, refuse, rows, message):
    assert refuse(book(rows)).message == message


def test_a_title_in_merged_cells_above_the_table_is_told(book, refuse):
    merged = '<mergeCells count="1"><mergeCell ref="A1:C1"/></mergeCells>'
    path = book(sheets={"R": sheet([["Requests 2026"], ["id", "x", "y"], ["a", "b", "c"]], after=merged)})
    assert "there is one column only" in refuse(path).message
    assert refuse(path).hint == "Row 2 names the columns: delete what is above it, and save the workbook again."


@pytest.mark.parametrize("above", [[["As of today"], None], [None, None], [["id of nobody", None, "x"], ["and so on"]]])
def test_a_header_further_down_is_found_for_the_person(book, refuse, above):
    path = book([*above, ["Kundennummer", "Eingang"], ["a", "2026-11-01"]])
    hint = refuse(path, columns={"customer_id": "Kundennummer", "requested_at": "Eingang"}).hint
    assert hint == "Row 3 names the columns: delete what is above it, and save the workbook again."


def test_another_sheet_is_offered_where_the_first_one_has_no_such_column(book, refuse):
    path = book(sheets={"Notes": sheet([["please read"]]), "Requests": sheet([["id"], ["a"]]), "Old": sheet([["id"]])})
    assert refuse(path).hint.endswith("There is also 'Requests', 'Old': name it with --sheet.")
    assert "There is also" not in refuse(path, sheet="Notes").hint


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ('<row r="3"><c r="A3"/></row><row r="2"/>', "in order"),
        ('<row r="3"/><row r="3"/>', "in order"),
        ('<row r="1048577"/>', "1048576"),
        ('<row r="2"><c r="B2"/><c r="A2"/></row>', "not in order"),
        ('<row r="2"><c r="A3"/></row>', "another row"),
        ('<row r="2"><c r="XFE2"/></row>', "not in order"),
        ('<row r="x"/>', "damaged"),
        ('<row r="2"><c r="a2"/></row>', "damaged"),
        ('<row r="2"><c r="A2" s="99"><v>1</v></c></row>', "damaged"),
        ('<row r="2"><c r="A2" s="-1"><v>1</v></c></row>', "damaged"),
        ("<row><c>", "damaged"),
    ],
)
def test_a_sheet_that_no_program_writes_is_an_error_and_loses_no_row(book, refuse, rows, word):
    head = '<row r="1"><c r="A1" t="inlineStr"><is><t>id</t></is></c></row>'
    xml = f"<worksheet {MAIN}><sheetData>{head}{rows}</sheetData></worksheet>"
    assert word in refuse(book(sheets={"R": xml})).message.replace(",", "")


@pytest.mark.parametrize(
    "part", ["xl/workbook.xml", "xl/styles.xml", "xl/sharedStrings.xml", "xl/worksheets/sheet1.xml", "_rels/.rels"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused_so_no_entity_is_ever_expanded(book, refuse, part, encoding):
    xml = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'
    error = refuse(book([["id"], ["a"]], shared=[], parts={part: xml.encode(encoding)}))
    assert "document type" in error.message


def test_another_file_under_this_name_is_told_for_what_it_is(put, refuse):
    assert "old format" in refuse(put(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "a.xlsx")).message
    crypt = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600_000) + "EncryptedPackage".encode("utf-16-le")
    assert refuse(put(crypt, "a.xlsx")).message == "a.xlsx is encrypted."
    assert ".csv" in refuse(put("customer_id;x\n1;2\n", "a.xlsx")).hint
    assert refuse(put("", "a.xlsx")).message == "a.xlsx is empty."
    assert "damaged" in refuse(put(b"PK\x03\x04" + bytes(100), "a.xlsx")).message
    for name in ("a.xls", "a.ods", "a.xlsb", "a.numbers"):
        error = refuse(put("x", name))
        assert error.message == f"{name} is a workbook of a kind that is not read."
        assert ".xlsx" in error.hint


def test_another_archive_is_no_workbook(tmp_path, refuse):
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    assert refuse(str(path)).message == "a.xlsx has no sheet with cells."


def test_a_part_with_a_password_or_in_another_compression_is_not_read(tmp_path, refuse):
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("_rels/.rels", "<x/>")
    assert "damaged" in refuse(str(path)).message
    data = bytearray(write(path, [["id"], ["a"]]).read_bytes())
    at = data.index(b"PK\x01\x02") + 8
    data[at : at + 2] = struct.pack("<H", 1)
    path.write_bytes(data)
    assert refuse(str(path)).message == "a.xlsx is encrypted."


def test_a_part_that_is_there_twice_is_refused(tmp_path, refuse):
    path = write(tmp_path / "a.xlsx", [["id"], ["a"]])
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", sheet([["id"], ["b"]]))
    assert "parts that no spreadsheet program writes" in refuse(str(path)).message


def test_damage_anywhere_in_the_file_is_an_error_or_changes_nothing(tmp_path, book, read, refuse):
    path = book([["id", "requested_at"], *([f"customer {at}", number(DAY, 1)] for at in range(200))])
    data, good = (tmp_path / "requests.xlsx").read_bytes(), read(path).ids
    for at in range(0, len(data), 37):
        (tmp_path / "requests.xlsx").write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        told = ""
        try:
            assert read(path).ids == good
        except InputError as error:
            told = error.message
        assert "customer " not in told
    (tmp_path / "requests.xlsx").write_bytes(data[: len(data) // 2])
    assert refuse(path).hint


def test_limits_hold(book, refuse, monkeypatch):
    assert "131,072 characters" in refuse(book([["id"], ["x" * 140_000]])).message
    wide = sheet([["id"], ["x" * 100_000] * 12])
    assert "1,048,576 characters" in refuse(book(sheets={"R": wide})).message
    monkeypatch.setattr(ooxml, "MOST_SHARED", 100)
    assert "of text" in refuse(book([["id"]], shared=[f"<si><t>{'x' * 200}</t></si>"])).message
    monkeypatch.setattr(ooxml, "BEGUN", 1000)
    monkeypatch.setattr(ooxml, "MOST_SHARED", 1 << 30)
    assert "200 times" in refuse(book([["id"]], shared=[f"<si><t>{'x' * 9000}</t></si>"] * 200)).message


def test_an_endless_comment_is_not_held_in_memory(book, refuse, monkeypatch):
    monkeypatch.setattr(ooxml, "MOST_SILENT", 1 << 19)
    xml = f"<worksheet {MAIN}><!--{'x' * 3_000_000}--><sheetData/></worksheet>"
    monkeypatch.setattr(ooxml, "MOST_TIMES", 100_000)
    assert "damaged" in refuse(book(sheets={"R": xml})).message


def test_nothing_outside_the_file_is_looked_at(book, refuse):
    link = '<Relationship Id="r1" Type="x/worksheet" TargetMode="External" Target="file:///etc/passwd"/>'
    path = book([["id"]], parts={"xl/_rels/workbook.xml.rels": f"<Relationships>{link}</Relationships>"})
    assert refuse(path).message == "requests.xlsx has no sheet with cells."
    link = '<Relationship Id="r1" Type="x/worksheet" Target="../../../etc/passwd"/>'
    path = book([["id"]], parts={"xl/_rels/workbook.xml.rels": f"<Relationships>{link}</Relationships>"})
    assert "is empty" in refuse(path).message


@pytest.mark.parametrize(
    ("code", "shape"),
    [
        ("General", 1),
        ("@", 1),
        ("0", 1),
        ("00000", 5),
        ("0000;[Red]-0000", 4),
        ("#,##0", 1),
        ("#,##0.00_ ;[Red]\\-#,##0.00\\ ", 1),
        ("0,", IS_OTHER),
        ("0%", IS_OTHER),
        ('0" EUR"', IS_OTHER),
        ("000-0000", IS_OTHER),
        ("# ?/?", IS_OTHER),
        ("dd/mm/yyyy", IS_DAY),
        ("[$-407]d. mmmm yyyy;@", IS_DAY),
        ("[h]:mm:ss", IS_DAY),
        ('"days" 0', IS_OTHER),
        ('yyyy"-"mm', IS_DAY),
        ("h:mm AM/PM", IS_DAY),
    ],
)
def test_a_format_shows_digits_a_day_or_something_else(code, shape):
    assert shape_of(code) == shape
