import re
from zoneinfo import ZoneInfo

import pytest

from privacy_toolkit.access import words as notice
from privacy_toolkit.access.words import KEYS, NoticeText, Texts, blank, load, sample
from privacy_toolkit.core.model import UsageError


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "notice.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def whole(**changes):
    keys = dict.fromkeys(KEYS, '"text"') | changes
    return "".join(f"{key} = {value}\n" for key, value in keys.items() if value is not None)


def test_sample_has_every_key_and_is_refused_as_it_is(written):
    assert all(f"\n{key}" in sample() for key in KEYS)
    with pytest.raises(UsageError, match="controller: FILL IN is still there"):
        load(written(sample()))


@pytest.mark.parametrize("place", range(13))
def test_each_placeholder_that_is_left_is_named(written, place):
    parts = sample().split('"FILL IN"')
    assert len(parts) == len(KEYS) + 1
    filled = '"said"'.join(parts[: place + 1]) + '"FILL IN"' + '"said"'.join(parts[place + 1 :])
    with pytest.raises(UsageError, match=rf"{KEYS[place]}(\.en)?: FILL IN"):
        load(written(filled))


def test_filled_in_it_is_taken(written):
    found = load(written(sample().replace("FILL IN", "said")))
    assert {found.said(key, "en").text for key in KEYS} == {"said"}


def test_longer_words_may_say_that_something_is_filled_in(written):
    assert load(written(whole(rights='"Please fill in our form."'))).rights == "Please fill in our form."


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"purpose": '"x"'}, "purpose: there is no such key"),
        ({"purposes": None}, "purposes: missing"),
        ({"purposes": '" "'}, "purposes: is empty"),
        ({"purposes": "{}"}, "purposes: is empty"),
        ({"purposes": "{ '' = 'x' }"}, "purposes.: there is no such language"),
        ({"purposes": "5"}, "purposes: must be a text"),
        ({"purposes": '{ en = "x", it = "y" }'}, "purposes.it: there is no such language"),
        ({"purposes": "{ en = 5 }"}, "purposes.en: must be a text"),
        ({"purposes": '{ en = "x", de = "FILL_IN" }'}, "purposes.de: FILL IN"),
        ({"purposes": '{ en = "x", de = "" }'}, "purposes.de: is empty"),
        ({"time_zone": '"Europe/Berln"'}, "time_zone: there is no such time zone"),
        ({"time_zone": '"Europe"'}, "time_zone: there is no such time zone"),
        ({"time_zone": '"../../etc/localtime"'}, "time_zone: there is no such time zone"),
        ({"time_zone": "5"}, "time_zone: there is no such time zone"),
        ({"labels": '"x"'}, "labels: must be a table"),
        ({"labels": "{ Name = 5 }"}, "labels.Name: must be a text"),
        ({"labels": '{ Address = { City = "x" } }'}, "labels.Address.City: there is no such language"),
        ({"labels": '{ Name = { de = "" } }'}, "labels.Name.de: is empty"),
    ],
)
def test_what_can_not_be_used_is_named(written, changes, named):
    with pytest.raises(UsageError) as refused:
        load(written(whole(**changes)))
    assert named in refused.value.message


def test_only_the_data_protection_officer_may_be_left_out(written):
    assert load(written(whole(dpo=None))).said("dpo", "en") is None


@pytest.mark.parametrize(
    "text", ["controller = ", b"\xff\xfe", "a = " + "9" * 5000, "a = " + "[" * 3000, "a." * 250_000 + "a=1"]
)
def test_what_is_no_toml_is_refused(written, text):
    with pytest.raises(UsageError, match="not valid TOML"):
        load(written(text))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="can't be read"):
        load(tmp_path / "none.toml")


def test_a_byte_order_mark_does_no_harm(written):
    assert load(written(b"\xef\xbb\xbf" + whole().encode())).controller == "text"


def test_languages_fall_back_to_english_then_to_the_first():
    made = notice.Notice(purposes=Texts(en="E", de="D"), rights=Texts(fr="F"), source="S")
    assert made.said("purposes", "de") == NoticeText("D", "de")
    assert made.said("purposes", "es") == NoticeText("E", "en")
    assert made.said("rights", "de") == NoticeText("F", "fr")
    assert made.said("source", "de") == NoticeText("S", None)
    assert made.lacking("es") == ["purposes", "rights"]
    assert made.lacking("fr") == ["purposes"]


def test_time_zone_and_labels_may_be_given(written):
    found = load(written(whole() + 'time_zone = "Europe/Berlin"\n[labels]\nName = { de = "Ihr Name" }\n"A.b" = "B"\n'))
    assert found.zone == ZoneInfo("Europe/Berlin")
    assert found.label("Name", "en") == NoticeText("Ihr Name", "de")
    assert found.label("A.b", "fr") == NoticeText("B", None)
    assert found.label("Other", "fr") is None
    assert found.lacking("fr") == ["labels.Name"]
    assert (blank().zone, blank().label("Name", "de")) == (None, None)


def test_the_sample_of_what_may_be_left_out_can_be_used(written):
    optional = sample().replace("FILL IN", "said").split("Take off the # in front of what you need.")
    used = re.sub(r"(?m)^# (?=time_zone|\[labels|FirstName|\")", "", optional[1])
    found = load(written(optional[0] + used))
    assert found.zone is not None
    assert set(found.labels) == {"FirstName", "Address.City"}
    assert found.lacking("de") == [key for key in KEYS if isinstance(getattr(found, key), Texts)]


def test_a_blank_notice_says_nothing():
    assert [blank().said(key, "en") for key in KEYS] == [None] * len(KEYS)
