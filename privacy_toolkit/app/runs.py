"""The runs of a state folder: listed, looked at, handed on as a file, withdrawn from, purged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from privacy_toolkit.config.settings import Settings, deployment_key
from privacy_toolkit.core.durable import read_regular
from privacy_toolkit.core.model import (
    NEVER_SENT,
    OPEN_OUTCOMES,
    JournalError,
    Outcome,
    Purpose,
    StopReason,
    Subject,
    ToolkitError,
    UsageError,
    rfc3339_seconds,
)
from privacy_toolkit.core.privacy import check_apart, found_in
from privacy_toolkit.engine.approval import SigningIdentity
from privacy_toolkit.engine.execution import Conditions, claimed, described
from privacy_toolkit.engine.job import Declaration, Table
from privacy_toolkit.engine.open_requests import WITHDRAWN, job_of
from privacy_toolkit.engine.plan import Plan, Summary, plan_of, summarize
from privacy_toolkit.engine.planning import catch_up
from privacy_toolkit.inputs.lists import sessions_of
from privacy_toolkit.jobs import declaration
from privacy_toolkit.journal.records import Entry, Note, Observed, PackageFacts, SubjectState, counted, decode_package
from privacy_toolkit.journal.store import RunReader, State, purged, running
from privacy_toolkit.reporting.rows import AGAIN, MOST_IN_A_SHEET, OF_RUNS, check_out, write_table


def listed(state: State, run_id: str, today: date) -> dict[str, Any]:
    """A run as one object (contract, section 2), with the legal clock of its open subjects.

    ``rejected`` is how many rows of its input were refused, where nobody accepted that. ``due_on`` is the earliest due
    date of an open subject, ``overdue`` how many were due before ``today``. ``purged_at`` is there once its ids are
    destroyed. Of a run that can't be read only what its id says is known; ``error`` says why.
    """
    try:
        with state.open(run_id) as journal:
            summary = summarize(journal)
            # Nobody can say any more whose request it was, so nothing of a purged run is due, as in ``due``.
            clock = [] if summary.purged else journal.open_requests()
            dated = [requests for requests in clock if requests.due_on is not None]
    except ToolkitError as error:
        return unreadable(run_id, error)
    started = datetime.fromtimestamp(summary.started_at / 1e6, UTC)
    return {
        "run_id": run_id,
        "job": summary.plan.job,
        "target": summary.plan.target,
        "verdict": summary.verdict.value,
        "started_at": rfc3339_seconds(started),
        "subjects": summary.plan.rows.subjects,
        "open": summary.open,
        "failed": summary.failed,
        "rejected": summary.rejected_unaccepted,
        "due_on": dated[0].due_on if dated else None,
        "overdue": sum(r.subjects for r in dated if r.due_on is not None and r.due_on < today.isoformat()),
        **purged_object(summary),
    }


def purged_object(summary: Summary) -> dict[str, str]:
    """Tell when the ids of a run were destroyed; nothing of one that has them."""
    return {} if summary.purged_at is None else {"purged_at": _time(summary.purged_at)}


def unreadable(run_id: str, error: ToolkitError) -> dict[str, Any]:
    """Tell what is known of a run that can't be read, as ``listed`` does: what its id says, and why."""
    try:
        began = datetime.strptime("-".join(run_id.split("-")[:2]), "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
        started_at = rfc3339_seconds(began)
    except ValueError:
        started_at = None
    return {
        "run_id": run_id,
        "job": job_of(run_id),
        "target": None,
        "verdict": "damaged" if error.code == "damaged" else "unreadable",
        "started_at": started_at,
        "subjects": None,
        "open": None,
        "failed": None,
        "due_on": None,
        "overdue": None,
        "error": {"code": error.code, "message": error.message, "hint": error.hint},
    }


def package_names(journal: RunReader) -> dict[int, dict[str, Any]]:
    """The name of the package of each subject that has one, by the subject's number: it tells whose a package is.

    And how each session was read that the controller listed for them, which no package tells of those of others.
    """
    found = ((kept.subject, decode_package(kept.result)) for kept in journal.results())
    return {subject.seq: _package(subject, facts) for subject, facts in found if facts is not None}


def _package(subject: Subject, facts: PackageFacts) -> dict[str, Any]:
    sessions = zip(sessions_of(subject.given), facts.sessions, strict=False)
    told = [{"session_id": session, "read": read} for session, read in sessions]
    erased = {"erased_by": facts.erased_by} if facts.erased_by else {}
    return {"package": facts.name, **erased, **({"sessions": told} if told else {})}


def subjects(state: State, run_id: str, outcomes: Collection[str] = ()) -> Iterator[dict[str, Any]]:
    """The subjects of a run in input order, with their ids, for the operator's eyes (contract, section 2).

    Those with one of ``outcomes`` alone, where there are any. Ticket, ground and days are told where there are any.

    Raises:
        UsageError: there is no such outcome.
        RefusedError: the run was purged.
        JournalError: the journal can't be read.
    """
    unknown = sorted(set(outcomes) - set(Outcome))
    if unknown:
        raise UsageError(f"There is no outcome {unknown[0]!r}.", f"The outcomes are: {', '.join(Outcome)}.")
    with state.open(run_id) as journal:
        if journal.purged_at is not None:
            raise purged(journal)
        shown = declaration(plan_of(journal).job).shown
        packages = package_names(journal)
        for observed in journal.rows():
            subject = observed.subject
            if not outcomes or observed.state.outcome in outcomes:
                extra = shown(subject.id, subject.given)
                yield {**_subject(observed), **extra, **_request(observed), **packages.get(subject.seq, {})}


def _subject(observed: Observed) -> dict[str, Any]:
    state = observed.state
    return {
        "row": observed.subject.row,
        "id": observed.subject.id,
        "outcome": state.outcome,
        "attribution": state.attribution,
        "held_before": state.held_before,
        "attempts": state.attempts,
        "reason": state.reason or state.hold_reason,
    }


def _request(observed: Observed) -> dict[str, str]:
    request = observed.request
    told = {
        "ticket": request and request.ticket,
        "ground": request and request.ground,
        "requested_at": request and request.requested_on,
        "due_on": request and request.due_on,
        "review_on": observed.state.review_on,
    }
    return {name: value for name, value in told.items() if value is not None}


# What came of every subject as a file, for other systems and for people.

#: What is told of a subject next to its id and what else names it.
_TOLD: Final = (
    "ticket",
    "outcome",
    "reason",
    "attribution",
    "held_before",
    "review_on",
    "requested_at",
    "due_on",
    "settled_at",
    "package",
)


def outcomes(state: State, run_id: str, *, confirmed: bool = False) -> Table:
    """What came of every subject of a run as a table with ids, in input order.

    ``confirmed``: those alone who were erased, for other systems to which their data was disclosed (Article 19 GDPR):
    seen in the system before, and gone in a read afterwards.

    Raises:
        UsageError: erasures are asked for of a run that erases nobody.
        RefusedError: the run was purged.
        JournalError: the journal can't be read.
    """
    with state.open(run_id) as journal:
        job = declaration(plan_of(journal).job)
        if journal.purged_at is not None:
            raise purged(journal)
        if confirmed and not job.erases:
            raise UsageError(f"Run {run_id} ({job.job}) erases nobody.", "Leave --confirmed out.")
        subjects_ = (observed.subject for observed in journal.rows())
        shown = list(dict.fromkeys(name for subject in subjects_ for name in job.shown(subject.id, subject.given)))
    if confirmed:
        columns: dict[str, type] = {"customer_id": str, "erased_on": str, "ticket": str}
        return Table("list", columns, ("customer_id", "ticket"), lambda: _confirmed(state, run_id))
    columns = {"row": int, "id": str, **dict.fromkeys((*shown, *_TOLD), str)}
    return Table("list", columns, ("id", *shown, "ticket"), lambda: _told_rows(state, run_id, shown, job))


def write_outcomes(state: State, run_id: str, out: str, *, confirmed: bool = False, guard: bool = False) -> int:
    """Write what came of every subject of a run to a file, in place of one that is there; how many rows it has.

    ``confirmed`` as for ``outcomes``; ``guard``: no spreadsheet takes a cell for a formula.

    Raises:
        UsageError: the file can't be written or hold them all, or as for ``outcomes``.
        RefusedError: the run was purged.
        JournalError: the journal can't be read.
    """
    check_apart(out)
    check_out(out, guard=guard, formats=OF_RUNS)
    with state.open(run_id) as journal:
        if Path(out).suffix.lower() == ".xlsx" and journal.size >= MOST_IN_A_SHEET:
            raise UsageError(f"A sheet has at most {MOST_IN_A_SHEET:,} rows.", "Name a .csv or a .parquet.")
    return write_table(Path(out), outcomes(state, run_id, confirmed=confirmed), guard=guard, hint=AGAIN)


def _told_rows(state: State, run_id: str, shown: Sequence[str], job: Declaration) -> Iterator[tuple[Any, ...]]:
    with state.open(run_id) as journal:
        for observed in journal.rows():
            subject, settled_at = observed.subject, observed.state.settled_at
            package = decode_package(observed.result)
            told = {
                **_subject(observed),
                **_request(observed),
                "settled_at": None if settled_at is None else _time(settled_at),
                "package": package and package.name,
            }
            extra = job.shown(subject.id, subject.given)
            yield subject.row, subject.id, *(extra.get(name) for name in shown), *(told.get(name) for name in _TOLD)


def _confirmed(state: State, run_id: str) -> Iterator[tuple[Any, ...]]:
    with state.open(run_id) as journal:
        for observed in journal.rows():
            settled_at = observed.state.settled_at
            if observed.state.outcome == Outcome.ERASED and settled_at is not None:
                yield observed.subject.id, _time(settled_at)[:10], observed.request and observed.request.ticket


# Withdrawing people from a run: their requests are not carried out any more.

#: An id file of ten million lines is not larger, in bytes.
_LARGEST_ID_FILE: Final = 1 << 30


def read_ids(path: Path) -> list[str]:
    """The customer ids in a file, one on each line, as the list has them: nothing is trimmed but a byte order mark.

    Raises:
        UsageError: it can't be read, is not UTF-8, is empty, or has an empty line.
    """
    hint = "It has to hold one customer id on each line, as the list has it, in UTF-8: no heading, no quotes."
    try:
        data = read_regular(path, _LARGEST_ID_FILE)
    except OSError as error:
        raise UsageError(f"The file with the ids can't be read: {error.strerror}.", "Name another file.") from None
    try:
        lines = [line.removesuffix("\r") for line in data.decode("utf-8-sig").removesuffix("\n").split("\n")]
    except UnicodeDecodeError:
        raise UsageError("The file with the ids is not UTF-8.", hint) from None
    if "" in lines:
        raise UsageError(f"Line {lines.index('') + 1} of the file with the ids is empty.", hint)
    return lines


class WithdrawOrder(msgspec.Struct, frozen=True):
    """Whose requests are withdrawn from which run, and under which settings and key; see ``withdraw``."""

    run_id: str
    ids: Sequence[str]
    settings: Settings
    hand: SigningIdentity | None
    restored: bool = False


def withdraw(state: State, order: WithdrawOrder, clock: Callable[[], int]) -> int:
    """Put open subjects on hold because their requests were withdrawn, all or none; how many.

    Someone whose request was sent, or may have been, stays open: what became of it has to be found out.

    Raises:
        UsageError: an id is not in the run, is settled already, or its request was sent. Nothing is changed then.
        RefusedError: the run is under way, or purged.
        JournalError: it can't be written.
    """
    with state.open(order.run_id) as journal:
        before = summarize(journal)
        if before.purged:
            raise purged(journal)
        plan = before.plan
    with claimed(state, plan.base_url, restored=order.restored), state.open(order.run_id) as journal:
        notes = _withdrawn(journal, order.ids, clock())
        conditions = Conditions(verify=plan.verify, predicate=declaration(plan.job).predicate, hand=order.hand)
        number = journal.begin_execution(clock(), described(order.settings, conditions))
        journal.record(notes)
        why = StopReason.WITHDRAWAL if before.cut_short else before.stopped_by  # that is still why it stopped
        journal.end_execution(number, clock(), why)
    return len(notes)


def _withdrawn(journal: RunReader, ids: Sequence[str], now: int) -> list[Note]:
    """The notes by which everybody in ``ids`` is withdrawn.

    Raises:
        UsageError: somebody can't be.
    """
    missing, settled, sent = set(ids), set(), set()
    wanted, notes = frozenset(ids), []
    for entry in journal.entries():
        id_ = entry.subject.id
        if id_ not in wanted:
            continue
        missing.discard(id_)
        if entry.state.outcome not in OPEN_OUTCOMES:
            settled.add(id_)
        elif _may_be_sent(entry):
            sent.add(id_)
        else:
            state = SubjectState(Outcome.ON_HOLD, hold_reason=WITHDRAWN, settled_at=now)
            notes.append(Note(entry.subject.seq, state=state))
    for fault, why in (
        (missing, "is not in this run"),
        (sent, "was sent already, or may have been: resume the run to find out what came of it"),
        (settled, "is settled already"),
    ):
        if fault:
            numbers = [number for number, id_ in enumerate(ids, 1) if id_ in fault]
            raise UsageError(
                f"Nobody was withdrawn: the request of id number {numbers[0]} {why}"
                f"{f' ({len(numbers):,} such ids)' if len(numbers) > 1 else ''}.",
                "Take them out: ids alone, without a heading. privacy-toolkit runs subjects RUN shows how all stand.",
            )
    return notes


def _may_be_sent(entry: Entry) -> bool:
    return entry.state.attempts > 0 or any(
        exchange.purpose is Purpose.ACT and exchange.reason not in NEVER_SENT for exchange in entry.exchanges
    )


def _time(microseconds: int) -> str:
    return rfc3339_seconds(datetime.fromtimestamp(microseconds / 1e6, UTC))


# Purging a run, and making sure that what was to go is gone.


def to_purge(state: State, run_id: str) -> Summary:
    """A run that is to be purged, as it stands.

    Raises:
        RefusedError: a process works on it.
        JournalError: the journal can't be read.
    """
    with state.open(run_id) as journal:
        summary = summarize(journal)
    if summary.is_running:
        raise running(run_id)
    return summary


def sentence_to_purge(run_id: str) -> str:
    """What confirms that a run is purged."""
    return f"purge {run_id}"


def purge(state: State, summary: Summary, now: datetime, packs: Path | None) -> None:
    """Destroy the ids and the secret of a run, then search all of its files for them.

    ``packs`` is the folder in which packs are by default: that of the run is searched too.

    Raises:
        RefusedError: another process has the lock on its deployment.
        JournalError: it could not be done, or something is left; the message says what and where.
    """
    with state.lock(deployment_key(summary.plan.base_url)):
        _destroy(state, summary.run_id, summary.plan, now, packs)


def _destroy(state: State, run_id: str, plan: Plan, now: datetime, packs: Path | None) -> None:
    """Destroy the ids and the secret of a run, then search all of its files for them. The caller holds the lock.

    Raises:
        JournalError: it could not be done, or something is left; the message says what and where.
    """
    with state.suppression() as listed:  # before the ids are gone
        catch_up(listed, state)
    with state.index() as index, state.open(run_id) as journal:
        traces = Traces(journal.traces())
        index.forget(run_id)
        journal.purge(int(now.timestamp() * 1e6), plan.without_input().encode())
        index.forget(run_id)  # again: somebody may have read it before its ids were gone, and entered it after that
    if state.answers.read(run_id).sent:
        state.answers.change(run_id, counted)
    remain: list[str] = []
    if len(traces):
        remain = state.remains(run_id, traces.are_in)
        remain += [] if packs is None else found_in(packs / run_id, traces.are_in)
    if remain:
        raise JournalError(
            f"Run {run_id} was purged, but ids, or the secret, are still in: {', '.join(remain)}.",
            "These files are not of the toolkit's making, or were copied while it worked. Remove them yourself.",
            code="remains",
        )


def set_aside(state: State, run_id: str) -> str:
    """Take a run out of use, as it is; where it is kept.

    Raises:
        RefusedError: a process works on it, also on its pack, which it does with the lock on the deployment alone.
        UsageError: it can't be moved.
    """
    with ExitStack() as held:
        plan = None
        with suppress(JournalError), state.open(run_id) as journal:
            plan = plan_of(journal)
        if plan is not None:  # else nobody can tell where it was, nor conclude it
            held.enter_context(state.lock(deployment_key(plan.base_url)))
        return state.set_aside(run_id)


def purge_left_over(state: State) -> list[str]:
    """Remove what processes that died while they created a run have left behind, and say what it was called.

    Raises:
        JournalError: something can't be removed.
    """
    names = state.left_over()
    remain = state.sweep()
    if remain:
        raise JournalError(
            f"It can't be removed: {', '.join(remain)}.", "Remove it yourself: it holds ids.", code="remains"
        )
    return names


# Whether anything that was to be destroyed is still in a file: millions of short pieces looked for at once.

#: Pieces are so many bytes long, one or the other.
_SHORT: Final = 8
_LONG: Final = 16
_AT_ONCE: Final = 100_000
_BITS: Final = 24
_MIX: Final = 0x9E3779B97F4A7C15


class Traces:
    """Pieces of 8 or 16 bytes, and the files in which one of them stands.

    It loads numpy, which nothing else about runs needs.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        import numpy as np  # noqa: PLC0415

        heads, tails = [np.empty(0, "<u8")], [np.empty(0, "<u8")]
        short = [np.empty(0, "<u8")]
        rest = iter(pieces)
        while some := list(islice(rest, _AT_ONCE)):
            short.append(np.frombuffer(b"".join(piece for piece in some if len(piece) == _SHORT), "<u8"))
            pairs = np.frombuffer(b"".join(piece for piece in some if len(piece) == _LONG), "<u8").reshape(-1, 2)
            heads.append(pairs[:, 0])
            tails.append(pairs[:, 1])
        self._short = np.unique(np.concatenate(short))
        head, tail = np.concatenate(heads), np.concatenate(tails)
        order = np.argsort(head, kind="stable")
        self._head, self._tail = head[order], tail[order]
        self._maybe = np.zeros(1 << _BITS, bool)
        for known in (self._short, self._head):
            self._maybe[_mixed(known)] = True

    def __len__(self) -> int:
        return len(self._short) + len(self._head)

    def are_in(self, chunks: Iterable[bytes]) -> bool:
        """Whether one of them stands in what comes in chunks."""
        carried = b""
        for chunk in chunks:
            data = carried + chunk
            if self._are_among(data):
                return True
            carried = data[-(_LONG - 1) :]
        return False

    def _are_among(self, data: bytes) -> bool:
        import numpy as np  # noqa: PLC0415

        for offset in range(_SHORT):
            count = (len(data) - offset) // _SHORT
            if count <= 0:
                break
            words = np.frombuffer(data, "<u8", count, offset)
            places = np.flatnonzero(self._maybe[_mixed(words)])
            if len(places) and self._is_one(words, places, data, offset):
                return True
        return False

    def _is_one(self, words: Any, places: Any, data: bytes, offset: int) -> bool:
        import numpy as np  # noqa: PLC0415

        found = words[places]
        if np.isin(found, self._short).any():
            return True
        for place in places[np.isin(found, self._head)]:
            start = offset + _SHORT * (int(place) + 1)
            after = data[start : start + _SHORT]
            first, end = (np.searchsorted(self._head, words[place], side) for side in ("left", "right"))
            if len(after) == _SHORT and np.frombuffer(after, "<u8")[0] in self._tail[first:end]:
                return True
        return False


def _mixed(words: Any) -> Any:
    return (words * words.dtype.type(_MIX)) >> words.dtype.type(64 - _BITS)
