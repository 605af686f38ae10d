"""Which state folder this is, and whether it is still the one that was last written to.

A copy of a state folder knows nothing of what the other one does from then on, and one restored from a backup nothing
of what was done since: requests that were sent would go out once more. The folder therefore holds the numbers (inodes)
of its own files, which a copy does not have, and the machine it was used on; and a small file outside, in the state
directory of the user, holds how often it was worked with, which a restore does not take back.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from platformdirs import user_state_path

from privacy_toolkit.errors import JournalError
from privacy_toolkit.journal import locks
from privacy_toolkit.journal.checksums import moved
from privacy_toolkit.journal.durability import sync

FILE_NAME = "identity.json"
FORMAT = "privacy-toolkit/state/1"
#: Where systemd and D-Bus keep the name of the machine.
MACHINE_ID = Path("/etc/machine-id")
_LONGEST_WAIT = 10.0  # seconds; another process only writes these two small files meanwhile


#: What a file that was damaged may come to.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


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
        files: the folders of its runs, with the names of a journal and of its checksums.
        outside: where it is kept outside of the folder how often that was worked with.
        machine: the file with the name of the machine.
    """

    def __init__(
        self,
        folder: Path,
        files: Iterable[tuple[Path, Path]] = (),
        outside: Path | None = None,
        machine: Path = MACHINE_ID,
    ) -> None:
        self._folder = folder
        self._path = folder / FILE_NAME
        self._files = files
        self._outside = user_state_path("privacy-toolkit-witness") if outside is None else outside
        self._machine_id = machine

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from looking and writing meanwhile.

        Raises:
            JournalError: another process does so for too long.
        """
        lock = locks.take(self._folder / "locks" / "identity.lock", _LONGEST_WAIT)
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
        if any(moved(sums, journal) for journal, sums in self._files):
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
        temporary = self._folder / f".{FILE_NAME}.{os.getpid()}"
        try:
            with temporary.open("wb") as file:
                numbered = msgspec.structs.replace(
                    record,
                    inode=os.fstat(file.fileno()).st_ino,
                    folder=self._folder.stat().st_ino,
                    machine=self._machine(record.id),
                    generation=record.generation + 1,
                )
                file.write(msgspec.json.encode(numbered))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            sync(self._folder)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise JournalError(
                f"The identity of the state folder can't be written: {error.strerror}.", "Is there room on the disk?"
            ) from None
        self._tell_outside(numbered)

    def _tell_outside(self, record: _Record) -> None:
        """Where nothing can be kept outside (no home, a read-only one), a restore on the same file is not noticed."""
        place = self._place_outside(record.id)
        temporary = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(_Seen(generation=record.generation)))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(place)
        except OSError:
            return

    def _seen(self, name: str) -> int | None:
        try:
            return msgspec.json.decode(self._place_outside(name).read_bytes(), type=_Seen).generation
        except (OSError, *_UNREADABLE):
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
