"""Signing: with a key in this process, or through ``ssh-keygen`` with ssh-agent or a hardware token."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.signatures import sshsig
from privacy_toolkit.signatures.sshsig import ED25519_SK, KeyFile, PublicKey, read_key_file

#: Seconds to wait for a signature: a person may have to touch a token, or to allow the use of the key.
PATIENCE: Final = 120.0


class DocumentSigner(Protocol):
    """Something that signs."""

    @property
    def public(self) -> PublicKey:
        """The public half of the key it signs with."""

    def sign(self, message: bytes, namespace: str) -> bytes:
        """Sign a message for one use.

        Returns:
            The armored signature, byte for byte as ``ssh-keygen -Y sign`` writes it.

        Raises:
            UsageError: nothing could be signed.
        """


class KeySigner:
    """Signs in this process, with a private key that it never shows."""

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey, public: PublicKey) -> None:
        self._private = private
        self.public = public

    def sign(self, message: bytes, namespace: str) -> bytes:
        """Sign a message for one use; see ``DocumentSigner``."""
        return sshsig.enclose(self.public, message, namespace, self._private.sign)

    def __repr__(self) -> str:
        return f"KeySigner({self.public.fingerprint})"

    def __reduce__(self) -> str:
        raise TypeError("A signing key is not written anywhere.")


class KeygenSigner:
    """Has ``ssh-keygen`` sign, so that the private key never enters this process."""

    __slots__ = ("_in_token", "_path", "_patience", "public")

    def __init__(self, path: Path, public: PublicKey, *, in_token: bool, patience: float = PATIENCE) -> None:
        """Keep what is needed; nothing is called yet.

        Args:
            path: the key file, which names the key.
            public: the public half.
            in_token: whether the file leads to a hardware token. If not, the key has to be in ssh-agent.
            patience: seconds to wait for a signature.
        """
        self._path = path
        self.public = public
        self._in_token = in_token
        self._patience = patience

    def sign(self, message: bytes, namespace: str) -> bytes:
        """Sign a message for one use; see ``DocumentSigner``.

        Raises:
            UsageError: ssh-keygen is missing, did not answer in time, or could not sign.
        """
        armored = self._call(message, namespace)
        try:
            signed_by = sshsig.verify(armored, message, namespace)
        except sshsig.BadSignature:
            raise self._failed("ssh-keygen gave something that is not a signature of this content.") from None
        if signed_by != self.public:
            raise self._failed("ssh-keygen signed with another key than the file names.")
        return armored

    def _call(self, message: bytes, namespace: str) -> bytes:
        program = shutil.which("ssh-keygen")
        if program is None:
            raise UsageError(
                "The program ssh-keygen is missing; this signing key can't be used without it.",
                "Install OpenSSH (the package openssh-client), or use a key file without a passphrase.",
                code="signing",
            )
        where = [] if self._in_token else ["-U"]  # -U: with ssh-agent or not at all
        command = [program, "-Y", "sign", *where, "-n", namespace, "-f", str(self._path.absolute())]
        try:
            done = subprocess.run(  # noqa: S603 - a fixed command; its arguments are a path and a constant
                command,
                input=message,
                stdout=subprocess.PIPE,
                # With a token a person has to read that it waits for a touch; otherwise a failure is told in our own
                # words.
                stderr=None if self._in_token else subprocess.DEVNULL,
                env=_environment(self._in_token),
                start_new_session=not self._in_token,
                timeout=self._patience,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise self._failed(f"ssh-keygen gave no signature within {self._patience:g} seconds.") from None
        except OSError:
            raise self._failed("ssh-keygen can't be started.") from None
        if done.returncode != 0:
            raise self._failed("ssh-keygen could not sign with this key.")
        return done.stdout

    def _failed(self, message: str) -> UsageError:
        if self._in_token:
            hint = "Is the token plugged in, and was it touched when it asked? The output of ssh-keygen is above."
        elif "SSH_AUTH_SOCK" not in os.environ:
            hint = f'There is no ssh-agent here. Start one and add the key: eval "$(ssh-agent)"; {self._add}'
        else:
            hint = f"The key has to be in ssh-agent: {self._add}"
        return UsageError(message, hint, code="signing")

    @property
    def _add(self) -> str:
        private = self._path.with_suffix("") if self._path.suffix == ".pub" else self._path
        return f"ssh-add {shlex.quote(str(private))}"

    def __repr__(self) -> str:
        return f"KeygenSigner({self.public.fingerprint})"


def load_signer(path: Path) -> DocumentSigner:
    """Load the signing key that a file holds or names.

    An OpenSSH Ed25519 key without a passphrase signs in this process. For a ``.pub`` file or a key with a passphrase,
    ssh-agent has to hold the key; a file of a hardware token leads to that token. Nothing is signed yet, so that
    whether agent or token are there shows with the first signature.

    Raises:
        UsageError: the file is missing, no key, a kind that is not accepted, damaged, or readable by others.
    """
    file = read_key_file(path)
    if file.content is None or file.public.kind == ED25519_SK:
        return KeygenSigner(path, file.public, in_token=file.content is not None)
    return KeySigner(_private_key(file, file.content), file.public)


def _private_key(file: KeyFile, content: bytes) -> Ed25519PrivateKey:
    private = None
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):  # whose text may quote the file
        private = load_ssh_private_key(content, None)
    if isinstance(private, Ed25519PrivateKey) and file.public.blob.endswith(private.public_key().public_bytes_raw()):
        return private
    raise UsageError(f"The signing key {file.path} is damaged.", "Take it from where you keep a copy.")


def _environment(in_token: bool) -> dict[str, str]:
    """Our environment, made so that ssh-keygen never takes the message on its input for a passphrase or a PIN."""
    environment = dict(os.environ)
    if in_token and _has_terminal():
        environment["SSH_ASKPASS_REQUIRE"] = "never"  # asks at the terminal
    else:
        environment["SSH_ASKPASS_REQUIRE"] = "force"
        if not in_token or "SSH_ASKPASS" not in environment:
            environment["SSH_ASKPASS"] = os.devnull  # asks nobody, and fails
    return environment


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True
