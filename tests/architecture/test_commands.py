"""Every command explains itself and is written about; starting the program stays cheap."""

import json
import subprocess
import sys

import click
import pytest

from privacy_toolkit.cli.main import examples
from tests.support.commands import commands, parsed

#: Libraries that cost more to import than ``--help`` may take; the commands that need them import them late.
HEAVY = {"httpx2", "jinja2", "numpy", "pandas", "pyarrow"}
#: Libraries that take a third of what a start may take, and are of no use to --help and --version.
NOT_AT_START = {"asyncio", "logging", "rich", "socket", "ssl"}

#: An input of two rows is planned, and the modules are told that were loaded for it.
PLANNED = """
import json, sys
from privacy_toolkit.cli.main import cli
cli(["erase", "ids.csv", "--plan", "plan.json", "--quiet"], standalone_mode=False)
print(json.dumps(sorted(sys.modules)))
"""

#: A pack can be made, and the libraries are told that were loaded for it; ``{ours}`` says whose process it is.
SEALING = """
import json, sys
from privacy_toolkit.core.privacy import OURS, lean_pyarrow
if {ours}:
    OURS.set()
with lean_pyarrow():
    import privacy_toolkit.evidence.pack
print(json.dumps(sorted(sys.modules)))
import numpy, pyarrow
"""


def test_commands_and_their_options_have_help():
    silent = [path for path, command in commands().items() if not (command.help or command.short_help)]
    silent += [
        f"{path} --{option.name}"
        for path, command in commands().items()
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden and not option.help
    ]
    assert silent == []


def test_commands_are_in_the_documentation(root):
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    assert [path for path in commands() if path not in text] == []


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_imports_nothing_heavy(option):
    code = (
        "import json, sys; from privacy_toolkit.cli.main import cli;"
        f"cli(['{option}'], standalone_mode=False); print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout.splitlines()[-1])) & (HEAVY | NOT_AT_START) == set()


def test_every_command_shows_examples_that_call_it_and_can_be_parsed():
    given = {f"privacy-toolkit {words}".strip(): lines for words, lines in examples().items()}
    assert given.keys() == commands().keys()
    called = [(path, line, parsed(line)) for path, lines in given.items() for line, _ in lines]
    assert [one for one in called if not f"{one[2]} ".startswith(f"{one[0]} ")] == []


def test_planning_a_few_ids_loads_no_library_for_tables_or_pages(tmp_path, monkeypatch):
    (tmp_path / "ids.csv").write_text("customer_id\na\nb\n", encoding="utf-8")
    told = {"BASE_URL": "http://127.0.0.1:9", "API_KEY": "k", "STATE": str(tmp_path / "state")}
    for name, value in told.items():
        monkeypatch.setenv(f"PRIVACY_TOOLKIT_{name}", value)
    done = subprocess.run([sys.executable, "-c", PLANNED], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert set(json.loads(done.stdout.splitlines()[-1])) & {"jinja2", "numpy", "pandas", "pyarrow"} == set()


@pytest.mark.parametrize(("ours", "loaded"), [(True, {"pyarrow"}), (False, {"numpy", "pandas", "pyarrow"})])
def test_a_pack_is_made_with_pyarrow_alone_but_in_a_script_that_may_want_arrays(ours, loaded):
    code = SEALING.format(ours=ours)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) & {"numpy", "pandas", "pyarrow"} == loaded
