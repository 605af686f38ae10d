"""Run a part of the tests under every other Python that is supported and can be found on this machine.

Each gets an environment of its own in ``build/pythons``, with the pinned packages. ``--short`` is for every change:
what a few files of tests and one erasure from plan to verified pack can show. An interpreter that is not there is said,
and is no failure.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PINNED = ROOT / "requirements" / "dev.txt"
#: What ``requires-python`` allows and has been released.
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
SHORT = ("unit/journal/test_run.py", "unit/engine/test_plan.py")
FULL = ("unit", "contract", "cli/test_plan.py", "cli/test_erase.py", "cli/test_verify.py")
#: What a program prints that is the CPython of that name; a shim of a version that is not installed prints nothing.
ASK = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2], sys.executable)"


def places() -> Iterator[Path]:
    """Folders in which interpreters may be: those of PATH, of pyenv and of uv."""
    yield from (Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path.home() / ".local" / "share" / "uv" / "python")
    for kept in (pyenv, uv):
        yield from sorted(kept.glob("*/bin"), reverse=True)


def found(version: str) -> Path | None:
    """Give the first CPython of a version that starts."""
    for folder in places():
        program = folder / f"python{version}"
        if not os.access(program, os.X_OK):
            continue
        said = subprocess.run(
            [program, "-c", ASK], capture_output=True, text=True, check=False, cwd=ROOT
        ).stdout.split()
        if said[:2] == ["cpython", version]:
            return Path(said[2])
    return None


def environment(version: str, python: Path) -> Path:
    """Make an environment with what is pinned, each with its hash, and this project; give its interpreter."""
    folder = ROOT / "build" / "pythons" / version
    uv, inside = Path(sys.executable).parent / "uv", folder / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", python, folder], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", inside]
    subprocess.run([*install, "--require-hashes", "--only-binary", ":all:", "--requirement", PINNED], check=True)
    subprocess.run([*install, "--no-deps", "--no-build-isolation", "--editable", ROOT], check=True)
    return inside


def passes(python: Path, is_short: bool, numprocesses: str) -> bool:
    """Run the tests, then erase a sandbox's customers from plan to verified pack, in processes of their own."""
    tests = [str(ROOT / "tests" / name) for name in (SHORT if is_short else FULL)]
    options = ["--quiet", "--numprocesses", numprocesses, "--dist", "worksteal", "-p", "no:cacheprovider"]
    demo = ["-m", "privacy_toolkit", "demo", "--customers", "40", "--out", str(python.parents[1] / "demo")]
    return all(
        subprocess.run([python, *words], cwd=ROOT, check=False, stdin=subprocess.DEVNULL).returncode == 0
        for words in (["-m", "pytest", *options, *tests], demo)
    )


def main() -> int:
    """Run them all, and end with a line for each version.

    Returns:
        1 if anything failed under one of them.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few files of tests instead of unit and contract tests")
    parser.add_argument("--numprocesses", metavar="N", default="2", help="tests at the same time [2]")
    options = parser.parse_args()
    this = "{}.{}".format(*sys.version_info[:2])
    told, has_failed = [f"Python {this}: the one of make test"], False
    for version in SUPPORTED:
        if version == this:
            continue
        python, begun = found(version), time.monotonic()
        if python is None:
            told.append(f"Python {version}: not found on this machine, so nothing is known of it")
            continue
        print(f"\nPython {version}: {python}", flush=True)
        is_good = passes(environment(version, python), options.short, options.numprocesses)
        has_failed |= not is_good
        told.append(f"Python {version}: {'passed' if is_good else 'FAILED'} in {time.monotonic() - begun:.0f} s")
    print("", *told, sep="\n")
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
