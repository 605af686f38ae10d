"""What we write and may read again is read byte for byte, in every format; and a workbook plans what its CSV does."""

import csv
import io
import json
import tempfile
import unicodedata
from contextlib import ExitStack, redirect_stdout
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from privacy_toolkit.access.letters import init
from privacy_toolkit.app.requests import LetterOrder, record_sent, register, write_letters
from privacy_toolkit.app.runs import outcomes, read_ids, subjects
from privacy_toolkit.cli.output import emit_line
from privacy_toolkit.config.file import InputProfile, MappingFile, read_mapping
from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.core.model import InputError, Outcome, Subject, UsageError
from privacy_toolkit.core.privacy import MARK_COLUMN, guarded
from privacy_toolkit.engine.job import Table
from privacy_toolkit.engine.open_requests import Regime
from privacy_toolkit.engine.planning import Order, prepared
from privacy_toolkit.inputs.lists import read_exclusions
from privacy_toolkit.inputs.options import InputOptions, judge
from privacy_toolkit.inputs.pairs import PairForm, coupon_of
from privacy_toolkit.inputs.scan import read_input
from privacy_toolkit.jobs.campaign import coupon_lists
from privacy_toolkit.jobs.erase import DECLARATION
from privacy_toolkit.journal.memory.state import MemoryState
from privacy_toolkit.journal.records import SubjectState
from privacy_toolkit.journal.state import back_up, existing_state, open_state, restore
from privacy_toolkit.reporting.register import HEADER, RequestLine, RequestRegister, csv_of
from privacy_toolkit.reporting.rows import REJECTED_HEADER, TableFileError, csv_line, write_table
from tests.properties.test_files_read_back import HOSTILE
from tests.properties.test_inputs import ASKED, as_csv
from tests.support import reported_runs as runs
from tests.support.workbooks import write

RUN = "20261123-080000-erase-0a1b2c3d4"
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
FORMATS = [".csv", ".parquet", ".xlsx"]
#: Ids as they are in lists that were made to break things, or by chance do.
NAMED = ["=1+1", "+49", "-1", "@x", "'x", '"', 'a"b', "1e5", "007", "1.0", "TRUE", "é", "e\u0301", "K", "\u212a", "ǆ"]
NAMED += ["2026-11-28", "28.11.2026", "1/2", "TRUE()", "x" * 1000, "\u200fx", "_x000D_", "&amp;", "]]>", "#N/A"]
NAMED += ["_x0041_", "_x005F_x0041_", "_x0000_", "<r>x</r>", "{=1}", "\ufffe", "x\u00a0y", "名", "😀", "NA"]


def fine(text):
    return judge(text)[1] is None


IDS = st.lists(HOSTILE.filter(fine), min_size=1, max_size=4, unique=True)


def accepted(path, form=None):
    """What our own input takes of a file; nothing of it may be refused."""
    with read_input(str(path), InputOptions(), spool_folder=path.parent, form=form) as scan:
        assert scan.summary.rejected == 0
        return [tuple(row[1:]) for page in scan.subjects() for row in page]


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=25, deadline=None)
@given(ids=IDS)
@example(ids=NAMED)
def test_the_outcomes_of_a_run_are_an_input_again(suffix, ids):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = open_state(folder / "state")
        runs.write_run(folder / "state" / "runs" / RUN, [runs.told(id_, Outcome.ERASED) for id_ in ids])
        for confirmed in (False, True):
            place = folder / f"{confirmed}{suffix}"
            write_table(place, outcomes(state, RUN, confirmed=confirmed))
            assert accepted(place) == [(id_,) for id_ in ids]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@settings(max_examples=25, deadline=None)
@given(ids=IDS, codes=st.lists(HOSTILE.filter(fine), min_size=4, max_size=4, unique=True))
@example(ids=NAMED, codes=NAMED)
def test_who_was_assigned_which_code_is_an_input_again(suffix, ids, codes):
    pairs = list(zip(ids, codes, strict=False))
    lines = [(Subject(n, n + 1, id_, code), SubjectState(Outcome.DONE), None) for n, (id_, code) in enumerate(pairs, 1)]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / f"codes{suffix}"
        write_table(place, coupon_lists({}, lambda: lines, NOW)[""])
        assert [(id_, coupon_of(told)) for id_, told in accepted(place, PairForm())] == pairs


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@given(ids=IDS)
@example(ids=NAMED)
@example(ids=["\ufeff", "\ufeffb"])
def test_ids_to_withdraw_are_read_as_they_are(end, ids):
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "ids.txt"
        # The first mark is the file's: an id that begins with one needs another before it.
        encoding = "utf-8-sig" if ids[0].startswith("\ufeff") else "utf-8"
        place.write_bytes(end.join([*ids, ""]).encode(encoding))
        assert read_ids(place) == ids


@given(columns=st.dictionaries(st.sampled_from(["customer_id", "requested_at", "ticket", "reason"]), HOSTILE))
@example(columns=dict(zip(["customer_id", "ticket"], ['"""', "\x7f\\u0041"], strict=True)))
def test_a_mapping_is_read_as_it_was_saved(columns):
    profile = InputProfile(
        encoding="cp1252", delimiter='"', date_format="%d-%m-%Y", sheet=next(iter(columns.values()), "A")
    )
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "map.toml"
        place.write_bytes(MappingFile(columns, profile).encode())
        assert read_mapping(place) == MappingFile(columns, profile)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=25, deadline=None)
@given(ids=IDS)
@example(ids=NAMED)
def test_who_was_erased_is_told_to_another_system_and_found_by_its_keys(suffix, ids):
    """A list of confirmed erasures with keys next to it, as ``--identify`` takes it, and a list that holds the keys."""
    keys = [f"{id_}!" for id_ in ids if fine(f"{id_}!")]
    table = Table("keys", {"key": str, "customer_id": str}, (), lambda: ([key, key[:-1]] for key in keys))
    asked = Table("asked", {"key": str}, (), lambda: ([key] for key in keys))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for one in (table, asked):
            write_table(folder / f"{one.called}{suffix}", one)
        options = InputOptions(identify=str(folder / f"keys{suffix}"))
        with read_input(str(folder / f"asked{suffix}"), options, spool_folder=folder) as scan:
            assert [row[1] for page in scan.subjects() for row in page] == [key[:-1] for key in keys]


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
@settings(max_examples=25, deadline=None)
@given(ids=IDS)
@example(ids=NAMED)
def test_a_list_of_holds_that_we_wrote_holds_whom_it_names(suffix, ids):
    table = Table("holds", {"customer_id": str, "reason": str}, (), lambda: ([id_, "17(3)(b)"] for id_ in ids))
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / f"holds{suffix}"
        write_table(place, table)
        assert list(read_exclusions(str(place)).holds) == ids


# What people look at, such as the index of the letters, is safe for spreadsheets: no input takes it, and each row says
# its names exactly in a last cell.


def named_exactly(place):
    """The ids and tickets of a file that is safe for spreadsheets, as its last column says them."""
    with place.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            exact = row.pop(MARK_COLUMN)
            yield json.loads(exact) if exact else {name: row[name] for name in ("id", "ticket")}


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("letters") / "templates"
    init(folder)
    settings_ = folder / "letters.toml"
    settings_.write_text(settings_.read_text().replace("FILL IN", "Example"))
    return folder


@settings(max_examples=6, deadline=None)
@given(ids=IDS, tickets=st.lists(HOSTILE, min_size=4, max_size=4))
@example(ids=NAMED, tickets=NAMED)
def test_the_index_of_letters_names_everybody_exactly_and_is_no_input(templates, ids, tickets):
    asked = list(zip(ids, tickets * len(ids), strict=False))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = open_state(folder / "state")
        told = [
            replace(runs.told(id_, Outcome.ERASED), request=("2026-11-01", "2026-12-01", ticket, None))
            for id_, ticket in asked
        ]
        runs.write_run(folder / "state" / "runs" / RUN, told)
        order = LetterOrder(out=folder / "letters", templates=templates, lang="en")
        written = write_letters(state, RUN, order, NOW.date())
        assert [tuple(one.values()) for one in named_exactly(written.index)] == asked
        with pytest.raises(InputError, match="made safe for spreadsheets"):
            accepted(written.index)


@settings(max_examples=6, deadline=None)
@given(ids=IDS)
@example(ids=NAMED)
def test_the_subjects_as_lines_of_json_are_an_input_again(ids):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = open_state(folder / "state")
        runs.write_run(folder / "state" / "runs" / RUN, [runs.told(id_, Outcome.ERASED) for id_ in ids])
        place = folder / "subjects.jsonl"
        with place.open("w") as file, redirect_stdout(file):
            for line in subjects(state, RUN):
                emit_line(line)
        assert accepted(place) == [(id_,) for id_ in ids]


@settings(max_examples=6, deadline=None)
@given(ids=IDS, others=IDS)
@example(ids=NAMED, others=[unicodedata.normalize("NFC", one) for one in ("e\u0301", "\u212a")] + ["+49 ", "'+49"])
def test_a_list_of_erased_customers_tells_of_them_alone_on_another_machine(ids, others):
    with tempfile.TemporaryDirectory() as name:
        here, there = open_state(Path(name) / "here"), MemoryState()
        with here.suppression() as listed, there.suppression() as taken:
            listed.add("live https://t", ids, RUN, len(ids))
            exported, keys, entries = listed.exported()
            assert (entries, taken.take_in(exported, keys)) == (len(ids), len(ids))
            tells = taken.of({"live https://t"})
            assert [tells(id_) for id_ in [*ids, *others]] == [True] * len(ids) + [one in ids for one in others]
            again = taken.exported()
            assert listed.take_in(*again[:2]) == 0  # what came from here


@settings(max_examples=3, deadline=None)
@given(ids=IDS, tickets=st.lists(HOSTILE, min_size=4, max_size=4))
@example(ids=NAMED, tickets=NAMED)
def test_a_backup_is_restored_to_the_same_people_answers_and_lists(ids, tickets):
    with tempfile.TemporaryDirectory() as name:
        here, there = Path(name) / "here", Path(name) / "there"
        state = open_state(here)
        asked = runs.Asked("2026-11-01", "2026-12-01", tickets[0])
        runs.write_run(here / "runs" / RUN, [runs.told(id_, Outcome.ERASED, request=asked) for id_ in ids])
        record_sent(state, RUN, ids[:1], date(2026, 11, 27), date(2026, 11, 27))
        with state.suppression() as listed:
            listed.add("live https://t", ids, RUN, len(ids))
        kept = io.BytesIO()
        back_up(here, None, kept, "2026-11-27T08:00:00Z", packs=True)
        kept.seek(0)
        restore(there, kept)
        again = existing_state(there)
        assert list(subjects(again, RUN)) == list(subjects(state, RUN))
        day = date(2026, 11, 28)
        assert register(again, day).as_object() == register(state, day).as_object()
        with again.suppression() as taken:
            tells = taken.of({"live https://t"})
            assert [tells(id_) for id_ in [*ids, "nobody on it"]] == [True] * len(ids) + [False]


@given(rows=st.lists(st.tuples(st.integers(1, 10**9), st.sampled_from(["blank", "surrounding_whitespace"]))))
def test_the_refused_rows_of_a_pack_are_read_as_they_were_written(rows):
    text = b"".join(map(csv_line, [REJECTED_HEADER, *rows])).decode()
    header, *found = csv.reader(io.StringIO(text, newline=""))
    assert (tuple(header), [(int(row), reason) for row, reason in found]) == (REJECTED_HEADER, rows)


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_no_text_is_written_to_no_file(tmp_path, suffix):
    table = Table("list", {"customer_id": str}, ("customer_id",), lambda: iter([["a\ud800b"]]))
    with pytest.raises(TableFileError, match="no Unicode"):
        write_table(tmp_path / f"list{suffix}", table)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_text_is_read_from_no_file(tmp_path):
    place = tmp_path / "ids.csv"
    place.write_bytes(b"id\na\xed\xa0\x80b\n")
    with pytest.raises(InputError, match=r"line 2 is not utf-8"):
        accepted(place)
    with pytest.raises(UsageError, match="not UTF-8"):
        read_ids(place)


@given(tickets=st.lists(HOSTILE, min_size=1, max_size=4))
def test_the_register_says_each_ticket_as_it_was_behind_the_guard_of_spreadsheets(tickets):
    def line(ticket):
        given = {"run_id": RUN, "job": "erase", "target": "=t", "environment": "live", "pack": "", "extended": False}
        nothing = dict.fromkeys(HEADER) | {"outcome": Outcome.ERASED, "ticket": ticket}
        return RequestLine(**{name: value for name, value in (nothing | given).items() if name != "state"})

    found = RequestRegister(today=date(2026, 11, 27), lines=lambda: map(line, tickets))
    text = b"".join(csv_of(found)).decode("utf-8-sig")
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert tuple(header) == HEADER
    assert [row[header.index("ticket")] for row in rows] == [guarded(ticket) for ticket in tickets]
    told = json.loads(json.dumps(found.as_object()))
    assert [one["ticket"] for one in told["requests"]] == tickets


#: What of a plan names the files themselves.
FILES = {"input", "exclusions", "digest"}


def plan_of(path, exclude, state):
    """The plan of an erasure of the file, or why there is none, without what names the file itself."""
    target = {"BASE_URL": "http://127.0.0.1:9", "API_KEY": "k", "APPLICATION": "Shop", "STATE": str(path.parent)}
    given = load_settings(Flags(), {f"PRIVACY_TOOLKIT_{name}": value for name, value in target.items()})
    order = Order(
        job=DECLARATION,
        path=str(path),
        exclude=str(exclude),
        regime=Regime.GDPR,
        tickets=True,
        nonce="0" * 32,
        key=b"k" * 32,
    )
    with ExitStack() as stack:
        try:
            ready = stack.enter_context(prepared(order, given, state, NOW))
        except InputError as refused:
            return None, [], str(refused).replace(path.name, "FILE"), {}
        plan, subjects = ready.plan, [row for page in ready.subjects.subjects() for row in page]
        told = {name: getattr(plan, name) for name in plan.__struct_fields__ if name not in FILES}
        return told, subjects, list(ready.scan.requests()), dict(ready.holds)


@settings(max_examples=25, deadline=None)
@given(asked=ASKED, ids=IDS, held=st.integers(0, 3))
def test_a_workbook_gives_the_plan_of_the_csv_next_to_it(tmp_path_factory, asked, ids, held):
    folder = tmp_path_factory.mktemp("plan")
    rows = [["id", "requested_at", "extended_at", "ticket", "ground"], *map(list, asked)]
    rows += [[id_, "2026-11-01", "", "", ""] for id_ in ids]
    holds = [["id", "reason"], *([id_, "17(3)(b)"] for id_ in ids[:held]), ["somebody else", "tax"]]
    for name, lines in (("requests", rows), ("holds", holds)):
        (folder / f"{name}.csv").write_bytes(as_csv(lines).encode())
        write(folder / f"{name}.xlsx", lines)
    state = MemoryState()
    found = [plan_of(folder / f"requests.{kind}", folder / f"holds.{kind}", state) for kind in ("csv", "xlsx")]
    assert found[0] == found[1]
    assert found[0][0] is None or len(found[0][3]) == len(ids[:held])
