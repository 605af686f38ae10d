import time
from datetime import UTC, datetime

import pytest

from privacy_toolkit.signatures.signers import Options, parse_options
from privacy_toolkit.signatures.sshsig import MalformedError


def seconds(*parts):
    return datetime(*parts, tzinfo=UTC).timestamp()


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_all_options_are_read_whatever_their_case():
    text = 'CERT-authority,Namespaces="a@v1,b",valid-after="20240101Z",valid-before="202401020304Z"'
    assert parse_options(text) == Options(True, "a@v1,b", seconds(2024, 1, 1), seconds(2024, 1, 2, 3, 4))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20240229Z", (2024, 2, 29)),
        ("20240229z", (2024, 2, 29)),
        ("202402291530Z", (2024, 2, 29, 15, 30)),
        ("20240229153045Z", (2024, 2, 29, 15, 30, 45)),
    ],
)
def test_times_in_utc(text, expected):
    assert parse_options(f'valid-after="{text}"').valid_after == seconds(*expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20240115", (2024, 1, 14, 23)),
        ("202401151200", (2024, 1, 15, 11)),
        ("202407151200", (2024, 7, 15, 10)),
        ("20240715120001", (2024, 7, 15, 10, 0, 1)),
    ],
)
@pytest.mark.usefixtures("berlin")
def test_times_without_a_z_are_those_of_the_clock_on_the_wall(text, expected):
    assert parse_options(f'valid-before="{text}"').valid_before == seconds(*expected)


@pytest.mark.parametrize(
    "text",
    ["", "2024", "20230229Z", "20241301Z", "202401012460Z", "20240101T", "2024-01-01", "20240101 Z",
     "\uff12\uff10240101Z",
     "20240101UTC", "00000101Z", "2024010112Z"],
)  # fmt: skip
def test_a_time_of_another_form_is_malformed(text):
    with pytest.raises(MalformedError, match="time"):
        parse_options(f'valid-after="{text}"')


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "can't be read"),
        (",", "can't be read"),
        ("cert-authority,", "can't be read"),
        ("namespaces=a", "can't be read"),
        ('namespaces="a', "can't be read"),
        ('namespaces="a"b', "can't be read"),
        ('namespaces="a" ', "can't be read"),
        ("unknown", "not known"),
        ('principals="a"', "not known"),
        ("namespaces", "no value"),
        ('cert-authority="yes"', "no value"),
        ('namespaces="a",namespaces="b"', "twice"),
        ('valid-after="20240102Z",valid-before="20240101Z"', "not later"),
        ('valid-after="20240101Z",valid-before="20240101Z"', "not later"),
    ],
)
def test_options_that_cannot_be_understood_are_malformed(text, why):
    with pytest.raises(MalformedError, match=why):
        parse_options(text)


def test_a_quote_can_be_escaped():
    assert parse_options(r'namespaces="a\"b\c"').namespaces == 'a"b\\c'


def test_a_key_is_accepted_from_the_first_to_the_last_second():
    options = parse_options('valid-after="20240101Z",valid-before="20240102Z"')
    moments = [
        (datetime(2023, 12, 31, 23, 59, 59, 999_999, UTC), False),
        (datetime(2024, 1, 1, tzinfo=UTC), True),
        (datetime(2024, 1, 2, 0, 0, 0, 999_999, UTC), True),
        (datetime(2024, 1, 2, 0, 0, 1, tzinfo=UTC), False),
    ]
    assert [options.accept("any", moment) for moment, _ in moments] == [expected for _, expected in moments]


def test_without_options_every_use_is_accepted_at_any_time():
    assert Options().accept("any", datetime(1990, 1, 1, tzinfo=UTC))


def test_an_empty_list_of_uses_accepts_none():
    assert not parse_options('namespaces=""').accept("any", datetime(2024, 1, 1, tzinfo=UTC))


def test_an_authority_accepts_no_signature_of_its_own():
    assert not parse_options("cert-authority").accept("any", datetime(2024, 1, 1, tzinfo=UTC))
