"""What the journal keeps of a package: facts that name nobody, and their sums."""

import json

import msgspec

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.journal.records import (
    Note,
    PackageFacts,
    SubjectState,
    decode_package,
    encode_package,
)
from privacy_toolkit.reporting.counts import count_packages
from privacy_toolkit.reporting.schema import AccessPart

FACTS = PackageFacts(
    name="0123456789abcdef.zip",
    sha256="a" * 64,
    sections={"profile": "complete", "coupons": "not_held", "loyalty": "not_obtainable"},
    redactions=3,
    people=2,
)


def test_what_was_kept_is_read_again_as_it_was():
    kept = encode_package(FACTS)
    assert decode_package(kept) == FACTS
    assert json.loads(kept) == {
        "type": "package",
        "name": FACTS.name,
        "sha256": FACTS.sha256,
        "sections": FACTS.sections,
        "redactions": 3,
        "people": 2,
    }


def test_what_other_jobs_keep_is_no_package():
    assert decode_package(None) is None
    assert decode_package(b"[]") is None
    assert decode_package(b'{"type":"holders"}') is None


def test_packages_are_added_up_by_section_and_state():
    other = PackageFacts(
        name="fedcba9876543210",
        sha256="b" * 64,
        sections={"profile": "complete", "coupons": "complete"},
        redactions=1,
        people=1,
    )
    kept = [encode_package(FACTS), b"[]", encode_package(other), encode_package(FACTS)]
    assert count_packages(kept) == AccessPart(
        packages=3,
        redactions=7,
        people=5,
        sections={
            "coupons": {"not_held": 2, "complete": 1},
            "loyalty": {"not_obtainable": 2},
            "profile": {"complete": 3},
        },
    )


def test_listed_sessions_are_added_up_by_how_they_were_read():
    some = msgspec.structs.replace(FACTS, sessions=("complete", "of_another"))
    assert decode_package(encode_package(some)) == some
    counted = count_packages([encode_package(some), encode_package(FACTS), encode_package(some)])
    assert counted.sessions == {"complete": 2, "of_another": 2}
    assert count_packages([encode_package(FACTS)]).sessions is msgspec.UNSET


def test_no_package_is_no_count():
    assert count_packages([]) is None
    assert count_packages([b"[]"]) is None


def test_a_purge_destroys_them(make_run):
    with make_run() as journal:
        number = journal.begin_execution(1, "{}")
        journal.record([Note(1, (), SubjectState(Outcome.DONE, settled_at=2), encode_package(FACTS))])
        journal.end_execution(number, 2, None)
        assert [decode_package(data) for _, _, data in journal.results()] == [FACTS]
        journal.purge(3, b"{}")
        assert list(journal.results()) == []
