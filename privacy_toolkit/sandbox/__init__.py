"""A stand-in for the Talon.One Integration API on the loopback address, with faults; for fictitious data only."""

from __future__ import annotations

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.sandbox.faults import FaultKind, Faults, Outage
from privacy_toolkit.sandbox.store import SandboxSettings, Store
from privacy_toolkit.sandbox.wire import seed

try:
    from privacy_toolkit.sandbox.app import RunningSandbox, serve, start_in_thread
except ModuleNotFoundError as missing:
    if missing.name not in {"starlette", "uvicorn"}:
        raise
    raise UsageError(
        "The sandbox needs Starlette and uvicorn.",
        "Install them with: pip install 'talonone-privacy-toolkit[sandbox]'",
    ) from missing

__all__ = [
    "FaultKind",
    "Faults",
    "Outage",
    "RunningSandbox",
    "SandboxSettings",
    "Store",
    "seed",
    "serve",
    "start_in_thread",
]
