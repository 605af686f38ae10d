"""The first pass over an input: rows are judged, counted and set aside, and the accepted ids hashed."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence

from privacy_toolkit.errors import InputError
from privacy_toolkit.inputs.form import RowFault, RowForm
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.pages import Batch, Page, Said
from privacy_toolkit.inputs.requests import understand
from privacy_toolkit.inputs.spool import Spool
from privacy_toolkit.inputs.validation import RejectReason, all_fine, judge

#: Of each row eight bytes are kept, and one more while duplicates are looked for.
MOST_ROWS = 50_000_000


class Tally:
    """What was taken of an input so far: ``read`` rows, of them ``refused`` by reason, ``hashes`` of the others.

    The rows go to ``spool``, and what the optional ``columns`` say to ``said``, page by page, where there are any.
    """

    def __init__(
        self,
        spool: Spool[Page],
        options: InputOptions,
        columns: Sequence[str] = (),
        said: Spool[Said] | None = None,
        form: RowForm | None = None,
    ) -> None:
        self.read = 0
        self.refused: Counter[RejectReason] = Counter()
        self.hashes = array("q")
        self._spool = spool
        self._columns = columns
        self._said = said
        self._strip = options.strip
        self._limit = options.limit
        self._form = form
        self._subjects: set[str] = set()  # kept only for a limit

    def take(self, batch: Batch) -> bool:
        """Take some rows; whether more are wanted.

        Raises:
            InputError: there are more rows than can be kept apart in memory.
        """
        page = self._judged(batch.rows, batch.texts)
        said = None
        if self._form is not None:
            page = _formed(page, batch, self._form)
        if self._said is not None:
            page, said = self._understood(page, batch)
        more = True
        if self._limit is not None:
            page, more = self._cut(page, self._limit)
        self._spool.append(page)
        if self._said is not None and said is not None:
            self._said.append(said.first(len(page.rows)))
        self.read += len(page.rows)
        if self.read > MOST_ROWS:
            raise InputError(f"The input has more than {MOST_ROWS:,} rows.", "Split it into several files.")
        self.refused.update(page.refused.values())
        if self._form is None or self._form.is_distinct:
            self.hashes.extend(map(hash, (name for _, name in page.accepted()) if page.refused else page.names))
        return more

    def _judged(self, rows: list[int], texts: list[str | None]) -> Page:
        if all_fine(texts):
            return Page(rows, texts, {})
        judged = [judge(text, strip=self._strip) for text in texts]
        refused = {n: reason for n, (_, reason) in enumerate(judged) if reason}
        return Page(rows, [_showable(text) for text, _ in judged], refused)

    def _understood(self, page: Page, batch: Batch) -> tuple[Page, Said]:
        """What the rows say beside their ids, and the page without those that can't be understood."""
        columns = dict(zip(self._columns, batch.others, strict=True))
        said, faults = understand(columns, page.ids, strip=self._strip)
        if not faults:
            return page, said
        # What is wrong with an id comes first; a row is refused with the text that stands there.
        ids = [batch.texts[n] if n in faults and n not in page.refused else id_ for n, id_ in enumerate(page.ids)]
        return Page(page.rows, ids, faults | page.refused), said

    def _cut(self, page: Page, limit: int) -> tuple[Page, bool]:
        """The page up to the subject that makes the limit full, and whether there is none in it."""
        for position, name in page.accepted():
            self._subjects.add(name)
            if len(self._subjects) == limit:
                return page.first(position + 1), False
        return page, True


def _formed(page: Page, batch: Batch, form: RowForm) -> Page:
    """The page with what its rows give beside their ids, without those that can't be used."""
    given, keys = [""] * len(page.rows), list(page.ids)
    refused, details, ids = dict(page.refused), dict[int, str](), list(page.ids)
    for position, record in enumerate(batch.records or ()):
        id_ = ids[position]
        if position in refused or id_ is None:
            continue
        try:
            given[position] = form.take(id_, record, typed=batch.typed)
            keys[position] = form.key(id_, given[position]) if form.is_distinct else f"{page.rows[position]}"
        except RowFault as fault:
            refused[position], details[position] = fault.reason, fault.detail
            ids[position] = _showable(batch.texts[position])
    return Page(page.rows, ids, refused, given, keys, details)


def _showable(text: str | None) -> str | None:
    """The text, half characters spelled out: they have no UTF-8, and are refused in any case."""
    return text and text.encode("utf-8", "backslashreplace").decode("utf-8")
