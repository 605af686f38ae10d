"""Who may sign: a list of allowed signers (ssh-keygen(1), ALLOWED SIGNERS)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from privacy_toolkit.core.durable import SETTINGS_LIMIT, NotRegularError, read_regular
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.signatures.sshsig import KINDS, MalformedError, PublicKey

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


@dataclass(frozen=True, slots=True)
class Options:
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


@dataclass(frozen=True, slots=True)
class AllowedSigner:
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
