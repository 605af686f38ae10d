"""The tables of a journal, and its pages: what commits said of each page, folded into one row when it was walked.

A commit adds one row a page to the log: what its notes say of that page, packed. Folding puts all log rows of a page
together with what was folded before, counts what the page comes to, and takes the log rows away, in one transaction.
Whoever reads overlays the log on the folded page, so it makes no difference to anybody when that happens.

What has to be kept of answers is in a table of its own, since it is destroyed once it was handed over.
"""

from __future__ import annotations

import sqlite3
import zlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

import msgspec

from privacy_toolkit.core import uncollected
from privacy_toolkit.core.model import Outcome
from privacy_toolkit.journal.figures import PageCounts, RunCounts, Windows, counted
from privacy_toolkit.journal.records import ExchangeRow, Note, RequestRow, StateRow, SubjectRow

#: A place in the log is the number of the page's first subject, and a running number in the lower half.
_PLACES: Final = 1 << 32
_ARRAY: Final = b"\xdd"  # MessagePack: an array, whose length follows in four bytes
_COMPRESSION: Final = 1  # a fifth of the bytes in a microsecond a subject; more of it costs much and gains little

_encode = msgspec.msgpack.Encoder().encode
_decode_rows = msgspec.msgpack.Decoder(list[SubjectRow]).decode
_decode_states = msgspec.msgpack.Decoder(list[tuple[int, StateRow | None, msgspec.Raw, msgspec.Raw]]).decode
_decode_counts = msgspec.msgpack.Decoder(PageCounts).decode

_decode = msgspec.msgpack.Decoder().decode
_ENDED_AT, _CARRIER = (ExchangeRow._fields.index(name) for name in ("ended_at", "carrier"))


def pack_note(note: Note) -> bytes:
    """Pack what a note says of its subject, but for what is kept of the answer."""
    return _encode(note if note.result is None else Note(note.seq, note.exchanges, note.state))


def as_one(notes: Sequence[Note]) -> Sequence[Note]:
    """Put notes that follow each other about one subject together: what is read later has to be read once."""
    found: list[Note] = []
    for note in notes:
        before = found[-1] if found else None
        if before is not None and before.seq == note.seq and before.state is None and before.result is None:
            found[-1] = Note(note.seq, (*before.exchanges, *note.exchanges), note.state, note.result)
        else:
            found.append(note)
    return found


class PageLog:
    """Adds to the log of a journal, and says when a page is worth folding. For the one who is alone in writing.

    ``bounds`` are the numbers of the first and the last subject of each page.
    """

    #: A page is folded when so many commits said nothing of it, and enough was said before to be worth it.
    IDLE: Final = 64

    def __init__(self, connection: sqlite3.Connection, bounds: Sequence[tuple[int, int]]) -> None:
        self._connection = connection
        self._firsts = [first for first, _ in bounds]
        self._sizes = {first: last - first + 1 for first, last in bounds}
        self._unfolded = {first: _Unfolded() for first in unfolded(connection)}
        (last,) = connection.execute("SELECT IFNULL(MAX(place & ?), 0) FROM log", (_PLACES - 1,)).fetchone()
        self._number = int(last)
        self._commits = 0
        self._walked: set[int] = set()

    def append(self, notes: Iterable[tuple[int, bool, bytes]]) -> None:
        """Add packed notes, each with the number of its subject and whether that is settled; within a transaction."""
        pages: dict[int, list[bytes]] = {}
        self._commits += 1
        firsts, unfolded = self._firsts, self._unfolded
        for seq, is_settled, note in notes:
            first = firsts[bisect_right(firsts, seq) - 1]
            page = pages.get(first)
            if page is None:
                page = pages[first] = []
                if first not in unfolded:
                    unfolded[first] = _Unfolded()
            page.append(note)
            if is_settled:
                unfolded[first].settled += 1
        rows = []
        for first, page in pages.items():
            self._number += 1
            self._unfolded[first].add(len(page), self._commits)
            rows.append((first * _PLACES + self._number, _ARRAY + len(page).to_bytes(4, "big") + b"".join(page)))
        self._connection.executemany("INSERT INTO log VALUES (?, ?)", rows)
        self._walked |= {first for first in pages if self._unfolded[first].settled >= self._sizes[first]}

    def walked(self) -> set[int]:
        """Give the pages that are worth folding now."""
        if not self._commits % self.IDLE:
            since = self._commits - self.IDLE
            self._walked |= {
                first
                for first, page in self._unfolded.items()
                if page.said_at <= since and page.notes >= self._sizes[first]
            }
        walked, self._walked = self._walked, set()
        return walked

    def unfolded(self) -> list[int]:
        """Give the pages of which the log says anything."""
        return list(self._unfolded)

    def fold(self, first: int) -> None:
        """Fold a page, in a transaction of its own.

        Raises:
            ValueError: what the log says can't be read as what it should be; the log stays.
        """
        with uncollected(), transaction(self._connection):
            _put_packed(self._connection, first, _packed(self._connection, first))
        self._unfolded.pop(first, None)


class _Unfolded:
    """What the log says of a page: how many notes, how many of them settle a subject, and in which commit last."""

    __slots__ = ("notes", "said_at", "settled")

    def __init__(self) -> None:
        self.notes = self.settled = self.said_at = 0

    def add(self, notes: int, commit: int) -> None:
        self.notes += notes
        self.said_at = commit


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Write all or nothing; with ``DEFERRED``, read what belongs together as it was at one moment."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def page_rows(connection: sqlite3.Connection, first: int) -> list[SubjectRow]:
    """Read all that is known of the subjects of a page, in their order; who nothing is known of has no row."""
    return _decode_rows(_packed(connection, first))


def page_states(connection: sqlite3.Connection, first: int) -> dict[int, StateRow | None]:
    """Read where the subjects of a page stand, by their numbers: a third of the work of ``page_rows``."""
    return {seq: state for seq, state, _, _ in _decode_states(_packed(connection, first))}


def _packed(connection: sqlite3.Connection, first: int) -> bytes:
    found = connection.execute(
        "SELECT -1 AS place, data FROM folded WHERE first = ?1 UNION ALL"
        " SELECT place, data FROM log WHERE place BETWEEN ?1 * ?2 AND ?1 * ?2 + ?2 - 1 ORDER BY place",
        (first, _PLACES),
    ).fetchall()
    folded = _decompressed(found.pop(0)[1]) if found and found[0][0] < 0 else None
    if folded is None or found:
        return _overlaid(folded, [data for _, data in found])
    return folded


def _decompressed(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        raise ValueError("no rows") from None


def put_page(connection: sqlite3.Connection, first: int, rows: Sequence[SubjectRow]) -> None:
    """Write all that is known of the subjects of a page, and its counts; what the log says of it is no more.

    Within a transaction, in which ``rows`` were read.
    """
    _put_packed(connection, first, _encode(rows))


def _put_packed(connection: sqlite3.Connection, first: int, data: bytes) -> None:
    """Write a folded page as it is packed, once all of it reads as what it should be: then its log is gone."""
    counts = _encode(counted(_decode_rows(data)))
    connection.execute("DELETE FROM log WHERE place BETWEEN ?1 * ?2 AND ?1 * ?2 + ?2 - 1", (first, _PLACES))
    packed = zlib.compress(data, _COMPRESSION)
    connection.execute("INSERT OR REPLACE INTO folded VALUES (?, ?)", (first, packed))
    connection.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (first, counts))


def unfolded(connection: sqlite3.Connection) -> list[int]:
    """Give the pages of which the log says something, by their first subjects."""
    return [first for (first,) in connection.execute("SELECT DISTINCT place / ? FROM log", (_PLACES,))]


def page_counts(connection: sqlite3.Connection) -> Iterator[tuple[int, PageCounts]]:
    """Give the counts of all pages of whose subjects anything is known, as they are at one moment, in their order.

    The connection is within a transaction until the last one was given.
    """
    with transaction(connection, "DEFERRED"):
        said_of = set(unfolded(connection))
        known = connection.execute("SELECT first, data FROM counters ORDER BY first")
        yield from ((first, _decode_counts(data)) for first, data in known if first not in said_of)
        yield from ((first, counted(page_rows(connection, first))) for first in said_of)


def outcomes_of(connection: sqlite3.Connection, first: int, size: int) -> Collection[str]:
    """Give every outcome in which a subject of a page may be, without reading its subjects if possible."""
    said, data = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM log WHERE place BETWEEN ?1 * ?2 AND ?1 * ?2 + ?2 - 1),"
        " (SELECT data FROM counters WHERE first = ?1)",
        (first, _PLACES),
    ).fetchone()
    if said:
        return list(Outcome)
    return (PageCounts() if data is None else _decode_counts(data)).totals(size)


def run_counts(connection: sqlite3.Connection) -> RunCounts:
    """Add up the counts of all pages."""
    return RunCounts(counts for _, counts in page_counts(connection))


def _overlaid(folded: bytes | None, log: Iterable[bytes]) -> bytes:
    """Put what commits said, one after the other, over what was folded; rows as they are packed, in their order."""
    rows: dict[int, list[Any]] = {row[0]: row for row in (() if folded is None else _decode(folded))}
    for seq, made, state, _ in chain.from_iterable(map(_decode, log)):
        row = rows.get(seq)
        if row is None:
            row = rows[seq] = [seq, None, [], None]
        if state is not None:
            row[1] = (seq, *state)
        walk = row[2]
        for n, record in made:
            if not walk or walk[-1][1] < n:  # nearly always: they come in their order
                walk.append([seq, n, *record])
            else:
                _put(walk, seq, n, record)
    return _encode([rows[seq] for seq in sorted(rows)])


def _put(walk: list[list[Any]], seq: int, n: int, record: Sequence[Any]) -> None:
    """Add an exchange to those of a subject, in its place. An answer that is recorded never changes."""
    place = len(walk) - 1
    while place >= 0 and walk[place][1] > n:
        place -= 1
    if place < 0 or walk[place][1] < n:
        walk.insert(place + 1, [seq, n, *record])
    elif walk[place][_ENDED_AT] is None:
        walk[place][_ENDED_AT:_CARRIER] = record[_ENDED_AT - 2 : _CARRIER - 2]  # what a record has no number of


class Renumbering:
    """What a purge does to all that is known of a subject: another number, and the times of the pack.

    ``numbers`` are the new ones at the places of the old ones; 0: nothing is known of that subject.
    """

    def __init__(self, windows: Windows, numbers: Sequence[int]) -> None:
        self._windows = windows
        self._numbers = numbers

    def write(self, connection: sqlite3.Connection, bounds: Sequence[tuple[int, int]]) -> None:
        """Write all pages again, within a transaction."""
        connection.execute("DROP TABLE IF EXISTS temp.renumbered")
        connection.execute("CREATE TEMP TABLE renumbered (seq INTEGER PRIMARY KEY, data BLOB NOT NULL)")
        for first, _ in bounds:
            rows = map(self.row, page_rows(connection, first))
            connection.executemany("INSERT INTO renumbered VALUES (?, ?)", ((row.seq, _encode([row])) for row in rows))
        for table in ("log", "folded", "counters"):
            connection.execute(f"DELETE FROM {table}")
        for first, last in bounds:
            found = connection.execute(
                "SELECT data FROM renumbered WHERE seq BETWEEN ? AND ? ORDER BY seq", (first, last)
            )
            rows_now = [row for (data,) in found for row in _decode_rows(data)]
            if rows_now:
                put_page(connection, first, rows_now)
        connection.execute("DROP TABLE renumbered")

    def row(self, row: SubjectRow) -> SubjectRow:
        """Make what stays of a subject."""
        seq, state, walk, request = row
        new, window = self._numbers[seq], self._windows[seq]
        start = None if window is None else window.start
        if state is not None:
            state = state._replace(seq=new, settled_at=None if state.settled_at is None else start)
        return SubjectRow(
            new,
            state,
            [self._exchange(one, new, start) for one in walk],
            request and request._replace(seq=new, ticket=None),
        )

    def _exchange(self, one: ExchangeRow, new: int, start: int | None) -> ExchangeRow:
        return one._replace(
            seq=new,
            intent_at=None if one.intent_at is None else start,
            ended_at=None if one.ended_at is None else start,
            elapsed=None,
            carrier=None if one.carrier is None else self._numbers[one.carrier] or None,
        )


# The tables, as named migrations.


def _pack(connection: sqlite3.Connection) -> None:
    """Put what earlier versions wrote a row a subject and a row an exchange into pages, and take those tables away."""
    for name in ("folded", "counters"):
        connection.execute(f"CREATE TABLE {name} (first INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    connection.execute("CREATE TABLE log (place INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    for first, last in connection.execute("SELECT first, last FROM pages ORDER BY first").fetchall():
        rows = _rows_of_tables(connection, first, last)
        if rows:
            put_page(connection, first, rows)
    for name in ("standings", "exchanges", "requests"):
        connection.execute(f"DROP TABLE {name}")


def _rows_of_tables(connection: sqlite3.Connection, first: int, last: int) -> list[SubjectRow]:
    states, exchanges, requests = (
        connection.execute(
            f"SELECT {', '.join(kind._fields)} FROM {table} WHERE seq BETWEEN ? AND ? ORDER BY {order}", (first, last)
        ).fetchall()
        for table, kind, order in (
            ("standings", StateRow, "seq"),
            ("exchanges", ExchangeRow, "seq, n"),
            ("requests", RequestRow, "seq"),
        )
    )
    stands, asked = {row[0]: StateRow._make(row) for row in states}, {row[0]: RequestRow._make(row) for row in requests}
    walks: defaultdict[int, list[ExchangeRow]] = defaultdict(list)
    for row in exchanges:
        walks[row[0]].append(ExchangeRow._make(row))
    return [
        SubjectRow(seq, stands.get(seq), walks.get(seq, []), asked.get(seq))
        for seq in sorted(stands.keys() | walks.keys() | asked.keys())
    ]


#: Each is applied in one transaction with its own record.
MIGRATIONS: tuple[tuple[str, str | Callable[[sqlite3.Connection], None]], ...] = (
    (
        "0001-first",
        """
        CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
        -- The accepted subjects in input order, up to 1,000 a page: immutable once the run is created.
        CREATE TABLE pages (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, data BLOB NOT NULL);
        -- A subject without a row here is pending.
        CREATE TABLE standings (
            seq INTEGER PRIMARY KEY,
            outcome TEXT NOT NULL,
            reason TEXT,
            attribution TEXT,
            held_before TEXT,
            attempts INTEGER NOT NULL,
            kept_coupons INTEGER,
            kept_referrals INTEGER,
            hold_reason TEXT,
            review_on TEXT,
            settled_at INTEGER
        );
        CREATE TABLE exchanges (
            seq INTEGER NOT NULL,
            n INTEGER NOT NULL,
            purpose TEXT NOT NULL,
            operation TEXT NOT NULL,
            intent_at INTEGER,
            ended_at INTEGER,
            elapsed INTEGER,
            status INTEGER,
            reason TEXT,
            PRIMARY KEY (seq, n)
        ) WITHOUT ROWID;
        CREATE TABLE sittings (
            number INTEGER PRIMARY KEY,
            started_at INTEGER NOT NULL,
            ended_at INTEGER,
            stopped_by TEXT,
            settings TEXT NOT NULL
        );
        """,
    ),
    (
        "0002-requests",
        """
        -- What the input says of the request behind a subject; a subject without any such word has no row.
        CREATE TABLE requests (
            seq INTEGER PRIMARY KEY,
            requested_on TEXT,
            due_on TEXT,
            ticket TEXT,
            ground TEXT
        );
        CREATE INDEX requests_by_due ON requests (due_on, seq);
        """,
    ),
    (
        "0003-shared-requests",
        """
        -- Set where one request is about several subjects: it is counted once, with the subject of that number.
        ALTER TABLE exchanges ADD COLUMN carrier INTEGER;
        -- For the jobs whose requests are about several subjects: which belong together, in order.
        CREATE TABLE parties (
            name TEXT NOT NULL,
            seq INTEGER NOT NULL,
            row INTEGER NOT NULL,
            id TEXT NOT NULL,
            given TEXT NOT NULL,
            PRIMARY KEY (name, seq)
        ) WITHOUT ROWID;
        -- What has to be kept of an answer until it is handed over.
        CREATE TABLE results (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
        """,
    ),
    (
        "0004-controls",
        """
        -- Requests that prove the route and no subject; without a kind: the longest gap so far between two that held.
        CREATE TABLE controls (
            n INTEGER PRIMARY KEY,
            kind TEXT,
            operation TEXT NOT NULL,
            ended_at INTEGER NOT NULL,
            elapsed INTEGER NOT NULL,
            status INTEGER,
            reason TEXT,
            held INTEGER
        );
        """,
    ),
    (
        "0005-rejected",
        """
        -- The rows of the input that were refused, in its order: where each stands and why. No id.
        CREATE TABLE rejected (row INTEGER NOT NULL, reason TEXT NOT NULL);
        -- That somebody accepted that so many rows were refused and nobody acts on them; the last one counts.
        CREATE TABLE acceptances (
            number INTEGER PRIMARY KEY,
            at INTEGER NOT NULL,
            rows INTEGER NOT NULL,
            signer TEXT,
            signing_key TEXT
        );
        """,
    ),
    (
        "0006-page-digests",
        """
        -- HMAC-SHA256 of each page under the run's secret; the fact "mac" is bound to them all (see ``facts``).
        CREATE TABLE page_digests (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, digest BLOB NOT NULL);
        """,
    ),
    ("0007-packed", _pack),
)


def applied(connection: sqlite3.Connection) -> set[str]:
    """Name the migrations that a journal has seen, those of a newer toolkit among them; none if it is empty."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migrations'").fetchone() is None:
        return set()
    return {str(name) for (name,) in connection.execute("SELECT name FROM migrations")}


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables of an open journal to the newest form; nothing happens if they have it."""
    connection.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)")
    there = applied(connection)
    for name, change in MIGRATIONS:
        if name in there:
            continue
        if isinstance(change, str):
            connection.executescript(f"BEGIN;{change};INSERT INTO migrations VALUES ('{name}');COMMIT;")
            continue
        with transaction(connection):
            change(connection)
            connection.execute("INSERT INTO migrations VALUES (?)", (name,))
