import json

import pytest

from privacy_toolkit.access import words
from privacy_toolkit.access.words import AnswerError, Number, joined


@pytest.mark.parametrize("text", ["1.10", "-0", "1e5", "0.1000", "9" * 5000, "-1.5E+300"])
def test_a_number_keeps_its_characters(text):
    read = words.read_answer(b'{"n": %s}' % text.encode())
    assert read == {"n": Number(text)}
    assert text in words.write_json(read)


def test_what_is_written_is_what_was_read():
    text = '{"b": [1, 2.50, null, true, {"\\"": "\\u0000\\ud83d\\ude00\\ud800"}], "a": {}, "e": [], "": ""}'
    read = words.read_answer(text.encode())
    assert words.read_answer(words.write_json(read).encode()) == read
    assert words.read_answer(words.write_short(read).encode()) == read
    assert list(read) == list(json.loads(words.write_json(read)))


def test_texts_stay_readable():
    assert words.write_json({"name": "Zoë 😀"}) == '{\n  "name": "Zoë 😀"\n}'


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": "\xff"}',
        b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a": ' + b"[" * 150 + b"]" * 150 + b"}",
    ],
)
def test_what_can_not_be_kept_without_loss_is_refused(answer):
    with pytest.raises(AnswerError):
        words.read_answer(answer)


def test_names_that_became_the_same_are_told_apart():
    assert joined([("a", 1), ("a", 2), ("a (2)", 3), ("a", 4)]) == {"a": 1, "a (2)": 2, "a (2) (2)": 3, "a (3)": 4}
