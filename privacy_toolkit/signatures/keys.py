"""Public keys, and making a new pair of keys."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy_toolkit.errors import UsageError
from privacy_toolkit.signatures import wire
from privacy_toolkit.signatures.namespaces import APPROVAL_NAMESPACE, PACK_NAMESPACE

ED25519: Final = "ssh-ed25519"
ED25519_SK: Final = "sk-ssh-ed25519@openssh.com"
#: The kinds of key that may sign. Both are Ed25519; the second lives in a hardware token.
ACCEPTED: Final = frozenset({ED25519, ED25519_SK})
_PLAIN_KINDS: Final = (
    ED25519,
    "ssh-rsa",
    "ssh-dss",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
)
_TOKEN_KINDS: Final = ("sk-ssh-ed25519", "sk-ecdsa-sha2-nistp256")
#: Every kind that may stand in a list of allowed signers. Those that are not accepted never sign here.
KINDS: Final = frozenset(
    {
        *_PLAIN_KINDS,
        *(f"{kind}@openssh.com" for kind in _TOKEN_KINDS),
        *(f"{kind}-cert-v01@openssh.com" for kind in _PLAIN_KINDS + _TOKEN_KINDS),
    }
)
_KEY_LENGTH: Final = 32
_LONGEST_PRINCIPAL: Final = 200


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key: its kind by OpenSSH's name, and its bytes in OpenSSH's encoding (RFC 4253, section 6.6)."""

    kind: str
    blob: bytes

    @classmethod
    def from_blob(cls, blob: bytes) -> PublicKey:
        """Read a public key from its encoding.

        Raises:
            MalformedError: it is none, or of a kind nobody knows.
        """
        reader = wire.Reader(blob)
        name = reader.string()
        kind = next((kind for kind in KINDS if kind.encode() == name), None)
        if kind is None:
            raise wire.MalformedError
        if kind in ACCEPTED:
            if len(reader.string()) != _KEY_LENGTH:
                raise wire.MalformedError
            if kind == ED25519_SK:
                reader.string()  # the application that the token was told to make the key for
            reader.end()
        return cls(kind, blob)

    @classmethod
    def parse(cls, line: str) -> PublicKey:
        """Read a public key from a line: its kind, its base64, and perhaps a comment.

        Raises:
            UsageError: the line is no public key.
        """
        fields = line.split(None, 2)
        try:
            key = cls.from_blob(wire.from_base64(fields[1]))
        except (IndexError, wire.MalformedError):
            key = None
        if key is None or key.kind != fields[0]:
            raise UsageError("This is not a public key as OpenSSH writes it.", "It begins like: ssh-ed25519 AAAA")
        return key

    @property
    def fingerprint(self) -> str:
        """What people compare: ``SHA256:`` and the digest, as ``ssh-keygen -l`` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """Kind and base64, as in a ``.pub`` file, without a comment."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"

    def __repr__(self) -> str:
        return f"PublicKey({self.kind} {self.fingerprint})"


def check_principal(principal: str) -> str:
    """Give back the name of a signer if it can stand in every place where it has to.

    These places are a list of allowed signers, where blanks, quotes, commas and wildcards mean something, and a command
    that an auditor copies into a shell.

    Raises:
        UsageError: it can't.
    """
    plain = all(character.isalnum() or character in "._+@=:/-" for character in principal)
    begins_well = principal[:1].isalnum() or principal[:1] == "_"
    if not (plain and begins_well and len(principal) <= _LONGEST_PRINCIPAL):
        raise UsageError(
            "The name of the signer can't be used.",
            "Letters, digits and . _ + @ = : / - are allowed, as in an e-mail address: dpo@example.org",
        )
    return principal


def allowed_signers_line(principal: str, key: PublicKey) -> str:
    """The line for a list of allowed signers that accepts this key for packs and plan approvals and nothing else.

    Raises:
        UsageError: the principal can't stand in such a list.
    """
    return f'{check_principal(principal)} namespaces="{PACK_NAMESPACE},{APPROVAL_NAMESPACE}" {key.line}'


def generate(path: Path, principal: str) -> PublicKey:
    """Make a new Ed25519 key: the private half in ``path`` (0600, no passphrase), the public in ``path`` + ``.pub``.

    Nothing is ever overwritten, and if the second file can't be written, the first goes away again.

    Raises:
        UsageError: a file is there already, or can't be written; or the principal can't be used.
    """
    check_principal(principal)
    private = Ed25519PrivateKey.generate()
    key = PublicKey(ED25519, wire.string(ED25519.encode()) + wire.string(private.public_key().public_bytes_raw()))
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    with _created(public_path(path), f"{key.line} {principal}\n".encode(), 0o644), _created(path, text, 0o600):
        _sync_folder(path.parent)
    return key


def public_path(path: Path) -> Path:
    """Where the public half of a key file lies."""
    return path.with_name(path.name + ".pub")


@contextmanager
def _created(path: Path, content: bytes, mode: int) -> Iterator[None]:
    """A new file, complete and on the disk; taken away again if what follows fails."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise UsageError(f"{path} is there already; a key is never overwritten.", "Name another file.") from None
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield
    except OSError as error:
        path.unlink()
        raise _unwritable(path, error) from None
    except BaseException:
        path.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> UsageError:
    reason = os.strerror(error.errno) if error.errno else "it can't be written"
    return UsageError(f"{path} can't be written: {reason}.", "Name a file in a folder that you can write to.")
