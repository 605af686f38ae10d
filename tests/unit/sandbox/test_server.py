import os
import signal
import subprocess
import sys
from http.client import HTTPConnection

import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import SandboxSettings, read_log

PROGRAM = """
import sys
from pathlib import Path
from privacy_toolkit.sandbox import SandboxSettings, serve
folder = Path(sys.argv[1])
settings = SandboxSettings(database=folder / "s.sqlite", log_file=folder / "log.jsonl", seed_customers=2)
serve(settings, ready=lambda url: print(url, flush=True))
print("closed")
"""


@pytest.fixture
def program(tmp_path):
    started = []

    def start() -> tuple[subprocess.Popen, str]:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def erase(base_url, customer):
    connection = HTTPConnection(base_url.removeprefix("http://"), timeout=60)
    connection.request("DELETE", f"/v1/customer_data/{customer}", headers={"authorization": "ApiKey-v1 sandbox-key"})
    try:
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_a_signal_and_says_nothing(program, number):
    process, base_url = program()
    assert erase(base_url, "customer-00001") == 204
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (0, "closed\n", "")


def test_state_and_log_survive_a_kill(program, tmp_path):
    process, base_url = program()
    assert erase(base_url, "customer-00001") == 204
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    _, base_url = program()
    assert erase(base_url, "customer-00001") == 404
    assert [(entry.value, entry.status) for entry in read_log(tmp_path / "log.jsonl")] == [
        ("customer-00001", 204),
        ("customer-00001", 404),
    ]


def test_a_taken_port_is_told():
    with start_in_thread(SandboxSettings()) as running:
        port = int(running.base_url.rpartition(":")[2])
        with pytest.raises(UsageError, match=f"port {port}"):
            start_in_thread(SandboxSettings(port=port))


def test_stopping_twice_does_no_harm():
    running = start_in_thread(SandboxSettings())
    running.stop()
    running.stop()
    with pytest.raises(ConnectionError):
        erase(running.base_url, "c1")


def test_without_its_libraries_the_sandbox_says_what_to_install():
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from privacy_toolkit.core.model import UsageError\n"
        "try:\n    import privacy_toolkit.sandbox\nexcept UsageError as error:\n    print(error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'talonone-privacy-toolkit[sandbox]'" in done.stdout
