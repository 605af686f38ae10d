"""Sealing what is at rest where others keep it: AES-256-GCM, each piece bound to the place that it is for.

A piece that was put in another place, or changed, or sealed under another key, does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy_toolkit.core.model import JournalError
from privacy_toolkit.core.privacy import SecretFile

#: Bytes of a key, and of what is drawn for each piece: 2^32 pieces under one key are safe (NIST SP 800-38D, 8.3).
_KEY: Final = 32
_NONCE: Final = 12
#: Bytes by which a sealed piece is longer.
OVERHEAD: Final = _NONCE + 16


class BrokenSealError(ValueError):
    """A piece does not open: it was changed, is of another place, or was sealed under another key."""


class RunSeal:
    """Seals and opens what belongs to one thing, such as a run, under a key that is derived for it alone.

    ``secret`` are 32 random bytes, ``use`` is what the key is for, ``name`` what it belongs to.
    """

    __slots__ = ("_cipher", "_key", "_name")

    def __init__(self, secret: bytes, use: str, name: str) -> None:
        self._name = name.encode()
        self._key = HKDF(SHA256(), _KEY, None, f"privacy-toolkit {use} 1\0{name}".encode()).derive(secret)
        self._cipher = AESGCM(self._key)

    def closed(self, data: bytes, purpose: bytes, *place: int) -> bytes:
        """RunSeal a piece for a purpose and a place, such as the numbers of a row."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, data, self._about(purpose, place))

    def opened(self, data: bytes, purpose: bytes, *place: int) -> bytes:
        """Open a piece.

        Raises:
            BrokenSealError: it was not sealed for this, or was changed.
        """
        try:
            return self._cipher.decrypt(data[:_NONCE], data[_NONCE:], self._about(purpose, place))
        except (InvalidTag, ValueError):
            raise BrokenSealError("a piece does not open") from None

    def named(self, name: bytes) -> bytes:
        """Give another name for a name, the same each time, that only who has the key can tell."""
        return hmac.digest(self._key, b"name\0" + name, hashlib.sha256)

    def _about(self, purpose: bytes, place: tuple[int, ...]) -> bytes:
        return b"%b\0%b\0%b" % (self._name, purpose, b"\0".join(b"%d" % number for number in place))

    def __repr__(self) -> str:
        return f"RunSeal({self._name.decode()})"

    def __reduce__(self) -> str:
        raise TypeError("A key is not written anywhere.")


# The secret of a run, where others keep it: sealed under the key of the state, and from it the key of all else.

_SECRET, _PLAN_KEY = b"secret", b"plan key"


def sealed_secret(
    key: SecretFile, run_id: str, secret: bytes, plan_key: bytes | None
) -> tuple[bytes, bytes | None, bytes]:
    """RunSeal secret and plan key of a run, and give what tells later whether the key over them is the same.

    Raises:
        UsageError: the state's key can't be read.
        JournalError: it is missing.
    """
    master = key.read()
    if master is None:
        raise _unsealable(f"The key {key.path} is missing, so run {run_id} can't be sealed.")
    seal = RunSeal(master, "run secrets", run_id)
    sealed_plan_key = None if plan_key is None else seal.closed(plan_key, _PLAN_KEY)
    return seal.closed(secret, _SECRET), sealed_plan_key, _check(master, run_id)


def opened_secret(
    key: SecretFile | None, run_id: str, sealed: tuple[bytes, bytes | None, bytes]
) -> tuple[bytes, bytes | None]:
    """Give secret and plan key of a run that were sealed.

    Raises:
        UsageError: the state's key can't be read.
        JournalError: none is named, it is missing, or it is another one than they were sealed under.
        BrokenSealError: they were changed.
    """
    secret, plan_key, check = sealed
    master = None if key is None else key.read()
    if key is None:
        raise _unsealable(f"Run {run_id} is sealed under a key that no setting names.")
    if master is None:
        raise _unsealable(f"The key {key.path} is missing, and run {run_id} is sealed under it.")
    if not hmac.compare_digest(check, _check(master, run_id)):
        raise _unsealable(f"The key {key.path} is not the one under which run {run_id} is sealed.")
    seal = RunSeal(master, "run secrets", run_id)
    return seal.opened(secret, _SECRET), None if plan_key is None else seal.opened(plan_key, _PLAN_KEY)


def _unsealable(message: str) -> JournalError:
    return JournalError(
        f"{message} Nothing is lost.",
        "Name the right one: [state] key = { file = … } in the configuration, and put the file where it was.",
        code="state_key",
    )


def _check(master: bytes, run_id: str) -> bytes:
    return hmac.digest(master, f"check:run:{run_id}".encode(), hashlib.sha256)
