import json
from datetime import UTC, datetime

import pytest

from privacy_toolkit.access import words
from privacy_toolkit.access.page import View
from privacy_toolkit.access.words import Notice, Texts, language

MARCH = datetime(2024, 3, 1, 9, 5, tzinfo=UTC)


def shown(data, lang="en", **notice):
    view = View(language(lang), Notice(**notice), lang)
    return view.sections(words.read_answer(json.dumps(data).encode())), {
        line.name: [value.raw for value in line.values] for line in view.other
    }


def values(lines):
    return {line.label or line.name: [tuple(value) for value in line.values] for line in lines}


def test_fields_stand_under_their_labels_and_technical_ones_apart():
    found, other = shown(
        {"profile": {"sandbox": True, "integrationId": "a", "created": "2024-03-01T09:05:00.1234567Z"}}
    )
    group = found["profile"]
    assert values(group.lines) == {
        "Your customer ID": [("", "a")],
        "Profile created on": [("1\xa0March 2024 at 09:05\xa0UTC", "2024-03-01T09:05:00.1234567Z")],
    }
    assert values(group.technical) == {"Profile in a test system": [("yes", "true")]}
    assert other == {}


def test_attributes_stand_under_their_own_names(answer):
    found, _ = shown(answer)
    details = found["profile"].groups[0]
    assert details.title == "Details stored about you"
    assert values(details.lines)["Address.Zip"] == [("", "00123")]
    assert values(details.lines)["Interests"] == [("", "garden"), ("", "books")]
    assert values(details.lines)["Empty"] == [("empty", "")]


def test_attributes_have_the_labels_of_the_controller_with_their_own_names_next_to_them(answer):
    labels = {"Name": Texts(en="Full name", de="Ihr Name"), "Address.Zip": "PLZ", "Interests": Texts(fr="Intérêts")}
    found, _ = shown(answer, "de", labels=labels)
    lines = {line.name: (line.label, line.lang) for line in found["profile"].groups[0].lines}
    assert lines["Name"] == ("Ihr Name", None)
    assert lines["Address.Zip"] == ("PLZ", None)
    assert lines["Interests"] == ("Intérêts", "fr")
    assert lines["Address.City"] == ("", None)


def test_times_are_those_of_the_controller(answer):
    found, _ = shown(answer, time_zone="Europe/Berlin")
    ((words, raw),) = values(found["profile"].lines)["Profile created on"]
    assert words.replace("\xa0", " ") == "1 January 2024 at 10:30 (09:30 UTC)"
    assert raw == "2024-01-01T09:30:00.000Z"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "0002-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", ""])
def test_moments_at_the_ends_of_the_calendar_do_no_harm(moment, zone):
    found, _ = shown({"profile": {"created": moment}}, time_zone=zone)
    assert [raw for _, raw in values(found["profile"].lines)["Profile created on"]] == [moment]


def test_amounts_are_written_as_the_language_does_and_as_they_came():
    found, _ = shown({"profile": {"totalSales": 1234.5, "closedSessions": 7, "id": 12345}}, "de")
    lines = values(found["profile"].lines)
    assert [lines[label] for label in ("Summe aller Einkäufe", "Anzahl der abgeschlossenen Einkäufe")] == [
        [("1.234,5", "1234.5")],
        [("", "7")],
    ]
    assert lines["Nummer Ihres Profils im System"] == [("", "12345")]


def test_records_have_headings_that_tell_them_apart(answer):
    found, _ = shown(answer)
    assert [(group.title, group.name) for group in found["coupons"].groups] == [
        ("Coupon 1", "PERSONAL-1"),
        ("Coupon 2", "=SUM(A1)"),
    ]
    programs, cards = found["loyalty"].groups
    assert (programs.groups[0].title, programs.groups[0].name) == ("Loyalty programme 1", "Points")
    assert values(programs.groups[0].technical)["Listed under"] == [("", "1")]
    points = next(group for group in cards.groups[0].groups if group.title == "Other points accounts")
    assert [(group.title, group.name) for group in points.groups] == [("Points account 1", "Travel")]


def test_codes_have_words_where_they_are_known(answer):
    found, _ = shown(answer)
    states = [values(group.lines)["Status"] for group in found["coupons"].groups]
    assert states == [[("can be used", "active")], [("", "odd")]]


def test_what_no_table_knows_is_shown_under_its_raw_name(answer):
    _, other = shown(answer)
    assert other == {
        "coupons[1].newField.deep[1]": ["a"],
        "coupons[1].newField.deep[2].b": ["1"],
        "somethingNew.x": ["y"],
    }


@pytest.mark.parametrize("moment", ["", "soon", "0001-01-01T00:00:00Z", "2024-13-01T00:00:00Z", "2024-01-01", 5])
def test_moments_that_are_none_are_shown_as_they_came(moment):
    found, _ = shown({"profile": {"created": moment}})
    shown_ = values(found["profile"].lines)["Profile created on"]
    assert shown_ == [("", str(moment)) if moment != "" else ("empty", "")]


@pytest.mark.parametrize(
    ("data", "other"),
    [
        ({"coupons": "text"}, {"coupons": ["text"]}),
        ({"coupons": ["text"]}, {"coupons[1]": ["text"]}),
        ({"coupons": {"a": 5}}, {"coupons.a": ["5"]}),
        ({"profile": ["a", "b"]}, {"profile": ["a", "b"]}),
        ({"profile": {"attributes": "text"}}, {"profile.attributes": ["text"]}),
        ({"profile": {"created": {"at": "noon"}}}, {"profile.created.at": ["noon"]}),
        ({"loyalty": {"programs": {"1": 5}}}, {"loyalty.programs.1": ["5"]}),
        ({"coupons": [{"value": [["a"], "b"]}]}, {"coupons[1].value[1]": ["a"], "coupons[1].value[2]": ["b"]}),
    ],
)
def test_values_of_another_form_are_not_lost(data, other):
    assert shown(data)[1] == other


def test_what_is_null_or_empty_is_said_to_be():
    found, other = shown({"profile": {"attributes": {}, "loyaltyMemberships": None, "totalSales": None}})
    assert {value for shown_ in values(found["profile"].lines).values() for value in shown_} == {("no value", "")}
    assert other == {}


@pytest.mark.parametrize(
    ("lang", "said"), [("de", ("sofort", "unbegrenzt")), ("fr", ("immédiatement", "sans limite de durée"))]
)
def test_points_are_valid_from_a_word_of_the_api_or_from_a_time(lang, said):
    records = [
        {"startDate": "immediate", "expiryDate": "unlimited"},
        {"startDate": "2024-03-01T09:05:00Z", "expiryDate": "a new word"},
    ]
    found, _ = shown({"loyaltyLedgers": [{"programId": 1, "transactions": records}]}, lang)
    (ledger,) = found["loyaltyLedgers"].groups
    first, second = ([line.values[0] for line in one.lines] for one in ledger.groups[0].groups)
    assert first == [(said[0], "immediate"), (said[1], "unlimited")]
    assert second == [(language(lang).time(MARCH), "2024-03-01T09:05:00Z"), ("", "a new word")]


def test_points_are_written_as_the_language_does():
    balances = {"balance": {"activePoints": 3721.0, "pendingPoints": 1.5}}
    found, _ = shown({"loyaltyLedgers": [{"programId": 1, "balances": balances}]}, "de")
    (points,) = found["loyaltyLedgers"].groups[0].groups[0].groups
    assert [line.values[0] for line in points.lines] == [("3.721", "3721.0"), ("1,5", "1.5")]
