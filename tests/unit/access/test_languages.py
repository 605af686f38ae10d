import re
import string
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from privacy_toolkit.access import words as languages
from privacy_toolkit.access import words as notice
from privacy_toolkit.access.words import LANGUAGES, language
from privacy_toolkit.core import templates_folder
from privacy_toolkit.talonone.inventory import SHAPES, FieldKind

SOURCES = [*(templates_folder() / "access").iterdir(), *Path(notice.__file__).parent.glob("*.py")]


def leaves(words):
    found = {}
    for part in ("text", "notice", "shapes"):
        found |= {f"{part}.{key}": text for key, text in getattr(words, part).items()}
    for part in ("labels", "choices"):
        found |= {f"{part}.{a}.{b}": text for a, inner in getattr(words, part).items() for b, text in inner.items()}
    return found | {"moment": words.moment, "first": words.first_of_month}


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
    assert [key for key, text in words.items() if text == english[key] and " " in text.strip(": ")] == []


def test_french_puts_no_line_break_before_high_punctuation():
    assert [key for key, text in leaves(language("fr")).items() if re.search(" [;:!?»]|« ", text)] == []


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


@pytest.mark.parametrize(
    ("code", "first", "other"),
    [
        ("en", "1 March 2024, 09:05 UTC", "31 December 2024, 23:59 UTC+05:30"),
        ("de", "1. März 2024, 09:05 UTC", "31. Dezember 2024, 23:59 UTC+05:30"),
        ("fr", "1er mars 2024 à 09:05 UTC", "31 décembre 2024 à 23:59 UTC+05:30"),
        ("es", "1 de marzo de 2024, 09:05 UTC", "31 de diciembre de 2024, 23:59 UTC+05:30"),
    ],
)
def test_moments_in_words(code, first, other):
    words = language(code)
    assert words.read_at(1_709_283_900_000_000) == words.time(datetime(2024, 3, 1, 9, 5, tzinfo=UTC)) == first
    india = timezone(timedelta(hours=5, minutes=30))
    assert words.time(datetime(2024, 12, 31, 23, 59, tzinfo=india)) == other


def test_there_are_no_other_languages():
    with pytest.raises(ValueError, match="it"):
        language("it")
    folder = Path(languages.__file__).parent / "languages"
    assert {path.stem for path in folder.glob("*.json")} == set(LANGUAGES)
