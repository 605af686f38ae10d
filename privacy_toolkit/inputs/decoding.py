"""From bytes to physical lines of text, with the exact line of whatever can't be decoded."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable, Iterator

from privacy_toolkit.inputs.options import ORDERED_BY_MARK

#: Characters in one line. A file without line breaks would otherwise be held in memory whole.
MAX_LINE = 1 << 20

_BREAK = re.compile("\r\n|\r|\n")
_HEAD = 4  # bytes that tell a mark or a foreign format
#: How files begin that are often taken for CSV in UTF-8, and what to do with them.
_FOREIGN = (
    (codecs.BOM_UTF16_LE, "It looks like UTF-16: name it with --encoding utf-16."),
    (codecs.BOM_UTF16_BE, "It looks like UTF-16: name it with --encoding utf-16."),
    (b"\x1f\x8b", "It looks like gzip: its name has to end in .gz."),
    (b"\x28\xb5\x2f\xfd", "It looks like Zstandard: its name has to end in .zst."),
    (b"PAR1", "It looks like Parquet: its name has to end in .parquet."),
    (b"PK\x03\x04", "It looks like a spreadsheet or an archive: save it as CSV."),
)


class LineError(Exception):
    """A line that can't be made. ``after`` complete lines lie between it and the last line that was handed out."""

    def __init__(self, problem: str, hint: str, after: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.after = after


def lines(chunks: Iterable[bytes], codec: str) -> Iterator[str]:
    r"""Physical lines with their ends, which are ``\n``, ``\r\n`` or ``\r``; a byte order mark is left out.

    Raises:
        LineError: bytes that the encoding does not know, or a line that is too long.
    """
    decoder = codecs.getincrementaldecoder(codec)("strict")
    carry, hint = "", "Name the encoding of the file with --encoding."
    for number, chunk in enumerate(_headed(chunks)):
        if number == 0 and chunk:
            hint = next((advice for mark, advice in _FOREIGN if chunk.startswith(mark)), hint)
            _check_mark(chunk, codec)
        before = decoder.getstate()
        text = _decoded(decoder, chunk, final=not chunk)
        if text is None:
            decoder.setstate(before)
            raise LineError(f"is not {codec}", hint, len(_BREAK.findall(carry + _good(decoder, chunk))))
        text = carry + (text if number else text.removeprefix("\ufeff"))
        # A carriage return at the very end may be half of a line end: it waits for what follows.
        cut = max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1
        yield from io.StringIO(text[:cut], newline="")
        carry = text[cut:]
        if len(carry) > MAX_LINE:
            raise LineError(f"is longer than {MAX_LINE:,} characters", "Is this a CSV, with line breaks?", 0)
    if carry:
        yield carry


def _headed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks that hold something, the first one long enough to show a mark; an empty one ends them."""
    head = b""
    begun = False
    for chunk in filter(None, chunks):
        head += chunk
        if begun or len(head) >= _HEAD:
            yield head
            head, begun = b"", True
    if head:
        yield head
    yield b""


def _decoded(decoder: codecs.IncrementalDecoder, chunk: bytes, *, final: bool) -> str | None:
    """The text, or ``None``: the exception holds the bytes, so it is not passed on."""
    try:
        return decoder.decode(chunk, final)
    except UnicodeError:
        return None


def _good(decoder: codecs.IncrementalDecoder, chunk: bytes) -> str:
    """The text before the bytes that can't be decoded; slow, since it is made for an error message only."""
    good: list[str] = []
    for position in range(len(chunk)):
        text = _decoded(decoder, chunk[position : position + 1], final=False)
        if text is None:
            break
        good.append(text)
    return "".join(good)


def _check_mark(head: bytes, codec: str) -> None:
    marks = ORDERED_BY_MARK.get(codec, ())
    if marks and not head.startswith(marks):
        raise LineError(
            f"does not begin with a byte order mark, so {codec} is ambiguous", f"Name {codec}-le or {codec}-be.", 0
        )
