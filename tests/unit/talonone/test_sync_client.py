"""The client for code that is not asynchronous: the same declarations, waited for."""

import asyncio
import inspect
import os
import pickle
import threading

import httpx2
import pytest

from privacy_toolkit import Client, Credentials, SyncClient
from privacy_toolkit.core.model import ApiError, UsageError
from privacy_toolkit.talonone.client import Calls
from privacy_toolkit.talonone.operations import OPERATIONS

HELD = b'{"profile":{"integrationId":"c"},"coupons":[]}'


def answering(status=204, body=b"", seen=None):
    def answer(request):
        if seen is not None:
            seen.append((request.method, request.url.raw_path.partition(b"?")[0]))
        return httpx2.Response(status, content=body)

    return httpx2.MockTransport(answer)


def client(**options):
    return SyncClient("https://acme.talon.one", Credentials(api_key="key"), transport=answering(**options))


def test_every_operation_has_its_waiting_twin_with_the_same_signature():
    for name in OPERATIONS:
        twin, original = getattr(SyncClient, name), getattr(Calls, name)
        assert inspect.signature(twin) == inspect.signature(original)
        assert twin.__doc__ == original.__doc__
        assert not inspect.iscoroutinefunction(twin)


def test_a_call_waits_for_its_answer():
    seen = []
    with client(seen=seen) as api:
        api.delete_customer_data("a b")
    assert seen == [("DELETE", b"/v1/customer_data/a%20b")]


def test_what_came_of_a_call_is_handed_back_in_full():
    with client(body=HELD, status=200) as api:
        came = api.exchange(OPERATIONS["get_customer_inventory"], "c")
    assert (came.status, came.body) == (200, HELD)


def test_what_is_raised_is_raised_where_it_was_called():
    with client(status=500) as api:
        with pytest.raises(ApiError) as raised:
            api.delete_customer_data("c")
        assert raised.value.code == "server_error"
        with pytest.raises(UsageError):
            api.delete_customer_data("..")


def test_it_works_inside_a_running_event_loop():
    async def cell():
        with client() as api:
            api.delete_customer_data("c")
        return "done"

    assert asyncio.run(cell()) == "done"


def test_several_threads_share_one_client():
    seen = []
    with client(seen=seen) as api:
        threads = [threading.Thread(target=api.delete_customer_data, args=(f"c{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(path for _, path in seen) == [b"/v1/customer_data/c%d" % n for n in range(8)]


def test_in_a_forked_process_it_says_so_instead_of_waiting_for_ever(monkeypatch):
    seen, here = [], os.getpid()
    with client(seen=seen) as api:
        with monkeypatch.context() as patch:  # as in a child, which has this object, and not its thread
            patch.setattr(os, "getpid", lambda: here + 1)
            with pytest.raises(RuntimeError, match="another process"):
                api.delete_customer_data("c")
        assert seen == []
        api.delete_customer_data("c")


def test_it_is_not_copied_to_other_processes_and_says_what_to_do():
    with pytest.raises(TypeError, match="make one in each process"):
        pickle.dumps(client())


def test_after_its_end_nothing_is_sent_and_no_thread_is_left():
    seen = []
    with client(seen=seen) as api:
        api.delete_customer_data("c")
    with pytest.raises(RuntimeError):
        api.delete_customer_data("d")
    assert len(seen) == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "privacy-toolkit"]


def test_wrong_settings_start_no_thread():
    with pytest.raises(UsageError):
        SyncClient("ftp://acme.talon.one", Credentials(api_key="key"))
    assert not [thread for thread in threading.enumerate() if thread.name == "privacy-toolkit"]


def test_it_takes_what_the_other_client_takes():
    with SyncClient("https://acme.talon.one", Credentials(api_key="key"), max_connections=2) as api:
        assert isinstance(api.client, Client)
