"""An event loop in a thread of its own: what is asynchronous, for callers that are not, or whose own loop is busy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

R = TypeVar("R")


class BackgroundLoop:
    """Runs coroutines one by one or side by side, and waits for each; works inside a running event loop, too.

    The thread is started with the first coroutine and ends with ``close``. It is a daemon: a program that forgets to
    close is not kept from ending.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine to its end and return its result, or raise what it raised.

        An interruption of the waiting thread (Ctrl-C) cancels the coroutine, and is raised once that has ended.

        Raises:
            RuntimeError: the loop was closed, or the call comes from the loop's own thread.
        """
        try:
            loop = self._started()
        except RuntimeError:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                self._settle(loop)
            raise

    def close(self) -> None:
        """Cancel what is under way, end the thread, and wait for it."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise RuntimeError("It is closed.")
            if self._thread is threading.current_thread():
                raise RuntimeError("It would wait for itself.")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="privacy-toolkit", daemon=True)
                self._thread.start()
            return self._loop

    @staticmethod
    def _settle(loop: asyncio.AbstractEventLoop) -> None:
        """Wait until what was cancelled has ended: two turns of the loop after the cancellation was delivered."""
        for _ in range(2):
            try:
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
            except (CancelledError, RuntimeError):
                return


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
