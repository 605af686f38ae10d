import io
import subprocess
import zipfile

import pyrage
import pytest

from privacy_toolkit.access.placing import encrypted, recipient_of, zipped
from privacy_toolkit.core.model import UsageError

MOMENT = 1_764_187_201_123_456
FILES = {"b.txt": b"b", "a.txt": b"a", "data/c.csv": b""}


def test_zip_is_the_same_for_the_same_files_whatever_their_order():
    assert zipped("f", FILES, MOMENT) == zipped("f", dict(reversed(FILES.items())), MOMENT)


def test_zip_has_sorted_entries_fixed_times_and_its_owners_rights():
    with zipfile.ZipFile(io.BytesIO(zipped("f", FILES, MOMENT))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["f/a.txt", "f/b.txt", "f/data/c.csv"]
        assert {entry.date_time for entry in archive.infolist()} == {(2025, 11, 26, 20, 0, 0)}
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100600}


def test_zip_of_a_time_before_all_zips():
    with zipfile.ZipFile(io.BytesIO(zipped("f", FILES, 0))) as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


def test_only_the_holder_of_the_key_reads_what_is_encrypted():
    identity, stranger = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    content = encrypted(b"secret", str(identity.to_public()))
    assert b"secret" not in content
    assert pyrage.decrypt(content, [identity]) == b"secret"
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(content, [stranger])


def test_the_age_program_opens_it(age, tmp_path):
    key = tmp_path / "key.txt"
    subprocess.run([f"{age}-keygen", "-o", key], check=True, capture_output=True)
    recipient = subprocess.run([f"{age}-keygen", "-y", key], check=True, capture_output=True, text=True).stdout.strip()
    (tmp_path / "package.age").write_bytes(encrypted(zipped("f", FILES, MOMENT), recipient))
    opened = subprocess.run(
        [age, "--decrypt", "-i", key, tmp_path / "package.age"], check=True, capture_output=True
    ).stdout
    assert opened == zipped("f", FILES, MOMENT)


@pytest.mark.parametrize("recipient", ["", "age1", "age1xyz", "bob", "ssh-ed25519 AAAA", "\ud800", "AGE-SECRET-KEY-1X"])
def test_what_is_no_recipient_is_refused_and_not_repeated(recipient):
    with pytest.raises(UsageError) as refused:
        recipient_of(recipient)
    assert not recipient or recipient == "age1" or recipient not in refused.value.message + refused.value.hint


def test_a_secret_key_is_refused_and_not_repeated():
    secret = str(pyrage.x25519.Identity.generate())
    with pytest.raises(UsageError) as refused:
        recipient_of(secret)
    assert secret not in refused.value.message + refused.value.hint
