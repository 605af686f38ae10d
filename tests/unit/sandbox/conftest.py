"""A sandbox without HTTP, and one over real connections."""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from privacy_toolkit.sandbox import RunningSandbox, start_in_thread
from privacy_toolkit.sandbox import wire as wire_form
from privacy_toolkit.sandbox.deployment import Deployment, Handled
from privacy_toolkit.sandbox.store import EntityKind, SandboxSettings, Store
from privacy_toolkit.talonone.operations import OPERATIONS

KEY = {"authorization": "ApiKey-v1 sandbox-key"}
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@dataclass
class Desk:
    """A deployment that tests call by operation name."""

    deployment: Deployment
    store: Store

    def call(self, operation: str, value: str = "", body=None, headers=None, **flags: str) -> Handled:
        encoded = b"" if body is None else json.dumps(body).encode()
        call = self.deployment.read(OPERATIONS[operation], value, flags, KEY | (headers or {}), encoded)
        return self.deployment.act(call)

    def ask(self, operation: str, value: str = "", body=None, **flags: str):
        result = self.call(operation, value, body, **flags)
        return json.loads(result.body) if result.body else None

    def customer(self, customer: str, **attributes: object) -> None:
        made = wire_form.profile(self.store.number(), customer, wire_form.timestamp(NOON), attributes)
        with self.store.transaction():
            self.store.put(EntityKind.PROFILE, customer, made)

    def coupon(self, value: str, recipient: str | None = None) -> None:
        made = wire_form.coupon(self.store.number(), value, wire_form.timestamp(NOON), recipient)
        made["attributes"] = {} if recipient is None else {"Greeting": "x"}
        with self.store.transaction():
            self.store.put(EntityKind.COUPON, value, made, owner=recipient)


@pytest.fixture
def desk() -> Iterator[Callable[..., Desk]]:
    with ExitStack() as stack:

        def open_desk(**settings: object) -> Desk:
            made = SandboxSettings(**settings)
            store = Store(made.database, made.environment)
            stack.callback(store.close)
            return Desk(Deployment(made, store, lambda: NOON), store)

        yield open_desk


@dataclass
class Line:
    """A running sandbox and plain requests to it; each takes its own connection and its path as it is written."""

    sandbox: RunningSandbox

    def send(self, method: str, path: str, body: bytes | None = None, headers=KEY, timeout: float = 10):
        port = int(self.sandbox.base_url.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    @property
    def logged(self) -> list[tuple]:
        return [(entry.operation, entry.value, entry.status, entry.acted, entry.outcome) for entry in self.sandbox.log]


@pytest.fixture
def line() -> Iterator[Callable[..., Line]]:
    with ExitStack() as stack:
        yield lambda **settings: Line(stack.enter_context(start_in_thread(SandboxSettings(**settings))))
