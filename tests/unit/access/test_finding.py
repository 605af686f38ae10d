import pytest

from privacy_toolkit.access.finding import Finder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bob", "person 1"),
        ("ask bob, or bob.", "ask person 1, or person 1."),
        ("REF_bob-7", "REF_person 1-7"),
        ("bobby and kabob", "bobby and kabob"),
        ("anna", "anna"),
        ("anna-bob", "anna-person 1"),
        ("mail:zoe@example.org", "mail:person 2"),
        ("xzoe@example.orgx", "xperson 2x"),
        ("/?u=zoe%40example.org&x", "/?u=person 2&x"),
        ("4711-08154711-0815", "4711-08154711-0815"),
        ("no.4711-0815a", "no.person 3a"),
        ("bob smith", "person 4"),
        ("customer-bob", "customer-bob"),
        ("", ""),
    ],
)
def test_ids_are_found_as_whole_words(text, expected):
    finder = Finder(
        {
            "bob": "person 1",
            "zoe@example.org": "person 2",
            "4711-0815": "person 3",
            "bob smith": "person 4",
            "anna": None,
            "customer-bob": None,
        }
    )
    assert finder.replace(text)[0] == expected


def test_each_place_is_counted():
    assert Finder({"bob": "person 1"}).replace("bob bob bobby bob")[1] == 3


def test_odd_ids_do_no_harm():
    finder = Finder({"\ud800": "person 1", ".*": "person 2", "x" * 1000: "person 3", "😀": "person 4"})
    assert finder.replace("a \ud800 .* " + "x" * 1000 + " 😀😀")[0] == "a person 1 person 2 person 3 person 4person 4"


def test_thousands_of_ids_are_looked_for_in_no_time():
    ids = {f"customer-{number:06d}": f"person {number}" for number in range(20_000)}
    text = "customer-123456 and customer-000007. " * 2_000
    assert Finder(ids).replace(text)[1] == 2_000
