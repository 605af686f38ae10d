"""An access package: from an answer of the API to the folder or file that the person gets, until it is removed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import struct
import textwrap
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Final

from privacy_toolkit.access import faithful
from privacy_toolkit.access.faithful import AnswerError, DeliveryError, Number, joined, write_short
from privacy_toolkit.access.languages import language
from privacy_toolkit.access.notice import Notice
from privacy_toolkit.access.page import Facts, render, visible
from privacy_toolkit.access.placing import encrypted, place, zipped
from privacy_toolkit.access.redaction import Redacted, redact
from privacy_toolkit.core.durable import SETTINGS_LIMIT, read_regular, take_away
from privacy_toolkit.core.privacy import guarded
from privacy_toolkit.talonone.inventory import sections_of

# ``README.txt``: what a package is, how to open it, whom to ask, and the check sums of its files.

NAME: Final = "README.txt"
_WIDTH: Final = 78


def readme_text(facts: Facts, files: Mapping[str, bytes]) -> bytes:
    """The text, in the language of the package; its last lines are in the format of ``sha256sum``."""
    words = language(facts.lang)
    text, moment = words.text, words.read_at(facts.read_at)
    begun = text["readme_nothing" if facts.data is None else "readme_held"].format(moment=moment)
    parts = [
        text["readme_title"],
        _wrapped(begun),
        _wrapped(text["readme_careful"]),
        _titled(text["readme_open_title"], _wrapped(text["readme_open"])),
        _titled(text["readme_ask_title"], _whom_to_ask(facts)),
        _titled(text["readme_facts_title"], _about(facts, moment)),
        _titled(text["readme_sums_title"], _wrapped(text["readme_sums"])),
        "\n".join(f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in sorted(files.items())),
    ]
    return ("\n\n".join(parts) + "\n").encode("utf-8", "backslashreplace")


def _whom_to_ask(facts: Facts) -> str:
    text = language(facts.lang).text
    said = {key: facts.notice.said(key, facts.lang) for key in ("controller", "contact", "dpo")}
    given = {key: visible(found.text.strip()) for key, found in said.items() if found}
    if "controller" not in given:
        return _wrapped(text["readme_ask_blank"])
    parts = [text["readme_ask_notice"], given["controller"]]
    parts += [given["contact"]] if "contact" in given else []
    parts += [text["readme_dpo"], given["dpo"]] if "dpo" in given else []
    return "\n".join(parts)


def _about(facts: Facts, moment: str) -> str:
    """The id is left out: this file names the package to anyone who has to find it, and need not name the person."""
    text = language(facts.lang).text
    lines = {
        "fact_read": moment,
        "fact_target": f"{visible(facts.target)} ({text[facts.environment]})",
        "fact_reference": facts.reference,
    }
    return "\n".join(f"{text[key]}{text['colon']}{value}" for key, value in lines.items())


def _titled(title: str, body: str) -> str:
    return f"{title}\n{'-' * len(title)}\n{body}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


# ``data/*.csv``: one table for each list, for anyone who opens it in a spreadsheet.

Row = Mapping[str, Any]

_QUOTED = re.compile('[,"\r\n]')

#: Columns that a table has at most, but for the last one. Were there one for each name, records that each have names of
#: their own would make a table that grows with the square of their number.
MOST_COLUMNS: Final = 200
#: The column with what has none of its own: JSON of names and values. No field of the API has a name in parentheses.
_FURTHER: Final = "(further fields)"
#: Without it some spreadsheets take UTF-8 for another encoding.
_MARK: Final = b"\xef\xbb\xbf"


def tables(data: Mapping[str, Any]) -> dict[str, bytes]:
    """The tables by their path in the package; what is empty has none."""
    profile = data.get("profile")
    profile = profile if isinstance(profile, dict) else {}
    loyalty = data.get("loyalty")
    loyalty = loyalty if isinstance(loyalty, dict) else {}
    lists = ("attributes", "audienceMemberships", "loyaltyMemberships")
    found = {
        "profile": _rows({name: value for name, value in profile.items() if name not in lists}),
        "attributes": _pairs(profile.get("attributes")),
        "audience_memberships": _rows(profile.get("audienceMemberships")),
        "loyalty_memberships": _rows(profile.get("loyaltyMemberships")),
        "coupons": _rows(data.get("coupons")),
        "referrals": _rows(data.get("referrals")),
        "loyalty_programs": _keyed(loyalty.get("programs"), "program"),
        "loyalty_cards": _rows(loyalty.get("cards")),
        "giveaways": _rows(data.get("giveaways")),
        "achievements": _rows(data.get("achievements")),
    }
    return {f"data/{name}.csv": _table(rows) for name, rows in found.items() if rows}


def _rows(value: Any) -> list[Row]:
    """The records of a list as rows; a single record is one row."""
    records = value if isinstance(value, list) else [value] if value else []
    return [joined(_cells("", record)) for record in records if record not in (None, {}, [])]


def _pairs(value: Any) -> list[Row]:
    return [{"name": name, "value": _cell(inner)} for name, inner in value.items()] if isinstance(value, dict) else []


def _keyed(value: Any, key: str) -> list[Row]:
    """The records of a map as rows; the name of each is in a column whose own name no field has."""
    if not isinstance(value, dict):
        return _rows(value)
    return [{f"({key})": name} | joined(_cells("", record)) for name, record in value.items()]


def _cells(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Columns of a record: what is inside a record has a dotted name, a list is the text of its JSON."""
    if isinstance(value, dict) and value:
        for inner, part in value.items():
            yield from _cells(f"{name}.{inner}" if name else inner, part)
    else:
        yield name or "value", _cell(value)


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | Number) else "" if value is None else write_short(value)


def _table(rows: list[Row]) -> bytes:
    counted = Counter(name for row in rows for name in row)
    if len(counted) > MOST_COLUMNS and len(rows) > 1:
        kept = {name for name, _ in counted.most_common(MOST_COLUMNS)}
        rows = [_gathered(row, kept) for row in rows]
        counted = Counter(name for row in rows for name in row)
    columns = list(counted)
    lines = [_line(columns), *(_line(row.get(name, "") for name in columns) for row in rows)]
    return _MARK + "".join(lines).encode("utf-8", "backslashreplace")


def _gathered(row: Row, kept: Container[str]) -> Row:
    """A row with the values of the columns that are kept, and all others in one column."""
    further = {name: value for name, value in row.items() if name not in kept}
    own = [(name, value) for name, value in row.items() if name in kept]
    return joined([*own, (_FURTHER, write_short(further))]) if further else dict(own)


def _line(cells: Iterable[Any]) -> str:
    return ",".join(_field(cell) if cell != "" else "" for cell in cells) + "\r\n"


def _field(cell: Any) -> str:
    """A field of RFC 4180 that no spreadsheet takes for a formula; a number is none, also a negative one."""
    text = guarded(cell) if isinstance(cell, str) else str(cell)
    if _QUOTED.search(text):
        text = '"' + text.replace('"', '""') + '"'
    return text


SCHEMA: Final = "privacy-toolkit-access-package@v1"
PAGE, DATA = "index.html", "data.json"

#: How the name of the note about an encrypted package begins; hidden, since it is not for the person.
NOTE: Final = ".made-"
#: The name of every package: nothing that says whose it is, and nothing that a system takes for anything else.
REFERENCE: Final = re.compile(r"[0-9a-f]{16,64}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What holds for all packages of a run; ``recipient`` is a public key of age, ``age1…``."""

    out: Path
    lang: str
    generation: str
    target: str
    environment: str
    notice: Notice
    zip: bool = False
    recipient: str | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of one package, with nothing in it that names a person.

    ``sha256`` is that of the file where a package is one, otherwise that of its README.txt, which holds those of all
    others.
    """

    sections: Mapping[str, str]
    redactions: int
    people: int
    sha256: str
    name: str


def deliver(recipe: Recipe, reference: str, customer_id: str, answer: bytes | None, read_at: int) -> Delivered:
    """Make the package of one person, and put it under its name as a whole.

    ``reference`` is lower-case hexadecimal and says nothing of the person; ``answer`` the body of getCustomerInventory
    as it came, None for a 404; ``read_at`` when it came, in microseconds since the epoch.

    Raises:
        AnswerError: the answer is none of the API's, or someone else's.
        DeliveryError: the package can't be written; nothing new is under its name.
        UsageError: the recipient is none.
    """
    if REFERENCE.fullmatch(reference) is None:
        raise ValueError("a reference is 16 to 64 lower-case hexadecimal digits")
    held = None if answer is None else faithful.read(answer)
    if held is not None:
        _check_owner(held, customer_id)
    found = redact(held or {}, customer_id)
    sections = sections_of(held, recipe.generation)
    files = _files(recipe, reference, customer_id, found if held is not None else None, sections, read_at)
    name, content = _form(recipe, reference, files, read_at)
    if recipe.recipient is not None and isinstance(content, bytes):
        place(recipe.out, *made_note(reference, content, read_at), read_at)  # first: one without it is not ours
    place(recipe.out, name, content, read_at)
    proof = content if isinstance(content, bytes) else files[NAME]
    return Delivered(sections, found.occurrences, found.people, hashlib.sha256(proof).hexdigest(), name)


def made_note(reference: str, content: bytes, read_at: int) -> tuple[str, bytes]:
    """Name and content of the note by which an encrypted package, which nobody here can read, is known as ours."""
    note = {"schema": SCHEMA, "reference": reference, "sha256": hashlib.sha256(content).hexdigest()}
    return f"{NOTE}{reference}.json", (faithful.write(note | {"read_at": _utc(read_at)}) + "\n").encode()


def _utc(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{microseconds % 1_000_000:06d}Z"


def _check_owner(held: Mapping[str, Any], customer_id: str) -> None:
    """Refuse an answer about someone else: handed out it would be a breach of that person's data.

    A deployment may take ids that differ in case or in Unicode normalisation for the same one.
    """
    profile = held.get("profile")
    named = profile.get("integrationId") if isinstance(profile, dict) else None
    if isinstance(named, Number):
        named = named.text
    if isinstance(named, str) and named and _folded(named) != _folded(customer_id):
        raise AnswerError("The answer is about another customer than the one that was asked for.")


def _folded(id_: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", id_).casefold())


def _form(
    recipe: Recipe, reference: str, files: dict[str, bytes], read_at: int
) -> tuple[str, bytes | dict[str, bytes]]:
    """Name and content of a package: a folder, or one file."""
    if recipe.recipient is not None:
        return f"{reference}.age", encrypted(zipped(reference, files, read_at), recipe.recipient)
    if recipe.zip:
        return f"{reference}.zip", zipped(reference, files, read_at)
    return reference, files


def _files(
    recipe: Recipe,
    reference: str,
    customer_id: str,
    found: Redacted | None,
    sections: Mapping[str, str],
    read_at: int,
) -> dict[str, bytes]:
    data = found.data if found else None
    made = tables(data or {})
    facts = Facts(
        lang=recipe.lang,
        customer_id=customer_id,
        reference=reference,
        read_at=read_at,
        target=recipe.target,
        environment=recipe.environment,
        data=data,
        sections=sections,
        people=found.people if found else 0,
        occurrences=found.occurrences if found else 0,
        notice=recipe.notice,
        files=(PAGE, DATA, *made, NAME),
    )
    made |= {PAGE: render(facts).encode("utf-8", "backslashreplace"), DATA: _data(facts, recipe.generation)}
    return made | {NAME: readme_text(facts, made)}


def _data(facts: Facts, generation: str) -> bytes:
    """``data.json``: every field that the API gave, and what has to be known to read it."""
    content = {
        "schema": SCHEMA,
        "reference": facts.reference,
        "customer_id": facts.customer_id,
        "read_at": _utc(facts.read_at),
        "target": facts.target,
        "environment": facts.environment,
        "generation": generation,
        "sections": dict(facts.sections),
        "redactions": {"people": Number(str(facts.people)), "occurrences": Number(str(facts.occurrences))},
        "data": facts.data,
    }
    return (faithful.write(content) + "\n").encode()


# Retention: packages that were kept long enough are removed, and whatever is not certainly ours is left alone.

#: Where the folder says at which times old packages were removed from it.
CLOCK: Final = ".privacy-toolkit-clock"
#: No export is so long after the one before that its time is believed at once.
LONGEST_PAUSE: Final = timedelta(days=7)
#: After so long another export confirms the time of the one before.
CONFIRMED_AFTER: Final = timedelta(hours=20)
_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


def prune(out: Path, older_than: datetime) -> int:
    """Remove the packages whose data was read before a time, and say how many.

    A folder or a zip is ours if its name is a reference and the ``data.json`` in it says so, which also says when it
    was read; an encrypted file if the note that was written with it has its name and the SHA-256 that it still has.

    Raises:
        DeliveryError: the folder can't be read, or a package can't be removed; the others were.
    """
    if older_than.tzinfo is None:
        raise ValueError("a time without a zone says nothing")
    try:
        due = [path for path in sorted(out.iterdir()) if (when := _read_at(path)) is not None and when < older_than]
    except OSError as error:
        raise DeliveryError(f"The output folder can't be read: {error.strerror}.") from None
    failed = [path for path in due if not _taken_away(path)]
    if failed:
        raise DeliveryError(
            f"{len(failed)} of {len(due)} packages that were kept long enough could not be removed.",
            "May the output folder and what is in it be written?",
        )
    return len(due)


def believed(out: Path, now: datetime) -> datetime:
    """The time by which packages in a folder are old: ``now``, or an earlier one while ``now`` is not to be believed.

    A clock that is set forward makes today's packages old. So the folder keeps the time of the last export (``seen``),
    and the last that was believed. A time is believed if the export before was at most ``LONGEST_PAUSE`` earlier; else,
    once another export at least ``CONFIRMED_AFTER`` later shows that the clock stayed there. A clock that is set back
    only makes packages younger. Where nothing was kept yet, the newest package says when the last export was.

    Raises:
        DeliveryError: the folder can't be read or written.
    """
    try:
        seen, trusted = _kept(out) or (_newest(out, now),) * 2
        gap = now - seen
        if gap < timedelta(0):
            seen, trusted = now, min(trusted, now)
        elif gap > LONGEST_PAUSE:
            seen, trusted = now, seen
        elif seen == trusted or gap >= CONFIRMED_AFTER:
            seen, trusted = now, now
        # else: too early to tell whether the clock stays where it leapt to
    except OSError as error:
        raise DeliveryError(f"The output folder can't be read: {error.strerror}.") from None
    content = json.dumps({"seen": f"{seen:{_TIME}}", "trusted": f"{trusted:{_TIME}}"})
    place(out, CLOCK, f"{content}\n".encode(), int(now.timestamp()) * 1_000_000)
    return min(trusted, now)


def _kept(out: Path) -> tuple[datetime, datetime] | None:
    """When the last export was, and the last time that was believed; None if the folder does not say."""
    try:
        content = json.loads(read_regular(out / CLOCK, SETTINGS_LIMIT))
        seen, trusted = (datetime.strptime(content[key], _TIME).replace(tzinfo=UTC) for key in ("seen", "trusted"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return seen, trusted


def _newest(out: Path, now: datetime) -> datetime:
    """When the newest package was read, or ``now`` if there is none; not later than ``now``."""
    return min(now, max(filter(None, map(_read_at, out.iterdir())), default=now))


def _taken_away(path: Path) -> bool:
    try:
        take_away(path)
        if path.suffix == ".age":
            _note(path).unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _read_at(path: Path) -> datetime | None:
    """When the data of a package was read; None if it is none of ours."""
    name, dot, kind = path.name.partition(".")
    if REFERENCE.fullmatch(name) is None or path.is_symlink():
        return None
    try:
        if not dot and path.is_dir():
            with _plain(path / DATA) as file:
                return _said(file, name)
        if kind == "zip" and path.is_file():
            with zipfile.ZipFile(path) as archive, archive.open(_stored(archive, f"{name}/{DATA}")) as file:
                return _said(file, name)
        if kind == "age" and path.is_file():
            with _plain(_note(path)) as note, _plain(path) as file:
                return _said(note, name, hashlib.file_digest(file, "sha256").hexdigest())
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, OverflowError, struct.error, zipfile.BadZipFile):
        return None  # RuntimeError: too deep, under a password, or of a kind that zipfile does not know
    return None


def _stored(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A file in a zip, as it is in ours: not compressed, so that what is read is no longer than the zip.

    Raises:
        KeyError: there is none.
    """
    found = archive.getinfo(name)
    if found.compress_type != zipfile.ZIP_STORED:
        raise KeyError(name)
    return found


def _plain(path: Path) -> BufferedReader:
    """A file, and not what a link leads to or what is no file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("no plain file")
    return os.fdopen(descriptor, "rb")


def _note(path: Path) -> Path:
    """The note about an encrypted package."""
    return path.with_name(f"{NOTE}{path.name.partition('.')[0]}.json")


def _said(data: IO[bytes], name: str, sha256: str | None = None) -> datetime | None:
    content = json.load(data, parse_int=str, parse_float=str)  # Python refuses to make a number of very many digits
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or content.get("reference") != name:
        return None
    if sha256 is not None and content.get("sha256") != sha256:
        return None
    return datetime.strptime(str(content["read_at"]), _TIME).replace(tzinfo=UTC)
