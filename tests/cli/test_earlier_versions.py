"""State folders, plans and packs of earlier versions (tests/fixtures) are still read, and their runs go on."""

import fcntl
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest

from privacy_toolkit.journal.sqlite.reader import JOURNAL_FILE, SUMS_NAME
from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.sandbox.wire import seed

ARCHIVES = sorted((Path(__file__).parents[1] / "fixtures").glob("state-*.tar.xz"))
WITH_PACK = [ARCHIVES[0], *ARCHIVES[2:]]
PORT = 47613  # stands in the plans
CUSTOMERS = [f"customer-{number:03d}" for number in range(40)]


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def left(request, tmp_path, monkeypatch):
    """What an earlier version left behind."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / request.param.name.removesuffix(".tar.xz")
    for name in ("packs", "locks"):
        (folder / "state" / name).mkdir()
    for name, value in (
        ("STATE", folder / "state"),
        ("BASE_URL", f"http://127.0.0.1:{PORT}"),
        ("API_KEY", "sandbox-key"),
        ("APPLICATION", "Shop"),
    ):
        monkeypatch.setenv(f"PRIVACY_TOOLKIT_{name}", str(value))
    return folder


@pytest.fixture
def sent(call, left):
    """A command that sends; a folder that knows its place is told that it was copied on purpose."""
    copied = ("--restored",) if (left / "state" / "identity.json").exists() else ()

    def run(*arguments):
        return call(*arguments, *copied, "--json")

    return run


@pytest.fixture
def sandbox():
    """A sandbox at the address of the plans; one test at a time."""
    with (Path(tempfile.gettempdir()) / f"privacy-toolkit-test-{PORT}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with start_in_thread(SandboxSettings(port=PORT)) as running:
            seed(running.store, len(CUSTOMERS), ids=CUSTOMERS)
            yield running


@pytest.fixture
def planned_input(left, sandbox):
    """The input of the plan, at the place that the plan names: the archive has it, and nobody else does."""
    place = Path(json.loads((left / "plan.json").read_bytes())["input"]["path"])
    made = not place.parent.exists()
    place.parent.mkdir(exist_ok=True)
    shutil.copy(left / "planned.csv", place)
    yield place
    if made:
        shutil.rmtree(place.parent)


@pytest.fixture
def runs(call, left):
    """The runs by what they are: the id of each."""
    listed = call("runs", "list", "--json").json["runs"]
    names = ("half", "purged", "export", "assign", "complete")  # newest first
    return {name: run["run_id"] for name, run in zip(names, listed, strict=True)}


def subjects(call, run):
    return [json.loads(line) for line in call("runs", "subjects", run, "--format", "jsonl").out.splitlines()]


def test_they_are_listed_and_shown(call, left, runs):
    listed = call("runs", "list", "--json").json["runs"]
    assert [(run["job"], run["verdict"]) for run in listed] == [
        ("erase", "stopped"),
        ("erase", "complete"),
        ("export", "complete"),
        ("assign", "complete"),
        ("erase", "complete"),
    ]
    assert call("runs", "show", runs["complete"], "--json").json["outcomes"] == {"erased": 8}
    assert call("runs", "show", runs["purged"], "--json").json["outcomes"] == {"erased": 1}
    half = call("runs", "show", runs["half"], "--json").json["outcomes"]
    assert sum(half.values()) == 22
    assert half["erased"] > 0
    assert half["pending"] > 0


def test_their_subjects_are_listed_but_for_those_purged(call, left, runs):
    assert [subject["id"] for subject in subjects(call, runs["complete"])] == CUSTOMERS[:8]
    assert [subject["id"] for subject in subjects(call, runs["half"])] == CUSTOMERS[8:30]
    assert all(subject["coupon_value"].startswith("SANDBOX-") for subject in subjects(call, runs["assign"]))
    assert call("runs", "subjects", runs["purged"], "--json").json["error"]["code"] == "purged"


def test_a_run_that_was_killed_goes_on_and_is_protected_from_then_on(call, sent, left, runs, sandbox):
    is_copy = (left / "state" / "identity.json").exists()
    accepted = call("runs", "show", runs["half"], "--json").json["outcomes"].get("unverified", 0)
    done = sent("runs", "resume", runs["half"])
    # What was accepted when the process was killed is never sent again from a copy of its folder: it stays residual.
    assert (done.code, sum(done.json["outcomes"].values())) == (3 if is_copy and accepted else 0, 22), done.err
    folder = left / "state" / "runs" / runs["half"]
    assert (folder / SUMS_NAME).exists()
    content = bytearray((folder / JOURNAL_FILE).read_bytes())
    content[content.index(b"customer-010") + 11] ^= 1
    (folder / JOURNAL_FILE).write_bytes(content)
    assert call("runs", "show", runs["half"], "--json").json["error"]["code"] == "damaged"


def test_their_reports_are_made_and_their_ids_purged(call, left, runs):
    for name in ("complete", "assign", "export"):
        done = call("runs", "report", runs[name], "--json")
        assert done.code == 0, done.err
    assert call("runs", "report", runs["purged"], "--json").code == 5  # its pack was made before
    assert call("runs", "purge", runs["complete"], "--confirm", f"purge {runs['complete']}", "--json").code == 0
    data = b"".join(path.read_bytes() for path in (left / "state" / "runs" / runs["complete"]).iterdir())
    assert b"customer-0" not in data


def test_who_was_erased_stays_erased_under_another_label_and_spelling(call, sent, left, runs, sandbox, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_APPLICATION", "Renamed")
    monkeypatch.setenv("PRIVACY_TOOLKIT_BASE_URL", f"http://LOCALHOST:{PORT}/")
    rows = left / "events.csv"
    erased = (CUSTOMERS[0], CUSTOMERS[38])  # of the complete run, and of the purged one
    rows.write_text("customer_id,type\n" + "".join(f"{customer},signed_up\n" for customer in erased))
    done = sent("events", "track", rows, "--confirm", "yes")
    assert (done.code, done.json["outcomes"]) == (0, {"on_hold": 2})


def test_codes_that_were_given_stay_given_under_another_label(call, sent, left, runs, sandbox, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_APPLICATION", "Renamed")
    given = {subject["coupon_value"] for subject in subjects(call, runs["assign"])}
    (left / "more.csv").write_text("customer_id\ncustomer-035\ncustomer-036\n")
    done = sent("coupons", "assign", left / "more.csv", "--coupons", left / "codes.csv", "--confirm", "yes")
    run_id = done.json["run_id"]
    assert not given & {subject["coupon_value"] for subject in subjects(call, run_id)}


def test_who_was_exported_is_left_out(call, sent, left, runs, sandbox):
    done = sent("export", left / "export.csv", "--out", left / "out", "--new-only")
    assert (done.code, done.json["outcomes"]) == (0, {"on_hold": 4})


def test_a_plan_that_was_not_applied_yet_is_applied_once(call, sent, left, runs, sandbox, planned_input):
    confirmation = f"erase 1 from 127.0.0.1:{PORT}/Shop"
    done = sent("apply", left / "plan.json", "--confirm", confirmation)
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 1}), done.out
    assert call("runs", "show", done.json["run_id"], "--json").code == 0
    done = sent("apply", left / "plan.json", "--confirm", confirmation)
    assert (done.code, done.json["error"]["code"]) == (5, "applied")


@pytest.mark.parametrize("left", WITH_PACK, ids=["state-0.1.0", "state-0.1.2", "state-0.2.0"], indirect=True)
def test_their_packs_verify(call, left):
    """The pages of 0.1 are written in words that this version can't compare: that is said, and left out."""
    command = ("verify", left / "pack", "--signers", left / "allowed_signers", "--json")
    done = call(*command)
    expected = (0, []) if left.name == "state-0.2.0" else (6, ["page_not_compared"])
    assert (done.code, [one["code"] for one in done.json["problems"]]) == expected, done.out
    done = call(*command, "--no-page")
    assert done.code == 0, done.out


def test_an_upgrade_goes_as_the_guide_says(call, sent, left, runs, sandbox, tmp_path, monkeypatch):
    """docs/upgrading.md: look, keep a copy, go on; and back, from the copy."""
    (left / "state").chmod(0o700)
    for path in (left / "state").rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    looked = call("state", "check", "--json")
    assert (looked.code, looked.json["runs"]) == (0, 5), looked.out
    made = call("state", "backup", "--out", tmp_path / "before.tar", "--json")
    assert (made.code, made.json["runs"]) == (0, 5), made.out
    before = subjects(call, runs["assign"])
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", str(tmp_path / "back"))
    assert call("state", "restore", tmp_path / "before.tar", "--json").code == 0
    assert call("state", "check", "--json").code == 0
    assert subjects(call, runs["assign"]) == before
    assert call("runs", "resume", runs["half"], "--json").json["error"]["code"] == "restored"
    done = call("runs", "resume", runs["half"], "--restored", "--until", "0s", "--json")
    assert sum(done.json["outcomes"].values()) == 22


@pytest.mark.parametrize("left", WITH_PACK, ids=["state-0.1.0", "state-0.1.2", "state-0.2.0"], indirect=True)
def test_the_check_of_a_state_takes_their_packs_for_what_they_are(call, left):
    """A pack of another version is no damage, and one byte in it is."""
    pack = shutil.copytree(left / "pack", left / "state" / "packs" / "earlier")
    packs = f"pack {pack.name}"
    found = [one for one in call("state", "check", "--json").json["findings"] if one["where"] == packs]
    assert [one["is_wrong"] for one in found] == ([] if left.name == "state-0.2.0" else [False])
    with (pack / "report.html").open("ab") as page:
        page.write(b" ")
    found = [one for one in call("state", "check", "--json").json["findings"] if one["where"] == packs]
    assert [one["is_wrong"] for one in found] == [True]
