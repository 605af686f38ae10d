"""What was made, what was withdrawn, what was looked up, and the controls: each is counted where it belongs."""

import msgspec
import pytest
from msgspec.structs import replace

from privacy_toolkit.core.model import Control, Outcome, Purpose, Reason
from privacy_toolkit.evidence.verify.findings import Code, Findings
from privacy_toolkit.evidence.verify.report import add_up
from privacy_toolkit.journal.figures import ControlCount
from privacy_toolkit.journal.records import ExchangeRecord, SubjectState
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.reporting import html as page
from privacy_toolkit.reporting.html import render
from tests.support import reported_runs as runs

AT = 1_795_420_860_000_000
CONTROLS = (ControlCount(Control.ROUTE, 3, 1, 0), ControlCount(Control.POSITIVE, 5, 0, 2))


@pytest.fixture
def journal(tmp_path):
    """Two that were erased; one whose erasure was withdrawn, then sent, its answer lost, and looked up."""

    def read(purpose, at):
        return ExchangeRecord(purpose, runs.READ, None, at, 20_000, 200)

    hard = runs.Told(
        "hard",
        SubjectState(Outcome.UNKNOWN, Reason.READ_TIMEOUT, attempts=1, settled_at=AT),
        (
            read(Purpose.READ_BEFORE, AT),
            ExchangeRecord(Purpose.ACT, runs.ERASE, AT - 50_000_000, AT - 50_000_000, 0, None, Reason.NOT_WRITTEN),
            ExchangeRecord(Purpose.ACT, runs.ERASE, AT + 1, AT + 2_000_000, 2_000_000, None, Reason.READ_TIMEOUT),
            read(Purpose.RECONCILE, AT + 3_000_000),
            read(Purpose.RECONCILE, AT + 4_000_000),
        ),
    )
    run = runs.write_run(tmp_path / "20261123-run", [*(runs.told(f"c{k}", Outcome.ERASED) for k in range(2)), hard])
    with RunJournal(run) as opened:
        yield opened


def test_what_was_withdrawn_is_not_among_the_requests_made(journal, build):
    report = build(journal)
    calls = {line.operation: line for line in report.calls}
    assert (calls[runs.ERASE].made, calls[runs.ERASE].withdrawn, calls[runs.ERASE].repeats) == (3, 1, 0)
    assert (calls[runs.READ].made, calls[runs.READ].look_ups) == (7, 2)
    assert report.proof.reads_after == 4
    assert sum(point.requests for execution in report.pace.executions for point in execution.points) == 10
    shown = render(report, [])
    assert "within the plan; besides, 1 withdrawn before sending" in shown
    assert "1 more than planned; of them 2 look-ups after lost answers" in shown
    assert "Withdrawn before sending" in shown
    assert [line.reason for line in page.withdrawn(report)] == [Reason.NOT_WRITTEN]


def test_a_withdrawn_request_begins_no_run(journal):
    assert journal.summary().first_request_at > AT - 50_000_000


def test_controls_are_counted_apart_and_in_the_total(journal, build, monkeypatch):
    summary = replace(journal.summary(), controls=CONTROLS, control_gap=61.5, control_gap_absences=40)
    before = build(journal)
    monkeypatch.setattr(journal, "summary", lambda: summary)
    report = build(journal)
    assert (report.calls, report.traffic) == (before.calls, before.traffic)
    assert page.control_requests(report) == 11
    shown = render(report, [])
    assert "11 requests" in shown
    assert "1 min 2 s" in shown
    assert '<td class="number" data-label="Requests">21</td>' in shown  # 10 about subjects, and 11 controls


@pytest.mark.parametrize(
    ("job", "said"),
    [("erase", "No controls were recorded: this run was made by an older version"), ("profiles", "Not needed: this")],
)
def test_why_there_are_no_controls_is_said(build, tmp_path, job, said):
    told = runs.told("c1", Outcome.ERASED if job == "erase" else Outcome.NOTHING_HELD)
    if job != "erase":
        told = replace(told, state=SubjectState(Outcome.DONE, settled_at=AT))
    run = runs.write_run(tmp_path / f"20261123-{job}-run", [told], job=job)
    with RunJournal(run) as journal:
        assert said in render(build(journal), [])


def test_controls_are_no_line_of_the_subjects(build, tmp_path):
    told = runs.told("c1", Outcome.ERASED)
    control = ExchangeRecord(Purpose.CONTROL, runs.READ, None, AT, 20_000, 404, Reason.NOT_FOUND)
    run = runs.write_run(tmp_path / "20261123-run", [replace(told, exchanges=(*told.exchanges, control))])
    with RunJournal(run) as journal:
        report = build(journal)
    assert Purpose.CONTROL not in {line.purpose for line in report.traffic}
    assert {line.operation: line.made for line in report.calls} == {runs.READ: 2, runs.ERASE: 1}


class Notes:
    """A pack's place for what is found."""

    def __init__(self):
        self.findings = Findings()

    def note(self, code, file, message):
        self.findings.add(code, file, message)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"verdict": "complete", "rejected": {"accepted": None}}, "complete only with all refused rows accepted"),
        ({"rejected": {"reasons": []}}, "refused rows by reason"),
        ({"calls": []}, "requests made"),
        ({"controls": {"lines": [{"control": "route", "held": 1, "failed": 0, "unanswered": 0}] * 2}}, "once"),
    ],
)
def test_what_does_not_add_up_is_found(journal, build, changes, what):
    report = build(journal)
    raw = msgspec.to_builtins(report)
    for name, value in changes.items():
        raw[name] = {**raw[name], **value} if isinstance(value, dict) else value
    notes = Notes()
    add_up(notes, msgspec.convert(raw, type(report)))
    found = notes.findings.problems()
    assert {problem.code for problem in found} == {Code.SUMS_DIFFER}
    assert any(what in problem.message for problem in found)
