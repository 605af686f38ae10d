"""Showing an auditor which input a pack is about: the pack has its digest under a key alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from privacy_toolkit.engine.plan import plan_of
from privacy_toolkit.errors import UsageError
from privacy_toolkit.evidence.chain import Link
from privacy_toolkit.evidence.errors import BadPack
from privacy_toolkit.evidence.files import REPORT_JSON
from privacy_toolkit.evidence.receipts import secret_of
from privacy_toolkit.evidence.sums import decode_sums, hash_bytes
from privacy_toolkit.files import read_regular
from privacy_toolkit.inputs.files import fingerprint
from privacy_toolkit.journal.reading import RunReader
from privacy_toolkit.reporting.pseudonyms import file_key, keyed_digest

_INPUT = "input"


@dataclass(frozen=True, slots=True)
class Opening:
    """What leads from an input to its digest in a pack.

    Attributes:
        run_id: the run that the pack is about.
        key: the key of the input's digest, 32 bytes. It opens no row.
        keyed_sha256: ``input.keyed_sha256`` of ``report.json``, in hexadecimal digits.
        command: prints it, given the input under the name INPUT; for a shell with openssl and sha256sum.
    """

    run_id: str
    key: bytes
    keyed_sha256: str
    command: str


class _Digest(msgspec.Struct, frozen=True):
    keyed_sha256: str


class _Part(msgspec.Struct, frozen=True):
    """The part of ``report.json`` that matters here."""

    run_id: str
    input: _Digest


def opening_of(journal: RunReader, pack: Path, link: Link, path: Path) -> Opening:
    """Open the digest of the input, after checking that this is the input of the run and that the pack has its digest.

    Args:
        journal: the run that the pack is about.
        pack: the folder of the pack.
        link: what binds the pack.
        path: the input; for a folder of Parquet files the folder.

    Raises:
        RefusedError: the run was purged.
        UsageError: this is not the input, or it can't be read.
        BadPack: the pack has another digest.
    """
    secret, planned = secret_of(journal), plan_of(journal).input
    sha256 = _fingerprint(path)
    if not planned.is_of(sha256, journal.plan_key, _INPUT):
        raise UsageError(
            "This is not the input of that run, or it was changed since.",
            "It has to be the same to the byte, compressed if it was compressed.",
            code="other_input",
        )
    key = secret if planned.sha256 else journal.plan_key or b""  # plans of the first format have a plain digest
    keyed = keyed_digest(key, _INPUT, sha256)
    if _reported(pack, link) != _Part(journal.run_id, _Digest(keyed)):
        raise BadPack(
            "The pack does not have the digest of this run's input.", "Check it: privacy-toolkit verify PACK."
        )
    opening = file_key(key, _INPUT)
    return Opening(journal.run_id, opening, keyed, _command(opening, is_folder=path.is_dir()))


def _reported(pack: Path, link: Link) -> _Part:
    try:
        data = read_regular(pack / REPORT_JSON)
    except OSError as error:
        raise UsageError(f"The report of the pack can't be read: {error.strerror}.", "Is the pack complete?") from None
    try:
        if hash_bytes(data) == decode_sums(link.sums).get(REPORT_JSON):
            return msgspec.json.decode(data, type=_Part)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    raise BadPack("The report of the pack was changed.", "Check it: privacy-toolkit verify PACK.")


def _fingerprint(path: Path) -> str:
    try:
        return fingerprint(path)
    except OSError as error:
        raise UsageError(f"The input can't be read: {error.strerror}.", "Name another file.") from None


def _command(key: bytes, *, is_folder: bool) -> str:
    digest = "cd INPUT && LC_ALL=C sha256sum [!._]* | sha256sum" if is_folder else "sha256sum INPUT"
    return f'printf %s "$({digest} | cut -c1-64)" | openssl dgst -sha256 -mac HMAC -macopt hexkey:{key.hex()}'
