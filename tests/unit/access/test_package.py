import hashlib
import json
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pyrage
import pytest
from msgspec.structs import replace

from privacy_toolkit.access.package import Recipe, deliver
from privacy_toolkit.access.words import AnswerError, blank
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.talonone.inventory import BESIDES, Besides, CardRead, ListRead, SessionRead

READ_AT = 1_764_187_200_123_456
REFERENCE = "0123456789abcdef" * 2
ME = "customer-00001"


@pytest.fixture
def recipe(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    return Recipe(out, "en", "current", "host.example", "live", blank())


def raw(answer):
    return json.dumps(answer).encode()


def test_a_package_holds_its_files_and_says_what_came_of_it(recipe, answer):
    done = deliver(recipe, REFERENCE, ME, raw(answer), READ_AT)
    folder = recipe.out / REFERENCE
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "README.txt",
        "data.json",
        *(f"data/{name}.csv" for name in ("achievements", "attributes", "audience_memberships", "coupons")),
        *(f"data/{name}.csv" for name in ("loyalty_cards", "loyalty_programs", "profile", "referrals")),
        "index.html",
    ]
    assert (done.name, done.people, done.redactions) == (REFERENCE, 4, 4)
    assert done.sections == dict.fromkeys(
        ("profile", "coupons", "referrals", "loyalty", "achievements"), "complete"
    ) | {"giveaways": "not_held"}
    assert done.sha256 == hashlib.sha256((folder / "README.txt").read_bytes()).hexdigest()
    subprocess.run(["sha256sum", "--check", "--quiet", "README.txt"], cwd=folder, check=True, capture_output=True)


def test_data_json_says_what_it_is_and_keeps_numbers_as_they_came(recipe):
    answer = (
        b'{"profile": {"integrationId": "customer-00001", "totalSales": 1.10, "id": 123456789012345678901234567890}}'
    )
    deliver(recipe, REFERENCE, ME, answer, READ_AT)
    text = (recipe.out / REFERENCE / "data.json").read_text("utf-8")
    made = json.loads(text)
    assert '"totalSales": 1.10,' in text
    assert made.pop("data") == json.loads(answer)
    assert made == {
        "schema": "privacy-toolkit-access-package@v1",
        "reference": REFERENCE,
        "customer_id": ME,
        "read_at": "2025-11-26T20:00:00.123456Z",
        "target": "host.example",
        "environment": "live",
        "generation": "current",
        "sections": {"profile": "complete"}
        | dict.fromkeys(("coupons", "referrals", "loyalty", "giveaways", "achievements"), "not_held"),
        "redactions": {"people": 0, "occurrences": 0},
    }


def test_nothing_held_makes_a_package_too(recipe):
    done = deliver(recipe, REFERENCE, ME, None, READ_AT)
    assert sorted(path.name for path in (recipe.out / REFERENCE).iterdir()) == ["README.txt", "data.json", "index.html"]
    assert json.loads((recipe.out / REFERENCE / "data.json").read_bytes())["data"] is None
    assert set(done.sections.values()) == {"not_held"}


def test_zip_holds_the_folder(recipe, answer):
    deliver(recipe, REFERENCE, ME, raw(answer), READ_AT)
    done = deliver(replace(recipe, zip=True), REFERENCE, ME, raw(answer), READ_AT)
    path = recipe.out / done.name
    assert done.name == f"{REFERENCE}.zip"
    assert done.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with zipfile.ZipFile(path) as archive:
        zipped = {name: archive.read(name) for name in archive.namelist()}
    folder = recipe.out / REFERENCE
    assert zipped == {
        f"{REFERENCE}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_encrypted_package_is_the_zip_for_the_holder_of_the_key_alone(recipe, answer):
    identity = pyrage.x25519.Identity.generate()
    deliver(replace(recipe, zip=True), REFERENCE, ME, raw(answer), READ_AT)
    done = deliver(replace(recipe, recipient=str(identity.to_public())), REFERENCE, ME, raw(answer), READ_AT)
    content = (recipe.out / done.name).read_bytes()
    assert done.name == f"{REFERENCE}.age"
    assert done.sha256 == hashlib.sha256(content).hexdigest()
    assert pyrage.decrypt(content, [identity]) == (recipe.out / f"{REFERENCE}.zip").read_bytes()


def test_a_recipient_that_is_none_is_refused_and_nothing_is_written(recipe):
    with pytest.raises(UsageError):
        deliver(replace(recipe, recipient="age1bob"), REFERENCE, ME, None, READ_AT)
    assert list(recipe.out.iterdir()) == []


@pytest.mark.parametrize("named", ["customer-00002", "", 7])
def test_somebody_elses_data_is_never_handed_out(recipe, named):
    answer = raw({"profile": {"integrationId": named, "attributes": {"Name": "Hazel"}}})
    if named == "":
        deliver(recipe, REFERENCE, ME, answer, READ_AT)
        return
    with pytest.raises(AnswerError):
        deliver(recipe, REFERENCE, ME, answer, READ_AT)
    assert list(recipe.out.iterdir()) == []


@pytest.mark.parametrize("owner", ["customer-00002", "CUSTOMER-00001", "", None, 7])
def test_a_session_of_somebody_else_is_never_handed_out_no_matter_who_let_it_pass(recipe, owner):
    body = raw({"customerSession": {"integrationId": "s1", "profileId": owner}})
    besides = Besides(sessions=(SessionRead("s1", "complete", body),))
    answer = raw({"profile": {"integrationId": "customer-00001"}})
    with pytest.raises(AnswerError):
        deliver(recipe, REFERENCE, "customer-00001", answer, READ_AT, besides)
    assert list(recipe.out.iterdir()) == []


@pytest.mark.parametrize(("asked", "named"), [("Zoe\u0301", "ZO\u00c9"), ("7", 7), ("A@B", "a@b")])
def test_a_deployment_may_take_other_spellings_for_the_same_id(recipe, asked, named):
    answer = raw({"profile": {"integrationId": named}, "coupons": [{"recipientIntegrationId": named}]})
    assert deliver(recipe, REFERENCE, asked, answer, READ_AT).people == 0


@pytest.mark.parametrize("answer", [b"", b"[]", b"<html>", b'{"a": 1'])
def test_what_is_no_answer_makes_no_package(recipe, answer):
    with pytest.raises(AnswerError):
        deliver(recipe, REFERENCE, ME, answer, READ_AT)
    assert list(recipe.out.iterdir()) == []


@pytest.mark.parametrize(
    "id_", ["../../etc/x", "/etc/x", "CON", "x" * 1000, "😀/😀", "..", "a\\b", "aux.txt", "-rf", "a\u202eb"]
)
def test_no_name_on_disk_holds_the_id_and_nothing_is_written_outside(recipe, id_, tmp_path):
    answer = raw({"profile": {"integrationId": id_, "attributes": {id_: id_}}, "coupons": [{"value": id_}]})
    for form in (recipe, replace(recipe, zip=True)):
        deliver(form, REFERENCE, id_, answer, READ_AT)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    names = {part for path in tmp_path.rglob("*") for part in path.relative_to(recipe.out.parent).parts}
    assert names == {
        *("out", REFERENCE, f"{REFERENCE}.zip", "README.txt", "data.json", "index.html", "data"),
        *("attributes.csv", "coupons.csv", "profile.csv"),
    }
    assert json.loads((recipe.out / REFERENCE / "data.json").read_bytes())["customer_id"] == id_


@pytest.mark.parametrize(
    "reference", ["", "abc", "A" * 32, "../" + "0" * 32, "0" * 65, "customer-00001000", "0" * 32 + "\n"]
)
def test_a_reference_is_hexadecimal(recipe, reference):
    with pytest.raises(ValueError, match="hexadecimal"):
        deliver(recipe, reference, ME, None, READ_AT)


def test_many_at_once_are_the_same_as_one_after_another(recipe, answer, tmp_path):
    alone = replace(recipe, out=tmp_path / "alone", zip=True)
    alone.out.mkdir()
    references = [f"{number:032x}" for number in range(60)]
    with ThreadPoolExecutor(8) as threads:
        done = list(
            threads.map(lambda it: deliver(replace(recipe, zip=True), it, ME, raw(answer), READ_AT), references)
        )
    assert done == [deliver(alone, it, ME, raw(answer), READ_AT) for it in references]


@pytest.mark.parametrize("name", BESIDES)
def test_a_part_under_a_name_of_ours_is_no_answer(recipe, answer, name):
    with pytest.raises(AnswerError):
        deliver(recipe, "ab" * 16, "customer-00001", raw(answer | {name: [1]}), 1)


def held(recipe, answer, besides):
    delivered = deliver(recipe, "ab" * 16, "customer-00001", raw(answer), 1, besides)
    content = json.loads((recipe.out / delivered.name / "data.json").read_bytes())
    return content, (recipe.out / delivered.name / "index.html").read_text()


@pytest.mark.parametrize("read", ["refused", "cut_off"])
def test_achievements_that_are_missing_are_announced(recipe, answer, read):
    content, page = held(recipe, answer, Besides(achievements=ListRead(read)))
    assert content["sections"]["availableAchievements"] == "incomplete"
    assert "Not all of this could be shown" in page


def test_bookings_from_before_the_card_was_the_customers_are_left_out_and_announced(recipe, answer):
    times = ["2024-02-01T00:00:00Z", "2024-01-05T00:30:00+01:00", "2024-01-05T00:00:00Z", None, "soon", 7]
    data = [{"transactionUUID": str(n), "created": at, "name": f"booking {n}"} for n, at in enumerate(times)]
    card = CardRead("CARD-1", 33, "complete", "2024-01-05T00:00:00Z", (raw({"hasMore": False, "data": data}),))
    content, page = held(recipe, answer, Besides(cards=(card,)))
    (kept,) = content["data"]["loyaltyCardLedgers"]
    assert ([one["transactionUUID"] for one in kept["transactions"]], kept["read"]) == (["0", "2"], "since_linked")
    assert content["sections"]["loyaltyCardLedgers"] == "incomplete"
    assert "they may be about someone else" in page
    assert "booking 1" not in page


def test_a_shared_card_is_announced_and_empty(recipe, answer):
    content, page = held(recipe, answer, Besides(cards=(CardRead("CARD-1", 33, "shared"),)))
    assert content["data"]["loyaltyCardLedgers"][0]["transactions"] == []
    assert content["sections"]["loyaltyCardLedgers"] == "incomplete"
    assert "not included: the card is used by other people too" in page
