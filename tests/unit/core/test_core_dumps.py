"""No process that holds ids or keys leaves them in a core dump."""

import ctypes
import os
import resource
import signal
import subprocess
import sys

import pytest

from privacy_toolkit.core import privacy as dumps

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
#: What a process says of itself: its limit, and whether the system may dump it (PR_GET_DUMPABLE is 3).
SAY = "import ctypes, resource; print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
#: A process may have been allowed to dump; second processes are started by one that may no longer.
ALLOW = "import resource as r; r.setrlimit(r.RLIMIT_CORE, (r.getrlimit(r.RLIMIT_CORE)[1],) * 2);"

#: A second process, up to where it would read its task.
SECOND = "import privacy_toolkit.core.processes as m; m.msgspec = SAID; m.main('{}')"

STARTS = {
    "the command line": "import privacy_toolkit.cli.main as m; m._run = lambda *_: SAID() or 0; m.main(['--help'])",
    "the process that makes rows": SECOND.format("privacy_toolkit.evidence.pack:scatter_apart"),
    "the process that compares": SECOND.format("privacy_toolkit.evidence.verify.rows:compare"),
}
#: Called, or asked for anything, it says how the process stands and ends it.
SAID = f"""
class Said:
    def __call__(self):
        {SAY}
        raise SystemExit
    def __getattr__(self, name):
        self()
SAID = Said()
"""


@LINUX
@pytest.mark.parametrize("what", STARTS)
def test_no_process_of_ours_can_be_dumped(what):
    code = f"{ALLOW}{SAID}\n{STARTS[what]}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    assert done.stdout == "(0, 0) 0\n"


@LINUX
def test_a_killed_process_says_that_it_was_not_dumped():
    code = f"{ALLOW} import os; from privacy_toolkit.core.privacy import forbid_core_dumps as f; f(); os.abort()"
    process = subprocess.Popen([sys.executable, "-c", code])
    _, status = os.waitpid(process.pid, 0)
    process.returncode = 0
    assert (os.WTERMSIG(status), os.WCOREDUMP(status)) == (signal.SIGABRT, False)


def test_a_system_that_refuses_is_no_error(monkeypatch):
    def refuse(*_):
        raise ValueError

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    dumps.forbid_core_dumps()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    dumps.forbid_core_dumps()


@LINUX
def test_standard_input_can_still_be_opened_by_its_name(tmp_path):
    (tmp_path / "x").write_text("read")
    code = "from privacy_toolkit.core.privacy import forbid_core_dumps as f; f(); print(open('/dev/stdin').read())"
    with (tmp_path / "x").open() as file:
        done = subprocess.run([sys.executable, "-c", code], stdin=file, capture_output=True, text=True, check=True)
    assert done.stdout == "read\n"
