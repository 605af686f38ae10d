import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import msgspec
import pytest

from privacy_toolkit.core.model import Hold, Job, Outcome, Purpose, Reason
from privacy_toolkit.core.privacy import templates_folder
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.reporting import html
from privacy_toolkit.reporting.counts import ATTENTION
from privacy_toolkit.reporting.html import render, visible, what_may_come_late
from privacy_toolkit.reporting.rows import LISTED_CASES, Case
from privacy_toolkit.reporting.schema import (
    Cause,
    ExecutionPace,
    HoldReason,
    Pace,
    PacePoint,
    Signatories,
    Signatory,
    SignedBy,
    TrafficCount,
)
from tests.support import reported_runs as runs

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>*{display:none}",
    "{{ 7 * 7 }}{% raw %}",
    "evil\u202egnp.exe",
    "zero\u200bwidth\u0000null\x1b[31m",
    '=HYPERLINK("x")',
    "https://tracker.example/x.png",
]


HAND = Signatory(name="&" * 5_000, fingerprint="&" * 5_000, at="2026-11-23T08:01:30.000000Z")
POINTS = tuple(
    PacePoint(at=f"2026-11-23T08:01:{second}.000000Z", seconds=1.0, requests=10**9, per_second=1e9)
    for second in (30, 31, 32)
)


class Page(HTMLParser):
    """What a page holds: its tags with attributes, its text, its one style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def attributes(self, *names):
        return {value for _, attributes in self.tags for name, value in attributes.items() if name in names}


@pytest.fixture
def report(mixed, build):
    return build(mixed)


def test_policy_names_the_digest_of_the_one_style(report):
    text = render(report, [])
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_page_refers_to_nothing_outside_itself(report):
    text = render(report, [])
    page = Page(text)
    assert all(value.startswith("#") for value in page.attributes("href"))
    assert page.attributes("src", "srcset", "style", "action", "xlink:href") == set()
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text


def test_structure_serves_those_who_do_not_see_it(report):
    page = Page(render(report, []))
    tags = [tag for tag, _ in page.tags]
    assert dict(page.tags[0][1]) == {"lang": "en"}
    assert [tags.count(tag) for tag in ("main", "header", "footer", "nav", "h1", "title")] == [1, 1, 1, 1, 1, 3]
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.attributes("href") <= {f"#{name}" for name in ids}
    assert {name for names in page.attributes("aria-labelledby") for name in names.split()} <= set(ids)
    charts = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    assert [len(chart["aria-labelledby"].split()) for chart in charts] == [2, 2]
    for _, attributes in page.tags:
        if "scroll" in attributes.get("class", ""):
            assert attributes["tabindex"] == "0"
            assert attributes["role"] == "region"
            assert attributes["aria-label"]


def test_first_screen_says_what_matters(report):
    text = Page(render(report, [])).text
    for expected in (report.sentence, report.next.command, report.target, "SANDBOX", report.plan.digest):
        assert expected in text
    assert "1 + 2 + 3 + 5 + 51 = 62" in text


def test_live_is_said_in_words(report):
    assert ">LIVE: customers" in render(msgspec.structs.replace(report, environment="live"), [])


def page_with(build, folder, text):
    """The page of a run with ``text`` wherever somebody else's text can stand."""
    subjects = [runs.told("a", Outcome.ON_HOLD, hold=Hold(text)), runs.told("b", Outcome.ERASED)]
    runs.write_run(folder, subjects, settings={"until": text, "gone_predicate": text})
    with RunJournal(folder) as journal:
        report = build(journal)
    (hold,) = report.holds
    hand = Signatory(name=text, fingerprint=text, at=report.made_at)
    report = msgspec.structs.replace(
        report,
        target=text,
        holds=(msgspec.structs.replace(hold, review_on=text),),
        signatories=Signatories(planned=hand, approved=hand, ran=(hand,)),
        signed_by=SignedBy(name=text, fingerprint=text),
    )
    return Page(render(report, []))


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_stays_text(build, tmp_path, text):
    hostile, calm = page_with(build, tmp_path / "r", text), page_with(build, tmp_path / "r2", "c" * len(text))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in calm.tags]
    assert [sorted(names) for _, names in hostile.tags] == [sorted(names) for _, names in calm.tags]
    # Target, ground, review, predicate, two settings; name and key of three hands; of the signer, who is named three
    # times: on the first screen, where the pack is to be checked, and at the foot (there by the key alone).
    assert hostile.text.count(visible(text)) == 6 + 3 * 2 + 5
    assert not re.search("[\u200b\u202a-\u202e\u2066-\u2069\x00\x1b]", hostile.text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("Größe ✓", "Größe ✓"),
        ("a\u202eb", "a[U+202E]b"),
        ("a\nb\tc", "a[U+000A]b[U+0009]c"),
        ("\ufeffx\ud800", "[U+FEFF]x[U+D800]"),
        ("x" * 500, "x" * 400 + " […]"),
        (17, 17),
    ],
)
def test_hidden_characters_are_shown_by_number(text, shown):
    assert visible(text) == shown


def test_size_does_not_grow_with_the_run(report):
    reference = "f" * 64
    cases = [Case(reference, "failed", "bad_request", 10**6, "2026-12-31", "x" * 100) for _ in range(LISTED_CASES)]
    many = 10**9
    large = msgspec.structs.replace(
        report,
        causes=tuple(
            Cause(outcome=outcome, reason=reason, count=many, action="y" * 150)
            for outcome in ATTENTION
            for reason in Reason
        ),
        holds=(HoldReason(reason="&" * 5_000, subjects=many, review_on="<" * 5_000, review_past=True),) * 100,
        holds_not_listed=many,
        traffic=tuple(
            TrafficCount(operation="&" * 300, purpose=p, status=s, reason=None, answered=True, count=many, repeats=many)
            for p in Purpose
            for s in range(100, 600)
        ),
        executions=report.executions * 5_000,
        signatories=Signatories(planned=HAND, approved=HAND, ran=(HAND,) * 5_000),
        pace=Pace(
            step=1,
            least=0.1,
            median=many,
            most=many,
            executions=(ExecutionPace(number=many, limit=many, points=POINTS),) * 40,
            executions_left_out=many,
        ),
    )
    text = render(large, cases)
    assert text.count(reference) == LISTED_CASES
    assert len(text.encode()) < 1_000_000


def test_our_own_texts_are_never_cut(report):
    assert "[…]" not in render(report, [])


def test_a_name_the_templates_do_not_know_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        html._environment(Job.ERASE).from_string("{{ unknown }}").render()


def test_no_template_trusts_data():
    for path in filter(Path.is_file, templates_folder().rglob("*")):
        assert not re.search(r"\|\s*safe|autoescape\s+false|Markup", path.read_text("utf-8")), path.name


def test_shares_never_read_as_all_or_nothing():
    share = html._share
    assert [share(0, 10), share(10, 10), share(1, 10**6), share(10**6 - 1, 10**6), share(1, 3), share(0, 0)] == [
        *("0.0 %", "100.0 %", "< 0.1 %", "99.9 %", "33.3 %", "0 %")
    ]


def line_of(count, reason, *, answered=True, status=None, purpose=Purpose.ACT):
    return TrafficCount(
        operation="update_customer_profile",
        purpose=purpose,
        status=status,
        reason=reason,
        answered=answered,
        count=count,
        repeats=0,
    )


LOST = [
    line_of(5, None, status=200),
    line_of(2, Reason.READ_TIMEOUT),
    line_of(1, Reason.NO_ANSWER_RECORDED, answered=False),
    line_of(4, Reason.REDIRECTED, status=303),
    line_of(9, Reason.CONNECT_REFUSED),
    line_of(9, Reason.RATE_LIMITED, status=429),
    line_of(9, Reason.READ_TIMEOUT, purpose=Purpose.READ_BEFORE),
]


@pytest.mark.parametrize(
    ("job", "traffic", "said"),
    [
        (Job.PROFILES, LOST, "No reliable answer came to 7 requests."),
        (Job.EVENTS, LOST[1:2], "No reliable answer came to 2 requests."),
        (Job.PROFILES, LOST[:1], None),
        (Job.REFERRALS, LOST, None),  # no later row undoes what a referral made
        (Job.ERASE, LOST, None),
    ],
)
def test_after_lost_updates_it_is_said_what_stays_possible(report, job, traffic, said):
    made = msgspec.structs.replace(report, job=job.value, traffic=tuple(traffic))
    assert (said or "") in what_may_come_late(made)
    assert bool(what_may_come_late(made)) is (said is not None)
