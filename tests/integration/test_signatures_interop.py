"""Signatures, keys and lists of allowed signers, held against the real ssh-keygen and a real ssh-agent."""

import base64
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.signatures.signers import AllowedSigners, KeygenSigner, KeySigner, load_signer
from privacy_toolkit.signatures.sshsig import (
    APPROVAL_NAMESPACE,
    PACK_NAMESPACE,
    BadSignature,
    PublicKey,
    allowed_signers_line,
    armor,
    generate,
    public_path,
    string,
    uint32,
    verify,
)

MESSAGE = b"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  rows.jsonl\n"
PASSPHRASE = "correct horse"
PROGRAMS = ("ssh-keygen", "ssh-agent", "ssh-add")


@pytest.fixture(scope="module", autouse=True)
def openssh():
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        reason = f"OpenSSH is not here ({', '.join(missing)}): install openssh-client to run these tests"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def no_agent(monkeypatch):
    """No agent of the one who runs the tests has a part in them."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def agent(monkeypatch):
    """A running agent without keys. Its socket's path has to be short, shorter than that of a test's own folder."""
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "agent")
        process = subprocess.Popen(["ssh-agent", "-D", "-a", address], stdout=subprocess.PIPE)
        process.stdout.readline()  # it says where it listens as soon as it does
        monkeypatch.setenv("SSH_AUTH_SOCK", address)
        yield
        process.terminate()
        process.communicate()


def keygen(*arguments, stdin=b"", check=True):
    return subprocess.run(["ssh-keygen", *map(str, arguments)], input=stdin, capture_output=True, check=check)


def make(path, *, passphrase="", kind="ed25519"):
    keygen("-q", "-t", kind, "-N", passphrase, "-C", "made by ssh-keygen", "-f", path)
    return path


def add(path, passphrase):
    """Have the agent hold a key; the passphrase comes from a program, as there is no terminal."""
    answer = path.with_name("answer.sh")
    answer.write_text(f"#!/bin/sh\necho '{passphrase}'\n")
    answer.chmod(0o700)
    environment = os.environ | {"SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", str(path)], check=True, env=environment, stdin=subprocess.DEVNULL)


def accepts(folder, armored, line, namespace=PACK_NAMESPACE, message=MESSAGE):
    """Whether ``ssh-keygen -Y verify`` accepts a signature as the one of dpo@example.org."""
    (folder / "checked.sig").write_bytes(armored)
    (folder / "allowed_signers").write_text(line + "\n")
    command = ("-Y", "verify", "-f", folder / "allowed_signers", "-I", "dpo@example.org", "-n", namespace)
    return keygen(*command, "-s", folder / "checked.sig", stdin=message, check=False).returncode == 0


# Keys


def test_a_key_made_here_is_read_by_ssh_keygen(tmp_path):
    key = generate(tmp_path / "key", "dpo@example.org")
    assert keygen("-y", "-f", tmp_path / "key").stdout.decode().split() == key.line.split()
    for path in (tmp_path / "key", tmp_path / "key.pub"):
        assert key.fingerprint in keygen("-l", "-f", path).stdout.decode().split()


def test_a_key_made_here_can_be_given_a_passphrase(tmp_path, agent):
    key = generate(tmp_path / "key", "dpo@example.org")
    keygen("-q", "-p", "-P", "", "-N", PASSPHRASE, "-f", tmp_path / "key")
    signer = load_signer(tmp_path / "key")
    assert (type(signer), signer.public) == (KeygenSigner, key)


def test_a_key_of_ssh_keygen_is_read_here(tmp_path):
    signer = load_signer(make(tmp_path / "key"))
    assert isinstance(signer, KeySigner)
    assert signer.public == PublicKey.parse((tmp_path / "key.pub").read_text())


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_other_kinds_of_ssh_keygen_are_refused(tmp_path, kind):
    path = make(tmp_path / "key", kind=kind)
    for file in (path, public_path(path)):
        with pytest.raises(UsageError, match="only Ed25519 keys are accepted"):
            load_signer(file)


def test_a_key_in_pem_is_refused(tmp_path):
    keygen("-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f", tmp_path / "key")
    with pytest.raises(UsageError, match="PEM"):
        load_signer(tmp_path / "key")


# Signatures


@pytest.mark.parametrize("message", [b"", MESSAGE, bytes(range(256)) * 1_000])
@pytest.mark.parametrize("namespace", [PACK_NAMESPACE, APPROVAL_NAMESPACE])
def test_both_write_the_same_bytes(tmp_path, message, namespace):
    path = make(tmp_path / "key")
    theirs = keygen("-q", "-Y", "sign", "-n", namespace, "-f", path, stdin=message).stdout
    assert load_signer(path).sign(message, namespace) == theirs
    assert verify(theirs, message, namespace) == load_signer(path).public


def test_the_lines_of_the_armor_break_alike_whatever_its_length(tmp_path):
    path = make(tmp_path / "key")
    signer = load_signer(path)
    for length in range(1, 54):  # a line holds 52.5 bytes: every remainder is met
        namespace = "n" * length
        theirs = keygen("-q", "-Y", "sign", "-n", namespace, "-f", path, stdin=MESSAGE).stdout
        assert signer.sign(MESSAGE, namespace) == theirs


def test_ssh_keygen_accepts_what_we_sign_for_that_use_and_content_alone(tmp_path):
    key = generate(tmp_path / "key", "dpo@example.org")
    line = allowed_signers_line("dpo@example.org", key)
    armored = load_signer(tmp_path / "key").sign(MESSAGE, PACK_NAMESPACE)
    assert accepts(tmp_path, armored, line)
    assert not accepts(tmp_path, armored, line, namespace=APPROVAL_NAMESPACE)
    assert not accepts(tmp_path, armored, line, message=MESSAGE + b"\n")
    for_logins = load_signer(tmp_path / "key").sign(MESSAGE, "file")
    assert not accepts(tmp_path, for_logins, line, namespace="file")


def test_a_signature_with_sha256_is_accepted(tmp_path):
    path = make(tmp_path / "key")
    done = keygen("-q", "-Y", "sign", "-O", "hashalg=sha256", "-n", PACK_NAMESPACE, "-f", path, stdin=MESSAGE)
    assert verify(done.stdout, MESSAGE, PACK_NAMESPACE) == load_signer(path).public


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_signatures_of_other_kinds_are_refused(tmp_path, kind):
    path = make(tmp_path / "key", kind=kind)
    theirs = keygen("-q", "-Y", "sign", "-n", PACK_NAMESPACE, "-f", path, stdin=MESSAGE).stdout
    with pytest.raises(BadSignature, match="RSA or ECDSA"):
        verify(theirs, MESSAGE, PACK_NAMESPACE)


# Hardware tokens

TOKEN_KIND = b"sk-ssh-ed25519@openssh.com"


@pytest.fixture
def token():
    """A token, played: its public key, and a function that signs as it would (OpenSSH, PROTOCOL.u2f)."""
    private = Ed25519PrivateKey.generate()
    point = private.public_key().public_bytes_raw()
    key = PublicKey.from_blob(b"".join(map(string, (TOKEN_KIND, point, b"ssh:"))))

    def sign(message, namespace):
        digest = hashlib.sha512(message).digest()
        data = b"SSHSIG" + b"".join(map(string, (namespace.encode(), b"", b"sha512", digest)))
        flags_and_counter = b"\x01" + uint32(7)
        signed = hashlib.sha256(b"ssh:").digest() + flags_and_counter + hashlib.sha256(data).digest()
        signature = string(TOKEN_KIND) + string(private.sign(signed)) + flags_and_counter
        fields = (key.blob, namespace.encode(), b"", b"sha512", signature)
        return armor(b"SSHSIG" + uint32(1) + b"".join(map(string, fields)))

    return key, sign


def test_both_accept_the_signature_of_a_token(tmp_path, token):
    key, sign = token
    armored = sign(MESSAGE, PACK_NAMESPACE)
    assert verify(armored, MESSAGE, PACK_NAMESPACE) == key
    assert accepts(tmp_path, armored, allowed_signers_line("dpo@example.org", key))


def test_a_token_that_is_not_there_is_asked_for(tmp_path, token):
    key, _ = token
    # The private part of a token's file (PROTOCOL.key, PROTOCOL.u2f): a check, the key, flags, the handle, a comment.
    secret = uint32(1) * 2 + key.blob + b"\x01" + b"".join(map(string, (b"handle", b"", b"comment")))
    secret += bytes(range(1, 1 + -len(secret) % 8))
    blob = b"openssh-key-v1\0" + string(b"none") * 2 + string(b"") + uint32(1) + string(key.blob) + string(secret)
    path = tmp_path / "key"
    text = base64.encodebytes(blob).decode()
    path.write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n")
    path.chmod(0o600)
    assert keygen("-y", "-f", path).stdout.decode().split()[:2] == key.line.split()
    signer = load_signer(path)
    assert (type(signer), signer.public) == (KeygenSigner, key)
    with pytest.raises(UsageError, match="could not sign") as caught:
        signer.sign(MESSAGE, PACK_NAMESPACE)
    assert "token" in caught.value.hint


# The agent


def test_the_agent_signs_for_a_public_file_and_for_an_encrypted_key(tmp_path, agent):
    path = make(tmp_path / "key", passphrase=PASSPHRASE)
    add(path, PASSPHRASE)
    for file in (path, public_path(path)):
        signer = load_signer(file)
        assert isinstance(signer, KeygenSigner)
        armored = signer.sign(MESSAGE, PACK_NAMESPACE)
        assert verify(armored, MESSAGE, PACK_NAMESPACE) == signer.public
        assert accepts(tmp_path, armored, allowed_signers_line("dpo@example.org", signer.public))


def test_the_agent_alone_is_enough(tmp_path, agent):
    path = make(tmp_path / "key", passphrase=PASSPHRASE)
    add(path, PASSPHRASE)
    path.unlink()
    signer = load_signer(public_path(path))
    assert verify(signer.sign(MESSAGE, PACK_NAMESPACE), MESSAGE, PACK_NAMESPACE) == signer.public


@pytest.mark.parametrize("name", ["key", "key.pub"])
def test_a_key_that_the_agent_does_not_hold_is_to_be_added(tmp_path, agent, name):
    make(tmp_path / "key", passphrase=PASSPHRASE)
    with pytest.raises(UsageError, match="could not sign") as caught:
        load_signer(tmp_path / name).sign(MESSAGE, PACK_NAMESPACE)
    assert caught.value.hint == f"The key has to be in ssh-agent: ssh-add {tmp_path / 'key'}"


def test_a_private_key_next_to_a_public_file_is_left_alone(tmp_path, agent):
    make(tmp_path / "key")
    with pytest.raises(UsageError, match="could not sign"):
        load_signer(tmp_path / "key.pub").sign(MESSAGE, PACK_NAMESPACE)


def test_without_an_agent_one_is_to_be_started(tmp_path):
    path = make(tmp_path / "key", passphrase=PASSPHRASE)
    with pytest.raises(UsageError, match="could not sign") as caught:
        load_signer(path).sign(MESSAGE, PACK_NAMESPACE)
    assert 'eval "$(ssh-agent)"; ssh-add' in caught.value.hint


def test_the_message_is_never_taken_for_the_passphrase(tmp_path, monkeypatch):
    path = make(tmp_path / "key", passphrase=PASSPHRASE)
    with pytest.raises(UsageError, match="could not sign"):
        load_signer(path).sign(f"{PASSPHRASE}\n".encode(), PACK_NAMESPACE)
    # Nor is anybody asked by a window, even where a program for that is set.
    asked = tmp_path / "asked"
    program = tmp_path / "ask.sh"
    program.write_text(f"#!/bin/sh\ntouch '{asked}'\necho '{PASSPHRASE}'\n")
    program.chmod(0o700)
    monkeypatch.setenv("SSH_ASKPASS", str(program))
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(UsageError, match="could not sign"):
        load_signer(path).sign(MESSAGE, PACK_NAMESPACE)
    assert not asked.exists()


def test_an_agent_that_says_nothing_is_not_waited_for_without_end(tmp_path, monkeypatch):
    path = make(tmp_path / "key", passphrase=PASSPHRASE)
    key = PublicKey.parse(public_path(path).read_text())
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as mute:
        mute.bind(f"{folder}/agent")
        mute.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", f"{folder}/agent")
        with pytest.raises(UsageError, match=r"no signature within 0\.2 seconds"):
            KeygenSigner(path, key, in_token=False, patience=0.2).sign(MESSAGE, PACK_NAMESPACE)


def test_a_signature_by_another_key_than_the_file_names_is_not_given_out(tmp_path, agent):
    path, other = make(tmp_path / "key", passphrase=PASSPHRASE), make(tmp_path / "other")
    add(path, PASSPHRASE)
    signer = KeygenSigner(path, load_signer(other).public, in_token=False)
    with pytest.raises(UsageError, match="another key"):
        signer.sign(MESSAGE, PACK_NAMESPACE)


# The list of allowed signers

NAMES = ("dpo@example.org", "dpo@example.com", "ops@example.org", "a")
PATTERNS = st.sampled_from(
    [*NAMES, "*@example.org", "dpo@*", "*", "?", "???@example.???", "!dpo@example.org", "!*.com"]
)
USES = st.sampled_from([PACK_NAMESPACE, APPROVAL_NAMESPACE, "file", "*", "privacy-toolkit-*", "!*-pack@v1", "*@v?"])
TIMES = ["20240101Z", "202406011200z", "20240601120001Z", "20250101Z"]
NAMESPACES = st.lists(USES, min_size=1, max_size=3).map(lambda uses: f'namespaces="{",".join(uses)}"')
#: From the earlier to the later of two times, or an end that is open.
VALIDITY = st.lists(st.sampled_from(TIMES), min_size=1, max_size=2, unique=True).flatmap(
    lambda times: st.sampled_from(
        [f'Valid-After="{min(times, key=TIMES.index)}",valid-before="{max(times, key=TIMES.index)}"']
        if len(times) > 1
        else [f'valid-after="{times[0]}"', f'VALID-before="{times[0]}"']
    )
)
OPTIONS = st.tuples(
    st.none() | NAMESPACES, st.none() | VALIDITY, st.sampled_from([None, None, None, "cert-authority"])
).map(lambda options: ",".join(filter(None, options)))
LINES = st.tuples(
    st.lists(PATTERNS, min_size=1, max_size=3).map(",".join),
    OPTIONS,
    st.sampled_from(["KEY", "KEY", "OTHER", "RSA"]),
).map(lambda fields: "  ".join(filter(None, fields)))


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A folder with three keys, and a signature by the first."""
    folder = tmp_path_factory.mktemp("signed")
    lines = {}
    for name, kind in (("KEY", "ed25519"), ("OTHER", "ed25519"), ("RSA", "rsa")):
        make(folder / name, kind=kind)
        lines[name] = PublicKey.parse((folder / f"{name}.pub").read_text()).line
    (folder / "signature").write_bytes(load_signer(folder / "KEY").sign(MESSAGE, PACK_NAMESPACE))
    return folder, lines


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(LINES, min_size=1, max_size=4),
    name=st.sampled_from(NAMES),
    at=st.sampled_from([(2024, 1, 1), (2024, 6, 1), (2024, 6, 1, 12), (2024, 6, 1, 12, 0, 1), (2026, 1, 1)]),
)
def test_a_list_allows_what_ssh_keygen_allows(signed, lines, name, at):
    folder, keys = signed
    text = "".join(f"{line}\n" for line in lines)
    for word, key in keys.items():
        text = text.replace(f" {word}\n", f" {key}\n")
    path = folder / "allowed_signers"
    path.write_text(text)
    moment = datetime(*at, tzinfo=UTC)
    common = ("-f", path, "-s", folder / "signature", "-O", f"verify-time={moment:%Y%m%d%H%M%S}Z")
    theirs = keygen("-Y", "verify", *common, "-I", name, "-n", PACK_NAMESPACE, stdin=MESSAGE, check=False)
    found = keygen("-Y", "find-principals", *common, check=False)
    allowed, key = AllowedSigners.read(path), PublicKey.parse(keys["KEY"])
    assert allowed.allows(name, key, PACK_NAMESPACE, moment) == (theirs.returncode == 0)
    # find-principals asks for no use, and stops at the first line that fits: it finds one wherever we do.
    assert found.returncode == 0 or allowed.principals(key, PACK_NAMESPACE, moment) == []


def test_a_time_without_a_zone_is_local_for_both(signed, tmp_path, monkeypatch):
    # In winter: ssh-keygen 9.2 is an hour off while summer time applies, so docs/signing.md says to write a Z.
    folder, keys = signed
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        path = tmp_path / "allowed_signers"
        path.write_text(f'dpo@example.org valid-after="202401151200" {keys["KEY"]}\n')
        allowed, key = AllowedSigners.read(path), PublicKey.parse(keys["KEY"])
        for moment, expected in (
            (datetime(2024, 1, 15, 10, 59, 59, tzinfo=UTC), False),
            (datetime(2024, 1, 15, 11, tzinfo=UTC), True),
        ):
            when = f"verify-time={moment:%Y%m%d%H%M%S}Z"
            found = keygen("-Y", "find-principals", "-f", path, "-s", folder / "signature", "-O", when, check=False)
            assert (found.returncode == 0) is expected
            assert allowed.allows("dpo@example.org", key, PACK_NAMESPACE, moment) is expected
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "line",
    [
        'dpo@example.org namespaces="{use}" {key}',
        "dpo@example.org\t{key}\tcomment",
        "ops@example.org,dpo@example.org {key}\r",
        '"dpo@example.org" {key}',
        'dpo@example.org valid-after="20240101",valid-before="20990101" {key}',
        'dpo@example.org NAMESPACES="a \\"b\\",{use}" {key}',
    ],
)
def test_lines_of_every_form_are_found_by_both(signed, tmp_path, line):
    folder, keys = signed
    path = tmp_path / "allowed_signers"
    path.write_text(line.format(use=PACK_NAMESPACE, key=keys["KEY"]) + "\n", newline="")
    found = keygen("-Y", "find-principals", "-f", path, "-s", folder / "signature").stdout.decode().split()
    key = PublicKey.parse(keys["KEY"])
    assert AllowedSigners.read(path).principals(key, PACK_NAMESPACE, datetime(2024, 6, 1, tzinfo=UTC)) == found
    armored = (folder / "signature").read_bytes()
    assert accepts(tmp_path, armored, path.read_text().rstrip("\n"))
