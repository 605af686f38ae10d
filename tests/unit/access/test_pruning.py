import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyrage
import pytest

from privacy_toolkit.access.errors import DeliveryError
from privacy_toolkit.access.notice import blank
from privacy_toolkit.access.package import Recipe, deliver
from privacy_toolkit.access.pruning import prune

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


def test_one_that_can_not_be_removed_keeps_no_other(recipe, monkeypatch):
    for number in range(3):
        deliver(recipe, f"{number:016x}", "x", None, at(400))

    def stuck(path):
        if path.name.endswith("1"):
            raise PermissionError(13, "no")
        path.rename(path.with_name("gone-" + path.name))

    monkeypatch.setattr("privacy_toolkit.access.pruning.take_away", stuck)
    with pytest.raises(DeliveryError, match="1 of 3"):
        prune(recipe.out, LIMIT)
    assert [path.name for path in recipe.out.iterdir() if not path.name.startswith("gone-")] == [f"{1:016x}"]


def test_a_time_needs_a_zone_and_a_folder_has_to_be_there(recipe):
    with pytest.raises(ValueError, match="zone"):
        prune(recipe.out, datetime(2025, 1, 1))  # noqa: DTZ001
    with pytest.raises(DeliveryError):
        prune(recipe.out / "none", LIMIT)
