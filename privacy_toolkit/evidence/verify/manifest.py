"""Checks of files and signatures: ``SHA256SUMS``, allowed signers, links of the chain, approval, removals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain

import msgspec

from privacy_toolkit.engine.approval import Terms, statement, terms_of
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.files import BadPack, Checkpoint, decode_sums
from privacy_toolkit.evidence.seal import FORMAT, Link, Removal
from privacy_toolkit.evidence.verify.findings import Check, Code, PackFolder, SignerFound, Unusable
from privacy_toolkit.reporting.schema import Report
from privacy_toolkit.signatures.signers import AllowedSigners
from privacy_toolkit.signatures.sshsig import APPROVAL_NAMESPACE, PACK_NAMESPACE, BadSignature, verify

# Whose signature it is, and whether someone vouches for that key.

#: A signature is some 300 bytes; one of a hardware key a little more.
LARGEST_SIGNATURE = 16 * 1024


class Trust(msgspec.Struct, frozen=True):
    """Who may sign, at which moment. ``signers`` None: it is not known who may."""

    signers: AllowedSigners | None
    at: datetime

    def judge(self, pack: PackFolder, signed: tuple[str, bytes], signature: str, namespace: str) -> SignerFound:
        """Verify the signature in the file ``signature`` over a file.

        Args:
            pack: the folder of both.
            signed: the name and the bytes of what should be signed.
            signature: the name of the file with the signature.
            namespace: what the signature should be for.

        Raises:
            Unusable: it does not hold; that was noted. A key that holds but is not allowed is noted and given back.
        """
        armored = pack.text(signature, LARGEST_SIGNATURE)
        try:
            key = verify(armored, signed[1], namespace)
        except BadSignature as error:
            pack.note(Code.BAD_SIGNATURE, signature, f"It is no good signature of {signed[0]}. {error.message}")
            raise Unusable from None
        if self.signers is None:
            return SignerFound(key.fingerprint)
        principals = tuple(self.signers.principals(key, namespace, self.at))
        if not principals:
            pack.note(
                Code.SIGNER_NOT_ALLOWED,
                signature,
                f"It was made with the key {key.fingerprint}, which the allowed signers don't allow now for"
                f" {namespace}.",
            )
        return SignerFound(key.fingerprint, principals, bool(principals))


# The files of a pack against ``SHA256SUMS``, and ``SHA256SUMS`` against its signature.

#: What every pack has besides its rows, and ``SHA256SUMS`` has to name. Approval and ``earlier`` depend on the run.
REQUIRED = (
    files.REPORT_HTML,
    files.REPORT_JSON,
    files.REPORT_SCHEMA,
    files.ROW_SCHEMA,
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


class Manifest(msgspec.Struct):
    """``SHA256SUMS`` as found. ``data`` is None where it can't be read, ``sums`` empty where it makes no sense."""

    data: bytes | None = None
    sums: dict[str, str] = msgspec.field(default_factory=dict)
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
    rows = set(chain.from_iterable(files.rows_among(manifest.sums)))
    required = {files.REMOVAL, files.CHECKPOINT} if files.REMOVAL in manifest.sums else {*REQUIRED, *rows}
    for name in sorted(filter(files.is_part, manifest.sums.keys() - rows)):
        pack.note(Code.NOT_CANONICAL, files.SUMS, f"It names {name}, and rows are in one file or in parts.")
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
            check.skip("This pack is not signed: anyone who changed it could have rewritten everything in it.")
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


# Links of the chain of packs, wherever they lie: in a pack, in its ``earlier`` folder, in the record of all packs.

#: As runs are named: the time, the job, and some random digits.
RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z_]+-[0-9a-f]+")
_LARGEST_CHECKPOINT = 4096


class Found(msgspec.Struct, frozen=True):
    """A link that holds in itself. ``where`` is the folder it is in, ``whole`` whether that is a whole pack."""

    head: Checkpoint
    hash: str
    where: str
    whole: bool
    signed: bool


def read_checkpoint(pack: PackFolder, below: str = "") -> Checkpoint:
    """The checkpoint of a pack, or of the link in the folder ``below`` of it.

    Raises:
        Unusable: it is none; that was noted.
    """
    file = below + files.CHECKPOINT
    try:
        return Checkpoint.decode(pack.text(file, _LARGEST_CHECKPOINT))
    except BadPack as error:
        pack.note(Code.NOT_CANONICAL, file, error.message)
        raise Unusable from None


def read_link(pack: PackFolder, trust: Trust, below: str = "") -> Found:
    """The link in the folder ``below`` of a pack, or the pack itself, with its signature verified.

    Raises:
        Unusable: it does not hold in itself; that was noted.
    """
    head = read_checkpoint(pack, below)
    sums, signature = pack.text(below + files.SUMS, LARGEST_SUMS), below + files.SIGNATURE
    signed = signature in pack.files
    link = Link(pack.text(below + files.CHECKPOINT, _LARGEST_CHECKPOINT), sums, None)
    try:
        link.head()
    except BadPack as error:
        pack.note(Code.HASH_DIFFERS, below + files.SUMS, error.message)
        raise Unusable from None
    if signed:
        trust.judge(pack, (below + files.SUMS, sums), signature, PACK_NAMESPACE)
    elif trust.signers is not None:
        pack.note(Code.UNSIGNED, signature, "This link is not signed, and allowed signers were given.")
    return Found(head, link.hash, pack.name + below, whole=not below and files.REPORT_JSON in pack.files, signed=signed)


def read_earlier(pack: PackFolder, trust: Trust) -> Iterator[Found]:
    """The links in the folder ``earlier`` of a pack; what does not hold is noted and left out."""
    for folder in sorted(folder for folder in pack.folders if folder.startswith(f"{files.EARLIER}/")):
        try:
            found = read_link(pack, trust, f"{folder}/")
        except Unusable:
            continue
        if folder != f"{files.EARLIER}/{found.head.sequence}":
            pack.note(Code.REPLAYED, folder, f"It holds number {found.head.sequence} of the chain.")
        yield found


def check_earlier(pack: PackFolder, head: Checkpoint | None, trust: Trust, check: Check) -> None:
    """Check the links of earlier packs of the same run that a pack carries along.

    Raises:
        Unusable: there are some, but the pack's own checkpoint, which was noted, says nothing.
    """
    if not any(file.startswith(f"{files.EARLIER}/") for file in pack.files):
        check.skip("No earlier packs of this run are named.")
        return
    found = list(read_earlier(pack, trust))
    numbers = ", ".join(str(link.head.sequence) for link in found)
    check.words = f"The links of the earlier packs of this run, which this one replaces: {numbers or 'none'}."
    if head is None:
        raise Unusable
    for link in found:
        where = link.where.removeprefix(pack.name) + files.CHECKPOINT
        if link.head.origin != head.origin:
            pack.note(Code.CHAIN_ORIGIN, where, "It is of another chain.")
        if link.head.run_id != head.run_id:
            pack.note(Code.RUN_DIFFERS, where, "It is of another run.")
        if link.head.sequence >= head.sequence:
            pack.note(Code.REPLAYED, where, "It is not earlier than that of this pack.")


# ``approval.txt``: what a second person signed before the run began.


def check_approval(
    pack: PackFolder,
    report: Report | None,
    plan: Plan | None,
    signer: SignerFound | None,
    trust: Trust,
    check: Check,
) -> None:
    """Verify the approval, if there is one: its signature, what it approves, and that it is a second person's.

    Raises:
        Unusable: its signature does not hold; that was noted.
    """
    there = [name for name in (files.APPROVAL, files.APPROVAL_SIGNATURE) if name in pack.files]
    said = report.signatories.approved if report else None
    if not there and said is None:
        check.skip("No approval: the plan was not approved by a second person, and the report does not say it was.")
        return
    if not there:
        pack.note(Code.MISSING, files.APPROVAL, "The report says that the plan was approved; the approval is missing.")
        raise Unusable
    said_then = pack.text(files.APPROVAL)
    key = trust.judge(pack, (files.APPROVAL, said_then), files.APPROVAL_SIGNATURE, APPROVAL_NAMESPACE)
    check.words = f"The approval: signed for {APPROVAL_NAMESPACE} with the key {key.fingerprint}, naming this plan."
    if report is None:
        raise Unusable
    if said is None or said.fingerprint != key.fingerprint:
        pack.note(Code.BAD_APPROVAL, files.REPORT_JSON, "It names another key than the one that approved.")
    elif trust.signers is not None and said.name not in key.principals:
        pack.note(Code.BAD_APPROVAL, files.REPORT_JSON, "It names someone other than the allowed signers do.")
    for what in _differences(said_then, report):
        pack.note(Code.BAD_APPROVAL, files.APPROVAL, f"It says another thing than the report: {what}.")
    _check_statement(pack, said_then, report, plan)
    _check_people(pack, report, key, signer, trust)


def _check_statement(pack: PackFolder, said: bytes, report: Report, plan: Plan | None) -> None:
    """Compare an approval with the one that the plan in the pack gives, word for word but for addresses and paths."""
    terms = terms_of(said)
    if plan is None or terms is None:
        return
    if _comparable(said.decode("utf-8", "replace")) != _comparable(statement(plan, terms)):
        pack.note(Code.BAD_APPROVAL, files.APPROVAL, "It approves another plan than the one in the pack.")
    if report.signatories.approved is not None and report.signatories.approved.at != _approved_at(terms):
        pack.note(Code.BAD_APPROVAL, files.REPORT_JSON, "It says another time of the approval than its statement.")


def _comparable(said: str) -> list[str]:
    """A statement without what ``plan.json`` leaves out; the plan's digest binds that as well."""
    return [line for line in said.split("\n") if not line.startswith(("out: ", "requests go to: "))]


def _approved_at(terms: Terms) -> str:
    return datetime.fromtimestamp(terms.approved_at.timestamp(), UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


def _check_people(pack: PackFolder, report: Report, key: SignerFound, signer: SignerFound | None, trust: Trust) -> None:
    """Four eyes are two people: by their keys, and where a list is given by the names under which it has them."""
    hands = {hand.fingerprint for hand in (report.signatories.planned, *report.signatories.ran)}
    same = frozenset({key.fingerprint}) if trust.signers is None else trust.signers.same_person(key.fingerprint)
    if same & (hands | {signer and signer.fingerprint}):
        message = "The approver also made the plan, carried it out, or signed the pack, by the keys or by the list."
        pack.note(Code.NOT_INDEPENDENT, files.APPROVAL_SIGNATURE, message)
    if trust.signers is not None and not all(hand is None or trust.signers.names_of(hand) for hand in hands):
        message = "The key that made the plan, or carried it out, is not among the allowed signers: nobody knows whose."
        pack.note(Code.NOT_INDEPENDENT, files.APPROVAL_SIGNATURE, message)


def _differences(statement: bytes, report: Report) -> list[str]:
    """What the report says otherwise than the statement. Its plan it has to name; of the rest it may say less."""
    lines = [line.partition(": ") for line in statement.decode("utf-8", "replace").split("\n")]
    said = {name: value for name, colon, value in lines if colon}
    rows, plan = report.rows, report.plan
    wanted = {
        "made at": plan.created_at,
        "job": report.job,
        "target": report.target,
        "environment": report.environment,
        "subjects": str(rows.subjects),
        "rejected rows": str(rows.rejected),
        "verification": plan.verify,
    }
    differ = [name for name, value in wanted.items() if said.get(name, value) != value]
    return differ if said.get("plan") == f"sha256 {plan.digest}" else ["plan", *differ]


def check_removal(pack: PackFolder, manifest: Manifest) -> None:
    """Check that a removal is written as one is, is signed by whom it names, and is alone.

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
        pack.note(Code.UNLISTED, name, "A removal has only its own files, and this is not one of them.")
    signer = manifest.signer
    if removal.fingerprint != (signer and signer.fingerprint):
        pack.note(Code.SIGNER_DIFFERS, files.REMOVAL, "It names another key than the one that signed.")
