"""A file as people have it: a workbook with their own columns and days, lists of their own, keys of another system."""

import json
import shutil

import pytest

from privacy_toolkit import InputOptions, Toolkit
from tests.support.workbooks import number, write

DAY = 46346  # 20 November 2026
CONFIG = """
[columns]
customer_id = "Kundennummer"
requested_at = "Eingang"
reason = "Grund"

[input]
date_format = "de"
"""


@pytest.fixture
def workbook(tmp_path):
    rows = [["Kundennummer", "Eingang"], *([f"customer-{at:05d}", number(DAY - at, 1)] for at in range(12))]
    return write(tmp_path / "Anfragen.xlsx", rows, formats=["dd.mm.yyyy"])


@pytest.fixture
def table(tmp_path):
    """The CSV next to it, under the names of here."""
    path = tmp_path / "requests.csv"
    days = [f"2026-11-{20 - at:02}" for at in range(12)]
    path.write_text("customer_id,requested_at\n" + "".join(f"customer-{at:05d},{day}\n" for at, day in enumerate(days)))
    return path


def planned(path):
    plan = json.loads(path.read_text())
    return {name: plan[name] for name in ("rows", "clock", "exclusions", "calls")}


def test_a_workbook_gives_the_plan_of_the_csv_next_to_it(call, server, workbook, table, tmp_path):
    mapping = tmp_path / "map.toml"
    done = call("inspect", workbook, "--id-column", "Kundennummer", "--column", "requested_at=Eingang",
                "--save-mapping", mapping)  # fmt: skip
    assert done.code == 0, done.err
    assert call("erase", workbook, "--map", mapping, "--plan", tmp_path / "a.json", "--json").code == 0
    assert call("erase", table, "--plan", tmp_path / "b.json", "--json").code == 0
    assert planned(tmp_path / "a.json") == planned(tmp_path / "b.json")
    shown = call("erase", workbook, "--map", mapping, "--plan", tmp_path / "c.json").err
    assert "Read as   sheet 'Requests', customer_id = 'Kundennummer', requested_at = 'Eingang'" in shown
    given = json.loads((tmp_path / "a.json").read_text())["input"]
    assert (given["format"], given["sheet"], given["id_column"]) == ("xlsx", "Requests", "customer_id")
    assert given["columns"] == {"customer_id": "Kundennummer", "requested_at": "Eingang"}


def test_a_plan_of_a_workbook_is_applied_from_it_and_notices_a_change(call, server, workbook, tmp_path):
    config, holds, plan = tmp_path / "privacy-toolkit.toml", tmp_path / "Sperren.xlsx", tmp_path / "plan.json"
    config.write_text(CONFIG)
    write(holds, [["Kundennummer", "Grund"], ["customer-00001", "identity"]])
    made = call("erase", workbook, "--config", config, "--exclude", holds, "--plan", plan, "--json")
    assert made.code == 0, made.err
    assert made.json["on_hold"] == 1
    phrase = made.json["confirm"]
    for file, former in ((workbook, workbook.read_bytes()), (holds, holds.read_bytes())):
        write(file, [["Kundennummer", "Eingang", "Grund"], ["customer-00002", "1.1.2026", "identity"]])
        done = call("apply", plan, "--config", config, "--confirm", phrase, "--json")
        assert (done.code, done.json["error"]["code"]) == (5, "stale")
        file.write_bytes(former)
    config.write_text("")  # the plan says how its files are read
    done = call("apply", plan, "--config", config, "--confirm", phrase, "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 11, "on_hold": 1}), done.err


def test_a_library_reads_files_as_the_profile_says_or_as_it_is_told(server, workbook, tmp_path):
    config = tmp_path / "privacy-toolkit.toml"
    config.write_text(CONFIG)
    toolkit = Toolkit(config=config, state=tmp_path / "state")
    assert toolkit.plan("erase", workbook).preview.clock.dated == 12
    columns = {"customer_id": "Kundennummer"}
    planned = toolkit.plan("erase", workbook, input=InputOptions(columns=columns))
    assert planned.preview.clock is None
    assert "has dates and is not used" in planned.preview.warnings[0]


def test_keys_are_identified_by_a_list_and_never_said_again(call, server, tmp_path):
    requests, crm, plan = tmp_path / "requests.csv", tmp_path / "crm.csv", tmp_path / "plan.json"
    requests.write_text("E-Mail\nanna@x.de\nben@x.de\neva@x.de\n")
    crm.write_bytes("E-Mail;customer_id\nanna@x.de;customer-00001\nben@x.de;x\nben@x.de;ü\n".encode("cp1252"))
    options = ("--identify", crm, "--key-column", "E-Mail", "--list-encoding", "cp1252", "--list-delimiter", ";")
    made = call("erase", requests, *options, "--plan", plan, "--json")
    assert made.code == 0, made.err
    assert made.json["rows"] == {"read": 3, "rejected": 2, "duplicates": 0, "subjects": 1}
    stored = json.loads(plan.read_text())
    assert stored["rows"]["rejected_by_reason"] == {"key_ambiguous": 1, "key_unknown": 1}
    assert stored["lists"] == {"encoding": "cp1252", "delimiter": ";", "sheet": None}
    assert (stored["identified"]["size"], stored["identified"]["sha256"]) == (crm.stat().st_size, "")
    former = crm.read_bytes()
    crm.write_bytes(former.replace(b"customer-00001", b"customer-00002"))
    confirm = ("--confirm", made.json["confirm"], "--json")
    assert call("apply", plan, *confirm).json["error"]["code"] == "stale"
    crm.write_bytes(former)
    done = call("apply", plan, *confirm)
    assert (done.code, done.json["outcomes"]) == (3, {"erased": 1})  # refused rows are nobody's
    pack = done.json["pack"]
    shutil.copytree(pack, tmp_path / "pack")
    told = "".join(path.read_text("utf-8", "replace") for path in (tmp_path / "pack").rglob("*") if path.is_file())
    assert not any(secret in told for secret in ("@x.de", "E-Mail", "crm.csv"))
    assert "@x.de" not in done.err + done.out + plan.read_text()


def test_days_that_are_all_in_another_form_are_an_error_that_names_it(call, server, tmp_path):
    path = tmp_path / "requests.csv"
    path.write_text("customer_id,requested_at\na,20.11.2026\nb,1.2.2026\n")
    done = call("erase", path, "--plan", tmp_path / "plan.json", "--json")
    assert done.code == 2
    assert "requests.csv: not one of the 2 days in the column requested_at is read." in done.json["error"]["message"]
    assert "--date-format de" in done.json["error"]["message"]
    assert not (tmp_path / "plan.json").exists()
    made = call("erase", path, "--date-format", "de", "--plan", tmp_path / "plan.json", "--json")
    assert made.json["clock"]["oldest_requested_on"] == "2026-02-01"


def test_a_plan_that_needs_nothing_new_is_written_as_it_always_was(call, server, table, tmp_path):
    assert call("erase", table, "--plan", tmp_path / "plan.json", "--json").code == 0
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert not {"identified", "lists"} & set(plan)
    assert not {"sheet", "columns", "date_format"} & set(plan["input"])


def test_warnings_are_in_preview_plan_and_inspect(call, server, tmp_path):
    path = tmp_path / "requests.csv"
    path.write_text("customer_id\n1.23E+11\n4.5E+12\n")
    made = call("erase", path, "--plan", tmp_path / "plan.json", "--json")
    assert [one["code"] for one in made.json["warnings"]] == ["ids_exponent"]
    assert [one["code"] for one in call("inspect", path, "--json").json["warnings"]] == ["ids_exponent"]
    assert "warning: 2 ids in the form 1.23E+11" in call("inspect", path).out
    assert "Warning: 2 ids in the form 1.23E+11" in call("erase", path, "--plan", tmp_path / "plan.json").err
    done = call("apply", tmp_path / "plan.json", "--confirm", made.json["confirm"], "--json")
    assert "Warning: 2 ids in the form 1.23E+11" in done.err
    again = call("erase", path, "--plan", tmp_path / "plan.json", "--json").json["confirm"]
    assert "Warning" not in call("apply", tmp_path / "plan.json", "--confirm", again, "--json", "--quiet").err


def test_a_saved_mapping_says_how_the_file_was_read_and_replaces_no_other_file(call, tmp_path):
    path, mapping = tmp_path / "a.csv", tmp_path / "map.toml"
    path.write_bytes('Nr."\\;Grüße\x7f\n1;1.2.2026\n2;20.11.2026\n'.encode("cp1252"))
    how = ("--encoding", "cp1252", "--delimiter", ";", "--date-format", "de", "--column", "requested_at=Grüße\x7f")
    first = call("inspect", path, *how, "--id-column", 'Nr."\\', "--save-mapping", mapping, "--json")
    assert first.code == 0, first.err
    again = call("inspect", path, "--map", mapping, "--save-mapping", mapping, "--json")
    assert again.json["rows"] == first.json["rows"] == {"read": 2, "rejected": 0, "duplicates": 0, "subjects": 2}
    saved = mapping.read_bytes()
    assert call("inspect", path, "--map", mapping, "--save-mapping", mapping).code == 0
    assert mapping.read_bytes() == saved
    assert call("inspect", path, "--map", mapping, "--save-mapping", path, "--json").code == 2
    assert path.read_bytes().startswith(b"Nr.")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--column", "requested_at"), "requested_at=Eingang"),
        (("--column", "nope=x"), "can be mapped"),
        (("--key-column", "x"), "--identify"),
        (("--map", "missing.toml"), "mapping"),
        (("--date-format", "german"), "%d-%m-%Y"),
        (("--list-encoding", "klingon"), "cp1252"),
        (("--list-delimiter", "::"), "single character"),
        (("--identify", "-"), "Save it to a file"),
    ],
)
def test_an_option_that_can_not_be_meant_is_told(call, table, arguments, word):
    done = call("inspect", table, *arguments)
    assert done.code == 2
    assert word in done.err


def test_a_file_whose_name_is_no_text_is_refused_and_no_plan_is_made(call, server, tmp_path):
    path = tmp_path / "\udcff.csv"
    path.write_text("customer_id\ncustomer-00001\n")
    done = call("erase", path, "--plan", tmp_path / "plan.json", "--json")
    assert (done.code, "is not UTF-8" in done.json["error"]["message"]) == (2, True)
    assert not (tmp_path / "plan.json").exists()


NO_MAPPINGS = ["[columns]\nnope = 'x'\n", "[columns]\ncustomer_id = 1\n", "x = 1\n", "[columns\n", "\udcf6"]


@pytest.mark.parametrize("text", NO_MAPPINGS)
def test_a_mapping_that_is_none_is_told(call, table, tmp_path, text):
    mapping = tmp_path / "map.toml"
    mapping.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = call("inspect", table, "--map", mapping, "--json")
    assert (done.code, "mapping" in done.json["error"]["message"]) == (2, True)
    assert "codec" not in done.err
