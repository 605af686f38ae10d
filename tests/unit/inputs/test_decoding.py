"""Physical lines, and the exact line of what can't be decoded."""

import pytest

from privacy_toolkit.inputs.csv import MAX_LINE, LineError, lines

SIZES = [1, 2, 3, 5, 1000]


def cut(data, size):
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", SIZES)
def test_lines_end_with_any_of_the_three_ends_and_with_nothing_else(size):
    text = "a\nb\r\nc\rd\r\r\n\n\x0b\x0c\x85\u2028e\r"
    expected = ["a\n", "b\r\n", "c\r", "d\r", "\r\n", "\n", "\x0b\x0c\x85\u2028e\r"]
    assert list(lines(cut(text.encode(), size), "utf-8")) == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("codec", "mark"),
    [
        ("utf-8", b"\xef\xbb\xbf"),
        ("utf-8", b""),
        ("utf-16-le", b"\xff\xfe"),
        ("utf-16-be", b"\xfe\xff"),
        ("utf-16-le", b""),
    ],
)
def test_a_byte_order_mark_is_left_out_and_only_at_the_beginning(size, codec, mark):
    assert list(lines(cut(mark + "\u00e4\ufeff\n".encode(codec), size), codec)) == ["\u00e4\ufeff\n"]


@pytest.mark.parametrize("codec", ["utf-16", "utf-32"])
def test_an_encoding_with_two_byte_orders_needs_a_mark(codec):
    assert list(lines(["\u00e4\n".encode(codec)], codec)) == ["\u00e4\n"]
    with pytest.raises(LineError, match="byte order mark"):
        list(lines(["\u00e4\u00e4\n".encode(f"{codec}-le")], codec))


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_lines(data):
    assert list(lines([b"", data, b""], "utf-8")) == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("bad", [b"x\xffy\n", b"x\xe2\x82", b"x\xed\xa0\x80\n", b"\xc3\n"])
def test_the_line_that_can_not_be_decoded_is_found_exactly(size, end, bad):
    good = b"".join(b"%d%s" % (number, end) for number in range(20))
    handed_out = []
    with pytest.raises(LineError) as caught:
        handed_out.extend(lines(cut(good + bad + b"more\n" * 3, size), "utf-8"))
    assert len(handed_out) + caught.value.after == 20
    assert caught.value.__context__ is None  # the decoder's own error holds the bytes


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"\xff\xfei\0d\0", "utf-16"),
        (b"\xfe\xff\0i\0d", "utf-16"),
        (b"\x1f\x8b\x08\x00", ".gz"),
        (b"\x28\xb5\x2f\xfd", ".zst"),
        (b"PAR1\x15\xff", ".parquet"),
        (b"PK\x03\x04\x14\xff", "spreadsheet"),
        (b"caf\xe9", "--encoding"),
    ],
)
def test_what_the_file_probably_is_gets_said(head, word):
    with pytest.raises(LineError) as caught:
        list(lines([head], "utf-8"))
    assert word in caught.value.hint


def test_a_file_without_line_breaks_is_not_gathered_up():
    def endless():
        while True:
            yield b"x" * 100_000

    with pytest.raises(LineError, match=f"{MAX_LINE:,}"):
        list(lines(endless(), "utf-8"))
