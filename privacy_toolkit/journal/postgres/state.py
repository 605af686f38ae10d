"""A state in PostgreSQL: its runs, and what outlives them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
import psycopg

from privacy_toolkit.core.model import JournalError, ToolkitError, UsageError
from privacy_toolkit.core.privacy import SecretFile
from privacy_toolkit.journal.ledgers import ChainError, KeptLink
from privacy_toolkit.journal.postgres import schema
from privacy_toolkit.journal.postgres.connection import DOUBTED, Connection, Database, explained, meaning
from privacy_toolkit.journal.postgres.lease import is_worked_on
from privacy_toolkit.journal.postgres.ledgers import PostgresAssignedCodes, PostgresIndex, PostgresSuppression
from privacy_toolkit.journal.postgres.reader import PostgresReader, live_executions
from privacy_toolkit.journal.postgres.run import PostgresRun, create_run
from privacy_toolkit.journal.records import ControlProfile, RunAnswers, Staged, meant_by, newest_first
from privacy_toolkit.journal.store import State, locked, running

_FACT: Final = "SELECT value FROM facts WHERE name = %s"
_PUT_FACT: Final = "INSERT INTO facts VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
#: What tells a database from every other one: its cluster, its number in it, how often it was restored in time, and the
#: number of a table, which is another one where a dump was read into it again.
_DATABASE: Final = (
    "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || oid,"
    " (SELECT timeline_id FROM pg_control_checkpoint()), 'toolkit.runs'::regclass::oid::bigint"
    " FROM pg_database WHERE datname = current_database()"
)
_RESTORED: Final = "its server was restored to a moment, or a standby took over"
#: Milliseconds that another process may take to end after it gave a lock back.
_A_MOMENT: Final = 1_000


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the database says of itself, to be compared with what it is."""

    database: str
    timeline: int
    table: int = 0  # by earlier versions
    generation: int = 0
    restored_at: tuple[int, ...] = ()


class DatabaseIdentity:
    """Whether the database is the one that was last worked with: a copy, or one restored to a moment, is not."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from looking and writing meanwhile."""
        with (
            explained("The identity of the state is in use"),
            self._database.used() as connection,
            connection.transaction(),
        ):
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('toolkit.identity'))")
            yield

    @property
    def restored_at(self) -> int | None:
        """When somebody said last that the state was restored, in microseconds since the epoch."""
        kept = self._kept()
        return kept.restored_at[-1] if kept is not None and kept.restored_at else None

    @property
    def may_lack(self) -> bool:
        """Whether something that was done may be missing: the state was restored, or it seems so."""
        return self.restored_at is not None or bool(self.doubt())

    def doubt(self) -> str:
        """Say what tells that the database is a copy, or older than it was; "" if nothing does."""
        kept, now = self._kept(), self._now()
        if self._is_doubted():
            return _RESTORED
        if kept is None:
            return ""
        if kept.database != now.database:
            return "it is a copy"
        if kept.timeline != now.timeline or kept.table not in {0, now.table}:
            return _RESTORED
        return ""

    def advance(self) -> None:
        """Count that the state is worked with."""
        kept, now = self._kept(), self._now()
        kept = kept or now
        self._write(msgspec.structs.replace(kept, generation=kept.generation + 1, table=kept.table or now.table))

    def acknowledge(self, now: int) -> None:
        """Take the database as it is for what it should be, since somebody says so at ``now`` (microseconds)."""
        kept, is_now = self._kept(), self._now()
        generation, restored_at = (0, ()) if kept is None else (kept.generation, kept.restored_at)
        self._write(
            msgspec.structs.replace(is_now, generation=generation + 1, restored_at=(*restored_at, now)),
        )
        if self._is_doubted():
            with explained("The identity of the state can't be written"):
                self._database.rows("DELETE FROM facts WHERE name = %s", (DOUBTED,))

    def _is_doubted(self) -> bool:
        with explained("The identity of the state can't be read"):
            return self._database.row(_FACT, (DOUBTED,)) is not None

    def _kept(self) -> _Kept | None:
        with explained("The identity of the state can't be read"):
            found = self._database.row(_FACT, ("identity",))
        return None if found is None else msgspec.json.decode(found[0], type=_Kept)

    def _now(self) -> _Kept:
        with explained("The identity of the state can't be read"):
            database, timeline, table = self._database.row(_DATABASE) or ("", 0, 0)
        return _Kept(database=database, timeline=timeline, table=table)

    def _write(self, kept: _Kept) -> None:
        with explained("The identity of the state can't be written"):
            self._database.rows(_PUT_FACT, ("identity", msgspec.json.encode(kept)))


class TargetLock:
    """The lock on a deployment, held by a session of the database: it is free when that ends, however it does."""

    def __init__(self, database: Database, deployment: str, run_id: str | None = None) -> None:
        number = int.from_bytes(hashlib.sha256(deployment.encode()).digest()[:8], "big", signed=True)
        self._stack = ExitStack()
        try:
            connection = self._stack.enter_context(database.used())
            with explained("The target can't be locked"):
                self._take(connection, deployment, number)
                self._stack.callback(_unlock, connection, number)
                _check_free(connection, deployment, run_id)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @staticmethod
    def _take(connection: Connection, deployment: str, number: int) -> None:
        try:
            connection.execute("SELECT set_config('lock_timeout', %s, false)", (str(_A_MOMENT),))
            connection.execute("SELECT pg_advisory_lock(%s)", (number,))
        except psycopg.errors.LockNotAvailable:
            raise locked(deployment) from None
        finally:
            with suppress(psycopg.Error):
                connection.execute("SET lock_timeout = '10s'")


def _check_free(connection: Connection, deployment: str, run_id: str | None) -> None:
    if is_worked_on(connection, deployment, run_id):
        raise locked(deployment)


def _unlock(connection: Connection, number: int) -> None:
    with suppress(psycopg.Error):  # the session has ended, and the lock with it
        connection.execute("SELECT pg_advisory_unlock(%s)", (number,))


class PostgresAnswers:
    """When people were sent their answers, by run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, run_id: str) -> RunAnswers:
        """Give what is recorded of a run."""
        with self._explained(run_id):
            found = self._database.row("SELECT data FROM answers WHERE run_id = %s", (run_id,))
            return RunAnswers() if found is None else msgspec.json.decode(found[0], type=RunAnswers)

    def change(self, run_id: str, change: Callable[[RunAnswers], RunAnswers]) -> None:
        """Record what ``change`` makes of what is recorded, durable when it returns; nobody else records meanwhile."""
        with self._explained(run_id), self._database.used() as connection, connection.transaction():
            empty = msgspec.json.encode(RunAnswers(), order="sorted")
            connection.execute("INSERT INTO answers VALUES (%s, %s) ON CONFLICT DO NOTHING", (run_id, empty))
            (data,) = connection.execute(
                "SELECT data FROM answers WHERE run_id = %s FOR UPDATE", (run_id,)
            ).fetchone() or (empty,)
            made = msgspec.json.encode(change(msgspec.json.decode(data, type=RunAnswers)), order="sorted")
            connection.execute("UPDATE answers SET data = %s WHERE run_id = %s", (made, run_id))

    @contextmanager
    def _explained(self, run_id: str) -> Iterator[None]:
        what = f"The record of sent answers of run {run_id} can't be used"
        with explained(what):
            try:
                yield
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                raise JournalError(f"{what}: it is damaged, or of a newer version of the toolkit.") from None


class PostgresControls:
    """What deployments taught, by their keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, deployment: str) -> ControlProfile | None:
        """Give what is kept of a deployment; None if nothing is."""
        with explained("What is known of the deployment can't be read"):
            found = self._database.row("SELECT data FROM deployments WHERE deployment = %s", (deployment,))
        try:
            return None if found is None else msgspec.json.decode(found[0], type=ControlProfile)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise JournalError(
                "What is known of the deployment is damaged, or of a newer version of the toolkit.",
                "Make it again with: privacy-toolkit controls create. A profile may be left behind.",
            ) from None

    def write(self, control: ControlProfile) -> None:
        """Keep this of a deployment; what was kept before is replaced in one step."""
        with explained("What is known of the deployment can't be written"):
            self._database.rows(
                "INSERT INTO deployments VALUES (%s, %s) ON CONFLICT (deployment) DO UPDATE SET data = excluded.data",
                (control.deployment, msgspec.json.encode(control)),
            )

    def drop(self, deployment: str) -> None:
        """Keep nothing of a deployment any more."""
        with explained("What is known of the deployment can't be removed"):
            self._database.rows("DELETE FROM deployments WHERE deployment = %s", (deployment,))


class PostgresKey:
    """A place for the key of a plan."""

    def __init__(self, database: Database, nonce: str) -> None:
        self._database, self._nonce = database, nonce

    def read(self) -> bytes | None:
        """Give the key; None if there is none."""
        with explained("The key of the plan can't be read", UsageError):
            found = self._database.row("SELECT value FROM plan_keys WHERE nonce = %s", (self._nonce,))
        return None if found is None else bytes(found[0])

    def write(self, key: bytes) -> None:
        """Keep a key durably where there is none yet.

        Raises:
            UsageError: it can't be written, or there is one.
        """
        try:
            with explained("The key of the plan can't be written", UsageError):
                self._database.rows("INSERT INTO plan_keys VALUES (%s, %s)", (self._nonce, key))
        except psycopg.errors.UniqueViolation:
            raise UsageError("The key of the plan can't be written: there is one.") from None

    def remove(self) -> None:
        """Destroy the key, if there is one."""
        with explained("The key of the plan can't be removed"):
            self._database.rows("DELETE FROM plan_keys WHERE nonce = %s", (self._nonce,))


_ORDER: Final = 0x636861696E


class PostgresChain:
    """Which packs were sealed. The number of a link is its key: there can be no fork."""

    remedy = (
        "Restore the table toolkit.chain from a backup. Without one, move its rows elsewhere and keep them: the next"
        " pack then begins a new chain, which says so itself."
    )

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until nobody else seals a pack, and keep others from it."""
        with ExitStack() as stack:
            with self._reached():
                connection = stack.enter_context(self._database.used())
                connection.execute("SET lock_timeout = 0")
                connection.execute("SELECT pg_advisory_lock(%s)", (_ORDER,))
            try:
                yield
            finally:
                with self._reached():
                    connection.execute("SELECT pg_advisory_unlock(%s)", (_ORDER,))
                    connection.execute("SET lock_timeout = '10s'")

    def drawn_id(self) -> str:
        """Give the 32 random hexadecimal digits of this record, drawn and made durable by the first call."""
        with self._reached():
            found = self._database.row("SELECT value FROM facts WHERE name = 'chain'")
            if found is None and self._size():
                raise ChainError("The record of the packs has lost its id.", self.remedy)
            if found is None:
                self._database.rows(
                    "INSERT INTO facts VALUES ('chain', %s) ON CONFLICT DO NOTHING", (secrets.token_hex(16).encode(),)
                )
                return self.drawn_id()
        return bytes(found[0]).decode()

    def newest(self) -> KeptLink | None:
        """Give the last link; None in a new record."""
        with self._reached():
            self._size()
            found = self._links("ORDER BY sequence DESC LIMIT 1")
        return found[0] if found else None

    def of_run(self, run_id: str) -> list[KeptLink]:
        """Give the links of one run, the oldest first."""
        with self._reached():
            self._size()
            return self._links("WHERE run_id = %s ORDER BY sequence", run_id)

    def links(self) -> list[KeptLink]:
        """Give all links in their order."""
        with self._reached():
            self._size()
            return self._links("ORDER BY sequence")

    def append(self, link: KeptLink) -> None:
        """Add a link. It is durable when this returns.

        Raises:
            ChainError: it does not have the next number.
        """
        with self._reached():
            if link.sequence != self._size() + 1:
                raise ChainError("The pack does not follow the newest one of the record.", self.remedy)
            self._database.rows("INSERT INTO chain VALUES (%s, %s, %s, %s, %s)", tuple(link))

    def _links(self, which: str, *given: object) -> list[KeptLink]:
        rows = self._database.rows(f"SELECT sequence, run_id, checkpoint, sums, signature FROM chain {which}", given)
        return [KeptLink(*row) for row in rows]

    def _size(self) -> int:
        count, last = self._database.row("SELECT count(*), coalesce(max(sequence), 0) FROM chain") or (0, 0)
        if count != last:
            raise ChainError("The record of the packs has a gap or a fork.", self.remedy)
        return int(count)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.UniqueViolation:
            raise ChainError("The pack does not follow the newest one of the record.", self.remedy) from None
        except psycopg.Error as error:
            raise OSError(f"the database: {meaning(error)}") from None
        except JournalError as error:
            raise OSError(str(error)) from None


class PostgresState:
    """The state in a database whose tables are there.

    Raises:
        UsageError: the address can't be used, or the tables are missing, older or newer.
        JournalError: the database can't be reached.
    """

    def __init__(self, address: str, password_file: Path | None = None, key: Path | None = None) -> None:
        #: The runs that could not be read, as far as somebody was told of them.
        self.passed_over: set[str] = set()
        self.key = None if key is None else SecretFile(key)
        self.database = Database(address, password_file, self.key)
        schema.check(self.database)

    @property
    def drawn_id(self) -> str:
        """32 random hexadecimal digits, drawn once: what an approval is good for is this state and no other."""
        with explained("The identity of the state can't be read", UsageError):
            found = self.database.row(_FACT, ("drawn",))
            if found is None:
                drawn = secrets.token_hex(16).encode()
                self.database.rows("INSERT INTO facts VALUES ('drawn', %s) ON CONFLICT DO NOTHING", (drawn,))
                return self.drawn_id
        return bytes(found[0]).decode()

    @property
    def identity(self) -> DatabaseIdentity:
        """What tells whether this is a copy, or older than it was."""
        return DatabaseIdentity(self.database)

    def create(self, run_id: str, staged: Staged) -> None:
        """Make a new run, or none at all.

        Raises:
            JournalError: it could not be written; nothing is left behind.
        """
        create_run(self.database, run_id, staged)

    def run_ids(self) -> list[str]:
        """Give the id of every run, newest first."""
        return newest_first(
            str(run_id) for (run_id,) in self._rows("SELECT run_id FROM runs WHERE set_aside_at IS NULL")
        )

    def find(self, name: str) -> str:
        """Give the id of the run meant by ``name``.

        Raises:
            UsageError: there is none, or more than one.
        """
        return meant_by(name, self.run_ids())

    def open(self, run_id: str) -> PostgresRun:
        """Open a run.

        Raises:
            JournalError: it can't be opened.
        """
        return PostgresRun(self.database, run_id)

    def adopt(self) -> None:
        """Take the runs as they are: nothing in them says in which database they were made."""

    def set_aside(self, run_id: str) -> str:
        """Take a run out of use, as it is; how it is called then.

        Raises:
            RefusedError: a process works on it.
            UsageError: there is none of that id.
        """
        with explained("The run can't be set aside"), self.database.used() as connection, connection.transaction():
            found = connection.execute(
                "UPDATE runs SET set_aside_at = clock_timestamp() WHERE run_id = %s AND set_aside_at IS NULL"
                " RETURNING run_no",
                (run_id,),
            ).fetchone()
            if found is None:
                raise UsageError(f"Run {run_id} can't be set aside: there is none of that id.")
            if live_executions(lambda text, *given: connection.execute(text, given).fetchall(), found[0]):
                raise running(run_id)
        return f"{self.database.name}: run {run_id}, out of use"

    def ids_set_aside(self) -> list[str]:
        """Give the ids of all runs that were set aside, also of those that can't be read."""
        found = self._rows("SELECT run_id FROM runs WHERE set_aside_at IS NOT NULL ORDER BY run_id")
        return [str(run_id) for (run_id,) in found]

    def runs_set_aside(self) -> Iterator[tuple[str, PostgresReader]]:
        """Give id and run of all that were set aside and can be read; each is closed after its turn."""
        for run_id in self.ids_set_aside():
            with suppress(ToolkitError), PostgresReader(self.database, run_id, set_aside=True) as run:
                yield run_id, run

    def remains(self, run_id: str, holds: Callable[[Iterable[bytes]], bool]) -> list[str]:
        """Search all that the tables have of a run; what the server keeps apart from its tables can't be searched."""
        place = f"{self.database.name}: run {run_id}"
        try:
            with PostgresReader(self.database, run_id) as run:
                return [place] if holds(run.everything()) else []
        except JournalError:
            return [place]

    def left_over(self) -> list[str]:
        """Name nothing: a run is made in one transaction, so nobody who dies leaves a part of one."""
        return []

    def sweep(self) -> list[str]:
        """Remove what ``left_over`` names; what could not be removed."""
        return []

    def lock(self, deployment: str, run_id: str | None = None) -> TargetLock:
        """Keep any other run on a deployment out, by its key; others may work on ``run_id`` already.

        Raises:
            RefusedError: another process has it, or works on another run there (code ``locked``).
        """
        return TargetLock(self.database, deployment, run_id)

    def suppression(self) -> PostgresSuppression:
        """Open the list of whom this state has erased."""
        return PostgresSuppression(self.database, self.key)

    def assigned(self, scope: str, former: Collection[str] = ()) -> PostgresAssignedCodes:
        """Open what was assigned in a deployment and its environment."""
        return PostgresAssignedCodes(self.database, self.key, scope, former)

    @property
    def controls(self) -> PostgresControls:
        """What deployments taught."""
        return PostgresControls(self.database)

    def plan_key(self, nonce: str) -> PostgresKey:
        """The key of the plan with this nonce, from when it is written to a file until its run exists."""
        return PostgresKey(self.database, nonce)

    def index(self) -> PostgresIndex:
        """Open what the runs tell, to look it up."""
        return PostgresIndex(self.database, self.key)

    @property
    def chain(self) -> PostgresChain:
        """The record of which packs were sealed, one after the other."""
        return PostgresChain(self.database)

    @property
    def answers(self) -> PostgresAnswers:
        """What was recorded of the answers that people were sent."""
        return PostgresAnswers(self.database)

    def put_fact(self, name: str, value: bytes) -> None:
        """Keep something of the state as a whole, in the place of what was kept under that name.

        Raises:
            psycopg.Error: it can't be written.
        """
        self.database.rows(_PUT_FACT, (name, value))

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        with explained("The runs can't be listed"):
            return self.database.rows(statement)


def open_place(place: bytes) -> PostgresReader:
    """Open a run by its ``RunReader.place``, in another process.

    Raises:
        JournalError: it can't be opened.
    """
    address, password_file, key, run_id = msgspec.json.decode(place, type=tuple[str, str | None, str | None, str])
    database = Database(
        address, None if password_file is None else Path(password_file), None if key is None else SecretFile(Path(key))
    )
    return PostgresReader(database, run_id)


if TYPE_CHECKING:
    _conforms: type[State] = PostgresState
