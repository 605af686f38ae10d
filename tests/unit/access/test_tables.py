import csv
import io
import json

from privacy_toolkit.access.package import MOST_COLUMNS, tables
from privacy_toolkit.access.words import Number, joined


def rows(made, name):
    return list(csv.reader(io.StringIO(made[f"data/{name}.csv"].decode("utf-8-sig"), newline="")))


def test_one_table_for_each_list_that_holds_anything(answer):
    assert list(tables(answer)) == [
        f"data/{name}.csv"
        for name in (
            *("profile", "attributes", "audience_memberships", "coupons", "referrals"),
            *("loyalty_programs", "loyalty_cards", "achievements"),
        )
    ]
    assert tables({}) == tables({"profile": None, "coupons": [], "loyalty": {}}) == {}


def test_records_are_rows_with_dotted_columns():
    made = tables(
        {"coupons": [{"value": "A", "attributes": {"x": {"y": "z"}}}, {"value": "B", "limits": [{"a": True}]}]}
    )
    assert rows(made, "coupons") == [
        ["value", "attributes.x.y", "limits"],
        ["A", "z", ""],
        ["B", "", '[{"a": true}]'],
    ]


def test_columns_that_would_be_the_same_are_told_apart():
    made = tables({"coupons": [{"attributes": {"b": "1"}, "attributes.b": "2"}]})
    assert rows(made, "coupons") == [["attributes.b", "attributes.b (2)"], ["1", "2"]]


def test_programs_are_rows_under_their_key():
    made = tables({"loyalty": {"programs": {"7": {"title": "P"}, "8": {"title": "Q"}}}})
    assert rows(made, "loyalty_programs") == [["(program)", "title"], ["7", "P"], ["8", "Q"]]


def test_nothing_is_taken_for_a_formula():
    attributes = {"=1+1": "=HYPERLINK(1)", "a": "+1", "b": "-1", "c": "@x", "d": "\t=1", "e": "\r=1", "n": Number("-1")}
    made = tables({"profile": {"attributes": attributes}})
    cells = [cell for row in rows(made, "attributes") for cell in row]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == ["-1"]
    assert tables({"coupons": [{"=cmd": "x"}]})["data/coupons.csv"].decode("utf-8-sig") == "'=cmd\r\nx\r\n"


def test_other_shapes_become_rows_all_the_same():
    made = tables({"coupons": ["a", None, ["b"]], "loyalty": {"programs": [{"id": "1"}]}, "profile": "x"})
    assert rows(made, "coupons") == [["value"], ["a"], ['["b"]']]
    assert rows(made, "loyalty_programs") == [["id"], ["1"]]


def test_a_table_of_records_with_names_of_their_own_does_not_grow_with_the_square_of_their_number():
    def size(number):
        coupons = [{"id": Number(f"{n}"), "value": f"C{n}", "attributes": {f"a{n}": f"x{n}"}} for n in range(number)]
        return sum(map(len, tables({"coupons": coupons}).values()))

    assert size(4_000) < 2.5 * size(2_000)


def test_fields_that_few_records_have_share_one_column_and_none_is_lost():
    coupons = [{f"a{n}": f"x{n}", "value": f"C{n}"} for n in range(MOST_COLUMNS + 50)]
    header, *cells = rows(tables({"coupons": coupons}), "coupons")
    assert (len(header), header.count("(further fields)"), "value" in header) == (MOST_COLUMNS + 1, 1, True)
    for number, row in enumerate(cells):
        found = {name: cell for name, cell in zip(header, row, strict=True) if cell}
        found |= json.loads(found.pop("(further fields)", "{}"))
        assert found == coupons[number]


def test_a_single_record_keeps_all_its_columns():
    profile = {f"a{n}": f"x{n}" for n in range(2 * MOST_COLUMNS)}
    assert rows(tables({"profile": profile}), "profile") == [list(profile), list(profile.values())]


def test_names_that_end_up_the_same_are_told_apart_in_one_pass():
    made = joined(("a", n) for n in range(20_000))
    assert list(made)[-1] == "a (20000)"
