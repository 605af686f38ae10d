"""Cells that no spreadsheet takes for a formula, for files that people look at.

Files that are read back hold texts as they are, since a guarded id is another id. Where one was guarded all the same
(``--spreadsheet-safe``), a column of its own says so, and it is not taken as an input.
"""

from __future__ import annotations

import re
from typing import Final

#: The column that marks a file whose cells are guarded; each of its cells says what was done to the row.
MARK_COLUMN: Final = "guarded_for_spreadsheets"
#: The same of files that earlier versions wrote: with the names of the row in JSON where a cell was guarded.
OLD_MARK_COLUMN: Final = "exact"

# What a spreadsheet takes for the beginning of a formula, also in full width, behind anything that it may drop or that
# is not seen: white space, control characters (ESC among them), a byte order mark, zero-width and turning characters.
# A control character at the very beginning is guarded whatever follows.
_UNSEEN: Final = (
    r"\s\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f"
    r"\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_FORMULA: Final = re.compile(
    rf"[\x00-\x1f\x7f-\x9f]|[{_UNSEEN}]*[=+\-@\uff1d\uff0b\uff0d\uff20\u2212\ufe62\ufe63\ufe66\ufe6b\u207a\u207b\u208a\u208b]"
)


def is_formula(text: str) -> bool:
    """Whether a spreadsheet could take a text for a formula, or drop something to find one behind it."""
    return _FORMULA.match(text) is not None


def guarded(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet could take it for a formula."""
    return f"'{text}" if is_formula(text) else text
