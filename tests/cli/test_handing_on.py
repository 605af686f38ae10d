"""What came of a run as a file for others, and people who are taken out of a run."""

import csv
import errno
import json
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from privacy_toolkit.app.runs import WithdrawOrder, withdraw
from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.core.model import Outcome, UsageError
from privacy_toolkit.journal.state import open_state
from privacy_toolkit.reporting import rows
from tests.support import reported_runs as runs

TODAY = datetime.now(UTC).date()
ASKED = TODAY - timedelta(days=5)
RUN = "20261123-080000-erase-0a1b2c3d4"


@pytest.fixture
def sentence(server):
    return lambda count: f"erase {count} from {server.base_url.removeprefix('http://')}"


@pytest.fixture
def listed(tmp_path):
    """Four customers, one of them unknown to the API, and one on hold."""
    path = tmp_path / "list.csv"
    ids = ["customer-00000", "customer-00001", "customer-00002", "=nobody"]
    rows = [f"{id_},{ASKED},T-{k}" for k, id_ in enumerate(ids)]
    path.write_text("\n".join(["customer_id,requested_at,ticket", *rows]) + "\n")
    (tmp_path / "holds.csv").write_text("customer_id,reason,review_on\ncustomer-00002,17(3)(b),2030-12-31\n")
    return path


@pytest.fixture
def erased(call, server, listed, tmp_path, sentence):
    done = call("erase", listed, "--exclude", tmp_path / "holds.csv", "--confirm", sentence(3), "--json")
    return done.json["run_id"]


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_subject_is_in_the_file_with_what_came_of_it(call, erased, tmp_path):
    out = tmp_path / "out.csv"
    done = call("runs", "export", erased, "--out", out, "--json")
    assert (done.code, done.json) == (0, {"run_id": erased, "out": str(out), "rows": 4})
    assert out.stat().st_mode & 0o777 == 0o600
    first, _, third, last = table(out)
    assert (first["id"], first["ticket"], first["outcome"], first["attribution"]) == (
        "customer-00000",
        "T-0",
        "erased",
        "confirmed",
    )
    assert first["requested_at"] == ASKED.isoformat()
    assert first["settled_at"].startswith(TODAY.isoformat())
    assert (third["outcome"], third["reason"], third["review_on"]) == ("on_hold", "17(3)(b)", "2030-12-31")
    assert (last["id"], last["outcome"]) == ("=nobody", "nothing_held")
    assert "customer-0" not in done.out + done.err


def test_on_a_full_disk_the_command_is_to_be_given_again_since_no_run_can_be_resumed(
    call, erased, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rows, "put_file", full)
    done = call("runs", "export", erased, "--out", tmp_path / "all.csv", "--json")
    error = done.json["error"]
    assert (done.code, "No space left" in error["message"], "resume" in error["hint"]) == (4, True, False)
    assert "give the command again" in error["hint"]


def test_the_file_can_be_planned_with_again(call, erased, tmp_path):
    out = tmp_path / "out.csv"
    call("runs", "export", erased, "--out", out)
    told = call("inspect", out, "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["id"] for line in told] == [
        "customer-00000",
        "customer-00001",
        "customer-00002",
        "=nobody",
    ]
    made = call("erase", out, "--plan", tmp_path / "plan.json", "--json").json
    assert made["clock"]["oldest_requested_on"] == ASKED.isoformat()


def test_parquet_and_csv_say_the_same(call, erased, tmp_path):
    for suffix in ("csv", "parquet"):
        call("runs", "export", erased, "--out", tmp_path / f"out.{suffix}")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    shown = [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in rows]
    assert shown == table(tmp_path / "out.csv")


def test_only_who_was_seen_gone_is_in_the_list_of_erasures(call, erased, tmp_path):
    out = tmp_path / "out.csv"
    assert call("runs", "export", erased, "--out", out, "--confirmed", "--json").json["rows"] == 2
    assert [(row["customer_id"], row["erased_on"]) for row in table(out)] == [
        ("customer-00000", TODAY.isoformat()),
        ("customer-00001", TODAY.isoformat()),
    ]


def test_only_erased_ever_counts_as_an_erasure(tmp_path, call):
    every = [runs.told(f"c{k}", outcome) for k, outcome in enumerate(Outcome) if outcome is not Outcome.DONE]
    open_state(tmp_path / "state")
    runs.write_run(tmp_path / "state" / "runs" / RUN, every)
    call("runs", "export", RUN, "--out", tmp_path / "out.csv", "--confirmed")
    assert [row["customer_id"] for row in table(tmp_path / "out.csv")] == ["c0"]


def test_a_cell_is_guarded_on_demand_and_such_a_file_is_no_input(call, erased, tmp_path):
    out = tmp_path / "out.csv"
    call("runs", "export", erased, "--out", out, "--spreadsheet-safe")
    assert table(out)[3]["id"] == "'=nobody"
    assert call("inspect", out).code == 2
    assert call("runs", "export", erased, "--out", tmp_path / "out.xlsx", "--spreadsheet-safe").code == 2


def test_coupon_values_are_in_the_file_of_a_coupon_run(call, server, tmp_path):
    (tmp_path / "pairs.csv").write_text("customer_id,coupon_value\ncustomer-00001,SUMMER\n")
    call("coupons", "reserve", tmp_path / "pairs.csv", "--confirm", "yes")
    call("runs", "export", "latest", "--out", tmp_path / "out.csv")
    (row,) = table(tmp_path / "out.csv")
    assert (row["id"], row["coupon_value"]) == ("customer-00001", "SUMMER")
    assert call("runs", "export", "latest", "--out", tmp_path / "out.csv", "--confirmed").code == 2


@pytest.mark.parametrize("name", ["out.txt", "out", "nowhere/out.csv"])
def test_a_place_that_cannot_be_is_refused(call, erased, tmp_path, name):
    assert call("runs", "export", erased, "--out", tmp_path / name).code == 2


def test_a_purged_run_has_nobody_to_hand_on(call, erased, tmp_path):
    call("runs", "purge", erased, "--confirm", f"purge {erased}")
    done = call("runs", "export", erased, "--out", tmp_path / "out.csv", "--json")
    assert done.json["error"]["code"] == "purged"


# Withdrawing.


@pytest.fixture
def waiting(call, server, listed, sentence):
    """A run in which nothing was done yet."""
    return call("erase", listed, "--confirm", sentence(4), "--until", "0s", "--json").json["run_id"]


@pytest.fixture
def ids(tmp_path):
    def write(*names):
        path = tmp_path / "ids.txt"
        path.write_text("".join(f"{name}\n" for name in names))
        return path

    return write


def outcomes(call, run):
    found = call("runs", "subjects", run, "--json").json["subjects"]
    return {subject["id"]: (subject["outcome"], subject["reason"]) for subject in found}


def test_who_withdrew_is_on_hold_and_never_erased(call, waiting, ids, server):
    done = call("runs", "withdraw", waiting, "--id-file", ids("customer-00001", "=nobody"), "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"on_hold": 2, "pending": 2})
    assert done.json["verdict"] == "stopped"
    assert "2 subjects withdrawn." in done.err
    assert call("runs", "resume", waiting).code == 0
    assert outcomes(call, waiting) == {
        "customer-00000": ("erased", None),
        "customer-00001": ("on_hold", "withdrawn"),
        "customer-00002": ("erased", None),
        "=nobody": ("on_hold", "withdrawn"),
    }
    pack = call("runs", "show", waiting, "--json").json["pack"]
    assert call("verify", pack).code == 0


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (["customer-00001", "stranger"], "id number 2 is not in this run"),
        (["customer-00001", "customer-00000"], "id number 2 is settled already"),
    ],
)
def test_all_are_withdrawn_or_nobody(call, waiting, ids, named, said, tmp_path):
    call("runs", "withdraw", waiting, "--id-file", ids("customer-00000"))
    before = outcomes(call, waiting)
    done = call("runs", "withdraw", waiting, "--id-file", ids(*named))
    assert done.code == 2
    assert said in done.err
    assert "stranger" not in done.err
    assert outcomes(call, waiting) == before


def test_a_request_that_was_sent_cannot_be_withdrawn(tmp_path):
    sent = (Outcome.UNKNOWN, Outcome.UNVERIFIED, Outcome.RESIDUAL, Outcome.RETRYABLE)
    subjects = [runs.told(outcome.value, outcome) for outcome in sent] + [runs.told("pending", Outcome.PENDING)]
    state = open_state(tmp_path / "state")
    runs.write_run(tmp_path / "state" / "runs" / RUN, subjects)
    settings = load_settings(Flags(state=str(tmp_path / "state")))
    for outcome in sent:
        with pytest.raises(UsageError, match="was sent already"):
            withdraw(state, WithdrawOrder(RUN, [outcome.value], settings, None), lambda: runs.START)
    assert withdraw(state, WithdrawOrder(RUN, ["pending"], settings, None), lambda: runs.START) == 1
    with state.open(RUN) as journal:
        assert journal.totals()[Outcome.ON_HOLD] == 1


def test_a_plan_is_fixed(call, server, listed, ids, tmp_path):
    call("erase", listed, "--plan", tmp_path / "plan.json")
    done = call("runs", "withdraw", tmp_path / "plan.json", "--id-file", ids("customer-00001"))
    assert done.code == 2
    assert "Nobody can be taken out of a plan" in done.err
    assert "--exclude" in done.err


def test_a_purged_run_is_refused(call, waiting, ids):
    call("runs", "purge", waiting, "--confirm", f"purge {waiting}")
    assert call("runs", "withdraw", waiting, "--id-file", ids("customer-00001")).code == 5
