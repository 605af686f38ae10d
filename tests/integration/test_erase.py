"""Erasures through the command line against the sandbox, checked against what the sandbox itself saw."""

import json
from collections import Counter

import pytest

from privacy_toolkit.sandbox.faults import FaultKind, Faults

IDS = [f"customer-{number:05d}" for number in range(2000)]


def seen(log):
    """What the server was asked about each customer, controls apart: operation names in order."""
    asked = {}
    for entry in log.about_subjects():
        asked.setdefault(entry.value, []).append(entry.operation)
    return asked


WALK = ["get_customer_inventory", "delete_customer_data", "get_customer_inventory"]
ABSENT = ["get_customer_inventory", "get_customer_inventory"]


def test_each_customer_is_read_erased_and_read_and_nothing_else_is_sent(sandbox, toolkit, write_ids):
    server = sandbox(IDS)
    kit = toolkit(server.base_url)
    done = kit.erase(write_ids(IDS), 2000, "--concurrency", "64")
    assert done.code == 0, done.err
    assert done.json["verdict"] == "complete"
    assert done.json["rows"] == {"read": 2000, "rejected": 0, "duplicates": 0, "subjects": 2000}
    assert done.json["outcomes"] == {"erased": 2000}
    assert seen(server.log) == dict.fromkeys(IDS, WALK)
    accepted = [e for e in server.log if e.operation == "delete_customer_data" and e.status == 204]
    assert len(accepted) == 2000
    subjects = kit.subjects()
    assert [s["id"] for s in subjects] == IDS
    assert {(s["attribution"], s["attempts"], s["reason"]) for s in subjects} == {("confirmed", 1, None)}
    assert Counter(s["held_before"] for s in subjects)["visible"] > 1800


def test_a_second_erasure_finds_nothing_where_the_api_answers_404(sandbox, toolkit, write_ids):
    server = sandbox(IDS[:300], after_erase="404")
    kit = toolkit(server.base_url)
    path = write_ids(IDS[:300])
    assert kit.erase(path, 300).code == 0
    server.log.clear()
    done = kit.erase(path, 300)
    assert (done.code, done.json["outcomes"]) == (0, {"nothing_held": 300})
    assert seen(server.log) == dict.fromkeys(IDS[:300], ABSENT)


def test_a_second_erasure_erases_again_where_the_api_answers_an_empty_profile(sandbox, toolkit, write_ids):
    server = sandbox(IDS[:300], after_erase="empty")
    kit = toolkit(server.base_url)
    path = write_ids(IDS[:300])
    assert kit.erase(path, 300).code == 0
    server.log.clear()
    done = kit.erase(path, 300)
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 300})
    assert Counter(s["held_before"] for s in kit.subjects()) == {"none_visible": 300}
    assert seen(server.log) == dict.fromkeys(IDS[:300], WALK)


def test_a_list_of_strangers_stops_after_a_hundred_and_goes_on_when_told(sandbox, toolkit, write_ids):
    server = sandbox()
    kit = toolkit(server.base_url)
    done = kit.erase(write_ids(IDS[:500]), 500, "--concurrency", "4")
    assert done.code == 4
    assert done.json["verdict"] == "stopped"
    assert done.json["stopped_by"] == "wrong_environment"
    assert done.json["outcomes"] == {"pending": 500}
    assert len(server.log.about_subjects()) <= 208  # a hundred, and what was under way, each read twice
    assert kit.resume("--expect-missing").json["outcomes"] == {"nothing_held": 500}


FAULTS = [
    FaultKind.ERROR_500,
    FaultKind.ERROR_503,
    FaultKind.BARE_503,
    FaultKind.ERROR_429,
    FaultKind.DROP_BEFORE,
    FaultKind.DROP_AFTER,
    FaultKind.SLOW,
    FaultKind.REDIRECT_303,
    FaultKind.TRUNCATED,
    FaultKind.HTML_200,
    FaultKind.ERROR_502_HTML,
]


@pytest.mark.parametrize("after_erase", ["404", "empty"])
def test_with_faults_of_every_kind_no_subject_is_reported_other_than_it_is(sandbox, toolkit, write_ids, after_erase):
    faults = Faults(rates=dict.fromkeys(FAULTS, 0.02), seed=5, retry_after=0, slow_seconds=3)
    server = sandbox(IDS[:600], after_erase=after_erase, faults=faults)
    kit = toolkit(server.base_url)
    config = kit.folder / "t.toml"
    config.write_text("[profiles.default]\ntimeouts = { read = 1.0 }\n")
    strangers = [f"stranger-{number}" for number in range(50)]
    first = kit.erase(write_ids([*strangers, *IDS[:600]]), 650, "--config", config, "--concurrency", "32")
    assert first.code in {0, 3}, first.err
    done = first if first.code == 0 else kit.settle("--config", config)
    assert done.code == 0, done.out
    assert done.json["outcomes"] == {"erased": 600, "nothing_held": 50}
    acted = Counter(e.value for e in server.log if e.operation == "delete_customer_data" and e.acted)
    assert set(acted) == set(IDS[:600])
    subjects = kit.subjects()
    for subject in subjects:
        answered = [e for e in server.log if e.value == subject["id"] and e.operation == "delete_customer_data"]
        confirmed = any(e.status == 204 and e.outcome == "answered" and e.fault is None for e in answered)
        if subject["outcome"] == "nothing_held":
            assert not answered
        else:
            # A good answer on a connection that a fault ended before anything proved it counts as none.
            assert subject["attribution"] in ({"confirmed", "inferred"} if confirmed else {"inferred"})
            assert subject["attempts"] == len(answered)
    assert Counter(subject["attribution"] for subject in subjects)["confirmed"] > 300


def test_after_an_unanswered_erasure_it_is_looked_up_before_it_is_sent_again(sandbox, toolkit, write_ids):
    rates = {FaultKind.DROP_AFTER: 0.3, FaultKind.DROP_BEFORE: 0.3}
    faults = Faults(rates=rates, seed=3, operations=frozenset({"delete_customer_data"}))
    server = sandbox(IDS[:100], faults=faults)
    kit = toolkit(server.base_url)
    kit.erase(write_ids(IDS[:100]), 100)
    assert kit.settle().code == 0
    for asked in seen(server.log).values():
        assert "delete_customer_data delete_customer_data" not in " ".join(asked)


def test_a_refused_key_ends_the_run_at_once_with_everything_pending(sandbox, toolkit, write_ids):
    server = sandbox(IDS[:200])
    kit = toolkit(server.base_url, key="wrong-key")
    done = kit.erase(write_ids(IDS[:200]), 200, "--concurrency", "8")
    assert done.code == 7
    assert done.json["exit_code"] == 7
    assert done.json["verdict"] == "refused"
    assert done.json["error"]["code"] == "credentials"
    assert done.json["outcomes"] == {"pending": 200}
    assert 1 <= len(server.log) <= 8
    assert "wrong-key" not in done.out + done.err


def test_data_that_stays_visible_is_residual_and_never_erased(sandbox, toolkit, write_ids):
    server = sandbox(IDS[:20], never_clear_ids=frozenset(IDS[:3]))
    kit = toolkit(server.base_url)
    config = kit.folder / "t.toml"
    config.write_text("[profiles.default]\nsettle = 0.2\n")
    done = kit.erase(write_ids(IDS[:20]), 20, "--config", config)
    assert done.code == 3
    assert done.json["verdict"] == "open_items"
    assert done.json["outcomes"] == {"erased": 17, "residual": 3}
    assert {s["id"] for s in kit.subjects() if s["outcome"] == "residual"} == set(IDS[:3])
    again = kit.resume("--config", config)
    assert again.json["outcomes"] == {"erased": 17, "residual": 3}


def test_data_that_is_cleared_with_a_delay_is_erased(sandbox, toolkit, write_ids):
    server = sandbox(IDS[:20], erase_delay=2)
    done = toolkit(server.base_url).erase(write_ids(IDS[:20]), 20)
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 20})


ODD_IDS = [
    "00123",
    "1e5",
    "NA",
    "null",
    "True",
    "a/b c+d@x.com",
    "a%2Fb",
    "ü\u0308é",
    "😀",
    "...",
    "x" * 1000,
    "?q=1#f",
    "a,b",
    'say "hi"',
    "=1+1",
    "<b>",
    "{x}",
    "\u202eabc",
    "\u0130",
    "-",
    "~",
    "a\\b",
    "%",
    "%00",
    "\uff21",
]


def test_every_accepted_id_reaches_the_server_as_it_stands_and_the_others_are_never_sent(sandbox, toolkit, write_ids):
    server = sandbox(ODD_IDS)
    kit = toolkit(server.base_url)
    refused = ["", "   ", ".", "..", "a\nb", "a\tb", "x" * 1001, " lead", "trail ", "a\x00b", "\u2028"]
    done = kit.erase(write_ids(ODD_IDS + refused), len(ODD_IDS))
    assert done.code == 3, done.err
    assert done.json["outcomes"] == {"erased": len(ODD_IDS)}
    assert done.json["rows"]["rejected"] == len(refused)
    assert {e.value for e in server.log.about_subjects()} == set(ODD_IDS)
    assert not server.log.of("")


def test_holds_are_never_sent_and_stand_in_the_report(sandbox, toolkit, write_ids, tmp_path):
    server = sandbox(IDS[:10])
    kit = toolkit(server.base_url)
    holds = tmp_path / "holds.csv"
    holds.write_text(f"customer_id,reason,review_on\n{IDS[3]},17(3)(e),2027-01-31\nnobody,identity,\n")
    done = kit.erase(write_ids(IDS[:10]), 9, "--exclude", holds)
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 9, "on_hold": 1})
    assert IDS[3] not in {e.value for e in server.log}
    (held,) = [s for s in kit.subjects() if s["outcome"] == "on_hold"]
    assert (held["id"], held["reason"]) == (IDS[3], "17(3)(e)")
    report = json.loads((tmp_path / "state" / "packs" / done.json["run_id"] / "report.json").read_bytes())
    assert (
        "2027-01-31" in json.dumps(report)
        or "2027-01-31" in (tmp_path / "state" / "packs" / done.json["run_id"] / "rows.jsonl").read_text()
    )


@pytest.mark.parametrize(("verify", "unverified"), [("none", 20), ("sample:5", 15)])
def test_what_was_not_read_again_is_unverified_and_a_resume_reads_it(sandbox, toolkit, write_ids, verify, unverified):
    server = sandbox(IDS[:20])
    kit = toolkit(server.base_url)
    done = kit.erase(write_ids(IDS[:20]), 20, "--verify", verify)
    assert done.code == 3
    assert done.json["outcomes"]["unverified"] == unverified
    assert kit.resume().json["outcomes"] == {"erased": 20}
    assert len(server.log.of("delete_customer_data")) == 20


def test_more_failures_than_allowed_stop_the_run(sandbox, toolkit, write_ids):
    faults = Faults(rates={FaultKind.ERROR_500: 1.0}, operations=frozenset({"delete_customer_data"}))
    server = sandbox(IDS[:200], faults=faults)
    kit = toolkit(server.base_url)
    done = kit.erase(write_ids(IDS[:200]), 200, "--max-failures", "3", "--concurrency", "2")
    assert done.code == 4
    assert done.json["stopped_by"] == "failure_limit"
    assert done.json["outcomes"]["pending"] > 150


def test_a_closed_window_begins_nothing(sandbox, toolkit, write_ids):
    server = sandbox(IDS[:50], faults=Faults(latency_ms=50))
    kit = toolkit(server.base_url)
    done = kit.erase(write_ids(IDS[:50]), 50, "--until", "0s")
    assert done.code == 4
    assert done.json["stopped_by"] == "window_closed"
    assert kit.resume().json["outcomes"] == {"erased": 50}


def test_a_longer_wait_than_we_take_stops_the_run(sandbox, toolkit, write_ids):
    faults = Faults(rates={FaultKind.ERROR_429: 1.0}, retry_after=3600)
    server = sandbox(IDS[:50], faults=faults)
    kit = toolkit(server.base_url)
    done = kit.erase(write_ids(IDS[:50]), 50, "--concurrency", "2")
    assert (done.code, done.json["stopped_by"]) == (4, "asked_to_wait")
    assert len(server.log) <= 2


def test_a_target_that_is_not_there_leaves_everything_retryable(toolkit, write_ids, unused_port):
    kit = toolkit(f"http://127.0.0.1:{unused_port}")
    done = kit.erase(write_ids(IDS[:3]), 3)
    assert (done.code, done.json["outcomes"]) == (3, {"retryable": 3})
    assert {s["reason"] for s in kit.subjects()} == {"connect_refused"}
