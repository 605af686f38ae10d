"""Whatever is signed is verified, and whatever is not is refused with an error for people."""

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.signatures import sshsig as wire
from privacy_toolkit.signatures.signers import AllowedSigners, load_signer, matches
from privacy_toolkit.signatures.sshsig import (
    PACK_NAMESPACE,
    BadSignature,
    PublicKey,
    allowed_signers_line,
    check_principal,
    enclose,
    verify,
)

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
PUBLIC = PublicKey("ssh-ed25519", wire.string(b"ssh-ed25519") + wire.string(PRIVATE.public_key().public_bytes_raw()))
NAMESPACES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=80)
NOW = datetime(2024, 6, 1, tzinfo=UTC)


@given(message=st.binary(max_size=2_000), namespace=NAMESPACES, other=NAMESPACES)
def test_what_is_signed_is_verified_for_that_use_alone(message, namespace, other):
    armored = enclose(PUBLIC, message, namespace, PRIVATE.sign)
    assert verify(armored, message, namespace) == PUBLIC
    assume(other != namespace)
    with pytest.raises(BadSignature):
        verify(armored, message, other)


@given(blob=st.binary(max_size=600))
def test_armor_gives_back_what_was_put_in_and_has_one_form(blob):
    armored = wire.armor(blob)
    assert wire.unarmor(armored) == blob
    assert all(len(line) <= 70 for line in armored.splitlines())


@given(text=st.binary(max_size=300) | st.binary(max_size=300).map(wire.armor))
@example(wire.armor(b"SSHSIG\0\0\0\x01\xff\xff\xff\xff"))
def test_bytes_of_any_kind_are_refused_as_a_bad_signature(text):
    with pytest.raises(BadSignature):
        verify(text, b"message", PACK_NAMESPACE)


@given(
    fields=st.lists(
        st.sampled_from([PUBLIC.blob, PACK_NAMESPACE.encode(), b"", b"sha512", b"ssh-ed25519"])
        | st.binary(max_size=90),
        max_size=6,
    )
)
def test_envelopes_of_any_kind_are_refused_as_a_bad_signature(fields):
    blob = b"SSHSIG" + wire.uint32(1) + b"".join(map(wire.string, fields))
    with pytest.raises(BadSignature):
        verify(wire.armor(blob), b"message", PACK_NAMESPACE)


@given(text=st.text("ab@", max_size=12), pattern=st.text("ab@*?", max_size=8))
def test_a_pattern_means_what_its_regular_expression_means(text, pattern):
    expression = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    assert matches(text, pattern) == bool(re.fullmatch(expression, text, re.DOTALL))


@settings(max_examples=200)
@given(
    line=st.text(st.sampled_from(' \t",=\\!*?#@abnamespcvlidfortyu-0123456789Z') | st.characters(), max_size=60),
    keyed=st.booleans(),
)
def test_a_list_of_any_kind_is_read_or_refused_with_the_line(line, keyed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list"
        path.write_bytes(f"{line}{' ' + PUBLIC.line if keyed else ''}".encode("utf-8", "surrogatepass"))
        try:
            allowed = AllowedSigners.read(path)
        except UsageError as error:
            assert re.search(r"^Line \d+ of ", error.message)  # noqa: PT017 - either way is right
        else:
            assert isinstance(allowed.principals(PUBLIC, PACK_NAMESPACE, NOW), list)


@given(
    first=st.sampled_from("a_7") | st.characters(categories=("L", "N")),
    rest=st.text(st.sampled_from("abc._+@=:/-") | st.characters(categories=("L", "N")), max_size=12),
)
def test_a_name_that_can_be_used_is_found_again_in_the_list_and_is_only_itself(first, rest):
    principal = first + rest
    assert check_principal(principal) == principal
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list"
        path.write_text(allowed_signers_line(principal, PUBLIC) + "\n", "utf-8")
        allowed = AllowedSigners.read(path)
    assert allowed.principals(PUBLIC, PACK_NAMESPACE, NOW) == [principal]
    assert not allowed.allows(principal + "x", PUBLIC, PACK_NAMESPACE, NOW)


@given(content=st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"-----BEGIN OPENSSH" + rest))
def test_a_file_of_any_kind_is_no_signing_key_and_says_so(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(UsageError):
            load_signer(path)
