"""Leases of several executions on one run in the database: who may write, who has which pages, who may send how much.

Each function with a connection is one transaction, or a part of one. The row of the run in ``runs`` is locked first by
whatever looks at several executions; a commit without a beat or an end touches the row of its own execution, and pages
that it has claimed, alone. Time is ``moment()``, which is the server's clock.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec
import psycopg

from privacy_toolkit.core.model import OPEN_OUTCOMES, JournalError, Purpose, StopReason
from privacy_toolkit.http.exchange import ShareHolder, heard, short_of
from privacy_toolkit.journal.lease import (
    BeatAnswer,
    ClaimedPages,
    CountedElsewhere,
    LeaseBatch,
    LeaseBeat,
    LeaseTerms,
    Unclaimed,
    fenced,
)
from privacy_toolkit.journal.packed import Damage, control_row, decode_rows, page_as_known
from privacy_toolkit.journal.postgres.connection import (
    Connection,
    Database,
    LeaseLine,
    Notices,
    UnreachableError,
    lacking,
    passing,
    trouble,
)
from privacy_toolkit.journal.postgres.reader import RESULT, is_live, sealed, this_host, this_process
from privacy_toolkit.journal.records import Entry, Note, StopAsked, SubjectRow
from privacy_toolkit.journal.store import damaged, locked, moved, running
from privacy_toolkit.journal.writing import PageLog, as_one, pack_commit, pack_note
from privacy_toolkit.signatures.signers import RunSeal

T = TypeVar("T")


class LeaseOf(NamedTuple):
    """Whose lease it is: the run by its number and its id, the execution, on which terms, and what seals the run."""

    run_no: int
    run_id: str
    number: int
    terms: LeaseTerms
    seal: RunSeal | None = None


# An execution begins.

_OTHERS: Final = (
    "SELECT number, process, expires_at + drain * interval '1 second' > moment(), exclusive IS NULL FROM executions"
    " WHERE run_no = %s AND number <> %s AND ended_at IS NULL AND fenced_at IS NULL"
)
_ON_TARGET: Final = (
    "SELECT process, expires_at + drain * interval '1 second' > moment() FROM executions JOIN runs USING (run_no)"
    " WHERE target = %s AND run_id IS DISTINCT FROM %s AND ended_at IS NULL AND fenced_at IS NULL"
)
_BEGIN: Final = """
    INSERT INTO executions (run_no, number, started_at, settings, host, process, expires_at, beaten_at, target,
        generation, exclusive, rate, drain)
    SELECT %s, coalesce(max(number), 0) + 1, %s, %s, %s, %s, moment() + %s * interval '1 second', moment(), %s,
        %s, %s, %s::float8, %s::float8 FROM executions WHERE run_no = %s RETURNING number
"""
#: What a former generation left open is tried again. Pages without anybody open are left alone.
_AGAIN: Final = (
    "UPDATE pages SET walked = false, execution = NULL WHERE run_no = %s AND (walked OR execution IS NOT NULL)"
    " AND (is_open OR first IN (SELECT DISTINCT first FROM log WHERE run_no = %s))"
)


def begin(connection: Connection, run_no: int, run_id: str, started_at: int, settings: str, terms: LeaseTerms) -> int:
    """Begin an execution, within a transaction; its number.

    Raises:
        RefusedError: another run is under way on the target, or somebody has this one to themselves (code ``locked``).
        JournalError: the run is no longer in use (code ``moved``).
    """
    if terms.target:
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"toolkit.target {terms.target}",))
        if is_worked_on(connection, terms.target, run_id):
            raise locked(terms.target)
    found = connection.execute(
        "UPDATE runs SET touched = touched + 1 WHERE run_no = %s AND set_aside_at IS NULL RETURNING generation",
        (run_no,),
    ).fetchone()
    if found is None:
        raise moved(run_id)
    (generation,) = found
    others = fence(connection, run_no, 0)
    if any(is_alone for _, is_alone in others):
        raise running(run_id)
    if not others and not (terms.joins and generation):
        generation = _next_generation(connection, run_no)
    given = (run_no, started_at, settings, this_host(), this_process(), terms.lease, terms.target, generation)
    row = connection.execute(_BEGIN, (*given, terms.exclusive, terms.rate, terms.drain, run_no)).fetchone() or (0,)
    return int(row[0])


def _next_generation(connection: Connection, run_no: int) -> int:
    """Have what was left open tried again, and no stop hold any more, on a run that nobody works on."""
    (generation,) = connection.execute(
        "UPDATE runs SET generation = generation + 1, stop = NULL, paused_until = NULL, holder = NULL, walked = false,"
        " tuned = NULL WHERE run_no = %s RETURNING generation",
        (run_no,),
    ).fetchone() or (0,)
    connection.execute("DELETE FROM stops WHERE run_no = %s", (run_no,))
    if generation > 1:
        connection.execute(_AGAIN, (run_no, run_no))
    return int(generation)


def leave_to_others(connection: Connection, run_id: str) -> None:
    """Begin a run, or go on with it, within a transaction, for anyone who joins it; nothing if somebody works on it."""
    found = connection.execute("SELECT run_no FROM runs WHERE run_id = %s FOR UPDATE", (run_id,)).fetchone()
    if found is not None and not fence(connection, found[0], 0):
        _next_generation(connection, found[0])


def call_off(connection: Connection, run_id: str, asked: StopAsked) -> bool:
    """Have nobody begin to work on a run, within a transaction, until it is resumed; False if somebody works on it."""
    found = connection.execute("SELECT run_no FROM runs WHERE run_id = %s FOR UPDATE", (run_id,)).fetchone()
    if found is None or fence(connection, found[0], 0):
        return False
    note_stop(connection, found[0], asked)
    return True


def note_stop(connection: Connection, run_no: int, asked: StopAsked) -> None:
    """Write down that a run is to stop, within a transaction that has the row of the run."""
    connection.execute(
        "INSERT INTO stops VALUES (%s, %s) ON CONFLICT (run_no) DO UPDATE SET data = excluded.data",
        (run_no, msgspec.json.encode(asked)),
    )
    connection.execute(
        "UPDATE runs SET stop = coalesce(stop, %s) WHERE run_no = %s", (StopReason.STOP_ASKED.value, run_no)
    )


def is_worked_on(connection: Connection, target: str, run_id: str | None) -> bool:
    """Tell whether anybody works on another run than ``run_id`` on a target."""
    found = connection.execute(_ON_TARGET, (target, run_id)).fetchall()
    return any(is_live(process, is_unexpired=is_unexpired) for process, is_unexpired in found)


# Fencing, and what is free then.


def fence(connection: Connection, run_no: int, me: int) -> list[tuple[int, bool]]:
    """Fence all but ``me`` of whom nothing can come any more, and free what they had; who is left, and whether alone.

    A write under way has the row of its execution: it ends first and is seen, or this passes it over for now.
    """
    left = []
    for number, process, is_unexpired, is_alone in connection.execute(_OTHERS, (run_no, me)).fetchall():
        if is_live(process, is_unexpired=is_unexpired) or not _fenced_now(connection, run_no, number, process):
            left.append((number, is_alone))
    return left


def _fenced_now(connection: Connection, run_no: int, number: int, process: str) -> bool:
    found = connection.execute(
        "SELECT expires_at + drain * interval '1 second' > moment(), ended_at, fenced_at FROM executions"
        " WHERE run_no = %s AND number = %s FOR UPDATE SKIP LOCKED",
        (run_no, number),
    ).fetchone()
    if found is None:
        return False
    is_unexpired, ended_at, fenced_at = found
    if ended_at is not None or fenced_at is not None:
        return True
    if is_live(process, is_unexpired=is_unexpired):
        return False
    connection.execute("UPDATE executions SET fenced_at = moment() WHERE run_no = %s AND number = %s", (run_no, number))
    free(connection, run_no, number)
    return True


def free(connection: Connection, run_no: int, number: int) -> None:
    """Free what an execution has claimed; pages of which anything was said come first then: it may be in doubt."""
    connection.execute("UPDATE runs SET holder = NULL WHERE run_no = %s AND holder = %s", (run_no, number))
    connection.execute(
        "UPDATE pages SET execution = NULL, doubted = doubted OR first IN (SELECT first FROM log WHERE run_no = %s)"
        " WHERE run_no = %s AND execution = %s",
        (run_no, run_no, number),
    )


# Writing. Whether an execution may still write, and that this was not written before, is the same statement as writing.

_TURN: Final = "SELECT 1 FROM runs WHERE run_no = %s FOR NO KEY UPDATE"
_WRITE: Final = """
    WITH me AS (UPDATE executions SET written = %s WHERE run_no = %s AND number = %s AND fenced_at IS NULL
            AND ended_at IS NULL AND written = %s RETURNING run_no),
    logged AS (INSERT INTO log (run_no, first, execution, data)
        SELECT run_no, page, %s, said FROM me, unnest(%b::bigint[], %b::bytea[]) AS given (page, said)),
    kept AS (INSERT INTO results
        SELECT run_no, seq, answer FROM me, unnest(%b::bigint[], %b::bytea[]) AS given (seq, answer)
        ON CONFLICT (run_no, seq) DO UPDATE SET data = excluded.data)
    SELECT count(*) FROM me
"""
_CONTROL: Final = (
    "INSERT INTO controls (run_no, kind, operation, ended_at, elapsed, status, reason, held)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)


def commit(connection: Connection, me: LeaseOf, batch: LeaseBatch, pages: Sequence[tuple[int, bytes]]) -> Any:
    """Write a batch, whose notes are ``pages`` as rows of the log, unless it was written before; see ``LeaseKeeper``.

    Raises:
        FencedError: others may have what the execution held.
    """
    looks_at_others = batch.beat is not None or batch.ended is not None or (batch.walked and me.terms.exclusive)
    if not (looks_at_others or batch.walked or batch.controls):
        _write(connection, me, batch, pages)
        return None
    with connection.transaction():
        # What is one's own needs no turn among all executions: it would wait for the disk of the one before.
        if looks_at_others and connection.execute(_TURN, (me.run_no,)).fetchone() is None:
            raise moved(me.run_id)
        if _write(connection, me, batch, pages):
            _write_more(connection, me, batch)
        if batch.beat is None and batch.ended is None:
            return None
        return _beat(connection, me, batch.beat, has_ended=batch.ended is not None)


def _write(connection: Connection, me: LeaseOf, batch: LeaseBatch, pages: Sequence[tuple[int, bytes]]) -> bool:
    """Write notes; False: they were written before."""
    results = ((note.seq, note.result) for note in batch.notes)
    kept = {seq: sealed(me.seal, data, RESULT, seq) for seq, data in results if data is not None}
    log = [first for first, _ in pages], [data for _, data in pages]
    given = (batch.serial, me.run_no, me.number, batch.serial - 1, me.number, *log, list(kept), list(kept.values()))
    (count,) = connection.execute(_WRITE, given).fetchone() or (0,)
    if count:
        return True
    found = connection.execute(
        "SELECT fenced_at IS NULL, written FROM executions WHERE run_no = %s AND number = %s", (me.run_no, me.number)
    ).fetchone()
    if found is None or found[1] < batch.serial - 1:
        raise lacking(me.run_id)
    if not found[0]:
        raise fenced(me.run_id)
    return False


def _write_more(connection: Connection, me: LeaseOf, batch: LeaseBatch) -> None:
    if batch.controls:
        rows = [(me.run_no, *control_row(control)) for control in batch.controls]
        connection.cursor().executemany(_CONTROL, rows)
    if batch.walked and me.terms.exclusive:
        connection.execute("UPDATE runs SET walked = true, holder = NULL WHERE run_no = %s", (me.run_no,))
    elif batch.walked:
        connection.execute(
            "UPDATE pages SET walked = true, execution = NULL WHERE run_no = %s AND first = ANY(%s) AND execution = %s",
            (me.run_no, [claimed.first for claimed in batch.walked], me.number),
        )
    if batch.ended is not None:
        ended_at, stopped_by = batch.ended
        connection.execute(
            "UPDATE executions SET ended_at = %s, stopped_by = %s WHERE run_no = %s AND number = %s",
            (ended_at, stopped_by and stopped_by.value, me.run_no, me.number),
        )
        free(connection, me.run_no, me.number)


class ToldByBeats(NamedTuple):
    """What the database has of one execution of this generation, for a beat."""

    number: int
    is_living: bool
    beaten: int
    rate: float | None
    want: float
    in_use: float
    told: float
    since: float
    failures: int
    first_reads: int
    has_seen: bool
    has_ended: bool


_TOLD: Final = """
    SELECT number, ended_at IS NULL AND fenced_at IS NULL AND expires_at > moment(), beaten, rate, want, in_use, told,
        since, failures, first_reads, has_seen, ended_at IS NOT NULL
    FROM executions WHERE run_no = %s AND generation = (SELECT generation FROM runs WHERE run_no = %s)
"""
_BEAT: Final = """
    UPDATE executions SET beaten = %s, beaten_at = moment(), expires_at = moment() + %s * interval '1 second',
        failures = %s, first_reads = %s, has_seen = %s, want = %s, in_use = %s, told = %s, since = %s
    WHERE run_no = %s AND number = %s
"""
_STATE: Final = """
    UPDATE runs SET stop = coalesce(stop, %s),
        paused_until = greatest(paused_until, CASE WHEN %s > 0 THEN moment() + %s * interval '1 second' END)
    WHERE run_no = %s
    RETURNING stop, greatest(0, extract(epoch FROM paused_until - moment()))::float8
"""


def _beat(connection: Connection, me: LeaseOf, beat: LeaseBeat | None, *, has_ended: bool) -> BeatAnswer | None:
    """Take a beat, unless a later one was taken, and tell those who can have more by it, or by an end."""
    ((now,),) = connection.execute("SELECT extract(epoch FROM moment())::float8").fetchall()
    everybody = [ToldByBeats(*row) for row in connection.execute(_TOLD, (me.run_no, me.run_no)).fetchall()]
    mine = next((one for one in everybody if one.number == me.number), None)
    is_heard = mine is not None and beat is not None and not mine.has_ended and beat.serial > mine.beaten
    holders = {
        one.number: ShareHolder(one.number, one.want, one.in_use, one.told, one.since)
        for one in everybody
        if one.is_living or (one is mine and is_heard)
    }
    rates = [one.rate for one in everybody if one.rate is not None and one.number in holders]
    if has_ended and rates:
        _tell(connection, me, min(rates), holders.values())
    if mine is None or beat is None or not is_heard:
        return None
    tally, share, my = beat.tally, math.inf, holders[me.number]
    if rates:
        had, in_use = my.taken, beat.in_use if mine.is_living else 0.0
        share = heard(my, min(rates), list(holders.values()), in_use=in_use, want=tally.want, now=now)
        if my.taken < had:
            _tell(connection, me, min(rates), holders.values())
    given = (beat.serial, me.terms.lease, tally.failures, tally.first_reads, tally.has_seen)
    connection.execute(_BEAT, (*given, my.want, my.in_use, my.told, my.since, me.run_no, me.number))
    stop, pause = connection.execute(
        _STATE, (tally.stop and tally.stop.value, tally.pause, tally.pause, me.run_no)
    ).fetchone() or (None, None)
    others = [one for one in everybody if one is not mine]
    elsewhere = CountedElsewhere(
        sum(one.failures for one in others),
        sum(one.first_reads for one in others if not one.has_seen),
        any(one.has_seen for one in others),
    )
    return BeatAnswer(share, pause or 0.0, StopReason(stop) if stop else None, elsewhere)


#: The channel on which executions are told that they could have more of the rate: by the numbers of run and execution.
SHARES: Final = "toolkit_shares"


def _tell(connection: Connection, me: LeaseOf, rate: float, holders: Collection[ShareHolder]) -> None:
    for number in short_of(rate, list(holders)):
        if number != me.number:
            connection.execute("SELECT pg_notify(%s, %s)", (SHARES, f"{me.run_no} {number}"))


# Claims.

_RUN: Final = "SELECT generation, stop, walked, size FROM runs WHERE run_no = %s FOR NO KEY UPDATE"
#: Whether an execution is neither fenced nor ended, after which nothing comes free any more, and its lease not over.
_ME: Final = """
    SELECT fenced_at IS NULL AND ended_at IS NULL, expires_at > moment() FROM executions
    WHERE run_no = %s AND number = %s
"""
_MINE: Final = (
    "SELECT first, last FROM pages WHERE run_no = %s AND execution = %s AND NOT walked AND first <> ALL(%s::bigint[])"
    " ORDER BY first LIMIT 1"
)
_MAY_CLAIM: Final = """
    SELECT EXISTS (SELECT 1 FROM executions WHERE run_no = %s AND generation = %s AND has_seen)
        OR NOT EXISTS (SELECT 1 FROM pages WHERE run_no = %s AND execution IS NOT NULL AND execution <> %s)
"""
_FREE: Final = (
    "SELECT first, last FROM pages WHERE run_no = %s AND NOT walked AND execution IS NULL"
    " ORDER BY doubted DESC, due_on NULLS LAST, first LIMIT 1 FOR UPDATE SKIP LOCKED"
)


def claim(connection: Connection, me: LeaseOf, known: Collection[int]) -> tuple[int, int] | Unclaimed:
    """Fence anyone who is over, then claim something that is nobody's: the numbers of its first and its last subject.

    Raises:
        FencedError: others may have what the execution held.
    """
    with connection.transaction():
        generation, stop, is_walked, size = connection.execute(_RUN, (me.run_no,)).fetchone() or (0,) * 4
        fence(connection, me.run_no, me.number)
        is_holding, is_unexpired = connection.execute(_ME, (me.run_no, me.number)).fetchone() or (False, False)
        if not is_holding:
            raise fenced(me.run_id)
        if stop is not None:
            return Unclaimed.STOPPED
        if not is_unexpired:
            return Unclaimed.NOT_NOW
        if me.terms.exclusive:
            return Unclaimed.NOTHING_LEFT if is_walked else _claim_all(connection, me, known, size)
        found = connection.execute(_MINE, (me.run_no, me.number, list(known))).fetchone()
        if found is None and _may_claim(connection, me, generation):
            found = connection.execute(_FREE, (me.run_no,)).fetchone()
        if found is not None:
            connection.execute(
                "UPDATE pages SET execution = %s WHERE run_no = %s AND first = %s", (me.number, me.run_no, found[0])
            )
            return int(found[0]), int(found[1])
        is_left = connection.execute("SELECT 1 FROM pages WHERE run_no = %s AND NOT walked LIMIT 1", (me.run_no,))
        return Unclaimed.NOTHING_LEFT if is_left.fetchone() is None else Unclaimed.NOT_NOW


def _claim_all(connection: Connection, me: LeaseOf, known: Collection[int], size: int) -> tuple[int, int] | Unclaimed:
    holder = connection.execute("SELECT holder FROM runs WHERE run_no = %s", (me.run_no,)).fetchone()[0]  # type: ignore[index]
    if holder is not None and (holder != me.number or 1 in known):
        return Unclaimed.NOT_NOW
    connection.execute("UPDATE runs SET holder = %s WHERE run_no = %s", (me.number, me.run_no))
    return 1, size


def _may_claim(connection: Connection, me: LeaseOf, generation: int) -> bool:
    """Only one may have anything until it is certain that this is the right environment."""
    (may,) = connection.execute(_MAY_CLAIM, (me.run_no, generation, me.run_no, me.number)).fetchone() or (False,)
    return bool(may)


def pass_over(connection: Connection, me: LeaseOf, first: int) -> None:
    """Note that nobody in a claimed page is open."""
    connection.execute(
        "UPDATE pages SET walked = true, execution = NULL WHERE run_no = %s AND first = %s AND execution = %s",
        (me.run_no, first, me.number),
    )


# What is heard late, and folding. Both lock the row of the page.

_PAGE: Final = "SELECT folded FROM pages WHERE run_no = %s AND first = %s FOR NO KEY UPDATE"
_SAID: Final = "SELECT n, data FROM log WHERE run_no = %s AND first = %s ORDER BY n"


def known_page(connection: Connection, run_no: int, first: int) -> tuple[bytes, int | None]:
    """Give all that is known of a page, and the last row of its log; the page is locked until the transaction ends."""
    (folded,) = connection.execute(_PAGE, (run_no, first), binary=True).fetchone() or (None,)
    said = connection.execute(_SAID, (run_no, first), binary=True).fetchall()
    return page_as_known(folded, [data for _, data in said]), said[-1][0] if said else None


def keep_late(connection: Connection, me: LeaseOf, notes: Sequence[Note], page_of: Callable[[int], int]) -> None:
    """Give intents of a fenced execution that have no answer yet what it heard late; nothing else changes."""
    for first, some in groupby(sorted(notes, key=lambda note: note.seq), key=lambda note: page_of(note.seq)):
        with connection.transaction():
            connection.execute(_TURN, (me.run_no,))
            rows = {row.seq: row for row in decode_rows(known_page(connection, me.run_no, first)[0])}
            said = [made for note in some if (made := _answers(note, rows.get(note.seq))) is not None]
            if said:
                connection.execute(
                    "INSERT INTO log (run_no, first, execution, data) VALUES (%s, %s, %s, %s)",
                    (me.run_no, first, me.number, pack_commit([pack_note(note) for note in said])),
                )
                connection.execute("UPDATE runs SET touched = touched + 1 WHERE run_no = %s", (me.run_no,))


def _answers(note: Note, row: SubjectRow | None) -> Note | None:
    open_ = {one.n: one.intent_at for one in row.exchanges if one.ended_at is None} if row is not None else {}
    made = [
        (n, one)
        for n, one in note.exchanges
        if one.purpose is Purpose.ACT and one.ended_at is not None and n in open_ and open_[n] == one.intent_at
    ]
    return Note(note.seq, made, None) if made else None


# The keeper.


class LeasedReader(Protocol):
    """What the keeper of a lease needs of the run."""

    def bounds(self) -> list[tuple[int, int]]:
        """Give the numbers of the first and the last subject of each page."""

    def open_by_due_date(self, first: int, last: int) -> list[list[Entry]]:
        """Give the open subjects of a page in a list for each due date, the earliest first."""

    def told(self, notes: Iterable[Note]) -> Sequence[Note]:
        """Tell anyone who walks the run party by party what is written of it."""

    def ended(self, number: int) -> None:
        """Take note that an execution of this process has ended."""

    def fold(self, connection: Connection, first: int) -> None:
        """Put all that the log says of a page into one row, in a transaction of its own."""


class PostgresKeeper:
    """Keeps the lease of one execution in the database."""

    def __init__(self, database: Database, run: LeasedReader, me: LeaseOf) -> None:
        self.number = me.number
        self._run, self._me = run, me
        self._writes = LeaseLine(database, me.terms.lease / 3)
        self._aside = LeaseLine(database, me.terms.lease)
        self._folding: asyncio.Task[None] | None = None
        self._notices: Notices | None = None
        self._database = database
        bounds = run.bounds()
        self._log = PageLog(bounds, ())
        self._to_fold: set[int] = set()
        self._packed: tuple[int, list[tuple[int, bytes]]] = (0, [])

    async def commit(self, batch: LeaseBatch) -> BeatAnswer | None:
        """Write a batch, unless it was written before; the answer to its beat."""
        serial, pages = self._packed
        if serial != batch.serial:
            self._run.told(batch.notes)
            pages = self._log.rows(
                (note.seq, note.state is not None and note.state.outcome not in OPEN_OUTCOMES, pack_note(note))
                for note in as_one(batch.notes)
            )
            self._packed = batch.serial, pages
        answer: BeatAnswer | None = await self._carried(self._writes, lambda to: commit(to, self._me, batch, pages))
        self._to_fold |= self._log.walked() | self._firsts(batch.walked)
        if batch.ended is not None:
            self._run.ended(self.number)
            await self._fold_the_rest()
            self.close()
        elif self._to_fold and (self._folding is None or self._folding.done()):
            self._folding = asyncio.create_task(self._fold(), name="folding")
        return answer

    def listen(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called when a beat would bring a larger share; nobody is told while the database is away."""
        me = f"{self._me.run_no} {self._me.number}"
        if self._me.terms.rate is not None and self._notices is None:
            self._notices = Notices(self._database, SHARES, lambda said: tell() if said == me else None)

    async def late(self, notes: Sequence[Note]) -> None:
        """Keep what was heard late."""
        await self._carried(self._aside, lambda to: keep_late(to, self._me, notes, self._log.page_of))

    async def claim(self, known: Collection[int]) -> ClaimedPages | Unclaimed:
        """Claim something that is nobody's."""
        while True:
            found = await self._carried(self._aside, lambda to: claim(to, self._me, known))
            if isinstance(found, Unclaimed):
                return found
            first, last = found
            if self._me.terms.exclusive:
                return ClaimedPages(first, last)
            entries = await self._carried(self._aside, lambda _: self._run.open_by_due_date(first, last))  # noqa: B023
            if entries:
                return ClaimedPages(first, last, entries)
            await self._carried(self._aside, lambda to: pass_over(to, self._me, first))  # noqa: B023

    def close(self) -> None:
        """Disconnect once all is done."""
        if self._folding is not None:
            self._folding.cancel()
        self._writes.close()
        self._aside.close()
        if self._notices is not None:
            self._notices.close()

    async def _carried(self, line: LeaseLine, step: Callable[[Connection], T]) -> T:
        try:
            return await line.carry(step)
        except UnreachableError as error:
            raise ConnectionError(str(error)) from None
        except psycopg.Error as error:
            if passing(error):
                raise ConnectionError("the database") from None
            raise trouble("The journal could not be written", error) from None
        except Damage as damage:
            raise damaged(self._me.run_id, str(damage)) from None
        except (msgspec.MsgspecError, ValueError, TypeError, LookupError):
            raise damaged(self._me.run_id, "a record") from None  # the text of such an error may hold an id

    def _firsts(self, walked: Sequence[ClaimedPages]) -> set[int]:
        unfolded = set(self._log.unfolded())
        return unfolded if self._me.terms.exclusive and walked else {one.first for one in walked} & unfolded

    async def _fold(self) -> None:
        """Fold what is worth it; what can't be is overlaid by the one who reads it."""
        while self._to_fold:
            first = self._to_fold.pop()
            try:
                await self._carried(self._aside, lambda to: self._run.fold(to, first))  # noqa: B023 - awaited at once
            except (OSError, JournalError):
                return
            self._log.folded(first)

    async def _fold_the_rest(self) -> None:
        """Fold what is left for a while: nobody waits longer for an end because of it."""
        if self._folding is not None:
            self._folding.cancel()
        self._to_fold = set(self._log.unfolded())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._fold(), self._me.terms.lease / 6)
