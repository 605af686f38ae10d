import json
import os
import zipfile
from datetime import UTC, datetime, timedelta

import pyrage
import pytest
from msgspec.structs import replace

from privacy_toolkit.access.package import Recipe, deliver
from privacy_toolkit.access.placing import CLOCK, believed, prune
from privacy_toolkit.access.words import DeliveryError, blank

NOW = datetime(2025, 11, 26, tzinfo=UTC)
LIMIT = NOW - timedelta(days=30)


@pytest.fixture
def recipe(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    return Recipe(out, "en", "current", "host.example", "live", blank())


def at(days):
    return int((NOW - timedelta(days=days)).timestamp() * 1_000_000)


def test_what_was_kept_long_enough_is_removed_in_every_form(recipe):
    sealed = replace(recipe, recipient=str(pyrage.x25519.Identity.generate().to_public()))
    for number, (form, days) in enumerate(
        (form, days) for form in (recipe, replace(recipe, zip=True), sealed) for days in (29, 31, 400)
    ):
        deliver(form, f"{number:016x}", "x", None, at(days))
    assert prune(recipe.out, LIMIT) == 6
    assert sorted(path.name for path in recipe.out.iterdir()) == [
        ".made-0000000000000006.json",
        "0000000000000000",
        "0000000000000003.zip",
        "0000000000000006.age",
    ]
    assert prune(recipe.out, LIMIT) == 0


def test_what_is_not_certainly_ours_stays(recipe, tmp_path):
    name = "0" * 16
    old = at(400) / 1_000_000
    data = {"schema": "privacy-toolkit-access-package@v1", "reference": name, "read_at": "2020-01-01T00:00:00.000000Z"}
    for number, changes in enumerate(({"schema": "other"}, {"reference": "1"}, {"read_at": "once"}, {"read_at": None})):
        folder = recipe.out / f"{number:016x}"
        folder.mkdir()
        (folder / "data.json").write_text(json.dumps(data | {"reference": folder.name} | changes))
    (recipe.out / "named-by-hand").mkdir()
    (recipe.out / "named-by-hand" / "data.json").write_text(json.dumps(data | {"reference": "named-by-hand"}))
    (recipe.out / f"{9:016x}").mkdir()
    (recipe.out / f"{10:016x}").mkdir()
    os.mkfifo(recipe.out / f"{10:016x}" / "data.json")
    (recipe.out / f"{11:016x}.zip").write_bytes(b"PK no zip")
    (recipe.out / f"{12:016x}.age").write_bytes(b"no age")
    (recipe.out / f"{13:016x}.tar").write_bytes(b"age-encryption.org/v1\n")
    (recipe.out / f"{14:016x}").write_bytes(b"a file")
    (recipe.out / "x.age").write_bytes(b"age-encryption.org/v1\n")
    outside = replace(recipe, out=tmp_path / "outside")
    outside.out.mkdir()
    deliver(outside, f"{15:016x}", "x", None, at(400))
    (recipe.out / f"{15:016x}").symlink_to(outside.out / f"{15:016x}")
    for path in recipe.out.iterdir():
        os.utime(path, (old, old), follow_symlinks=False)
    before = sorted(recipe.out.iterdir())
    assert prune(recipe.out, LIMIT) == 0
    assert sorted(recipe.out.iterdir()) == before
    assert (outside.out / f"{15:016x}" / "data.json").is_file()


@pytest.mark.parametrize(
    "change", ["compressed", "under a password", "of an unknown kind", "cut off in its extra field"]
)
def test_a_zip_that_is_not_written_as_ours_stays_and_stops_nobody(recipe, change):
    """What stands in it is not even unpacked: a megabyte could stand for a gigabyte."""
    name = "0" * 16
    deliver(replace(recipe, zip=True), name, "x", None, at(400))
    path = recipe.out / f"{name}.zip"
    if change == "compressed":
        with zipfile.ZipFile(path) as ours:
            held = {one: ours.read(one) for one in ours.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as other:
            for one, content in held.items():
                other.writestr(one, content)
    else:
        content = bytearray(path.read_bytes())
        head = content.index(b"PK\x01\x02")
        while content[head + 46 :][: len(name) + 10] != f"{name}/data.json".encode():
            head = content.index(b"PK\x01\x02", head + 1)
        offset, value = {"under a password": (8, 1), "of an unknown kind": (6, 200)}.get(change, (30, 255))
        content[head + offset] = value
        path.write_bytes(content)
    deliver(recipe, "1" * 16, "x", None, at(400))
    assert prune(recipe.out, LIMIT) == 1
    assert [one.name for one in recipe.out.iterdir()] == [f"{name}.zip"]


def test_one_that_can_not_be_removed_keeps_no_other(recipe, monkeypatch):
    for number in range(3):
        deliver(recipe, f"{number:016x}", "x", None, at(400))

    def stuck(path):
        if path.name.endswith("1"):
            raise PermissionError(13, "no")
        path.rename(path.with_name("gone-" + path.name))

    monkeypatch.setattr("privacy_toolkit.access.placing.take_away", stuck)
    with pytest.raises(DeliveryError, match="1 of 3"):
        prune(recipe.out, LIMIT)
    assert [path.name for path in recipe.out.iterdir() if not path.name.startswith("gone-")] == [f"{1:016x}"]


def test_a_time_needs_a_zone_and_a_folder_has_to_be_there(recipe):
    with pytest.raises(ValueError, match="zone"):
        prune(recipe.out, datetime(2025, 1, 1))  # noqa: DTZ001
    with pytest.raises(DeliveryError):
        prune(recipe.out / "none", LIMIT)


def test_an_encrypted_file_of_somebody_else_stays_though_it_has_the_name_of_a_package(recipe):
    sealed = replace(recipe, recipient=str(pyrage.x25519.Identity.generate().to_public()))
    for number in range(3):
        deliver(sealed, f"{number:016x}", "x", None, at(400))
    foreign = recipe.out / f"{7:016x}.age"
    foreign.write_bytes(b"age-encryption.org/v1\nof somebody else")
    changed = recipe.out / f"{1:016x}.age"
    changed.write_bytes(changed.read_bytes() + b"x")
    (recipe.out / f".made-{2:016x}.json").unlink()  # as of an earlier version
    for path in recipe.out.iterdir():
        os.utime(path, (0, 0))
    assert prune(recipe.out, LIMIT) == 1
    left = {f"{number:016x}.age" for number in (1, 2, 7)} | {f".made-{1:016x}.json"}
    assert {path.name for path in recipe.out.iterdir()} == left


def test_a_note_alone_names_no_person_and_is_the_owners_alone(recipe):
    sealed = replace(recipe, recipient=str(pyrage.x25519.Identity.generate().to_public()))
    deliver(sealed, "0" * 16, "customer-1", None, at(1))
    note = recipe.out / f".made-{'0' * 16}.json"
    assert note.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(note.read_text())) == {"schema", "reference", "sha256", "read_at"}
    assert "customer-1" not in note.read_text()


def nights(out, *days):
    """By how many days each export's belief is before or after the first."""
    return [(believed(out, NOW + timedelta(days=day)) - NOW) / timedelta(days=1) for day in days]


def test_night_after_night_the_clock_is_believed(recipe):
    assert nights(recipe.out, 0, 1, 1.1, 2, 8, 8.01, 9) == [0, 1, 1.1, 2, 8, 8.01, 9]


@pytest.mark.parametrize("again", [40.01, 40.5])
def test_a_clock_that_leaps_forward_makes_no_package_old_until_a_day_later(recipe, again):
    assert nights(recipe.out, 0, 1, 40, again) == [0, 1, 1, 1]
    assert nights(recipe.out, 41) == [41]  # it stayed there: it was a pause


def test_a_clock_that_leapt_forward_and_is_put_right_never_counted(recipe):
    assert nights(recipe.out, 0, 1, 41, 2, 3) == [0, 1, 1, 1, 3]


def test_a_clock_that_is_set_back_makes_packages_younger_only(recipe):
    assert nights(recipe.out, 40, 41, 1, 1.5, 42, 43) == [40, 41, 1, 1.5, 1.5, 43]


def test_exports_that_are_always_long_apart_are_one_pause_behind(recipe):
    assert nights(recipe.out, 0, 30, 60, 90) == [0, 0, 30, 60]


def test_without_a_record_the_newest_package_says_when_the_last_export_was(recipe):
    for number, days in enumerate((35, 3)):
        deliver(recipe, f"{number:016x}", "x", None, at(days))
    assert nights(recipe.out, 40) == [-3]
    (recipe.out / CLOCK).write_text("{")
    assert nights(recipe.out, 0) == [0]
    (recipe.out / CLOCK).unlink()
    os.mkfifo(recipe.out / CLOCK)
    with pytest.raises(DeliveryError, match="no file"):
        believed(recipe.out, NOW)


def test_todays_packages_outlive_a_clock_set_forward(recipe):
    deliver(recipe, "0" * 16, "x", None, at(0))
    for days in (0, 40, 40.01):
        assert prune(recipe.out, believed(recipe.out, NOW + timedelta(days=days)) - timedelta(days=30)) == 0
    assert (recipe.out / ("0" * 16)).is_dir()
