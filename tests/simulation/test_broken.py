"""A bug wherever something is asked aside ends the execution, and is raised: nobody waits for ever."""

from privacy_toolkit.core.model import Job
from privacy_toolkit.engine.context import ExecutionContext
from tests.simulation.campaign import play
from tests.simulation.spec import spec_of
from tests.support.lengths import IS_LONG

SEEDS = 30 if IS_LONG else 12


class PlantedError(Exception):
    """A bug that was put there."""


def broken_at(number):
    """``ExecutionContext.ask`` that breaks at the so many-th control."""
    ask, asked = ExecutionContext.ask, [0]

    async def breaks(self, *given):
        asked[0] += 1
        if asked[0] == number:
            raise PlantedError
        return await ask(self, *given)

    return breaks, asked


def test_every_control_may_break(monkeypatch):
    raised = 0
    for seed, number in [(seed, number) for seed in range(SEEDS) for number in (1, 2, 4, 8, 12, 20)]:
        breaks, asked = broken_at(number)
        with monkeypatch.context() as patch:
            patch.setattr(ExecutionContext, "ask", breaks)
            result = play(spec_of(seed, (Job.ERASE, Job.EXPORT, Job.RESERVE, Job.EVENTS)[seed % 4]))
        whats = {violation.what for violation in result.violations}
        assert whats <= {"a bug: PlantedError "}, (seed, number)
        assert asked[0] < number or whats
        raised += bool(whats)
    assert raised > SEEDS
