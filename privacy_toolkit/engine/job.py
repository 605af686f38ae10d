"""What a job declares: what is sent, what proves it, its words; and preparing its input, with preflight reads."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from privacy_toolkit.core.durable import SETTINGS_LIMIT, read_regular
from privacy_toolkit.core.model import (
    CredentialsError,
    ExitCode,
    Hold,
    Job,
    Outcome,
    Reason,
    Sequencing,
    Subject,
    SubjectRequest,
    ToolkitError,
    UsageError,
)
from privacy_toolkit.engine.limits import LONGEST_WAIT, backoff
from privacy_toolkit.engine.plan import PlannedInput
from privacy_toolkit.engine.steps import Procedure
from privacy_toolkit.http.exchange import Pacer
from privacy_toolkit.inputs.files import STDIN
from privacy_toolkit.inputs.options import InputOptions, InputWarning
from privacy_toolkit.inputs.pairs import RowForm
from privacy_toolkit.inputs.scan import InputSummary, Scan
from privacy_toolkit.journal.records import StateRow
from privacy_toolkit.journal.store import RunReader, State
from privacy_toolkit.talonone.client import Client
from privacy_toolkit.talonone.operations import Operation
from privacy_toolkit.talonone.responses import Answer, Asked, Finding, read_exchange

# What a job makes of its input before it is planned: nothing, unless it assigns codes or compares rows.

Page = list[tuple[int, str]] | list[tuple[int, str, str]]


class Subjects(Protocol):
    """The subjects of a plan, in input order: those of a scan, or what a job makes of them."""

    def subjects(self) -> Iterator[Page]:
        """Row, id and what else is given of each, a page at a time; repeatable."""


class Preparation(msgspec.Struct, frozen=True):
    """What a job makes its subjects of: the scan of its input, the holds by number, and what the operator set.

    ``second`` is the path of the second input, read as ``options`` say. ``scope`` is where what is remembered holds,
    ``nonce`` the plan's. What is opened on the way is closed with ``resources``. ``scratch`` is a folder of this
    machine for files without a name. ``ask`` puts questions to the API.
    """

    scan: Scan
    holds: Mapping[int, Hold]
    parameters: Mapping[str, str | int | bool | None]
    options: InputOptions
    second: str | None
    state: State
    scope: str
    nonce: str
    resources: ExitStack
    scratch: Path
    ask: Callable[[Preflight], None] = lambda _: None


class Assigned(msgspec.Struct, frozen=True):
    """The subjects, as many and in the same order as those of the scan, and what goes with them.

    ``second`` is the second input they were made with, ``sessions`` the list of sessions among them, ``parameters``
    what the plan says of them. ``remember`` makes durable what later plans have to know; it is called before the run
    exists. ``holds`` are further subjects on hold, ``requests`` those that count in place of the input's earliest,
    ``warnings`` what a person should look at besides those of the input.
    """

    subjects: Subjects
    second: PlannedInput | None = None
    sessions: PlannedInput | None = None
    parameters: Mapping[str, str | int | bool | None] = msgspec.field(default_factory=dict)
    remember: Callable[[], None] = lambda: None
    holds: Mapping[int, Hold] = msgspec.field(default_factory=dict)
    requests: Mapping[int, SubjectRequest] = msgspec.field(default_factory=dict)
    warnings: Sequence[InputWarning] = ()


def planned_input(path: str, options: InputOptions, summary: InputSummary) -> PlannedInput:
    """What a plan says of an input that was read."""
    return PlannedInput(
        path=path if path == STDIN else str(Path(path).absolute()),
        sha256=summary.sha256,
        size=summary.size,
        format=summary.format,
        id_column=summary.id_column,
        encoding=options.encoding,
        delimiter=options.delimiter,
        strip=options.strip,
        limit=options.limit,
        sheet=UNSET if summary.sheet is None else summary.sheet,
        date_format=UNSET if options.date_format == "iso" else options.date_format,
        columns=dict(options.columns) or UNSET,
    )


def planned_settings(path: str, called: str) -> PlannedInput:
    """What a plan says of a small TOML file that is read as a whole, which is ``called`` so for people.

    Raises:
        UsageError: it can't be read.
    """
    place = Path(path).absolute()
    try:
        content = read_regular(place, SETTINGS_LIMIT)
    except OSError as error:
        raise UsageError(f"The {called} {place.name} can't be read: {error.strerror}.") from None
    digest = hashlib.sha256(content).hexdigest()
    return PlannedInput(path=str(place), sha256=digest, size=len(content), format="toml", id_column="")


def as_they_stand(preparation: Preparation) -> Assigned:
    """The subjects of the scan, and nothing besides."""
    return Assigned(preparation.scan)


# Reading for a plan: how things are at the API, before anyone confirms what is to be done there.

#: How often a question is put before the plan is given up.
TRIES = 5

_NO_ANSWER = frozenset({Finding.UNKNOWN, Finding.NEVER_SENT, Finding.REFUSED})


class NotReadError(ToolkitError):
    """The API gave no reliable answer while a plan was made."""

    exit_code = ExitCode.STOPPED
    code = "not_read"


class Preflight(Protocol):
    """What a job wants to know for its plan: one question for each of ``values``, by one operation that only reads."""

    operation: Operation

    @property
    def values(self) -> Collection[str]:
        """What is in the path of each question."""

    def take(self, value: str, answer: Answer) -> bool:
        """Count what an answer says; False if it says nothing reliable, so that it has to be asked again."""

    def totals(self) -> Mapping[str, int]:
        """What was counted; it names nobody."""


class Asking(msgspec.Struct, frozen=True):
    """How is asked: at what pace, and how many questions at a time."""

    pacer: Pacer
    at_once: int
    rng: Random = msgspec.field(default_factory=SystemRandom)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


async def look(wanted: Preflight, client: Client, asking: Asking) -> None:
    """Put all questions.

    Raises:
        CredentialsError: the API refused the credentials.
        NotReadError: a question had no reliable answer, however often it was put.
    """
    values = iter(wanted.values)
    workers = [asyncio.create_task(_work(values, wanted, client, asking)) for _ in range(asking.at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _work(values: Iterator[str], wanted: Preflight, client: Client, asking: Asking) -> None:
    for value in values:
        for tries in range(1, TRIES + 1):
            await asking.pacer.wait()
            exchange = await client.exchange(wanted.operation, value)
            answer = read_exchange(wanted.operation, exchange, asking.now(), Asked(value, None, client.generation))
            if answer.finding is Finding.CREDENTIALS:
                raise CredentialsError(
                    "The API refused the credentials; no plan was made.",
                    "Check the key and that it belongs to this environment.",
                )
            if answer.finding not in _NO_ANSWER and wanted.take(value, answer):
                break
            await _wait(tries, answer, asking)
        else:
            raise NotReadError(
                f"How things stand could not be read ({answer.reason or 'not all was told'}); no plan was made.",
                "Nothing was changed. Try again later; privacy-toolkit doctor looks at the connection.",
            )


async def _wait(tries: int, answer: Answer, asking: Asking) -> None:
    """Wait before the question is put again, and let everyone wait if the API asks for it."""
    asked = answer.wait or 0.0
    if asked > LONGEST_WAIT:
        raise NotReadError(f"The API asks for a wait of {asked:,.0f} s; no plan was made.", "Try again after that.")
    if asked:
        asking.pacer.pause(asked)
    if tries < TRIES:
        await asking.sleep(max(backoff(tries, asking.rng), asked))


# What a job says of itself, once: all that the engine, the plan and the command line need to know of it.

Calls = dict[str, tuple[int, int]]
#: What an operator sets for one job, such as the version of the API; is in the plan. No secret, no path, no id.
Parameters = Mapping[str, str | int | bool | None]
#: The parameter of a job that hands over a file of ids: whether a CSV is guarded from being taken for formulas.
SPREADSHEET_SAFE = "spreadsheet_safe"


class Context(msgspec.Struct, frozen=True):
    """What a job is carried out with: its parameters, the run's secret, how many subjects there are, and settings.

    ``settle`` is how long, in seconds, an accepted change may stay invisible. ``deliver`` takes what was read of a
    person where a job hands it over: (number of the subject, id, body of the answer or None, time) to what is kept.
    ``restored``: the state was restored since the run was made, so it may have sent more than its journal knows of.
    """

    parameters: Parameters
    verify: str
    subjects: int
    secret: bytes
    settle: float
    deliver: Callable[..., bytes] | None = None
    restored: bool = False


def _no_form(parameters: Parameters) -> RowForm | None:  # noqa: ARG001 - for jobs that take only the id
    return None


def _nothing(id_: str, given: str) -> Mapping[str, str]:  # noqa: ARG001 - for jobs that take only the id
    return {}


def _no_rows(parameters: Parameters, state: State, scope: str) -> Iterator[Sequence[str]] | None:  # noqa: ARG001 - as above
    return None


def _the_id(id_: str, given: str) -> tuple[str, ...]:  # noqa: ARG001 - for jobs that take only the id
    return (id_,)


# The words of a job in the report of a run, on the screen and in a confirmation.


class ProofWords(msgspec.Struct, frozen=True):
    """The part that says what reads afterwards showed; for jobs whose effect is proven by reading.

    ``checked`` says by the plan's ``verify`` (``all``, ``sample``, ``none``) what was asked for; ``{size}`` is the
    sample's. ``predicates`` says by its version what counts as gone.
    """

    title: str
    checked: Mapping[str, str]
    gone: str
    still_there: str
    unverified: str
    counts_as: str
    predicates: Mapping[str, str]
    split_title: str
    split: Mapping[str, tuple[str, str]]
    kept_title: str
    kept_some: str
    kept_none: str
    sample: str
    sample_unreadable: str


class IdleWords(msgspec.Struct, frozen=True):
    """How it is said that every subject was as wanted before anything was sent: of one, of ``{}`` of them, the end."""

    one: str
    several: str
    end: str


class Headline(msgspec.Struct, frozen=True):
    """What a plan would do: ``Erase`` 3 ``customer``s ``from`` the target."""

    verb: str
    noun: str
    joined: str


class JobWords(msgspec.Struct, frozen=True):
    """What a report of one job says, and the line above its preview.

    Attributes:
        headline: what a plan would do.
        title: the report's.
        possible: the outcomes it can come to: the table shows them all, also where the count is zero.
        subject: what one subject is.
        request: what is sent for a subject, in the singular.
        repeats: when a request is sent again.
        not_covered: what a run says nothing about, whatever its verdict.
        inventory: what the API shows of a customer; None where nobody's data are read.
        proof: what reads afterwards showed; None for a job that nothing is read for afterwards.
        late: what stays possible of requests whose answer was lost, with their number as ``{requests}``; "" for none.
        nothing_known: what there was nothing to do for customers whom the API does not know.
        idle: by the reason of a subject that is done, how it is said that there was nothing to do for anyone.
        actions: what to do about an outcome where the general word would be wrong.
        outcomes: the name of an outcome and what it means, where the general words would be wrong.
    """

    headline: Headline
    title: str
    possible: frozenset[Outcome]
    subject: str
    request: str
    repeats: str
    not_covered: Mapping[str, str]
    inventory: str | None = None
    proof: ProofWords | None = None
    late: str = ""
    nothing_known: str = "there was nothing to do"
    idle: Mapping[Reason, IdleWords] = msgspec.field(default_factory=dict)
    actions: Mapping[tuple[Outcome, Reason | None], str] = msgspec.field(default_factory=dict)
    outcomes: Mapping[Outcome, tuple[str, str]] = msgspec.field(default_factory=dict)


#: What several jobs say alike of what they do not cover.
OTHER_ENVIRONMENT = {
    "The other environment": "Live and sandbox are separate, each with its own key. This run touched one."
}
OTHER_TIMES = {
    "Before and afterwards": "What is said here holds for the time of each answer. What others did before or afterwards"
    " is not in it."
}
OUT_OF_SIGHT = {
    "Backups and logs": "Copies in backups, in access logs and in the vendor's own records cannot be seen through the"
    " API."
}
#: The inventory that the API gives of a customer.
INVENTORY_WORDS = (
    "What the API shows of one customer: profile, coupons, referrals and, where the deployment has them, loyalty"
    " entries."
)

# What a job observes.


class Observation(msgspec.Struct, frozen=True):
    """What a job observes of a subject besides its outcome: a column of every row, null where there is nothing.

    A row does not say which job it is of, so a column, and a number of a state, belongs to one job alone.

    Attributes:
        column: its name.
        kind: whole numbers or texts.
        meaning: what the column says, in the words of docs/report.md.
        number: where the journal has it as a number: the field of ``SubjectState``; "" where it has not.
        read: what it is by what was kept of an answer, for all that is not such a number.
        total: under which name the report adds the numbers up; "" for no sum.
    """

    column: str
    kind: type[int | str]
    meaning: str
    number: str = ""
    read: Callable[[bytes], int | str | None] = lambda _: None
    total: str = ""

    def value(self, state: StateRow, result: bytes | None) -> Any:
        """Give what is observed of one subject."""
        if self.number:
            return getattr(state, self.number)
        return None if result is None else self.read(result)

    def values(self, states: Any, results: Iterable[bytes | None]) -> Any:
        """Give what is observed of many subjects; ``states`` are columns, as ``records.columns_of`` makes them."""
        if self.number:
            return getattr(states, self.number)
        return [None if result is None else self.read(result) for result in results]


# What a job hands over as one file.

#: For each subject, in input order, what the journal keeps of the answer about it; repeatable.
Kept = Callable[[], Iterable[tuple[Subject, bytes]]]
#: Every subject, in input order, where it stands, and what the journal keeps of the answer about it; repeatable.
Lines = Callable[[], Iterable[tuple[Subject, StateRow, bytes | None]]]


class Table(msgspec.Struct, frozen=True):
    """What is in the file, which is ``called`` so for people: its ``columns`` with the type of each, and its ``rows``.

    ``names`` are columns of texts that are needed exactly. So many rows are written ``at_once``.
    """

    called: str
    columns: Mapping[str, type]
    names: tuple[str, ...]
    rows: Callable[[], Iterator[Sequence[Any]]]
    at_once: int = 10_000

    @property
    def named(self) -> dict[str, int]:
        """The positions of the columns with names."""
        order = list(self.columns)
        return {name: order.index(name) for name in self.names}


class Declaration(msgspec.Struct, frozen=True):
    """A job, declared.

    Attributes:
        job: its name.
        words: what is said of it to people.
        calls: by the number of subjects, the least and the most requests of each operation, retries apart.
        make: the procedure for one execution.
        form: what is taken of a row next to the id; None for an input of ids.
        source: the rows of its input, a header first, where it is no file but what earlier runs of a scope know, by its
            parameters; None where it is a file.
        prepare: what is made of the input before it is planned.
        look: what is read for the plan, so that anyone who confirms it knows how things stand; None for nothing.
        must_look: whether a plan with these parameters may not be confirmed without that.
        shown: what an operator is shown of a subject (its id, and what else is given) next to its id, by name.
        customers: whose data a subject (its id, and what else is given) is about: those the exclusion list is about.
        suppressed_by: the jobs that erase whom this one must leave alone from then on, since its request would
            re-create the profile of an erased customer (API facts, deleteCustomerData); none for other jobs.
        sequencing: in which order the subjects are taken.
        spreads: whether several executions may work on a run at once, since its subjects share nothing with each other.
        ordered: what was sent and not answered may be carried out late, and undo what is sent after it.
        group: the name under which subjects belong together, for ``Sequencing.TOGETHER``.
        writes: whether it changes anything at the API, so that it has to be confirmed.
        is_approved: whether a second person has to approve it where the profile asks for that.
        expects_absence: whether it finds nothing if all is well, so that a profile that must be visible has to be
            known: nothing else tells the right environment from another one.
        confirmed_by: the sentence that confirms it, with ``{subjects}`` and ``{target}``, where it can't be undone; ""
            where "yes" is enough.
        absences: the operations whose 404 settles subjects: their controls are asked before anything else.
        predicate: the version of the predicate by which a read afterwards proves its effect; "" where none does.
        erases: whether its subjects that are settled as erased go on the list of those who get nothing any more.
        has_clock: whether it answers a data subject's request: the id alone tells whose, and a law says by when.
        packages: whether it hands over a package for each subject, in the folder that the plan names.
        settable: what an operator can set for it alone, with what holds where nothing is said.
        by_generation: whether the generation of the deployment's API says what may be in its requests.
        demands: what it can't do without, ``out`` or ``second`` of an order: what is said where that is missing, and
            what to do about it.
        table: the file that it hands over, by its parameters and what is kept of the answers; None for no file.
        conclude: what is made durable in the state after work on a run; may be called again.
        observations: what it observes of a subject besides its outcome.
        lists: files about all subjects that it hands over, by its parameters, the subjects, and when they are written:
            that under "" has the name that was asked for, others have theirs put into it; None for no such files.
    """

    job: Job
    words: JobWords
    calls: Callable[[int, Parameters], Calls]
    make: Callable[[Context], Procedure]
    form: Callable[[Parameters], RowForm | None] = _no_form
    source: Callable[[Parameters, State, str], Iterator[Sequence[str]] | None] = _no_rows
    prepare: Callable[[Preparation], Assigned] = as_they_stand
    look: Callable[[Subjects, Mapping[int, Hold], Parameters], Preflight | None] | None = None
    must_look: Callable[[Parameters], bool] = lambda _: False
    shown: Callable[[str, str], Mapping[str, str]] = _nothing
    customers: Callable[[str, str], Collection[str]] = _the_id
    suppressed_by: tuple[Job, ...] = ()
    sequencing: Sequencing = Sequencing.URGENCY
    spreads: bool = False
    ordered: bool = False
    group: Callable[[str, str], str] | None = None
    writes: bool = True
    is_approved: bool = True
    expects_absence: bool = False
    confirmed_by: str = ""
    absences: tuple[Operation, ...] = ()
    predicate: str = ""
    erases: bool = False
    has_clock: bool = False
    packages: bool = False
    settable: Parameters = msgspec.field(default_factory=dict)
    by_generation: bool = False
    demands: Mapping[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    table: Callable[[Parameters, Kept], Table] | None = None
    observations: tuple[Observation, ...] = ()
    conclude: Callable[[RunReader, State], None] = lambda _, __: None
    lists: Callable[[Parameters, Lines, datetime], Mapping[str, Table]] | None = None


# What may go wrong when something read is delivered, in the words the jobs know.


class NotDeliveredError(Exception):
    """It could not be written; nothing new is under its name."""


class ForeignAnswerError(Exception):
    """What was read is not what was asked for, so nothing was made of it."""


_STEPS = (0.25, 0.5, 1.0, 2.0)
_LONGEST = 4.0


def pauses(settle: float) -> Iterator[float]:
    """The waits, in seconds, between looks: longer and longer, ``settle`` in all."""
    left = settle
    for step in chain(_STEPS, repeat(_LONGEST)):
        if left <= 0:
            return
        yield min(step, left)
        left -= step
