import hashlib
import stat

import pytest

from privacy_toolkit.reporting.sorting import SortedLines

KEYS = [hashlib.sha256(b"%d" % k).hexdigest() for k in range(500)]


@pytest.mark.parametrize("held", [1, 400, 10_000_000])
def test_lines_come_back_in_the_order_of_their_keys(tmp_path, held):
    lines = SortedLines(tmp_path / "sorting", held)
    for key in KEYS:
        lines.add(key, f"line of {key}\n".encode())
    assert b"".join(line for bucket in lines for line in bucket).decode().split("\n") == [
        *(f"line of {key}" for key in sorted(KEYS)),
        "",
    ]


def test_bucket_files_are_for_their_owner_only_and_go_away(tmp_path):
    lines = SortedLines(tmp_path / "sorting", 1)
    for key in KEYS:
        lines.add(key, b"x\n")
    files = list((tmp_path / "sorting").iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "sorting").stat().st_mode) == 0o700
    assert sum(len(bucket) for bucket in lines) == len(KEYS)
    assert list((tmp_path / "sorting").iterdir()) == []


def test_nothing_is_written_while_it_fits_in_memory(tmp_path):
    lines = SortedLines(tmp_path / "sorting")
    lines.add(KEYS[0], b"x\n")
    assert list(lines) == [[b"x\n"]]
    assert not (tmp_path / "sorting").exists()
