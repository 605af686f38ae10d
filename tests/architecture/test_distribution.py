"""What is built holds what is needed, is built again byte for byte, and names no place that only its author has."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from privacy_toolkit import __version__

#: Where a module finds its templates, asked of the package that lies first on the path.
ASK = (
    "import json; from privacy_toolkit import reporting; from privacy_toolkit.core.privacy import templates_folder;"
    "folder = templates_folder();"
    "print(json.dumps([reporting.__file__, sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*'))]))"
)
#: Written with brackets so that this line does not find itself.
FORBIDDEN = re.compile(
    r"(?<![\w.-])/(?:w[o]rk|r[o]ot)/|python[h]osted|p[y]pi\.org/simple|r[e]gistry\.npm|d[e]b\.debian"
)


EPOCH = 1_700_000_000


def listed(root: Path) -> list[str]:
    """The files of the repository, those that are not committed yet too."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: nothing says which files belong to the repository")
    return [name for name in names.split("\0") if name and (root / name).is_file()]


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders with what was built of the same files: with other times, modes, order, places and another umask."""
    code = (
        "import sys; from pathlib import Path; from release.build import build; build(*map(Path, sys.argv[1:3]), EPOCH)"
    )
    folders, running = [], []
    for number, (mode, moment, umask) in enumerate(((0o600, 10**9, "077"), (0o664, 1_650_000_001, "002"))):
        folder = tmp_path_factory.mktemp(f"built-{number}")
        for name in sorted(listed(root), reverse=bool(number)):
            copy = folder / ("tree" * (number + 1)) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, copy)
            copy.chmod(mode)
            os.utime(copy, (moment, moment))
        program = [sys.executable, "-c", code.replace("EPOCH", str(EPOCH)), folder / ("tree" * (number + 1)), folder]
        command = ["sh", "-c", f'umask {umask}; exec "$@"', "sh", *program]
        running.append(subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
        folders.append(folder)
    for one in running:
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said.decode()
    return folders


@pytest.fixture(scope="module")
def unpacked_wheel(built: list[Path]) -> Path:
    with zipfile.ZipFile(next(built[0].glob("*.whl"))) as wheel:
        wheel.extractall(built[0] / "unpacked")
    return built[0] / "unpacked"


def test_wheel_and_sdist_are_built_again_byte_for_byte(built):
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} for folder in built)
    assert {name.partition("-")[2].removeprefix(__version__) for name in first} == {"-py3-none-any.whl", ".tar.gz"}
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_the_distribution_has_a_name_of_its_own(root, unpacked_wheel):
    assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["name"] == "talonone-privacy-toolkit"
    installs = re.compile(r"(?:pip|pipx|uv)[\w ]* install(?: [^\s`]+)*? '?privacy-toolkit\b(?![/.])")
    files = [name for name in listed(root) if not name.startswith("tests/")]
    assert [name for name in files if installs.search((root / name).read_bytes().decode("utf-8", "replace"))] == []
    (metadata,) = unpacked_wheel.glob("*.dist-info/METADATA")
    assert "\nName: talonone-privacy-toolkit\n" in metadata.read_text()
    (scripts,) = unpacked_wheel.glob("*.dist-info/entry_points.txt")
    assert "privacy-toolkit = privacy_toolkit.cli.main:main" in scripts.read_text()


def templates(root: Path) -> list[str]:
    folder = root / "reports" / "templates"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def ask_templates(folder: Path) -> tuple[Path, list[str]]:
    done = subprocess.run([sys.executable, "-c", ASK], cwd=folder, capture_output=True, text=True, check=True)
    module, names = json.loads(done.stdout)
    return Path(module), names


def test_templates_are_found_in_the_working_tree(root):
    module, names = ask_templates(root)
    assert module.is_relative_to(root)
    assert names == templates(root) != []


def test_templates_are_found_in_the_wheel(root, unpacked_wheel):
    module, names = ask_templates(unpacked_wheel)
    assert module.is_relative_to(unpacked_wheel)
    assert names == templates(root)


def test_wheel_holds_the_words_and_the_sample_of_the_access_package(root, unpacked_wheel):
    folder = Path("privacy_toolkit") / "access"
    held = {path.relative_to(root).as_posix() for kind in ("*.json", "*.toml") for path in (root / folder).rglob(kind)}
    assert len(held) > 4
    assert [name for name in sorted(held) if not (unpacked_wheel / name).is_file()] == []


def test_wheel_holds_the_package_its_typing_mark_and_licence_alone(unpacked_wheel):
    top = {path.name for path in unpacked_wheel.iterdir()}
    assert {re.sub(r"-[\d.]+\w*\.dist-info", ".dist-info", name) for name in top} == {
        "privacy_toolkit",
        "talonone_privacy_toolkit.dist-info",
    }
    assert (unpacked_wheel / "privacy_toolkit" / "py.typed").is_file()
    assert list(unpacked_wheel.glob("*.dist-info/licenses/LICENSE")) != []


def test_repository_names_no_registry_and_no_path_of_one_machine(root):
    found = [
        f"{name}: {match[0]}"
        for name in listed(root)
        for match in FORBIDDEN.finditer((root / name).read_bytes().decode("utf-8", "replace"))
    ]
    assert found == []
