"""privacy-toolkit: erasure, access and coupon batches on the Talon.One Integration API.

``from privacy_toolkit import Toolkit`` is the door for jobs and runs, ``Client`` the one for single calls. Their names
are resolved on first use, so that ``privacy-toolkit --help`` loads neither an HTTP stack nor pandas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from privacy_toolkit.core.privacy import __version__

if TYPE_CHECKING:
    from privacy_toolkit.app.ongoing import NotSettledError, Remark, Run
    from privacy_toolkit.app.toolkit import Toolkit
    from privacy_toolkit.config.settings import ExecutionOptions
    from privacy_toolkit.http.exchange import Pacer
    from privacy_toolkit.inputs.options import InputOptions
    from privacy_toolkit.talonone.addresses import Credentials, Signer
    from privacy_toolkit.talonone.client import Client, SyncClient, Timeouts
    from privacy_toolkit.talonone.operations import Generation

_PLACES = {
    **dict.fromkeys(
        ("Client", "Credentials", "Generation", "Pacer", "Signer", "SyncClient", "Timeouts"), "talonone.client"
    ),
    **dict.fromkeys(("NotSettledError", "Run", "Remark"), "app.ongoing"),
    "ExecutionOptions": "config.settings",
    "InputOptions": "inputs.options",
    "Toolkit": "app.toolkit",
}
__all__ = [
    "Client",
    "Credentials",
    "ExecutionOptions",
    "Generation",
    "InputOptions",
    "NotSettledError",
    "Pacer",
    "Remark",
    "Run",
    "Signer",
    "SyncClient",
    "Timeouts",
    "Toolkit",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name in _PLACES:
        return getattr(importlib.import_module(f"privacy_toolkit.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
