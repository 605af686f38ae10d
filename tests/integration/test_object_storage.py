"""Packages and packs in object storage: over loopback to a server that speaks S3, with faults."""

import io
import json
import random
import signal
import threading
import zipfile
from datetime import timedelta

import pytest

from privacy_toolkit.access.placing import Bucket, PackageObjects
from privacy_toolkit.access.words import DeliveryError
from privacy_toolkit.sandbox.faults import Faults
from tests.integration.test_crash import kill, reaches
from tests.support.bucket import KEY, storage

IDS = [f"customer-{number:05d}" for number in range(60)]
OUT = "s3://bucket/packages"


@pytest.fixture
def kept(monkeypatch):
    """The storage; this process and the commands that it starts find the way to it in their environment."""
    environment = {}
    with storage(environment) as found:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def kit(kept, sandbox, toolkit):
    """A command line on a sandbox that is not the fastest."""
    server = sandbox(IDS, faults=Faults(latency_ms=(1, 6)))
    made = toolkit(server.base_url)
    made.server = server
    made.export = lambda path, *arguments: made.run("export", path, "--out", OUT, "--zip", "--json", *arguments)
    return made


def packages(kept):
    """The names of the packages, each with whom it is about."""
    found = {}
    for name, (content, _) in kept.objects.items():
        if name.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                (data,) = [one for one in archive.namelist() if one.endswith("/data.json")]
                found[name.rpartition("/")[2]] = json.loads(archive.read(data))["customer_id"]
    return found


def named(kit):
    """The package of each subject, by the journal."""
    return {one["package"]: one["id"] for one in kit.subjects() if one.get("package")}


def test_a_package_is_one_object_and_the_journal_names_it(kit, kept, write_ids):
    done = kit.export(write_ids(IDS))
    assert (done.code, done.json["outcomes"]) == (0, {"done": len(IDS)}), done.err
    assert packages(kept) == named(kit)
    assert set(packages(kept).values()) == set(IDS)
    assert all(name.startswith("bucket/packages/") for name in kept.objects)
    assert not any(id_ in name for name in kept.objects for id_ in IDS)
    assert kept.signed_by == {KEY}  # from the environment


def test_without_one_file_for_each_person_it_is_refused(kit, write_ids):
    path = write_ids(IDS)
    refused = kit.run("export", path, "--out", OUT, "--json")
    assert (refused.code, "--zip or --encrypt" in refused.json["error"]["message"]) == (2, True)
    other = kit.run("coupons", "holders", path, "--out", "s3://bucket/file.csv", "--json")
    assert (other.code, "Only access packages and packs" in other.json["error"]["message"]) == (2, True)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("s3://key:secret@bucket/x", "can't be used"),
        ("s3://bucket/x?secret=1", "more than a bucket"),
        ("s3://full/x", "may not do that"),
        ("az://container/x", "can't be opened"),
    ],
)
def test_what_can_not_be_used_is_said_before_anything_is_read(kit, write_ids, out, message):
    refused = kit.run("export", write_ids(IDS), "--out", out, "--zip", "--json")
    assert refused.code == 2
    assert message in refused.json["error"]["message"]
    assert "secret" not in refused.json["error"]["message"] + refused.json["error"]["hint"]
    assert len(kit.server.log) == 0


def test_over_a_network_nothing_goes_without_encryption(kit, write_ids):
    kit.environment["AWS_ENDPOINT_URL"] = "http://storage.example.org"
    refused = kit.run("export", write_ids(IDS), "--out", OUT, "--zip", "--json")
    assert (refused.code, "without encryption" in refused.json["error"]["message"]) == (2, True)


def test_where_the_answer_to_a_put_is_lost_the_object_is_read_back(kit, kept, write_ids):
    kept.faults = ["lost"] * 5
    done = kit.export(write_ids(IDS))
    assert (done.code, done.json["outcomes"]) == (0, {"done": len(IDS)}), done.err
    assert packages(kept) == named(kit)


def test_a_put_that_is_refused_stops_the_run_and_a_resume_completes_it(kit, kept, write_ids):
    kept.faults = ["", "", "refused"]
    done = kit.export(write_ids(IDS), "--concurrency", "1")
    assert (done.code, done.json["stopped_by"]) == (4, "output_failed")
    assert [one["outcome"] for one in kit.subjects() if one["reason"] == "not_delivered"] == ["retryable"]
    settled = kit.resume()
    assert settled.json["outcomes"] == {"done": len(IDS)}
    assert packages(kept) == named(kit)


def test_killed_again_and_again_what_the_journal_does_not_name_is_swept(kit, kept, write_ids):
    rng, kills = random.Random(5), 0
    process = kit.fork("export", write_ids(IDS), "--out", OUT, "--zip", "--json", "--concurrency", "4")
    while kills < 4 and reaches(kit.server.log, len(kit.server.log) + rng.randrange(5, 12), process):
        kill(process)
        kills += 1
        process = kit.fork("runs", "resume", "latest", "--json", "--concurrency", "4")
    done = kit.finish(process)
    assert (kills, done.code) == (4, 0), done.err
    assert packages(kept) == named(kit)
    assert sorted(packages(kept).values()) == IDS


def test_who_was_stalled_overwrites_nothing_and_what_it_put_is_swept(kept):
    """Two processes put the same package; the first is halted in the middle of it and goes on when all is over."""
    bucket = Bucket(OUT)
    run = "20260101-000000-export-0a0a0bbbb"
    first, second = PackageObjects(bucket, run), PackageObjects(bucket, run)
    kept.faults, put = ["stalled"], []
    halted = threading.Thread(target=lambda: put.append(first.put("ab" * 16 + ".zip", b"the first one's")))
    halted.start()
    assert kept.stalled.wait(30)
    counts = second.put("ab" * 16 + ".zip", b"the second one's")
    assert second.sweep(lambda: None) == 0  # somebody works on the run
    kept.go_on.set()
    halted.join()
    assert kept.objects[f"bucket/packages/{run}/{counts}"][0] == b"the second one's"
    bucket.put(f"{run}/notes.txt", b"somebody else's")
    bucket.put("20260101-000000-export-0a0a0cccc/" + put[0], b"another run's")
    assert second.sweep(lambda: [counts]) == 1
    assert {name.rpartition("/")[2] for name in kept.objects} == {counts, "notes.txt", put[0]}
    assert f"bucket/packages/{run}/{put[0]}" not in kept.objects


def test_a_name_that_exists_with_something_else_in_it_stays(kept):
    bucket, run = Bucket(OUT), "20260101-000000-export-0a0a0bbbb"
    draw = iter(["1" * 16] * 2 + ["2" * 16])
    placed = PackageObjects(bucket, run, lambda: next(draw))
    name = placed.put("cd" * 16 + ".zip", b"mine")
    with pytest.raises(DeliveryError, match="another object of that name"):
        placed.put("cd" * 16 + ".zip", b"another")
    assert kept.objects[f"bucket/packages/{run}/{name}"][0] == b"mine"


def test_old_packages_are_removed_by_the_clock_of_the_storage(kit, kept, write_ids):
    assert kit.export(write_ids(IDS[:3])).code == 0
    old = set(packages(kept))
    kept.objects["bucket/packages/other.zip"] = next(c for n, c in kept.objects.items() if n.endswith(".zip"))
    kept.now += timedelta(days=40)  # this machine's clock says something else
    done = kit.export(write_ids(IDS[3:6]), "--keep-days", "30")
    assert done.code == 0, done.err
    assert set(packages(kept)) & old == set()
    assert "bucket/packages/other.zip" in kept.objects
    pack = json.loads((kit.state / "packs" / done.json["run_id"] / "report.json").read_text())
    assert [one["settings"]["packages_removed"] for one in pack["executions"]] == ["3"]


def test_a_pack_is_copied_once_it_is_sealed_and_verifies_when_it_is_downloaded(kit, kept, write_ids, tmp_path):
    place = "s3://bucket/packs"
    done = kit.erase(write_ids(IDS), len(IDS), "--pack", place)
    assert done.code == 0, done.err
    copy = done.json["pack_copy"]
    assert copy.startswith(f"{place}/{done.json['run_id']}-")
    prefix = copy.removeprefix("s3://") + "/"
    (tmp_path / "downloaded").mkdir()
    for name, (content, _) in kept.objects.items():
        if name.startswith(prefix):
            path = tmp_path / "downloaded" / name.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    assert kit.run("verify", tmp_path / "downloaded").code == 0
    puts = [name for command, name in kept.asked if command == "PUT"]
    assert puts[-1] == f"{prefix}SHA256SUMS"  # what binds the others comes last
    again = kit.run("runs", "report", "latest", "--pack", place, "--json")
    assert again.json["pack_copy"] == copy  # the same content has the same name


def test_a_pack_that_can_not_be_copied_is_there_and_it_is_said_how_to_go_on(kit, kept, write_ids):
    kept.faults = ["", "refused"]
    done = kit.erase(write_ids(IDS), len(IDS), "--pack", "s3://bucket/packs")
    assert (done.json["outcomes"], done.json["error"]["code"]) == ({"erased": len(IDS)}, "pack")
    assert "could not be copied" in done.json["error"]["message"]
    assert done.json["pack"] is not None
    assert kit.run("verify", done.json["pack"]).code == 0
    again = kit.run("runs", "report", "latest", "--pack", "s3://bucket/packs", "--json")
    assert (again.code, bool(again.json["pack_copy"])) == (0, True)


def test_a_stop_while_packages_are_put_leaves_nothing_that_is_not_named(kit, kept, write_ids):
    process = kit.fork("export", write_ids(IDS), "--out", OUT, "--zip", "--json", "--concurrency", "4")
    assert reaches(kit.server.log, 20, process)
    process.send_signal(signal.SIGTERM)
    assert kit.finish(process).code in {0, 4}
    assert packages(kept) == named(kit)
