"""Sealing: what binds the files of a pack to each other, to the key that signs, and to the packs before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from privacy_toolkit.evidence.chain import Chain, Link
from privacy_toolkit.evidence.checkpoint import Checkpoint
from privacy_toolkit.evidence.errors import ChainError, PackError
from privacy_toolkit.evidence.files import CHECKPOINT, EARLIER, VERIFY, relative_files, write_file
from privacy_toolkit.evidence.sums import encode_sums, hash_bytes, hash_file
from privacy_toolkit.evidence.verifytxt import Signed, verify_text
from privacy_toolkit.journal.durability import sync
from privacy_toolkit.signatures.signers import Signer
from privacy_toolkit.signatures.sshsig import PACK_NAMESPACE, BadSignature, verify


@dataclass(frozen=True, slots=True)
class Contents:
    """A pack before it is sealed.

    Attributes:
        run_id: the run that it is about.
        size: how many rows it has.
        root: the root of the tree over them.
        sums: the SHA-256 of each file, by its name.
        approver: who approved the plan; None if nobody had to.
    """

    run_id: str
    size: int
    root: bytes
    sums: Mapping[str, str]
    approver: str | None = None


@dataclass(frozen=True, slots=True)
class Seal:
    """Who seals, and which record of packs the seal goes into. ``signer`` None: the pack is not signed."""

    chain: Chain
    signer: Signer | None = None
    principal: str | None = None

    def close(self, building: Path, contents: Contents) -> Link:
        """Write what binds a pack into its folder, durably, and then into the record. The caller holds its lock.

        Where the newest pack of the same run would come out the same, its link is used again: the same run gives the
        same bytes, wherever its pack is written.

        Raises:
            OSError: something can't be read or written.
            ToolkitError: the record is damaged, or the key can't sign.
        """
        links = self.chain.of_run(contents.run_id)
        link = self._again(contents, links)
        is_new = link is None
        if link is None:
            link, extras = self._next(contents, links)
        else:
            extras = self._extras(link.head(), contents, links[:-1])
        _write(building, extras | link.files())
        if is_new:
            self.chain.append(link)
        return link

    def _again(self, contents: Contents, links: list[Link]) -> Link | None:
        """The newest link of the run, if sealing ``contents`` in its place gives the very same sums."""
        if not links:
            return None
        *earlier, newest = links
        head = newest.head()
        same = Checkpoint(head.origin, contents.size, contents.root, contents.run_id, head.sequence, head.previous)
        if _sums(contents, self._extras(same, contents, earlier)) != newest.sums:
            return None
        if self.signer is not None and not _is_by(self.signer, newest):
            raise ChainError(
                "The signature in the record of the packs is damaged.", "Restore the folder chain of the state folder."
            )
        return newest

    def _next(self, contents: Contents, links: list[Link]) -> tuple[Link, dict[str, bytes]]:
        newest = self.chain.newest()
        head = Checkpoint(
            self.chain.origin(),
            contents.size,
            contents.root,
            contents.run_id,
            1 if newest is None else newest.head().sequence + 1,
            None if newest is None else newest.hash,
        )
        extras = self._extras(head, contents, links)
        sums = _sums(contents, extras)
        signature = None if self.signer is None else self.signer.sign(sums, PACK_NAMESPACE)
        link = Link(extras[CHECKPOINT], sums, signature)
        if self.signer is not None and not _is_by(self.signer, link):
            raise PackError("The signature that was just made does not fit the pack and the key.", "Try again.")
        return link, extras

    def _extras(self, head: Checkpoint, contents: Contents, earlier: list[Link]) -> dict[str, bytes]:
        """The files that depend on the pack's place in the chain, but for the sums and their signature."""
        key = None if self.signer is None else Signed(self.signer.public.fingerprint, self.principal)
        sequences = {link.head().sequence: link for link in earlier}
        extras = {
            CHECKPOINT: head.encode(),
            VERIFY: verify_text(head, list(sequences), key, contents.approver),
        }
        for sequence, link in sequences.items():
            extras |= {f"{EARLIER}/{sequence}/{name}": content for name, content in link.files().items()}
        return extras


def hash_folder(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in a folder and those below it, by its relative path.

    Raises:
        OSError: one can't be read.
    """
    return {name: hash_file(folder / name) for name in sorted(relative_files(folder))}


def _sums(contents: Contents, extras: Mapping[str, bytes]) -> bytes:
    return encode_sums({**contents.sums, **{name: hash_bytes(content) for name, content in extras.items()}})


def _is_by(signer: Signer, link: Link) -> bool:
    if link.signature is None:
        return False
    try:
        return verify(link.signature, link.sums, PACK_NAMESPACE) == signer.public
    except BadSignature:
        return False


def _write(building: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder and those below it, and make their names durable."""
    folders = sorted({parent for name in files for parent in PurePosixPath(name).parents})
    for folder in folders[1:]:  # the first is the folder itself
        (building / folder).mkdir(mode=0o700)
    for name, content in files.items():
        write_file(building / name, [content])
    for folder in reversed(folders):
        sync(building / folder)
