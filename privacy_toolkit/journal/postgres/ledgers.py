"""What outlives the runs of a state in the database: whom it erased, and which codes it gave away.

No id is in any of it: who and which code is named by HMAC-SHA256 under keys, each list's own. These are in a table of
their own, with rights of its own, and wrapped under the key of ``[state] key`` where one is named.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, Final, Self

import psycopg

from privacy_toolkit.core.model import JournalError
from privacy_toolkit.core.privacy import SecretFile
from privacy_toolkit.journal.ledgers import unwrapped, wrap
from privacy_toolkit.journal.postgres.connection import Connection, Database, explained
from privacy_toolkit.journal.postgres.reader import run_stamps
from privacy_toolkit.journal.records import (
    RUN_SECOND,
    decode_lists,
    encode_lists,
    list_digest,
    list_name,
)
from privacy_toolkit.journal.store import assigned_meanwhile

_AT_ONCE: Final = 10_000
_DIGEST: Final = 16
_KEY: Final = 32
#: Bits of the filter in front of a list, for each entry: of 32 others one is looked up in vain.
_BITS: Final = 32
_LEAST_BITS: Final = 16


def own_key(database: Database, key: SecretFile | None, name: str) -> bytes:
    """Give the key of a list, drawn with the first use.

    Raises:
        UsageError: the key over it can't be read.
        JournalError: that is missing, or another one than this was made with.
        psycopg.Error: the database can't be read or written.
    """
    found = database.row("SELECT value, checked FROM keys WHERE name = %s", (name,))
    if found is None:
        drawn = secrets.token_bytes(_KEY)
        put_key(database, key, name, drawn)
        return own_key(database, key, name)  # of two processes the first one's stays
    value, checked = found
    if checked is None:
        return bytes(value)
    return unwrapped(_needed(key), name, value, checked)


def put_key(database: Database, key: SecretFile | None, name: str, value: bytes) -> None:
    """Keep the key of a list where there is none yet, wrapped if there is a key for that."""
    kept: tuple[bytes, bytes | None] = (value, None) if key is None else wrap(key, name, value)
    database.rows("INSERT INTO keys VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", (name, *kept))


def _needed(key: SecretFile | None) -> SecretFile:
    if key is None:
        raise JournalError(
            "The lists of this state were made with a key that no setting names.",
            "Name it: [state] key = { file = … } in the configuration.",
            code="state_key",
        )
    return key


_LIST: Final = "The list of erased customers can't be"


class PostgresSuppression:
    """The list of whom this state has erased."""

    def __init__(self, database: Database, key: SecretFile | None) -> None:
        self._database, self._state_key = database, key
        self._stamps: dict[str, bytes] = {}
        with explained(f"{_LIST} opened"):
            self._key = own_key(database, key, "suppression")
            self._imported = {
                name.removeprefix("list:"): own_key(database, key, name)
                for (name,) in database.rows("SELECT name FROM keys WHERE starts_with(name, 'list:')")
            }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Keep nothing open: each statement borrows a connection."""

    def of(self, scopes: Collection[str]) -> Callable[[str], bool]:
        """Give what tells whether a customer was erased in one of ``scopes``, by the list as it is with its first use.

        A filter of a few bytes an entry is asked first, since one look into the database for each of a million
        customers would take minutes.
        """
        keys = [self._key, *self._imported.values()]
        known: list[_Filter] = []

        def is_suppressed(customer: str) -> bool:
            if not known:
                known.append(self._filter())
            digests = [list_digest(key, scope, customer) for key in keys for scope in scopes]
            likely = [digest for digest in digests if known[0].may_have(digest)]
            return bool(likely) and self._has(likely)

        return is_suppressed

    def behind(self) -> list[str]:
        """Give the runs that may have erased somebody who is not in the list, newest first."""
        with explained(f"{_LIST} read"):
            read = dict(self._database.rows("SELECT run_id, stamp FROM list_read"))
            self._stamps = run_stamps(self._database)
        return [run_id for run_id, stamp in self._stamps.items() if not stamp or read.get(run_id) != stamp]

    def mark_read(self, run_id: str) -> None:
        """Note that everybody is in the list whom a run has erased, if it still is as ``behind`` found it."""
        stamp = self._stamps.get(run_id)
        with explained(f"{_LIST} written"):
            if stamp and run_stamps(self._database).get(run_id) == stamp:
                self._database.rows(
                    "INSERT INTO list_read VALUES (%s, %s) ON CONFLICT (run_id) DO UPDATE SET stamp = excluded.stamp",
                    (run_id, stamp),
                )

    def counted(self, run_id: str) -> int:
        """Tell how many erased customers of a run are in the list."""
        with explained(f"{_LIST} read"):
            found = self._database.row("SELECT erased FROM counted WHERE run_id = %s", (run_id,))
        return 0 if found is None else int(found[0])

    def add(self, scope: str, customers: Iterable[str], run_id: str, erased: int) -> None:
        """Enter the erased customers of a run, all or none; who was taken off later than it was created stays off.

        Raises:
            JournalError: it can't be written.
        """
        rest, second = iter(customers), run_id[:RUN_SECOND]
        with self._written() as connection:
            while batch := [list_digest(self._key, scope, one) for one in islice(rest, _AT_ONCE)]:
                connection.execute(
                    "INSERT INTO suppressed SELECT digest FROM unnest(%b::bytea[]) AS given (digest) WHERE NOT EXISTS"
                    " (SELECT 1 FROM removed WHERE removed.digest = given.digest AND before >= %s)"
                    " ON CONFLICT DO NOTHING",
                    (batch, second),
                )
            connection.execute(
                "INSERT INTO counted VALUES (%s, %s) ON CONFLICT (run_id) DO UPDATE SET erased = excluded.erased",
                (run_id, erased),
            )

    def remove(self, scopes: Collection[str], customer: str, second: str) -> bool:
        """Take a customer off, for all runs created up to ``second``; False: was not on it.

        Raises:
            JournalError: it can't be written.
        """
        was_on = self.of(scopes)(customer)
        own = [list_digest(self._key, scope, customer) for scope in scopes]
        theirs = [list_digest(key, scope, customer) for key in self._imported.values() for scope in scopes]
        with self._written() as connection:
            connection.execute("DELETE FROM suppressed WHERE digest = ANY(%b::bytea[])", (own,))
            if theirs:
                connection.execute("DELETE FROM imported WHERE digest = ANY(%b::bytea[])", (theirs,))
            if was_on:
                connection.execute(
                    "INSERT INTO removed SELECT digest, %s FROM unnest(%b::bytea[]) AS given (digest)"
                    " ON CONFLICT (digest) DO UPDATE SET before = excluded.before",
                    (second, own),
                )
        return was_on

    def exported(self) -> tuple[bytes, bytes, int]:
        """Give the list with all that were taken in, the keys, and how many entries there are."""
        with explained(f"{_LIST} read"):
            own = [digest for (digest,) in self._database.rows("SELECT digest FROM suppressed ORDER BY 1")]
            theirs = self._database.rows("SELECT list, digest FROM imported ORDER BY 1, 2")
        lists = [(list_name(self._key), self._key, own)]
        lists += [(name, key, [digest for of, digest in theirs if of == name]) for name, key in self._imported.items()]
        return encode_lists(lists)

    def take_in(self, export: bytes, keys: bytes) -> int:
        """Take in what ``exported`` gave elsewhere; how many entries are new here.

        Raises:
            UsageError: it is no export, or the keys are not its keys.
            JournalError: it can't be written.
        """
        found = list(decode_lists(export, keys))
        new = 0
        with self._written() as connection:
            for name, key, digests in found:
                own = hmac.compare_digest(key, self._key)
                if not own and name not in self._imported:
                    put_key(self._database, self._state_key, f"list:{name}", key)
                    self._imported[name] = key
                into, names = ("suppressed", []) if own else ("imported", [name])
                for some in _in_batches(digests):
                    made = connection.execute(
                        f"INSERT INTO {into} SELECT {'%s, ' * len(names)}digest"
                        " FROM unnest(%b::bytea[]) AS given (digest) ON CONFLICT DO NOTHING",
                        (*names, some),
                    )
                    new += made.rowcount
        return new

    def _has(self, digests: list[bytes]) -> bool:
        with explained(f"{_LIST} read"):
            return bool(
                self._database.rows(
                    "SELECT 1 FROM suppressed WHERE digest = ANY(%b::bytea[])"
                    " UNION ALL SELECT 1 FROM imported WHERE digest = ANY(%b::bytea[]) LIMIT 1",
                    (digests, digests),
                )
            )

    def _filter(self) -> _Filter:
        with explained(f"{_LIST} read"), self._database.used() as connection, connection.transaction():
            (size,) = connection.execute(
                "SELECT (SELECT count(*) FROM suppressed) + (SELECT count(*) FROM imported)"
            ).fetchone() or (0,)
            found = _Filter(size)
            with connection.cursor("digests", binary=True) as cursor:
                cursor.itersize = _AT_ONCE
                cursor.execute("SELECT digest FROM suppressed UNION ALL SELECT digest FROM imported")
                for (digest,) in cursor:
                    found.add(digest)
        return found

    @contextmanager
    def _written(self) -> Iterator[Connection]:
        with explained(f"{_LIST} written"), self._database.used() as connection, connection.transaction():
            yield connection


class _Filter:
    """Tells of most digests that are not in a list that they are not."""

    def __init__(self, size: int) -> None:
        self._bits = max(_LEAST_BITS, (size * _BITS).bit_length())
        self._set = bytearray(1 << (self._bits - 3))

    def add(self, digest: bytes) -> None:
        place, bit = self._place(digest)
        self._set[place] |= bit

    def may_have(self, digest: bytes) -> bool:
        place, bit = self._place(digest)
        return bool(self._set[place] & bit)

    def _place(self, digest: bytes) -> tuple[int, int]:
        number = int.from_bytes(digest[:8], "big") >> (64 - self._bits)
        return number >> 3, 1 << (number & 7)


def _in_batches(digests: Sequence[bytes]) -> Iterator[list[bytes]]:
    for k in range(0, len(digests), _AT_ONCE):
        yield list(digests[k : k + _AT_ONCE])


_CODES: Final = "The record of assigned codes can't be"
#: The first customer of a code, and every one of a code that several may have.
_PAIRS: Final = "(SELECT code, customer FROM assigned UNION SELECT code, customer FROM shared) AS pairs"


class PostgresAssignedCodes:
    """What was assigned in one scope. ``former`` are the names under which earlier versions remembered it."""

    def __init__(self, database: Database, key: SecretFile | None, scope: str, former: Collection[str]) -> None:
        self._database = database
        self._scopes = (scope, *former)
        self._customers: dict[bytes, set[bytes]] = {}
        with explained(f"{_CODES} opened"):
            self._key = own_key(database, key, "assigned")
            with database.used() as connection:
                self.changes = self._changes(connection)

    def close(self) -> None:
        """Let go of the record: each statement borrows a connection."""

    def among(self, codes: Iterable[str]) -> dict[bytes, str]:
        """Give those of ``codes`` that were assigned to somebody, by their digests, in their order."""
        if not self.changes:
            return {}
        digests = {self._digest("code", code, scope): code for code in codes for scope in self._scopes}
        self._look_up(digests)
        return {digest: code for digest, code in digests.items() if self._customers[digest]}

    def code_of(self, customer: str, among: dict[bytes, str]) -> str | None:
        """Give the first of the codes ``among`` that was assigned to a customer."""
        if not among:
            return None
        self._look_up(among)
        mine = {self._digest("customer", customer, scope) for scope in self._scopes}
        return next((code for digest, code in among.items() if not mine.isdisjoint(self._customers[digest])), None)

    def used(self, code: str) -> int:
        """Tell how many customers a code was assigned to."""
        return len(self._customers_of(code))

    def is_of(self, customer: str, code: str) -> bool:
        """Tell whether a code was assigned to a customer."""
        found = self._customers_of(code)
        return any(self._digest("customer", customer, scope) in found for scope in self._scopes)

    def remember(
        self, pairs: Iterable[tuple[str, str]], shared: Collection[str] = (), void: Collection[str] = ()
    ) -> None:
        """Make durable which codes are assigned to which customers, as worked out when this was opened; all or nothing.

        Raises:
            RefusedError: something was assigned meanwhile.
            JournalError: it can't be written.
        """
        rest, many = iter(pairs), {self._digest("code", code) for code in shared}
        with self._changing() as connection:
            if self._changes(connection) - 1 != self.changes:
                raise assigned_meanwhile()
            gone = [self._digest("code", code, scope) for code in void for scope in self._scopes]
            for table in ("assigned", "shared") if gone else ():
                connection.execute(f"DELETE FROM {table} WHERE code = ANY(%b::bytea[])", (gone,))
            while batch := list(islice(rest, _AT_ONCE)):
                digests = [(self._digest("code", code), self._digest("customer", one)) for one, code in batch]
                _put_pairs(connection, "assigned", digests)
                _put_pairs(connection, "shared", [pair for pair in digests if pair[0] in many])

    def give_back(self, pairs: Iterable[tuple[str, str]], run_id: str) -> None:
        """Forget, durably and once for each ``run_id``, that these customers have these codes, since it released them.

        Raises:
            JournalError: it can't be written.
        """
        rest = iter(pairs)
        with self._changing() as connection:
            if not connection.execute("INSERT INTO given_back VALUES (%s) ON CONFLICT DO NOTHING", (run_id,)).rowcount:
                return
            while batch := list(islice(rest, _AT_ONCE)):
                digests = [
                    (self._digest("code", code, scope), self._digest("customer", one, scope))
                    for one, code in batch
                    for scope in self._scopes
                ]
                for table in ("assigned", "shared"):
                    connection.execute(
                        f"DELETE FROM {table} USING unnest(%b::bytea[], %b::bytea[]) AS given (code, customer)"
                        f" WHERE {table}.code = given.code AND {table}.customer = given.customer",
                        ([code for code, _ in digests], [customer for _, customer in digests]),
                    )

    def _customers_of(self, code: str) -> set[bytes]:
        if not self.changes:
            return set()
        digests = [self._digest("code", code, scope) for scope in self._scopes]
        self._look_up(digests)
        return set().union(*(self._customers[digest] for digest in digests))

    def _look_up(self, codes: Collection[bytes]) -> None:
        """Read whom codes were assigned to, of which that is not known yet: many codes with one statement."""
        missing = [code for code in codes if code not in self._customers]
        for some in _in_batches(missing):
            self._customers.update((code, set()) for code in some)
            with explained(f"{_CODES} read"):
                found = self._database.rows(
                    f"SELECT code, customer FROM {_PAIRS} WHERE code = ANY(%b::bytea[])", (some,)
                )
            for code, customer in found:
                self._customers[code].add(customer)

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        """Write all of it or nothing, and count that something was assigned or given back, one after the other."""
        with explained(f"{_CODES} written"), self._database.used() as connection:
            with connection.transaction():
                connection.execute(
                    "INSERT INTO changes AS known VALUES (%s, 1)"
                    " ON CONFLICT (scope) DO UPDATE SET changes = known.changes + 1",
                    (self._digest("scope", ""),),
                )
                yield connection
            self._customers.clear()

    def _changes(self, connection: Connection) -> int:
        digests = [self._digest("scope", "", scope) for scope in self._scopes]
        (found,) = connection.execute(
            "SELECT coalesce(sum(changes), 0)::bigint FROM changes WHERE scope = ANY(%b::bytea[])", (digests,)
        ).fetchone() or (0,)
        return int(found)

    def _digest(self, kind: str, name: str, scope: str | None = None) -> bytes:
        whole = f"{kind}\0{scope or self._scopes[0]}\0{name}".encode()
        return hmac.digest(self._key, whole, hashlib.sha256)[:_DIGEST]


def _put_pairs(connection: Connection, table: str, digests: list[tuple[bytes, bytes]]) -> None:
    if digests:
        connection.execute(
            f"INSERT INTO {table} SELECT * FROM unnest(%b::bytea[], %b::bytea[]) ON CONFLICT DO NOTHING",
            ([code for code, _ in digests], [customer for _, customer in digests]),
        )


# The index: what the runs tell, looked up instead of read in each of them.
#
# It is derived from the runs. What was read of a run counts as long as nothing was written to it since. No id is in it:
# names are digests under a key of the index's own, and what was told under one is XORed with what only that key gives.

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
