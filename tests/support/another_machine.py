"""Another machine, as near to it as this one allows: a network, a host name, a home and clocks of its own.

Nothing of this machine's network is there. What leads out are sockets in a folder, behind the ports that they are for.
"""

import asyncio
import fcntl
import json
import socket
import struct
import subprocess
import sys
import threading

from tests.support import cluster, cluster_worker

NAME = "elsewhere"
#: A day more has passed since it was started.
_APART = (
    "--user",
    "--map-root-user",
    "--net",
    "--uts",
    "--time",
    "--boottime",
    "90000",
    "--monotonic",
    "90000",
    "--fork",
)
PROGRAM = ("unshare", *_APART, sys.executable, "-m", "tests.support.another_machine")
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1


def is_possible():
    """Whether this machine allows it."""
    try:
        return not subprocess.run(["unshare", *_APART, "true"], check=False, capture_output=True).returncode
    except OSError:
        return False


def _use_loopback():
    with socket.socket() as any_socket:
        _, flags = struct.unpack("16sh", fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack("16sh", b"lo", 0)))
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh", b"lo", flags | _UP))


def _lead_out(ports):
    loop = asyncio.new_event_loop()
    for port, path in ports.items():
        loop.run_until_complete(cluster.Proxy(path).listen(int(port)))
    threading.Thread(target=loop.run_forever, daemon=True).start()


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    socket.sethostname(NAME)
    _use_loopback()
    _lead_out(task["ports"])
    cluster_worker.main(task)
