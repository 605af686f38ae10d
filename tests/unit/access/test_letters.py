"""The letters: every kind in every language, what they never say, and what a template or an id can't do to them."""

import html
import re
import shutil
import stat
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_toolkit.access.letters import FILES, KINDS, LetterFacts, LetterWriter, init
from privacy_toolkit.access.page import visible
from privacy_toolkit.access.words import LANGUAGES, language
from privacy_toolkit.core.model import UsageError

TODAY = date(2026, 10, 13)
SETTINGS = """
controller = "Example Shop GmbH\\n10115 Berlin"
contact = "privacy@example.org"
authority = "The authority of Berlin"
extension_reason.en = "We received unusually many requests."
extension_reason.de = "Wir haben ungewöhnlich viele Anträge erhalten."
[grounds.tax]
en = "Tax law wants the records kept."
"""
#: What says, in each language, that something was erased.
ERASED = {"en": "erased", "de": "gelöscht", "fr": "effacé", "es": "suprimid"}


def facts(kind, **changes):
    usual = {
        "customer_id": "customer-1",
        "regime": "gdpr",
        "ticket": "DSR-17",
        "requested_on": date(2026, 10, 1),
        "due_on": date(2026, 11, 1),
        "settled_on": date(2026, 10, 12),
        "ground": "17(3)(b)" if kind == "refused" else None,
        "package": "0123456789abcdef.zip" if kind == "access" else "",
    }
    return LetterFacts(kind=kind, **usual | changes)


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("letters") / "templates"
    init(folder)
    (folder / "letters.toml").write_text(SETTINGS)
    return folder


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_letter_says_who_answers_to_what_and_where_to_complain(templates, lang, kind):
    letter = LetterWriter(templates, lang).write(facts(kind), TODAY)
    text, page = letter.text.decode(), html.unescape(letter.html.decode())
    for form in (text, page):
        assert "Example Shop GmbH" in form
        assert "The authority of Berlin" in form
        assert "customer-1" in form
        assert "DSR-17" in form
        assert "2026" in form
        assert "{{" not in form
        assert "{%" not in form
    assert f'<html lang="{lang}">' in page
    assert "default-src 'none'" in page
    assert "79" in text  # the judicial remedy
    assert all(len(line) <= 90 for line in text.splitlines())


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_letter_of_a_rehearsal_says_so_first_and_in_its_subject(templates, lang, kind):
    letter = LetterWriter(templates, lang, rehearsed=True).write(facts(kind), TODAY)
    said = language(lang).text
    text, page = " ".join(letter.text.decode().split()), html.unescape(letter.html.decode())
    for form, before in ((text, "Example Shop"), (page, '<p class="sender">')):
        assert form.index(" ".join(said["rehearsal"].split()) if form is text else said["rehearsal"]) < form.index(
            before
        )
        assert f"[{said['sandbox']}] " in form
    assert f"<title>[{said['sandbox']}] " in page
    live = LetterWriter(templates, lang).write(facts(kind), TODAY)
    assert said["sandbox"] not in live.text.decode() + live.html.decode()


@pytest.mark.parametrize("layout", ["<html><BODY class='a'>{{ subject }}</BODY></html>", "{{ subject }}"])
def test_a_rehearsal_is_told_by_every_layout_of_a_controller(templates, tmp_path, layout):
    folder = shutil.copytree(templates, tmp_path / "own")
    for name in ("letter.html.j2", "letter.txt.j2"):
        (folder / name).write_text(layout)
    letter = LetterWriter(folder, "en", rehearsed=True).write(facts("erased"), TODAY)
    for form in (letter.html.decode(), letter.text.decode()):
        assert "Do not send it." in form
        assert form.index("Do not send it.") < form.index("erasure")


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"erased"}))
def test_only_the_letter_about_an_erasure_says_that_something_was_erased(templates, lang, kind):
    letter = LetterWriter(templates, lang).write(facts(kind), TODAY).text.decode()
    assert ERASED[lang] not in letter
    assert ERASED[lang] in LetterWriter(templates, lang).write(facts("erased"), TODAY).text.decode()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_is_not_known_leaves_no_gap(templates, lang):
    bare = dict.fromkeys(("ticket", "requested_on", "due_on", "settled_on"))
    for kind in sorted(set(KINDS) - {"extended"}):
        text = LetterWriter(templates, lang).write(facts(kind, **bare), TODAY).text.decode()
        assert "None" not in text
        assert not re.search(r"[^\n ]  +[^\n ]| [.,]", text)


def test_a_refusal_gives_the_reason_and_the_review(templates):
    writer = LetterWriter(templates, "en")
    text = writer.write(facts("refused", review_on=date(2030, 12, 31)), TODAY).text.decode().replace("\xa0", " ")
    assert "Article 17(3)(b) GDPR" in text
    assert "31 December 2030" in text
    assert "Tax law wants the records kept." in writer.write(facts("refused", ground="tax"), TODAY).text.decode()
    with pytest.raises(UsageError, match="no text for the ground other") as refused:
        writer.write(facts("refused", ground="other"), TODAY)
    assert "customer-1" not in str(refused.value) + refused.value.hint


def test_an_extension_needs_a_reason(templates, tmp_path):
    assert "unusually many" in LetterWriter(templates, "en").write(facts("extended"), TODAY).text.decode()
    (tmp_path / "letters.toml").write_text(SETTINGS.replace("extension_reason", "elsewhere"))
    assert LetterWriter(tmp_path, "en").reason(facts("extended")) is None


def test_the_law_of_the_request_decides_on_the_rights(templates):
    writer = LetterWriter(templates, "en")
    assert "Article 79" in writer.write(facts("erased"), TODAY).text.decode()
    ccpa = writer.write(facts("erased", regime="ccpa"), TODAY).text.decode()
    assert "California" in ccpa
    assert "GDPR" not in ccpa
    assert "GDPR" not in writer.write(facts("erased", regime="none"), TODAY).text.decode()


def test_a_french_date_has_its_article_with_and_without_a_place(templates, tmp_path):
    assert "\nLe 13\xa0octobre 2026\n" in LetterWriter(templates, "fr").write(facts("erased"), TODAY).text.decode()
    (tmp_path / "letters.toml").write_text('place = "Lyon"\n' + (templates / "letters.toml").read_text())
    text = LetterWriter(tmp_path, "fr").write(facts("erased"), TODAY).text.decode()
    assert "\nLyon, le 13\xa0octobre 2026\n" in text


def test_kept_codes_are_said_and_only_then(templates):
    writer = LetterWriter(templates, "en")
    assert "3 coupon or referral codes" in " ".join(writer.write(facts("erased", kept=3), TODAY).text.decode().split())
    assert "referral code" not in writer.write(facts("erased"), TODAY).text.decode()


@pytest.mark.parametrize(
    ("lang", "one", "many"),
    [
        ("en", "One coupon or referral code that had been issued", "1,234 coupon or referral codes that had been"),
        ("de", "Ein Gutschein- oder Empfehlungscode, der unter", "1.234 Gutschein- oder Empfehlungscodes, die unter"),
        ("fr", "Un code de réduction ou de parrainage émis", "1 234 codes de réduction ou de parrainage émis"),
        ("es", "Permanece en el sistema un código de cupón", "Permanecen en el sistema 1234 códigos de cupón"),
    ],
)
def test_one_code_and_many_have_the_forms_of_the_language(templates, lang, one, many):
    writer = LetterWriter(templates, lang)
    for kept, said in ((1, one), (1234, many)):
        assert said in " ".join(writer.write(facts("erased", kept=kept), TODAY).text.decode().split())


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_letters_have_the_punctuation_of_their_language(templates, lang, kind):
    """No straight quotes; in French a no-break space before what stands high, elsewhere none."""
    given = facts(kind, kept=2, package="P", ground="17(3)(b)" if kind == "refused" else None)
    text = LetterWriter(templates, lang).write(given, TODAY).text.decode()
    assert re.search("[\"']", text) is None
    wrong = "[^\xa0\u202f\\n][;:!?»](?=\\s)| [;:!?»]|« " if lang == "fr" else "\\s[;:!?](?=\\s)"
    assert re.search(wrong, text) is None


def test_the_same_facts_give_the_same_bytes(templates):
    assert LetterWriter(templates, "fr").write(facts("erased"), TODAY) == LetterWriter(templates, "fr").write(
        facts("erased"), TODAY
    )


@given(id_=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_an_id_is_shown_and_never_runs(templates, id_):
    letter = LetterWriter(templates, "en").write(facts("erased", customer_id=id_), TODAY)
    page = letter.html.decode()
    assert f"<bdi>{html.escape(visible(id_), quote=True)}" in page.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")
    assert visible(id_) in letter.text.decode()


@pytest.mark.parametrize("id_", ["{{ 7 * 7 }}", "{% raw %}", "</style><script>alert(1)</script>", "a\u202eb"])
def test_an_id_is_no_template_and_no_markup(templates, id_):
    letter = LetterWriter(templates, "en").write(facts("erased", customer_id=id_), TODAY)
    assert b"<script" not in letter.html
    assert b"49" not in letter.text
    assert "\u202e".encode() not in letter.html + letter.text


def test_templates_are_written_for_their_owner_and_never_over_others(tmp_path):
    folder = tmp_path / "templates"
    assert init(folder) == FILES
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    with pytest.raises(UsageError, match="can't be written"):
        init(folder)
    with pytest.raises(UsageError, match="FILL IN is still there"):
        LetterWriter(folder, "en")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("letters.toml", SETTINGS.replace("contact", "contakt"), "contakt"),
        ("letters.toml", SETTINGS.replace('"privacy@example.org"', '""'), "contact is empty"),
        ("letters.toml", "controller = ", "not valid TOML"),
        ("en.toml", "greeting = 'Hello'", "missing required field"),
        ("letter.txt.j2", "{{ nothing_like_it }}", "nothing_like_it"),
        ("letter.txt.j2", "{{ ''.__class__.__mro__ }}", "no template may have"),
        ("letter.txt.j2", "{% include '/etc/passwd' %}", "can't be used"),
        ("letter.txt.j2", "{% for %}", "line 1"),
        ("letter.html.j2", "{{ customer_id / 2 }}", "TypeError"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_nobody_in_it(tmp_path, name, content, said):
    (tmp_path / "letters.toml").write_text(SETTINGS)
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError) as refused:
        LetterWriter(tmp_path, "en").write(facts("erased", customer_id="someone"), TODAY)
    told = str(refused.value) + refused.value.hint
    assert said in told
    assert "someone" not in told


def test_a_folder_without_settings_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no letters\.toml"):
        LetterWriter(tmp_path, "en")


def test_what_the_controller_adapts_is_used(templates, tmp_path):
    (tmp_path / "letters.toml").write_text(SETTINGS)
    (tmp_path / "en.toml").write_text((templates / "en.toml").read_text().replace("Yours faithfully,", "Kind regards,"))
    assert "Kind regards," in LetterWriter(tmp_path, "en").write(facts("open"), TODAY).text.decode()
    assert "Mit freundlichen Grüßen" in LetterWriter(tmp_path, "de").write(facts("open"), TODAY).text.decode()


def test_what_is_not_given_in_the_language_is_named_and_never_stands_within_a_sentence(tmp_path):
    init(tmp_path / "t")
    (tmp_path / "t" / "letters.toml").write_text(
        'controller = "C"\ncontact.de = "K"\nauthority = "A"\nsystem.en = "our programme"\n'
        'elsewhere.en = "We passed it on."\n[grounds.tax]\nen = "Tax law."\n'
    )
    writer = LetterWriter(tmp_path / "t", "de")
    text = writer.write(LetterFacts(kind="erased", customer_id="c", regime="gdpr"), date(2026, 11, 1)).text.decode()
    assert "our programme" not in text
    assert writer.foreign == {"elsewhere"}
    writer.write(LetterFacts(kind="refused", customer_id="c", regime="gdpr", ground="tax"), date(2026, 11, 1))
    assert writer.foreign == {"elsewhere", "grounds.tax"}
