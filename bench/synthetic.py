"""Journals of runs that never took place, for the benchmark of the pack and for sample reports."""

from __future__ import annotations

import hashlib
from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random

import msgspec

from privacy_toolkit.core.model import Attribution, HeldBefore, Hold, Outcome, Purpose, Reason, StopReason
from privacy_toolkit.engine.plan import Plan, PlannedExclusions, PlannedInput, PlannedRows
from privacy_toolkit.journal.records import ExchangeRecord, Note, Staged, SubjectState
from privacy_toolkit.journal.sqlite.reader import create_run
from privacy_toolkit.journal.sqlite.run import RunJournal

START = 1_795_420_800_000_000  # microseconds; 2026-11-23 08:00 UTC
AT_ONCE = 1_000
READ, ERASE = "get_customer_inventory", "delete_customer_data"
HOLDS = (Hold("17(3)(b) legal obligation", "2027-03-31"), Hold("17(3)(e) legal claims", "2026-12-15"), Hold("identity"))
REQUESTED = date(2026, 11, 20)  # the last day on which a request came in
GROUNDS = ("17(1)(b)", "17(1)(a)", "17(1)(c)")
SETTINGS = {
    "toolkit": "0.1.0",
    "python": "3.11.2",
    "generation": "current",
    "rate": 200.0,
    "concurrency": 16,
    "settle_seconds": 5.0,
    "timeouts_seconds": {"connect": 5.0, "write": 10.0, "read": 15.0, "pool": 30.0},
    "verify": "all",
    "gone_predicate": "gone/1",
    "max_failures": None,
    "expect_missing": False,
    "until": None,
    "api_key": "set (from file)",
    "content_signature": "not set",
}

History = tuple[SubjectState, list[ExchangeRecord]]


class Walk:
    """One subject's exchanges, one after the other."""

    def __init__(self, now: int, rng: Random) -> None:
        self.now = now
        self.rng = rng
        self.exchanges: list[ExchangeRecord] = []

    def read(self, purpose: Purpose, status: int | None = 200, reason: Reason | None = None) -> Walk:
        return self._add(purpose, READ, status, reason, None)

    def erase(self, status: int | None = 204, reason: Reason | None = None, answered: bool = True) -> Walk:
        self.now += 900
        if not answered:
            self.exchanges.append(ExchangeRecord(Purpose.ACT, ERASE, intent_at=self.now))
            return self
        return self._add(Purpose.ACT, ERASE, status, reason, self.now)

    def _add(self, purpose: Purpose, name: str, status: int | None, reason: Reason | None, intent: int | None) -> Walk:
        elapsed = int(self.rng.lognormvariate(10.2, 0.45))  # about 27 ms
        self.now += elapsed
        self.exchanges.append(ExchangeRecord(purpose, name, intent, self.now, elapsed, status, reason))
        return self

    def end(self, outcome: Outcome, reason: Reason | None = None, **more: object) -> History:
        held = HeldBefore.VISIBLE if any(e.purpose is Purpose.ACT for e in self.exchanges) else None
        attempts = sum(e.purpose is Purpose.ACT and e.reason is not Reason.CONNECT_REFUSED for e in self.exchanges)
        given = {"held_before": held, "attempts": attempts, "settled_at": self.now} | more
        return SubjectState(outcome, reason, **given), self.exchanges


def history(outcome: Outcome, walk: Walk) -> History:
    """What may have happened to a subject that is in ``outcome``."""
    before, after = Purpose.READ_BEFORE, Purpose.READ_AFTER
    if outcome is Outcome.ERASED:
        return _erased(walk)
    if outcome is Outcome.NOTHING_HELD:
        return walk.read(before, 404, Reason.NOT_FOUND).end(outcome)
    walk.read(before)
    if outcome in {Outcome.FAILED, Outcome.RETRYABLE}:
        status, reason = (400, Reason.BAD_REQUEST) if outcome is Outcome.FAILED else (429, Reason.RATE_LIMITED)
        walk.erase(status, reason)
    elif outcome is Outcome.UNVERIFIED:
        reason = Reason.READ_FAILED_AFTERWARDS
        walk.erase().read(after, None, Reason.READ_TIMEOUT)
    elif outcome is Outcome.RESIDUAL:
        reason = Reason.STILL_HELD
        walk.erase().read(after).read(after)
    else:
        lost = walk.rng.random() < 0.3
        reason = Reason.NO_ANSWER_RECORDED if lost else Reason.READ_TIMEOUT
        walk.erase(None, reason, answered=not lost)
    return walk.end(outcome, reason)


def _erased(walk: Walk) -> History:
    chance = walk.rng.random()
    kept = {"first_count": int(chance * 100) % 3, "second_count": int(int(chance * 1000) % 7 == 0)}
    walk.read(Purpose.READ_BEFORE)
    if chance < 0.01:
        walk.erase(None, Reason.READ_TIMEOUT).read(Purpose.RECONCILE)
        return walk.end(Outcome.ERASED, attribution=Attribution.INFERRED, **kept)
    if chance < 0.03:
        walk.erase(503, Reason.UNAVAILABLE)
    held = HeldBefore.NONE_VISIBLE if chance > 0.96 else HeldBefore.VISIBLE
    walk.erase().read(Purpose.READ_AFTER)
    return walk.end(Outcome.ERASED, attribution=Attribution.CONFIRMED, held_before=held, **kept)


def make_run(
    folder: Path, mix: dict[Outcome, int], *, environment: str = "live", stops: Sequence[StopReason] = ()
) -> Path:
    """Write the journal of a run whose subjects are in the outcomes of ``mix``; deterministic but for its secret."""
    size = sum(mix.values())
    rng = Random(7)  # a sample, not a secret
    outcomes = [outcome for outcome, count in mix.items() for _ in range(count)]
    rng.shuffle(outcomes)
    held = {seq: HOLDS[seq % 3] for seq, o in enumerate(outcomes, 1) if o is Outcome.ON_HOLD}
    plan = _plan(size, len(held), environment).encode()
    now = START + 60_000_000
    create_run(folder, Staged(plan=plan, created_at=START, pages=_pages(size), holds=held, requests=_requests(size)))
    ends = (*stops, None) if not mix.get(Outcome.PENDING) else stops
    settings = msgspec.json.encode(SETTINGS).decode()
    with RunJournal(folder) as journal:
        for k, stop in enumerate(ends or (None,)):
            number = journal.begin_execution(START + 59_000_000, settings)
            now = record(journal, outcomes, rng) if not k else now
            journal.end_execution(number, now + 8_000_000, stop)
    return folder


def record(journal: RunJournal, outcomes: Sequence[Outcome], rng: Random) -> int:
    """Record what may have happened to subjects that are in these outcomes; when it was over."""
    now = START + 60_000_000
    notes: list[Note] = []
    for seq, outcome in enumerate(outcomes, 1):
        now += 5_000
        if outcome not in {Outcome.PENDING, Outcome.ON_HOLD}:
            state, exchanges = history(outcome, Walk(now, rng))
            notes.append(Note(seq, list(enumerate(exchanges, 1)), state))
        if len(notes) == AT_ONCE:
            journal.record(notes)
            notes = []
    journal.record(notes)
    return now


def _pages(size: int) -> Iterator[list[tuple[int, str]]]:
    for first in range(1, size + 1, 1000):
        yield [(seq + 1, f"customer-{seq:08}") for seq in range(first, min(first + 1000, size + 1))]


def _requests(size: int) -> Iterator[tuple[int, str, str, str, str]]:
    """The dates and references of the requests: of the weeks before the run, one calendar month to answer them."""
    for seq in range(1, size + 1):
        asked = REQUESTED - timedelta(days=seq % 40)
        month = asked.replace(day=1) + timedelta(days=31)
        due = month.replace(day=min(asked.day, monthrange(month.year, month.month)[1]))
        yield seq, asked.isoformat(), due.isoformat(), f"DSR-2026-{seq:07}", GROUNDS[seq % 3]


def _plan(size: int, held: int, environment: str) -> Plan:
    reasons = {"empty": 3 + size // 500, "surrounding_whitespace": 2 + size // 200, "control_character": 1}
    rejected, duplicates = sum(reasons.values()), size // 40
    digest = hashlib.sha256(str(size).encode()).hexdigest()
    return Plan(
        toolkit="0.1.0",
        job="erase",
        target="example.europe-west1.talon.one/shop",
        base_url="https://example.europe-west1.talon.one",
        environment=environment,
        generation="current",
        created_at="2026-11-23T08:00:00Z",
        input=PlannedInput(
            path="requests.csv", keyed_sha256=digest, size=size * 19 + 12, format="csv", id_column="customer_id"
        ),
        rows=PlannedRows(
            read=size + rejected + duplicates,
            rejected=rejected,
            duplicates=duplicates,
            subjects=size,
            held=held,
            rejected_by_reason=reasons,
        ),
        exclusions=PlannedExclusions(path="holds.csv", keyed_sha256=digest[::-1], entries=held + 40, matched=held),
        calls={READ: (size - held, 2 * (size - held)), ERASE: (0, size - held)},
    ).sealed()
