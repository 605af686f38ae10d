"""How packages come to the output folder, or into object storage, and leave it: put in place, removed when old."""

from __future__ import annotations

import errno
import hashlib
import io
import ipaddress
import json
import os
import re
import secrets
import stat
import struct
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

import msgspec
import pyrage

from privacy_toolkit.access.words import DeliveryError
from privacy_toolkit.config.settings import OBJECT_SCHEMES
from privacy_toolkit.core.durable import (
    SETTINGS_LIMIT,
    put_file,
    put_folder,
    read_regular,
    sweep,
    take_away,
    write_files,
)
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import visible

# By what a package is known as one of ours.

SCHEMA: Final = "privacy-toolkit-access-package@v1"
DATA: Final = "data.json"

#: How the name of the note about an encrypted package begins; hidden, since it is not for the person.
NOTE: Final = ".made-"
#: The name of every package: nothing that says whose it is, and nothing that a system takes for anything else.
REFERENCE: Final = re.compile(r"[0-9a-f]{16,64}")

# A package as a single file: a zip whose bytes follow from its content alone, and the same encrypted with age.

#: A zip knows no time before this.
_FIRST_YEAR: Final = 1980
_OWNER_ONLY: Final = 0o100600 << 16
_MADE_ON_UNIX: Final = 3


def zipped(folder: str, files: Mapping[str, bytes], moment: int) -> bytes:
    """A zip of files in one folder, in the order of their names, all with one time (microseconds since the epoch).

    Nothing is compressed: what a library makes of the same bytes changes between its versions.
    """
    when = datetime.fromtimestamp(moment // 1_000_000, UTC)
    when = max(when, datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{folder}/{name}", when.timetuple()[:6])
            entry.create_system = _MADE_ON_UNIX
            entry.external_attr = _OWNER_ONLY
            archive.writestr(entry, data)
    return content.getvalue()


def recipient_of(text: str) -> pyrage.x25519.Recipient:
    """The recipient for whom something can be encrypted, of its public key as text.

    Raises:
        UsageError: it is no recipient of age's own kind, ``age1…``. It is not repeated: it may be a secret key.
    """
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except (pyrage.RecipientError, ValueError):
        raise UsageError(
            "The recipient for the encryption is not a public key of age.",
            "Give one that begins with age1, as age-keygen prints it; never the secret key.",
        ) from None


def encrypted(content: bytes, recipient: str) -> bytes:
    """What only the holder of the recipient's key can read. It differs each time, as encryption has to.

    Raises:
        UsageError: as ``recipient_of``.
    """
    return bytes(pyrage.encrypt(content, [recipient_of(recipient)]))


def place(out: Path, name: str, content: bytes | Mapping[str, bytes], moment: int) -> None:
    """Put a file, or a folder of files by their relative paths, under a name; what is there is replaced.

    All files and folders have one time, ``moment`` (microseconds since the epoch), and are their owner's alone.

    Raises:
        DeliveryError: it can't be written; nothing new is under the name.
    """
    modified = moment * 1000
    try:
        if isinstance(content, bytes):
            with put_file(out / name, over=True) as file:
                file.write(content)
                file.flush()
                os.utime(file.fileno(), ns=(modified, modified))
        else:
            with put_folder(out / name, over=True) as building:
                write_files(building, content, modified)
    except OSError as error:
        raise DeliveryError(
            f"An access package could not be written: {error.strerror or 'the system refused'}.",
            "Is there room on the disk, and may the output folder be written?",
        ) from None


def clear_up(out: Path) -> None:
    """Remove what dead processes left behind in the output folder, and put back what one had just moved away.

    Raises:
        DeliveryError: the folder can't be read, something can't be removed, or a package can't be put back.
    """
    try:
        remain = sweep(out, by_process_id=True)
    except OSError as error:
        raise DeliveryError(f"The output folder could not be cleared up: {error.strerror}.") from None
    if remain:
        raise DeliveryError(f"The output folder could not be cleared up: {remain[0].name} can't be removed.")


# Object storage (S3, Google, Azure): objects that are put once and never overwritten, compared, listed and removed.
#
# Credentials come from where the storage's own tools look for them: environment variables, files named there, and the
# identity of the machine. They are never in an address. What the storage says in its own words may hold a name or a
# key, so an error says in ours what kind it is.

#: Whatever takes longer than that is tried again, three times.
_NETWORK: Final = {"connect_timeout": "10 seconds", "timeout": "120 seconds"}
_RETRIES: Final = 3
#: Bytes from which on a file is sent in parts: then it can't be said that nothing may be there already.
_IN_PARTS: Final = 1 << 26


class StoredObject(msgspec.Struct, frozen=True):
    """An object: its name below the address, its bytes, and when the storage took it, by its own clock."""

    name: str
    size: int
    modified: datetime


class Bucket:
    """What is below one address in object storage. ``store`` takes the place of the one that the address names.

    Raises:
        UsageError: the address can't be used, or the extra is not installed.
    """

    def __init__(self, address: str, store: Any = None) -> None:
        self.address = address.rstrip("/")
        self._store = _opened(self.address) if store is None else store

    def put(self, name: str, content: bytes) -> None:
        """Put an object where none is. Where the answer was lost, or there is one, it is read back and compared.

        Raises:
            FileExistsError: there is another one of that name, which stays.
            OSError: it is not certain that it is there.
        """
        import obstore  # noqa: PLC0415 - an extra

        try:
            obstore.put(self._store, name, content, mode="create", use_multipart=False)
        except Exception as error:  # noqa: BLE001 - each of them is said in our words
            if self._has(name, content):
                return
            if isinstance(error, obstore.exceptions.AlreadyExistsError):
                raise FileExistsError(errno.EEXIST, "there is another object of that name") from None
            raise _explained(error) from None

    def put_file(self, name: str, path: Path) -> None:
        """Put a file, which is read piece by piece if it is large; a name has to be that of one content alone.

        Raises:
            OSError: as for ``put``; or the file can't be read.
        """
        if path.stat().st_size < _IN_PARTS:
            self.put(name, path.read_bytes())
            return
        import obstore  # noqa: PLC0415 - an extra

        with _in_words():
            obstore.put(self._store, name, path)

    def objects(self, folder: str | None = None) -> Iterator[StoredObject]:
        """Give all that is below the address, or below a folder there.

        Raises:
            OSError: it can't be listed.
        """
        import obstore  # noqa: PLC0415 - an extra

        with _in_words():
            for some in obstore.list(self._store, folder):
                yield from (StoredObject(one["path"], one["size"], one["last_modified"]) for one in some)

    def remove(self, names: Collection[str]) -> None:
        """Remove objects; one that is gone is no error.

        Raises:
            OSError: one can't be removed; others may have been.
        """
        import obstore  # noqa: PLC0415 - an extra

        for name in names:
            with _in_words():
                try:
                    obstore.delete(self._store, name)
                except FileNotFoundError:
                    if self._is_there(name):
                        raise

    def now(self) -> datetime:
        """Tell what time it is by the storage's own clock; makes sure, too, that something can be put there.

        Raises:
            OSError: it can't.
        """
        import obstore  # noqa: PLC0415 - an extra

        with _in_words():
            obstore.put(self._store, CLOCK, b"", use_multipart=False)
            found: datetime = obstore.head(self._store, CLOCK)["last_modified"]
        return found

    def _is_there(self, name: str) -> bool:
        import obstore  # noqa: PLC0415 - an extra

        try:
            obstore.head(self._store, name)
        except FileNotFoundError:
            return False
        return True

    def _has(self, name: str, content: bytes) -> bool:
        """Whether there is an object with just this content."""
        import obstore  # noqa: PLC0415 - an extra

        try:
            found = obstore.get(self._store, name)
            return found.meta["size"] == len(content) and bytes(found.bytes()) == content
        except Exception:  # noqa: BLE001 - then nobody knows, and the error of the putting says why
            return False


def _opened(address: str) -> Any:
    parts = urlsplit(address)
    if parts.scheme.lower() not in OBJECT_SCHEMES or not parts.netloc or {"@", ":"} & set(parts.netloc):
        raise UsageError("The address in object storage can't be used.", _FORM)
    if parts.query or parts.fragment or visible(address) != address:
        raise UsageError("The address in object storage has more than a bucket and a prefix.", _FORM)
    near = _is_near()
    try:
        from obstore.store import from_url  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError(
            "Object storage needs the extra [objects], which is not installed.",
            "Install it: pip install 'talonone-privacy-toolkit[objects]'",
        ) from None
    try:
        options: dict[str, Any] = {
            "client_options": {**_NETWORK, "allow_http": near},
            "retry_config": {"max_retries": _RETRIES},
        }
        return from_url(address, **options)
    except Exception:  # noqa: BLE001 - its words may hold what is set
        raise UsageError(
            "The object storage can't be opened with what is set in the environment.",
            "Is the account or region set, and is what is set complete? See docs/objects.md.",
        ) from None


def _is_near() -> bool:
    """Whether an endpoint of the environment is reached without TLS, since it is on this machine.

    Raises:
        UsageError: it would be over a network.
    """
    endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS)), "")
    if not endpoint.lower().startswith("http://"):
        return False
    host = urlsplit(endpoint).hostname or ""
    try:
        near = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = False
    if not near:
        raise UsageError(
            "The object storage would be reached over a network without encryption. Nothing was sent.",
            f"Set an address that begins with https:// in {' or '.join(_ENDPOINTS)}.",
        )
    return True


_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_FORM: Final = "It is written so, without any key: s3://bucket/prefix, gs://bucket/prefix or az://container/prefix."


@contextmanager
def _in_words() -> Iterator[None]:
    """Say in our words what the storage says.

    Raises:
        OSError: that.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - each of them is said in our words
        raise _explained(error) from None


def _explained(error: Exception) -> OSError:
    from obstore import exceptions  # noqa: PLC0415 - an extra

    if isinstance(error, FileNotFoundError | exceptions.NotFoundError):
        return FileNotFoundError(errno.ENOENT, "there is no such bucket or object")
    kinds = (
        (exceptions.UnauthenticatedError, errno.EACCES, "the object storage refused the credentials"),
        (PermissionError, errno.EACCES, "the credentials may not do that in the object storage"),
        (exceptions.PermissionDeniedError, errno.EACCES, "the credentials may not do that in the object storage"),
        (exceptions.PreconditionError, errno.EEXIST, "there is another object of that name"),
    )
    for kind, number, said in kinds:
        if isinstance(error, kind):
            return OSError(number, said)
    return OSError(errno.EIO, "the object storage could not be reached, or gave no answer that can be relied on")


# Packages in object storage: objects, each under a name that was never there before.

#: The names of packages below an address: the run, the reference, what was drawn for this very putting, the kind.
_OBJECT: Final = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z]+-[0-9a-f]+/[0-9a-f]{16,64}-[0-9a-f]{16}\.(?:zip|age)")


class PackageObjects:
    """The packages of one run in object storage.

    ``draw`` gives 16 hexadecimal digits for each putting: anyone who puts the same package again, in another process or
    later, overwrites nothing. Which one counts is for the journal to say.
    """

    def __init__(self, bucket: Bucket, run_id: str, draw: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        self._bucket = bucket
        self._run_id = run_id
        self._draw = draw

    def put(self, name: str, content: bytes | Mapping[str, bytes]) -> str:
        """Put a package, which has to be one object, and give the name under which it is.

        Raises:
            DeliveryError: it is not certain that it is there.
        """
        if not isinstance(content, bytes):
            raise TypeError("a package in object storage is one object")
        stem, _, kind = name.partition(".")
        once = f"{stem}-{self._draw()}.{kind}"
        try:
            self._bucket.put(f"{self._run_id}/{once}", content)
        except OSError as error:
            raise DeliveryError(
                f"An access package could not be put into object storage: {error.strerror}.",
                "Nothing is lost: resume the run. What was put all the same is removed then.",
            ) from None
        return once

    def sweep(self, named: Callable[[], Collection[str] | None]) -> int:
        """Remove the packages of this run that nothing names; how many. ``named`` gives None while anybody works on it.

        It is asked only after they were listed: anyone who begins later puts nothing that is in the list.

        Raises:
            DeliveryError: they can't be listed or removed.
        """
        begin = f"{self._run_id}/"
        try:
            there = [one.name for one in self._bucket.objects(self._run_id)]
            kept = named()
            if kept is None:
                return 0
            wanted = {begin + name for name in kept}
            left = [name for name in there if _OBJECT.fullmatch(name) and name not in wanted]
            self._bucket.remove(left)
        except OSError as error:
            raise DeliveryError(
                f"What is left over in object storage could not be removed: {error.strerror}."
            ) from None
        return len(left)


def check_bucket(address: str) -> Bucket:
    """Open an address in object storage, and make sure that something can be put there.

    Raises:
        UsageError: it can't be used.
    """
    bucket = Bucket(address)
    try:
        bucket.now()
    except OSError as error:
        raise UsageError(
            f"Nothing can be put at {address}: {error.strerror}.", "See docs/objects.md for what it needs."
        ) from None
    return bucket


def prune_bucket(bucket: Bucket, age: timedelta) -> int:
    """Remove the packages that were put longer ago, by the storage's own clock, and say how many.

    Raises:
        DeliveryError: they can't be listed, or one can't be removed.
    """
    try:
        before = bucket.now() - age
        due = [one.name for one in bucket.objects() if _OBJECT.fullmatch(one.name) and one.modified < before]
        bucket.remove(due)
    except OSError as error:
        raise DeliveryError(
            f"Packages that were kept long enough could not be removed from object storage: {error.strerror}.",
            "May the credentials list and delete there, and is nothing locked? A rule of the bucket can do it instead.",
        ) from None
    return len(due)


def placed(out: str, run_id: str) -> Callable[[str], bool]:
    """Give what tells of the name of a package of a run whether it is still where it was put.

    Raises:
        DeliveryError: what is in object storage can't be listed.
    """
    if urlsplit(out).scheme not in OBJECT_SCHEMES:
        return lambda name: (Path(out) / name).exists()
    try:
        there = {one.name for one in Bucket(out).objects(run_id)}
    except OSError as error:
        raise DeliveryError(f"The packages in object storage can't be listed: {error.strerror}.") from None
    return lambda name: f"{run_id}/{name}" in there


# Retention: removes packages that were kept long enough, and leaves alone whatever is not certainly ours.

#: Where the folder says at which times old packages were removed from it.
CLOCK: Final = ".privacy-toolkit-clock"
#: No export is so long after the one before that its time is believed at once.
LONGEST_PAUSE: Final = timedelta(days=7)
#: After so long another export confirms the time of the one before.
CONFIRMED_AFTER: Final = timedelta(hours=20)
_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


def prune(out: Path, older_than: datetime) -> int:
    """Remove the packages whose data was read before a time, and say how many.

    A folder or a zip is ours if its name is a reference and the ``data.json`` in it says so, which also says when it
    was read; an encrypted file if the note that was written with it has its name and the SHA-256 that it still has.

    Raises:
        DeliveryError: the folder can't be read, or a package can't be removed; the others were.
    """
    if older_than.tzinfo is None:
        raise ValueError("a time without a zone says nothing")
    try:
        due = [path for path in sorted(out.iterdir()) if (when := _read_at(path)) is not None and when < older_than]
    except OSError as error:
        raise DeliveryError(f"The output folder can't be read: {error.strerror}.") from None
    failed = [path for path in due if not _taken_away(path)]
    if failed:
        raise DeliveryError(
            f"{len(failed)} of {len(due)} packages that were kept long enough could not be removed.",
            "May the output folder and what is in it be written?",
        )
    return len(due)


def believed(out: Path, now: datetime) -> datetime:
    """The time by which packages in a folder are old: ``now``, or an earlier one while ``now`` is not to be believed.

    A clock that is set forward makes today's packages old. So the folder keeps the time of the last export (``seen``),
    and the last that was believed. A time is believed if the export before was at most ``LONGEST_PAUSE`` earlier; else,
    once another export at least ``CONFIRMED_AFTER`` later shows that the clock stayed there. A clock that is set back
    only makes packages younger. Where nothing was kept yet, the newest package says when the last export was.

    Raises:
        DeliveryError: the folder can't be read or written.
    """
    try:
        seen, trusted = _kept(out) or (_newest(out, now),) * 2
        gap = now - seen
        if gap < timedelta(0):
            seen, trusted = now, min(trusted, now)
        elif gap > LONGEST_PAUSE:
            seen, trusted = now, seen
        elif seen == trusted or gap >= CONFIRMED_AFTER:
            seen, trusted = now, now
        # else: too early to tell whether the clock stays where it leapt to
    except OSError as error:
        raise DeliveryError(f"The output folder can't be read: {error.strerror}.") from None
    content = json.dumps({"seen": f"{seen:{_TIME}}", "trusted": f"{trusted:{_TIME}}"})
    place(out, CLOCK, f"{content}\n".encode(), int(now.timestamp()) * 1_000_000)
    return min(trusted, now)


def _kept(out: Path) -> tuple[datetime, datetime] | None:
    """When the last export was, and the last time that was believed; None if the folder does not say."""
    try:
        content = json.loads(read_regular(out / CLOCK, SETTINGS_LIMIT))
        seen, trusted = (datetime.strptime(content[key], _TIME).replace(tzinfo=UTC) for key in ("seen", "trusted"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return seen, trusted


def _newest(out: Path, now: datetime) -> datetime:
    """When the newest package was read, or ``now`` if there is none; not later than ``now``."""
    return min(now, max(filter(None, map(_read_at, out.iterdir())), default=now))


def _taken_away(path: Path) -> bool:
    try:
        take_away(path)
        if path.suffix == ".age":
            _note(path).unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _read_at(path: Path) -> datetime | None:
    """When the data of a package was read; None if it is none of ours."""
    name, dot, kind = path.name.partition(".")
    if REFERENCE.fullmatch(name) is None or path.is_symlink():
        return None
    try:
        if not dot and path.is_dir():
            with _plain(path / DATA) as file:
                return _said(file, name)
        if kind == "zip" and path.is_file():
            with zipfile.ZipFile(path) as archive, archive.open(_stored(archive, f"{name}/{DATA}")) as file:
                return _said(file, name)
        if kind == "age" and path.is_file():
            with _plain(_note(path)) as note, _plain(path) as file:
                return _said(note, name, hashlib.file_digest(file, "sha256").hexdigest())
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, OverflowError, struct.error, zipfile.BadZipFile):
        return None  # RuntimeError: too deep, under a password, or of a kind that zipfile does not know
    return None


def _stored(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A file in a zip, as it is in ours: not compressed, so that what is read is no longer than the zip.

    Raises:
        KeyError: there is none.
    """
    found = archive.getinfo(name)
    if found.compress_type != zipfile.ZIP_STORED:
        raise KeyError(name)
    return found


def _plain(path: Path) -> BufferedReader:
    """A file, and not what a link leads to or what is no file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("no plain file")
    return os.fdopen(descriptor, "rb")


def _note(path: Path) -> Path:
    """The note about an encrypted package."""
    return path.with_name(f"{NOTE}{path.name.partition('.')[0]}.json")


def _said(data: IO[bytes], name: str, sha256: str | None = None) -> datetime | None:
    content = json.load(data, parse_int=str, parse_float=str)  # Python refuses to make a number of very many digits
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or content.get("reference") != name:
        return None
    if sha256 is not None and content.get("sha256") != sha256:
        return None
    return datetime.strptime(str(content["read_at"]), _TIME).replace(tzinfo=UTC)
