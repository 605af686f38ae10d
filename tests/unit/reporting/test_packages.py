"""What a report says of access packages: sections in plain words, sums, and what was removed."""

import re

import pytest

from privacy_toolkit.core.model import Job, Outcome
from privacy_toolkit.engine.planning import EXPORTED
from privacy_toolkit.journal.records import PackageFacts
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.reporting.html import render
from privacy_toolkit.reporting.rows import make_case
from tests.support import reported_runs as runs


def facts(number, **sections):
    return PackageFacts(name=f"{number:032x}", sha256=f"{number:064x}", sections=sections, redactions=number, people=1)


@pytest.fixture
def page(build, tmp_path):
    """The report of an export, and its page in words: each cell after a bar, each row on a line."""

    def made(*subjects, **settings):
        changes = {"job": "export", "calls": {runs.READ: (3, 3)}, "settings": runs.SETTINGS | settings}
        with RunJournal(runs.write_run(tmp_path / "run", subjects, **changes)) as journal:
            report = build(journal)
        cases = [make_case("r", "retryable", "not_delivered", 0, None, Job.EXPORT)]
        text = re.sub(r"(?s)<(style|script).*?</(style|script)>", "", render(report, cases))
        return report, re.sub(r"<[^>]+>", "", re.sub(r"</t[dh]>(?!</tr>)", " | ", text))

    return made


def test_sections_are_named_in_plain_words_in_the_order_of_a_package(page):
    states = {"referrals": "not_held", "loyalty": "not_obtainable", "profile": "complete", "stamps": "complete"}
    report, text = page(runs.exported("a", facts(1, **states)), runs.exported("b", facts(2, profile="complete")))
    assert (report.access.packages, report.access.people, report.access.redactions) == (2, 2, 3)
    rows = [
        "Profile and attributes | 2 | 0 | 0",
        "Referrals | 0 | 1 | 0",
        "Loyalty programmes and cards | 0 | 0 | 1",
        "stamps | 1 | 0 | 0",
    ]
    assert sorted(text.index(row) for row in rows) == [text.index(row) for row in rows]


def test_a_package_that_did_not_fit_is_said_with_what_to_do(page):
    _, text = page(runs.exported("a", facts(1, profile="complete")), runs.exported("b"))
    assert "No package yet" in text
    assert "Make room in the folder of the packages" in text


def test_who_was_exported_before_is_explained_and_an_export_claims_no_change(page):
    _, text = page(runs.told("a", Outcome.ON_HOLD, hold=EXPORTED))
    assert "already_exported | 1" in text
    assert "an earlier export answered the request" in text
    assert "confirmed before" not in text
    assert "Unknown" not in text
    assert "What the packages hold" not in text


def test_how_many_old_packages_were_removed_stands_among_the_settings_of_an_export_alone(page):
    _, text = page(runs.exported("a", facts(1, profile="complete")), packages_removed=3, gone_predicate="")
    assert "Old packages removed first | 3" in text
    assert "Predicate for gone" not in text


def test_where_nothing_is_removed_nothing_is_said(page):
    _, text = page(runs.exported("a", facts(1, profile="complete")), packages_removed="")
    assert "Old packages" not in text
