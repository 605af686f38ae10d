"""Keys that are the same in every run, and key files made by hand."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy_toolkit.signatures.sshsig import ED25519, ED25519_SK, PublicKey, string, uint32


@dataclass(frozen=True)
class Pair:
    """Both halves of a key."""

    private: Ed25519PrivateKey
    public: PublicKey

    @cached_property
    def text(self) -> bytes:
        """The private key file; made once, as there is chance in it."""
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )


class Token:
    """A hardware token, played (OpenSSH, PROTOCOL.u2f)."""

    def __init__(self, application: bytes = b"ssh:") -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
        self._application = application
        point = self._private.public_key().public_bytes_raw()
        self.public = PublicKey(ED25519_SK, string(ED25519_SK.encode()) + string(point) + string(application))

    def sign(self, data: bytes, flags: int = 1, counter: int = 42) -> bytes:
        """The blob of a signature: kind, signature, flags, counter."""
        tail = bytes([flags]) + uint32(counter)
        signed = hashlib.sha256(self._application).digest() + tail + hashlib.sha256(data).digest()
        return string(ED25519_SK.encode()) + string(self._private.sign(signed)) + tail


def made(number: int) -> Pair:
    private = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    blob = string(ED25519.encode()) + string(private.public_key().public_bytes_raw())
    return Pair(private, PublicKey(ED25519, blob))


@pytest.fixture(scope="session")
def pair() -> Pair:
    return made(1)


@pytest.fixture(scope="session")
def other() -> Pair:
    return made(2)


@pytest.fixture(scope="session")
def token() -> Token:
    return Token()


@pytest.fixture(scope="session")
def rsa() -> PublicKey:
    return PublicKey("ssh-rsa", string(b"ssh-rsa") + string(b"\x01\x00\x01") + string(b"\x00" + b"\xc3" * 256))


@pytest.fixture
def write_private(tmp_path):
    """Writes what stands in the clear in a private key file, with the rest made up."""

    def write(public: PublicKey, cipher: str = "none", name: str = "key", count: int = 1) -> Path:
        blob = (
            b"openssh-key-v1\0"
            + b"".join(map(string, (cipher.encode(), b"bcrypt", b"options")))
            + uint32(count)
            + string(public.blob)
            + string(b"\0" * 64)
        )
        text = base64.encodebytes(blob).decode()
        path = tmp_path / name
        path.write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n")
        path.chmod(0o600)
        return path

    return write


@pytest.fixture
def key_file(tmp_path, pair) -> Path:
    path = tmp_path / "signing-key"
    path.write_bytes(pair.text)
    path.chmod(0o600)
    return path
