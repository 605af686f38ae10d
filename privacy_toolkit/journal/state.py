"""Opening what ``--state`` names: a folder of this machine, or a database."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from privacy_toolkit.config.settings import Settings, is_elsewhere
from privacy_toolkit.core.model import Learned, ToolkitError, UsageError
from privacy_toolkit.journal.ledgers import ControlStore, SignOrder, WorkQueue
from privacy_toolkit.journal.sqlite.chain import ControlFiles
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.sqlite.reader import JournalReader
from privacy_toolkit.journal.store import RunReader, State

#: Minute, hour, day of the month, month, day of the week.
_FIELDS = 5


def open_state(address: Path | str, key: Path | None = None) -> State:
    """Open a state to work with it; a folder that is missing is made, the tables of a database are not.

    Args:
        address: the folder, or the address of the database.
        key: the file with the key of its lists, if that is not in it.

    Raises:
        UsageError: it can't be made or used, or what is there is no state, not ours, or of another version.
        JournalError: the database can't be reached.
    """
    return _database(address, key) if is_elsewhere(address) else StateFolder(Path(address), key)


def existing_state(address: Path | str, key: Path | None = None) -> State:
    """Open a state as it is, to read it: nothing is made or changed. A missing one has no runs.

    Raises:
        UsageError: what is there is no state, or of another version.
        JournalError: the database can't be reached.
    """
    return _database(address, key) if is_elsewhere(address) else StateFolder.existing(Path(address), key)


def is_taken_up(address: Path | str, place: Path) -> bool:
    """Tell whether a state has files of its own at a place, below it or around it, so that nothing else may go there.

    Raises:
        UsageError: what is there is no state folder.
    """
    if is_elsewhere(address):
        return False
    own = [one.resolve() for one in StateFolder.existing(Path(address)).own_places]
    return any(place.is_relative_to(one) or one.is_relative_to(place) for one in own)


@dataclass(frozen=True, slots=True)
class Condition:
    """What can be seen of a state without changing it.

    ``name`` is what it is called for people, ``folder`` the nearest folder of this machine that is there for it.
    ``mode`` are its permissions, None where it is not there yet; ``latest`` is the newest run. ``error`` says why it
    can't be used as a state.
    """

    name: str
    folder: Path
    mode: int | None = None
    is_ours: bool = True
    may_write: bool = True
    latest: str | None = None
    error: ToolkitError | None = None


def condition_of(address: Path | str) -> Condition:
    """Look at a state in a folder, which is left as it is."""
    path = Path(address).expanduser().absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if there != path:
        may = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
        return Condition(str(path), there, may_write=may)
    found = path.stat()
    seen = Condition(
        str(path),
        path,
        stat.S_IMODE(found.st_mode),
        is_ours=found.st_uid == os.geteuid(),
        may_write=os.access(path, os.R_OK | os.W_OK | os.X_OK),
    )
    try:
        runs = StateFolder.existing(path).runs
        return replace(seen, latest=max((run.name for run in runs.glob("[0-9]*")), default=None))
    except ToolkitError as error:
        return replace(seen, error=error)


@dataclass(frozen=True, slots=True)
class DatabaseCondition:
    """What can be seen of a state in a database without changing it.

    ``durable`` is whether it keeps what it says is committed. ``behind`` are seconds by which its clock is behind this
    machine's. ``role`` is what this user may do: that of an operator, a worker or a reader, "" less; ``lacks`` are the
    rights that it does not have to work on runs. ``standby`` says how standbys follow.
    ``error`` says why it can't be used.
    """

    name: str
    version: str = ""
    durable: bool = True
    encrypted: bool | None = None
    behind: float = 0.0
    role: str = ""
    lacks: tuple[str, ...] = ()
    standby: str = ""
    latest: str | None = None
    error: ToolkitError | None = None


def database_condition(address: Path | str, now: Callable[[], float] = time.time) -> DatabaseCondition:
    """Look at a state in a database, which is left as it is; ``now`` is this machine's clock, in seconds."""
    try:
        with _cluster():
            from privacy_toolkit.journal.postgres import schema
            from privacy_toolkit.journal.postgres.connection import Database

        database = Database(str(address), getattr(address, "password_file", None))
    except ToolkitError as error:
        return DatabaseCondition("the database", error=error)
    seen = DatabaseCondition(database.name)
    try:
        told = schema.condition(database, now)
        seen = replace(seen, **told)
        schema.check(database)
        return replace(seen, **schema.usage(database))
    except ToolkitError as error:
        return replace(seen, error=error)


def exists(address: Path | str) -> bool:
    """Tell whether there is anything yet at the address of a state; of a database that is said when it is opened."""
    return is_elsewhere(address) or Path(address).exists()


def open_controls(address: Path | str) -> ControlStore:
    """Open what deployments taught, whatever else is or is not in the state. Reading makes nothing.

    Raises:
        UsageError: the database can't be used.
        JournalError: it can't be reached.
    """
    return _database(address, None).controls if is_elsewhere(address) else ControlFiles(Path(address))


def open_run(place: bytes) -> RunReader:
    """Open a run by its ``RunReader.place``, in another process than the one that has the state.

    Raises:
        JournalError: it can't be opened.
    """
    if place.startswith(b"["):  # the places of a folder are absolute paths
        with _cluster():
            from privacy_toolkit.journal.postgres.state import open_place

        return open_place(place)
    return JournalReader(Path(os.fsdecode(place)))


def learned_controls(settings: Settings, store: ControlStore) -> Learned | None:
    """Tell what the deployment of these settings taught; None if nothing, or if its control profile is not complete.

    Raises:
        JournalError: it can't be read.
        UsageError: no base URL is set.
    """
    control = store.read(settings.deployment_key)
    return None if control is None else control.learned


def positive_id(settings: Settings, store: ControlStore) -> str | None:
    """Give the id of a profile that must be visible: that of ``[controls]``, else the control profile, else None.

    Raises:
        JournalError: what was learned can't be read.
        UsageError: no base URL is set.
    """
    if settings.control_present is not None:
        return settings.control_present
    learned = learned_controls(settings, store)
    return None if learned is None else learned.profile_id


def migrate(address: Path | str) -> list[str]:
    """Make the tables of a state in a database, or bring them to this version; the names of what was applied.

    Raises:
        UsageError: the address can't be used, or the tables are of a newer version.
        JournalError: the database can't be reached or changed.
    """
    with _cluster():
        from privacy_toolkit.journal.postgres import schema
        from privacy_toolkit.journal.postgres.connection import Database

    return schema.migrate(Database(str(address), getattr(address, "password_file", None)))


def grant(address: Path | str, role: str, duty: str) -> None:
    """Give a role of the database the rights of an ``operator``, a ``worker`` or a ``reader``, and no others.

    Raises:
        UsageError: the address can't be used, or there is no such role.
        JournalError: the database can't be reached, or the one who connects may not grant it.
    """
    with _cluster():
        from privacy_toolkit.journal.postgres import schema
        from privacy_toolkit.journal.postgres.connection import Database

    schema.grant(Database(str(address), getattr(address, "password_file", None)), role, duty)


def open_queue(address: Path | str, scope: str) -> WorkQueue:
    """Open the queue of the workers of a state in a database, for one scope of it.

    Raises:
        UsageError: the address can't be used, or the extra is not installed.
    """
    with _cluster():
        from privacy_toolkit.journal.postgres.connection import Database
        from privacy_toolkit.journal.postgres.queue import PostgresQueue

    return PostgresQueue(Database(str(address), getattr(address, "password_file", None)), scope)


def check_schedule(cron: str) -> None:
    """Make sure that a line says when something is due, as in a crontab.

    Raises:
        UsageError: it does not, or the extra that reads it is not installed.
    """
    with _cluster():
        from croniter import croniter

    if len(cron.split()) != _FIELDS or not croniter.is_valid(cron):
        raise UsageError(f"{cron!r} says no time.", 'It is written as in a crontab, in UTC: "15 2 * * *"')


def copy(
    folder: Path,
    address: Path | str,
    key: Path | None = None,
    order_of: Callable[[RunReader, str], SignOrder | None] | None = None,
) -> int:
    """Copy a state folder into a database; see ``postgres.copy``. How many runs that were.

    Raises:
        UsageError: there are runs in the database already, or what is there is no state folder.
        RefusedError: a run of the folder is at work, or the folder is a copy itself.
        JournalError: something can't be read or written, or is not the same once it was written.
    """
    with _cluster():
        from privacy_toolkit.journal.postgres.copy import copy_state
        from privacy_toolkit.journal.postgres.state import PostgresState

    state = PostgresState(str(address), getattr(address, "password_file", None), key)
    return copy_state(folder, state, key, order_of)


def _database(address: Path | str, key: Path | None) -> State:
    """The state in a database. The address is in no error of ours: somebody may have put a password into it."""
    with _cluster():
        from privacy_toolkit.journal.postgres.state import PostgresState

    return PostgresState(str(address), getattr(address, "password_file", None), key)


@contextmanager
def _cluster() -> Iterator[None]:
    """Load what only a state in a database needs.

    Raises:
        UsageError: it is not installed.
    """
    try:
        yield
    except ImportError:
        raise UsageError(
            "A state in PostgreSQL needs the extra [cluster], which is not installed.",
            "Install it: pip install 'talonone-privacy-toolkit[cluster]'",
        ) from None
