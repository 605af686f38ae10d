"""Reading an input until its counts are known: time and peak memory, each in its own process.

``python bench/inputs.py`` prints a Markdown table; ``--rows N`` measures other sizes than 1 and 10 million,
``--shapes`` some shapes alone, ``--rounds N`` gives medians. The peak is that of the whole process, interpreter and
libraries included (``ru_maxrss``).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from privacy_toolkit.inputs.scan import read_input

SIZES = (1_000_000, 10_000_000)
#: The share of rows whose id is new, and whether columns say something of the request.
SHAPES = {
    "distinct": (1.0, False),
    "a tenth repeated": (0.9, False),
    "each twice": (0.5, False),
    "distinct, with requests": (1.0, True),
    "each twice, with requests": (0.5, True),
}


def write_csv(path: Path, rows: int, shape: str) -> None:
    """Ids as customer systems make them, in no order; the same file every time.

    Where requests are said, the later row of an id is the earlier request: the most there is to amend.
    """
    share, requests = SHAPES[shape]
    distinct = int(rows * share)
    with path.open("w", encoding="utf-8") as file:
        file.write("customer_id,requested_at,ticket\n" if requests else "customer_id,noted_at\n")
        for number in range(rows):
            # An odd factor modulo a power of two maps different numbers to different ids.
            id_ = number % distinct * 0x9E3779B97F4A7C15 % (1 << 48)
            if requests:
                day = 20 - number // distinct - number % 10
                file.write(f"customer-{id_:012x},2026-11-{day:02}T09:30:00+01:00,DSR-2026-{number:07}\n")
            else:
                file.write(f"customer-{id_:012x},2026-11-20\n")


def write_parquet(source: Path, path: Path) -> None:
    """The same table as Parquet, by its own process, so that this one stays as it is measured."""
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
        requests = sum(1 for _ in scan.requests())
        asked = time.perf_counter()
    figures = {
        "cpu": time.process_time(),
        "counts": counted - begin,
        "walk": end - counted,
        "requests": asked - end,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "subjects": walked,
        "said": requests,
    }
    print(json.dumps(figures))


def row(path: Path, rows: int, shape: str, rounds: int) -> str:
    command = [sys.executable, __file__, "--measure", str(path)]
    measured = [json.loads(subprocess.check_output(command)) for _ in range(rounds)]
    took = {name: statistics.median(figures[name] for figures in measured) for name in measured[0]}
    size = path.stat().st_size / 1e6
    return (
        f"| {rows:,} | {shape} | {path.suffix[1:]}, {size:,.0f} MB | {took['subjects']:,} | {took['counts']:.2f} s |"
        f" {took['walk']:.2f} s | {took['requests']:.2f} s | {took['cpu']:.2f} s | {took['peak']:.0f} MB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how inputs are read.")
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--measure", metavar="FILE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure)
        return
    print(
        "| rows | ids | file | subjects | counts known | walk: subjects | walk: requests | CPU in all | peak memory |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for rows in given.rows:
            for shape in given.shapes:
                path = Path(folder) / "input.csv"
                write_csv(path, rows, shape)
                print(row(path, rows, shape, given.rounds), flush=True)
            table = path.with_suffix(".parquet")
            write_parquet(path, table)
            print(row(table, rows, shape, given.rounds), flush=True)


if __name__ == "__main__":
    main()
