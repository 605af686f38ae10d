"""What ``check-receipt.sh`` checks, step by step and in its words, in this process: a thousand receipts a second.

Tests hold the two together: where both are asked they have to give the same reason.
"""

import hmac
import re
from base64 import b64decode
from hashlib import sha256

NUMBER = re.compile(rb"(0|[1-9][0-9]{0,14})")
HASH = re.compile(rb"[0-9A-Za-z+/]{42}[AEIMQUYcgkosw048]=")
PRINTABLE = re.compile(rb"[\n\x20-\x7e]*")


class NotValidError(Exception):
    """The receipt is not valid; the message is the one that the script prints."""


def refusal(receipt, checkpoint, sums, id_):
    """Why the script refuses these files of an id without a line end; None if it takes them."""
    try:
        check(receipt, checkpoint, sums, id_)
    except NotValidError as refused:
        return str(refused)
    return None


def check(receipt, checkpoint, sums, id_):
    """Go through the steps of the script.

    Raises:
        NotValidError: one of them fails.
    """
    for name, data in (("receipt.txt", receipt), ("checkpoint.txt", checkpoint), ("SHA256SUMS", sums)):
        _require(PRINTABLE.fullmatch(data), f"{name} has characters that it can't have")
    lines = _Lines(checkpoint, "checkpoint.txt")
    origin, size, root = lines.line(), lines.line(), lines.line()
    _number(size, "the size in checkpoint.txt")
    _hash(root, "the root in checkpoint.txt")
    run = lines.take("run")
    _require(re.fullmatch(rb"[0-9A-Za-z._-]+", run), "checkpoint.txt names a run that can not be one")
    index, key, row, path = _receipt(receipt, run, origin, size)
    subject = row.rpartition(b',"subject":"')[2].partition(b'"')[0]
    mine = hmac.new(bytes.fromhex(key.decode()), id_, "sha256").hexdigest().encode()
    _require(mine == subject, "the row is not that of this id, or key, row or id were changed")
    _require(
        _root(row, int(index), int(size), path) == b64decode(root),
        "row and path do not lead to the root in checkpoint.txt",
    )
    named = re.findall(rb"^[0-9a-f]{64}  checkpoint\.txt$", sums, re.MULTILINE)
    _require(len(named) == 1, "SHA256SUMS does not name checkpoint.txt exactly once")
    told = sha256(checkpoint).hexdigest().encode()
    _require(named[0][:64] == told, "checkpoint.txt is not the one that SHA256SUMS names")


def _receipt(receipt, run, origin, size):
    """What the receipt says: index, key, row and the lines after it."""
    lines = _Lines(receipt, "receipt.txt")
    _require(lines.line(default=b"") == b"privacy-toolkit receipt v1", "receipt.txt is no receipt of this kind")
    _require(lines.take("run") == run, "the receipt and checkpoint.txt are of different runs")
    _require(lines.take("origin") == origin, "the receipt and checkpoint.txt are of different chains of packs")
    index = lines.take("index")
    _number(index, "the index")
    _require(lines.take("size") == size, "the receipt and checkpoint.txt name different sizes")
    _require(int(index) < int(size), "there is no such row: the index is not below the size")
    key = lines.take("key")
    _require(re.fullmatch(rb"[0-9a-f]{64}", key), "the key is none")
    return index, key, lines.take("row"), lines


def _root(row, at, size, lines):
    """Where row and path lead (RFC 9162, section 2.1.3.2)."""
    got, last = sha256(b"\0" + row).digest(), size - 1
    while (line := lines.next()) is not None:
        _require(len(line) > 5 and line.startswith(b"path "), "receipt.txt has a line that does not belong there")
        _hash(line[5:], "a step of the path")
        _require(last > 0, "the path is too long")
        step = b64decode(line[5:])
        if at & 1 or at == last:
            got = sha256(b"\1" + step + got).digest()
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            got = sha256(b"\1" + got + step).digest()
        at, last = at >> 1, last >> 1
    _require(not lines.rest, "receipt.txt does not end where it should")
    _require(last == 0, "the path is too short")
    return got


class _Lines:
    """Lines of a file as the shell reads them: what has no line end is none."""

    def __init__(self, data, name):
        self.rest, self._name = data, name

    def next(self):
        """The next line; None if there is none."""
        line, end, rest = self.rest.partition(b"\n")
        if not end:
            return None
        self.rest = rest
        return line

    def line(self, default=None):
        """The next line, which has to be there unless there is a default."""
        line = self.next()
        line = default if line is None else line
        _require(line is not None, f"{self._name} is not complete")
        return line

    def take(self, word):
        """What follows ``word`` in the next line."""
        line, start = self.line(), word.encode() + b" "
        good = line.startswith(start) and len(line) > len(start)
        _require(good, f"{self._name} is not as it was written: a line should begin with {word}")
        return line[len(start) :]


def _require(good, reason):
    if not good:
        raise NotValidError(reason)


def _number(text, what):
    _require(NUMBER.fullmatch(text), f"{what} is no number")


def _hash(text, what):
    _require(HASH.fullmatch(text), f"{what} is no hash")
