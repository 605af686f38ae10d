"""A stranger checks a pack with nothing but what VERIFY.txt says: ssh-keygen, sha256sum and a shell."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.journal.records import Approval
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.signatures.signers import load_signer
from privacy_toolkit.signatures.sshsig import APPROVAL_NAMESPACE, allowed_signers_line, generate
from tests.support import reported_runs as runs

SAMPLES = 400
WHO = "dpo@example.org"


@pytest.fixture(scope="module", autouse=True)
def tools():
    """What a stranger has. Without it there is nothing to test; in CI it has to be there."""
    missing = [name for name in ("ssh-keygen", "sha256sum", "sh", "sed") if shutil.which(name) is None]
    if missing:
        reason = f"not installed: {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with two keys, and the list of those who may sign with the first."""
    folder = tmp_path_factory.mktemp("keys")
    public = generate(folder / "key", WHO)
    generate(folder / "stranger", "stranger@example.org")
    (folder / "allowed_signers").write_text(allowed_signers_line(WHO, public) + "\n")
    return folder


@pytest.fixture(scope="module")
def packs(tmp_path_factory, keys):
    """Packs of one run: signed with and without a known name, by a key nobody knows, not signed, and approved."""
    folder = tmp_path_factory.mktemp("packs")
    subjects = [runs.told(f"c{k}", outcome) for k, outcome in enumerate([Outcome.ERASED, Outcome.PENDING] * 3)]
    key, stranger = load_signer(keys / "key"), load_signer(keys / "stranger")
    with RunJournal(runs.write_run(folder / "20261124-run", subjects)) as journal:
        chain = Chain(FolderChain(folder / "chain"))
        write_pack(journal, folder / "named", chain=chain, signer=key, principal=WHO)
        write_pack(journal, folder / "nameless", chain=chain, signer=key)
        write_pack(journal, folder / "stranger", chain=chain, signer=stranger, principal=WHO)
        write_pack(journal, folder / "unsigned", chain=chain)
    statement = "The plan is approved.\n"
    approval = Approval(
        statement=statement,
        signature=key.sign(statement.encode(), APPROVAL_NAMESPACE).decode(),
        approver=WHO,
        fingerprint=key.public.fingerprint,
    )
    with RunJournal(folder / "20261124-run") as journal:
        journal.approval = approval
        write_pack(journal, folder / "approved", chain=chain, signer=key, principal=WHO)
        write_pack(journal, folder / "approved-unsigned", chain=chain)
    return folder


@pytest.fixture
def copy(packs, keys, tmp_path):
    """A copy of a pack, with the list of those who may sign in it, as VERIFY.txt has it."""

    def make(name):
        folder = Path(shutil.copytree(packs / name, tmp_path / name))
        shutil.copy(keys / "allowed_signers", folder)
        return folder

    return make


def commands(folder):
    """The commands that VERIFY.txt prints, as they stand there."""
    lines = (folder / "VERIFY.txt").read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("    "))


def check(folder, script=None):
    """Run the commands of VERIFY.txt, or those of an untouched copy of it, in a folder."""
    return subprocess.run(
        ["sh", "-e", "-c", script or commands(folder)], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["named", "nameless", "approved"])
def test_signed_pack_is_good(copy, keys, name):
    folder = copy(name)
    done = check(folder)
    assert done.returncode == 0, done.stderr
    assert f'Good "privacy-toolkit-audit-pack@v1" signature for {WHO}' in done.stdout
    assert load_signer(keys / "key").public.fingerprint in done.stdout
    assert load_signer(keys / "key").public.fingerprint in (folder / "VERIFY.txt").read_text()
    assert done.stdout.count(": OK\n") == len((folder / "SHA256SUMS").read_text().splitlines())


@pytest.mark.parametrize("name", ["unsigned", "approved-unsigned"])
def test_unsigned_pack_has_good_sums_and_no_signature_of_its_own(copy, name):
    folder = copy(name)
    done = check(folder)
    assert done.returncode == 0, done.stderr
    assert "privacy-toolkit-audit-pack@v1" not in done.stdout
    assert done.stdout.count(": OK\n") == len((folder / "SHA256SUMS").read_text().splitlines())


@pytest.mark.parametrize("name", ["approved", "approved-unsigned"])
def test_approval_is_good(copy, name):
    assert f'Good "privacy-toolkit-plan-approval@v1" signature for {WHO}' in check(copy(name)).stdout


def test_pack_signed_by_a_key_that_nobody_vouches_for_is_refused(copy):
    done = check(copy("stranger"))
    assert done.returncode != 0
    assert "Good" not in done.stdout


def test_new_edition_is_checked_with_the_manifests_of_the_earlier_ones(copy):
    done = check(copy("approved"))
    assert done.returncode == 0
    assert "earlier/1/SHA256SUMS.sig: OK" in done.stdout


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "rows.jsonl").unlink(),
        lambda folder: (folder / "rows.jsonl").write_bytes(b""),
        lambda folder: (folder / "report.json").replace(folder / "report.html"),
        lambda folder: (folder / "SHA256SUMS").write_text((folder / "SHA256SUMS").read_text() + "no sum\n"),
        lambda folder: (folder / "SHA256SUMS.sig").unlink(),
    ],
)
def test_missing_emptied_or_swapped_files_are_refused(copy, damage):
    folder = copy("named")
    script = commands(folder)
    damage(folder)
    assert check(folder, script).returncode != 0


def test_sums_made_again_after_a_change_are_refused(copy):
    folder = copy("named")
    rows = folder / "rows.jsonl"
    rows.write_bytes(b"\n".join(rows.read_bytes().splitlines()[1:]) + b"\n")
    names = [line[66:] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    sums = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
    (folder / "SHA256SUMS").write_bytes(sums)
    assert (
        subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, check=False).returncode == 0
    )
    assert check(folder).returncode != 0


def test_changed_bytes_are_refused(copy):
    """Sampled over all files and places; of the signature only what is base64, since ssh-keygen overlooks line ends."""
    folder = copy("named")
    script = commands(folder)
    names = ["SHA256SUMS", *(line[66:] for line in (folder / "SHA256SUMS").read_text().splitlines())]
    draw = random.Random(20261124)
    for sample in range(SAMPLES):
        path = folder / names[sample % len(names)]
        content = path.read_bytes()
        place, change = draw.randrange(len(content)), draw.randrange(1, 256)
        path.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
        done = check(folder, script)
        assert done.returncode != 0, (path.name, place, change)
        path.write_bytes(content)
    assert check(folder, script).returncode == 0


def test_changed_signatures_are_refused(copy):
    folder = copy("named")
    script = commands(folder)
    path = folder / "SHA256SUMS.sig"
    lines = path.read_text().splitlines(keepends=True)
    draw = random.Random(20261124)
    for _ in range(SAMPLES // 8):
        changed = list(lines)
        number = draw.randrange(1, len(lines) - 2)
        place = draw.randrange(len(lines[number]) - 1)
        other = draw.choice(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".replace(lines[number][place], "")
        )
        changed[number] = lines[number][:place] + other + lines[number][place + 1 :]
        path.write_text("".join(changed))
        assert check(folder, script).returncode != 0, (number, place, other)


def test_another_use_of_the_same_key_is_no_signature_of_a_pack(copy, keys):
    folder = copy("named")
    signer = load_signer(keys / "key")
    (folder / "SHA256SUMS.sig").write_bytes(signer.sign((folder / "SHA256SUMS").read_bytes(), APPROVAL_NAMESPACE))
    assert check(folder).returncode != 0
