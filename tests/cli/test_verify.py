"""Checking a pack from the command line."""

import shutil

import pytest

SIGNER = "dpo@example.org"


@pytest.fixture
def signers(call, tmp_path, monkeypatch):
    """A list of allowed signers with the key that signs from now on."""
    made = call("keys", "new", tmp_path / "signing-key", "--signer", SIGNER, "--json")
    assert made.code == 0, made.err
    monkeypatch.setenv("PRIVACY_TOOLKIT_SIGNING_KEY_FILE", str(tmp_path / "signing-key"))
    monkeypatch.setenv("PRIVACY_TOOLKIT_SIGNER", SIGNER)
    path = tmp_path / "allowed_signers"
    path.write_text(made.json["allowed_signers"] + "\n")
    return path


@pytest.fixture
def packs(tmp_path):
    """The folder of all packs."""
    return tmp_path / "state" / "packs"


@pytest.fixture
def erase(call, server, requests, phrase, packs):
    """Erases everybody on the list, and gives the pack."""

    def run():
        done = call("erase", requests, "--confirm", phrase, "--json")
        assert done.code == 0, done.err
        return packs / done.json["run_id"]

    return run


@pytest.fixture
def signed(signers, erase):
    return erase()


@pytest.fixture
def unsigned(erase):
    return erase()


def codes(done):
    """The kinds of problems that were found."""
    return {problem["code"] for problem in done.json["problems"]}


def test_a_signed_pack_is_good_and_its_signer_named(call, signed, signers):
    done = call("verify", signed, "--signers", signers)
    assert (done.code, done.err) == (0, "")
    first, second, third, *checks = done.out.splitlines()
    assert first.startswith(f"Signed by {SIGNER} with the key SHA256:")
    assert second == f"Pack of run {signed.name}, number 1 of its chain."
    assert third == "Nothing is wrong with it."
    word = checks.index("On the operator's word alone:")
    assert len(checks[:word]) == 17
    assert len(checks[word + 1 :]) == 5
    assert "FAILED" not in done.out


def test_json_is_one_object_that_says_all_of_it(call, signed, signers):
    done = call("verify", signed, "--signers", signers, "--json")
    assert done.out.count("\n") == 1
    told = done.json
    assert (told["pack"], told["run_id"], told["exit_code"]) == (str(signed), signed.name, done.code)
    assert (told["valid"], told["signed"], told["problems"]) == (True, True, [])
    assert (told["signer"]["principals"], told["signer"]["allowed"]) == ([SIGNER], True)
    assert (told["sequence"], told["previous"]) == (1, None)
    skipped = {check["name"] for check in told["checks"] if check["result"] == "skipped"}
    assert skipped == {"approval", "earlier", "chain"}
    assert {check["result"] for check in told["checks"]} == {"passed", "skipped"}


def test_nothing_but_the_pack_is_needed(call, signed, signers, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(signed, elsewhere)
    shutil.rmtree(tmp_path / "state")
    for name in ("BASE_URL", "API_KEY", "SIGNING_KEY_FILE", "SIGNER"):
        monkeypatch.delenv(f"PRIVACY_TOOLKIT_{name}")
    assert call("verify", elsewhere, "--signers", signers).code == 0
    assert not (tmp_path / "state").exists()


def test_without_a_list_nobody_vouches_for_the_key(call, signed):
    done = call("verify", signed)
    assert done.code == 0
    assert "Nobody vouches for it" in done.out.splitlines()[0]
    assert call("verify", signed, "--json").json["signer"]["allowed"] is None


def test_an_unsigned_pack_says_so_and_fails_where_signers_are_named(call, unsigned, tmp_path):
    done = call("verify", unsigned)
    assert done.code == 0
    assert done.out.startswith("This pack is not signed.")
    list_ = tmp_path / "allowed"
    made = call("keys", "new", tmp_path / "key", "--signer", SIGNER, "--json")
    list_.write_text(made.json["allowed_signers"] + "\n")
    done = call("verify", unsigned, "--signers", list_, "--json")
    assert (done.code, codes(done), done.json["signed"]) == (6, {"unsigned"}, False)


def test_a_key_that_is_not_on_the_list_is_a_problem(call, signed, tmp_path):
    made = call("keys", "new", tmp_path / "other", "--signer", "other@example.org", "--json")
    (tmp_path / "others").write_text(made.json["allowed_signers"] + "\n")
    done = call("verify", signed, "--signers", tmp_path / "others", "--json")
    assert (done.code, codes(done)) == (6, {"signer_not_allowed"})
    assert "which is NOT allowed to sign" in call("verify", signed, "--signers", tmp_path / "others").out


@pytest.mark.parametrize("file", ["rows.jsonl", "rows.parquet", "report.html", "report.json", "checkpoint.txt"])
def test_a_changed_file_is_found(call, signed, signers, file):
    data = (signed / file).read_bytes()
    (signed / file).write_bytes(data[:-2] + b" " + data[-1:])
    done = call("verify", signed, "--signers", signers, "--json")
    assert done.code == done.json["exit_code"] == 6
    assert "hash_differs" in codes(done)
    shown = call("verify", signed, "--signers", signers)
    assert shown.code == 6
    assert f"{file}: " in shown.out
    assert "FAILED" in shown.out


def test_a_missing_and_an_additional_file_are_found(call, signed, signers):
    (signed / "rows.parquet").unlink()
    (signed / "notes.txt").write_text("mine")
    done = call("verify", signed, "--signers", signers, "--json")
    assert done.code == 6
    assert {"missing", "unlisted"} <= codes(done)


def test_what_is_no_pack_is_a_problem_and_no_signature_is_judged(call, tmp_path):
    (tmp_path / "file").write_text("")
    done = call("verify", tmp_path / "file", "--json")
    assert (done.code, codes(done), done.json["run_id"]) == (6, {"not_a_pack"}, None)
    assert "signed" not in call("verify", tmp_path / "file").out


def test_of_the_folder_above_packs_it_is_said_that_one_of_them_has_to_be_named(call, signed):
    done = call("verify", signed.parent, "--json")
    assert (done.code, codes(done), done.json["checks"]) == (6, {"not_a_pack"}, [])
    assert f"such as {signed.name}: name one" in done.json["problems"][0]["message"]
    shown = call("verify", signed.parent).out
    assert "signed" not in shown
    assert "FAILED" not in shown


def test_no_check_that_failed_is_without_words(call, signed):
    for name in ("SHA256SUMS", "report.json", "rows.jsonl"):
        (signed / name).unlink()
    assert [one for one in call("verify", signed, "--json").json["checks"] if not one["message"].strip()] == []


def test_of_an_empty_folder_nothing_is_said_to_be_in_order(call, tmp_path):
    (tmp_path / "empty").mkdir()
    done = call("verify", tmp_path / "empty", "--json")
    assert done.code == 6
    assert {check["name"] for check in done.json["checks"] if check["result"] == "passed"} == set()


@pytest.mark.parametrize("option", ["pack", "--signers", "--chain"])
@pytest.mark.parametrize("text", ["", "nowhere"])
def test_a_path_that_leads_nowhere_is_a_usage_error_and_never_a_check_less(call, signed, signers, option, text):
    given = {"pack": signed, "--signers": signers, "--chain": signed.parent} | {option: text}
    done = call("verify", given.pop("pack"), *[word for pair in given.items() for word in pair], "--json")
    assert done.code == 2
    assert set(done.json) == {"error"}
    assert done.json["error"]["code"] == "usage"


@pytest.mark.parametrize("content", ["nonsense\n", "dpo@example.org ssh-ed25519 AAAA\n"])
def test_a_list_that_can_not_be_read_is_a_usage_error(call, signed, tmp_path, content):
    (tmp_path / "bad").write_text(content)
    done = call("verify", signed, "--signers", tmp_path / "bad", "--json")
    assert done.code == 2
    assert "Line 1" in done.json["error"]["message"]


def test_the_chain_is_walked_over_all_packs(call, signers, erase, packs):
    first, second, third = erase(), erase(), erase()
    done = call("verify", second, "--signers", signers, "--chain", packs, "--json")
    assert done.code == 0, done.out
    (chain,) = (check for check in done.json["checks"] if check["name"] == "chain")
    assert chain["result"] == "passed"
    assert "numbers 1 to 3" in chain["message"]
    assert done.json["sequence"] == 2
    shutil.rmtree(second)
    done = call("verify", third, "--signers", signers, "--chain", packs, "--json")
    assert (done.code, codes(done)) == (6, {"chain_gap"})
    done = call("verify", first, "--signers", signers, "--json")
    assert done.code == 0  # it does not know of the others


def test_a_pack_that_was_replaced_is_told_from_the_last_one(call, signers, erase, packs, tmp_path, monkeypatch):
    old = erase()
    kept = tmp_path / "kept" / old.name
    shutil.copytree(old, kept)
    made = call("keys", "new", tmp_path / "new-key", "--signer", SIGNER, "--json")
    with signers.open("a") as lines:
        lines.write(made.json["allowed_signers"] + "\n")
    monkeypatch.setenv("PRIVACY_TOOLKIT_SIGNING_KEY_FILE", str(tmp_path / "new-key"))
    again = call("runs", "report", old.name, "--json")
    assert again.code == 0
    done = call("verify", old, "--signers", signers, "--chain", packs, "--json")
    assert (done.code, done.json["sequence"]) == (0, 2), done.out
    done = call("verify", kept, "--signers", signers, "--chain", packs, "--json")
    assert (done.code, codes(done)) == (6, {"replayed"})


def test_a_purged_run_leaves_a_pack_that_still_verifies(call, signed, signers, packs):
    assert call("runs", "purge", signed.name, "--confirm", f"purge {signed.name}").code == 0
    assert call("verify", signed, "--signers", signers, "--chain", packs).code == 0


def test_on_failure_the_first_line_says_what_that_means(call, signed):
    (signed / "report.html").write_text("all is well")
    assert call("verify", signed).out.splitlines()[0] == "DO NOT RELY ON THIS PACK"


def test_an_approval_can_be_asked_for(call, signed):
    done = call("verify", signed, "--require-approval", "--json")
    assert (done.code, codes(done)) == (6, {"not_approved"})


def test_a_page_need_not_be_compared(call, signed):
    (signed / "report.html").write_text("all is well")
    assert codes(call("verify", signed, "--no-page", "--json")) == {"hash_differs"}


def test_what_a_system_left_there_is_named_apart(call, signed):
    (signed / ".DS_Store").write_text("x")
    done = call("verify", signed, "--json")
    assert (done.code, done.json["dropped"]) == (0, [".DS_Store"])
    assert "not covered: .DS_Store" in call("verify", signed).out
