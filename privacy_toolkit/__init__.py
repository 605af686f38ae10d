"""privacy-toolkit: erasure, access and coupon batches on the Talon.One Integration API.

``from privacy_toolkit import Client, Credentials`` is the library's door; its names are resolved on first use so that
``privacy-toolkit --help`` does not load an HTTP stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy_toolkit.core import __version__

if TYPE_CHECKING:
    from privacy_toolkit.http.pacing import Pacer
    from privacy_toolkit.talonone.client import Client, SyncClient, Timeouts
    from privacy_toolkit.talonone.credentials import Credentials, Signer
    from privacy_toolkit.talonone.operations import Generation

__all__ = ["Client", "Credentials", "Generation", "Pacer", "Signer", "SyncClient", "Timeouts", "__version__"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from privacy_toolkit.talonone import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
