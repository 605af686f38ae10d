import stat

import pyarrow as pa
import pytest

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.reporting.parquet import HELD, PARTS, SCHEMA, Spills, held_of, merged, returned_memory, table_of
from tests.support import reported_runs as runs

SECRET = b"k" * 32


@pytest.fixture
def table(tmp_path):
    """The rows of 600 subjects in the order of the input."""
    folder = runs.write_run(tmp_path / "r", [runs.told(f"c{k}", list(Outcome)[k % 3]) for k in range(600)])
    with RunJournal(folder) as journal:
        return table_of(list(journal.rows()), SECRET)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "parts").mkdir()
    return tmp_path / "parts"


@pytest.mark.parametrize("held", [1, 70, 100_000])
@pytest.mark.parametrize("together", [1, 64, 100_000])
def test_rows_come_back_whole_and_in_the_order_of_their_pseudonyms(table, folder, held, together):
    first, second = Spills(folder, "first", held), Spills(folder, "second", held)
    for k in range(0, 600, 50):
        (first if k < 300 else second).add(table.slice(k, 50))
    first.flush()
    second.flush()
    found = list(merged(folder, together))
    assert pa.concat_tables(found).to_pylist() == table.sort_by("subject").to_pylist()
    assert all(len(one) >= together for one in found[:-1])


def test_files_are_for_their_owner_only(table, folder):
    spills = Spills(folder, "x", 100)
    for k in range(0, 600, 100):
        spills.add(table.slice(k, 100))
    files = list(folder.iterdir())
    assert len(files) == 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_no_rows_give_nothing(folder):
    spills = Spills(folder, "x")
    spills.add(SCHEMA.empty_table())
    spills.flush()
    assert list(folder.iterdir()) == []
    assert list(merged(folder)) == []


def test_file_that_is_there_already_is_not_written_over(table, folder):
    (folder / "x-000001").write_text("mine")
    spills = Spills(folder, "x")
    spills.add(table)
    with pytest.raises(FileExistsError):
        spills.flush()
    assert (folder / "x-000001").read_text() == "mine"


@pytest.mark.parametrize("size", [0, 1_000_000, 10_000_000, 100_000_000])
def test_files_of_a_process_are_few_enough_to_be_open_at_once(size):
    assert held_of(size) >= HELD
    assert size / held_of(size) <= 100


def test_memory_is_managed_as_before_afterwards():
    before = pa.default_memory_pool().backend_name
    inside = []

    def break_off():
        with returned_memory():
            inside.append(pa.default_memory_pool().backend_name)
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    assert (inside, pa.default_memory_pool().backend_name) == (["system"], before)
    assert PARTS == 16**2
