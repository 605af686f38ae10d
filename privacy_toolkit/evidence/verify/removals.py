"""A removal from the list of erased customers, in the place of a pack."""

from __future__ import annotations

import msgspec

from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.removal import FORMAT, Removal
from privacy_toolkit.evidence.verify.findings import Code, Unusable
from privacy_toolkit.evidence.verify.folder import PackFolder
from privacy_toolkit.evidence.verify.manifest import Manifest


def check_removal(pack: PackFolder, manifest: Manifest) -> None:
    """Check that a removal is written as one is, is signed by whom it names, and stands alone.

    Raises:
        Unusable: it is none; that was noted.
    """
    data = pack.text(files.REMOVAL)
    try:
        removal = msgspec.json.decode(data, type=Removal)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pack.note(Code.BAD_REPORT, files.REMOVAL, f"It is nothing of the format {FORMAT}.")
        raise Unusable from None
    if removal.encode() != data or removal.format != FORMAT:
        pack.note(Code.NOT_CANONICAL, files.REMOVAL, "It is not written as a removal is: indented, keys sorted.")
    for name in sorted(manifest.sums.keys() - {files.REMOVAL, files.CHECKPOINT}):
        pack.note(Code.UNLISTED, name, "A removal stands alone: this is no part of one.")
    signer = manifest.signer
    if removal.fingerprint != (signer and signer.fingerprint):
        pack.note(Code.SIGNER_DIFFERS, files.REMOVAL, "It names another key than the one that signed.")
