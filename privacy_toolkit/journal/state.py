"""Opening what ``--state`` names, a folder of this machine or a database; and a folder as one file, and back."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

import msgspec
from msgspec.structs import replace

from privacy_toolkit.config.settings import Settings, is_elsewhere
from privacy_toolkit.core.durable import FolderPlace, open_regular, write_file
from privacy_toolkit.core.model import JournalError, Learned, RefusedError, ToolkitError, UsageError
from privacy_toolkit.core.privacy import __version__
from privacy_toolkit.journal.ledgers import ControlStore, SignOrder, WorkQueue
from privacy_toolkit.journal.sqlite.chain import ControlFiles
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.sqlite.ledgers import faults_of
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


class Condition(msgspec.Struct, frozen=True):
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


def doubted(what: str) -> RefusedError:
    """Make the error of a state that is not what it was: ``what`` tells so, such as "it is a copy"."""
    return RefusedError(
        f"The state is not what it was: {what}. What was sent since may be missing. Nothing was sent.",
        "If it was restored, copied or moved on purpose, add --restored: what was open in it and can't be looked up"
        " is left to you then, and never sent. After a restore those erased since are not on its list of erased"
        " customers, and runs purged since hold ids again. See docs/state.md.",
        code="restored",
    )


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
        folder = StateFolder.existing(path)
        seen = replace(seen, latest=max((run.name for run in folder.runs.glob("[0-9]*")), default=None))
        return replace(seen, error=doubted(doubt)) if (doubt := folder.identity.doubt()) else seen
    except ToolkitError as error:
        return replace(seen, error=error)


class DatabaseCondition(msgspec.Struct, frozen=True):
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


#: The roles that may read whether a state is what it was.
_WRITES: Final = frozenset({"operator", "worker"})


def database_condition(address: Path | str, now: Callable[[], float] = time.time) -> DatabaseCondition:
    """Look at a state in a database, which is left as it is; ``now`` is this machine's clock, in seconds."""
    try:
        with _cluster():
            from privacy_toolkit.journal.postgres import schema
            from privacy_toolkit.journal.postgres.connection import Database
            from privacy_toolkit.journal.postgres.state import PostgresState

        database = Database(str(address), getattr(address, "password_file", None))
    except ToolkitError as error:
        return DatabaseCondition("the database", error=error)
    seen = DatabaseCondition(database.name)
    try:
        told = schema.condition(database, now)
        seen = replace(seen, **told)
        schema.check(database)
        seen = replace(seen, **schema.usage(database))
        doubt = PostgresState(str(address), database.password_file).identity.doubt() if seen.role in _WRITES else ""
        return replace(seen, error=doubted(doubt)) if doubt else seen
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


# A state folder as one file, and back.

BACKUP_FORMAT: Final = "privacy-toolkit/backup/1"
_MANIFEST, _DIGEST = "backup.json", "backup.sha256"
_LARGEST_MANIFEST: Final = 1 << 28
_CHUNK: Final = 1 << 20


class BackupFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a backup: its SHA-256 in hexadecimal digits, and its size in bytes."""

    sha256: str
    size: int


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a backup holds. ``packs``: whether packs are in it; ``key``: whether the key of the lists is."""

    format: str = BACKUP_FORMAT
    version: str
    created_at: str
    packs: bool
    key: bool
    files: dict[str, BackupFile]

    @property
    def runs(self) -> int:
        """How many runs are in it."""
        return sum(name.startswith("runs/") for name in self.files)


class _Hashing:
    """Reads a file while it is hashed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Give the next bytes."""
        data = self._file.read(size)
        self.hash.update(data)
        return data


def back_up(address: Path | str, key: Path | None, file: BinaryIO, created_at: str, *, packs: bool) -> BackupManifest:
    """Write a state folder to a file as a tar archive, each of its files as it is at one moment; runs may work on.

    Raises:
        UsageError: the state is in a database, or is no state folder.
        DamagedError: a journal is not what was written to it.
        JournalError: something can't be read or written.
    """
    if is_elsewhere(address):
        raise UsageError(
            "A state in PostgreSQL is backed up with PostgreSQL's own means.",
            "pg_dump --format=custom takes a consistent copy while runs work. Keep the key of [state] apart from it.",
        )
    state = StateFolder.existing(Path(address), key)
    files: dict[str, BackupFile] = {}
    try:
        with (
            FolderPlace(state.runs / "backup", over=False) as place,
            tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive,
        ):
            building = place.begin()
            for name in state.to_back_up(packs=packs):
                with open_regular(state.copy_of(name, building)) as content:
                    size, hashing = os.fstat(content.fileno()).st_size, _Hashing(content)
                    archive.addfile(_entry(name, size), hashing)
                files[name] = BackupFile(hashing.hash.hexdigest(), size)
            manifest = BackupManifest(
                version=__version__, created_at=created_at, packs=packs, key=state.key.path.name in files, files=files
            )
            content_ = msgspec.json.format(msgspec.json.encode(manifest))
            for name, data in ((_MANIFEST, content_), (_DIGEST, hashlib.sha256(content_).hexdigest().encode())):
                archive.addfile(_entry(name, len(data)), BytesIO(data))
    except OSError as error:
        raise JournalError(
            f"The backup can't be made: {error.strerror or error}.",
            "Is there room on the disk? If a pack was just written again, give the command once more.",
        ) from None
    return manifest


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry


def restore(address: Path | str, file: BinaryIO) -> BackupManifest:
    """Make a state folder of a backup: whole and checked, or not at all. It sends nothing without ``--restored``.

    Raises:
        UsageError: the state is in a database, or there is something at its place already.
        RefusedError: the backup is damaged or cut off, or of a newer version.
        JournalError: it can't be written.
    """
    if is_elsewhere(address):
        raise UsageError("A backup becomes a state folder.", "Name a folder; state copy takes it to a database.")
    path = Path(address).absolute()
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{path} is not empty. Nothing was changed.", "Name a folder that does not exist yet.")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FolderPlace(path, over=False) as place:
            building = place.begin()
            manifest = _unpacked(file, building)
            for name in ("runs", "locks", "packs"):
                (building / name).mkdir(mode=0o700, exist_ok=True)
            StateFolder.existing(building).take_over()
            if path.is_dir():
                path.rmdir()
            place.finish()
    except OSError as error:
        raise JournalError(f"The backup can't be restored: {error.strerror or error}.", "Is there room?") from None
    return manifest


def _unpacked(file: BinaryIO, building: Path) -> BackupManifest:
    """Unpack a backup, and compare all of it with what it says of itself."""
    found: dict[str, BackupFile] = {}
    own: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=file, mode="r|") as archive:
            for entry in archive:
                parts, content = PurePosixPath(entry.name).parts, archive.extractfile(entry)
                is_plain = entry.isreg() and entry.sparse is None  # a sparse one is of any length and holds nothing
                if content is None or not is_plain or not _NAME.fullmatch(entry.name) or ".." in parts:
                    raise _broken("something in it is no file of a state folder")
                if entry.name in {_MANIFEST, _DIGEST}:
                    own[entry.name] = content.read(_LARGEST_MANIFEST)
                    continue
                (building / entry.name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                hashing = _Hashing(content)  # type: ignore[arg-type]  # it only reads
                write_file(building / entry.name, iter(partial(hashing.read, _CHUNK), b""))
                found[entry.name] = BackupFile(hashing.hash.hexdigest(), entry.size)
        said = own.get(_MANIFEST, b"")
        if hashlib.sha256(said).hexdigest().encode() != own.get(_DIGEST):
            raise _broken("its list of files is not what was written, or is missing")
        manifest = msgspec.json.decode(said, type=BackupManifest)
    except (tarfile.TarError, EOFError, FileExistsError, ValueError):  # the last: of a head that makes no sense
        raise _broken("it is cut off, or is no backup") from None
    except msgspec.MsgspecError:
        raise RefusedError(
            "The backup was made by a newer version.", "Restore it with that one.", code="newer"
        ) from None
    differ = sorted(name for name in {*found, *manifest.files} if found.get(name) != manifest.files.get(name))
    if differ:
        raise _broken(f"{differ[0]} is not what was written")
    return manifest


def _broken(what: str) -> RefusedError:
    return RefusedError(
        f"The backup can't be relied on: {what}. Nothing was restored.", "Take another one.", code="damaged"
    )


# What can be seen of the files of a state folder.


class StateFinding(msgspec.Struct, frozen=True):
    """Something about a state: where, what, and what to do. Not ``is_wrong``: it is only to be known."""

    where: str
    what: str
    remedy: str = ""
    is_wrong: bool = True


def look_over(address: Path | str, key: Path | None = None) -> Iterator[StateFinding]:
    """Look at the files of a state folder but for the journals: lists, permissions, orphans, room. Nothing is changed.

    Raises:
        UsageError: what is there is no state folder.
    """
    if is_elsewhere(address):
        return
    state = StateFolder.existing(Path(address), key)
    if not state.path.exists():
        return
    yield from _lists(state)
    for path in [state.path, *sorted(state.path.rglob("*"))]:
        yield from _looked_at(state.path, path)
    for run in sorted(state.runs.iterdir()) if state.runs.is_dir() else ():
        if run.name not in state.run_ids() and not run.name.startswith("."):
            yield StateFinding(f"runs/{run.name}", "holds no journal", "Move it away, or put its journal back.")
    for name in state.left_over() if state.runs.is_dir() else ():
        yield StateFinding(f"runs/{name}", "left over by a process that died; it holds ids", _PURGE)
    doubt = state.identity.doubt()
    if doubt:
        yield StateFinding(str(state.path), doubt, "If that is so on purpose, say --restored once.", is_wrong=False)


def _lists(state: StateFolder) -> Iterator[StateFinding]:
    """What is wrong with the lists of a state folder, their key, and what deployments taught."""
    for name, said in faults_of(state.path, state.key):
        yield StateFinding(name, said, "Put the list or its key back from a backup; send nothing until then.")
    try:
        ControlFiles(state.path).all()
    except (ToolkitError, msgspec.MsgspecError):
        yield StateFinding("controls", "a file is damaged", "privacy-toolkit controls create makes it again.")


def _looked_at(root: Path, path: Path) -> Iterator[StateFinding]:
    """What is wrong with the permissions of one file or folder."""
    try:
        found = path.lstat()
    except FileNotFoundError:  # a run is at work
        return
    name = "." if path == root else path.relative_to(root).as_posix()
    if stat.S_ISLNK(found.st_mode):
        yield StateFinding(name, "is a link", "Put the file itself there.", is_wrong=False)
    elif found.st_uid != os.geteuid():
        yield StateFinding(name, "belongs to somebody else", f"chown it: {path}")
    elif os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o077:
        yield StateFinding(name, f"others may use it ({stat.S_IMODE(found.st_mode):04o})", f"chmod go= {path}")


_NAME = re.compile(r"[^/\x00-\x1f\\][^\x00-\x1f\\]{0,400}")
_PURGE: Final = "privacy-toolkit runs purge --all-left-over"
