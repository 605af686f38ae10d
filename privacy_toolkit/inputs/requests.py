"""What an input says of a request beside the id: the columns ``requested_at``, ``extended_at``, ``ticket``, ``ground``.

All of it may get into reports, so only what is surely a day, a reference or a code is taken, and nothing with the id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import lru_cache

from privacy_toolkit.inputs.options import OPTIONAL_COLUMNS
from privacy_toolkit.inputs.pages import Said
from privacy_toolkit.inputs.validation import CODE, WHITE_SPACE, RejectReason

#: Ids shorter than this are found in any reference by chance, and give nobody away.
TELLING_LENGTH = 4

#: A calendar date of ISO 8601 in the extended format, alone or with a time of day, which may have an offset. A blank
#: in the place of the T is how databases write it. 24:00 is left out: it names two days.
_DAY = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ](?:[01][0-9]|2[0-3])(?::[0-5][0-9](?::(?:[0-5][0-9]|60)(?:[.,][0-9]+)?)?)?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)?)?"
)
_TICKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/#\-]{0,63}")

_Reader = Callable[[str | None], str | None]
_Column = list[str | None]


def understand(
    columns: Mapping[str, _Column], ids: Sequence[str | None], *, strip: bool = False
) -> tuple[Said, dict[int, RejectReason]]:
    """What the rows of a page say beside their ids, and which positions can't be understood, and why.

    ``columns`` are the optional columns that were found, ``ids`` those of the same rows. With ``strip`` the white space
    around a text is passed over, as it is around an id.
    """
    faults: dict[int, RejectReason] = {}
    understood: list[_Column] = []
    for name in OPTIONAL_COLUMNS:
        reader, reason = _RULES[name]
        texts = columns.get(name)
        if texts is None:
            understood.append([None] * len(ids))
            continue
        if strip:
            texts = [text and text.strip(WHITE_SPACE) for text in texts]
        values, bad = _read(texts, reader)
        if reader is not _day:
            bad |= _giving_away(values, ids)
        for position in bad:
            values[position] = None
            faults.setdefault(position, reason)
        understood.append(values)
    return Said(*understood), faults


def _read(texts: _Column, reader: _Reader) -> tuple[_Column, set[int]]:
    """What the texts say, and the positions of those that can't be understood."""
    try:
        return list(map(reader, texts)), set()
    except ValueError:  # somewhere: now one at a time
        pass
    values: _Column = []
    bad: set[int] = set()
    for position, text in enumerate(texts):
        try:
            values.append(reader(text))
        except ValueError:
            values.append(None)
            bad.add(position)
    return values, bad


def _giving_away(values: _Column, ids: Sequence[str | None]) -> set[int]:
    """The positions where the id stands in the text, whatever the case of its letters."""
    return {
        position
        for position, (value, id_) in enumerate(zip(values, ids, strict=True))
        if value and id_ and len(id_) >= TELLING_LENGTH and id_.casefold() in value.casefold()
    }


@lru_cache(maxsize=4096)
def _day(text: str | None) -> str | None:
    """The day as it is written, whatever the time and the offset beside it say of the day elsewhere."""
    if text and (found := _DAY.fullmatch(text)):
        return date.fromisoformat(found["day"]).isoformat()
    return _nothing(text)


def _ticket(text: str | None) -> str | None:
    return text if text and _TICKET.fullmatch(text) else _nothing(text)


def _ground(text: str | None) -> str | None:
    return text if text and CODE.fullmatch(text) else _nothing(text)


def _nothing(text: str | None) -> str | None:
    """Nothing, for a text that says nothing at all; anything else can't be understood."""
    if text and text.strip(WHITE_SPACE):
        raise ValueError
    return None


#: For each column how a text is read, and the reason for which a row is refused where it can't be.
_RULES: dict[str, tuple[_Reader, RejectReason]] = {
    "requested_at": (_day, RejectReason.REQUESTED_AT_NO_DATE),
    "extended_at": (_day, RejectReason.EXTENDED_AT_NO_DATE),
    "ticket": (_ticket, RejectReason.TICKET_NOT_USABLE),
    "ground": (_ground, RejectReason.GROUND_NOT_USABLE),
}
