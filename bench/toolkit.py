"""The toolkit under measurement, always through its command line, as its users run it."""

from __future__ import annotations

import atexit
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from harness import Server, Watched, watch

#: The name in signatures of the throw-away key.
SIGNER = "bench@example.org"
PROGRAM = str(Path(sys.executable).with_name("privacy-toolkit"))
UNLIMITED = 1_000_000  # requests per second: no pace that this machine could reach


def settings(server: Server, state: Path | str) -> dict[str, str]:
    """The environment that sends a run to the server and keeps its state in that folder or database."""
    return {
        "PRIVACY_TOOLKIT_BASE_URL": server.url,
        "PRIVACY_TOOLKIT_API_KEY": "benchmark",
        "PRIVACY_TOOLKIT_STATE": str(state),
        "PRIVACY_TOOLKIT_SIGNING_KEY_FILE": str(signing_key()),
        "PRIVACY_TOOLKIT_SIGNER": SIGNER,
        "XDG_STATE_HOME": str(signing_key().parent),  # where packs of a state in a database are put
    }


@cache
def signing_key() -> Path:
    """A throw-away key, so that packs are signed as they are in practice; it is gone with this program."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    form = PrivateFormat.OpenSSH
    key = Ed25519PrivateKey.generate()
    path = folder / "key"
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))
    (folder / "signers").write_bytes(
        SIGNER.encode() + b" " + key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
    )
    return path


def run(
    command: list[str],
    server: Server,
    state: Path | str,
    *,
    concurrency: int = 64,
    rate: int = UNLIMITED,
    is_job: bool = True,
    kill_when: Callable[[], bool] | None = None,
) -> Watched:
    """Carry out any job, or another command."""
    options = ["--quiet", "--concurrency", str(concurrency), "--rate", str(rate)] if is_job else []
    return watch([PROGRAM, *command, "--json", *options], settings(server, state), kill_when)


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
    command = ["erase", str(ids), "--confirm", f"erase {subjects} from {server.name}"]
    return run(command, server, state, concurrency=concurrency, rate=rate, kill_when=kill_when)


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
    check_result(ended, "erased", subjects)


def check_result(ended: Watched, outcome: str, subjects: int) -> None:
    """A figure counts only if the run says that every subject is in that outcome."""
    if ended.returncode != 0:
        raise SystemExit(f"the run ended with {ended.returncode}: {ended.stdout}")
    result: dict[str, Any] = json.loads(ended.stdout)
    if result["verdict"] != "complete" or result["outcomes"].get(outcome) != subjects:
        raise SystemExit(f"not all of {subjects} are {outcome}: {result['verdict']}, {result['outcomes']}")
