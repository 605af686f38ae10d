"""How an input is to be read: what the operator says, checked before a file is touched."""

from __future__ import annotations

import codecs
import io
from dataclasses import dataclass

from privacy_toolkit.errors import InputError

#: The columns looked for where none is named, the first present wins (contract, section 2).
ID_COLUMNS = ("customer_id", "integration_id", "integrationId", "profile_id", "id")
#: What an input may say of a request beside the id; recognised by these very names.
OPTIONAL_COLUMNS = ("requested_at", "extended_at", "ticket", "ground")
#: Codecs that stand for two byte orders: without a byte order mark one of them would have to be guessed.
ORDERED_BY_MARK = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What the operator says about an input.

    ``id_column``: the column with the ids; ``None`` takes the first present of ``ID_COLUMNS``. ``encoding`` and
    ``delimiter`` are those of a CSV; without a delimiter it is a comma, and a tab in ``.tsv``. ``strip`` takes ids
    without the white space around them. ``limit`` ends the reading at so many distinct subjects.

    Raises:
        InputError: a value can't be meant.
    """

    id_column: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    strip: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        try:
            codecs.getincrementaldecoder(self.encoding)
            io.TextIOWrapper(io.BytesIO(), encoding=self.encoding).close()  # knows codecs that are not for text
        except (LookupError, ValueError):
            raise InputError(
                f"There is no text encoding {self.encoding!r}.", "Name one such as utf-8, utf-16 or cp1252."
            ) from None
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            raise InputError(
                f"{self.delimiter!r} can't be a delimiter.", "Name a single character, such as --delimiter ';'."
            )
        if self.limit is not None and self.limit < 1:
            raise InputError(f"A limit of {self.limit} subjects leaves nothing to do.", "Name a limit of 1 or more.")

    @property
    def codec(self) -> str:
        """The encoding under Python's own name for it."""
        return codecs.lookup(self.encoding).name
