"""Running things elsewhere: a thread, a second process, an event loop in a thread of its own; and the clock for all."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import inspect
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError
from threading import Thread
from typing import IO, Any, Final, Generic, Protocol, Self, TypeVar, get_type_hints

import msgspec

from privacy_toolkit.core.privacy import OURS, forbid_core_dumps, lean_pyarrow


def since_boot() -> float:
    """Read a clock, in seconds, that goes on while the machine is suspended, where the system has one."""
    return time.clock_gettime(_BOOT_CLOCK)


#: Else a clock that stands still while the machine sleeps: a lease seems to last longer then, and only the drain helps.
_BOOT_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC))


# An event loop in a thread of its own: what is asynchronous, for callers that are not, or whose own loop is busy.

R = TypeVar("R")


class Aside(Protocol):
    """Does what would hold up an event loop somewhere else, such as in another thread."""

    def __call__(self, work: Callable[[], R], /) -> asyncio.Future[R]:
        """Begin ``work`` at once, and return its future."""


def in_thread(work: Callable[[], R], /) -> asyncio.Future[R]:
    """Do ``work`` in a thread of the running event loop's own executor."""
    return asyncio.get_running_loop().run_in_executor(None, work)


def wake_all(waiting: Iterable[asyncio.Future[None]], error: Exception | None) -> None:
    """Tell everyone who still waits that it is durable, or why it is not; in the event loop."""
    for durable in waiting:
        if durable.done():
            continue
        if error is None:
            durable.set_result(None)
        else:
            durable.set_exception(error)


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
        self._process = os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine to its end and return its result, or raise what it raised.

        An interruption of the waiting thread (Ctrl-C) cancels the coroutine, and is raised once that has ended.

        Raises:
            RuntimeError: the loop was closed or is another process's, or the call comes from the loop's own thread.
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
        if self._process != os.getpid():  # a fork has no threads but the one that forked: the lock may be held for ever
            raise RuntimeError("It was made in another process: make one in each.")
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


# Second processes: a function of ours that works in a Python of its own, with a task and a result in JSON.
#
# Such a process is a program of its own and not one of ``multiprocessing``: that would load the caller's main module
# once
# more, and what a script of an analyst does there must not be done twice. It gets one line on its standard input,
# can't
# be dumped, and ends with the first process, however that ends: its standard input is then closed.

T = TypeVar("T", bound=msgspec.Struct)

_SETTINGS: Final = "PRIVACY_TOOLKIT_"
_NAME: Final = re.compile(r"(privacy_toolkit(?:\.\w+)*):(\w+)", re.ASCII)
_STDIN: Final = 0
_LEFT_ALONE: Final = 1  # exit status


class _Order(msgspec.Struct, frozen=True):
    task: msgspec.Raw
    memory: int | None = None


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    """``error`` is the number of the system's error (``errno``), None if there is a result."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: int | None = None


class SecondProcess(Generic[R]):
    """A function at work in a second process, which is gone when the block ends.

    Args:
        function: a function of a module of this package, whose one parameter is a ``msgspec.Struct``.
        task: what it is called with.
        memory: how many bytes of address space it may have; None: as many as this process.

    Raises:
        OSError: it can't be started.
    """

    def __init__(self, function: Callable[[T], R], task: T, *, memory: int | None = None) -> None:
        name = f"{function.__module__}:{function.__qualname__}"
        _found(name)
        self._type = get_type_hints(function)["return"]
        self._process = subprocess.Popen(  # noqa: S603 - our own module, by this very Python
            [sys.executable, "-P", "-m", __name__, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a message of a library could hold what is in a file
            env=environment() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is for the first process; it ends this one
        )
        order = _Order(msgspec.Raw(msgspec.json.encode(task)), memory)
        with contextlib.suppress(BrokenPipeError):  # it has died, which is said when it is waited for
            _pipe(self._process.stdin).write(msgspec.json.encode(order) + b"\n")
            _pipe(self._process.stdin).flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):  # of a task that it did not live to read
                _pipe(pipe).close()

    def result(self) -> R:
        """Wait until it has done its task; what the function returned.

        Raises:
            OSError: the function raised one with this number, or the process died.
        """
        try:
            reply = msgspec.json.decode(_pipe(self._process.stdout).read(), type=_Reply)
        except msgspec.DecodeError:
            raise OSError(errno.ECHILD, "a part of the work was ended from outside") from None
        if reply.error is not None:
            raise OSError(reply.error, os.strerror(reply.error))
        result: R = msgspec.json.decode(reply.result, type=self._type)
        return result


def environment() -> dict[str, str]:
    """Give the variables that another process may have: those of this one without our settings, which may hold keys."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}


def can_start() -> bool:
    """Whether there is a Python to run a second process with: not so in a program that was frozen into one file."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def main(name: str) -> None:
    """Be the second process: do the task that standard input gives, and say on standard output how it went.

    Any error but one of the system ends it without a reply.

    Raises:
        ValueError: ``name`` is no function of this package.
    """
    forbid_core_dumps()
    OURS.set()
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=_Order)
    Thread(target=_end_with_the_first, daemon=True).start()
    if order.memory is not None:
        _limit(order.memory)
    try:
        reply = _Reply(result=msgspec.Raw(msgspec.json.encode(_done(name, order.task))))
    except OSError as failed:
        reply = _Reply(error=failed.errno or 0)
    sys.stdout.buffer.write(msgspec.json.encode(reply))


def _done(name: str, task: msgspec.Raw) -> Any:
    function = _found(name)
    (parameter,) = inspect.signature(function).parameters
    return function(msgspec.json.decode(task, type=get_type_hints(function)[parameter]))


def _found(name: str) -> Callable[[Any], Any]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError("this is no function of privacy-toolkit")
    with lean_pyarrow():
        module = importlib.import_module(match[1])
    function = getattr(module, match[2], None)
    if not inspect.isfunction(function) or function.__module__ != match[1]:
        raise ValueError("this is no function of privacy-toolkit")
    return function


def _limit(memory: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # some systems know no such limit, or have a lower one
        import resource  # noqa: PLC0415 - not on every system

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _end_with_the_first() -> None:
    """Nothing more is ever written to standard input: it is closed when the first process ends, or wants no more."""
    os.read(_STDIN, 1)
    os._exit(_LEFT_ALONE)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process was started without its pipes")
    return pipe


if __name__ == "__main__":
    main(sys.argv[1])
