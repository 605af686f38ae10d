"""The names of a pack's files and what binds them: sums, ``checkpoint.txt``, the hash tree over the rows."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from privacy_toolkit.core.durable import probe, read_regular
from privacy_toolkit.core.model import ExitCode, ToolkitError, UsageError

# The names of a pack's files, and what can be wrong with evidence.

# What can be wrong with evidence: a pack that is not what it should be, or one that can't be written.


class BadPack(ToolkitError):  # noqa: N818 - it names what was found, as the word stands in reports and in the guides
    """Something of a pack is not what it should be: changed, damaged, or made by something else."""

    exit_code = ExitCode.VERIFICATION_FAILED
    code = "bad_pack"


class PackError(ToolkitError):
    """The pack can't be written where it should be: disk full, permissions."""

    exit_code = ExitCode.STOPPED
    code = "pack"


REPORT_HTML, REPORT_JSON, REPORT_SCHEMA = "report.html", "report.json", "report.schema.json"
ROWS, ROWS_PARQUET, ROW_SCHEMA, EXCEPTIONS = "rows.jsonl", "rows.parquet", "row.schema.json", "exceptions.csv"
#: The refused rows of the input: where each stands and why. In every pack since the third format of the report.
REJECTED = "rejected.csv"
#: What a pack may say of the plan. In every pack since the third format of the report.
PLAN = "plan.json"
#: A pack with more rows has them in parts of so many, ``rows-0001.jsonl`` and on, in the order of the rows.
ROWS_IN_PART = 10_000_000
APPROVAL, APPROVAL_SIGNATURE = "approval.txt", "approval.txt.sig"
CHECKPOINT, VERIFY, SUMS, SIGNATURE = "checkpoint.txt", "VERIFY.txt", "SHA256SUMS", "SHA256SUMS.sig"
#: In the place of everything else: that one person was taken off the list of erased customers, by whom and why.
REMOVAL = "removal.json"
#: The folder with the manifests of earlier packs of the same run, each in a folder named by its number in the chain.
EARLIER = "earlier"
#: The parts of such a manifest.
LINK = (CHECKPOINT, SUMS, SIGNATURE)
#: Every name that can be in ``SHA256SUMS``, but for those in ``EARLIER``.
NAMES = frozenset(
    {
        *(REPORT_HTML, REPORT_JSON, REPORT_SCHEMA, ROWS, ROWS_PARQUET, ROW_SCHEMA, EXCEPTIONS, REJECTED, PLAN),
        *(APPROVAL, APPROVAL_SIGNATURE, CHECKPOINT, VERIFY, REMOVAL),
    }
)


class RowsPart(NamedTuple):
    """Two files with the same rows: as lines, and as Parquet."""

    lines: str
    parquet: str


WHOLE: Final = RowsPart(ROWS, ROWS_PARQUET)


def row_files(size: int) -> list[RowsPart]:
    """Name the files for so many rows, in the order of the rows: two, or two for each part."""
    return [WHOLE] if size <= ROWS_IN_PART else _parts(-(-size // ROWS_IN_PART))


def rows_among(names: Iterable[str]) -> list[RowsPart]:
    """Name the files that hold the rows of a pack with files of these names, in the order of the rows.

    Packs of earlier versions have two, however many rows they have. Whatever is missing of the parts is named too.
    """
    there = set(names)
    numbers = [int(name[5:9]) for name in filter(is_part, there)]
    return _parts(max(numbers)) if numbers and not there & set(WHOLE) else [WHOLE]


def is_part(name: str) -> bool:
    """Tell whether a file of that name is a part of the rows."""
    return re.fullmatch(_PART, name) is not None


def _parts(count: int) -> list[RowsPart]:
    return [RowsPart(f"rows-{number:04}.jsonl", f"rows-{number:04}.parquet") for number in range(1, count + 1)]


def relative_files(folder: Path) -> Iterator[str]:
    """The paths of all files in a folder and those below it, relative, with ``/`` between their parts."""
    for parent, _, names in os.walk(folder):
        for name in names:
            yield (Path(parent) / name).relative_to(folder).as_posix()


# What a pack commits to: the hash tree over its rows (RFC 6962, section 2.1), its checkpoint and ``SHA256SUMS``.
#
# A tree is built of the hashes of its leaves, 32 bytes each; a leaf is a line of ``rows.jsonl`` without its line end.

# ``SHA256SUMS``: the digests of all files of a pack, in the format that ``sha256sum -c`` of GNU coreutils reads.

# A closed list: names of a pack's own files, and those of the links of earlier packs.
_EARLIER = rf"{EARLIER}/[1-9][0-9]{{0,7}}/(?:{'|'.join(map(re.escape, LINK))})"
_PART = r"rows-(?!0000)[0-9]{4}\.(?:jsonl|parquet)"
_NAME = rf"(?:{'|'.join(map(re.escape, sorted(NAMES)))}|{_PART}|{_EARLIER})"
_LINE = re.compile(rf"([0-9a-f]{{64}})  ({_NAME})\n")


def encode_sums(sums: Mapping[str, str]) -> bytes:
    """The file's bytes: a line a file, in the order of the names' bytes.

    Args:
        sums: relative POSIX path to SHA-256 in hexadecimal digits.

    Raises:
        ValueError: a name or a digest can't be there.
    """
    lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())]
    if not all(map(_LINE.fullmatch, lines)):
        raise ValueError("a name or a digest can't stand in SHA256SUMS")
    return "".join(lines).encode()


def decode_sums(data: bytes) -> dict[str, str]:
    """Read sums; only the bytes that ``encode_sums`` would give are taken.

    Raises:
        BadPack: they are others.
    """
    sums = {}
    text = data.decode("ascii", "replace")
    position = 0
    while match := _LINE.match(text, position):
        digest, name = match.groups()
        sums[name] = digest
        position = match.end()
    if position != len(text) or not sums or encode_sums(sums) != data:
        raise BadPack("SHA256SUMS is not as this toolkit writes it.")
    return sums


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits; read in a stream.

    Raises:
        OSError: it can't be read, or is no regular file: no link is followed and no pipe waited for.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_bytes(data: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


# ``checkpoint.txt``: what a pack commits to, as the body of a C2SP tlog-checkpoint (https://c2sp.org/tlog-checkpoint).
#
# Origin, tree size and root hash are in the first three lines; what this toolkit adds are extension lines.

#: What an origin begins with; the chain's id follows.
ORIGIN = "privacy-toolkit/"

_RUN_ID = rb"[0-9A-Za-z][0-9A-Za-z._-]{0,127}"
_FORM = re.compile(
    rb"(privacy-toolkit/[0-9a-f]{32})\n"
    rb"(0|[1-9][0-9]{0,14})\n"
    rb"([0-9A-Za-z+/]{43}=)\n"
    rb"run (" + _RUN_ID + rb")\n"
    rb"sequence ([1-9][0-9]{0,7})\n"
    rb"previous ([0-9a-f]{64}|none)\n"
)


class Checkpoint(msgspec.Struct, frozen=True):
    """The rows of a pack as size and root of their tree, and the pack's place in the chain of packs.

    Attributes:
        origin: ``privacy-toolkit/`` and the id of the chain.
        size: how many rows there are.
        root: the root of the tree over them, 32 bytes.
        run_id: the run that the pack is about.
        sequence: the number of the pack in the chain, from 1.
        previous: SHA-256 of the ``SHA256SUMS`` of the pack before it, in hexadecimal digits; None for the first.
    """

    origin: str
    size: int
    root: bytes
    run_id: str
    sequence: int
    previous: str | None

    def encode(self) -> bytes:
        """The file's bytes.

        Raises:
            ValueError: a field can't be in a checkpoint.
        """
        data = (
            f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"
            f"run {self.run_id}\nsequence {self.sequence}\nprevious {self.previous or 'none'}\n"
        ).encode()
        if not _FORM.fullmatch(data) or (self.previous is None) != (self.sequence == 1):
            raise ValueError("a field can't stand in a checkpoint")
        return data

    @classmethod
    def decode(cls, data: bytes) -> Checkpoint:
        """Read a checkpoint; only the bytes that ``encode`` would give are taken.

        Raises:
            BadPack: they are others.
        """
        match = _FORM.fullmatch(data)
        if match is None:
            raise BadPack("The checkpoint is not one that this toolkit writes.")
        origin, size, root, run_id, sequence, previous = match.groups()
        checkpoint = cls(
            origin.decode(),
            int(size),
            b64decode(root),
            run_id.decode(),
            int(sequence),
            None if previous == b"none" else previous.decode(),
        )
        if checkpoint._bytes_or_none() != data:  # such as spare bits in the base64, or a first one with one before it
            raise BadPack("The checkpoint is not one that this toolkit writes.")
        return checkpoint

    def _bytes_or_none(self) -> bytes | None:
        try:
            return self.encode()
        except ValueError:
            return None


#: The root of a tree without leaves: SHA-256 of nothing.
EMPTY_ROOT = sha256().digest()
HASH_SIZE = 32

# The first byte keeps a leaf from being passed off as a node and the other way round (RFC 9162, section 2.1.1).
_LEAF, _NODE = b"\x00", b"\x01"
_LEAF_BEGUN, _NODE_BEGUN = sha256(_LEAF), sha256(_NODE)


def leaf_hash(line: bytes) -> bytes:
    """The hash of a leaf: SHA-256(0x00 || line). ``line`` comes without its line end."""
    return sha256(_LEAF + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two others: SHA-256(0x01 || left || right)."""
    return sha256(_NODE + left + right).digest()


class Tree:
    """A tree that grows leaf by leaf; it keeps one hash for each bit set in its size, so ten million need 24.

    Attributes:
        size: how many leaves it has.
    """

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []  # of the full subtrees that make up the tree, the largest first

    def add(self, leaf: bytes) -> None:
        """Put a leaf's hash (``leaf_hash``) at the end.

        Raises:
            ValueError: it is no hash; a line was passed in, most likely.
        """
        if len(leaf) != HASH_SIZE:
            raise ValueError("a leaf of the tree is a hash of 32 bytes")
        peaks, size = self._peaks, self.size
        while size & 1:
            leaf = node_hash(peaks.pop(), leaf)
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def add_lines(self, lines: Iterable[bytes]) -> None:
        """Put lines at the end, each as the leaf that it is: as ``add`` with ``leaf_hash``, in half of the time."""
        peaks, size = self._peaks, self.size
        for line in lines:
            hashed = _LEAF_BEGUN.copy()
            hashed.update(line)
            node, filled = hashed.digest(), size
            while filled & 1:
                hashed = _NODE_BEGUN.copy()
                hashed.update(peaks.pop() + node)
                node = hashed.digest()
                filled >>= 1
            peaks.append(node)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """The hash over all leaves so far (RFC 9162, section 2.1.1)."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that lead from a leaf to the root, the lowest first (RFC 9162, section 2.1.3.1).

    Args:
        leaves: the hashes of all leaves.
        index: which of them, from 0.

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError("no such leaf")
    path = []
    level = leaves
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        # A node at the end without a sibling goes up as it is, which gives the tree of the RFC's recursive definition.
        above = [node_hash(level[k], level[k + 1]) for k in range(0, len(level) - 1, 2)]
        level = above if len(level) % 2 == 0 else [*above, level[-1]]
        index //= 2
    return path


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root to which a path leads from a leaf's hash (RFC 9162, section 2.1.3.2, up to its last comparison).

    Raises:
        BadPack: a tree of this size has no such leaf, or its path is shorter or longer.
    """
    if not 0 <= index < size:
        raise BadPack("There is no such row in a pack of this size.")
    node, last, root = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise BadPack("The path is longer than the tree is high.")
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while node and not node & 1:  # levels on which the node had no sibling
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise BadPack("The path ends below the root.")
    return root


# Where a pack can be put.


def check_place(folder: Path, run_id: str | None) -> None:
    """Make sure that a pack can be put at ``folder``: nothing but an earlier pack of the same run is ever replaced.

    ``run_id`` is None for a run that does not exist yet. Where the pack, or a folder above it, has still to be made,
    it is tried whether it could be; nothing is left behind.

    Raises:
        UsageError: it can't; the message says why.
    """
    folder = folder.resolve()
    check_free(folder, run_id)
    try:
        is_inside = any((above / SUMS).exists() and (above / CHECKPOINT).exists() for above in folder.parents)
        is_mount = folder.is_mount()
        probe(folder.parent)
    except OSError as error:
        raise _unusable(f"Nothing can be written there: {error.strerror or 'the system gave no reason'}.") from None
    if is_inside:
        raise _unusable("It is inside another pack, which would then no longer be what was signed.")
    if is_mount:
        raise _unusable("It is a mount point, which can't be put in place as a whole. Name a folder inside it.")


def check_free(folder: Path, run_id: str | None) -> None:
    """Make sure that ``folder`` is empty, not there, or an earlier pack of the same run.

    Raises:
        UsageError: something else is there.
    """
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
        found = msgspec.json.decode(read_regular(folder / REPORT_JSON), type=dict[str, object])
        if run_id is not None and found.get("run_id") == run_id:
            return
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    raise _unusable("It is taken by something that is no pack of this run.")


def _unusable(why: str) -> UsageError:
    return UsageError(f"The place for the pack can't be used. {why}", "Name another folder with --pack.", code="pack")


# The JSON Schemas of what the toolkit writes. They are in the package, so that a pack can carry them and anyone who
# reads one needs nothing else.

SCHEMAS: Final = ("plan", "report", "row")


def schema_of(name: str) -> bytes:
    """Give the JSON Schema ``report``, ``row`` or ``plan``, as it goes into a pack.

    Raises:
        ValueError: there is no schema of that name.
    """
    if name not in SCHEMAS:
        raise ValueError(f"there is no schema {name!r}")
    return schema_path(name).read_bytes()


def schema_path(name: str) -> Path:
    """Give the place of the schema of that name."""
    return Path(__file__).parents[1] / "schemas" / f"{name}.schema.json"
