import sqlite3

import msgspec
import pytest

from privacy_toolkit.core.model import Attribution, Hold, Outcome, Purpose, Reason, StopReason, ToolkitError, Verdict
from privacy_toolkit.journal.records import ExchangeRecord
from privacy_toolkit.journal.sqlite.reader import add_checksums
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.reporting.report import moment_of
from tests.support import reported_runs as runs


@pytest.fixture
def report_of(build):
    """Makes the report of the run in a folder."""

    def made(folder):
        with RunJournal(folder) as journal:
            return build(journal, moment_of(journal))

    return made


def test_both_sums_hold(mixed, build):
    report = build(mixed, moment_of(mixed))
    assert report.rows.read == report.rows.rejected + report.rows.duplicates + report.rows.subjects
    assert sum(line.count for line in report.outcomes) == report.rows.subjects
    assert {line.outcome: line.count for line in report.outcomes} == {
        outcome: place for place, outcome in enumerate(Outcome, 1) if outcome is not Outcome.DONE
    }
    assert report.open == sum(line.count for line in report.outcomes if line.open)


def test_counts_come_from_what_was_observed(mixed, build):
    report = build(mixed, moment_of(mixed))
    assert (report.erased.confirmed, report.erased.inferred, report.erased.visible) == (1, 0, 1)
    assert (report.kept.subjects, report.kept.coupons, report.kept.referrals) == (1, 2, 1)
    assert (report.proof.gone, report.proof.still_present, report.proof.unverified) == (1, 7, 6)
    assert report.proof.reads_after == 1 + 7 + 11
    assert sum(line.count for line in report.traffic) == sum(line.made for line in report.calls)
    assert [(hold.reason, hold.subjects, hold.review_on) for hold in report.holds] == [("17(3)(b)", 3, "2027-01-31")]
    assert {(cause.outcome, cause.count) for cause in report.causes} == {
        (line.outcome, line.count) for line in report.outcomes if line.open or line.outcome is Outcome.FAILED
    }


def test_times_come_from_the_journal(tmp_path, report_of):
    report = report_of(runs.write_run(tmp_path / "r", [runs.told("a", Outcome.ERASED)]))
    assert report.made_at == "2026-11-23T08:01:30.000000Z"
    assert report.first_request_at == "2026-11-23T08:00:59.980000Z"
    assert report.last_answer_at == "2026-11-23T08:01:00.055000Z"
    assert report.duration == 75_000


def test_crashed_run_is_reported_up_to_its_last_answer(tmp_path, report_of):
    subjects = [runs.told("a", Outcome.ERASED), runs.told("b", Outcome.PENDING)]
    report = report_of(runs.write_run(tmp_path / "r", subjects, crashed=True))
    assert report.verdict is Verdict.STOPPED
    assert report.made_at == report.last_answer_at
    assert report.executions[0].ended_at is None


def test_run_that_never_began_can_be_reported(tmp_path, report_of):
    report = report_of(runs.write_run(tmp_path / "r", [runs.told("a", Outcome.PENDING)], stops=()))
    assert (report.verdict, report.open, report.first_request_at) == (Verdict.STOPPED, 1, None)
    assert (report.gone_predicate, report.duration, report.executions) == ("not recorded", None, ())


def test_repeats_and_lost_answers_are_counted(tmp_path, report_of):
    base = runs.told("a", Outcome.ERASED)
    crash = ExchangeRecord(Purpose.ACT, runs.ERASE, intent_at=runs.START)
    looked = msgspec.structs.replace(base.exchanges[2], purpose=Purpose.RECONCILE)
    state = msgspec.structs.replace(base.state, attempts=3, attribution=Attribution.INFERRED)
    told = runs.Told("a", state, (base.exchanges[0], crash, base.exchanges[1], looked))
    report = report_of(runs.write_run(tmp_path / "r", [told, runs.told("b", Outcome.ERASED)]))
    assert (report.repeated.subjects, report.repeated.requests) == (1, 2)
    assert [line.count for line in report.traffic if not line.answered] == [1]
    assert report.erased.inferred == 1


def test_grounds_beyond_the_hundred_most_frequent_are_counted_together(tmp_path, report_of):
    subjects = [runs.told(f"c{k}", Outcome.ON_HOLD, hold=Hold(f"ground {k}")) for k in range(150)]
    report = report_of(runs.write_run(tmp_path / "r", subjects))
    assert (len(report.holds), report.holds_not_listed) == (100, 50)


def test_no_report_is_made_of_sums_that_do_not_add_up(tmp_path, report_of):
    folder = runs.write_run(tmp_path / "r", [runs.told("a", Outcome.ERASED)])
    with sqlite3.connect(folder / "journal.sqlite") as connection:
        (counts,) = connection.execute("SELECT data FROM counters").fetchone()
        connection.execute("INSERT INTO counters VALUES (99, ?)", (counts,))
    connection.close()
    add_checksums(folder / "journal.sqlite")
    with pytest.raises(ToolkitError) as error:
        report_of(folder)
    assert error.value.code == "sums"


def test_settings_and_ends_of_each_execution(tmp_path, report_of):
    folder = runs.write_run(tmp_path / "r", [runs.told("a", Outcome.ERASED)], stops=(StopReason.INTERRUPTED, None))
    report = report_of(folder)
    assert [execution.ending for execution in report.executions] == ["interrupted at the keyboard", "went to its end"]
    assert report.executions[0].settings["api_key"] == "set (from file)"
    assert report.gone_predicate == "gone/1"


def test_reasons_are_codes_of_the_closed_list(mixed, build):
    report = build(mixed)
    assert {line.reason for line in report.traffic} <= {None, *Reason}
