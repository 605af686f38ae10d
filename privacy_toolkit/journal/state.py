"""The state folder: the runs, their packs, and the locks that keep two runs on one target apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

from filelock import FileLock

from privacy_toolkit.errors import RefusedError, UsageError
from privacy_toolkit.journal.checksums import adopt
from privacy_toolkit.journal.facts import FILE_NAME, LOCK_NAME, SUMS_NAME, running
from privacy_toolkit.journal.identity import Identity
from privacy_toolkit.journal.locks import is_taken, take
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.journal.staging import sweep

#: How many characters of a run's id say the second.
_SECOND = len("20260101-000000")


class StateFolder:
    """A folder only its owner can read; made if it is missing.

    Raises:
        UsageError: it can't be made or is not ours to close off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: The runs that could not be read, as far as somebody was told of them.
        self.passed_over: set[str] = set()
        try:
            for folder in (path, self.runs, self.locks, path / "packs"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
        except OSError as error:
            raise UsageError(
                f"The state folder {path} can't be used: {error.strerror}.",
                "Name another one with --state or PRIVACY_TOOLKIT_STATE.",
            ) from None

    @property
    def runs(self) -> Path:
        """Where the journals are, a folder a run."""
        return self.path / "runs"

    @property
    def locks(self) -> Path:
        """Where the locks are, a file a target."""
        return self.path / "locks"

    @property
    def chain(self) -> Path:
        """Where it is written down which packs were sealed, one after the other."""
        return self.path / "chain"

    def pack(self, run_id: str) -> Path:
        """Where the audit pack of a run is written unless another place is asked for."""
        return self.path / "packs" / run_id

    def run_ids(self) -> list[str]:
        """Every run, newest first: the ids begin with the second of creation, and what follows the job goes on."""
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
