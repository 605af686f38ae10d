"""The index of a state in the database: what its runs tell, looked up instead of read in each of them.

It is derived from the runs. What was read of a run counts as long as nothing was written to it since. No id is in it:
names are digests under a key of the index's own, and what was told under a name is XORed with what only that key gives.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, Final, Self

import psycopg

from privacy_toolkit.core.privacy import SecretFile
from privacy_toolkit.journal.postgres.connection import Connection, Database, explained
from privacy_toolkit.journal.postgres.ledgers import own_key
from privacy_toolkit.journal.postgres.reader import run_stamps

_AT_ONCE: Final = 10_000
_DIGEST: Final = 16
_INDEX: Final = "The index of the runs can't be kept"


class PostgresIndex:
    """What the runs of a state tell, looked up by digests under a key of the index's own.

    What does not last is in a table of the session's own.
    """

    def __init__(self, database: Database, key: SecretFile | None) -> None:
        self._database, self._state_key = database, key
        self._stamps: dict[tuple[str, str], bytes] = {}
        self._passing: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self._stack = ExitStack()
        self._session: Connection | None = None
        self._key = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session is not None and not self._session.closed:
            with explained(_INDEX):
                self._session.execute("DROP TABLE IF EXISTS passing")
        self._session = None
        self._stack.close()

    def behind(self, part: str) -> list[str]:
        """Give the runs of which a part was not entered as they are now, newest first."""
        with self._held() as connection:
            known = {run_id: stamp for run_id, (_, stamp, _, _) in self._known(connection, part).items()}
            stamps = run_stamps(self._database)
            connection.execute("DELETE FROM index_parts WHERE run_id <> ALL(%s::text[])", (list(stamps),))
        found = []
        for run_id, stamp in stamps.items():
            if (part, run_id) not in self._passing and (not stamp or stamp != known.get(run_id)):
                self._stamps[part, run_id] = stamp
                found.append(run_id)
        return found

    def enter(self, part: str, run_id: str, note: bytes, told: Iterable[tuple[str, bytes]], *, lasting: bool) -> None:
        """Enter what a run tells in a part, in the place of what it told there before."""
        stamp, salt = self._stamps.get((part, run_id), b""), secrets.token_bytes(_DIGEST)
        hidden = _xored(note, self._pad(salt, b"", len(note)))
        with self._held() as connection, connection.transaction() as written:
            if not lasting:
                connection.execute(
                    "CREATE TEMP TABLE IF NOT EXISTS passing (digest bytea, run_id text, part text, value bytea)"
                )
                self._put(connection, part, salt, told, "passing", (run_id, part))
                connection.execute("CREATE INDEX IF NOT EXISTS passing_by_digest ON passing (digest)")
                self._passing[part, run_id] = salt, note
                return
            connection.execute("DELETE FROM index_parts WHERE run_id = %s AND part = %s", (run_id, part))
            (number,) = connection.execute(
                "INSERT INTO index_parts (run_id, part, stamp, salt, note) VALUES (%s, %s, %s, %s, %s) RETURNING no",
                (run_id, part, stamp, salt, hidden),
            ).fetchone() or (0,)
            self._put(connection, part, salt, told, "index_told", (number,))
            if not stamp or run_stamps(self._database).get(run_id) != stamp:
                raise psycopg.Rollback(written)

    def notes(self, part: str) -> dict[str, bytes]:
        """Give the notes of all runs of which a part was entered."""
        with self._held() as connection:
            known = {run_id: note for run_id, (_, _, _, note) in self._known(connection, part).items()}
        return known | {run_id: note for (of, run_id), (_, note) in self._passing.items() if of == part}

    def told(self, part: str, names: Iterable[str]) -> dict[str, list[bytes]]:
        """Give what was told under each of some names; a name without anything is left out."""
        found: dict[str, list[bytes]] = {}
        rest = iter(names)
        with self._held() as connection:
            salts = {no: (run_id, salt) for run_id, (no, _, salt, _) in self._known(connection, part).items()}
            while some := {self._digest(part, name): name for name in islice(rest, _AT_ONCE)}:
                for digest, salt, value in self._told(connection, part, list(some), salts):
                    found.setdefault(some[digest], []).append(_xored(value, self._pad(salt, digest, len(value))))
        return found

    def forget(self, run_id: str) -> None:
        """Destroy all that was entered of a run."""
        for passing in [key for key in self._passing if key[1] == run_id]:
            del self._passing[passing]
        with self._held() as connection:
            connection.execute("DELETE FROM index_parts WHERE run_id = %s", (run_id,))

    def _told(
        self, connection: Connection, part: str, digests: list[bytes], salts: dict[int, tuple[str, bytes]]
    ) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Digest, salt and hidden value of what was told under some digests."""
        lasting = connection.execute(
            "SELECT digest, no, value FROM index_told WHERE digest = ANY(%b::bytea[])", (digests,), binary=True
        )
        for digest, no, value in lasting.fetchall():
            run_id, salt = salts.get(no, ("", b""))
            if salt and (part, run_id) not in self._passing:
                yield digest, salt, value
        if not self._passing:
            return
        passing = connection.execute(
            "SELECT digest, run_id, value FROM passing WHERE digest = ANY(%b::bytea[]) AND part = %s",
            (digests, part),
            binary=True,
        )
        for digest, run_id, value in passing.fetchall():
            if (part, run_id) in self._passing:
                yield digest, self._passing[part, run_id][0], value

    def _put(
        self,
        connection: Connection,
        part: str,
        salt: bytes,
        told: Iterable[tuple[str, bytes]],
        table: str,
        more: tuple[Any, ...],
    ) -> None:
        rest = iter(told)
        while some := list(islice(rest, _AT_ONCE)):
            digests = [self._digest(part, name) for name, _ in some]
            values = [
                _xored(value, self._pad(salt, digest, len(value)))
                for digest, (_, value) in zip(digests, some, strict=True)
            ]
            marks = "%s, " * len(more)
            connection.execute(
                f"INSERT INTO {table} SELECT digest, {marks}value FROM unnest(%b::bytea[], %b::bytea[]) AS given"
                " (digest, value) ON CONFLICT DO NOTHING",
                (*more, digests, values),
            )

    def _known(self, connection: Connection, part: str) -> dict[str, tuple[int, bytes, bytes, bytes]]:
        """Number, stamp, salt and note of each run of which a part was entered."""
        rows = connection.execute(
            "SELECT run_id, no, stamp, salt, note FROM index_parts WHERE part = %s", (part,), binary=True
        ).fetchall()
        return {
            run_id: (no, stamp, salt, _xored(note, self._pad(salt, b"", len(note))))
            for run_id, no, stamp, salt, note in rows
        }

    @contextmanager
    def _held(self) -> Iterator[Connection]:
        with explained(_INDEX):
            if self._session is None:
                self._session = self._stack.enter_context(self._database.used())
                self._key = own_key(self._database, self._state_key, "index")
            yield self._session

    def _digest(self, part: str, name: str) -> bytes:
        whole = f"{part}\0{name}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(whole, key=self._key, digest_size=_DIGEST, person=b"name").digest()

    def _pad(self, salt: bytes, digest: bytes, length: int) -> bytes:
        return hashlib.shake_256(self._key + salt + digest).digest(length) if length else b""


def _xored(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")
