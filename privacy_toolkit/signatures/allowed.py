"""Who may sign: a list of allowed signers (ssh-keygen(1), ALLOWED SIGNERS)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from privacy_toolkit.errors import UsageError
from privacy_toolkit.files import NotRegularError, read_regular
from privacy_toolkit.signatures.keys import KINDS, PublicKey
from privacy_toolkit.signatures.options import Options, parse_options
from privacy_toolkit.signatures.patterns import matches_list
from privacy_toolkit.signatures.wire import MalformedError

_BLANKS: Final = " \t"
_PRINCIPALS: Final = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<plain>[^ \t"]++))[ \t]+')
#: Blanks belong to the options only where they stand between double quotes.
_OPTIONS: Final = re.compile(r'(?P<options>(?:"(?:\\"|[^"])*+"|[^ \t"])++)[ \t]+')
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: a key, whom it belongs to (a pattern list), and what it is accepted for."""

    principals: str
    options: Options
    key: PublicKey

    @property
    def names(self) -> list[str]:
        """The principals as they stand in the line, without those that it refuses."""
        names = [name for name in self.principals.split(",") if name and not name.startswith("!")]
        return [name for name in names if "*" in name or "?" in name or matches_list(name, self.principals)]


class AllowedSigners:
    """Keys, whom they belong to, for what and when they are accepted."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = tuple(entries)

    @classmethod
    def read(cls, path: Path) -> AllowedSigners:
        """Read a list of allowed signers.

        Where ssh-keygen passes over a line that it can't read, this refuses the file: a list that is not understood
        as a whole proves nothing.

        Raises:
            UsageError: it can't be read, or has a line that is malformed; the message names the line.
        """
        try:
            content = read_regular(path)
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

    def _matching(self, key: PublicKey, namespace: str, at: datetime) -> Iterator[Entry]:
        return (entry for entry in self._entries if entry.key == key and entry.options.accept(namespace, at))


def _parse_line(line: bytes) -> Entry | None:
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
    return Entry(
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
