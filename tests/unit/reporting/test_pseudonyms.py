import hashlib
import hmac

import pytest

from privacy_toolkit.core.model import Subject
from privacy_toolkit.reporting.rows import file_key, keyed_digest, pseudonym, pseudonyms, row_key

SECRET = bytes(range(32))


def test_pseudonym_is_the_hmac_of_the_id_under_the_key_of_its_row():
    key = hmac.new(SECRET, b"row:412", hashlib.sha256).digest()
    assert row_key(SECRET, 412) == key
    assert pseudonym(SECRET, 412, "Zoë/1") == hmac.new(key, "Zoë/1".encode(), hashlib.sha256).hexdigest()


def test_same_id_has_another_name_in_another_row_and_another_run():
    names = {pseudonym(SECRET, 1, "a"), pseudonym(SECRET, 2, "a"), pseudonym(b"k" * 32, 1, "a")}
    assert len(names) == 3


@pytest.mark.parametrize("length", [0, 1, 32, 63, 64, 65, 200])
def test_it_is_the_hmac_of_the_library_whatever_the_key(length):
    secret = bytes(range(length))
    for seq, id_ in ((1, ""), (7, "a"), (1_000_000, "ü" * 500)):
        key = hmac.digest(secret, b"row:%d" % seq, "sha256")
        assert row_key(secret, seq) == key
        name = hmac.digest(key, id_.encode(), "sha256").hex()
        assert pseudonym(secret, seq, id_) == name
        assert pseudonyms(secret, [Subject(1, 1, "x"), Subject(seq, 9, id_)])[1] == name


def test_digest_of_a_file_is_shown_under_a_key_of_its_own():
    digest = hashlib.sha256(b"customer_id\na\n").hexdigest()
    key = hmac.new(SECRET, b"input", hashlib.sha256).digest()
    assert file_key(SECRET, "input") == key
    assert keyed_digest(SECRET, "input", digest) == hmac.new(key, digest.encode(), hashlib.sha256).hexdigest()
    assert keyed_digest(SECRET, "exclusions", digest) != keyed_digest(SECRET, "input", digest)
    assert file_key(SECRET, "input") != row_key(SECRET, 1)
