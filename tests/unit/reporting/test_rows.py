import json

import msgspec
import pytest

from privacy_toolkit.core.model import Hold, Outcome, Purpose, Reason
from privacy_toolkit.journal.records import ExchangeRecord
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.reporting.rows import encode_row, row_of
from tests.support import reported_runs as runs

SECRET = b"k" * 32


def lines_of(folder):
    with RunJournal(folder) as journal:
        return [encode_row(row_of(observed, SECRET)) for observed in journal.rows()]


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.DONE])
def test_line_is_canonical(tmp_path, outcome):
    (line,) = lines_of(runs.write_run(tmp_path / "r", [runs.told("a", outcome)]))
    row = json.loads(line)
    assert line.decode("ascii") == json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n"
    assert row["outcome"] == outcome
    assert set(row) == {
        *("subject", "outcome", "reason", "attribution", "held_before", "attempts", "hold_reason", "review_on"),
        *("kept_coupons", "kept_referrals", "loyalty", "settled_at", "proof"),
        *("requested_on", "due_on", "ticket", "ground"),
        *("package", "redactions", "in_time", "time_span"),
    }


def test_foreign_text_is_written_in_ascii(tmp_path):
    hold = Hold("späte Prüfung ✓ \u202e \x7f", "2027-01-31")
    (line,) = lines_of(runs.write_run(tmp_path / "r", [runs.told("a", Outcome.ON_HOLD, hold=hold)]))
    assert line.isascii()
    assert json.loads(line)["hold_reason"] == hold.reason


def test_erased_subject_has_its_whole_proof(tmp_path):
    (line,) = lines_of(runs.write_run(tmp_path / "r", [runs.told("a", Outcome.ERASED)]))
    assert json.loads(line)["proof"] == {
        "read_before": {"status": 200, "at": "2026-11-23T08:01:00.000000Z"},
        "sends": [
            {
                "intent_at": "2026-11-23T08:01:00.001000Z",
                "answered_at": "2026-11-23T08:01:00.031000Z",
                "status": 204,
                "reason": None,
                "shared": False,
            }
        ],
        "read_after": {"status": 200, "at": "2026-11-23T08:01:00.055000Z"},
    }


def test_read_before_a_repeated_send_proves_nothing_about_it(tmp_path):
    base = runs.told("a", Outcome.UNKNOWN)
    before, lost = base.exchanges
    looked = ExchangeRecord(Purpose.RECONCILE, runs.READ, None, runs.START, 5, 200)
    again = msgspec.structs.replace(lost, intent_at=runs.START + 9, ended_at=None, elapsed=None, reason=None)
    told = msgspec.structs.replace(base, exchanges=(before, lost, looked, again))
    (line,) = lines_of(runs.write_run(tmp_path / "r", [told]))
    proof = json.loads(line)["proof"]
    assert proof["read_after"] is None
    assert [(send["status"], send["reason"]) for send in proof["sends"]] == [(None, Reason.READ_TIMEOUT), (None, None)]
    assert proof["sends"][1]["answered_at"] is None


def test_a_request_about_several_is_told_apart_from_one_of_its_own(tmp_path):
    base = runs.told("a", Outcome.UNKNOWN)
    before, lost = base.exchanges
    told = msgspec.structs.replace(base, exchanges=(before, msgspec.structs.replace(lost, carrier=7)))
    carried, own = map(json.loads, sorted(lines_of(runs.write_run(tmp_path / "r", [told, base])), reverse=True))
    assert {row["proof"]["sends"][0]["shared"] for row in (carried, own)} == {True, False}


def test_pending_subject_has_a_row_as_well(tmp_path):
    first, second = map(
        json.loads, lines_of(runs.write_run(tmp_path / "r", [runs.told(i, Outcome.PENDING) for i in "ab"]))
    )
    assert first["subject"] != second["subject"]
    assert first["proof"] == {"read_before": None, "sends": [], "read_after": None}


def test_what_the_input_says_of_the_request_stands_in_the_row(tmp_path):
    asked = runs.Asked("2026-10-31", "2026-11-30", "DSR-412", "17(1)(b)")
    subjects = [runs.told("a", Outcome.PENDING, request=asked), runs.told("b", Outcome.PENDING)]
    first, second = map(json.loads, lines_of(runs.write_run(tmp_path / "r", subjects)))
    names = ("requested_on", "due_on", "ticket", "ground")
    assert [first[name] for name in names] == ["2026-10-31", "2026-11-30", "DSR-412", "17(1)(b)"]
    assert [second[name] for name in names] == [None] * 4


def test_read_whose_end_is_not_recorded_has_shown_nothing(tmp_path):
    told = runs.told("a", Outcome.ERASED)
    begun = ExchangeRecord(Purpose.READ_AFTER, runs.READ)
    (line,) = lines_of(
        runs.write_run(tmp_path / "r", [msgspec.structs.replace(told, exchanges=(begun, *told.exchanges, begun))])
    )
    proof = json.loads(line)["proof"]
    assert proof["read_before"]["at"] == "2026-11-23T08:01:00.000000Z"
    assert proof["read_after"]["at"] == "2026-11-23T08:01:00.055000Z"
