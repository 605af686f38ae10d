"""Without its extras the package does everything that needs none of them."""

import json
import os
import subprocess
import sys

import pytest

from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.sandbox.wire import seed

#: What only the extras bring.
MODULES = "starlette uvicorn procrastinate psycopg psycopg_pool croniter obstore"
#: A program in which none of it can be imported, and that then does what it is told, line by line.
BLOCKED = """
import json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from privacy_toolkit import Client, Toolkit
from privacy_toolkit.cli.main import COMMANDS, cli, main
import click
for name in COMMANDS:
    assert cli.get_command(click.Context(cli), name), name
for words in json.load(sys.stdin):
    try:
        main([*words, "--json"])
    except SystemExit as ended:
        print(json.dumps({"exit": ended.code}), flush=True)
"""


@pytest.fixture
def told(tmp_path):
    """Runs commands one after the other in a process without the extras: the exit code and the object of each."""

    def run(*lines, **settings):
        given = {f"PRIVACY_TOOLKIT_{name}": value for name, value in settings.items()}
        done = subprocess.run(
            [sys.executable, "-c", BLOCKED, MODULES],
            input=json.dumps(lines),
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"PRIVACY_TOOLKIT_API_KEY": "sandbox-key"} | given,
        )
        assert done.returncode == 0, done.stderr
        said = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(said) == 2 * len(lines), done.stdout
        return [(ended["exit"], value) for value, ended in zip(said[::2], said[1::2], strict=True)]

    return run


def test_without_extras_a_run_goes_from_its_plan_to_a_pack_that_verifies(told, tmp_path):
    (tmp_path / "ids.csv").write_text("customer_id\na\nb\nunknown\n")
    (tmp_path / "c.toml").write_text("[profiles.default]\ngrace = 0\n")
    (tmp_path / "c.toml").chmod(0o600)
    with start_in_thread(SandboxSettings()) as running:
        seed(running.store, 2, ids=["a", "b"])
        phrase = f"erase 3 from {running.base_url.removeprefix('http://')}"
        ended = told(
            ["keys", "new", "signing-key", "--signer", "dpo@example.org"],
            ["inspect", "ids.csv"],
            ["doctor"],
            ["erase", "ids.csv", "--plan", "plan.json"],
            ["apply", "plan.json", "--confirm", phrase, "--pack", "pack"],
            ["runs", "show", "latest"],
            ["runs", "report", "latest"],
            ["verify", "pack"],
            ["due"],
            ["export", "ids.csv", "--out", "access"],
            BASE_URL=running.base_url,
            CONFIG="c.toml",
        )
    assert [code for code, _ in ended] == [0] * len(ended), ended
    assert ended[4][1]["outcomes"] == {"erased": 2, "nothing_held": 1}
    assert (tmp_path / "pack" / "report.html").stat().st_size > 10_000


DATABASE = "postgresql://db.example.org/toolkit"
#: What needs an extra, and which.
NEEDS = {
    "sandbox": (["sandbox"], ["demo", "--out", "demo"]),
    "cluster": (["runs", "list", "--state", DATABASE], ["worker", "--state", DATABASE]),
    "objects": (["export", "ids.csv", "--out", "s3://bucket/access", "--zip"],),
}


def test_what_needs_an_extra_is_refused_in_one_sentence_that_names_it(told, tmp_path):
    (tmp_path / "ids.csv").write_text("customer_id\na\n")
    lines = [(extra, words) for extra, commands in NEEDS.items() for words in commands]
    ended = told(*(words for _, words in lines), BASE_URL="http://127.0.0.1:9")
    for (extra, words), (code, said) in zip(lines, ended, strict=True):
        assert code == 2, words
        assert f"[{extra}]" in said["error"]["message"] + said["error"]["hint"], words
        assert f"pip install 'talonone-privacy-toolkit[{extra}]'" in said["error"]["hint"], words
