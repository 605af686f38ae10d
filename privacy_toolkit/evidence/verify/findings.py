"""What every check of a pack works with: its untrusted folder, the words of its format, and every problem found.

All that is said about a pack is in our own words. What is quoted from it goes through ``quoted`` or ``shown`` first: a
pack that was tampered with may hold anything, and anyone who reads the result has a terminal.

A wording belongs to a format and to the builds that landed with it. Anyone who changes a sentence, meaning or action
adds the words of the build before to those of its format (``words_of``), or makes a new format and freezes the words of
the one before in a file next to this module.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import ExitCode, Job, Outcome, Reason, StopReason, Verdict, count
from privacy_toolkit.engine.plan import Summary
from privacy_toolkit.jobs import declaration
from privacy_toolkit.journal.records import Execution
from privacy_toolkit.reporting import words as wording
from privacy_toolkit.reporting.schema import FORMAT_BEFORE, NextStep

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


class Problem(msgspec.Struct, frozen=True):
    """One thing that is not as it should be. ``file`` is relative to the pack, "" for the pack as a whole."""

    code: Code
    file: str
    message: str


class Check(msgspec.Struct):
    """One check. ``words`` is said whatever the result: it tells what was looked at, not what was found."""

    name: str
    words: str = ""
    result: Result = Result.PASSED

    def skip(self, words: str) -> None:
        """Say that this was not checked, and why."""
        self.words, self.result = words, Result.SKIPPED


class Findings(msgspec.Struct):
    """What is gathered while a pack is checked. Problems are only ever added."""

    checks: list[Check] = msgspec.field(default_factory=list)
    _listed: list[Problem] = msgspec.field(default_factory=list)
    _told: set[Problem] = msgspec.field(default_factory=set)
    _seen: Counter[tuple[Code, str]] = msgspec.field(default_factory=Counter)
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


class SignerFound(msgspec.Struct, frozen=True):
    """The key that signed. ``allowed`` is None where no allowed signers were given: then nobody vouches for it."""

    fingerprint: str
    principals: tuple[str, ...] = ()
    allowed: bool | None = None


class Verification(msgspec.Struct, frozen=True):
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


def signature_said(found: Verification) -> str:
    """Say in a sentence who signed a pack, as far as that is known."""
    signer = found.signer
    if not found.signed:
        return "This pack is not signed. Anyone who had it could have rewritten all of it."
    if signer is None:
        return "The signature of this pack is NOT good."
    if signer.allowed is None:
        return f"Signed with the key {signer.fingerprint}. Nobody vouches for it: no allowed signers were given."
    if not signer.allowed:
        return f"Signed with the key {signer.fingerprint}, which is NOT allowed to sign."
    return f"Signed by {', '.join(signer.principals)} with the key {signer.fingerprint}."


def quoted(text: str) -> str:
    """Foreign text in quotes, cut, every character escaped that is not plain ASCII."""
    plain = ascii(text[:LONGEST_QUOTE])
    return plain if len(text) <= LONGEST_QUOTE else f"{plain}…"


def shown(name: str) -> str:
    """A foreign name as it is if it is plain, else quoted."""
    plain = name.isascii() and name.isprintable() and " " not in name and len(name) <= LONGEST_QUOTE
    return name if plain else quoted(name)


# What each field of a report or plan has to look like, whatever it says: a page shows it as it is.

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DIGEST = re.compile(r"([0-9a-f]{64})?")  # empty where a purge took it out
_FORMS: Final = {
    **dict.fromkeys(("at", "made_at", "started_at", "ended_at", "created_at", "first_request_at"), _TIME),
    **dict.fromkeys(("last_answer_at",), _TIME),
    **dict.fromkeys(("requested_on", "due_on", "on", "as_of", "oldest_requested_on", "earliest_due_on"), _DAY),
    **dict.fromkeys(("keyed_sha256", "digest", "pack_root", "pack_sums"), _DIGEST),
    "fingerprint": re.compile(r"SHA256:[0-9A-Za-z+/]{43}"),
    "gone_predicate": re.compile(r"gone/[0-9]{1,3}|not recorded"),
    "state": re.compile(r"([0-9a-f]{32})?"),
}
#: All other numbers count something, or are a time that something took.
_MAY_BE_BELOW_ZERO: Final = "days_left"


def misformed(value: object, name: str = "") -> Iterator[str]:
    """Give the names of the fields in a report or plan, as JSON has it, that look like nothing that stands there."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from misformed(inner, key)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from misformed(inner, name)
    elif isinstance(value, str):
        form = _FORMS.get(name)
        if form is not None and not (form.fullmatch(value) and _exists(value, form)):
            yield name
    elif isinstance(value, (int, float)) and value < 0 and name != _MAY_BE_BELOW_ZERO:
        yield name


def _exists(text: str, form: re.Pattern[str]) -> bool:
    try:
        return form not in {_TIME, _DAY} or bool(datetime.fromisoformat(text))
    except ValueError:  # such as a thirteenth month
        return False


#: A text file of a pack, but the rows, is never so large; report.html has its own aim of 1 MB.
LARGEST_TEXT: Final = 16 * 1024 * 1024
#: A line of rows.jsonl or exceptions.csv is never so long, however often a request was sent.
LONGEST_LINE: Final = 1024 * 1024
#: A pack has about a dozen files and three for each earlier edition; a folder with more than this is not walked on.
MOST_ENTRIES: Final = 20_000
#: Files that macOS and Windows make by themselves.
DROPPED: Final = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
#: ``earlier/<sequence>/file`` is as deep as it gets.
_DEEPEST: Final = 3
_CHUNK: Final = 1024 * 1024
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PackFolder:
    """The files of one pack.

    Attributes:
        path: where it is.
        files: the relative POSIX path of each regular file, with its size in bytes.
        folders: the relative paths of the folders in it.
        name: what stands before a file's name where a problem is told about; empty for the pack that is asked about.
    """

    def __init__(self, path: Path, findings: Findings, name: str = "") -> None:
        self.path = path
        self.name = name
        self.files: dict[str, int] = {}
        self.folders: list[str] = []
        #: What systems drop into folders that are looked at: no part of a pack, and no harm to one.
        self.dropped: list[str] = []
        self._findings = findings
        self._walk("", 1)

    def note(self, code: Code, file: str, message: str) -> None:
        """Note a problem of a file of this folder."""
        self._findings.add(code, self.name + file, message)

    def text(self, file: str, largest: int = LARGEST_TEXT) -> bytes:
        """The whole of a small file.

        Raises:
            Unusable: it can't be read, is too large or not there; that was noted.
        """
        data = b"".join(self._chunks(file, largest + 1))
        if len(data) > largest:
            self.note(Code.TOO_LARGE, file, f"It is larger than {largest:,} bytes, which it never is.")
            raise Unusable
        return data

    def digest(self, file: str) -> str:
        """The SHA-256 of a file in hexadecimal digits.

        Raises:
            Unusable: it can't be read; that was noted.
        """
        digest = hashlib.sha256()
        for chunk in self._chunks(file):
            digest.update(chunk)
        return digest.hexdigest()

    def lines(self, file: str, longest: int = LONGEST_LINE) -> Iterator[bytes]:
        r"""The lines of a file with their ends (``\n``), the last one perhaps without.

        Raises:
            Unusable: it can't be read, or a line has no end in sight; that was noted.
        """
        number = 0
        try:
            with os.fdopen(self._open(file), "rb", buffering=_CHUNK) as stream:
                while line := stream.readline(longest + 1):
                    number += 1
                    if len(line) > longest:
                        self.note(Code.TOO_LARGE, file, f"Line {number:,} is longer than {longest:,} bytes.")
                        raise Unusable
                    yield line
        except OSError as error:
            raise self._unreadable(file, error) from None

    def _chunks(self, file: str, most: int | None = None) -> Iterator[bytes]:
        """A file in pieces, cut where it goes beyond ``most`` bytes."""
        left = self.files.get(file, 0) + _CHUNK if most is None else most
        try:
            with os.fdopen(self._open(file), "rb", buffering=0) as stream:
                while left > 0 and (chunk := stream.read(min(left, _CHUNK))):
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise self._unreadable(file, error) from None

    def _open(self, file: str) -> int:
        if file not in self.files:
            self.note(Code.MISSING, file, "It is missing.")
            raise Unusable
        try:
            descriptor = os.open(self.path / file, _FLAGS)
        except OSError as error:
            raise self._unreadable(file, error) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # it was one when we looked
            os.close(descriptor)
            self.note(Code.NOT_A_REGULAR_FILE, file, "It is no regular file. It was not read.")
            raise Unusable
        return descriptor

    def _unreadable(self, file: str, error: OSError) -> Unusable:
        self.note(Code.UNREADABLE, file, f"It can't be read: {error.strerror}.")
        return Unusable()

    def _walk(self, below: str, depth: int) -> None:
        try:
            with os.scandir(self.path / below) as entries:
                for entry in entries:
                    if not self._enter(entry, below, depth):
                        return
        except OSError as error:
            self._unreadable(below, error)

    def _enter(self, entry: os.DirEntry[str], below: str, depth: int) -> bool:
        """Take in an entry of a folder; False if there are too many."""
        file = below + entry.name
        if len(self.files) + len(self.folders) + len(self.dropped) >= MOST_ENTRIES:
            self.note(Code.TOO_LARGE, "", f"The folder holds more than {MOST_ENTRIES:,} files; not all were looked at.")
            return False
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) and entry.name in DROPPED:
            self.dropped.append(file)
        elif stat.S_ISREG(found.st_mode):
            self.files[file] = found.st_size
        elif not stat.S_ISDIR(found.st_mode):
            self.note(
                Code.NOT_A_REGULAR_FILE, file, f"It is {_kind(found.st_mode)}, no regular file. It was not followed."
            )
        else:
            self.folders.append(file)
            if depth < _DEEPEST:
                self._walk(f"{file}/", depth + 1)
        return True


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


#: How a report says that an execution was not stopped; the words of a stop are in its format's own.
UNRECORDED: Final = "its end was not recorded (a crash, or still under way)"
TO_ITS_END: Final = "went to its end"


class Words(msgspec.Struct, frozen=True):
    """What a report of one format says. ``stops`` are the words by which an execution's end is told from its stop."""

    stops: Mapping[str, StopReason]
    possible: Callable[[Job], frozenset[Outcome]]
    meaning: Callable[[Outcome, Job], str]
    action: Callable[[Outcome, Reason | None, Job], str]
    verdict: Callable[[Summary], Verdict]
    sentence: Callable[[Summary, Sequence[Execution]], str]
    next_step: Callable[[Summary], NextStep | None]


def words_of(form: str) -> tuple[Words, ...]:
    """The words of a report's format by each build that landed with other ones; those of this build come first.

    A report is one build's: all that it says has to be in the words of one of them.
    """
    return (_before(),) if form == FORMAT_BEFORE else (_now(), _of_0_2(), _of_0_1())


@cache
def _now() -> Words:
    return Words(
        stops={text: stop for stop, text in wording.STOPS.items()},
        possible=wording.possible,
        meaning=lambda outcome, job: wording.outcome_words(job)[outcome][1],
        action=wording.action,
        verdict=lambda summary: summary.verdict,
        sentence=wording.sentence,
        next_step=wording.next_step,
    )


_CONNECTING: Final = frozenset({Reason.CONNECT_REFUSED, Reason.CONNECT_FAILED, Reason.CONNECT_TIMEOUT})
_CURED = frozenset(map(StopReason, ("target_unreachable", "credentials_refused", "output_failed", "journal_failed")))


@cache
def _of_0_2() -> Words:
    """Version 0.2.0: nobody was told to look at a refused connection first, or that an earlier run may have erased."""
    return replace(_now(), meaning=_meaning_0_2, action=_action_0_2, sentence=_sentence_0_2, next_step=_next_0_2)


@cache
def _of_0_1() -> Words:
    """Versions 0.1 with today's format: as 0.2.0, before releases could leave out customers on grounds of their own."""
    held, general = ("on_hold", "release"), wording.OUTCOMES[Outcome.ON_HOLD][1]
    return replace(_of_0_2(), meaning=lambda *of: general if of == held else _meaning_0_2(*of))


def _meaning_0_2(outcome: Outcome, job: Job) -> str:
    """That nothing was sent was said also where the state had been restored, which can't know."""
    now = _now().meaning(outcome, job)
    if now != wording.OUTCOMES[Outcome.NOTHING_HELD][1]:
        return now
    return "The API answered that it has no such profile, so nothing was sent."


def _action_0_2(outcome: Outcome, reason: Reason | None, job: Job) -> str:
    """What a job says of an outcome went before the cure of a reason, and a refused connection had none."""
    own = declaration(job).words.actions
    is_own = (outcome, reason) in own or ((outcome, None) not in own and reason not in _CONNECTING)
    return wording.action(outcome, reason if is_own else None, job)


def _sentence_0_2(summary: Summary, executions: Sequence[Execution]) -> str:
    told = wording.sentence(summary, executions)
    earlier = told.removesuffix(" If no earlier run erased them: is it the right environment?")
    return told if told == earlier else f"{earlier} Is it the right environment?"


def _next_0_2(summary: Summary) -> NextStep | None:
    step = wording.next_step(summary)
    if step is None or step.command.startswith("privacy-toolkit erase --reappeared "):
        return step
    if summary.open:
        return _go_on(summary) if summary.stopped_by in _CURED else step
    if not step.when.startswith("If no earlier run erased them, "):
        return step
    where = "the environment: the base URL, the key, live or sandbox, and the column with the ids."
    return replace(step, when=f"Before you rely on it, check {where}")


class _JobWords(msgspec.Struct, frozen=True):
    meanings: dict[str, str]
    actions: dict[str, str]
    possible: list[Outcome]


class _Frozen(msgspec.Struct, frozen=True):
    """The words of ``report/2``, as version 0.x had them."""

    stops: dict[str, str]
    meanings: dict[str, str]
    actions: dict[str, str]
    actions_by_reason: dict[str, str]
    jobs: dict[str, _JobWords]

    def meaning(self, outcome: Outcome, job: Job) -> str:
        return self.jobs[job].meanings.get(outcome) or self.meanings[outcome]

    def action(self, outcome: Outcome, reason: Reason | None, job: Job) -> str:
        own = self.jobs[job].actions
        for key in (f"{outcome.value}/{reason and reason.value}", outcome.value):
            if key in own:
                return own[key]
        return self.actions_by_reason.get(reason or "") or self.actions[outcome]

    def sentence(self, summary: Summary, executions: Sequence[Execution]) -> str:
        told = self._verdict(summary, executions)
        if summary.plan.parameters.get("dry"):
            return f"Dry run: the API was asked to evaluate each request and to store nothing. {told}"
        return told

    def _verdict(self, summary: Summary, executions: Sequence[Execution]) -> str:
        total, open_, failed = summary.plan.rows.subjects, summary.open, summary.failed
        if not executions and open_:
            return f"Not started: {count(total, 'subject')} planned, {open_:,} open."
        verdict = _verdict_before(summary)
        if verdict in {Verdict.STOPPED, Verdict.REFUSED}:
            return f"Stopped early with {count(open_, 'subject')} still open: {self._ending(executions[-1])}."
        if verdict is Verdict.OPEN_ITEMS:
            return _unfinished_before(open_, failed)
        return self._complete(summary, total)

    def _complete(self, summary: Summary, total: int) -> str:
        if summary.stopped_by is StopReason.WRONG_ENVIRONMENT:
            return f"Complete, but check the environment: {self.stops[StopReason.WRONG_ENVIRONMENT]}."
        if total == 0:
            return "Complete: there was nothing to do."
        return f"Complete: {'the one subject is' if total == 1 else f'all {total:,} subjects'} settled."

    def _ending(self, execution: Execution) -> str:
        if execution.stopped_by is not None:
            return self.stops[execution.stopped_by]
        return UNRECORDED if execution.ended_at is None else TO_ITS_END


@cache
def _before() -> Words:
    content = Path(__file__).with_name("words.report-2.json").read_bytes()
    frozen = msgspec.json.decode(content, type=_Frozen)
    return Words(
        stops={text: StopReason(stop) for stop, text in frozen.stops.items()},
        possible=lambda job: frozenset(frozen.jobs[job].possible),
        meaning=frozen.meaning,
        action=frozen.action,
        verdict=_verdict_before,
        sentence=frozen.sentence,
        next_step=_next_before,
    )


def _verdict_before(summary: Summary) -> Verdict:
    if summary.stopped_by is StopReason.CREDENTIALS_REFUSED and summary.open:
        return Verdict.REFUSED
    if (summary.stopped_by is not None or summary.cut_short) and summary.open:
        return Verdict.STOPPED
    return Verdict.OPEN_ITEMS if summary.open or summary.failed else Verdict.COMPLETE


def _next_before(summary: Summary) -> NextStep | None:
    if summary.open:
        return _go_on(summary)
    if _verdict_before(summary) is Verdict.COMPLETE:
        return NextStep(
            command=f"privacy-toolkit runs purge {summary.run_id}",
            when="Nothing is left to do. When these rows need no longer be linked to people, destroy ids and key:",
        )
    return None


def _go_on(summary: Summary) -> NextStep:
    return NextStep(
        command=f"privacy-toolkit runs resume {summary.run_id}",
        when="Next: go on with what is open. Nothing that is settled is done again.",
    )


def _unfinished_before(open_: int, failed: int) -> str:
    if not failed:
        return f"Finished with {count(open_, 'subject')} still open."
    if not open_:
        return f"Finished, but {count(failed, 'subject')} failed."
    return f"Finished with {count(open_, 'subject')} still open and {failed:,} failed."
