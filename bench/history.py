"""What planning costs that has to know what earlier runs did: an export with --new-only, by how many there were.

``python -m bench.history [--runs 30] [--subjects 20000]`` prints seconds, for the first time and for the second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.core.model import Outcome
from privacy_toolkit.engine.planning import Order, check_not_applied, create, prepared
from privacy_toolkit.jobs import declaration
from privacy_toolkit.journal.records import Note, SubjectState
from privacy_toolkit.journal.state import open_state

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ENVIRON = {"PRIVACY_TOOLKIT_BASE_URL": "https://api.example.org", "PRIVACY_TOOLKIT_API_KEY": "k"}


def main() -> None:
    """Make the runs, then plan on top of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--subjects", type=int, default=20_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        settings = load_settings(Flags(state=str(folder / "state")), ENVIRON)
        for number in range(given.runs):
            _export(settings, folder, number, given.subjects)
        path = _list(folder, given.runs - 1, given.subjects)
        for what in ("first", "second", "third"):
            state = open_state(settings.state)
            began, used = time.perf_counter(), time.process_time()
            with prepared(_order(path, new_only=True), settings, state, NOW) as ready:
                held = len(ready.holds)
            took, spent = time.perf_counter() - began, time.process_time() - used
            again = time.perf_counter()
            check_not_applied(ready.plan, state)
            applied = time.perf_counter() - again
            print(f"{what}: planned in {took:.2f} s ({spent:.2f} s of processor time), {held:,} on hold;", end=" ")
            print(f"applied before? {applied * 1000:.0f} ms")


def _order(path: Path, *, new_only: bool) -> Order:
    parameters = {"lang": "en", "new_only": new_only}
    return Order(declaration("export"), str(path), parameters=parameters, out=str(path.parent / "out"))


def _list(folder: Path, number: int, subjects: int) -> Path:
    path = folder / f"list-{number}.csv"
    path.write_text("id\n" + "".join(f"customer-{number}-{k}\n" for k in range(subjects)))
    return path


def _export(settings: object, folder: Path, number: int, subjects: int) -> None:
    state = open_state(settings.state)
    with prepared(_order(_list(folder, number, subjects), new_only=False), settings, state, NOW) as ready:
        run_id = create(ready, state, NOW)
    done = SubjectState(Outcome.DONE, settled_at=int(NOW.timestamp() * 1e6))
    with state.open(run_id) as run:
        execution = run.begin_execution(1, "{}")
        for first in range(1, subjects + 1, 1000):
            run.record([Note(seq, (), done) for seq in range(first, min(first + 1000, subjects + 1))])
        run.end_execution(execution, 2, None)


if __name__ == "__main__":
    main()
