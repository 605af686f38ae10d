"""The tree is that of RFC 6962, section 2.1: held against the standard's own recursive definitions, written out."""

import contextlib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_toolkit.evidence.files import BadPack, Tree, inclusion_path, leaf_hash, root_from_path

SIZES = range(1, 131)
LEAVES = [leaf_hash(b"%d" % k) for k in range(SIZES.stop)]


def split(size: int) -> int:
    """The largest power of two smaller than ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def tree_hash(lines: list[bytes]) -> bytes:
    """MTH (RFC 6962, section 2.1)."""
    if not lines:
        return sha256().digest()
    if len(lines) == 1:
        return sha256(b"\x00" + lines[0]).digest()
    k = split(len(lines))
    return sha256(b"\x01" + tree_hash(lines[:k]) + tree_hash(lines[k:])).digest()


def audit_path(index: int, lines: list[bytes]) -> list[bytes]:
    """PATH (RFC 6962, section 2.1.1)."""
    if len(lines) <= 1:
        return []
    k = split(len(lines))
    if index < k:
        return [*audit_path(index, lines[:k]), tree_hash(lines[k:])]
    return [*audit_path(index - k, lines[k:]), tree_hash(lines[:k])]


def root_of(leaves: list[bytes]) -> bytes:
    tree = Tree()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


@given(st.lists(st.binary(max_size=40), max_size=140))
def test_root_is_the_merkle_tree_hash_of_the_lines(lines):
    assert root_of([leaf_hash(line) for line in lines]) == tree_hash(lines)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70), st.data())
def test_path_is_the_audit_path_of_the_standard(lines, data):
    index = data.draw(st.integers(0, len(lines) - 1))
    assert inclusion_path([leaf_hash(line) for line in lines], index) == audit_path(index, lines)


def test_every_leaf_of_every_size_up_to_130_leads_to_the_root_and_to_no_other_place():
    for size in SIZES:
        leaves = LEAVES[:size]
        root = root_of(leaves)
        for index in range(size):
            path = inclusion_path(leaves, index)
            assert root_from_path(leaves[index], index, size, path) == root
            assert len(path) <= (size - 1).bit_length()


def test_a_path_proves_no_other_index():
    for size in (1, 2, 3, 7, 8, 9, 64, 100):
        leaves = LEAVES[:size]
        root = root_of(leaves)
        for index in range(size):
            path = inclusion_path(leaves, index)
            for other in set(range(size)) - {index}:
                with contextlib.suppress(BadPack):  # the other leaf lies at another depth
                    assert root_from_path(leaves[index], other, size, path) != root


@given(st.integers(1, 130), st.data())
def test_a_changed_leaf_or_path_leads_elsewhere(size, data):
    leaves = LEAVES[:size]
    index = data.draw(st.integers(0, size - 1))
    parts = [leaves[index], *inclusion_path(leaves, index)]
    place = data.draw(st.integers(0, len(parts) - 1))
    position, change = data.draw(st.integers(0, 31)), data.draw(st.integers(1, 255))
    changed = bytearray(parts[place])
    changed[position] ^= change
    parts[place] = bytes(changed)
    assert root_from_path(parts[0], index, size, parts[1:]) != root_of(leaves)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 12))
def test_any_path_gives_a_hash_or_is_refused(index, size, length):
    path = LEAVES[:length]
    try:
        root = root_from_path(LEAVES[0], index, size, path)
    except BadPack:
        return
    assert len(root) == 32
    assert index < size


def test_a_tree_keeps_one_hash_for_each_bit_set_in_its_size():
    tree = Tree()
    leaf = leaf_hash(b"")
    for _ in range(70_000):
        tree.add(leaf)
    assert len(tree._peaks) == (70_000).bit_count()


@pytest.mark.parametrize("power", [0, 1, 5])
def test_a_full_tree_has_one_peak(power):
    tree = Tree()
    for leaf in LEAVES[: 2**power]:
        tree.add(leaf)
    assert tree._peaks == [root_of(LEAVES[: 2**power])]
