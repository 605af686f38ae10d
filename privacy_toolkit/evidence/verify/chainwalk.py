"""The chain of packs, walked over all packs of a folder: gaps, forks, order, and packs that stand where they don't."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Final

from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.verify.findings import Check, Code, Findings, Unusable, shown
from privacy_toolkit.evidence.verify.folder import MOST_ENTRIES, PackFolder
from privacy_toolkit.evidence.verify.links import RUN_ID, Found, read_earlier, read_link
from privacy_toolkit.evidence.verify.trust import Trust

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
