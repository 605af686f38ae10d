"""What a release is made of (``make release``): sdist and wheel, a bill of materials, and the sums of all of them.

The same commit gives the same bytes, no matter who builds it: files come out of git, not from the working tree, their
times are those of the commit, and what builds them is pinned in ``requirements/build.txt``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SUMS = "SHA256SUMS"


class NotReadyError(Exception):
    """There is nothing that could be released."""


def build(tree: Path, out: Path, epoch: int) -> None:
    """Build the sdist of a source tree, and the wheel out of the sdist, all with the time ``epoch`` (seconds)."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def bill_of_materials(tree: Path, version: str, epoch: int, *, validate: bool = True) -> bytes:
    """A CycloneDX bill of materials, in JSON: what is pinned for running, with the hashes that are taken.

    With ``validate`` it is checked against the schema of CycloneDX, which takes some seconds.
    """
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "--pyproject"]
    command += [str(tree / "pyproject.toml"), "--output-reproducible", "--short-PURLs", "--of", "JSON"]
    command += ["--validate" if validate else "--no-validate"]
    done = subprocess.run(
        [*command, "-o", "-", str(tree / "requirements" / "runtime.txt")],
        check=True,
        env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch)},
        stdout=subprocess.PIPE,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    root = said["metadata"]["component"]
    root |= {"version": version, "purl": f"pkg:pypi/{root['name']}@{version}"}
    for component in said["components"]:
        component.pop("description", None)  # the line of the file, with all hashes once more
        component["bom-ref"] = component["purl"]
    references = sorted(component["bom-ref"] for component in said["components"])
    said["dependencies"] = [{"ref": root["bom-ref"], "dependsOn": references}]
    said["dependencies"] += [{"ref": reference} for reference in references]
    return json.dumps(said, indent=2, sort_keys=True).encode() + b"\n"


def version_of(tree: Path) -> str:
    """The version that the package says it has."""
    (found,) = re.findall(
        r'^__version__ = "(.+)"$', (tree / "privacy_toolkit" / "core" / "privacy.py").read_text(), re.MULTILINE
    )
    return str(found)


def sums_of(folder: Path) -> bytes:
    """The lines of sha256sum for all files in a folder."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files).encode()


def make(tree: Path, out: Path, epoch: int) -> None:
    """Fill the folder ``out``, which is made, with a release of a source tree."""
    version = version_of(tree)
    name = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["name"]
    build(tree, out, epoch)
    (out / f"{name.replace('-', '_')}-{version}.cdx.json").write_bytes(bill_of_materials(tree, version, epoch))
    (out / SUMS).write_bytes(sums_of(out))


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, stdout=subprocess.PIPE).stdout


def main() -> int:
    """Release the last commit into ``dist``."""
    if _git("status", "--porcelain"):
        print("There are changes that are not committed: a release is made of a commit. Commit or stash them.")
        return 1
    tag = os.environ.get("GITHUB_REF_NAME") if os.environ.get("GITHUB_REF_TYPE") == "tag" else None
    if tag is not None and tag != f"v{version_of(ROOT)}":
        print(f"The tag is {tag}, and the version v{version_of(ROOT)}: they have to be the same.")
        return 1
    out, epoch = ROOT / "dist", int(_git("log", "-1", "--format=%ct"))
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "HEAD"))) as archive:
            archive.extractall(folder, filter="data")
        make(Path(folder), out, epoch)
    print((out / SUMS).read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
