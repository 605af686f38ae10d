import os
import pickle
import stat

import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.signatures import sshsig as wire
from privacy_toolkit.signatures.sshsig import PublicKey, allowed_signers_line, check_principal, generate, public_path


def test_a_line_gives_the_key_and_the_key_the_line(pair):
    key = PublicKey.parse(f"{pair.public.line} a comment\n")
    assert key == pair.public
    assert key.line == " ".join(pair.public.line.split()[:2])


def test_the_fingerprint_is_the_one_that_openssh_prints():
    # The key and the fingerprint of a widely known host, as its owner publishes both.
    key = PublicKey.parse("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl")
    assert key.fingerprint == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 not/base64!",
        "nonsense AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
        "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
    ],
)
def test_a_line_that_holds_no_key_is_refused(line):
    with pytest.raises(UsageError, match="not a public key"):
        PublicKey.parse(line)


def test_an_ed25519_key_has_32_bytes_and_nothing_after_them(pair, token):
    for blob in (
        wire.string(b"ssh-ed25519") + wire.string(bytes(31)),
        pair.public.blob + b"\0",
        token.public.blob + b"\0",
        token.public.blob[: -len(wire.string(b"ssh:"))],
    ):
        with pytest.raises(wire.MalformedError):
            PublicKey.from_blob(blob)


def test_a_new_key_is_for_its_owner_alone_and_its_public_half_names_the_signer(tmp_path):
    path = tmp_path / "key"
    key = generate(path, "dpo@example.org")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert public_path(path).read_text() == f"{key.line} dpo@example.org\n"
    assert path.read_bytes().startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")


def test_no_two_new_keys_are_the_same(tmp_path):
    assert generate(tmp_path / "a", "a") != generate(tmp_path / "b", "a")


@pytest.mark.parametrize("there", ["key", "key.pub"])
def test_a_file_that_is_there_stays_as_it_is_and_nothing_else_appears(tmp_path, there):
    (tmp_path / there).write_text("precious")
    with pytest.raises(UsageError, match="never overwritten"):
        generate(tmp_path / "key", "dpo@example.org")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(there, "precious")]


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path):
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="never overwritten"):
        generate(tmp_path / "key", "dpo@example.org")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(UsageError, match="can't be written: No such file or directory"):
        generate(tmp_path / "missing" / "key", "dpo@example.org")


def test_a_wide_umask_does_not_open_the_private_half(tmp_path):
    before = os.umask(0)
    try:
        generate(tmp_path / "key", "dpo@example.org")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "key.pub").stat().st_mode) == 0o644


def test_the_line_for_the_auditor_accepts_the_three_uses_alone(pair):
    assert allowed_signers_line("dpo@example.org", pair.public) == (
        'dpo@example.org namespaces="privacy-toolkit-audit-pack@v1,privacy-toolkit-plan-approval@v1,'
        'privacy-toolkit-run-order@v1" ' + pair.public.line
    )


@pytest.mark.parametrize("principal", ["dpo@example.org", "dpo", "_svc", "ü.ö@example.org", "a+b@x", "x:y/z=1", "7"])
def test_names_that_can_be_used(principal):
    assert check_principal(principal) == principal


@pytest.mark.parametrize(
    "principal",
    ["", " ", "a b", "a\tb", "a,b", "a*", "a?", '"a"', "'a'", "!a", "#a", "-a", "a\n", "a\0", "a;b", "$(a)", "a`b`",
     "a\\b", "a\u202eb", "a\u00a0b", "a" * 201],
)  # fmt: skip
def test_names_that_mean_something_elsewhere_are_refused(principal, pair, tmp_path):
    for refused in (
        lambda: check_principal(principal),
        lambda: allowed_signers_line(principal, pair.public),
        lambda: generate(tmp_path / "key", principal),
    ):
        with pytest.raises(UsageError, match="name of the signer"):
            refused()
    assert list(tmp_path.iterdir()) == []


def test_a_public_key_shows_its_fingerprint(pair):
    assert repr(pair.public) == f"PublicKey(ssh-ed25519 {pair.public.fingerprint})"
    assert pickle.loads(pickle.dumps(pair.public)) == pair.public  # noqa: S301 - what was written on the same line
