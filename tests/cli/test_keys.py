"""Making a signing key from the command line."""

import json
import stat

import pytest
from click.testing import CliRunner

from privacy_toolkit.cli.evidence import keys_command
from privacy_toolkit.core.model import ExitCode, UsageError
from privacy_toolkit.signatures.signers import load_signer
from privacy_toolkit.signatures.sshsig import PACK_NAMESPACE, PublicKey, verify

SIGNER = "dpo@example.org"


@pytest.fixture
def keys():
    """Calls ``privacy-toolkit keys`` as the program does: errors come out as they are."""

    def run(*arguments):
        return CliRunner().invoke(keys_command, [str(argument) for argument in arguments], standalone_mode=False)

    return run


def test_a_new_key_signs_and_the_line_for_the_auditor_names_it(keys, tmp_path):
    done = keys("new", tmp_path / "key", "--signer", SIGNER)
    assert (done.exception, done.return_value) == (None, ExitCode.SETTLED)
    signer = load_signer(tmp_path / "key")
    first, line = done.stdout.splitlines()
    assert first == f"Fingerprint: {signer.public.fingerprint}"
    assert line == (
        'dpo@example.org namespaces="privacy-toolkit-audit-pack@v1,privacy-toolkit-plan-approval@v1,'
        'privacy-toolkit-run-order@v1" ' + signer.public.line
    )
    assert verify(signer.sign(b"sums", PACK_NAMESPACE), b"sums", PACK_NAMESPACE) == signer.public


def test_it_says_where_to_put_what(keys, tmp_path):
    said = keys("new", tmp_path / "key", "--signer", SIGNER).stderr
    assert f"PRIVACY_TOOLKIT_SIGNING_KEY_FILE={tmp_path / 'key'}" in said
    assert f"PRIVACY_TOOLKIT_SIGNER={SIGNER}" in said
    assert "separately from the packs" in said


def test_json_is_one_object(keys, tmp_path):
    done = keys("new", tmp_path / "key", "--signer", SIGNER, "--json")
    told = json.loads(done.stdout)
    key = PublicKey.parse((tmp_path / "key.pub").read_text())
    assert told == {
        "key_file": str(tmp_path / "key"),
        "public_key_file": str(tmp_path / "key.pub"),
        "signer": SIGNER,
        "fingerprint": key.fingerprint,
        "allowed_signers": told["allowed_signers"],
    }
    assert told["allowed_signers"].endswith(key.line)
    assert done.stderr == ""


def test_the_private_half_is_for_its_owner_alone_and_never_printed(keys, tmp_path):
    done = keys("new", tmp_path / "key", "--signer", SIGNER)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert "PRIVATE KEY" not in done.output
    assert (tmp_path / "key").read_text().splitlines()[3] not in done.output


@pytest.mark.parametrize("there", ["key", "key.pub"])
def test_nothing_is_overwritten(keys, tmp_path, there):
    (tmp_path / there).write_text("precious")
    done = keys("new", tmp_path / "key", "--signer", SIGNER)
    assert isinstance(done.exception, UsageError)
    assert "never overwritten" in done.exception.message
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(there, "precious")]


@pytest.mark.parametrize("signer", ["", "a b", "*", "a,b", 'a"b', "a\nb"])
def test_a_signer_that_cannot_stand_in_a_list_is_refused(keys, tmp_path, signer):
    done = keys("new", tmp_path / "key", "--signer", signer)
    assert isinstance(done.exception, UsageError)
    assert list(tmp_path.iterdir()) == []


def test_the_signer_has_to_be_named(keys, tmp_path):
    done = keys("new", tmp_path / "key")
    assert "--signer" in str(done.exception.format_message())
    assert list(tmp_path.iterdir()) == []
