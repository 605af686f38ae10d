"""The controls of an execution: when they count as failed, and what a contradiction takes back."""

import asyncio
from random import Random

import msgspec
import pytest

from privacy_toolkit.core.model import Control, Reason, StopReason
from privacy_toolkit.engine.controls import MOST_REFUSALS, MOST_REFUTED, TRIES, Controls, Surroundings
from privacy_toolkit.engine.limits import Limits, Stop, Watch
from privacy_toolkit.http.exchange import Line, Mark
from privacy_toolkit.talonone.operations import OPERATIONS
from privacy_toolkit.talonone.responses import Answer, Finding

INVENTORY = OPERATIONS["get_customer_inventory"]
REFUSED = Answer(Finding.CREDENTIALS, Reason.CREDENTIALS_REFUSED, 401)
ABSENT = Answer(Finding.ABSENT, Reason.NOT_FOUND, 404)
FOREIGN = Answer(Finding.UNKNOWN, Reason.FOREIGN_ANSWER, 404)
NOTHING = Answer(Finding.UNKNOWN, Reason.READ_TIMEOUT, None)
BUSY = Answer(Finding.REFUSED, Reason.RATE_LIMITED, 429)


class Asker:
    """Answers controls in the order given, and as they should be beyond that."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def ask(self, control, operation, value, line):
        self.asked.append(control)
        if self.answers:
            return self.answers.pop(0)
        return REFUSED if control is Control.ROUTE else ABSENT


@pytest.fixture
def controls():
    """Makes the controls of an execution; ``stopped`` and ``records`` are theirs."""

    def make(asker):
        stopped, records = [], []
        moments = iter(range(10**6))

        async def sleep(_):
            await asyncio.sleep(0)

        made = Controls(
            Surroundings(
                asker=asker,
                record=records.append,
                stop=Stop(stopped.append),
                watch=Watch(Limits()),
                rng=Random(1),
                clock=lambda: next(moments) / 1000,
                now=lambda: 1,
                sleep=sleep,
            )
        )
        made.stopped, made.records = stopped, records
        return made

    return make


@pytest.mark.parametrize(
    ("answers", "held", "asked"),
    [
        ([], True, 2),
        ([FOREIGN] * MOST_REFUSALS, False, MOST_REFUSALS),  # nothing new would come of more of them
        ([REFUSED, *[FOREIGN] * MOST_REFUSALS], False, 1 + MOST_REFUSALS),
        ([FOREIGN, NOTHING, FOREIGN, BUSY, FOREIGN], True, 7),  # a gateway's page now and then stops no run
        ([NOTHING] * TRIES, False, TRIES),  # no answer says nothing, so it is asked for longer
        ([NOTHING, BUSY, NOTHING, BUSY], True, 6),
        ([FOREIGN], True, 3),
        ([NOTHING, FOREIGN] * (TRIES // 2), False, TRIES),
    ],
)
def test_a_control_fails_once_nothing_but_a_refusal_is_to_be_expected(controls, answers, held, asked):
    async def work():
        asker = Asker(*answers)
        made = controls(asker)
        assert await made.ensure(INVENTORY) is held
        assert len(asker.asked) == len(made.records) == asked
        definite = FOREIGN in answers
        assert made.stopped == (
            [] if held else [StopReason.ROUTE_UNPROVEN if definite else StopReason.TARGET_UNREACHABLE]
        )
        await made.close()

    asyncio.run(work())


async def waiting(made, count=2):
    """So many absences that wait for the next control."""
    tasks = [asyncio.create_task(made.proven(INVENTORY, [ABSENT], bracketed=True)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def test_absences_between_two_controls_that_held_are_proven(controls):
    async def work():
        made = controls(Asker())
        assert await made.ensure(INVENTORY)
        absences = await waiting(made)
        assert await made.ensure(INVENTORY)
        assert await asyncio.gather(*absences) == [True, True]
        await made.close()

    asyncio.run(work())


def test_what_was_absent_proves_nothing_once_an_id_was_answered_both_ways(controls):
    """One of several servers knows nobody: the same id is absent there, and visible elsewhere."""

    async def work():
        made = controls(Asker())
        assert await made.ensure(INVENTORY)
        absences = await waiting(made)
        made.contradicted(INVENTORY)
        assert await asyncio.gather(*absences) == [False, False]
        assert not made.is_fresh(INVENTORY)
        await made.close()

    asyncio.run(work())


def test_what_was_absent_with_one_who_was_there_after_all_proves_nothing_though_controls_held(controls):
    """A window in which another host answers falls between two controls, and shows when one of many is asked again."""

    async def work():
        made = controls(Asker())
        assert await made.ensure(INVENTORY)
        before = made.absent(INVENTORY)
        assert await made.ensure(INVENTORY)
        one, another = made.absent(INVENTORY), made.absent(INVENTORY)
        assert await made.ensure(INVENTORY)
        one.until = made.absent(INVENTORY).at
        after = made.absent(INVENTORY)
        assert await made.ensure(INVENTORY)
        made.contradicted(INVENTORY, one)
        assert made.is_refuted(INVENTORY, another)
        assert not made.is_refuted(INVENTORY, before)
        assert not made.is_refuted(INVENTORY, after)
        await made.close()

    asyncio.run(work())


def test_what_was_refuted_long_ago_is_not_believed_where_it_is_not_remembered_one_by_one(controls):
    async def work():
        made = controls(Asker())
        first = made.absent(INVENTORY)
        for _ in range(MOST_REFUTED + 5):
            assert await made.ensure(INVENTORY)
            made.seen(INVENTORY, made.absent(INVENTORY).at)
            last = made.absent(INVENTORY)
            made.contradicted(INVENTORY)
        assert await made.ensure(INVENTORY)
        assert made.is_refuted(INVENTORY, first)
        assert made.is_refuted(INVENTORY, last)
        assert not made.is_refuted(INVENTORY, made.absent(INVENTORY))
        await made.close()

    asyncio.run(work())


def test_a_control_that_held_only_at_the_second_try_proves_nothing_of_what_was_before(controls):
    async def work():
        asker = Asker()
        made = controls(asker)
        assert await made.ensure(INVENTORY)
        absences = await waiting(made)
        asker.answers = [REFUSED, FOREIGN]
        assert await made.ensure(INVENTORY)
        assert await asyncio.gather(*absences) == [False, False]
        assert made.stopped == []
        later = await waiting(made)
        assert await made.ensure(INVENTORY)
        assert await asyncio.gather(*later) == [True, True]
        await made.close()

    asyncio.run(work())


class Behind(Asker):
    """Answers in order on one connection, and that many answers late: what it says first was asked before."""

    def __init__(self, line, *answers, late):
        super().__init__(*answers)
        self.line, self.owed = line, [BUSY] * late

    async def ask(self, control, operation, value, line):
        self.owed.append(await super().ask(control, operation, value, line))
        self.line.answered += 1
        answer = self.owed.pop(0)
        return msgspec.structs.replace(answer, mark=Mark(self.line, self.line.answered))


@pytest.mark.parametrize(
    ("late", "answers", "asked", "proven"),
    [
        (0, [], [Control.ROUTE], 1),
        (0, [BUSY], [Control.ROUTE, Control.NEGATIVE], 2),  # a refusal for now costs no answer of its connection
        (0, [BUSY, BUSY], [Control.ROUTE, Control.NEGATIVE, Control.ROUTE], 3),
        (1, [], [Control.ROUTE, Control.NEGATIVE], 0),  # that one gets the 401 of the first
        (1, [BUSY], [Control.ROUTE, Control.NEGATIVE, Control.ROUTE], 0),
    ],
)
def test_no_control_proves_its_connection_by_what_the_one_before_was_owed(controls, late, answers, asked, proven):
    async def work():
        line = Line()
        asker = Behind(line, *answers, late=late)
        made = controls(asker)
        for _ in asked:
            await made.prove_line(Mark(line, line.answered + 1))
        assert (asker.asked, line.proven, line.spoiled) == (asked, proven, late > 0)
        await made.close()

    asyncio.run(work())


class Broken(Asker):
    """Answers some controls, and breaks at the next one."""

    def __init__(self, good):
        super().__init__()
        self.good = good

    async def ask(self, control, operation, value, line):
        await asyncio.sleep(0)
        if len(self.asked) == self.good:
            raise ZeroDivisionError
        return await super().ask(control, operation, value, line)


def nameless(line):
    """An answer that counts once its connection is proven."""
    line.answered += 1
    return Answer(Finding.DONE, None, 204, mark=Mark(line, line.answered))


@pytest.mark.parametrize("by", ["route", "all", "lines", "one line", "keeper"])
def test_an_error_in_what_is_done_aside_is_told_and_nobody_waits_for_it_for_ever(controls, by):
    async def work():
        line, told = Line(), []
        made = controls(Broken(2 if by in {"route", "all", "keeper"} else 0))
        made.on_error = told.append
        if by in {"route", "all", "keeper"}:
            assert await made.ensure(INVENTORY)
        answer = ABSENT if by in {"route", "all", "keeper"} else nameless(line)
        waits = asyncio.create_task(made.proven(INVENTORY, [answer], bracketed=answer is ABSENT))
        await asyncio.sleep(0)
        if by == "route":
            with pytest.raises(ZeroDivisionError):
                await made.ensure(INVENTORY)
        elif by == "one line":
            made._begin_on(line, made._lines[line])
        elif by != "keeper":
            made.prove_all(idle=True)
        assert await asyncio.wait_for(waits, 5) is False
        await made.close()
        assert {type(error) for error in told} == {ZeroDivisionError}

    asyncio.run(work())


def test_what_breaks_while_connections_are_proven_leaves_nothing_behind(controls):
    async def work():
        made, lines = controls(Broken(1)), [Line() for _ in range(5)]
        waits = [asyncio.create_task(made.proven(INVENTORY, [nameless(line)], bracketed=False)) for line in lines]
        await asyncio.sleep(0)
        made.prove_all(idle=True)
        await asyncio.wait_for(asyncio.gather(*waits), 5)
        await made.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(work())
