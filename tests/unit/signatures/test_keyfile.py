import os

import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.signatures.sshsig import PublicKey, read_key_file, string


def refused(path):
    with pytest.raises(UsageError) as caught:
        read_key_file(path)
    assert caught.value.hint
    return caught.value


def test_a_private_key_without_a_passphrase_is_kept_whole(key_file, pair):
    read = read_key_file(key_file)
    assert (read.public, read.content) == (pair.public, pair.text)


def test_what_was_read_never_shows_itself(key_file, pair):
    shown = repr(read_key_file(key_file))
    assert pair.public.fingerprint in shown
    assert "BEGIN" not in shown


def test_line_ends_of_another_system_do_no_harm(key_file, pair):
    key_file.write_bytes(pair.text.replace(b"\n", b"\r\n"))
    assert read_key_file(key_file).public == pair.public


def test_of_an_encrypted_key_only_the_public_half_is_kept(write_private, pair):
    read = read_key_file(write_private(pair.public, cipher="aes256-ctr"))
    assert (read.public, read.content) == (pair.public, None)


def test_a_public_key_may_be_readable_by_everybody(tmp_path, pair):
    path = tmp_path / "key.pub"
    path.write_text(f"{pair.public.line} dpo@example.org\n")
    path.chmod(0o644)
    assert (read_key_file(path).public, read_key_file(path).content) == (pair.public, None)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o610])
@pytest.mark.parametrize("name", ["key", "key.pub"])
def test_a_private_key_that_others_can_reach_is_refused_whatever_its_name(write_private, pair, mode, name):
    path = write_private(pair.public, name=name)
    path.chmod(mode)
    error = refused(path)
    assert "Others" in error.message
    assert error.hint == f"chmod 600 {path}"


def test_a_missing_file_is_said(tmp_path):
    assert "There is no signing key" in refused(tmp_path / "missing").message


def test_a_folder_is_no_key(tmp_path):
    assert "not a file" in refused(tmp_path).message


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a file" in refused(tmp_path / "pipe").message


@pytest.mark.parametrize("mark", ["RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"])
def test_a_pem_key_is_refused_with_what_to_do(tmp_path, mark):
    path = tmp_path / "key.pem"
    path.write_text(f"-----BEGIN {mark}-----\nAAAA\n-----END {mark}-----\n")
    path.chmod(0o600)
    error = refused(path)
    assert "PEM" in error.message
    assert "privacy-toolkit keys new" in error.hint


def test_a_putty_key_is_refused(tmp_path):
    (tmp_path / "key.ppk").write_text("PuTTY-User-Key-File-3: ssh-ed25519\n")
    assert "PuTTY" in refused(tmp_path / "key.ppk").message


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"customer_id\n1\n", b"\xff\xfe\x00", b"ssh-ed25519 AAAA\n", b"x" * 70_000]
)
def test_another_file_is_no_key_and_nothing_of_it_is_shown(tmp_path, content):
    path = tmp_path / "wrong"
    path.write_bytes(content)
    error = refused(path)
    assert "holds no signing key" in error.message
    assert "customer_id" not in error.message + error.hint


def test_two_public_keys_in_one_file_name_no_key(tmp_path, pair, other):
    path = tmp_path / "keys.pub"
    path.write_text(f"{pair.public.line}\n{other.public.line}\n")
    assert "holds no signing key" in refused(path).message


@pytest.mark.parametrize("private", [True, False])
def test_an_rsa_key_is_refused_by_its_kind(write_private, tmp_path, rsa, private):
    path = write_private(rsa) if private else tmp_path / "key.pub"
    if not private:
        path.write_text(rsa.line)
    error = refused(path)
    assert "ssh-rsa" in error.message
    assert "privacy-toolkit keys new" in error.hint


def test_a_file_cut_short_is_damaged(key_file, pair):
    for end in (50, 100, 200, len(pair.text) - 20):
        key_file.write_bytes(pair.text[:end])
        assert "damaged" in refused(key_file).message


def test_a_file_with_two_keys_or_an_unknown_one_is_damaged(write_private, pair):
    assert "damaged" in refused(write_private(pair.public, count=2)).message
    assert "damaged" in refused(write_private(PublicKey("new", string(b"new")), name="new")).message
