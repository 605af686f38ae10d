"""Which column holds the ids."""

import pytest

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.options import check_distinct, check_id_column, id_column, optional_columns, required_column


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["id", "profile_id", "integrationId", "integration_id", "customer_id"], "customer_id"),
        (["id", "profile_id", "integrationId", "integration_id"], "integration_id"),
        (["id", "profile_id", "integrationId"], "integrationId"),
        (["id", "profile_id"], "profile_id"),
        (["x", "id"], "id"),
    ],
)
def test_the_first_of_the_usual_names_is_taken(columns, found):
    assert id_column(columns, None, "x") == found


def test_a_named_column_is_taken_and_no_other():
    assert id_column(["customer_id", "kunde"], "kunde", "x") == "kunde"
    with pytest.raises(InputError, match=r"f, line 1: there is no column 'Kunde'; there are customer_id, kunde\."):
        id_column(["customer_id", "kunde"], "Kunde", "f, line 1")


@pytest.mark.parametrize("columns", [["Customer_ID", "x"], [" id", "x"], ["id ", "x"]])
def test_names_are_not_bent_to_fit(columns):
    with pytest.raises(InputError, match="there is none of the columns customer_id"):
        id_column(columns, None, "x")


@pytest.mark.parametrize("columns", [["c-1001"], ["c-1001", "anna@example.org"], ["x" * 41, "4711"]])
def test_a_file_without_a_header_gives_nothing_of_its_data_away(columns):
    with pytest.raises(InputError) as caught:
        id_column(columns, None, "f")
    assert [text for text in columns if text in caught.value.message + caught.value.hint] == []


@pytest.mark.parametrize(
    ("header", "mark"), [("customer_id;name", "';'"), ("customer_id\tname", r"'\t'"), ("a|b", "'|'")]
)
def test_another_delimiter_is_suspected_aloud(header, mark):
    with pytest.raises(InputError) as caught:
        id_column([header], None, "f")
    assert caught.value.hint.endswith(f"--delimiter {mark}.")


def test_a_name_for_two_columns_is_refused_by_position():
    check_distinct(["a", "b", "A"], "f")
    with pytest.raises(InputError, match=r"f: columns 2 and 4 have the same name\."):
        check_distinct(["a", "b", "c", "b", "a"], "f")


def test_a_required_column_has_a_position():
    assert required_column(["id", "reason"], "reason", "f") == 1
    with pytest.raises(InputError, match="f: there is no column 'reason'; there are id, x"):
        required_column(["id", "x"], "reason", "f")


def test_optional_columns_are_found_by_their_very_names_in_one_order():
    assert optional_columns(["ground", "id", "ticket", "x", "extended_at", "requested_at"]) == (
        "requested_at",
        "extended_at",
        "ticket",
        "ground",
    )
    assert optional_columns(["Ticket", " ground", "requested_on", "requested-at"]) == ()


@pytest.mark.parametrize("name", ["requested_at", "extended_at", "ticket", "ground"])
def test_an_optional_column_can_not_be_the_one_with_the_ids(name):
    with pytest.raises(InputError, match=f"The column '{name}' can't be the one with the ids") as caught:
        check_id_column(name)
    assert "--id-column" in caught.value.hint


@pytest.mark.parametrize("name", [None, "customer_id", "Ticket"])
def test_any_other_column_can(name):
    assert check_id_column(name) is None
