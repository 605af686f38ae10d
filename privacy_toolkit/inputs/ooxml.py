"""What a workbook is made of: a ZIP archive of XML documents, of which five kinds are read, each within limits.

A reader of its own, over the XML parser of the standard library: docs/adr/0023 says why, and what others were found to
do with ids. Nothing is evaluated, and nothing outside the file is looked at.
"""

from __future__ import annotations

import codecs
import posixpath
import re
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from io import BufferedReader
from typing import NamedTuple
from xml.parsers import expat
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.files import BEGUN, CHUNK, MOST_TIMES

# The parts of a workbook: a ZIP archive of XML documents, of which five kinds are read, in pieces of bounded size.

#: What a sheet can have, by the format.
MOST_ROWS, MOST_COLUMNS = 1_048_576, 16_384
#: Characters of one value, and of all values of a row, as for a CSV.
LONGEST_VALUE, LONGEST_ROW = 131_072, 1 << 20
LONGEST_TITLE = 255
#: Elements inside each other; the parser keeps the names of all that are open.
DEEPEST = 256
#: Bytes of all texts that cells share; they are kept in memory.
MOST_SHARED = 192 << 20
#: Bytes of XML without anything in it that is read: one endless tag or comment would be held in memory whole.
MOST_SILENT = 4 << 20
MOST_PARTS, MOST_STYLES, MOST_SHEETS = 10_000, 100_000, 10_000

_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
SAVE_AGAIN = "Open it in a spreadsheet program, and save it as .xlsx."


class Archive:
    """The archive, looked through before anything of it is decompressed.

    Raises:
        InputError: it is none, or one that no spreadsheet program writes.
    """

    def __init__(self, file: BufferedReader, name: str) -> None:
        self.name = name
        head = file.read(len(_OLE))
        if not head.startswith(_ZIP):
            raise self._no_workbook(head, file)
        self._size = file.seek(0, 2)
        try:
            self._zip = ZipFile(file)
            parts = self._zip.infolist()
        except (BadZipFile, OSError, ValueError, NotImplementedError, UnicodeDecodeError, EOFError):
            raise self.damaged() from None
        if len(parts) > MOST_PARTS or len({part.filename for part in parts}) < len(parts):
            raise InputError(f"{name} has parts that no spreadsheet program writes.", SAVE_AGAIN)
        if any(part.flag_bits & 1 for part in parts):
            raise self._encrypted()

    def read(self, part: str, parser: PartParser) -> None:
        """Have a part read to its end; one that is not there is empty."""
        deque(self.reading(part, parser), maxlen=0)

    def reading(self, part: str, parser: PartParser) -> Iterator[None]:
        """Have a part read, piece by piece; after each what came of it can be taken.

        Raises:
            InputError: it is damaged, or stands for too much.
        """
        if part not in self._zip.NameToInfo:
            return
        info = self._zip.getinfo(part)
        if info.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
            raise self.damaged()
        most = MOST_TIMES * min(info.compress_size, self._size)
        out = silent = 0
        try:
            with self._zip.open(info) as stream:
                while chunk := stream.read(CHUNK):
                    out += len(chunk)
                    if out > BEGUN and out > most:
                        raise InputError(
                            f"{self.name} is more than {MOST_TIMES} times as long as its compressed form; a list of ids"
                            " never is.",
                            "If it is meant, save it as .csv.",
                        )
                    before = parser.events
                    parser.feed(chunk)
                    silent = silent + len(chunk) if parser.events == before else 0
                    if silent > MOST_SILENT:
                        raise self.damaged()
                    yield
                parser.feed(b"", is_final=True)
                yield
        except (
            BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            NotImplementedError,
            expat.ExpatError,
            LookupError,
            ValueError,
        ):
            raise self.damaged() from None

    def damaged(self) -> InputError:
        """The error for what can't be read; what the libraries say of it may quote the file."""
        return InputError(f"{self.name} is damaged, or no workbook.", SAVE_AGAIN)

    def _no_workbook(self, head: bytes, file: BufferedReader) -> InputError:
        if head == _OLE:
            return (
                self._encrypted()
                if _holds(file, _ENCRYPTED)
                else InputError(
                    f"{self.name} is a workbook of the old format (.xls), whatever its name says.", SAVE_AGAIN
                )
            )
        if not head:
            return InputError(f"{self.name} is empty.", SAVE_AGAIN)
        is_text = not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and min(head) >= ord("\t")
        advice = "It looks like text: if it is a CSV, its name has to end in .csv." if is_text else SAVE_AGAIN
        return InputError(f"{self.name} is no .xlsx workbook.", advice)

    def _encrypted(self) -> InputError:
        return InputError(
            f"{self.name} is encrypted.", "Open it in a spreadsheet program, and save it as .xlsx without a password."
        )


def _holds(file: BufferedReader, wanted: bytes) -> bool:
    tail = b""
    while chunk := file.read(CHUNK):
        if wanted in tail + chunk:
            return True
        tail = chunk[-len(wanted) :]
    return False


class PartParser:
    """A parser of one part: names without their prefixes, and no document type, so no entities of its own.

    ``events`` counts what it came to.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.events = self._depth = 0
        self._expat = expat.ParserCreate()
        self._expat.buffer_text = True
        self._expat.StartDoctypeDeclHandler = self._no_type
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self.characters

    def feed(self, chunk: bytes, *, is_final: bool = False) -> None:
        """Take a piece of the part."""
        self._expat.Parse(chunk, is_final)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin an element."""

    def end(self, tag: str) -> None:
        """End an element."""

    def characters(self, text: str) -> None:
        """Take text inside an element."""

    def _no_type(self, *_: object) -> None:
        raise InputError(f"{self.name} has a document type, which no spreadsheet program writes.", SAVE_AGAIN)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.events += 1
        self._depth += 1
        if self._depth > DEEPEST:
            raise InputError(f"{self.name} has a part that no spreadsheet program writes.", SAVE_AGAIN)
        self.start(tag.rpartition(":")[2] if ":" in tag else tag, attributes)

    def _end(self, tag: str) -> None:
        self.events += 1
        self._depth -= 1
        self.end(tag.rpartition(":")[2] if ":" in tag else tag)


class ElementParser(PartParser):
    """Gives every element that begins to a function."""

    def __init__(self, name: str, take: Callable[[str, dict[str, str]], None]) -> None:
        super().__init__(name)
        self._take = take

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        self._take(tag, attributes)


class TextParser(PartParser):
    """The text of elements ``t``, without what says how it is pronounced. ``taken`` is what was found of it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.taken: list[str] = []
        self._length = self._begun = 0
        self._is_taking = self._is_phonetic = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:  # noqa: ARG002 - the parser's
        """Begin an element."""
        if tag == "rPh":
            self._is_phonetic = True
        self._is_taking = tag == "t" and not self._is_phonetic
        if self._is_taking:
            self._begun = len(self.taken)

    def end(self, tag: str) -> None:
        """End an element."""
        if tag == "t" and self._is_taking:
            # Each piece of a text has escapes of its own: what only looks like one across two pieces is none.
            self.taken[self._begun :] = [unescaped("".join(self.taken[self._begun :]))]
        self._is_taking = False
        if tag == "rPh":
            self._is_phonetic = False

    def characters(self, text: str) -> None:
        """Take text inside an element."""
        self.events += 1
        if self._is_taking:
            self.taken.append(text)
            self._length += len(text)
            if self._length > LONGEST_VALUE:
                raise InputError(f"{self.name} has a cell of more than {LONGEST_VALUE:,} characters.", SAVE_AGAIN)

    def take(self) -> str:
        """What was found since this was last asked, with the escapes of the format undone."""
        found = "".join(self.taken)
        self.taken.clear()
        self._length = 0
        return found


_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")


def unescaped(text: str) -> str:
    """The text that is meant: the format writes some characters as ``_x000D_`` (ECMA-376, ST_Xstring)."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


class SharedTexts(TextParser):
    """The texts that cells share: in one piece of memory, since there may be a million of them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._bytes = bytearray()
        self._ends = array("Q", [0])

    def end(self, tag: str) -> None:
        """End an element."""
        super().end(tag)
        if tag == "si":
            self._bytes += self.take().encode("utf-8", "surrogatepass")
            self._ends.append(len(self._bytes))
            if len(self._bytes) > MOST_SHARED:
                raise InputError(f"{self.name} has more than {MOST_SHARED >> 20} MB of text.", "Save it as .csv.")

    def text(self, written: str) -> str:
        """One of them, by its number from 0 as a cell has it.

        Raises:
            InputError: there is none.
        """
        number = int(written) if written.isdecimal() else -1
        if not 0 <= number < len(self._ends) - 1:
            raise InputError(f"{self.name} is damaged: a cell has a text that is not there.", SAVE_AGAIN)
        return self._bytes[self._ends[number] : self._ends[number + 1]].decode("utf-8", "surrogatepass")


# What a number looks like in its cell: by the code of its format, it is a day, or digits, or something else.

_BUILT_IN = {
    0: "General", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 11: "0.00E+00", 48: "##0.0E+0", 49: "@",
    **dict.fromkeys([*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)], "yyyy-mm-dd"),
}  # fmt: skip
#: Of a code what is no digit and shows nothing: colours and conditions, room, what fills a cell.
_SHOWS_NOTHING = re.compile(r"\[(?!h|m|s)[^\]]*\]|_.|\*.", re.IGNORECASE)
_LITERAL = re.compile(r'"[^"]*"|\\.')
_DAY_LETTERS = re.compile(r"[dmyhs]", re.IGNORECASE)
_DIGITS = re.compile(r"(?P<whole>[#0?,]*[#0?])(?:\.[#0?]*)?(?:E[+-]?0+)?", re.IGNORECASE)

IS_DAY, IS_OTHER = -1, 0


@lru_cache(maxsize=1024)
def shape_of(code: str) -> int:
    """How a number is shown by its format: ``IS_DAY``, ``IS_OTHER`` than digits, or with so many digits at least."""
    first = _SHOWS_NOTHING.sub("", code.partition(";")[0]).strip()
    bare = _LITERAL.sub("", first)
    if bare.lower() in {"general", "@", ""} and bare == first:
        return 1
    if _DAY_LETTERS.search(bare.lower().replace("general", "")):
        return IS_DAY
    found = _DIGITS.fullmatch(first)
    return max(1, found["whole"].count("0")) if found else IS_OTHER


class Styles:
    """The shapes of the styles of cells, by their numbers."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._codes = dict(_BUILT_IN)
        self._styles: list[int] = []
        self._is_inside = False

    def take(self, tag: str, attributes: dict[str, str]) -> None:
        """Take an element of the part."""
        if tag == "numFmt" and len(self._codes) < MOST_STYLES:
            self._codes[int(attributes["numFmtId"])] = attributes.get("formatCode", "")
        elif tag == "xf" and self._is_inside and len(self._styles) < MOST_STYLES:
            self._styles.append(int(attributes.get("numFmtId", "0")))
        elif tag in {"cellXfs", "cellStyleXfs", "cellStyles", "dxfs"}:
            self._is_inside = tag == "cellXfs"

    def shape(self, style: int) -> int:
        """How numbers of a style are shown.

        Raises:
            InputError: there is no such style.
        """
        if not self._styles and style == 0:
            return 1
        if not 0 <= style < len(self._styles):
            raise InputError(f"{self._name} is damaged: a cell has a style that is not there.", SAVE_AGAIN)
        return shape_of(self._codes.get(self._styles[style], '"?"'))


# The rows of a sheet, and what sheets there are.


class Cell(NamedTuple):
    """A cell as it is stored: ``kind`` is the format's letter for its type, ``text`` None where nothing is stored."""

    kind: str
    style: int
    text: str | None
    has_formula: bool


class SheetRows(TextParser):
    """The rows of a sheet as they come: ``rows`` are the complete ones. ``hidden`` counts those that nobody sees."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__(name)
        self.rows: list[tuple[int, dict[int, Cell]]] = []
        self.hidden = 0
        self._title = title
        self._row = self._column = self._chars = 0
        self._cells: dict[int, Cell] = {}
        self._kind, self._style, self._has_formula = "n", 0, False
        self._letters: dict[str, int] = {}
        self._row_digits = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        if tag == "v":
            self._is_taking = self._kind != "inlineStr"
        elif tag == "c":
            self._cell(attributes)
        elif tag == "row":
            self._new_row(attributes)
        elif tag == "f":
            self._has_formula = True
        else:
            super().start(tag, attributes)
            self._is_taking = self._is_taking and self._kind == "inlineStr"

    def end(self, tag: str) -> None:
        """End an element."""
        if tag in {"t", "rPh"}:
            super().end(tag)
        self._is_taking = False
        if tag == "c":
            text = "".join(self.taken) if self.taken else None
            if text is not None or self._has_formula:
                self._cells[self._column] = Cell(self._kind, self._style, text, self._has_formula)
            self._chars += self._length
            if self._chars > LONGEST_ROW:
                raise InputError(f"{self._where()} has more than {LONGEST_ROW:,} characters.", SAVE_AGAIN)
            self.taken.clear()
            self._length = 0
        elif tag == "row":
            self.rows.append((self._row, self._cells))

    def _new_row(self, attributes: dict[str, str]) -> None:
        number = int(attributes.get("r", self._row + 1))
        if not self._row < number <= MOST_ROWS:
            raise InputError(
                f"{self._where()} is followed by one numbered {number}; in a workbook rows are in order, and at most"
                f" {MOST_ROWS:,}.",
                SAVE_AGAIN,
            )
        self._row, self._column, self._chars, self._cells = number, 0, 0, {}
        self._row_digits = str(number)
        self.hidden += attributes.get("hidden") in {"1", "true"}

    def _cell(self, attributes: dict[str, str]) -> None:
        place = attributes.get("r")
        column = self._column + 1 if place is None else self._column_of(place)
        if not self._column < column <= MOST_COLUMNS:
            raise InputError(f"{self._where()} has cells that are not in order.", SAVE_AGAIN)
        self._column = column
        self._kind, self._style = attributes.get("t", "n"), int(attributes.get("s", "0"))
        self._has_formula = False

    def _column_of(self, place: str) -> int:
        letters = place.removesuffix(self._row_digits)
        known = self._letters.get(letters)
        if known is not None and len(letters) < len(place):
            return known
        if not letters.isalpha() or letters == place:
            raise InputError(f"{self._where()} has a cell of another row.", SAVE_AGAIN)
        known = 0
        for letter in letters[:4]:
            known = known * 26 + "ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(letter) + 1
        self._letters[letters] = known
        return known

    def _where(self) -> str:
        return f"{self.name}, sheet {self._title!r}, row {self._row}"


class NamedSheet(NamedTuple):
    """A sheet by its name: whether it is seen, and which part it is."""

    title: str
    is_visible: bool
    part: str


class Book:
    """What a workbook says of its parts."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.is_1904 = False
        path = next(iter(self._relations("", "/officeDocument").values()), "xl/workbook.xml")
        self._found: list[tuple[str, bool, str]] = []
        archive.read(path, ElementParser(archive.name, self._take))
        kinds = {kind: self._relations(path, kind) for kind in ("/worksheet", "/sharedStrings", "/styles")}
        self.sheets = [
            NamedSheet(title, is_visible, kinds["/worksheet"][relation])
            for title, is_visible, relation in self._found
            if relation in kinds["/worksheet"]
        ]
        self.shared, self.styles = SharedTexts(archive.name), Styles(archive.name)
        for part in kinds["/styles"].values():
            archive.read(part, ElementParser(archive.name, self.styles.take))
        for part in kinds["/sharedStrings"].values():
            archive.read(part, self.shared)

    def _take(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "sheet" and len(self._found) < MOST_SHEETS and len(attributes.get("name", "")) <= LONGEST_TITLE:
            relation = next((value for name, value in attributes.items() if name.endswith(":id")), "")
            self._found.append((attributes.get("name", ""), attributes.get("state", "visible") == "visible", relation))
        elif tag == "workbookPr":
            self.is_1904 = attributes.get("date1904") in {"1", "true"}

    def _relations(self, part: str, kind: str) -> dict[str, str]:
        """The parts that a part names as being of a kind, by the names it has for them; never one outside the file."""
        folder, base = posixpath.split(part)
        found: dict[str, str] = {}

        def take(tag: str, attributes: dict[str, str]) -> None:
            is_inside = attributes.get("TargetMode", "Internal") == "Internal"
            if tag == "Relationship" and is_inside and attributes.get("Type", "").endswith(kind):
                target = posixpath.normpath(posixpath.join("/", folder, attributes.get("Target", "")))
                found[attributes.get("Id", "")] = target.lstrip("/")

        self._archive.read(posixpath.join(folder, "_rels", f"{base}.rels"), ElementParser(self._archive.name, take))
        return found
