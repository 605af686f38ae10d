"""Jobs and runs from Python: what the command line promises holds there too, in scripts and in running event loops."""

import ast
import asyncio
import os
import re
import stat
import subprocess
import tempfile
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pandas as pd
import pyarrow as pa
import pytest

from privacy_toolkit import ExecutionOptions, InputOptions, NotSettledError, Remark, Run, Toolkit
from privacy_toolkit.app import ongoing, service
from privacy_toolkit.app.plans import read_plan
from privacy_toolkit.core.model import ExitCode, InputError, Job, RefusedError, ToolkitError, UsageError
from privacy_toolkit.engine.limits import Ended, Settled, Started
from privacy_toolkit.evidence import pack
from privacy_toolkit.jobs import declaration
from privacy_toolkit.sandbox.wire import seed
from tests.support.shop import write_profile

PAGE = (Path(__file__).parents[2] / "docs" / "library.md").read_text("utf-8")
CUSTOMERS = [f"customer-{number:05d}" for number in range(12)]


@pytest.fixture
def toolkit(server, tmp_path):
    return Toolkit(state=tmp_path / "state")


@pytest.fixture
def frame():
    return pd.DataFrame({"customer_id": CUSTOMERS})


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where temporary files go; nothing may be left in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def held(monkeypatch):
    """Holds a run back, before it has begun, until it is let go."""
    go, apply = threading.Event(), service.apply

    def waits(*arguments):
        go.wait()
        return apply(*arguments)

    monkeypatch.setattr(service, "apply", waits)
    return go


def erased(server):
    return [entry.value for entry in server.log.of("delete_customer_data")]


def nothing_was_sent(server, toolkit):
    return (len(server.log.about_subjects()), toolkit.runs()) == (0, [])


# An erasure from a frame


def test_a_frame_is_planned_applied_reported_verified_and_purged(toolkit, frame, server):
    planned = toolkit.plan("erase", frame)
    assert planned.preview.rows.subjects == 12
    assert planned.preview.requests["delete_customer_data"] == (0, 12)
    assert planned.preview.confirm == f"erase 12 from {server.base_url.removeprefix('http://')}"
    run = planned.apply(confirm=planned.preview.confirm)
    assert (run.error, run.exit_code, run.verdict, run.outcomes) == (None, 0, "complete", {"erased": 12})
    assert sorted(erased(server)) == CUSTOMERS
    assert run.raise_for_status() is run
    assert run.verify().valid
    assert run.report() == run.pack
    assert [one.id for one in toolkit.runs()] == [run.id]
    with pytest.raises(RefusedError):
        run.purge(confirm="purge it")
    run.purge(confirm=f"purge {run.id}")
    with pytest.raises(RefusedError, match="purged"):
        run.to_frame()


def test_ids_are_in_a_frame_only_on_demand(toolkit, frame):
    planned = toolkit.plan("erase", frame)
    run = planned.apply(confirm=planned.preview.confirm)
    bare, named = run.to_frame(), run.to_frame(ids=True)
    assert "customer-" not in bare.to_csv()
    assert list(bare.columns) == list(named.columns[2:])
    assert dict(zip(named["row"], named["id"], strict=True)) == dict(enumerate(CUSTOMERS, 1))
    assert set(named["outcome"]) == {"erased"}
    assert Run.open(run.id, toolkit.settings.state).to_frame().equals(bare)


def test_coupon_values_are_in_a_frame_only_on_demand(toolkit):
    rows = pd.DataFrame({"customer_id": CUSTOMERS[:3], "coupon_value": ["SANDBOX-0001"] * 3})
    run = toolkit.plan("reserve", rows).apply(confirm="yes")
    assert "SANDBOX" not in run.to_frame(ids=True).to_csv()
    shown = run.to_frame(ids=True, results=True)
    assert set(shown["coupon_value"]) == {"SANDBOX-0001"}
    assert sorted(shown["id"]) == CUSTOMERS[:3]


def test_the_name_of_a_package_tells_whose_it_is(toolkit, frame, tmp_path):
    run = toolkit.plan("export", frame, out=tmp_path / "packages").apply()
    shown = run.to_frame(ids=True, results=True)
    assert all((tmp_path / "packages" / name).exists() for name in shown["package_name"])
    assert shown["package_name"].nunique() == 12


# Ids


@pytest.mark.parametrize(
    ("ids", "sent"),
    [
        (["00123", "1e5", "NA", "null", "True"], ["00123", "1e5", "NA", "null", "True"]),
        ([7, 42], ["7", "42"]),
        (pd.array([7, 42], dtype="Int64"), ["7", "42"]),
        (pd.Categorical(["00123", "b"]), ["00123", "b"]),
    ],
)
def test_ids_arrive_as_they_are(toolkit, server, ids, sent):
    seed(server.store, len(sent), ids=sent)
    planned = toolkit.plan("erase", pd.DataFrame({"customer_id": ids}, index=range(5, 5 + len(sent))))
    planned.apply(confirm=planned.preview.confirm)
    assert sorted(erased(server)) == sorted(sent)


def test_what_is_refused_is_counted_named_by_row_and_accepted_only_by_its_number(toolkit, server):
    planned = toolkit.plan("erase", pd.DataFrame({"customer_id": [*CUSTOMERS[:2], None, " customer-00003"]}))
    assert planned.preview.rejected == ((3, "null"), (4, "surrounding_whitespace"))
    assert planned.preview.warnings == ("2 rows were refused: nobody will act on them.",)
    with pytest.raises(UsageError, match="2 rows of the input were refused, not 1"):
        planned.apply(confirm=planned.preview.confirm, options=ExecutionOptions(accept_rejected=1))
    assert nothing_was_sent(server, toolkit)
    run = planned.apply(confirm=planned.preview.confirm)
    with pytest.raises(NotSettledError) as failed:
        run.raise_for_status()
    assert (failed.value.exit_code, failed.value.run.id) == (ExitCode.OPEN_ITEMS, run.id)


@pytest.mark.parametrize(
    "rows",
    [
        pd.DataFrame({"customer_id": [123456.5, 2.0]}),
        pd.DataFrame({"customer_id": ["customer-00001", 123456]}),
        pd.DataFrame({"customer_id": [{"customer-00001"}]}),
        pd.DataFrame({"name": ["customer-00001"], "mail": ["customer-00001"]}),
        pd.DataFrame([["customer-00001", "x"]], columns=["customer_id", "customer_id"]),
        ["customer-00001"],
        "missing-customer.csv",
    ],
    ids=["floats", "mixed", "sets", "no ids", "twice", "a list", "no file"],
)
def test_an_input_that_is_none_is_an_error_without_data(toolkit, server, rows):
    with pytest.raises(InputError) as refused:
        toolkit.plan("erase", rows)
    assert refused.value.hint
    assert not re.search("customer-0|123456", f"{refused.value.message} {refused.value.hint}")
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    assert nothing_was_sent(server, toolkit)


def test_a_bug_tells_no_data(toolkit, frame, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("customer-00001")

    monkeypatch.setattr(service, "prepared", fails)
    with pytest.raises(ToolkitError, match="bug in privacy-toolkit: RuntimeError at") as told:
        toolkit.plan("erase", frame)
    assert "customer-" not in told.value.message
    assert told.value.__suppress_context__


# Confirmation


@pytest.mark.parametrize("given", [None, "", "yes", "erase 11 from {}", "Erase 12 from {}", "erase 12"])
def test_without_the_sentence_nothing_is_erased(toolkit, frame, server, given):
    planned = toolkit.plan("erase", frame)
    sentence = given and given.format(server.base_url.removeprefix("http://"))
    with pytest.raises(RefusedError) as refused:
        planned.apply(confirm=sentence)
    assert refused.value.code == ("confirmation_missing" if given is None else "not_confirmed")
    assert planned.preview.confirm in refused.value.hint
    assert nothing_was_sent(server, toolkit)


def test_who_is_on_hold_is_not_in_the_number(toolkit, frame, tmp_path):
    (tmp_path / "holds.csv").write_text(f"customer_id,reason,review_on\n{CUSTOMERS[0]},17(3)(b),2030-01-01\n")
    planned = toolkit.plan("erase", frame, exclude=tmp_path / "holds.csv")
    assert planned.preview.confirm.startswith("erase 11 from ")
    assert planned.apply(confirm=planned.preview.confirm).outcomes == {"erased": 11, "on_hold": 1}


def test_a_plan_is_applied_once(toolkit, frame, server):
    planned = toolkit.plan("erase", frame)
    planned.apply(confirm=planned.preview.confirm)
    with pytest.raises(RefusedError, match="applied already"):
        planned.apply(confirm=planned.preview.confirm)
    assert len(erased(server)) == 12


def test_a_file_that_changed_is_refused_and_a_frame_is_as_it_was(toolkit, requests, frame, server):
    of_file, of_frame = toolkit.plan("erase", requests), toolkit.plan("erase", frame)
    requests.write_text("customer_id\nsomebody-else\n")
    frame.loc[0, "customer_id"] = "somebody-else"
    with pytest.raises(RefusedError, match="stale"):
        of_file.apply(confirm=of_file.preview.confirm)
    assert nothing_was_sent(server, toolkit)
    of_frame.apply(confirm=of_frame.preview.confirm)
    assert sorted(erased(server)) == CUSTOMERS


# Jobs

ROWS = {
    "export": "customer_id\ncustomer-00001\n",
    "erase": "customer_id\ncustomer-00001\n",
    "reserve": "customer_id,coupon_value\ncustomer-00001,SANDBOX-0001\n",
    "release": "customer_id,coupon_value\ncustomer-00001,SANDBOX-0001\n",
    "assign": "customer_id\ncustomer-00001\n",
    "holders": "coupon_value\nSANDBOX-0001\n",
    "referrals": "customer_id,campaignId\ncustomer-00001,1\n",
    "events": "customer_id,type\ncustomer-00001,bought\n",
    "profiles": "customer_id,attributes.Name\ncustomer-00001,Ann\n",
    "sessions": "session_id,customer_id\ns-1,customer-00001\n",
    "audiences": "customer_id,audienceId,action\ncustomer-00001,1,add\n",
}
COMMANDS = {
    "erase": (
        ("erase",),
        {"verify": "sample:1", "regime": "ccpa", "with_loyalty": [34, 33]},
        ("--verify", "sample:1", "--regime", "ccpa", "--with-loyalty", "33", "--with-loyalty", "34"),
    ),
    "export": (("export",), {"lang": "de", "keep_days": 9}, ("--lang", "de", "--keep-days", "9")),
    "reserve": (("coupons", "reserve"), {"max_per_coupon": 3}, ("--max-per-coupon", "3")),
    "release": (("coupons", "release"), {}, ()),
    "assign": (("coupons", "assign"), {"seed": 5}, ("--seed", "5")),
    "holders": (("coupons", "holders"), {"with_attributes": True}, ("--with-attributes",)),
    "referrals": (("referrals", "create"), {}, ()),
    "events": (("events", "track"), {"dry": True}, ("--dry",)),
    "profiles": (("profiles", "update"), {"api": "v1"}, ("--api", "v1")),
    "sessions": (("sessions", "update"), {}, ()),
    "audiences": (("audiences", "update"), {}, ()),
}
#: What differs between any two plans of the same order.
_OWN = ("digest", "nonce", "created_at", "keyed_sha256", "deal")


def test_there_is_a_command_and_a_job_for_each():
    assert set(COMMANDS) == set(ROWS) == set(Job) - {Job.PATROL}  # a patrol is planned from runs, not from a table


def test_the_page_names_every_option_of_a_job():
    rows = dict(re.findall(r"^\| (`[a-z]+`(?:, `[a-z]+`)*) \| `.*?` \|(.*)\|$", PAGE, re.MULTILINE))
    named = {job: set(re.findall(r"`(\w+)`", said)) for jobs, said in rows.items() for job in re.findall(r"\w+", jobs)}
    missing = {job: set(declaration(job).settable) - named[job] for job in COMMANDS}
    assert missing == {job: set() for job in COMMANDS} | {"erase": {"reappeared"}, "release": {"undoes"}}  # by methods


@pytest.mark.parametrize("job", COMMANDS)
def test_a_job_is_planned_as_the_command_line_plans_it(job, call, toolkit, tmp_path):
    words, given, options = COMMANDS[job]
    rows, codes, plan = (tmp_path / name for name in ("rows.csv", "codes.csv", "plan.json"))
    rows.write_text(ROWS[job])
    codes.write_text("coupon_value\nSANDBOX-0002\n")
    if job in {"export", "holders"}:
        given, options = {**given, "out": tmp_path / "out.csv"}, (*options, "--out", tmp_path / "out.csv")
    if job == "assign":
        given, options = {**given, "second": codes}, (*options, "--coupons", codes)
    done = call(*words, rows, *options, "--limit", "1", "--plan", plan, "--json")
    assert done.code == 0, done.out
    ours = toolkit.plan(job, rows, input=InputOptions(limit=1), **given)
    saved, _ = read_plan(ours.save(tmp_path / "ours.json"))
    assert _comparable(saved) == _comparable(read_plan(plan)[0])
    assert ours.preview.confirm == done.json["confirm"]


def _comparable(plan):
    def bare(value):
        if isinstance(value, dict):
            return {name: bare(one) for name, one in value.items() if name not in _OWN}
        return value

    return bare(msgspec.to_builtins(plan))


@pytest.mark.parametrize(
    ("job", "given", "said"),
    [
        ("forget", {}, "no job 'forget'"),
        ("erase", {"lang": "de"}, "no option 'lang'"),
        ("erase", {"verify": "some"}, "--verify takes"),
        ("erase", {"regime": "lgpd"}, "regime"),
        ("erase", {"with_loyalty": 0}, "named by its number"),
        ("erase", {"with_cards": [True]}, "named by its number"),
        ("events", {"regime": "gdpr"}, "regime"),
        ("events", {"api": "v4"}, "api can't be 'v4'"),
        ("profiles", {"api": "v3"}, "no version v3"),
        ("events", {"dry": "yes"}, "dry can't be 'yes'"),
        ("reserve", {"max_per_coupon": -1}, "max_per_coupon can't be -1"),
        ("reserve", {"max_per_coupon": True}, "max_per_coupon can't be True"),
        ("assign", {}, "codes to assign are missing"),
        ("holders", {}, "written to a file"),
        ("export", {}, "needs a folder"),
        ("export", {"out": "o", "encrypt": "pgp:1"}, "age:RECIPIENT"),
    ],
)
def test_what_a_job_can_not_have_is_refused(toolkit, frame, server, job, given, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        toolkit.plan(job, frame, **given)
    assert nothing_was_sent(server, toolkit)


@pytest.mark.parametrize("made", [pa.table, pa.record_batch], ids=["table", "record batch"])
def test_a_table_of_arrow_is_a_data_frame(toolkit, made):
    assert toolkit.plan("erase", made({"customer_id": CUSTOMERS})).preview.rows.subjects == len(CUSTOMERS)
    assert toolkit.plan("erase", made({"customer_id": pa.array([], pa.int64())})).preview.rows.subjects == 0
    with pytest.raises(InputError, match="two columns of one name"):
        toolkit.plan("erase", pa.Table.from_arrays([pa.array(["a"])] * 2, names=["customer_id"] * 2))


@pytest.mark.parametrize(
    "given",
    [
        pd.DataFrame({"x": 1}, index=pd.Index(CUSTOMERS, name="customer_id")),
        pd.DataFrame([["a", "b"]], columns=pd.MultiIndex.from_tuples([("a", "customer_id"), ("b", "x")])),
        pd.DataFrame(),
    ],
    ids=["index", "columns in levels", "nothing"],
)
def test_of_a_frame_without_ids_it_is_said_in_words_about_frames(toolkit, given):
    with pytest.raises(InputError, match="The data frame: there is no") as refused:
        toolkit.plan("erase", given)
    assert "reset_index" in refused.value.hint
    assert "--" not in refused.value.hint
    assert "there are ." not in str(refused.value)


@pytest.mark.parametrize(
    "rows", [CUSTOMERS, (one for one in CUSTOMERS), pd.Series(CUSTOMERS), None, {"customer_id": 1}]
)
def test_what_is_no_frame_is_refused_with_one_that_would_do(toolkit, rows):
    with pytest.raises(InputError, match="neither a path nor a data frame") as refused:
        toolkit.plan("erase", rows)
    assert "pd.DataFrame" in refused.value.hint


def test_standard_input_is_no_input_here(toolkit):
    with pytest.raises(UsageError, match="a file or a data frame"):
        toolkit.plan("erase", "-")


# Event loops, events, stops


def test_in_a_running_loop_both_ways_work(toolkit, frame):
    async def cell():
        planned = toolkit.plan("erase", frame)  # as a notebook does who knows nothing of await
        first = planned.apply(confirm=planned.preview.confirm)
        planned = await toolkit.plan_async("reserve", pd.DataFrame({"customer_id": ["b"], "coupon_value": ["c"]}))
        second = await planned.apply_async(confirm="yes")
        return first, second

    first, second = asyncio.run(cell())
    assert first.outcomes == {"erased": 12}
    assert second.outcomes == {"failed": 1}


@pytest.mark.parametrize("is_async", [False, True])
def test_events_can_be_iterated_while_it_runs(toolkit, frame, is_async):
    planned = toolkit.plan("erase", frame)

    async def listen(running):
        return [event async for event in running], await running

    running = planned.start(confirm=planned.preview.confirm)
    told, run = asyncio.run(listen(running)) if is_async else (list(running), running.result())
    assert told[0] == Started(12, 12)
    assert sum(isinstance(event, Settled) for event in told) == 12
    assert told[-1] == Ended(None)
    assert "customer-" not in repr(told)
    assert run.verdict == "complete"


def test_sentences_are_heard_among_the_events(toolkit, requests, held):
    planned = toolkit.plan("erase", requests)
    running = planned.start(confirm=planned.preview.confirm)
    running.stop()
    held.set()
    run = running.result()
    requests.write_text("customer_id\nsomebody-else\n")
    told = list(run.start())
    (said,) = [event.text for event in told if isinstance(event, Remark)]
    assert "requests.csv was changed since the run was planned" in said
    assert told.index(Remark(said)) < told.index(Started(12, 12))
    assert toolkit.run().outcomes == {"erased": 12}


def test_a_listener_that_fails_stops_the_run(toolkit, frame, held):
    planned = toolkit.plan("erase", frame)

    def fails(_):
        raise ValueError

    held.set()
    with pytest.raises(ValueError):  # noqa: PT011 - the listener's own
        planned.apply(confirm=planned.preview.confirm, listen=fails)
    run = toolkit.run()
    assert run.verdict in {"stopped", "complete"}  # it may have been done already when it was asked to stop
    assert run.resume().outcomes == {"erased": 12}


def test_a_stopped_run_is_resumed(toolkit, frame, server, held):
    planned = toolkit.plan("erase", frame)
    running = planned.start(confirm=planned.preview.confirm)
    running.stop()
    held.set()
    run = running.result()
    assert (run.verdict, run.exit_code, run.outcomes) == ("stopped", ExitCode.STOPPED, {"pending": 12})
    with pytest.raises(NotSettledError, match="ended as stopped: 12 open"):
        run.raise_for_status()
    again = run.resume()
    assert (again.id, again.outcomes) == (run.id, {"erased": 12})
    assert sorted(erased(server)) == CUSTOMERS
    assert again.verify().valid


def test_who_cancels_what_waits_for_a_run_stops_it(toolkit, frame, held):
    async def cell():
        planned = toolkit.plan("erase", frame)
        waiting = asyncio.create_task(planned.apply_async(confirm=planned.preview.confirm))
        await asyncio.sleep(0)  # it has begun to wait
        waiting.cancel()
        await asyncio.sleep(0)  # it has asked for the stop
        held.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cell())
    run = toolkit.run("latest")
    assert run.outcomes == {"pending": 12}
    assert run.start(ExecutionOptions()).result().outcomes == {"erased": 12}


def test_ctrl_c_stops_the_run_and_is_raised_when_it_ended(toolkit, frame, held):
    planned = toolkit.plan("erase", frame)
    running = planned.start(confirm=planned.preview.confirm)
    wait, calls = running._done.wait, []

    def interrupted():
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        held.set()
        return wait()

    running._done.wait = interrupted
    with pytest.raises(KeyboardInterrupt):
        running.result()
    assert toolkit.run().exit_code == ExitCode.INTERRUPTED


def test_the_library_takes_no_signal(toolkit, frame, monkeypatch):
    taken = []
    monkeypatch.setattr(asyncio.unix_events._UnixSelectorEventLoop, "add_signal_handler", lambda *a: taken.append(a))
    monkeypatch.setattr("signal.signal", lambda *a: taken.append(a))
    planned = toolkit.plan("erase", frame)
    assert planned.apply(confirm=planned.preview.confirm).verdict == "complete"
    assert taken == []


def test_events_that_nobody_takes_are_dropped(toolkit, frame, monkeypatch):
    monkeypatch.setattr(ongoing, "MOST_EVENTS", 3)
    planned = toolkit.plan("erase", frame)
    running = planned.start(confirm=planned.preview.confirm)
    assert running.result().verdict == "complete"
    assert len([event for event in running if not isinstance(event, Remark)]) == 3


def test_what_goes_wrong_in_a_run_is_told_with_it(toolkit, frame, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("customer-00001")

    planned = toolkit.plan("erase", frame)
    with monkeypatch.context() as patched:
        patched.setattr(pack, "write_pack", fails)
        run = planned.apply(confirm=planned.preview.confirm)
    assert (run.verdict, run.pack, run.exit_code) == ("complete", None, ExitCode.BUG)
    with pytest.raises(ToolkitError, match="bug") as told:
        run.raise_for_status()
    assert "customer-" not in told.value.message
    assert run.report().exists()
    assert run.raise_for_status().pack


# Files


def test_everything_in_the_state_folder_is_for_its_owner_alone(toolkit, frame, tmp_path):
    before = os.umask(0o022)
    try:
        planned = toolkit.plan("erase", frame)
        planned.save(tmp_path / "plan.json")
        planned.apply(confirm=planned.preview.confirm)
    finally:
        os.umask(before)
    found = [tmp_path / "plan.json", *(tmp_path / "state").rglob("*")]
    assert [path for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_a_saved_plan_is_applied_by_another_process_and_one_of_a_frame_is_not(toolkit, requests, frame, tmp_path):
    toolkit.plan("erase", requests).save(tmp_path / "plan.json")
    toolkit.plan("erase", frame).save(tmp_path / "frame.json")
    opened = Toolkit(state=toolkit.settings.state).open_plan(tmp_path / "plan.json")
    assert opened.preview.rows.subjects == 12
    with pytest.raises(UsageError, match="in a file already"):
        opened.save(tmp_path / "again.json")
    assert opened.apply(confirm=opened.preview.confirm).outcomes == {"erased": 12}
    of_frame = toolkit.open_plan(tmp_path / "frame.json")
    with pytest.raises(ToolkitError):
        of_frame.apply(confirm=of_frame.preview.confirm)


# The page


@pytest.fixture
def four_eyes(call, server, tmp_path, monkeypatch):
    """A profile that asks for an approval, and the keys of two people in the current folder."""
    monkeypatch.chdir(tmp_path)
    lines = []
    for name in ("operator.key", "second-person.key"):
        made = call("keys", "new", tmp_path / name, "--signer", f"{name}@example.org", "--json")
        lines.append(made.json["allowed_signers"])
    (tmp_path / "allowed_signers").write_text("\n".join(lines) + "\n")
    path = tmp_path / "privacy-toolkit.toml"
    path.write_text(
        f'[profiles.live]\nstate = "{tmp_path / "state"}"\nsigning_key = "{tmp_path / "operator.key"}"\n'
        f'signer = "operator.key@example.org"\nallowed_signers = "{tmp_path / "allowed_signers"}"\n'
        'approval = "required"\n'
    )
    monkeypatch.delenv("PRIVACY_TOOLKIT_STATE")
    return Toolkit(profile="live", config=path)


def test_without_the_approval_of_a_second_person_nothing_is_sent(four_eyes, frame, server, tmp_path):
    planned = four_eyes.plan("erase", frame)
    with pytest.raises(RefusedError, match="approval of a second person"):
        planned.apply(confirm=planned.preview.confirm)
    plan = planned.save(tmp_path / "plan.json")
    with pytest.raises(UsageError, match="This key made the plan"):
        four_eyes.approve(plan, confirm="yes")
    with pytest.raises(RefusedError, match="Nothing was signed"):
        four_eyes.approve(plan, key=tmp_path / "second-person.key", confirm="no")
    with pytest.raises(RefusedError, match="approval of a second person"):
        planned.apply(confirm=planned.preview.confirm)
    with pytest.raises(UsageError, match="can't be read"):
        planned.apply(confirm=planned.preview.confirm, approval=tmp_path / "missing")
    assert nothing_was_sent(server, four_eyes)


def test_the_script_of_the_page_runs_in_a_notebook(four_eyes, server, capfd, monkeypatch):
    """It is run the way a notebook runs a cell: with await at the top, in a loop that is running already."""
    script = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    assert len(script.splitlines()) <= 25
    seed(server.store, 2, ids=["customer-00001", "00123"])
    monkeypatch.setenv("PRIVACY_TOOLKIT_CONFIG", str(four_eyes.settings.config_file))
    target = server.base_url.removeprefix("http://")
    code = compile(
        script.replace("mycompany.europe-west1.talon.one", target),
        "cell",
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )

    async def cell():
        await eval(code, {})  # noqa: S307 - our own page

    asyncio.run(cell())
    assert sorted(erased(server)) == ["00123", "customer-00001"]
    (run,) = four_eyes.runs()
    assert run.outcomes == {"erased": 2}
    assert run.verify(require_approval=True).valid
    assert "customer-00001" not in capfd.readouterr().out


# Patrols


def controlled(call):
    assert call("controls", "create", "--confirm", "yes").code == 0


def test_a_patrol_looks_at_who_was_erased_and_names_who_is_back(toolkit, frame, server, call):
    controlled(call)
    planned = toolkit.plan("erase", frame)
    planned.apply(confirm=planned.preview.confirm).raise_for_status()
    nothing = toolkit.patrol()
    assert (nothing.runs, nothing.exit_code, nothing.need_a_list) == ((), ExitCode.SETTLED, ())
    found = toolkit.patrol("latest")
    assert (found.exit_code, found.totals["still_gone"], found.totals["reappeared"]) == (ExitCode.SETTLED, 12, 0)
    write_profile(server.base_url, CUSTOMERS[3], {"Name": "somebody"})
    again = toolkit.patrol(as_of=date.fromisoformat(str(nothing.totals["next_on"])))
    assert (again.exit_code, again.totals["still_gone"], again.totals["reappeared"]) == (ExitCode.OPEN_ITEMS, 11, 1)
    (run,) = again.runs
    rows = run.to_frame(ids=True)
    assert list(rows[rows["outcome"] == "reappeared"]["id"]) == [CUSTOMERS[3]]
    assert run.verify().problems == ()


def test_who_is_back_is_erased_again(toolkit, frame, server, call):
    controlled(call)
    planned = toolkit.plan("erase", frame)
    planned.apply(confirm=planned.preview.confirm)
    write_profile(server.base_url, CUSTOMERS[3], {"Name": "somebody"})
    toolkit.patrol("latest")
    again = toolkit.erase_reappeared()
    assert again.preview.rows.subjects == 1
    run = again.apply(confirm=again.preview.confirm).raise_for_status()
    assert list(run.to_frame(ids=True)["id"]) == [CUSTOMERS[3]]
    with pytest.raises(UsageError, match="no option 'lang'"):
        toolkit.erase_reappeared(lang="de")


# The day of a data protection officer


@pytest.fixture
def templates(call, tmp_path):
    """Templates of letters that are filled in."""
    folder = tmp_path / "templates"
    call("letters", "init", folder)
    settings = folder / "letters.toml"
    settings.write_text(settings.read_text().replace("FILL IN", "Example"))
    return folder


def test_everybody_is_answered_and_the_register_says_so(toolkit, frame, templates, tmp_path):
    planned = toolkit.plan("erase", frame.assign(requested_at=datetime.now(UTC).date().isoformat()))
    run = planned.apply(confirm=planned.preview.confirm)
    written = run.letters(tmp_path / "letters", templates, lang="de")
    assert dict(written.letters) == {"erased": 12}
    assert len(written.index.read_text("utf-8").splitlines()) == 13
    assert run.record_sent(CUSTOMERS[:2]) == (2, 10)
    assert toolkit.register().as_object()["states"] == {"answered": 2, "waiting": 10}
    assert run.record_sent() == (10, 0)
    figures = toolkit.metrics(datetime.now(UTC).year)["requests"]["erase"]
    assert (figures["received"], figures["complied"], figures["answered"]) == (12, 12, 12)
    for given in ({"lang": "xx"}, {"out": tmp_path / "letters"}, {"templates": tmp_path / "none"}):
        with pytest.raises(UsageError):
            run.letters(**{"out": tmp_path / "again", "templates": templates, **given})


def test_what_came_of_everybody_is_handed_on(toolkit, frame, tmp_path):
    planned = toolkit.plan("erase", frame)
    run = planned.apply(confirm=planned.preview.confirm)
    assert run.export(tmp_path / "all.parquet") == 12
    assert list(pd.read_parquet(tmp_path / "all.parquet")["id"]) == CUSTOMERS
    assert run.export(tmp_path / "list.csv", confirmed=True, spreadsheet_safe=True) == 12
    with pytest.raises(UsageError, match="no formulas"):
        run.export(tmp_path / "all.parquet", spreadsheet_safe=True)


def test_a_person_gets_a_receipt_that_checks_itself(toolkit, frame, tmp_path):
    planned = toolkit.plan("erase", frame)
    run = planned.apply(confirm=planned.preview.confirm)
    folder = run.receipt(CUSTOMERS[1], tmp_path / "receipt", lang="fr")
    assert 'lang="fr"' in (folder / "receipt.html").read_text("utf-8")
    (tmp_path / "id.txt").write_text(CUSTOMERS[1])
    command = ["sh", "check-receipt.sh", tmp_path / "id.txt"]
    checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for given in ({"id_": "stranger"}, {"out": tmp_path / "receipt"}, {"lang": "xx"}, {"row": 9}, {"id_": ""}):
        with pytest.raises(UsageError):
            run.receipt(**{"id_": CUSTOMERS[1], "out": tmp_path / "another", **given})
    assert not (tmp_path / "another").exists()


def test_people_are_taken_out_of_a_run_by_their_ids(toolkit, frame, server):
    planned = toolkit.plan("erase", frame)
    run = planned.apply(confirm=planned.preview.confirm, options=ExecutionOptions(until="0s"))
    for ids in (CUSTOMERS[0], [], [7], ["stranger"], [CUSTOMERS[0], ""]):
        with pytest.raises(UsageError):
            run.withdraw(ids)
    assert run.withdraw(CUSTOMERS[:2]) == 2
    assert run.resume().outcomes == {"erased": 10, "on_hold": 2}
    assert sorted(erased(server)) == CUSTOMERS[2:]
    assert run.verify().valid


def test_nobody_can_be_asked_to_stop_a_run_that_nobody_works_on(toolkit, frame):
    planned = toolkit.plan("erase", frame)
    run = planned.apply(confirm=planned.preview.confirm)
    with pytest.raises(RefusedError):
        run.stop("enough")
    with pytest.raises(UsageError):
        run.stop("two\nlines")


def test_after_a_purge_a_patrol_needs_a_fresh_list_and_reads_nobody_else(toolkit, frame, server, call, tmp_path):
    controlled(call)
    planned = toolkit.plan("erase", frame)
    run = planned.apply(confirm=planned.preview.confirm)
    run.purge(confirm=f"purge {run.id}")
    day = date.today() + timedelta(days=2)  # noqa: DTZ011 - the day of the reads
    without = toolkit.patrol(as_of=day)
    assert (without.runs, without.need_a_list) == ((), (run.id,))
    with pytest.raises(RefusedError, match="was purged on"):
        toolkit.patrol(run.id)
    known = tmp_path / "all.csv"
    known.write_text("customer_id\n" + "".join(f"{one}\n" for one in [*CUSTOMERS[:5], "never-erased"]))
    found = toolkit.patrol(run.id, rows=known)
    assert (found.totals["still_gone"], found.totals["on_hold"], found.exit_code) == (5, 1, ExitCode.SETTLED)


def test_a_patrol_needs_a_profile_that_must_be_visible(toolkit, frame):
    planned = toolkit.plan("erase", frame)
    planned.apply(confirm=planned.preview.confirm)
    with pytest.raises(UsageError):
        toolkit.patrol("latest")


HELD = "customer-00001"


GIVEN_WRONGLY = (
    lambda kit, run, frame: kit.plan("erase", frame, exclude=frame),
    lambda kit, run, frame: kit.plan("assign", frame, second=frame),
    lambda kit, run, frame: kit.plan("export", frame, out=frame),
    lambda kit, run, frame: kit.plan("export", frame, out="out", sessions=frame),
    lambda kit, run, frame: kit.pool(frame),
    lambda kit, run, frame: kit.redemptions(frame),
    lambda kit, run, frame: kit.patrol(rows=frame),
    lambda kit, run, frame: kit.patrol(as_of="2026-12-01"),
    lambda kit, run, frame: kit.patrol(as_of=datetime(2026, 12, 1, tzinfo=UTC)),
    lambda kit, run, frame: kit.patrol(sample=-1),
    lambda kit, run, frame: kit.open_plan(frame),
    lambda kit, run, frame: kit.run(2),
    lambda kit, run, frame: kit.run(frame),
    lambda kit, run, frame: kit.due(days="7"),
    lambda kit, run, frame: kit.due(days=-1),
    lambda kit, run, frame: kit.metrics("2026"),
    lambda kit, run, frame: kit.metrics(0),
    lambda kit, run, frame: run.letters("letters", None),
    lambda kit, run, frame: run.letters(frame, "templates"),
    lambda kit, run, frame: run.record_sent(on="2026-11-28"),
    lambda kit, run, frame: run.export(frame),
    lambda kit, run, frame: run.receipt(HELD, frame),
    lambda kit, run, frame: run.report(frame),
    lambda kit, run, frame: run.purge(confirm=frame),
)


def test_what_is_given_wrongly_is_refused_in_words_without_data(toolkit):
    frame = pd.DataFrame({"customer_id": [HELD], "coupon_value": ["CODE"]})
    planned = toolkit.plan("erase", pd.DataFrame({"customer_id": ["customer-00002"]}))
    run = planned.apply(confirm=planned.preview.confirm)
    for call in GIVEN_WRONGLY:
        with pytest.raises(ToolkitError) as refused:
            call(toolkit, run, frame)
        assert refused.value.code in {"usage", "not_confirmed"}
        assert HELD not in str(refused.value) + refused.value.message + refused.value.hint


@pytest.mark.parametrize("given", [2, b"erase", ["erase"]])
def test_a_confirmation_of_another_type_is_none(toolkit, frame, given):
    with pytest.raises(RefusedError):
        toolkit.plan("erase", frame).apply(confirm=given)


def test_what_a_notebook_shows_of_a_plan_has_no_key_in_it(toolkit, frame):
    planned = toolkit.plan("erase", frame)
    assert repr(planned._given.key)[2:-1] not in repr(planned) + repr(planned._given)
    assert "nonce" not in repr(planned)


@pytest.mark.parametrize(
    "given",
    [{"rate": 0}, {"rate": "5"}, {"rate": float("nan")}, {"rate": True}, {"concurrency": -1}, {"concurrency": 1.5}],
)
def test_a_pace_that_is_none_is_refused_however_it_is_given(call, requests, given):
    with pytest.raises(UsageError):
        Toolkit(**given)
    for value in ("nan", "inf", "-inf"):
        assert call("erase", requests, "--rate", value, "--json").json["error"]["code"] == "usage"


def test_a_frame_without_rows_is_nothing_to_do_whatever_its_types(toolkit):
    planned = toolkit.plan("erase", pd.DataFrame({"customer_id": [], "requested_at": []}))
    assert planned.preview.rows.read == 0
