"""Writing to a run in the database: claiming it, one durable commit after the other, what is done to it as a whole."""

from __future__ import annotations

import secrets
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import msgspec
import psycopg

from privacy_toolkit.core.model import JournalError, StopReason
from privacy_toolkit.core.privacy import SecretFile, uncollected
from privacy_toolkit.core.processes import since_boot
from privacy_toolkit.journal.figures import counted
from privacy_toolkit.journal.lease import KeptLease, LeaseTerms, fenced
from privacy_toolkit.journal.ledgers import MAC, Digest, bound_run, facts_mac, pack_numbers, page_digest
from privacy_toolkit.journal.packed import (
    Row,
    decode_rows,
    encode_counts,
    encode_page,
    encode_rows,
    page_as_known,
    reads,
)
from privacy_toolkit.journal.postgres import lease
from privacy_toolkit.journal.postgres.connection import SHORT, Connection, Database, explained, trouble
from privacy_toolkit.journal.postgres.lease import LeaseOf, PostgresKeeper, begin, free, known_page
from privacy_toolkit.journal.postgres.ledgers import own_key
from privacy_toolkit.journal.postgres.reader import (
    BEAT,
    LEASE,
    MARGIN,
    MAY_WRITE,
    PAGE,
    RESULT,
    PostgresReader,
    is_live,
    member,
    opened_ticket,
    sealed,
    sealed_ticket,
    this_host,
    this_process,
)
from privacy_toolkit.journal.records import Acceptance, AtWork, Staged, StopAsked, SubjectRow, TuneAsked
from privacy_toolkit.journal.store import damaged, moved, not_running, running
from privacy_toolkit.journal.writing import (
    Renumbering,
    Writer,
    WrittenRun,
    facts_of,
    known_at_first,
    marked_restored,
    members_of,
    numbered,
    pack_page,
)
from privacy_toolkit.signatures.signers import RunSeal, sealed_secret

#: Everything of a commit is one statement: it is written if the execution may still write, and nothing else is.
_WRITE: Final = f"""
    WITH me AS ({MAY_WRITE}),
    logged AS (INSERT INTO log (run_no, first, execution, data)
        SELECT %s, page, %s, said FROM me, unnest(%b::bigint[], %b::bytea[]) AS given (page, said)),
    kept AS (INSERT INTO results
        SELECT %s, seq, answer FROM me, unnest(%b::bigint[], %b::bytea[]) AS given (seq, answer)
        ON CONFLICT (run_no, seq) DO UPDATE SET data = excluded.data)
    SELECT count(*) FROM me
"""
_CONTROL: Final = (
    "INSERT INTO controls (run_no, kind, operation, ended_at, elapsed, status, reason, held)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)
_BEAT: Final = (
    "UPDATE executions SET expires_at = clock_timestamp() + %s * interval '1 second' WHERE run_no = %s AND number = %s"
    " AND ended_at IS NULL AND fenced_at IS NULL AND expires_at > clock_timestamp() RETURNING 1"
)
#: What a purge takes away, but for what is written again: page by page, and the run itself.
_UNLINK: Final = ("log", "parties", "results", "rejected", "run_secrets", "orders")


class PostgresSink:
    """Writes what an execution of a run says, on a connection of its own, and renews its lease there."""

    beats = True

    def __init__(
        self, database: Database, run_id: str, run_no: int, number: int, begun_at: float, seal: RunSeal | None
    ) -> None:
        self._database, self._seal = database, seal
        self._run_id, self._run_no, self._number = run_id, run_no, number
        self._opened: Connection | None = None
        self._beaten_at = begun_at
        self._sends_until = self._beaten_at + LEASE - MARGIN

    def open(self) -> Iterable[int]:
        """Connect; the pages of which the log says something already."""
        self._opened = self._database.connect(SHORT)
        with self._explained():
            found = self._opened.execute("SELECT DISTINCT first FROM log WHERE run_no = %s", (self._run_no,))
            return [first for (first,) in found]

    def pause(self) -> float:
        """Tell how many seconds there are until the lease is to be renewed."""
        return max(0.0, self._beaten_at + BEAT - since_boot())

    def beat(self) -> None:
        """Renew the lease.

        Raises:
            JournalError: it is over, or that can't be written.
        """
        asked_at = since_boot()
        with self._explained():
            if self._connection.execute(_BEAT, (LEASE, self._run_no, self._number)).fetchone() is None:
                raise fenced(self._run_id)
        self._beaten_at, self._sends_until = asked_at, asked_at + LEASE - MARGIN

    def may_send(self) -> bool:
        """Tell whether a request may be begun now: the lease is over by this clock before it is by the database's."""
        return since_boot() < self._sends_until

    def write(self, pages: Sequence[tuple[int, bytes]], results: Sequence[Row], controls: Sequence[Row]) -> None:
        """Write in one commit, durable on return."""
        me = self._run_no, self._number
        kept = {seq: sealed(self._seal, data, RESULT, seq) for seq, data in results}
        log = [first for first, _ in pages], [data for _, data in pages]
        given = (*me, *me, *log, self._run_no, list(kept), list(kept.values()))
        with self._explained():
            if not controls:
                self._check(self._connection.execute(_WRITE, given).fetchone())
                return
            with self._connection.transaction():
                self._check(self._connection.execute(_WRITE, given).fetchone())
                self._connection.cursor().executemany(_CONTROL, [(self._run_no, *row) for row in controls])

    def fold(self, first: int) -> None:
        """Put all that the log says of a page into one row."""
        with self._explained(), uncollected(), self._connection.transaction():
            self._check(self._connection.execute(MAY_WRITE, (self._run_no, self._number)).fetchone())
            fold_page(self._connection, self._run_no, first)

    def close(self) -> None:
        """Disconnect."""
        if self._opened is not None:
            self._opened.close()

    def _check(self, found: Row | None) -> None:
        if found is None or not found[0]:
            raise fenced(self._run_id)

    @property
    def _connection(self) -> Connection:
        if self._opened is None:
            raise JournalError("The journal is not open for writing.")
        return self._opened

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise trouble("The journal could not be written", error) from None
        except (ValueError, TypeError, LookupError):
            raise damaged(self._run_id, "a record") from None  # the text of such an error may hold an id


def fold_page(connection: Connection, run_no: int, first: int) -> None:
    """Put all that the log says of a page into one row, within a transaction."""
    data, last_said = known_page(connection, run_no, first)
    if last_said is not None:
        put_rows(connection, run_no, first, data)
        connection.execute("DELETE FROM log WHERE run_no = %s AND first = %s AND n <= %s", (run_no, first, last_said))


def put_rows(connection: Connection, run_no: int, first: int, data: bytes) -> None:
    """Write a folded page once all of it reads as what it should be, and its counts; within a transaction."""
    counts = counted(decode_rows(data))
    given = pack_page(data), encode_counts(counts), counts.settled_for_good(), counts.has_doubts(), counts.first_due()
    connection.execute(
        "UPDATE pages SET folded = %s, counts = %s, is_open = last - first + 1 > %s, doubted = %s, due_on = %s"
        " WHERE run_no = %s AND first = %s",
        (*given, run_no, first),
    )


class PostgresRun(PostgresReader, WrittenRun):
    """One run, opened. Writing starts with ``begin_execution``."""

    def __init__(
        self,
        database: Database,
        run_id: str,
        *,
        set_aside: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(database, run_id, set_aside=set_aside, monotonic=monotonic)
        self._keepers: list[PostgresKeeper] = []

    def close(self) -> None:
        """Write what is queued and let go of the run; an execution that was not ended is without an end for good.

        Raises:
            JournalError: something handed in could not be written.
        """
        try:
            if self._writer is not None:
                self._close_writer(self._writer)
        finally:
            for keeper in self._keepers:
                keeper.close()
            self._let_others_work()
            super().close()

    def begin_execution(self, started_at: int, settings: str) -> int:
        """Claim the run for this process; the number of the execution.

        Raises:
            RefusedError: another process works on it.
            JournalError: nothing can be written, or the run is no longer in use (code ``moved``).
        """
        begun_at = since_boot()  # before the lease begins by the database's clock
        with self._claimed() as connection:
            connection.execute("DELETE FROM stops WHERE run_no = %s", (self._run_no,))
            row = connection.execute(
                "INSERT INTO executions (run_no, number, started_at, settings, host, process, expires_at)"
                " SELECT %s, coalesce(max(number), 0) + 1, %s, %s, %s, %s, clock_timestamp() + %s * interval '1 second'"
                " FROM executions WHERE run_no = %s RETURNING number",
                (self._run_no, started_at, settings, this_host(), this_process(), LEASE, self._run_no),
            ).fetchone()
        (number,) = row or (0,)
        self._own_number = int(number)
        self._sink = PostgresSink(self._database, self.name, self._run_no, self._own_number, begun_at, self._seal)
        self._writer = Writer(self._sink, self.bounds())
        return self._own_number

    def lease(self, started_at: int, settings: str, terms: LeaseTerms) -> KeptLease:
        """Begin an execution among others, and give its lease.

        Raises:
            RefusedError: another run is under way on the target (code ``locked``).
            JournalError: nothing can be written, or the run is no longer in use (code ``moved``).
        """
        self._check_open()
        with explained("The journal could not be written"), self._database.used() as connection:
            try:
                with connection.transaction():
                    number = begin(connection, self._run_no, self.name, started_at, settings, terms)
            except psycopg.errors.LockNotAvailable:
                raise running(self.name) from None
        self._own_number = number
        keeper = PostgresKeeper(self._database, self, LeaseOf(self._run_no, self.name, number, terms, self._seal))
        self._keepers.append(keeper)
        return KeptLease(keeper, terms, self.name)

    def ended(self, number: int) -> None:
        """Take note that an execution of this process has ended."""
        if self._own_number == number:
            self._own_number = None

    def fold(self, connection: Connection, first: int) -> None:
        """Put all that the log says of a page into one row, in a transaction of its own."""
        with uncollected(), connection.transaction():
            fold_page(connection, self._run_no, first)

    def end_execution(self, number: int, ended_at: int, stopped_by: StopReason | None) -> None:
        """Wait until all is written, note the end of the execution, and let others work on the run.

        Raises:
            JournalError: something handed in could not be written, or the lease was over.
        """
        try:
            if self._writer is not None:
                self._close_writer(self._writer)
            with explained("The journal could not be written"):
                found = self._rows(
                    "UPDATE executions SET ended_at = %s, stopped_by = %s WHERE run_no = %s AND number = %s"
                    " AND fenced_at IS NULL RETURNING number",
                    *(ended_at, stopped_by and stopped_by.value, self._run_no, number),
                )
            if not found:
                raise fenced(self.name)
        finally:
            self._let_others_work()

    @reads
    def at_work(self) -> list[AtWork]:
        """The executions that are under way."""
        found = self._rows(
            "SELECT number, process, expires_at + drain * interval '1 second' > moment(), host,"
            " CASE WHEN rate IS NOT NULL THEN greatest(in_use, told) END,"
            " extract(epoch FROM moment() - coalesce(beaten_at, expires_at - %s * interval '1 second'))::float8"
            " FROM executions WHERE run_no = %s AND ended_at IS NULL AND fenced_at IS NULL ORDER BY number",
            *(LEASE, self._run_no),
        )
        return [
            AtWork(number, host, share, max(0.0, silent))
            for number, process, is_unexpired, host, share, silent in found
            if is_live(process, is_unexpired=is_unexpired)
        ]

    @property
    def is_resumed(self) -> bool:
        """Whether it was left to others, none of whom has begun."""
        begun = "SELECT coalesce(max(generation), 0) FROM executions WHERE executions.run_no = runs.run_no"
        return bool(self._rows(f"SELECT 1 FROM runs WHERE run_no = %s AND generation > ({begun})", self._run_no))

    @property
    def stop_asked(self) -> StopAsked | None:
        """The stop that somebody asked for last."""
        with self.reading():
            found = self._rows("SELECT data FROM stops WHERE run_no = %s", self._run_no)
            return msgspec.json.decode(found[0][0], type=StopAsked) if found else None

    def ask_to_stop(self, asked: StopAsked) -> None:
        """Ask all who work on the run to stop: they hear of it with their next beat.

        Raises:
            RefusedError: nobody works on the run.
        """
        what = "That the run is to stop could not be written"
        with explained(what), self._database.used() as connection, connection.transaction():
            # Anyone who begins to work on the run changes this row first, and takes away what was asked before.
            connection.execute("SELECT 1 FROM runs WHERE run_no = %s FOR UPDATE", (self._run_no,))
            if not self.is_running:
                raise not_running(self.name)
            lease.note_stop(connection, self._run_no, asked)

    def ask_to_tune(self, asked: TuneAsked) -> None:
        """Ask all who work on the run for another pace; raises as ``ask_to_stop``."""
        given = (msgspec.json.encode(asked), self._run_no)
        with explained("The pace can't be changed"), self._database.used() as connection, connection.transaction():
            if not self.is_running:
                raise not_running(self.name)
            connection.execute("UPDATE runs SET tuned = %s WHERE run_no = %s", given)

    def accept_rejected(self, given: Acceptance) -> None:
        """Note that the operator accepts that rows were refused and nobody acts on them."""
        with self._claimed() as connection:
            connection.execute(
                "INSERT INTO acceptances (run_no, at, rows, signer, signing_key) VALUES (%s, %s, %s, %s, %s)",
                (self._run_no, given.at, given.rows, given.signer, given.signing_key),
            )

    def forget_results(self) -> None:
        """Destroy what was kept of answers, once it has been handed over."""
        with self._claimed() as connection:
            connection.execute("DELETE FROM results WHERE run_no = %s", (self._run_no,))

    def mark_restored(self, now: int) -> int:
        """Make every open subject ``unknown`` for good, since its request may have gone out; how many these are."""
        marked = 0
        with self._claimed() as connection:
            for first, last in self.bounds():
                fold_page(connection, self._run_no, first)
                some, rows = marked_restored(self._rows_in(connection, first), first, last, now)
                if some:
                    put_rows(connection, self._run_no, first, encode_rows(rows))
                marked += some
        return marked

    def purge(self, now: int, plan: bytes) -> None:
        """Destroy the ids and the secret; what was observed stays, and nothing links it to a person any more.

        Afterwards the tables are written again, so that no dead row in them holds an id. A purged run is only that.
        What the server keeps apart from its tables, its log of changes and its backups, keeps ids as long as it lasts.

        Raises:
            RefusedError: another process works on the run.
            JournalError: it can't be written; with the code ``remains``, dead rows with ids are still there.
        """
        with self._claimed() as connection:
            if self.purged_at is None:
                self._unlink(connection, now, plan)
        with self.reading():
            self._read_facts()
        try:
            self._rows("SELECT rewrite()")
        except psycopg.Error as error:
            if not isinstance(error, psycopg.errors.LockNotAvailable):
                raise trouble(f"Run {self.name} was purged, but its tables could not be written again", error) from None
            raise JournalError(
                f"Run {self.name} was purged, but another process uses the tables: dead rows of them still hold ids.",
                "Purge the run once more when nothing else is at work.",
                code="remains",
            ) from None

    def _unlink(self, connection: Connection, now: int, plan: bytes) -> None:
        bounds = self.bounds()
        for first, _ in bounds:
            fold_page(connection, self._run_no, first)
        known = array("I", (row.seq for first, _ in bounds for row in self._rows_in(connection, first)))
        made = Renumbering(self.windows(), known, self.size, secrets.SystemRandom().shuffle)
        connection.execute("CREATE TEMP TABLE renumbered (seq bigint, data bytea) ON COMMIT DROP")
        for first, _ in bounds:
            rows = [made.row(row) for row in self._rows_in(connection, first)]
            with connection.cursor().copy("COPY renumbered FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "bytea"])
                for row in rows:
                    copy.write_row((row.seq, encode_rows([row])))
        connection.execute("CREATE INDEX ON renumbered (seq)")
        connection.execute(
            "UPDATE pages SET data = '', digest = '', folded = NULL, counts = NULL WHERE run_no = %s", (self._run_no,)
        )
        for first, last in bounds:
            found = connection.execute(
                "SELECT data FROM renumbered WHERE seq BETWEEN %s AND %s ORDER BY seq", (first, last), binary=True
            ).fetchall()
            rows = [row for (data,) in found for row in decode_rows(data)]
            if rows:
                put_rows(connection, self._run_no, first, encode_rows(rows))
        for table in _UNLINK:
            connection.execute(f"DELETE FROM {table} WHERE run_no = %s", (self._run_no,))
        gone = {"secret", "plan", "plan_key", MAC}
        facts = {name: fact for name, fact in self._facts.items() if name not in gone}
        facts |= {"plan": plan, "purged_at": str(now).encode()}
        connection.execute(
            "UPDATE runs SET plan = %s, purged_at = %s, mac = %s WHERE run_no = %s",
            (plan, now, facts_mac(facts, [(first, last, b"") for first, last in bounds]), self._run_no),
        )

    def _rows_in(self, connection: Connection, first: int) -> list[SubjectRow]:
        """All that is known of the subjects of a page of which the log says nothing, within a transaction."""
        (folded,) = connection.execute(
            "SELECT folded FROM pages WHERE run_no = %s AND first = %s", (self._run_no, first), binary=True
        ).fetchone() or (None,)
        return decode_rows(page_as_known(folded, ()))

    @contextmanager
    def _claimed(self) -> Iterator[Connection]:
        """A transaction in which nobody else may work on the run, and after which it is not as it was.

        Executions of which nothing can come any more are fenced by it.
        """
        self._check_open()
        with explained("The journal could not be written"), self._database.used() as connection:
            try:
                with connection.transaction():
                    self._claim(connection)
                    yield connection
            except psycopg.errors.LockNotAvailable:
                raise running(self.name) from None

    def _claim(self, connection: Connection) -> None:
        connection.execute("SET LOCAL lock_timeout = '2s'")
        found = connection.execute(
            "UPDATE runs SET touched = touched + 1 WHERE run_no = %s AND set_aside_at IS NULL RETURNING 1",
            (self._run_no,),
        ).fetchone()
        if found is None:
            raise moved(self.name)
        others = connection.execute(
            "SELECT number, process, expires_at + drain * interval '1 second' > moment() FROM executions"
            " WHERE run_no = %s AND ended_at IS NULL AND fenced_at IS NULL AND number IS DISTINCT FROM %s FOR UPDATE",
            (self._run_no, self._own_number),
        ).fetchall()
        for number, process, is_unexpired in others:
            if is_live(process, is_unexpired=is_unexpired):
                raise running(self.name)
            connection.execute(
                "UPDATE executions SET fenced_at = moment() WHERE run_no = %s AND number = %s", (self._run_no, number)
            )
            free(connection, self._run_no, number)

    def _let_others_work(self) -> None:
        """Give the lease back, if there is one: this process writes nothing more."""
        number, self._own_number = self._own_number, None
        if number is not None:
            with (
                suppress(psycopg.Error, JournalError),  # it expires by itself
                self._database.used() as connection,
                connection.transaction(),
            ):
                connection.execute("SELECT 1 FROM runs WHERE run_no = %s FOR NO KEY UPDATE", (self._run_no,))
                connection.execute(
                    "UPDATE executions SET fenced_at = moment() WHERE run_no = %s AND number = %s"
                    " AND ended_at IS NULL AND fenced_at IS NULL",
                    (self._run_no, number),
                )
                free(connection, self._run_no, number)

    def _close_writer(self, writer: Writer) -> None:
        self._writer = None
        writer.close()


# Creating a run: all of its subjects in the database before the first request, or no run at all.

#: Parties get numbers in the order of their names, which are compared byte by byte.
_NUMBER_PARTIES: Final = (
    "INSERT INTO parties SELECT %s, dense_rank() OVER (ORDER BY name), seq, place, id, given FROM members"
)


def create_run(database: Database, run_id: str, staged: Staged) -> None:
    """Make a new run in one transaction.

    Raises:
        JournalError: it could not be written; nothing is left behind.
    """
    with explained("The run could not be created"), database.used() as connection:
        if database.key is not None:
            own_key(database, database.key, "suppression")  # the key of this state, or none is drawn for it
        try:
            with connection.transaction():
                _fill(connection, database.key, run_id, staged)
        except psycopg.errors.UniqueViolation:
            raise JournalError("The run could not be created: there is one of that id.") from None


def put_secret(
    connection: Connection, key: SecretFile | None, run_no: int, run_id: str, secret: bytes, plan_key: bytes | None
) -> RunSeal | None:
    """Keep the secret of a run, sealed if there is a key; what seals all else of it then. Within a transaction."""
    kept = (secret, plan_key, None) if key is None else sealed_secret(key, run_id, secret, plan_key)
    connection.execute("INSERT INTO run_secrets VALUES (%s, %s, %s, %s)", (run_no, *kept))
    return None if key is None else RunSeal(secret, "run", run_id)


def _fill(connection: Connection, key: SecretFile | None, run_id: str, staged: Staged) -> None:
    secret = secrets.token_bytes(32)
    approval = None if staged.approval is None else msgspec.json.encode(staged.approval)
    (run_no,) = connection.execute(
        "INSERT INTO runs (run_id, plan, created_at, size, approval, mac) VALUES (%s, %s, %s, 0, %s, '')"
        " RETURNING run_no",
        (run_id, staged.plan, staged.created_at, approval),
    ).fetchone() or (0,)
    seal = put_secret(connection, key, run_no, run_id, secret, staged.plan_key)
    digests = _put_pages(connection, run_no, secret, staged, seal)
    if staged.party is not None:
        _put_parties(connection, run_no, digests, staged.party, seal)

    def page_rows(first: int) -> list[SubjectRow]:
        (folded,) = connection.execute(
            "SELECT folded FROM pages WHERE run_no = %s AND first = %s", (run_no, first), binary=True
        ).fetchone() or (None,)
        rows = decode_rows(page_as_known(folded, ()))
        return rows if seal is None else [opened_ticket(seal, row) for row in rows]

    for first, rows in known_at_first(staged, [first for first, _, _ in digests], page_rows):
        put_rows(connection, run_no, first, encode_rows([sealed_ticket(seal, row) for row in rows]))
    with connection.cursor().copy("COPY rejected FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["int4", "int8", "int8", "text"])
        for n, (row, reason) in enumerate(staged.rejected, 1):
            copy.write_row((run_no, n, row, reason))
    size = digests[-1][1] if digests else 0
    mac = facts_mac(facts_of(run_id, staged, secret, size), digests)
    connection.execute("UPDATE runs SET size = %s, mac = %s WHERE run_no = %s", (size, mac, run_no))
    if staged.order is not None:
        signed = staged.order(bound_run(run_id, staged.created_at, staged.plan, digests, staged.holds))
        put_order(connection, run_no, signed, staged.holds)


def put_order(connection: Connection, run_no: int, signed: bytes, held: Iterable[int]) -> None:
    """Keep the signed order of a run, and the numbers of those on hold, within a transaction."""
    connection.execute("INSERT INTO orders VALUES (%s, %s, %s)", (run_no, signed, pack_numbers(held)))


def _put_pages(
    connection: Connection, run_no: int, secret: bytes, staged: Staged, seal: RunSeal | None
) -> list[Digest]:
    digests: list[Digest] = []
    with connection.cursor().copy("COPY pages (run_no, first, last, data, digest) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["int4", "int8", "int8", "bytea", "bytea"])
        for first, page in numbered(staged.pages, divides=True):
            last, data = first + len(page) - 1, encode_page(page)
            digests.append((first, last, page_digest(secret, first, last, data)))
            copy.write_row((run_no, first, last, sealed(seal, data, PAGE, first), digests[-1][2]))
    return digests


def _put_parties(
    connection: Connection, run_no: int, digests: list[Digest], party: Callable[[str, str], str], seal: RunSeal | None
) -> None:
    """Write who belongs to which party, a page at a time: memory does not grow with the run.

    Sorting them may take the server files of its own. In a sealed run no name is in those, and the order is another.
    """
    connection.execute(
        "CREATE TEMP TABLE members (name bytea, seq bigint, place bigint, id bytea, given bytea) ON COMMIT DROP"
    )
    for first, _, _ in digests:
        (data,) = connection.execute(
            "SELECT data FROM pages WHERE run_no = %s AND first = %s", (run_no, first), binary=True
        ).fetchone() or (b"",)
        page = msgspec.msgpack.decode(data if seal is None else seal.opened(data, PAGE, first))
        with connection.cursor().copy("COPY members FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["bytea", "int8", "int8", "bytea", "bytea"])
            for name, seq, row, id_, given in members_of(first, page, party):
                named = name.encode() if seal is None else seal.named(name.encode())
                copy.write_row((named, seq, row, *member(seal, seq, row, id_, given)))
    connection.execute(_NUMBER_PARTIES, (run_no,))
