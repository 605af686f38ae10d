"""All checks of a pack, one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from privacy_toolkit.errors import UsageError
from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.checkpoint import Checkpoint
from privacy_toolkit.evidence.verify.approvals import check_approval
from privacy_toolkit.evidence.verify.chainwalk import walk_chain
from privacy_toolkit.evidence.verify.compare import CANNOT_BE_READ, Comparer, Difference, compare_apart
from privacy_toolkit.evidence.verify.findings import Check, Code, Findings, Unusable, Verification, shown
from privacy_toolkit.evidence.verify.folder import PackFolder
from privacy_toolkit.evidence.verify.links import RUN_ID, check_earlier, read_checkpoint, read_link
from privacy_toolkit.evidence.verify.manifest import Manifest, check_signature, compare_digests, read_manifest
from privacy_toolkit.evidence.verify.reportcheck import add_up, check_rejected, read_report, recount
from privacy_toolkit.evidence.verify.rowcheck import RowsFound, read_rows
from privacy_toolkit.evidence.verify.texts import check_texts
from privacy_toolkit.evidence.verify.trust import Trust
from privacy_toolkit.reporting.jobwords import job_of
from privacy_toolkit.reporting.schema import FORMAT, Report


class Verifier:
    """The checks of one pack, in an order in which what is cheap and tells most comes first.

    Args:
        pack: the folder of the pack.
        trust: who may sign.
        chain: the folder of all packs, if the chain is to be walked.
        compare: how ``rows.parquet`` is compared.
        look: how the folder of the pack is looked into.
    """

    def __init__(
        self,
        pack: Path,
        trust: Trust,
        chain: Path | None = None,
        compare: Comparer = compare_apart,
        look: Callable[[Path, Findings], PackFolder] = PackFolder,
    ) -> None:
        self.findings = Findings()
        self._path = pack.absolute()
        self._trust = trust
        self._chain = chain
        self._compare = compare
        self._look = look
        self._manifest = Manifest()
        self._checkpoint: Checkpoint | None = None
        self._report: Report | None = None
        self._rows = RowsFound()

    def steps(self) -> Iterator[None]:
        """Work through all checks; pauses often, so that whoever needs no more than the first problem can stop."""
        if not _is_folder(self._path):
            self.findings.add(Code.NOT_A_PACK, "", "It is no folder, and a pack is one.")
            return
        pack = self._look(self._path, self.findings)
        with self.findings.check("sums", "SHA256SUMS.") as check:
            read_manifest(pack, self._manifest, check)
        yield
        with self.findings.check("signature") as check:
            check_signature(pack, self._manifest, self._trust, check)
        yield
        wait = self._begin_to_compare(pack)
        with self.findings.check("files", "Each file that SHA256SUMS names was read and has its SHA-256.") as check:
            if not self._manifest.sums:
                check.skip("No file was compared with its SHA-256: SHA256SUMS can't be read.")
            yield from compare_digests(pack, self._manifest)
        with self.findings.check("checkpoint", "checkpoint.txt is written as it should be."):
            self._checkpoint = read_checkpoint(pack)
        for work in (self._rows_step, self._report_step, self._texts_step, self._approval_step, self._links_step):
            yield
            work(pack)
        yield
        with self.findings.check("parquet", "rows.parquet holds the same rows as rows.jsonl, each field of each."):
            _note_difference(pack, wait())

    def result(self) -> Verification:
        """What was found so far."""
        head, report = self._checkpoint, self._report
        return Verification(
            run_id=head.run_id if head else shown(report.run_id) if report else None,
            signed=self._manifest.signed,
            signer=self._manifest.signer,
            sequence=head.sequence if head else None,
            previous=head.previous if head else None,
            checks=tuple(self.findings.checks),
            problems=tuple(self.findings.problems()),
        )

    def _begin_to_compare(self, pack: PackFolder) -> Callable[[], Difference]:
        if files.ROWS in pack.files and files.ROWS_PARQUET in pack.files:
            return self._compare(pack.path / files.ROWS, pack.path / files.ROWS_PARQUET)
        return lambda: CANNOT_BE_READ

    def _rows_step(self, pack: PackFolder) -> None:
        with self.findings.check("rows") as check:
            check.words = (
                "Each line of rows.jsonl is written as a row is, they stand in order, and exceptions.csv is what they"
                " give."
            )
            read_rows(pack, self._rows, job_of(self._checkpoint.run_id if self._checkpoint else ""))
        with self.findings.check(
            "tree", "Number of rows and root of the hash tree over them are as in the checkpoint."
        ):
            head, tree = self._checkpoint, self._rows.tree
            if head is None:
                raise Unusable
            if head.size != tree.size:
                message = f"It says {head.size:,} rows, rows.jsonl has {tree.size:,}."
                pack.note(Code.SIZE_DIFFERS, files.CHECKPOINT, message)
            if head.root != tree.root():
                pack.note(Code.ROOT_DIFFERS, files.CHECKPOINT, "Its root is not that of the tree over rows.jsonl.")

    def _report_step(self, pack: PackFolder) -> None:
        with self.findings.check("report", "report.json is written as it should be, and its sums add up."):
            self._report = read_report(pack)
            add_up(pack, self._report)
        with self.findings.check("rejected", "rejected.csv holds the refused rows that the report counts.") as check:
            self._rejected(pack, check)
        with self.findings.check("figures") as check:
            self._recount(pack, check)
        with self.findings.check("run") as check:
            self._check_run(pack, check)

    def _rejected(self, pack: PackFolder, check: Check) -> None:
        if self._report is None:
            raise Unusable
        if self._report.format != FORMAT:
            check.skip("No rejected.csv: packs of that format have none.")
            return
        check_rejected(pack, self._report)

    def _recount(self, pack: PackFolder, check: Check) -> None:
        if self._report is None or not self._rows.whole:
            check.skip("The figures of the report were not counted anew: the rows, or the report, can't be read.")
            return
        check.words = (
            "Each figure of the report that the rows give was counted anew. Reads, answer times and pace are not in the"
            " rows: they rest on the report alone."
        )
        recount(pack, self._report, self._rows)

    def _check_run(self, pack: PackFolder, check: Check) -> None:
        """Whether all parts are of one run, made by whom the report says, under the right name."""
        check.words = "All parts are of one run, and the report names the key that signed."
        head, report, signer = self._checkpoint, self._report, self._manifest.signer
        if head and report and head.run_id != report.run_id:
            pack.note(Code.RUN_DIFFERS, files.REPORT_JSON, "It is about another run than the checkpoint.")
        run_id, name = head.run_id if head else report.run_id if report else None, self._path.name
        if run_id is not None and RUN_ID.fullmatch(name) and name != run_id:
            pack.note(Code.REPLAYED, "", "The folder has the name of another run than the one it is about.")
        if report is None:
            raise Unusable
        said = report.signed_by.fingerprint if report.signed_by else None
        if said is not None and not self._manifest.signed:
            pack.note(Code.UNSIGNED, files.SIGNATURE, "The report says that the pack is signed, and it is not.")
        elif (signer is not None or not self._manifest.signed) and said != (signer and signer.fingerprint):
            pack.note(Code.SIGNER_DIFFERS, files.REPORT_JSON, "It names another key than the one that signed.")

    def _texts_step(self, pack: PackFolder) -> None:
        with self.findings.check("texts") as check:
            check_texts(pack, self._report, self._checkpoint, self._rows, check)

    def _approval_step(self, pack: PackFolder) -> None:
        with self.findings.check("approval", "The approval of the plan.") as check:
            check_approval(pack, self._report, self._manifest.signer, self._trust, check)

    def _links_step(self, pack: PackFolder) -> None:
        with self.findings.check("earlier") as check:
            check_earlier(pack, self._checkpoint, self._trust, check)
        with self.findings.check("chain") as check:
            if self._chain is None:
                check.skip("The chain of packs was not walked: name the folder of all packs with --chain.")
                return
            own = None
            try:
                own = read_link(pack, self._trust)
            finally:
                walk_chain(own, self._chain, self.findings, self._trust, check)


def verify_pack(
    pack: Path, trust: Trust, *, chain: Path | None = None, compare: Comparer = compare_apart
) -> Verification:
    """Check a pack, offline, and find everything that is wrong with it. Nothing in the pack makes this raise.

    Args:
        pack: the folder of the pack.
        trust: who may sign.
        chain: the folder of all packs, if the chain is to be walked.
        compare: how ``rows.parquet`` is compared.

    Raises:
        UsageError: there is nothing at ``pack``, or at ``chain``.
    """
    for path, what in ((pack, "pack"), (chain, "folder of packs")):
        if path is not None and not os.path.lexists(path):
            raise UsageError(f"There is no {what} at the place that was named.", "Is the path right?")
    verifier = Verifier(pack, trust, chain, compare)
    for _ in verifier.steps():
        pass
    return verifier.result()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # we may not even ask
        return False


def _note_difference(pack: PackFolder, difference: Difference) -> None:
    if difference == CANNOT_BE_READ:
        pack.note(Code.PARQUET_DIFFERS, files.ROWS_PARQUET, "It can't be compared with rows.jsonl.")
    elif difference is not None:
        message = f"Its row {difference + 1:,} is not line {difference + 1:,} of rows.jsonl."
        pack.note(Code.PARQUET_DIFFERS, files.ROWS_PARQUET, message)
