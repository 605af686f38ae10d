"""The toolkit under measurement, always through its command line, as its users run it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Server, Watched, watch

PROGRAM = str(Path(sys.executable).with_name("privacy-toolkit"))
UNLIMITED = 1_000_000  # requests per second: no pace that this machine could reach


def settings(server: Server, state: Path) -> dict[str, str]:
    """The environment that sends a run to the server and keeps its state in that folder."""
    return {
        "PRIVACY_TOOLKIT_BASE_URL": server.url,
        "PRIVACY_TOOLKIT_API_KEY": "benchmark",
        "PRIVACY_TOOLKIT_STATE": str(state),
    }


def erase(
    server: Server,
    ids: Path,
    state: Path,
    *,
    subjects: int,
    concurrency: int = 64,
    rate: int = UNLIMITED,
    kill_when: Callable[[], bool] | None = None,
) -> Watched:
    """Erase all customers of the file."""
    command = [PROGRAM, "erase", str(ids), "--json", "--quiet", "--confirm", f"erase {subjects} from {server.name}"]
    command += ["--concurrency", str(concurrency), "--rate", str(rate)]
    return watch(command, settings(server, state), kill_when)


def resume(server: Server, state: Path, *, subjects: int) -> Watched:
    """Carry on with the one run of the state folder, to its end."""
    listed = watch([PROGRAM, "runs", "list", "--json"], settings(server, state))
    if listed.returncode != 0:
        raise SystemExit(f"the runs can't be listed: {listed.stdout}")
    run_id = json.loads(listed.stdout)["runs"][0]["run_id"]
    ended = watch([PROGRAM, "runs", "resume", run_id, "--json", "--quiet"], settings(server, state))
    check_complete(ended, subjects)
    return ended


def check_complete(ended: Watched, subjects: int) -> None:
    """A figure counts only if the run says that every subject was erased."""
    if ended.returncode != 0:
        raise SystemExit(f"the run ended with {ended.returncode}: {ended.stdout}")
    result: dict[str, Any] = json.loads(ended.stdout)
    if result["verdict"] != "complete" or result["outcomes"].get("erased") != subjects:
        raise SystemExit(f"not all of {subjects} were erased: {result['verdict']}, {result['outcomes']}")
