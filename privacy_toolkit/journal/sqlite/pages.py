"""The tables of a journal, and its pages: what commits said of each page, folded into one row when it was walked.

A commit adds one row a page to the log: what its notes say of that page, packed. Folding puts all log rows of a page
together with what was folded before, counts what the page comes to, and takes the log rows away, in one transaction.
Anyone who reads overlays the log on the folded page, so it makes no difference to anybody when that happens.

What has to be kept of answers is in a table of its own, since it is destroyed once it was handed over.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.core.privacy import uncollected
from privacy_toolkit.journal.figures import PageCounts, RunCounts, counted
from privacy_toolkit.journal.packed import (
    Row,
    decode_counts,
    decode_rows,
    decode_states,
    encode_counts,
    encode_rows,
    page_as_known,
)
from privacy_toolkit.journal.records import ExchangeRow, RequestRow, StateRow, SubjectRow
from privacy_toolkit.journal.writing import Renumbering, pack_page

#: A place in the log is the number of the page's first subject, and a running number in the lower half.
_PLACES: Final = 1 << 32
_PUT_CONTROL: Final = (
    "INSERT INTO controls (kind, operation, ended_at, elapsed, status, reason, held) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_PUT_RESULT: Final = "INSERT OR REPLACE INTO results VALUES (?, ?)"
_decode_rows = decode_rows


@contextmanager
def setting_up(connection: sqlite3.Connection) -> Iterator[None]:
    """Close a connection at once if what is done first with it fails, for then nobody else can."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


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
    return decode_states(_packed(connection, first))


def _places_of(first: int) -> tuple[int, int]:
    """Give the first and the last place in the log that a page may have."""
    return first * _PLACES, (first + 1) * _PLACES - 1


def _packed(connection: sqlite3.Connection, first: int) -> bytes:
    found = connection.execute(
        "SELECT -1 AS place, data FROM folded WHERE first = ? UNION ALL"
        " SELECT place, data FROM log WHERE place BETWEEN ? AND ? ORDER BY place",
        (first, *_places_of(first)),
    ).fetchall()
    folded = found.pop(0)[1] if found and found[0][0] < 0 else None
    return page_as_known(folded, [data for _, data in found])


def put_page(connection: sqlite3.Connection, first: int, rows: Sequence[SubjectRow]) -> None:
    """Write all that is known of the subjects of a page, and its counts; what the log says of it is no more.

    Within a transaction, in which ``rows`` were read.
    """
    _put_packed(connection, first, encode_rows(rows))


def commit(
    connection: sqlite3.Connection,
    number: int,
    log: Iterable[tuple[int, bytes]],
    results: Sequence[Row],
    controls: Sequence[Row],
) -> int:
    """Add rows to the log, after that with ``number``, and what is kept of answers and controls, in one transaction.

    Returns the number of the last row of the log.
    """
    rows = [(first * _PLACES + n, data) for n, (first, data) in enumerate(log, number + 1)]
    with transaction(connection):
        connection.executemany("INSERT INTO log VALUES (?, ?)", rows)
        if results:
            connection.executemany(_PUT_RESULT, results)
        if controls:
            connection.executemany(_PUT_CONTROL, controls)
    return number + len(rows)


def last_number(connection: sqlite3.Connection) -> int:
    """Tell how many rows the log had, as its numbers say."""
    (last,) = connection.execute("SELECT IFNULL(MAX(place & ?), 0) FROM log", (_PLACES - 1,)).fetchone()
    return int(last)


def fold(connection: sqlite3.Connection, first: int) -> None:
    """Fold a page, in a transaction of its own.

    Raises:
        ValueError: what the log says can't be read as what it should be; the log stays.
    """
    with uncollected(), transaction(connection):
        _put_packed(connection, first, _packed(connection, first))


def _put_packed(connection: sqlite3.Connection, first: int, data: bytes) -> None:
    """Write a folded page as it is packed, once all of it reads as what it should be: then its log is gone."""
    counts = encode_counts(counted(_decode_rows(data)))
    connection.execute("DELETE FROM log WHERE place BETWEEN ? AND ?", _places_of(first))
    packed = pack_page(data)
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
        yield from ((first, decode_counts(data)) for first, data in known if first not in said_of)
        yield from ((first, counted(page_rows(connection, first))) for first in said_of)


def outcomes_of(connection: sqlite3.Connection, first: int, size: int) -> Collection[str]:
    """Give every outcome in which a subject of a page may be, without reading its subjects if possible."""
    said, data = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM log WHERE place BETWEEN ? AND ?), (SELECT data FROM counters WHERE first = ?)",
        (*_places_of(first), first),
    ).fetchone()
    if said:
        return list(Outcome)
    return (PageCounts() if data is None else decode_counts(data)).totals(size)


def run_counts(connection: sqlite3.Connection) -> RunCounts:
    """Add up the counts of all pages."""
    return RunCounts(counts for _, counts in page_counts(connection))


def renumber(connection: sqlite3.Connection, bounds: Sequence[tuple[int, int]], made: Renumbering) -> None:
    """Write all pages again with other numbers, within a transaction."""
    connection.execute("DROP TABLE IF EXISTS temp.renumbered")
    connection.execute("CREATE TEMP TABLE renumbered (seq INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    for first, _ in bounds:
        rows = map(made.row, page_rows(connection, first))
        connection.executemany("INSERT INTO renumbered VALUES (?, ?)", ((row.seq, encode_rows([row])) for row in rows))
    for table in ("log", "folded", "counters"):
        connection.execute(f"DELETE FROM {table}")
    for first, last in bounds:
        found = connection.execute("SELECT data FROM renumbered WHERE seq BETWEEN ? AND ? ORDER BY seq", (first, last))
        rows_now = [row for (data,) in found for row in _decode_rows(data)]
        if rows_now:
            put_page(connection, first, rows_now)
    connection.execute("DROP TABLE renumbered")


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
            # Their columns are in the order of the fields of ``StateRow``, ``ExchangeRow`` and ``RequestRow``.
            f"SELECT * FROM {table} WHERE seq BETWEEN ? AND ? ORDER BY {order}",
            (first, last),
        ).fetchall()
        for table, order in (("standings", "seq"), ("exchanges", "seq, n"), ("requests", "seq"))
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
