"""Opening what ``--state`` names: today a folder of this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.model import Learned, UsageError
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.sqlite.ledgers import ControlFiles
from privacy_toolkit.journal.sqlite.reader import JournalReader
from privacy_toolkit.journal.store import ControlStore, RunReader, State

#: The beginning of an address of PostgreSQL; one slash is what is left of two once it went through a path.
_POSTGRESQL = re.compile(r"postgres(ql)?:/")


def open_state(address: Path | str, key: Path | None = None) -> State:
    """Open a state to work with it; a folder that is missing is made.

    Args:
        address: the folder.
        key: the file with the key of its lists, if that is not in it.

    Raises:
        UsageError: it can't be made, what is there is no state folder or not ours, or such an address is not supported.
    """
    return StateFolder(_folder(address), key)


def existing_state(address: Path | str, key: Path | None = None) -> State:
    """Open a state as it is, to read it: nothing is made or changed. A missing one has no runs.

    Raises:
        UsageError: what is there is no state folder, or such an address is not supported.
    """
    return StateFolder.existing(_folder(address), key)


def open_controls(address: Path | str) -> ControlStore:
    """Open what deployments taught, whatever else is or is not in the state. Reading makes nothing.

    Raises:
        UsageError: such an address is not supported.
    """
    return ControlFiles(_folder(address))


def open_run(place: bytes) -> RunReader:
    """Open a run by its ``RunReader.place``, in another process than the one that has the state.

    Raises:
        JournalError: it can't be opened.
    """
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


def _folder(address: Path | str) -> Path:
    """The folder of an address. The address is in no error: it may hold a password."""
    if _POSTGRESQL.match(str(address)):
        raise UsageError(
            "A state in PostgreSQL is not supported yet: it needs the extra [cluster], which does not exist yet.",
            "Name a folder with --state or PRIVACY_TOOLKIT_STATE.",
        )
    return Path(address)
