"""What holds for this whole process: personal data and secrets are kept in, nothing is dumped, and memory is kept lean.

Files that are read back hold texts as they are, since a guarded id is another id. Where one was guarded all the same
(``--spreadsheet-safe``), its own column says so, and it is not taken as an input.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import shlex
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final

from privacy_toolkit.core.model import UsageError

# Where others could put something else in the place of what is written.


def exposed(place: Path) -> str | None:
    """Say why others could swap what is put at ``place``, a file or folder that may not be there yet; None: they can't.

    Anyone who may write a folder may rename what is in it, unless it has the sticky bit. A group is no stranger here:
    teams hand folders on. The superuser can do it anyway.
    """
    with contextlib.suppress(OSError, RuntimeError):  # that it can't be used is told where it is used
        nearest = place.resolve()
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        folder = nearest if nearest.is_dir() else nearest.parent
        if folder.stat().st_uid not in {os.geteuid(), 0}:
            return f"{folder} belongs to another user"
        for above in (folder, *folder.parents):
            mode = above.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                return f"everyone can write {above} (chmod o-w {shlex.quote(str(above))})"
    return None


_STATE: Final = ("runs", "locks", "identity")
_LONGEST_KEY: Final = 16_384
_ANY_KEY: Final = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|AGE-SECRET-KEY-|[0-9a-f]{64}\n?\Z")


def check_apart(place: str | Path, option: str = "--out") -> None:
    """Make sure that what is to be written at ``place`` lies apart from a state folder, and takes no key's place.

    Everybody's runs would be lost with some files of a state folder, and a backup of it would have what is put there.

    Raises:
        UsageError: it does not.
    """
    with contextlib.suppress(OSError, RuntimeError):  # that it can't be used is told where it is used
        nearest = Path(place).resolve()
        for above in (nearest, *nearest.parents):
            if all((above / name).exists() for name in _STATE):
                raise UsageError(f"{place} is in the state folder {above}.", f"Name another place with {option}.")
        if nearest.is_file() and nearest.stat().st_size <= _LONGEST_KEY and _ANY_KEY.match(nearest.read_bytes()):
            raise UsageError(f"{place} holds a key: it would be lost.", f"Name another file with {option}.")


# Secrets and foreign text: the only place that masks.

MASK: Final = "********"
#: What steers a terminal, or is not seen on one: controls (C0, C1), what changes the direction of text, what has no
#: width, line and paragraph separators, tags, and halves of characters.
_UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


class Secret:
    """A value that never shows itself: not by repr, str, format or pickle. ``reveal`` is for the one who sends it."""

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str) -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        """The value itself, to be handed to the transport and to nothing else."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK}, {self.origin})"

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        import hmac  # noqa: PLC0415 - OpenSSL comes with it, which --help does without

        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a mapping

    def __reduce__(self) -> str:
        raise TypeError("A secret is not written anywhere.")


def visible(text: str, keep: str = "") -> str:
    r"""Foreign text as a person may be shown it: every character that is unseen, or steers, as ``\u202e``.

    The characters in ``keep`` stay.
    """
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return f"\\x{ord(character):02x}" if character.isascii() else character.encode("ascii", "backslashreplace").decode()


def describe(secret: Secret | None) -> str:
    """What a report may say of a secret: whether it is set and from where."""
    return "not set" if secret is None else f"set ({secret.origin})"


# No core dumps: a process that held ids or keys must leave them neither on the disk nor with a crash reporter.
#
# A limit of 0 keeps the system from writing a core file. A handler that takes cores through a pipe ignores that
# limit; on Linux the process is marked as not dumpable too, which also keeps other processes of the same user from
# reading its memory. What a process starts has the limit from it, and the mark only after it asked for it itself.

#: ``PR_SET_DUMPABLE`` of ``prctl`` (Linux, include/uapi/linux/prctl.h).
_SET_DUMPABLE: Final = 4


def forbid_core_dumps() -> None:
    """Keep this process from being dumped, as far as the system lets us; never an error."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 - not on every system

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)


#: The column that marks a file whose cells are guarded; each of its cells says what was done to the row.
MARK_COLUMN: Final = "guarded_for_spreadsheets"
#: The same of files that earlier versions wrote: with the names of the row in JSON where a cell was guarded.
OLD_MARK_COLUMN: Final = "exact"

# What a spreadsheet takes for the beginning of a formula, also in full width, behind anything that it may drop or that
# is not seen: white space, control characters (ESC among them), a byte order mark, zero-width and turning characters.
# A control character at the very beginning is guarded whatever follows.
_UNSEEN_IN_CELLS: Final = (
    r"\s\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f"
    r"\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_FORMULA: Final = re.compile(
    rf"[\x00-\x1f\x7f-\x9f]|[{_UNSEEN_IN_CELLS}]*[=+\-@\uff1d\uff0b\uff0d\uff20\u2212\ufe62\ufe63\ufe66\ufe6b\u207a\u207b\u208a\u208b]"
)


def is_formula(text: str) -> bool:
    """Whether a spreadsheet could take a text for a formula, or drop something to find one behind it."""
    return _FORMULA.match(text) is not None


def guarded(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet could take it for a formula."""
    return f"'{text}" if is_formula(text) else text


def guarded_all(texts: Iterable[str]) -> list[str]:
    """As ``guarded``, for each of the texts."""
    return [f"'{text}" if _FORMULA.match(text) else text for text in texts]


# A key of the toolkit's own in a file: 64 hexadecimal digits that only its owner can read.

_KEY: Final = re.compile(rb"[0-9a-f]{64}\n?")
_KEY_LENGTH: Final = 32


class SecretFile:
    """A key of 32 bytes at ``path``, which may still be missing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> bytes | None:
        """The key; None if there is none.

        Raises:
            UsageError: it can't be read, others can read it too, or it is no key.
        """
        from privacy_toolkit.core.durable import ExposedError, read_private  # noqa: PLC0415 - help needs no files

        try:
            content = read_private(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            hint = error.hint if isinstance(error, ExposedError) else "Is it yours?"
            raise UsageError(f"The key {self.path} can't be read: {error.strerror}.", hint) from None
        if not _KEY.fullmatch(content):
            raise UsageError(f"{self.path} holds no key of this toolkit.", "It has 64 hexadecimal digits, and no more.")
        return bytes.fromhex(content.decode("ascii"))

    def write(self, key: bytes) -> None:
        """Write a key, whole and durably, where nothing is yet.

        Raises:
            UsageError: it can't be written, or something is there.
        """
        from privacy_toolkit.core.durable import put_file  # noqa: PLC0415 - as above

        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            with put_file(self.path, over=False) as file:
                file.write(key.hex().encode() + b"\n")
        except OSError as error:
            raise UsageError(
                f"The key {self.path} can't be written: {error.strerror}.", "Name a new file, where there is room."
            ) from None

    def read_or_draw(self) -> bytes:
        """The key; one is drawn at random and written if there is none.

        Raises:
            UsageError: it can't be read or written.
        """
        found = self.read()
        if found is None:
            found = os.urandom(_KEY_LENGTH)
            self.write(found)
        return found

    def remove(self) -> None:
        """Destroy the key, if there is one."""
        self.path.unlink(missing_ok=True)


# What is still there of a person: searching the files of a folder.

_PIECE: Final = 1 << 22


def found_in(folder: Path, holds: Callable[[Iterable[bytes]], bool]) -> list[str]:
    """Search the files of a folder and those below it; the paths of those where ``holds`` says yes to their bytes.

    ``holds`` gets them in pieces. What can't be read is named too: nobody knows what it holds. A link is not followed.
    """
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return [str(path) for path in files if _is_found(path, holds)]


def _is_found(path: Path, holds: Callable[[Iterable[bytes]], bool]) -> bool:
    try:
        with path.open("rb") as file:
            return holds(iter(partial(file.read, _PIECE), b""))
    except OSError:
        return True


# The version, what of memory is given back, and where the templates are.

__version__ = "0.3.0"

#: Set where the whole process is the toolkit's own: the command line and second processes, not a script or a notebook.
OURS: Final = Event()
#: Cyclic garbage is looked for after so many more objects were made than freed, where the process is our own.
COLLECT_AFTER: Final = 50_000
#: The same before a run is worked on: modules are objects by the ten thousand, and no garbage.
COLLECT_AT_START: Final = 200_000
_NOT_TO_BE_FOUND: Final[Any] = None
#: What pyarrow loads where it finds it: for arrays, and for file systems that are not of this machine.
_NOT_NEEDED: Final = ("numpy", *(f"pyarrow._{name}" for name in ("s3fs", "gcsfs", "azurefs", "hdfs")))


@contextmanager
def lean_pyarrow() -> Iterator[None]:
    """Have pyarrow loaded in the block with what we need of it, if the process is ours and it is not loaded yet.

    It takes numpy where it finds it, which costs more than pyarrow itself (0.1 s, 10 MB) and is needed only to hand
    over arrays: nothing of ours asks for those but data frames, which are for scripts and notebooks. And its own
    allocator keeps what it was given once; with the system's, a pack takes 20 MB less.
    """
    if not OURS.is_set() or "pyarrow" in sys.modules:
        yield
        return
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    hidden = [name for name in _NOT_NEEDED if name not in sys.modules]
    sys.modules |= dict.fromkeys(hidden, _NOT_TO_BE_FOUND)  # so the import system is told that a module is not there
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def uncollected() -> Iterator[None]:
    """Have no cycles looked for in the block, where very many tuples come and go and none is in a cycle.

    Looking for cycles would take a sixth of the time of a pack's rows, and a third of folding a page.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def templates_folder() -> Path:
    """Where the templates are: inside the installed package, or at the top of a working copy of the sources."""
    packaged = Path(__file__).parents[1] / "reporting" / "templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "reports" / "templates"
