"""The journal's tables, as named migrations; each is applied in one transaction with its own record."""

from __future__ import annotations

import sqlite3

MIGRATIONS: tuple[tuple[str, str], ...] = (
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
)


def applied(connection: sqlite3.Connection) -> set[str]:
    """The migrations that a journal has seen, those of a newer toolkit among them; none if it is empty."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migrations'").fetchone() is None:
        return set()
    return {str(name) for (name,) in connection.execute("SELECT name FROM migrations")}


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables of an open journal to the newest form; nothing happens if they have it."""
    connection.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)")
    there = applied(connection)
    for name, script in MIGRATIONS:
        if name not in there:
            connection.executescript(f"BEGIN;{script};INSERT INTO migrations VALUES ('{name}');COMMIT;")
