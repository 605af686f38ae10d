"""The state folder: its runs, what outlives them, and whether it is still the one that was last written to.

A copy of a state folder knows nothing of what the other one does from then on, and one restored from a backup nothing
of what was done since: requests that were sent would go out once more. The folder therefore holds the numbers (inodes)
of its own files, which a copy does not have, and the machine it was used on; and a small file outside, in the state
directory of the user, holds how often it was worked with, which a restore does not take back.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import sqlite3
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import msgspec
from filelock import FileLock
from platformdirs import user_state_path

from privacy_toolkit.core import durable
from privacy_toolkit.core.durable import is_taken, left_over, put_file, sweep, take
from privacy_toolkit.core.model import JournalError, ToolkitError, UsageError
from privacy_toolkit.core.privacy import SecretFile, found_in
from privacy_toolkit.journal.ledgers import MAC
from privacy_toolkit.journal.records import Staged, meant_by
from privacy_toolkit.journal.sqlite.chain import AnswerFiles, ControlFiles, FolderChain, FolderIndex
from privacy_toolkit.journal.sqlite.checksums import adopt, connect, moved
from privacy_toolkit.journal.sqlite.ledgers import (
    ASSIGNED_FILE,
    KEY_NAME,
    SUPPRESSION_FILE,
    AssignedCodesFile,
    SuppressionFile,
    runs_in,
)
from privacy_toolkit.journal.sqlite.reader import (
    JOURNAL_FILE,
    LOCK_NAME,
    SUMS_NAME,
    JournalReader,
    add_checksums,
    create_run,
)
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.journal.store import locked, running

IDENTITY_FILE = "identity.json"
FORMAT = "privacy-toolkit/state/1"
#: Where systemd and D-Bus keep the name of the machine.
MACHINE_ID = Path("/etc/machine-id")
_LONGEST_WAIT = 10.0  # seconds; another process only writes these two small files meanwhile


#: What a file that was damaged may come to.
_UNREADABLE = (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the folder holds: its random name, its own numbers, and how often it was worked with.

    ``restored_at`` are the times, in microseconds since the epoch, at which somebody said that it was restored.
    """

    format: str = FORMAT
    id: str
    inode: int
    folder: int
    machine: str | None
    generation: int
    restored_at: tuple[int, ...] = ()


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept outside: how often the folder was worked with."""

    generation: int


class Identity:
    """The identity of a state folder. Used while its lock is held, see ``locked``.

    Args:
        folder: the state folder.
        files: gives the journals of its runs, each with its checksums.
        outside: where it is kept outside of the folder how often that was worked with.
        machine: the file with the name of the machine.
    """

    def __init__(
        self,
        folder: Path,
        files: Callable[[], Iterable[tuple[Path, Path]]] = tuple,
        outside: Path | None = None,
        machine: Path = MACHINE_ID,
    ) -> None:
        self._folder = folder
        self._path = folder / IDENTITY_FILE
        self._files = files
        self._outside = user_state_path("privacy-toolkit-witness") if outside is None else outside
        self._machine_id = machine

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from looking and writing meanwhile.

        Raises:
            JournalError: another process does so for too long.
        """
        lock = durable.take(self._folder / "locks" / "identity.lock", _LONGEST_WAIT)
        if lock is None:
            raise JournalError("The identity of the state folder is in use by another process.", "Try again.")
        try:
            yield
        finally:
            lock.release()

    @property
    def restored_at(self) -> int | None:
        """When somebody said last that the folder was restored, in microseconds since the epoch."""
        record = self._known()
        return record.restored_at[-1] if record.restored_at else None

    @property
    def may_lack(self) -> bool:
        """Whether something that was done may be missing in the folder: it was restored, or it seems so."""
        return self.restored_at is not None or bool(self.doubt())

    def doubt(self) -> str:
        """What tells that this is a copy, or older than it was; "" if nothing does."""
        try:
            record = self._read()
        except _UNREADABLE:
            return "its identity can't be read"
        if record is not None:
            if record.inode != self._path.stat().st_ino or record.folder != self._folder.stat().st_ino:
                return "it is a copy"
            machine = self._machine(record.id)
            if None not in {machine, record.machine} and machine != record.machine:
                return "it was used on another machine"
            if (self._seen(record.id) or record.generation) > record.generation:
                return "it is older than when it was last used"
        if any(moved(sums, journal) for journal, sums in self._files()):
            return "journals in it are copies"
        return ""

    def advance(self) -> None:
        """Count that the folder is worked with, here and outside.

        Raises:
            JournalError: it can't be written.
        """
        self._write(self._known())

    def acknowledge(self, now: int) -> None:
        """Take the folder as it is for what it should be, since somebody says so at ``now`` (microseconds).

        Raises:
            JournalError: it can't be written.
        """
        record = self._known()
        generation = max(record.generation, self._seen(record.id) or 0)
        # Another name, since the folder that this is a copy of may be in use too, on this very machine.
        fresh = _new(generation, (*record.restored_at, now))
        self._write(fresh)

    def retire(self) -> None:
        """Have the folder seem a copy from now on: what it held is gone on with elsewhere.

        Raises:
            JournalError: it can't be written.
        """
        record = msgspec.structs.replace(self._known(), inode=0)
        try:
            with put_file(self._path, over=True) as file:
                file.write(msgspec.json.encode(record))
        except OSError as error:
            raise JournalError(
                f"The identity of the state folder can't be written: {error.strerror}.", "Is there room on the disk?"
            ) from None

    def _known(self) -> _Record:
        try:
            return self._read() or _new()
        except _UNREADABLE:
            return _new()

    def _read(self) -> _Record | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Record)
        except FileNotFoundError:
            return None

    def _write(self, record: _Record) -> None:
        """Write the next generation: first here, so that what is kept outside is never ahead of a folder in use."""
        try:
            with put_file(self._path, over=True) as file:
                numbered = msgspec.structs.replace(
                    record,
                    inode=os.fstat(file.fileno()).st_ino,
                    folder=self._folder.stat().st_ino,
                    machine=self._machine(record.id),
                    generation=record.generation + 1,
                )
                file.write(msgspec.json.encode(numbered))
        except OSError as error:
            raise JournalError(
                f"The identity of the state folder can't be written: {error.strerror}.", "Is there room on the disk?"
            ) from None
        self._tell_outside(numbered)

    def _tell_outside(self, record: _Record) -> None:
        """Where nothing can be kept outside (no home, a read-only one), a restore on the same file is not noticed."""
        place = self._place_outside(record.id)
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with put_file(place, over=True) as file:
                file.write(msgspec.json.encode(_Seen(generation=record.generation)))
        except OSError:
            return

    def _seen(self, name: str) -> int | None:
        try:
            return msgspec.json.decode(self._place_outside(name).read_bytes(), type=_Seen).generation
        except _UNREADABLE:
            return None

    def _place_outside(self, name: str) -> Path:
        return self._outside / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"

    def _machine(self, name: str) -> str | None:
        """The machine, so that nobody can tell which one it is; None where it has no name, as in many containers."""
        try:
            machine = self._machine_id.read_bytes().strip()
        except OSError:
            return None
        return hmac.digest(name.encode(), machine, "sha256").hex() if machine else None


def _new(generation: int = 0, restored_at: tuple[int, ...] = ()) -> _Record:
    return _Record(
        id=secrets.token_hex(16), inode=0, folder=0, machine=None, generation=generation, restored_at=restored_at
    )


# The state folder: the runs, their packs, and the locks that keep two runs on one target apart.

#: What a folder may hold that was begun to be made into a state folder, or came empty as a volume of its own.
_BEGUN = frozenset({"runs", "locks", "packs", "lost+found"})

_IDENTITY = re.compile(r"[0-9a-f]{32}")


class StateFolder:
    """A folder only its owner can read; made if it is missing. For commands that only read there is ``existing``.

    ``key`` is where its key is, if not in it.

    Raises:
        UsageError: it can't be made, or what is there is no state folder, or not ours.
    """

    def __init__(self, path: Path, key: Path | None = None) -> None:
        #: The runs that could not be read, as far as somebody was told of them.
        self.passed_over: set[str] = set()
        with _explained(path):
            self.path = _resolved(path)
            self.key_path = key
            if self.path.exists():
                _check_is_ours(self.path, path)
            for folder in (self.path, self.runs, self.locks, self.path / "packs"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)

    @classmethod
    def existing(cls, path: Path, key: Path | None = None) -> StateFolder:
        """The state folder as it is, for reading: nothing is made or changed. A missing one has no runs.

        Raises:
            UsageError: what is there is no state folder.
        """
        state = cls.__new__(cls)
        state.passed_over = set()
        with _explained(path):
            state.path = _resolved(path)
            state.key_path = key
            if state.path.exists() and not _is_state_folder(state.path):
                raise _no_state_folder(path)
        return state

    @property
    def runs(self) -> Path:
        """Where the journals are, a folder a run."""
        return self.path / "runs"

    @property
    def locks(self) -> Path:
        """Where the locks are, a file a target."""
        return self.path / "locks"

    @property
    def drawn_id(self) -> str:
        """32 random hexadecimal digits, drawn once: what an approval is good for is this folder and no other.

        Whether the folder is a copy of another one is for ``identity`` to tell.

        Raises:
            UsageError: they can't be read or written.
        """
        path = self.path / "identity"
        with _explained(self.path):
            if not path.exists():
                with suppress(FileExistsError), put_file(path, over=False) as file:  # the first of two processes' stays
                    file.write(f"{secrets.token_hex(16)}\n".encode())
            found = path.read_text(encoding="ascii", errors="replace").strip()
        if not _IDENTITY.fullmatch(found):
            raise UsageError(f"The identity of the state folder {self.path} is damaged.", "Restore it from a backup.")
        return found

    @property
    def key(self) -> SecretFile:
        """The file with the key under which the lists of digests have theirs: in the folder, unless named elsewhere."""
        return SecretFile(self.path / KEY_NAME if self.key_path is None else self.key_path)

    def plan_key(self, nonce: str) -> SecretFile:
        """The key of the plan with this nonce, from when it is written to a file until its run exists."""
        return SecretFile(self.path / "plans" / f"{nonce}.key")

    def answered_runs(self) -> list[str]:
        """The runs of whose answers something is recorded."""
        return sorted(path.stem for path in (self.path / "answers").glob("*.json"))

    def plan_nonces(self) -> list[str]:
        """The nonces of the plans whose keys are kept."""
        return sorted(path.stem for path in (self.path / "plans").glob("*.key"))

    def index(self) -> FolderIndex:
        """What the runs tell, to be looked up."""
        return FolderIndex(self.path, self.key)

    @property
    def chain(self) -> FolderChain:
        """The record of which packs were sealed, one after the other."""
        return FolderChain(self.path / "chain")

    @property
    def answers(self) -> AnswerFiles:
        """When people were sent their answers."""
        return AnswerFiles(self.path)

    @property
    def own_places(self) -> tuple[Path, ...]:
        """The folders among which nothing else may be."""
        return self.runs, self.locks, self.path / "chain", self.path / "answers"

    def remains(self, run_id: str, holds: Callable[[Iterable[bytes]], bool]) -> list[str]:
        """Search the files of a run; the paths of those in which something is found, or which can't be read."""
        return found_in(self.runs / run_id, holds)

    @property
    def controls(self) -> ControlFiles:
        """What deployments taught."""
        return ControlFiles(self.path)

    def suppression(self) -> SuppressionFile:
        """The list of whom this state folder has erased.

        Raises:
            JournalError: it can't be opened, or its key is missing.
        """
        return SuppressionFile(self.path, self.key)

    def assigned(self, scope: str, former: Collection[str] = ()) -> AssignedCodesFile:
        """What was assigned in a deployment and its environment; see ``AssignedCodesFile``.

        Raises:
            JournalError: it can't be opened.
        """
        return AssignedCodesFile(self.path, scope, former, self.key)

    def create(self, run_id: str, staged: Staged) -> None:
        """Make a new run.

        Raises:
            JournalError: it could not be written; nothing is left behind.
        """
        create_run(self.runs / run_id, staged)

    def run_ids(self) -> list[str]:
        """Every run, newest first: the ids begin with the second of creation, and what follows the job goes on."""
        return runs_in(self.runs)

    def find(self, name: str) -> str:
        """The id of the run meant by ``name``: an id, an unambiguous beginning of one, or ``latest``.

        Raises:
            UsageError: there is none, or more than one.
        """
        return meant_by(name, self.run_ids())

    def open(self, run_id: str) -> RunJournal:
        """The journal of a run.

        Raises:
            JournalError: it can't be opened.
        """
        return RunJournal(self.runs / run_id)

    def lock(self, deployment: str, run_id: str | None = None) -> FileLock:  # noqa: ARG002 - nobody else works on it
        """Take the lock on a deployment by its key; the system gives it back when the process ends, however it ends.

        Raises:
            RefusedError: another process has it.
        """
        name = hashlib.sha256(deployment.encode()).hexdigest()[:16]
        lock = take(self.locks / f"{name}.lock")
        if lock is None:
            raise locked(deployment)
        sweep(self.runs)
        return lock

    @property
    def identity(self) -> Identity:
        """What tells whether this folder is a copy, or older than it was."""
        return Identity(self.path, self._files)

    def adopt(self) -> None:
        """Take the journals as they are for those that the checksums were made for, but for those at work."""
        for journal, sums in self._files():
            if not is_taken(journal.with_name(LOCK_NAME)):
                adopt(sums, journal)

    def runs_set_aside(self) -> Iterator[tuple[str, JournalReader]]:
        """Id and journal of every run that was taken out of use and can be read; each is closed after its turn."""
        for run_id in self.ids_set_aside():
            with suppress(ToolkitError), JournalReader(self.path / "set-aside" / run_id) as journal:
                yield run_id, journal

    def ids_set_aside(self) -> list[str]:
        """The ids of all runs that were taken out of use, also of those that can't be read."""
        return sorted(one.name for one in self.path.glob("set-aside/*") if not one.name.startswith("chain-"))

    def left_over(self) -> list[str]:
        """What processes that died while they created a run have left behind, by name; it holds ids."""
        return [folder.name for folder in left_over(self.runs)]

    def sweep(self) -> list[str]:
        """Remove what ``left_over`` names; the paths of what could not be removed."""
        return [str(folder) for folder in sweep(self.runs)]

    def set_aside(self, run_id: str) -> str:
        """Take a run out of the runs, as it is; the path of the folder where it is kept.

        Raises:
            RefusedError: a process works on it.
            UsageError: it can't be moved.
        """
        if is_taken(self.runs / run_id / LOCK_NAME):
            raise running(run_id)
        place = self.path / "set-aside" / run_id
        try:
            place.parent.mkdir(mode=0o700, exist_ok=True)
            (self.runs / run_id).rename(place)
        except OSError as error:
            raise UsageError(f"Run {run_id} can't be set aside: {error.strerror}.") from None
        return str(place)

    def to_back_up(self, *, packs: bool) -> list[str]:
        """The names of all files that a backup holds, below the folder; what others tell of comes before them.

        Left out is what is made again (locks, index, checksums), what belongs to this very folder (its identity, the
        keys of plans that wait), and the key of the lists where that is kept elsewhere.
        """
        found = [name for name in (KEY_NAME, SUPPRESSION_FILE, ASSIGNED_FILE) if (self.path / name).is_file()]
        for folder in ("chain", "answers", "controls", "set-aside", *(("packs",) if packs else ())):
            for path in sorted((self.path / folder).rglob("*")):
                name = path.relative_to(self.path)
                if path.is_file() and not path.is_symlink() and not any(part.startswith(".") for part in name.parts):
                    found.append(name.as_posix())
        return [*found, *(f"runs/{run_id}/{JOURNAL_FILE}" for run_id in self.run_ids())]

    def copy_of(self, name: str, building: Path) -> Path:
        """A file as it is at one moment, no matter who writes: a database is copied to ``building``, by SQLite itself.

        Raises:
            DamagedError: it is the journal of a run, and not what was written to it.
            OSError: it can't be read, or the copy can't be written.
        """
        path = self.path / name
        if path.suffix != ".sqlite" or name.startswith("set-aside/"):
            return path
        copy = building / "copy.sqlite"
        copy.unlink(missing_ok=True)
        with ExitStack() as held:
            if path.name == JOURNAL_FILE:
                held.enter_context(JournalReader(path.parent)).verify()
            _copy_database(path, copy)
        return copy

    def take_over(self) -> None:
        """Have what was unpacked from a backup be a state folder, which asks for ``--restored`` before it sends.

        Its journals get checksums, its record of packs begins again: a second link of one number would be a fork.

        Raises:
            JournalError: a journal is not one, or something can't be written.
        """
        for run_id in self.run_ids():
            journal_file = self.runs / run_id / JOURNAL_FILE
            with closing(connect(journal_file)) as connection:  # it changes the first page: to a log written ahead
                is_protected = connection.execute("SELECT 1 FROM facts WHERE name = ?", (MAC,)).fetchone()
            if is_protected:  # not if it is of a version without checksums, and was not worked on since
                add_checksums(journal_file)
            with JournalReader(journal_file.parent) as journal:
                journal.verify()
        if self.chain.folder.is_dir():
            (self.path / "set-aside").mkdir(mode=0o700, exist_ok=True)
            number = sum(1 for _ in (self.path / "set-aside").glob("chain-*")) + 1
            self.chain.folder.rename(self.path / "set-aside" / f"chain-{number}")
        self.identity.retire()

    def _files(self) -> Iterator[tuple[Path, Path]]:
        """The journal of each run, and its checksums: looked up only where somebody wants to know."""
        for run_id in self.run_ids():
            yield self.runs / run_id / JOURNAL_FILE, self.runs / run_id / SUMS_NAME


def _copy_database(path: Path, copy: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_LONGEST_WAIT)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # all in one file
    except sqlite3.Error as error:
        raise JournalError(f"{path} can't be copied: {error}.", "privacy-toolkit state check looks at it.") from None


def _resolved(path: Path) -> Path:
    real = path.resolve()
    if real.is_symlink():  # from Python 3.13 on, links that lead in a circle are given as they are
        raise RuntimeError
    return real


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the system says of the folder into an error in words."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        problem = error.strerror if isinstance(error, OSError) else "its links lead in a circle"
        raise UsageError(
            f"The state folder {path} can't be used: {problem}.",
            "Name another one with --state or PRIVACY_TOOLKIT_STATE.",
        ) from None


def _is_state_folder(path: Path) -> bool:
    """Whether a folder is a state folder, or could become one since it holds nothing else.

    Raises:
        OSError: it can't be looked into, or is no folder.
    """
    return (
        all((path / name).is_dir() for name in ("runs", "locks")) or {found.name for found in path.iterdir()} <= _BEGUN
    )


def _check_is_ours(path: Path, named: Path) -> None:
    """Make sure that the folder may be closed off for everybody else: it is our own, and nothing but a state folder.

    A folder with the sticky bit is made to be shared, such as ``/tmp``; it stays as it is even for root, whose it is.

    Raises:
        UsageError: it may not.
        OSError: it can't be looked into.
    """
    if not _is_state_folder(path):
        raise _no_state_folder(named)
    places = [found for found in (path, path / "runs", path / "locks") if found.exists()]
    if any(place.stat().st_uid != os.geteuid() for place in places) or path.stat().st_mode & stat.S_ISVTX:
        raise UsageError(
            f"The state folder {named} belongs to somebody else, or is shared. Nothing was made or changed.",
            "Name a folder of your own with --state or PRIVACY_TOOLKIT_STATE; one that does not exist yet is made.",
        )


def _no_state_folder(named: Path) -> UsageError:
    return UsageError(
        f"The folder {named} holds other things and is no state folder. Nothing was made or changed.",
        "Name an empty folder, or one that does not exist yet, with --state or PRIVACY_TOOLKIT_STATE.",
    )
