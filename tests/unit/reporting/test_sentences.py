import pytest

from privacy_toolkit.engine.verdict import Summary
from privacy_toolkit.journal.records import Sitting
from privacy_toolkit.model import Outcome, StopReason, Verdict
from privacy_toolkit.reporting.sentences import next_step, sentence
from privacy_toolkit.reporting.wording import STOPS

ALL = {Outcome.ERASED: 951, Outcome.NOTHING_HELD: 30, Outcome.ON_HOLD: 19}
OPEN = {Outcome.ERASED: 971, Outcome.UNKNOWN: 20, Outcome.PENDING: 9}
FAILED = {Outcome.ERASED: 999, Outcome.FAILED: 1}
BOTH = {Outcome.ERASED: 997, Outcome.FAILED: 2, Outcome.RESIDUAL: 1}
CRASH = "crash"


def summary(runs, totals, end=None):
    plan = runs.plan_of(sum(totals.values()))
    return Summary(
        run_id="20261123-x",
        plan=plan,
        totals=totals,
        stopped_by=None if end == CRASH else end,
        cut_short=end == CRASH,
        started_at=0,
        purged=False,
    )


def sittings(end):
    if end == CRASH:
        return [Sitting(1, 0)]
    return [Sitting(1, 0, 5, end)]


@pytest.mark.parametrize(
    ("totals", "end", "verdict", "said"),
    [
        (ALL, None, "complete", "Complete: all 1,000 subjects settled."),
        ({Outcome.ERASED: 1}, None, "complete", "Complete: the one subject is settled."),
        ({}, None, "complete", "Complete: there was nothing to do."),
        (ALL, StopReason.INTERRUPTED, "complete", "Complete: all 1,000 subjects settled."),
        (ALL, CRASH, "complete", "Complete: all 1,000 subjects settled."),
        (
            ALL,
            StopReason.WRONG_ENVIRONMENT,
            "complete",
            f"Complete, but check the environment: {STOPS[StopReason.WRONG_ENVIRONMENT]}.",
        ),
        (OPEN, None, "open_items", "Finished with 29 subjects still open."),
        ({Outcome.UNKNOWN: 1}, None, "open_items", "Finished with 1 subject still open."),
        (FAILED, None, "open_items", "Finished, but 1 subject failed."),
        (FAILED, StopReason.TERMINATED, "open_items", "Finished, but 1 subject failed."),
        (BOTH, None, "open_items", "Finished with 1 subject still open and 2 failed."),
        (
            OPEN,
            StopReason.WINDOW_CLOSED,
            "stopped",
            "Stopped early with 29 subjects still open: the time window closed.",
        ),
        (
            OPEN,
            StopReason.CREDENTIALS_REFUSED,
            "refused",
            "Stopped early with 29 subjects still open: the API refused the credentials.",
        ),
        (
            OPEN,
            CRASH,
            "stopped",
            "Stopped early with 29 subjects still open: its end was not recorded (a crash, or still under way).",
        ),
    ],
)
def test_verdict_and_sentence(runs, totals, end, verdict, said):
    run = summary(runs, totals, end)
    assert run.verdict == Verdict(verdict)
    assert sentence(run, sittings(end)) == said


def test_run_that_never_began_says_so(runs):
    assert sentence(summary(runs, {Outcome.PENDING: 3}), []) == "Not started: 3 subjects planned, 3 open."


@pytest.mark.parametrize(
    ("totals", "command"),
    [(ALL, "privacy-toolkit runs purge 20261123-x"), (OPEN, "privacy-toolkit runs resume 20261123-x"), (FAILED, None)],
)
def test_next_command(runs, totals, command):
    step = next_step(summary(runs, totals))
    assert (step.command if step else None) == command
