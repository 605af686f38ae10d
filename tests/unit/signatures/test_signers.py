import base64
import copy
import pickle

import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.signatures.signers import KeygenSigner, KeySigner, load_signer
from privacy_toolkit.signatures.sshsig import PACK_NAMESPACE, verify


def test_a_key_file_signs_in_this_process(key_file, pair, monkeypatch):
    monkeypatch.setenv("PATH", "")
    signer = load_signer(key_file)
    assert isinstance(signer, KeySigner)
    assert signer.public == pair.public
    assert verify(signer.sign(b"message", PACK_NAMESPACE), b"message", PACK_NAMESPACE) == pair.public


def test_the_file_is_read_once(key_file, pair):
    signer = load_signer(key_file)
    key_file.unlink()
    assert verify(signer.sign(b"message", PACK_NAMESPACE), b"message", PACK_NAMESPACE) == pair.public


def test_a_signer_shows_its_fingerprint_alone(key_file, pair, tmp_path):
    public = tmp_path / "key.pub"
    public.write_text(pair.public.line)
    assert repr(load_signer(key_file)) == str(load_signer(key_file)) == f"KeySigner({pair.public.fingerprint})"
    assert repr(load_signer(public)) == f"KeygenSigner({pair.public.fingerprint})"


def test_a_signer_is_not_written_anywhere(key_file):
    for write in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="not written anywhere"):
            write(load_signer(key_file))


def test_a_public_file_an_encrypted_key_and_a_token_go_through_ssh_keygen(write_private, tmp_path, pair, token):
    public = tmp_path / "key.pub"
    public.write_text(pair.public.line)
    for path in (
        public,
        write_private(pair.public, cipher="aes256-ctr", name="encrypted"),
        write_private(token.public, name="token"),
    ):
        assert isinstance(load_signer(path), KeygenSigner)


def test_a_damaged_private_half_is_refused_without_a_word_of_it(write_private, pair):
    with pytest.raises(UsageError, match="is damaged") as caught:
        load_signer(write_private(pair.public))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_halves_that_do_not_belong_together_are_refused(key_file, pair, other):
    def body(found):
        return b"".join(found.text.splitlines()[1:-1])

    blob = base64.b64decode(body(pair)).replace(pair.public.blob, other.public.blob, 1)
    text = base64.encodebytes(blob)
    key_file.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + text + b"-----END OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(UsageError, match="is damaged"):
        load_signer(key_file)


def test_a_missing_ssh_keygen_is_said(tmp_path, pair, monkeypatch):
    public = tmp_path / "key.pub"
    public.write_text(pair.public.line)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="ssh-keygen is missing") as caught:
        load_signer(public).sign(b"message", PACK_NAMESPACE)
    assert "openssh-client" in caught.value.hint
