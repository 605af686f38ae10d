"""Runs that are made up, written to a journal the way the engine writes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import Attribution, HeldBefore, Hold, Outcome, Purpose, Reason, StopReason
from privacy_toolkit.engine.plan import Plan, PlannedExclusions, PlannedInput, PlannedRows
from privacy_toolkit.journal.records import (
    Acceptance,
    Approval,
    ExchangeRecord,
    Note,
    PackageFacts,
    Staged,
    SubjectState,
    encode_package,
)
from privacy_toolkit.journal.sqlite.reader import create_run
from privacy_toolkit.journal.sqlite.run import RunJournal

#: The refused rows of every made-up input.
REJECTED = ((3, "surrounding_whitespace"), (5, "blank"), (6, "surrounding_whitespace"), (9, "surrounding_whitespace"))
START = 1_795_420_800_000_000  # 2026-11-23 08:00 UTC
READ, ERASE = "get_customer_inventory", "delete_customer_data"
SETTINGS = {
    "toolkit": "0.1.0",
    "rate": 200.0,
    "verify": "all",
    "gone_predicate": "gone/1",
    "api_key": "set (from file)",
}
#: What the erasure was answered, and why the subject stands where it does.
ANSWERS = {
    Outcome.ERASED: (204, None),
    Outcome.RESIDUAL: (204, Reason.STILL_HELD),
    Outcome.REAPPEARED: (204, Reason.STILL_HELD),
    Outcome.UNVERIFIED: (204, Reason.NOT_READ_YET),
    Outcome.UNKNOWN: (None, Reason.READ_TIMEOUT),
    Outcome.FAILED: (400, Reason.BAD_REQUEST),
    Outcome.RETRYABLE: (429, Reason.RATE_LIMITED),
}


class Asked(NamedTuple):
    """What the input says of the request behind a subject; dates are ISO 8601."""

    requested_on: str | None = None
    due_on: str | None = None
    ticket: str | None = None
    ground: str | None = None


class Told(msgspec.Struct, frozen=True):
    """One subject: its id, where it stands (None: nothing recorded) and what was exchanged, or why it is on hold.

    ``request`` is what the input says next to the id, ``result`` what was kept of the answer, if anything.
    """

    id: str
    state: SubjectState | None = None
    exchanges: tuple[ExchangeRecord, ...] = ()
    hold: Hold | None = None
    request: Asked | None = None
    result: bytes | None = None


def told(
    id_: str,
    outcome: Outcome,
    at: int = START + 60_000_000,
    hold: Hold | None = None,
    request: Asked | None = None,
) -> Told:
    """A subject that came to ``outcome`` in the usual way."""
    return replace(_walked(id_, outcome, at, hold), request=request)


def exported(id_: str, facts: PackageFacts | None = None, at: int = START + 60_000_000) -> Told:
    """A subject whose package is ``facts``; without one its package could not be written."""
    read = ExchangeRecord(Purpose.READ_BEFORE, READ, None, at, 20_000, 200)
    if facts is None:
        return Told(id_, SubjectState(Outcome.RETRYABLE, Reason.NOT_DELIVERED, settled_at=at), (read,))
    return Told(id_, SubjectState(Outcome.DONE, settled_at=at), (read,), result=encode_package(facts))


def _walked(id_: str, outcome: Outcome, at: int, hold: Hold | None) -> Told:
    if outcome is Outcome.PENDING:
        return Told(id_)
    if outcome is Outcome.ON_HOLD:
        return Told(id_, hold=hold or Hold("17(3)(b)", "2027-01-31"))
    before = ExchangeRecord(Purpose.READ_BEFORE, READ, None, at, 20_000, 200)
    if outcome is Outcome.NOTHING_HELD:
        absent = msgspec.structs.replace(before, status=404, reason=Reason.NOT_FOUND)
        return Told(id_, SubjectState(outcome, settled_at=at), (absent,))
    status, reason = ANSWERS[outcome]
    accepted = status == 204
    sent = ExchangeRecord(Purpose.ACT, ERASE, at + 1_000, at + 31_000, 30_000, status, None if accepted else reason)
    after = ExchangeRecord(Purpose.READ_AFTER, READ, None, at + 55_000, 24_000, 200)
    seen = (after,) if accepted and outcome is not Outcome.UNVERIFIED else ()
    state = SubjectState(outcome, reason, held_before=HeldBefore.VISIBLE, attempts=1, settled_at=at + 55_000)
    if outcome is Outcome.ERASED:
        state = msgspec.structs.replace(state, attribution=Attribution.CONFIRMED, first_count=2, second_count=1)
    return Told(id_, state, (before, sent, *seen))


def plan_of(subjects: int, held: int = 0, **changes: object) -> Plan:
    """A sealed plan for so many subjects."""
    rows = PlannedRows(
        read=subjects + 7,
        rejected=4,
        duplicates=3,
        subjects=subjects,
        held=held,
        rejected_by_reason={"blank": 1, "surrounding_whitespace": 3},
    )
    plan = Plan(
        toolkit="0.1.0",
        job="erase",
        target="example.europe-west1.talon.one/shop",
        base_url="https://example.europe-west1.talon.one",
        environment="sandbox",
        generation="current",
        created_at="2026-11-23T07:59:00Z",
        input=PlannedInput(
            path="secret-name.csv", keyed_sha256="a" * 64, size=1234, format="csv", id_column="customer_id"
        ),
        rows=rows,
        exclusions=PlannedExclusions(path="secret-holds.csv", keyed_sha256="b" * 64, entries=held + 5, matched=held),
        calls={READ: (subjects, 2 * subjects), ERASE: (0, subjects)},
    )
    return msgspec.structs.replace(plan, **changes).sealed()


def write_run(
    folder: Path,
    subjects: Sequence[Told],
    *,
    stops: Sequence[StopReason | None] = (None,),
    crashed: bool = False,
    settings: dict[str, object] = SETTINGS,
    approval: Approval | None = None,
    rejected: Sequence[tuple[int, str]] | None = None,
    accepted: bool = True,
    plan_key: bytes | None = None,
    **changes: object,
) -> Path:
    """Write the journal of a run; each of ``stops`` is the end of an execution, all the work is done in the last one.

    The refused rows are those of the plan where it is the usual one, and ``accepted`` by the operator.
    """
    rejected = (() if "rows" in changes else REJECTED) if rejected is None else rejected
    holds = {seq: subject.hold for seq, subject in enumerate(subjects, 1) if subject.hold}
    page = [(row, subject.id) for row, subject in enumerate(subjects, 2)]
    pages = [page[k : k + 1000] for k in range(0, len(page), 1000)]
    plan = plan_of(len(subjects), len(holds), **changes)
    plan = plan if plan_key is None else plan.keyed(plan_key).sealed()
    requests = [(seq, *subject.request) for seq, subject in enumerate(subjects, 1) if subject.request]
    create_run(
        folder,
        Staged(
            plan=plan.encode(),
            created_at=START,
            pages=pages,
            holds=holds,
            requests=requests,
            approval=approval,
            rejected=rejected,
            plan_key=plan_key,
        ),
    )
    journal = RunJournal(folder)
    if accepted and rejected:
        journal.accept_rejected(Acceptance(START, len(rejected)))
    for k, stop in enumerate(stops):
        number = journal.begin_execution(START + k * 1_000_000, msgspec.json.encode(settings).decode())
        if k == len(stops) - 1:
            for seq, subject in enumerate(subjects, 1):
                if subject.state:
                    exchanges = list(enumerate(subject.exchanges, 1))
                    journal.record([Note(seq, exchanges, subject.state, subject.result)])
        if not crashed:
            journal.end_execution(number, START + 90_000_000 + k, stop)
    journal.close()
    return folder
