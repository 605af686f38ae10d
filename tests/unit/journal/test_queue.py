"""The queue of a state in a database: what was handed out is done by somebody, no matter who dies meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from privacy_toolkit.core.model import JournalError, UsageError
from privacy_toolkit.journal.ledgers import Served
from privacy_toolkit.journal.postgres.connection import Database
from privacy_toolkit.journal.postgres.queue import PostgresQueue
from privacy_toolkit.journal.state import check_schedule
from tests.support import postgres


@pytest.fixture
def there() -> Database:
    postgres.needed()
    return Database(postgres.emptied("queue"))


class Worker:
    """Does what it is given, and tells what that was; ends once it has worked on ``last``."""

    def __init__(self, last: str = "", schedules: dict[str, str] | None = None) -> None:
        self.worked: list[str] = []
        self.begun: list[str] = []
        self.attended = 0
        self.last = last
        self.stop = asyncio.Event()
        self.schedules = schedules or {}

    async def work(self, run_id: str) -> None:
        self.worked.append(run_id)
        if run_id == self.last:
            self.stop.set()

    async def begin(self, name: str) -> None:
        self.begun.append(name)
        if name == self.last:
            self.stop.set()

    async def attend(self) -> None:
        self.attended += 1

    async def serve(self, queue: PostgresQueue) -> None:
        async with asyncio.timeout(60):
            await queue.serve(Served(self.work, self.begin, self.attend, self.schedules), self.stop)


def test_a_worker_does_what_was_handed_out_before_it_came(there: Database) -> None:
    queue = PostgresQueue(there, "live example")
    queue.hand_out("one", 0)
    queue.hand_out("two", 0)
    worker = Worker(last="two")
    asyncio.run(worker.serve(queue))
    assert worker.worked == ["one", "two"]
    assert worker.attended


def test_a_run_stays_handed_out_until_somebody_saw_its_end(there: Database) -> None:
    queue = PostgresQueue(there, "live example")
    queue.hand_out("one", 0)
    asyncio.run(Worker(last="one").serve(queue))
    assert queue.handed_out() == {"one": 0}
    queue.take_back("one")
    assert queue.handed_out() == {}


def test_a_run_that_waits_already_is_not_given_to_a_worker_twice(there: Database) -> None:
    queue = PostgresQueue(there, "live example")
    queue.hand_out("one", 0)
    queue.wake("one")
    queue.hand_out("one", 0)
    queue.hand_out("last", 0)
    worker = Worker(last="last")
    asyncio.run(worker.serve(queue))
    assert worker.worked == ["one", "last"]


def test_other_deployments_and_environments_have_their_own(there: Database) -> None:
    PostgresQueue(there, "live example").hand_out("one", 0)
    other = PostgresQueue(there, "sandbox example")
    other.hand_out("two", 0)
    assert other.handed_out() == {"two": 0}
    worker = Worker(last="two")
    asyncio.run(worker.serve(other))
    assert worker.worked == ["two"]


def _die_with(there: Database, task: str) -> None:
    """Leave the next job of a task in the hands of a worker that was never seen again."""
    with there.used() as connection, connection.transaction():
        connection.execute("SET LOCAL search_path TO toolkit_work")
        connection.execute(
            "WITH gone AS (INSERT INTO toolkit_work.procrastinate_workers (last_heartbeat)"
            " VALUES (now() - interval '10 minutes') RETURNING id)"
            " UPDATE toolkit_work.procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM gone)"
            " WHERE task_name = %s",
            (task,),
        )


def test_what_a_dead_worker_had_is_cleared_up_and_the_run_woken_again(there: Database) -> None:
    queue = PostgresQueue(there, "live example")
    queue.hand_out("one", 0)
    _die_with(there, "execution")
    queue.clear_up()
    assert there.rows("SELECT count(*) FROM toolkit_work.procrastinate_jobs") == [(0,)]
    assert queue.handed_out() == {"one": 0}
    queue.wake("one")
    worker = Worker(last="one")
    asyncio.run(worker.serve(queue))
    assert worker.worked == ["one"]


def test_a_job_whose_worker_was_struck_off_is_cleared_up_too(there: Database) -> None:
    queue = PostgresQueue(there, "live example")
    queue.hand_out("one", 0)
    _die_with(there, "execution")
    with there.used() as connection:
        connection.execute("DELETE FROM toolkit_work.procrastinate_workers")
    queue.clear_up()
    assert there.rows("SELECT count(*) FROM toolkit_work.procrastinate_jobs") == [(0,)]


def test_a_schedule_is_begun_once_by_one_of_two_workers(there: Database) -> None:
    queue = PostgresQueue(there, "live example")
    first, second = Worker("night", {"night": "* * * * *"}), Worker("night", {"night": "* * * * *"})
    second.stop = first.stop

    async def both() -> None:
        await asyncio.gather(first.serve(queue), second.serve(queue))

    asyncio.run(both())
    assert first.begun + second.begun == ["night"]


@pytest.mark.parametrize("line", ["", "every night", "* * * *", "* * * * * *", "61 * * * *", "15 2 * * * root"])
def test_what_says_no_time_is_refused(line: str) -> None:
    with pytest.raises(UsageError, match="says no time"):
        check_schedule(line)


def test_a_crontab_line_is_taken() -> None:
    check_schedule("15 2 * * 1-5")


def test_a_database_that_is_gone_is_said() -> None:
    queue = PostgresQueue(Database("postgresql://toolkit@127.0.0.1:1/toolkit"), "live example")
    with pytest.raises(JournalError, match="can't be reached"):
        queue.wake("one")
