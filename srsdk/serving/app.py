"""HTTP service of one process, as an ASGI application for any server.

uvicorn --factory srsdk.serving.app:make_app

POST /            upscale the picture file in the body; the result is a PNG or the first
                  supported format of `Accept`: image/png, image/jpeg, image/webp
GET  /healthz     200 if a test picture can be upscaled, otherwise 503
GET  /info        metadata of the model
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Future
from typing import Any, TypeAlias

import numpy as np

import srsdk
from srsdk.errors import SrsdkError
from srsdk.serving.answers import TIMEOUT_S, Pictures, default_budget
from srsdk.serving.asgi import (
    Answer,
    Disconnected,
    Receive,
    Refused,
    Scope,
    Send,
    json_answer,
    refusal,
    send_answer,
)
from srsdk.serving.bodies import Incoming
from srsdk.serving.guard import Rules
from srsdk.system.threads import started_pool

MAX_ONGOING = 32
"""Requests in work in one process; more are refused with 503, which bounds memory for bodies."""

Work: TypeAlias = tuple[bytes, dict[str, str], threading.Event]
"""Body, headers, and what is set when the client has gone."""
GONE = refusal(499, "the client has disconnected")


class Service:
    """The requests of one Upscaler.

    Args:
        up: the Upscaler; `close` closes it.
        hosts: see `make_app`.
        origins: see `make_app`.
        submit: how a picture gets its answer; None: in a thread of a pool.

    Raises:
        SrsdkError: the first picture cannot be upscaled, or no thread can be started.
    """

    def __init__(
        self,
        up: Any,
        *,
        hosts: Collection[str] | None = None,
        origins: Collection[str] = (),
        submit: Callable[[Work], Awaitable[Answer]] | None = None,
    ) -> None:
        self._up, self._pictures = up, Pictures(up)
        self._submit = submit or self.work
        self._rules = Rules(hosts=hosts, origins=origins)
        self._ongoing = 0
        self.check_health()
        # all threads at once, so that none waits for a thread beyond its deadline
        self._pool = started_pool(MAX_ONGOING, "srsdk-serving")

    def close(self) -> None:
        """Finish the pictures in work and close the Upscaler."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._up.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of an ASGI server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send_answer(send, await self.respond(scope, receive))

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def respond(self, scope: Scope, receive: Receive) -> Answer:
        """Return the answer to one request."""
        refused = self._rules.check(scope)
        if refused is not None:
            return refused
        path = scope["path"].rstrip("/")
        if path.endswith("/healthz"):
            return await self._health()
        if path.endswith("/info"):
            return json_answer(self._up.manifest.to_dict())
        if scope["method"] != "POST":
            return refusal(405, "POST a picture file", allow="POST")
        if self._ongoing >= MAX_ONGOING:
            sentence = f"{MAX_ONGOING} pictures are in work; try again later"
            return refusal(503, sentence, retry_after="1", connection="close")
        self._ongoing += 1
        try:
            return await self._picture(scope, receive)
        finally:
            self._ongoing -= 1

    async def _picture(self, scope: Scope, receive: Receive) -> Answer:
        try:
            incoming = Incoming(scope, receive)
            body = await incoming.read()
        except Refused as refused:
            return refused.answer
        except Disconnected:
            return GONE
        names = ("accept", "content-type")
        headers = {
            key.decode("latin-1").lower(): value.decode("latin-1")
            for key, value in scope["headers"]
            if key.decode("latin-1").lower() in names
        }
        gone = threading.Event()
        watch = asyncio.ensure_future(_wait_for_disconnect(incoming, gone))
        try:
            return await self._submit((body, headers, gone))
        finally:
            # on success nobody reads the event; on cancellation the thread does, and stops
            gone.set()
            watch.cancel()

    async def work(self, work: Work) -> Answer:
        """Answer in a thread of the pool."""
        found: Future[Answer] = self._pool.submit(self._pictures.answer, *work)
        return await asyncio.wrap_future(found)

    async def _health(self) -> Answer:
        try:
            await asyncio.to_thread(self.check_health)
        except SrsdkError as error:
            return refusal(503, str(error))
        return json_answer({"model": self._up.manifest.name, "backend": self._up.backend})

    def check_health(self) -> None:
        """Upscale a small picture.

        Raises:
            SrsdkError: upscaling failed.
        """
        self._up(np.full((16, 16, 3), 128, np.uint8), timeout=TIMEOUT_S)


async def _wait_for_disconnect(receive: Receive, gone: threading.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


def make_app(
    model: str | os.PathLike[str] = "gan_x4",
    *,
    hosts: Collection[str] | None = None,
    origins: Collection[str] = (),
    **options: Any,
) -> Service:
    """Build the ASGI application; it closes its Upscaler when the server shuts down.

    Args:
        model: as for `Upscaler`.
        hosts: names in the `Host` header that are served, with `:PORT` or for any port; None: all,
            for a server behind a proxy that checks them.
        origins: web pages of other hosts that may use the service, such as `https://example.com`;
            requests from all others are refused.
        options: passed to `Upscaler`; `budget` replaces the limits on pictures.

    Raises:
        SrsdkError: as for `Upscaler`.
    """
    up = srsdk.Upscaler(model, **open_options(options))
    try:
        return Service(up, hosts=hosts, origins=origins)
    except SrsdkError:
        up.close()
        raise


def open_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a service's Upscaler."""
    return {"optimize": "throughput", "budget": default_budget(), **options}
