import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy_toolkit.core.model import ExitCode
from privacy_toolkit.signatures import sshsig as wire
from privacy_toolkit.signatures.sshsig import (
    APPROVAL_NAMESPACE,
    PACK_NAMESPACE,
    BadSignature,
    PublicKey,
    enclose,
    verify,
)

MESSAGE = b"d2a84f4b8b650937ec8f73cd8be2c74add5a911ba64df27458ed8229da804a26  report.json\n"
#: The order of the group (RFC 8032, section 5.1): S and S + ORDER would both satisfy the equation.
ORDER = 2**252 + 27742317777372353535851937790883648493


def signed(data, hash_name="sha512", namespace=PACK_NAMESPACE):
    """The bytes to sign, put together here from the standard and not from the code under test."""
    digest = hashlib.new(hash_name, data).digest()
    return b"SSHSIG" + b"".join(map(wire.string, (namespace.encode(), b"", hash_name.encode(), digest)))


def envelope(key, signature, hash_name=b"sha512", namespace=PACK_NAMESPACE, version=1, reserved=b"", after=b""):
    fields = (key.blob, namespace.encode(), reserved, hash_name, signature)
    return wire.armor(b"SSHSIG" + wire.uint32(version) + b"".join(map(wire.string, fields)) + after)


def ed25519(raw):
    return wire.string(b"ssh-ed25519") + wire.string(raw)


@pytest.fixture
def armored(pair):
    return enclose(pair.public, MESSAGE, PACK_NAMESPACE, pair.private.sign)


def refused(armored, message=MESSAGE, namespace=PACK_NAMESPACE):
    with pytest.raises(BadSignature) as caught:
        verify(armored, message, namespace)
    return caught.value


def test_what_was_signed_is_verified_and_gives_the_key(pair, armored):
    assert verify(armored, MESSAGE, PACK_NAMESPACE) == pair.public


def test_the_signature_is_the_one_of_the_standard(pair, armored):
    assert armored == envelope(pair.public, ed25519(pair.private.sign(signed(MESSAGE))))


def test_signing_again_gives_the_same_bytes(pair, armored):
    assert enclose(pair.public, MESSAGE, PACK_NAMESPACE, pair.private.sign) == armored


def test_an_empty_message_can_be_signed(pair):
    assert verify(enclose(pair.public, b"", PACK_NAMESPACE, pair.private.sign), b"", PACK_NAMESPACE) == pair.public


def test_a_refusal_is_a_failed_verification(armored):
    error = refused(armored, message=MESSAGE + b" ")
    assert error.exit_code is ExitCode.VERIFICATION_FAILED
    assert error.hint


def test_sha256_is_verified_too(pair):
    armored = envelope(pair.public, ed25519(pair.private.sign(signed(MESSAGE, "sha256"))), b"sha256")
    assert verify(armored, MESSAGE, PACK_NAMESPACE) == pair.public


@pytest.mark.parametrize("name", ["sha1", "md5", "sha384", "SHA512"])
def test_another_hash_is_refused(pair, name):
    armored = envelope(pair.public, ed25519(pair.private.sign(signed(MESSAGE, name))), name.encode())
    assert "hash" in refused(armored).message


def test_a_signature_for_another_use_is_refused(armored):
    error = refused(armored, namespace=APPROVAL_NAMESPACE)
    assert "another use" in error.message
    assert APPROVAL_NAMESPACE in error.hint


@pytest.mark.parametrize("other", [{"version": 0}, {"version": 2}, {"reserved": b"x"}, {"after": b"\0"}])
def test_what_is_not_signed_may_not_vary(pair, other):
    armored = envelope(pair.public, ed25519(pair.private.sign(signed(MESSAGE))), **other)
    assert "changed" in refused(armored).message


def test_a_key_of_an_unaccepted_kind_is_refused_and_the_accepted_are_named(rsa):
    error = refused(envelope(rsa, wire.string(b"rsa-sha2-512") + wire.string(bytes(256))))
    assert "RSA" in error.message
    assert "Ed25519" in error.hint


def test_a_key_that_cannot_be_read_is_refused(pair):
    broken = PublicKey("ssh-ed25519", wire.string(b"ssh-ed25519") + wire.string(bytes(31)))
    assert "can't be read" in refused(envelope(broken, ed25519(bytes(64)))).message


def test_the_signature_of_another_key_is_refused(pair, other):
    refused(envelope(pair.public, ed25519(other.private.sign(signed(MESSAGE)))))


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        ed25519(b""),
        ed25519(bytes(63)),
        ed25519(bytes(65)),
        ed25519(bytes(64)) + b"\0",
        wire.string(b"ssh-rsa") + wire.string(bytes(64)),
    ],
)
def test_a_signature_of_another_form_is_refused(pair, signature):
    refused(envelope(pair.public, signature))


def test_the_same_signature_with_another_number_is_refused(pair):
    raw = pair.private.sign(signed(MESSAGE))
    forged = raw[:32] + (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little")
    refused(envelope(pair.public, ed25519(forged)))


def test_every_change_of_one_byte_of_a_signature_is_refused(armored):
    accepted = []
    for at, byte in enumerate(armored):
        for value in range(256):
            changed = armored[:at] + bytes([value]) + armored[at + 1 :]
            try:
                verify(changed, MESSAGE, PACK_NAMESPACE)
            except BadSignature:
                continue
            if value != byte:
                accepted.append((at, value))
    assert accepted == []


def test_every_byte_left_out_or_put_in_is_refused(armored):
    for at in range(len(armored) + 1):
        refused(armored[:at] + b"A" + armored[at:])
        refused(armored[:at] + b"\n" + armored[at:])
    for at in range(len(armored)):
        refused(armored[:at] + armored[at + 1 :])


def test_every_change_of_one_byte_of_the_message_is_refused(armored):
    for at, byte in enumerate(MESSAGE):
        refused(armored, MESSAGE[:at] + bytes([byte ^ 1]) + MESSAGE[at + 1 :])


def test_a_hardware_token_is_verified(token):
    armored = envelope(token.public, token.sign(signed(MESSAGE)))
    assert verify(armored, MESSAGE, PACK_NAMESPACE) == token.public


def test_flags_counter_and_application_of_a_token_are_signed(token):
    signature = token.sign(signed(MESSAGE))
    for changed in (
        signature[:-5] + b"\x05" + signature[-4:],
        signature[:-1] + bytes([signature[-1] ^ 1]),
        signature[:-1],
        signature + b"\0",
    ):
        refused(envelope(token.public, changed))
    elsewhere = PublicKey(token.public.kind, token.public.blob[: -len(wire.string(b"ssh:"))] + wire.string(b"ssl:"))
    refused(envelope(elsewhere, signature))


def test_a_token_s_key_and_a_plain_key_are_not_the_same(token):
    plain = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)  # the token's own secret
    refused(envelope(token.public, ed25519(plain.sign(signed(MESSAGE)))))
