"""How an input is read, checked before a file is opened: encoding, columns, forms of dates; and what an id may be."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, cast

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import InputError
from privacy_toolkit.core.privacy import MARK_COLUMN, OLD_MARK_COLUMN

# Which ids can be sent at all. Nothing is changed to make one fit: it is taken as it is, or refused with a reason.

#: The longest id in characters (Unicode code points): ``maxLength`` of IntegrationEntity in the published document.
MAX_LENGTH = 1000

#: Every character with the Unicode property White_Space (Unicode Character Database, PropList.txt).
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
#: Codes, not prose: they are in reports, which must not hold personal data.
CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.()\-]{0,39}")
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029]")  # C0, DEL, C1, and Unicode's own line breaks
_SURROGATE = re.compile("[\\ud800-\\udfff]")


class RejectReason(StrEnum):
    """Why a row is refused; the closed list that reports know."""

    NULL = "null"  # no value at all, in Parquet
    BLANK = "blank"  # empty, or white space alone
    CONTROL_CHARACTER = "control_character"  # inside the id: NUL, tab, a line break, another control character
    LONE_SURROGATE = "lone_surrogate"  # half a character: there is no UTF-8 for it
    DOT_SEGMENT = "dot_segment"  # "." or "..": it would lead the request to another address (RFC 3986, 5.2.4)
    TOO_LONG = "too_long"
    SURROUNDING_WHITESPACE = "surrounding_whitespace"  # nothing else is wrong: --strip would take the id
    # A cell of a spreadsheet that no longer says what the id looked like.
    NUMBER_NOT_EXACT = "number_not_exact"  # more than 15 digits, a fraction, or shown as something else
    NOT_TEXT = "not_text"  # a date, a time, true or false
    CELL_ERROR = "cell_error"  # such as #N/A
    FORMULA_WITHOUT_VALUE = "formula_without_value"  # never calculated, and never calculated here
    # Ids that are looked up by a key: nobody has it, or several have, or someone without a usable id.
    KEY_UNKNOWN = "key_unknown"
    KEY_AMBIGUOUS = "key_ambiguous"
    # The id is fine; one of the optional columns is not.
    REQUESTED_AT_NO_DATE = "requested_at_no_date"
    EXTENDED_AT_NO_DATE = "extended_at_no_date"
    TICKET_NOT_USABLE = "ticket_not_usable"  # no reference, or it would carry the id into the report
    GROUND_NOT_USABLE = "ground_not_usable"  # no code, or the same
    # The id is fine; what a job needs next to it is not.
    COUPON_NOT_USABLE = "coupon_not_usable"  # empty, or what an id may not hold either
    BUDGET_NOT_USABLE = "budget_not_usable"  # no whole number of 0 or more
    FIELD_MISSING = "field_missing"
    FIELD_UNKNOWN = "field_unknown"
    FIELD_NOT_USABLE = "field_not_usable"  # of another type than is declared, or beyond a published limit


#: The codes of warnings that are said even where nobody wants to hear any, since what is lost is lost for good: access
#: packages that can't be made afterwards, and customers whom an exclusion list names in another spelling.
LOSES: Final = "access_open"
NEARLY_HELD: Final = "nearly_held"


class InputWarning(msgspec.Struct, frozen=True):
    """What a person should know of an input that can be read: a code, and a sentence that quotes no value."""

    code: str
    message: str


def judge(text: str | None, *, strip: bool = False) -> tuple[str | None, RejectReason | None]:
    """The id to send for what is in a row, or the text as it is there and why it is refused.

    What stripping can't fix comes first: a row is ``SURROUNDING_WHITESPACE`` only if its id is fine otherwise.
    """
    if text is None:
        return None, RejectReason.NULL
    core = text.strip(WHITE_SPACE)
    reason = _fault(core)
    if reason is None and core != text and not strip:
        reason = RejectReason.SURROUNDING_WHITESPACE
    return (text, reason) if reason else (core, None)


def all_fine(texts: Sequence[str | None]) -> bool:
    """Whether ``judge`` would take every text unchanged; a few passes at the speed of C instead of one call a row.

    ``False`` says nothing: a text with a blank or an unprintable character inside may well be fine.
    """
    if not all(texts):
        return False
    given = cast("Sequence[str]", texts)
    joined = "".join(given)
    # Printable leaves out controls, surrogates and all white space but the blank itself.
    return (
        joined.isprintable()
        and " " not in joined
        and max(map(len, given), default=0) <= MAX_LENGTH
        and "." not in given
        and ".." not in given
    )


def _fault(core: str) -> RejectReason | None:
    if not core:
        return RejectReason.BLANK
    if _CONTROL.search(core):
        return RejectReason.CONTROL_CHARACTER
    if _SURROGATE.search(core):
        return RejectReason.LONE_SURROGATE
    if core in {".", ".."}:
        return RejectReason.DOT_SEGMENT
    return RejectReason.TOO_LONG if len(core) > MAX_LENGTH else None


# How an input is to be read: what the operator says, checked before a file is touched.

#: The columns looked for where none is named, the first present wins (contract, section 2).
ID_COLUMNS = ("customer_id", "integration_id", "integrationId", "profile_id", "id")
#: What an input may say of a request next to the id; recognised by these very names.
OPTIONAL_COLUMNS = ("requested_at", "extended_at", "ticket", "ground")
#: Codecs that stand for two byte orders: without a byte order mark one of them would have to be guessed.
ORDERED_BY_MARK = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}


#: The column with what people are looked up by, where ``--identify`` says whose it is.
KEY_COLUMN = "key"
#: The columns that may have another name in a file, as a mapping says.
MAPPED_COLUMNS = (
    *("customer_id", KEY_COLUMN, *OPTIONAL_COLUMNS, "reason", "review_on", "coupon_value", "budget", "session_id"),
)


class InputOptions(msgspec.Struct, frozen=True):
    """What the operator says about an input.

    ``id_column``: the column with the ids; ``None`` takes the first present of ``ID_COLUMNS``. ``encoding`` and
    ``delimiter`` are those of a CSV; without a delimiter it is a comma, and a tab in ``.tsv``. ``sheet`` is the sheet
    of a workbook, by default the first. ``date_format`` is how days are written (see ``date_form``), besides ISO 8601.
    ``columns`` says what a column is called in the file: ``{"customer_id": "Kundennummer"}``. ``identify`` is the path
    of a list that says whose a key is: then the input has a column ``key`` in place of ids. ``sessions`` is the path of
    a list of customers and their sessions, for an export. ``strip`` takes ids without the white space around them.
    ``limit`` ends the reading at so many distinct subjects.

    ``list_encoding``, ``list_delimiter`` and ``list_sheet`` hold for the other lists of a job: exclusions, codes,
    sessions, and the one of ``identify``. ``is_list``: these options are those of such a list.

    Raises:
        InputError: a value can't be meant.
    """

    id_column: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    strip: bool = False
    limit: int | None = None
    sheet: str | None = None
    date_format: str = "iso"
    columns: Mapping[str, str] = msgspec.field(default_factory=dict)
    identify: str | None = None
    sessions: str | None = None
    list_encoding: str | None = None
    list_delimiter: str | None = None
    list_sheet: str | None = None
    is_list: bool = False

    def __post_init__(self) -> None:
        for encoding in (self.encoding, self.list_encoding or "utf-8"):
            _check_encoding(encoding)
        for delimiter in (self.delimiter, self.list_delimiter):
            if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
                raise InputError(
                    f"{delimiter!r} can't be a delimiter.", "Name a single character, such as --delimiter ';'."
                )
        if self.limit is not None and self.limit < 1:
            raise InputError(f"A limit of {self.limit} subjects leaves nothing to do.", "Name a limit of 1 or more.")
        date_form(self.date_format)
        check_mapping(self.columns)
        if self.identify is not None and self.id_column not in {None, KEY_COLUMN}:
            raise InputError(
                "With a list to identify people by, the ids are not in the input.",
                "Name the column with the keys with --key-column, in place of --id-column.",
            )

    @property
    def codec(self) -> str:
        """The encoding under Python's own name for it."""
        return codecs.lookup(self.encoding).name

    def flag(self, name: str) -> str:
        """What the option ``name`` is called on the command line for this file."""
        return f"--list-{name}" if self.is_list else f"--{name}"

    def for_list(self, *, encoding: str = "utf-8", delimiter: str | None = None, strip: bool = False) -> InputOptions:
        """How another list of the same job is read; ``encoding`` and ``delimiter`` are those where lists have none."""
        return InputOptions(
            encoding=self.list_encoding or encoding,
            delimiter=self.list_delimiter or delimiter,
            sheet=self.list_sheet,
            strip=strip,
            date_format=self.date_format,
            columns=self.columns,
            is_list=True,
        )


def _check_encoding(name: str) -> None:
    try:
        codecs.getincrementaldecoder(name)
        io.TextIOWrapper(io.BytesIO(), encoding=name).close()  # knows codecs that are not for text
    except (LookupError, ValueError):
        raise InputError(f"There is no text encoding {name!r}.", "Name one such as utf-8, utf-16 or cp1252.") from None


def check_mapping(columns: Mapping[str, str]) -> None:
    """Make sure that a mapping names columns that there are, and none of a file twice.

    Raises:
        InputError: it doesn't.
    """
    unknown = next((name for name in columns if name not in MAPPED_COLUMNS), None)
    if unknown is not None:
        raise InputError(
            f"The mapping names a column {unknown!r}, which is none of the toolkit's.",
            f"These can be mapped: {', '.join(MAPPED_COLUMNS)}.",
        )
    if len(set(columns.values())) < len(columns):
        raise InputError("The mapping uses one column of the file twice.", "Name a column of its own for each.")


def merged(base: InputOptions, **given: Any) -> InputOptions:
    """The options with what is given besides, where it is not None: ``columns`` are added, and count first.

    A column of ids that is named counts before one that was mapped.

    Raises:
        InputError: a value can't be meant.
    """
    said = {name: value for name, value in given.items() if value is not None}
    columns = dict(base.columns) | dict(said.pop("columns", {}))
    if "id_column" in said:
        columns.pop("customer_id", None)
    if base.columns or columns:
        said["columns"] = columns
    return replace(base, **said)


# How days are written. Nothing is guessed: the form is named, and ISO 8601 is read next to it, which is no other's.

#: A calendar date of ISO 8601 in the extended format, alone or with a time of day, which may have an offset. A blank
#: in the place of the T is how databases write it. 24:00 is left out: it names two days.
_ISO_DAY = re.compile(
    r"(?P<Y>[0-9]{4})-(?P<m>[0-9]{2})-(?P<d>[0-9]{2})"
    r"(?:[T ](?:[01][0-9]|2[0-3])(?::[0-5][0-9](?::(?:[0-5][0-9]|60)(?:[.,][0-9]+)?)?)?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)?)?"
)
#: The named forms, as patterns; the first of those that are the same is the one that is suggested.
DATE_FORMS = {
    "iso": "%Y-%m-%d",
    "de": "%d.%m.%Y",
    "uk": "%d/%m/%Y",
    "fr": "%d/%m/%Y",
    "es": "%d/%m/%Y",
    "us": "%m/%d/%Y",
}
_PARTS = {"%d": "(?P<d>[0-9]{1,2})", "%m": "(?P<m>[0-9]{1,2})", "%Y": "(?P<Y>[0-9]{4})"}
_LONGEST_FORM = 40
#: A time of day behind a day says nothing of which day it is.
_TIME = r"(?:(?:,? |T)[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?: ?[AaPp][Mm])?)?"


@lru_cache(maxsize=64)
def date_form(name: str) -> Callable[[str], str | None]:
    """What reads a day that is written so, as ISO 8601; it gives None for what is none.

    ``name`` is ``iso``, ``de`` (20.11.2026), ``uk``, ``fr`` or ``es`` (20/11/2026), ``us`` (11/20/2026), or a pattern
    of ``%d``, ``%m`` and ``%Y``, such as ``%d-%m-%Y``.

    Raises:
        InputError: it is neither.
    """
    forms = [_ISO_DAY] if name == "iso" else [re.compile(_pattern(name) + _TIME), _ISO_DAY]

    def read(text: str) -> str | None:
        for form in forms:
            if found := form.fullmatch(text):
                try:
                    return date(int(found["Y"]), int(found["m"]), int(found["d"])).isoformat()
                except ValueError:
                    return None
        return None

    return read


def _pattern(name: str) -> str:
    """The regular expression of a form.

    Raises:
        InputError: it is none, or could be taken for ISO 8601 and mean another day.
    """
    written = DATE_FORMS.get(name, name)
    pieces = re.split("(%.)", written)
    used = pieces[1::2]
    if sorted(used) != sorted(_PARTS) or len(written) > _LONGEST_FORM or not written.isprintable():
        raise InputError(
            f"{name[:_LONGEST_FORM]!r} is no form of a date.",
            f"Name one of {', '.join(DATE_FORMS)}, or a pattern with %d, %m and %Y, each once, such as %d-%m-%Y.",
        )
    if used == ["%Y", "%d", "%m"]:
        raise InputError(
            "A form with the year first and the month last can't be told from ISO 8601.",
            "Write the days as 2026-11-20, or the year last.",
        )
    return "".join(_PARTS.get(piece, re.escape(piece)) for piece in pieces)


def fitting_forms(texts: Sequence[str]) -> list[str]:
    """Which of the named forms read every one of the texts; forms that are the same count once."""
    fitting: dict[str, str] = {}
    for name, written in DATE_FORMS.items():
        if written not in fitting and all(map(date_form(name), texts)):
            fitting[written] = name
    return list(fitting.values())


#: What is shown as the name of a column. A file without a header line has data there, which must not get into an
#: error: ids nearly always hold a digit, addresses an @.
_NAME = re.compile(r"(?:[^\W\d]|[ .-])+")
_NAME_LENGTH = 40
_DELIMITER_FLAG = "--delimiter"
_OTHER_DELIMITERS = {";": "';'", "\t": r"'\t'", "|": "'|'", ",": "','"}


# What the columns of a file are: the names that they have here, and which one has the ids.


class Header(msgspec.Struct, frozen=True):
    """The columns of a file under the names that they have here. ``optional`` are those that say more of a request."""

    names: list[str]
    id_column: str
    optional: tuple[str, ...]


def take_header(
    own: Sequence[str], options: InputOptions, where: str, usual: Sequence[str] | None = None, *, is_form: bool = False
) -> Header:
    """What the columns of a file are, by its header ``own`` and the mapping.

    ``usual`` are the columns in which the ids are looked for where none is named. With ``is_form`` nothing is said of
    requests.

    Raises:
        InputError: a column is named twice or not there.
    """
    check_distinct(own, where)
    mapping, usual = options.columns, ID_COLUMNS if usual is None else usual
    ours = {theirs: name for name, theirs in mapping.items()}
    names = [ours.get(name, name) for name in own]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise InputError(
                f"{where}: there is a column {name!r} besides the one that the mapping calls so.",
                "Give it another name, or take it out of the mapping.",
            )
    wanted = wanted_ids(options, usual)
    needed = [] if options.is_list or is_form else [name for name in OPTIONAL_COLUMNS if name in mapping]
    needed += [wanted] if wanted is not None and wanted in mapping else []
    for name in needed:
        if name not in names:
            raise _unmapped(own, name, mapping[name], where, options)
    if KEY_COLUMN not in names and KEY_COLUMN in {wanted, *usual}:
        raise InputError(
            f"{where}: there is no column {mapping.get(KEY_COLUMN, KEY_COLUMN)!r} with the keys{_present(own)}.",
            "Name it with --key-column; in the list of --identify it may also be called key.",
        )
    return Header(
        names,
        id_column(names, wanted, where, usual, options.flag("delimiter")),
        () if is_form else optional_columns(names),
    )


def wanted_ids(options: InputOptions, usual: Sequence[str]) -> str | None:
    """The column in which the ids have to be, by its name here; None where the first of the ``usual`` ones counts."""
    ours = {theirs: name for name, theirs in options.columns.items()}
    if options.identify is not None and ID_COLUMNS[0] in usual:
        return KEY_COLUMN
    if options.id_column is not None:
        return ours.get(options.id_column, options.id_column)
    is_mapped = ID_COLUMNS[0] in options.columns and ID_COLUMNS[0] in usual and not options.is_list
    return ID_COLUMNS[0] if is_mapped else None


def _unmapped(own: Sequence[str], name: str, theirs: str, where: str, options: InputOptions) -> InputError:
    return InputError(
        f"{where}: there is no column {theirs!r}, which the mapping names for {name}{_present(own)}.",
        "Correct the mapping, or take it out of it. " + _advice(own, options.flag("delimiter")),
    )


#: How the files began that earlier versions guarded for spreadsheets; they end with a column ``exact``.
_OLD_GUARDED = (("coupon_value", "customer_id"), ("row", "advocate_id", "referral_code"))


def check_unguarded(columns: Sequence[str], where: str) -> None:
    """Make sure that the file is none of ours in which ids were changed to make it safe for spreadsheets.

    Raises:
        InputError: it is; with an apostrophe in front an id is another id.
    """
    is_old = columns[-1:] == [OLD_MARK_COLUMN] and any(tuple(columns[: len(old)]) == old for old in _OLD_GUARDED)
    if MARK_COLUMN in columns or is_old:
        raise InputError(
            f"{where}: this file was made safe for spreadsheets, so ids in it may have an apostrophe before them that"
            " is no part of them.",
            "Write it again without --spreadsheet-safe, or as .parquet.",
        )


def check_distinct(columns: Sequence[str], where: str) -> None:
    """Make sure that every column is named once.

    Raises:
        InputError: a name stands for two columns.
    """
    places: dict[str, int] = {}
    for position, name in enumerate(columns, 1):
        if name in places:
            raise InputError(
                f"{where}: columns {places[name]} and {position} have the same name.",
                "Give every column its own name.",
            )
        places[name] = position


def id_column(
    columns: Sequence[str],
    wanted: str | None,
    where: str,
    usual: Sequence[str] = ID_COLUMNS,
    flag: str = _DELIMITER_FLAG,
) -> str:
    """The column with the ids: the one asked for, or the first present of the ``usual`` ones.

    ``flag`` is the option that names another delimiter.

    Raises:
        InputError: there is none.
    """
    name = next((name for name in (usual if wanted is None else (wanted,)) if name in columns), None)
    if name is not None:
        return name
    asked = f"none of the columns {', '.join(usual)}" if wanted is None else f"no column {wanted!r}"
    raise InputError(f"{where}: there is {asked}{_present(columns)}.", _advice(columns, flag))


def check_id_column(wanted: str | None) -> None:
    """Make sure that the ids are not looked for in a column that says something else of a request.

    Raises:
        InputError: they are.
    """
    if wanted in OPTIONAL_COLUMNS:
        raise InputError(
            f"The column {wanted!r} can't be the one with the ids: that name says something else of a request.",
            "Give the column with the ids another name, and name that one with --id-column.",
        )


def optional_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Which of ``OPTIONAL_COLUMNS`` there are, in that order."""
    return tuple(name for name in OPTIONAL_COLUMNS if name in columns)


def required_column(columns: Sequence[str], name: str, where: str, flag: str = _DELIMITER_FLAG) -> int:
    """The position of a column that has to be there; ``flag`` is the option that names another delimiter.

    Raises:
        InputError: it isn't.
    """
    if name not in columns:
        raise InputError(f"{where}: there is no column {name!r}{_present(columns)}.", _advice(columns, flag))
    return columns.index(name)


def _present(columns: Sequence[str]) -> str:
    if not columns:
        return "; there is no column at all"
    if len(columns) == 1:  # the likeliest header to be none at all, but someone's id
        return "; there is one column only"
    return f"; there are {', '.join(shown(name, position) for position, name in enumerate(columns, 1))}"


def shown(name: str, position: int) -> str:
    """A column by its name, or by its position where the name could be data of a file without a header."""
    return name if len(name) <= _NAME_LENGTH and _NAME.fullmatch(name) else f"(column {position})"


def _advice(columns: Sequence[str], flag: str) -> str:
    found = next((shown for mark, shown in _OTHER_DELIMITERS.items() if any(mark in name for name in columns)), None)
    if found:
        return f"Is the delimiter another one? Name it with {flag} {found}."
    return (
        "The first line has to name the columns; name the one with the ids with --id-column, or say what the columns"
        " are called with --map."
    )
