"""The state folder: the runs, their packs, and the locks that keep two runs on one target apart."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from privacy_toolkit.errors import RefusedError, UsageError
from privacy_toolkit.journal.checksums import adopt
from privacy_toolkit.journal.facts import FILE_NAME, LOCK_NAME, SUMS_NAME, running
from privacy_toolkit.journal.identity import Identity
from privacy_toolkit.journal.keyfile import KeyFile
from privacy_toolkit.journal.locks import is_taken, take
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.journal.staging import sweep
from privacy_toolkit.journal.suppression import KEY_NAME

#: How many characters of a run's id say the second.
_SECOND = len("20260101-000000")


#: What a folder may hold that was begun to be made into a state folder, or came empty as a volume of its own.
_BEGUN = frozenset({"runs", "locks", "packs", "lost+found"})


_IDENTITY = re.compile(r"[0-9a-f]{32}")


class StateFolder:
    """A folder only its owner can read; made if it is missing. For commands that only read there is ``existing``.

    ``key`` is where its key lies, if not in it.

    Raises:
        UsageError: it can't be made, or what is there is no state folder, or not ours.
    """

    def __init__(self, path: Path, key: Path | None = None) -> None:
        #: The runs that could not be read, as far as somebody was told of them.
        self.passed_over: set[str] = set()
        with _explained(path):
            self.path = path.resolve()
            self.key_path = key
            if self.path.exists():
                _check_is_ours(self.path, path)
            for folder in (self.path, self.runs, self.locks, self.path / "packs"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)

    @classmethod
    def existing(cls, path: Path, key: Path | None = None) -> StateFolder:
        """The state folder as it lies there, for reading: nothing is made or changed. A missing one has no runs.

        Raises:
            UsageError: what is there is no state folder.
        """
        state = cls.__new__(cls)
        state.passed_over = set()
        with _explained(path):
            state.path = path.resolve()
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
                drawn = path.with_name(f".identity-{secrets.token_hex(8)}")
                drawn.write_text(f"{secrets.token_hex(16)}\n")
                drawn.chmod(0o600)
                with suppress(FileExistsError):
                    os.link(drawn, path)  # of two processes the first one's stays
                drawn.unlink()
            found = path.read_text(encoding="ascii", errors="replace").strip()
        if not _IDENTITY.fullmatch(found):
            raise UsageError(f"The identity of the state folder {self.path} is damaged.", "Restore it from a backup.")
        return found

    @property
    def key(self) -> KeyFile:
        """The file with the key under which the lists of digests have theirs: in the folder, unless named elsewhere."""
        return KeyFile(self.path / KEY_NAME if self.key_path is None else self.key_path)

    def plan_key(self, nonce: str) -> KeyFile:
        """The key of the plan with this nonce, from when it is written to a file until its run exists."""
        return KeyFile(self.path / "plans" / f"{nonce}.key")

    @property
    def chain(self) -> Path:
        """Where it is written down which packs were sealed, one after the other."""
        return self.path / "chain"

    def pack(self, run_id: str) -> Path:
        """Where the audit pack of a run is written unless another place is asked for."""
        return self.path / "packs" / run_id

    def run_ids(self) -> list[str]:
        """Every run, newest first: the ids begin with the second of creation, and what follows the job goes on."""
        if not self.runs.is_dir():
            return []
        found = (
            p.name
            for p in self.runs.iterdir()
            if not p.name.startswith(".") and ((p / FILE_NAME).exists() or (p / SUMS_NAME).exists())
        )
        return sorted(found, key=lambda run_id: (run_id[:_SECOND], run_id.rpartition("-")[2]), reverse=True)

    def find(self, name: str) -> str:
        """The id of the run meant by ``name``: an id, an unambiguous beginning of one, or ``latest``.

        Raises:
            UsageError: there is none, or more than one.
        """
        ids = self.run_ids()
        if name == "latest" and ids:
            return ids[0]
        matches = [run_id for run_id in ids if run_id == name] or [
            run_id for run_id in ids if name and run_id.startswith(name)
        ]
        if len(matches) == 1:
            return matches[0]
        what = "more than one run begins so" if matches else "there is no such run in this state folder"
        raise UsageError(f"Which run? For {name!r} {what}.", "privacy-toolkit runs list shows them all.")

    def open(self, run_id: str) -> RunJournal:
        """The journal of a run.

        Raises:
            JournalError: it can't be opened.
        """
        return RunJournal(self.runs / run_id)

    def lock(self, deployment: str) -> FileLock:
        """Take the lock on a deployment by its key; the system gives it back when the process ends, however it ends.

        Raises:
            RefusedError: another process has it.
        """
        name = hashlib.sha256(deployment.encode()).hexdigest()[:16]
        lock = take(self.locks / f"{name}.lock")
        if lock is None:
            raise RefusedError(
                f"Another run on {deployment} is under way with this state folder.",
                "Wait for it to end, or look at it with: privacy-toolkit runs list",
                code="locked",
            )
        sweep(self.runs)
        return lock

    @property
    def identity(self) -> Identity:
        """What tells whether this folder is a copy, or older than it was."""
        return Identity(self.path, self._files())

    def adopt(self) -> None:
        """Take the journals as they are for those that the checksums were made for, but for those at work."""
        for journal, sums in self._files():
            if not is_taken(journal.with_name(LOCK_NAME)):
                adopt(sums, journal)

    def set_aside_runs(self) -> list[Path]:
        """The folders of the runs that were taken out of use. Whether they can be read is another matter."""
        place = self.path / "set-aside"
        return sorted(folder for folder in place.iterdir() if folder.is_dir()) if place.is_dir() else []

    def set_aside(self, run_id: str) -> Path:
        """Take a run out of the runs, as it is; the folder where it is kept.

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
        return place

    def _files(self) -> list[tuple[Path, Path]]:
        """The journal of each run, and its checksums."""
        return [(self.runs / run_id / FILE_NAME, self.runs / run_id / SUMS_NAME) for run_id in self.run_ids()]


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
