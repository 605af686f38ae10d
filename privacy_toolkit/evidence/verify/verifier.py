"""All checks of a pack, one after the other."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Final

import msgspec

from privacy_toolkit.core.model import UsageError, count
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.files import Checkpoint, RowsPart
from privacy_toolkit.evidence.verify.findings import (
    MOST_ENTRIES,
    Check,
    Code,
    Findings,
    PackFolder,
    Unusable,
    Verification,
    shown,
)
from privacy_toolkit.evidence.verify.manifest import (
    RUN_ID,
    Found,
    Manifest,
    Trust,
    check_approval,
    check_complete,
    check_earlier,
    check_removal,
    check_signature,
    compare_digests,
    read_checkpoint,
    read_earlier,
    read_link,
    read_manifest,
)
from privacy_toolkit.evidence.verify.report import (
    add_up,
    check_derived,
    check_rejected,
    check_texts,
    described,
    read_plan,
    read_report,
    recount,
)
from privacy_toolkit.evidence.verify.rows import (
    CANNOT_BE_READ,
    Comparer,
    Difference,
    RowsFound,
    compare_apart,
    read_rows,
)
from privacy_toolkit.jobs import job_of
from privacy_toolkit.reporting.schema import FORMAT, Report

# The chain of packs, walked over all packs of a folder: gaps, forks, order, and packs that stand where they don't.

_CUT_OFF: Final = (
    "That packs were left out at its end can't be seen from the packs: ask the operator how many there are."
)


def walk_chain(own: Found | None, folder: Path, findings: Findings, trust: Trust, check: Check) -> None:
    """Check that all packs in ``folder``, with the links they carry along, form one chain that ``own`` is part of.

    Raises:
        Unusable: the pack's own link does not hold; that was noted.
    """
    links = list(_gather(folder, findings, trust))
    check.words = "The chain of packs."
    if own is None:
        raise Unusable
    ours = [link for link in links if link.head.origin == own.head.origin]
    for link in links:
        if link.head.origin != own.head.origin:
            findings.add(Code.CHAIN_ORIGIN, link.where, "It is a link of another chain.")
    if own.hash not in {link.hash for link in ours}:
        findings.add(Code.NOT_IN_CHAIN, "", "The pack is not among the packs of the chain.")
        ours.append(own)
    _check_order(ours, findings)
    _check_places(own, ours, findings)
    check.words = _words(ours, trust)


def _gather(folder: Path, findings: Findings, trust: Trust) -> Iterator[Found]:
    """All links in the folders of a folder; what does not hold is noted and left out."""
    for name in _folders(folder, findings):
        pack = PackFolder(folder / name, findings, f"{name}/")
        if files.CHECKPOINT not in pack.files:
            continue
        with suppress(Unusable):
            yield read_link(pack, trust)
        yield from read_earlier(pack, trust)


def _folders(folder: Path, findings: Findings) -> list[str]:
    """The folders in a folder, but for hidden ones."""
    try:
        with os.scandir(folder) as entries:
            some = islice(entries, MOST_ENTRIES + 1)
            found = sorted((entry.name, entry.is_symlink(), entry.is_dir(follow_symlinks=False)) for entry in some)
    except OSError as error:
        findings.add(Code.UNREADABLE, "", f"The folder of the chain can't be read: {error.strerror}.")
        raise Unusable from None
    if len(found) > MOST_ENTRIES:
        findings.add(Code.TOO_LARGE, "", f"The folder of the chain holds more than {MOST_ENTRIES:,} files.")
        raise Unusable
    for name, is_link, _ in found:
        if is_link:
            findings.add(Code.NOT_A_REGULAR_FILE, name, "It is a symbolic link. It was not followed.")
    return [name for name, _, is_folder in found if is_folder and not name.startswith(".")]


def _check_order(links: Iterable[Found], findings: Findings) -> None:
    by_number: defaultdict[int, dict[str, Found]] = defaultdict(dict)
    for link in links:
        by_number[link.head.sequence].setdefault(link.hash, link)
    numbers = sorted(by_number)
    for before, number in pairwise(numbers):
        if number != before + 1:
            gap = f"number {before + 1}" if number == before + 2 else f"numbers {before + 1} to {number - 1}"
            findings.add(Code.CHAIN_GAP, "", f"The chain has a gap: {gap} can't be found.")
            continue
        for link in by_number[number].values():
            if link.head.previous not in by_number[before]:
                findings.add(Code.CHAIN_BROKEN, link.where, f"It does not name the number {before} that is there.")
    for number in numbers:
        if len(by_number[number]) > 1:
            findings.add(
                Code.CHAIN_FORK, "", f"Number {number} of the chain is there in {len(by_number[number])} versions."
            )


def _check_places(own: Found, links: Sequence[Found], findings: Findings) -> None:
    seen: dict[str, str] = {}
    for link in links:
        name = link.where.rstrip("/")
        if not link.whole:
            continue
        if link.hash in seen:
            findings.add(Code.REPLAYED, link.where, f"It is the same pack as {shown(seen[link.hash])}.")
        elif RUN_ID.fullmatch(name) and name != link.head.run_id:
            findings.add(Code.REPLAYED, link.where, f"It is the pack of run {link.head.run_id}, under another's name.")
        seen.setdefault(link.hash, link.where)
    later = [link.head.sequence for link in links if link.head.run_id == own.head.run_id]
    if max(later) > own.head.sequence:
        findings.add(
            Code.REPLAYED, "", f"It was replaced: the chain has a later pack of the same run, number {max(later)}."
        )


def _words(links: Sequence[Found], trust: Trust) -> str:
    numbers = {link.head.sequence for link in links}
    unsigned = len({link.hash for link in links if not link.signed})
    first, last = min(numbers), max(numbers)
    said = [f"The chain of packs, numbers {first} to {last}: none missing, none twice, each naming the one before it."]
    if first > 1:
        said.append(f"It was walked from number {first} on: those before it are not there.")
    if trust.signers is not None:
        said.append("The signature of each was verified.")
    elif unsigned:
        said.append(f"Not signed: {unsigned} of {len(numbers)}.")
    said.append("Of the other packs the links were checked, not their contents.")
    return " ".join([*said, _CUT_OFF])


class Wanted(msgspec.Struct, frozen=True):
    """What is asked of a pack: ``page`` that report.html be compared, ``approval`` that a second person approved."""

    page: bool = True
    approval: bool = False


DEFAULT: Final = Wanted()


class Verifier:
    """The checks of one pack, in an order in which what is cheap and tells most comes first.

    Args:
        pack: the folder of the pack.
        trust: who may sign.
        chain: the folder of all packs, if the chain is to be walked.
        compare: how ``rows.parquet`` is compared.
        look: how the folder of the pack is looked into.
        wanted: what else is asked for.
    """

    def __init__(
        self,
        pack: Path,
        trust: Trust,
        chain: Path | None = None,
        compare: Comparer = compare_apart,
        look: Callable[[Path, Findings], PackFolder] = PackFolder,
        wanted: Wanted = DEFAULT,
    ) -> None:
        self.findings = Findings()
        self._path = pack.absolute()
        self._trust = trust
        self._chain = chain
        self._compare = compare
        self._look = look
        self._wanted = wanted
        self._plan: Plan | None = None
        self._dropped: list[str] = []
        self._manifest = Manifest()
        self._checkpoint: Checkpoint | None = None
        self._report: Report | None = None
        self._rows = RowsFound()

    def steps(self) -> Iterator[None]:
        """Work through all checks; pauses often, so that anyone who needs no more than the first problem can stop."""
        if not _is_folder(self._path):
            self.findings.add(Code.NOT_A_PACK, "", "It is no folder, and a pack is one.")
            return
        pack = self._look(self._path, self.findings)
        self._dropped = pack.dropped
        if not pack.files.keys() & {*files.NAMES, files.SUMS, files.SIGNATURE}:
            self.findings.add(Code.NOT_A_PACK, "", _no_pack(pack))
            return
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
        if files.REMOVAL in self._manifest.sums:
            with self.findings.check("removal", "removal.json says why someone was taken off the list of the erased."):
                check_removal(pack, self._manifest)
            yield
            self._links_step(pack)
            wait()
            return
        with self.findings.check("report", "report.json is written as it should be, and its sums add up."):
            self._report = read_report(pack)
            add_up(pack, self._report)
            if self._report.format == FORMAT:
                check_complete(pack, self._manifest)
        for work in (self._rows_step, self._report_step, self._texts_step, self._approval_step, self._links_step):
            yield
            work(pack)
        yield
        with self.findings.check("parquet", "rows.parquet holds the same rows as rows.jsonl, each field of each."):
            _note_difference(pack, *wait())

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
            word_alone=()
            if report is None
            else described(self._plan, approved=report.signatories.approved is not None),
            dropped=tuple(map(shown, self._dropped)),
        )

    def _begin_to_compare(self, pack: PackFolder) -> Callable[[], tuple[RowsPart, Difference]]:
        """Begin with the first part; each of the others follows when the result is asked for."""
        first, *others = files.rows_among(pack.files)
        begun = self._begin_with(pack, first)

        def wait() -> tuple[RowsPart, Difference]:
            found, part = begun(), first
            for part in others if found is None else ():
                if (found := self._begin_with(pack, part)()) is not None:
                    break
            return part, found

        return wait

    def _begin_with(self, pack: PackFolder, part: RowsPart) -> Callable[[], Difference]:
        if pack.files.keys() >= set(part):
            return self._compare(pack.path / part.lines, pack.path / part.parquet)
        return lambda: CANNOT_BE_READ

    def _rows_step(self, pack: PackFolder) -> None:
        with self.findings.check("rows") as check:
            check.words = (
                "Each line of rows.jsonl is written as a row is, they stand in order, and exceptions.csv is what they"
                " give."
            )
            form = FORMAT if self._report is None else self._report.format
            job = job_of(self._checkpoint.run_id if self._checkpoint else "")
            read_rows(pack, self._rows, job, form, files.rows_among(pack.files))
        with self.findings.check(
            "tree", "Number of rows and root of the hash tree over them are as in the checkpoint."
        ):
            head, tree, parts = self._checkpoint, self._rows.tree, files.rows_among(pack.files)
            where = parts[0].lines if len(parts) == 1 else "all parts of the rows"
            if head is None:
                raise Unusable
            if head.size != tree.size:
                message = f"It says {head.size:,} rows, {where} {'has' if len(parts) == 1 else 'have'} {tree.size:,}."
                pack.note(Code.SIZE_DIFFERS, files.CHECKPOINT, message)
            if head.root != tree.root():
                message = f"Its root is not that of the tree over {where}."
                pack.note(Code.ROOT_DIFFERS, files.CHECKPOINT, message)

    def _report_step(self, pack: PackFolder) -> None:
        with self.findings.check("plan", "plan.json is what a pack can say of a plan.") as check:
            if self._report is None:
                raise Unusable
            self._plan = read_plan(pack, self._report)
            if self._plan is None:
                check.skip(
                    "No plan.json: packs of that format have none, so nothing else says what they say of the plan."
                )
        with self.findings.check("rejected", "rejected.csv holds the refused rows that the report counts.") as check:
            self._rejected(pack, check)
        with self.findings.check("figures") as check:
            self._recount(pack, check)
        with self.findings.check("derived") as check:
            self._derive(pack, check)
        with self.findings.check("run") as check:
            self._check_run(pack, check)

    def _derive(self, pack: PackFolder, check: Check) -> None:
        check.words = (
            "Verdict, sentences, meanings and actions of the report are those that the rows give in the words of its"
            " format."
        )
        if self._plan is not None:
            check.words += " Target, LIVE or SANDBOX, and what was planned are those of plan.json."
        if self._report is None:
            raise Unusable
        check_derived(pack, self._report, self._plan, self._rows)

    def _rejected(self, pack: PackFolder, check: Check) -> None:
        if self._report is None:
            raise Unusable
        if self._report.format != FORMAT:
            check.skip("No rejected.csv: packs of that format have none.")
            return
        check_rejected(pack, self._report)

    def _recount(self, pack: PackFolder, check: Check) -> None:
        if self._report is None or not self._rows.whole:
            check.skip("The figures of the report were not counted again: the rows, or the report, can't be read.")
            return
        check.words = (
            "Each figure of the report that rows give was counted again. Reads, answer times and pace are not in the"
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
            check_texts(pack, self._report, self._checkpoint, self._rows, check, page=self._wanted.page)

    def _approval_step(self, pack: PackFolder) -> None:
        with self.findings.check("approval", "The approval of the plan.") as check:
            check_approval(pack, self._report, self._plan, self._manifest.signer, self._trust, check)
            if self._wanted.approval and files.APPROVAL not in pack.files:
                pack.note(Code.NOT_APPROVED, files.APPROVAL, "Nobody approved the plan, and that was asked for.")

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
    pack: Path,
    trust: Trust,
    *,
    chain: Path | None = None,
    compare: Comparer = compare_apart,
    wanted: Wanted = DEFAULT,
) -> Verification:
    """Check a pack, offline, and find everything that is wrong with it. Nothing in the pack makes this raise.

    Args:
        pack: the folder of the pack.
        trust: who may sign.
        chain: the folder of all packs, if the chain is to be walked.
        compare: how ``rows.parquet`` is compared.
        wanted: what else is asked for.

    Raises:
        UsageError: there is nothing at ``pack``, or at ``chain``.
    """
    for path, what in ((pack, "pack"), (chain, "folder of packs")):
        if path is not None and not os.path.lexists(path):
            raise UsageError(f"There is no {what} at the place that was named.", "Is the path right?")
    verifier = Verifier(pack, trust, chain, compare, wanted=wanted)
    for _ in verifier.steps():
        pass
    return verifier.result()


def _no_pack(folder: PackFolder) -> str:
    """What a folder without any file of a pack is: the one above packs, perhaps."""
    packs = sorted(one for one in folder.folders if "/" not in one and f"{one}/{files.SUMS}" in folder.files)
    below = f" It is above {count(len(packs), 'pack')}, such as {shown(packs[0])}: name one." if packs else ""
    return f"None of the files of a pack is in it.{below}"


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # we may not even ask
        return False


def _note_difference(pack: PackFolder, part: RowsPart, difference: Difference) -> None:
    if difference == CANNOT_BE_READ:
        pack.note(Code.PARQUET_DIFFERS, part.parquet, f"It can't be compared with {part.lines}.")
    elif difference is not None:
        message = f"Its row {difference + 1:,} is not line {difference + 1:,} of {part.lines}."
        pack.note(Code.PARQUET_DIFFERS, part.parquet, message)
