"""What a signing key file is: a public key, or a private one in OpenSSH's format, with or without a passphrase."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from privacy_toolkit.errors import UsageError
from privacy_toolkit.files import ExposedError, NotRegularError, read_private, read_regular
from privacy_toolkit.signatures import wire
from privacy_toolkit.signatures.keys import ACCEPTED, PublicKey

_BEGIN: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_END: Final = b"-----END OPENSSH PRIVATE KEY-----"
_MAGIC: Final = b"openssh-key-v1\0"
_NO_CIPHER: Final = b"none"
#: No key file that can be used is longer; whatever is, was named by mistake and isn't read.
_LONGEST: Final = 65_536
_MAKE_ONE: Final = "Make a key with: privacy-toolkit keys new FILE --signer PRINCIPAL"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file that was read.

    Attributes:
        path: where it lies.
        public: the public key, which stands in the clear even in an encrypted file.
        content: the whole file if it holds a private key without a passphrase. For a hardware token that is no secret
            by itself: a handle, worth something only together with the token.
    """

    path: Path
    public: PublicKey
    content: bytes | None = field(default=None, repr=False)


def read_key_file(path: Path) -> KeyFile:
    """Read a key file.

    Raises:
        UsageError: it is missing, no key, a kind of key that is not accepted, or private and readable by others.
    """
    content = _read(path)
    if content.startswith(_BEGIN):
        return _private_key_file(path, _read(path, is_private=True))
    if b"-----BEGIN " in content or content.startswith(b"PuTTY-User-Key-File"):
        raise UsageError(
            f"The signing key {path} is not in OpenSSH's format: PEM and PuTTY keys are not accepted.", _MAKE_ONE
        )
    try:
        (line,) = content.decode().strip().splitlines()
        public = PublicKey.parse(line)
    except (ValueError, UsageError):
        raise UsageError(
            f"{path} holds no signing key.",
            f"Name a private key of ssh-keygen, or the .pub file of a key in ssh-agent. {_MAKE_ONE}",
        ) from None
    return KeyFile(path, _accepted(path, public))


def _read(path: Path, *, is_private: bool = False) -> bytes:
    """The content of a key file; a pipe is not waited for."""
    try:
        return read_private(path, _LONGEST) if is_private else read_regular(path, _LONGEST)
    except FileNotFoundError:
        raise UsageError(f"There is no signing key {path}.", _MAKE_ONE) from None
    except (IsADirectoryError, NotRegularError):
        raise UsageError(f"The signing key {path} is not a file.", "Name the file with the key.") from None
    except ExposedError as error:
        raise UsageError(f"Others than its owner can read or change the signing key {path}.", error.hint) from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise UsageError(f"{path} holds no signing key: it is too long.", _MAKE_ONE) from None
        reason = os.strerror(error.errno) if error.errno else "it can't be read"
        raise UsageError(f"The signing key {path} can't be read: {reason}.", "Is it yours?") from None


def _private_key_file(path: Path, content: bytes) -> KeyFile:
    """Read what stands in the clear in a private key file (OpenSSH, PROTOCOL.key, section 1)."""
    try:
        reader = wire.Reader(wire.from_base64(_between_marks(content)))
        reader.expect(_MAGIC)
        cipher, _kdf, _options = reader.string(), reader.string(), reader.string()
        reader.expect(wire.uint32(1))  # one key a file, here and in ssh-keygen
        public = PublicKey.from_blob(reader.string())
    except wire.MalformedError:
        raise UsageError(f"The signing key {path} is damaged, or of an unknown kind.", _MAKE_ONE) from None
    return KeyFile(path, _accepted(path, public), content if cipher == _NO_CIPHER else None)


def _between_marks(content: bytes) -> bytes:
    inner, mark, _ = content.removeprefix(_BEGIN).partition(_END)
    if not mark:
        raise wire.MalformedError
    return b"".join(inner.split())


def _accepted(path: Path, public: PublicKey) -> PublicKey:
    if public.kind not in ACCEPTED:
        raise UsageError(
            f"The signing key {path} is of the kind {public.kind}; only Ed25519 keys are accepted.", _MAKE_ONE
        )
    return public
