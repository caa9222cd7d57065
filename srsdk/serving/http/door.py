"""What every request passes first and last: rules, room, counts and the access log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection

from srsdk.serving.asgi import Answer, App, Message, Receive, Scope, Send, send_answer
from srsdk.serving.guard import Rules
from srsdk.serving.http.metrics import Metrics
from srsdk.serving.service import Service
from srsdk.system.text import plain

log = logging.getLogger("srsdk.access")
ROUTES = ("healthz", "readyz", "info", "metrics", "docs", "openapi.json")
"""Routes that have a row of their own in the metrics, besides pictures."""
PROBES = ("healthz", "readyz")
"""Asked by the address of a container rather than by a name."""
QUIET = (*PROBES, "metrics")
"""Asked every few seconds: only what fails is logged."""
LOGGED = 80
"""Characters of a path that are logged."""
DOCS_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; frame-ancestors 'none'"
)
"""The page of the interface loads nothing from elsewhere, and no other page shows it."""


class Door:
    """ASGI middleware around the service's application.

    Args:
        app: answers what passes.
        service: whose `ongoing` pictures are counted here, until their answers are sent.
        hosts: names in `Host` that are served; None: all.
        origins: pages of other hosts that may send.
        metrics: counts requests; None: nothing does.
    """

    def __init__(
        self,
        app: App,
        service: Service,
        *,
        hosts: Collection[str] | None = None,
        origins: Collection[str] = (),
        metrics: Metrics | None = None,
    ) -> None:
        self._app, self.service, self._metrics = app, service, metrics
        self._rules = Rules(hosts=hosts, origins=origins)
        self._probe_rules = Rules(origins=origins)

    def close(self) -> None:
        """Finish the pictures in work and close the Upscaler."""
        self.service.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of an ASGI server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._serve(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_s = time.perf_counter()
        policy = DOCS_POLICY if _route(scope) == "docs" else None
        traffic = _Traffic(receive, send, policy)
        try:
            refused = self._refused(scope)
            if refused is not None:
                await send_answer(traffic.send, refused)
            elif scope["method"] == "POST":
                self.service.ongoing += 1
                try:
                    await self._app(scope, traffic.receive, traffic.send)
                finally:
                    self.service.ongoing -= 1
            else:
                await self._app(scope, traffic.receive, traffic.send)
        finally:
            self._note(scope, traffic, time.perf_counter() - began_s)

    def _refused(self, scope: Scope) -> Answer | None:
        rules = self._probe_rules if _route(scope) in PROBES else self._rules
        refused = rules.check(scope)
        if refused is None and scope["method"] == "POST" and self.service.is_full:
            return self.service.refuse()
        return refused

    def _note(self, scope: Scope, traffic: _Traffic, seconds: float) -> None:
        route = _route(scope)
        if self._metrics is not None:
            self._metrics.count(route, traffic.status, seconds)
            self._metrics.add_bytes(traffic.received, traffic.sent)
        if route in QUIET and traffic.status == 200:
            return
        client = (scope.get("client") or ("-",))[0]
        # the path is decoded, and may hold anything
        what = f"{scope['method'][:LOGGED]} {plain(scope['path'][:LOGGED])}"
        size = f"{traffic.received:,} -> {traffic.sent:,} bytes"
        log.info("%s %s %s %s, %.0f ms", client, plain(what), traffic.status, size, seconds * 1000)


def _route(scope: Scope) -> str:
    """Return the name of a route; a client cannot invent others."""
    name = scope["path"].rstrip("/").rpartition("/")[2]
    if name in ROUTES:
        return str(name)
    return "picture" if scope["method"] == "POST" else "other"


class _Traffic:
    """The two sides of one request, with what passed."""

    def __init__(self, receive: Receive, send: Send, policy: str | None) -> None:
        self._receive, self._send, self._policy = receive, send, policy
        self.received = self.sent = 0
        self.status = 499
        """Of the answer; as it is here, where the client went before there was one."""

    async def receive(self) -> Message:
        """Pass a part of the request on."""
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if self._policy is not None and message["type"] == "http.response.start":
            policy = b"content-security-policy", self._policy.encode()
            message = {**message, "headers": [*message["headers"], policy]}
        self.status = message.get("status", self.status)
        self.sent += len(message.get("body", b""))
        await self._send(message)
