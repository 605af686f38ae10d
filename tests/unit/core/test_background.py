"""A loop in a thread of its own: results, errors, interruptions, an end."""

import asyncio
import threading

import pytest

from privacy_toolkit.core.processes import BackgroundLoop


@pytest.fixture
def loop():
    made = BackgroundLoop()
    yield made
    made.close()


def test_results_and_errors_come_back(loop):
    async def give(value):
        await asyncio.sleep(0)
        if value is None:
            raise ValueError("none")
        return value

    assert loop.run(give(1)) == 1
    with pytest.raises(ValueError, match="none"):
        loop.run(give(None))


def test_closing_cancels_what_is_under_way_and_waits_for_it(loop):
    begun, ended = threading.Event(), []

    async def endless():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    def wait():
        with pytest.raises(BaseException):  # noqa: B017, PT011 - whichever kind of cancellation: it must not hang
            loop.run(endless())

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert begun.wait(30)
    loop.close()
    waiter.join(30)
    assert (ended, waiter.is_alive()) == (["ended"], False)


def test_it_does_not_wait_for_itself(loop):
    async def again():
        async def nothing():
            return None

        loop.run(nothing())

    with pytest.raises(RuntimeError, match="itself"):
        loop.run(again())


def test_after_closing_nothing_runs(loop):
    async def nothing():
        return None

    loop.run(nothing())
    loop.close()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run(nothing())


def test_an_interruption_of_the_waiting_thread_cancels_the_coroutine(loop, monkeypatch):
    ended = []

    async def endless():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    real = asyncio.run_coroutine_threadsafe
    interrupted = []

    class Interrupted:
        def __init__(self, future):
            self.future = future

        def result(self):
            interrupted.append(1)
            real(asyncio.sleep(0), self.future.loop).result()  # it has begun
            raise KeyboardInterrupt

        def done(self):
            return self.future.done()

        def cancel(self):
            return self.future.cancel()

    def hand(coroutine, on):
        future = real(coroutine, on)
        if interrupted:
            return future
        future.loop = on
        return Interrupted(future)

    monkeypatch.setattr("privacy_toolkit.core.processes.asyncio.run_coroutine_threadsafe", hand)
    with pytest.raises(KeyboardInterrupt):
        loop.run(endless())
    assert ended == ["ended"]
