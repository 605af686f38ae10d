"""What a signature is for. A signature made for one of these is worth nothing for the other."""

from __future__ import annotations

from typing import Final

PACK_NAMESPACE: Final = "privacy-toolkit-audit-pack@v1"
APPROVAL_NAMESPACE: Final = "privacy-toolkit-plan-approval@v1"
