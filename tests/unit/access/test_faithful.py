import json

import pytest

from privacy_toolkit.access import faithful
from privacy_toolkit.access.faithful import AnswerError, Number, joined


@pytest.mark.parametrize("text", ["1.10", "-0", "1e5", "0.1000", "9" * 5000, "-1.5E+300"])
def test_a_number_keeps_its_characters(text):
    read = faithful.read(b'{"n": %s}' % text.encode())
    assert read == {"n": Number(text)}
    assert text in faithful.write(read)


def test_what_is_written_is_what_was_read():
    text = '{"b": [1, 2.50, null, true, {"\\"": "\\u0000\\ud83d\\ude00\\ud800"}], "a": {}, "e": [], "": ""}'
    read = faithful.read(text.encode())
    assert faithful.read(faithful.write(read).encode()) == read
    assert faithful.read(faithful.write_short(read).encode()) == read
    assert list(read) == list(json.loads(faithful.write(read)))


def test_texts_stay_readable():
    assert faithful.write({"name": "Zoë 😀"}) == '{\n  "name": "Zoë 😀"\n}'


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
        faithful.read(answer)


def test_names_that_became_the_same_are_told_apart():
    assert joined([("a", 1), ("a", 2), ("a (2)", 3), ("a", 4)]) == {"a": 1, "a (2)": 2, "a (2) (2)": 3, "a (3)": 4}
