"""Reading an input until its counts are known: time and peak memory, each in a process of its own.

``python bench/inputs.py`` prints a Markdown table; ``--rows N`` measures other sizes than 1 and 10 million. The peak
is that of the whole process, interpreter and libraries included (``ru_maxrss``).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from privacy_toolkit.inputs.scan import read_input

SIZES = (1_000_000, 10_000_000)
SHAPES = ("distinct", "a tenth repeated", "each twice")


def write_csv(path: Path, rows: int, shape: str) -> None:
    """Ids as customer systems make them, in no order; the same file every time."""
    distinct = {"distinct": rows, "a tenth repeated": rows * 9 // 10, "each twice": rows // 2}[shape]
    with path.open("w", encoding="utf-8") as file:
        file.write("customer_id,requested_at\n")
        for number in range(rows):
            # An odd factor modulo a power of two maps different numbers to different ids.
            id_ = number % distinct * 0x9E3779B97F4A7C15 % (1 << 48)
            file.write(f"customer-{id_:012x},2026-11-20\n")


def write_parquet(source: Path, path: Path) -> None:
    """The same table as Parquet, by a process of its own, so that this one stays as it is measured."""
    code = (
        "import sys; from pyarrow import csv, parquet; stream = csv.open_csv(sys.argv[1]);"
        "writer = parquet.ParquetWriter(sys.argv[2], stream.schema); [writer.write_batch(b) for b in stream];"
        "writer.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(source), str(path)], check=True)


def measure(path: str) -> None:
    """Read one file in this process and print what it took."""
    begin = time.perf_counter()
    with read_input(path, spool_folder=Path(path).parent) as scan:
        counted = time.perf_counter()
        walked = sum(map(len, scan.subjects()))
        end = time.perf_counter()
    figures = {
        "cpu": time.process_time(),
        "counts": counted - begin,
        "walk": end - counted,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "subjects": walked,
    }
    print(json.dumps(figures))


def row(path: Path, rows: int, shape: str) -> str:
    took = json.loads(subprocess.check_output([sys.executable, __file__, "--measure", str(path)]))
    size = path.stat().st_size / 1e6
    return (
        f"| {rows:,} | {shape} | {path.suffix[1:]}, {size:,.0f} MB | {took['subjects']:,} | {took['counts']:.2f} s |"
        f" {took['walk']:.2f} s | {took['cpu']:.2f} s | {took['peak']:.0f} MB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how inputs are read.")
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    parser.add_argument("--measure", metavar="FILE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure)
        return
    print("| rows | ids | file | subjects | counts known | walk over the subjects | CPU in all | peak memory |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for rows in given.rows:
            for shape in SHAPES:
                path = Path(folder) / "input.csv"
                write_csv(path, rows, shape)
                print(row(path, rows, shape), flush=True)
            table = path.with_suffix(".parquet")
            write_parquet(path, table)
            print(row(table, rows, shape), flush=True)


if __name__ == "__main__":
    main()
