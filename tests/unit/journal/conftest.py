"""A run on disk, as small as wanted."""

import pytest

from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.sqlite.reader import create_run


@pytest.fixture
def state(tmp_path):
    return StateFolder(tmp_path / "state")


@pytest.fixture
def make_run(state):
    def make(ids=("a", "b", "c"), holds=None, page=2, run_id="20260101-000000-erase-abcdef", requests=()):
        rows = [(k + 2, id_) for k, id_ in enumerate(ids)]
        pages = [rows[k : k + page] for k in range(0, len(rows), page)]
        create_run(
            state.runs / run_id,
            Staged(plan=b"{}", created_at=1_000, pages=pages, holds=holds or {}, requests=requests),
        )
        return state.open(run_id)

    return make
