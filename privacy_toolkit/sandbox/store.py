"""The state of the sandbox: one SQLite database, in memory or in a file that survives a restart.

Entities are kept in the form in which they travel, as JSON. One table holds them all: ``kind`` and ``key`` name an
entity, ``owner`` is the customer it belongs to, ``friend`` a second customer it names.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from privacy_toolkit.core.model import CONTROL_PREFIX, UsageError
from privacy_toolkit.sandbox.faults import Faults
from privacy_toolkit.talonone.operations import Generation, Operation

# What the sandbox was asked, and what it did: the evidence against which the toolkit's reports are checked.
#
# It holds the ids that were asked for, in memory and in the file: it is for fictitious data only.


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """One request.

    Attributes:
        time: seconds since the epoch.
        operation: the name in OPERATIONS, or "" where the path is none of the API's.
        value: the decoded path value; the raw path where it is none of the API's.
        status: the status sent; None where none was.
        acted: whether the request was carried out (a refused one and a replayed one were not).
        outcome: whether a complete answer left (``answered``, ``dropped``). ``late`` and ``repeated`` are no requests
            of the client's: an earlier one carried out when nobody waited any more, and the first of two that a proxy
            made of one.
        fault: the fault that was played, if any.
        about: the customer whom the body names, of a request whose path names nobody.
    """

    time: float
    operation: str
    value: str
    status: int | None
    acted: bool
    outcome: Literal["answered", "dropped", "late", "repeated"]
    fault: str | None = None
    about: str = ""


class RequestLog:
    """Every request in the order in which it was handled, in memory and, where a path is given, in a JSONL file.

    An entry is written and flushed before the answer leaves: what a client was told is in the file even if either
    side is killed.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._entries: list[LogEntry] = []
        self._grown = threading.Condition()
        self._encoder = msgspec.json.Encoder()
        self._file = None if path is None else _open(path)

    def __iter__(self) -> Iterator[LogEntry]:
        """The entries so far."""
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        """How many requests there were."""
        return len(self._entries)

    def append(self, entry: LogEntry) -> None:
        """Record one request."""
        if self._file is not None:
            self._file.write(self._encoder.encode(entry) + b"\n")
            self._file.flush()
        with self._grown:
            self._entries.append(entry)
            self._grown.notify_all()

    def wait_for(self, count: int, timeout: float) -> bool:
        """Wait, at most ``timeout`` seconds, until there were ``count`` requests; whether there were."""
        with self._grown:
            return self._grown.wait_for(lambda: len(self._entries) >= count, timeout)

    def of(self, operation: str) -> list[LogEntry]:
        """The requests of one operation; ``""`` gives those that were none of the API's."""
        return [entry for entry in self if entry.operation == operation]

    def about_subjects(self) -> list[LogEntry]:
        """The requests about anything but controls."""
        return [entry for entry in self if not entry.value.startswith(CONTROL_PREFIX)]

    def clear(self) -> None:
        """Forget the entries in memory; the file only grows."""
        self._entries.clear()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def read_log(path: Path) -> list[LogEntry]:
    """The entries of a JSONL file, without a last line that was cut off by a kill."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [msgspec.json.decode(line, type=LogEntry) for line in whole.splitlines()]


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("ab")
    except OSError as error:
        raise UsageError(f"The request log of the sandbox can't be written: {error.strerror}.") from error


JsonObject = dict[str, Any]
#: What the profiles of a deployment say of themselves by their ``sandbox``.
Environment = Literal["live", "sandbox"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entity (
    kind TEXT NOT NULL, key TEXT NOT NULL, owner TEXT, friend TEXT, body BLOB NOT NULL,
    PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entity_owner ON entity (owner, kind);
CREATE INDEX IF NOT EXISTS entity_friend ON entity (friend) WHERE friend IS NOT NULL;
CREATE TABLE IF NOT EXISTS reservation (
    coupon TEXT NOT NULL, customer TEXT NOT NULL, PRIMARY KEY (coupon, customer)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reservation_customer ON reservation (customer);
CREATE TABLE IF NOT EXISTS clearing (customer TEXT PRIMARY KEY, reads_left INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replay (
    request TEXT PRIMARY KEY, status INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (last INTEGER NOT NULL);
INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
"""
_EMPTY = ("DELETE FROM entity", "DELETE FROM reservation", "DELETE FROM clearing", "DELETE FROM replay")


class EntityKind(StrEnum):
    """What an entity is."""

    PROFILE = "profile"
    REFERRAL = "referral"
    COUPON = "coupon"
    LEDGER = "ledger"
    CARD = "card"
    GIVEAWAY = "giveaway"
    ACHIEVEMENT = "achievement"
    SESSION = "session"
    EVENT = "event"
    ADVANCED_EVENT = "advanced_event"
    TRANSACTION = "transaction"  # of a loyalty ledger; its owner is a customer, or a card as ``card_owner`` names it


def card_owner(identifier: str) -> str:
    """How the store names a loyalty card as the owner of transactions; no id of a customer has a control character."""
    return f"card\0{identifier}"


class Store:
    """Entities, coupon reservations, pending erasures and replayable answers.

    Changes are made inside ``transaction``; a lock lets a test read or seed while a server uses the store.
    ``environment`` is what profiles that are made here say of themselves; None: nothing.
    """

    def __init__(self, path: str | Path = ":memory:", environment: Environment | None = None) -> None:
        self.environment = environment
        try:
            self._sql = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._sql.execute("PRAGMA journal_mode=WAL")
            self._sql.execute("PRAGMA synchronous=NORMAL")  # survives a kill; a power cut may cost the last commits
            self._sql.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise UsageError(
                "The sandbox database can't be opened.", "Give a path in a folder that exists and is writable."
            ) from error
        self._lock = threading.RLock()

    @contextmanager
    def transaction(self, *, keep: bool = True) -> Iterator[None]:
        """All or nothing; with ``keep=False`` nothing, whatever was done inside: a dry run."""
        with self._lock:
            self._sql.execute("BEGIN")
            try:
                yield
            except BaseException:
                self._sql.execute("ROLLBACK")
                raise
            self._sql.execute("COMMIT" if keep else "ROLLBACK")

    def number(self) -> int:
        """A number that no other entity has."""
        rows = self._query("UPDATE counter SET last = last + 1 RETURNING last")
        return int(rows[0][0])

    def get(self, kind: EntityKind, key: str) -> JsonObject | None:
        """One entity, or None."""
        body = self.raw(kind, key)
        return None if body is None else msgspec.json.decode(body, type=JsonObject)

    def raw(self, kind: EntityKind, key: str) -> msgspec.Raw | None:
        """One entity as it stands, to be embedded in an answer without decoding it."""
        rows = self._query("SELECT body FROM entity WHERE kind = ? AND key = ?", (kind, key))
        return msgspec.Raw(rows[0][0]) if rows else None

    def put(
        self, kind: EntityKind, key: str, body: JsonObject, *, owner: str | None = None, friend: str | None = None
    ) -> None:
        """Make or replace an entity. A profile is owned by its own key."""
        row = (kind, key, key if kind is EntityKind.PROFILE else owner, friend, msgspec.json.encode(body))
        self._query("INSERT OR REPLACE INTO entity VALUES (?, ?, ?, ?, ?)", row)

    def remove(self, kind: EntityKind, key: str) -> None:
        """Forget an entity, if it is there."""
        self._query("DELETE FROM entity WHERE kind = ? AND key = ?", (kind, key))

    def owned(self, owner: str) -> dict[EntityKind, list[JsonObject]]:
        """What belongs to a customer, by kind, in the order of the keys."""
        found: dict[EntityKind, list[JsonObject]] = {}
        for kind, body in self._query("SELECT kind, body FROM entity WHERE owner = ? ORDER BY kind, key", (owner,)):
            found.setdefault(EntityKind(kind), []).append(msgspec.json.decode(body))
        return found

    def clear_attributes(self, customer: str) -> None:
        """Empty the attributes of the profile and of every entity that names the customer."""
        named = (
            "SELECT kind, key, body FROM entity WHERE owner = ? "
            "UNION SELECT kind, key, body FROM entity WHERE friend = ?"
        )
        for kind, key, encoded in self._query(named, (customer, customer)):
            body = msgspec.json.decode(encoded, type=JsonObject)
            if body.get("attributes"):
                row = (msgspec.json.encode(body | {"attributes": {}}), kind, key)
                self._query("UPDATE entity SET body = ? WHERE kind = ? AND key = ?", row)

    def reserve(self, coupon: str, customers: Iterable[str]) -> None:
        """Reserve a coupon for customers; repeating it changes nothing."""
        rows = ((coupon, customer) for customer in customers)
        with self._lock:
            self._sql.executemany("INSERT OR IGNORE INTO reservation VALUES (?, ?)", rows)

    def release(self, coupon: str, customers: Iterable[str]) -> None:
        """Release the reservations that are there."""
        rows = ((coupon, customer) for customer in customers)
        with self._lock:
            self._sql.executemany("DELETE FROM reservation WHERE coupon = ? AND customer = ?", rows)

    def reservations(self, coupon: str) -> int:
        """How many customers have a coupon reserved."""
        return int(self._query("SELECT count(*) FROM reservation WHERE coupon = ?", (coupon,))[0][0])

    def reserved(self) -> list[tuple[str, str]]:
        """All reservations: the coupon and the customer, with or without a profile."""
        return [
            (str(coupon), str(customer))
            for coupon, customer in self._query("SELECT coupon, customer FROM reservation", ())
        ]

    def holders(self, coupon: str) -> list[msgspec.Raw]:
        """The profiles of the customers that have a coupon reserved; who has no profile (any more) is left out."""
        joined = (
            "SELECT body FROM reservation JOIN entity ON kind = 'profile' AND key = customer "
            "WHERE coupon = ? ORDER BY customer"
        )
        return [msgspec.Raw(body) for (body,) in self._query(joined, (coupon,))]

    def reserved_by(self, customer: str) -> list[JsonObject]:
        """The coupons that a customer has reserved."""
        joined = (
            "SELECT body FROM reservation JOIN entity ON kind = 'coupon' AND key = coupon "
            "WHERE customer = ? ORDER BY coupon"
        )
        return [msgspec.json.decode(body, type=JsonObject) for (body,) in self._query(joined, (customer,))]

    def reads_left(self, customer: str) -> int | None:
        """How many reads an accepted erasure still waits for; None where none is pending."""
        rows = self._query("SELECT reads_left FROM clearing WHERE customer = ?", (customer,))
        return int(rows[0][0]) if rows else None

    def set_reads_left(self, customer: str, reads: int | None) -> None:
        """Note, or with None forget, that an erasure waits for further reads."""
        if reads is None:
            self._query("DELETE FROM clearing WHERE customer = ?", (customer,))
        else:
            self._query("INSERT OR REPLACE INTO clearing VALUES (?, ?)", (customer, reads))

    def replayed(self, request: str) -> tuple[int, bytes] | None:
        """Status and body of the first answer to an idempotent request."""
        rows = self._query("SELECT status, body FROM replay WHERE request = ?", (request,))
        return (rows[0][0], rows[0][1]) if rows else None

    def remember(self, request: str, status: int, body: bytes) -> None:
        """Keep the first answer to an idempotent request."""
        self._query("INSERT OR IGNORE INTO replay VALUES (?, ?, ?)", (request, status, body))

    def totals(self) -> dict[str, int]:
        """How many entities of each kind there are, and reservations."""
        counted = dict.fromkeys(EntityKind, 0) | {
            EntityKind(kind): count for kind, count in self._query("SELECT kind, count(*) FROM entity GROUP BY kind")
        }
        reservations = int(self._query("SELECT count(*) FROM reservation")[0][0])
        return {str(kind): count for kind, count in counted.items()} | {"reservation": reservations}

    def reset(self) -> None:
        """Forget everything."""
        with self.transaction():
            for statement in _EMPTY:
                self._query(statement)

    def close(self) -> None:
        """Close the database."""
        self._sql.close()

    def _query(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._lock:
            return self._sql.execute(statement, values).fetchall()


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# The settings of the sandbox, field by field.

DEFAULT_KEY = "sandbox-key"
DEFAULT_APPLICATION_ID = 1
DEFAULT_APPLICATION_KEY = "fefecafedeadbeef"  # the sample key of the vendor's own page on signatures
MEMORY = ":memory:"
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """How the stand-in is started and what it plays.

    Attributes:
        port: TCP port on 127.0.0.1; 0 takes a free one.
        api_key: the key that ``Authorization: ApiKey-v1 <key>`` has to carry.
        application_id: the signer that ``Content-Signature`` has to name.
        application_key: the Application's key for signatures, hexadecimal.
        database: ``:memory:``, or the SQLite file that keeps the state across restarts.
        generation: the published state of the API that is played; it decides which operations and flags are known.
        environment: ``live`` or ``sandbox``: what the profiles say of themselves; None leaves their ``sandbox`` out.
        seed_customers: how many fictitious customers are created at the start, unless the store holds customers.
        seed_codes: how many coupons for campaigns there are at the start, of several kinds.
        rng_seed: seed of the fictitious data.
        after_erase: what the inventory of an erased customer answers: ``404`` (the profile is gone, a second DELETE
            answers 404), or ``empty`` (a profile without attributes, a second DELETE answers 204). Which of the two
            the real service does is not published.
        erase_delay: how many further reads of an erased customer still show the old data.
        never_clear: the share (0 to 1) of customers whose erasure is accepted and never carried out.
        never_clear_ids: customers of which the same holds, by id.
        unknown_profile: what a reservation for an unknown customer does: ``404``, or ``create`` (an empty profile).
            Not published either.
        loyalty_programs: the numbers of the loyalty programs that there are.
        parallel_limit: requests for one profile or session that may be under way; one more is answered 409.
        log_file: JSONL file to which every request is appended as it is handled.
        faults: the faults that are played.
    """

    port: int = 0
    api_key: str = field(default=DEFAULT_KEY, repr=False)
    application_id: int = DEFAULT_APPLICATION_ID
    application_key: str = field(default=DEFAULT_APPLICATION_KEY, repr=False)
    database: str | Path = MEMORY
    generation: Generation = Generation.CURRENT
    environment: Environment | None = None
    seed_customers: int = 0
    seed_codes: int = 0
    rng_seed: int = 0
    after_erase: Literal["404", "empty"] = "404"
    erase_delay: int = 0
    never_clear: float = 0.0
    never_clear_ids: frozenset[str] = frozenset()
    unknown_profile: Literal["404", "create"] = "404"
    loyalty_programs: frozenset[int] = frozenset({1, 2})
    parallel_limit: int = 3
    log_file: Path | None = None
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        """Refuse what can't be played.

        Raises:
            UsageError: a number is out of range, or the application key is not hexadecimal.
        """
        if not 0 <= self.port <= MAX_PORT:
            raise UsageError("The port of the sandbox must be between 0 and 65535.")
        if not 0 <= self.never_clear <= 1:
            raise UsageError("never_clear is a share: it must be between 0 and 1.")
        if min(self.erase_delay, self.seed_customers, self.seed_codes) < 0 or self.parallel_limit < 1:
            raise UsageError("Counts of the sandbox must not be negative, and at least one request must be allowed.")
        try:
            bytes.fromhex(self.application_key)
        except ValueError:
            raise UsageError("The application key of the sandbox must be hexadecimal.") from None


class Call(msgspec.Struct, frozen=True):
    """One authentic and well-formed request: ``value`` of the path, query flags the generation knows, body."""

    operation: Operation
    value: str
    flags: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: JsonObject = msgspec.field(default_factory=dict)
    idempotency_key: str | None = None

    @property
    def about(self) -> str:
        """Whom or what the call is about: the value in its path, otherwise the customer whom its body names first."""
        named = self.body.get("profileId") or self.body.get("advocateProfileIntegrationId")
        return self.value or (named if isinstance(named, str) else next(iter(self.customers), ""))

    @property
    def customers(self) -> tuple[str, ...]:
        """The customers of a call that is about many at once."""
        items = self.body.get("customerProfiles") or self.body.get("data") or ()
        named = [item.get("integrationId") or item.get("profileIntegrationId") for item in items]
        return (*named, *self.body.get("advocateProfileIntegrationIds", ()))

    def flag(self, name: str) -> bool:
        """Whether a boolean flag is set."""
        return self.flags.get(name) == "true"

    @property
    def dry(self) -> bool:
        """Whether nothing is to be kept. Profile V2 honours ``dry`` only together with ``runRuleEngine``."""
        needs_engine = any(flag.name == "runRuleEngine" for flag in self.operation.query)
        return self.flag("dry") and (self.flag("runRuleEngine") or not needs_engine)


class ServedAnswer(msgspec.Struct, frozen=True):
    """A status and what is sent as JSON; None is an empty body."""

    status: int
    content: Mapping[str, Any] | None = None


class World(msgspec.Struct, frozen=True):
    """The state, what was set, and the clock."""

    store: Store
    settings: SandboxSettings
    clock: Callable[[], datetime]

    def now(self) -> str:
        """The time as the API writes it."""
        return timestamp(self.clock())
