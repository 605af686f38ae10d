"""Routes for tests and demonstrations, under ``/__sandbox__/``: look at the state and the log, reset, seed.

They take no credentials: the server listens on the loopback address alone.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from privacy_toolkit.sandbox.requestlog import RequestLog
from privacy_toolkit.sandbox.seeding import seed
from privacy_toolkit.sandbox.store import Store


class SeedOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST seed: how many customers, and optionally their ids."""

    count: int
    rng_seed: int = 0
    ids: list[str] | None = None


def admin_app(store: Store, log: RequestLog) -> Starlette:
    """GET state, GET log, POST reset, POST seed."""

    async def show_state(_: Request) -> Response:
        return _json({"totals": store.totals(), "requests": len(log)})

    async def show_log(_: Request) -> Response:
        return _json(list(log))

    async def reset(_: Request) -> Response:
        store.reset()
        log.clear()
        return _json({"totals": store.totals()})

    async def sow(request: Request) -> Response:
        try:
            order = msgspec.json.decode(await request.body(), type=SeedOrder)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _json({"message": str(error)}, 400)
        seed(store, order.count, rng_seed=order.rng_seed, ids=order.ids)
        return _json({"totals": store.totals()})

    return Starlette(
        routes=[
            Route("/__sandbox__/state", show_state, methods=["GET"]),
            Route("/__sandbox__/log", show_log, methods=["GET"]),
            Route("/__sandbox__/reset", reset, methods=["POST"]),
            Route("/__sandbox__/seed", sow, methods=["POST"]),
        ]
    )


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
