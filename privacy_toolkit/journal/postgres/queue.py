"""The queue of a state in a database: which runs are for workers, and who is woken for them, by Procrastinate.

What is to be done is in a table of our own: a run stays in it until somebody has seen that it ended. Procrastinate's
jobs only wake workers. So a job that is lost with its worker, as happens to "doing" ones in it
(procrastinate-org/procrastinate, issue 1518), delays a run by a minute and never ends it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import procrastinate
import psycopg
from procrastinate import exceptions

from privacy_toolkit.core.model import JournalError
from privacy_toolkit.journal.ledgers import Served
from privacy_toolkit.journal.postgres.connection import Connection, Database, check_tls, explained
from privacy_toolkit.journal.postgres.lease import call_off, leave_to_others
from privacy_toolkit.journal.records import StopAsked

#: Procrastinate's tables and ours for it, in a schema of their own.
SCHEMA: Final = "toolkit_work"
#: A worker that said nothing for so many seconds is gone; they say something every 10.
_GONE: Final = 60
#: How long a job may have been due, in seconds, for a worker to still do it once it is there again.
_LATEST: Final = 3_600.0
_EXECUTION, _SCHEDULE = "execution", "schedule"
#: Jobs of a task and queue that are in the hands of workers which said nothing for so many seconds.
_OF_THE_GONE: Final = """
    job.task_name = %s AND job.queue_name = %s AND job.status = 'doing' AND NOT EXISTS (
        SELECT FROM procrastinate_workers AS worker
        WHERE worker.id = job.worker_id AND worker.last_heartbeat > now() - make_interval(secs => %s))
"""

#: What ``state migrate`` makes once, with the tables as this Procrastinate has them.
TABLES: Final = """
    CREATE TABLE handed_out (
        run_id text PRIMARY KEY,
        queue text NOT NULL,
        packs int NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    );
"""


def tables() -> bytes:
    """Give the statements that make the schema, for a transaction in which nothing else is done afterwards."""
    schema = procrastinate.schema.SchemaManager.get_schema()
    return (
        f"CREATE SCHEMA {SCHEMA};\nSET LOCAL search_path TO {SCHEMA}, pg_temp;\n{schema}\n{TABLES}"
        "SET LOCAL search_path TO toolkit, pg_temp;"
    ).encode()


def later_changes() -> dict[str, bytes]:
    """Give what Procrastinate has changed in its tables over time, by the names under which it is recorded, in order.

    A new schema has all of it; one that is there gets what came since.
    """
    folder = Path(procrastinate.schema.SchemaManager.get_migrations_path())
    return {
        f"work/{file.stem}": (
            f"SET LOCAL search_path TO {SCHEMA}, pg_temp;\n{file.read_text('utf-8')}\n"
            "SET LOCAL search_path TO toolkit, pg_temp;"
        ).encode()
        for file in sorted(folder.glob("*.sql"))
    }


class PostgresQueue:
    """The queue of the workers of one scope: a deployment and environment.

    Raises:
        UsageError: the extra is not installed, or the tables are not those of this toolkit.
    """

    def __init__(self, database: Database, scope: str) -> None:
        self._database = database
        self._name = hashlib.sha256(scope.encode()).hexdigest()[:16]

    def hand_out(self, run_id: str, packs: int) -> None:
        """Leave a run, of which there are so many packs by now, to workers, and wake one. It is durable on return.

        What was left open is tried again, and no stop holds any more, unless somebody works on it already.

        Raises:
            JournalError: that can't be written.
        """
        with (
            explained("The run can't be handed out"),
            self._inside(lambda to: leave_to_others(to, run_id)) as connection,
        ):
            connection.execute(
                "INSERT INTO handed_out (run_id, queue, packs) VALUES (%s, %s, %s)"
                " ON CONFLICT (run_id) DO UPDATE SET packs = excluded.packs",
                (run_id, self._name, packs),
            )
        self.wake(run_id)

    def wake(self, run_id: str) -> None:
        """Have a worker that is free work on a run; nothing happens if one was asked to already.

        Raises:
            JournalError: the queue can't be reached.
        """
        with self._database.used():  # where it can't be reached, that is said at once
            asyncio.run(self._defer(run_id))

    def handed_out(self) -> dict[str, int]:
        """Give the runs that were left to workers and not taken back, the oldest first, with their packs before.

        Raises:
            JournalError: that can't be read.
        """
        with explained("What was handed out can't be read"), self._inside() as connection:
            found = connection.execute(
                "SELECT run_id, packs FROM handed_out WHERE queue = %s ORDER BY at, run_id", (self._name,)
            ).fetchall()
        return {str(run_id): int(packs) for run_id, packs in found}

    def call_off(self, run_id: str, asked: StopAsked) -> bool:
        """Take a run back that was left to workers and that nobody works on: none begins until it is resumed.

        Returns:
            False if it was not left to workers, or somebody works on it. Nothing is changed then.

        Raises:
            JournalError: that can't be written.
        """
        with explained("The run can't be taken back"), self._inside() as connection:
            if not connection.execute("SELECT 1 FROM handed_out WHERE run_id = %s FOR UPDATE", (run_id,)).fetchone():
                return False
            connection.execute("SET LOCAL search_path TO toolkit, pg_temp")
            is_off = call_off(connection, run_id, asked)
            if is_off:
                connection.execute(f"DELETE FROM {SCHEMA}.handed_out WHERE run_id = %s", (run_id,))
            return is_off

    def take_back(self, run_id: str) -> None:
        """Leave a run to workers no more: it ended, or was stopped.

        Raises:
            JournalError: that can't be written.
        """
        with explained("The run can't be taken back"), self._inside() as connection:
            connection.execute("DELETE FROM handed_out WHERE run_id = %s", (run_id,))

    def clear_up(self) -> None:
        """Have what was in the hands of workers that are gone done by others: schedules again, executions by ``wake``.

        Raises:
            JournalError: that can't be written.
        """
        with explained("The queue can't be cleared up"), self._inside() as connection:
            connection.execute(
                f"UPDATE procrastinate_jobs AS job SET status = 'todo', worker_id = NULL WHERE {_OF_THE_GONE}",
                (_SCHEDULE, self._name, _GONE),
            )
            connection.execute(
                f"DELETE FROM procrastinate_jobs AS job WHERE {_OF_THE_GONE}", (_EXECUTION, self._name, _GONE)
            )

    @contextmanager
    def _inside(self, first: Callable[[Connection], None] = lambda _: None) -> Iterator[Connection]:
        """A transaction in which the names are those of the queue's schema: Procrastinate's triggers need that.

        What is done ``first`` is among the state's own tables.
        """
        with self._database.used() as connection, connection.transaction():
            first(connection)
            connection.execute(f"SET LOCAL search_path TO {SCHEMA}, pg_temp")
            yield connection

    async def serve(self, served: Served, stop: asyncio.Event) -> None:
        """Do what is handed out until ``stop`` is set, and end once what is under way has ended.

        Raises:
            JournalError: the queue can't be reached any more.
        """
        app = self._app(served)
        async with _opened(app):
            worker = asyncio.create_task(
                app.run_worker_async(
                    queues=[self._name],
                    concurrency=1,
                    delete_jobs="always",
                    install_signal_handlers=False,
                    stalled_worker_timeout=_GONE,
                )
            )
            attending = asyncio.create_task(_attend(served))
            asked = asyncio.create_task(stop.wait())
            await asyncio.wait({worker, attending, asked}, return_when=asyncio.FIRST_COMPLETED)
            for task in (attending, asked, worker):
                task.cancel()  # the worker waits for what it has under way
            found = await asyncio.gather(worker, attending, return_exceptions=True)
        for error in found:
            if isinstance(error, exceptions.ConnectorException | psycopg.Error):
                raise JournalError("The queue of the state can't be reached.", "Is its database running?") from None
            if isinstance(error, Exception):
                raise error

    async def _defer(self, run_id: str) -> None:
        app = self._app(None)
        async with _opened(app):
            try:
                await app.configure_task(
                    _EXECUTION, queue=self._name, queueing_lock=f"{self._name} {run_id}"
                ).defer_async(run_id=run_id)
            except exceptions.AlreadyEnqueued:
                pass
            except exceptions.ConnectorException:
                raise _unreachable() from None

    def _app(self, served: Served | None) -> procrastinate.App:
        """Procrastinate with our tasks; without ``served`` only to hand something out."""
        connector = procrastinate.PsycopgConnector(
            conninfo="", kwargs=self._database.given(), configure=_configure, min_size=1, max_size=4, timeout=10.0
        )
        app = procrastinate.App(connector=connector, periodic_defaults={"max_delay": _LATEST})
        if served is None:
            return app

        async def work(run_id: str) -> None:
            await served.work(run_id)

        async def begin(timestamp: int, name: str) -> None:  # noqa: ARG001 - Procrastinate says when it was due
            await served.begin(name)

        app.task(name=_EXECUTION, queue=self._name)(work)
        task = app.task(name=_SCHEDULE, queue=self._name)(begin)
        for name, cron in served.schedules.items():
            lock = f"{self._name} schedule {name}"
            app.periodic(cron=cron, periodic_id=f"{self._name} {name}", queueing_lock=lock, task_kwargs={"name": name})(
                task
            )
        return app


async def _attend(served: Served) -> None:
    while True:
        await served.attend()
        await asyncio.sleep(served.every)


@asynccontextmanager
async def _opened(app: procrastinate.App) -> AsyncIterator[None]:
    """Procrastinate's connections, for a block.

    Raises:
        JournalError: none can be opened.
    """
    try:
        await app.open_async()
    except (exceptions.ConnectorException, psycopg.Error, TimeoutError):
        raise _unreachable() from None
    try:
        yield
    finally:
        await app.close_async()


def _unreachable() -> JournalError:
    return JournalError(
        "The queue of the state can't be reached.", "Is its database running, and has this user the rights for it?"
    )


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    """Set what each connection of Procrastinate needs.

    Raises:
        UsageError: it leads over a network and is not verified.
    """
    check_tls(connection)
    await connection.set_autocommit(True)
    await connection.execute(
        f"SET search_path TO {SCHEMA}, pg_temp; SET default_transaction_isolation TO 'read committed';"
        " SET idle_session_timeout TO 0; SET statement_timeout TO '60s'; SET lock_timeout TO '10s'"
    )
    await connection.set_autocommit(False)
