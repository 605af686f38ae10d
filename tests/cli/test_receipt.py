"""Opening one row of a pack, or the digest of its input, from the command line."""

import json
import shutil
import stat
import subprocess

import pytest

from privacy_toolkit.access.words import KEYS

CUSTOMER = "customer-00003"


@pytest.fixture
def pack(call, server, requests, phrase, tmp_path):
    """The unsigned pack of a run that erased everybody on the list."""
    done = call("erase", requests, "--confirm", phrase, "--json")
    assert done.code == 0, done.err
    return tmp_path / "state" / "packs" / done.json["run_id"]


@pytest.fixture
def id_file(tmp_path):
    path = tmp_path / "id.txt"
    path.write_text(f"{CUSTOMER}\n")
    return path


@pytest.fixture
def give(call, pack, id_file, tmp_path):
    """Asks for a receipt; ``out`` is where it goes."""

    def run(*arguments, pack=pack, id_file=id_file, out=tmp_path / "receipt"):
        return call("receipt", pack, "--id-file", id_file, "--out", out, *arguments)

    return run


#: What is asked for neither as a row nor as an input, as both, or for a folder that an input has not.
WRONG = [[], ["--id-file", "a", "--input", "b"], ["--input", "a", "--out", "b"], ["--input", "a", "--lang", "de"]]


def check(*words, folder=None):
    """Runs the script of a receipt."""
    return subprocess.run(["sh", *words], check=False, cwd=folder, capture_output=True, text=True)


def rows(pack):
    return [json.loads(line) for line in (pack / "rows.jsonl").read_text().splitlines()]


def test_the_folder_opens_this_row_and_its_script_agrees(give, pack, id_file, tmp_path):
    done = give()
    assert done.code == 0, done.err
    assert done.out.startswith("Receipt for row ")
    assert CUSTOMER not in done.out + done.err
    folder = tmp_path / "receipt"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {
        "README.txt",
        "SHA256SUMS",
        "check-receipt.sh",
        "checkpoint.txt",
        "receipt.html",
        "receipt.txt",
    }
    assert all(CUSTOMER not in path.read_text() for path in folder.iterdir())
    checked = check("check-receipt.sh", id_file, folder=folder)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.startswith("Valid: this row is yours.")
    assert "The pack is not signed" in checked.stdout


def test_the_page_is_in_the_language_and_names_the_controller_and_no_one_else(give, tmp_path):
    notice = tmp_path / "notice.toml"
    notice.write_text("".join(f'{key} = "Said of {key}."\n' for key in KEYS) + 'time_zone = "Europe/Berlin"\n')
    assert give("--lang", "de", "--notice", notice).code == 0
    page = (tmp_path / "receipt" / "receipt.html").read_text("utf-8")
    assert '<html lang="de">' in page
    assert "Ihre Daten wurden gelöscht" in page
    assert "Said of controller." in page
    assert CUSTOMER not in page


def test_a_notice_that_can_not_be_used_is_refused_before_anything_is_made(give, tmp_path):
    (tmp_path / "notice.toml").write_text('controller = "FILL IN"\n')
    assert give("--notice", tmp_path / "notice.toml").code == 2
    assert not (tmp_path / "receipt").exists()


def test_json_is_one_object_that_names_the_row(give, pack, tmp_path):
    done = give("--json")
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    told = done.json
    assert told == {
        "run_id": pack.name,
        "receipt": str(tmp_path / "receipt"),
        "subject": rows(pack)[told["index"]]["subject"],
        "index": told["index"],
        "size": 12,
        "signed": False,
    }


def test_without_a_name_the_folder_is_made_here_under_the_reference(call, pack, id_file, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    told = call("receipt", pack, "--id-file", id_file, "--json").json
    assert told["receipt"] == f"receipt-{told['subject'][:12]}"
    assert [path.name for path in (tmp_path / "here").iterdir()] == [told["receipt"]]


def test_a_byte_order_mark_before_the_id_does_not_count(give, id_file):
    id_file.write_bytes(b"\xef\xbb\xbf" + id_file.read_bytes())
    assert give().code == 0


@pytest.mark.parametrize("content", ["nobody\n", "customer-00003 \n", "CUSTOMER-00003\n"])
def test_an_id_that_is_not_in_the_run_is_refused_and_not_repeated(give, id_file, tmp_path, content):
    id_file.write_text(content)
    done = give("--json")
    assert (done.code, done.json["error"]["code"]) == (2, "not_in_run")
    assert content.strip() not in done.out
    assert not (tmp_path / "receipt").exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"customer-00003\ncustomer-00004\n", b"\xff\xfe", b"\xef\xbb\xbf"])
def test_what_is_no_file_with_one_id_is_a_usage_error(give, id_file, content):
    id_file.write_bytes(content)
    done = give("--json")
    assert (done.code, done.json["error"]["code"]) == (2, "usage")


def test_a_missing_id_file_is_a_usage_error(give, tmp_path):
    done = give("--json", id_file=tmp_path / "nowhere.txt")
    assert done.code == 2
    assert "can't be read" in done.json["error"]["message"]
    assert not (tmp_path / "receipt").exists()


@pytest.mark.parametrize(
    "arguments",
    WRONG,
)
def test_one_thing_has_to_be_named_that_is_to_be_opened(call, pack, arguments):
    done = call("receipt", pack, *arguments, "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "usage")


def test_nothing_is_overwritten(give, tmp_path):
    (tmp_path / "receipt").mkdir()
    done = give("--json")
    assert done.code == 2
    assert "nothing is overwritten" in done.json["error"]["message"]
    assert list((tmp_path / "receipt").iterdir()) == []


def test_a_place_that_can_not_be_written_stops_it(give, tmp_path):
    done = give("--json", out=tmp_path / "no" / "where")
    assert (done.code, done.json["error"]["code"]) == (4, "receipt")


def test_what_is_no_pack_is_a_usage_error(give, tmp_path):
    done = give("--json", pack=tmp_path / "nowhere")
    assert (done.code, done.json["error"]["code"]) == (2, "usage")


def test_another_state_folder_can_not_open_a_pack(give, tmp_path):
    done = give("--json", "--state", tmp_path / "other-state")
    assert (done.code, done.json["error"]["code"]) == (2, "other_state")


def test_of_a_changed_pack_there_is_no_receipt(give, pack, tmp_path):
    text = (pack / "rows.jsonl").read_text()
    (pack / "rows.jsonl").write_text(text.replace('"attempts":1', '"attempts":2', 1))
    done = give("--json")
    assert (done.code, done.json["error"]["code"]) == (6, "bad_pack")
    assert not (tmp_path / "receipt").exists()


def test_a_purged_run_opens_nothing_and_old_receipts_stay_good(call, give, pack, id_file, requests, tmp_path):
    assert give().code == 0
    assert call("runs", "purge", pack.name, "--confirm", f"purge {pack.name}").code == 0
    refused = give("--json", out=tmp_path / "later")
    assert (refused.code, refused.json["error"]["code"]) == (5, "purged")
    refused = call("receipt", pack, "--input", requests, "--json")
    assert (refused.code, refused.json["error"]["code"]) == (5, "purged")
    assert check(tmp_path / "receipt" / "check-receipt.sh", id_file).returncode == 0


def test_a_signed_pack_gives_a_signed_receipt(
    call, server, requests, phrase, id_file, tmp_path, monkeypatch, ssh_keygen
):
    made = call("keys", "new", tmp_path / "key", "--signer", "dpo@example.org", "--json")
    (tmp_path / "allowed").write_text(made.json["allowed_signers"] + "\n")
    monkeypatch.setenv("PRIVACY_TOOLKIT_SIGNING_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("PRIVACY_TOOLKIT_SIGNER", "dpo@example.org")
    pack = call("erase", requests, "--confirm", phrase, "--json").json["pack"]
    told = call("receipt", pack, "--id-file", id_file, "--out", tmp_path / "receipt", "--json").json
    assert told["signed"] is True
    script = tmp_path / "receipt" / "check-receipt.sh"
    for name, code in (("dpo@example.org", 0), ("somebody@example.org", 1)):
        assert check(script, id_file, tmp_path / "allowed", name).returncode == code


def test_the_input_is_opened_by_a_command_that_an_auditor_can_run(call, pack, requests):
    done = call("receipt", pack, "--input", requests, "--json")
    assert (done.code, done.out.count("\n")) == (0, 1)
    reported = json.loads((pack / "report.json").read_text())["input"]["keyed_sha256"]
    assert done.json["keyed_sha256"] == reported
    shutil.copy(requests, pack / "INPUT")
    printed = subprocess.run(["sh", "-c", done.json["command"]], cwd=pack, capture_output=True, text=True, check=True)
    assert printed.stdout.split()[-1] == reported
    assert reported in call("receipt", pack, "--input", requests).out


def test_another_input_is_refused(call, pack, tmp_path):
    (tmp_path / "other.csv").write_text("customer_id\ncustomer-00003\n")
    done = call("receipt", pack, "--input", tmp_path / "other.csv", "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "other_input")
