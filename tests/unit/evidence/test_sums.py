import contextlib
import os
import subprocess
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_toolkit.evidence.files import NAMES, BadPack, decode_sums, encode_sums, hash_bytes, hash_file

A, B = "0a" * 32, "1b" * 32
EARLIER = st.from_regex(r"earlier/[1-9][0-9]{0,7}/(checkpoint\.txt|SHA256SUMS|SHA256SUMS\.sig)", fullmatch=True)
ALL = st.one_of(st.sampled_from(sorted(NAMES)), EARLIER)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)


def test_sums_are_sorted_by_the_bytes_of_the_names():
    sums = {"rows.jsonl": A, "report.json": B, "earlier/3/SHA256SUMS": A, "VERIFY.txt": B}
    said = f"{B}  VERIFY.txt\n{A}  earlier/3/SHA256SUMS\n{B}  report.json\n{A}  rows.jsonl\n"
    assert encode_sums(sums).decode() == said


@given(st.dictionaries(ALL, DIGESTS, min_size=1))
def test_what_is_written_is_read_again(sums):
    assert decode_sums(encode_sums(sums)) == sums


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        ".hidden",
        "a/.hidden",
        "-c",
        "a b",
        "a\\b",
        "a\nb",
        "\u00e4",
        "notes.txt",
        "a/" * 100_000 + "a",
        "a" * 200_000,
        "earlier/1/rows.jsonl",
        "earlier/0/SHA256SUMS",
        "earlier/1/x/SHA256SUMS",
    ],
)
def test_names_that_no_pack_has_are_neither_written_nor_read(name):
    with pytest.raises(ValueError, match="can't stand"):
        encode_sums({name: A})
    with pytest.raises(BadPack):
        decode_sums(f"{A}  {name}\n".encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"{A}  rows.jsonl",
        f"{A}  rows.jsonl\r\n",
        f"{A} *rows.jsonl\n",
        f"{A}   rows.jsonl\n",
        f"{A.upper()}  rows.jsonl\n",
        f"{A[1:]}  rows.jsonl\n",
        f"\\{A}  rows.jsonl\n",
        f"# comment\n{A}  rows.jsonl\n",
        f"{A}  rows.jsonl\n\n",
        f"{A}  rows.parquet\n{A}  rows.jsonl\n",
        f"{A}  rows.jsonl\n{A}  rows.jsonl\n",
        f"{A}  rows.jsonl\n{B}  rows.jsonl\n",
        f"SHA256 (rows.jsonl) = {A}\n",
    ],
)
def test_sums_that_this_toolkit_would_not_write_are_refused(text):
    with pytest.raises(BadPack):
        decode_sums(text.encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    with pytest.raises(BadPack):
        decode_sums(data)


def test_every_changed_byte_gives_other_sums_or_none():
    sums = {"rows.jsonl": A, "earlier/1/SHA256SUMS": B}
    data = encode_sums(sums)
    for position in range(len(data)):
        for value in {0, 10, 32, 48, 97, 255, data[position] ^ 1} - {data[position]}:
            changed = data[:position] + bytes([value]) + data[position + 1 :]
            with contextlib.suppress(BadPack):
                assert decode_sums(changed) != sums


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    content = b"row\n" * 500_000
    (tmp_path / "rows").write_bytes(content)
    assert hash_file(tmp_path / "rows") == sha256(content).hexdigest() == hash_bytes(content)


def test_links_folders_and_pipes_are_not_hashed(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "."):
        with pytest.raises(OSError, match=r"levels of symbolic links|regular file|directory"):
            hash_file(tmp_path / name)


def test_the_tool_of_the_system_agrees(tmp_path, sha256sum):
    (tmp_path / "earlier" / "1").mkdir(parents=True)
    for name in ("rows.jsonl", "earlier/1/SHA256SUMS"):
        (tmp_path / name).write_text(name)
    sums = {name: hash_file(tmp_path / name) for name in ("earlier/1/SHA256SUMS", "rows.jsonl")}
    (tmp_path / "SHA256SUMS").write_bytes(encode_sums(sums))
    made = subprocess.run([sha256sum, *sorted(sums)], cwd=tmp_path, capture_output=True, check=True)
    assert made.stdout == encode_sums(sums)
    checked = subprocess.run([sha256sum, "-c", "--strict", "SHA256SUMS"], cwd=tmp_path, capture_output=True, check=True)
    assert checked.stdout == b"earlier/1/SHA256SUMS: OK\nrows.jsonl: OK\n"
