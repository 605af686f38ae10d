"""One run in the database, opened to read what it holds.

Each statement reads what is committed at one moment, and borrows a connection for itself alone, so several can be under
way at once. The facts of a run and the digests of its pages are bound together by an HMAC under its secret, looked at
when it is opened; each page is compared with its digest whenever it is read.
"""

from __future__ import annotations

import hmac
import os
import socket
import struct
import time
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import psycopg

from privacy_toolkit.core.model import OPEN_OUTCOMES, JournalError, Outcome, StopReason
from privacy_toolkit.core.privacy import uncollected
from privacy_toolkit.journal.figures import PageCounts, RunCounts, RunSummary, counted
from privacy_toolkit.journal.ledgers import MAC, BoundRun, bound_run, facts_mac, page_digest, unpack_numbers
from privacy_toolkit.journal.packed import (
    CONTROL_COLUMNS,
    Damage,
    PackedReader,
    PartyWalk,
    Row,
    control_of,
    decode_counts,
    decode_rows,
    decode_states,
    page_as_known,
    reads,
)
from privacy_toolkit.journal.postgres.connection import Database, trouble
from privacy_toolkit.journal.records import (
    Acceptance,
    ControlRecord,
    Entry,
    Execution,
    RejectedRow,
    StateRow,
    SubjectRow,
    TuneAsked,
    newest_first,
    pieces_of_result,
)
from privacy_toolkit.journal.store import damaged, moved
from privacy_toolkit.journal.windows import Windows, times_of, windows_from
from privacy_toolkit.journal.writing import pieces_of_page
from privacy_toolkit.signatures.signers import RunSeal, opened_secret

#: So long, in seconds, a look at whether the run is still in use holds.
_IN_PLACE_FOR: Final = 0.2
#: So many rows are read at once, where there may be a lot of them.
_AT_ONCE: Final = 10_000
_LONGEST: Final = 16
#: Later than any date.
_NEVER: Final = "~"
#: The pages of so many subjects are compared before anything is done with a run that was ordered: half a second.
_AT_FIRST: Final = 1_000_000
_PAGES_AT_ONCE: Final = 64
_APART: Final = 512

# What is sealed of a run in a state with a key, each under its purpose and its numbers.

PAGE, RESULT, MEMBER, TICKET = b"page", b"result", b"member", b"ticket"


def sealed(seal: RunSeal | None, data: bytes, purpose: bytes, *place: int) -> bytes:
    """Seal a piece of a run, if anything of it is."""
    return data if seal is None else seal.closed(data, purpose, *place)


def member(seal: RunSeal | None, seq: int, row: int, id_: str, given: str) -> tuple[bytes, bytes]:
    """Give what is kept of a member of a party next to its numbers: in a sealed run both in one piece."""
    if seal is None:
        return id_.encode(), given.encode()
    return seal.closed(msgspec.msgpack.encode((id_, given)), MEMBER, seq, row), b""


def sealed_ticket(seal: RunSeal | None, row: SubjectRow) -> SubjectRow:
    """Give a row with its ticket sealed, if there is one, and anything is."""
    if seal is None or row.request is None or row.request.ticket is None:
        return row
    ticket = b64encode(seal.closed(row.request.ticket.encode(), TICKET, row.seq)).decode()
    return row._replace(request=row.request._replace(ticket=ticket))


def opened_ticket(seal: RunSeal, row: SubjectRow) -> SubjectRow:
    """Give a row of a sealed run with its ticket as it was."""
    if row.request is None or row.request.ticket is None:
        return row
    ticket = seal.opened(b64decode(row.request.ticket), TICKET, row.seq).decode()
    return row._replace(request=row.request._replace(ticket=ticket))


#: A page as it is known, with what commits said since it was folded, in their order.
_PAGE = """
    SELECT folded, (SELECT array_agg(log.data ORDER BY n) FROM log WHERE log.run_no = %s AND log.first = %s)
    FROM pages WHERE run_no = %s AND first = %s
"""
_COUNTS = """
    SELECT first, CASE WHEN said IS NULL THEN counts END, CASE WHEN said IS NOT NULL THEN folded END, said
    FROM pages LEFT JOIN
        (SELECT first, array_agg(data ORDER BY n) AS said FROM log WHERE run_no = %s GROUP BY first) AS logged
        USING (first)
    WHERE run_no = %s AND (counts IS NOT NULL OR said IS NOT NULL) ORDER BY first
"""


class PostgresReader(PackedReader):
    """A run by its number in the database.

    Raises:
        DamagedError: it does not hold what was written to it.
        JournalError: it is not there (code ``moved``), or can't be read.
    """

    def __init__(
        self,
        database: Database,
        run_id: str,
        *,
        set_aside: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self.name = run_id
        self._set_aside = set_aside
        self._monotonic = monotonic
        self._walks: list[PartyWalk] = []
        self._counted: tuple[str, RunCounts] | None = None
        self._in_place: tuple[float, bool] | None = None
        self._is_open = True
        self._own_number: int | None = None
        self._seal: RunSeal | None = None
        with self.reading():
            self._read_facts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the run."""
        self._is_open = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Name the run in whatever a damaged journal leads to, and say in our words what is wrong with the database."""
        try:
            yield
        except Damage as damage:
            raise damaged(self.name, str(damage)) from None
        except psycopg.Error as error:
            raise trouble(f"The journal of run {self.name} can't be read", error) from None
        except (msgspec.MsgspecError, struct.error, ValueError, TypeError, OverflowError, LookupError):
            raise damaged(self.name, "a record") from None  # the text of such an error may hold an id

    @property
    def place(self) -> bytes:
        """Where another process finds the run, for ``state.open_run``."""
        password_file, key = self._database.password_file, self._database.key
        files = (None if path is None else str(path) for path in (password_file, key and key.path))
        return msgspec.json.encode([self._database.address, *files, self.name])

    @property
    def is_running(self) -> bool:
        """Whether a process works on the run."""
        with self.reading():
            return self._own_number is not None or bool(live_executions(self._rows, self._run_no))

    def is_in_place(self) -> bool:
        """Whether the run is still in use; a look holds for a fifth of a second."""
        now = self._monotonic()
        if self._in_place is None or not 0 <= now - self._in_place[0] < _IN_PLACE_FOR:
            with self.reading():
                found = self._rows("SELECT 1 FROM runs WHERE run_no = %s AND set_aside_at IS NULL", self._run_no)
            self._in_place = (now, bool(found))
        return self._in_place[1]

    @property
    def tune_asked(self) -> TuneAsked | None:
        """The pace that somebody asked for last."""
        with self.reading():
            ((asked,),) = self._rows("SELECT tuned FROM runs WHERE run_no = %s", self._run_no) or [(None,)]
        return None if asked is None else msgspec.json.decode(asked, type=TuneAsked)

    @reads
    def verify(self) -> None:
        """Compare every page of subjects with its digest, and read all that is known of it.

        Raises:
            DamagedError: a part of it is not what was written.
        """
        for first, last in self.bounds():
            self._subjects(first, last)
            self.rows_of_page(first)

    def open_by_due_date(self, first: int, last: int) -> list[list[Entry]]:
        """Give the open subjects of a page in a list for each due date, the earliest first, those without one last."""
        dates: dict[int, str] = {}

        def is_open(row: SubjectRow | None) -> bool:
            if row is None or row.state is None or row.state.outcome in OPEN_OUTCOMES:
                if row is not None and row.request is not None and row.request.due_on is not None:
                    dates[row.seq] = row.request.due_on
                return True
            return False

        found = self._entries(first, last, is_open)
        found.sort(key=lambda entry: dates.get(entry.subject.seq, _NEVER))
        return [list(some) for _, some in groupby(found, key=lambda entry: dates.get(entry.subject.seq))]

    # What is counted.

    @reads
    def windows(self) -> Windows:
        """The times that a pack shows of each subject; see ``figures``."""
        executions = [(one.started_at, one.ended_at) for one in self.executions()]
        with self._database.used() as connection, connection.transaction(), uncollected():
            connection.execute("CREATE TEMP TABLE times (kind int, seq bigint, first bigint, last bigint)")
            kinds: dict[str, int] = {}
            with connection.cursor().copy("COPY times FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int4", "int8", "int8", "int8"])
                for bounds in self.bounds():
                    for kind, seq, first, last in times_of(self.rows_of_page(bounds[0])):
                        copy.write_row((kinds.setdefault(kind, len(kinds)), seq, first, last))
            with connection.cursor("times", binary=True) as ordered:
                ordered.itersize = _AT_ONCE
                ordered.execute("SELECT kind, seq, first, last FROM times ORDER BY kind, last, seq")
                found = windows_from(ordered, executions, self.size)
            connection.execute("DROP TABLE times")
        return found

    @reads
    def summary(self) -> RunSummary:
        """The figures of a report next to ``totals``."""
        return self._counts.summary(self.executions(), self.controls())

    @reads
    def controls(self) -> list[ControlRecord]:
        """Every control, in order."""
        found = self._rows(f"SELECT {CONTROL_COLUMNS} FROM controls WHERE run_no = %s ORDER BY n", self._run_no)
        return [control_of(row) for row in found]

    @reads
    def executions(self) -> list[Execution]:
        """Every process that worked on the run, in order."""
        rows = self._rows(
            "SELECT number, started_at, ended_at, stopped_by, settings, nullif(CASE WHEN generation > 0"
            " THEN min(number) OVER (PARTITION BY generation) END, number) FROM executions WHERE run_no = %s"
            " ORDER BY number",
            self._run_no,
        )
        return [
            Execution(number, started, ended, StopReason(stopped) if stopped else None, settings, joined)
            for number, started, ended, stopped, settings, joined in rows
        ]

    @reads
    def rejected(self) -> Iterator[RejectedRow]:
        """Row and reason of every refused row of the input, in its order; none once the run is purged."""
        n = 0
        while found := self._rows(
            "SELECT n, place, reason FROM rejected WHERE run_no = %s AND n > %s ORDER BY n LIMIT %s",
            self._run_no,
            n,
            _AT_ONCE,
        ):
            yield from (RejectedRow(place, reason) for _, place, reason in found)
            n = found[-1][0]

    @reads
    def rejected_by_reason(self) -> dict[str, int]:
        """How many refused rows are recorded, by reason."""
        rows = self._rows("SELECT reason, count(*) FROM rejected WHERE run_no = %s GROUP BY 1", self._run_no)
        return {str(reason): int(count) for reason, count in sorted(rows)}

    @reads
    def acceptance(self) -> Acceptance | None:
        """Who last accepted that rows were refused, if anybody did."""
        rows = self._rows(
            "SELECT at, rows, signer, signing_key FROM acceptances WHERE run_no = %s ORDER BY n DESC LIMIT 1",
            self._run_no,
        )
        return Acceptance(*rows[0]) if rows else None

    @reads
    def bounds(self) -> list[tuple[int, int]]:
        """The numbers of the first and the last subject of each page."""
        self._check_open()
        return [(first, last) for first, last, _ in self._digests.values()]

    @reads
    def traces(self) -> Iterator[bytes]:
        """Pieces, 8 bytes or 16, of whatever a purge takes away: none of them may be anywhere after it."""
        for first, _ in self.bounds():
            yield from pieces_of_page(self.page_of(first)[0])
            if any(row.request and row.request.ticket for row in self.rows_of_page(first)):
                ((data,),) = self._rows(
                    "SELECT coalesce(folded, '') FROM pages WHERE run_no = %s AND first = %s", self._run_no, first
                )
                places = (*range(_APART, len(data) - _LONGEST, _APART), max(0, len(data) - _LONGEST))
                yield from (data[place : place + _LONGEST] for place in places if data)
        for data in self._kept():
            yield from pieces_of_result(data)
        for row in self._all_members():
            text = row[3].encode() + row[4].encode()
            if len(text) >= _LONGEST:
                yield text[-_LONGEST:]
        yield from (value[:16] for name in ("secret", "plan_key") if (value := self._facts.get(name)))

    def everything(self) -> Iterator[bytes]:
        """Give all that is kept of the run under its number, in pieces, for a search."""
        yield from (value for value in self._facts.values())
        for first, _ in self.bounds():
            yield self.page_of(first)[0]
            yield msgspec.msgpack.encode(self.rows_of_page(first))
        yield from self._kept()
        yield from (row[3].encode() + row[4].encode() for row in self._all_members())

    # What the store says for ``PackedReader``.

    @property
    def _counts(self) -> RunCounts:
        """The counts of all pages; they are added up again once anything was committed in the database."""
        ((snapshot,),) = self._rows("SELECT pg_current_snapshot()::text")
        if self._counted is None or self._counted[0] != snapshot:
            self._counted = snapshot, RunCounts(counts for _, counts in self._page_counts())
        return self._counted[1]

    def _page_counts(self) -> Iterator[tuple[int, PageCounts]]:
        for first, counts, folded, said in self._rows(_COUNTS, self._run_no, self._run_no):
            if said is None:
                yield first, decode_counts(counts)
            else:
                yield first, counted(decode_rows(page_as_known(folded, said)))

    def rows_of_page(self, first: int) -> list[SubjectRow]:
        """Give all that is known of the subjects of a page, in their order.

        Anyone who is on hold by the order of the run is so here too, or nothing of the page is handed out.
        """
        rows = decode_rows(self._packed(first))
        if self._seal is not None:
            rows = [opened_ticket(self._seal, row) for row in rows]
        held = self._held.get(first)
        if held and not held <= {row.seq for row in rows if row.state and row.state.outcome == Outcome.ON_HOLD}:
            raise Damage("who is on hold")
        return rows

    @reads
    def ordered(self) -> tuple[BoundRun, bytes | None]:
        """Give what an order of the run has to bind, and the signed order it has; from then on all of it is compared.

        The pages of the first million subjects are compared with their digests now, and each again when it is read.
        """
        held = [seq for some in self._held.values() for seq in some]
        bound = bound_run(self.run_id, self.created_at, self.plan, self._digests.values(), held)
        at_first = iter(first for first, last, _ in self._digests.values() if last <= _AT_FIRST)
        while some := list(islice(at_first, _PAGES_AT_ONCE)):
            found = self._rows(
                "SELECT first, data FROM pages WHERE run_no = %s AND first = ANY(%s::bigint[])", self._run_no, some
            )
            for first, data in found:
                _, last, digest = self._digests[first]
                if page_digest(self.secret or b"", first, last, self._page(first, data)) != digest:
                    raise Damage("a page of subjects")
        self._is_bound = True
        return bound, self._signed

    def _by_page(self, numbers: Iterable[int]) -> dict[int, set[int]]:
        """Group numbers of subjects by the first number of their page.

        Raises:
            Damage: there is no such subject.
        """
        firsts, found = sorted(self._digests), dict[int, set[int]]()
        for seq in numbers:
            first = firsts[bisect_right(firsts, seq) - 1] if firsts else 0
            if not first <= seq <= self._digests.get(first, (0, 0))[1]:
                raise Damage("who is on hold")
            found.setdefault(first, set()).add(seq)
        return found

    def _page_states(self, first: int) -> dict[int, StateRow | None]:
        return decode_states(self._packed(first))

    def _packed(self, first: int) -> bytes:
        found = self._rows(_PAGE, self._run_no, first, self._run_no, first)
        if not found:
            raise Damage("a page of subjects is missing")
        ((folded, said),) = found
        return page_as_known(folded, said or ())

    def _outcomes_of(self, first: int, size: int) -> Collection[str]:
        ((said, counts),) = self._rows(
            "SELECT EXISTS (SELECT 1 FROM log WHERE log.run_no = %s AND log.first = %s), counts"
            " FROM pages WHERE run_no = %s AND first = %s",
            *(self._run_no, first) * 2,
        )
        if said:
            return list(Outcome)
        return (PageCounts() if counts is None else decode_counts(counts)).totals(size)

    def page_of(self, first: int) -> tuple[bytes, bytes | None]:
        """Give the subjects of a page as bytes, and what these have to come to."""
        ((data,),) = self._rows("SELECT data FROM pages WHERE run_no = %s AND first = %s", self._run_no, first)
        return self._page(first, data), self._digests[first][2]

    def _page(self, first: int, data: bytes) -> bytes:
        return data if self._seal is None else self._seal.opened(data, PAGE, first)

    def kept_between(self, first: int, last: int) -> Iterable[tuple[int, bytes]]:
        """Give what was kept of answers about subjects, by their numbers in order."""
        found = self._rows(
            "SELECT seq, data FROM results WHERE run_no = %s AND seq BETWEEN %s AND %s ORDER BY seq",
            *(self._run_no, first, last),
        )
        return [(seq, data if self._seal is None else self._seal.opened(data, RESULT, seq)) for seq, data in found]

    def members_after(self, after: Row, most: int) -> list[Row]:
        """Give party, number, row, id and what else is given of the next members of parties."""
        rows = self._rows(
            "SELECT party, seq, place, id, given FROM parties WHERE run_no = %s AND (party, seq) > (%s, %s)"
            " ORDER BY party, seq LIMIT %s",
            *(self._run_no, *(after or (0, 0)), most),
        )
        if self._seal is not None:
            opened = self._seal.opened
            return [
                (party, seq, place, *msgspec.msgpack.decode(opened(data, MEMBER, seq, place), type=tuple[str, str]))
                for party, seq, place, data, _ in rows
            ]
        return [(party, seq, place, id_.decode(), given.decode()) for party, seq, place, id_, given in rows]

    def _all_members(self) -> Iterator[Row]:
        after: Row = ()
        while found := self.members_after(after, _AT_ONCE):
            yield from found
            after = found[-1][:2]

    def _kept(self) -> Iterator[bytes]:
        return (data for _, data in chain.from_iterable(self.kept_between(*bounds) for bounds in self.bounds()))

    def _rows(self, statement: str, *given: Any) -> list[Row]:
        self._check_open()
        return self._database.rows(statement, given)

    def _check_open(self) -> None:
        if not self._is_open:
            raise JournalError(f"The journal of run {self.name} is closed.")

    def _read_facts(self) -> None:
        found = self._rows(
            "SELECT run_no, run_id, plan, created_at, size, approval, mac, purged_at, secret, plan_key, checked,"
            " signed, held"
            " FROM runs LEFT JOIN run_secrets USING (run_no) LEFT JOIN orders USING (run_no)"
            " WHERE run_id = %s AND (set_aside_at IS NOT NULL) = %s",
            self.name,
            self._set_aside,
        )
        if not found:
            raise moved(self.name)
        self._run_no, run_id, plan, created_at, size, approval, mac, purged_at, *rest = found[0]
        secret, plan_key, checked, self._signed, held = rest
        self._seal = None
        if checked is not None:
            secret, plan_key = opened_secret(self._database.key, run_id, (secret, plan_key, checked))
            self._seal = RunSeal(secret, "run", run_id)
        digests = self._rows("SELECT first, last, digest FROM pages WHERE run_no = %s ORDER BY first", self._run_no)
        self._digests = {first: (first, last, digest) for first, last, digest in digests}
        self._held = self._by_page(unpack_numbers(held, size) if held else ())
        texts = {"run_id": run_id, "created_at": created_at, "size": size, "purged_at": purged_at}
        known = {name: str(value).encode() for name, value in texts.items() if value is not None}
        given = {"plan": plan, "approval": approval, "secret": secret, "plan_key": plan_key}
        facts = known | {name: value for name, value in given.items() if value is not None}
        if not hmac.compare_digest(mac, facts_mac(facts, self._digests.values())):
            raise Damage("the facts")
        self.keep({**facts, MAC: mac})


# Leases: how long an execution may write, and what tells that the process behind one is gone.
#
# The lease of an execution is renewed by its writer, and its number fences those before it: every write looks whether
# its execution may still write, in the same statement. Who wants the run next waits until the lease and the drain, in
# which what was begun before ends, are over. Where the process was one of this very machine and is gone, there is
# nothing to wait for.

#: Seconds that an execution may write without its lease being renewed, and between two renewals.
LEASE: Final = 15.0
BEAT: Final = 1.0
#: Seconds after the end of a lease in which a request that was begun before may still be on its way.
DRAIN: Final = 30.0
#: So long before the end of a lease nothing is begun any more.
MARGIN: Final = 1.0

#: Whether an execution may still write. It is kept from being fenced until the statement's transaction has ended.
MAY_WRITE: Final = (
    "SELECT 1 FROM executions WHERE run_no = %s AND number = %s AND ended_at IS NULL AND fenced_at IS NULL"
    " AND expires_at > clock_timestamp() FOR KEY SHARE"
)

_STARTED_AT: Final = 19  # field 22 of /proc/PID/stat, after the name of the program, which may hold blanks


def this_host() -> str:
    """Name this machine for people."""
    return socket.gethostname()[:100]


def this_process() -> str:
    """Name this process so that no other one, of any machine or time, is called the same."""
    return f"{_surroundings()}/{os.getpid()}/{_start(os.getpid()) or ''}"


def is_live(process: str, *, is_unexpired: bool) -> bool:
    """Tell whether an execution may still send something: its time is not over, and nobody knows its process gone."""
    return is_unexpired and not _is_gone(process)


def _is_gone(process: str) -> bool:
    surroundings, _, started = process.rpartition("/")
    surroundings, _, pid = surroundings.rpartition("/")
    if not (started and surroundings and pid.isdigit()) or surroundings != _surroundings():
        return False
    return _start(int(pid)) != started


def _start(pid: int) -> str | None:
    """When a process started, in ticks since the machine did; None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        is_over = fields[0] in {"Z", "X"} and len(list(Path(f"/proc/{pid}/task").iterdir())) <= 1
    except OSError:
        return None
    return None if is_over else fields[_STARTED_AT]


@cache
def _surroundings() -> str:
    """Where process ids and what is counted from the start of the machine mean the same; "" where nobody can tell.

    The start of the machine has a name, but machines copied from one that runs share it: so theirs counts too.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        spaces = Path("/proc/self/ns/pid"), Path("/proc/self/ns/time")
        known = [str(space.stat().st_ino) for space in spaces if space.exists()]  # not every kernel has the second
        return "/".join([boot, *known, this_host()])
    except OSError:
        return ""


def live_executions(rows: Callable[..., list[Row]], run_no: int) -> list[int]:
    """Give the numbers of the executions of a run that may still send something; see ``lease``."""
    found = rows(
        "SELECT number, process, expires_at + drain * interval '1 second' > moment() FROM executions"
        " WHERE run_no = %s AND ended_at IS NULL AND fenced_at IS NULL",
        run_no,
    )
    return [number for number, process, is_unexpired in found if is_live(process, is_unexpired=is_unexpired)]


def run_stamps(database: Database) -> dict[str, bytes]:
    """Tell of every run what changes whenever it is written to, newest first; empty while a process works on it."""
    rows = database.rows(
        """
        SELECT run_id, concat_ws('/', run_no, touched, last_said), process, is_unexpired FROM runs
        LEFT JOIN LATERAL (
            SELECT process, expires_at + drain * interval '1 second' > moment() AS is_unexpired,
                (SELECT max(n) FROM log WHERE log.run_no = runs.run_no) AS last_said
            FROM executions WHERE executions.run_no = runs.run_no AND ended_at IS NULL AND fenced_at IS NULL
        ) AS live ON true WHERE set_aside_at IS NULL
        """
    )
    stamps: dict[str, bytes] = {}
    for run_id, stamp, process, is_unexpired in rows:
        if process is not None and is_live(process, is_unexpired=is_unexpired):
            stamps[run_id] = b""
        stamps.setdefault(run_id, stamp.encode())
    return {run_id: stamps[run_id] for run_id in newest_first(stamps)}
