"""The words of a package, one file for each language, all with the same keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

LANGUAGES: Final = ("en", "de", "fr", "es")


class Language(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All words of one language; ``labels`` and ``choices`` go by the shapes and fields of the field map."""

    text: Mapping[str, str]
    notice: Mapping[str, str]
    months: list[str]
    first_of_month: str
    moment: str
    shapes: Mapping[str, str]
    choices: Mapping[str, Mapping[str, str]]
    labels: Mapping[str, Mapping[str, str]]

    def time(self, moment: datetime) -> str:
        """A moment in words, to the minute, in the time zone it was given in."""
        offset = moment.utcoffset() or timedelta(0)
        zone = moment.strftime("%z")
        return self.moment.format(
            day=moment.day if moment.day > 1 else self.first_of_month,
            month=self.months[moment.month - 1],
            year=moment.year,
            time=moment.strftime("%H:%M"),
            zone=f"UTC{zone[:3]}:{zone[3:5]}" if offset else "UTC",
        )

    def read_at(self, microseconds: int) -> str:
        """A moment since the epoch in words, in UTC."""
        return self.time(datetime.fromtimestamp(microseconds // 1_000_000, UTC))


@cache
def language(code: str) -> Language:
    """The words of a language.

    Raises:
        ValueError: there is no such language.
    """
    if code not in LANGUAGES:
        raise ValueError(f"no words in this language: {code}")
    return msgspec.json.decode((Path(__file__).parent / f"{code}.json").read_bytes(), type=Language)
