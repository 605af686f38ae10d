"""Known hashes of RFC 6962 trees; the properties stand in tests/properties/test_tree.py."""

from hashlib import sha256

import pytest

from privacy_toolkit.evidence.files import BadPack, Tree, inclusion_path, leaf_hash, node_hash, root_from_path

#: The inputs and roots that the reference implementations of RFC 6962 are tested with.
LINES = [
    bytes.fromhex(line)
    for line in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_roots_are_those_of_the_reference_implementations(size):
    tree = Tree()
    for line in LINES[:size]:
        tree.add(leaf_hash(line))
    assert (tree.size, tree.root().hex()) == (size, ROOTS[size])


@pytest.mark.parametrize("cut", range(len(ROOTS)))
def test_lines_put_in_together_give_the_same_roots(cut):
    tree = Tree()
    tree.add_lines(LINES[:cut])
    tree.add_lines(LINES[cut:])
    assert (tree.size, tree.root().hex()) == (len(LINES), ROOTS[-1])


def test_root_can_be_asked_for_while_the_tree_grows():
    tree = Tree()
    seen = [tree.root().hex()]
    for line in LINES:
        tree.add(leaf_hash(line))
        seen.append(tree.root().hex())
    assert seen == ROOTS


def test_a_leaf_is_told_from_a_node():
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert node_hash(left, right) == sha256(b"\x01" + left + right).digest()
    assert leaf_hash(left + right) == sha256(b"\x00" + left + right).digest()
    assert leaf_hash(left + right) != node_hash(left, right)


def test_a_line_instead_of_its_hash_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="32 bytes"):
        Tree().add(b'{"subject":"00"}')


@pytest.mark.parametrize("index", [-1, 3, 4])
def test_there_is_no_path_from_a_leaf_that_is_not_there(index):
    with pytest.raises(IndexError):
        inclusion_path([leaf_hash(b"x")] * 3, index)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3), (7, 3)])
def test_a_row_beyond_the_pack_is_refused(index, size):
    with pytest.raises(BadPack, match="no such row"):
        root_from_path(leaf_hash(b"x"), index, size, [])


def test_a_path_that_is_shorter_or_longer_is_refused():
    leaves = [leaf_hash(line) for line in LINES[:7]]
    for index in range(7):
        path = inclusion_path(leaves, index)
        with pytest.raises(BadPack, match="ends below"):
            root_from_path(leaves[index], index, 7, path[:-1])
        with pytest.raises(BadPack, match="longer"):
            root_from_path(leaves[index], index, 7, [*path, path[-1]])
