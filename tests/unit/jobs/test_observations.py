import re
from pathlib import Path

import pytest

from privacy_toolkit.core.model import Job
from privacy_toolkit.jobs import declaration, observations
from privacy_toolkit.journal.records import SubjectState
from privacy_toolkit.reporting.parquet import SCHEMA
from privacy_toolkit.reporting.rows import Row
from privacy_toolkit.reporting.schema import Kept

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "privacy_toolkit"


def test_what_any_job_observes_is_among_the_columns_of_the_rows():
    declared = {one.column for job in Job for one in declaration(job).observations}
    assert declared == {one.column for one in observations()}


def test_a_column_and_a_number_belong_to_one_job_alone():
    columns, numbers = zip(*((one.column, one.number) for one in observations()), strict=True)
    assert len(set(columns)) == len(columns)
    assert sorted(filter(None, numbers)) == ["first_count", "second_count"]
    assert set(filter(None, numbers)) <= set(SubjectState.__struct_fields__)


@pytest.mark.parametrize("one", observations(), ids=lambda one: one.column)
def test_an_observation_has_its_column_in_every_form_of_a_row_and_a_word_in_the_documentation(one):
    assert one.column in Row.__struct_fields__
    assert one.column in SCHEMA.names
    (line,) = re.findall(rf"^\|.*`{one.column}`.*$", (ROOT / "docs/report.md").read_text("utf-8"), re.MULTILINE)
    assert one.meaning in line


def test_the_report_adds_up_what_is_to_be_added_up():
    assert {one.total for one in observations() if one.total} == set(Kept.__struct_fields__) - {"subjects"}


def test_nothing_but_a_job_and_the_forms_of_rows_knows_the_name_of_a_number():
    numbers = [one.column for one in observations() if one.number]
    naming = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(number in path.read_text("utf-8") for number in numbers)
    }
    assert naming == {
        "jobs/erase.py",  # declares them
        "reporting/rows.py",  # the form of a row, today's and the one before
        "access/page.py",  # reads a row of any pack
        "journal/sqlite/pages.py",  # the tables that journals of 0.1.0 had
    }
