"""What a job makes of its input before it is planned: nothing, unless it deals codes or compares rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from privacy_toolkit.engine.plan import PlannedInput
from privacy_toolkit.errors import UsageError
from privacy_toolkit.inputs.files import STDIN
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import InputSummary, Scan
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.model import Hold, SubjectRequest

Page = list[tuple[int, str]] | list[tuple[int, str, str]]


class Subjects(Protocol):
    """The subjects of a plan, in input order: those of a scan, or what a job makes of them."""

    def subjects(self) -> Iterator[Page]:
        """Row, id and what else is given of each, a page at a time; repeatable."""


@dataclass(frozen=True, slots=True)
class Dealing:
    """What a job makes its subjects of: the scan of its input, the holds by number, and what the operator set.

    ``second`` is the path of the second input, read as ``options`` say. ``scope`` is where what is remembered holds,
    ``nonce`` the plan's. What is opened on the way is closed with ``resources``.
    """

    scan: Scan
    holds: Mapping[int, Hold]
    parameters: Mapping[str, str | int | bool | None]
    options: InputOptions
    second: str | None
    state: StateFolder
    scope: str
    nonce: str
    resources: ExitStack


@dataclass(frozen=True, slots=True)
class Dealt:
    """The subjects, as many and in the same order as those of the scan, and what goes with them.

    ``second`` is the second input they were made with, ``parameters`` what the plan says of them. ``remember`` makes
    durable what later plans have to know; it is called before the run exists. ``holds`` are further subjects on hold,
    ``requests`` those that count in place of the input's earliest.
    """

    subjects: Subjects
    second: PlannedInput | None = None
    parameters: Mapping[str, str | int | bool | None] = field(default_factory=dict)
    remember: Callable[[], None] = lambda: None
    holds: Mapping[int, Hold] = field(default_factory=dict)
    requests: Mapping[int, SubjectRequest] = field(default_factory=dict)


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
    )


def as_they_stand(dealing: Dealing) -> Dealt:
    """The subjects of the scan, and nothing besides."""
    return Dealt(dealing.scan)


def one_to_one(
    customers: Iterable[Page],
    holds: Mapping[int, Hold],
    kept: Callable[[str], str | None],
    free: Sequence[str],
) -> Iterator[list[tuple[int, str, str]]]:
    """Give every customer a code of their own, page by page: the one they had before, else the next free one.

    Who is on hold gets none.

    Args:
        customers: row and id of each.
        holds: those on hold, by number.
        kept: the code that a customer was given before, if it is one of these.
        free: the codes nobody has, in the order in which they are given.

    Raises:
        UsageError: there are not enough codes.
    """
    rest = iter(free)
    seq = missing = 0
    for page in customers:
        dealt = []
        for row, id_, *_ in page:
            seq += 1
            code = "" if seq in holds else kept(id_) or next(rest, None)
            missing += code is None
            dealt.append((row, id_, code or ""))
        yield dealt
    if missing:
        raise UsageError(
            f"The codes run out: {missing:,} more {'is' if missing == 1 else 'are'} needed. Nothing was sent.",
            "Add codes to the list. Codes that were dealt before go to nobody else.",
            code="codes_run_out",
        )


def order_of_codes(codes: list[str], seed: int | None) -> list[str]:
    """The codes in the order in which they are given: that of their file, or the one a seed stands for."""
    if seed is not None:
        Random(seed).shuffle(codes)  # noqa: S311 - the order is to be told from the seed; nothing is kept secret by it
    return codes
