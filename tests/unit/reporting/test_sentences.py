import pytest
from msgspec.structs import replace

from privacy_toolkit.core.model import ExitCode, Job, Outcome, Reason, StopReason, Verdict
from privacy_toolkit.engine.plan import PlannedRows, Summary
from privacy_toolkit.journal.records import Acceptance, Execution
from privacy_toolkit.reporting.words import CHECKS, STOPS, next_step, sentence
from tests.support import reported_runs as runs

ALL = {Outcome.ERASED: 951, Outcome.NOTHING_HELD: 30, Outcome.ON_HOLD: 19}
OPEN = {Outcome.ERASED: 971, Outcome.UNKNOWN: 20, Outcome.PENDING: 9}
FAILED = {Outcome.ERASED: 999, Outcome.FAILED: 1}
BOTH = {Outcome.ERASED: 997, Outcome.FAILED: 2, Outcome.RESIDUAL: 1}
CRASH = "crash"


def rows_of(subjects, rejected=0, held=0):
    return PlannedRows(
        read=subjects + rejected,
        rejected=rejected,
        duplicates=0,
        subjects=subjects,
        held=held,
        rejected_by_reason={"blank": rejected},
    )


def summary(totals, end=None, rejected=0, accepted=None, done=None, **changes):
    rows = rows_of(sum(totals.values()), rejected, totals.get(Outcome.ON_HOLD, 0))
    plan = runs.plan_of(sum(totals.values()), **{"rows": rows, **changes})
    return Summary(
        run_id="20261123-x",
        plan=plan,
        totals=totals,
        stopped_by=None if end == CRASH else end,
        cut_short=end == CRASH,
        started_at=0,
        purged_at=None,
        acceptance=None if accepted is None else Acceptance(0, accepted),
        done=done or {},
    )


def executions(end):
    if end == CRASH:
        return [Execution(1, 0)]
    return [Execution(1, 0, 5, end)]


@pytest.mark.parametrize(
    ("totals", "end", "verdict", "said"),
    [
        (ALL, None, "complete", "Complete: all 1,000 subjects settled."),
        ({Outcome.ERASED: 1}, None, "complete", "Complete: the one subject is settled."),
        ({}, None, "complete", "Complete: there was nothing to do."),
        (ALL, StopReason.INTERRUPTED, "complete", "Complete: all 1,000 subjects settled."),
        (ALL, CRASH, "complete", "Complete: all 1,000 subjects settled."),
        (
            OPEN,
            StopReason.WRONG_ENVIRONMENT,
            "stopped",
            f"Stopped early with 29 subjects still open: {STOPS[StopReason.WRONG_ENVIRONMENT]}.",
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
def test_verdict_and_sentence(totals, end, verdict, said):
    run = summary(totals, end)
    assert run.verdict == Verdict(verdict)
    assert sentence(run, executions(end)) == said


def test_run_that_never_began_says_so():
    assert sentence(summary({Outcome.PENDING: 3}), []) == "Not started: 3 subjects planned, 3 open."


@pytest.mark.parametrize(
    ("totals", "command"),
    [(ALL, "privacy-toolkit runs purge 20261123-x"), (OPEN, "privacy-toolkit runs resume 20261123-x"), (FAILED, None)],
)
def test_next_command(totals, command):
    step = next_step(summary(totals))
    assert (step.command if step else None) == command


WHERE = "(SANDBOX, example.europe-west1.talon.one/shop)"


@pytest.mark.parametrize("job", [Job.ERASE, Job.EXPORT])
def test_complete_never_stands_alone_where_everybody_was_unknown(job):
    nothing = {Job.ERASE: "nothing was there to erase", Job.EXPORT: "there was nothing to export"}[job]
    told = sentence(summary({Outcome.NOTHING_HELD: 50}, job=job), executions(None))
    assert told == (
        f"Complete: none of the 50 customers is known to this deployment {WHERE}: {nothing}. If no earlier run"
        " erased them: is it the right environment?"
    )
    held = {Outcome.NOTHING_HELD: 1, Outcome.ON_HOLD: 3}
    told = sentence(summary(held, job=job), executions(None))
    assert told.startswith(f"Complete: the one customer is not known to this deployment {WHERE}: {nothing}; 3 are on")


@pytest.mark.parametrize(
    ("job", "reason", "said"),
    [
        (Job.RESERVE, Reason.ALREADY_RESERVED, f"all 7 reservations were there already at this deployment {WHERE}"),
        (Job.ASSIGN, Reason.ALREADY_RESERVED, "nothing was sent."),
        (Job.RELEASE, Reason.NOT_RESERVED, f"none of the 7 was reserved at this deployment {WHERE}"),
        (Job.HOLDERS, Reason.NO_HOLDERS, f"nobody has any of the 7 coupons reserved at this deployment {WHERE}"),
    ],
)
def test_complete_never_stands_alone_where_there_was_nothing_to_do(job, reason, said):
    idle = summary({Outcome.DONE: 7}, job=job, done={reason: 7})
    assert said in sentence(idle, executions(None))
    busy = summary({Outcome.DONE: 7}, job=job, done={reason: 6, None: 1})
    assert sentence(busy, executions(None)) == "Complete: all 7 subjects settled."


@pytest.mark.parametrize("job", Job)
def test_complete_never_stands_alone_where_all_are_on_hold(job):
    told = sentence(summary({Outcome.ON_HOLD: 12}, job=job), executions(None))
    assert told.startswith("Complete: all 12 subjects are on hold, so nothing was ")


def test_refused_rows_are_in_every_verdict_and_never_complete():
    some = {Outcome.ERASED: 10}
    run = summary(some, rejected=10)
    assert (run.verdict, run.exit_code) == (Verdict.OPEN_ITEMS, ExitCode.OPEN_ITEMS)
    assert sentence(run, executions(None)) == "Complete for 10; 10 rows were refused and nobody acted on them."
    for totals, end in ((OPEN, None), (FAILED, None), (OPEN, StopReason.WINDOW_CLOSED)):
        told = sentence(summary(totals, end, rejected=1), executions(end))
        assert told.endswith("; 1 row was refused and nobody acted on it.")
    assert sentence(summary({}, rejected=2), executions(None)).startswith("Nothing was done; 2 rows were refused")
    step = next_step(run)
    assert step.command.endswith("--accept-rejected 10")
    assert "rejected.csv" in step.when


def test_refused_rows_are_accepted_by_their_number_alone():
    accepted = summary({Outcome.ERASED: 10}, rejected=4, accepted=4)
    assert (accepted.verdict, accepted.exit_code) == (Verdict.COMPLETE, ExitCode.SETTLED)
    told = sentence(accepted, executions(None))
    assert told == "Complete: all 10 subjects settled; 4 rows were refused and accepted so by the operator."
    assert summary({Outcome.ERASED: 10}, rejected=4, accepted=3).verdict is Verdict.OPEN_ITEMS


@pytest.mark.parametrize("reason", sorted({*CHECKS, StopReason.TARGET_UNREACHABLE, StopReason.CREDENTIALS_REFUSED}))
def test_what_a_resume_would_not_cure_is_looked_at_first(reason):
    step = next_step(summary(OPEN, reason))
    assert step.command == "privacy-toolkit doctor"
    assert step.when.startswith("First ")


def test_a_resume_after_a_full_disk_comes_after_making_room():
    step = next_step(summary(OPEN, StopReason.OUTPUT_FAILED))
    assert "runs resume" in step.command
    assert step.when.startswith("First see that it can write there")


def test_a_run_under_way_says_so():
    run = replace(summary(OPEN, CRASH), is_running=True)
    assert run.verdict is Verdict.RUNNING
    assert sentence(run, executions(CRASH)) == "Under way: 971 of 1,000 subjects settled so far."
    assert next_step(run).command == "privacy-toolkit runs show 20261123-x"


def test_where_everybody_was_unknown_the_environment_is_looked_at_before_anything_is_destroyed():
    assert next_step(summary({Outcome.NOTHING_HELD: 3})).command == "privacy-toolkit doctor"


def test_where_executions_that_worked_together_ended_in_several_ways_each_is_named():
    together = [
        Execution(1, 0, 5, StopReason.TERMINATED),
        Execution(2, 0, None, joined=1),
        Execution(3, 1, 6, StopReason.TERMINATED, joined=1),
    ]
    said = sentence(summary(OPEN, StopReason.TERMINATED), together)
    assert said == (
        f"Stopped early with 29 subjects still open: {STOPS[StopReason.TERMINATED]} (executions 1, 3); its end was not"
        " recorded (a crash, or still under way) (execution 2)."
    )
    assert sentence(summary(OPEN, StopReason.TERMINATED), together[:1] + together[2:]) == (
        f"Stopped early with 29 subjects still open: {STOPS[StopReason.TERMINATED]}."
    )
