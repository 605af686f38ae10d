import hashlib

import pytest

from privacy_toolkit.access.package import readme_text
from privacy_toolkit.access.page import Facts
from privacy_toolkit.access.words import Notice, blank, language
from privacy_toolkit.core.model import LANGUAGES

FILES = {"index.html": b"page", "data.json": b"{}", "data/coupons.csv": b"x"}


def make(lang="en", data=None, notice=None):
    facts = Facts(
        lang=lang,
        customer_id="customer-00001",
        reference="0" * 32,
        read_at=1_764_187_200_000_000,
        target="host.example",
        environment="live",
        data=data,
        sections={},
        people=0,
        occurrences=0,
        notice=notice or blank(),
        files=tuple(FILES),
    )
    return readme_text(facts, FILES).decode()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_it_stands_in_the_language_and_ends_with_the_sums(lang):
    text = make(lang)
    assert text.startswith(language(lang).text["readme_title"] + "\n\n")
    assert text.splitlines()[-3:] == [
        f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in sorted(FILES.items())
    ]


@pytest.mark.parametrize("data", [None, {"profile": {}}])
def test_it_says_whether_anything_is_held(data):
    said = " ".join(make(data=data).split())
    assert ("did not know this customer ID" in said) == (data is None)


def test_it_names_whom_to_ask_and_not_the_person():
    text = make(notice=Notice(controller="Example Ltd\nStreet", contact="a@example.org", dpo="dpo@example.org"))
    assert "Example Ltd\nStreet\na@example.org\nData protection officer:\ndpo@example.org\n" in text
    assert "customer-00001" not in text
    assert language("en").text["readme_ask_blank"] in make()
