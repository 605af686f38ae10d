"""Made-up runs, an open journal of one that has every outcome, a chain to seal packs into, and keys to sign them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.signatures.signers import DocumentSigner, load_signer
from privacy_toolkit.signatures.sshsig import generate

TESTS = Path(__file__).parents[2]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """The record of the packs of a state folder; nothing is in it yet."""
    return Chain(FolderChain(tmp_path / "chain"))


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
