"""The network between the client's own connections and the simulated API: bytes with latencies, in virtual time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tests.simulation.loop import VirtualLoop

#: The most that one read of a socket brings, in bytes.
_READ = 256 * 1024
_END, _RESET = b"", None
APART = 1e-6  # seconds: what comes at the very same time has no order


class Far(Protocol):
    """The far end of a connection."""

    def received(self, data: bytes) -> None:
        """Take bytes that the client sent."""

    def hasten(self) -> None:
        """Answer a request of which only a part is there."""

    def lost(self) -> None:
        """Hear that the client is gone."""


class Weather:
    """What the network is like just now: ``latency`` is the range of one way, in seconds.

    ``cut_until``: until then nothing passes either way, ``unreachable_until``: nobody listens. ``refusing``,
    ``resetting``, ``swallowing`` and ``closing`` are shares of new connections, ``stalling`` and ``breaking`` shares of
    requests that leave in two parts, or not as a whole.
    """

    def __init__(self, latency: tuple[float, float]) -> None:
        self.latency = latency
        self.cut_until = self.unreachable_until = self.slow_until = -1.0
        self.refusing = self.resetting = self.swallowing = self.closing = 0.0
        self.stalling = self.breaking = self.splitting = self.hastening = 0.0


class Network:
    """All connections of the executions of a run, one after another."""

    def __init__(self, rng: Random, weather: Weather, note: Callable[[str], None]) -> None:
        self.rng = rng
        self.weather = weather
        self.note = note
        self.loop: VirtualLoop
        self.answerer: Callable[[Pipe], Far]
        self.struck: Callable[[str], None] = lambda _: None
        self.wrote: Callable[[], None] = lambda: None  # told when the first byte of a request leaves
        self.pipes: dict[int, Pipe] = {}
        self.is_dead = False
        #: In which context the world goes on, where that of the client may be held up; None: there is only one.
        self.world: Context | None = None
        self._count = 0

    async def connect(self, factory: Callable[[], Any]) -> tuple[Pipe, Any]:
        """Open a connection, or fail as the weather has it."""
        weather, draw = self.weather, self.rng.random()
        await asyncio.sleep(self.delay())
        if self.loop.now < weather.unreachable_until or draw < weather.refusing:
            self.struck("refused")
            raise ConnectionRefusedError
        draw -= weather.refusing
        if draw < weather.resetting:
            self.struck("connect_reset")
            raise ConnectionResetError
        draw -= weather.resetting
        if draw < weather.swallowing or self.loop.now < weather.cut_until:
            self.struck("connect_timeout")
            await self.loop.create_future()
        self._count += 1
        protocol = factory()
        pipe = self.pipes[self._count] = Pipe(self, self._count, protocol)
        pipe.far = self.answerer(pipe)
        protocol.connection_made(pipe)
        if weather.swallowing <= draw < weather.swallowing + weather.closing:
            self.struck("closed_at_once")
            pipe.send(_END)
        return pipe, protocol

    def watch(self, pipe: asyncio.Transport) -> Callable[[], object]:
        """Tell whether something on a connection is unread, or it is gone: what the system's poll would say."""
        assert isinstance(pipe, Pipe)
        return lambda: pipe.unread or pipe.number not in self.pipes

    def delay(self) -> float:
        """How long bytes take for one way now, in seconds."""
        low, high = self.weather.latency
        taken = low + (high - low) * self.rng.random()
        return taken + 5.0 * self.rng.random() if self.loop.now < self.weather.slow_until else taken

    def reset_all(self) -> None:
        """Break every connection, as when the far end is started again."""
        for pipe in list(self.pipes.values()):
            pipe.send(_RESET)


class Pipe(asyncio.Transport):
    """One connection, seen from the client; ``send`` is the far end's."""

    def __init__(self, network: Network, number: int, protocol: Any) -> None:
        super().__init__()
        self.network = network
        self.number = number
        self.far: Far
        self._protocol = protocol
        self._inbox: deque[bytes | None] = deque()
        self._closing = self._paused = self._reading_soon = False
        self._is_cut = False  # something was lost on the way: nothing that follows it arrives either
        self._under_way: deque[bytes] = deque()
        self._there_at = self._here_at = 0.0  # bytes overtake none on the same connection
        self._client = copy_context()
        self.senders: deque[int] = deque()  # the executions whose requests were written, in their order

    # What the client calls.

    def fileno(self) -> int:
        """The number of the connection, as that of its socket."""
        return self.number

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """There is a socket, and no TLS."""
        return self if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Every pause is told."""

    def is_closing(self) -> bool:
        """Whether the client is done with it, or it broke."""
        return self._closing

    def pause_reading(self) -> None:
        """Keep what comes."""
        self._paused = True

    def resume_reading(self) -> None:
        """Hand over what came."""
        self._paused = False
        self._read_soon()

    def write(self, data: Any) -> None:
        """Send bytes on their way."""
        network = self.network
        if self._closing or network.is_dead:
            return
        network.wrote()
        weather, draw = network.weather, network.rng.random()
        if draw < weather.breaking:
            network.struck("write_broken")
            self._pass(bytes(data[: len(data) // 2]))
            self._protocol.pause_writing()
            network.loop.call_later(network.delay(), self._lost, ConnectionResetError())
        elif draw < weather.breaking + weather.stalling:
            network.struck("write_stalled")
            half = network.rng.randrange(len(data))
            self._pass(bytes(data[:half]))
            self._protocol.pause_writing()
            wait = network.rng.choice((0.01, 1.0, 30.0))
            network.loop.call_later(wait, self._pass_rest, bytes(data[half:]))
        elif draw < weather.breaking + weather.stalling + weather.hastening:
            network.struck("answered_early")
            half = network.rng.randrange(len(data))
            self._pass(bytes(data[:half]))
            self._protocol.pause_writing()
            network.loop.call_later(network.delay(), self.far.hasten)
            network.loop.call_later(network.rng.choice((0.001, 0.03, 1.0)), self._pass_rest, bytes(data[half:]))
        else:
            self._pass(bytes(data))

    def close(self) -> None:
        """Close it; nothing waits to be sent."""
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        if not self._closing:
            self.network.loop.call_soon(self._lost, None)
            self._closing = True
            self._inbox.clear()

    @property
    def unread(self) -> bool:
        """Whether something came that nobody took yet: a poll sees it."""
        return bool(self._inbox)

    # What the far end calls.

    def send(self, data: bytes | None, after: float = 0.0) -> None:
        """Let bytes (b"": the end, None: a reset) come to the client, once its way and ``after`` are over."""
        network = self.network
        if network.loop.now < network.weather.cut_until:
            network.struck("partition")
            self._is_cut = self._is_cut or data is _RESET or network.rng.random() < 0.5
            after = max(after, network.weather.cut_until - network.loop.now)
        at = network.loop.now + after + network.delay()
        if self._is_cut:
            return
        self._here_at = max(self._here_at + APART, at)
        if data and len(data) > 1 and network.rng.random() < network.weather.splitting:
            network.struck("split")
            half = network.rng.randrange(1, len(data))
            network.loop.call_at(self._here_at, self._arrived, data[:half])
            self._here_at += network.delay() + APART
            data = data[half:]
        network.loop.call_at(self._here_at, self._arrived, data)

    def _pass(self, data: bytes) -> None:
        network = self.network
        if network.loop.now < network.weather.cut_until:
            network.struck("partition")
            self._is_cut = self._is_cut or network.rng.random() < 0.5
        if self._is_cut:
            return
        self._there_at = max(self._there_at + APART, network.loop.now + network.delay(), network.weather.cut_until)
        self._under_way.append(data)
        network.loop.call_at(self._there_at, self._passed, data, context=network.world)

    def _pass_rest(self, data: bytes) -> None:
        if not self._closing:
            self._pass(data)
            self._protocol.resume_writing()

    def _passed(self, data: bytes) -> None:
        del data  # what is late may all be due at once, and comes in its order all the same
        first = self._under_way.popleft()
        if not self.network.is_dead:
            self.far.received(first)

    def _arrived(self, data: bytes | None) -> None:
        if not self._closing:
            self._inbox.append(data)
            self._read_soon()

    def _read_soon(self) -> None:
        if not (self._reading_soon or self._paused or self._closing) and self._inbox:
            self._reading_soon = True
            self.network.loop.call_soon(self._read, context=self._client)

    def _read(self) -> None:
        self._reading_soon = False
        if self._closing or self._paused or not self._inbox:
            return
        first = self._inbox.popleft()
        if first is _RESET:
            self._lost(ConnectionResetError())
        elif first == _END:
            self._protocol.eof_received()
            self.abort()
        else:
            while self._inbox and self._inbox[0] and len(first) < _READ:
                first += self._inbox.popleft() or b""
            self._protocol.data_received(first)
        self._read_soon()

    def _lost(self, error: Exception | None) -> None:
        if self.network.pipes.pop(self.number, None) is not None:
            self._closing = True
            self._inbox.clear()
            self._protocol.connection_lost(error)
            if not self.network.is_dead:
                self.far.lost()
