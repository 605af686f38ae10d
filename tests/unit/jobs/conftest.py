"""One execution of a run against a script: what a job asks is noted, and answered in the order given."""

import asyncio

import httpx2
import pytest

from privacy_toolkit.core.model import Sequencing, StopReason
from privacy_toolkit.engine.context import ExecutionContext
from privacy_toolkit.engine.limits import Limits, Places, Stop, Watch
from privacy_toolkit.engine.runner import Runner
from privacy_toolkit.http.exchange import Pacer
from privacy_toolkit.journal.lease import SoleLease
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.talonone.addresses import Credentials
from privacy_toolkit.talonone.client import Client
from privacy_toolkit.talonone.operations import OPERATIONS, Generation
from tests.support import answers

READS = (OPERATIONS["get_customer_inventory"], OPERATIONS["get_reserved_customers"])


class NoRng:
    """Chance that never waits and leaves everything in its place."""

    def uniform(self, low, high):
        return 0.0

    random = betavariate = lambda self, *_: 0.0

    def getrandbits(self, bits):
        return 1

    def shuffle(self, items):
        """They stay as they are."""


class Clock:
    """A clock that only waiting moves: ``now`` is in seconds, ``waits`` are how long was waited."""

    def __init__(self):
        self.now, self.waits = 1000.0, []

    def __call__(self):
        return self.now


class Waiting(Stop):
    """A stop that lets nobody really wait, and puts a clock on instead."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock

    async def sleep(self, seconds):
        if seconds > 0:
            self._clock.waits.append(seconds)
            self._clock.now += seconds
            await asyncio.sleep(0)
        return not self.requested


class Script(httpx2.AsyncBaseTransport):
    """Answers in the order given; whatever is asked beyond that is a fault of the job.

    ``told`` makes of a request and its content what is noted as asked.
    """

    def __init__(self, answers, told):
        self.answers = list(answers)
        self.asked = []
        self._told = told

    async def handle_async_request(self, request):
        control = answers.control(request)
        if control is not None:  # not a question of the job's
            return control
        content = b"".join([part async for part in request.stream])
        self.asked.append(self._told(request, content))
        answer = self.choose()
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def choose(self):
        """The answer to what was asked last."""
        return self.answers.pop(0)


@pytest.fixture
def state(tmp_path):
    return StateFolder(tmp_path / "state")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def script():
    """Makes a script; ``choose`` picks an answer from the script where they don't just follow each other."""

    def make(given, told=lambda request, _: request.method, choose=None):
        made = Script(given, told)
        if choose is not None:
            made.choose = lambda: choose(made)
        return made

    return make


@pytest.fixture
def sit(state):
    """Works on the run named ``run`` in one execution, one request in flight; why it ended.

    ``make`` gives the procedure for the journal of the run, ``wall`` microseconds since the epoch. After ``stop_after``
    requests a stop is asked for.
    """

    def execution(
        make,
        script,
        *,
        sequencing=Sequencing.URGENCY,
        stop_after=None,
        suppressed=lambda _: False,
        generation=Generation.CURRENT,
        absences=READS,
        clock=None,
        wall=None,
        **tools_options,
    ):
        async def work(journal):
            stop = Stop() if clock is None else Waiting(clock)
            timed = ({} if clock is None else {"monotonic": clock}) | ({} if wall is None else {"clock": wall})
            client = Client("http://127.0.0.1:1", Credentials(api_key="k"), generation=generation, transport=script)
            async with client:
                tools = ExecutionContext(
                    journal=journal,
                    lease=SoleLease(journal, 1),
                    client=client,
                    pacer=Pacer(None),
                    watch=Watch(Limits()),
                    stop=stop,
                    places=Places(1, stop),
                    emit=lambda _: stop.request(StopReason.INTERRUPTED) if len(script.asked) == stop_after else None,
                    rng=NoRng(),
                    suppressed=suppressed,
                    **{"grace": 0.0} | timed | tools_options,
                )
                return await Runner(make(journal), tools, sequencing, absences).run()

        with state.open("run") as journal:
            number = journal.begin_execution(1, "{}")
            reason = asyncio.run(work(journal))
            journal.end_execution(number, 2, reason)
        assert script.answers == []
        return reason

    return execution
