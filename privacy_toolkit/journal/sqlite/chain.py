"""Records in a state folder: a folder for each sealed pack, a file for a run's answers or a deployment's controls."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from filelock import FileLock

from privacy_toolkit.core.durable import put_file, put_folder, read_regular, remove, sync, write_files
from privacy_toolkit.core.locks import take
from privacy_toolkit.core.model import CONTROL_PREFIX, JournalError
from privacy_toolkit.journal.ledgers import ChainError, KeptLink
from privacy_toolkit.journal.records import ControlProfile, RunAnswers

_ID: Final = "id"
_CHECKPOINT, _SUMS, _SIGNATURE = "checkpoint.txt", "SHA256SUMS", "SHA256SUMS.sig"
_NAME = re.compile(r"([0-9]{8})-(.+)")


class FolderChain:
    """The record in ``folder``; it is made with the first pack.

    Every method raises ``OSError`` where the folder can't be read or written, and then nothing has changed.
    """

    remedy = (
        "Restore the folder chain of the state folder from a backup. If there is none, move it away and keep it:"
        " the next pack then begins a new chain, which says so itself."
    )

    def __init__(self, folder: Path, draw: Callable[[int], str] = secrets.token_hex) -> None:
        self.folder = folder
        self._draw = draw

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process seals a pack, and keep others from it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock", mode=0o600):
            for left in self.folder.glob(".new-*"):  # of a process that died: nobody else is in here now
                remove(left)
            yield

    def drawn_id(self) -> str:
        """Give the 32 random hexadecimal digits of this record, drawn and made durable by the first call.

        Raises:
            ChainError: there are links, but the id is gone or is none.
        """
        path = self.folder / _ID
        if not path.exists():
            if self._names():
                raise ChainError("The record of the packs has lost its id.", self.remedy)
            with put_file(path, over=True) as file:
                file.write(f"{self._draw(16)}\n".encode())
            sync(self.folder.parent)
        value = read_regular(path)
        if not re.fullmatch(rb"[0-9a-f]{32}\n", value):
            raise ChainError("The id of the record of the packs is damaged.", self.remedy)
        return value.decode().strip()

    def newest(self) -> KeptLink | None:
        """Give the last link; None in a new record.

        Raises:
            ChainError: the record is damaged.
        """
        names = self._names()
        return self._read(names[-1]) if names else None

    def of_run(self, run_id: str) -> list[KeptLink]:
        """Give the links of one run, the oldest first.

        Raises:
            ChainError: the record is damaged.
        """
        return [self._read(name) for name in self._names() if name[9:] == run_id]

    def append(self, link: KeptLink) -> None:
        """Add a link. It is durable when this returns.

        Raises:
            ChainError: it does not have the next number.
        """
        if link.sequence != len(self._names()) + 1:
            raise ChainError("The pack does not follow the newest one of the record.", self.remedy)
        files = {_CHECKPOINT: link.checkpoint, _SUMS: link.sums}
        if link.signature is not None:
            files[_SIGNATURE] = link.signature
        with put_folder(self.folder / f"{link.sequence:08}-{link.run_id}", over=False) as building:
            write_files(building, files)

    def _names(self) -> list[str]:
        """The names of the links in their order: none is missing and no number appears twice."""
        if not self.folder.is_dir():
            return []
        names = sorted(path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name))
        if [int(name[:8]) for name in names] != list(range(1, len(names) + 1)):
            raise ChainError("The record of the packs has a gap or a fork.", self.remedy)
        return names

    def _read(self, name: str) -> KeptLink:
        folder = self.folder / name
        signature = folder / _SIGNATURE
        try:
            return KeptLink(
                int(name[:8]),
                name[9:],
                read_regular(folder / _CHECKPOINT),
                read_regular(folder / _SUMS),
                read_regular(signature) if signature.exists() else None,
            )
        except FileNotFoundError:
            raise ChainError("A part of the record of the packs is damaged.", self.remedy) from None


#: The record of ten million answers is not larger, in bytes.
_LARGEST_ANSWERS: Final = 1 << 30
#: How long another process is waited for, in seconds.
_PATIENCE: Final = 10.0


class AnswerFiles:
    """When people were sent their answers, a file a run in the folder ``answers``. Reading makes nothing."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "answers"

    def read(self, run_id: str) -> RunAnswers:
        """What is recorded of a run.

        Raises:
            JournalError: the file can't be read, is damaged, or of a newer toolkit.
        """
        path = self._path(run_id)
        try:
            content = read_regular(path, _LARGEST_ANSWERS)
            found = msgspec.json.decode(content, type=RunAnswers)
        except (FileNotFoundError, NotADirectoryError):
            return RunAnswers()
        except OSError as error:
            raise self._trouble(run_id, "read", error.strerror) from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise self._trouble(run_id, "read", "it is damaged, or of a newer version of the toolkit") from None
        return found

    def change(self, run_id: str, change: Callable[[RunAnswers], RunAnswers]) -> None:
        """Record what ``change`` makes of what is recorded, durable when it returns.

        Raises:
            JournalError: it can't be read or written, or another process records something for too long.
        """
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            lock = take(self._folder / ".lock", _PATIENCE)
            if lock is None:
                raise self._trouble(run_id, "written", "another process is writing there")
            try:
                content = msgspec.json.encode(change(self.read(run_id)), order="sorted")
                with put_file(self._path(run_id), over=True) as file:
                    file.write(content)
                sync(self._folder.parent)
            finally:
                lock.release()
        except OSError as error:
            raise self._trouble(run_id, "written", error.strerror) from None

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.json"

    @staticmethod
    def _trouble(run_id: str, what: str, why: str | None) -> JournalError:
        return JournalError(
            f"The record of sent answers of run {run_id} can't be {what}: {why or 'the system gave no reason'}.",
            "It is in the folder answers of the state folder.",
        )


# What deployments taught.

CONTROLS_FOLDER = "controls"
_CONTROL_FORMAT = 1
_OWN_ID = re.compile(f"{CONTROL_PREFIX}[0-9a-f]{{32}}")
_LARGEST_CONTROL = 100_000  # a file of ours has less than a kilobyte


class ControlFiles:
    """The control profiles in a state folder. Reading makes nothing."""

    def __init__(self, state: Path) -> None:
        self._folder = state / CONTROLS_FOLDER

    def read(self, deployment: str) -> ControlProfile | None:
        """What is kept of a deployment, by its key; None if nothing is.

        Raises:
            JournalError: the file can't be read, is damaged, or of a newer toolkit.
        """
        path = self._path(deployment)
        try:
            content = read_regular(path, _LARGEST_CONTROL)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise JournalError(
                f"The file {path} can't be read: {error.strerror}.", "Is the state folder yours?"
            ) from None
        try:
            control = msgspec.json.decode(content, type=ControlProfile)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            control = None
        if control is None or not _is_ours(control, deployment):
            raise JournalError(
                f"The file {path} is damaged, or of a newer version of the toolkit.",
                "Move it away, then: privacy-toolkit controls create. It names a profile that may be left behind.",
            )
        return control

    def write(self, control: ControlProfile) -> None:
        """Keep this of a deployment, durable when it returns; what was kept before is replaced in one step.

        Raises:
            JournalError: it can't be written; what was kept before still is.
        """
        path = self._path(control.deployment)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with put_file(path, over=True) as file:
                file.write(msgspec.json.format(msgspec.json.encode(control)) + b"\n")
            sync(self._folder.parent)
        except OSError as error:
            raise JournalError(
                f"The file {path} can't be written: {error.strerror}.", "Is there room on the disk? Is it yours?"
            ) from None

    def drop(self, deployment: str) -> None:
        """Keep nothing of a deployment any more.

        Raises:
            JournalError: the file can't be removed.
        """
        path = self._path(deployment)
        try:
            path.unlink(missing_ok=True)
            sync(self._folder)
        except OSError as error:
            raise JournalError(f"The file {path} can't be removed: {error.strerror}.", "Is it yours?") from None

    def _path(self, deployment: str) -> Path:
        return self._folder / f"{hashlib.sha256(deployment.encode()).hexdigest()[:16]}.json"


def _is_ours(control: ControlProfile, deployment: str) -> bool:
    """Whether this can have been written here. The id above all: ``controls remove`` erases whom it names."""
    ids = {control.profile_id} | ({control.learned.profile_id} if control.learned else set())
    return (
        control.format == _CONTROL_FORMAT
        and control.deployment == deployment
        and len(ids) == 1
        and all(_OWN_ID.fullmatch(one) for one in ids)
    )
