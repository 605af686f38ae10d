"""The audit pack of a run: a folder that is there completely or not at all."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from privacy_toolkit.core.durable import FolderPlace, probe, read_regular, write_file, write_files
from privacy_toolkit.core.errors import RefusedError, UsageError
from privacy_toolkit.core.model import Outcome, Reason
from privacy_toolkit.engine.plan import plan_of
from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.chain import Chain, Link
from privacy_toolkit.evidence.files import PackError
from privacy_toolkit.evidence.seal import Contents, Seal, hash_folder
from privacy_toolkit.jobs import job_of
from privacy_toolkit.journal.figures import StateCount
from privacy_toolkit.journal.store import RunReader
from privacy_toolkit.reporting.frames import RowSummary
from privacy_toolkit.reporting.html import render
from privacy_toolkit.reporting.report import build_report, moment_of, sums_differ
from privacy_toolkit.reporting.schema import Report, SignedBy
from privacy_toolkit.reporting.tables import REJECTED_HEADER, Case, csv_line
from privacy_toolkit.schemas import schema
from privacy_toolkit.signatures.keys import check_principal
from privacy_toolkit.signatures.signers import DocumentSigner

# The files of a pack that hold its rows: ``rows.jsonl``, ``rows.parquet`` and ``exceptions.csv``.


@dataclass(frozen=True, slots=True)
class RowFiles:
    """What was written.

    ``size`` is how many rows, ``root`` the root of the tree over ``rows.jsonl``. ``cases`` are the subjects that need
    attention, the first due first, or none of them where they are too many to be listed.
    """

    size: int
    root: bytes
    summary: RowSummary
    cases: list[Case]


def write_rows(building: Path, journal: RunReader, secret: bytes) -> RowFiles:
    """Write the rows of a run into the folder ``building``, durably and for their owner only.

    Rows are made in the order of the input and put down sorted in parts, by two processes if they are many; then the
    parts are put together, and everything that is made of rows is made in one go. Memory does not grow with the run.

    Args:
        building: the folder, which holds none of the files yet. After an error it may hold parts of them.
        journal: the run.
        secret: its secret K.

    Raises:
        OSError: something can't be written, or the second process died.
    """
    # Loaded here since they load pandas and pyarrow: half a second, and 80 MB that a run under way has no use for.
    from privacy_toolkit.evidence.row_writer import (  # noqa: PLC0415
        WINDOWS,
        merge,
        scatter,
    )
    from privacy_toolkit.reporting.parquet import returned_memory  # noqa: PLC0415

    spills = building / ".rows"
    try:
        spills.mkdir(mode=0o700)
        with returned_memory():
            scatter(journal, secret, spills)
            return RowFiles(*merge(spills, building, job_of(journal.run_id)))
    finally:
        shutil.rmtree(spills, ignore_errors=True)
        (building / WINDOWS).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class PackResult:
    """Where the pack stands, its report, and what binds it: its link in the chain of packs."""

    path: Path
    report: Report
    link: Link


def write_pack(
    journal: RunReader,
    folder: Path,
    *,
    chain: Chain,
    signer: DocumentSigner | None = None,
    principal: str | None = None,
) -> PackResult:
    """Write the pack of the run at ``folder``, or replace the one that is there from an earlier execution.

    It is built next to its place, entered into the chain of packs, and renamed once complete and durable. The same
    journal and key give the same bytes.

    Args:
        journal: the run.
        folder: where the pack is to stand.
        chain: the record of all packs of the state folder.
        signer: the key that signs it; None: it is not signed, and says so.
        principal: the name under which the allowed signers list the key.

    Raises:
        RefusedError: the run was purged, so its pseudonyms can't be made any more.
        UsageError: at ``folder`` stands something that is no pack of this run, or the name of the signer is none.
        ToolkitError: the sums don't add up (code ``sums``).
        PackError: the pack can't be written.
        ChainError: the record of all packs is damaged.
    """
    if principal is not None:
        check_principal(principal)
    try:
        with FolderPlace(folder.resolve(), over=True) as place:
            return _write(journal, place, Seal(chain, signer, principal if signer else None))
    except OSError as error:
        raise PackError(
            f"The pack can't be written: {error.strerror or 'the system gave no reason'}.",
            "Make room or fix the permissions; nothing of the run is lost.",
        ) from None


def _write(journal: RunReader, place: FolderPlace, seal: Seal) -> PackResult:
    with seal.chain.lock():
        place.restore()
    secret = journal.secret
    if secret is None:
        raise RefusedError(
            f"Run {journal.run_id} was purged: its pack can't be made again.", "Keep the pack that was made before."
        )
    _check_free(place.path, journal.run_id)
    place.path.parent.mkdir(parents=True, exist_ok=True)
    building = place.begin()
    report, contents = _fill(building, journal, secret, seal)
    # Alone from here: two packs must not both follow the same one, nor change places at the same time. The link is
    # durable before the pack has its name, so no pack is ever seen that a later one would not follow.
    with seal.chain.lock():
        link = seal.close(building, contents)
        _check_free(place.path, journal.run_id)
        place.finish()
        place.sweep()
    return PackResult(place.path, report, link)


def _fill(building: Path, journal: RunReader, secret: bytes, seal: Seal) -> tuple[Report, Contents]:
    """Write all files but those that the pack's place in the chain decides."""
    rows = write_rows(building, journal, secret)
    key = None if seal.signer is None else SignedBy(name=seal.principal, fingerprint=seal.signer.public.fingerprint)
    report = build_report(journal, rows.summary, now=moment_of(journal), signed_by=key)
    _compare(report, journal.states(), rows.summary)
    contents = {
        files.REPORT_JSON: encode_report(report),
        files.REPORT_HTML: render(report, rows.cases).encode(),
        files.PLAN: plan_of(journal).for_pack().encode(),
        files.REPORT_SCHEMA: schema("report"),
        files.ROW_SCHEMA: schema("row"),
    }
    approval = journal.approval
    if approval is not None:
        contents[files.APPROVAL] = approval.statement.encode()
        contents[files.APPROVAL_SIGNATURE] = approval.signature.encode()
    write_files(building, contents)
    write_file(building / files.REJECTED, map(csv_line, chain([REJECTED_HEADER], journal.rejected())))
    if {path.name for path in building.iterdir()} != {*contents, *files.ROW_FILES}:
        raise PackError("The pack can't be written: something made on the way to it can't be removed.", "Try again.")
    approver = None if approval is None else approval.approver
    return report, Contents(journal.run_id, rows.size, rows.root, hash_folder(building), approver)


def encode_report(report: Report | dict[str, Any]) -> bytes:
    """``report.json``: indented, keys sorted."""
    return msgspec.json.format(msgspec.json.encode(report, order="sorted"), indent=2) + b"\n"


def _compare(report: Report, journal: Iterable[StateCount], rows: RowSummary) -> None:
    """Two counts, made independently of each other, have to agree: the journal's own, and the one over the rows.

    Raises:
        ToolkitError: they don't.
    """
    totals = Counter({line.outcome: line.count for line in report.outcomes})
    if totals != Counter(dict(rows.outcomes)) or _by_reason(journal) != _by_reason(rows.states):
        raise sums_differ("The rows of the pack and the totals of the run differ.")


def _by_reason(states: Iterable[StateCount]) -> Counter[tuple[Outcome, Reason | None]]:
    """How many subjects stand so for which reason; those without any record are in the journal's totals only."""
    counted: Counter[tuple[Outcome, Reason | None]] = Counter()
    for state in states:
        if state.outcome is not Outcome.PENDING:
            counted[state.outcome, state.reason] += state.subjects
    return counted


def check_place(folder: Path, run_id: str | None) -> None:
    """Make sure that a pack can be put at ``folder``: nothing but an earlier pack of the same run is ever replaced.

    ``run_id`` is None for a run that does not exist yet. Where the pack, or a folder above it, has still to be made,
    it is tried whether it could be; nothing is left behind.

    Raises:
        UsageError: it can't; the message says why.
    """
    folder = folder.resolve()
    _check_free(folder, run_id)
    try:
        is_inside = any(
            (above / files.SUMS).exists() and (above / files.CHECKPOINT).exists() for above in folder.parents
        )
        is_mount = folder.is_mount()
        probe(folder.parent)
    except OSError as error:
        raise _unusable(f"Nothing can be written there: {error.strerror or 'the system gave no reason'}.") from None
    if is_inside:
        raise _unusable("It is inside another pack, which would then no longer be what was signed.")
    if is_mount:
        raise _unusable("It is a mount point, which can't be put in place as a whole. Name a folder inside it.")


def _check_free(folder: Path, run_id: str | None) -> None:
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
        found = msgspec.json.decode(read_regular(folder / files.REPORT_JSON), type=dict[str, object])
        if run_id is not None and found.get("run_id") == run_id:
            return
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    raise _unusable("It is taken by something that is no pack of this run.")


def _unusable(why: str) -> UsageError:
    return UsageError(f"The place for the pack can't be used. {why}", "Name another folder with --pack.", code="pack")
