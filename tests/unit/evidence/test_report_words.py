"""What each version that landed said in reports stays known, and nothing is said otherwise without a new version."""

import pytest

from privacy_toolkit.core.privacy import __version__
from tests.support.report_words import MEMBERS, VERSIONS, digest, known, pages, words_by_version

#: What to do where this fails: CONTRIBUTING.md, "Release", says why.
CHANGED = (
    f"What reports say, or their page, is not what was written down of version {__version__}. If a build of it has"
    " landed, raise __version__, and add what it said before to words_of (findings.py) or pages_of (html.py). Then:"
    " make words"
)


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_the_words_of_an_earlier_version_are_what_it_said(version):
    written = known()[version]
    assert digest(words_by_version()[version], written) == written["words"]


def test_this_version_says_what_was_written_down_of_it():
    written = known().get(__version__)
    assert written is not None, CHANGED
    assert {name: written[name] for name in MEMBERS} == {n: [one.value for one in kind] for n, kind in MEMBERS.items()}
    assert digest(words_by_version()[__version__], written) == written["words"], CHANGED


def test_the_pages_of_this_version_are_those_that_were_written_down():
    assert pages() == known()[__version__]["pages"], CHANGED
