"""Receipts: what one person needs to show, on their own, which row of a pack is theirs; and the folder they get.

A receipt opens one row. It holds the key of that row and no other, and the hashes that lead from the row to the root in
``checkpoint.txt``; none of them tells anything of another row, since no line of a pack can be guessed.
"""

from __future__ import annotations

import os
import textwrap
from base64 import b64encode
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path

import msgspec

from privacy_toolkit.access.page import RECEIPT_PAGE, ReceiptFacts, receipt_page
from privacy_toolkit.access.words import Notice, blank, load
from privacy_toolkit.core.durable import open_regular, put_folder, read_regular, write_files
from privacy_toolkit.core.model import ExitCode, ToolkitError, UsageError
from privacy_toolkit.engine.plan import plan_of
from privacy_toolkit.evidence.files import (
    REPORT_JSON,
    BadPack,
    Checkpoint,
    decode_sums,
    hash_bytes,
    leaf_hash,
    node_hash,
    root_from_path,
    rows_among,
)
from privacy_toolkit.evidence.seal import Link
from privacy_toolkit.evidence.verify.findings import LONGEST_LINE
from privacy_toolkit.inputs.files import fingerprint
from privacy_toolkit.journal.store import RunReader, purged
from privacy_toolkit.reporting.rows import file_key, keyed_digest, pseudonym, row_key
from privacy_toolkit.signatures.sshsig import PACK_NAMESPACE, verify

#: The first line of a receipt.
FORMAT = "privacy-toolkit receipt v1"

#: Of so many rows the numbers are said, where an id is in several.
ROWS_NAMED = 20

#: No customer id is longer, in bytes; more is not read.
_LONGEST_ID = 64 * 1024


class Receipt(msgspec.Struct, frozen=True):
    """One row of a pack, the key that opens it, and the path that leads from it to the pack's root.

    Attributes:
        checkpoint: of the pack; the receipt names its run, origin and size.
        subject: the pseudonym of the row, in hexadecimal digits.
        index: the place of the row among all rows, from 0.
        key: the row's own key, 32 bytes.
        row: the line of the rows, without its line end.
        path: the hashes from the row to the root, the lowest first.
    """

    checkpoint: Checkpoint
    subject: str
    index: int
    key: bytes
    row: bytes
    path: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The bytes of ``receipt.txt``."""
        lines = [
            FORMAT,
            f"run {self.checkpoint.run_id}",
            f"origin {self.checkpoint.origin}",
            f"index {self.index}",
            f"size {self.checkpoint.size}",
            f"key {self.key.hex()}",
            f"row {self.row.decode('ascii')}",
            *(f"path {b64encode(step).decode()}" for step in self.path),
        ]
        return "".join(f"{line}\n" for line in lines).encode()


def read_id(path: Path) -> str:
    """The customer id in a file that holds nothing else; a byte order mark and one line end do not count.

    Raises:
        UsageError: the file can't be read, or holds no id.
    """
    try:
        with open_regular(path) as file:
            data = file.read(_LONGEST_ID + 1)
    except OSError as error:
        raise UsageError(f"The file with the id can't be read: {error.strerror}.", "Name another file.") from None
    if data.endswith(b"\n"):
        data = data[:-1].removesuffix(b"\r")
    hint = "It has to hold the customer id as the list has it, in UTF-8, and nothing else: no heading, no quotes."
    if not data.removeprefix(BOM_UTF8) or len(data) > _LONGEST_ID or b"\n" in data:
        raise UsageError("The file with the id is not one line with one id.", hint)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("The file with the id is not UTF-8.", hint) from None


def read_link(pack: Path) -> Link:
    """What binds a pack, checked in itself: the sums name the checkpoint, and the signature, if any, is one over them.

    Raises:
        UsageError: there is no such pack, or it can't be read.
        ToolkitError: it was changed (exit code 6).
    """
    try:
        link = Link.read(pack)
    except OSError as error:
        raise UsageError(
            f"There is no pack that can be read in this folder: {error.strerror}.",
            "Name the folder that holds checkpoint.txt, SHA256SUMS and rows.jsonl.",
        ) from None
    link.head()
    if link.signature is not None:
        verify(link.signature, link.sums, PACK_NAMESPACE)
    return link


def secret_of(journal: RunReader) -> bytes:
    """The secret of a run.

    Raises:
        RefusedError: it was destroyed.
    """
    secret = journal.secret
    if secret is None:
        raise purged(
            journal,
            "nothing links its rows to people or files any more",
            "A receipt has to be made before the purge; those made before stay good.",
        )
    return secret


def receipt_of(journal: RunReader, pack: Path, checkpoint: Checkpoint, id_: str, place: int | None = None) -> Receipt:
    """Open the row of one customer id, after checking that it leads to the root of the pack.

    The rows are read once, in a stream; memory does not grow with them.

    Args:
        journal: the run that the pack is about.
        pack: the folder of the pack.
        checkpoint: the pack's own, see ``read_link``.
        id_: the customer id, as the input has it.
        place: the row of the input, needed where the id is in several of them.

    Raises:
        RefusedError: the run was purged.
        UsageError: the id is not one of the run's subjects, or stands for several of them; or the rows can't be read.
        BadPack: the row is missing, or does not lead to the root.
    """
    secret = secret_of(journal)
    seq = _number_of(journal, id_, place)
    subject = pseudonym(secret, seq, id_)
    index, row, path = _find(pack, checkpoint, subject)
    if root_from_path(leaf_hash(row), index, checkpoint.size, path) != checkpoint.root:
        raise BadPack(
            "The rows of the pack don't lead to the root in its checkpoint.", "Check it: privacy-toolkit verify PACK."
        )
    return Receipt(checkpoint, subject, index, row_key(secret, seq), row, tuple(path))


class _PathFinder:
    """A tree that grows leaf by leaf (RFC 9162, section 2.1.1) and keeps the path of one of its leaves.

    As ``tree.Tree`` it holds the peaks alone. Whenever the node above the wanted leaf is put together, its sibling is
    the next step of the path.
    """

    def __init__(self) -> None:
        self.size = 0
        self.path: list[bytes] = []
        self._peaks: list[tuple[bytes, bool]] = []  # the second: whether the wanted leaf is below it

    def add(self, leaf: bytes, *, wanted: bool) -> None:
        node, size = (leaf, wanted), self.size
        while size & 1:
            node = self._join(self._peaks.pop(), node)
            size >>= 1
        self._peaks.append(node)
        self.size += 1

    def finish(self) -> None:
        """Join what is left: the path is complete after this."""
        while len(self._peaks) > 1:
            right, left = self._peaks.pop(), self._peaks.pop()
            self._peaks.append(self._join(left, right))

    def _join(self, left: tuple[bytes, bool], right: tuple[bytes, bool]) -> tuple[bytes, bool]:
        if left[1]:
            self.path.append(right[0])
        elif right[1]:
            self.path.append(left[0])
        return node_hash(left[0], right[0]), left[1] or right[1]


def _find(pack: Path, checkpoint: Checkpoint, subject: str) -> tuple[int, bytes, list[bytes]]:
    """The row of a subject: its place, its line and its path."""
    try:
        found = _search(_lines(pack), subject)
    except OSError as error:
        raise UsageError(f"The rows of the pack can't be read: {error.strerror}.", "Is the pack complete?") from None
    if found is None or found[3] != checkpoint.size:
        raise BadPack("The rows of the pack are not those of its run.", "Check it: privacy-toolkit verify PACK.")
    return found[:3]


def _lines(pack: Path) -> Iterator[bytes]:
    """The lines of the rows, in order, whatever files they are in."""
    for part in rows_among(path.name for path in pack.iterdir()):
        with open_regular(pack / part.lines) as lines:
            yield from iter(partial(lines.readline, LONGEST_LINE + 1), b"")


def _search(lines: Iterable[bytes], subject: str) -> tuple[int, bytes, list[bytes], int] | None:
    """As ``_find``, and the number of all lines; None if the subject has not exactly one line."""
    mark = f',"subject":"{subject}",'.encode()  # no text of a row can hold this: quotes in text are escaped
    finder = _PathFinder()
    hits: list[tuple[int, bytes]] = []
    for line in lines:
        if len(line) > LONGEST_LINE:
            return None
        row = line.removesuffix(b"\n")
        wanted = mark in row
        if wanted:
            hits.append((finder.size, row))
        finder.add(leaf_hash(row), wanted=wanted)
    finder.finish()
    if len(hits) != 1 or not hits[0][1].isascii():
        return None
    ((index, row),) = hits
    return index, row, finder.path, finder.size


def _number_of(journal: RunReader, id_: str, place: int | None) -> int:
    """The number of the subject with this id, in this row of the input where one is named.

    Raises:
        UsageError: there is none, or more than one.
    """
    found = [o.subject for o in journal.rows() if o.subject.id == id_ and place in {None, o.subject.row}]
    if not found:
        raise UsageError(
            f"This id is not one of the subjects of the run{'' if place is None else ' in that row'}.",
            "The file has to hold it exactly as the list had it. Rejected rows are no subjects.",
            code="not_in_run",
        )
    if len(found) > 1:
        rows = ", ".join(str(subject.row) for subject in found[:ROWS_NAMED])
        more = f" and {len(found) - ROWS_NAMED:,} more" if len(found) > ROWS_NAMED else ""
        raise UsageError(
            f"This id is in {len(found):,} rows of the input: {rows}{more}.",
            "A receipt opens one of them: name it with --row N.",
            code="several_rows",
        )
    return found[0].seq


# Showing an auditor which input a pack is about: the pack has its digest under a key alone.

_INPUT = "input"


class Opening(msgspec.Struct, frozen=True):
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


# The folder that one person gets: their receipt, the script that checks it, and an explanation of both.

RECEIPT, SCRIPT, README = "receipt.txt", "check-receipt.sh", "README.txt"

#: How many digits of the pseudonym name the folder; the id is never in a name.
_DIGITS = 12
_WIDTH = 78


class ReceiptError(ToolkitError):
    """The receipt can't be written where it should be: disk full, permissions."""

    exit_code = ExitCode.STOPPED
    code = "receipt"


def default_name(receipt: Receipt) -> str:
    """What the folder is called where nobody says otherwise."""
    return f"receipt-{receipt.subject[:_DIGITS]}"


def check_free(folder: Path) -> None:
    """Make sure that nothing stands where the folder is to be made.

    Raises:
        UsageError: something does.
    """
    if os.path.lexists(folder):
        raise UsageError(
            "There is something already where the receipt should go, and nothing is overwritten.",
            "Name another folder with --out.",
        )


class ReceiptPage(msgspec.Struct, frozen=True):
    """What the page of a receipt needs besides it: its language, what the run was on, and what the controller says."""

    lang: str
    target: str
    environment: str
    notice: Notice


def page_for(journal: RunReader, lang: str, notice: Path | None) -> ReceiptPage:
    """What the page of a receipt of this run says besides, by the controller's ``notice`` where there is one."""
    plan = plan_of(journal)
    return ReceiptPage(lang, plan.target, plan.environment, blank() if notice is None else load(notice))


def write_receipt(receipt: Receipt, link: Link, folder: Path, page: ReceiptPage) -> None:
    """Write the folder as a whole, for its owner only, or not at all.

    Args:
        receipt: what it is about.
        link: what binds the pack: it is copied as it stands.
        folder: where the folder is to be; nothing is there yet, but what it is to be in.
        page: what the page for the person says besides.

    Raises:
        UsageError: something is there already.
        ReceiptError: it can't be written.
    """
    check_free(folder)
    contents = {
        RECEIPT: receipt.encode(),
        SCRIPT: script(),
        README: readme(receipt, signed=link.signature is not None, rehearsed=page.environment == "sandbox"),
        RECEIPT_PAGE: receipt_page(_page_facts(receipt, link, page)),
        **link.files(),
    }
    try:
        with put_folder(folder, over=False) as building:
            write_files(building, contents)
    except OSError as error:
        raise ReceiptError(
            f"The receipt can't be written: {error.strerror}.", "Make room, or name another folder with --out."
        ) from None


def _page_facts(receipt: Receipt, link: Link, page: ReceiptPage) -> ReceiptFacts:
    signature = link.signature
    return ReceiptFacts(
        lang=page.lang,
        row=receipt.row,
        run_id=receipt.checkpoint.run_id,
        target=page.target,
        environment=page.environment,
        place=receipt.index + 1,
        size=receipt.checkpoint.size,
        record=link.hash,
        signer=None if signature is None else verify(signature, link.sums, PACK_NAMESPACE).fingerprint,
        notice=page.notice,
    )


def script() -> bytes:
    """``check-receipt.sh``: it is the same in every receipt."""
    return (files("privacy_toolkit.evidence") / SCRIPT).read_bytes()


def readme(receipt: Receipt, *, signed: bool, rehearsed: bool = False) -> bytes:
    """``README.txt``, for a person who has never heard of any of this; ``rehearsed``: the run was on SANDBOX."""
    parts = [
        *(
            [_text("A REHEARSAL on a test system (sandbox): what this receipt says is so for nobody.")]
            if rehearsed
            else []
        ),
        _title("Your receipt"),
        _text(
            "An organisation worked on a list of requests about people's data, and kept a record of it in which nobody"
            " is named: one row a person, under a code that only a key of its own explains. This folder holds your row"
            f" and the key to it. Your row is number {receipt.index + 1} of {receipt.checkpoint.size} in the record of"
            f" the run {receipt.checkpoint.run_id}."
        ),
        _title("What it proves"),
        *_proves(),
        _title("What to do"),
        *_steps(signed=signed),
        _title("Who should see it"),
        _text(
            f"Anyone who has {RECEIPT} and your customer id, or can guess the id, sees what your row says. It opens no"
            " other person's row. The other files open nothing."
        ),
        _title("Whom to ask"),
        _text(
            "The organisation that gave you this, best its data protection officer; the privacy notice says how. If you"
            " are not content with the answer, you can complain to your data protection authority. Show them this"
            " folder."
        ),
    ]
    return ("\n\n".join(parts) + "\n").encode()


def _proves() -> list[str]:
    return [
        _text(
            "That this row is about your customer id; that it is in the record of that run, and has been since the"
            " record was closed; and, if the record is signed, who answers for it. Nobody can change your row"
            " afterwards, or leave it out, without this receipt showing that the record was changed."
        ),
        _text(
            "It does not prove that the row tells the truth, or that no copy of your data is left elsewhere, in backups"
            " for example. It says what was asked for, what was answered, and what a look afterwards showed."
        ),
    ]


def _steps(*, signed: bool) -> list[str]:
    return [
        _text(
            f"1. Open {RECEIPT_PAGE} with a double click: it says in plain words what your row says. The row itself is"
            f" in {RECEIPT}, in the line that begins with row; everything else there leads from it to the record."
        ),
        _text(
            "2. Check it, on any computer with a POSIX shell and openssl: Linux, macOS, or Windows with WSL or Git"
            " Bash. Put your customer id, exactly as the organisation uses it, into a file and nothing else, for"
            " example my-id.txt. Then, in this folder:"
        ),
        f"    sh {SCRIPT} my-id.txt",
        _text(
            "It says in words what your row says, or what is wrong. That is what counts: it looks at the row, and not"
            f" at {RECEIPT_PAGE}, which anyone could have changed since. It sends nothing anywhere. You can read it"
            " before you run it: it is short, and openssl does all the arithmetic."
        ),
        *(_signature() if signed else [_text("3. The record is not signed: nobody answers for it with a key.")]),
        _text(
            "4. Keep the folder. If you or an authority ever see the whole record, its checkpoint.txt and SHA256SUMS"
            " have to be the same as here, byte for byte."
        ),
    ]


def _signature() -> list[str]:
    return [
        _text(
            "3. The record is signed. To check that too, ask the organisation for its allowed_signers file and the name"
            " of the signer, and get them by another way than this folder: from its website, or in a letter. Then:"
        ),
        f"    sh {SCRIPT} my-id.txt allowed_signers NAME",
    ]


def _title(text: str) -> str:
    return f"{text}\n{'-' * len(text)}"


def _text(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
