import re
import shlex

import pytest
from msgspec.structs import replace

from privacy_toolkit.evidence.files import Checkpoint
from privacy_toolkit.evidence.seal import Signed, verify_text

FIRST = Checkpoint("privacy-toolkit/" + "0f" * 16, 1_000_000, bytes(32), "20261124-120000-erase-0a1b2c", 1, None)
SECOND = replace(FIRST, sequence=2, previous="ab" * 32)
KEY = Signed("SHA256:g2Rikjg5UEN82CtO3lluyaUfzkmwaD2Wksfd8VuJwZI", "dpo@example.org")
ALL = [
    (FIRST, [], None, None),
    (FIRST, [], KEY, None),
    (SECOND, [1], replace(KEY, principal=None), "second@example.org"),
    (replace(SECOND, sequence=99_999_999), list(range(1, 60)), KEY, "second@example.org"),
    (SECOND, [], None, "second@example.org"),
]


def text(*arguments):
    return verify_text(*arguments).decode("ascii")


def words(page):
    return " ".join(page.split())


@pytest.mark.parametrize("arguments", ALL)
def test_page_fits_on_a_screen_of_80_columns_and_is_plain_text(arguments):
    page = text(*arguments)
    assert max(map(len, page.splitlines())) <= 80
    assert page.endswith("\n")
    assert not re.search(r"\n\n\n|[ \t]\n|\t|\r", page)


@pytest.mark.parametrize("arguments", ALL)
def test_page_says_what_the_pack_does_not_prove(arguments):
    page = words(text(*arguments))
    for claim in ("holds no other copy", "whoever signed is honest", "unless another party has stamped them"):
        assert claim in page


def test_signed_pack_names_key_and_signer_and_another_way_to_the_key():
    page = text(FIRST, [], KEY, None)
    assert f"  {KEY.fingerprint}\n" in page
    assert "-I dpo@example.org" in page
    assert "by another way than this pack" in words(page)
    assert "not signed" not in page


def test_name_that_is_not_known_is_looked_up():
    page = text(FIRST, [], replace(KEY, principal=None), None)
    assert "name=$(ssh-keygen -Y find-principals" in page
    assert '-I "$name"' in page


def test_unsigned_pack_says_so_and_offers_no_signature_to_check():
    page = text(FIRST, [], None, None)
    assert "This pack is not signed\n" in page
    assert "SHA256SUMS.sig" not in page
    assert "allowed_signers" not in page
    assert "    sha256sum -c --strict SHA256SUMS\n" in page


def test_name_can_not_become_a_command():
    name = "a;rm$(x)`y`'z\""
    for page in (text(FIRST, [], replace(KEY, principal=name), None), text(FIRST, [], None, name)):
        (line,) = [line for line in page.splitlines() if line.lstrip().startswith("-I ")]
        assert shlex.split(line.removesuffix("\\")) == ["-I", name]


def test_page_says_where_in_the_chain_the_pack_stands():
    first, second = words(text(FIRST, [], None, None)), words(text(SECOND, [], None, None))
    assert f"number 1 of the chain {FIRST.origin}. It is the first" in first
    assert f"number 2 of the chain {FIRST.origin}" in second
    assert f"The pack before it, number 1, is the one whose SHA256SUMS has the SHA-256 {'ab' * 32}" in second


def test_page_names_the_packs_that_this_one_replaces():
    assert "takes the place of number 1, made of the same run before" in words(text(SECOND, [1], None, None))
    assert "takes the place of numbers 1, 2, made of the same run before" in words(
        text(replace(SECOND, sequence=3), [1, 2], None, None)
    )
    assert "takes the place of" not in text(SECOND, [], None, None)


def test_approval_is_checked_in_its_own_namespace():
    page = text(FIRST, [], KEY, "second@example.org")
    assert "-I second@example.org \\\n        -n privacy-toolkit-plan-approval@v1 \\\n" in page
    assert "-s approval.txt.sig < approval.txt\n" in page
    assert "approval" not in text(FIRST, [], KEY, None)


def test_page_depends_on_nothing_but_its_arguments():
    assert [verify_text(*arguments) for arguments in ALL] == [verify_text(*arguments) for arguments in ALL]
    assert len({verify_text(*arguments) for arguments in ALL}) == len(ALL)
