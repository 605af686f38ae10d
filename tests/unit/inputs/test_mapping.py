"""Columns under other names, days in other forms, and ids that are looked up by a key."""

from pathlib import Path

import pyarrow as pa
import pytest

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.lists import read_exclusions
from privacy_toolkit.inputs.options import InputOptions, date_form, fitting_forms, merged
from privacy_toolkit.inputs.pairs import PairForm
from privacy_toolkit.inputs.scan import read_input
from tests.support.workbooks import number, typed, write

FIXTURES = Path(__file__).parents[2] / "fixtures"
GERMAN = {"customer_id": "Kundennummer", "requested_at": "Eingang", "ticket": "Vorgang"}
ROWS = "Kundennummer;Eingang;Vorgang\nK1;20.11.2026;V-1\nK2;2.1.2026 09:30;V-2\nK3;2026-03-04;\n"


def days(found):
    return [str(request.requested_on) for _, request in found.requests]


def test_columns_are_read_under_the_names_of_the_mapping_and_days_in_the_form(put, read):
    found = read(put(ROWS), columns=GERMAN, date_format="de", delimiter=";")
    assert found.ids == ["K1", "K2", "K3"]
    assert days(found) == ["2026-11-20", "2026-01-02", "2026-03-04"]
    assert found.summary.id_column == "customer_id"
    assert found.summary.columns == ("requested_at", "ticket")


def test_the_mapping_holds_for_every_kind_of_file(put, put_parquet, read, tmp_path):
    names = list(GERMAN.values())
    rows = [["K1", "2026-11-20", "V-1"], ["K2", "2026-01-02", "V-2"]]
    lines = "\n".join("{" + ", ".join(f'"{n}": "{v}"' for n, v in zip(names, row, strict=True)) + "}" for row in rows)
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    put_parquet(table, "parts/1.parquet")
    put_parquet(table.select(names[::-1]).slice(0, 0), "parts/2.parquet")
    paths = [
        put("\n".join(map(",".join, [names, *rows]))),
        put(lines, "a.jsonl"),
        put_parquet(table),
        str(tmp_path / "parts"),
        str(write(tmp_path / "a.xlsx", [names, *rows])),
    ]
    for path in paths:
        found = read(path, columns=GERMAN)
        assert (found.ids, days(found)) == (["K1", "K2"], ["2026-11-20", "2026-01-02"]), path
        assert [request.ticket for _, request in found.requests] == ["V-1", "V-2"]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.xlsx"])
def test_a_column_that_the_mapping_names_has_to_be_there(put, put_parquet, refuse, tmp_path, name):
    header = ["Kundennummer", "Datum", "x"]
    path = {
        "a.csv": lambda: put(",".join(header) + "\n1,2,3\n"),
        "a.parquet": lambda: put_parquet({one: ["1"] for one in header}),
        "a.xlsx": lambda: str(write(tmp_path / name, [header, ["1", "2", "3"]])),
    }[name]()
    error = refuse(path, columns=GERMAN)
    assert "no column 'Eingang', which the mapping names for requested_at" in error.message
    assert (
        "no column 'Nr', which the mapping names for customer_id" in refuse(path, columns={"customer_id": "Nr"}).message
    )


def test_a_column_that_is_there_twice_over_is_an_error(put, refuse):
    path = put("Kundennummer,customer_id\n1,2\n")
    assert "besides the one that the mapping calls so" in refuse(path, columns={"customer_id": "Kundennummer"}).message
    lines = put('{"Kundennummer": "1", "customer_id": "2"}\n', "a.jsonl")
    assert "line 1" in refuse(lines, columns={"customer_id": "Kundennummer"}).message


def test_a_file_with_the_names_of_here_needs_no_mapping(put, read):
    assert read(put("id,customer_id\n1,a\n"), columns={"customer_id": "Kundennummer"}).ids == ["a"]


@pytest.mark.parametrize(
    ("columns", "word"),
    [({"requestd_at": "Eingang"}, "'requestd_at'"), ({"customer_id": "A", "ticket": "A"}, "twice")],
)
def test_a_mapping_that_can_not_be_meant_is_refused(columns, word):
    with pytest.raises(InputError, match=word):
        InputOptions(columns=columns)


def test_what_is_given_counts_before_what_was_usual():
    usual = merged(InputOptions(), encoding="cp1252", columns={"customer_id": "A", "ticket": "B"})
    assert merged(usual, encoding=None, delimiter=";") == InputOptions(
        encoding="cp1252", delimiter=";", columns={"customer_id": "A", "ticket": "B"}
    )
    assert merged(usual, columns={"ticket": "C"}).columns == {"customer_id": "A", "ticket": "C"}
    assert merged(usual, id_column="Nr").columns == {"ticket": "B"}


def test_other_lists_are_read_by_the_same_mapping_with_their_own_encoding(put, tmp_path):
    options = InputOptions(
        columns={"customer_id": "Kundennummer", "reason": "Grund", "review_on": "Prüfung"},
        date_format="de",
        list_encoding="cp1252",
        list_delimiter=";",
    )
    content = "Kundennummer;Grund;Prüfung\nMüller;identity;31.12.2026\n".encode("cp1252")
    listed = read_exclusions(put(content, "holds.csv"), options.for_list())
    assert {id_: hold.review_on for id_, hold in listed.holds.items()} == {"Müller": "2026-12-31"}
    rows = [["Kundennummer", "Grund", "Prüfung"], ["Müller", "identity", number(46387, 1)], [number(7), "17(3)(e)"]]
    path = write(tmp_path / "holds.xlsx", rows, formats=["dd.mm.yyyy"])
    listed = read_exclusions(str(path), options.for_list())
    assert {id_: hold.review_on for id_, hold in listed.holds.items()} == {"Müller": "2026-12-31", "7": None}
    assert listed.sheet == "Requests"


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ([number("1e20"), "identity"], "row 2: the id can't be used (number_not_exact)"),
        (["", "identity"], "row 2: the id can't be used (blank)"),
        (["a", typed("e", "#N/A")], "row 2: the reason is no code"),
        (["a", "identity", number(5)], "row 2: review_on is no date"),
        (["a", "identity", "<c{}><f>TODAY()</f></c>"], "row 2: review_on is no date"),
    ],
)
def test_an_exclusion_list_in_a_workbook_is_understood_whole_or_not_at_all(tmp_path, row, word):
    path = write(tmp_path / "holds.xlsx", [["customer_id", "reason", "review_on"], row])
    with pytest.raises(InputError) as caught:
        read_exclusions(str(path))
    assert word in caught.value.message


def test_flags_in_hints_are_those_of_the_list(put):
    options = InputOptions().for_list()
    with pytest.raises(InputError) as caught:
        read_exclusions(put("id;reason\na;identity\n", "holds.csv"), options)
    assert "--list-delimiter ';'" in caught.value.hint
    with pytest.raises(InputError) as caught:
        read_exclusions(put("id,reason\nMüller,identity\n".encode("cp1252"), "holds.csv"), options)
    assert "--list-encoding cp1252" in caught.value.hint


def test_encodings_are_suggested_by_name(put, refuse):
    text = "customer_id,name\n" + "1,Müller\n" * 40
    assert "--encoding cp1252" in refuse(put(text.encode("cp1252"))).hint
    assert "--encoding utf-16-le" in refuse(put((text + "ä").encode("utf-16-le"))).hint
    assert "--encoding utf-16-be" in refuse(put((text + "ä").encode("utf-16-be"))).hint
    assert "iso-8859-15" in refuse(put(b"customer_id\n\x81\x8d\n")).hint


@pytest.mark.parametrize(
    ("name", "text", "day"),
    [
        ("de", "1.2.2026", "2026-02-01"),
        ("uk", "01/02/2026", "2026-02-01"),
        ("us", "01/02/2026", "2026-01-02"),
        ("us", "11/20/2026 3:05 PM", "2026-11-20"),
        ("de", "20.11.2026, 09:30:00", "2026-11-20"),
        ("fr", "20/11/2026", "2026-11-20"),
        ("%d-%m-%Y", "20-11-2026", "2026-11-20"),
        ("de", "31.2.2026", None),
        ("de", "20/11/2026", None),
        ("de", "20.11.26", None),
        ("us", "20/11/2026", None),
        ("iso", "20.11.2026", None),
        ("%d.%m.%Y", "20x11y2026", None),
    ],
)
def test_days_are_read_in_the_named_form_or_iso(name, text, day):
    assert date_form(name)(text) == day
    assert date_form(name)("2026-05-04") == "2026-05-04"


@pytest.mark.parametrize("name", ["german", "%d.%m", "%d.%m.%Y %H", "%Y-%d-%m", "%d%d%m%Y", "", "%d.%m.%Y" + "x" * 50])
def test_a_form_that_says_no_day_is_refused(name):
    with pytest.raises(InputError):
        InputOptions(date_format=name)


def test_forms_that_fit_are_named(put, read):
    assert fitting_forms(["20.11.2026", "1.2.2026"]) == ["de"]
    assert fitting_forms(["01/02/2026"]) == ["uk", "us"]
    assert fitting_forms(["01/02/2026", "x"]) == []
    (told,) = read(put("id,requested_at\na,1.2.2026\nb,20.11.2026\n")).summary.warnings
    assert told.code == "dates_in_another_form"
    assert told.message.startswith("not one of the 2 days in the column requested_at is read.")
    assert "--date-format de" in told.message
    assert "2026" not in told.message
    (told,) = read(put("id,requested_at\na,1/2/2026\nb,2/2/2026\n")).summary.warnings
    assert "--date-format uk" in told.message
    assert "--date-format us" in told.message
    found = read(put("id,requested_at\na,1.2.2026\nb,2026-11-20\n"))
    assert found.reasons == {2: "requested_at_no_date"}
    assert [one.code for one in found.summary.warnings] == ["dates"]
    assert "--date-format de" in found.summary.warnings[0].message


def test_days_that_a_spreadsheet_has_made_numbers_of_are_told_for_what_they_are(put, read):
    (told,) = read(put("id,requested_at\na,46327\nb,46328.0\nc,2026-11-20\n")).summary.warnings
    assert told.message.endswith("has made numbers of the days: format the column as dates there, and save it again.")
    (told,) = read(put("id,requested_at\na,46327\nb,last week\nc,2026-11-20\n")).summary.warnings
    assert "spreadsheet" not in told.message


def test_a_day_that_no_calendar_has_is_said_to_be_one_where_its_form_was_named(put, read):
    (told,) = read(put("id,requested_at\na,30.02.2026\nb,1.3.2026\n"), date_format="de").summary.warnings
    assert "or as --date-format de has them. One that no calendar has, such as February 30, is refused." in told.message
    (told,) = read(put("id,requested_at\na,30.02.2026\nb,2026-03-01\n")).summary.warnings
    assert "--date-format names another form" in told.message


@pytest.mark.parametrize(
    ("ids", "codes"),
    [
        (["1.23E+11", "4,5E+12", "77"], ["ids_exponent"]),
        (["123.0", "77.0"], ["ids_decimal"]),
        (["10000", "20000", "30000", "40000", "5000"], ["ids_lost_zeros"]),
        (["10000", "20000", "30000", "40000", "05000", "600"], []),
        (["10000", "20000", "K3000", "40000", "500"], []),
        (["1", "22", "333", "4444", "55555"], []),
        (["10000", "20000"], []),
        (["1e5", "00123"], []),
    ],
)
def test_ids_that_a_spreadsheet_has_changed_are_told_and_taken(put, read, ids, codes):
    found = read(put("id\n" + "".join(f'"{id_}"\n' for id_ in ids)))
    assert found.ids == ids
    assert [one.code for one in found.summary.warnings] == codes
    assert not any(
        id_ in one.message for one in found.summary.warnings for id_ in ids if len(id_) > 3 and "E" not in id_
    )


def test_columns_that_nobody_reads_and_look_like_days_or_ids_are_told(put, read):
    rows = "customer_id,Eingang,Konto-Nr,Land\na,20.11.2026,1,DE\nb,1.2.2026,2,DE\n"
    told = {one.code: one.message for one in read(put(rows)).summary.warnings}
    assert set(told) == {"unused_dates", "unused_ids"}
    assert "Eingang" in told["unused_dates"]
    assert "--date-format de" in told["unused_dates"]
    assert "Konto-Nr" in told["unused_ids"]
    lines = (
        '{"customer_id": "a", "Eingang": "1.2.2026", "n": 1}\n{"customer_id": "b", "Eingang": "20.11.2026", "n": 2}\n'
    )
    assert [one.code for one in read(put(lines, "a.jsonl")).summary.warnings] == ["unused_dates"]
    headerless = read(put("customer_id,a1@x.de\nx,2026-01-01\ny,2026-01-02\n")).summary.warnings
    assert "a1@x.de" not in headerless[0].message


KEYS = "email,customer_id\na@x.de,C1\nb@x.de,C2\nb@x.de,C3\nc@x.de,\nd@x.de,C4\nd@x.de,C4\n,C9\n"


@pytest.fixture
def by_key(put, read):
    """Read an input of keys."""

    def run(content, keys=KEYS, **options):
        options = {"columns": {"key": "email"}, **options}
        return read(put(content), identify=put(keys, "crm.csv"), **options)

    return run


def test_keys_become_ids_and_nobody_or_several_is_a_refusal(by_key):
    found = by_key("email\na@x.de\nb@x.de\nc@x.de\nd@x.de\nA@x.de\n\na@x.de\n")
    assert found.subjects == [(2, "C1"), (5, "C4")]
    assert found.reasons == {
        3: "key_ambiguous",
        4: "key_ambiguous",
        6: "key_unknown",
        7: "blank",
    }
    assert found.summary.duplicates == 1
    assert (found.summary.id_column, found.summary.identified.id_column) == ("key", "key")
    assert found.summary.identified.read == 7


def test_two_keys_of_one_customer_are_one_subject(by_key):
    found = by_key("email\na@x.de\nz@x.de\n", KEYS + "z@x.de,C1\n")
    assert (found.ids, found.summary.duplicates) == (["C1"], 1)


def test_a_reference_that_holds_the_key_is_refused(by_key):
    found = by_key("email,ticket\nCRM-77,x-crm-77\nCRM-78,ok\n", "email,customer_id\nCRM-77,C1\nCRM-78,C2\n")
    assert found.ids == ["C2"]
    assert found.reasons == {2: "ticket_not_usable"}


def test_the_list_of_keys_may_be_any_table_and_have_the_name_of_here(put, read, tmp_path, put_parquet):
    path = put("E-Mail\na@x.de\n")
    columns = {"key": "E-Mail", "customer_id": "Kundennummer"}
    lists = [
        put("key,Kundennummer\na@x.de,C1\n", "crm.csv"),
        put_parquet({"E-Mail": ["a@x.de"], "Kundennummer": [7]}, "crm.parquet"),
        str(write(tmp_path / "crm.xlsx", [["E-Mail", "Kundennummer"], ["a@x.de", number("7", 1)]], formats=["000"])),
        put('{"key": "a@x.de", "integration_id": "C2"}\n', "crm.jsonl"),
    ]
    assert [read(path, identify=one, columns=columns).ids for one in lists] == [["C1"], ["7"], ["007"], ["C2"]]


def test_an_id_that_a_spreadsheet_has_changed_is_nobodys(put, read, tmp_path):
    rows = [["key", "customer_id"], ["a", number("1e20")], ["b", "C1"], ["b", number(46346, 1)], ["c", "C3"]]
    crm = write(tmp_path / "crm.xlsx", rows, formats=["dd.mm.yyyy"])
    found = read(put("key\na\nb\nc\n"), identify=str(crm))
    assert found.ids == ["C3"]
    assert found.reasons == {2: "key_ambiguous", 3: "key_ambiguous"}


def test_a_list_of_keys_without_its_columns_is_an_error(put, refuse):
    path = put("email\na\n")
    error = refuse(path, identify=put("mail,customer_id\na,b\n", "crm.csv"), columns={"key": "email"})
    assert error.message == "crm.csv, line 1: there is no column 'email' with the keys; there are mail, customer_id."
    assert "--key-column" in error.hint
    error = refuse(path, identify=put("email,name\na,b\n", "crm.csv"), columns={"key": "email"})
    assert "no column with the customers' ids" in error.message
    assert "--key-column" in refuse(put("x\na\n"), identify=put("key,id\na,b\n", "crm.csv")).hint
    assert "standard input" in refuse(path, identify="-", columns={"key": "email"}).message
    with pytest.raises(InputError):
        InputOptions(identify="crm.csv", id_column="email")


def test_keys_work_for_rows_of_any_job(put, tmp_path):
    path, crm = put("email,coupon_value\na@x.de,CODE\nq@x.de,CODE\n"), put(KEYS, "crm.csv")
    options = InputOptions(identify=crm, columns={"key": "email"})
    with read_input(path, options, spool_folder=tmp_path, form=PairForm()) as scan:
        assert [row for page in scan.subjects() for row in page] == [(2, "C1", "CODE")]
        assert [record.reason for record in scan.records()] == [None, "key_unknown"]


def test_rows_of_a_job_in_a_workbook_are_those_of_a_csv(tmp_path):
    rows = [
        ["customer_id", "coupon_value", "budget"],
        ["a", "C-1", number(5)],
        ["b", number("00012", 1), None],
        ["c", number("1e20"), None],
        ["d", "C-2", number("1.5")],
        ["e", typed("e", "#N/A"), None],
    ]
    path = write(tmp_path / "rows.xlsx", rows, formats=["00000"])
    with read_input(str(path), InputOptions(), spool_folder=tmp_path, form=PairForm()) as scan:
        assert [row for page in scan.subjects() for row in page] == [(2, "a", "C-1\t5"), (3, "b", "00012")]
        assert [(record.row, str(record.reason), record.detail) for record in scan.records() if record.reason] == [
            (4, "number_not_exact", "coupon_value: number_not_exact"),
            (5, "budget_not_usable", "budget: no whole number of 0 or more"),
            (6, "cell_error", "coupon_value: cell_error"),
        ]


@pytest.mark.parametrize("name", ["openpyxl", "xlsxwriter"])
def test_workbooks_of_other_programs_are_read(read, name):
    columns = {"customer_id": "Kundennummer", "requested_at": "Eingang", "ticket": "Vorgang"}
    found = read(str(FIXTURES / "workbooks" / f"{name}.xlsx"), columns=columns)
    assert [id_ for id_ in found.ids if id_ != "00042"] == ["00123", "Müller & Söhne <1>", "4711", "ax005F_b"]
    assert days(found)[:3] == ["2026-11-20", "2026-11-19", "2026-01-02"]
    assert [request.ticket for _, request in found.requests][:3] == ["DSR-1", "DSR-2", "17"]
    # One of them stores no value for the formula in the last row, the other one does.
    assert found.reasons == ({6: "ticket_not_usable"} if name == "openpyxl" else {})
