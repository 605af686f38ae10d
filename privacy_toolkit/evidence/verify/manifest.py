"""The files of a pack against ``SHA256SUMS``, and ``SHA256SUMS`` against its signature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.errors import BadPack
from privacy_toolkit.evidence.sums import decode_sums
from privacy_toolkit.evidence.verify.findings import Check, Code, SignerFound, Unusable
from privacy_toolkit.evidence.verify.folder import PackFolder
from privacy_toolkit.evidence.verify.trust import Trust
from privacy_toolkit.signatures.sshsig import PACK_NAMESPACE

#: What every pack has, and ``SHA256SUMS`` has to name. Approval and ``earlier`` depend on the run.
REQUIRED = (
    files.REPORT_HTML,
    files.REPORT_JSON,
    files.REPORT_SCHEMA,
    files.ROW_SCHEMA,
    files.ROWS,
    files.ROWS_PARQUET,
    files.EXCEPTIONS,
    files.CHECKPOINT,
    files.VERIFY,
)
#: What every pack has since the third format of the report.
REQUIRED_SINCE = (files.REJECTED, files.PLAN)
#: ``SHA256SUMS`` of a pack with more than a thousand earlier editions is not as large.
LARGEST_SUMS = 1024 * 1024
#: What no sums can name, since it depends on them.
OUTSIDE = frozenset({files.SUMS, files.SIGNATURE})


@dataclass(slots=True)
class Manifest:
    """``SHA256SUMS`` as found. ``data`` is None where it can't be read, ``sums`` empty where it makes no sense."""

    data: bytes | None = None
    sums: dict[str, str] = field(default_factory=dict)
    signer: SignerFound | None = None
    signed: bool = False


def read_manifest(pack: PackFolder, manifest: Manifest, check: Check) -> None:
    """Read ``SHA256SUMS`` into ``manifest`` and compare its names with the files that are there.

    Raises:
        Unusable: it can't be read or makes no sense; that was noted.
    """
    manifest.data = pack.text(files.SUMS, LARGEST_SUMS)
    try:
        manifest.sums = decode_sums(manifest.data)
    except BadPack as error:
        pack.note(Code.NOT_CANONICAL, files.SUMS, error.message)
        raise Unusable from None
    check.words = f"SHA256SUMS is written as it should be and names {len(manifest.sums)} files; no other file is there."
    required = {files.REMOVAL, files.CHECKPOINT} if files.REMOVAL in manifest.sums else set(REQUIRED)
    for name in sorted(required - manifest.sums.keys()):
        pack.note(Code.MISSING, name, "SHA256SUMS does not name it, and every pack has it.")
    for name in sorted(OUTSIDE & manifest.sums.keys()):
        pack.note(Code.NOT_CANONICAL, files.SUMS, f"It names {name}, which can't be named there.")
    for name in sorted(pack.files.keys() - manifest.sums.keys() - OUTSIDE):
        pack.note(Code.UNLISTED, name, "SHA256SUMS does not name this file: it is no part of the pack.")
    for name in sorted(set(pack.folders) - _parents(manifest.sums)):
        pack.note(Code.UNLISTED, name, "SHA256SUMS names no file in this folder: it is no part of the pack.")


def _parents(names: Iterable[str]) -> set[str]:
    """The folders in which files of these names lie; none lies deeper than two."""
    return {"/".join(parts[:k]) for name in names for parts in [name.split("/", 3)] for k in range(1, len(parts))}


def check_complete(pack: PackFolder, manifest: Manifest) -> None:
    """Make sure that a pack of today's format has what every one has; for one of the format before see ``REQUIRED``."""
    for name in REQUIRED_SINCE:
        if name not in manifest.sums:
            pack.note(Code.MISSING, name, "SHA256SUMS does not name it, and every pack of this format has it.")


def compare_digests(pack: PackFolder, manifest: Manifest) -> Iterator[None]:
    """Read each file that is named and compare its digest; pauses after each."""
    for name, wanted in manifest.sums.items():
        try:
            if pack.digest(name) != wanted:
                pack.note(Code.HASH_DIFFERS, name, "Its SHA-256 is not the one in SHA256SUMS: it was changed.")
        except Unusable:
            pass  # it was noted, and the other files are still to be read
        yield


def check_signature(pack: PackFolder, manifest: Manifest, trust: Trust, check: Check) -> None:
    """Verify the signature of ``SHA256SUMS``, if there is one.

    Raises:
        Unusable: it does not hold; that was noted.
    """
    manifest.signed = files.SIGNATURE in pack.files
    if not manifest.signed:
        if trust.signers is None:
            check.skip("This pack is not signed: whoever changed it could have made everything in it anew.")
        else:
            check.words = "The signature of SHA256SUMS."
            pack.note(Code.UNSIGNED, files.SIGNATURE, "This pack is not signed, and allowed signers were given.")
        return
    check.words = f"The signature of SHA256SUMS, made for {PACK_NAMESPACE}."
    if manifest.data is None:
        raise Unusable
    manifest.signer = trust.judge(pack, (files.SUMS, manifest.data), files.SIGNATURE, PACK_NAMESPACE)
    key = manifest.signer.fingerprint
    if manifest.signer.allowed is None:
        check.words += f" It was made with the key {key}. No allowed signers were given: nobody vouches for this key."
    elif manifest.signer.allowed:
        check.words += f" It was made with the key {key}, which the allowed signers list."
