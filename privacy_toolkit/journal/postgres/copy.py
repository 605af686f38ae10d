"""From a state folder to a database: whole runs and all that outlives them, compared once they are there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg

from privacy_toolkit.core.model import JournalError, Outcome, RefusedError, UsageError
from privacy_toolkit.core.privacy import SecretFile
from privacy_toolkit.journal.ledgers import Digest, SignOrder, bound_run, facts_mac, page_digest
from privacy_toolkit.journal.packed import (
    PackedReader,
    control_row,
    encode_rows,
)
from privacy_toolkit.journal.postgres.connection import Connection, explained
from privacy_toolkit.journal.postgres.ledgers import put_key
from privacy_toolkit.journal.postgres.reader import PAGE, RESULT, PostgresReader, member, sealed, sealed_ticket
from privacy_toolkit.journal.postgres.run import put_order, put_rows, put_secret
from privacy_toolkit.journal.postgres.state import PostgresState
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.sqlite.reader import JournalReader
from privacy_toolkit.journal.store import RunReader, running
from privacy_toolkit.signatures.signers import RunSeal

_AT_ONCE: Final = 10_000
_FACTS: Final = ("run_id", "plan", "secret", "plan_key", "created_at", "size", "purged_at", "approval")
#: The tables of assigned codes, by the names that they have in a folder.
_ASSIGNED: Final = {"shared": "shared", "given_back": "given_back", "state": "changes"}


#: Gives what signs the order of a run in the state of an identity; None where nobody does.
OrderOf = Callable[[RunReader, str], SignOrder | None]


def copy_state(folder: Path, state: PostgresState, key: Path | None = None, order_of: OrderOf | None = None) -> int:
    """Copy a state folder into an empty state; how many runs that were.

    The folder then seems a copy to anyone who works with it: both at once would send things twice. ``key`` is the file
    with the folder's key, if that is not in it. ``order_of`` has the runs ordered, as they are, where they are now.

    Raises:
        UsageError: there are runs in the state already, or what is there is no state folder.
        RefusedError: a run of the folder is at work, or the folder is a copy itself.
        JournalError: something can't be read or written, or is not the same once it was written.
    """
    source = StateFolder.existing(folder, key)
    if not folder.exists() or state.run_ids() or any(True for _ in state.runs_set_aside()):
        raise UsageError(
            "A state is copied from a state folder into a database without any run. Nothing was copied.",
            "Is the folder right? Make another database, and its tables: privacy-toolkit state migrate ADDRESS",
        )
    doubt = source.identity.doubt()
    if doubt:
        raise RefusedError(
            f"The state folder is not what it was: {doubt}. Nothing was copied.",
            "Say that it is right by resuming a run in it with --restored, then copy it.",
            code="restored",
        )
    run_ids = source.run_ids()
    for run_id in run_ids:
        with source.open(run_id) as run:
            if run.is_running:
                raise running(run_id)
    with source.identity.locked():
        _copy_ledgers(source, state, run_ids)
        for run_id in reversed(run_ids):
            with source.open(run_id) as run:
                _copy_run(run, state, order_of)
        for _, aside in source.runs_set_aside():
            _copy_run(aside, state, set_aside=True)
        source.identity.retire()
    return len(run_ids)


def _copy_run(
    source: JournalReader, state: PostgresState, order_of: OrderOf | None = None, *, set_aside: bool = False
) -> None:
    run_id = source.run_id or source.name
    with explained(f"Run {run_id} can't be copied"), state.database.used() as connection:
        try:
            with connection.transaction():
                run_no, digests = _put_run(connection, source, run_id, state.key)
                sign = order_of(source, state.drawn_id) if order_of and source.purged_at is None else None
                if sign is not None:
                    held = [e.subject.seq for e in source.entries({Outcome.ON_HOLD})]
                    signed = sign(bound_run(run_id, source.created_at, source.plan, digests, held))
                    put_order(connection, run_no, signed, held)
        except psycopg.errors.UniqueViolation:
            raise JournalError(f"Run {run_id} can't be copied: there are two of that id.") from None
        with PostgresReader(state.database, run_id) as copied:
            if fingerprint(copied) != fingerprint(source):
                raise JournalError(f"Run {run_id} is not the same once it was copied.", "Copy into another database.")
        if set_aside:
            connection.execute("UPDATE runs SET set_aside_at = clock_timestamp() WHERE run_id = %s", (run_id,))


def fingerprint(run: PackedReader) -> bytes:
    """Give the SHA-256 of all that a run holds, whatever it is kept in."""
    found = hashlib.sha256()

    def add(*values: object) -> None:
        piece = msgspec.msgpack.encode(values)
        found.update(len(piece).to_bytes(8, "big") + piece)

    for name in _FACTS:
        add(name, run.fact(name))
    for first, last in run.bounds():
        add(first, last, run.page_of(first)[0], encode_rows(run.rows_of_page(first)))
        for seq, data in run.kept_between(first, last):
            add(seq, data)
    for party, row in _all_members(run):
        add(party, *row[1:])
    return found.digest()


def _all_members(run: PackedReader) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Each member of a party with the party's number in order: names are kept by no database."""
    after: tuple[Any, ...] = ()
    number, name = 0, object()
    while found := run.members_after(after, _AT_ONCE):
        for row in found:
            if row[0] != name:
                number, name = number + 1, row[0]
            yield number, row
        after = found[-1][:2]


def _put_run(
    connection: Connection, source: JournalReader, run_id: str, key: SecretFile | None
) -> tuple[int, list[Digest]]:
    facts = {name: value for name in _FACTS if (value := source.fact(name)) is not None}
    (run_no,) = connection.execute(
        "INSERT INTO runs (run_id, plan, created_at, size, approval, mac, purged_at)"
        " VALUES (%s, %s, %s, %s, %s, '', %s) RETURNING run_no",
        (run_id, source.plan, source.created_at, source.size, facts.get("approval"), source.purged_at),
    ).fetchone() or (0,)
    seal = None
    if source.secret is not None:
        seal = put_secret(connection, key, run_no, run_id, source.secret, source.plan_key)
    digests = []
    for first, last in source.bounds():
        data = source.page_of(first)[0]
        digest = b"" if source.secret is None else page_digest(source.secret, first, last, data)
        digests.append((first, last, digest))
        connection.execute(
            "INSERT INTO pages (run_no, first, last, data, digest) VALUES (%s, %s, %s, %s, %s)",
            (run_no, first, last, sealed(seal, data, PAGE, first), digest),
        )
        rows = source.rows_of_page(first)
        if rows:
            put_rows(connection, run_no, first, encode_rows([sealed_ticket(seal, row) for row in rows]))
        kept = [(run_no, seq, sealed(seal, data, RESULT, seq)) for seq, data in source.kept_between(first, last)]
        _put(connection, "results (run_no, seq, data)", kept)
    mac = facts_mac(facts, digests)
    connection.execute("UPDATE runs SET mac = %s WHERE run_no = %s", (mac, run_no))
    _put_records(connection, source, run_no, seal)
    return run_no, digests


def _put_records(connection: Connection, source: JournalReader, run_no: int, seal: RunSeal | None) -> None:
    """Write what of a run is in no page."""
    _put(
        connection,
        "parties (run_no, party, seq, place, id, given)",
        (
            (run_no, party, seq, place, *member(seal, seq, place, id_, given))
            for party, (_, seq, place, id_, given) in _all_members(source)
        ),
    )
    _put(
        connection,
        "rejected (run_no, n, place, reason)",
        ((run_no, n, row.row, row.reason) for n, row in enumerate(source.rejected(), 1)),
    )
    _put(
        connection,
        "controls (run_no, kind, operation, ended_at, elapsed, status, reason, held)",
        ((run_no, *control_row(one)) for one in source.controls()),
    )
    _put(
        connection,
        "executions (run_no, number, started_at, ended_at, stopped_by, settings, host, process, expires_at, fenced_at)",
        (
            (run_no, e.number, e.started_at, e.ended_at, e.stopped_by and e.stopped_by.value, e.settings, "", "", 0, 0)
            for e in source.executions()
        ),
        "%s, %s, %s, %s, %s, %s, %s, %s, to_timestamp(%s), to_timestamp(%s)",
    )
    accepted = source.acceptance()
    if accepted is not None:
        row = (run_no, accepted.at, accepted.rows, accepted.signer, accepted.signing_key)
        _put(connection, "acceptances (run_no, at, rows, signer, signing_key)", [row])


def _put(connection: Connection, into: str, rows: Any, marks: str = "") -> None:
    marks = marks or ", ".join(["%s"] * (into.count(",") + 1))
    connection.cursor().executemany(f"INSERT INTO {into} VALUES ({marks})", rows)


def _copy_ledgers(source: StateFolder, state: PostgresState, run_ids: list[str]) -> None:
    """Copy what outlives the runs; it may have been copied before, by an attempt that did not end."""
    with explained("The state can't be copied"):
        state.put_fact("drawn", source.drawn_id.encode())
        with source.suppression() as listed, state.database.used() as connection:
            put_key(state.database, state.key, "suppression", listed.key)
            with state.suppression() as copied:
                copied.take_in(*listed.exported()[:2])
            connection.cursor().executemany(
                "INSERT INTO removed VALUES (%s, %s) ON CONFLICT DO NOTHING", listed.removed()
            )
    _copy_codes(source, state)
    _copy_records(source, state)
    with explained("The state can't be copied"), source.suppression() as listed:
        for run_id in run_ids:
            state.database.rows(
                "INSERT INTO counted VALUES (%s, %s) ON CONFLICT DO NOTHING", (run_id, listed.counted(run_id))
            )


def _copy_codes(source: StateFolder, state: PostgresState) -> None:
    with explained("The record of assigned codes can't be copied"), closing(source.assigned("")) as record:
        put_key(state.database, state.key, "assigned", record.key)
        with state.database.used() as connection, connection.transaction():
            for table, rows in record.copied():
                into = _ASSIGNED.get(table, "assigned")
                marks = ", ".join(["%s"] * len(rows[0]))
                connection.cursor().executemany(f"INSERT INTO {into} VALUES ({marks}) ON CONFLICT DO NOTHING", rows)


def _copy_records(source: StateFolder, state: PostgresState) -> None:
    try:
        controls = source.controls.all()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise JournalError("A file in the folder controls of the state folder is damaged.") from None
    for control in controls:
        state.controls.write(control)
    for run_id in source.answered_runs():
        sent = source.answers.read(run_id)
        state.answers.change(run_id, lambda _, sent=sent: sent)  # type: ignore[misc]  # the default binds it
    for nonce in source.plan_nonces():
        kept = source.plan_key(nonce).read()
        if kept is not None and state.plan_key(nonce).read() is None:
            state.plan_key(nonce).write(kept)
    _copy_chain(source, state)
    restored_at = source.identity.restored_at
    if restored_at is not None:
        state.identity.acknowledge(restored_at)


def _copy_chain(source: StateFolder, state: PostgresState) -> None:
    links = source.chain.links()
    if links:
        state.put_fact("chain", source.chain.drawn_id().encode())
        with state.chain.lock():
            newest = state.chain.newest()
            for link in links[0 if newest is None else newest.sequence :]:
                state.chain.append(link)
