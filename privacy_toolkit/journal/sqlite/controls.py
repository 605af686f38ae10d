"""What deployments taught the toolkit: a small file for each in the state folder, with its control profile.

The id of a control profile is written down before the profile is made, so that no crash leaves one behind that nobody
knows of. Whoever writes holds the lock on the deployment.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from privacy_toolkit.core.durable import put_file, read_regular, sync
from privacy_toolkit.core.errors import JournalError
from privacy_toolkit.core.model import CONTROL_PREFIX
from privacy_toolkit.journal.records import ControlProfile

FOLDER = "controls"
FORMAT = 1
_OWN_ID = re.compile(f"{CONTROL_PREFIX}[0-9a-f]{{32}}")
_LARGEST = 100_000  # a file of ours has less than a kilobyte


class ControlFiles:
    """The control profiles in a state folder. Reading makes nothing."""

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER

    def read(self, deployment: str) -> ControlProfile | None:
        """What is kept of a deployment, by its key; None if nothing is.

        Raises:
            JournalError: the file can't be read, is damaged, or of a newer toolkit.
        """
        path = self._path(deployment)
        try:
            content = read_regular(path, _LARGEST)
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
        control.format == FORMAT
        and control.deployment == deployment
        and len(ids) == 1
        and all(_OWN_ID.fullmatch(one) for one in ids)
    )
