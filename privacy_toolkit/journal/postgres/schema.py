"""The tables of a state in PostgreSQL, as named migrations, and who may do what with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.journal.postgres.connection import Connection, Database, explained

#: Who changes tables keeps others from it by this advisory lock.
_LOCK: Final = 0x70726976

#: Each is applied in one transaction with its own record. Within a major version they only add.
MIGRATIONS: Final[tuple[tuple[str, str], ...]] = (
    (
        "0001-first",
        """
        CREATE TABLE facts (name text PRIMARY KEY, value bytea NOT NULL);
        -- The keys of what names people by digests: anyone who has a list and its key can test who is on it.
        CREATE TABLE keys (name text PRIMARY KEY, value bytea NOT NULL, checked bytea);
        CREATE TABLE runs (
            run_no int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            run_id text NOT NULL UNIQUE,
            plan bytea NOT NULL,
            created_at bigint NOT NULL,
            size bigint NOT NULL,
            approval bytea,
            mac bytea NOT NULL,
            purged_at bigint,
            set_aside_at timestamptz,
            touched int NOT NULL DEFAULT 0
        );
        CREATE TABLE run_secrets (run_no int PRIMARY KEY REFERENCES runs, secret bytea NOT NULL, plan_key bytea);
        -- An execution is a lease on its run, and its number what fences those before it.
        CREATE TABLE executions (
            run_no int NOT NULL REFERENCES runs,
            number int NOT NULL,
            started_at bigint NOT NULL,
            ended_at bigint,
            stopped_by text,
            settings text NOT NULL,
            host text NOT NULL,
            process text NOT NULL,
            expires_at timestamptz NOT NULL,
            fenced_at timestamptz,
            PRIMARY KEY (run_no, number)
        ) WITH (fillfactor = 50);
        -- The accepted subjects in input order, up to 1,000 a page; what is known of them, folded; its counts.
        CREATE TABLE pages (
            run_no int NOT NULL REFERENCES runs,
            first bigint NOT NULL,
            last bigint NOT NULL,
            data bytea NOT NULL,
            digest bytea NOT NULL,
            folded bytea,
            counts bytea,
            PRIMARY KEY (run_no, first)
        );
        ALTER TABLE pages ALTER data SET STORAGE EXTERNAL, ALTER folded SET STORAGE EXTERNAL;
        -- What commits say of each page, until it is folded.
        CREATE TABLE log (
            run_no int NOT NULL,
            first bigint NOT NULL,
            n bigint GENERATED ALWAYS AS IDENTITY,
            execution int NOT NULL,
            data bytea NOT NULL,
            PRIMARY KEY (run_no, first, n)
        );
        ALTER TABLE log ALTER data SET STORAGE EXTERNAL;
        -- For the jobs whose requests are about several subjects: which belong together; parties are in order.
        CREATE TABLE parties (
            run_no int NOT NULL,
            party bigint NOT NULL,
            seq bigint NOT NULL,
            place bigint NOT NULL,
            id bytea NOT NULL,
            given bytea NOT NULL,
            PRIMARY KEY (run_no, party, seq)
        );
        CREATE TABLE results (run_no int NOT NULL, seq bigint NOT NULL, data bytea NOT NULL, PRIMARY KEY (run_no, seq));
        CREATE TABLE controls (
            run_no int NOT NULL,
            n bigint GENERATED ALWAYS AS IDENTITY,
            kind text,
            operation text NOT NULL,
            ended_at bigint NOT NULL,
            elapsed bigint NOT NULL,
            status int,
            reason text,
            held boolean,
            PRIMARY KEY (run_no, n)
        );
        CREATE TABLE rejected (
            run_no int NOT NULL,
            n bigint NOT NULL,
            place bigint NOT NULL,
            reason text NOT NULL,
            PRIMARY KEY (run_no, n)
        );
        CREATE TABLE acceptances (
            run_no int NOT NULL,
            n bigint GENERATED ALWAYS AS IDENTITY,
            at bigint NOT NULL,
            rows bigint NOT NULL,
            signer text,
            signing_key text,
            PRIMARY KEY (run_no, n)
        );
        """,
    ),
    (
        "0002-ledgers",
        """
        CREATE TABLE suppressed (digest bytea PRIMARY KEY);
        CREATE TABLE counted (run_id text PRIMARY KEY, erased bigint NOT NULL);
        CREATE TABLE list_read (run_id text PRIMARY KEY, stamp bytea NOT NULL);
        CREATE TABLE imported (list text NOT NULL, digest bytea NOT NULL, PRIMARY KEY (list, digest));
        CREATE TABLE removed (digest bytea PRIMARY KEY, before text NOT NULL);
        -- The first customer of a code, and every one of a code that several may have.
        CREATE TABLE assigned (code bytea PRIMARY KEY, customer bytea NOT NULL);
        CREATE INDEX assigned_to ON assigned (customer);
        CREATE TABLE shared (code bytea NOT NULL, customer bytea NOT NULL, PRIMARY KEY (code, customer));
        CREATE INDEX shared_to ON shared (customer);
        CREATE TABLE given_back (run_id text PRIMARY KEY);
        CREATE TABLE changes (scope bytea PRIMARY KEY, changes bigint NOT NULL);
        CREATE TABLE deployments (deployment text PRIMARY KEY, data bytea NOT NULL);
        CREATE TABLE answers (run_id text PRIMARY KEY, data bytea NOT NULL);
        CREATE TABLE plan_keys (nonce text PRIMARY KEY, value bytea NOT NULL);
        CREATE TABLE chain (
            sequence int PRIMARY KEY,
            run_id text NOT NULL,
            checkpoint bytea NOT NULL,
            sums bytea NOT NULL,
            signature bytea
        );
        -- What runs tell, looked up; it is made again from them at any time.
        CREATE TABLE index_parts (
            run_id text NOT NULL,
            part text NOT NULL,
            no bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
            stamp bytea NOT NULL,
            salt bytea NOT NULL,
            note bytea NOT NULL,
            PRIMARY KEY (run_id, part)
        );
        CREATE TABLE index_told (
            digest bytea NOT NULL,
            no bigint NOT NULL REFERENCES index_parts (no) ON DELETE CASCADE,
            value bytea NOT NULL,
            PRIMARY KEY (digest, no)
        );
        CREATE INDEX index_told_of ON index_told (no);
        """,
    ),
    (
        "0003-rewrite",
        """
        -- After a purge: writes the tables again, so that no dead row of them holds an id any more.
        CREATE FUNCTION rewrite() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = toolkit, pg_temp SET lock_timeout = '2s' AS $$
        BEGIN
            CLUSTER run_secrets USING run_secrets_pkey;
            CLUSTER runs USING runs_pkey;
            CLUSTER pages USING pages_pkey;
            CLUSTER log USING log_pkey;
            CLUSTER parties USING parties_pkey;
            CLUSTER results USING results_pkey;
            CLUSTER rejected USING rejected_pkey;
            CLUSTER index_told USING index_told_pkey;
            CLUSTER index_parts USING index_parts_pkey;
        END $$;
        REVOKE ALL ON FUNCTION rewrite() FROM PUBLIC;
        """,
    ),
    (
        "0004-stops",
        """
        -- That somebody asked all who work on a run to stop; it goes when work on the run is gone on with.
        CREATE TABLE stops (run_no int PRIMARY KEY REFERENCES runs, data bytea NOT NULL);
        -- Anyone who could work with the state before can do so now.
        DO $$
        DECLARE named name;
        BEGIN
            FOR named IN SELECT DISTINCT grantee::regrole::name FROM pg_class, aclexplode(relacl)
                WHERE oid = 'runs'::regclass AND privilege_type = 'UPDATE' AND grantee NOT IN (0, relowner) LOOP
                EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON stops TO %I', named);
            END LOOP;
        END $$;
        """,
    ),
    (
        "0005-leases",
        """
        -- The time by which leases last.
        CREATE FUNCTION moment() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';
        -- How often work on a run was begun with nobody else there; why all have to stop, until when all have to wait.
        -- A run that is no two executions' at once is claimed as a whole.
        ALTER TABLE runs
            ADD generation int NOT NULL DEFAULT 0,
            ADD stop text,
            ADD paused_until timestamptz,
            ADD holder int,
            ADD walked boolean NOT NULL DEFAULT false;
        -- Of executions with a lease; exclusive is null where there is none. What each told with its last beat.
        ALTER TABLE executions
            ADD target text,
            ADD generation int NOT NULL DEFAULT 0,
            ADD exclusive boolean,
            ADD rate float8,
            ADD drain float8 NOT NULL DEFAULT 30,
            ADD written bigint NOT NULL DEFAULT 0,
            ADD beaten bigint NOT NULL DEFAULT 0,
            ADD beaten_at timestamptz,
            ADD want float8 NOT NULL DEFAULT 0,
            ADD in_use float8 NOT NULL DEFAULT 0,
            ADD told float8 NOT NULL DEFAULT 0,
            ADD since float8 NOT NULL DEFAULT 0,
            ADD failures int NOT NULL DEFAULT 0,
            ADD first_reads int NOT NULL DEFAULT 0,
            ADD has_seen boolean NOT NULL DEFAULT false;
        CREATE INDEX executions_on ON executions (target) WHERE ended_at IS NULL AND fenced_at IS NULL;
        -- Whose a page is, whether all in it were tried in this generation; what tells which page comes first.
        ALTER TABLE pages
            ADD execution int,
            ADD walked boolean NOT NULL DEFAULT false,
            ADD is_open boolean NOT NULL DEFAULT true,
            ADD doubted boolean NOT NULL DEFAULT false,
            ADD due_on text;
        CREATE INDEX pages_to_claim ON pages (run_no, doubted DESC, due_on, first) WHERE NOT walked;
        CREATE INDEX pages_claimed ON pages (run_no, execution) WHERE execution IS NOT NULL;
        """,
    ),
    (
        "0006-trust",
        """
        -- The signed order of a run, and the numbers of those on hold, which it binds.
        CREATE TABLE orders (run_no int PRIMARY KEY REFERENCES runs, signed bytea NOT NULL, held bytea NOT NULL);
        -- What tells whether a key is the one under which the secret of a run, and so all of it, is sealed.
        ALTER TABLE run_secrets ADD checked bytea;
        -- Anyone who could work with the state before can do so now.
        DO $$
        DECLARE named name;
        BEGIN
            FOR named IN SELECT DISTINCT grantee::regrole::name FROM pg_class, aclexplode(relacl)
                WHERE oid = 'runs'::regclass AND privilege_type = 'UPDATE' AND grantee NOT IN (0, relowner) LOOP
                EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO %I', named);
            END LOOP;
        END $$;
        CREATE OR REPLACE FUNCTION rewrite() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = toolkit, pg_temp SET lock_timeout = '2s' AS $$
        BEGIN
            CLUSTER run_secrets USING run_secrets_pkey;
            CLUSTER runs USING runs_pkey;
            CLUSTER orders USING orders_pkey;
            CLUSTER pages USING pages_pkey;
            CLUSTER log USING log_pkey;
            CLUSTER parties USING parties_pkey;
            CLUSTER results USING results_pkey;
            CLUSTER rejected USING rejected_pkey;
            CLUSTER index_told USING index_told_pkey;
            CLUSTER index_parts USING index_parts_pkey;
        END $$;
        """,
    ),
    (
        "0007-pace",
        """
        -- The pace that somebody asked of all who work on a run; it goes when work on the run is gone on with.
        ALTER TABLE runs ADD tuned bytea;
        -- Anyone who could work with the state before can do so now.
        DO $$
        DECLARE named name; may text;
        BEGIN
            FOR named, may IN SELECT DISTINCT grantee::regrole::name, privilege_type
                FROM pg_attribute, aclexplode(attacl) WHERE attrelid = 'runs'::regclass AND attname = 'generation'
                AND privilege_type IN ('SELECT', 'UPDATE') AND grantee <> 0 LOOP
                EXECUTE format('GRANT %s (tuned) ON runs TO %I', may, named);
            END LOOP;
        END $$;
        """,
    ),
)
#: Makes the tables of Procrastinate as the installed version has them, and ours for it. What later versions change in
#: them are migrations of their own, by the names of Procrastinate's files.
_WORK: Final = "0004-work"

# Who may do what. Anyone who is to do less has fewer rights; whose orders count is said by signatures and not by these.

OPERATOR, WORKER, READER = ROLES = ("operator", "worker", "reader")
_ALL: Final = "SELECT, INSERT, UPDATE, DELETE"
#: What an operator may do with tables of which not all is done by any command; of all others everything.
_OPERATOR: Final = {
    "migrations": "SELECT",
    "chain": "SELECT, INSERT",
    "controls": "SELECT, INSERT",
    "acceptances": "SELECT, INSERT",
    "rejected": "SELECT, INSERT, DELETE",
    "orders": "SELECT, INSERT, DELETE",
    "runs": "SELECT, INSERT, UPDATE",
    "executions": "SELECT, INSERT, UPDATE",
}
#: A worker makes no run and changes no page, plan, order or secret; what it wrote of a run it can change.
_WORKER: Final = {
    **dict.fromkeys(
        (
            *("migrations", "run_secrets", "orders", "parties", "rejected", "acceptances"),
            *("imported", "removed", "deployments", "answers"),
        ),
        "SELECT",
    ),
    **dict.fromkeys(("facts", "keys", "controls", "chain", "suppressed", "given_back"), "SELECT, INSERT"),
    "runs": "SELECT, UPDATE (touched, generation, stop, paused_until, holder, walked, tuned)",
    "executions": (
        "SELECT, INSERT, UPDATE (ended_at, stopped_by, expires_at, fenced_at, target, generation, exclusive, rate,"
        " drain, written, beaten, beaten_at, want, in_use, told, since, failures, first_reads, has_seen)"
    ),
    "pages": "SELECT, UPDATE (folded, counts, execution, walked, is_open, doubted, due_on)",
    "log": "SELECT, INSERT, DELETE",
    "results": "SELECT, INSERT, UPDATE (data), DELETE",
    "counted": "SELECT, INSERT, UPDATE (erased)",
    "list_read": "SELECT, INSERT, UPDATE (stamp)",
    "changes": "SELECT, INSERT, UPDATE (changes)",
    "assigned": "SELECT, DELETE",
    "shared": "SELECT, DELETE",
    "stops": "SELECT, DELETE",
    "index_parts": "SELECT, INSERT, DELETE",
    "index_told": "SELECT, INSERT",
}
#: A reader sees how runs are going: nobody's id, no secret, and no plan, which may name a path.
_READER: Final = {
    "runs": (
        "SELECT (run_no, run_id, created_at, size, purged_at, set_aside_at, touched, generation, stop, paused_until,"
        " walked, tuned)"
    ),
    **dict.fromkeys(("migrations", "executions", "controls", "acceptances", "chain", "stops"), "SELECT"),
}
#: Whether a role may sort what a report needs where it is; everybody may, unless an administrator took it from them.
_TEMPORARY: Final = "has_database_privilege(%s, current_database(), 'TEMPORARY')"
_RIGHT: Final = re.compile(r"([A-Z]+)(?: \(([a-z_, ]+)\))?(?:, |$)")


def check(database: Database) -> None:
    """Make sure that the tables are those that this toolkit knows.

    Raises:
        UsageError: they are missing, older or newer.
        JournalError: the database can't be reached.
    """
    with explained("The database of the state can't be read"), database.used() as connection:
        there = _applied(connection)
    known = [*(name for name, _ in MIGRATIONS), _WORK, *_changes_of_work()]
    if there - set(known):
        raise UsageError(
            "The tables of the state were made by a newer version of this toolkit.",
            "Use that version, or a later one. Nothing was changed.",
        )
    missing = [name for name in known if name not in there]
    if missing:
        what = "are older than this version of the toolkit" if there else "are missing in this database"
        raise UsageError(
            f"The tables of the state {what}.", "Have the owner give: privacy-toolkit state migrate ADDRESS"
        )


#: Encodings of a database that hold all there is; the second takes bytes as they come.
_ENCODINGS: Final = frozenset({"UTF8", "SQL_ASCII"})


def migrate(database: Database) -> list[str]:
    """Bring the tables to the newest form; the names of the migrations that were applied.

    Raises:
        UsageError: they are of a newer toolkit, or the database can't hold what would be in them.
        JournalError: they can't be changed; what was applied before stays.
    """
    with explained("The tables of the state can't be changed"), database.used() as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        try:
            return _migrate(connection)
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _migrate(connection: Connection) -> list[str]:
    there, done = _applied(connection), []
    if there - {*(name for name, _ in MIGRATIONS), _WORK, *_changes_of_work()}:
        raise UsageError(
            "The tables of the state were made by a newer version of this toolkit.",
            "Use that version, or a later one. Nothing was changed.",
        )
    if not there:
        (encoding,) = connection.execute("SELECT current_setting('server_encoding')").fetchone() or ("",)
        if encoding not in _ENCODINGS:
            raise UsageError(
                f"The database has the encoding {encoding}, which lacks what ids and reasons may hold.",
                "Make another one: CREATE DATABASE toolkit ENCODING 'UTF8' TEMPLATE template0. Nothing was changed.",
            )
        with connection.transaction():
            connection.execute("CREATE SCHEMA IF NOT EXISTS toolkit")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations"
                " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
    for name, statements in MIGRATIONS:
        if name not in there:
            with connection.transaction():
                connection.execute(statements.encode())
                connection.execute("INSERT INTO migrations (name) VALUES (%s)", (name,))
            done.append(name)
    done += _migrate_work(connection, there)
    return done


def _migrate_work(connection: Connection, there: set[str]) -> list[str]:
    """Make the tables of the queue, or bring them to what the installed Procrastinate expects."""
    from privacy_toolkit.journal.postgres import queue  # noqa: PLC0415 - loads all of Procrastinate

    changes = queue.later_changes()
    if _WORK not in there:
        with connection.transaction():
            connection.execute(queue.tables())
            for name in (_WORK, *changes):  # a new schema has them all
                connection.execute("INSERT INTO migrations (name) VALUES (%s)", (name,))
        return [_WORK]
    missing = [name for name in changes if name not in there]
    for name in missing:
        with connection.transaction():
            connection.execute(changes[name])
            connection.execute("INSERT INTO migrations (name) VALUES (%s)", (name,))
    return missing


@cache
def _changes_of_work() -> frozenset[str]:
    """The names of what Procrastinate changed in its tables, without loading it.

    Raises:
        UsageError: it is not installed.
    """
    found = find_spec("procrastinate")
    if found is None or found.origin is None:
        raise UsageError(
            "A state in PostgreSQL needs the extra [cluster], which is not installed as a whole.",
            "Install it: pip install 'talonone-privacy-toolkit[cluster]'",
        )
    folder = Path(found.origin).parent / "sql" / "migrations"
    return frozenset(f"work/{file.stem}" for file in folder.glob("*.sql"))


def _applied(connection: Connection) -> set[str]:
    (there,) = connection.execute("SELECT to_regclass('toolkit.migrations') IS NOT NULL").fetchone() or (False,)
    return {str(name) for (name,) in connection.execute("SELECT name FROM migrations")} if there else set()


def grant(database: Database, role: str, duty: str) -> None:
    """Give a role the rights of an operator, a worker or a reader, and take from it what else it had.

    Raises:
        UsageError: there is no such role.
        JournalError: the one who connects may not grant it.
    """
    with explained("The rights can't be granted"), database.used() as connection:
        statements = [
            "REVOKE ALL ON ALL TABLES IN SCHEMA toolkit FROM {role}",
            "REVOKE ALL ON FUNCTION rewrite() FROM {role}",
            "GRANT USAGE ON SCHEMA toolkit TO {role}",
            *(f"GRANT {rights} ON {table} TO {{role}}" for table, rights in _rights(connection, duty).items()),
        ]
        if duty == OPERATOR:
            statements.append("GRANT EXECUTE ON FUNCTION rewrite() TO {role}")
        work = "REVOKE ALL ON ALL TABLES IN SCHEMA toolkit_work FROM {role}"
        statements += (
            [work]
            if duty == READER
            else [
                "GRANT USAGE ON SCHEMA toolkit_work TO {role}",
                f"GRANT {_ALL} ON ALL TABLES IN SCHEMA toolkit_work TO {{role}}",
                "GRANT USAGE ON ALL SEQUENCES IN SCHEMA toolkit_work TO {role}",
            ]
        )
        try:
            with connection.transaction():
                may_sort = connection.execute(f"SELECT {_TEMPORARY}", (role,)).fetchone()
                if duty != READER and may_sort == (False,):
                    statements.append("GRANT TEMPORARY ON DATABASE {database} TO {role}")
                named = {"role": sql.Identifier(role), "database": sql.Identifier(connection.info.dbname)}
                for statement in statements:
                    connection.execute(sql.SQL(statement).format(**named))
        except psycopg.errors.UndefinedObject:
            raise UsageError(
                "There is no such role in the database.", "Make it first: CREATE ROLE name LOGIN"
            ) from None


def _rights(connection: Connection, duty: str) -> dict[str, str]:
    """The rights of a duty by table."""
    if duty != OPERATOR:
        return _WORKER if duty == WORKER else _READER
    tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'toolkit' ORDER BY 1").fetchall()
    return {table: _OPERATOR.get(table, _ALL) for (table,) in tables}


def _missing(connection: Connection, duty: str) -> list[str]:
    """The rights of a duty that this user does not have, such as "UPDATE on pages"."""
    wanted = [
        (table, right, column)
        for table, rights in _rights(connection, duty).items()
        for right, columns in _RIGHT.findall(rights)
        for column in (columns.split(", ") if columns else [""])
    ]
    found = connection.execute(
        "SELECT DISTINCT need || ' on ' || named"
        " FROM unnest(%s::text[], %s::text[], %s::text[]) AS r (named, need, part)"
        " WHERE NOT CASE WHEN part = '' THEN has_table_privilege('toolkit.' || named, need)"
        " ELSE has_column_privilege('toolkit.' || named, part, need) END ORDER BY 1",
        tuple(map(list, zip(*wanted, strict=True))),
    )
    missing = [str(right) for (right,) in found.fetchall()]
    may_sort = connection.execute(f"SELECT {_TEMPORARY}", (connection.info.user,)).fetchone()
    return missing + (["TEMPORARY on the database"] if duty != READER and may_sort == (False,) else [])


#: What a server says of itself that a state depends on.
_CONDITION: Final = """
    SELECT current_setting('server_version'), current_setting('server_version_num')::int,
        current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
        extract(epoch FROM clock_timestamp())::float8, pg_is_in_recovery(),
        current_setting('synchronous_standby_names'), current_setting('transaction_read_only') = 'on'
"""
#: The oldest server that the tests are run with, as a number of its own.
_OLDEST: Final = 150_000


def condition(database: Database, now: Callable[[], float]) -> dict[str, Any]:
    """Look at a server: fields of ``state.DatabaseCondition``.

    Raises:
        UsageError: it is too old, or a standby that nothing can be written to.
        JournalError: it can't be reached.
    """
    with explained("The database of the state can't be read"), database.used() as connection:
        before = now()
        row = connection.execute(_CONDITION).fetchone() or ("", 0, False, before, False, "", False)
        middle = (before + now()) / 2
        encrypted = connection.pgconn.ssl_in_use
    version, number, durable, clock, is_standby, standbys, is_read_only = row
    if number < _OLDEST:
        raise UsageError(f"PostgreSQL {version} is too old for a state.", "Use version 15 or a later one.")
    if is_standby:
        raise UsageError("The database is a standby: nothing can be written to it.", "Name the primary server.")
    if is_read_only:
        hint = "Have its administrator take default_transaction_read_only from the database or from the role."
        raise UsageError("The database is set to read-only: nothing can be written to it.", hint)
    standby = (
        f"a commit waits for standbys: {standbys}"
        if standbys
        else "no standby is synchronous: after a failover, commits of the last moments may be missing"
    )
    return {
        "version": version,
        "durable": durable,
        "encrypted": encrypted,
        "behind": middle - clock,
        "standby": standby,
    }


def usage(database: Database) -> dict[str, Any]:
    """Tell what this user may do, and which run is the newest: fields of ``state.DatabaseCondition``.

    Raises:
        JournalError: that can't be read.
    """
    with explained("The runs can't be listed"), database.used() as connection:
        missing = {duty: _missing(connection, duty) for duty in ROLES}
        role = next((duty for duty, rights in missing.items() if not rights), "")
        (latest,) = connection.execute("SELECT max(run_id) FROM runs WHERE set_aside_at IS NULL").fetchone() or (None,)
    lacks = () if role in {OPERATOR, WORKER} else tuple(missing[WORKER])
    return {"role": role, "lacks": lacks, "latest": latest}
