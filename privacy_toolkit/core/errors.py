"""The errors of the toolkit, one kind for each exit code a caller can act on.

Messages and hints are for people and never hold an id, a key or a server's own words.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import Final

#: The code of a ``JournalError`` that says that the journal's file is no longer where it was opened.
MOVED = "moved"


class ExitCode(IntEnum):
    """What the process tells its caller (contract, section 2)."""

    SETTLED = 0
    BUG = 1
    USAGE = 2
    OPEN_ITEMS = 3
    STOPPED = 4
    REFUSED = 5
    VERIFICATION_FAILED = 6
    CREDENTIALS = 7
    INTERRUPTED = 130


class ToolkitError(Exception):
    """A problem a person can act on: what is wrong (``message``), what to do about it (``hint``)."""

    exit_code = ExitCode.BUG
    code = "error"

    def __init__(self, message: str, hint: str = "", *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code


class UsageError(ToolkitError):
    """Wrong or missing settings, arguments or confirmation."""

    exit_code = ExitCode.USAGE
    code = "usage"


class InputError(UsageError):
    """An input file that can't be read as it is; nothing of it is used."""

    code = "input"


class RefusedError(ToolkitError):
    """The toolkit declines: a stale or edited plan, another target, a run already under way."""

    exit_code = ExitCode.REFUSED
    code = "refused"


class CredentialsError(ToolkitError):
    """The API refused the credentials (401 or 403)."""

    exit_code = ExitCode.CREDENTIALS
    code = "credentials"


class JournalError(ToolkitError):
    """The state folder can't be written or read: disk full, permissions, damage."""

    exit_code = ExitCode.STOPPED
    code = "journal"


class DamagedError(JournalError):
    """A journal does not hold what was written to it; nothing of it may be acted on."""

    exit_code = ExitCode.REFUSED
    code = "damaged"


class ApiError(ToolkitError):
    """An API call made through the library did not succeed; ``reason`` says how it ended."""

    code = "api"


#: Errors of the system that say that nothing more can be written.
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


def explained(error: BaseException) -> tuple[ToolkitError, ExitCode]:
    """Any error in words that hold no data, with its exit code."""
    if isinstance(error, ToolkitError):
        return error, error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return ToolkitError("Interrupted.", code="interrupted"), ExitCode.INTERRUPTED
    why = _storage_failure(error)
    if why is not None:
        told = JournalError(f"The state folder can't be read or written: {why}.", "Make room on the disk, then resume.")
        return told, told.exit_code
    return _bug(error), ExitCode.BUG


def _storage_failure(error: BaseException) -> str | None:
    """Why a file could not be written or read, if that is what an error says: no room, or a database in trouble."""
    if type(error).__module__ == "sqlite3":  # told by its name: core knows no database
        return str(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return error.strerror
    return None


def _bug(error: BaseException) -> ToolkitError:
    """A bug in words that hold no data: the kind of the error and the place in our code, never its text."""
    place = "an unknown place"
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith("privacy_toolkit"):
            place = f"{module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return ToolkitError(
        f"This is a bug in privacy-toolkit: {type(error).__name__} at {place}.",
        "Nothing in the journal is lost. Please report it with this line; it holds no personal data.",
        code="bug",
    )
