"""Files to read, and reading them down to plain values."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import InputSummary, read_input


@dataclass
class Read:
    """Everything that reading an input tells."""

    summary: InputSummary
    subjects: list
    records: list
    requests: list

    @property
    def ids(self):
        return [id_ for _, id_ in self.subjects]

    @property
    def reasons(self):
        """Row and reason of what was rejected."""
        return {record.row: record.reason.value for record in self.records if record.reason}


@pytest.fixture
def put(tmp_path):
    """Write a file into the test's folder and give its path as a user would."""

    def write(content: bytes | str, name: str = "requests.csv") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


@pytest.fixture
def put_parquet(tmp_path):
    """Write columns as a Parquet file."""

    def write(columns: dict | pa.Table, name: str = "requests.parquet", **options) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
        return str(path)

    return write


@pytest.fixture
def read(tmp_path):
    """Read an input with the given options."""

    def run(path: str, *, page_rows: int = 1000, stdin=None, **options) -> Read:
        folder = tmp_path / "spool"
        folder.mkdir(exist_ok=True)
        with read_input(path, InputOptions(**options), spool_folder=folder, stdin=stdin, page_rows=page_rows) as scan:
            subjects = [pair for page in scan.subjects() for pair in page]
            return Read(scan.summary, subjects, list(scan.records()), list(scan.requests()))

    return run


@pytest.fixture
def refuse(read):
    """Read what can't be read; give message and hint."""

    def run(path: str, **options) -> InputError:
        with pytest.raises(InputError) as caught:
            read(path, **options)
        assert caught.value.hint
        assert caught.value.message.endswith((".", "?"))
        assert path == "-" or str(Path(path).parent) not in caught.value.message
        return caught.value

    return run


@pytest.fixture(params=["few ids, in plain Python", "many ids, with numpy"])
def number_of_ids(request, monkeypatch):
    if request.param.startswith("many"):
        monkeypatch.setattr("privacy_toolkit.inputs.pages.NUMPY_FROM", 0)
