"""Rows of which up to a thousand go out in one request: which go together, and what its answer says of each."""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import OPEN_OUTCOMES, Outcome, Reason, Subject
from privacy_toolkit.engine.steps import Sending, Steps, Stopped
from privacy_toolkit.jobs.writing import ACT_TRIES, REFUSED_FOR_GOOD, Writing, is_certain
from privacy_toolkit.journal.records import Entry, SubjectState
from privacy_toolkit.talonone.bodies import MOST_AT_ONCE
from privacy_toolkit.talonone.models import RequestBody
from privacy_toolkit.talonone.operations import Operation, RetrySafety
from privacy_toolkit.talonone.responses import Answer, Finding

# Which rows go together. Nobody is in a request twice: of two rows about one customer the answer could not say which
# of them it means, and the API not which of them counts.

#: The bytes that the rows of a request may have together: servers and proxies often refuse more than a megabyte.
MOST_BYTES = 900_000
#: So many rows, and bytes of them, wait at most for others that they may go with.
MOST_WAITING, MOST_BYTES_WAITING = 30_000, 32_000_000
#: What rows share that need nothing in common.
ANY = ""


class Together(msgspec.Struct, frozen=True):
    """How rows become one request.

    ``share`` says of the body of a row what it has in common with all that it may go with, None where it has to go
    alone; of jobs whose rows keep their order it is ``ANY``. ``body`` makes the request of some subjects. ``told``
    takes from an answer what it says of each customer; None where answers name nobody. ``keep`` takes what is kept of
    that.
    """

    operation: Operation
    share: Callable[[str], str | None]
    body: Callable[[Sequence[Subject]], RequestBody]
    told: Callable[[Any], Mapping[str, Any]] | None = None
    keep: Callable[[Any], bytes] | None = None


class _Row(NamedTuple):
    """A row that waits for others: who it is about, its size, and what is given on."""

    customer: str
    size: int
    given: Any


class _Bundle:
    """Rows for one request; ``is_open`` as long as there is room for more."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self.size = 0
        self.is_open = True


class _Line:
    """The batches of rows that share one thing, in the order in which they go out.

    A row is put into the first one with room that comes after all with rows of its customer.
    """

    def __init__(self) -> None:
        self._batches: deque[_Bundle] = deque()
        self._first = 0  # the number of the batch in front
        self._open: list[int] = []
        self.last: dict[str, int] = {}  # the batch with the last waiting row of a customer
        self.rows = 0

    def add(self, row: _Row) -> None:
        """Put a row into a batch."""
        at = bisect_right(self._open, self.last.get(row.customer, -1))
        while at < len(self._open) and self._batch(self._open[at]).size + row.size > MOST_BYTES:
            self._close(at)
        if at == len(self._open):
            self._open.append(self._first + len(self._batches))
            self._batches.append(_Bundle())
        number = self._open[at]
        batch = self._batch(number)
        batch.rows.append(row)
        batch.size += row.size
        self.last[row.customer] = number
        self.rows += 1
        if len(batch.rows) == MOST_AT_ONCE:
            self._close(at)

    def give(self, *, whole: bool = False) -> Iterator[tuple[list[Any], int]]:
        """Give what is full, as long as nothing is in front of it, or all there is; each batch with its size."""
        while self._batches and (whole or not self._batches[0].is_open):
            batch = self._batches.popleft()
            if batch.is_open:
                self._open.pop(0)
            for row in batch.rows:
                if self.last[row.customer] == self._first:
                    del self.last[row.customer]
            self._first += 1
            self.rows -= len(batch.rows)
            yield [row.given for row in batch.rows], batch.size

    def _batch(self, number: int) -> _Bundle:
        return self._batches[number - self._first]

    def _close(self, at: int) -> None:
        self._batch(self._open.pop(at)).is_open = False


class Gathering:
    """Puts rows together that may go out in one request, in the order in which they come.

    What is about one customer keeps its order among the rows that share one thing.
    """

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._rows = self._bytes = 0

    def take(self, share: str, row: _Row) -> Iterator[list[Any]]:
        """Let a row wait for others; what is full by that is given."""
        line = self._lines.setdefault(share, _Line())
        line.add(row)
        self._rows += 1
        self._bytes += row.size
        for given, size in line.give():
            self._rows -= len(given)
            self._bytes -= size
            yield given
        if not line.rows:
            del self._lines[share]
        if self._rows > MOST_WAITING or self._bytes > MOST_BYTES_WAITING:
            yield from self.rest(MOST_WAITING // 2, MOST_BYTES_WAITING // 2)

    def holds(self, customers: Iterable[str]) -> bool:
        """Whether a row about any of these customers waits that shares ``ANY``."""
        line = self._lines.get(ANY)
        return line is not None and any(customer in line.last for customer in customers)

    def rest(self, rows: int = 0, size: int = 0) -> Iterator[list[Any]]:
        """Give all that waits, or, the fullest first, as much that no more than so many rows and bytes are left."""
        for share in sorted(self._lines, key=lambda name: -self._lines[name].rows):
            if self._rows <= rows and self._bytes <= size:
                return
            for given, taken in self._lines.pop(share).give(whole=True):
                self._rows -= len(given)
                self._bytes -= taken
                yield given


def counted(rows: Iterable[tuple[str, str]], share: Callable[[str], str | None]) -> tuple[int, int]:
    """How many of these rows, each with its id and its body, go together, and in how many requests."""
    gathering, together, requests = Gathering(), 0, 0
    for customer, given in rows:
        shared = share(given)
        if shared is not None:
            together += 1
            requests += sum(1 for _ in gathering.take(shared, _Row(customer, len(given), None)))
    return together, requests + sum(1 for _ in gathering.rest())


class ManyWriting(msgspec.Struct, frozen=True):
    """The procedure of a job that makes one request of many rows, and one of each row that has to go ``alone``."""

    alone: Writing
    together: Together

    def keys(self, entries: Sequence[Entry]) -> Collection[str]:
        """All customers: their requests go out one after another."""
        return {key for entry in entries for key in self.alone.keys((entry,))}

    def gather(self, pages: Iterable[Sequence[Entry]]) -> Iterator[Sequence[Sequence[Entry]]]:
        """Put rows together, page by page; what has to keep its order is given in it."""
        gathering = Gathering()
        for page in pages:
            yield [walk for entry in page for walk in self._take(entry, gathering)]
        yield list(gathering.rest())

    def _take(self, entry: Entry, gathering: Gathering) -> Iterator[Sequence[Entry]]:
        subject = entry.subject
        share = self.together.share(subject.given)
        if share is not None:
            yield from gathering.take(share, _Row(subject.id, len(subject.given), entry))
            return
        if self.alone.ordered and gathering.holds(self.alone.customers(subject.id, subject.given)):
            yield from gathering.rest()
        yield (entry,)

    async def walk(self, entries: Sequence[Entry], steps: Steps) -> None:
        """Bring some rows as far as they go in this execution."""
        if self.together.share(entries[0].subject.given) is None:
            await self.alone.walk(entries, steps)
        else:
            await _ManyWalk(self, entries, steps).run()

    def sending(self, subjects: Sequence[Subject]) -> Sending:
        """The request of some rows: the same to the byte, and with the same key, whenever it is of the same rows."""
        operation = self.together.operation
        text = "keys:" + ",".join(str(subject.seq) for subject in subjects)
        key = hmac.new(self.alone.secret, text.encode(), hashlib.sha256).hexdigest()
        about = {key for subject in subjects for key in self.alone.about(subject)}
        body = self.together.body(subjects)
        return Sending(None, body, None, key if operation.idempotency_key else None, about=about)


# The walk of such rows.
#
# A refusal names none of them: it says that nothing of the request was done, not whose fault that was. So the request
# is sent in smaller ones, until it is about one row alone; only then a row is refused for good. Where a request must
# not be sent twice, a refusal counts only once its connection vouches for it. Of an answer that leaves somebody out
# that row is as good as unanswered.

#: A request is cut in so many: one bad row of 1,000 takes 30 more requests, 1,000 bad ones 110.
_PIECES = 10
#: After so many losses of the same request smaller ones are tried: it may be too much for one.
_LOST_WHOLE = 2


class _Chunk(NamedTuple):
    """Rows that are sent together, by their numbers, and how often they were."""

    seqs: Sequence[int]
    tries: int = 0

    def pieces(self, tries: int) -> list[_Chunk]:
        """The same rows in smaller chunks."""
        size = -(-len(self.seqs) // _PIECES)
        return [_Chunk(self.seqs[at : at + size], tries) for at in range(0, len(self.seqs), size)]


class _ManyWalk:
    """Rows on their way. ``_at`` is where each stands by the journal, or is about to."""

    def __init__(self, job: ManyWriting, entries: Sequence[Entry], steps: Steps) -> None:
        self._job, self._together, self._steps = job, job.together, steps
        self._is_safe = job.together.operation.retry is RetrySafety.SAFE
        self._entries = entries
        self._subjects = {entry.subject.seq: entry.subject for entry in entries}
        self._at = {entry.subject.seq: entry.state for entry in entries}
        #: What was sent may be done, whatever they say later; with why that is so.
        self._lost = {
            entry.subject.seq: entry.state.reason for entry in entries if entry.state.outcome is Outcome.UNKNOWN
        }
        self._touched: dict[int, None] = {}  # sent, and not settled yet
        self._wanting: list[int] = []

    async def run(self) -> None:
        """Send for all that may be sent for, and settle each by what that came to."""
        self._wanting = [entry.subject.seq for entry in self._entries if self._may_send(entry)]
        waiting = deque([_Chunk(self._wanting)] if self._wanting else [])
        try:
            while waiting:
                chunk = waiting.popleft()
                waiting.extendleft(reversed(await self._after(chunk, await self._send(chunk))))
        except Stopped:
            self._settle(list(self._touched))
            raise
        finally:
            self._hold_back()

    def _may_send(self, entry: Entry) -> bool:
        """Whether a row may be sent; one that may not is settled, or left as an earlier execution left it."""
        job, state, subject = self._job.alone, entry.state, entry.subject
        if state.reason in {Reason.NO_LOOK_POSSIBLE, Reason.STATE_RESTORED}:
            return False
        suppressed = any(map(self._steps.is_suppressed, job.customers(subject.id, subject.given)))
        if state.outcome is Outcome.UNKNOWN and (suppressed or not self._is_safe):
            self._stand(subject.seq, Outcome.UNKNOWN, Reason.NO_LOOK_POSSIBLE)
            self._settle([subject.seq])
        elif suppressed:
            self._steps.suppress(state, subject.seq)
        else:
            return True
        return False

    async def _send(self, chunk: _Chunk) -> Answer:
        operation = self._together.operation
        lost = {seq: self._unanswered(self._at[seq]) for seq in chunk.seqs}
        sending = self._job.sending([self._subjects[seq] for seq in chunk.seqs])
        follows, keep = partial(self._follows, chunk), partial(self._keep, chunk)
        answer = await self._steps.act(operation, lost, follows, sending, keep)
        if not is_certain(answer):
            answer = await self._steps.vouched(operation, answer)
            self._judge(chunk, answer)
        if answer.finding is Finding.UNKNOWN:
            self._note_lost(chunk.seqs)
        return answer

    def _unanswered(self, state: SubjectState) -> SubjectState:
        """Where a row stands if no answer is ever recorded."""
        return replace(
            state,
            outcome=Outcome.UNKNOWN,
            reason=Reason.NO_ANSWER_RECORDED,
            attempts=state.attempts + 1,
            settled_at=self._steps.now,
        )

    def _follows(self, chunk: _Chunk, answer: Answer) -> dict[int, SubjectState]:
        """Where the rows stand by the answer, as long as nothing vouches for it: a crash leaves no more than that."""
        self._touched.update(dict.fromkeys(chunk.seqs))
        if not is_certain(answer):
            answer = replace(answer, finding=Finding.UNKNOWN, reason=Reason.NO_ANSWER_RECORDED)
        if answer.finding is not Finding.NEVER_SENT:
            for seq in chunk.seqs:
                self._at[seq] = replace(self._at[seq], attempts=self._at[seq].attempts + 1)
        self._judge(chunk, answer)
        return {seq: self._at[seq] for seq in chunk.seqs}

    def _judge(self, chunk: _Chunk, answer: Answer) -> None:
        told = self._told(answer)
        for seq in chunk.seqs:
            self._stand(seq, *self._named(seq, answer, told, alone=len(chunk.seqs) == 1))

    def _told(self, answer: Answer) -> Mapping[str, Any] | None:
        """What an answer says of each customer; None where such answers name nobody."""
        return None if self._together.told is None or answer.value is None else self._together.told(answer.value)

    def _named(
        self, seq: int, answer: Answer, told: Mapping[str, Any] | None, *, alone: bool
    ) -> tuple[Outcome, Reason | None]:
        """What the answer says of one row; a refusal says nothing about what was sent earlier and not answered."""
        if answer.finding is Finding.DONE:
            if told is None:
                return Outcome.DONE, None if alone else Reason.ACCEPTED_TOGETHER
            if self._subjects[seq].id in told:
                return Outcome.DONE, None
        if answer.finding in {Finding.DONE, Finding.UNKNOWN}:
            reason = answer.reason or Reason.NOT_IN_ANSWER
            return Outcome.UNKNOWN, reason if self._is_safe else Reason.NO_LOOK_POSSIBLE
        for_good = alone and answer.finding in REFUSED_FOR_GOOD
        if seq in self._lost:
            return Outcome.UNKNOWN, Reason.NO_LOOK_POSSIBLE if for_good else self._lost[seq]
        return Outcome.FAILED if for_good else Outcome.RETRYABLE, answer.reason

    def _keep(self, chunk: _Chunk, answer: Answer) -> dict[int, bytes]:
        keep, told = self._together.keep, self._told(answer)
        if keep is None or told is None or answer.finding is not Finding.DONE:
            return {}
        return {seq: keep(told[self._subjects[seq].id]) for seq in chunk.seqs if self._subjects[seq].id in told}

    async def _after(self, chunk: _Chunk, answer: Answer) -> list[_Chunk]:
        """Go on by what a request came to; what has to be sent again."""
        tries, is_one = chunk.tries + 1, len(chunk.seqs) == 1
        if answer.finding is Finding.DONE:
            self._settle([seq for seq in chunk.seqs if self._at[seq].outcome is Outcome.DONE])
            missing = [seq for seq in chunk.seqs if self._at[seq].outcome is not Outcome.DONE]
            if not missing:
                return []
            self._note_lost(missing)
            return await self._again(_Chunk(missing, chunk.tries), answer)
        if answer.finding in REFUSED_FOR_GOOD and not is_one:
            return chunk.pieces(0)
        if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and self._is_safe and not is_one:
            return chunk.pieces(tries)
        if answer.finding in {Finding.UNKNOWN, Finding.REFUSED, Finding.NEVER_SENT}:
            return await self._again(chunk, answer)
        self._settle(chunk.seqs)
        return []

    async def _again(self, chunk: _Chunk, answer: Answer) -> list[_Chunk]:
        """Send the same again where that does no harm, after a while; else the rows stand as they do."""
        tries, is_lost = chunk.tries + 1, answer.finding in {Finding.UNKNOWN, Finding.DONE}
        goes_on = (self._is_safe or not is_lost) and tries < ACT_TRIES
        if not goes_on or not await self._steps.back_off(tries, answer):
            self._settle(chunk.seqs)
            return []
        return chunk.pieces(tries) if is_lost and tries == _LOST_WHOLE else [_Chunk(chunk.seqs, tries)]

    def _note_lost(self, seqs: Iterable[int]) -> None:
        """Remember whose request may have been carried out."""
        for seq in seqs:
            self._lost[seq] = self._at[seq].reason
        if self._job.alone.ordered:
            self._steps.keep_quiet()

    def _stand(self, seq: int, outcome: Outcome, reason: Reason | None) -> None:
        self._at[seq] = replace(self._at[seq], outcome=outcome, reason=reason, settled_at=self._steps.now)

    def _settle(self, seqs: Iterable[int]) -> None:
        for seq in seqs:
            self._touched.pop(seq, None)
            self._steps.settle(self._at[seq], seq)

    def _hold_back(self) -> None:
        """Let nothing about a customer overtake what is left open of them here and will be sent later."""
        open_ = [
            seq
            for seq in self._wanting
            if self._at[seq].outcome in OPEN_OUTCOMES and self._at[seq].reason is not Reason.NO_LOOK_POSSIBLE
        ]
        if open_:
            self._steps.hold_back({key for seq in open_ for key in self._job.alone.about(self._subjects[seq])})
