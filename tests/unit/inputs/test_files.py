"""Files as bytes: kinds by name, fingerprints, compression, and everything that keeps a file from being read."""

import gzip
import hashlib
import io
import os

import pytest
import zstandard

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.files import ByteSource, FileKind, decompressed, kind_of, open_bytes

PACK = {".gz": gzip.compress, ".zst": zstandard.compress}
TEXT = b"customer_id\n" + b"".join(b"c-%d\n" % number for number in range(500))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("-", FileKind("csv", ",")),
        ("a.csv", FileKind("csv", ",")),
        ("2026.11.23.CSV", FileKind("csv", ",")),
        ("a.txt", FileKind("csv", ",")),
        ("a.tsv", FileKind("csv", "\t")),
        ("a.csv.gz", FileKind("csv.gz", ",", ".gz")),
        ("a.tsv.ZST", FileKind("csv.zst", "\t", ".zst")),
        ("a.parquet", FileKind("parquet")),
        ("a.snappy.pq", FileKind("parquet")),
    ],
)
def test_a_file_is_what_its_name_says(name, kind):
    assert kind_of(name) == kind


def test_a_folder_is_parquet_whatever_it_is_called(tmp_path):
    (tmp_path / "parts.csv").mkdir()
    assert kind_of(str(tmp_path / "parts.csv")) == FileKind("parquet")


@pytest.mark.parametrize("name", ["a.docx", "a", "a.gz", "a.parquet.gz", ".csv", "a.csv.bz2"])
def test_another_kind_of_file_is_refused_with_what_is_read(put, refuse, name):
    error = refuse(put("id\n1\n", name))
    assert error.message == f"{name} is of a kind that is not read."
    assert ".parquet" in error.hint


@pytest.mark.parametrize("name", ["missing.csv", "missing.parquet", "missing", "missing.csv.zst"])
def test_a_missing_file_is_named(tmp_path, refuse, name):
    message = refuse(str(tmp_path / name)).message
    assert message.startswith(f"{name} ")
    assert "exist" in message or "No such file" in message


def test_bytes_are_hashed_and_counted_to_the_end_even_if_they_were_not_all_wanted():
    source = ByteSource(io.BytesIO(TEXT), "x")
    assert next(source.chunks(10)) == TEXT[:10]
    assert source.fingerprint() == (hashlib.sha256(TEXT).hexdigest(), len(TEXT))
    assert source.fingerprint() == (hashlib.sha256(TEXT).hexdigest(), len(TEXT))


class Broken(io.RawIOBase):
    """A file on a disk that gives up in the middle."""

    def __init__(self):
        self.reads = 0

    def read(self, _size=-1):
        self.reads += 1
        if self.reads > 1:
            raise OSError(5, "Input/output error")
        return b"customer_id\nsecret-1\n"


def test_a_disk_that_gives_up_is_an_error_and_not_the_end_of_the_file(refuse):
    error = refuse("-", stdin=Broken())
    assert error.message == "standard input can't be read: Input/output error."


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_compression_is_taken_off_over_several_members(suffix, size):
    data = PACK[suffix](TEXT) + PACK[suffix](b"") + PACK[suffix](b"more\n")
    assert b"".join(decompressed(cut(data, size), suffix, "x")) == TEXT + b"more\n"


def cut(data, size):
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_data_without_its_end_is_cut_off_wherever_it_ends(suffix):
    data = PACK[suffix](TEXT)
    for end in range(1, len(data)):
        with pytest.raises(InputError, match=r"x is (cut off|damaged)"):
            list(decompressed([data[:end]], suffix, "x"))


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("data", [b"customer_id\n1\n", b"\x00" * 100])
def test_what_is_not_compressed_is_damaged(suffix, data):
    with pytest.raises(InputError, match="x is damaged"):
        list(decompressed([data], suffix, "x"))


@pytest.mark.parametrize("suffix", PACK)
def test_the_fingerprint_of_a_compressed_file_is_that_of_the_file(put, read, suffix):
    data = PACK[suffix](b"id\n1\n2\n")
    done = read(put(data, f"a.csv{suffix}"))
    assert done.ids == ["1", "2"]
    assert (done.summary.sha256, done.summary.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert done.summary.format == f"csv{suffix}"


@pytest.mark.parametrize("change", ["longer", "shorter", "other"])
def test_a_file_that_is_written_to_while_it_is_read_is_no_list(tmp_path, change):
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT * 2)

    def read():
        with open_bytes(str(path)) as source:
            next(source.chunks(100))
            if change == "other":  # as long as before, and written a moment later
                found = path.stat()
                os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000))
            else:
                path.write_bytes(TEXT * (3 if change == "longer" else 1))
            source.fingerprint()

    with pytest.raises(InputError, match="was changed while it was read"):
        read()


def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT)
    with open_bytes(str(path)) as source:
        next(source.chunks(100))
        (tmp_path / "b.csv").write_bytes(b"customer_id\n")
        (tmp_path / "b.csv").replace(path)
        assert source.fingerprint() == (hashlib.sha256(TEXT).hexdigest(), len(TEXT))
