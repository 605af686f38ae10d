"""A process of a cluster that is tested: begins a run, or works on one with short leases, through proxies of its own.

SIGUSR1 sets its clock an hour on, SIGUSR2 an hour back. SIGINT and SIGTERM end it as they end a command.
"""

import json
import os
import signal
import sys
import time
from functools import partial

import uvloop

from privacy_toolkit.app import service
from privacy_toolkit.app.ongoing import Backstage
from privacy_toolkit.app.work import Duty
from privacy_toolkit.config.settings import ExecutionOptions, Flags, load_settings
from privacy_toolkit.core.model import Job, StopReason, ToolkitError
from privacy_toolkit.engine import execution, planning
from privacy_toolkit.engine.planning import Order
from privacy_toolkit.jobs import declaration
from privacy_toolkit.journal.lease import LeaseTerms
from privacy_toolkit.journal.state import open_state

HOUR = 3_600_000_000
PAGE = 40
ENDS = {signal.SIGINT: StopReason.INTERRUPTED, signal.SIGTERM: StopReason.TERMINATED}


class Clock:
    """The wall clock of a process, which somebody sets now and then."""

    def __init__(self, hours=0):
        self.offset = hours * HOUR
        signal.signal(signal.SIGUSR1, lambda *_: self._set(HOUR))
        signal.signal(signal.SIGUSR2, lambda *_: self._set(-HOUR))

    def _set(self, by):
        self.offset += by

    def __call__(self):
        return time.time_ns() // 1000 + self.offset


def begin(task, clock):
    """Make a run and leave it to workers."""
    planning.read_input = partial(planning.read_input, page_rows=PAGE)
    order = Order(declaration(Job.ERASE), task["path"])
    options = ExecutionOptions(detach=True)
    done = service.start(order, load_settings(Flags()), options, Backstage(task["confirm"]), clock, unseen=True)
    return {"run_id": done.run_id, "code": int(done.exit_code)}


def work(task, clock):
    """Work on a run, by short leases."""
    if task["port"] is not None:
        _redirect(task["port"])
    settings = load_settings(Flags())
    state = open_state(settings.state)
    terms = LeaseTerms(lease=2.0, beat=0.2, margin=0.4, drain=2.5)
    host = Backstage(None)
    for number, reason in ENDS.items():
        signal.signal(number, lambda *_, reason=reason: host.ask(reason))
    duty = Duty(
        settings, ExecutionOptions(), state, None, host, clock, joins=task["joins"], seals=task["seals"], terms=terms
    )
    done = service.carry_out(task["run_id"], duty)
    error = None if done.error is None else str(done.error[0])
    told = {"run_id": done.run_id, "code": int(done.exit_code), "pack": str(done.pack), "error": error}
    return told | {"pid": os.getpid()}


def _redirect(port):
    """Have all connections to the API go through a port of its own."""

    class Loop(uvloop.Loop):
        async def create_connection(self, factory, host=None, _=None, **named):
            return await super().create_connection(factory, host, port, **named)

    execution._loop_factory = lambda: Loop


def main(given):
    """Do what was asked for, and say what it came to."""
    try:
        said = {"begin": begin, "work": work}[given["do"]](given, Clock(given.get("hours", 0)))
    except ToolkitError as trouble:  # the database is out of reach when it starts
        said = {"code": int(trouble.exit_code), "error": str(trouble), "pack": "None"}
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
