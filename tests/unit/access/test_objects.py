"""Object storage by the library's own stores: in memory and in a folder."""

import subprocess
import sys
from datetime import timedelta

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore

from privacy_toolkit.access.placing import CLOCK, Bucket, PackageObjects, prune_bucket
from privacy_toolkit.config.settings import is_object_address
from privacy_toolkit.core.model import UsageError

RUN = "20260101-000000-export-0a0a0bbbb"


@pytest.fixture(params=["memory", "folder"])
def bucket(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else LocalStore(tmp_path / "store", mkdir=True)
    return Bucket("s3://bucket/prefix/", store)


def names(bucket):
    return sorted(one.name for one in bucket.objects())


def test_an_object_is_put_once_and_the_same_again_is_no_error(bucket):
    bucket.put("a/b", b"content")
    bucket.put("a/b", b"content")
    with pytest.raises(FileExistsError):
        bucket.put("a/b", b"another")
    assert [(one.name, one.size) for one in bucket.objects()] == [("a/b", 7)]
    assert [one.name for one in bucket.objects("a")] == ["a/b"]
    assert list(bucket.objects("other")) == []


def test_a_large_file_is_sent_in_parts_and_a_small_one_as_a_whole(bucket, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000)
    bucket.put_file("small", path)
    monkeypatch.setattr("privacy_toolkit.access.placing._IN_PARTS", 1_000)
    bucket.put_file("large", path)
    assert [(one.name, one.size) for one in sorted(bucket.objects(), key=lambda one: one.name)] == [
        ("large", 10_000),
        ("small", 10_000),
    ]


def test_what_is_removed_is_gone_and_twice_is_no_error(bucket):
    bucket.put("a", b"1")
    bucket.put("b", b"2")
    bucket.remove(["a"])
    bucket.remove(["a"])
    assert names(bucket) == ["b"]


def test_that_something_was_removed_is_not_taken_on_trust(bucket, monkeypatch):
    bucket.put("a", b"1")

    def refuse(*_):
        raise FileNotFoundError  # as from a server that does not know this kind of request

    monkeypatch.setattr(obstore, "delete", refuse)
    with pytest.raises(OSError, match="no such bucket or object"):
        bucket.remove(["a"])


def test_packages_get_old_by_the_clock_of_the_storage_and_nothing_else_is_touched(bucket):
    placed = PackageObjects(bucket, RUN)
    mine = placed.put("ab" * 16 + ".age", b"1")
    for other in ("notes.txt", f"{RUN}/notes.txt", "some/where/deeper.zip", f"{RUN}/short.zip"):
        bucket.put(other, b"2")
    before = names(bucket)
    assert prune_bucket(bucket, timedelta(days=1)) == 0
    assert names(bucket) == sorted([*before, CLOCK])
    assert prune_bucket(bucket, timedelta(days=-1)) == 1
    assert names(bucket) == sorted({*before, CLOCK} - {f"{RUN}/{mine}"})


def test_addresses_in_object_storage_are_known_by_their_schemes():
    assert all(map(is_object_address, ("s3://b/p", "gs://b", "az://c/p", "S3://b")))
    assert not any(map(is_object_address, (None, "", "s3", "/s3://b", "http://b", "file:///x", "out")))


@pytest.mark.parametrize(
    "address", ["s3://", "s3://key@bucket/x", "s3://b:1/x", "s3://b/x?y=1", "s3://b/x#y", "s3://b/\x1bx", "file:///x"]
)
def test_an_address_is_a_bucket_and_a_prefix_and_no_more(address):
    with pytest.raises(UsageError):
        Bucket(address)


def test_without_the_extra_it_is_said_how_to_get_it():
    code = (
        "import sys; sys.modules['obstore.store'] = None; from privacy_toolkit.access.placing import Bucket;"
        "from privacy_toolkit.core.model import UsageError\n"
        "try: Bucket('s3://b/p')\n"
        "except UsageError as error: print(error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "Install it: pip install 'talonone-privacy-toolkit[objects]'"
