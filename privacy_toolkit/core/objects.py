"""Object storage (S3, Google, Azure): objects that are put once and never overwritten, compared, listed and removed.

Credentials come from where the storage's own tools look for them: environment variables, files named there, and the
identity of the machine. They are never in an address. What the storage says in its own words may hold a name or a key,
so an error says in ours what kind it is.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import visible

SCHEMES: Final = frozenset({"s3", "gs", "az"})
#: Whatever takes longer than that is tried again, three times.
_NETWORK: Final = {"connect_timeout": "10 seconds", "timeout": "120 seconds"}
_RETRIES: Final = 3
#: Bytes from which on a file is sent in parts: then it can't be said that nothing may be there already.
_IN_PARTS: Final = 1 << 26
#: The object by whose time it is told what time the storage has.
CLOCK: Final = ".privacy-toolkit-clock"


def is_object_address(place: str | None) -> bool:
    """Tell whether a place is in object storage, and not on a disk."""
    scheme, separator, _ = (place or "").partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


@dataclass(frozen=True, slots=True)
class StoredObject:
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
    if parts.scheme.lower() not in SCHEMES or not parts.netloc or {"@", ":"} & set(parts.netloc):
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
