"""Keys and signatures in OpenSSH's format (SSHSIG), as ``ssh-keygen -Y`` makes them, with Ed25519 keys alone."""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy_toolkit.core.durable import ExposedError, NotRegularError, put_file, read_private, read_regular
from privacy_toolkit.core.model import ExitCode, ToolkitError, UsageError

# Keys in OpenSSH's formats: reading and writing them, and generating a new pair.

# What a signature is for. A signature made for one of these is worth nothing for the others.

PACK_NAMESPACE: Final = "privacy-toolkit-audit-pack@v1"
APPROVAL_NAMESPACE: Final = "privacy-toolkit-plan-approval@v1"
ORDER_NAMESPACE: Final = "privacy-toolkit-run-order@v1"


# The bytes of OpenSSH: length-prefixed strings (RFC 4251, section 5) and the armor of a signature.

_UINT32: Final = struct.Struct(">I")
_ARMOR_BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----\n"
_ARMOR_END: Final = b"-----END SSH SIGNATURE-----\n"
_COLUMNS: Final = 70
#: A signature takes about 300 bytes. Whatever is longer than this is none, and nobody has to decode it to find out.
_LONGEST_ARMOR: Final = 10_000


class MalformedError(ValueError):
    """Something is not of the expected form. It never leaves this package: callers turn it into an error for people."""


class Reader:
    """Takes fields off the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes.

        Raises:
            MalformedError: there are fewer.
        """
        end = self._at + length
        if end > len(self._data):
            raise MalformedError
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def uint32(self) -> int:
        """The next four bytes as a number, big-endian.

        Raises:
            MalformedError: there are fewer.
        """
        (value,) = _UINT32.unpack(self.take(_UINT32.size))
        return int(value)

    def string(self) -> bytes:
        """The next ``string``: four bytes of length, then as many bytes.

        Raises:
            MalformedError: there are fewer.
        """
        return self.take(self.uint32())

    def expect(self, value: bytes) -> None:
        """Take bytes that have to be these.

        Raises:
            MalformedError: they are others.
        """
        if self.take(len(value)) != value:
            raise MalformedError

    def end(self) -> None:
        """Make sure that nothing is left.

        Raises:
            MalformedError: something is.
        """
        if self._at != len(self._data):
            raise MalformedError


def uint32(value: int) -> bytes:
    """A number as four bytes, big-endian."""
    return _UINT32.pack(value)


def string(value: bytes) -> bytes:
    """A ``string``: its length in four bytes, then the bytes."""
    return uint32(len(value)) + value


def from_base64(text: bytes | str) -> bytes:
    """Decode base64 that holds no other character, not even a line break.

    Raises:
        MalformedError: it does, or its padding is wrong.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError from None


def armor(blob: bytes) -> bytes:
    """The text form of a signature, byte for byte as ``ssh-keygen -Y sign`` writes it."""
    text = base64.b64encode(blob)
    lines = [text[start : start + _COLUMNS] + b"\n" for start in range(0, len(text), _COLUMNS)]
    return _ARMOR_BEGIN + b"".join(lines) + _ARMOR_END


def unarmor(armored: bytes) -> bytes:
    """The bytes of a signature out of its text form, which has to be the one that ``armor`` makes.

    One signature has one text: otherwise blanks, line breaks or the unused bits at the end of the base64 could be
    changed without anyone noticing.

    Raises:
        MalformedError: it is not.
    """
    if len(armored) > _LONGEST_ARMOR or not (armored.startswith(_ARMOR_BEGIN) and armored.endswith(_ARMOR_END)):
        raise MalformedError
    blob = from_base64(armored[len(_ARMOR_BEGIN) : -len(_ARMOR_END)].replace(b"\n", b""))
    if armor(blob) != armored:
        raise MalformedError
    return blob


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
#: Every kind that may be in a list of allowed signers. Those that are not accepted never sign here.
KINDS: Final = frozenset(
    {
        *_PLAIN_KINDS,
        *(f"{kind}@openssh.com" for kind in _TOKEN_KINDS),
        *(f"{kind}-cert-v01@openssh.com" for kind in _PLAIN_KINDS + _TOKEN_KINDS),
    }
)
_KEY_LENGTH: Final = 32
_LONGEST_PRINCIPAL: Final = 200


class PublicKey(msgspec.Struct, frozen=True):
    """A public key: its kind by OpenSSH's name, and its bytes in OpenSSH's encoding (RFC 4253, section 6.6)."""

    kind: str
    blob: bytes

    @classmethod
    def from_blob(cls, blob: bytes) -> PublicKey:
        """Read a public key from its encoding.

        Raises:
            MalformedError: it is none, or of a kind nobody knows.
        """
        reader = Reader(blob)
        name = reader.string()
        kind = next((kind for kind in KINDS if kind.encode() == name), None)
        if kind is None:
            raise MalformedError
        if kind in ACCEPTED:
            if len(reader.string()) != _KEY_LENGTH:
                raise MalformedError
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
            key = cls.from_blob(from_base64(fields[1]))
        except (IndexError, MalformedError):
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
    """Give back the name of a signer if it can be in every place where it has to.

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
    """The line for a list of allowed signers that accepts this key for packs, approvals, orders and nothing else.

    Raises:
        UsageError: the principal can't be in such a list.
    """
    uses = f"{PACK_NAMESPACE},{APPROVAL_NAMESPACE},{ORDER_NAMESPACE}"
    return f'{check_principal(principal)} namespaces="{uses}" {key.line}'


def generate(path: Path, principal: str) -> PublicKey:
    """Make a new Ed25519 key: the private half in ``path`` (0600, no passphrase), the public in ``path`` + ``.pub``.

    Nothing is ever overwritten, and if the second file can't be written, the first goes away again.

    Raises:
        UsageError: a file is there already, or can't be written; or the principal can't be used.
    """
    check_principal(principal)
    private = Ed25519PrivateKey.generate()
    key = PublicKey(ED25519, string(ED25519.encode()) + string(private.public_key().public_bytes_raw()))
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    _create(public_path(path), f"{key.line} {principal}\n".encode(), 0o644)
    try:
        _create(path, text, 0o600)
    except BaseException:
        public_path(path).unlink()
        raise
    return key


def public_path(path: Path) -> Path:
    """Where the public half of a key file is."""
    return path.with_name(path.name + ".pub")


def _create(path: Path, content: bytes, mode: int) -> None:
    try:
        with put_file(path, over=False, mode=mode) as file:
            file.write(content)
    except FileExistsError:
        raise UsageError(f"{path} is there already; a key is never overwritten.", "Name another file.") from None
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> UsageError:
    reason = os.strerror(error.errno) if error.errno else "it can't be written"
    return UsageError(f"{path} can't be written: {reason}.", "Name a file in a folder that you can write to.")


# What a signing key file is: a public key, or a private one in OpenSSH's format, with or without a passphrase.

_BEGIN: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_END: Final = b"-----END OPENSSH PRIVATE KEY-----"
_KEY_MAGIC: Final = b"openssh-key-v1\0"
_NO_CIPHER: Final = b"none"
#: No key file that can be used is longer; whatever is, was named by mistake and isn't read.
_LONGEST: Final = 65_536
_MAKE_ONE: Final = "Make a key with: privacy-toolkit keys new FILE --signer PRINCIPAL"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file that was read.

    Attributes:
        path: where it is.
        public: the public key, which is in the clear even in an encrypted file.
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
    content = _read_key(path)
    if content.startswith(_BEGIN):
        return _private_key_file(path, _read_key(path, is_private=True))
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


def _read_key(path: Path, *, is_private: bool = False) -> bytes:
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
    """Read what is in the clear in a private key file (OpenSSH, PROTOCOL.key, section 1)."""
    try:
        reader = Reader(from_base64(_between_marks(content)))
        reader.expect(_KEY_MAGIC)
        cipher, _kdf, _options = reader.string(), reader.string(), reader.string()
        reader.expect(uint32(1))  # one key a file, here and in ssh-keygen
        public = PublicKey.from_blob(reader.string())
    except MalformedError:
        raise UsageError(f"The signing key {path} is damaged, or of an unknown kind.", _MAKE_ONE) from None
    return KeyFile(path, _accepted(path, public), content if cipher == _NO_CIPHER else None)


def _between_marks(content: bytes) -> bytes:
    inner, mark, _ = content.removeprefix(_BEGIN).partition(_END)
    if not mark:
        raise MalformedError
    return b"".join(inner.split())


def _accepted(path: Path, public: PublicKey) -> PublicKey:
    if public.kind not in ACCEPTED:
        raise UsageError(
            f"The signing key {path} is of the kind {public.kind}; only Ed25519 keys are accepted.", _MAKE_ONE
        )
    return public


# SSHSIG, the signature format of ``ssh-keygen -Y`` (OpenSSH, PROTOCOL.sshsig), with Ed25519 keys alone.
#
# A signature covers the name of its use, the name of a hash and the hash of the message, never over the message
# itself, so that a key used for SSH logins can't be tricked into signing a pack.

__all__ = ["APPROVAL_NAMESPACE", "ORDER_NAMESPACE", "PACK_NAMESPACE", "BadSignature", "enclose", "verify"]

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_RESERVED: Final = b""
_SIGNING_HASH: Final = "sha512"
_HASHES: Final = frozenset({"sha256", "sha512"})
_SIGNATURE_LENGTH: Final = 64


class BadSignature(ToolkitError):  # noqa: N818 - the name says what was found
    """A signature that does not prove what it should."""

    exit_code = ExitCode.VERIFICATION_FAILED
    code = "signature"


class _Envelope(msgspec.Struct, frozen=True):
    """The fields of a signature (PROTOCOL.sshsig, section 3)."""

    key: bytes
    namespace: bytes
    hash_name: bytes
    signature: bytes


def enclose(key: PublicKey, message: bytes, namespace: str, sign: Callable[[bytes], bytes]) -> bytes:
    """Sign a message with an Ed25519 key.

    Args:
        key: the public half.
        message: what is signed.
        namespace: what the signature is for.
        sign: the private half: it gets the bytes to sign and gives their 64 bytes of signature.

    Returns:
        The armored signature, byte for byte as ``ssh-keygen -Y sign`` writes it.
    """
    signature = string(key.kind.encode()) + string(sign(_signed(message, namespace, _SIGNING_HASH)))
    fields = (key.blob, namespace.encode(), _RESERVED, _SIGNING_HASH.encode(), signature)
    return armor(_MAGIC + uint32(_VERSION) + b"".join(map(string, fields)))


def verify(armored: bytes, message: bytes, namespace: str) -> PublicKey:
    """Verify a signature and say whose it is. Whether that key may sign is another question: see ``allowed``.

    Stricter than ``ssh-keygen -Y verify``: one signature has exactly one text, every byte of which counts.

    Args:
        armored: the signature, as ``ssh-keygen -Y sign`` writes it.
        message: what should have been signed.
        namespace: what the signature should be for.

    Returns:
        The public key whose private half signed this message for this use.

    Raises:
        BadSignature: it was not signed so, or by a kind of key that is not accepted.
    """
    envelope = _read(armored)
    key = _accepted_key(envelope.key)
    if envelope.namespace != namespace.encode():
        raise BadSignature("The signature was made for another use.", f"It has to be made for {namespace}.")
    hash_name = next((name for name in _HASHES if name.encode() == envelope.hash_name), None)
    if hash_name is None:
        raise BadSignature("The signature uses a hash that is not accepted.", "SHA-512 and SHA-256 are.")
    if not _holds(key, envelope.signature, _signed(message, namespace, hash_name)):
        raise BadSignature(
            "The signature does not belong to this content: one of them was changed, or they were mixed up.",
            "Ask the signer for both, by a way you trust.",
        )
    return key


def _signed(message: bytes, namespace: str, hash_name: str) -> bytes:
    """What is really signed (PROTOCOL.sshsig, section 2)."""
    digest = hashlib.new(hash_name, message).digest()
    return _MAGIC + b"".join(map(string, (namespace.encode(), _RESERVED, hash_name.encode(), digest)))


def _read(armored: bytes) -> _Envelope:
    try:
        reader = Reader(unarmor(armored))
        reader.expect(_MAGIC + uint32(_VERSION))
        key, namespace = reader.string(), reader.string()
        reader.expect(string(_RESERVED))  # what would be there is not signed, so nothing may
        hash_name, signature = reader.string(), reader.string()
        reader.end()
    except MalformedError:
        raise BadSignature(
            "This is not a signature as ssh-keygen writes it, or it was changed.",
            "It begins with -----BEGIN SSH SIGNATURE----- and is compared byte for byte.",
        ) from None
    return _Envelope(key, namespace, hash_name, signature)


def _accepted_key(blob: bytes) -> PublicKey:
    try:
        key = PublicKey.from_blob(blob)
    except MalformedError:
        raise BadSignature("The signature holds a key that can't be read, or of an unknown kind.") from None
    if key.kind not in ACCEPTED:
        raise BadSignature(
            "The signature was made with a kind of key that is not accepted, such as RSA or ECDSA.",
            "Ed25519 keys are accepted, in a file or in a hardware token.",
        )
    return key


def _holds(key: PublicKey, signature: bytes, signed: bytes) -> bool:
    """Whether this is the key's signature of these bytes."""
    encoded, reader = Reader(key.blob), Reader(signature)
    try:
        if encoded.string() != reader.string():
            return False
        point, raw = encoded.string(), reader.string()
        if key.kind == ED25519_SK:
            signed = _token_signed(encoded.string(), reader, signed)
        reader.end()
    except MalformedError:
        return False
    if len(raw) != _SIGNATURE_LENGTH:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(point).verify(raw, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _token_signed(application: bytes, reader: Reader, signed: bytes) -> bytes:
    """What a hardware token signs (OpenSSH, PROTOCOL.u2f): hashes around its flags (1 byte) and counter (4 bytes)."""
    flags_and_counter = reader.take(5)
    return hashlib.sha256(application).digest() + flags_and_counter + hashlib.sha256(signed).digest()
