"""The register of requests and the figures of a year on the command line, and what of it goes into a calendar."""

import csv
import io
import os
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from privacy_toolkit.app.requests import register
from privacy_toolkit.config.settings import deployment_key
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.state import open_state

TODAY = datetime.now(UTC).date()
OLD, NEW = TODAY - timedelta(days=200), TODAY - timedelta(days=1)


@pytest.fixture
def dated(tmp_path, server):
    """Three customers: one long overdue, one just asked, one without a date."""
    path = tmp_path / "dated.csv"
    rows = [
        f"customer-{k:05d},{day},{ticket}" for k, (day, ticket) in enumerate([(OLD, "A-1"), (NEW, "A-2"), ("", "")])
    ]
    path.write_text("\n".join(["customer_id,requested_at,ticket", *rows]) + "\n")
    return path


def lines_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_an_empty_state_has_an_empty_register(call):
    done = call("register", "--json")
    assert done.code == 0
    assert done.json == {"today": TODAY.isoformat(), "states": {}, "requests": [], "purged": [], "unreadable": []}
    assert "No request is listed" in call("register", "--html").out


@pytest.mark.parametrize("option", ["register --csv --out", "due --ics"])
@pytest.mark.parametrize("place", ["state/state.key", "state/new.csv", "signing-key"])
def test_a_list_takes_no_key_s_place_and_none_in_the_state_folder(call, dated, erase, tmp_path, option, place):
    erase(dated, 3, "--until", "0s")
    call("keys", "new", tmp_path / "signing-key", "--signer", "dpo@example.org")
    before = {path: path.read_bytes() for path in (tmp_path / "state").rglob("*.key")}
    done = call(*option.split(), tmp_path / place, "--json")
    assert done.code == 2
    assert {path: path.read_bytes() for path in (tmp_path / "state").rglob("*.key")} == before
    assert not (tmp_path / "state" / "new.csv").exists()
    assert "PRIVATE KEY" in (tmp_path / "signing-key").read_text()


def test_packages_and_outcomes_are_written_outside_of_the_state_folder(call, dated, erase, tmp_path):
    erase(dated, 3)
    for words in (
        ["export", dated, "--out", tmp_path / "state"],
        ["runs", "export", "latest", "--out", tmp_path / "state/a.csv"],
    ):
        done = call(*words, "--json")
        assert (done.code, "is in the state folder" in done.json["error"]["message"]) == (2, True)


def test_every_request_is_listed_with_its_days_and_no_id(call, dated, erase):
    run_id = erase(dated, 3)
    done = call("register", "--json")
    first, second, third = done.json["requests"]
    assert (first["run_id"], first["job"], first["outcome"]) == (run_id, "erase", "erased")
    assert (first["ticket"], first["received"], first["settled"]) == ("A-1", OLD.isoformat(), TODAY.isoformat())
    assert (first["state"], first["answered"]) == ("waiting", None)
    assert first["due"] < TODAY.isoformat() < second["due"]
    assert (third["ticket"], third["received"], third["due"]) == (None, None, None)
    assert first["pack"].endswith(run_id)
    for form in ("--csv", "--html", "--json"):
        shown = call("register", form)
        assert shown.code == 0
        assert "customer-0" not in shown.out + shown.err
    lines = lines_of(call("register", "--csv").out)
    assert [line["ticket"] for line in lines] == ["A-1", "A-2", ""]
    assert lines[0]["reference"] == first["reference"]
    assert [line["extended"] for line in lines] == ["no", "no", "no"]


def test_the_page_leads_with_what_is_overdue(call, dated, erase):
    erase(dated, 3, "--until", "0s")
    page = call("register", "--html").out
    assert "1 of 3 requests overdue" in page
    assert page.index(">A-1<") < page.index(">A-2<")
    call("letters", "latest", "--sent", "--all")
    assert "1 of 3 requests overdue" in call("register", "--html").out


def test_what_was_answered_is_not_overdue(call, dated, erase):
    run_id = erase(dated, 3)
    assert "1 of 3 requests overdue" in call("register", "--html").out
    call("letters", run_id, "--sent", "--all")
    assert "All 3 requests answered" in call("register", "--html").out
    assert call("register").out.splitlines()[2].split() == ["3", "answered"]


def test_a_later_run_takes_over_what_an_older_one_left_open(call, dated, erase):
    first = erase(dated, 3, "--until", "0s")
    second = erase(dated, 3)
    requests = call("register", "--json").json["requests"]
    assert [(line["run_id"], line["state"]) for line in requests] == [
        *[(first, "taken_over")] * 3,
        *[(second, "waiting")] * 3,
    ]
    assert {line["taken_over_by"] for line in requests[:3]} == {second}
    assert call("metrics", "--year", TODAY.year, "--json").json["requests"]["erase"]["received"] in {2, 3}


def test_another_request_of_the_same_person_is_another_line(call, dated, erase, tmp_path):
    erase(dated, 3, "--until", "0s")
    (tmp_path / "again.csv").write_text(f"customer_id,requested_at\ncustomer-00001,{TODAY}\n")
    erase(tmp_path / "again.csv", 1, "--until", "0s")
    assert call("register", "--json").json["states"] == {"open": 4}


def test_purged_runs_are_there_with_numbers_alone(call, dated, erase):
    run_id = erase(dated, 3)
    call("runs", "purge", run_id, "--confirm", f"purge {run_id}")
    done = call("register", "--json").json
    assert done["requests"] == []
    (purged,) = done["purged"]
    assert (purged["run_id"], purged["subjects"], purged["outcomes"]) == (run_id, 3, {"erased": 3})
    assert (purged["first_received"], purged["last_received"]) == (OLD.isoformat(), NEW.isoformat())
    (line,) = lines_of(call("register", "--csv").out)
    assert (line["state"], line["outcome"], line["ticket"]) == ("purged", "3 erased", "")
    assert "3 more in purged runs" in call("register", "--html").out
    figures = call("metrics", "--year", NEW.year, "--json").json
    assert figures["purged_runs"] == 1
    assert figures["requests"]["erase"]["complied"] >= 1
    assert figures["requests"]["erase"]["overdue"] == 0


@pytest.mark.folder
def test_a_journal_that_cannot_be_read_is_named(call, dated, erase, tmp_path):
    run_id = erase(dated, 3)
    (tmp_path / "state" / "runs" / run_id / "journal.sqlite").write_bytes(b"damaged")
    done = call("register", "--json")
    assert (done.code, done.json["unreadable"]) == (3, [run_id])
    assert call("metrics", "--year", "2026", "--json").code == 3
    assert run_id in call("register", "--html").out


def test_a_run_that_was_set_aside_is_named_wherever_it_is_missing(call, dated, erase):
    """Otherwise anyone could have what went wrong in a run out of sight by setting it aside."""
    run_id = erase(dated, 3)
    for command in (("runs", "list"), ("register",), ("metrics", "--year", "2026"), ("due",)):
        assert "set aside" not in call(*command).err
    call("runs", "set-aside", run_id, "--confirm", f"set aside {run_id}")
    for command in (("runs", "list"), ("register",), ("metrics", "--year", "2026"), ("due",)):
        assert f"1 run set aside, so not counted here or anywhere: {run_id}" in call(*command).err
    for command in (("runs", "list"), ("register",), ("metrics", "--year", "2026")):
        assert call(*command, "--json").json["set_aside"] == [run_id]
    assert run_id in call("register", "--html").out


@pytest.mark.folder
def test_a_run_is_not_set_aside_while_its_pack_is_sealed(call, dated, erase, tmp_path, server):
    run_id = erase(dated, 3)
    with StateFolder(tmp_path / "state").lock(deployment_key(server.base_url)):  # as the end of a run has it
        done = call("runs", "set-aside", run_id, "--confirm", f"set aside {run_id}", "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "locked")
    assert call("runs", "list", "--json").json["runs"][0]["run_id"] == run_id


def test_a_file_is_written_for_its_owner_alone(call, dated, erase, tmp_path):
    erase(dated, 3)
    for form, name in (("--csv", "r.csv"), ("--html", "r.html"), ("--json", "r.json")):
        place = tmp_path / name
        done = call("register", form, "--out", place)
        assert (done.code, place.stat().st_mode & 0o777) == (0, 0o600)
        assert call("register", form, "--out", tmp_path / "nowhere" / name).code == 2
    assert call("register", "--out", tmp_path / "r").code == 2
    assert call("register", "--csv", "--json").code == 2
    assert call("register", "--csv", "--html").code == 2
    assert call("due", "--ics", tmp_path / "nowhere" / "due.ics").err.endswith("Name another file with --ics.\n")


def test_the_figures_of_a_year_add_up(call, tmp_path, server, erase):
    rows = [f"customer-{k:05d},{TODAY - timedelta(days=k)}" for k in range(6)] + [f"nobody,{TODAY}"]
    (tmp_path / "list.csv").write_text("\n".join(["customer_id,requested_at", *rows]) + "\n")
    (tmp_path / "holds.csv").write_text(
        "customer_id,reason,review_on\ncustomer-00001,17(3)(b),\ncustomer-00002,17(3)(b),\ncustomer-00003,withdrawn,\n"
    )
    run_id = erase(tmp_path / "list.csv", 4, "--exclude", tmp_path / "holds.csv")
    call("letters", run_id, "--sent", "--all")
    years = {(TODAY - timedelta(days=k)).year for k in range(6)}
    found = [call("metrics", "--year", year, "--json").json["requests"]["erase"] for year in years]
    total = {name: sum(one[name] for one in found) for name in found[0] if isinstance(found[0][name], int)}
    assert total["received"] == 7
    parts = ("complied", "nothing_held", "refused", "withdrawn", "answered_before", "failed", "open")
    assert [total[name] for name in parts] == [3, 1, 2, 1, 0, 0, 0]
    assert sum(one["refused_by_ground"].get("17(3)(b)", 0) for one in found) == 2
    assert (total["answered"], total["answered_in_time"], total["overdue"]) == (7, 7, 0)
    if len(years) == 1:
        assert found[0]["median_days_to_answer"] == 2
    assert "17(3)(b)" in call("metrics", "--year", TODAY.year).out
    assert call("metrics", "--year", "1999", "--json").json["requests"]["erase"]["received"] == 0
    assert call("metrics").code == 2


# ``due --holds``, ``--ics`` and ``--notify``.


@pytest.fixture
def held(erase, tmp_path, server):
    """A run with three on hold: one whose review is past, one to come, one without a day."""
    path, holds = tmp_path / "list.csv", tmp_path / "holds.csv"
    path.write_text("customer_id\n" + "".join(f"customer-{k:05d}\n" for k in range(5)))
    days = (TODAY - timedelta(days=3), TODAY + timedelta(days=40), "")
    lines = [f"customer-{k:05d},{'17(3)(b)' if k else 'identity'},{day}" for k, day in enumerate(days)]
    holds.write_text("\n".join(["customer_id,reason,review_on", *lines]) + "\n")
    return erase(path, 2, "--exclude", holds)


def test_holds_are_listed_by_their_review_and_a_past_one_is_exit_code_3(call, held):
    done = call("due", "--holds", "--json")
    assert done.code == 3
    assert (done.json["on_hold"], done.json["past"]) == (3, 1)
    assert [line["days_left"] for line in done.json["holds"]] == [-3, 40, None]
    assert {line["run_id"] for line in done.json["holds"]} == {held}
    assert len(call("due", "--holds", "--days", "10", "--json").json["holds"]) == 1
    shown = call("due", "--holds")
    assert "PAST 3 days" in shown.out
    assert "customer-0" not in shown.out + shown.err


def test_a_hold_is_over_once_a_later_run_has_carried_the_request_out(call, held, erase, tmp_path):
    (tmp_path / "released.csv").write_text("customer_id\ncustomer-00000\n")
    erase(tmp_path / "released.csv", 1)
    done = call("due", "--holds", "--json")
    assert (done.code, done.json["on_hold"], done.json["past"]) == (0, 2, 0)
    (line,) = [line for line in call("register", "--json").json["requests"] if line["ground"] == "identity"]
    assert line["state"] == "taken_over"
    sent = call("letters", held, "--sent", "--all", "--json").json
    assert (sent["recorded"], sent["waiting"]) == (4, 0)
    answered = [line["ground"] for line in call("register", "--json").json["requests"] if line["answered"]]
    assert sorted(answered, key=str) == ["17(3)(b)", "17(3)(b)", None, None]


def test_a_hold_is_over_too_if_the_run_that_erased_is_purged(call, held, erase, tmp_path):
    (tmp_path / "released.csv").write_text("customer_id\ncustomer-00000\n")
    later = erase(tmp_path / "released.csv", 1)
    assert call("runs", "purge", later, "--confirm", f"purge {later}", "--json").code == 0
    done = call("due", "--holds", "--json")
    assert (done.code, done.json["on_hold"], done.json["past"]) == (0, 2, 0)


def test_a_hold_after_an_erasure_that_was_purged_stays(call, erase, tmp_path):
    """Whom a run erased that is purged may be on hold since: nobody knows which was first, so the hold is listed."""
    (tmp_path / "list.csv").write_text("customer_id\ncustomer-00000\n")
    (tmp_path / "holds.csv").write_text("customer_id,reason,review_on\ncustomer-00000,tax,2099-01-01\n")
    (tmp_path / "other.csv").write_text("customer_id\ncustomer-00001\n")
    for name, number, more in (("list", 1, ()), ("list", 0, ("--exclude", tmp_path / "holds.csv")), ("other", 1, ())):
        run_id = erase(tmp_path / f"{name}.csv", number, *more)
        if not more:
            assert call("runs", "purge", run_id, "--confirm", f"purge {run_id}", "--json").code == 0
    assert call("due", "--holds", "--json").json["on_hold"] == 1


class Counted:
    """Stands before a state or a run, and counts how often all subjects of a run are gone through."""

    def __init__(self, behind, read):
        self._behind, self._read = behind, read

    def __getattr__(self, name):
        found = getattr(self._behind, name)
        if name == "open":
            return self._open
        if name in {"rows", "entries", "ids"}:
            self._read[self._behind.run_id] += 1
        return found

    @contextmanager
    def _open(self, run_id):
        with self._behind.open(run_id) as journal:
            yield Counted(journal, self._read)


def test_a_register_goes_through_a_run_once_for_who_may_go_on(call, held, erase, tmp_path):
    (tmp_path / "other.csv").write_text("customer_id\ncustomer-00007\n")
    later = erase(tmp_path / "other.csv", 1)
    read = Counter()
    found = register(Counted(open_state(os.environ["PRIVACY_TOOLKIT_STATE"]), read), TODAY)
    assert read[held] == 1
    assert read[later] == 0
    assert len(list(found.lines())) == 6


def test_a_list_that_comes_again_with_its_holds_has_each_of_them_once(call, held, erase, tmp_path):
    again = erase(tmp_path / "list.csv", 2, "--exclude", tmp_path / "holds.csv")
    done = call("due", "--holds", "--json").json
    assert (done["on_hold"], {line["run_id"] for line in done["holds"]}) == (3, {again})
    refused = [line for line in call("register", "--json").json["requests"] if line["ground"]]
    assert [line["state"] for line in refused] == ["taken_over"] * 3 + ["waiting"] * 3
    year = str(TODAY.year)
    assert call("metrics", "--year", year, "--json").json["requests"]["erase"]["refused"] == 3


def test_who_had_the_answer_by_an_earlier_export_waits_for_none(call, dated, tmp_path):
    call("export", dated, "--out", tmp_path / "out")
    call("letters", "latest", "--sent", "--all")
    again = call("export", dated, "--out", tmp_path / "out", "--new-only", "--json")
    assert again.json["outcomes"] == {"on_hold": 3}
    found = call("register", "--json").json["requests"]
    assert [line["state"] for line in found] == ["answered"] * 6
    assert "All 6 requests answered" in call("register", "--html").out


def test_a_calendar_has_due_dates_and_reviews(call, held, dated, erase, tmp_path):
    erase(dated, 3, "--until", "0s")
    place = tmp_path / "due.ics"
    assert call("due", "--ics", place).code == 3
    content = place.read_bytes()
    assert content.startswith(b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\n")
    assert content.endswith(b"END:VCALENDAR\r\n")
    assert max(map(len, content.split(b"\r\n"))) <= 75
    assert content.count(b"BEGIN:VEVENT") == 4
    assert f"DTSTART;VALUE=DATE:{TODAY + timedelta(days=40):%Y%m%d}".encode() in content
    assert b"customer-0" not in content
    first = {line for line in content.split(b"\r\n") if line.startswith(b"UID:")}
    call("due", "--ics", place)
    assert {line for line in place.read_bytes().split(b"\r\n") if line.startswith(b"UID:")} == first


def test_a_rehearsal_is_due_for_nobody(call, dated, erase, tmp_path, monkeypatch, server):
    """A run on SANDBOX has deadlines of nobody, and holds that nobody has: they are left out next to others."""
    holds = tmp_path / "holds.csv"
    holds.write_text("customer_id,reason,review_on\ncustomer-00002,tax,2020-01-01\n")
    sentence = f"erase 2 from {server.base_url.removeprefix('http://')}"
    with monkeypatch.context() as rehearsal:
        rehearsal.setenv("PRIVACY_TOOLKIT_ENVIRONMENT", "sandbox")
        run = call("erase", dated, "--exclude", holds, "--confirm", sentence, "--until", "0s", "--json").json["run_id"]
    alone = call("due", "--json")
    assert (alone.code, alone.json["open"], alone.json["overdue"]) == (3, 2, 1)
    assert call("due", "--holds", "--json").json["on_hold"] == 1
    (tmp_path / "live.csv").write_text("customer_id\ncustomer-00005\n")
    erase(tmp_path / "live.csv", 1)
    done = call("due", "--json")
    assert (done.code, done.json["open"], done.json["overdue"]) == (0, 0, 0)
    assert done.json["not_counted"] == [{"run_id": run, "reason": "rehearsed", "open": 2}]
    assert "SANDBOX" in done.err
    held = call("due", "--holds", "--json")
    assert (held.code, held.json["on_hold"]) == (0, 0)


def test_who_is_to_be_notified_has_to_be_set(call, held):
    done = call("due", "--notify", "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "usage")


# People who are found again.


def test_an_earlier_run_of_the_same_people_is_said_before_anything_is_confirmed(call, dated, erase, tmp_path, server):
    plan = tmp_path / "plan.json"
    assert call("erase", dated, "--plan", plan, "--json").json["earlier"] == {}
    erase(dated, 3)
    made = call("erase", dated, "--plan", tmp_path / "again.json", "--json")
    assert made.json["earlier"] == {"erased": 3}
    shown = call("export", dated, "--out", tmp_path / "packages")
    assert "3 customers of this list were in earlier runs: 3 erased." in shown.err
    assert "customer-0" not in shown.err
    assert "in earlier runs" not in call("export", dated, "--out", tmp_path / "packages", "--quiet").err


def test_the_last_end_counts_and_other_jobs_do_not(call, dated, erase, tmp_path, server):
    erase(dated, 3, "--until", "0s")
    erase(dated, 3)
    (tmp_path / "pairs.csv").write_text("customer_id,coupon_value\ncustomer-00005,SUMMER\n")
    call("coupons", "reserve", tmp_path / "pairs.csv", "--confirm", "yes")
    (tmp_path / "more.csv").write_text("customer_id\ncustomer-00000\ncustomer-00005\n")
    made = call("erase", tmp_path / "more.csv", "--plan", tmp_path / "plan.json", "--json")
    assert made.json["earlier"] == {"erased": 1}


# A rehearsal on SANDBOX answers nobody.


def rehearse(call, path, sentence, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setenv("PRIVACY_TOOLKIT_ENVIRONMENT", "sandbox")
        return call("erase", path, "--confirm", sentence, "--until", "0s", "--json").json["run_id"]


def test_a_rehearsal_counts_in_no_figure_of_a_year_next_to_the_real_thing(call, requests, phrase, monkeypatch):
    year = ("metrics", "--year", TODAY.year)
    rehearse(call, requests, phrase, monkeypatch)
    alone = call(*year, "--json").json
    assert (alone["environment"], alone["left_out"], alone["requests"]["erase"]["received"]) == ("sandbox", 0, 12)
    told = call(*year)
    assert "[SANDBOX]" in told.out
    assert "rehearsal" in told.err
    call("erase", requests, "--confirm", phrase, "--until", "0s")
    both = call(*year, "--json").json
    assert (both["environment"], both["left_out"], both["requests"]["erase"]["received"]) == ("live", 1, 12)
    told = call(*year)
    assert "[SANDBOX]" not in told.out
    assert "1 run on SANDBOX left out" in told.err


def test_letters_of_a_rehearsal_are_not_to_be_sent(call, requests, phrase, tmp_path, monkeypatch):
    rehearse(call, requests, phrase, monkeypatch)
    call("letters", "init", tmp_path / "templates")
    settings = tmp_path / "templates" / "letters.toml"
    settings.write_text(settings.read_text().replace("FILL IN", "Example"))
    done = call("letters", "latest", "--out", tmp_path / "out", "--templates", settings.parent, "--with-open")
    assert (done.code, "Don't send them" in done.err) == (0, True)


def test_figures_of_a_year_that_is_not_over_say_so(call):
    assert f"{TODAY.year} is not over" in call("metrics", "--year", TODAY.year).err
    assert "is not over" not in call("metrics", "--year", TODAY.year - 1).err
