"""``receipt.html``: what a receipt says, as a page for the person it is about, in their language.

The page is for reading. What proves anything is in ``receipt.txt``; the key and the pseudonym in it are not on the
page, nor is the id.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import msgspec
from markupsafe import Markup

from privacy_toolkit.access.page import environment
from privacy_toolkit.access.words import Language, Notice, NoticeText, language

#: The name of the page in the folder of a receipt.
PAGE: Final = "receipt.html"
#: What of a notice matters here.
_SAID: Final = ("controller", "contact", "dpo", "authority")


class ReceiptRow(msgspec.Struct, frozen=True):
    """What the page says of a row of a pack, as far as its format has it."""

    outcome: str
    due_on: str | None = None
    ground: str | None = None
    hold_reason: str | None = None
    kept_coupons: int | None = None
    kept_referrals: int | None = None
    package: str | None = None
    requested_on: str | None = None
    settled_at: str | None = None
    ticket: str | None = None
    time_span: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFacts:
    """What a receipt says.

    ``row`` is the line of the pack, ``place`` its number from 1 and ``size`` that of all rows. ``record`` is the
    SHA-256 of ``SHA256SUMS``, which names every file of the pack; ``signer`` the fingerprint of the key that signed it,
    None if it is not signed. ``notice`` says who is responsible, as far as it is given.
    """

    lang: str
    row: bytes
    run_id: str
    target: str
    environment: str
    place: int
    size: int
    record: str
    signer: str | None
    notice: Notice


def receipt_page(facts: ReceiptFacts) -> bytes:
    """The page: one file without scripts and network access."""
    words = language(facts.lang)
    row = msgspec.json.decode(facts.row, type=ReceiptRow)
    jinja = environment()
    style = jinja.get_template("style.css").render(
        reference=facts.run_id, page=words.text["page"], pages=words.text["pages"]
    )
    page = jinja.get_template("receipt.html.j2").render(
        facts=facts,
        words=words,
        text=words.text,
        said=words.receipt,
        tone=_tone(row.outcome),
        title=words.receipt.get(f"title_{row.outcome}", words.receipt["title_other"]),
        lead=words.receipt.get(f"said_{row.outcome}", words.receipt["said_other"]),
        lines=_lines(words, facts, row),
        name=_first_line(facts.notice.said("controller", facts.lang)),
        ask=[(words.notice[key], found) for key in _SAID if (found := facts.notice.said(key, facts.lang))],
        style=Markup(style),  # noqa: S704 - ours
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    return page.encode("utf-8", "backslashreplace")


def _first_line(said: NoticeText | None) -> str:
    return said.text.strip().partition("\n")[0].strip() if said else ""


def _tone(outcome: str) -> str:
    """How the outcome stands: settled as asked, settled otherwise, or not settled."""
    if outcome in {"erased", "done"}:
        return "good"
    return "calm" if outcome in {"nothing_held", "on_hold"} else "warn"


def _lines(words: Language, facts: ReceiptFacts, row: ReceiptRow) -> list[tuple[str, str]]:
    """What is known of the request and its row, with its headings; what is not known is left out."""
    said, number = words.receipt, words.number
    kept = (row.kept_coupons or 0) + (row.kept_referrals or 0)
    lines: Mapping[str, Any] = {
        "when": _when(words, facts.notice, row),
        "requested": _day(words, row.requested_on),
        "due": _day(words, row.due_on),
        "ticket": row.ticket,
        "ground": row.ground or row.hold_reason,
        "kept": number(str(kept)) if kept else "",
        "system": f"{facts.target} ({words.text.get(facts.environment, facts.environment)})",
        "place": said["place_of"].format(place=number(str(facts.place)), size=number(str(facts.size))),
        "run": facts.run_id,
    }
    return [(said[f"fact_{key}"], value) for key, value in lines.items() if value]


def _when(words: Language, notice: Notice, row: ReceiptRow) -> str:
    """When the outcome was noted: rows have coarse times, so mostly between two moments."""
    if row.settled_at is None:
        return ""
    try:
        begin = datetime.fromisoformat(row.settled_at)
    except ValueError:
        return ""
    if not row.time_span:
        return words.time(begin, notice.zone)
    end = begin + timedelta(seconds=row.time_span)
    return words.receipt["between"].format(begin=words.time(begin, notice.zone), end=words.time(end, notice.zone))


def _day(words: Language, day: str | None) -> str:
    return words.day(date.fromisoformat(day)) if day else ""
