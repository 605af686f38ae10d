"""Opening what ``--state`` names: today a folder of this machine."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from privacy_toolkit.config.settings import Settings, is_elsewhere
from privacy_toolkit.core.model import Learned, ToolkitError, UsageError
from privacy_toolkit.journal.ledgers import ControlStore
from privacy_toolkit.journal.sqlite.chain import ControlFiles
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.sqlite.reader import JournalReader
from privacy_toolkit.journal.store import RunReader, State


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


def is_taken_up(address: Path | str, place: Path) -> bool:
    """Tell whether a state has files of its own at a place, below it or around it, so that nothing else may go there.

    Raises:
        UsageError: such an address is not supported.
    """
    own = [one.resolve() for one in StateFolder.existing(_folder(address)).own_places]
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
    """Look at a state, which is left as it is.

    Raises:
        UsageError: such an address is not supported.
    """
    path = _folder(address).expanduser().absolute()
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


def exists(address: Path | str) -> bool:
    """Tell whether there is anything yet at the address of a state.

    Raises:
        UsageError: such an address is not supported.
    """
    return _folder(address).exists()


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
    if is_elsewhere(address):
        raise UsageError(
            "A state in PostgreSQL is not supported yet: it needs the extra [cluster], which does not exist yet.",
            "Name a folder with --state or PRIVACY_TOOLKIT_STATE.",
        )
    return Path(address)
