"""What is built holds what is needed, and what is kept names no place that only its author has."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

#: Where a module finds its templates, asked of the package that lies first on the path.
ASK = (
    "import json; from privacy_toolkit import reporting;"
    "folder = reporting.templates_folder();"
    "print(json.dumps([reporting.__file__, sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*'))]))"
)
#: Written with brackets so that this line does not find itself.
FORBIDDEN = re.compile(
    r"(?<![\w.-])/(?:w[o]rk|r[o]ot)/|python[h]osted|p[y]pi\.org/simple|r[e]gistry\.npm|d[e]b\.debian"
)


@pytest.fixture(scope="module")
def unpacked_wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root)]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "unpacked")
    return folder / "unpacked"


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
        "privacy_toolkit.dist-info",
    }
    assert (unpacked_wheel / "privacy_toolkit" / "py.typed").is_file()
    assert list(unpacked_wheel.glob("*.dist-info/licenses/LICENSE")) != []


def test_repository_names_no_registry_and_no_path_of_one_machine(root):
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: nothing says which files belong to the repository")
    found = [
        f"{name}: {match[0]}"
        for name in filter(None, listed.split("\0"))
        if (root / name).is_file()
        for match in FORBIDDEN.finditer((root / name).read_bytes().decode("utf-8", "replace"))
    ]
    assert found == []
