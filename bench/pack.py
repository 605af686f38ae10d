"""How long the pack of a large run takes, and in how much memory: ``python bench/pack.py [--subjects N]``.

The journal is synthetic and lies on disk before the clock starts. Aims (contract, section 6): 1,000,000 subjects in
under 60 s, report.html under 1 MB.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

from synthetic import make_run

from privacy_toolkit.journal.reading import RunReader
from privacy_toolkit.model import Outcome
from privacy_toolkit.reporting.pack import write_pack

SHARES = {
    Outcome.NOTHING_HELD: 0.03,
    Outcome.ON_HOLD: 0.01,
    Outcome.FAILED: 0.002,
    Outcome.UNVERIFIED: 0.004,
    Outcome.RESIDUAL: 0.001,
    Outcome.RETRYABLE: 0.006,
    Outcome.UNKNOWN: 0.003,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        run, pack = Path(folder) / "run", Path(folder) / "pack"
        processes = get_context("spawn")  # so that the memory of the first is not counted with the second
        for work, values in ((prepare, (run, arguments.subjects)), (measure, (run, pack))):
            process = processes.Process(target=work, args=values)
            process.start()
            process.join()


def prepare(run: Path, size: int) -> None:
    mix = {outcome: int(size * share) for outcome, share in SHARES.items()}
    make_run(run, {Outcome.ERASED: size - sum(mix.values())} | mix)


def measure(run: Path, pack: Path) -> None:
    before = _peak()
    started, busy = time.perf_counter(), time.process_time()
    with RunReader(run) as journal:
        report = write_pack(journal, pack).report
    taken, busy = time.perf_counter() - started, time.process_time() - busy
    print(f"{report.rows.subjects:,} subjects: {taken:.1f} s ({busy:.1f} s of processor time)")
    print(f"memory: peak {_peak():,.0f} MB, {_peak() - before:,.0f} MB of it while the pack was made")
    for path in sorted(pack.iterdir()):
        print(f"  {path.name:<16}{path.stat().st_size / 1e6:>10.2f} MB")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
