"""The first pass over an input: rows are judged, counted and set aside, and the accepted ids hashed."""

from __future__ import annotations

from array import array
from collections import Counter

from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.spool import Page, Spool
from privacy_toolkit.inputs.validation import RejectReason, all_fine, judge


class Tally:
    """What was taken of an input so far: ``read`` rows, of them ``refused`` by reason, ``hashes`` of the others."""

    def __init__(self, spool: Spool, options: InputOptions) -> None:
        self.read = 0
        self.refused: Counter[RejectReason] = Counter()
        self.hashes = array("q")
        self._spool = spool
        self._strip = options.strip
        self._limit = options.limit
        self._subjects: set[str] = set()  # kept only for a limit

    def take(self, rows: list[int], texts: list[str | None]) -> bool:
        """Take some rows; whether more are wanted."""
        page = self._judged(rows, texts)
        more = True
        if self._limit is not None:
            page, more = self._cut(page, self._limit)
        self._spool.append(page)
        self.read += len(page.rows)
        self.refused.update(page.refused.values())
        self.hashes.extend(map(hash, (id_ for _, id_ in page.accepted()) if page.refused else page.ids))
        return more

    def _judged(self, rows: list[int], texts: list[str | None]) -> Page:
        if all_fine(texts):
            return Page(rows, texts, {})
        judged = [judge(text, strip=self._strip) for text in texts]
        refused = {n: reason for n, (_, reason) in enumerate(judged) if reason}
        return Page(rows, [_showable(text) for text, _ in judged], refused)

    def _cut(self, page: Page, limit: int) -> tuple[Page, bool]:
        """The page up to the subject that makes the limit full, and whether there is none in it."""
        for position, id_ in page.accepted():
            self._subjects.add(id_)
            if len(self._subjects) == limit:
                end = position + 1
                refused = {n: reason for n, reason in page.refused.items() if n < end}
                return Page(page.rows[:end], page.ids[:end], refused), False
        return page, True


def _showable(text: str | None) -> str | None:
    """The text, half characters spelled out: they have no UTF-8, and are refused in any case."""
    return text and text.encode("utf-8", "backslashreplace").decode("utf-8")
