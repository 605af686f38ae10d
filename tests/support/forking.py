"""Commands in processes of their own that don't import everything first: forked off one process that has.

Starting Python and importing the toolkit takes longer than most commands that tests call. ``Nursery`` starts a process
that imports, and does nothing else; each command is a fork of it. It has a process id, files and an end of its own, can
be killed at any moment, and leaves to the operating system what any killed process does. What is said of the start
itself (arguments in the list of processes, limits, ``python -m``) needs ``subprocess``.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading

import privacy_toolkit
from tests.support.commands import Done

LONGEST = 1 << 18  # bytes of a command with its environment


class Nursery:
    """The process that commands are forked off; ends with anyone who has it, at the latest."""

    def __init__(self):
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LONGEST)
        command = [sys.executable, "-m", "tests.support.forking", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()

    def start(self, arguments, environment, folder):
        """Start a command without a terminal."""
        said, told, ended = os.pipe(), os.pipe(), os.pipe()
        message = json.dumps([arguments, environment, str(folder)]).encode()
        socket.send_fds(self._socket, [message], [said[1], told[1], ended[1]])
        for _, written in (said, told, ended):
            os.close(written)
        return Forked(said[0], told[0], ended[0])

    def close(self):
        """End it; commands that run go on."""
        self._socket.close()
        self._process.wait()


class Forked:
    """A command that was started, used as a ``subprocess.Popen`` with text is."""

    def __init__(self, said, told, ended):
        self.returncode = None
        self.stdout, self.stderr = os.fdopen(said, encoding="utf-8"), os.fdopen(told, encoding="utf-8")
        self._ended = os.fdopen(ended, "rb", buffering=0)
        self.pid = int.from_bytes(self._ended.read(8), "big")
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self):
        self.returncode = int.from_bytes(self._ended.read(8), "big", signed=True)
        self._ended.close()

    def poll(self):
        """The exit code; None as long as it runs."""
        return self.returncode

    def send_signal(self, number):
        """Send a signal if it runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self):
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout=None):
        """Wait for its end; what it wrote to stdout and stderr."""
        said = {}
        streams = {"out": self.stdout, "err": self.stderr}
        readers = [
            threading.Thread(target=lambda n=name, s=stream: said.update({n: s.read()}), daemon=True)
            for name, stream in streams.items()
        ]
        for reader in readers:
            reader.start()
        for thread in (*readers, self._watcher):
            thread.join(timeout)
            if thread.is_alive():
                self.kill()
                raise subprocess.TimeoutExpired("a forked command", timeout)
        for stream in streams.values():
            stream.close()
        return said["out"], said["err"]

    def done(self, timeout):
        """Wait for its end, and what came of it."""
        out, err = self.communicate(timeout)
        return Done(self.returncode, out, err)


def serve(descriptor):
    """Fork a command for every message, until nobody can send one any more."""
    orders = socket.socket(fileno=descriptor)
    for module in pkgutil.walk_packages(privacy_toolkit.__path__, "privacy_toolkit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, LONGEST, 3)
        if not message:
            return
        if os.fork() == 0:
            orders.close()
            watch(json.loads(message), *descriptors)
        for each in descriptors:
            os.close(each)


def watch(order, out, err, ended):
    """Fork the command, say its process id, and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        os.close(ended)
        run(order, out, err)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for each in (0, 1, 2, out, err):
        os.close(each)
    os.write(ended, child.to_bytes(8, "big"))
    _, status = os.waitpid(child, 0)
    os.write(ended, os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
    os._exit(0)


def run(order, out, err):
    """Be the command."""
    arguments, environment, folder = order
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["privacy-toolkit", *arguments]
    importlib.import_module("privacy_toolkit.cli.main").main()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
