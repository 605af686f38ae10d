"""Keys at work: who may sign, by a list of allowed signers (ssh-keygen(1)), signing, and sealing what is at rest.

A signature is made with a key in this process, or through ``ssh-keygen`` with ssh-agent or a hardware token.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from privacy_toolkit.core.durable import SETTINGS_LIMIT, NotRegularError, read_regular
from privacy_toolkit.core.model import JournalError, UsageError
from privacy_toolkit.core.privacy import SecretFile
from privacy_toolkit.signatures import sshsig
from privacy_toolkit.signatures.sshsig import ED25519_SK, KINDS, KeyFile, MalformedError, PublicKey, read_key_file

# Pattern lists as in OpenSSH (ssh_config(5), PATTERNS): ``*`` any run, ``?`` one character, ``!`` refuses.


def matches_list(text: str, patterns: str) -> bool:
    """Whether a text matches one pattern of a comma-separated list, and none that refuses it."""
    found = False
    for pattern in patterns.split(","):
        refuses = pattern.startswith("!")
        if matches(text, pattern[1:] if refuses else pattern):
            if refuses:
                return False
            found = True
    return found


def matches(text: str, pattern: str) -> bool:
    """Whether a text matches a pattern as a whole, upper and lower case told apart.

    After a failure only the last ``*`` takes one character more, so the work is bounded by the product of both lengths
    whatever the pattern. As in OpenSSH a character is a byte.
    """
    characters, wanted = text.encode(), pattern.encode()
    at = position = 0
    star, resume = -1, 0
    while at < len(characters):
        kind = wanted[position : position + 1]
        if kind == b"*":
            star, resume = position, at
            position += 1
        elif kind in (b"?", characters[at : at + 1]):
            at += 1
            position += 1
        elif star >= 0:
            resume += 1
            at, position = resume, star + 1
        else:
            return False
    return not wanted[position:].strip(b"*")


# The options of a line in a list of allowed signers (ssh-keygen(1), ALLOWED SIGNERS).

#: One option: a flag, or a name with a value in double quotes, in which only a quote can be escaped.
_OPTION: Final = re.compile(r'(?P<name>[A-Za-z-]++)(?:="(?P<value>(?:\\"|[^"])*+)")?+(?P<end>,|\Z)')
_TIME: Final = re.compile(r"(?P<digits>[0-9]{8}|[0-9]{12}|[0-9]{14})(?P<utc>[Zz]?)")
_TIME_FORMATS: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


class Options(msgspec.Struct, frozen=True):
    """For what a key is accepted, and when.

    Attributes:
        cert_authority: the key signs certificates, not content: it accepts no signature of its own.
        namespaces: a pattern list of uses; without one the key is accepted for every use.
        valid_after: the first second, in seconds since 1970, at which the key is valid.
        valid_before: the last second at which it is.
    """

    cert_authority: bool = False
    namespaces: str | None = None
    valid_after: float | None = None
    valid_before: float | None = None

    def accept(self, namespace: str, at: datetime) -> bool:
        """Whether a key with these options is accepted for a use at a time. Both ends of its validity belong to it."""
        second = at.timestamp() // 1  # a second belongs to the validity as a whole, as for ssh-keygen
        return not (
            self.cert_authority
            or (self.namespaces is not None and not matches_list(namespace, self.namespaces))
            or (self.valid_after is not None and second < self.valid_after)
            or (self.valid_before is not None and second > self.valid_before)
        )


def parse_options(text: str) -> Options:
    """Read the options of a line.

    Raises:
        MalformedError: they can't be read; its text says why.
    """
    values = dict(_split(text))
    after, before = (_time(values[name]) if name in values else None for name in ("valid-after", "valid-before"))
    if after is not None and before is not None and before <= after:
        raise MalformedError("valid-before is not later than valid-after")
    return Options("cert-authority" in values, values.get("namespaces"), after, before)


def _split(text: str) -> list[tuple[str, str]]:
    """Names, in lower case, and values; a flag has none."""
    found: list[tuple[str, str]] = []
    at, end = 0, ","
    while end:  # a comma promises another option
        match = _OPTION.match(text, at)
        if match is None:
            raise MalformedError("its options can't be read; a value belongs in double quotes")
        name, value = match["name"].lower(), match["value"]
        if name not in {"cert-authority", "namespaces", "valid-after", "valid-before"}:
            raise MalformedError("it has an option that is not known")
        if (value is None) != (name == "cert-authority"):
            raise MalformedError(f"the option {name} has no value, or one too many")
        if name in dict(found):
            raise MalformedError(f"it has the option {name} twice")
        found.append((name, (value or "").replace('\\"', '"')))
        at, end = match.end(), match["end"]
    return found


def _time(text: str) -> float:
    """A time as seconds since 1970: in UTC with a Z at its end, else in the zone of this machine."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise MalformedError("a time is not written as YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z]")
    digits = match["digits"]
    try:
        moment = datetime.strptime(digits, _TIME_FORMATS[len(digits)]).replace(tzinfo=UTC)
        # The C library knows the zone and its summer time; -1 has it find out which of the two applies.
        return moment.timestamp() if match["utc"] else time.mktime((*moment.timetuple()[:8], -1))
    except (ValueError, OverflowError):
        raise MalformedError("a time names a day or an hour that does not exist") from None


_BLANKS: Final = " \t"
_PRINCIPALS: Final = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<plain>[^ \t"]++))[ \t]+')
#: Blanks belong to the options only where they are between double quotes.
_OPTIONS: Final = re.compile(r'(?P<options>(?:"(?:\\"|[^"])*+"|[^ \t"])++)[ \t]+')
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class AllowedSigner(msgspec.Struct, frozen=True):
    """One line: a key, whom it belongs to (a pattern list), and what it is accepted for."""

    principals: str
    options: Options
    key: PublicKey

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key."""
        return self.key.fingerprint

    @property
    def all_names(self) -> frozenset[str]:
        """Every name or pattern of the line but those that it refuses, in one case."""
        return frozenset(name.casefold() for name in self.principals.split(",") if name and not name.startswith("!"))

    @property
    def names(self) -> list[str]:
        """The principals as they are in the line, without those that it refuses."""
        names = [name for name in self.principals.split(",") if name and not name.startswith("!")]
        return [name for name in names if "*" in name or "?" in name or matches_list(name, self.principals)]


class AllowedSigners:
    """Keys, whom they belong to, for what and when they are accepted."""

    def __init__(self, entries: Sequence[AllowedSigner]) -> None:
        self._entries = tuple(entries)

    @classmethod
    def read(cls, path: Path) -> AllowedSigners:
        """Read a list of allowed signers.

        Where ssh-keygen skips a line that it can't read, this refuses the file: a list that is not understood
        as a whole proves nothing.

        Raises:
            UsageError: it can't be read, or has a line that is malformed; the message names the line.
        """
        try:
            content = read_regular(path, SETTINGS_LIMIT)
        except FileNotFoundError:
            raise UsageError(f"There is no list of allowed signers {path}.") from None
        except OSError as error:
            is_system = error.errno and not isinstance(error, NotRegularError)
            reason = os.strerror(error.errno or 0) if is_system else "it is no file"
            raise UsageError(f"The list of allowed signers {path} can't be read: {reason}.") from None
        entries = []
        for number, line in enumerate(content.split(b"\n"), start=1):
            try:
                entry = _parse_line(line)
            except MalformedError as error:
                raise UsageError(
                    f"Line {number} of the list of allowed signers {path} is malformed: {error}.",
                    'A line reads: dpo@example.org namespaces="…" ssh-ed25519 AAAA…',
                ) from None
            if entry is not None:
                entries.append(entry)
        return cls(entries)

    def principals(self, key: PublicKey, namespace: str, at: datetime) -> list[str]:
        """Whom a key belongs to, as the list has it, where a name may be a pattern such as ``*@example.org``.

        Args:
            key: the key that made a signature.
            namespace: what the signature is for.
            at: when it has to have been valid; with a time zone.

        Returns:
            The principals in the order of the list, each once; none if the key is not accepted for this, or not then.
        """
        return list(dict.fromkeys(name for entry in self._matching(key, namespace, at) for name in entry.names))

    def allows(self, principal: str, key: PublicKey, namespace: str, at: datetime) -> bool:
        """Whether a key is accepted as this principal's, as ``ssh-keygen -Y verify -I`` decides it."""
        return any(matches_list(principal, entry.principals) for entry in self._matching(key, namespace, at))

    def names_of(self, fingerprint: str) -> list[str]:
        """Under which names a key is listed, for whatever use and whenever; none if it is not."""
        return list(
            dict.fromkeys(n for entry in self._entries if entry.fingerprint == fingerprint for n in entry.names)
        )

    def same_person(self, fingerprint: str) -> frozenset[str]:
        """The fingerprints of all keys that may be in the same hands as this one, itself among them.

        They are: all keys under one of its names, all keys under one of theirs, and so on; a pattern stands for every
        name it matches, and upper and lower case are not told apart. Uses and times of validity play no part: a key
        that has lapsed still tells whose the others are.
        """
        found = {fingerprint}
        names: set[str] = set()
        while True:
            names |= {name for entry in self._entries if entry.fingerprint in found for name in entry.all_names}
            more = {entry.fingerprint for entry in self._entries if _may_meet(entry.all_names, names)}
            if more <= found:
                return frozenset(found)
            found |= more

    def _matching(self, key: PublicKey, namespace: str, at: datetime) -> Iterator[AllowedSigner]:
        return (entry for entry in self._entries if entry.key == key and entry.options.accept(namespace, at))


def _may_meet(some: Collection[str], others: Collection[str]) -> bool:
    """Whether names, or patterns, of both may stand for the same person; of two patterns that is never ruled out."""
    if not set(some).isdisjoint(others):
        return True
    wild, others_wild = ([name for name in names if "*" in name or "?" in name] for names in (some, others))
    if wild and others_wild:
        return True
    return any(matches(name, pattern) for pattern in wild for name in others) or any(
        matches(name, pattern) for pattern in others_wild for name in some
    )


def _parse_line(line: bytes) -> AllowedSigner | None:
    """One line; none if it is empty or a comment."""
    try:
        text = line.removesuffix(b"\r").decode().strip(_BLANKS)
    except UnicodeDecodeError:
        raise MalformedError("it is not UTF-8") from None
    if not text or text.startswith("#"):
        return None
    if _CONTROL.search(text) or text.startswith("\ufeff"):
        raise MalformedError("it has a control character or a byte order mark")
    principals = _PRINCIPALS.match(text)
    if principals is None:
        raise MalformedError("it does not begin with the principals, a blank after them")
    rest = text[principals.end() :]
    options = None
    if _first(rest) not in KINDS:
        options = _OPTIONS.match(rest)
        if options is None:
            raise MalformedError("it has no key")
        rest = rest[options.end() :]
    return AllowedSigner(
        principals["quoted"] or principals["plain"],
        parse_options(options["options"]) if options else Options(),
        _key(rest),
    )


def _key(text: str) -> PublicKey:
    try:
        return PublicKey.parse(text)
    except UsageError:
        raise MalformedError("its key can't be read, or is of an unknown kind") from None


def _first(text: str) -> str:
    return re.split(r"[ \t]", text, maxsplit=1)[0]


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


# Sealing where others keep what is at rest: AES-256-GCM, each piece bound to the place that it is for. One that was put
# in another place, or changed, or sealed under another key, does not open.

#: Bytes of a key, and of what is drawn for each piece: 2^32 pieces under one key are safe (NIST SP 800-38D, 8.3).
_KEY: Final = 32
_NONCE: Final = 12


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
