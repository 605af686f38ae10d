"""What comes from outside: pinned by hash, looked at by an audit that never passes by chance, listed in a release."""

import hashlib
import json
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from release import audit, build
from release.build import bill_of_materials, sums_of, version_of

SHA = re.compile(r"[0-9a-f]{40}")
CLOSED = "http://127.0.0.1:1"


@pytest.fixture
def pins(root):
    """The pins of one file: what is said of each package, and its hashes."""

    def read(name):
        text = (root / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
        lines = [line.split("--hash=sha256:") for line in text.splitlines()]
        return {line[0].strip(): [one.strip() for one in line[1:]] for line in lines}

    return read


@pytest.fixture(scope="module")
def rules():
    whole = tomllib.loads((audit.ROOT / "pyproject.toml").read_text())
    return whole["tool"]["talonone-privacy-toolkit"]["licences"]


@pytest.mark.parametrize("name", ["build", "runtime", "dev"])
def test_every_package_has_one_version_and_hashes_and_no_place(pins, name):
    for said, hashes in pins(name).items():
        requirement = Requirement(said)
        assert [one.operator for one in requirement.specifier] == ["=="]
        assert requirement.url is None
        assert hashes != []
        assert all(re.fullmatch("[0-9a-f]{64}", one) for one in hashes)


@pytest.mark.parametrize("name", ["build", "runtime"])
def test_what_is_run_and_built_with_is_what_is_tested(pins, name):
    """Only for which machines may differ: what is needed for running is a part of what is needed for testing."""
    tested = {(said.partition(" ")[0], *hashes) for said, hashes in pins("dev").items()}
    assert {(said.partition(" ")[0], *hashes) for said, hashes in pins(name).items()} - tested == set()


def test_pins_hold_all_that_the_project_asks_for(root, pins):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["sandbox"]]
    for name, wanted in (("runtime", asked), ("build", project["build-system"]["requires"])):
        pinned = {one.name: one.specifier for one in map(Requirement, pins(name))}
        for requirement in map(Requirement, wanted):
            (version,) = pinned[requirement.name]
            assert requirement.specifier.contains(version.version)


def test_make_takes_nothing_without_a_hash(root):
    lines = (root / "Makefile").read_text().splitlines()
    installs = [line for line in lines if "pip install" in line]
    assert installs != []
    assert [line for line in installs if "--require-hashes" not in line and "--no-index --no-deps" not in line] == []


# The audit.


def said(name, **more):
    return {"name": name, "version": "1", "vulns": [], **more}


def test_an_audit_passes_when_all_were_looked_at_and_nothing_was_found():
    result = audit.judge_packages({"a": "1", "b-c": "1"}, [said("A"), said("b_c"), said("other")])
    assert (result.code, result.found, result.unknown) == (audit.CLEAN, [], [])


@pytest.mark.parametrize(
    "reply",
    [
        [],
        [{"name": "a", "skip_reason": "Dependency not found and could not be audited"}],
        [said("a") | {"version": "2"}],
    ],
)
def test_what_the_service_does_not_know_is_no_pass(reply):
    """pip-audit itself says "No known vulnerabilities found" and exits 0."""
    result = audit.judge_packages({"a": "1", "b": "1"}, [*reply, said("b")])
    assert result.code == audit.NOT_AUDITED
    assert result.unknown == ["the service said nothing of 1 packages: a"]


def test_a_known_vulnerability_is_named_with_what_fixes_it():
    result = audit.judge_packages({"a": "1"}, [said("a", vulns=[{"id": "PYSEC-1", "fix_versions": ["1.1"]}])])
    assert (result.code, result.found) == (audit.FOUND, ["a 1: PYSEC-1 (fixed in 1.1)"])


def test_without_a_network_the_audit_says_so_and_does_not_pass(monkeypatch, capsys, tmp_path):
    """The real pip-audit, over what is pinned for building, with a proxy that is not there."""
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, CLOSED)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("PIP_AUDIT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(audit, "DEVELOPMENT", audit.ROOT / "requirements" / "build.txt")
    monkeypatch.setattr(audit, "ask_licences", lambda: dict.fromkeys(audit.locked(audit.RUNTIME), "MIT"))
    monkeypatch.setattr("sys.argv", ["audit"])
    assert audit.main() == audit.NOT_AUDITED
    out = capsys.readouterr().out
    assert "NOT AUDITED  build.txt: pip-audit could not ask its service" in out
    assert "This is no pass" in out


def test_all_that_is_pinned_has_a_licence_on_the_list(rules):
    stated = audit.ask_licences()
    for file, dev in ((audit.RUNTIME, False), (audit.DEVELOPMENT, True)):
        result = audit.judge_licences(rules, stated, audit.locked(file), dev=dev)
        assert (result.found, result.unknown) == ([], [])


@pytest.mark.parametrize(
    ("licence", "fits"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR BSD-3-Clause) AND GPL-3.0-only", False),
        ("BSD-3-Clause AND (MIT OR Zlib)", True),
        ("Apache Software License; MIT License", True),
        ("MIT License; GNU General Public License v3 (GPLv3)", False),
        ("ISC License (ISCL)", True),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_of_mere_alternatives_one_has_to_be_allowed_and_of_all_else_each(rules, licence, fits):
    assert audit.is_allowed(licence, frozenset(rules["allowed"])) is fits


def test_a_licence_that_is_only_good_for_tools_is_not_good_for_what_is_handed_on(rules):
    for dev in (True, False):
        result = audit.judge_licences(rules, {"a": "MPL-2.0"}, {"a": "1"}, dev=dev)
        assert result.code == (audit.CLEAN if dev else audit.FOUND)
    assert audit.judge_licences(rules, {}, {"a": "1"}, dev=True).code == audit.NOT_AUDITED


# The release.


def test_the_bill_of_materials_names_all_that_is_run_and_is_made_again_byte_for_byte(root, pins):
    made = bill_of_materials(root, version_of(root), 1_700_000_000, validate=False)
    bill = json.loads(made)
    assert bill["metadata"]["component"]["purl"] == f"pkg:pypi/talonone-privacy-toolkit@{version_of(root)}"
    listed = {
        f"{one['name']}=={one['version']}": {entry["content"] for entry in one["externalReferences"][0]["hashes"]}
        for one in bill["components"]
    }
    assert listed == {said.partition(";")[0].strip(): set(hashes) for said, hashes in pins("runtime").items()}
    assert "2023-11-14T22:13:20" in bill["metadata"]["timestamp"]
    assert bill_of_materials(root, version_of(root), 1_700_000_000, validate=False) == made


def test_sums_are_those_of_sha256sum(tmp_path):
    (tmp_path / "b").write_bytes(b"2")
    (tmp_path / "a").write_bytes(b"1")
    expected = "".join(f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in (("a", b"1"), ("b", b"2")))
    (tmp_path / "SHA256SUMS").write_bytes(b"old")
    assert sums_of(tmp_path) == expected.encode()


@pytest.mark.parametrize(
    ("changes", "tag", "said"),
    [(b" M README.md\n", None, "not committed"), (b"", "v9.9.9", "they have to be the same")],
)
def test_a_release_is_made_of_a_commit_whose_tag_is_its_version(monkeypatch, capsys, changes, tag, said):
    monkeypatch.setattr(build, "_git", lambda *_: changes)
    monkeypatch.setattr(build, "make", lambda *_: pytest.fail("it was made"))
    if tag is not None:
        monkeypatch.setenv("GITHUB_REF_TYPE", "tag")
        monkeypatch.setenv("GITHUB_REF_NAME", tag)
    assert build.main() == 1
    assert said in capsys.readouterr().out


@pytest.fixture(scope="module")
def workflows():
    found = list((audit.ROOT / ".github" / "workflows").glob("*.y*ml"))
    assert found != []
    return {path.name: (path.read_text(), yaml.safe_load(path.read_text())) for path in found}


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_every_action_is_pinned_to_a_commit_and_its_version_said(workflows):
    for text, workflow in workflows.values():
        used = [step["uses"] for step in steps(workflow) if "uses" in step]
        assert used != []
        for one in used:
            assert SHA.fullmatch(one.partition("@")[2]), one
            assert re.search(rf"uses: {re.escape(one)} # v\d+\.\d+\.\d+$", text, re.MULTILINE), one


def test_workflows_use_no_secret_and_no_token_of_an_index(workflows):
    for text, _ in workflows.values():
        assert re.findall(r"secrets\.|password:|api.token|TWINE|pull_request_target", text, re.IGNORECASE) == []


def test_every_job_has_the_permissions_it_needs_and_no_other(workflows):
    _, release = workflows["release.yml"]
    assert release["permissions"] == {}
    assert {name: job["permissions"] for name, job in release["jobs"].items()} == {
        "build": {"contents": "read"},
        "attest": {"attestations": "write", "contents": "read", "id-token": "write"},
        "publish": {"id-token": "write"},
        "page": {"contents": "write"},
    }
    assert release["jobs"]["publish"]["environment"] == "release"


def test_what_builds_runs_nothing_that_may_publish_and_what_publishes_checks_out_nothing(workflows):
    _, release = workflows["release.yml"]
    for name, job in release["jobs"].items():
        actions = " ".join(step.get("uses", "") for step in job["steps"])
        assert ("actions/checkout@" in actions) == (name == "build")
        assert ("gh-action-pypi-publish@" in actions) == (name == "publish")
    (checkout,) = [step for step in steps(release) if "checkout@" in step.get("uses", "")]
    assert checkout["with"]["persist-credentials"] is False


def test_a_release_is_checked_audited_and_attested_before_it_is_published(workflows):
    _, release = workflows["release.yml"]
    jobs = release["jobs"]
    assert [step["run"] for step in jobs["build"]["steps"] if "run" in step] == [
        "bash .ci/run",
        "make audit",
        "make release",
    ]
    assert [jobs[name]["needs"] for name in ("attest", "publish", "page")] == ["build", "attest", "publish"]
    actions = " ".join(step.get("uses", "") for step in jobs["attest"]["steps"])
    assert "attest-build-provenance@" in actions
    assert "attest-sbom@" in actions


def test_no_step_puts_foreign_text_into_a_shell(workflows):
    for _, workflow in workflows.values():
        assert [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")] == []
