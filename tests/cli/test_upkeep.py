"""Old runs lose their ids, and nothing that somebody still needs; a state is backed up, restored and looked over."""

from datetime import UTC, date, datetime, timedelta

import pytest

from privacy_toolkit.app import runs as runs_of
from privacy_toolkit.app import upkeep
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.journal.state import existing_state

LATER = timedelta(days=100)


@pytest.fixture
def later(monkeypatch):
    """A hundred days pass."""

    class _Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + LATER

    def go():
        monkeypatch.setattr("privacy_toolkit.cli.runs.datetime", _Clock)

    return go


@pytest.fixture
def erased(erase, requests):
    return erase(requests, 12)


def ids_in(tmp_path):
    state = tmp_path / "state" / "runs"
    return [path for path in state.rglob("*") if path.is_file() and b"customer-0000" in path.read_bytes()]


@pytest.mark.parametrize(
    ("age", "first"),
    [("90d", "2026-03-02"), ("2w", "2026-05-17"), ("3m", "2026-02-28"), ("1y", "2025-05-31"), ("15m", "2025-02-28")],
)
def test_an_age_is_counted_by_the_calendar(age, first):
    assert upkeep.first_kept(age, date(2026, 5, 31)) == date.fromisoformat(first)


@pytest.mark.parametrize("age", ["", "90", "d", "0d", "-3d", "1.5y", "90 d", "9999y", "99999d", "3h"])
def test_what_is_no_age_is_refused(age):
    with pytest.raises(UsageError):
        upkeep.first_kept(age, date(2026, 5, 31))


def test_a_run_that_is_old_enough_loses_its_ids_once_it_was_confirmed(call, erased, later, tmp_path):
    assert call("runs", "purge", "--older-than", "90d", "--confirm", "purge older than 90d", "--json").json == {
        "older_than": "90d",
        "before": (datetime.now(UTC).date() - timedelta(days=90)).isoformat(),
        "left": [],
        "dry_run": False,
        "purged": [],
        "failed": [],
    }
    later()
    seen = call("runs", "purge", "--older-than", "90d", "--dry-run", "--json").json
    assert (seen["to_purge"], seen["purged"]) == ([erased], [])
    refused = call("runs", "purge", "--older-than", "90d", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "not_confirmed")
    assert len(call("runs", "subjects", erased, "--json").json["subjects"]) == 12
    done = call("runs", "purge", "--older-than", "90d", "--confirm", "purge older than 90d", "--json")
    assert (done.code, done.json["purged"]) == (0, [erased])
    assert call("runs", "subjects", erased, "--json").json["error"]["code"] == "purged"
    assert not ids_in(tmp_path)
    again = call("runs", "purge", "--older-than", "90d", "--confirm", "purge older than 90d", "--json")
    assert (again.code, again.json["purged"], again.json["left"]) == (0, [], [])


def test_the_retention_of_the_settings_says_what_is_due(call, erased, later, tmp_path):
    later()
    assert call("runs", "purge", "--due", "--json").json["error"]["code"] == "usage"
    config = tmp_path / "retention.toml"
    config.write_text('[retention]\nkeep = "3m"\n')
    done = call("runs", "purge", "--due", "--config", config, "--confirm", "purge older than 3m", "--json")
    assert (done.code, done.json["older_than"], done.json["purged"]) == (0, "3m", [erased])
    config.write_text('[retention]\nkeep = "3"\n')
    assert call("runs", "purge", "--due", "--config", config, "--json").code == 2


def test_what_somebody_still_needs_is_left_and_said(call, erase, server, table, later, tmp_path):
    """Open subjects, refused rows, holds to be reviewed, and answers that nobody has sent."""
    stopped = erase(table("open.csv", "customer_id", ["customer-00000"]), 1, "--until", "0s")
    refused = erase(table("refused.csv", "customer_id", ["customer-00001"], [" "]), 1)
    exclude = table("holds.csv", "customer_id,reason,review_on", ["customer-00002", "17(3)(b)", "2099-01-01"])
    rows = (["customer-00002"], ["customer-00003"])
    held = erase(table("held.csv", "customer_id", *rows), 1, "--exclude", exclude)
    dated = table("dated.csv", "customer_id,requested_at", ["customer-00004", f"{datetime.now(UTC).date()}"])
    waiting = erase(dated, 1)
    later()
    order = ("runs", "purge", "--older-than", "90d", "--confirm", "purge older than 90d", "--json")
    done = call(*order)
    left = {one["run_id"]: one["reason"] for one in done.json["left"]}
    assert (done.code, left) == (0, {stopped: "open", refused: "rejected", held: "holds", waiting: "letters"})
    assert call("letters", waiting, "--sent", "--all").code == 0
    assert call("runs", "resume", refused, "--accept-rejected", "1").code == 0
    done = call(*order)
    assert done.json["purged"] == [refused, waiting]
    assert call("runs", "show", waiting, "--json").json["outcomes"] == {"erased": 1}


@pytest.mark.folder
def test_a_run_without_a_pack_is_left(call, erased, later, tmp_path):
    for link in (tmp_path / "state" / "chain").glob("0*"):
        for file in link.iterdir():
            file.unlink()
        link.rmdir()
    later()
    done = call("runs", "purge", "--older-than", "90d", "--dry-run", "--json").json
    assert [one["reason"] for one in done["left"]] in (["no_pack"], ["unreadable"])


@pytest.mark.folder
def test_a_death_in_the_middle_loses_nothing_and_going_again_finishes(call, erase, table, later, tmp_path, monkeypatch):
    """The process dies after the journal of the first of three was changed and before its answers were."""
    first, second, third = (
        erase(table(f"{n}.csv", "customer_id,requested_at", [f"customer-0000{n}", "2026-01-01"]), 1) for n in range(3)
    )
    for run in (first, second, third):
        call("letters", run, "--sent", "--all")
    later()

    class Died(BaseException):
        pass

    def die(*_):
        raise Died

    state = existing_state(tmp_path / "state")
    found = upkeep.aged(state, (datetime.now(UTC) + timedelta(days=1)).date())
    assert [summary.run_id for summary in found.ready] == [first, second, third]
    with monkeypatch.context() as patched:
        patched.setattr(runs_of, "counted", die)
        patched.setattr(type(state.answers), "change", die)
        with pytest.raises(Died):
            upkeep.purge_aged(state, found, datetime.now(UTC), None)
    assert len(call("runs", "subjects", second, "--json").json["subjects"]) == 1
    assert state.answers.read(first).sent
    order = ("runs", "purge", "--older-than", "90d", "--confirm", "purge older than 90d", "--json")
    assert call(*order).json["purged"] == [second, third]
    assert not ids_in(tmp_path)
    assert [state.answers.read(run).sent for run in (first, second, third)] == [{}, {}, {}]
    assert state.answers.read(first).left == {"2026": {"erased": 1}}
