"""Made-up runs, an open journal of one that has every outcome, a chain to seal packs into, and keys to sign them."""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.evidence.chain import Chain
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.signatures.keys import generate
from privacy_toolkit.signatures.signers import DocumentSigner, load_signer

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def runs() -> ModuleType:
    """The module tests/support/reported_runs.py."""
    spec = importlib.util.spec_from_file_location("reported_runs", TESTS / "support" / "reported_runs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["reported_runs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def mixed(runs: ModuleType, tmp_path: Path) -> Iterator[RunJournal]:
    """A run with each outcome of an erasure, as many times as its place in the vocabulary."""
    subjects = [
        runs.told(f"customer-{outcome}-{k}", outcome)
        for place, outcome in enumerate(Outcome, 1)
        if outcome is not Outcome.DONE
        for k in range(place)
    ]
    journal = RunJournal(runs.write_run(tmp_path / "20261123-mixed", subjects))
    yield journal
    journal.close()


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """The record of the packs of a state folder; nothing is in it yet."""
    return Chain(tmp_path / "chain")


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> DocumentSigner:
    """A key, as it is read from a file."""
    path = tmp_path_factory.mktemp("keys") / "signing-key"
    generate(path, "dpo@example.org")
    return load_signer(path)


@pytest.fixture(scope="session")
def other_signer(tmp_path_factory: pytest.TempPathFactory) -> DocumentSigner:
    """Another key."""
    path = tmp_path_factory.mktemp("keys") / "other-key"
    generate(path, "other@example.org")
    return load_signer(path)


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """What a folder holds: relative path to bytes."""

    def read(folder: Path) -> dict[str, bytes]:
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    return read


@pytest.fixture(scope="session")
def sha256sum() -> str:
    """The path of the GNU coreutils' sha256sum; without it the test is skipped."""
    path = shutil.which("sha256sum")
    if path is None:
        pytest.skip("sha256sum of the GNU coreutils is not installed")
    return path
