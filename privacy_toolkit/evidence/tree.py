"""The hash tree over the rows of a pack: RFC 6962, section 2.1, which RFC 9162, section 2.1, repeats.

A tree is built of the hashes of its leaves, 32 bytes each; a leaf is a line of ``rows.jsonl`` without its line end.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from privacy_toolkit.evidence.errors import BadPack

#: The root of a tree without leaves: SHA-256 of nothing.
EMPTY_ROOT = sha256().digest()
HASH_SIZE = 32

# The first byte keeps a leaf from being passed off as a node and the other way round (RFC 9162, section 2.1.1).
_LEAF, _NODE = b"\x00", b"\x01"


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
            ValueError: it is no hash; a line was handed in, most likely.
        """
        if len(leaf) != HASH_SIZE:
            raise ValueError("a leaf of the tree is a hash of 32 bytes")
        peaks, size = self._peaks, self.size
        while size & 1:
            leaf = node_hash(peaks.pop(), leaf)
            size >>= 1
        peaks.append(leaf)
        self.size += 1

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
