"""Packs that earlier versions made and signed are still what they were: they verify, and tampering is still found."""

import json
import shutil
import subprocess
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from privacy_toolkit.core.model import Job
from privacy_toolkit.core.privacy import __version__
from privacy_toolkit.evidence.verify.findings import Code
from privacy_toolkit.evidence.verify.manifest import Trust
from privacy_toolkit.evidence.verify.rows import compare_here
from privacy_toolkit.evidence.verify.verifier import Wanted, verify_pack
from privacy_toolkit.signatures.signers import AllowedSigners

NOW = datetime(2026, 12, 1, tzinfo=UTC)
FIXTURES = Path(__file__).parents[1] / "fixtures"
PACKS = FIXTURES / "packs-0.x"


@pytest.mark.parametrize("name", ["erase", "export"])
def test_a_pack_of_before_verifies(name, toolkit):
    kit = toolkit("http://127.0.0.1:9")
    command = ("verify", PACKS / name, "--signers", PACKS / "allowed_signers")
    done = kit.run(*command, "--json")  # its page is in words of its own: that it can't be compared is said
    assert (done.code, [one["code"] for one in done.json["problems"]]) == (6, ["page_not_compared"]), done.out
    done = kit.run(*command, "--no-page")
    assert done.code == 0, done.out + done.err
    assert "privacy-toolkit/report/2" in done.out


def test_its_figures_are_still_counted_again(tmp_path):
    pack = shutil.copytree(PACKS / "export", tmp_path / "pack")
    report = json.loads((pack / "report.json").read_text())
    report["outcomes"][0]["count"] += 1
    (pack / "report.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    codes = {problem.code for problem in verify_pack(pack, Trust(None, NOW)).problems}
    assert {Code.HASH_DIFFERS, Code.SUMS_DIFFER} <= codes


@pytest.mark.parametrize("member", ["rejected", "controls"])
def test_what_that_format_does_not_have_is_no_part_of_it(tmp_path, member):
    pack = shutil.copytree(PACKS / "erase", tmp_path / "pack")
    report = json.loads((pack / "report.json").read_text())
    (pack / "report.json").write_text(json.dumps({**report, member: None}, indent=2, sort_keys=True) + "\n")
    assert Code.BAD_REPORT in {problem.code for problem in verify_pack(pack, Trust(None, NOW)).problems}


def test_the_signers_are_those_of_the_list():
    trust = Trust(AllowedSigners.read(PACKS / "allowed_signers"), NOW)
    assert verify_pack(PACKS / "erase", trust).signer.allowed


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What version 0.2.0 left behind: a pack of each kind of run, a receipt, and the list of signers."""
    folder = tmp_path_factory.mktemp("left")
    with tarfile.open(FIXTURES / "packs-0.2.0.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "packs-0.2.0"


@pytest.fixture
def copied(left, tmp_path):
    """Copy a pack, to change it."""
    return lambda name: shutil.copytree(left / "packs" / name, tmp_path / "pack")


def problems(pack, *, page=True):
    found = verify_pack(pack, Trust(None, NOW), compare=compare_here, wanted=Wanted(page=page))
    return [(one.code, one.file) for one in found.problems]


def rewrite(pack, file, before, after):
    """Change a file as somebody would who has the key: sums and signature are no part of these tests."""
    path = pack / file
    content = path.read_text()
    assert before in content
    path.write_text(content.replace(before, after, 1))


def test_the_packs_of_0_2_0_are_of_every_job(left):
    jobs = {json.loads((pack / "report.json").read_text())["job"] for pack in (left / "packs").iterdir()}
    assert jobs == {job.value for job in Job} - {"audiences"}


@pytest.mark.parametrize("page", [True, False])
def test_each_pack_of_0_2_0_verifies_with_its_page(left, page):
    trust = Trust(AllowedSigners.read(left / "allowed_signers"), NOW)
    wanted = Wanted(page=page)
    found = {
        pack.name: verify_pack(pack, trust, compare=compare_here, wanted=wanted) for pack in (left / "packs").iterdir()
    }
    assert len(found) == 22
    assert {name: verification.problems for name, verification in found.items() if not verification.valid} == {}
    assert all(verification.signer.allowed for verification in found.values())


@pytest.mark.parametrize(
    ("name", "file", "before", "after"),
    [
        ("nobody", "report.json", "Is it the right environment?", "It is the right environment."),
        ("nobody", "report.json", "Before you rely on it, check", "Rely on it, do not check"),
        ("nobody", "report.json", "so nothing was sent", "so all was sent"),
        ("refused", "report.json", "Resume the run: sending again is safe.", "Resume the run."),
        ("refused", "exceptions.csv", "Resume the run: sending again is safe.", "Resume the run."),
        ("nobody", "report.html", "Is it the right environment?", "It is the right environment."),
        ("erased", "report.html", "1 subjects", "2 subjects"),
        ("patrolled", "report.html", "Whoever was answered", "Nobody was answered"),
    ],
)
def test_another_word_in_a_pack_of_0_2_0_is_found(copied, name, file, before, after):
    pack = copied(name)
    rewrite(pack, file, before, after)
    codes = {code for code, where in problems(pack) if where == file}
    assert codes & {Code.NOT_DERIVED, Code.EXCEPTIONS_DIFFER, Code.PAGE_NOT_COMPARED}, codes


def test_a_report_is_in_the_words_of_one_build(copied):
    """Sentences of today next to those of 0.2.0 are nobody's report."""
    pack = copied("nobody")
    today = "If no earlier run erased them: is it the right environment?"
    rewrite(pack, "report.json", "Is it the right environment?", today)
    assert (Code.NOT_DERIVED, "report.json") in problems(pack, page=False)


def test_the_page_of_0_2_0_is_no_page_of_this_version(copied):
    pack = copied("erased")
    rewrite(pack, "report.json", '"toolkit": "0.2.0"', f'"toolkit": "{__version__}"')
    assert (Code.TEXT_DIFFERS, "report.html") in problems(pack)


def test_a_receipt_of_0_2_0_is_still_good(left, tmp_path):
    (tmp_path / "id").write_text("customer-001\n")
    command = ("sh", "check-receipt.sh", tmp_path / "id")
    done = subprocess.run(command, cwd=left / "receipt", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
