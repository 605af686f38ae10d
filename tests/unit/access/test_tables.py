import csv
import io

from privacy_toolkit.access.faithful import Number
from privacy_toolkit.access.tables import tables


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
