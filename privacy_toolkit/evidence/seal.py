"""Sealing: what binds the files of a pack to each other, to the signing key, and to earlier packs.

A link of the chain is the part of a pack that binds the rest: ``checkpoint.txt``, ``SHA256SUMS``, which lists it, and
the signature. Each names the one before by the SHA-256 of its ``SHA256SUMS``. It holds no personal data and stays when
runs are purged.
"""

from __future__ import annotations

import hashlib
import secrets
import shlex
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec

from privacy_toolkit.config.settings import is_object_address
from privacy_toolkit.core.durable import FolderPlace, read_regular, write_files
from privacy_toolkit.evidence.files import (
    APPROVAL,
    APPROVAL_SIGNATURE,
    CHECKPOINT,
    EARLIER,
    ORIGIN,
    REMOVAL,
    SIGNATURE,
    SUMS,
    VERIFY,
    WHOLE,
    BadPack,
    Checkpoint,
    PackError,
    RowsPart,
    Tree,
    decode_sums,
    encode_sums,
    hash_bytes,
    hash_file,
    relative_files,
    rows_among,
)
from privacy_toolkit.journal.ledgers import ChainError, ChainStore, KeptLink
from privacy_toolkit.signatures.signers import DocumentSigner
from privacy_toolkit.signatures.sshsig import APPROVAL_NAMESPACE, PACK_NAMESPACE, BadSignature, verify


class Link(msgspec.Struct, frozen=True):
    """What binds a pack: the bytes of ``checkpoint.txt``, ``SHA256SUMS`` and ``SHA256SUMS.sig`` (None: not signed)."""

    checkpoint: bytes
    sums: bytes
    signature: bytes | None

    @property
    def hash(self) -> str:
        """By what the next link names this one: SHA-256 of ``SHA256SUMS``, in hexadecimal digits."""
        return hash_bytes(self.sums)

    def head(self) -> Checkpoint:
        """The checkpoint, read.

        Raises:
            BadPack: it is none, or is not the one that the sums name.
        """
        if decode_sums(self.sums).get(CHECKPOINT) != hash_bytes(self.checkpoint):
            raise BadPack("The checkpoint is not the one that SHA256SUMS names.")
        return Checkpoint.decode(self.checkpoint)

    def files(self) -> dict[str, bytes]:
        """The link as files: name to content."""
        files = {CHECKPOINT: self.checkpoint, SUMS: self.sums}
        return files if self.signature is None else files | {SIGNATURE: self.signature}

    @classmethod
    def read(cls, folder: Path) -> Link:
        """The link in a folder: one of the chain, one in ``earlier`` of a pack, or a pack itself.

        Raises:
            OSError: a file can't be read.
        """
        signature = folder / SIGNATURE
        return cls(
            read_regular(folder / CHECKPOINT),
            read_regular(folder / SUMS),
            read_regular(signature) if signature.exists() else None,
        )


class Chain:
    """The record that a state keeps of its packs, read and continued by what its links say of themselves.

    Anyone who seals a pack does so inside ``lock``: otherwise two packs could both name the same one before them.
    """

    def __init__(self, kept: ChainStore) -> None:
        self._kept = kept

    def lock(self) -> AbstractContextManager[None]:
        """Wait until no other process seals a pack, and keep others from it.

        Raises:
            OSError: the record can't be written.
        """
        return self._kept.lock()

    def origin(self) -> str:
        """What all checkpoints of this chain begin with. The first call draws the chain's id and makes it durable.

        Raises:
            OSError: the record can't be read or written.
            ChainError: there are links, but the id is gone or is none.
        """
        return ORIGIN + self._kept.drawn_id()

    def newest(self) -> Link | None:
        """The last link; None in a new chain.

        Raises:
            OSError: it can't be read.
            ChainError: the record is damaged.
        """
        kept = self._kept.newest()
        return None if kept is None else self._checked(kept)

    def of_run(self, run_id: str) -> list[Link]:
        """The links of one run, the oldest first.

        Raises:
            OSError: one can't be read.
            ChainError: the record is damaged.
        """
        return [self._checked(kept) for kept in self._kept.of_run(run_id)]

    def verify(self) -> int:
        """Make sure that each link follows the one before it; how many there are.

        Raises:
            OSError: one can't be read.
            ChainError: the record is damaged, has a gap, or was put together from several.
        """
        previous, number = None, 0
        for number, kept in enumerate(self._kept.links(), 1):
            link = self._checked(kept)
            if (link.head().sequence, link.head().previous) != (number, previous):
                raise ChainError(f"Link {number} of the record of the packs does not follow.", self._kept.remedy)
            previous = link.hash
        return number

    def append(self, link: Link) -> None:
        """Add a link that follows the newest. It is durable when this returns.

        Raises:
            OSError: it can't be written; the chain is as it was.
            ChainError: it does not follow the newest link.
        """
        head, newest = link.head(), self.newest()
        follows = (1, None) if newest is None else (newest.head().sequence + 1, newest.hash)
        if (head.sequence, head.previous) != follows or head.origin != self.origin():
            raise ChainError("The pack does not follow the newest one of the record.", self._kept.remedy)
        self._kept.append(KeptLink(head.sequence, head.run_id, link.checkpoint, link.sums, link.signature))

    def _checked(self, kept: KeptLink) -> Link:
        link = Link(kept.checkpoint, kept.sums, kept.signature)
        try:
            head = link.head()
        except BadPack:
            raise ChainError("A part of the record of the packs is damaged.", self._kept.remedy) from None
        if (head.origin, head.sequence, head.run_id) != (self.origin(), kept.sequence, kept.run_id):
            raise ChainError("A part of the record of the packs is not in its place.", self._kept.remedy)
        return link


# A link of the chain of packs that is about no run: someone was taken off the list of erased customers, and why.
#
# It is among the packs, has a checkpoint without rows, is signed like them, and can't be left out without a gap.

FORMAT: Final = "privacy-toolkit/removal/1"
#: A reason is a sentence, and says nothing of who it is about.
LONGEST_REASON: Final = 300
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_REASON, pattern="^[^\\x00-\\x1f\\x7f]*$(?!\\n)")]


class Removal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That one person was taken off the list: where, when (RFC 3339, UTC), by whose key, and why. Nothing says who."""

    format: str = FORMAT
    at: str
    target: str
    environment: str
    reason: Reason
    name: str | None
    fingerprint: str | None

    def encode(self) -> bytes:
        """``removal.json``: indented, keys sorted."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n"


def record_removal(
    place_of: Callable[[str], Path], chain: Chain, removal: Removal, signer: DocumentSigner | None, now: datetime
) -> Path:
    """Write a removal where ``place_of`` says by its id, and enter it into the chain of packs; the folder it is in.

    Raises:
        OSError: it can't be written.
        ChainError: the record of all packs is damaged.
        ToolkitError: the key can't sign.
    """
    run_id = f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-suppression-{secrets.token_hex(4)}"
    content = removal.encode()
    folder = place_of(run_id)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FolderPlace(folder, over=False) as place:
        building = place.begin()
        with chain.lock():
            newest = chain.newest()
            sequence = 1 if newest is None else newest.head().sequence + 1
            head = Checkpoint(
                chain.origin(), 0, Tree().root(), run_id, sequence, None if newest is None else newest.hash
            ).encode()
            sums = encode_sums({REMOVAL: hash_bytes(content), CHECKPOINT: hash_bytes(head)})
            link = Link(head, sums, None if signer is None else signer.sign(sums, PACK_NAMESPACE))
            write_files(building, {REMOVAL: content, **link.files()})
            chain.append(link)
            place.finish()
    return place.path


# ``VERIFY.txt``: how a stranger checks a pack with nothing of this toolkit, and what the pack does not prove.
#
# The lines indented by four blanks, and no others, are commands, to be run in a copy of the pack's folder.

_WIDTH = 78

_KEYS = (
    "You need a file allowed_signers with the public keys of those who may sign; put it into the copy. Ask the"
    " organisation that made this pack for it, and get it by another way than this pack: from its website, in a letter,"
    " from an earlier audit. A key that came along with the pack would prove nothing."
)
_NOT_CLAIMED = (
    "that the remote system holds no other copy: backups, exports, logs, other systems;",
    "that whoever signed is honest: a signature shows who answers for the pack, and that it was not changed since;",
    "the times in it, unless another party has stamped them: they come from the clock of the machine that made it;",
    "that no later pack exists: a chain that was cut off at its end looks whole.",
)


class Signed(msgspec.Struct, frozen=True):
    """With which key a pack is signed, and under which name, if one is known, its owner is to be found."""

    fingerprint: str
    principal: str | None


def verify_text(
    checkpoint: Checkpoint,
    earlier: Sequence[int],
    signed: Signed | None,
    approver: str | None,
    again: str = "again",
    *,
    rows: Sequence[RowsPart] = (WHOLE,),
) -> bytes:
    """The file's bytes.

    Args:
        checkpoint: of the pack.
        earlier: the numbers of the earlier packs of the same run.
        signed: None if the pack is not signed.
        approver: the name of who approved the plan, None if nobody had to.
        again: the word for it, which was another one in the format before.
        rows: the files that hold the rows.
    """
    parts = [
        _title("How to check this pack"),
        _text(
            f"It is the audit pack of run {checkpoint.run_id}. You need none of our software for this, only ssh-keygen"
            " (of OpenSSH 8.2 or later) and sha256sum (GNU coreutils). Run the commands in a copy of this folder, so"
            " that the pack itself stays as it is."
        ),
        *(_unsigned(again) if signed is None else _signature(signed)),
        *_files(is_signed=signed is not None),
        *(_approval(approver, is_signed=signed is not None) if approver is not None else []),
        *_position(checkpoint, earlier),
        *_receipts(checkpoint, rows),
        _title("What this pack does not prove"),
        "\n".join(textwrap.fill(line, _WIDTH, initial_indent="- ", subsequent_indent="  ") for line in _NOT_CLAIMED),
        _title("All of it at once, with our software"),
        _text(
            "Offline, and without any access to the operator's systems, from another folder. It also reads the rows,"
            f" adds up the sums {again} and, with the folder in which all packs lie, follows the chain:"
        ),
        f"  privacy-toolkit verify PACK{' --signers allowed_signers' if signed else ''} --chain PACKS",
    ]
    return ("\n\n".join(parts) + "\n").encode()


def _unsigned(again: str) -> list[str]:
    return [
        _title("This pack is not signed"),
        _text(
            "Nobody answers for it with a key. The check below finds damage and careless changes. It does not find the"
            f" work of somebody who changed a file and made the sums {again}."
        ),
    ]


def _signature(signed: Signed) -> list[str]:
    name = '"$name"'
    find = [
        f"    name=$(ssh-keygen -Y find-principals -f allowed_signers \\\n        -s {SIGNATURE} | sed 's/,.*//;q')",
    ]
    if signed.principal is not None:
        name, find = shlex.quote(signed.principal), []
    return [
        _title("1. The signature"),
        _text(_KEYS),
        *([_text("Find the name under which the file lists the key, then check the signature:")] if find else []),
        *find,
        _verify(name, PACK_NAMESPACE, SUMS, SIGNATURE),
        _text(
            'It has to say "Good" and to show this fingerprint of the key, which the organisation has to confirm by'
            " another way as well:"
        ),
        f"  {signed.fingerprint}",
        _text(
            'If it says "Could not verify signature", the sums were changed, or the key is not in your file under this'
            f" name (ssh-keygen -Y find-principals -f allowed_signers -s {SIGNATURE} shows the name), or not for"
            f" {PACK_NAMESPACE}."
        ),
    ]


def _files(*, is_signed: bool) -> list[str]:
    unnamed = f"{SUMS} and {SIGNATURE} themselves are" if is_signed else f"{SUMS} itself is"
    return [
        _title("2. The files" if is_signed else "The files"),
        f"    sha256sum -c --strict {SUMS}",
        _text(
            f'Every line has to end with "OK". A file that {SUMS} does not name is no part of the pack; only {unnamed}'
            " not named."
        ),
    ]


def _approval(approver: str, *, is_signed: bool) -> list[str]:
    another = ", which has to be another one than that of the pack" if is_signed else ""
    return [
        _title("The approval"),
        _text(
            f"Before the run began a second person approved its plan. {APPROVAL} says what was approved; it is signed"
            f" with a key of its own{another}."
        ),
        *([] if is_signed else [_text(_KEYS)]),
        _verify(shlex.quote(approver), APPROVAL_NAMESPACE, APPROVAL, APPROVAL_SIGNATURE),
    ]


def _position(checkpoint: Checkpoint, earlier: Sequence[int]) -> list[str]:
    parts = [_title("The place in the chain of packs")]
    number = f"This pack is number {checkpoint.sequence} of the chain {checkpoint.origin}."
    if checkpoint.previous is None:
        parts.append(_text(f"{number} It is the first: there is none before it."))
    else:
        before = f"The pack before it, number {checkpoint.sequence - 1}, is the one whose {SUMS} has the SHA-256"
        parts += [_text(f"{number} {before}"), f"  {checkpoint.previous}"]
    parts.append(
        _text(
            "Ask for all packs from number 1 on: none may be missing and none may be there twice. Ask the operator how"
            " many there are, since the packs themselves can't tell that the last ones were left out."
        )
    )
    if earlier:
        numbers = f"{'number' if len(earlier) == 1 else 'numbers'} {', '.join(map(str, earlier))}"
        parts.append(
            _text(
                f"It takes the place of {numbers}, made of the same run before. What bound {numbers} (checkpoint, sums"
                f" and signature) is in the folder {EARLIER}, so that the chain can still be followed."
            )
        )
    return parts


def _receipts(checkpoint: Checkpoint, rows: Sequence[RowsPart]) -> list[str]:
    where = rows[0].lines if len(rows) == 1 else f"{rows[0].lines} to {rows[-1].lines}, one after the other"
    return [
        _title("Receipts"),
        _text(
            f"{CHECKPOINT} holds the number of rows ({checkpoint.size}) and the root of a hash tree over the lines of"
            f" {where} (RFC 6962). A person who has a receipt can show with it which row is theirs, and opens no"
            " other. In the receipt's folder they run, with a file that holds their customer id and nothing else:"
        ),
        "  sh check-receipt.sh FILE",
        _text(f"The receipt's {CHECKPOINT} and {SUMS} have to be the same as here, byte for byte."),
    ]


def _verify(name: str, namespace: str, file: str, signature: str) -> str:
    return (
        f"    ssh-keygen -Y verify -f allowed_signers \\\n        -I {name} \\\n"
        f"        -n {namespace} \\\n        -s {signature} < {file}"
    )


def _title(text: str) -> str:
    return f"{text}\n{'-' * len(text)}"


def _text(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


class Contents(msgspec.Struct, frozen=True):
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


class Seal(msgspec.Struct, frozen=True):
    """Who seals, and which record of packs the seal goes into. ``signer`` None: the pack is not signed."""

    chain: Chain
    signer: DocumentSigner | None = None
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
        write_files(building, extras | link.files())
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
            VERIFY: verify_text(head, list(sequences), key, contents.approver, rows=rows_among(contents.sums)),
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


def _is_by(signer: DocumentSigner, link: Link) -> bool:
    if link.signature is None:
        return False
    try:
        return verify(link.signature, link.sums, PACK_NAMESPACE) == signer.public
    except BadSignature:
        return False


# A copy of a sealed pack, elsewhere.


def copied(folder: Path, run_id: str, place: str | None) -> str:
    """Copy a sealed pack into object storage, if ``place`` is there; its address, else "".

    It gets a name of its own for each content, so nothing is overwritten, and a pack that was sealed again is next to
    the one before. What binds the others comes last: a copy without ``SHA256SUMS`` is none.

    Raises:
        PackError: it can't be copied; the pack itself is in its folder.
    """
    if not is_object_address(place):
        return ""
    from privacy_toolkit.access.placing import Bucket  # noqa: PLC0415 - nothing else here needs what it loads

    bucket = Bucket(place or "")
    try:
        sums = (folder / SUMS).read_bytes()
        name = f"{run_id}-{hashlib.sha256(sums).hexdigest()[:16]}"
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in sorted(files, key=lambda one: one == folder / SUMS):
            bucket.put_file(f"{name}/{path.relative_to(folder).as_posix()}", path)
    except OSError as error:
        raise PackError(
            f"The pack is in {folder}, but it could not be copied to {place}: {error.strerror}.",
            f"Copy it once that is put right: privacy-toolkit runs report {run_id} --pack {place}",
        ) from None
    return f"{bucket.address}/{name}"
