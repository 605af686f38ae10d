"""How files are read that anybody may have put there, how files and folders last, and locks that die with a process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shlex
import shutil
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BufferedReader
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, Self

from filelock import FileLock, Timeout

# Opening files that someone else may have put there: no pipe is waited for, no device is touched, sizes are bounded.
#
# All of it is told as ``OSError`` whose ``strerror`` fits into "It can't be read: …": one case for callers.

#: Bytes that a file of settings, a notice or a list of names may have.
SETTINGS_LIMIT: Final = 1 << 20
#: Bytes that a plan, a report or the sums of a pack may have.
TEXT_LIMIT: Final = 1 << 24
#: Bytes that a key, a secret or a signature may have.
KEY_LIMIT: Final = 1 << 16

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class NotRegularError(OSError):
    """What is there is a pipe, a socket or a device: reading it could wait forever, or do something."""


class ExposedError(OSError):
    """Others than its owner can read or change a file that holds a secret; ``hint`` says what to type."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EACCES, "others than its owner can read or change it")
        self.hint = f"chmod 600 {shlex.quote(str(path))}"


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read its bytes. It is looked at before it is opened, since opening a device can do something.

    Raises:
        NotRegularError: it is a pipe, a socket or a device.
        OSError: it can't be opened, or is a folder.
    """
    _check(path.stat())
    descriptor = os.open(path, _FLAGS)
    try:
        _check(os.fstat(descriptor))  # it may have been replaced meanwhile
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, limit: int = TEXT_LIMIT) -> bytes:
    """The bytes of a file, of which there may be at most ``limit``.

    Raises:
        OSError: it can't be read, is no regular file, or longer.
    """
    with open_regular(path) as file:
        return _bounded(file, limit)


#: A key of more than 20 parts. Python's parser takes time and memory by the square of that: 250 KB take all there is.
_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{20}}", re.ASCII)


def read_toml(path: Path) -> dict[str, Any]:
    """What a file of settings in TOML says, of at most ``SETTINGS_LIMIT`` bytes; a byte order mark does not count.

    Raises:
        OSError: as ``read_regular``.
        ValueError: it is not TOML in UTF-8, or can't be held: numbers of thousands of digits, brackets without end.
    """
    try:
        text = read_regular(path, SETTINGS_LIMIT).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if _LONG_KEY.search(text):
        raise ValueError("a key in it has too many parts")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # it says where
        raise
    except (ValueError, RecursionError):  # of a number too long for Python, and of the parser, which calls itself
        raise ValueError("a number in it is too long, or its brackets too deep") from None


def read_private(path: Path, limit: int = KEY_LIMIT) -> bytes:
    """The bytes of a file that holds a secret; the mode is that of the very file that is read.

    Nobody but its owner may read or change it. One exception: a file of root's may be readable for a group, where the
    process is not root's. Whom root puts into a group is not ours to judge, and this is what systemd's
    ``LoadCredential=`` (which grants access by an ACL) and the secrets of Kubernetes with ``fsGroup`` look like.

    Raises:
        ExposedError: others can read or change it.
        OSError: it can't be read, is no regular file, or longer than ``limit``.
    """
    with open_regular(path) as file:
        found = os.fstat(file.fileno())
        allowed = stat.S_IRGRP if found.st_uid == 0 != os.geteuid() else 0
        if os.name == "posix" and found.st_mode & 0o077 & ~allowed:
            raise ExposedError(path)
        return _bounded(file, limit)


def _check(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise NotRegularError(errno.EINVAL, f"it is {kind} and no file")


def _bounded(file: BufferedReader, limit: int) -> bytes:
    content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is longer than {limit:,} bytes")
    return content


# Files and folders that come to their names as a whole and durably: after a power cut, a full disk or a kill there is
# what was there before or what was to be there, and never a half of it.
#
# What is made is built next to its place, under a private new name, and anyone who builds it holds a lock on it, which
# the system gives back when the process ends, however that is. So what a dead process left can be told from what a
# living one works on, also where process ids are used again or come from different containers.

#: What is being built, and what was moved out of the way. The end keeps away who looks for names that end in .prom or
#: .csv. Earlier versions put only the id of the process into the name, or 16 random digits, and nothing at the end.
_PRIVATE = re.compile(
    r"\.(?P<kind>new|old)-(?:(?P<pid>\d+)(?P<now>\.[0-9a-f]{8})?|[0-9a-f]{16})-(?P<name>.+?)(?(now)\.part|)", re.DOTALL
)


def sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk before it returns.

    Raises:
        OSError: it could not.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file under its own name, for its owner only; it is on the disk when the block ends without an error.

    This is for files in a folder that is still being built. The name is durable when its folder is synced.

    Raises:
        OSError: it can't be written, or is there already.
    """
    with _opened(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)) as file:
        yield file
        _to_disk(file)


def write_file(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a new file that only its owner can read, as ``new_file`` does.

    Raises:
        OSError: it can't be written, or is there already.
    """
    with new_file(path) as file:
        file.writelines(chunks)


def write_files(folder: Path, files: Mapping[str, bytes], modified: int | None = None) -> None:
    """Write new files, by their paths relative to ``folder``, for their owner only; they and their names are durable.

    Args:
        folder: a folder that is being built; folders in it are made.
        files: path, with ``/`` between its parts, to content.
        modified: the time that all files and folders get, in nanoseconds since the epoch.

    Raises:
        OSError: one can't be written, or is there already.
    """
    times = None if modified is None else (modified, modified)
    folders = sorted({PurePosixPath(), *(parent for name in files for parent in PurePosixPath(name).parents)})
    for below in folders[1:]:  # the first is the folder itself
        (folder / below).mkdir(mode=0o700)
    for name, content in files.items():
        with new_file(folder / name) as file:
            file.write(content)
            if times is not None:
                file.flush()  # writing later would change the time again
                os.utime(file.fileno(), ns=times)
    for below in reversed(folders):  # what is inside first: it changes the times of what is around it
        if times is not None:
            os.utime(folder / below, ns=times)
        sync(folder / below)


@contextlib.contextmanager
def put_file(path: Path, *, over: bool, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Write a file that has its name, durably, when the block ends without an error; else nothing has changed.

    Only where it replaces another, and its name can't be made durable after that, the new one is there all the same.

    Args:
        path: its place, in a folder that exists.
        over: whether it replaces a file that is there; if not, that is an error.
        mode: its permissions, of which the system takes off what the process's umask says.

    Raises:
        OSError: it can't be written, or is a device, pipe or socket: as root one would be gone for the whole system.
    """
    if path.absolute().parent == Path("/dev") or (path.exists() and not (path.is_symlink() or path.is_file())):
        raise FileExistsError(errno.EEXIST, "a folder, device, pipe or socket is there, and no file")
    building, descriptor = _begin(path, lambda name: os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        with _opened(descriptor) as file:  # it is open, and so locked, until it has its name
            yield file
            _to_disk(file)
            if over:
                building.rename(path)
                sync(path.parent)
            else:
                _link(building, path)
    finally:
        with contextlib.suppress(OSError):
            building.unlink(missing_ok=True)


@contextlib.contextmanager
def put_folder(path: Path, *, over: bool) -> Iterator[Path]:
    """Build a folder that has its name, durably, when the block ends without an error; else nothing has changed.

    What is written in it has to be durable by then, as ``write_files`` makes it. ``over`` as for ``FolderPlace``.

    Raises:
        OSError: it can't be made.
    """
    with FolderPlace(path, over=over) as place:
        yield place.begin()
        place.finish()


class FolderPlace:
    """Where a folder is to be, for those who have to do something between its steps; else see ``put_folder``.

    Args:
        path: its place, in a folder that exists.
        over: whether it replaces a folder that is there; if not, that is an error. Since no folder can replace another
            in one step, a death between two is repaired by ``restore`` or ``sweep``.
    """

    def __init__(self, path: Path, *, over: bool) -> None:
        self.path = path
        self._over = over
        self._building: Path | None = None
        self._held: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def restore(self) -> None:
        """Put a folder back that a process which died between two renames had just moved out of the way.

        To be called where nobody else can be at work on this place.

        Raises:
            OSError: it can't be moved.
        """
        if not self.path.parent.is_dir() or os.path.lexists(self.path):
            return
        left = [left for left, match in _private(self.path.parent, self.path.name) if match["kind"] == "old"]
        if left:
            left[0].rename(self.path)
            sync(self.path.parent)

    def begin(self) -> Path:
        """Make the folder to build in; only its owner can look into it.

        Raises:
            OSError: it can't be made.
        """
        self._building, self._held = _begin(self.path, _new_folder)
        return self._building

    def discard(self) -> None:
        """Remove what was built and has not come to its place."""
        building, self._building = self._building, None
        try:
            if building is not None:
                shutil.rmtree(building, ignore_errors=True)
        finally:
            self._let_go()

    def finish(self) -> None:
        """Put what was built in its place, and what is there away: nobody ever sees half of it under its name.

        Raises:
            OSError: a folder can't be moved, and what was there is there still; or, if it may not be replaced, there is
                something.
        """
        if self._building is None:
            raise ValueError("nothing was built")
        sync(self._building)
        old = self._swap(self._building)
        self._building = None
        self._let_go()
        sync(self.path.parent)
        if old is not None:
            with contextlib.suppress(OSError):  # the new one is there; the next sweep removes what is left of the old
                take_away(old)

    def sweep(self) -> None:
        """Remove what dead processes left next to this place; call it when a whole folder is there.

        Raises:
            OSError: as ``sweep``.
        """
        sweep(self.path.parent, self.path.name)

    def _swap(self, building: Path) -> Path | None:
        """Give what was built its name, and where what was there is now."""
        if not self._over and os.path.lexists(self.path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if not self._over or self.path.is_symlink() or not self.path.is_dir():
            building.rename(self.path)
            return None
        old = building.with_name(building.name.replace(".new-", ".old-", 1))
        with locked(self.path):  # anyone who sweeps between the two renames must not put it back
            self.path.rename(old)
            try:
                building.rename(self.path)
            except BaseException:
                old.rename(self.path)
                raise
        return old

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            os.close(held)


def left_over(folder: Path, name: str | None = None, *, by_process_id: bool = False) -> list[Path]:
    """What processes that died while they built something in ``folder`` have left there.

    Args:
        folder: the folder in which they built.
        name: what they built; None: anything.
        by_process_id: whether, on a file system without locks, the process id in the name is believed. Otherwise
            nothing counts as left over there.

    Raises:
        OSError: the folder can't be read.
    """
    found = []
    for left, _ in _private(folder, name):
        with _abandoned(left, by_process_id=by_process_id) as is_abandoned:
            if is_abandoned:
                found.append(left)
    return found


def sweep(folder: Path, name: str | None = None, *, by_process_id: bool = False) -> list[Path]:
    """Remove what ``left_over`` names, but put back what a dead process had just moved away; what could not be removed.

    Raises:
        OSError: the folder can't be read, or something can't be put back.
    """
    remain = []
    for left, match in _private(folder, name):
        with _abandoned(left, by_process_id=by_process_id) as is_abandoned:
            if not is_abandoned:
                continue
            place = folder / match["name"]
            if match["kind"] == "old" and not os.path.lexists(place):
                left.rename(place)
                sync(folder)
                continue
            try:
                take_away(left)
            except OSError:
                remain.append(left)
    return remain


def take_away(path: Path) -> None:
    """Remove a file or a folder, so that half of it is never under its own name, nor under one that is put back.

    Raises:
        OSError: it can't be removed.
    """
    match = _PRIVATE.fullmatch(path.name)
    if match is None or match["kind"] == "old":
        doomed = _new_name(path.with_name(match["name"] if match else path.name))
        path.rename(doomed)
        path = doomed
    remove(path)


def remove(path: Path) -> None:
    """Remove a file or a folder; none is no error.

    Raises:
        OSError: it can't be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(descriptor: int) -> Iterator[BinaryIO]:
    file = os.fdopen(descriptor, "wb")
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):  # what did not fit was said by then, and the file is given up
            file.close()


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _link(building: Path, path: Path) -> None:
    """Give a file its name, which nothing may have yet: a rename would replace what is there."""
    os.link(building, path)
    try:
        building.unlink()
        sync(path.parent)
    except BaseException:
        path.unlink()
        raise


def _begin(path: Path, make: Callable[[Path], int | None]) -> tuple[Path, int]:
    """Make what is built in next to ``path``; its name, and the descriptor that holds the lock on it.

    Between making and locking, anyone who sweeps may take it for left over. So it is looked at once more when it is
    locked.
    """
    while True:
        building = _new_name(path)
        descriptor = make(building)
        if descriptor is None:
            continue
        if try_lock(descriptor) is not False and _is_at(building, descriptor):
            return building, descriptor
        os.close(descriptor)


def _new_folder(path: Path) -> int | None:
    path.mkdir(mode=0o700)
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # swept already
        return None


def _new_name(path: Path) -> Path:
    return path.with_name(f".new-{os.getpid()}.{secrets.token_hex(4)}-{path.name}.part")


def _private(folder: Path, name: str | None) -> list[tuple[Path, re.Match[str]]]:
    """What is being built in a folder, and what was moved out of the way, the newest first, with what its name says."""
    found = []
    for path in folder.iterdir():
        match = _PRIVATE.fullmatch(path.name)
        if match and name in {None, match["name"]}:
            with contextlib.suppress(FileNotFoundError):  # it has come to its place meanwhile
                found.append((path.lstat().st_mtime_ns, path, match))
    return [(path, match) for _, path, match in sorted(found, key=itemgetter(0, 1), reverse=True)]


@contextlib.contextmanager
def _abandoned(path: Path, *, by_process_id: bool) -> Iterator[bool]:
    """Whether nobody works on it any more; nobody can begin to while the block runs."""
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(locked(path))
        except OSError:
            held = False
        if held is None and by_process_id:
            match = _PRIVATE.fullmatch(path.name)
            held = match is not None and match["pid"] is not None and not _alive(int(match["pid"]))
        yield bool(held)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def probe(folder: Path) -> None:
    """Try whether something can be made in ``folder``, or in the nearest folder above it that exists.

    Raises:
        OSError: it can't.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    Path(tempfile.mkdtemp(prefix=".probe-", dir=folder)).rmdir()


# Locks that the kernel holds for a process, and gives back however that process ends.

#: How something is opened only to be locked: it may be anything, and nothing of it is read.
_LOOK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def take(path: Path, seconds: float = 0.0) -> FileLock | None:
    """Take the lock in a file, which is made if it is missing; None if another process has it still after ``seconds``.

    Raises:
        OSError: the file can't be made.
    """
    lock = FileLock(path, timeout=seconds, mode=0o600, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def is_taken(path: Path) -> bool:
    """Whether a process has the lock in a file; nothing is made or changed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder until it is closed; False if another has the lock, None if locks are unknown here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool | None]:
    """Hold the lock on a file or folder while the block runs; gives what ``try_lock`` gives.

    Raises:
        OSError: it can't be opened, or is a link.
    """
    descriptor = os.open(path, _LOOK)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)
