"""The result of checking a pack: the checks that were made, and every problem found.

All that is said about a pack is in our own words. What is quoted from it goes through ``quoted`` or ``shown`` first: a
pack that was tampered with may hold anything, and anyone who reads the result has a terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from privacy_toolkit.core.model import ExitCode

#: How much of a foreign text is shown.
LONGEST_QUOTE: Final = 80
#: How many problems of one code are listed for one file; the others are counted.
LISTED_PER_FILE: Final = 20
#: How many problems are listed one by one in all; the others are counted.
LISTED: Final = 1_000


class Code(StrEnum):
    """Every kind of problem there is: a closed list, so that programs can act on it."""

    NOT_A_PACK = "not_a_pack"  # no folder
    UNREADABLE = "unreadable"  # the system does not let us read it
    NOT_A_REGULAR_FILE = "not_a_regular_file"  # a symbolic link, device, pipe or socket
    TOO_LARGE = "too_large"  # larger than such a thing ever is
    MISSING = "missing"
    UNLISTED = "unlisted"  # there, but not named in SHA256SUMS
    NOT_CANONICAL = "not_canonical"  # not byte for byte as the toolkit writes it
    HASH_DIFFERS = "hash_differs"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad_signature"
    SIGNER_NOT_ALLOWED = "signer_not_allowed"
    SIGNER_DIFFERS = "signer_differs"  # not who the report says
    ROOT_DIFFERS = "root_differs"
    SIZE_DIFFERS = "size_differs"
    RUN_DIFFERS = "run_differs"  # parts of different runs
    REPLAYED = "replayed"  # a pack in the place of another
    BAD_ROW = "bad_row"
    ROW_ORDER = "row_order"
    PARQUET_DIFFERS = "parquet_differs"
    EXCEPTIONS_DIFFER = "exceptions_differ"
    REJECTED_DIFFER = "rejected_differ"
    BAD_REPORT = "bad_report"
    BAD_PLAN = "bad_plan"
    NOT_DERIVED = "not_derived"  # the report says other than the rows or the plan give
    SUMS_DIFFER = "sums_differ"
    TEXT_DIFFERS = "text_differs"  # report.html or VERIFY.txt is not what the pack's own figures give
    PAGE_NOT_COMPARED = "page_not_compared"  # report.html could not be made again, and nobody said that it need not
    SCHEMA_DIFFERS = "schema_differs"
    BAD_APPROVAL = "bad_approval"
    NOT_APPROVED = "not_approved"  # an approval was asked for
    NOT_INDEPENDENT = "not_independent"  # approved by a person who planned, carried out or signed
    NOT_IN_CHAIN = "not_in_chain"
    CHAIN_GAP = "chain_gap"
    CHAIN_FORK = "chain_fork"
    CHAIN_BROKEN = "chain_broken"  # a link that does not name the one before it
    CHAIN_ORIGIN = "chain_origin"  # a link of another chain


class Unusable(Exception):  # noqa: N818 - it never leaves this package and is no error of a caller
    """A part of the pack can't be used, and that was noted as a problem: the check that needs it ends here."""


class Result(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be. ``file`` is relative to the pack, "" for the pack as a whole."""

    code: Code
    file: str
    message: str


@dataclass(slots=True)
class Check:
    """One check. ``words`` is said whatever the result: it tells what was looked at, not what was found."""

    name: str
    words: str = ""
    result: Result = Result.PASSED

    def skip(self, words: str) -> None:
        """Say that this was not checked, and why."""
        self.words, self.result = words, Result.SKIPPED


@dataclass(slots=True)
class Findings:
    """What is gathered while a pack is checked. Problems are only ever added."""

    checks: list[Check] = field(default_factory=list)
    _listed: list[Problem] = field(default_factory=list)
    _told: set[Problem] = field(default_factory=set)
    _seen: Counter[tuple[Code, str]] = field(default_factory=Counter)
    found: int = 0

    def add(self, code: Code, file: str, message: str) -> None:
        """Note a problem; of many of one kind in one file the later ones are only counted."""
        self.found += 1
        key = code, shown(file)
        if Problem(*key, message) in self._told:  # two checks came upon the same thing
            return
        if key not in self._seen and len(self._seen) >= LISTED:
            key = code, ""
        self._seen[key] += 1
        if self._seen[key] <= LISTED_PER_FILE and len(self._listed) < LISTED:
            self._listed.append(Problem(*key, message))
            self._told.add(self._listed[-1])

    def problems(self) -> list[Problem]:
        """Every problem in the order of its finding; of each kind a last one counts those that are not listed."""
        listed = Counter((problem.code, problem.file) for problem in self._listed)
        more = [
            Problem(code, file, f"And {number - listed[code, file]:,} more of this kind.")
            for (code, file), number in self._seen.items()
            if number > listed[code, file]
        ]
        return self._listed + more

    @contextmanager
    def check(self, name: str, words: str = "") -> Iterator[Check]:
        """A check; what is noted as a problem inside makes it fail, and ``Unusable`` ends it."""
        check, before = Check(name, words), self.found
        self.checks.append(check)
        try:
            yield check
        except Unusable:
            check.result = Result.FAILED
        if self.found > before:
            check.result = Result.FAILED


@dataclass(frozen=True, slots=True)
class SignerFound:
    """The key that signed. ``allowed`` is None where no allowed signers were given: then nobody vouches for it."""

    fingerprint: str
    principals: tuple[str, ...] = ()
    allowed: bool | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """The result for one pack. ``sequence`` is its place in the chain, ``previous`` the hash of the pack before it.

    ``word_alone``: what nothing but the operator's word stands for. ``dropped``: files that a system left there.
    """

    run_id: str | None
    signed: bool
    signer: SignerFound | None
    sequence: int | None
    previous: str | None
    checks: tuple[Check, ...]
    problems: tuple[Problem, ...]
    word_alone: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether nothing at all was found."""
        return not self.problems

    @property
    def exit_code(self) -> ExitCode:
        """What the process tells its caller."""
        return ExitCode.SETTLED if self.valid else ExitCode.VERIFICATION_FAILED


def quoted(text: str) -> str:
    """Foreign text in quotes, cut, every character escaped that is not plain ASCII."""
    plain = ascii(text[:LONGEST_QUOTE])
    return plain if len(text) <= LONGEST_QUOTE else f"{plain}…"


def shown(name: str) -> str:
    """A foreign name as it is if it is plain, else quoted."""
    plain = name.isascii() and name.isprintable() and " " not in name and len(name) <= LONGEST_QUOTE
    return name if plain else quoted(name)
