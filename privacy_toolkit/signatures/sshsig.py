"""SSHSIG, the signature format of ``ssh-keygen -Y`` (OpenSSH, PROTOCOL.sshsig), with Ed25519 keys alone.

A signature covers the name of its use, the name of a hash and the hash of the message, never over the message
itself, so that a key used for SSH logins can't be tricked into signing a pack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from privacy_toolkit.core.errors import ExitCode, ToolkitError
from privacy_toolkit.signatures import keys as wire
from privacy_toolkit.signatures.keys import ACCEPTED, APPROVAL_NAMESPACE, ED25519_SK, PACK_NAMESPACE, PublicKey

__all__ = ["APPROVAL_NAMESPACE", "PACK_NAMESPACE", "BadSignature", "enclose", "verify"]

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


@dataclass(frozen=True, slots=True)
class _Envelope:
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
    signature = wire.string(key.kind.encode()) + wire.string(sign(_signed(message, namespace, _SIGNING_HASH)))
    fields = (key.blob, namespace.encode(), _RESERVED, _SIGNING_HASH.encode(), signature)
    return wire.armor(_MAGIC + wire.uint32(_VERSION) + b"".join(map(wire.string, fields)))


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
    return _MAGIC + b"".join(map(wire.string, (namespace.encode(), _RESERVED, hash_name.encode(), digest)))


def _read(armored: bytes) -> _Envelope:
    try:
        reader = wire.Reader(wire.unarmor(armored))
        reader.expect(_MAGIC + wire.uint32(_VERSION))
        key, namespace = reader.string(), reader.string()
        reader.expect(wire.string(_RESERVED))  # what would be there is not signed, so nothing may
        hash_name, signature = reader.string(), reader.string()
        reader.end()
    except wire.MalformedError:
        raise BadSignature(
            "This is not a signature as ssh-keygen writes it, or it was changed.",
            "It begins with -----BEGIN SSH SIGNATURE----- and is compared byte for byte.",
        ) from None
    return _Envelope(key, namespace, hash_name, signature)


def _accepted_key(blob: bytes) -> PublicKey:
    try:
        key = PublicKey.from_blob(blob)
    except wire.MalformedError:
        raise BadSignature("The signature holds a key that can't be read, or of an unknown kind.") from None
    if key.kind not in ACCEPTED:
        raise BadSignature(
            "The signature was made with a kind of key that is not accepted, such as RSA or ECDSA.",
            "Ed25519 keys are accepted, in a file or in a hardware token.",
        )
    return key


def _holds(key: PublicKey, signature: bytes, signed: bytes) -> bool:
    """Whether this is the key's signature of these bytes."""
    encoded, reader = wire.Reader(key.blob), wire.Reader(signature)
    try:
        if encoded.string() != reader.string():
            return False
        point, raw = encoded.string(), reader.string()
        if key.kind == ED25519_SK:
            signed = _token_signed(encoded.string(), reader, signed)
        reader.end()
    except wire.MalformedError:
        return False
    if len(raw) != _SIGNATURE_LENGTH:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(point).verify(raw, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _token_signed(application: bytes, reader: wire.Reader, signed: bytes) -> bytes:
    """What a hardware token signs (OpenSSH, PROTOCOL.u2f): hashes around its flags (1 byte) and counter (4 bytes)."""
    flags_and_counter = reader.take(5)
    return hashlib.sha256(application).digest() + flags_and_counter + hashlib.sha256(signed).digest()
