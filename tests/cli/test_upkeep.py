"""Old runs lose their ids, and nothing that somebody still needs; a state is backed up, restored and looked over."""

import io
import json
import shutil
import tarfile
from datetime import UTC, date, datetime, timedelta
from time import time_ns

import pyrage
import pytest

from privacy_toolkit.app import runs as runs_of
from privacy_toolkit.app import upkeep
from privacy_toolkit.cli import output
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.journal.state import existing_state

LATER = timedelta(days=100)


@pytest.fixture
def later(monkeypatch):
    """A hundred days pass."""

    def go():
        monkeypatch.setattr(output, "read_clock", lambda: time_ns() + LATER // timedelta(microseconds=1) * 1000)

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


# Backups.


@pytest.fixture
def backup(call, tmp_path):
    def make(name="backup.tar", *more):
        done = call("state", "backup", "--out", tmp_path / name, *more, "--json")
        assert done.code == 0, done.out
        return tmp_path / name

    return make


@pytest.fixture
def restored(call, tmp_path, monkeypatch):
    """Restores a backup to another folder, which is the state from then on."""

    def restore(file, *more, name="restored"):
        monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", str(tmp_path / name))
        return call("state", "restore", file, *more, "--json")

    return restore


@pytest.mark.folder
def test_a_state_is_backed_up_and_restored_with_all_that_it_knows(
    call, erased, erase, requests, table, backup, restored, tmp_path
):
    file = backup()
    assert file.stat().st_mode & 0o777 == 0o600
    subjects = call("runs", "subjects", erased, "--json").json
    done = restored(file)
    assert (done.code, done.json["runs"], done.json["key"]) == (0, 1, True), done.out
    assert call("state", "check", "--json").json["ok"] is True
    assert call("runs", "subjects", erased, "--json").json == subjects
    assert call("runs", "report", erased, "--json").json["verdict"] == "complete"
    listed = table("events.csv", "customer_id,type", ["customer-00001", "signed_up"])
    refused = call("events", "track", listed, "--confirm", "yes", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (5, "restored")
    done = call("events", "track", listed, "--confirm", "yes", "--restored", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"on_hold": 1})  # it knows whom it erased
    assert restored(file).json["error"]["code"] == "usage"  # something is there
    assert call("state", "backup", "--out", file, "--json").code == 2  # so it is here


@pytest.mark.folder
def test_a_backup_is_consistent_while_a_run_is_at_work(call, erase, requests, backup, restored, tmp_path):
    run_id = erase(requests, 12, "--until", "0s")
    with existing_state(tmp_path / "state").open(run_id) as journal:
        number = journal.begin_execution(1, "{}")
        file = backup()
        journal.end_execution(number, 2, None)
    assert restored(file).code == 0
    assert call("state", "check", "--json").json["ok"] is True
    done = call("runs", "resume", run_id, "--restored", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 12})


@pytest.mark.folder
def test_what_was_sent_after_a_backup_is_not_done_again(call, server, table, backup, restored, tmp_path):
    """A code is given to nobody else, and what can't be looked up is never sent: it is left to a person."""
    for number in range(1, 21):
        code = f"SANDBOX-{number:04d}"
        held = [json.loads(bytes(profile))["integrationId"] for profile in server.store.holders(code)]
        server.store.release(code, held)
    pool = table("codes.csv", "coupon_value", *([f"SANDBOX-{n:04d}"] for n in range(1, 21)))
    referrals = table("referrals.csv", "customer_id,campaignId", ["customer-00005", "1"])
    stopped = call("referrals", "create", referrals, "--confirm", "yes", "--until", "0s", "--json").json["run_id"]
    file = backup()
    call("runs", "resume", stopped, "--json")
    before = table("a.csv", "customer_id", ["customer-00001"], ["customer-00002"])
    first = call("coupons", "assign", before, "--coupons", pool, "--confirm", "yes", "--json").json["run_id"]
    given = {one["coupon_value"] for one in call("runs", "subjects", first, "--json").json["subjects"]}
    assert restored(file).code == 0
    after = table("b.csv", "customer_id", ["customer-00003"], ["customer-00004"])
    order = ("coupons", "assign", after, "--coupons", pool, "--confirm", "yes", "--json")
    assert call(*order).json["error"]["code"] == "restored"
    assert call(*order, "--restored").json["error"]["code"] == "codes_taken"  # it has asked the API, code by code
    assert given
    table("codes.csv", "coupon_value", *([f"SANDBOX-{n:04d}"] for n in range(1, 21) if f"SANDBOX-{n:04d}" not in given))
    second = call(*order, "--restored").json["run_id"]
    assert not given & {one["coupon_value"] for one in call("runs", "subjects", second, "--json").json["subjects"]}
    sent = len(server.log)
    done = call("runs", "resume", stopped, "--json")
    assert (done.code, done.json["outcomes"]) == (3, {"unknown": 1})
    assert len(server.log) == sent


@pytest.mark.folder
def test_the_record_of_packs_of_a_restored_state_begins_again_and_forks_none(
    call, erased, erase, requests, backup, restored, tmp_path, phrase
):
    file = backup()
    there = erase(requests, 12, "--expect-missing")
    assert restored(file).code == 0
    here = call("erase", requests, "--confirm", phrase, "--expect-missing", "--restored", "--json").json["run_id"]
    heads = [
        (tmp_path / folder / "packs" / run / "checkpoint.txt").read_text().splitlines()
        for folder, run in (("state", there), ("restored", here))
    ]
    assert heads[0][0] != heads[1][0]  # another origin: no two packs of one record have one number
    assert call("verify", tmp_path / "restored" / "packs" / here, "--json").code == 0
    assert (tmp_path / "restored" / "set-aside" / "chain-1").is_dir()
    assert call("state", "check", "--json").json["ok"] is True


@pytest.mark.folder
def test_a_backup_that_is_damaged_or_cut_off_is_refused_and_leaves_nothing(call, erased, backup, restored, tmp_path):
    content = backup().read_bytes()
    broken = tmp_path / "broken.tar"
    places = range(600, len(content) - 2_000, len(content) // 9)
    for number, damaged in enumerate(
        (
            *(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in places),
            content[: len(content) // 2],
            content[:-12_000],  # more than the padding at its end
            b"",
            b"no backup at all" * 99,
        )
    ):
        broken.write_bytes(damaged)
        done = restored(broken, name=f"restored-{number}")
        if done.code == 0 and len(damaged) == len(content):  # what was changed is of no meaning: padding between files
            assert call("state", "check", "--json").json["ok"] is True
            continue
        assert done.code == 5, done.out
        assert done.json["error"]["code"] == "damaged"
        assert not (tmp_path / f"restored-{number}").exists()
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".new-")]


@pytest.mark.folder
@pytest.mark.parametrize(
    ("name", "kind", "headers"),
    [
        ("../outside", tarfile.REGTYPE, {}),
        ("/outside", tarfile.REGTYPE, {}),
        ("link", tarfile.SYMTYPE, {}),
        ("runs/sparse", tarfile.REGTYPE, {"GNU.sparse.map": "0,1,8000000000,1", "GNU.sparse.size": "8000000001"}),
        ("runs/sparse", tarfile.REGTYPE, {"GNU.sparse.map": "none", "GNU.sparse.size": "10"}),
        ("runs/sparse", tarfile.REGTYPE, {"GNU.sparse.size": "none"}),
    ],
)
def test_a_backup_made_by_hand_is_refused_and_leaves_nothing(restored, tmp_path, name, kind, headers):
    with tarfile.open(tmp_path / "made.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.size, entry.pax_headers = kind, 0 if kind == tarfile.SYMTYPE else 3, headers
        archive.addfile(entry, io.BytesIO(b"abc"))
    done = restored(tmp_path / "made.tar", name="made")
    assert (done.code, done.json["error"]["code"]) == (5, "damaged")
    assert {one.name for one in tmp_path.iterdir()} & {"made", "outside"} == set()
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".new-")]


@pytest.mark.folder
def test_a_backup_is_encrypted_for_recipients_of_age(call, erased, backup, restored, tmp_path):
    keys = [pyrage.x25519.Identity.generate() for _ in range(3)]
    for number, key in enumerate(keys):
        place = tmp_path / f"key-{number}"
        place.write_text(f"# made by age-keygen\n{key}\n")
        place.chmod(0o600)
    file = backup("sealed.age", *(w for key in keys[:2] for w in ("--recipient", str(key.to_public()))))
    assert b"customer-0000" not in file.read_bytes()
    assert restored(file).json["error"]["message"] == "The backup is encrypted."
    assert restored(file, "--identity", tmp_path / "key-2").code == 2
    assert not (tmp_path / "restored").exists()
    assert restored(file, "--identity", tmp_path / "key-1").code == 0
    assert len(call("runs", "subjects", erased, "--json").json["subjects"]) == 12
    done = call("state", "backup", "--out", tmp_path / "no", "--recipient", "AGE-SECRET-KEY-1X", "--json")
    assert (done.code, "SECRET" in done.out + done.err, (tmp_path / "no").exists()) == (2, False, False)


@pytest.mark.folder
def test_a_damaged_run_is_in_no_backup(call, erased, tmp_path):
    journal = tmp_path / "state" / "runs" / erased / "journal.sqlite"
    content = bytearray(journal.read_bytes())
    content[content.index(b"customer-00005") + 12] ^= 1
    journal.write_bytes(content)
    done = call("state", "backup", "--out", tmp_path / "b.tar", "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "damaged")
    assert not (tmp_path / "b.tar").exists()
    done = call("state", "check", "--json")
    (line,) = done.json["findings"]
    assert (done.code, line["where"], "backup" in line["remedy"]) == (6, f"run {erased}", True)


def test_a_state_in_a_database_is_checked_and_left_to_its_own_backups(call, kept_in, erased, tmp_path):
    assert call("state", "check", "--json").json["ok"] is True
    done = call("state", "backup", "--out", tmp_path / "b.tar", "--json")
    assert (done.code, "pg_dump" in done.out) == ((2, True) if kept_in == "database" else (0, False))


@pytest.mark.folder
def test_what_is_wrong_with_a_state_is_named_with_what_to_do(call, erased, erase, table, tmp_path):
    state = tmp_path / "state"
    erase(table("b.csv", "customer_id", ["customer-00000"]), 1, "--expect-missing")
    assert call("state", "check").code == 0
    (state / "runs" / ".new-1-abc").mkdir()
    (state / "runs" / "empty").mkdir()
    (state / "suppression.sqlite").chmod(0o644)
    report = state / "packs" / erased / "report.json"
    report.write_bytes(report.read_bytes().replace(b"erased", b"nobody", 1))
    first = next((state / "chain").glob("00000001-*"))
    sums = first / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes().replace(b"rows.jsonl", b"rows.jsonm"))
    (state / "dealt.sqlite").write_bytes(b"SQLite format 3\0" + bytes(5_000))
    done = call("state", "check", "--json")
    found = {one["where"]: one["remedy"] for one in done.json["findings"] if one["is_wrong"]}
    assert done.code == 6
    assert set(found) >= {"record of packs", "runs/empty", "suppression.sqlite", "dealt.sqlite", "runs/.new-1-abc"}
    assert f"pack {erased}" in found
    left_out = call("state", "check", "--without-packs", "--json").json["findings"]
    assert f"pack {erased}" not in {one["where"] for one in left_out}
    assert all(found.values())
    (state / "suppression.sqlite").chmod(0o600)
    (state / "state.key").unlink()
    done = call("state", "check", "--json")
    assert "is missing" in next(one["what"] for one in done.json["findings"] if one["where"] == "suppression.sqlite")
    (state / "suppression.sqlite").chmod(0o644)
    shown = call("state", "check")
    assert (shown.code, "WRONG  suppression.sqlite: others may use it (0644)" in shown.out) == (6, True)


def test_a_run_that_settled_what_an_earlier_one_has_open_is_left_until_that_is_settled(call, erase, table, later):
    rows = table("dated.csv", "customer_id", ["customer-00004"])
    stopped = erase(rows, 1, "--until", "0s")
    settled = erase(rows, 1)
    later()
    order = ("runs", "purge", "--older-than", "90d", "--confirm", "purge older than 90d", "--json")
    left = {one["run_id"]: one["reason"] for one in call(*order).json["left"]}
    assert left == {stopped: "open", settled: "taken_over"}
    refused = call("runs", "purge", settled)
    assert f"to settle them first: privacy-toolkit runs resume {stopped}" in refused.err
    assert refused.code == 2  # nobody typed it
    call("runs", "resume", stopped)
    assert "to settle them first" not in call("runs", "purge", settled).err


@pytest.mark.folder
@pytest.mark.parametrize("way", ["removed", "renamed"])
def test_a_run_that_sealed_a_pack_and_is_gone_is_named(call, erased, tmp_path, way):
    assert call("state", "check", "--json").json["ok"] is True
    folder = tmp_path / "state" / "runs" / erased
    if way == "renamed":
        folder.rename(folder.with_name("20200101-000000-erase-000000000"))
    else:
        shutil.rmtree(folder)
    done = call("state", "check", "--json")
    assert done.code == 6
    assert f"run {erased}" in {one["where"] for one in done.json["findings"] if one["is_wrong"]}


@pytest.mark.folder
def test_a_run_that_was_set_aside_is_not_gone(call, erased):
    call("runs", "set-aside", erased, "--confirm", f"set aside {erased}")
    assert call("state", "check", "--json").json["ok"] is True
