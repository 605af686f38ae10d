"""From a state folder to a database, by the commands of docs/scale.md."""

import os
import subprocess
import sys

import psycopg
import pytest

from tests.cli.conftest import CUSTOMERS
from tests.support import postgres


@pytest.fixture
def fresh():
    """The address of a database without any table."""
    postgres.needed()
    with psycopg.connect(postgres.shared().address("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS fresh WITH (FORCE)")
        connection.execute("CREATE DATABASE fresh")
    return postgres.shared().address("fresh")


def test_a_state_folder_moves_into_a_database_and_goes_on_there(call, server, requests, phrase, fresh, monkeypatch):
    stopped = call("erase", requests, "--confirm", phrase, "--until", "0h", "--json").json["run_id"]
    done = call("erase", requests, "--confirm", phrase, "--json").json
    before = call("runs", "list", "--json").json
    missing = call("runs", "list", "--state", fresh)
    assert missing.code == 2
    assert "privacy-toolkit state migrate" in missing.err
    assert call("state", "migrate", fresh, "--json").json["applied"][0] == "0001-first"
    assert call("state", "migrate", fresh).out == "The tables are up to date.\n"
    assert call("state", "copy", folder := _folder(), fresh, "--json").json == {"runs": 2}
    assert call("state", "copy", folder, fresh).code == 2
    assert call("runs", "resume", stopped).code == 5  # the folder is a copy now
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", fresh)
    assert call("runs", "list", "--json").json == before
    assert call("runs", "show", done["run_id"], "--json").json["outcomes"] == done["outcomes"]
    ended = call("runs", "resume", stopped, "--json")
    assert sum(ended.json["outcomes"].values()) == len(CUSTOMERS)
    assert call("verify", ended.json["pack"]).code == 0


def _folder() -> str:
    return os.environ["PRIVACY_TOOLKIT_STATE"]


def test_doctor_looks_at_the_database(call, server, fresh):
    assert "tables of the state are missing" in call("doctor", "--state", fresh).out
    call("state", "migrate", fresh)
    said = call("doctor", "--state", fresh).out
    for what in (
        "version 15",
        "fsync and full_page_writes are on",
        "no standby is synchronous",
        "this user may do what runs need, as an operator",
    ):
        assert what in said.replace("version 16", "version 15").replace("version 17", "version 15")


def test_rights_are_granted_to_a_role_that_is_there(call, fresh):
    call("state", "migrate", fresh)
    assert call("state", "grants", fresh, "--to", "no-such-role").code == 2
    with psycopg.connect(fresh, autocommit=True) as connection:
        connection.execute("DO $$ BEGIN CREATE ROLE watching LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    assert call("state", "grants", fresh, "--to", "watching", "--reading").code == 0


def test_these_commands_are_about_a_database(call, tmp_path):
    refused = call("state", "migrate")
    assert refused.code == 2
    assert "postgresql://" in refused.err


def test_a_password_in_the_address_is_refused_and_not_shown(call):
    refused = call("runs", "list", "--state", "postgresql://anna:hunter2@127.0.0.1/x")
    assert refused.code == 2
    assert "password" in refused.err
    assert "hunter2" not in refused.err + refused.out


def test_without_the_extra_it_is_said_how_to_get_it():
    code = (
        "import sys; sys.modules['psycopg'] = None; from privacy_toolkit.cli.main import main;"
        "main(['runs', 'list', '--state', 'postgresql://127.0.0.1/x'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'talonone-privacy-toolkit[cluster]'" in done.stderr
