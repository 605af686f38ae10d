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
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables of an open journal to the newest form; nothing happens if they have it."""
    connection.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)")
    applied = {name for (name,) in connection.execute("SELECT name FROM migrations")}
    for name, script in MIGRATIONS:
        if name not in applied:
            connection.executescript(f"BEGIN;{script};INSERT INTO migrations VALUES ('{name}');COMMIT;")
