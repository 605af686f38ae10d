"""Reading in a process of its own: what it loads, its standard input, its own peak of memory."""

import json
import subprocess
import sys

import pytest

PIPE = """
import json, sys, tempfile
from pathlib import Path
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import read_input
with read_input(sys.argv[1], InputOptions(), spool_folder=Path(tempfile.gettempdir())) as scan:
    ids = [id_ for page in scan.subjects() for _, id_ in page]
    print(json.dumps([scan.summary.read, scan.summary.duplicates, ids]))
"""
LOADED = """
import json, sys
import privacy_toolkit.inputs.scan, privacy_toolkit.inputs.lists
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def run(code, *args, **options):
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, check=True, timeout=60, **options)
    assert done.stderr == b""
    return json.loads(done.stdout)


def test_importing_loads_no_heavy_library():
    assert set(run(LOADED)) & {"numpy", "pandas", "pyarrow", "zstandard"} == set()


def test_standard_input_is_a_pipe_like_any_file():
    ids = [f"c-{number}" for number in range(5000)]
    data = "\r\n".join(["customer_id,x", *(f"{id_},\u00e4" for id_ in [*ids, *ids])]).encode()
    assert run(PIPE, "-", input=data) == [10_000, 5000, ids]


def test_csv_is_read_without_pyarrow(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id\na\n", encoding="utf-8")
    code = PIPE + "\nassert 'pyarrow' not in sys.modules"
    assert run(code, str(path)) == [1, 0, ["a"]]


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_result_does_not_depend_on_the_key_of_the_hash(tmp_path, monkeypatch, seed):
    path = tmp_path / "a.csv"
    path.write_text("id\nb\na\nb\na\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONHASHSEED", seed)
    assert run(PIPE, str(path)) == [4, 2, ["b", "a"]]
