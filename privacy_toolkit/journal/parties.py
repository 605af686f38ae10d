"""Subjects that belong together, where one request is about several of them: a coupon and all who are to have it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from itertools import groupby
from operator import itemgetter

from privacy_toolkit.journal.records import PENDING, Entry, ExchangeRecord
from privacy_toolkit.journal.rows import STANDING_COLUMNS, Row, standing_of
from privacy_toolkit.model import Outcome, Purpose, Subject

#: Something was sent for these, and what became of it is not known, or not seen yet.
_IN_DOUBT = (Outcome.UNKNOWN, Outcome.UNVERIFIED, Outcome.RESIDUAL)
#: In the place of an exchange of which only the number matters.
_MADE = ExchangeRecord(Purpose.READ_BEFORE, "")


def parties(connection: sqlite3.Connection, outcomes: Collection[Outcome], most: int) -> Iterator[list[list[Entry]]]:
    """The subjects in some outcomes, party by party, at most ``most`` in one list; several such lists at once.

    What is in doubt comes first, since what may be begun beside it hangs on what became of it; then the others, each in
    the order of the parties' names and of the input. Of a subject's exchanges there are only as many as were made,
    without what they came to.
    """
    connection.execute("DROP TABLE IF EXISTS temp.doubted")
    connection.execute("CREATE TEMP TABLE doubted (seq INTEGER PRIMARY KEY)")
    marks = ", ".join("?" * len(_IN_DOUBT))
    connection.execute(f"INSERT INTO doubted SELECT seq FROM standings WHERE outcome IN ({marks})", _IN_DOUBT)
    if connection.execute("SELECT 1 FROM doubted LIMIT 1").fetchone():
        yield from _walked(connection, outcomes, most, "IN")
    yield from _walked(connection, outcomes, most, "NOT IN")


def _walked(
    connection: sqlite3.Connection, outcomes: Collection[Outcome], most: int, doubted: str
) -> Iterator[list[list[Entry]]]:
    """The subjects that are, or are not, in doubt."""
    after: tuple[str, int] = ("", 0)
    while rows := _rows(connection, outcomes, after, most, doubted):
        found = [list(members) for _, members in groupby(rows, key=itemgetter(0))]
        if len(rows) == most and len(found) > 1:
            del found[-1]  # there may be more of it: it comes first the next time
        name, seq, *_ = found[-1][-1]
        after = (name, seq)
        yield [[_entry(row) for row in members] for members in found]


def _rows(
    connection: sqlite3.Connection, outcomes: Collection[Outcome], after: tuple[str, int], most: int, doubted: str
) -> list[Row]:
    marks = ", ".join("?" * len(outcomes))
    standing = STANDING_COLUMNS.replace("seq,", "s.seq,", 1)
    return connection.execute(
        "SELECT p.name, p.seq, p.row, p.id, p.given, (SELECT IFNULL(MAX(n), 0) FROM exchanges WHERE seq = p.seq),"
        f" {standing} FROM parties AS p LEFT JOIN standings AS s ON s.seq = p.seq WHERE (p.name, p.seq) > (?, ?)"
        f" AND IFNULL(outcome, '{Outcome.PENDING}') IN ({marks}) AND p.seq {doubted} doubted"
        " ORDER BY p.name, p.seq LIMIT ?",
        (*after, *sorted(outcomes), most),
    ).fetchall()


def _entry(row: Row) -> Entry:
    _, seq, place, id_, given, made, *standing = row
    stands = PENDING if standing[0] is None else standing_of(tuple(standing))
    return Entry(Subject(seq, place, id_, given), stands, (_MADE,) * made)
