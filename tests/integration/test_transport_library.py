"""The example in docs/library.md runs as it stands there, against the sandbox."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import privacy_toolkit
from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import SandboxSettings

PAGE = (Path(__file__).parents[2] / "docs" / "library.md").read_text("utf-8")


def test_the_example_runs():
    example = re.search(r"# Single calls.*?```python\n(.*?)```", PAGE, re.DOTALL)[1]
    with start_in_thread(SandboxSettings(seed_customers=3)) as sandbox:
        code = example.replace("http://127.0.0.1:8080", sandbox.base_url)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\d+ coupons\n", done.stdout)


@pytest.mark.parametrize("name", privacy_toolkit.__all__)
def test_the_door_has_every_name(name):
    assert getattr(privacy_toolkit, name) is not None


def test_the_door_has_no_other_name():
    with pytest.raises(AttributeError):
        _ = privacy_toolkit.Nothing
