"""Files of a few hundred bytes that stand for gigabytes: a clear error, in the memory that is promised."""

import gzip
import subprocess
import sys
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs import files as compression
from privacy_toolkit.inputs import parquet
from privacy_toolkit.inputs import scan as tally
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import read_input
from tests.support import workbooks

#: In a process of its own: what it says, and the most memory that it had, in MB.
READ = """
import sys
from pathlib import Path
from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import read_input
try:
    read_input(sys.argv[1], InputOptions(), spool_folder=Path(sys.argv[1]).parent).close()
    print("read")
except InputError as error:
    print(error.message)
# Not ru_maxrss, in which the process counts that started this one.
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
print(int(peak.split()[1]) // 1024)
"""
PROMISED = 250  # MB
BLOCK = 8_000_000


def repeated(head, unit, times=200):
    yield head
    block = unit * (BLOCK // len(unit))
    for _ in range(times):
        yield block


def zst(path, pieces, **options):
    packer = zstandard.ZstdCompressor(level=3, **options).compressobj()
    with path.open("wb") as file:
        for piece in pieces:
            file.write(packer.compress(piece))
        file.write(packer.flush())


def gz(path, pieces):
    with gzip.open(path, "wb", 1) as file:
        for piece in pieces:
            file.write(piece)


def write_parquet(path, values, **options):
    pq.write_table(pa.table({"customer_id": values}), path, compression="zstd", **options)


def xlsx(path, **parts):
    """A workbook of which one part is made of a head and blocks."""
    workbooks.write(path, [["customer_id"], ["a"]], shared=())
    with zipfile.ZipFile(path) as archive:
        former = {name: archive.read(name) for name in archive.namelist()}
    names = {"sheet": "xl/worksheets/sheet1.xml", "shared": "xl/sharedStrings.xml", "styles": "xl/styles.xml"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in former.items():
            pieces = next((made for part, made in parts.items() if names[part] == name), [content])
            with archive.open(name, "w", force_zip64=True) as part:
                for piece in pieces:
                    part.write(piece)


ROW = b'<row><c t="inlineStr"><is><t>customer_id</t></is></c></row>'
SHEET = f"<worksheet {workbooks.MAIN}><sheetData>".encode()

BOMBS = {
    "rows.xlsx": lambda path: xlsx(path, sheet=repeated(SHEET + ROW, b"<row><c><v>1</v></c></row>", 10)),
    "one row.xlsx": lambda path: xlsx(path, sheet=repeated(SHEET + b"<row>", b"<c><v>1</v></c>", 10)),
    "one cell.xlsx": lambda path: xlsx(path, sheet=repeated(SHEET + b"<row><c><v>", b"1", 10)),
    "one tag.xlsx": lambda path: xlsx(path, sheet=repeated(SHEET + b'<row a="', b"1", 10)),
    "shared.xlsx": lambda path: xlsx(path, shared=repeated(b"<sst>", b"<si><t>" + b"x" * 1000 + b"</t></si>", 10)),
    "shared, empty.xlsx": lambda path: xlsx(path, shared=repeated(b"<sst>", b"<si>" + b" " * 90 + b"</si>", 10)),
    "styles.xlsx": lambda path: xlsx(path, styles=repeated(b"<s><cellXfs>", b"<xf/>", 10)),
    "deep.xlsx": lambda path: xlsx(path, styles=repeated(b"<s>", b"<x>", 10)),
    "one line.csv.zst": lambda path: zst(path, repeated(b"customer_id\n", b"x")),
    "one line.csv.gz": lambda path: gz(path, repeated(b"customer_id\n", b"x", 50)),
    "open quote.csv.zst": lambda path: zst(path, repeated(b'customer_id\n"', b"x\n")),
    "one record.csv.zst": lambda path: zst(path, repeated(b"customer_id\n", b'"a\n",')),
    "long rows.csv.zst": lambda path: zst(path, repeated(b"customer_id,b\n", b"x," + b"y" * 100_000 + b"\n")),
    "one line.jsonl.zst": lambda path: zst(path, repeated(b'{"customer_id":"a"}\n', b"[],")),
    "dictionary.parquet": lambda path: write_parquet(
        path, pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), ["x" * 1_000_000]), store_schema=False
    ),
    "beginnings.parquet": lambda path: write_parquet(
        path, ["x" * 150_000] * 2_000, use_dictionary=False, column_encoding={"customer_id": "DELTA_BYTE_ARRAY"}
    ),
    "one value.parquet": lambda path: write_parquet(
        path, ["x" * 300_000_000], use_dictionary=False, write_statistics=False
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_no_more_memory_than_is_promised(tmp_path, name):
    path = tmp_path / name
    BOMBS[name](path)
    assert path.stat().st_size < 3_000_000
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True)
    said, peak = done.stdout.splitlines()
    assert said.startswith(name)
    assert int(peak) < PROMISED


def refusal(path):
    with pytest.raises(InputError) as told:
        read_input(str(path), InputOptions(), spool_folder=path.parent)
    return told.value.message


def test_a_window_that_is_too_large_is_said_before_it_is_made(tmp_path):
    path = tmp_path / "a.csv.zst"
    large = zstandard.ZstdCompressionParameters(window_log=28)
    packer = zstandard.ZstdCompressor(compression_params=large).compressobj()
    path.write_bytes(packer.compress(b"customer_id\nx\n") + packer.flush())
    assert "a window of more than 128 MB" in refusal(path)


def test_frames_that_are_passed_over_and_sizes_of_all_kinds_are_read(tmp_path):
    skipped = b"\x5a\x2a\x4d\x18" + (300_000).to_bytes(4, "little") + bytes(300_000)
    text = b"customer_id\n" + b"".join(b"%d\n" % number for number in range(50_000))
    for options in ({}, {"write_checksum": True}, {"write_content_size": False}, {"level": 19}):
        data = skipped + zstandard.ZstdCompressor(**options).compress(text) + skipped
        assert b"".join(compression.decompressed([data], ".zst", "x")) == text
    with pytest.raises(InputError, match="cut off"):
        list(compression.decompressed([skipped[:-1]], ".zst", "x"))


def test_pieces_are_small_whatever_they_stand_for(tmp_path):
    for suffix, pack in ((".zst", zstandard.compress), (".gz", gzip.compress)):
        pieces = compression.decompressed([pack(bytes(20_000_000))], suffix, "x")
        assert max(map(len, pieces)) <= 1 << 18


def test_text_that_is_far_longer_than_its_compressed_form_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.csv.zst"
    zst(path, repeated(b"customer_id\n", b"x\n", 1))
    monkeypatch.setattr(compression, "BEGUN", 1 << 20)
    assert "200 times as long" in refusal(path)


def test_more_rows_than_can_be_kept_apart_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("customer_id\n" + "x\n" * 5_000)
    monkeypatch.setattr(tally, "MOST_ROWS", 4_000)
    assert "more than 4,000 rows" in refusal(path)


def test_long_rows_of_parquet_are_read_a_few_at_a_time(tmp_path):
    path = tmp_path / "a.parquet"
    rows = {
        "customer_id": [f"{number}" for number in range(600)],
        "note": [f"{number}" * 60_000 for number in range(600)],
    }
    pq.write_table(pa.table(rows), path, use_dictionary=False)
    with pq.ParquetFile(path) as file:
        assert parquet._rows_at_once(file.metadata, 1_000) < 200
        assert parquet._rows_at_once(file.metadata, 5) == 5
    with read_input(str(path), InputOptions(), spool_folder=tmp_path) as scan:
        assert scan.summary.subjects == 600
