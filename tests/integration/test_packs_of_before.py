"""Packs that version 0.x made and signed are still what they were: they verify, and tampering is still found."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from privacy_toolkit.evidence.verify.findings import Code
from privacy_toolkit.evidence.verify.manifest import Trust
from privacy_toolkit.evidence.verify.verifier import verify_pack
from privacy_toolkit.signatures.signers import AllowedSigners

NOW = datetime(2026, 12, 1, tzinfo=UTC)
PACKS = Path(__file__).parents[1] / "fixtures" / "packs-0.x"


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
