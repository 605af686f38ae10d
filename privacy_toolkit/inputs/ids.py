"""Which ids can be sent at all. Nothing is changed to make one fit: it is taken as it is, or refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import cast

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
