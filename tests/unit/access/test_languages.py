import re
import string
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from privacy_toolkit.access import words as languages
from privacy_toolkit.access import words as notice
from privacy_toolkit.access.words import language
from privacy_toolkit.core.model import LANGUAGES
from privacy_toolkit.core.privacy import templates_folder
from privacy_toolkit.talonone.inventory import SHAPES, FieldKind

SOURCES = [*(templates_folder() / "access").iterdir(), *Path(notice.__file__).parent.glob("*.py")]


def leaves(words):
    found = {}
    for part in ("text", "receipt", "notice", "shapes", "languages"):
        found |= {f"{part}.{key}": text for key, text in getattr(words, part).items()}
    for part in ("labels", "choices"):
        found |= {f"{part}.{a}.{b}": text for a, inner in getattr(words, part).items() for b, text in inner.items()}
    found |= {f"counted.{key}.{k}": text for key, forms in words.counted.items() for k, text in enumerate(forms)}
    found |= {"moment": words.moment, "date": words.full_date}
    return found | {"clock": words.clock, "first": words.first_of_month}


def placeholders(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("code", LANGUAGES)
def test_each_language_says_everything(code):
    words, english = leaves(language(code)), leaves(language("en"))
    assert words.keys() == english.keys()
    assert [key for key, text in words.items() if not text.strip()] == []
    assert [key for key, text in words.items() if placeholders(text) != placeholders(english[key])] == []
    assert len(language(code).months) == 12
    assert language(code).notice.keys() == set(notice.KEYS)


@pytest.mark.parametrize("code", ["de", "fr", "es"])
def test_no_sentence_was_left_in_english(code):
    words, english = leaves(language(code)), leaves(language("en"))
    same = [key for key, text in words.items() if text == english[key] and " " in text.strip(": ")]
    assert same == (["date"] if code == "fr" else [])  # 3 mars 2024, 3 March 2024


def test_french_puts_no_line_break_before_high_punctuation():
    assert [key for key, text in leaves(language("fr")).items() if re.search(" [;:!?»]|« ", text)] == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_quotation_marks_and_apostrophes_are_those_of_the_language(code):
    quotes = {"en": "“”", "de": "„“", "fr": "«»", "es": "«»"}[code]
    text = "".join(leaves(language(code)).values())
    assert set(text) & set("\"'„“”«»`") <= set(quotes)
    assert [text.count(mark) for mark in quotes] == [text.count(quotes[0])] * 2


@pytest.mark.parametrize("code", LANGUAGES)
def test_each_field_has_a_label_and_each_choice_its_words(code):
    words = language(code)
    assert {shape: set(fields) for shape, fields in SHAPES.items()} == {
        shape: set(labels) for shape, labels in words.labels.items()
    }
    choices = {
        f"{shape}.{n}" for shape, fields in SHAPES.items() for n, f in fields.items() if f.kind is FieldKind.CHOICE
    }
    assert words.choices.keys() == choices
    many = {f.shape for fields in SHAPES.values() for f in fields.values() if f.kind in {FieldKind.LIST, FieldKind.MAP}}
    assert words.shapes.keys() == many


def test_no_text_is_there_for_nothing():
    text = "".join(path.read_text("utf-8") for path in SOURCES)
    made = re.compile("(section|intro|glance|limit)_|live$")
    assert [key for key in language("en").text if not re.search(rf"\b{key}\b", text) and not made.match(key)] == []


def plain(text):
    return re.sub("[\xa0\u202f]", " ", text)


@pytest.mark.parametrize(
    ("code", "first", "other"),
    [
        ("en", "1 March 2024 at 09:05 UTC", "31 December 2024 at 23:59 (UTC+05:30)"),
        ("de", "1. März 2024 um 09:05 Uhr UTC", "31. Dezember 2024 um 23:59 Uhr (UTC+05:30)"),
        ("fr", "1er mars 2024 à 9 h 05 UTC", "31 décembre 2024 à 23 h 59 (UTC+05:30)"),
        ("es", "1 de marzo de 2024 a las 9:05 UTC", "31 de diciembre de 2024 a las 23:59 (UTC+05:30)"),
    ],
)
def test_moments_in_words(code, first, other):
    words = language(code)
    read = words.read_at(1_709_283_900_000_000)
    assert read == words.time(datetime(2024, 3, 1, 9, 5, tzinfo=UTC))
    assert plain(read) == first
    india = timezone(timedelta(hours=5, minutes=30))
    assert plain(words.time(datetime(2024, 12, 31, 23, 59, tzinfo=india))) == other


@pytest.mark.parametrize(
    ("code", "summer", "midnight"),
    [
        ("en", "1 July 2024 at 14:00 (12:00 UTC)", "1 January 2025 at 00:30 (31 December 2024 at 23:30 UTC)"),
        (
            "de",
            "1. Juli 2024 um 14:00 Uhr (12:00 Uhr UTC)",
            "1. Januar 2025 um 00:30 Uhr (31. Dezember 2024 um 23:30 Uhr UTC)",
        ),
        (
            "fr",
            "1er juillet 2024 à 14 h 00 (12 h 00 UTC)",
            "1er janvier 2025 à 0 h 30 (31 décembre 2024 à 23 h 30 UTC)",
        ),
        (
            "es",
            "1 de julio de 2024 a las 14:00 (12:00 UTC)",
            "1 de enero de 2025 a las 0:30 (31 de diciembre de 2024 a las 23:30 UTC)",
        ),
    ],
)
def test_a_moment_is_said_in_the_local_time_with_utc_next_to_it(code, summer, midnight):
    berlin = ZoneInfo("Europe/Berlin")
    times = datetime(2024, 7, 1, 12, tzinfo=UTC), datetime(2024, 12, 31, 23, 30, tzinfo=UTC)
    assert [plain(language(code).time(one, berlin)) for one in times] == [summer, midnight]
    assert language(code).time(times[0], ZoneInfo("Europe/London")) != language(code).time(times[0])
    assert language(code).time(times[1], ZoneInfo("Europe/London")) == language(code).time(times[1])  # it is UTC there


def test_spanish_has_one_hour_that_is_single():
    hours = [language("es").time(datetime(2024, 7, 1, hour, tzinfo=UTC)) for hour in range(24)]
    assert [hour for hour, said in enumerate(hours) if " a la " in said] == [1]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("en", ["0", "1", "999", "1,234", "12,345.50", "\N{MINUS SIGN}1,234,567.125", "1e5", "007"]),
        ("de", ["0", "1", "999", "1.234", "12.345,50", "\N{MINUS SIGN}1.234.567,125", "1e5", "007"]),
        ("fr", ["0", "1", "999", "1 234", "12 345,50", "\N{MINUS SIGN}1 234 567,125", "1e5", "007"]),
        ("es", ["0", "1", "999", "1234", "12 345,50", "\N{MINUS SIGN}1 234 567,125", "1e5", "007"]),
    ],
)
def test_numbers_have_the_form_of_the_language_and_every_digit(code, said):
    given = ["0", "1", "999", "1234", "12345.50", "-1234567.125", "1e5", "007"]
    assert [plain(language(code).number(text)) for text in given] == said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("en", ["0 entries", "1 entry", "2 entries", "1,000 entries"]),
        ("de", ["0 Einträge", "1 Eintrag", "2 Einträge", "1.000 Einträge"]),
        ("fr", ["0 entrée", "1 entrée", "2 entrées", "1 000 entrées"]),
        ("es", ["0 entradas", "1 entrada", "2 entradas", "1000 entradas"]),
    ],
)
def test_none_one_and_many_are_counted_as_the_language_does(code, said):
    counted = [plain(language(code).count("entries", number)).partition(",") for number in (0, 1, 2)]
    counted.append(plain(language(code).count("entries", 1000)).rpartition(","))
    assert [parts[0] for parts in counted] == said


def test_there_are_no_other_languages():
    with pytest.raises(ValueError, match="it"):
        language("it")
    folder = Path(languages.__file__).parent / "languages"
    assert {path.stem for path in folder.glob("*.json")} == set(LANGUAGES)
