import base64

import pytest

from privacy_toolkit.signatures import sshsig as wire

BEGIN = b"-----BEGIN SSH SIGNATURE-----\n"
END = b"-----END SSH SIGNATURE-----\n"


def test_strings_are_read_one_after_the_other():
    reader = wire.Reader(wire.string(b"first") + wire.string(b"") + wire.uint32(7))
    assert (reader.string(), reader.string(), reader.uint32()) == (b"first", b"", 7)
    reader.end()


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\x05four", b"\xff\xff\xff\xff" + b"x" * 64])
def test_a_string_that_ends_early_is_malformed(data):
    with pytest.raises(wire.MalformedError):
        wire.Reader(data).string()


def test_what_is_left_over_is_malformed():
    with pytest.raises(wire.MalformedError):
        wire.Reader(b"x").end()


def test_other_bytes_than_expected_are_malformed():
    with pytest.raises(wire.MalformedError):
        wire.Reader(b"SSHSIG").expect(b"SSHSIC")


@pytest.mark.parametrize("text", ["QQ", "Q Q=", "QQ==\n", "Q-==", "QQ=", "é"])
def test_base64_holds_nothing_else(text):
    with pytest.raises(wire.MalformedError):
        wire.from_base64(text)


@pytest.mark.parametrize("length", [0, 1, 52, 53, 104, 105, 106, 210])
def test_armor_has_lines_of_seventy_and_no_empty_one(length):
    armored = wire.armor(bytes(length))
    *lines, last = armored.removeprefix(BEGIN).removesuffix(END).split(b"\n")
    assert last == b""
    assert b"".join(lines) == base64.b64encode(bytes(length))
    assert all(len(line) == 70 for line in lines[:-1])
    assert all(0 < len(line) <= 70 for line in lines)
    assert wire.unarmor(armored) == bytes(length)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.removesuffix(b"\n"),
        lambda text: text + b"\n",
        lambda text: b"\n" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b" \n"),
        lambda text: text.replace(END, b"\n" + END),
        lambda text: text.replace(b"-----BEGIN", b"----BEGIN"),
        lambda text: BEGIN + text.removeprefix(BEGIN).removesuffix(END).replace(b"\n", b"") + b"\n" + END,
        lambda text: text.replace(b"AA==", b"AB=="),
        lambda text: text.replace(b"AA==", b"AA"),
        lambda text: b"",
        lambda text: BEGIN,
    ],
)
def test_only_the_one_armor_is_taken(change):
    armored = wire.armor(bytes(100))
    assert armored != change(armored)
    with pytest.raises(wire.MalformedError):
        wire.unarmor(change(armored))


def test_what_is_far_too_long_is_not_even_decoded():
    with pytest.raises(wire.MalformedError):
        wire.unarmor(wire.armor(bytes(10_000)))
