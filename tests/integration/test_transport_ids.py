"""Any id that is accepted reaches the server byte for byte, decoded once, and addresses nothing else."""

import asyncio
import socket
import threading
from urllib.parse import unquote_to_bytes

from hypothesis import example, given, settings
from hypothesis import strategies as st

from privacy_toolkit.talonone.addresses import Credentials
from privacy_toolkit.talonone.client import Client
from privacy_toolkit.talonone.operations import OPERATIONS

ERASE, READ, HOLDERS = (
    OPERATIONS[name] for name in ("delete_customer_data", "get_customer_inventory", "get_reserved_customers")
)
IDS = st.one_of(
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=60),
    st.text("./%\\?#&+;:@ aA0~é\u202e", min_size=1, max_size=12),
).filter(lambda text: text not in {".", ".."})


def targets_of(calls):
    """The methods and targets that arrive for these calls, which all use one connection."""
    arrived = []

    def serve():
        accepted = listener.accept()[0]
        with accepted, accepted.makefile("rb") as lines:
            for line in lines:
                if line.startswith((b"GET ", b"DELETE ")):
                    arrived.append(tuple(line.split(b" ")[:2]))
                elif line == b"\r\n":
                    accepted.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")

    async def work():
        async with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", Credentials(api_key="k")) as client:
            for operation, value in calls:
                await client.exchange(operation, value)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        asyncio.run(work())
        thread.join()
    return arrived


@settings(max_examples=25)
@given(st.lists(IDS, min_size=1, max_size=30))
@example(["%2E%2E", "%2e", "...", "a/../b", "//", "/", "a%2Fb", "%", "%%", "?", "#", "\\", " ", "x" * 1000, "🦄" * 250])
@example(["00123", "1e5", "NA", "null", "True", "Zo\u00eb", "Zoe\u0308", "customerprofiles", "İ", "\ufeffa"])
def test_ids_arrive_as_they_are(ids):
    calls = [(operation, id_) for id_ in ids for operation in (ERASE, READ, HOLDERS)]
    arrived = targets_of(calls)
    assert len(arrived) == len(calls)
    for (operation, id_), (method, target) in zip(calls, arrived, strict=True):
        path, _, query = target.partition(b"?")
        before, after = operation.path.encode().split(b"{" + operation.parameter.encode() + b"}")
        segment = path.removeprefix(before).removesuffix(after)
        assert method.decode() == operation.method
        assert before + segment + after == path
        assert b"/" not in segment
        assert unquote_to_bytes(segment) == id_.encode()
        assert query.startswith(b"profile=true") == (operation is READ)
