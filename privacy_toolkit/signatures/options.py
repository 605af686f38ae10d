"""The options of a line in a list of allowed signers (ssh-keygen(1), ALLOWED SIGNERS)."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from privacy_toolkit.signatures.patterns import matches_list
from privacy_toolkit.signatures.wire import MalformedError

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
            raise MalformedError("its options can't be read; a value stands in double quotes")
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
