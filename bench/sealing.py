"""What sealing a run in PostgreSQL costs: processor time of this process for a subject, next to the same unsealed.

``python -m bench.sealing [SUBJECTS]`` makes runs one after the other, sealed and not, in turns, and reads all of each:
an erasure that is made, walked and reported, and a reservation, whose parties are walked as well. The figures are
medians over all turns; what the server takes is not in them.
"""

import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path

from privacy_toolkit.core.model import OPEN_OUTCOMES
from privacy_toolkit.journal.postgres.state import PostgresState
from privacy_toolkit.journal.records import Staged
from tests.support import postgres

TURNS = 7
PAGE = 1_000


def measured(state: PostgresState, run_id: str, subjects: int, *, parties: bool) -> float:
    """Give microseconds of processor time a subject."""
    given = [f"SUMMER-{number // 10:08d}" for number in range(subjects)]
    ids = [f"{secrets.token_hex(8)}@example.org" for _ in range(subjects)]
    pages = [
        [(k + 2, ids[k], *([given[k]] if parties else [])) for k in range(at, min(at + PAGE, subjects))]
        for at in range(0, subjects, PAGE)
    ]
    began = time.process_time()
    state.create(run_id, Staged(b"{}", 1, pages, party=(lambda _, code: code) if parties else None))
    with state.open(run_id) as run:
        if parties:
            found = sum(len(party) for some in run.parties(OPEN_OUTCOMES, PAGE) for party in some)
        else:
            found = sum(map(len, run.by_urgency(OPEN_OUTCOMES, lambda _: None)))
        read = sum(1 for _ in run.rows())
    used = time.process_time() - began
    if not found == read == subjects:
        raise SystemExit("Not all subjects were read.")
    return used * 1e6 / subjects


def main() -> None:
    """Measure, and print a table."""
    subjects = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    address = postgres.emptied("bench")
    with tempfile.TemporaryDirectory() as folder:
        states = {
            "unsealed": PostgresState(address),
            "sealed": PostgresState(address, key=Path(folder) / "state.key"),
        }
        for parties in (False, True):
            found: dict[str, list[float]] = {name: [] for name in states}
            for turn in range(TURNS + 1):
                for name, state in states.items():
                    took = measured(state, f"20260101-{turn:06d}-{name}-{int(parties)}", subjects, parties=parties)
                    if turn:  # the first one warms up
                        found[name].append(took)
            what = "with parties" if parties else "pages alone"
            for name, times in found.items():
                span = f"{min(times):.2f} to {max(times):.2f}"
                sys.stdout.write(f"{what:13} {name:9} {statistics.median(times):6.2f} µs a subject ({span})\n")


if __name__ == "__main__":
    main()
