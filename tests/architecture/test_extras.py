"""Without its extras the package does everything that needs none of them."""

import subprocess
import sys

#: What only the extras bring; a program in which none of it can be imported, and then does all of this.
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"starlette", "uvicorn", "procrastinate", "psycopg", "psycopg_pool", "obstore"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from privacy_toolkit import Client, Toolkit
from privacy_toolkit.cli.main import COMMANDS, cli, main
import click
for name in COMMANDS:
    assert cli.get_command(click.Context(cli), name), name
for words in (["inspect", "ids.csv"], ["erase", "ids.csv", "--plan", "plan.json"], ["runs", "list"], ["sandbox"]):
    try:
        main([*words, "--json"])
    except SystemExit as ended:
        print(words[0], ended.code, file=sys.stderr)
"""


def test_without_extras_all_commands_load_a_plan_is_made_and_the_sandbox_says_what_it_needs(tmp_path, monkeypatch):
    (tmp_path / "ids.csv").write_text("customer_id\na\n")
    told = {"BASE_URL": "http://127.0.0.1:9", "API_KEY": "k", "STATE": str(tmp_path / "state")}
    for name, value in told.items():
        monkeypatch.setenv(f"PRIVACY_TOOLKIT_{name}", value)
    command = [sys.executable, "-c", BLOCKED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line[-2:] in {" 0", " 2"}][:4] == [
        "inspect 0",
        "erase 0",
        "runs 0",
        "sandbox 2",
    ]
    assert "[sandbox]" in done.stdout
