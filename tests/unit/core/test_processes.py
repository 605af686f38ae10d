"""What a second process is given, what it gives back, and how it ends."""

import errno
import importlib.util
import os
import signal
import subprocess
import sys

import pytest

from privacy_toolkit.core import processes
from privacy_toolkit.core.processes import SecondProcess

#: A module of the package that is there in these tests only, in the first and in every second process.
PROBE = """
from __future__ import annotations
import ctypes, os, resource, threading
import msgspec

class Task(msgspec.Struct):
    data: bytes

def echo(task: Task) -> bytes:
    return task.data

def settings(task: Task) -> dict[str, str]:
    return dict(os.environ)

def limits(task: Task) -> list[int]:
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) if os.uname().sysname == "Linux" else 0
    return [*resource.getrlimit(resource.RLIMIT_CORE), dumpable, resource.getrlimit(resource.RLIMIT_AS)[0]]

def full(task: Task) -> None:
    raise OSError(28, "customer-00001")

def wrong(task: Task) -> None:
    raise ValueError("customer-00001")

def die(task: Task) -> None:
    os.kill(os.getpid(), 9)

def stay(task: Task) -> None:
    with open(task.data, "wb") as pipe:
        pipe.write(b"here\\n")
        pipe.flush()
        threading.Event().wait()

borrowed = os.getpid
"""
LOADED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("privacy_toolkit.probe", {path!r})
sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[spec.name])
"""
FIRST = """
import sys
from privacy_toolkit import probe
from privacy_toolkit.core.processes import SecondProcess
SecondProcess(probe.stay, probe.Task(sys.argv[1].encode())).result()
"""


@pytest.fixture
def probe(tmp_path, monkeypatch):
    path = tmp_path / "probe.py"
    path.write_text(PROBE)
    (tmp_path / "sitecustomize.py").write_text(LOADED.format(path=str(path)))
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.util.spec_from_file_location("privacy_toolkit.probe", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def result(function, probe, data=b"", **options):
    with SecondProcess(function, probe.Task(data), **options) as process:
        return process.result()


def test_task_and_result_are_what_was_given(probe):
    data = bytes(range(256)) * 1_000
    assert result(probe.echo, probe, data) == data


def test_settings_are_not_handed_on(probe, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "secret")
    monkeypatch.setenv("OTHER", "known")
    found = result(probe.settings, probe)
    assert found["OTHER"] == "known"
    assert not [name for name in found if name.startswith("PRIVACY_TOOLKIT_")]


def test_it_can_not_be_dumped_and_has_no_more_memory_than_it_is_given(probe):
    assert result(probe.limits, probe, memory=8 * 1024**3) == [0, 0, 0, 8 * 1024**3]


def test_an_error_of_the_system_comes_back_by_its_number_alone(probe):
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        result(probe.full, probe)
    assert (caught.value.errno, "customer" in str(caught.value)) == (errno.ENOSPC, False)


@pytest.mark.parametrize("name", ["wrong", "die"])
def test_a_process_that_died_is_an_error_that_says_nothing_else(probe, name, capfd):
    with pytest.raises(OSError, match="ended from outside") as caught:
        result(getattr(probe, name), probe)
    assert caught.value.errno == errno.ECHILD
    assert capfd.readouterr() == ("", "")


def test_it_ends_with_the_first_process_however_that_ends(probe, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", FIRST, pipe], env=environment) as first, pipe.open("rb") as told:
        assert told.readline() == b"here\n"
        first.send_signal(signal.SIGKILL)
        assert told.read() == b""  # nobody has it open any more


def test_it_is_gone_when_nobody_wants_its_result(probe, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with SecondProcess(probe.stay, probe.Task(os.fsencode(pipe))), pipe.open("rb") as told:
        assert told.readline() == b"here\n"
    with pytest.raises(OSError, match="No such device"):  # nobody reads it, and nobody is left to write
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)


@pytest.mark.parametrize(
    "name", ["os:getpid", "privacy_toolkit.probe:borrowed", "privacy_toolkit.probe:Task", "privacy_toolkit.probe:none"]
)
def test_only_functions_of_this_package_are_run(probe, name):
    with pytest.raises(ValueError, match="no function"):
        processes._found(name)
    with subprocess.Popen(
        [sys.executable, "-m", "privacy_toolkit.core.processes", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as second:
        second.stdin.write(b'{"task":{"data":""}}\n')
        second.stdin.flush()
        assert second.stdout.read() == b""
        assert b"no function of privacy-toolkit" in second.stderr.read()
        assert second.wait() == 1
