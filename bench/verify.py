"""How long verifying the pack of a large run takes, and in how much memory: ``python bench/verify.py [--subjects N]``.

The pack is made of a synthetic run and is on disk before the clock starts. Aims: 1,000,000 subjects in under 40 s,
in less than 250 MB. The page cache is warm, as it is for anyone who has just copied the pack.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import tempfile
import time
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from synthetic import make_run

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.evidence.verify.manifest import Trust
from privacy_toolkit.evidence.verify.rows import compare_apart, compare_here
from privacy_toolkit.evidence.verify.verifier import Verifier, verify_pack
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.reader import JournalReader

SHARES = {
    Outcome.NOTHING_HELD: 0.03,
    Outcome.ON_HOLD: 0.01,
    Outcome.FAILED: 0.002,
    Outcome.UNVERIFIED: 0.004,
    Outcome.RESIDUAL: 0.001,
    Outcome.RETRYABLE: 0.006,
    Outcome.UNKNOWN: 0.003,
}
TRUST = Trust(None, datetime.now(UTC))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--profile", action="store_true", help="show where the time of this process goes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        run, pack = Path(folder) / "run", Path(folder) / "pack"
        processes = get_context("spawn")  # so that the memory of one is not counted with another
        steps = [(prepare, (run, arguments.subjects)), (make, (run, pack)), (parts, (pack,))]
        steps.append((measure, (pack, arguments.times)))
        if arguments.profile:
            steps.append((profile, (pack,)))
        for work, values in steps:
            process = processes.Process(target=work, args=values)
            process.start()
            process.join()


def prepare(run: Path, size: int) -> None:
    mix = {outcome: int(size * share) for outcome, share in SHARES.items()}
    make_run(run, {Outcome.ERASED: size - sum(mix.values())} | mix)


def make(run: Path, pack: Path) -> None:
    with JournalReader(run) as journal:
        write_pack(journal, pack, chain=Chain(FolderChain(pack.parent / "chain")))
    for path in sorted(pack.iterdir()):
        print(f"  {path.name:<20}{path.stat().st_size / 1e6:>10.2f} MB")


def parts(pack: Path) -> None:
    """What each step takes alone, everything in one process."""
    verifier = Verifier(pack, TRUST, compare=compare_here)
    last, seen = time.perf_counter(), 0
    for _ in verifier.steps():
        now, names = time.perf_counter(), [check.name for check in verifier.findings.checks]
        if now - last > 0.05:
            print(f"  {now - last:>6.1f} s  up to {names[seen - 1] if seen else ''} .. {names[-1]}")
        last, seen = now, len(names)
    print(f"  {time.perf_counter() - last:>6.1f} s  parquet")
    print(f"one process after the other: peak {_peak(resource.RUSAGE_SELF):,.0f} MB")


def measure(pack: Path, times: int) -> None:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        found = verify_pack(pack, TRUST, compare=compare_apart)
        taken.append(time.perf_counter() - started)
        if not found.valid:
            print(found.problems)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    busy = [(use.ru_utime + use.ru_stime) / times for use in usage]
    print(f"verify: {', '.join(f'{seconds:.1f}' for seconds in taken)} s, median {median(taken):.1f} s")
    print(f"processor time: {busy[0]:.1f} s and {busy[1]:.1f} s in the two processes")
    print(f"memory: peak {_peak(resource.RUSAGE_SELF):,.0f} MB and {_peak(resource.RUSAGE_CHILDREN):,.0f} MB")


def profile(pack: Path) -> None:
    profiler = cProfile.Profile()
    profiler.runcall(verify_pack, pack, TRUST, compare=compare_apart)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(20)


def _peak(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


if __name__ == "__main__":
    main()
